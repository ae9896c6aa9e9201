"""Livepeer Studio, hosted or self-hosted: streams, their sessions, viewers and detailed health over its REST API."""

from exporter.platforms.livepeer.livepeer import Livepeer

PLATFORM = Livepeer

__all__ = ["PLATFORM", "Livepeer"]
