"""Bitrates from byte totals, for platforms whose own figure keeps its last value while a stream is stalled.

Totals move in steps, so time is measured between polls that saw the total move: between steps the rate stays, and a
total that has not moved for the stall time gives the rate 0. A total that falls starts a new measurement.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

import msgspec

from exporter.model import StreamReport

STALL_POLLS = 3
"""Polls without movement after which a rate without a stall time becomes 0."""


@dataclass(frozen=True)
class DerivedRate:
    """A bitrate field of ``StreamReport`` that is derived from a byte total of the same stream.

    Times are seconds, or multiples of the upstream's interval where ``in_intervals`` is set. The defaults give a rate
    from two polls, but not from two that follow each other at once (a probe's and the schedule's), and call three polls
    without a byte a stall.
    """

    total: str
    """The field with the byte total."""
    rate: str
    """The field with the bitrate. Until there is a derived rate, the platform's own figure in this field counts."""
    window: float = 0.5
    """Time over which a rate is measured at least."""
    stall: float = 2.5
    """Time without movement after which the rate is 0."""
    in_intervals: bool = True

    def started(self, interval: float) -> ByteRate:
        """Return a new measurement for an upstream that is polled every ``interval`` seconds."""
        factor = interval if self.in_intervals else 1.0
        return ByteRate(window_seconds=self.window * factor, stall_seconds=self.stall * factor)


class ByteRate:
    """The bytes per second of one total, over at least ``window_seconds``.

    Without a window: between the last two polls that saw the total move. 0 once it has not moved for ``stall_seconds``,
    or, where none are given, for three polls. None before there is a rate.
    """

    __slots__ = ("_moved_at", "_points", "_rate", "_stall", "_still_polls", "_window")

    def __init__(self, window_seconds: float = 0.0, stall_seconds: float | None = None) -> None:
        self._window = window_seconds
        self._stall = stall_seconds
        self._points: tuple[float, ...] = ()
        """Each time and the total then, one after the other: the rate is measured from the first to the last.

        A tuple because thousands of streams have few points each, and a deque takes a kilobyte.
        """
        self._moved_at = 0.0
        self._still_polls = 0
        self._rate: float | None = None

    def update(self, total: float, at: float) -> float | None:
        """Return the rate after a poll at ``at`` (monotonic seconds) that saw ``total``. For live streams only."""
        points = self._points
        if not points or total < points[-1]:
            self._start(at, total)
            self._moved_at, self._still_polls, self._rate = at, 0, None
        elif total > points[-1]:
            if at > points[-2]:
                self._record_movement(at, total)
        else:
            self._record_standstill(at, total)
        return self._rate

    def _start(self, at: float, total: float) -> None:
        self._points = (at, total)

    def _record_movement(self, at: float, total: float) -> None:
        points = (*self._points, at, total)
        while len(points) > 4 and at - points[2] >= self._window:
            points = points[2:]
        self._points = points
        self._moved_at, self._still_polls = at, 0
        seconds = at - points[0]
        self._rate = (total - points[1]) / seconds if seconds >= self._window else None

    def _record_standstill(self, at: float, total: float) -> None:
        self._still_polls += 1
        stalled = self._still_polls >= STALL_POLLS if self._stall is None else at - self._moved_at >= self._stall
        if stalled:
            # the pause does not count towards the rate after it: that one starts at the last poll of the pause
            self._start(at, total)
            self._rate = 0.0


class RateBook:
    """The derived rates of an upstream's live streams, kept from poll to poll."""

    def __init__(self, rates: Sequence[DerivedRate], interval: float) -> None:
        self._rates = rates
        self._interval = interval
        self._sessions: dict[tuple[str, str], list[ByteRate]] = {}
        self._seen: set[tuple[str, str]] = set()

    def apply(self, report: StreamReport, now: float) -> StreamReport:
        """Return the report with its derived rates. ``now``: monotonic seconds.

        A platform that reports an ingest rate of 0 while the total moves has restarted its own measurement: its other
        rates, which have no total, are dropped. A reported 0 before there is a derived rate is no stall either.
        """
        if not report.live:
            return report
        # the totals of one session are not those of the next, nor of the stream
        session = (report.id, report.session)
        self._seen.add(session)
        measured = self._sessions.get(session)
        if measured is None:
            measured = self._sessions[session] = [rate.started(self._interval) for rate in self._rates]
        changes: dict[str, float | None] = {}
        for rate, byte_rate in zip(self._rates, measured, strict=True):
            total, reported = getattr(report, rate.total), getattr(report, rate.rate)
            derived = None if total is None else byte_rate.update(total, now)
            changes[rate.rate] = (reported or None) if derived is None else derived
        ingest = changes.get(_INGEST)
        if ingest and not report.ingest_bitrate_bytes_per_second and report.egress_bitrate_bytes_per_second is not None:
            changes.setdefault(_EGRESS, None)
        return msgspec.structs.replace(report, **changes)

    def end_poll(self, without_report: Container[str]) -> None:
        """Forget sessions that this poll did not report as live, except for streams (ids) in ``without_report``."""
        for session in [session for session in self._sessions.keys() - self._seen if session[0] not in without_report]:
            del self._sessions[session]
        self._seen.clear()


_INGEST, _EGRESS = "ingest_bitrate_bytes_per_second", "egress_bitrate_bytes_per_second"
