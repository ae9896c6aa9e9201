"""Track an upstream's streams over time: new, restarted, gone, unknown, forgotten.

Poll results go in, states to serve come out. The tracker does no I/O, and its caller passes the time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from exporter.config.calendars import CalendarSettings
from exporter.config.upstream import StreamSettings, UpstreamSettings
from exporter.model import (
    NO_REPORT,
    Identity,
    Listing,
    PollResult,
    Status,
    StreamReport,
    StreamState,
)
from exporter.polling.calendars import Calendars
from exporter.polling.expected_hours import ExpectedHours
from exporter.polling.health import judge
from exporter.polling.maintenance import ConfiguredWindows
from exporter.polling.overrides import UpstreamOverrides
from exporter.polling.stream_labels import LabelBook, anonymize
from exporter.polling.tracked_stream import Source, TrackedStream
from exporter.runtime.clock import Instant
from exporter.sharding import ALL_STREAMS, ShardFilter

STREAMS_PER_STEP = 100
"""Number of streams to process before yielding to the event loop: well below a millisecond of work."""
ABSENT_POLLS_OF_A_SHIFTING_LIST = 2
"""Number of polls without a stream after which a shifting list proves that it is gone."""
FORMER_LABEL_SECONDS = 20 * 60.0
"""Time for which a stream's former label is served; longer than the lookback of StreamVanished."""
LONGEST_UNKNOWN_SECONDS = 24 * 3600.0
"""Maximum time for which a stream is served as unknown, unless it is configured."""
_ENDED = Status.ENDED  # for most reports, looking up the enum member would cost more than the rest of the check
FILTER_CACHE_SIZE = 1000
"""Size limit of the include/exclude cache, in addition to two entries per listed stream."""


