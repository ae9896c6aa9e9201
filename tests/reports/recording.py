"""A recorder on a fake clock, and reports on what tests publish to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from exporter.model import (
    AlertOverrides,
    GroupState,
    HealthReason,
    Identity,
    Reason,
    Status,
    StreamReport,
    StreamState,
    UpstreamState,
)
from exporter.reports.assessment import build_report
from exporter.reports.presentation import report_entry
from exporter.reports.recorder import Recorder
from exporter.reports.report import Report, Scope, Span, Subject
from exporter.reports.timeline import Segment, StreamKey, Viewers
from tests.fake_clock import FakeClock

EDGE = "edge"
THRESHOLD = 0.75
EXPECTED_BITRATE = 500_000.0
BEGIN = 1_796_587_200.0
"""2026-12-06T20:00:00Z."""


def stream(
    name: str = "main",
    *,
    upstream: str = EDGE,
    live: bool | None = True,
    expected: bool | None = True,
    status: Status | None = None,
    viewers: int | None = None,
    bitrate: float | None = None,
    restarts: int | None = 0,
    reasons: Sequence[HealthReason] = (),
    configured: bool = True,
    expected_bitrate: float | None = EXPECTED_BITRATE,
    threshold: float | None = None,
) -> StreamState:
    """Return the state of a configured stream."""
    words = {True: Status.LIVE, False: Status.IDLE, None: Status.UNKNOWN}
    return StreamState(
        identity=Identity("storm", upstream, name),
        report=StreamReport(id=name, live=live, viewers=viewers, ingest_bitrate_bytes_per_second=bitrate),
        configured=configured,
        status=status or words[live],
        live=live,
        was_live=True if live is None else None,
        expected=expected,
        restarts=None if live is None else restarts,
        health_reasons=tuple(reasons),
        expected_ingest_bitrate_bytes_per_second=expected_bitrate,
        reported_at=None if live is None else BEGIN,
        overrides=AlertOverrides() if threshold is None else AlertOverrides({"StreamBitrateLow": threshold}),
    )


def upstream(
    *streams: StreamState, name: str = EDGE, answering: bool | None = True, reason: Reason | None = None
) -> UpstreamState:
    """Return the state of an upstream."""
    return UpstreamState(
        platform="storm",
        upstream=name,
        host="127.0.0.1:9",
        health_score="derived",
        streams=streams,
        up=reason is None,
        answering=answering,
        last_error_reason=reason,
        poll_interval_seconds=15.0,
    )


class Recording:
    """A recorder and its clock, which starts at ``BEGIN``."""

    def __init__(self) -> None:
        self.clock = FakeClock(now=BEGIN)
        self.recorder = Recorder(self.clock.instant())

    def configure(self, *members: str, upstreams: Sequence[str] = (EDGE,)) -> None:
        """Configure the group ``final`` and the upstreams."""
        self.recorder.configure(upstreams, {"final": [_key(name) for name in members]}, self.clock.instant())

    def publish(
        self,
        *streams: StreamState,
        name: str = EDGE,
        answering: bool | None = True,
        reason: Reason | None = None,
        threshold: float = THRESHOLD,
    ) -> None:
        """Publish a state now."""
        state = upstream(*streams, name=name, answering=answering, reason=reason)
        self.recorder.record(state, threshold, self.clock.instant())

    def publish_group(self, *, expected: bool | None) -> None:
        """Publish the state of the group ``final``."""
        state = GroupState(group="final", need=1, members=(), expected=expected)
        self.recorder.record_groups([state], self.clock.instant())

    def minutes(self, minutes: float, *streams: StreamState, **facts: Any) -> None:
        """Publish a state now, and let time pass; without a stream, only let time pass."""
        if streams or facts:
            self.publish(*streams, **facts)
        self.clock.advance(60 * minutes)

    def report(
        self,
        *names: str,
        start: float = 0.0,
        end: float | None = None,
        group: int | None = None,
        roles: tuple[str, ...] = (),
        of_upstream: bool = False,
    ) -> Report:
        """Return the report on a stream, on a group that needs ``group`` streams, or on the upstream.

        ``names``: ``stream`` or ``upstream/stream``. ``start``, ``end``: minutes after ``BEGIN``; the end is now.
        """
        now = self.clock.instant()
        keys = [_key(name) for name in names or ("main",)]
        viewers: Sequence[Viewers] = ()
        expectation: Sequence[Segment] = ()
        subject = Subject(scope=Scope.STREAM, name=keys[0].upstream, stream=keys[0].stream)
        if group is not None:
            subject = Subject(scope=Scope.GROUP, name="final", needed=group, roles=roles)
        if of_upstream:
            subject = Subject(scope=Scope.UPSTREAM, name=EDGE)
            keys = [*self.recorder.recorded_streams(EDGE)]
            viewers = self.recorder.read_upstream_viewers(EDGE, now)
        elif group is not None:
            viewers = self.recorder.read_group_viewers("final", now)
            expectation = self.recorder.read_group_expectation("final", now)
        span = Span(BEGIN + 60 * start, now.wall if end is None else BEGIN + 60 * end)
        return build_report(
            subject,
            self.recorder.read(keys, now),
            span,
            viewers=viewers,
            expectation=expectation,
            generated_at=now.wall,
            started_at=self.recorder.started_at(now),
        )

    def entry(self, *names: str, **facts: Any) -> dict[str, Any]:
        """Return a report as JSON."""
        return report_entry(self.report(*names, **facts))


def _key(name: str) -> StreamKey:
    upstream_name, slash, label = name.partition("/")
    return StreamKey(upstream_name, label) if slash else StreamKey(EDGE, name)
