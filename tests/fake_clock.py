"""A clock that tests move by hand."""

from exporter.platforms.testing import FakeClock

__all__ = ["FakeClock"]
