"""Request sessions: ``GET /stream/{id}/sessions`` for a stream, ``GET /session/{id}`` for a single session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from exporter.platforms.api import (
    DropCounter,
    ManualRequest,
    Reason,
    Record,
    Requests,
    RowReader,
    SessionAction,
    SessionCommand,
    SessionCommands,
    ShardFilter,
    StreamSettings,
    UpstreamError,
    require_list,
)
from exporter.platforms.livepeer.stream_objects import ParsedObject, Reader, parse_session

SESSIONS = "GET /stream/{id}/sessions"
SESSION = "GET /session/{id}"
STREAM = "GET /stream/{id}"
MAX_SESSIONS = "10"
"""Maximum number of sessions in a response. The last seen come first, so the newest live one is among them."""


class SessionResults(msgspec.Struct, frozen=True):
    """The sessions that were found and the requests that failed, by stream id."""

    sessions: Mapping[str, list[ParsedObject]]
    """The list is empty for a stream that has no session or does not exist."""
    errors: Mapping[str, UpstreamError]


class SessionRequests:
    """Requests the sessions of all configured streams and sessions. Keeps the stream ids of single sessions."""

    def __init__(
        self,
        streams: Sequence[StreamSettings],
        sessions: Sequence[StreamSettings],
        record: bool | None,
        shard_filter: ShardFilter,
    ) -> None:
        """``record``: request only sessions of a stream with recording (or without); None for all."""
        self._streams = streams
        self._sessions = sessions
        self._session_ids = frozenset(session.id for session in sessions)
        self._params = {"limit": MAX_SESSIONS}
        if record is not None:
            self._params["record"] = "1" if record else "0"
        self._shard_filter = shard_filter
        self._stream_ids: dict[str, str] = {}
        """Stream id by id of a single session."""

    def configured_streams(self) -> tuple[StreamSettings, ...]:
        """Return the settings with the ids that reports have: for a session, its stream's id once that is known.

        The settings of a configured stream take precedence over those of its sessions, and earlier sessions over later
        ones.
        """
        configured = {stream.id: stream for stream in self._streams}
        for session in self._sessions:
            stream_id = self._stream_id(session)
            configured.setdefault(stream_id, session.model_copy(update={"id": stream_id}))
        return tuple(configured.values())

    def owned_streams(self) -> list[StreamSettings]:
        """Return the streams and sessions that this shard requests; all shards do until a session's stream is known."""
        owns = self._shard_filter.owns
        streams = (stream for stream in self._streams if owns(stream.id))
        sessions = (s for s in self._sessions if s.id not in self._stream_ids or owns(self._stream_ids[s.id]))
        return [*streams, *sessions]

    async def fetch(self, requests: Requests, reader: Reader, drops: DropCounter) -> SessionResults:
        """Request each stream and session on its own, so that a failure affects only one."""

        async def fetch_item(item: StreamSettings) -> list[ParsedObject]:
            try:
                if item.id in self._session_ids:
                    return [await self._fetch_session(requests, item.id, reader, drops)]
                return await self._fetch_sessions(requests, item.id, reader, drops)
            except UpstreamError as error:
                if error.means_absent:
                    return []
                raise

        sessions: dict[str, list[ParsedObject]] = {}
        errors: dict[str, UpstreamError] = {}
        for item, outcome in await requests.map(fetch_item, self.owned_streams()):
            stream_id = self._stream_id(item)
            if isinstance(outcome, UpstreamError):
                errors[stream_id] = outcome
            else:
                sessions.setdefault(stream_id, []).extend(outcome)
        for stream in self._streams:
            if stream.id in errors:
                # a single session that was found may not be the newest session of the stream
                sessions.pop(stream.id, None)
        return SessionResults(sessions, errors)

    def _stream_id(self, item: StreamSettings) -> str:
        return self._stream_ids.get(item.id, item.id)

    async def _fetch_sessions(
        self, requests: Requests, stream_id: str, reader: Reader, drops: DropCounter
    ) -> list[ParsedObject]:
        """Return the readable sessions of a stream. Raises ``UpstreamError`` if none of its sessions is readable, or if
        an unreadable one could be the live one.
        """
        response = await requests.get(SESSIONS, id=stream_id, params=self._params)
        rows: RowReader[ParsedObject] = RowReader(SESSIONS, drops, "sessions")
        for row in require_list(response.data, SESSIONS):
            record = rows.record(row)
            if record is not None:
                rows.add(parse_session(record, reader, stream=stream_id))
        rows.facts()
        if rows.unreadable_rows and not any(session.sign.is_alive for session in rows.found):
            raise UpstreamError(Reason.BAD_RESPONSE, f"{SESSIONS}: a session is unreadable and no other one is live")
        return rows.found

    async def _fetch_session(
        self, requests: Requests, session_id: str, reader: Reader, drops: DropCounter
    ) -> ParsedObject:
        response = await requests.get(SESSION, id=session_id)
        record = Record.from_response(response.data, drops)
        session = parse_session(record, reader, stream=self._stream_ids.get(session_id, ""))
        if session is None or session.report.session != session_id:
            raise UpstreamError(Reason.BAD_RESPONSE, f"{SESSION}: the response is not about the requested session")
        if session.report.id != session_id:
            self._stream_ids[session_id] = session.report.id
        return session


def _make_show_requests(session_or_stream_id: str, _options: Mapping[str, Any]) -> tuple[ManualRequest, ...]:
    path = {"id": session_or_stream_id}
    return ManualRequest(SESSION, path), ManualRequest(STREAM, path)


SESSION_COMMANDS = SessionCommands(
    {SessionAction.SHOW: SessionCommand(_make_show_requests)}, id_help="a session id or a stream id"
)
