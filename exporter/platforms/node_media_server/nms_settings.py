"""The settings of a node-media-server upstream."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from exporter.config.auth import LOGIN, NONE
from exporter.config.types import Text
from exporter.config.upstream import StreamSettings, UpstreamSettings


class NodeMediaServerStream(StreamSettings):
    """What is expected of a stream; the server lists the streams itself."""

    application: Text = Field(description="The application that the stream is published to.")
    key: Text = Field(description="The stream key.")

    @property
    def id(self) -> str:
        """The identity, ``application/key``."""
        return f"{self.application}/{self.key}"


class NodeMediaServerSettings(UpstreamSettings):
    """One node-media-server, version 2 or 4: which one, the server's answers tell."""

    platform: Literal["node_media_server"] = Field(default="node_media_server", description="The platform's name.")
    default_interval: ClassVar[float] = 15.0
    auth_kinds: ClassVar[frozenset[str]] = frozenset({NONE, LOGIN})

    streams: tuple[NodeMediaServerStream, ...] = Field(
        default=(), description="What is expected of streams; every stream that the server lists is watched anyway."
    )

    def configured_streams(self) -> tuple[NodeMediaServerStream, ...]:
        """The streams that the configuration names."""
        return self.streams
