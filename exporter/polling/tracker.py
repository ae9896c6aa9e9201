"""Follow an upstream's streams over time: first seen, restarted, gone, unknown, forgotten.

Poll results go in, the states to serve come out. The tracker does no I/O and takes the time from its caller.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from exporter.config.upstream import StreamSettings, UpstreamSettings
from exporter.model import NO_REPORT, Identity, Listing, PollResult, Status, StreamReport, StreamState
from exporter.polling.expected_hours import ExpectedHours
from exporter.polling.health import judge
from exporter.polling.stream_labels import LabelBook, anonymize
from exporter.sharding import ALL_STREAMS, ShardFilter

STREAMS_PER_STEP = 100
"""Number of streams to process before the event loop gets its turn: well below a millisecond of work."""
START_TOLERANCE_SECONDS = 1.0
"""Maximum difference, from rounding, between two start times of the same ingest session."""
ABSENT_POLLS_OF_A_PAGED_LIST = 2
_ENDED = Status.ENDED  # looking up an enumeration's member costs more than the rest of the check for most reports
FILTER_CACHE_SIZE = 1000
"""Size limit of the include/exclude cache, in addition to two entries per listed stream."""


class TrackedStream(msgspec.Struct, gc=False):
    """What is remembered about one stream. ``gc=False`` because scanning 100,000 of them keeps the collector busy."""

    identity: Identity
    settings: StreamSettings | None
    expected_hours: ExpectedHours | None
    report: StreamReport = NO_REPORT
    reported_at: float | None = None
    session: str = ""
    session_start: float | None = None
    """The platform's start time of the last ingest session; with ``session`` it identifies an ingest session."""
    session_seen_at: float | None = None
    """When the last ingest session was first seen here; None: never live."""
    restarts: int | None = None
    absent_polls: int = 0
    departed_at: float | None = None
    hidden: bool = False
    """Unknown for longer than ``stale_after``: remembered but not served."""
    state: StreamState | None = None


