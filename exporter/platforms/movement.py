"""What the totals of an upstream's streams prove from poll to poll: movement outranks flags, words and rates.

``Platform.poll`` calls this for every platform that names its totals in ``Platform.rates``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from exporter.model import Status, StreamReport
from exporter.platforms.rates import LONGEST_STALL_SECONDS, ByteTotal, Rate

INGEST_TOTAL = "ingest_bytes"
MOVES_UNTIL_UNKNOWN = 2
"""Polls in which the ingest total of a stream rises, although the platform reports it as off air, until its state is
unknown."""
MOVES_UNTIL_LIVE, SECONDS_UNTIL_LIVE = 3, 90.0
"""Such polls, and the seconds that they span at least, until the stream counts as live."""
FROZEN_STREAMS = 3
"""Number of live streams from which on their totals can show that the platform's statistics are frozen."""
POLLS_REMEMBERED = 3
"""Polls without a report of a stream after which what is known of its totals is forgotten."""


class _Stream(msgspec.Struct, gc=False):
    """What is remembered of one stream."""

    session: str
    totals: list[ByteTotal]
    """One for each rate."""
    start: float | None = None
    last_ingest: float | None = None
    """The last ingest total, whether the stream was live or not."""
    last_seen: float | None = None
    """The last heartbeat, on the platform's clock."""
    is_off_air: bool = False
    """Whether the platform reported the stream as off air in the last poll."""
    moves: int = 0
    """Scheduled polls with a sign of life since the platform ceased to report the stream as live."""
    rises: int = 0
    """Those of them in which the ingest total rose."""
    first_rise_at: float = 0.0
    last_move_at: float = 0.0
    poll: int = 0
    """Number of the last poll that reported the stream."""


