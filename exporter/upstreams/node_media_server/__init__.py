"""node-media-server, versions 2 and 4: its streams over its HTTP API."""

from exporter.upstreams.node_media_server.platform import NodeMediaServerPlatform

PLATFORM = NodeMediaServerPlatform

__all__ = ["PLATFORM"]
