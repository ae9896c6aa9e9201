"""Settings that the platforms with playback checks share."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator

from exporter.config.alerting import HeaderName
from exporter.config.auth import API_KEY, BEARER, LOGIN, NONE
from exporter.config.secrets import Secret, SecretSource
from exporter.config.streams import SourceSettings, StreamSettings
from exporter.config.types import Between, Count, Described, Duration, Text, format_duration, parse_duration
from exporter.config.upstream import UpstreamSettings
from exporter.config.validation import refuse, refuse_all, refuse_because

AUTO = "auto"
MAX_RENDITIONS = 100
RESERVED_HEADERS = frozenset(
    {"accept-encoding", "connection", "content-length", "expect", "host", "proxy-authorization", "range", "te",
     "trailer", "transfer-encoding", "upgrade"}
)  # fmt: skip
"""Headers, in lower case, that the media fetcher or HTTP itself sets, and so cannot be configured."""
_DAY = 86_400.0
_PLAIN_URL = re.compile(r"(?:https?://[A-Za-z0-9.:\[\]-]+)?[A-Za-z0-9._/-]+")
_TOKEN = re.compile(r"[A-Za-z0-9]{21}|[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
"""What may be a token in a path: a long run of letters and digits, or a UUID."""


def _read_plain_url(given: Any) -> Any:
    """Take a URL without a query and without anything like a token as plain text, which needs no warnings."""
    value = given.value if isinstance(given, SecretSource) and not given.suffix else given
    if isinstance(value, str) and _PLAIN_URL.fullmatch(value) and not _TOKEN.search(value):
        return Secret.plain(value)
    return given


def _check_url(secret: Secret) -> Secret:
    """Refuse a URL that cannot be joined to the upstream's or fetched."""
    text = secret.get()
    try:
        parts = urlsplit(text)
        is_absolute = bool(parts.scheme or parts.netloc)
        usable = (parts.scheme in ("http", "https") and bool(parts.hostname)) if is_absolute else bool(text)
    except ValueError:
        usable = False
    if not usable or any(char.isspace() or char == "\\" for char in text):
        raise refuse("an http:// or https:// URL, or a path such as /live/main.m3u8")
    if parts.username is not None or parts.password is not None:
        raise refuse_because("the URL contains credentials; use auth instead")
    return secret


def _read_auto_or_duration(value: Any) -> float | None:
    if value is None or value == AUTO:
        return None
    try:
        return parse_duration(value)
    except (TypeError, ValueError):
        raise refuse(f"{AUTO}, or a duration such as 30s") from None


AutoOrDuration = Annotated[
    float | None,
    BeforeValidator(_read_auto_or_duration),
    PlainSerializer(lambda value: AUTO if value is None else format_duration(value)),
    Described("auto, or a duration"),
]
"""Seconds; None for ``auto``."""
Requirement = Literal["auto", "required", "none"]


class CheckedStream(StreamSettings):
    """One stream that is fetched as a viewer's player does."""

    name: Text = Field(description="Value of the stream's label `stream`.")
    url: Annotated[Secret, BeforeValidator(_read_plain_url), AfterValidator(_check_url)] = Field(
        description="URL of the playlist, absolute or relative to the upstream's `url`. It may contain a token, so it "
        "is treated as a secret."
    )
    of: SourceSettings | None = Field(
        default=None,
        description="The stream that should be playable here: a platform's stream, or another playback check.",
    )
    expected_renditions: Annotated[Count, Between(1, MAX_RENDITIONS)] | None = Field(
        default=None,
        description="Number of renditions that should be playable. Without it, the largest number listed within an "
        "hour.",
    )
    stale_media: AutoOrDuration = Field(
        default=None,
        description="Time without new media after which the stream is not live. `auto`: 3.5 target durations, at least "
        "12s, and long enough for the interval.",
    )
    audio: Requirement = Field(
        default="auto",
        description="Whether audio must be present: `required`, `none` (do not check), or `auto` (if it was seen).",
    )
    video: Requirement = Field(default="auto", description="As `audio`, for video.")

    @property
    def id(self) -> str:
        """Its name: a URL may contain a token, and changes."""
        return self.name

    @property
    def source(self) -> SourceSettings | None:
        """The stream that it is paired with."""
        return self.of


def _check_headers(headers: dict[str, Secret]) -> dict[str, Secret]:
    for name in headers:
        if name.lower() in RESERVED_HEADERS:
            raise refuse_because(f"the header {name} cannot be set")
    return headers


class PlaybackSettings(UpstreamSettings):
    """Playback checks of streams on one server or content delivery network."""

    default_interval: ClassVar[float] = 5.0
    has_playback_checks: ClassVar[bool] = True
    discovers: ClassVar[bool] = False
    auth_kinds: ClassVar[frozenset[str]] = frozenset({NONE, LOGIN, BEARER, API_KEY})

    headers: Annotated[dict[HeaderName, Secret], AfterValidator(_check_headers)] = Field(
        default_factory=dict,
        description="Additional headers, sent to the origin of `url` only. Their values are treated as secrets.",
    )
    segments: Literal["none", "head", "full"] = Field(
        default="head",
        description="How much of each stream's newest segment to fetch: nothing, its first 16 KiB, or all of it.",
    )
    whole_segment_every: Annotated[Duration, Between(0, _DAY, format_duration)] = Field(
        default=60.0,
        description="Time between whole segments of a stream's lowest rendition, which show missing audio and video, "
        "and slow delivery. `0` never fetches one.",
    )
    renditions: Literal["first", "rotate", "all"] = Field(
        default="rotate",
        description="Renditions to check in each poll besides the first one: none, one of them in turn, or all.",
    )
    hosts: tuple[Text, ...] = Field(
        default=(),
        description="Globs on host names and addresses that playlists and redirects may point to although their "
        "addresses are private. The hosts of `url` and of the streams' URLs are always allowed.",
    )
    streams: tuple[CheckedStream, ...] = Field(default=(), description="The streams to check.")

    def configured_streams(self) -> tuple[CheckedStream, ...]:
        """Return the streams that the configuration names."""
        return self.streams

    def playlist_url(self, stream_url: str) -> str:
        """Return the absolute URL of a stream's playlist; a path is below the upstream's URL."""
        return stream_url if urlsplit(stream_url).scheme else f"{self.url}/{stream_url.lstrip('/')}"

    @model_validator(mode="after")
    def _check(self) -> PlaybackSettings:
        if not self.streams:
            raise refuse_all("upstream", {("streams",): refuse("at least one stream", found="nothing")})
        if self.interval < 1.0:
            found = format_duration(self.interval)
            raise refuse_all("upstream", {("interval",): refuse("at least 1s", found=found)})
        return self
