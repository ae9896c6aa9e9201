"""One stream over time: its last report, ingest sessions and served state."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from exporter.config.upstream import StreamSettings
from exporter.metrics.text_format import label_value
from exporter.model import (
    NO_OVERRIDES,
    NO_REPORT,
    AlertOverrides,
    HealthReason,
    Identity,
    Status,
    StreamReport,
    StreamState,
)
from exporter.polling.expected_hours import ExpectedHours
from exporter.runtime.clock import Instant

START_TOLERANCE_SECONDS = 1.0
"""Maximum difference between two start times of the same ingest session, caused by rounding."""


class Source(NamedTuple):
    """The stream that a playback check is paired with, as its labels."""

    platform: str
    upstream: str
    stream: str

    @classmethod
    def from_settings(cls, settings: StreamSettings | None) -> Source:
        """Return the configured source of a stream; ``NO_SOURCE`` without one."""
        source = None if settings is None else settings.source
        return NO_SOURCE if source is None else cls(source.platform, source.upstream, label_value(source.stream))


NO_SOURCE = Source("", "", "")


class TrackedStream(msgspec.Struct, gc=False):
    """The history of one stream. Times are in seconds on the steady clock unless noted otherwise.

    ``gc=False`` because scanning 100,000 of them would slow down garbage collection.
    """

    identity: Identity
    settings: StreamSettings | None
    expected_hours: ExpectedHours | None
    overrides: AlertOverrides = NO_OVERRIDES
    """Of the stream and its upstream."""
    source: Source = NO_SOURCE
    report: StreamReport = NO_REPORT
    name: str = ""
    """The platform's own name, from which the label was made."""
    reported_at: Instant | None = None
    status: Status | None = None
    """The last served status; None before the first report."""
    status_changed_at: float | None = None
    """Unix seconds of the last status change."""
    health_score_ratio: float | None = None
    health_reasons: tuple[HealthReason, ...] = ()
    last_ingest_bitrate_bytes_per_second: float | None = None
    """From the last live report that contained a bitrate."""
    last_viewers: int | None = None
    """From the last live report that contained a number of viewers."""
    unreadable_rows: int = 0
    """Number of unreadable rows in the last list that contained the stream."""
    session: str = ""
    session_start: float | None = None
    """The platform's start time of the last ingest session; together with ``session`` it identifies the session."""
    session_seen_at: float | None = None
    """When the last ingest session was first seen by the exporter; None if the stream was never live."""
    session_age: float = 0.0
    """Age of the session when first seen, on the platform's clock."""
    restarts: int | None = None
    absent_polls: int = 0
    departed_at: float | None = None
    withdrawn_at: float | None = None
    """When the facts were withdrawn because no poll had reported the stream for ``stale_after``."""
    state: StreamState | None = None
    """The served state; None until it has been built."""

    def note_ingest_session(
        self, report: StreamReport, now: Instant, platform_now: float, *, is_identified_by_start: bool
    ) -> None:
        """Compare a live report's ingest session with the last one; count a restart if it is new.

        Must be called before the report is stored. ``platform_now``: unix seconds on the platform's clock.
        ``is_identified_by_start``: see ``Platform.start_is_of_session``.
        """
        session, start = report.session, report.start_timestamp_seconds
        is_first = self.session_seen_at is None
        if not is_first and self.report.live and session == self.session and start == self.session_start:
            # fast path for nearly every report
            return
        if is_first or self._is_new_ingest_session(session, start, is_identified_by_start=is_identified_by_start):
            self.session, self.session_start = session, start
            self.session_seen_at = now.steady
            self.session_age = 0.0 if start is None else platform_now - start
            self.restarts = (self.restarts or 0) + (not is_first)
        else:
            self.session = session or self.session
            self.session_start = self.session_start if start is None else start

    def _is_new_ingest_session(self, session: str, start: float | None, *, is_identified_by_start: bool) -> bool:
        has_ids = bool(session and self.session)
        has_other_id = has_ids and session != self.session
        if start is None or self.session_start is None:
            return has_other_id or (not has_ids and self.report.live is False)
        has_other_start = abs(start - self.session_start) > START_TOLERANCE_SECONDS
        return has_other_start or (has_other_id and not is_identified_by_start)

    def note_figures(self, report: StreamReport) -> None:
        """Store the figures of a live report, for alerts that the stream is off air or unknown."""
        bitrate, viewers = report.ingest_bitrate_bytes_per_second, report.viewers
        if bitrate is not None:
            self.last_ingest_bitrate_bytes_per_second = bitrate
        if viewers is not None:
            self.last_viewers = viewers

    def is_in_health_grace(self, now: Instant, grace: float) -> bool:
        """Return whether the ingest session is too young for a derived score. ``grace`` is in seconds."""
        # an ingest session that was already older than that when first seen has no grace
        seen_at = self.session_seen_at
        return seen_at is not None and now.steady < seen_at + grace - max(0.0, self.session_age)

    def build_state(self, now: Instant, stale_after: float) -> StreamState:
        """Return the state to serve. ``stale_after``: seconds without a report after which the stream is unknown."""
        settings, hours, reported_at = self.settings, self.expected_hours, self.reported_at
        expected = None if hours is None else hours.is_expected(now)
        if reported_at is None or now.steady >= reported_at.steady + stale_after:
            return self._build_unknown_state(now, expected)
        report, source = self.report, self.source
        status = report.status
        if report.healthy is False and status is Status.LIVE:
            status = Status.DEGRADED
        self._note_status(status, now)
        if expected and status is Status.ENDED and settings is not None and settings.end_ok:
            expected = False
        return StreamState(
            identity=self.identity,
            report=report,
            configured=settings is not None,
            status=status,
            status_changed_at=self.status_changed_at,
            live=report.live,
            expected=expected,
            restarts=self.restarts,
            health_score_ratio=self.health_score_ratio,
            health_reasons=self.health_reasons,
            expected_ingest_bitrate_bytes_per_second=settings.expected_bitrate if settings else None,
            expected_frames_per_second=settings.expected_frame_rate if settings else None,
            reported_at=reported_at.wall,
            last_ingest_bitrate_bytes_per_second=self.last_ingest_bitrate_bytes_per_second,
            last_viewers=self.last_viewers,
            overrides=self.overrides,
            source_platform=source.platform,
            source_upstream=source.upstream,
            source_stream=source.stream,
        )

    def _build_unknown_state(self, now: Instant, expected: bool | None) -> StreamState:
        """Return the state of a stream without a recent report."""
        source = self.source
        if self.reported_at is not None:
            if self.withdrawn_at is None:
                self.withdrawn_at = now.steady
            self._note_status(Status.UNKNOWN, now)
        return StreamState(
            identity=self.identity,
            report=NO_REPORT,
            configured=self.settings is not None,
            status_changed_at=self.status_changed_at,
            was_live=self.report.live,
            expected=expected,
            last_ingest_bitrate_bytes_per_second=self.last_ingest_bitrate_bytes_per_second,
            last_viewers=self.last_viewers,
            overrides=self.overrides,
            source_platform=source.platform,
            source_upstream=source.upstream,
            source_stream=source.stream,
        )

    def _note_status(self, status: Status, now: Instant) -> None:
        if self.status is not None and status is not self.status:
            self.status_changed_at = now.wall
        self.status = status
