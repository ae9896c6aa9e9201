"""JSON representation of upstreams, streams and alerts, and advice about failing upstreams."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from exporter.config.upstream import UpstreamSettings
from exporter.metrics.text_format import label_value
from exporter.model import (
    NO_OVERRIDES,
    AlertOverrides,
    GroupState,
    Labels,
    Maintenance,
    Reason,
    Status,
    StreamState,
    UpstreamState,
)

if TYPE_CHECKING:
    # the sidecar's code is imported only if it runs
    from exporter.alerting.evaluator import Alert
    from exporter.alerting.payload import AlertFormatter

HEALTH_RULES: Final = frozenset({"StreamUnhealthy", "StreamDegraded"})
"""Rules whose thresholds decide how the page shows a health score."""
LISTED_ISSUES: Final = 3
"""Maximum number of issues per stream in a list."""
LISTED_ISSUE_LENGTH: Final = 200
"""Maximum number of characters per issue in a list."""

REMEDIATION: Final[dict[Reason, str]] = {
    Reason.TIMEOUT: "The platform did not respond in time. Check the load of its host and the network path to it. "
    "If the platform is just slow, raise `timeout` for this upstream.",
    Reason.CONNECT: "The exporter could not connect. Check that the server is running, that host and port in `url` are "
    "correct, that DNS resolves the name, and that no firewall or proxy blocks the connection.",
    Reason.TLS: "The TLS handshake failed. If the server speaks plain HTTP on this port, start `url` with `http://`. "
    "Otherwise check that its certificate is valid for this host name and has not expired. For a private "
    "certificate authority, set `tls.ca_file`.",
    Reason.AUTH: "The platform rejected the credentials. Check the token or password file of this upstream; the key "
    "may have expired or been replaced. A changed file is read at the next poll, without a restart.",
    Reason.FORBIDDEN: "The credentials are valid, but lack permission. Allow the account to read streams.",
    Reason.NOT_FOUND: "The server responds, but the platform's API is not at this address. Check `url` and `base_path` "
    "for a missing or duplicate part of the path, and check the configured ids.",
    Reason.RATE_LIMITED: "The platform limits the rate of requests; the exporter waits as long as the platform asks. "
    "Raise `interval`, and check whether another client uses the same key.",
    Reason.SERVER_ERROR: "The platform reports an internal error (status 5xx). Check its status page or its log. "
    "The exporter keeps polling.",
    Reason.BAD_RESPONSE: "The response is not what the platform's API returns. Check whether a proxy or a maintenance "
    "page responds instead, or whether the server has been upgraded.",
    Reason.TOO_LARGE: "The response exceeds a size limit. Raise `max_body_bytes`, or poll fewer streams (`include`, "
    "`exclude`).",
    Reason.VANTAGE: "Neither these servers nor others could be reached, so the exporter's own network is the likely "
    "reason. Check the network, DNS and firewall of the exporter's host.",
    Reason.INTERNAL: "Unexpected error in the exporter. See its log for the location, and please report it.",
}
"""What to do about a failing upstream, by the reason of its last error. Configuration keys are in backquotes."""


class MaintenanceEntry(msgspec.Struct, omit_defaults=True, kw_only=True):
    """An active maintenance window of a stream or upstream."""

    end_timestamp_seconds: float
    reason: str = ""
    manual: bool


class MemberEntry(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A stream of a group."""

    platform: str
    upstream: str
    stream: str
    role: str = ""
    status: str
    live: bool | None = None
    in_maintenance: bool = False