class Tracker:
    """The streams of one upstream."""

    def __init__(
        self,
        settings: UpstreamSettings,
        started_at: Instant,
        *,
        derives_scores: bool = True,
        start_is_of_session: bool = False,
        preferred_labels: LabelBook | None = None,
        shard_filter: ShardFilter = ALL_STREAMS,
        calendars: Calendars | None = None,
    ) -> None:
        """``started_at``: when the exporter started.

        ``derives_scores``: whether to derive scores, because the platform reports none. ``start_is_of_session``: see
        ``Platform``. ``preferred_labels``: a book whose labels take precedence. ``shard_filter``: selects the
        configured streams that this shard serves. ``calendars``: without them, expectations from a calendar are
        unknown.
        """
        self._platform, self._upstream = settings.platform, settings.name
        self._upstream_labels = settings.label_pairs
        self._includes = settings.includes
        self._has_filters = bool(settings.include or settings.exclude)
        self._max_streams = settings.max_streams
        self._interval = settings.interval
        self._shortest_stale_after = self._stale_after = settings.stale_after
        self._ended_ttl = settings.ended_ttl
        self._health_grace = settings.health_grace
        self._derives_scores = derives_scores
        self._start_is_of_session = start_is_of_session
        self._is_hashing = settings.stream_label == "hash"
        self._started_at = started_at
        self._shard_filter = shard_filter
        self.overrides = UpstreamOverrides(settings)
        self._calendars = calendars
        self.used_calendars: tuple[CalendarSettings, ...] = ()
        """The different calendars of the configured streams."""
        self._configured_streams: tuple[StreamSettings, ...] = ()
        self._configured: dict[str, StreamSettings] = {}
        self.labels = LabelBook(
            settings.name,
            settings.stream_label,
            settings.stream_hash_key.get() if settings.stream_hash_key else None,
            preferred_labels.known_label if preferred_labels else None,
        )
        self._tracked: dict[str, TrackedStream] = {}
        self._former_labels: dict[str, float | None] = {}
        """Former labels of streams, and since when (steady seconds); None: since the last poll."""
        self._updated_ids: list[str] = []
        self._filter_cache: dict[tuple[str, str], bool] = {}
        self._unreadable_rows = 0
        self._unreadable_rows_grew_at = -math.inf
        self.dropped = 0
        """Number of streams left out of the last poll because of ``max_streams``."""
        self.list_complete: bool | None = None
        """Whether absence from the last list proves that a stream is gone; None if there was no list."""
        self.next_change = math.inf
        """Steady seconds at which a state changes without a poll (stale, forgotten, expected) and needs ``refresh``."""
        self.maintenance_windows: ConfiguredWindows = {}
        """Configured maintenance windows of streams by label; a new mapping after every change."""
        self.configure(settings.configured_streams())

    def configure(self, streams: tuple[StreamSettings, ...]) -> None:
        """Set the configured streams; calling it again with the same streams does nothing."""
        if streams == self._configured_streams:
            return
        self._configured_streams = streams
        self._configured = {stream.id: stream for stream in streams if self._shard_filter.owns(stream.id)}
        expected = (stream.expected for stream in self._configured.values())
        self.used_calendars = tuple(dict.fromkeys(each for each in expected if isinstance(each, CalendarSettings)))
        # including those of other shards, so that all shards assign the same labels
        self.labels.configure({stream.id: stream.name for stream in streams})
        self.maintenance_windows = {
            self.labels.label(stream_id, ""): stream.maintenance
            for stream_id, stream in self._configured.items()
            if stream.maintenance
        }
        for stream_id, tracked in self._tracked.items():
            tracked.settings = self._configured.get(stream_id)
            tracked.expected_hours = self._make_expected_hours(tracked.settings)
            tracked.overrides = self.overrides.of_stream(tracked.settings)
            tracked.source = Source.from_settings(tracked.settings)
            self._set_identity(tracked, self._make_identity(stream_id, tracked.name))

    def set_interval(self, effective_interval: float) -> None:
        """Set the time between polls; if it is longer than configured, states become stale later."""
        is_longer = effective_interval > self._interval
        self._stale_after = max(self._shortest_stale_after, 3 * effective_interval if is_longer else 0.0)

    def states(self) -> tuple[StreamState, ...]:
        """Return the states to serve, in a stable order."""
        return tuple(t.state for t in self._tracked.values() if t.state is not None)

    def label(self, stream_id: str) -> str:
        """Return a known stream's label for the log; ``?`` for other streams, because their id may be a secret."""
        tracked = self._tracked.get(stream_id)
        return tracked.identity.stream if tracked else "?"

    def knows_label(self, label: str) -> bool:
        """Return whether a tracked or configured stream has this label."""
        tracked = (tracked.identity.stream for tracked in self._tracked.values())
        return label in tracked or label in (self.labels.label(stream_id, "") for stream_id in self._configured)

    def refresh(self, now: Instant) -> Iterator[None]:
        """Update states that change with time. The caller must exhaust the generator, which yields between steps."""
        self._track_expected_streams()
        yield from self._update_states(now)

    def apply(self, result: PollResult, now: Instant, clock_skew: float = 0.0) -> Iterator[None]:
        """Apply a poll's result. The caller must exhaust the generator, which yields between steps.

        ``clock_skew``: the platform's clock minus ours, in seconds.
        """
        reports = {report.id: report for report in self._select_reports(result.streams)}
        if self.labels.update(result.list_names or {id_: report.name for id_, report in reports.items()}):
            self._relabel()
        self._track_expected_streams()
        self._track_failed_streams(result)
        self._note_listing(result, now)
        self._updated_ids = list(reports)
        for index, (stream_id, report) in enumerate(reports.items()):
            self._apply_report(stream_id, report, now, now.wall + clock_skew)
            if index % STREAMS_PER_STEP == STREAMS_PER_STEP - 1:
                yield
        if len(self._tracked) > len(reports):
            self._apply_absences(reports, result, now)
        self._forget_excess_streams()
        if len(self._tracked) >= STREAMS_PER_STEP:
            yield
        yield from self._update_states(now)

    def updated_states(self) -> Iterator[StreamState]:
        """Yield the states that the last poll updated: reported streams, and expected ones that were absent."""
        for stream_id in self._updated_ids:
            tracked = self._tracked.get(stream_id)
            if tracked is not None and tracked.state is not None:
                yield tracked.state

    # -- which streams are tracked -----------------------------------------------------------------------------------

    def _select_reports(self, reports: Sequence[StreamReport]) -> list[StreamReport]:
        """Return the reports that pass ``include``, ``exclude`` and ``max_streams``."""
        if len(self._filter_cache) > 2 * len(reports) + FILTER_CACHE_SIZE:
            self._filter_cache.clear()
        selected = list(reports)
        if self._has_filters:
            selected = [report for report in selected if report.id in self._configured or self._is_included(report)]
        excess = len(selected) - self._max_streams
        self.dropped = max(0, excess)
        if excess <= 0:
            return selected
        # configured streams first, then live ones, then those that are already served
        selected.sort(key=lambda s: (s.id not in self._configured, not s.live, s.id not in self._tracked))
        return selected[: self._max_streams]

    def _is_included(self, report: StreamReport) -> bool:
        """Return whether the stream passes ``include`` and ``exclude``."""
        key = (report.id, report.name)
        if key not in self._filter_cache:
            self._filter_cache[key] = self._includes(*key)
        return self._filter_cache[key]

    def _track_expected_streams(self) -> None:
        for stream_id, settings in self._configured.items():
            if stream_id not in self._tracked and settings.expected is not None:
                self._track_stream(stream_id, "")

    def _track_failed_streams(self, result: PollResult) -> None:
        """Track configured streams that have only ever failed, so that they are served as unknown."""
        for stream_id in result.failures:
            if stream_id not in self._tracked and stream_id in self._configured:
                self._track_stream(stream_id, "")

    def _track_stream(self, stream_id: str, name: str) -> TrackedStream:
        settings = self._configured.get(stream_id)
        tracked = TrackedStream(
            self._make_identity(stream_id, name),
            settings,
            self._make_expected_hours(settings),
            self.overrides.of_stream(settings),
            Source.from_settings(settings),
            name=name,
        )
        self._tracked[stream_id] = tracked
        return tracked

    def _relabel(self) -> None:
        for stream_id, tracked in self._tracked.items():
            self._set_identity(tracked, self._make_identity(stream_id, tracked.name))

    def _set_identity(self, tracked: TrackedStream, identity: Identity) -> None:
        if identity != tracked.identity:
            if tracked.state is not None and len(self._former_labels) < self._max_streams:
                self._former_labels[tracked.identity.stream] = None
            tracked.identity = identity

    def former_labels(self, now: Instant) -> tuple[str, ...]:
        """Return labels that streams had until recently and that no stream has now."""
        if not self._former_labels:
            return ()
        current = {tracked.identity.stream for tracked in self._tracked.values()}
        lost_at = {label: now.steady if at is None else at for label, at in self._former_labels.items()}
        self._former_labels = {
            label: at
            for label, at in lost_at.items()
            if now.steady < at + FORMER_LABEL_SECONDS and label not in current
        }
        return tuple(self._former_labels)

    def _make_identity(self, stream_id: str, name: str) -> Identity:
        label = self.labels.label(stream_id, name)
        return Identity(self._platform, self._upstream, label, self._upstream_labels)

    def _make_expected_hours(self, settings: StreamSettings | None) -> ExpectedHours | None:
        if settings is None or settings.expected is None:
            return None
        return ExpectedHours(settings, self._started_at, self._calendars)

    def _forget_excess_streams(self) -> None:
        """Forget streams above ``max_streams``, if they come and go faster than ``ended_ttl``.

        The longest departed are forgotten first, then withdrawn ones.
        """
        excess = len(self._tracked) - self._max_streams
        if excess <= 0:
            return
        gone = [
            (t.departed_at is None, t.departed_at or t.withdrawn_at or 0.0, id_)
            for id_, t in self._tracked.items()
            if (t.departed_at is not None or t.withdrawn_at is not None) and not t.expected_hours
        ]
        for _, _, stream_id in sorted(gone)[:excess]:
            self._forget_stream(stream_id)

    def _forget_stream(self, stream_id: str) -> None:
        del self._tracked[stream_id]
        self.labels.forget(stream_id)

    # -- reports and absences ---------------------------------------------------------------------------------------

    def _apply_report(self, stream_id: str, report: StreamReport, now: Instant, platform_now: float) -> None:
        """Apply a report. Everything derived from it is computed now, and not again as the report ages."""
        tracked = self._tracked.get(stream_id) or self._track_stream(stream_id, report.name)
        if report.name != tracked.name:
            tracked.name = report.name
            self._set_identity(tracked, self._make_identity(stream_id, report.name))
        if report.live:
            tracked.note_ingest_session(report, now, platform_now, is_identified_by_start=self._start_is_of_session)
            tracked.note_figures(report)
        if tracked.restarts is None:
            tracked.restarts = 0
        ended = report.status is _ENDED and stream_id not in self._configured
        if not ended:
            tracked.departed_at = None
        elif tracked.departed_at is None:
            tracked.departed_at = now.steady
        settings = tracked.settings
        tracked.health_score_ratio, tracked.health_reasons = judge(
            report,
            expected_bitrate=settings.expected_bitrate if settings else None,
            expected_frame_rate=settings.expected_frame_rate if settings else None,
            may_derive=self._derives_scores and not tracked.is_in_health_grace(now, self._health_grace),
        )
        tracked.report = self._anonymize_report(report) if self._is_hashing else report
        tracked.reported_at = now
        tracked.withdrawn_at = None
        tracked.absent_polls = 0
        tracked.unreadable_rows = self._unreadable_rows

    def _note_listing(self, result: PollResult, now: Instant) -> None:
        """Store whether the list proves that streams missing from it are gone."""
        if result.unreadable_rows > self._unreadable_rows:
            self._unreadable_rows_grew_at = now.steady
        self._unreadable_rows = result.unreadable_rows
        if result.listing is Listing.DIRECT:
            self.list_complete = None
        else:
            has_new_rows = bool(result.unreadable_rows) and not self._are_unreadable_rows_old(now)
            self.list_complete = not (result.listing is Listing.DOUBTFUL or self.dropped or has_new_rows)

    def _are_unreadable_rows_old(self, now: Instant) -> bool:
        """Return whether the number of unreadable rows has not grown for ``stale_after``.

        Such rows are permanently bad, so none of them is a stream that has just become unreadable.
        """
        return now.steady >= self._unreadable_rows_grew_at + self._stale_after

    def _apply_absences(self, reports: Mapping[str, StreamReport], result: PollResult, now: Instant) -> None:
        for stream_id, tracked in self._tracked.items():
            if stream_id not in reports and stream_id not in result.failures and stream_id not in result.postponed:
                self._apply_absence(tracked, stream_id, result, now)
                if tracked.reported_at == now and tracked.expected_hours is not None:
                    self._updated_ids.append(stream_id)

    def _apply_absence(self, tracked: TrackedStream, stream_id: str, result: PollResult, now: Instant) -> None:
        """Update a stream that is missing from a successful poll, if that proves that it is gone."""
        is_configured = stream_id in self._configured
        was_listed = tracked.report is not NO_REPORT
        if result.listing is Listing.DIRECT or not (was_listed or is_configured):
            # no longer requested, or a session id whose reports arrived under the stream's id
            if not is_configured and tracked.departed_at is None:
                tracked.departed_at = -math.inf
            return
        if self._may_exist_unlisted(tracked, result, now):
            return
        if result.is_evidence or result.listing is Listing.COMPLETE:
            tracked.absent_polls += 1
        if result.listing is Listing.SHIFTING and tracked.absent_polls < ABSENT_POLLS_OF_A_SHIFTING_LIST:
            return
        if tracked.departed_at is None and was_listed:
            tracked.departed_at = now.steady
        if not was_listed:
            tracked.report = StreamReport(id=tracked.identity.stream, status=Status.IDLE, live=False)
        elif tracked.report.live is not False:
            # if the facts had been withdrawn, the end time is unknown
            tracked.report = tracked.report.departed(None if tracked.withdrawn_at is not None else now.wall)
        tracked.health_score_ratio, tracked.health_reasons = None, ()
        tracked.reported_at = now
        tracked.withdrawn_at = None
        if tracked.restarts is None:
            tracked.restarts = 0

    def _may_exist_unlisted(self, tracked: TrackedStream, result: PollResult, now: Instant) -> bool:
        """Return whether the stream may exist although the list does not contain it."""
        if result.listing is Listing.DOUBTFUL or self.dropped:
            return True
        if tracked.report is NO_REPORT:
            return bool(result.unreadable_rows) and not self._are_unreadable_rows_old(now)
        return result.unreadable_rows > tracked.unreadable_rows

    # -- states to serve --------------------------------------------------------------------------------------------

    def _update_states(self, now: Instant) -> Iterator[None]:
        expired = []
        changes_at = math.inf
        for index, (stream_id, tracked) in enumerate(self._tracked.items()):
            if self._is_expired(tracked, now):
                expired.append(stream_id)
            else:
                tracked.state = tracked.build_state(now, self._stale_after)
                changes_at = min(changes_at, self._state_changes_at(tracked, now))
            if index % STREAMS_PER_STEP == STREAMS_PER_STEP - 1:
                yield
        self.next_change = changes_at
        for stream_id in expired:
            self._forget_stream(stream_id)

    def _is_expired(self, tracked: TrackedStream, now: Instant) -> bool:
        if tracked.expected_hours is not None:
            return False
        if tracked.departed_at is not None and now.steady >= tracked.departed_at + self._ended_ttl:
            return True
        is_configured = tracked.settings is not None
        return (
            tracked.withdrawn_at is not None
            and not is_configured
            and now.steady >= tracked.withdrawn_at + LONGEST_UNKNOWN_SECONDS
        )

    def _state_changes_at(self, tracked: TrackedStream, now: Instant) -> float:
        """Return when a stream's state changes without a poll, in steady seconds."""
        if tracked.withdrawn_at is not None:
            changes_at = tracked.withdrawn_at + LONGEST_UNKNOWN_SECONDS
        elif tracked.reported_at is not None:
            changes_at = tracked.reported_at.steady + self._stale_after
        else:
            changes_at = math.inf
        if tracked.expected_hours is not None:
            # expected hours follow the wall clock
            return min(changes_at, tracked.expected_hours.changes_at - now.wall + now.steady)
        return changes_at if tracked.departed_at is None else min(changes_at, tracked.departed_at + self._ended_ttl)

    def _anonymize_report(self, report: StreamReport) -> StreamReport:
        """Remove the stream key, which ``stream_label: hash`` must hide everywhere; it is part of the id."""
        return anonymize(report, self.labels.label(report.id, ""))
