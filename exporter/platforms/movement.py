"""Correct status and rates by the movement of byte totals, which outranks flags, status words and reported rates.

``Platform.poll`` applies this to every platform that names its totals in ``Platform.rates``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any, cast

import msgspec

from exporter.model import Status, StreamReport
from exporter.platforms.rates import LONGEST_STALL_SECONDS, ByteTotal, MeasuredTotal, Rate

INGEST_TOTAL = "ingest_bytes"
MOVES_UNTIL_UNKNOWN = 2
"""Number of polls with a rising ingest total or heartbeat after which an off-air stream becomes unknown."""
MOVES_UNTIL_LIVE, SECONDS_UNTIL_LIVE = 3, 90.0
"""Number of polls with a rising ingest total, and the minimum time they span, after which the stream is live."""
FROZEN_STREAMS = 3
"""Minimum number of live streams needed to decide that the platform's statistics are frozen."""
POLLS_REMEMBERED = 3
"""Number of polls without a report after which a stream's totals are forgotten."""


class _LifeEvidence(msgspec.Struct, gc=False):
    """Evidence that a stream is live although the platform does not report it as live."""

    is_off_air: bool
    """Whether the platform reported the stream as off air in the last poll, rather than as unknown."""
    last_seen: float | None = None
    """The last heartbeat, on the platform's clock."""
    moves: int = 0
    """Number of polls with a rising total or heartbeat since the platform stopped reporting the stream as live."""
    rises: int = 0
    """Number of these polls in which the ingest total rose."""
    first_rise_at: float = 0.0
    last_move_at: float = 0.0


class _Stream(msgspec.Struct, gc=False):
    """State kept for one stream between polls."""

    session: str
    totals: tuple[ByteTotal, ...]
    """One per rate."""
    start: float | None = None
    last_ingest: float | None = None
    """The last ingest total, whether the stream was live or not."""
    evidence: _LifeEvidence | None = None
    """Set while the platform does not report the stream as live."""
    has_left: bool = False
    """Whether the stream was off air since its rates were measured."""
    poll: int = 0
    """Number of the last poll that reported the stream."""


