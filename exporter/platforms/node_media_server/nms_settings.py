"""The settings of a node-media-server upstream."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from exporter.config.auth import LOGIN, NONE
from exporter.config.streams import ApplicationStream
from exporter.config.upstream import UpstreamSettings


class NodeMediaServerSettings(UpstreamSettings):
    """One node-media-server, version 2 or 4: which one, the server's answers tell."""

    platform: Literal["node_media_server"] = Field(default="node_media_server", description="The platform's name.")
    default_interval: ClassVar[float] = 15.0
    auth_kinds: ClassVar[frozenset[str]] = frozenset({NONE, LOGIN})

    streams: tuple[ApplicationStream, ...] = Field(
        default=(), description="What is expected of streams; every stream that the server lists is watched anyway."
    )

    def configured_streams(self) -> tuple[ApplicationStream, ...]:
        """The streams that the configuration names."""
        return self.streams
