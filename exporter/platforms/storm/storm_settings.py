"""The settings of a Storm upstream."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from exporter.config.auth import API_KEY, BEARER, LOGIN, NONE
from exporter.config.streams import ApplicationStream
from exporter.config.types import Described, Matching, Text
from exporter.config.upstream import UpstreamSettings
from exporter.config.validation import refuse, refuse_all

AUTO = "auto"


def _discover(value: Any) -> bool | str:
    known = {"true": True, "false": False, AUTO: AUTO}.get(value) if isinstance(value, str) else value
    if known is not AUTO and not isinstance(known, bool):
        raise refuse("true, false or auto")
    return known


def _without_end(path: str) -> str:
    if {".", ".."} & set(path.split("/")):
        raise refuse("a path without . and .. in it")
    return path.rstrip("/")


class StormSettings(UpstreamSettings):
    """One Storm Streaming Server, or the manager of a cluster of them."""

    platform: Literal["storm"] = Field(default="storm", description="The platform's name.")
    default_interval: ClassVar[float] = 15.0
    auth_kinds: ClassVar[frozenset[str]] = frozenset({NONE, LOGIN, BEARER, API_KEY})

    base_path: Annotated[
        Text,
        Matching("/|(/[A-Za-z0-9._~-]+)+/?", "a path such as /api or /api/v1, or / for none"),
        AfterValidator(_without_end),
    ] = Field(default="/api", description="What the path of every request begins with, the login's too.")
    discover: Annotated[bool | Literal["auto"], BeforeValidator(_discover), Described("true, false or auto")] = Field(
        default="auto",
        description="Watch every stream of the server's list. `auto`: where there is no list, the configured streams.",
    )
    streams: tuple[ApplicationStream, ...] = Field(
        default=(), description="Streams to watch, and what is expected of them."
    )

    def configured_streams(self) -> tuple[ApplicationStream, ...]:
        """The streams that the configuration names."""
        return self.streams

    @model_validator(mode="after")
    def _has_something_to_ask(self) -> StormSettings:
        if self.discover is False and not self.streams:
            raise refuse_all("upstream", {("streams",): refuse("streams, where discover is false", found="nothing")})
        return self
