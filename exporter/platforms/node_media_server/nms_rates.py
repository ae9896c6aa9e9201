"""Bitrates: from the publishers' byte counters, because the servers' own figures can't be relied on.

Version 2 keeps its last bitrate while a publisher is stalled. Version 4 measures well, but begins anew, with 0 for up
to a second, whenever anybody stops watching.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from exporter.model import StreamReport
from exporter.platforms.byte_rate import ByteRate
from exporter.platforms.node_media_server.nms_streams import Reading

WINDOW_INTERVALS = 0.5
"""Two polls are enough for a rate, but not two that follow each other at once, as a probe's and the schedule's may."""
STALL_INTERVALS = 2.5
"""Three polls without a byte are a stall, give or take their jitter."""


class Bitrates:
    """The rates of all publishes, kept from poll to poll."""

    def __init__(self, interval: float) -> None:
        """``interval``: seconds between two polls."""
        self._window = WINDOW_INTERVALS * interval
        self._stall = STALL_INTERVALS * interval
        self._rates: dict[tuple[str, str], ByteRate] = {}

    def rated(self, readings: Collection[Reading], now: float) -> tuple[StreamReport, ...]:
        """The reports with their bitrates. ``now``: seconds of a clock that never runs backwards."""
        before, self._rates = self._rates, {}
        reports = []
        for reading in readings:
            report = reading.report
            publish = (report.id, report.session)
            if report.live and report.ingest_bytes is not None:
                rate = before.get(publish) or ByteRate(window_seconds=self._window, stall_seconds=self._stall)
                self._rates[publish] = rate
                report = _with_rates(reading, rate.update(report.ingest_bytes, now))
            reports.append(report)
        return tuple(reports)


def _with_rates(reading: Reading, measured: float | None) -> StreamReport:
    ingest, egress = measured, reading.egress_rate
    if ingest is None:
        # the first poll of a publish; 0 would be no news then, but the server's measuring that begins
        ingest = reading.ingest_rate or None
    elif ingest > 0 and not reading.ingest_rate:
        # bytes came in, and the server says none did: it has just begun anew, for both directions
        egress = None
    return msgspec.structs.replace(
        reading.report, ingest_bitrate_bytes_per_second=ingest, egress_bitrate_bytes_per_second=egress
    )
