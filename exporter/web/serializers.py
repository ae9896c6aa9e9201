"""Upstreams and streams as ``/api/v1/streams`` and ``/api/v1/stream`` show them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from exporter.config.upstream import UpstreamSettings
from exporter.metrics.text_format import label_value
from exporter.model import StreamState, UpstreamState
from exporter.web.remediation import ADVICE

LISTED_ISSUES: Final = 3
LISTED_ISSUE_LENGTH: Final = 200


class UpstreamEntry(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One upstream, as it is listed."""

    upstream: str
    platform: str
    host: str
    version: str = ""
    up: bool | None = None
    streams: int
    streams_live: int
    streams_dropped: int = 0
    poll_interval_seconds: float | None = None
    last_success_timestamp_seconds: float | None = None
    last_poll_timestamp_seconds: float | None = None
    next_poll_timestamp_seconds: float | None = None
    rate_limit_remaining: float | None = None
    clock_skew_seconds: float | None = None
    last_error: str = ""
    last_error_reason: str = ""
    advice: str = ""


class StreamEntry(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One stream, as it is listed: what a row of the page needs."""

    upstream: str
    stream: str
    name: str = ""
    protocol: str = ""
    status: str = ""
    live: bool | None = None
    expected: bool | None = None
    healthy: bool | None = None
    health_score_ratio: float | None = None
    health_reasons: tuple[str, ...] = ()
    health_grade: str = ""
    issues: tuple[str, ...] = ()
    issue_count: int | None = None
    ingest_bitrate_bytes_per_second: float | None = None
    expected_ingest_bitrate_bytes_per_second: float | None = None
    viewers: int | None = None
    frames_per_second: float | None = None
    latency_seconds: float | None = None


def upstream_entry(settings: UpstreamSettings, view: UpstreamState | None) -> UpstreamEntry:
    """An upstream as it is listed; without a view nothing is known but its configuration."""
    if view is None:
        return UpstreamEntry(
            upstream=settings.name, platform=settings.platform, host=settings.host, streams=0, streams_live=0
        )
    return UpstreamEntry(
        upstream=view.upstream,
        platform=view.platform,
        host=view.host,
        version=valid_text(view.version),
        up=view.up,
        streams=len(view.streams),
        streams_live=sum(1 for state in view.streams if state.live),
        streams_dropped=view.streams_dropped,
        poll_interval_seconds=view.poll_interval_seconds,
        last_success_timestamp_seconds=view.last_success_timestamp_seconds,
        last_poll_timestamp_seconds=view.last_poll_at,
        next_poll_timestamp_seconds=view.next_poll_at,
        rate_limit_remaining=view.rate_limit_remaining,
        clock_skew_seconds=view.clock_skew_seconds,
        last_error=valid_text(view.last_error),
        last_error_reason=view.last_error_reason or "",
        advice=ADVICE[view.last_error_reason] if view.last_error_reason else "",
    )


def stream_entry(state: StreamState) -> StreamEntry:
    """A stream as it is listed; its issues are cut, so that no platform can make the list long."""
    report = state.report
    issues = report.issues or ()
    return StreamEntry(
        upstream=state.identity.upstream,
        stream=label_of(state),
        name=valid_text(report.name),
        protocol=valid_text(report.protocol),
        status=state.status or "",
        live=state.live,
        expected=state.expected,
        healthy=report.healthy,
        health_score_ratio=state.health_score_ratio,
        health_reasons=state.health_reasons,
        health_grade=valid_text(report.health_grade),
        issues=tuple(valid_text(issue[:LISTED_ISSUE_LENGTH]) for issue in issues[:LISTED_ISSUES]),
        issue_count=None if report.issues is None else len(issues),
        ingest_bitrate_bytes_per_second=report.ingest_bitrate_bytes_per_second,
        expected_ingest_bitrate_bytes_per_second=state.expected_ingest_bitrate_bytes_per_second,
        viewers=report.viewers,
        frames_per_second=report.frames_per_second,
        latency_seconds=report.latency_seconds,
    )


def stream_facts(state: StreamState) -> dict[str, Any]:
    """All that is known of a stream, under the names of the model."""
    facts = (
        msgspec.structs.asdict(state.report) | msgspec.structs.asdict(state) | msgspec.structs.asdict(state.identity)
    )
    facts["sampled_timestamp_seconds"] = facts.pop("reported_at")
    for inner in ("id", "identity", "report"):
        del facts[inner]
    facts["stream"] = label_of(state)
    return {name: _valid(fact) for name, fact in facts.items() if fact is not None and fact not in ("", (), {})}


def label_of(state: StreamState) -> str:
    """The label ``stream``, as metrics and alerts have it."""
    return label_value(state.identity.stream)


def valid_text(text: str) -> str:
    """Lone surrogates, which no JSON in UTF-8 carries, become U+FFFD."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _valid(fact: Any) -> Any:
    if isinstance(fact, str):
        return valid_text(fact)
    if isinstance(fact, tuple):
        return tuple(map(_valid, fact))
    if isinstance(fact, msgspec.Struct):
        return _valid(msgspec.structs.asdict(fact))
    if isinstance(fact, Mapping):
        return {valid_text(name): _valid(value) for name, value in fact.items()}
    return fact
