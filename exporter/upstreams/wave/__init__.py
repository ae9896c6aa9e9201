"""WAVE: its streaming sessions over the REST API."""

from exporter.upstreams.wave.platform import WavePlatform

PLATFORM = WavePlatform

__all__ = ["PLATFORM"]