class MovementTracker:
    """Tracks the totals of one upstream's streams. Times are seconds on the steady clock."""

    def __init__(self, rates: Sequence[Rate], interval: float) -> None:
        """``interval``: configured seconds between polls."""
        self._rates = rates
        self._plan = [(attrgetter(rate.total), attrgetter(rate.rate), rate.rate, rate.is_derived) for rate in rates]
        self._ingest = next((index for index, rate in enumerate(rates) if rate.total == INGEST_TOTAL), None)
        """Index of the ingest rate."""
        self._interval = interval
        self._streams: dict[str, _Stream] = {}
        self._poll = 0

    def start_poll(self) -> None:
        """Start a poll, and forget streams that the last few polls did not report."""
        self._poll += 1
        if self._poll % POLLS_REMEMBERED == 0:
            oldest = self._poll - POLLS_REMEMBERED
            self._streams = {id_: stream for id_, stream in self._streams.items() if stream.poll >= oldest}

    def forget_totals(self) -> None:
        """Start new measurements of all streams."""
        for stream in self._streams.values():
            stream.totals, stream.last_ingest = self._new_totals(), None

    def keep(self, stream_id: str) -> None:
        """Do not forget a stream that this poll could not report."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.poll = self._poll

    def judge(self, report: StreamReport, now: float, *, is_scheduled: bool) -> StreamReport:
        """Return the report with status and rates corrected by its totals."""
        stream = self._streams.get(report.id)
        if stream is None:
            stream = self._streams[report.id] = _Stream(report.session, self._new_totals())
        elif report.session != stream.session and report.live is not False:
            # each session has its own totals
            stream.session, stream.totals, stream.last_ingest = report.session, self._new_totals(), None
        stream.poll, stream.start = self._poll, report.start_timestamp_seconds
        if report.live:
            stream.evidence, stream.last_ingest = None, report.ingest_bytes
        else:
            report = self._judge_not_live(stream, report, now, is_scheduled=is_scheduled)
        return self._judge_rates(stream, report, now, is_scheduled=is_scheduled) if report.live else report

    def served_record(self, stream_id: str) -> tuple[str, float | None] | None:
        """Return session and start of the record that was served last; None if there was none."""
        stream = self._streams.get(stream_id)
        return None if stream is None else (stream.session, stream.start)

    def are_statistics_frozen(self, reports: Iterable[StreamReport]) -> bool | None:
        """Return whether all of the platform's statistics are frozen; None if that is not known.

        They are frozen if there are at least three live streams, all their ingest totals are stalled, and the totals
        last moved within one interval of each other.
        """
        if self._ingest is None:
            return None
        known = 0
        is_moving = is_undecided = False
        stalled_at = []
        for report in reports:
            if not report.live:
                continue
            total = self._ingest_of(self._streams[report.id])
            known += total is not None
            if total is None or not (total.has_moved or total.is_stalled):
                is_undecided = True
            elif total.is_stalled:
                stalled_at.append(total.moved_at)
            else:
                is_moving = True
            if is_moving and known >= FROZEN_STREAMS:
                return False
        if known < FROZEN_STREAMS:
            return None
        if stalled_at and max(stalled_at) - min(stalled_at) > self._interval:
            return False
        return None if is_undecided else True

    def _new_totals(self) -> tuple[ByteTotal, ...]:
        return tuple(
            MeasuredTotal(
                stall_seconds=rate.stall_seconds,
                window_seconds=self._interval / 2 if rate.window_seconds is None else rate.window_seconds,
            )
            if rate.is_derived
            else ByteTotal(rate.stall_seconds)
            for rate in self._rates
        )

    def _ingest_of(self, stream: _Stream) -> ByteTotal | None:
        return None if self._ingest is None or stream.last_ingest is None else stream.totals[self._ingest]

    def _judge_not_live(self, stream: _Stream, report: StreamReport, now: float, *, is_scheduled: bool) -> StreamReport:
        """Correct the status of a stream that the platform does not report as live, if its totals or heartbeat move.

        A rising ingest total proves that media arrives. A heartbeat alone proves only that the platform's flag is
        wrong.
        """
        evidence = self._count_moves(stream, report, now, is_scheduled=is_scheduled)
        spanned = evidence.last_move_at - evidence.first_rise_at
        is_proven = evidence.rises >= MOVES_UNTIL_LIVE and spanned >= SECONDS_UNTIL_LIVE
        if is_proven or (report.live is None and evidence.rises):
            return msgspec.structs.replace(report, status=Status.LIVE, live=True)
        if report.live is False and evidence.moves >= MOVES_UNTIL_UNKNOWN:
            return msgspec.structs.replace(report, status=Status.UNKNOWN, live=None)
        return report

    @staticmethod
    def _count_moves(stream: _Stream, report: StreamReport, now: float, *, is_scheduled: bool) -> _LifeEvidence:
        evidence = stream.evidence
        is_off_air = report.live is False
        is_new = evidence is None or (is_off_air and not evidence.is_off_air)
        if evidence is None or is_new:
            evidence = stream.evidence = _LifeEvidence(is_off_air)
        has_risen = _is_higher(report.ingest_bytes, stream.last_ingest)
        if is_off_air and is_new:
            # movement before the off-air report does not contradict it, and does not belong to the next publish
            stream.has_left = True
        elif not is_scheduled:
            return evidence
        elif has_risen or _is_higher(report.last_seen_timestamp_seconds, evidence.last_seen):
            evidence.moves += 1
            evidence.last_move_at = now
            if has_risen:
                evidence.first_rise_at = evidence.first_rise_at if evidence.rises else now
                evidence.rises += 1
        elif now - evidence.last_move_at >= LONGEST_STALL_SECONDS:
            evidence.moves = evidence.rises = 0
        evidence.is_off_air = is_off_air
        stream.last_ingest, evidence.last_seen = report.ingest_bytes, report.last_seen_timestamp_seconds
        return evidence

    def _judge_rates(self, stream: _Stream, report: StreamReport, now: float, *, is_scheduled: bool) -> StreamReport:
        """Return a live stream's report with rates that agree with their totals.

        If a platform reports an ingest rate of 0 while the total moves, it has restarted its own measurement, so its
        egress rate is dropped as well. A reported 0 is never served as a stall while there is no derived rate.
        """
        if stream.has_left:
            stream.has_left, stream.totals = False, self._new_totals()
        changes: dict[str, float | None] = {}
        for (read_total, read_rate, rate, is_derived), byte_total in zip(self._plan, stream.totals, strict=True):
            total, reported = read_total(report), read_rate(report)
            if total is not None:
                byte_total.update(total, now, is_scheduled=is_scheduled)
            if is_derived:
                derived = None if total is None else cast("MeasuredTotal", byte_total).rate
                served = (reported or None) if derived is None else derived
            else:
                served = 0.0 if total is not None and byte_total.is_stalled and reported is not None else reported
            if served != reported:
                changes[rate] = served
        if not changes and not self._has_stalled_score(stream, report):
            return report
        has_restarted = changes.get(_INGEST) and not report.ingest_bitrate_bytes_per_second
        if has_restarted and report.egress_bitrate_bytes_per_second is not None:
            changes.setdefault(_EGRESS, None)
        if self._has_stalled_score(stream, report):
            return msgspec.structs.replace(report, health_score_ratio=None, **changes)
        return msgspec.structs.replace(report, **changes)

    def _has_stalled_score(self, stream: _Stream, report: StreamReport) -> bool:
        """Whether the platform's own score is based on a stalled ingest total."""
        if report.health_score_ratio is None:
            return False
        ingest = self._ingest_of(stream)
        return ingest is not None and ingest.is_stalled


def without_figures(report: StreamReport) -> StreamReport:
    """Return a live stream's report without rates and score, because the platform's statistics are frozen.

    Its other health facts are just as old, so no score may be derived from them.
    """
    withdrawn: dict[str, Any] = dict.fromkeys(_FIGURES.intersection(report.__struct_fields__))
    return msgspec.structs.replace(report, health_unreadable=True, **withdrawn)


def _is_higher(value: float | None, before: float | None) -> bool:
    return value is not None and before is not None and value > before


_INGEST, _EGRESS = "ingest_bitrate_bytes_per_second", "egress_bitrate_bytes_per_second"
_FIGURES = frozenset({_INGEST, _EGRESS, "transcode_bitrate_bytes_per_second", "health_score_ratio"})
"""Fields that are withdrawn while the platform's statistics are frozen."""