class Tracker:
    """The streams of one upstream."""

    def __init__(
        self,
        settings: UpstreamSettings,
        started_at: float,
        *,
        preferred_labels: LabelBook | None = None,
        shard_filter: ShardFilter = ALL_STREAMS,
    ) -> None:
        """``started_at``: unix seconds of the exporter's own start.

        ``preferred_labels``: a book whose labels are used where they are free. ``shard_filter``: the streams that are
        served here, whatever a result contains.
        """
        self._platform, self._upstream = settings.platform, settings.name
        self._include, self._exclude = settings.include, settings.exclude
        self._max_streams = settings.max_streams
        self._interval = settings.interval
        self._shortest_stale_after = self._stale_after = settings.stale_after
        self._ended_ttl = settings.ended_ttl
        self._health_grace = settings.health_grace
        self._is_hashing = settings.stream_label == "hash"
        self._started_at = started_at
        self._shard_filter = shard_filter
        self._configured_streams: tuple[StreamSettings, ...] = ()
        self._configured: dict[str, StreamSettings] = {}
        self.labels = LabelBook(
            settings.name,
            settings.stream_label,
            settings.stream_hash_key.get() if settings.stream_hash_key else None,
            preferred_labels.known_label if preferred_labels else None,
        )
        self._tracked: dict[str, TrackedStream] = {}
        self._updated_ids: list[str] = []
        self._filter_cache: dict[tuple[str, str], bool] = {}
        self.dropped = 0
        """Streams left out by ``max_streams`` in the last poll."""
        self.next_change = math.inf
        """Unix seconds at which a state changes by itself (stale, forgotten, expected): call ``refresh`` then."""
        self.configure(settings.configured_streams())

    def configure(self, streams: tuple[StreamSettings, ...]) -> None:
        """Set the configured streams; calling it again with the same streams does nothing."""
        if streams == self._configured_streams:
            return
        self._configured_streams = streams
        self._configured = {stream.id: stream for stream in streams if self._shard_filter.owns(stream.id)}
        self.labels.configure({stream.id: stream.name for stream in self._configured.values() if stream.name})
        for stream_id, tracked in self._tracked.items():
            tracked.settings = self._configured.get(stream_id)
            tracked.expected_hours = self._make_expected_hours(tracked.settings)
            tracked.identity = self._make_identity(stream_id, tracked.report.name)

    def set_interval(self, effective_interval: float) -> None:
        """Set the time between polls; states become stale later while it is longer than configured."""
        is_longer = effective_interval > self._interval
        self._stale_after = max(self._shortest_stale_after, 3 * effective_interval if is_longer else 0.0)

    def states(self) -> tuple[StreamState, ...]:
        """Return the states to serve, in a stable order."""
        return tuple(t.state for t in self._tracked.values() if t.state is not None)

    def label(self, stream_id: str) -> str:
        """Return a known stream's label, for the log; ``?`` for other streams because the id may be a secret."""
        tracked = self._tracked.get(stream_id)
        return tracked.identity.stream if tracked else "?"

    def refresh(self, now: float) -> Iterator[None]:
        """Age the states without a new report; the caller exhausts the generator, which yields between steps."""
        self._track_expected_streams()
        yield from self._update_states(now, now)

    def apply(self, result: PollResult, now: float, clock_skew: float = 0.0) -> Iterator[None]:
        """Apply a poll's result; the caller exhausts the generator, which yields between steps.

        ``clock_skew``: the platform's clock minus ours, in seconds.
        """
        self._track_expected_streams()
        reports = {report.id: report for report in self._select_reports(result.streams)}
        self._updated_ids = list(reports)
        for index, (stream_id, report) in enumerate(reports.items()):
            self._apply_report(stream_id, report, now)
            if index % STREAMS_PER_STEP == STREAMS_PER_STEP - 1:
                yield
        if len(self._tracked) > len(reports):
            self._apply_absences(reports, result, now)
        self._forget_excess_streams()
        if len(self._tracked) >= STREAMS_PER_STEP:
            yield
        yield from self._update_states(now, now + clock_skew)

    def updated_states(self) -> Iterator[StreamState]:
        """Yield the states that the last poll updated: of reported streams, and of expected ones that were absent."""
        for stream_id in self._updated_ids:
            tracked = self._tracked.get(stream_id)
            if tracked is not None and tracked.state is not None:
                yield tracked.state

    # -- which streams are tracked -----------------------------------------------------------------------------------

    def _select_reports(self, reports: Sequence[StreamReport]) -> list[StreamReport]:
        """Return the reports that include, exclude and ``max_streams`` let through."""
        if len(self._filter_cache) > 2 * len(reports) + FILTER_CACHE_SIZE:
            self._filter_cache.clear()
        selected = list(reports)
        if self._include or self._exclude:
            selected = [report for report in selected if report.id in self._configured or self._is_included(report)]
        excess = len(selected) - self._max_streams
        self.dropped = max(0, excess)
        if excess <= 0:
            return selected
        # configured streams first, then live ones, then those that are already served
        selected.sort(key=lambda s: (s.id not in self._configured, not s.live, s.id not in self._tracked))
        return selected[: self._max_streams]

    def _is_included(self, report: StreamReport) -> bool:
        """Return whether include and exclude let the stream through."""
        key = (report.id, report.name)
        if key not in self._filter_cache:
            included = not self._include or any(_matches_pattern(pattern, report) for pattern in self._include)
            excluded = any(_matches_pattern(pattern, report) for pattern in self._exclude)
            self._filter_cache[key] = included and not excluded
        return self._filter_cache[key]

    def _track_expected_streams(self) -> None:
        for stream_id, settings in self._configured.items():
            if stream_id not in self._tracked and settings.expected is not None:
                self._track_stream(stream_id, "")

    def _track_stream(self, stream_id: str, name: str) -> TrackedStream:
        settings = self._configured.get(stream_id)
        tracked = TrackedStream(self._make_identity(stream_id, name), settings, self._make_expected_hours(settings))
        self._tracked[stream_id] = tracked
        return tracked

    def _make_identity(self, stream_id: str, name: str) -> Identity:
        label = self.labels.label(stream_id, name)
        return Identity(platform=self._platform, upstream=self._upstream, stream=label)

    def _make_expected_hours(self, settings: StreamSettings | None) -> ExpectedHours | None:
        if settings is None or settings.expected is None:
            return None
        return ExpectedHours(settings, self._started_at)

    def _forget_excess_streams(self) -> None:
        """Bound the memory when streams come and go faster than ``ended_ttl``: forget the longest departed first."""
        excess = len(self._tracked) - self._max_streams
        if excess <= 0:
            return
        departed = [
            (t.departed_at, id_)
            for id_, t in self._tracked.items()
            if t.departed_at is not None and not t.expected_hours
        ]
        for _, stream_id in sorted(departed)[:excess]:
            self._forget_stream(stream_id)

    def _forget_stream(self, stream_id: str) -> None:
        del self._tracked[stream_id]
        self.labels.forget(stream_id)

    # -- reports and absences ---------------------------------------------------------------------------------------

    def _apply_report(self, stream_id: str, report: StreamReport, now: float) -> None:
        tracked = self._tracked.get(stream_id) or self._track_stream(stream_id, report.name)
        if report.live and not _continues_session(tracked, report):
            self._record_ingest_session(tracked, report, now)
        if tracked.restarts is None:
            tracked.restarts = 0
        ended = report.status is _ENDED and stream_id not in self._configured
        if not ended:
            tracked.departed_at = None
        elif tracked.departed_at is None:
            tracked.departed_at = now
        tracked.report = self._anonymize_report(report) if self._is_hashing else report
        tracked.reported_at = now
        tracked.absent_polls = 0
        tracked.hidden = False

    def _record_ingest_session(self, tracked: TrackedStream, report: StreamReport, now: float) -> None:
        if tracked.session_seen_at is None:
            tracked.session_seen_at = now
        elif self._is_new_ingest_session(tracked, report):
            tracked.session_seen_at = now
            tracked.restarts = (tracked.restarts or 0) + 1
        tracked.session = report.session or tracked.session
        tracked.session_start = report.start_timestamp_seconds or tracked.session_start

    @staticmethod
    def _is_new_ingest_session(tracked: TrackedStream, report: StreamReport) -> bool:
        comparable = False
        if report.session and tracked.session:
            comparable = True
            if report.session != tracked.session:
                return True
        if report.start_timestamp_seconds is not None and tracked.session_start is not None:
            comparable = True
            if abs(report.start_timestamp_seconds - tracked.session_start) > START_TOLERANCE_SECONDS:
                return True
        return not comparable and tracked.report.live is False

    def _apply_absences(self, reports: Mapping[str, StreamReport], result: PollResult, now: float) -> None:
        for stream_id, tracked in self._tracked.items():
            if stream_id not in reports and stream_id not in result.failures and stream_id not in result.postponed:
                self._apply_absence(tracked, stream_id, result.listing, now)
                if tracked.reported_at == now and tracked.expected_hours is not None:
                    self._updated_ids.append(stream_id)

    def _apply_absence(self, tracked: TrackedStream, stream_id: str, listing: Listing, now: float) -> None:
        """Update a stream that a successful poll did not report."""
        is_configured = stream_id in self._configured
        if listing is Listing.DIRECT or (tracked.report is NO_REPORT and not is_configured):
            # it is no longer requested, or it is a session id whose reports came under its stream's id
            if not is_configured and tracked.departed_at is None:
                tracked.departed_at = -math.inf
            return
        tracked.absent_polls += 1
        if listing is Listing.SHIFTING and tracked.absent_polls < ABSENT_POLLS_OF_A_PAGED_LIST:
            return
        if tracked.departed_at is None and tracked.report is not NO_REPORT:
            tracked.departed_at = now
        if tracked.report is NO_REPORT:
            tracked.report = StreamReport(id=tracked.identity.stream, status=Status.IDLE, live=False)
        elif tracked.report.live is not False:
            tracked.report = tracked.report.departed(now)
        tracked.reported_at = now
        tracked.hidden = False
        if tracked.restarts is None:
            tracked.restarts = 0

    # -- states to serve --------------------------------------------------------------------------------------------

    def _update_states(self, now: float, platform_now: float) -> Iterator[None]:
        expired = []
        oldest = changes_at = math.inf
        for index, (stream_id, tracked) in enumerate(self._tracked.items()):
            if tracked.departed_at is not None and self._is_expired(tracked, now):
                expired.append(stream_id)
            else:
                tracked.state = self._build_state(tracked, now, platform_now)
                if not tracked.hidden and tracked.reported_at is not None and tracked.reported_at < oldest:
                    oldest = tracked.reported_at
                if tracked.departed_at is not None or tracked.expected_hours is not None:
                    changes_at = min(changes_at, self._state_changes_at(tracked))
            if index % STREAMS_PER_STEP == STREAMS_PER_STEP - 1:
                yield
        self.next_change = min(oldest + self._stale_after, changes_at)
        for stream_id in expired:
            self._forget_stream(stream_id)

    def _is_expired(self, tracked: TrackedStream, now: float) -> bool:
        if tracked.departed_at is None or tracked.expected_hours is not None:
            return False
        return now >= tracked.departed_at + self._ended_ttl

    def _state_changes_at(self, tracked: TrackedStream) -> float:
        """Return when a departed or expected stream's state changes by itself, in unix seconds."""
        if tracked.expected_hours is not None:
            return tracked.expected_hours.changes_at
        return math.inf if tracked.departed_at is None else tracked.departed_at + self._ended_ttl

    def _build_state(self, tracked: TrackedStream, now: float, platform_now: float) -> StreamState | None:
        settings, hours, reported_at = tracked.settings, tracked.expected_hours, tracked.reported_at
        expected = None if hours is None else hours.is_expected(now)
        tracked.hidden = reported_at is None or now >= reported_at + self._stale_after
        if tracked.hidden:
            if expected is None:
                return None
            return StreamState(identity=tracked.identity, report=NO_REPORT, configured=True, expected=expected)
        report = tracked.report
        bitrate = settings.expected_bitrate if settings else None
        frame_rate = settings.expected_frame_rate if settings else None
        seen = report.last_seen_timestamp_seconds
        score, reasons = judge(
            report,
            expected_bitrate=bitrate,
            expected_frame_rate=frame_rate,
            last_seen_age=None if seen is None else platform_now - seen,
            in_grace=report.health_score_ratio is None and self._is_in_health_grace(tracked, report, now),
        )
        status = report.status
        if report.healthy is False and status is Status.LIVE:
            status = Status.DEGRADED
        if expected and status is Status.ENDED and settings is not None and settings.end_ok:
            expected = False
        return StreamState(
            identity=tracked.identity,
            report=report,
            configured=settings is not None,
            status=status,
            live=report.live,
            expected=expected,
            restarts=tracked.restarts,
            health_score_ratio=score,
            health_reasons=reasons,
            expected_ingest_bitrate_bytes_per_second=bitrate,
            expected_frames_per_second=frame_rate,
            reported_at=reported_at,
        )

    def _is_in_health_grace(self, tracked: TrackedStream, report: StreamReport, now: float) -> bool:
        """Return whether the ingest session is too young for a derived score."""
        seen_at, grace = tracked.session_seen_at, self._health_grace
        if seen_at is None or now >= seen_at + grace:
            return False
        # no grace for an ingest session that had started long before it was first seen here
        start = report.start_timestamp_seconds
        return start is None or now < start + grace

    def _anonymize_report(self, report: StreamReport) -> StreamReport:
        """Remove the stream key, which is part of the id, because ``stream_label: hash`` must hide it everywhere."""
        return anonymize(report, self.labels.label(report.id, ""))


def _continues_session(tracked: TrackedStream, report: StreamReport) -> bool:
    """Return whether a live stream is still in the same ingest session (fast path: it nearly always is)."""
    return (
        tracked.session_seen_at is not None
        and tracked.report.live is True
        and report.session == tracked.session
        and report.start_timestamp_seconds == tracked.session_start
    )


def _matches_pattern(pattern: str, report: StreamReport) -> bool:
    return fnmatch.fnmatchcase(report.name, pattern) or fnmatch.fnmatchcase(report.id, pattern)
