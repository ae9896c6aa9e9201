"""File that keeps alert state across restarts. It is replaced atomically."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import math
import os
import stat
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import structlog

from exporter.alerting.evaluator import Alert, Phase
from exporter.alerting.self_metrics import SidecarMetrics
from exporter.alerting.webhooks import NotifiedGroup
from exporter.runtime.clock import Clock
from exporter.runtime.files import call_within_async
from exporter.runtime.logging import describe_exception

log = structlog.get_logger()

VERSION: Final = 2
READABLE_VERSIONS: Final = (1, VERSION)
FILE_NAME: Final = "alerts.json"
WRITE_INTERVAL_SECONDS = 5.0
"""Minimum time between two writes, except for the last one."""
WRITE_DEADLINE_SECONDS = 10.0
"""Time limit for a write, because the disk may be busy."""
PENDING_MAX_AGE_SECONDS = 10 * 60.0
"""Maximum downtime after which ``for`` continues; a condition may not have held throughout a longer one."""
MAX_BYTES = 2**28
_SAFE_FLAGS: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_NOT_A_STATE_FILE: Final = "it is not a valid state file"
MAX_SECONDS = 253_370_764_799.0
"""Latest accepted time (end of the year 9998), because an ``endsAt`` after 9999 cannot be formatted."""


class AlertState(msgspec.Struct):
    """State that survives a restart."""

    alerts: list[Alert] = []
    webhooks: dict[str, list[NotifiedGroup]] = {}
    """By webhook name."""


class _StateDocument(msgspec.Struct):
    """Content of the file. Version 1 has no boot id and no steady times."""

    version: int
    written_at: float
    """Unix seconds."""
    alerts: list[Alert]
    written_steady: float = 0.0
    boot_id: str = ""
    """Boot in which the steady times were measured; empty if unknown."""
    webhooks: dict[str, list[NotifiedGroup]] = {}
    """Missing in files of earlier releases, which ignore it."""


class _VersionOnly(msgspec.Struct):
    version: int


class AlertStateFile:
    """Reads, locks and writes the state file."""

    def __init__(self, path: Path, state: Callable[[], AlertState], *, clock: Clock, metrics: SidecarMetrics) -> None:
        """``state`` returns the current state to write."""
        self.path = path
        self._state = state
        self._clock = clock
        self._metrics = metrics
        self._write_requested = asyncio.Event()
        self._write_task: asyncio.Task[None] | None = None
        self._write_lock = threading.Lock()
        self._is_failing = False
        self._lock_descriptor: int | None = None
        metrics.start_write_failures()

    def lock(self) -> bool:
        """Lock the file for this process. If another process has locked it, log that and return False."""
        try:
            self._open_lock()
        except BlockingIOError:
            log.error(
                "alert state file is locked by another process; alert state will not survive a restart",
                state_file=str(self.path),
            )
            return False
        except OSError as error:
            self._log_write_failure(error)
        return True

    def load(self) -> AlertState:
        """Read the file; move it aside if it is corrupt or unsafe."""
        try:
            return restore_state(self._read(), *self._clock.instant(), self._clock.boot_id())
        except FileNotFoundError:
            pass
        except OSError as error:
            self._move_aside(error.strerror or type(error).__name__)
        except ValueError as error:
            self._move_aside(str(error))
        return AlertState()

    def start(self) -> None:
        """Start writing changes."""
        self._write_task = asyncio.create_task(self._write_changes(), name="alert state file")

    def request_write(self) -> None:
        """Write the current state soon."""
        self._write_requested.set()

    async def close(self) -> None:
        """Write one last time and release the lock."""
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

    def _open_lock(self) -> None:
        """Open and lock the lock file. Raises ``OSError``; ``BlockingIOError`` if another process has locked it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock_file = self.path.with_name(self.path.name + ".lock")
        descriptor = os.open(lock_file, os.O_RDWR | os.O_CREAT | _SAFE_FLAGS, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                raise
            # the file system has no locks, so the user has to make sure that the file is not shared
            return
        self._lock_descriptor = descriptor

    def _read(self) -> bytes:
        """Return the content of the file. Raises ``OSError``, or ``ValueError`` if it is unsafe."""
        # O_NONBLOCK: opening a FIFO would wait for its other end
        descriptor = os.open(self.path, os.O_RDONLY | _SAFE_FLAGS)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ValueError("it is not a regular file")
            if status.st_uid not in (os.geteuid(), 0):
                raise ValueError("it is owned by another user")
            if status.st_size > MAX_BYTES:
                raise ValueError(f"it is larger than {MAX_BYTES} bytes")
            return file.read(MAX_BYTES)

    async def _write(self) -> None:
        try:
            now, state = self._clock.instant(), self._state()
            document = _StateDocument(
                VERSION, now.wall, state.alerts, now.steady, self._clock.boot_id(), state.webhooks
            )
            content = msgspec.json.encode(document)
            await call_within_async(self.path, partial(self._replace_file, content), WRITE_DEADLINE_SECONDS)
        except OSError as error:
            self._log_write_failure(error)
        except Exception as error:
            log.error("alert state could not be saved", state_file=str(self.path), error=describe_exception(error))
            self._metrics.count_write_failure()
        else:
            if self._is_failing:
                log.info("alert state is saved again", state_file=str(self.path))
            self._is_failing = False

    def _replace_file(self, content: bytes) -> None:
        """Replace the file atomically: a crash leaves the old content or the new. Raises ``OSError``."""
        temporary = self.path.with_name(f".{self.path.name}.new")
        with self._write_lock:
            self._ensure_folder_and_lock()
            temporary.unlink(missing_ok=True)
            try:
                with open(temporary, "xb", opener=_open_new) as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, self.path)
            except OSError:
                with contextlib.suppress(OSError):
                    temporary.unlink()
                raise
            _sync_directory(self.path.parent)

    def _ensure_folder_and_lock(self) -> None:
        """Create the folder and take the lock again if the folder was removed. Raises ``OSError``."""
        if self._lock_descriptor is not None:
            with contextlib.suppress(FileNotFoundError):
                lock_file = self.path.with_name(self.path.name + ".lock")
                if os.path.samestat(os.fstat(self._lock_descriptor), os.lstat(lock_file)):
                    return
            os.close(self._lock_descriptor)
            self._lock_descriptor = None
        self._open_lock()

    def _move_aside(self, cause: str) -> None:
        aside = self.path.with_name(self.path.name + ".broken")
        try:
            os.replace(self.path, aside)
        except OSError as error:
            log.error(
                "alert state file cannot be used or moved aside",
                state_file=str(self.path),
                error=cause,
                moving_error=error.strerror,
            )
        else:
            log.error(
                "alert state file cannot be used; moved aside",
                state_file=str(self.path),
                error=cause,
                kept_as=str(aside),
            )

    def _log_write_failure(self, error: OSError) -> None:
        self._metrics.count_write_failure()
        if not self._is_failing:
            log.error(
                "alert state cannot be saved; retrying with every change",
                state_file=str(self.path),
                error=error.strerror,
            )
        self._is_failing = True


