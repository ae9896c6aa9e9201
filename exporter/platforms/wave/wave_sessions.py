"""Parse WAVE's sessions to reports, and define the commands for sessions.

Source: WAVE API reference, Streaming, "Get session details", "Update session settings" and "End and delete session". A
live session can't be deleted; it must be ended first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from exporter.platforms.api import (
    CommandOption,
    DropCounter,
    InvalidCommandError,
    ManualRequest,
    Rate,
    Reason,
    Record,
    Requests,
    SessionAction,
    SessionCommand,
    SessionCommands,
    Status,
    StreamReport,
    UpstreamError,
    meanings,
    slim_report,
)
from exporter.platforms.wave.measurements import read_measurements

SESSION = "GET /streaming/sessions/{id}"
_STATUSES = meanings({"idle": Status.IDLE, "live": Status.LIVE, "paused": Status.PAUSED, "ended": Status.ENDED})
RATES = (
    Rate("ingest_bytes", "ingest_bitrate_bytes_per_second"),
    Rate("egress_bytes", "egress_bitrate_bytes_per_second"),
)
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
"""Fields of ``StreamReport`` that the platform can fill, and ``analytics``."""
Report = slim_report(FEEDS)
HEALTH_FACTS = frozenset({"ingest_bitrate_bytes_per_second", "ingest_bytes", "packet_loss_ratio", "frames_per_second"})
_LASTING = frozenset(
    {"dropped_frames", "frames", "ingest_bytes", "egress_bytes", "video_codec", "audio_codec", "resolution",
     "target_latency_seconds", "max_bitrate_bytes_per_second"}
)  # fmt: skip
"""Fields that stay valid after the media has stopped; WAVE keeps a session's last measurements forever."""


async def fetch_session(requests: Requests, session_id: str, drops: DropCounter, *, numbers: bool) -> StreamReport:
    """Request a session; if WAVE responds with 404, it is idle. Raises ``UpstreamError`` for an unusable response."""
    try:
        response = await requests.get(SESSION, id=session_id)
    except UpstreamError as error:
        if error.means_absent:
            return Report(id=session_id, session=session_id, kind="session", status=Status.IDLE, live=False)
        raise
    return read_session(Record.from_response(response.data, drops), session_id, drops, numbers=numbers)


def read_session(record: Record, session_id: str, drops: DropCounter, *, numbers: bool) -> StreamReport:
    """Return the report of a session object. ``numbers``: whether to include numbers without a known meaning."""
    if record.text("sessionId") not in ("", session_id):
        raise UpstreamError(Reason.BAD_RESPONSE, f"{SESSION}: the response is about another session")
    if not any(name in record for name in ("sessionId", "status")):
        raise UpstreamError(Reason.BAD_RESPONSE, f"{SESSION}: the response is not a session")
    status = record.meaning("status", _STATUSES) or Status.UNKNOWN
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
        end_timestamp_seconds=_end_time(record, start, status),
        viewers=record.count("viewers"),
        viewers_peak=record.count("peakViewers"),
    )
    measurements = read_measurements(record, drops)
    facts = {field: value for field, value in measurements.facts.items() if live is not False or field in _LASTING}
    shown = measurements.numbers if numbers and live is not False else ()
    unreadable = bool(measurements.unreadable & HEALTH_FACTS) or record.has_unreadable("metrics", "connection")
    return msgspec.structs.replace(report, platform_metrics=shown, health_unreadable=unreadable, **facts)


def _end_time(record: Record, start: float | None, status: Status) -> float | None:
    """Return the reported end time; if an ended session has none, its start time plus its duration."""
    end, duration = record.time_iso("endedAt"), record.number("duration", low=0.0)
    if end is None and status is Status.ENDED and start is not None and duration is not None:
        return start + duration
    return end


# -- commands ----------------------------------------------------------------------------------------------------------

UPDATE = "PATCH /streaming/sessions/{id}"
DELETE = "DELETE /streaming/sessions/{id}"
_OPTIONS = (
    CommandOption("--status", "new status", choices=("idle", "live", "paused", "ended")),
    CommandOption("--metadata", "set an entry of metadata"),
    CommandOption("--quality", "set an entry of quality, such as targetLatency=200"),
    CommandOption("--custom-property", "set an entry of customProperties"),
)


def update_session(
    session_id: str,
    *,
    status: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    quality: Mapping[str, Any] | None = None,
    custom_properties: Mapping[str, Any] | None = None,
) -> ManualRequest:
    """Return the request that changes only the given settings."""
    settings = {"status": status, "metadata": metadata, "quality": quality, "customProperties": custom_properties}
    return ManualRequest(UPDATE, {"id": session_id}, {name: value for name, value in settings.items() if value})


def end_session(session_id: str) -> ManualRequest:
    """Return the request that ends the broadcast and keeps the session."""
    return update_session(session_id, status="ended")


def delete_session(session_id: str) -> ManualRequest:
    """Return the request that deletes a session that is not live."""
    return ManualRequest(
        DELETE,
        {"id": session_id},
        notice="A live session can't be deleted; end it first.",
        refusal_meaning='WAVE refused to delete the session; if it is live, end it first with "session end"',
    )


def _request_update(session_id: str, options: Mapping[str, Any]) -> tuple[ManualRequest]:
    request = update_session(
        session_id,
        status=options["status"],
        metadata=options["metadata"],
        quality=options["quality"],
        custom_properties=options["custom_property"],
    )
    if not request.body:
        flags = [option.flag for option in _OPTIONS]
        raise InvalidCommandError(f"nothing to update: use {', '.join(flags[:-1])} or {flags[-1]}")
    return (request,)


SESSION_COMMANDS = SessionCommands(
    {
        SessionAction.SHOW: SessionCommand(lambda session_id, _: (ManualRequest(SESSION, {"id": session_id}),)),
        SessionAction.UPDATE: SessionCommand(_request_update, options=_OPTIONS, help="change settings (PATCH)"),
        SessionAction.END: SessionCommand(
            lambda session_id, _: (end_session(session_id),),
            help="end the broadcast and keep the session (PATCH with status ended)",
        ),
        SessionAction.DELETE: SessionCommand(
            lambda session_id, _: (delete_session(session_id),), help="delete a session that is not live (DELETE)"
        ),
    }
)