class GroupEntry(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A group of streams."""

    group: str
    status: str
    expected: bool | None = None
    needed: int
    live: int
    unknown: int = 0
    streams: int
    members: tuple[MemberEntry, ...]


class UpstreamEntry(msgspec.Struct, omit_defaults=True, kw_only=True):
    """An upstream in a list."""

    upstream: str
    platform: str
    host: str
    labels: dict[str, str] = {}
    version: str = ""
    up: bool | None = None
    answering: bool | None = None
    list_complete: bool | None = None
    streams: int
    streams_live: int | None = None
    streams_unknown: int = 0
    streams_withdrawn: int = 0
    streams_were_live: int | None = None
    unknown_since_timestamp_seconds: float | None = None
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
    maintenance: MaintenanceEntry | None = None


class StreamEntry(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A stream in a list, with what a row of the page shows."""

    upstream: str
    stream: str
    name: str = ""
    protocol: str = ""
    status: Status
    status_last_change_timestamp_seconds: float | None = None
    live: bool | None = None
    was_live: bool | None = None
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
    viewers_partial: bool | None = None
    frames_per_second: float | None = None
    latency_seconds: float | None = None
    playable: bool | None = None
    unplayable_reason: str = ""
    playback_detail: str = ""
    media_changed_timestamp_seconds: float | None = None
    source_upstream: str = ""
    source_stream: str = ""
    source_live: bool | None = None
    thresholds: dict[str, float | Literal["off"]] | None = None
    maintenance: MaintenanceEntry | None = None


class StreamCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Number of live and unknown streams of an upstream."""

    live: int | None
    """None if no stream has a known state, or if the list of streams may be incomplete and is empty."""
    unknown: int
    withdrawn: int
    """Unknown streams whose facts were withdrawn after they were known to be live or not."""
    were_live: int | None
    """Number of withdrawn streams that were live then; None if no stream is withdrawn."""
    unknown_since: float | None
    """Unix seconds of the earliest withdrawal."""


def count_streams(state: UpstreamState) -> StreamCounts:
    """Count an upstream's streams. An unknown stream is neither live nor off air."""
    known = [stream for stream in state.streams if stream.live is not None and stream.status is not Status.UNKNOWN]
    withdrawn = [stream for stream in state.streams if stream.was_live is not None]
    is_empty = not state.streams and bool(state.up or state.answering) and state.list_complete is not False
    return StreamCounts(
        live=sum(1 for stream in known if stream.live) if known or is_empty else None,
        unknown=len(state.streams) - len(known),
        withdrawn=len(withdrawn),
        were_live=sum(1 for stream in withdrawn if stream.was_live) if withdrawn else None,
        unknown_since=min((at for stream in withdrawn if (at := stream.status_changed_at) is not None), default=None),
    )


def upstream_entry(upstream: UpstreamSettings, state: UpstreamState | None) -> UpstreamEntry:
    """Return an upstream's entry in a list; without a state, only its configuration is known."""
    labels = _label_values(upstream.label_pairs if state is None else state.labels)
    if state is None:
        return UpstreamEntry(
            upstream=upstream.name, platform=upstream.platform, host=upstream.host, labels=labels, streams=0
        )
    counts = count_streams(state)
    return UpstreamEntry(
        upstream=state.upstream,
        platform=state.platform,
        host=state.host,
        labels=labels,
        version=valid_text(state.version),
        up=state.up,
        answering=state.answering,
        list_complete=state.list_complete,
        streams=len(state.streams),
        streams_live=counts.live,
        streams_unknown=counts.unknown,
        streams_withdrawn=counts.withdrawn,
        streams_were_live=counts.were_live,
        unknown_since_timestamp_seconds=counts.unknown_since,
        streams_dropped=state.streams_dropped,
        poll_interval_seconds=state.poll_interval_seconds,
        last_success_timestamp_seconds=state.last_success_timestamp_seconds,
        last_poll_timestamp_seconds=state.last_poll_at,
        next_poll_timestamp_seconds=state.next_poll_at,
        rate_limit_remaining=state.rate_limit_remaining,
        clock_skew_seconds=state.clock_skew_seconds,
        last_error=valid_text(state.last_error),
        last_error_reason=state.last_error_reason or "",
        advice=REMEDIATION[state.last_error_reason] if state.last_error_reason else "",
        maintenance=_maintenance_entry(state.maintenance),
    )


def stream_entry(state: StreamState) -> StreamEntry:
    """Return a stream's entry in a list. Its issues are truncated, so that no platform can make the list long."""
    report = state.report
    issues = report.issues or ()
    return StreamEntry(
        upstream=state.identity.upstream,
        stream=stream_label(state),
        name=valid_text(report.name),
        protocol=valid_text(report.protocol),
        status=state.status,
        status_last_change_timestamp_seconds=state.status_changed_at,
        live=state.live,
        was_live=state.was_live,
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
        viewers_partial=report.viewers_partial,
        frames_per_second=report.frames_per_second,
        latency_seconds=report.latency_seconds,
        playable=report.playable,
        unplayable_reason=report.unplayable_reason,
        playback_detail=report.playback_detail,
        media_changed_timestamp_seconds=report.media_changed_timestamp_seconds,
        source_upstream=state.source_upstream,
        source_stream=state.source_stream,
        source_live=state.source_live,
        thresholds=own_health_thresholds(state.overrides),
        maintenance=_maintenance_entry(state.maintenance),
    )


def own_health_thresholds(overrides: AlertOverrides) -> dict[str, float | Literal["off"]] | None:
    """Return a stream's own thresholds of the rules about the health score; None if it has none."""
    if overrides is NO_OVERRIDES:
        return None
    return {rule: own for rule, own in _list_overrides(overrides).items() if rule in HEALTH_RULES} or None


def _list_overrides(overrides: AlertOverrides) -> dict[str, float | Literal["off"]]:
    found: dict[str, float | Literal["off"]] = {**overrides.thresholds, **dict.fromkeys(overrides.off, "off")}
    return dict(sorted(found.items()))


def _maintenance_entry(maintenance: Maintenance | None) -> MaintenanceEntry | None:
    if maintenance is None:
        return None
    reason = valid_text(maintenance.reason)
    return MaintenanceEntry(end_timestamp_seconds=maintenance.until, reason=reason, manual=maintenance.is_manual)


def group_entry(state: GroupState) -> GroupEntry:
    """Return a group as listed in the JSON API."""
    members = tuple(
        MemberEntry(
            platform=member.platform,
            upstream=member.upstream,
            stream=member.stream,
            role=valid_text(member.role),
            status=member.status.value,
            live=member.live,
            in_maintenance=member.in_maintenance,
        )
        for member in state.members
    )
    return GroupEntry(
        group=state.group,
        status=state.status.value,
        expected=state.expected,
        needed=state.needed,
        live=state.live,
        unknown=state.unknown,
        streams=len(members),
        members=members,
    )


def stream_facts(state: StreamState) -> dict[str, Any]:
    """Return all known facts of a stream, under the names that the model gives them."""
    facts = (
        msgspec.structs.asdict(state.report) | msgspec.structs.asdict(state) | msgspec.structs.asdict(state.identity)
    )
    facts["sampled_timestamp_seconds"] = facts.pop("reported_at")
    facts["status_last_change_timestamp_seconds"] = facts.pop("status_changed_at")
    facts["health_unreadable"] = facts["health_unreadable"] or None
    facts["thresholds"] = own_health_thresholds(state.overrides)
    facts["alert_overrides"] = _list_overrides(facts.pop("overrides"))
    for inner in ("id", "identity", "report", "last_ingest_bitrate_bytes_per_second", "last_viewers"):
        del facts[inner]
    facts["stream"] = stream_label(state)
    facts["labels"] = _label_values(state.identity.labels)
    facts["maintenance"] = msgspec.to_builtins(_maintenance_entry(state.maintenance))
    return {name: _valid_fact(fact) for name, fact in facts.items() if fact is not None and fact not in ("", (), {})}


def prometheus_alert(alert: Alert, formatter: AlertFormatter) -> dict[str, Any]:
    """Return an alert in the format of Prometheus' API, with ``keepFiringSince`` once its condition is false."""
    from exporter.alerting.payload import rfc3339

    entry: dict[str, Any] = {
        "labels": formatter.labels(alert),
        "annotations": formatter.annotations(alert),
        "state": alert.phase.value,
        "activeAt": rfc3339(alert.active_at),
        "value": format_value(alert.value),
    }
    if alert.keep_since is not None:
        entry["keepFiringSince"] = rfc3339(alert.keep_since)
    return entry


def alert_entry(alert: Alert, formatter: AlertFormatter) -> dict[str, Any]:
    """Return an alert in the format of Prometheus' API, with ``firedAt`` if it is firing."""
    from exporter.alerting.payload import rfc3339

    entry = prometheus_alert(alert, formatter)
    return entry if alert.fired_at is None else entry | {"firedAt": rfc3339(alert.fired_at)}


def format_value(value: float) -> str:
    """Format a value as Prometheus does: with an exponent, and the fewest digits that identify it."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    texts = (f"{value:.{digits}e}" for digits in range(17))
    return next(text for text in texts if float(text) == value)


def stream_label(state: StreamState) -> str:
    """Return the value of the ``stream`` label in metrics and alerts."""
    return label_value(state.identity.stream)


def _label_values(labels: Labels) -> dict[str, str]:
    """Return configured labels as they are shown in metrics and alerts."""
    return {name: label_value(value) for name, value in labels}


def valid_text(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot encode, with U+FFFD."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _valid_fact(fact: Any) -> Any:
    if isinstance(fact, str):
        return valid_text(fact)
    if isinstance(fact, tuple):
        return tuple(map(_valid_fact, fact))
    if isinstance(fact, msgspec.Struct):
        return _valid_fact(msgspec.structs.asdict(fact))
    if isinstance(fact, Mapping):
        return {valid_text(name): _valid_fact(value) for name, value in fact.items()}
    return fact