def restore_state(content: bytes, wall_now: float, steady_now: float = 0.0, boot_id: str = "") -> AlertState:
    """Decode a file's content. Raises ``ValueError``, whose message never quotes the content.

    The time since the file was written is measured with the steady clock if ``boot_id``, the current boot, is the same,
    otherwise with the wall clock. It is never negative.
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
    webhooks = {
        name: [g for g in groups if math.isfinite(g.notified_steady)] for name, groups in document.webhooks.items()
    }
    for group in (group for groups in webhooks.values() for group in groups):
        group.notified_steady = min(group.notified_steady + shift, steady_now)
    return AlertState(alerts, webhooks)


def default_state_file(environ: Mapping[str, str]) -> Path | None:
    """Return the default path: in systemd's state directory, otherwise in the user's state folder."""
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
        raise ValueError(_NOT_A_STATE_FILE) from None
    if document is None:
        known = " and ".join(map(str, READABLE_VERSIONS))
        raise ValueError(f"its version is {version}; this exporter reads versions {known}")
    if not all(abs(time) <= MAX_SECONDS for time in (document.written_at, document.written_steady)):
        raise ValueError(_NOT_A_STATE_FILE)
    if version == 1:
        _add_steady_times(document)
    return document


def _add_steady_times(document: _StateDocument) -> None:
    """Upgrade version 1: its wall times become the steady times of an unknown boot."""
    document.boot_id, document.written_steady = "", document.written_at
    for alert in document.alerts:
        alert.active_steady, alert.resolved_steady, alert.keep_steady = (
            alert.active_at,
            alert.resolved_at,
            alert.keep_since,
        )


def _has_valid_times(alert: Alert) -> bool:
    """Return whether all times are in range, and those that the alert's phase needs are set on both clocks."""
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


def _open_new(path: str, flags: int) -> int:
    return os.open(path, flags | _SAFE_FLAGS, 0o600)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
