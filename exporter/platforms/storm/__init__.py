"""Storm Streaming Server 3.x: its streams over the RESTful API."""

from exporter.platforms.storm.storm import StormPlatform

PLATFORM = StormPlatform

__all__ = ["PLATFORM"]
