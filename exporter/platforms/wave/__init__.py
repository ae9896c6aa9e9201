"""WAVE: its streaming sessions over the REST API."""

from exporter.platforms.wave.wave import WavePlatform

PLATFORM = WavePlatform

__all__ = ["PLATFORM"]
