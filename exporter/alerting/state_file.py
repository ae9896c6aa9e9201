"""The alert state that survives a restart: one file, replaced as a whole, never half written."""

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

VERSION: Final = 2
READABLE_VERSIONS: Final = (1, VERSION)
FILE_NAME: Final = "alerts.json"
WRITE_INTERVAL_SECONDS = 5.0
"""Minimum time between two writes, except for the last one."""
PENDING_MAX_AGE_SECONDS = 10 * 60.0
"""After a longer absence a condition may not have held all the time, so its ``for`` starts again."""
MAX_SECONDS = 253_370_764_799.0
"""The last second of the year 9998: times after 9999 cannot be formatted, and an alert ends some time later."""


class _StateDocument(msgspec.Struct):
    """Content of the file. Version 1 has neither a boot id nor steady times."""

    version: int
    written_at: float
    """Unix seconds."""
    alerts: list[Alert]
    written_steady: float = 0.0
    boot_id: str = ""
    """The boot to which the steady times belong; empty if unknown."""


class _VersionOnly(msgspec.Struct):
    version: int


class AlertStateFile:
    """The state file, for as long as the sidecar uses it."""

    def __init__(
        self, path: Path, alerts: Callable[[], Iterable[Alert]], *, clock: Clock, metrics: SidecarMetrics
    ) -> None:
        """``alerts`` returns the alerts to write at that moment."""
        self.path = path
        self._alerts = alerts
        self._clock = clock
        self._metrics = metrics
        self._write_requested = asyncio.Event()
        self._write_task: asyncio.Task[None] | None = None
        self._write_lock = threading.Lock()
        self._is_failing = False
        self._lock_descriptor: int | None = None
        metrics.start_write_failures()

    def lock(self) -> bool:
        """Lock the file for this process; return False, and log it, if another process has locked it."""
        lock_file = self.path.with_name(self.path.name + ".lock")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self._log_write_failure(error)
            return True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            log.error("another process uses this file of alerts, this one remembers none", state_file=str(self.path))
            return False
        except OSError:
            # a file system without locks: the user has to prevent sharing
            os.close(descriptor)
            return True
        self._lock_descriptor = descriptor
        return True

    def load(self) -> list[Alert]:
        """Return the alerts of the file; a corrupt file is moved aside."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            log.error("alerts of before can't be read", state_file=str(self.path), error=error.strerror)
            return []
        try:
            return restore_alerts(content, *self._clock.instant(), self._clock.boot_id())
        except ValueError as error:
            self._move_aside(error)
            return []

    def start(self) -> None:
        """Start to write changes."""
        self._write_task = asyncio.create_task(self._write_changes(), name="alert state file")

    def request_write(self) -> None:
        """Write the alerts soon."""
        self._write_requested.set()

    async def close(self) -> None:
        """Write a last time, and release the lock."""
        if self._write_task is not None:
            self._write_task.cancel()
            await asyncio.gather(self._write_task, return_exceptions=True)
        await self._write()
        if self._lock_descriptor is not None:
            os.close(self._lock_descriptor)
            self._lock_descriptor = None

    async def _write_changes(self) -> None:
        while True:
            await self._write_requested.wait()
            self._write_requested.clear()
            await self._write()
            await self._clock.sleep(WRITE_INTERVAL_SECONDS)

    async def _write(self) -> None:
        try:
            now = self._clock.instant()
            document = _StateDocument(VERSION, now.wall, list(self._alerts()), now.steady, self._clock.boot_id())
            content = msgspec.json.encode(document)
            await asyncio.to_thread(self._replace_file, content)
        except OSError as error:
            self._log_write_failure(error)
        except Exception as error:
            log.error("alerts not remembered", state_file=str(self.path), error=describe_exception(error))
            self._metrics.count_write_failure()
        else:
            if self._is_failing:
                log.info("alerts are remembered again", state_file=str(self.path))
            self._is_failing = False

    def _replace_file(self, content: bytes) -> None:
        """Replace the file atomically: a crash leaves the old content or the new. Raises ``OSError``."""
        temporary = self.path.with_name(f".{self.path.name}.new")
        with self._write_lock:
            try:
                with open(temporary, "wb", opener=_open_private) as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, self.path)
            except OSError:
                with contextlib.suppress(OSError):
                    temporary.unlink()
                raise
            _sync_directory(self.path.parent)

    def _move_aside(self, error: ValueError) -> None:
        broken = self.path.with_name(self.path.name + ".broken")
        with contextlib.suppress(OSError):
            os.replace(self.path, broken)
        log.error(
            "alerts of before can't be understood", state_file=str(self.path), kept_as=str(broken), error=str(error)
        )

    def _log_write_failure(self, error: OSError) -> None:
        self._metrics.count_write_failure()
        if not self._is_failing:
            log.error("alerts can't be remembered", state_file=str(self.path), error=error.strerror)
        self._is_failing = True


def restore_alerts(content: bytes, wall_now: float, steady_now: float = 0.0, boot_id: str = "") -> list[Alert]:
    """Decode a file's content. Raises ``ValueError`` with a text that quotes nothing of the content.

    The time since the file was written is measured by the steady clock if that was in the current boot, ``boot_id``,
    otherwise by the wall clock; it is never negative.
    """
    document = _decode_document(content)
    if boot_id and document.boot_id == boot_id:
        elapsed, shift = steady_now - document.written_steady, 0.0
    else:
        elapsed = max(0.0, wall_now - document.written_at)
        shift = steady_now - elapsed - document.written_steady
    is_recent = elapsed <= PENDING_MAX_AGE_SECONDS
    alerts = [a for a in document.alerts if _has_valid_times(a) and (is_recent or a.phase is not Phase.PENDING)]
    for alert in alerts:
        alert.active_steady = min(alert.active_steady + shift, steady_now)
        if alert.resolved_steady is not None:
            alert.resolved_steady = min(alert.resolved_steady + shift, steady_now)
        if alert.keep_steady is not None:
            alert.keep_steady = min(alert.keep_steady + shift, steady_now)
        if alert.stopped_steady is not None:
            alert.stopped_steady = max(alert.active_steady, min(alert.stopped_steady + shift, steady_now))
    return alerts


def default_state_file(environ: Mapping[str, str]) -> Path | None:
    """Return the path used if none is configured: systemd's state directory, otherwise the user's state folder."""
    systemd_directory = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if systemd_directory:
        return Path(systemd_directory) / FILE_NAME
    state, home = environ.get("XDG_STATE_HOME", ""), environ.get("HOME", "")
    if state.startswith("/"):
        return Path(state) / "stream-exporter" / FILE_NAME
    return Path(home) / ".local" / "state" / "stream-exporter" / FILE_NAME if home.startswith("/") else None


def _decode_document(content: bytes) -> _StateDocument:
    """Decode a document of any readable version. Raises ``ValueError``."""
    try:
        version = msgspec.json.decode(content, type=_VersionOnly).version
        document = msgspec.json.decode(content, type=_StateDocument) if version in READABLE_VERSIONS else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError("it is no memory of alerts") from None
    if document is None:
        known = " and ".join(map(str, READABLE_VERSIONS))
        raise ValueError(f"it is of version {version}, this exporter knows {known}")
    if not all(abs(time) <= MAX_SECONDS for time in (document.written_at, document.written_steady)):
        raise ValueError("it is no memory of alerts")
    if version == 1:
        _add_steady_times(document)
    return document


def _add_steady_times(document: _StateDocument) -> None:
    """Add what version 1 lacks: its wall times become the steady times of an unknown boot."""
    document.boot_id, document.written_steady = "", document.written_at
    for alert in document.alerts:
        alert.active_steady, alert.resolved_steady, alert.keep_steady = (
            alert.active_at,
            alert.resolved_at,
            alert.keep_since,
        )


def _has_valid_times(alert: Alert) -> bool:
    """Whether the times its phase needs are set, on both clocks, and all of them are times."""
    wall_times = [alert.active_at, alert.fired_at, alert.resolved_at, alert.keep_since]
    steady_times = [alert.active_steady, alert.resolved_steady, alert.keep_steady, alert.stopped_steady]
    required = {Phase.PENDING: (), Phase.FIRING: (alert.fired_at,), Phase.RESOLVED: (alert.fired_at, alert.resolved_at)}
    return (
        all(0 <= time <= MAX_SECONDS for time in wall_times if time is not None)
        and all(abs(time) <= MAX_SECONDS for time in steady_times if time is not None)
        and (alert.resolved_at is None) is (alert.resolved_steady is None)
        and (alert.keep_since is None or alert.keep_steady is not None)
        and None not in required[alert.phase]
        and math.isfinite(alert.value)
    )


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
