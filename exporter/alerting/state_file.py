"""What the sidecar remembers over a restart: one file, replaced as a whole, never half written."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import math
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec
import structlog

from exporter.alerting.evaluator import Alert, Phase
from exporter.alerting.self_metrics import SidecarMetrics
from exporter.runtime.clock import Clock
from exporter.runtime.logging import describe_exception

log = structlog.get_logger()

VERSION: Final = 1
FILE_NAME: Final = "alerts.json"
WRITE_SECONDS = 5.0
"""The shortest time between two writes, but for the last one."""
PENDING_KEPT_SECONDS = 10 * 60.0
"""After a longer absence nobody can say that a condition has held all the while: its ``for`` begins again."""


class _Document(msgspec.Struct):
    """What stands in the file. Times are unix seconds."""

    version: int
    written_at: float
    alerts: list[Alert]


class _Version(msgspec.Struct):
    version: int


class AlertStateFile:
    """The file, for as long as the sidecar uses it."""

    def __init__(
        self, path: Path, alerts: Callable[[], Iterable[Alert]], *, clock: Clock, instruments: SidecarMetrics
    ) -> None:
        """``alerts``: gives what is to be remembered at that moment."""
        self.path = path
        self._alerts = alerts
        self._clock = clock
        self._instruments = instruments
        self._changed = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._writing = threading.Lock()
        self._is_failing = False
        self._held: int | None = None
        instruments.memory_kept()

    def open(self) -> bool:
        """Take the file for this process alone; False, with a word in the log, when another one has it."""
        lock = self.path.with_name(self.path.name + ".lock")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self._tell_failure(error)
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            log.error("another process uses this file of alerts, this one remembers none", state_file=str(self.path))
            return False
        except OSError:
            # a file system without locks: then it is up to the user
            os.close(descriptor)
            return True
        self._held = descriptor
        return True

    def load(self) -> list[Alert]:
        """What was remembered; a file that can't be understood is put aside."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            log.error("alerts of before can't be read", state_file=str(self.path), error=error.strerror)
            return []
        try:
            return restored(content, self._clock.now())
        except ValueError as error:
            self._put_aside(error)
            return []

    def start(self) -> None:
        """Begin to write what changes."""
        self._writer = asyncio.create_task(self._write_forever(), name="memory of alerts")

    def changed(self) -> None:
        """Write soon."""
        self._changed.set()

    async def close(self) -> None:
        """Write a last time, and leave the file to others."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
        await self._write()
        if self._held is not None:
            os.close(self._held)
            self._held = None

    # -- writing -------------------------------------------------------------------------------------------------------

    async def _write_forever(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self._write()
            await self._clock.sleep(WRITE_SECONDS)

    async def _write(self) -> None:
        try:
            content = msgspec.json.encode(_Document(VERSION, self._clock.now(), list(self._alerts())))
            await asyncio.to_thread(self._replace, content)
        except OSError as error:
            self._tell_failure(error)
        except Exception as error:
            log.error("alerts not remembered", state_file=str(self.path), error=describe_exception(error))
            self._instruments.memory_not_written()
        else:
            if self._is_failing:
                log.info("alerts are remembered again", state_file=str(self.path))
            self._is_failing = False

    def _replace(self, content: bytes) -> None:
        """A crash at any moment leaves the old content or the new one. Raises ``OSError``."""
        temporary = self.path.with_name(f".{self.path.name}.new")
        with self._writing:
            try:
                with open(temporary, "wb", opener=_private) as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, self.path)
            except OSError:
                with contextlib.suppress(OSError):
                    temporary.unlink()
                raise
            _sync_directory(self.path.parent)

    def _put_aside(self, error: ValueError) -> None:
        broken = self.path.with_name(self.path.name + ".broken")
        with contextlib.suppress(OSError):
            os.replace(self.path, broken)
        log.error(
            "alerts of before can't be understood", state_file=str(self.path), kept_as=str(broken), error=str(error)
        )

    def _tell_failure(self, error: OSError) -> None:
        self._instruments.memory_not_written()
        if not self._is_failing:
            log.error("alerts can't be remembered", state_file=str(self.path), error=error.strerror)
        self._is_failing = True


def restored(content: bytes, now: float) -> list[Alert]:
    """The alerts of a file's content. Raises ``ValueError`` with a text that shows nothing of the content."""
    try:
        version = msgspec.json.decode(content, type=_Version).version
        document = msgspec.json.decode(content, type=_Document) if version == VERSION else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError("it is no memory of alerts") from None
    if document is None:
        raise ValueError(f"it is of version {version}, this exporter knows {VERSION}")
    is_recent = now - document.written_at <= PENDING_KEPT_SECONDS
    return [
        alert for alert in document.alerts if _is_sound(alert, now) and (is_recent or alert.phase is not Phase.PENDING)
    ]


def default_state_file(environ: Mapping[str, str]) -> Path | None:
    """Where the memory is when the configuration does not say: what systemd gives, else the user's state folder."""
    given = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if given:
        return Path(given) / FILE_NAME
    state, home = environ.get("XDG_STATE_HOME", ""), environ.get("HOME", "")
    if state.startswith("/"):
        return Path(state) / "stream-exporter" / FILE_NAME
    return Path(home) / ".local" / "state" / "stream-exporter" / FILE_NAME if home.startswith("/") else None


def _is_sound(alert: Alert, now: float) -> bool:
    """Whether its times can be: none of the future, after a clock was set back, and those that its phase needs."""
    times = [alert.active_at, alert.fired_at, alert.resolved_at, alert.keep_since]
    if any(time is not None and not (math.isfinite(time) and 0 <= time <= now) for time in times):
        return False
    needed = {Phase.PENDING: (), Phase.FIRING: (alert.fired_at,), Phase.RESOLVED: (alert.fired_at, alert.resolved_at)}
    return math.isfinite(alert.value) and None not in needed[alert.phase]


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
