"""Settings that all upstreams have; platforms subclass them in their own modules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PrivateAttr, ValidationInfo, WrapValidator, field_validator, model_validator
from pydantic_core import PydanticCustomError

from exporter.config.auth import API_KEY, BEARER, LOGIN, NONE, AuthSettings, TlsSettings
from exporter.config.control import Labels, MaintenanceWindow, Overrides, check_overrides
from exporter.config.introspection import join_or
from exporter.config.secrets import Secret
from exporter.config.section import Section
from exporter.config.streams import LiveHours, StreamSettings
from exporter.config.types import (
    Between,
    ByteSize,
    Computed,
    Count,
    Duration,
    Name,
    Text,
    format_duration,
    format_size,
)
from exporter.config.urls import HttpUrl
from exporter.config.validation import Place, load_context, refuse, refuse_all, refuse_because
from exporter.runtime.suggestions import similar_words

__all__ = [
    "AuthSettings", "LiveHours", "SharedSettings", "StreamSettings", "TlsSettings", "UpstreamName", "UpstreamSettings",
]  # fmt: skip

DEFAULT_INTERVAL = 15.0
_MAX_TIMEOUT, _TIMEOUT_SHARE = 10.0, 0.8
_STALE_INTERVALS = 3
_MAX_SUGGESTIONS = 3
_DAY = 86_400.0


UpstreamName = Name


def _default_timeout(data: dict[str, Any]) -> float:
    return float(min(_MAX_TIMEOUT, _TIMEOUT_SHARE * data["interval"]))


def _default_stale_after(data: dict[str, Any]) -> float:
    return float(_STALE_INTERVALS * data["interval"])


def _matching_families(patterns: Iterable[str], families: Iterable[str]) -> frozenset[str]:
    """Return the names that match at least one of these globs."""
    patterns = tuple(patterns)
    return frozenset(name for name in families if any(fnmatchcase(name, pattern) for pattern in patterns))


def _similar_families(pattern: str, families: Sequence[str]) -> list[str]:
    """Return suggestions for a pattern that matches nothing."""
    bare = pattern.strip("*")
    containing = [name for name in families if bare and bare.removesuffix("s") in name]
    return (similar_words(bare, families, _MAX_SUGGESTIONS) or containing)[:_MAX_SUGGESTIONS]


def _check_family_pattern(pattern: str) -> str:
    schema = load_context().schema
    if schema is not None and not _matching_families([pattern], schema.families):
        near = _similar_families(pattern, schema.families)
        hint = f"; did you mean {join_or(near)}?" if near else ""
        raise refuse_because(f'no metric family of streams matches "{pattern:.60}"{hint}')
    return pattern


FamilyPattern = Annotated[Text, AfterValidator(_check_family_pattern)]


class SharedSettings(Section):
    """Settings that `defaults` can set for all upstreams, and that each upstream may override."""

    default_interval: ClassVar[float] = DEFAULT_INTERVAL

    interval: Annotated[Duration, Between(0.5, _DAY, format_duration)] = Field(
        default=DEFAULT_INTERVAL, description="Time between polls."
    )
    timeout: Annotated[
        Duration, Between(0.1, _DAY, format_duration), Computed("the smaller of 10s and 0.8 × `interval`")
    ] = Field(
        default_factory=_default_timeout,
        description="Maximum duration of a poll with all its requests; at most `interval`.",
    )
    stale_after: Annotated[Duration, Between(0.5, 30 * _DAY, format_duration), Computed("3 × `interval`")] = Field(
        default_factory=_default_stale_after,
        description="How long the last data is served while no newer data arrives; at least `interval` + `timeout`.",
    )
    ended_ttl: Annotated[Duration, Between(0, 30 * _DAY, format_duration)] = Field(
        default=300.0, description="How long a stream is served after it has ended, with `stream_live` 0."
    )
    health_grace: Annotated[Duration, Between(0, _DAY, format_duration)] = Field(
        default=60.0, description="Time after the start of a publish without a derived health score."
    )
    max_streams: Annotated[Count, Between(1, 1_000_000)] = Field(
        default=10_000,
        description="Maximum number of streams. If there are more, configured streams are kept first, then live ones.",
    )
    max_concurrent_requests: Annotated[Count, Between(1, 1000)] = Field(
        default=10, description="Maximum number of concurrent requests to the upstream."
    )
    max_body_bytes: Annotated[ByteSize, Between(1024, 2**30, format_size)] = Field(
        default=16 * 2**20, description="Maximum size of a response, after decompression."
    )
    stream_label: Literal["name", "id", "hash"] = Field(
        default="name",
        description="Value of the label `stream` for streams without a configured name: the platform's name, the id, "
        "or a keyed hash of the id. Use `hash` where ids are publish keys.",
    )
    stream_hash_key: Secret | None = Field(
        default=None, validate_default=True, description="Key for `stream_label: hash`."
    )
    tls: TlsSettings = Field(default_factory=TlsSettings, description="How the upstream's certificate is verified.")
    include: tuple[Text, ...] = Field(
        default=(),
        description="Globs on name or id: only matching streams are watched. Applies to discovered streams, not to "
        "configured ones.",
    )
    exclude: tuple[Text, ...] = Field(
        default=(),
        description="Globs on name or id: matching streams are not watched. Applies to discovered streams, not to "
        "configured ones.",
    )
    labels: Labels = Field(
        default_factory=dict,
        description="Labels to add to the series and alerts of the upstream and its streams, such as `team: sports`; "
        "at most 8. Changing a label starts new series.",
    )
    exclude_families: tuple[FamilyPattern, ...] = Field(
        default=(),
        description="Globs on the names of stream metric families that `/metrics` leaves out, such as "
        "`stream_rendition*`. The page and the sidecar still use this data.",
    )


class Defaults(SharedSettings):
    """The block `defaults`. It overrides the platforms' defaults; each upstream's own keys override both."""


class UpstreamSettings(SharedSettings):
    """One upstream. A platform's class adds `platform: Literal[...]` and its own keys."""

    auth_kinds: ClassVar[frozenset[str]] = frozenset({NONE, BEARER, API_KEY, LOGIN})
    """Kinds of ``auth`` that the platform supports."""
    accepts_alert_events: ClassVar[bool] = False
    """Whether alerts can be written to the upstream as events (``alerting.wave_events``)."""
    has_playback_checks: ClassVar[bool] = False
    """Whether the streams are playback checks, which can be paired with other streams."""

    name: UpstreamName = Field(description="Unique name; the value of the label `upstream`.")
    platform: str = Field(description="Name of its platform, see below.")
    url: HttpUrl = Field(description="Base URL of its API.")
    auth: AuthSettings = Field(default_factory=AuthSettings, description="Authentication.")
    maintenance: tuple[MaintenanceWindow, ...] = Field(
        default=(), description="Planned work on the upstream. While a window is active, its alerts are inhibited."
    )
    alerts: Annotated[Overrides, WrapValidator(partial(check_overrides, scopes=("upstream", "stream")))] = Field(
        default_factory=dict,
        description="By rule name: a threshold for the upstream and its streams, in the base unit of the rule's "
        "metric; `off`; or `on`, which restores the rule's own threshold.",
    )

    _excluded_families: frozenset[str] = PrivateAttr(default=frozenset())
    _upstream_rules: frozenset[str] = PrivateAttr(default=frozenset())

    @property
    def upstream_alerts(self) -> dict[str, bool | float]:
        """Entries of ``alerts`` for rules about the upstream itself.

        In settings created in code, which have no schema, all rules are taken to be about streams.
        """
        return {rule: override for rule, override in self.alerts.items() if rule in self._upstream_rules}

    @property
    def stream_alerts(self) -> dict[str, bool | float]:
        """Entries of ``alerts`` for rules about the upstream's streams."""
        return {rule: override for rule, override in self.alerts.items() if rule not in self._upstream_rules}

    @property
    def excluded_families(self) -> frozenset[str]:
        """Names of the metric families that match ``exclude_families``.

        In settings created in code, which have no schema, the patterns themselves are taken as names.
        """
        return self._excluded_families

    def model_post_init(self, context: Any, /) -> None:
        """Resolve the patterns of ``exclude_families``, and which of the rules in ``alerts`` are about upstreams."""
        super().model_post_init(context)
        schema = load_context().schema
        if schema is not None:
            self._upstream_rules = frozenset(rule for rule in self.alerts if schema.rules[rule].scope == "upstream")
        families = self.exclude_families if schema is None else schema.families
        self._excluded_families = _matching_families(self.exclude_families, families)

    @property
    def label_pairs(self) -> tuple[tuple[str, str], ...]:
        """The labels as pairs, in the form of the model."""
        return tuple(self.labels.items())

    def configured_streams(self) -> tuple[StreamSettings, ...]:
        """Return the streams (and sessions) that the configuration names."""
        return ()

    def includes(self, stream_id: str, name: str) -> bool:
        """Return whether a discovered stream passes ``include`` and ``exclude``."""

        def matches(pattern: str) -> bool:
            return fnmatchcase(name, pattern) or fnmatchcase(stream_id, pattern)

        return (not self.include or any(map(matches, self.include))) and not any(map(matches, self.exclude))

    @property
    def host(self) -> str:
        """``host[:port]`` of the URL."""
        return urlsplit(self.url).netloc

    @model_validator(mode="before")
    @classmethod
    def _set_own_interval(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("interval") is None:
            return {**data, "interval": format_duration(cls.default_interval)}
        return data

    @field_validator("timeout")
    @classmethod
    def _check_timeout(cls, timeout: float, info: ValidationInfo) -> float:
        interval = info.data.get("interval", timeout)
        if timeout > interval:
            raise refuse(f"at most the interval ({format_duration(interval)})", found=format_duration(timeout))
        return timeout

    @field_validator("stale_after")
    @classmethod
    def _check_stale_after(cls, stale_after: float, info: ValidationInfo) -> float:
        least = info.data.get("interval", 0.0) + info.data.get("timeout", 0.0)
        if stale_after < least:
            allowed = f"at least interval + timeout ({format_duration(least)})"
            raise refuse(allowed, found=format_duration(stale_after))
        return stale_after

    @field_validator("auth")
    @classmethod
    def _check_auth_kind(cls, auth: AuthSettings) -> AuthSettings:
        if auth.kind not in cls.auth_kinds:
            words = {BEARER: "bearer_token", API_KEY: "api_key", LOGIN: "username with password", NONE: "no auth"}
            usable = " or ".join(words[kind] for kind in words if kind in cls.auth_kinds)
            raise refuse_because(f"this platform does not support {words[auth.kind]}; use {usable}")
        return auth

    @field_validator("stream_hash_key")
    @classmethod
    def _require_hash_key(cls, key: Secret | None, info: ValidationInfo) -> Secret | None:
        if key is None and info.data.get("stream_label") == "hash":
            message = "missing; stream_label: hash requires stream_hash_key_file or stream_hash_key_env"
            raise refuse_because(message)
        return key

    @field_validator("*")
    @classmethod
    def _check_streams_differ(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse duplicate streams within and between the platform's lists of streams."""
        streams = _as_streams(value)
        if streams:
            seen = {
                mark for other in info.data.values() for stream in _as_streams(other) for mark in _unique_keys(stream)
            }
            errors: dict[Place, PydanticCustomError] = {}
            for index, stream in enumerate(value):
                for kind, _ in sorted(seen & _unique_keys(stream)):
                    errors[index,] = refuse_because(_DUPLICATE[kind])
                seen |= _unique_keys(stream)
            if errors:
                raise refuse_all("streams", errors)
        return value


def _as_streams(value: Any) -> tuple[StreamSettings, ...]:
    if isinstance(value, tuple) and all(isinstance(item, StreamSettings) for item in value):
        return value
    return ()


def _unique_keys(stream: StreamSettings) -> set[tuple[str, str]]:
    """Return what must be unique within an upstream; outer blanks of names, which are invisible, are ignored."""
    return {("id", stream.id)} | ({("name", stream.name.strip())} if stream.name else set())


_DUPLICATE = {
    "id": "another stream of this upstream has the same id",
    "name": "another stream of this upstream has the same name (leading and trailing blanks are ignored)",
}
