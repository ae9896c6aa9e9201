"""What is watched through sessions: ``GET /stream/{id}/sessions`` of a stream, ``GET /session/{id}`` of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from exporter.config.upstream import StreamSettings
from exporter.http.client import Requests
from exporter.http.errors import UpstreamError
from exporter.http.manual_request import ManualRequest
from exporter.model import Reason
from exporter.platforms.capabilities import SessionAction, SessionCommand, SessionCommands
from exporter.platforms.livepeer.livepeer_settings import LivepeerSession, LivepeerSettings, LivepeerStream
from exporter.platforms.livepeer.stream_objects import Reading, read_session
from exporter.platforms.parsing import DropCounter, Record
from exporter.sharding import ALL_STREAMS, ShardFilter

SESSIONS = "GET /stream/{id}/sessions"
SESSION = "GET /session/{id}"
STREAM = "GET /stream/{id}"
NEWEST = "10"
"""How many sessions to ask for. They come last seen first, so the newest live one is among the first few."""


class WatchedStreams(msgspec.Struct, frozen=True):
    """The sessions that were found, by the id of their stream, and the requests that failed."""

    answered: Mapping[str, list[Reading]]
    """A stream that has no session, or is not there at all, has an empty list."""
    errors: Mapping[str, UpstreamError]


class SessionReader:
    """Asks for the sessions of everything that is configured. It remembers the parents of single sessions."""

    def __init__(self, settings: LivepeerSettings, shard_filter: ShardFilter = ALL_STREAMS) -> None:
        self._settings = settings
        self._shard_filter = shard_filter
        self._parents: dict[str, str] = {}

    def configured_streams(self) -> tuple[StreamSettings, ...]:
        """What is configured, under the ids that reports carry: a session under its stream, once that is known.

        A stream that is configured itself goes before its sessions, the first session before the next.
        """
        configured: dict[str, StreamSettings] = {stream.id: stream for stream in self._settings.streams}
        for session in self._settings.sessions:
            stream_id = self._parents.get(session.id, session.id)
            configured.setdefault(stream_id, session.model_copy(update={"id": stream_id}))
        return tuple(configured.values())

    def items(self) -> list[LivepeerStream | LivepeerSession]:
        """What is to be asked for here. The stream of a single session decides; until it is known, all shards ask."""
        owns = self._shard_filter.owns
        streams = (stream for stream in self._settings.streams if owns(stream.id))
        sessions = (s for s in self._settings.sessions if s.id not in self._parents or owns(self._parents[s.id]))
        return [*streams, *sessions]

    async def ask(self, requests: Requests, drops: DropCounter) -> WatchedStreams:
        """Ask for all of it, each on its own: what fails fails alone."""

        async def found(item: LivepeerStream | LivepeerSession) -> list[Reading]:
            try:
                if isinstance(item, LivepeerSession):
                    return [await self._session(requests, item.id, drops)]
                return await self._sessions(requests, item.id, drops)
            except UpstreamError as error:
                if error.reason is Reason.NOT_FOUND:
                    return []
                raise

        answered: dict[str, list[Reading]] = {}
        errors: dict[str, UpstreamError] = {}
        for item, outcome in await requests.map(found, self.items()):
            stream_id = self._parents.get(item.id, item.id) if isinstance(item, LivepeerSession) else item.id
            if isinstance(outcome, UpstreamError):
                errors[stream_id] = outcome
            else:
                answered.setdefault(stream_id, []).extend(outcome)
        for stream in self._settings.streams:
            if stream.id in errors:
                # a single session of it that did answer need not be its newest
                answered.pop(stream.id, None)
        return WatchedStreams(answered, errors)

    async def _sessions(self, requests: Requests, stream_id: str, drops: DropCounter) -> list[Reading]:
        params = {"limit": NEWEST}
        if self._settings.record is not None:
            params["record"] = "1" if self._settings.record else "0"
        answer = await requests.get(SESSIONS, id=stream_id, params=params)
        if not isinstance(answer.data, list):
            raise UpstreamError(Reason.BAD_RESPONSE, f"{SESSIONS}: not a list")
        rows = [row for row in answer.data if isinstance(row, dict)]
        for _ in range(len(answer.data) - len(rows)):
            drops.drop("sessions")
        return [read_session(Record(row, drops), stream=stream_id) for row in rows]

    async def _session(self, requests: Requests, session_id: str, drops: DropCounter) -> Reading:
        answer = await requests.get(SESSION, id=session_id)
        record = Record.from_response(answer.data, drops)
        reading = read_session(record, stream=self._parents.get(session_id, ""), session=session_id)
        if reading.report.id != session_id:
            self._parents[session_id] = reading.report.id
        return reading


def _show(session_or_stream_id: str, _options: Mapping[str, Any]) -> tuple[ManualRequest, ...]:
    path = {"id": session_or_stream_id}
    return ManualRequest(SESSION, path), ManualRequest(STREAM, path)


SESSION_COMMANDS = SessionCommands({SessionAction.SHOW: SessionCommand(_show)}, id_help="a session's or a stream's")
