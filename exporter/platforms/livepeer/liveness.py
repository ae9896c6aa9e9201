"""Decide from its sessions and the platform's list whether a stream is live, and make its report."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from exporter.platforms.api import Status, StreamReport
from exporter.platforms.livepeer.stream_objects import (
    FRESH_SECONDS,
    NEVER,
    NOT_SEEN,
    SESSION,
    STREAM,
    ParsedObject,
    Report,
)


def without_doubt_about_older(sessions: Sequence[ParsedObject]) -> list[ParsedObject]:
    """Return the sessions of a stream, and mark as ended those that had ended when another one was last seen.

    Both times are on the platform's clock, so a wrong clock does no harm.
    """
    newest = max((session.last_seen or NEVER for session in sessions), default=NEVER)

    def had_ended(session: ParsedObject) -> bool:
        is_doubtful = session.sign.is_alive is None and session.last_seen is not None
        return is_doubtful and newest - (session.last_seen or NEVER) > FRESH_SECONDS

    return [msgspec.structs.replace(s, sign=NOT_SEEN) if had_ended(s) else s for s in sessions]


def latest_started(sessions: Sequence[ParsedObject]) -> list[ParsedObject]:
    """Return the sessions that started last; an abandoned session stays alive until its heartbeat is old."""
    latest = max((_start(session) for session in sessions), default=0.0)
    return [session for session in sessions if _start(session) == latest]


def _start(session: ParsedObject) -> float:
    return session.report.start_timestamp_seconds or 0.0


def report_listed_stream(listed: ParsedObject) -> StreamReport:
    """Return the report of a stream that is known only from the list; ``isActive`` and ``lastSeen`` decide."""
    return _set_live(listed.report, _and(listed.active, listed.sign.is_alive), listed)


def report_session(session: ParsedObject) -> StreamReport:
    """Return the report of a stream that is known only from this session."""
    return _set_live(session.report, session.sign.is_alive, session)


def report_watched_stream(
    stream_id: str, session: ParsedObject | None, listed: ParsedObject | None, active: bool | None
) -> StreamReport:
    """Return the report of a stream that is watched through its sessions.

    ``session``: the chosen session. ``listed``: the stream's entry in the list. ``active``: whether the list reports it
    as active; None if unknown. Byte totals are those of the session; totals in the list are sums over all sessions.
    """
    is_listed_alive = listed is not None and bool(active and listed.sign.is_alive)
    if session is not None and _may_be_current(session, is_listed_alive):
        freshest = _more_recent(session, listed)
        live = _and(active is not False, freshest.sign.is_alive)
        return _set_live(_add_description(session.report, listed), live, freshest)
    if listed is not None and active and listed.sign.is_alive is not False:
        # the platform hides a new session until its first statistics, up to a minute after the start
        return report_listed_stream(msgspec.structs.replace(listed, report=_without_totals(listed.report)))
    if session is not None:
        return _set_live(_add_description(session.report, listed), False, session)
    report = _add_description(Report(id=stream_id, kind=STREAM), listed)
    return _set_live(report, False, listed)


def _may_be_current(session: ParsedObject, is_listed_alive: bool) -> bool:
    """Return whether the session may be the one that is live now.

    A session that is old by the platform's clock is not current if the list shows that another one is live.
    """
    if session.sign.is_alive is None and session.last_seen is not None:
        return not is_listed_alive
    return session.sign.is_alive is not False


def _set_live(report: StreamReport, live: bool | None, seen: ParsedObject | None) -> StreamReport:
    """Set live, status and last heartbeat of a report."""
    last_seen = NEVER if seen is None else seen.last_seen
    ended = live is False and report.kind == SESSION and last_seen != NEVER
    changes = {
        "live": live,
        "status": _status(live, report.healthy, ended=ended),
        "last_seen_timestamp_seconds": last_seen or None,
        "last_seen_age_seconds": seen.sign.age_seconds if seen else None,
    }
    if live is False:
        changes |= {
            "end_timestamp_seconds": last_seen if ended else None,
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
    """Return the logical and of two values, where None is unknown."""
    if first is False or second is False:
        return False
    return True if first and second else None


def _more_recent(session: ParsedObject, listed: ParsedObject | None) -> ParsedObject:
    """Return the one that was seen later; the list's heartbeat may be newer than the session's."""
    if listed is None or listed.last_seen is None:
        return session
    return listed if session.last_seen is None or listed.last_seen > session.last_seen else session


def _add_description(report: StreamReport, listed: ParsedObject | None) -> StreamReport:
    """Add the fields that only the stream object has, such as the stream's name."""
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
