"""Bitrates from byte totals: the platform's own rates keep their last value while a stream is stalled.

Totals move in steps of about 50 s, so a rate needs several of them; a total that stands still for longer than one and a
half is a stall. Source: the platform's published collector, which writes every 50 s at most.
"""

from __future__ import annotations

from collections.abc import Container

import msgspec

from exporter.model import StreamReport
from exporter.platforms.byte_rate import ByteRate

WINDOW_SECONDS = 120.0
STALL_SECONDS = 75.0


class _Rates:
    """The two rates of one publish."""

    __slots__ = ("ingest", "transcode")

    def __init__(self) -> None:
        self.ingest = ByteRate(window_seconds=WINDOW_SECONDS, stall_seconds=STALL_SECONDS)
        self.transcode = ByteRate(window_seconds=WINDOW_SECONDS, stall_seconds=STALL_SECONDS)

    def applied(self, report: StreamReport, now: float) -> StreamReport:
        ingest = _rate(self.ingest, report.ingest_bytes, now, report.ingest_bitrate_bytes_per_second)
        transcode = _rate(self.transcode, report.transcoded_bytes, now, report.transcode_bitrate_bytes_per_second)
        return msgspec.structs.replace(
            report, ingest_bitrate_bytes_per_second=ingest, transcode_bitrate_bytes_per_second=transcode
        )


class Bitrates:
    """The rates of all live streams, kept from poll to poll."""

    def __init__(self) -> None:
        self._rates: dict[tuple[str, str], _Rates] = {}
        self._used: set[tuple[str, str]] = set()

    def applied(self, report: StreamReport, now: float) -> StreamReport:
        """The report with its bitrates; the reported one stands until the window is filled.

        ``now``: seconds of a clock that never runs backwards.
        """
        if not report.live:
            return report
        # the totals of one session are not those of the next, nor of the stream
        publish = (report.id, report.session)
        self._used.add(publish)
        return self._rates.setdefault(publish, _Rates()).applied(report, now)

    def end_poll(self, unheard: Container[str]) -> None:
        """Forget what this poll did not see live, but for ``unheard``: the ids of streams that it has no word of."""
        gone = [publish for publish in self._rates.keys() - self._used if publish[0] not in unheard]
        for publish in gone:
            del self._rates[publish]
        self._used.clear()


def _rate(rate: ByteRate, total: float | None, now: float, reported: float | None) -> float | None:
    """A reported 0 is what a publish begins with, before its first totals are written: it is no stall."""
    derived = None if total is None else rate.update(total, now)
    return (reported or None) if derived is None else derived
