"""Settings of a WAVE upstream."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, model_validator
from pydantic_core import PydanticCustomError

from exporter.platforms.api import (
    BEARER,
    Between,
    ConfigPath,
    Count,
    Described,
    Duration,
    Field,
    Flag,
    MetricPrefix,
    OffOrDuration,
    Secret,
    Section,
    Text,
    UpstreamSettings,
    format_duration,
    refuse,
    refuse_all,
    refuse_because,
)
from exporter.platforms.wave.sessions_file import Identifier, SessionsFileError, WaveSession, read_sessions

DAY_SECONDS = 86_400.0

OwnInterval = Between(1.0, DAY_SECONDS, format_duration)


def _id_to_mapping(value: Any) -> Any:
    return {"id": value} if isinstance(value, str) else value


def _check_sessions_file(path: Any) -> Any:
    try:
        read_sessions(path)
    except SessionsFileError as error:
        raise refuse_because("; ".join(str(error).splitlines())) from None
    return path


def _refuse_discover(_: Any) -> None:
    raise refuse_because("not supported, because WAVE has no list of sessions; use sessions or sessions_file")


def _check_duplicates(streams: tuple[AnalyticsStream, ...]) -> tuple[AnalyticsStream, ...]:
    labels: set[str] = set()
    for stream in streams:
        own = {stream.id, (stream.name or stream.id).strip()}
        if own & labels:
            raise refuse_because("another stream has the same id or name")
        labels |= own
    return streams


class AnalyticsStream(Section):
    """A stream whose analytics are requested."""

    id: Identifier = Field(description="The stream's id in the analytics.")
    name: Text | None = Field(
        default=None, description="Value of the label `stream`; use the session's name if it is the same stream."
    )


class AnalyticsSettings(Section):
    """WAVE's analytics, which are totals and averages over a period."""

    streams: Annotated[
        tuple[Annotated[AnalyticsStream, BeforeValidator(_id_to_mapping)], ...], AfterValidator(_check_duplicates)
    ] = Field(
        default=(),
        description="Streams whose analytics to request: ids, or mappings of `id` and `name` (the label `stream`).",
    )
    period: Literal["1h", "24h", "7d", "30d"] = Field(default="24h", description="Period of the stream analytics.")
    dashboards: Flag = Field(default=False, description="Whether to request the numbers of the dashboards.")
    dashboards_period: Literal["1d", "7d", "30d", "90d"] = Field(default="7d", description="Period of the dashboards.")
    dashboards_metric: Text | None = Field(default=None, description="Request only this metric of the dashboards.")
    interval: Annotated[Duration, OwnInterval] = Field(default=300.0, description="Time between two requests.")


class PrometheusSettings(Section):
    """WAVE's own Prometheus export, passed through."""

    enabled: Flag = Field(default=False, description="Whether to request the export.")
    api_key: Secret | None = Field(default=None, description="API key of the export, sent as `X-API-Key`.")
    stream_id: Identifier | None = Field(default=None, description="Request only the metrics of this stream.")
    period: Literal["1min", "5min", "15min", "1hour"] = Field(default="5min", description="Time window of the export.")
    prefix: MetricPrefix = Field(default="wave_", description="Prefix for the names of passed-through metrics.")
    max_series: Annotated[Count, Between(1, 1_000_000)] = Field(
        default=5000, description="Maximum number of series; further ones are dropped."
    )
    interval: Annotated[Duration, OwnInterval] = Field(default=30.0, description="Time between two requests.")

    @model_validator(mode="after")
    def _check_key(self) -> PrometheusSettings:
        if self.enabled and self.api_key is None:
            allowed = "the export's API key (api_key_file, api_key_env or api_key)"
            raise refuse_all("prometheus", {("api_key",): refuse(allowed, found="nothing")})
        return self


class WaveSettings(UpstreamSettings):
    """One WAVE account."""

    platform: Literal["wave"] = Field(default="wave", description="The platform's name.")
    default_interval: ClassVar[float] = 30.0
    auth_kinds: ClassVar[frozenset[str]] = frozenset({BEARER})
    accepts_alert_events: ClassVar[bool] = True

    discover: Annotated[None, BeforeValidator(_refuse_discover), Described("nothing")] = Field(
        default=None, description="Not allowed: WAVE has no list of sessions."
    )
    sessions: tuple[Annotated[WaveSession, BeforeValidator(_id_to_mapping)], ...] = Field(
        default=(), description="Sessions to watch: ids, or mappings with `id`."
    )
    sessions_file: Annotated[ConfigPath, AfterValidator(_check_sessions_file), Described("path")] | None = Field(
        default=None, description="File with further sessions, one id or mapping per line; reloaded when it changes."
    )
    session_numbers: Flag = Field(
        default=False, description="Export numbers in a session without a known name as `stream_platform_metric`."
    )
    ice_candidates: Annotated[OffOrDuration, OwnInterval] = Field(
        default=60.0, description="How often to request the ICE candidates of a live WebRTC session until complete."
    )
    analytics: AnalyticsSettings | None = Field(default=None, description="WAVE's analytics over a period.")
    prometheus: PrometheusSettings | None = Field(default=None, description="WAVE's own Prometheus export.")

    def configured_streams(self) -> tuple[WaveSession, ...]:
        """Return the sessions that the configuration names; ``WavePlatform`` adds those of ``sessions_file``."""
        return self.sessions

    @model_validator(mode="after")
    def _check_not_empty(self) -> WaveSettings:
        has_analytics = self.analytics is not None and (self.analytics.streams or self.analytics.dashboards)
        has_export = self.prometheus is not None and self.prometheus.enabled
        if not (self.sessions or self.sessions_file or has_analytics or has_export):
            raise refuse_all("upstream", {("sessions",): _NOTHING_TO_WATCH})
        return self


_NOTHING_TO_WATCH: PydanticCustomError = refuse(
    "something to watch: sessions, sessions_file, analytics or prometheus", found="nothing"
)