class MovementBook:
    """The totals of one upstream's streams. Times are seconds on the steady clock."""

    def __init__(self, rates: Sequence[Rate], interval: float) -> None:
        """``interval``: seconds between polls, as configured."""
        self._rates = rates
        self._interval = interval
        self._streams: dict[str, _Stream] = {}
        self._poll = 0

    def start_poll(self) -> None:
        """Start a poll, and forget streams that the last few did not report."""
        self._poll += 1
        if self._poll % POLLS_REMEMBERED == 0:
            oldest = self._poll - POLLS_REMEMBERED
            self._streams = {id_: stream for id_, stream in self._streams.items() if stream.poll >= oldest}

    def keep(self, stream_id: str) -> None:
        """Keep what is known of a stream that this poll could not report."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.poll = self._poll

    def judge(self, report: StreamReport, now: float, *, is_scheduled: bool) -> StreamReport:
        """Return the report with the status and the rates that its totals bear out."""
        stream = self._streams.get(report.id)
        if stream is None:
            stream = self._streams[report.id] = _Stream(report.session, self._new_totals())
        elif report.session != stream.session and report.live is not False:
            # the totals of one session are not those of the next
            stream.session, stream.totals, stream.last_ingest = report.session, self._new_totals(), None
        stream.poll, stream.start = self._poll, report.start_timestamp_seconds
        if report.live:
            stream.moves = stream.rises = 0
            stream.is_off_air = False
            stream.last_ingest, stream.last_seen = report.ingest_bytes, report.last_seen_timestamp_seconds
        else:
            report = self._doubt(stream, report, now, is_scheduled=is_scheduled)
        return self._judge_rates(stream, report, now, is_scheduled=is_scheduled) if report.live else report

    def served_record(self, stream_id: str) -> tuple[str, float | None] | None:
        """Return the session and the start of the record that was served last; None if there was none."""
        stream = self._streams.get(stream_id)
        return None if stream is None else (stream.session, stream.start)

    def withdraw_frozen(self, reports: list[StreamReport]) -> list[StreamReport]:
        """Return the reports, without rates and scores if the platform's statistics are frozen as a whole.

        They are when the ingest totals of all live streams, three or more, last moved within one interval of each
        other and are all stalled.
        """
        moved_at = []
        for report in reports:
            if report.live:
                total = self._ingest_of(self._streams[report.id])
                if total is None or not total.is_stalled:
                    return reports
                moved_at.append(total.moved_at)
        if len(moved_at) < FROZEN_STREAMS or max(moved_at) - min(moved_at) > self._interval:
            return reports
        # no score may be made from what else the platform reports: it stands still too
        withdrawn: dict[str, Any] = {"health_unreadable": True, **{rate.rate: None for rate in self._rates}}
        return [msgspec.structs.replace(report, **withdrawn) if report.live else report for report in reports]

    def _new_totals(self) -> list[ByteTotal]:
        return [
            ByteTotal(
                window_seconds=self._interval / 2 if rate.window_seconds is None else rate.window_seconds,
                stall_seconds=rate.stall_seconds,
            )
            for rate in self._rates
        ]

    def _ingest_of(self, stream: _Stream) -> ByteTotal | None:
        for rate, total in zip(self._rates, stream.totals, strict=True):
            if rate.total == INGEST_TOTAL and stream.last_ingest is not None:
                return total
        return None

    def _doubt(self, stream: _Stream, report: StreamReport, now: float, *, is_scheduled: bool) -> StreamReport:
        """Return the report of a stream that the platform does not report as live, as far as it stands still.

        A rise proves that media arrives. A heartbeat alone proves only that something is wrong with the flag.
        """
        self._count_moves(stream, report, now, is_scheduled=is_scheduled)
        is_proven = (
            stream.rises >= MOVES_UNTIL_LIVE and stream.last_move_at - stream.first_rise_at >= SECONDS_UNTIL_LIVE
        )
        if is_proven or (report.live is None and stream.rises):
            return msgspec.structs.replace(report, status=Status.LIVE, live=True)
        if report.live is False and stream.moves >= MOVES_UNTIL_UNKNOWN:
            return msgspec.structs.replace(report, status=Status.UNKNOWN, live=None)
        return report

    @staticmethod
    def _count_moves(stream: _Stream, report: StreamReport, now: float, *, is_scheduled: bool) -> None:
        has_risen = _is_higher(report.ingest_bytes, stream.last_ingest)
        has_moved = has_risen or _is_higher(report.last_seen_timestamp_seconds, stream.last_seen)
        is_new = report.live is False and not stream.is_off_air
        if is_new:
            # what moved before the platform reported it as off air is no objection
            stream.moves = stream.rises = 0
        elif not is_scheduled:
            return
        elif has_moved:
            stream.moves += 1
            stream.last_move_at = now
            if has_risen:
                stream.first_rise_at = stream.first_rise_at if stream.rises else now
                stream.rises += 1
        elif now - stream.last_move_at >= LONGEST_STALL_SECONDS:
            stream.moves = stream.rises = 0
        stream.is_off_air = report.live is False
        stream.last_ingest, stream.last_seen = report.ingest_bytes, report.last_seen_timestamp_seconds

    def _judge_rates(self, stream: _Stream, report: StreamReport, now: float, *, is_scheduled: bool) -> StreamReport:
        """Return a live stream's report with rates that agree with their totals.

        A platform that reports an ingest rate of 0 while the total moves has restarted its own measurement: its other
        rates, which have no total, are dropped. A reported 0 before there is a derived rate is no stall either.
        """
        changes: dict[str, float | None] = {}
        for rate, byte_total in zip(self._rates, stream.totals, strict=True):
            total, reported = getattr(report, rate.total), getattr(report, rate.rate)
            if total is not None:
                byte_total.update(total, now, is_scheduled=is_scheduled)
            if rate.is_derived:
                derived = None if total is None else byte_total.rate
                served = (reported or None) if derived is None else derived
            else:
                served = 0.0 if total is not None and byte_total.is_stalled and reported is not None else reported
            if served != reported:
                changes[rate.rate] = served
        has_restarted = changes.get(_INGEST) and not report.ingest_bitrate_bytes_per_second
        if has_restarted and report.egress_bitrate_bytes_per_second is not None:
            changes.setdefault(_EGRESS, None)
        ingest = self._ingest_of(stream)
        if ingest is not None and ingest.is_stalled and report.health_score_ratio is not None:
            # the platform's own score is made from figures that stand still
            return msgspec.structs.replace(report, health_score_ratio=None, **changes)
        return msgspec.structs.replace(report, **changes) if changes else report


def _is_higher(value: float | None, before: float | None) -> bool:
    return value is not None and before is not None and value > before


_INGEST, _EGRESS = "ingest_bitrate_bytes_per_second", "egress_bitrate_bytes_per_second"
