"""Files that keep state across restarts. They are locked by one process and replaced atomically."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import stat
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar

import structlog

from exporter.runtime.clock import Clock
from exporter.runtime.files import call_within_async
from exporter.runtime.logging import describe_exception

log = structlog.get_logger()

T = TypeVar("T")

WRITE_INTERVAL_SECONDS = 5.0
"""Minimum time between two writes, except for the last one."""
WRITE_DEADLINE_SECONDS = 10.0
"""Time limit for a write, because the disk may be busy."""
MAX_BYTES = 2**28
MAX_SECONDS = 253_370_764_799.0
"""Latest accepted time (end of the year 9998), because a time after 9999 cannot be formatted."""
_SAFE_FLAGS: Final = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def default_state_folder(environ: Mapping[str, str]) -> Path | None:
    """Return the default state folder: systemd's state directory, otherwise in the user's state folder."""
    systemd_directory = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if systemd_directory:
        return Path(systemd_directory)
    state, home = environ.get("XDG_STATE_HOME", ""), environ.get("HOME", "")
    if state.startswith("/"):
        return Path(state) / "stream-exporter"
    return Path(home) / ".local" / "state" / "stream-exporter" if home.startswith("/") else None


class SavedMetrics(Protocol):
    """Where a state file reports whether its state survives a restart."""

    def set_saved(self, is_saved: bool) -> None:
        """Set whether the state survives a restart, as far as is known."""

    def count_write_failure(self) -> None:
        """Count a failed write."""


class StateFile(Generic[T]):
    """Reads, locks and writes one state file."""

    def __init__(
        self,
        path: Path,
        *,
        name: str,
        encode: Callable[[], bytes],
        decode: Callable[[bytes], T],
        clock: Clock,
        metrics: SavedMetrics | None,
    ) -> None:
        """``name`` is the content in log messages, such as ``alert state``.

        ``encode`` returns the content to write. ``decode`` raises ``ValueError``, whose message never quotes the
        content.
        """
        self.path = path
        self._name = name
        self._encode = encode
        self._decode = decode
        self._clock = clock
        self._metrics = metrics
        self.is_saved = False
        """Whether the state survives a restart, as far as is known: the lock and the last write succeeded."""
        self._write_requested = asyncio.Event()
        self._write_task: asyncio.Task[None] | None = None
        self._write_lock = threading.Lock()
        self._is_failing = False
        self._lock_descriptor: int | None = None

    def lock(self) -> bool:
        """Lock the file for this process. If another process has locked it, log that and return False."""
        try:
            self._open_lock()
            self.is_saved = True
        except BlockingIOError:
            self._set_saved(False)
            log.error(
                self._event(f"file is locked by another process; {self._name} will not survive a restart"),
                state_file=str(self.path),
            )
            return False
        except OSError as error:
            self._log_write_failure(error)
        return True

    def load(self) -> T | None:
        """Read the file; move it aside if it is corrupt or unsafe. Returns None without a usable file."""
        try:
            return self._decode(self._read())
        except FileNotFoundError:
            pass
        except OSError as error:
            self._move_aside(error.strerror or type(error).__name__)
        except ValueError as error:
            self._move_aside(str(error))
        return None

    def start(self) -> None:
        """Start writing changes, after ``lock`` has returned True."""
        self._set_saved(self.is_saved)
        self._write_task = asyncio.create_task(self._write_changes(), name=f"{self._name} file")

    def request_write(self) -> None:
        """Write the current state soon."""
        self._write_requested.set()

    async def close(self) -> None:
        """Write one last time and release the lock."""
        if self._write_task is not None:
            self._write_task.cancel()
            await asyncio.gather(self._write_task, return_exceptions=True)
        await self.write()
        if self._lock_descriptor is not None:
            os.close(self._lock_descriptor)
            self._lock_descriptor = None

    async def _write_changes(self) -> None:
        while True:
            await self._write_requested.wait()
            self._write_requested.clear()
            await self.write()
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

    async def write(self) -> bool:
        """Write the current state now; returns whether that succeeded."""
        try:
            content = self._encode()
            await call_within_async(self.path, partial(self._replace_file, content), WRITE_DEADLINE_SECONDS)
        except OSError as error:
            self._log_write_failure(error)
        except Exception as error:
            log.error(self._event("could not be saved"), state_file=str(self.path), error=describe_exception(error))
            self._note_failure()
        else:
            if self._is_failing:
                log.info(self._event("is saved again"), state_file=str(self.path))
            self._is_failing = False
            self._set_saved(True)
            return True
        return False

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
                self._event("file cannot be used or moved aside"),
                state_file=str(self.path),
                error=cause,
                moving_error=error.strerror,
            )
        else:
            log.error(
                self._event("file cannot be used; moved aside"),
                state_file=str(self.path),
                error=cause,
                kept_as=str(aside),
            )

    def _event(self, text: str) -> str:
        return f"{self._name} {text}"

    def _set_saved(self, is_saved: bool) -> None:
        self.is_saved = is_saved
        if self._metrics is not None:
            self._metrics.set_saved(is_saved)

    def _note_failure(self) -> None:
        self._set_saved(False)
        if self._metrics is not None:
            self._metrics.count_write_failure()

    def _log_write_failure(self, error: OSError) -> None:
        self._note_failure()
        if not self._is_failing:
            log.error(
                self._event("cannot be saved; retrying with every change"),
                state_file=str(self.path),
                error=error.strerror,
            )
        self._is_failing = True


def _open_new(path: str, flags: int) -> int:
    return os.open(path, flags | _SAFE_FLAGS, 0o600)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
