"""What becomes of an upstream's streams over time: first seen, restarted, gone, unknown, forgotten.

The tracker holds the memory, the snapshots of the platform come in, and the states that are served come out. It does no
I/O and takes the time from its caller.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from exporter.config.upstream import StreamSettings, UpstreamSettings
from exporter.model import NO_REPORT, Identity, Listing, PollResult, Status, StreamReport, StreamState
from exporter.polling.anonymize import anonymized
from exporter.polling.expected_hours import ExpectedHours
from exporter.polling.health import judge
from exporter.polling.stream_labels import LabelBook
from exporter.sharding import ALL_STREAMS, ShardFilter

STREAMS_PER_STEP = 100
"""How many streams are worked on before the event loop gets a turn (well below a millisecond's work)."""
START_TOLERANCE_SECONDS = 1.0
"""Start times of one publish may differ by rounding; those of two do not come this close."""
ABSENT_POLLS_OF_A_PAGED_LIST = 2
_ENDED = Status.ENDED  # to look a member up takes longer than all else that is asked of most reports
WANTED_KEPT = 1000
"""So many answers about streams that are no more may be remembered, besides twice those that are."""


class Tracked(msgspec.Struct, gc=False):
    """The memory of one stream. The collector, which a hundred thousand of them would keep busy, need not know it."""

    identity: Identity
    settings: StreamSettings | None
    expectation: ExpectedHours | None
    report: StreamReport = NO_REPORT
    reported_at: float | None = None
    session: str = ""
    started: float | None = None
    """The start of the last publish, by the platform; with ``session`` it tells one publish from the next."""
    began_at: float | None = None
    """When the last publish was first seen here; None: never live."""
    restarts: int | None = None
    absent_polls: int = 0
    departed_at: float | None = None
    hidden: bool = False
    """Unknown for longer than ``stale_after``: nothing of it is served, but it is remembered."""
    state: StreamState | None = None


class Tracker:
    """The streams of one upstream."""

    def __init__(
        self,
        settings: UpstreamSettings,
        started_at: float,
        *,
        hash_key: str | None = None,
        labels_of: LabelBook | None = None,
        shard_filter: ShardFilter = ALL_STREAMS,
    ) -> None:
        """``started_at``: unix seconds of the exporter's own start; ``labels_of``: a book whose labels go before.

        ``shard_filter``: the streams that are served here, whatever a result brings.
        """
        self._settings = settings
        self._started_at = started_at
        self._hashing = settings.stream_label == "hash"
        self._stale_after = settings.stale_after
        self._shard_filter = shard_filter
        self._streams: tuple[StreamSettings, ...] = ()
        self._configured: dict[str, StreamSettings] = {}
        self.labels = LabelBook(settings.name, settings.stream_label, hash_key, labels_of.known if labels_of else None)
        self._tracked: dict[str, Tracked] = {}
        self._fresh: list[str] = []
        self._wanted: dict[tuple[str, str], bool] = {}
        self.dropped = 0
        """Streams left out by ``max_streams`` in the last poll."""
        self.next_change = math.inf
        """Unix seconds at which a state changes by itself (stale, forgotten, expected): call ``refresh`` then."""
        self.configure(settings.configured_streams())

    def configure(self, streams: tuple[StreamSettings, ...]) -> None:
        """The streams that are configured now; called with the same ones again it does nothing."""
        if streams == self._streams:
            return
        self._streams = streams
        self._configured = {stream.id: stream for stream in streams if self._shard_filter.owns(stream.id)}
        self.labels.configure({stream.id: stream.name for stream in self._configured.values() if stream.name})
        for stream_id, tracked in self._tracked.items():
            tracked.settings = self._configured.get(stream_id)
            tracked.expectation = self._expectation(tracked.settings)
            tracked.identity = self._identity(stream_id, tracked.report.name)

    def set_interval(self, effective_interval: float) -> None:
        """A lengthened interval lengthens what counts as stale."""
        stretched = effective_interval > self._settings.interval
        self._stale_after = max(self._settings.stale_after, 3 * effective_interval if stretched else 0.0)

    def states(self) -> tuple[StreamState, ...]:
        """What is to be served, in a stable order."""
        return tuple(t.state for t in self._tracked.values() if t.state is not None)

    def label(self, stream_id: str) -> str:
        """The label of a stream that is known here, for the log; ``?`` for others, whose id may be a secret."""
        tracked = self._tracked.get(stream_id)
        return tracked.identity.stream if tracked else "?"

    def refresh(self, now: float) -> Iterator[None]:
        """Age the states without news; a generator, to be exhausted, that yields between steps."""
        self._admit_configured()
        yield from self._restate(now, now)

    def apply(self, result: PollResult, now: float, clock_skew: float = 0.0) -> Iterator[None]:
        """Take a poll's news in; a generator, to be exhausted, that yields between steps.

        ``clock_skew``: the platform's clock minus ours, in seconds.
        """
        self._admit_configured()
        reports = {report.id: report for report in self._kept(result.streams)}
        self._fresh = list(reports)
        for index, (stream_id, report) in enumerate(reports.items()):
            self._take(stream_id, report, now)
            if index % STREAMS_PER_STEP == STREAMS_PER_STEP - 1:
                yield
        if len(self._tracked) > len(reports):
            self._miss_others(reports, result, now)
        self._make_room()
        if len(self._tracked) >= STREAMS_PER_STEP:
            yield
        yield from self._restate(now, now + clock_skew)

    def fresh(self) -> Iterator[StreamState]:
        """The states of the streams that the last poll spoke of: those it brought, and the expected ones it missed."""
        for stream_id in self._fresh:
            tracked = self._tracked.get(stream_id)
            if tracked is not None and tracked.state is not None:
                yield tracked.state

    # -- who is in -----------------------------------------------------------------------------------------------

    def _kept(self, reports: Sequence[StreamReport]) -> list[StreamReport]:
        """Return the reports that include, exclude and ``max_streams`` let through."""
        if len(self._wanted) > 2 * len(reports) + WANTED_KEPT:
            self._wanted.clear()
        wanted = list(reports)
        if self._settings.include or self._settings.exclude:
            wanted = [report for report in wanted if report.id in self._configured or self._is_wanted(report)]
        excess = len(wanted) - self._settings.max_streams
        self.dropped = max(0, excess)
        if excess <= 0:
            return wanted
        # expected ones first, then live ones, then those that are served already
        wanted.sort(key=lambda s: (s.id not in self._configured, not s.live, s.id not in self._tracked))
        return wanted[: self._settings.max_streams]

    def _is_wanted(self, report: StreamReport) -> bool:
        include, exclude = self._settings.include, self._settings.exclude
        key = (report.id, report.name)
        if key not in self._wanted:
            included = not include or any(_matches(pattern, report) for pattern in include)
            self._wanted[key] = included and not any(_matches(pattern, report) for pattern in exclude)
        return self._wanted[key]

    def _admit_configured(self) -> None:
        for stream_id, settings in self._configured.items():
            if stream_id not in self._tracked and settings.expected is not None:
                self._admit(stream_id, "")

    def _admit(self, stream_id: str, name: str) -> Tracked:
        settings = self._configured.get(stream_id)
        tracked = Tracked(self._identity(stream_id, name), settings, self._expectation(settings))
        self._tracked[stream_id] = tracked
        return tracked

    def _identity(self, stream_id: str, name: str) -> Identity:
        label = self.labels.label(stream_id, name)
        return Identity(platform=self._settings.platform, upstream=self._settings.name, stream=label)

    def _expectation(self, settings: StreamSettings | None) -> ExpectedHours | None:
        if settings is None or settings.expected is None:
            return None
        return ExpectedHours(settings, self._started_at)

    def _make_room(self) -> None:
        """Streams that come and go faster than ``ended_ttl`` must not grow the memory: the longest gone go first."""
        excess = len(self._tracked) - self._settings.max_streams
        if excess <= 0:
            return
        departed = [
            (t.departed_at, id_) for id_, t in self._tracked.items() if t.departed_at is not None and not t.expectation
        ]
        for _, stream_id in sorted(departed)[:excess]:
            self._forget(stream_id)

    def _forget(self, stream_id: str) -> None:
        del self._tracked[stream_id]
        self.labels.forget(stream_id)

    # -- what a report, or its absence, means ----------------------------------------------------------------------

    def _take(self, stream_id: str, report: StreamReport, now: float) -> None:
        tracked = self._tracked.get(stream_id) or self._admit(stream_id, report.name)
        if report.live and not _goes_on(tracked, report):
            self._note_publish(tracked, report, now)
        if tracked.restarts is None:
            tracked.restarts = 0
        ended = report.status is _ENDED and stream_id not in self._configured
        if not ended:
            tracked.departed_at = None
        elif tracked.departed_at is None:
            tracked.departed_at = now
        tracked.report = self._veiled(report) if self._hashing else report
        tracked.reported_at = now
        tracked.absent_polls = 0
        tracked.hidden = False

    def _note_publish(self, tracked: Tracked, report: StreamReport, now: float) -> None:
        if tracked.began_at is None:
            tracked.began_at = now
        elif self._is_new_publish(tracked, report):
            tracked.began_at = now
            tracked.restarts = (tracked.restarts or 0) + 1
        tracked.session = report.session or tracked.session
        tracked.started = report.start_timestamp_seconds or tracked.started

    @staticmethod
    def _is_new_publish(tracked: Tracked, report: StreamReport) -> bool:
        comparable = False
        if report.session and tracked.session:
            comparable = True
            if report.session != tracked.session:
                return True
        if report.start_timestamp_seconds is not None and tracked.started is not None:
            comparable = True
            if abs(report.start_timestamp_seconds - tracked.started) > START_TOLERANCE_SECONDS:
                return True
        return not comparable and tracked.report.live is False

    def _miss_others(self, reports: Mapping[str, StreamReport], result: PollResult, now: float) -> None:
        for stream_id, tracked in self._tracked.items():
            if stream_id not in reports and stream_id not in result.failures and stream_id not in result.postponed:
                self._miss(tracked, stream_id, result.listing, now)
                if tracked.reported_at == now and tracked.expectation is not None:
                    self._fresh.append(stream_id)

    def _miss(self, tracked: Tracked, stream_id: str, listing: Listing, now: float) -> None:
        """A successful poll did not speak of this stream."""
        is_configured = stream_id in self._configured
        if listing is Listing.DIRECT or (tracked.report is NO_REPORT and not is_configured):
            # nobody asks for it any more; a session that turned out to be known by its stream was never seen itself
            if not is_configured and tracked.departed_at is None:
                tracked.departed_at = -math.inf
            return
        tracked.absent_polls += 1
        if listing is Listing.PAGED and tracked.absent_polls < ABSENT_POLLS_OF_A_PAGED_LIST:
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

    # -- what is served --------------------------------------------------------------------------------------------

    def _restate(self, now: float, platform_now: float) -> Iterator[None]:
        gone = []
        oldest = changes_at = math.inf
        for index, (stream_id, tracked) in enumerate(self._tracked.items()):
            if tracked.departed_at is not None and self._is_over(tracked, now):
                gone.append(stream_id)
            else:
                tracked.state = self._state(tracked, now, platform_now)
                if not tracked.hidden and tracked.reported_at is not None and tracked.reported_at < oldest:
                    oldest = tracked.reported_at
                if tracked.departed_at is not None or tracked.expectation is not None:
                    changes_at = min(changes_at, self._leaves_at(tracked))
            if index % STREAMS_PER_STEP == STREAMS_PER_STEP - 1:
                yield
        self.next_change = min(oldest + self._stale_after, changes_at)
        for stream_id in gone:
            self._forget(stream_id)

    def _is_over(self, tracked: Tracked, now: float) -> bool:
        if tracked.departed_at is None or tracked.expectation is not None:
            return False
        return now >= tracked.departed_at + self._settings.ended_ttl

    def _leaves_at(self, tracked: Tracked) -> float:
        """Unix seconds at which the state of a departed or an expected stream changes by itself."""
        if tracked.expectation is not None:
            return tracked.expectation.changes_at
        return math.inf if tracked.departed_at is None else tracked.departed_at + self._settings.ended_ttl

    def _state(self, tracked: Tracked, now: float, platform_now: float) -> StreamState | None:
        settings, expectation, reported_at = tracked.settings, tracked.expectation, tracked.reported_at
        expected = None if expectation is None else expectation.at(now)
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
            in_grace=report.health_score_ratio is None and self._in_grace(tracked, report, now),
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

    def _in_grace(self, tracked: Tracked, report: StreamReport, now: float) -> bool:
        began, grace = tracked.began_at, self._settings.health_grace
        if began is None or now >= began + grace:
            return False
        # a publish that is older than our first sight of it needs no grace
        start = report.start_timestamp_seconds
        return start is None or now < start + grace

    def _veiled(self, report: StreamReport) -> StreamReport:
        """With ``stream_label: hash`` nothing that is served may show the key that the id is, nor parts of it."""
        return anonymized(report, self.labels.label(report.id, ""))


def _goes_on(tracked: Tracked, report: StreamReport) -> bool:
    """Whether a live stream's publish is the one of the poll before, as it nearly always is."""
    return (
        tracked.began_at is not None
        and tracked.report.live is True
        and report.session == tracked.session
        and report.start_timestamp_seconds == tracked.started
    )


def _matches(pattern: str, report: StreamReport) -> bool:
    return fnmatch.fnmatchcase(report.name, pattern) or fnmatch.fnmatchcase(report.id, pattern)
