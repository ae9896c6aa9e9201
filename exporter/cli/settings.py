"""Loading the settings for every command."""

from exporter.config.loading import load as load_settings

__all__ = ["load_settings"]
