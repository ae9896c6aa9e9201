"""The configured sessions, and the file that may contain them: WAVE has no list to discover them from.

Each line of the file is a session: a bare id, or a YAML object with the keys of an item of ``sessions``. Empty lines
and those that begin with ``#`` are skipped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import structlog
import yaml
from pydantic import ValidationError

from exporter.platforms.api import Field, Matching, StreamSettings, Text

log = structlog.get_logger()

MAX_BYTES = 4 * 2**20
BAD_LINES_SHOWN = 5

Identifier = Annotated[Text, Matching(r"\S{1,256}", "an id: 1 to 256 characters without spaces")]


class WaveSession(StreamSettings):
    """A session to watch."""

    id: Identifier = Field(description="The session's id.")


class SessionsFileError(ValueError):
    """A file, or lines of it, that can't be used; the message tells which and why, one line each."""


class SessionsFile:
    """The sessions of one file, read again when it changes. While the file is bad, the last good sessions are used."""

    def __init__(self, path: Path, upstream: str) -> None:
        self._path = path
        self._upstream = upstream
        self._version: tuple[int, ...] | None = None
        self._logged = ""
        self._sessions: tuple[WaveSession, ...] = ()

    def sessions(self) -> tuple[WaveSession, ...]:
        """Return the sessions that the file contains now."""
        try:
            status = self._path.stat()
            version = (status.st_mtime_ns, status.st_ino, status.st_size, status.st_dev)
            if version != self._version:
                # stored before reading, so that a bad file is not read again until it changes
                self._version = version
                self._sessions = read_sessions(self._path)
                self._logged = ""
        except OSError as error:
            self._log_fault(f"{self._path}: {error.strerror}")
        except SessionsFileError as error:
            self._log_fault(str(error))
        return self._sessions

    def _log_fault(self, fault: str) -> None:
        if fault != self._logged:
            self._logged = fault
            log.error("sessions file not read", upstream=self._upstream, error=fault, sessions=len(self._sessions))


def read_sessions(path: Path) -> tuple[WaveSession, ...]:
    """Return the sessions of a file. Raises ``OSError`` or ``SessionsFileError``."""
    data = path.read_bytes()
    if len(data) > MAX_BYTES:
        raise SessionsFileError(f"{path}: longer than {MAX_BYTES} bytes")
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
            faults.append(
                f"{path}:{number}: its id or name is another session's (leading and trailing blanks do not count)"
            )
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
        raise SessionsFileError("no YAML object") from None


def _describe_error(error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"] if isinstance(part, int) or part.isprintable())
    return f"{place}: {error['msg']}"
