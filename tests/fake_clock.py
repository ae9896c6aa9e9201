"""A clock that tests advance."""

from exporter.platforms.testing import FakeClock

__all__ = ["FakeClock"]
