"""Configured sessions, and the file that may contain more of them. WAVE has no list to discover sessions from.

Each line of the file is a session: an id, or a YAML mapping with the same keys as an item of ``sessions``. Empty lines
and lines that begin with ``#`` are skipped.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import structlog
import yaml
from pydantic import ValidationError

from exporter.platforms.api import Field, FileError, Matching, StreamSettings, Text, WatchedFile, read_file_within

log = structlog.get_logger()

MAX_BYTES = 4 * 2**20
BAD_LINES_SHOWN = 5

Identifier = Annotated[Text, Matching(r"\S{1,256}", "an id: 1 to 256 characters without spaces")]


class WaveSession(StreamSettings):
    """A session to watch."""

    id: Identifier = Field(description="The session's id.")


class SessionsFileError(ValueError):
    """The file or some of its lines are invalid; the message has one line per error."""


class SessionsFile:
    """Sessions of one file, which is reloaded when it changes. If it is invalid, the last valid sessions are kept."""

    def __init__(self, path: Path, upstream: str) -> None:
        self._path = path
        self._upstream = upstream
        self._file = WatchedFile(path, MAX_BYTES)
        self._fault = ""
        self._sessions: tuple[WaveSession, ...] | None = None

    def sessions(self) -> tuple[WaveSession, ...]:
        """Return the last valid sessions. Raises ``SessionsFileError`` if there are none.

        The first call reads the file and blocks.
        """
        if self._sessions is None:
            self._sessions = read_sessions(self._path)
        return self._sessions

    async def refresh(self) -> None:
        """Reload the file if it has changed. Raises ``SessionsFileError`` if it was never valid."""
        try:
            file = await self._file.read_if_changed()
            if file is None:
                return
            # parsing a file of the maximum size takes seconds
            self._sessions = await asyncio.to_thread(_parse_sessions, self._path, file.content)
            self._fault = ""
        except FileError as error:
            self._note_fault(f"{self._path}: {error.strerror}")
        except SessionsFileError as error:
            self._note_fault(str(error))
        if self._sessions is None:
            raise SessionsFileError(self._fault)

    def _note_fault(self, fault: str) -> None:
        """Log an error once."""
        if fault != self._fault:
            self._fault = fault
            log.error(
                "sessions file not read", upstream=self._upstream, error=fault, sessions=len(self._sessions or ())
            )


def read_sessions(path: Path) -> tuple[WaveSession, ...]:
    """Return the sessions of a file. Raises ``SessionsFileError``."""
    try:
        content = read_file_within(path, MAX_BYTES).content
    except FileError as error:
        raise SessionsFileError(f"{path}: {error.strerror}") from None
    return _parse_sessions(path, content)


def _parse_sessions(path: Path, data: bytes) -> tuple[WaveSession, ...]:
    """Parse the content of a file. Raises ``SessionsFileError``."""
    sessions: dict[str, WaveSession] = {}
    names: set[str] = set()
    faults: list[str] = []
    for number, line in enumerate(data.decode(errors="replace").splitlines(), start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            session = _parse_session(text)
        except SessionsFileError as fault:
            faults.append(f"{path}:{number}: {fault}")
            continue
        name = session.name.strip() if session.name else None
        if session.id in sessions or name in names:
            faults.append(f"{path}:{number}: another session has the same id or name (ignoring surrounding spaces)")
        sessions[session.id] = session
        names |= set() if name is None else {name}
    if faults:
        left = [f"and {len(faults) - BAD_LINES_SHOWN} more lines"] if len(faults) > BAD_LINES_SHOWN else []
        raise SessionsFileError("\n".join(faults[:BAD_LINES_SHOWN] + left))
    return tuple(sessions.values())


def _parse_session(text: str) -> WaveSession:
    try:
        return WaveSession.model_validate(_decode_line(text))
    except ValidationError as error:
        raise SessionsFileError(
            "; ".join(map(_describe_error, error.errors(include_url=False, include_input=False)))
        ) from None


def _decode_line(text: str) -> Any:
    if not text.startswith("{"):
        return {"id": text}
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise SessionsFileError("not a valid YAML mapping") from None


def _describe_error(error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"] if isinstance(part, int) or part.isprintable())
    return f"{place}: {error['msg']}"
