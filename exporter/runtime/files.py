"""Read files that users configure: only regular files, up to a size, and with a deadline.

Opening a FIFO blocks, a device may be endless, and a call to a hung network mount blocks until the mount answers. Such
a call cannot be interrupted, so it runs in a thread that is abandoned after the deadline. Each path has a thread of its
own; in the event loop's executor, a few hung calls would occupy all threads.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

T = TypeVar("T")

DEADLINE_SECONDS: Final = 5.0
"""Maximum time for a call to the file system."""
KNOWN_FILE_SECONDS: Final = 0.5
"""Maximum time to wait for a file whose last content can be used instead."""
LEAST_SECONDS: Final = 0.2
"""Time for each call after the ``shared_deadline`` has passed."""
_READ_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_PART_BYTES: Final = 2**16


class FileError(OSError):
    """A file that cannot be read. ``strerror`` is always set, for example ``is a directory``."""


class NoAnswerError(FileError):
    """The file system did not answer in time, so nothing is known about the file."""


class File(NamedTuple):
    """Content and status of a file."""

    content: bytes
    status: os.stat_result

    @property
    def is_world_readable(self) -> bool:
        """Whether the file is readable by every user."""
        return bool(self.status.st_mode & stat.S_IROTH)


def read_file(path: Path, max_bytes: int) -> File:
    """Read a regular file. Blocks while the file system does not answer. Raises ``FileError``."""
    try:
        # checked before opening, because opening a device or FIFO may have side effects
        _require_regular(os.stat(path))
        with open(os.open(path, _READ_FLAGS), "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            _require_regular(status)
            if status.st_size > max_bytes:
                raise _too_long(max_bytes)
            parts: list[bytes] = []
            # read one byte more than allowed: the file may grow, and special file systems report size 0
            left = max_bytes + 1
            while left and (part := file.read(min(left, max(status.st_size + 1, _PART_BYTES)))):
                parts.append(part)
                left -= len(part)
    except FileError:
        raise
    except OSError as error:
        raise FileError(error.errno or errno.EIO, error.strerror or type(error).__name__) from None
    except ValueError:
        raise FileError(errno.EINVAL, "not a valid path") from None
    if not left:
        raise _too_long(max_bytes)
    return File(b"".join(parts), status)


def read_file_within(path: Path, max_bytes: int, seconds: float = DEADLINE_SECONDS) -> File:
    """Read a regular file; blocks for at most ``seconds``. Raises ``FileError``."""
    return call_within(path, partial(read_file, path, max_bytes), seconds)


def call_within(path: Path, function: Callable[[], T], seconds: float = DEADLINE_SECONDS) -> T:
    """Call a function that may block because of this file, and wait for at most ``seconds``.

    There is one thread per path: a second call waits for the first one, and fails at once if that has been running for
    ``seconds``. Raises ``NoAnswerError`` and the function's exceptions.
    """
    seconds = _remaining(seconds)
    future = _submit(path, function, seconds)
    wait([future], seconds)
    if future.done():
        return future.result()
    future.cancel()
    raise _no_answer(seconds)


async def call_within_async(path: Path, function: Callable[[], T], seconds: float = DEADLINE_SECONDS) -> T:
    """Like ``call_within``, without blocking the event loop."""
    seconds = _remaining(seconds)
    waiter = asyncio.wrap_future(_submit(path, function, seconds))
    try:
        await asyncio.wait({waiter}, timeout=seconds)
        if waiter.done():
            return waiter.result()
        raise _no_answer(seconds)
    finally:
        # this cancels the call too, if it has not started yet
        waiter.cancel()


class WatchedFile:
    """A file that is read again when it changes. The caller may use the last content until then."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._version: tuple[int, ...] | None = None
        self._was_read = False

    async def read_if_changed(self) -> File | None:
        """Read the file; returns None if it has not changed since the last call. Raises ``FileError``."""
        seconds = KNOWN_FILE_SECONDS if self._was_read else DEADLINE_SECONDS
        try:
            file = await call_within_async(self._path, partial(self._read_if_changed, self._version), seconds)
        except FileError:
            self._version = None
            raise
        if file is not None:
            self._version = file_version(file.status)
            self._was_read = True
        return file

    def _read_if_changed(self, known: tuple[int, ...] | None) -> File | None:
        if known is not None:
            with suppress(OSError):
                if file_version(os.stat(self._path)) == known:
                    return None
        return read_file(self._path, self._max_bytes)


def file_version(status: os.stat_result) -> tuple[int, ...]:
    """Return a value that differs if the file was changed or replaced."""
    return status.st_mtime_ns, status.st_ino, status.st_size, status.st_dev


@contextmanager
def shared_deadline(seconds: float) -> Iterator[None]:
    """Limit the total time of all calls in this context, so that many files on a hung mount cost no more than one."""
    token = _shared_end.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _shared_end.reset(token)


_shared_end: ContextVar[float | None] = ContextVar("shared_end", default=None)


def _remaining(seconds: float) -> float:
    """Limit a timeout to what is left of the shared deadline, if there is one."""
    shared_end = _shared_end.get()
    return seconds if shared_end is None else min(seconds, max(LEAST_SECONDS, shared_end - time.monotonic()))


def _no_answer(seconds: float) -> NoAnswerError:
    return NoAnswerError(errno.ETIMEDOUT, f"no answer from the file system within {seconds:.2g} s")


def _too_long(max_bytes: int) -> FileError:
    return FileError(errno.EFBIG, f"longer than {max_bytes} bytes")


def _require_regular(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise FileError(errno.EISDIR, "is a directory")
    if not stat.S_ISREG(status.st_mode):
        raise FileError(errno.EINVAL, "not a regular file")


# -- one thread per path -----------------------------------------------------------------------------------------------


class _Calls:
    """Calls for one path. Its thread makes them one by one, and ends after the last one."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self.began = time.monotonic()
        """Start of the running call."""


_calls: dict[Path, _Calls] = {}
_lock = threading.Lock()


def _submit(path: Path, function: Callable[[], T], seconds: float) -> Future[T]:
    """Queue a call for the path's thread. Raises ``FileError`` if the running call has taken ``seconds`` already."""
    future: Future[T] = Future()
    with _lock:
        calls = _calls.get(path)
        if calls is None:
            calls = _Calls()
            thread = threading.Thread(target=_make_calls, args=(path, calls), name=f"file {path}", daemon=True)
            calls.waiting.append((future, function))
            try:
                thread.start()
            except RuntimeError:
                raise FileError(errno.EAGAIN, "cannot start a thread to read it") from None
            _calls[path] = calls
        elif time.monotonic() - calls.began >= seconds:
            raise _no_answer(seconds)
        else:
            calls.waiting.append((future, function))
    return future


def _make_calls(path: Path, calls: _Calls) -> None:
    while True:
        with _lock:
            if not calls.waiting:
                del _calls[path]
                return
            future, function = calls.waiting.popleft()
            calls.began = time.monotonic()
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)
