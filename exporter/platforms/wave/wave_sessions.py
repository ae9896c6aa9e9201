"""A WAVE session as a report.

Source: WAVE API reference, Streaming, "Get session details".
"""

from __future__ import annotations

import msgspec

from exporter.http.client import Requests
from exporter.http.errors import UpstreamError
from exporter.model import Reason, Status, StreamReport
from exporter.platforms.parsing import DropCounter, Record
from exporter.platforms.slim_report import slim_report
from exporter.platforms.wave.measurements import read_measurements

SESSION = "GET /streaming/sessions/{id}"
_STATUSES = {"idle": Status.IDLE, "live": Status.LIVE, "paused": Status.PAUSED, "ended": Status.ENDED}
FEEDS = frozenset(
    {
        "protocol", "session", "kind", "video_codec", "audio_codec", "resolution",
        "status", "live", "start_timestamp_seconds", "end_timestamp_seconds",
        "ingest_bitrate_bytes_per_second", "egress_bitrate_bytes_per_second", "max_bitrate_bytes_per_second",
        "ingest_bytes", "egress_bytes", "viewers", "viewers_peak",
        "latency_seconds", "target_latency_seconds", "round_trip_time_seconds", "jitter_seconds",
        "packet_loss_ratio", "frames_per_second", "width_pixels", "height_pixels", "dropped_frames", "frames",
        "ice_candidates", "ice_gathering_complete", "platform_metrics", "analytics",
    }
)  # fmt: skip
"""What the platform can fill: fields of ``StreamReport``, and what is asked for besides."""
Report = slim_report(FEEDS)
_LASTING = frozenset(
    {"dropped_frames", "frames", "ingest_bytes", "egress_bytes", "video_codec", "audio_codec", "resolution",
     "target_latency_seconds", "max_bitrate_bytes_per_second"}
)  # fmt: skip
"""What stays true of a session whose media has stopped; WAVE keeps its last measurements for ever."""


async def fetch_session(requests: Requests, session_id: str, drops: DropCounter, *, numbers: bool) -> StreamReport:
    """One session; a 404 is one that is idle. Raises ``UpstreamError`` where the answer cannot be used."""
    try:
        answer = await requests.get(SESSION, id=session_id)
    except UpstreamError as error:
        if error.reason is Reason.NOT_FOUND:
            return Report(id=session_id, session=session_id, kind="session", status=Status.IDLE, live=False)
        raise
    return read_session(Record.from_response(answer.data, drops), session_id, drops, numbers=numbers)


def read_session(record: Record, session_id: str, drops: DropCounter, *, numbers: bool) -> StreamReport:
    """A session object; with ``numbers`` also what has no documented meaning."""
    if record.text("sessionId") not in ("", session_id):
        raise UpstreamError(Reason.BAD_RESPONSE, f"{SESSION}: the answer is about another session")
    status = _STATUSES.get(record.text("status").lower(), Status.UNKNOWN)
    live = None if status is Status.UNKNOWN else status is Status.LIVE
    start = record.time_iso("startedAt")
    report = Report(
        id=session_id,
        session=session_id,
        kind="session",
        protocol=record.word("protocol"),
        status=status,
        live=live,
        start_timestamp_seconds=start,
        end_timestamp_seconds=_end(record, start, status),
        viewers=record.count("viewers"),
        viewers_peak=record.count("peakViewers"),
    )
    inside = read_measurements(record, drops)
    facts = {field: value for field, value in inside.facts.items() if live is not False or field in _LASTING}
    shown = inside.numbers if numbers and live is not False else ()
    return msgspec.structs.replace(report, platform_metrics=shown, **facts)


def _end(record: Record, start: float | None, status: Status) -> float | None:
    """When it ended: as said, else from the duration of a session that is over."""
    end, duration = record.time_iso("endedAt"), record.number("duration", low=0.0)
    if end is None and status is Status.ENDED and start is not None and duration is not None:
        return start + duration
    return end
