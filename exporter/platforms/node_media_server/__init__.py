"""node-media-server, versions 2 and 4: its streams over its HTTP API."""

from exporter.platforms.node_media_server.node_media_server import NodeMediaServerPlatform

PLATFORM = NodeMediaServerPlatform

__all__ = ["PLATFORM"]
