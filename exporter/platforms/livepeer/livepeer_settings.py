"""The settings of an upstream of platform ``livepeer``."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from exporter.config.types import Between, Described, Flag, OffOrDuration, Text, format_duration
from exporter.config.upstream import HttpUrl, StreamSettings, UpstreamSettings
from exporter.config.validation import refuse

LEAST_DETAILS_SECONDS, MOST_DETAILS_SECONDS = 1.0, 86_400.0


def _bare_id(value: Any) -> Any:
    return {"id": value} if isinstance(value, str) else value


class LivepeerStream(StreamSettings):
    """A parent stream, watched through its sessions."""

    id: Text = Field(description="The stream's id.")


class LivepeerSession(StreamSettings):
    """A single session; it is shown under its parent stream."""

    id: Text = Field(description="The session's id.")


class LivepeerSettings(UpstreamSettings):
    """One account (or project) of Livepeer Studio, hosted or self-hosted."""

    platform: Literal["livepeer"] = "livepeer"
    default_interval: ClassVar[float] = 30.0
    auth_kinds: ClassVar[frozenset[str]] = frozenset({"bearer"})

    url: HttpUrl = Field(default="https://livepeer.studio/api", description="The base URL of its API.")
    discover: Flag | None = Field(
        default=None,
        description="Whether all active streams are listed. Absent: when neither streams nor sessions are given.",
    )
    viewership: Flag = Field(default=True, description="Whether the viewers of all streams are asked for.")
    health_details: Annotated[OffOrDuration, Between(LEAST_DETAILS_SECONDS, MOST_DETAILS_SECONDS, format_duration)] = (
        Field(
            default=None,
            description="How often the detailed health of each live stream is asked for; `false` is never.",
        )
    )
    record: Flag | None = Field(
        default=None,
        description="Of a stream's sessions, only those with recording (true) or without (false). Absent: all.",
    )
    streams: tuple[LivepeerStream, ...] = Field(
        default=(), description="Parent streams to watch through their sessions, with totals per session."
    )
    sessions: tuple[
        Annotated[LivepeerSession, BeforeValidator(_bare_id), Described("session's id, or a mapping")], ...
    ] = Field(default=(), description="Single sessions to watch: mappings like those of `streams`, or bare ids.")

    @property
    def discovers(self) -> bool:
        """Whether the list of active streams is asked for."""
        if self.discover is None:
            return not self.streams and not self.sessions
        return self.discover

    def configured_streams(self) -> tuple[StreamSettings, ...]:
        """The streams and sessions that the configuration names."""
        return (*self.streams, *self.sessions)

    @model_validator(mode="after")
    def _has_something_to_ask(self) -> Self:
        if not self.discovers and not self.streams and not self.sessions:
            raise refuse("discover: true, or streams or sessions to watch", found="nothing to watch")
        return self
