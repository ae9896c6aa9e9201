"""Whether a stream is live, from its sessions and the platform's list, and what that changes in its report."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from exporter.platforms.api import Status, StreamReport
from exporter.platforms.livepeer.stream_objects import NEVER, SESSION, STREAM, ParsedObject, Report


def newest_session(sessions: Iterable[ParsedObject], platform_now: float) -> ParsedObject | None:
    """Return the newest live session; where none is live, the newest."""

    def rank(session: ParsedObject) -> tuple[bool, bool, float, float]:
        fresh = session.is_fresh(platform_now)
        return fresh is True, fresh is None, session.report.start_timestamp_seconds or 0.0, session.last_seen or 0.0

    return max(sessions, key=rank, default=None)


def report_listed_stream(listed: ParsedObject, platform_now: float) -> StreamReport:
    """Return the report of a stream that is known from the list alone: live by ``isActive`` and ``lastSeen``."""
    return _set_live(listed.report, _and(listed.active, listed.is_fresh(platform_now)), listed.last_seen)


def report_watched_stream(
    stream_id: str,
    session: ParsedObject | None,
    listed: ParsedObject | None,
    active: bool | None,
    platform_now: float,
) -> StreamReport:
    """Return the report of a stream that is watched through its sessions.

    ``session``: its newest one. ``listed``: its entry in the list. ``active``: whether the list reports it as active;
    None: the list does not tell. Byte totals are the session's, never the list's, which count all sessions together.
    """
    if session is not None and session.is_fresh(platform_now) is not False:
        freshest = _more_recent(session, listed)
        live = _and(active is not False, freshest.is_fresh(platform_now))
        return _set_live(_add_description(session.report, listed), live, freshest.last_seen)
    if listed is not None and active and listed.is_fresh(platform_now) is not False:
        # the platform hides a new session until its first statistics, up to a minute after it went live
        without_totals = msgspec.structs.replace(listed, report=_without_totals(listed.report))
        return report_listed_stream(without_totals, platform_now)
    if session is not None:
        return _set_live(_add_description(session.report, listed), live=False, last_seen=session.last_seen)
    report = _add_description(Report(id=stream_id, kind=STREAM), listed)
    return _set_live(report, live=False, last_seen=listed.last_seen if listed else NEVER)


def _set_live(report: StreamReport, live: bool | None, last_seen: float | None) -> StreamReport:
    """Set whether it is live. A stream that is not has no verdict and no rates, though the platform keeps the last."""
    ended = live is False and report.kind == SESSION and last_seen != NEVER
    changes = {
        "live": live,
        "status": _status(live, report.healthy, ended=ended),
        "last_seen_timestamp_seconds": last_seen or None,
    }
    if live is False:
        changes |= {
            "end_timestamp_seconds": last_seen if ended else None,
            "healthy": None,
            "issues": None,
            "ingest_bitrate_bytes_per_second": None,
            "transcode_bitrate_bytes_per_second": None,
            "recording": None if report.recording is None else False,
        }
    return msgspec.structs.replace(report, **changes)


def _status(live: bool | None, healthy: bool | None, *, ended: bool) -> Status:
    if live is None:
        return Status.UNKNOWN
    if live:
        return Status.DEGRADED if healthy is False else Status.LIVE
    return Status.ENDED if ended else Status.IDLE


def _and(first: bool | None, second: bool | None) -> bool | None:
    """Return whether both are true; None where unknown."""
    if first is False or second is False:
        return False
    return True if first and second else None


def _more_recent(session: ParsedObject, listed: ParsedObject | None) -> ParsedObject:
    """Return the one that was seen later: the list's sign of life may be newer than the session's."""
    if listed is None or listed.last_seen is None:
        return session
    return listed if session.last_seen is None or listed.last_seen > session.last_seen else session


def _add_description(report: StreamReport, listed: ParsedObject | None) -> StreamReport:
    """Add the fields that only the stream's own object has. A session's name is that of the session."""
    if listed is None:
        return report
    return msgspec.structs.replace(
        report,
        name=listed.report.name or report.name,
        playback_id=report.playback_id or listed.report.playback_id,
        publish_allowed=listed.report.publish_allowed,
    )


def _without_totals(report: StreamReport) -> StreamReport:
    return msgspec.structs.replace(
        report,
        ingest_bytes=None,
        transcoded_bytes=None,
        source_segments=None,
        transcoded_segments=None,
        source_media_seconds=None,
        transcoded_media_seconds=None,
    )
