"""Maintenance windows that were started by hand. They end by themselves and survive restarts.

A window's duration is measured with the steady clock. Across a reboot, the wall clock counts, and a clock that was set
back counts as no time. The file is rewritten every minute, so that even such a clock cannot make a window endless.
"""

from __future__ import annotations

import asyncio
import math
import os
import secrets
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import structlog

from exporter.polling.self_metrics import MaintenanceMetrics
from exporter.runtime.clock import Clock, Instant
from exporter.runtime.files import DEADLINE_SECONDS, FileError, call_within_async
from exporter.runtime.state_files import MAX_SECONDS, StateFile

log = structlog.get_logger()

FILE_NAME: Final = "maintenance.json"
VERSION: Final = 1
MAX_WINDOWS: Final = 1_000
MAX_WINDOW_SECONDS: Final = 30 * 86_400.0
MIN_WINDOW_SECONDS: Final = 1.0
MAX_REASON_CHARACTERS: Final = 200
MAX_STREAM_CHARACTERS: Final = 1_000
SAVE_INTERVAL_SECONDS: Final = 60.0
"""Interval at which the remaining times are saved."""
CLOCK_STEP_SECONDS: Final = 1.0
"""Change of the wall clock against the steady clock from which the shown ends of windows move."""
_REFUSED_CATEGORIES: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Control characters, lone surrogates, and line and paragraph separators."""
_NOT_A_STATE_FILE: Final = "it is not a valid state file"


class InvalidWindowError(ValueError):
    """A window that cannot be started; the text names the field and what it must be."""


class TooManyWindowsError(Exception):
    """There are already ``MAX_WINDOWS`` windows."""


@dataclass(frozen=True)
class ManualWindow:
    """A window that was started by hand. ``stream`` is empty for a whole upstream."""

    id: str
    upstream: str
    stream: str
    started_at: float
    """Unix seconds."""
    seconds: float
    """Duration."""
    end_steady: float
    """End on the steady clock."""
    reason: str = ""


class _SavedWindow(msgspec.Struct):
    id: str
    upstream: str
    stream: str
    started_at: float
    seconds: float
    remaining_seconds: float
    """Time to the end when the file was written."""
    reason: str = ""


class _StateDocument(msgspec.Struct):
    """Content of the file."""

    version: int
    written_at: float
    """Unix seconds."""
    written_steady: float
    boot_id: str
    """Boot in which the steady time was measured; empty if unknown."""
    windows: list[_SavedWindow]


class _VersionOnly(msgspec.Struct):
    version: int


class ManualMaintenance:
    """The manual windows of all upstreams. Must stay in one event loop."""

    def __init__(self, clock: Clock, metrics: MaintenanceMetrics | None = None) -> None:
        self._clock = clock
        self._metrics = metrics
        self._windows: dict[str, ManualWindow] = {}
        self._version = 0
        now = clock.instant()
        self._offset = now.wall - now.steady
        """Wall clock minus steady clock, kept while it changes only slightly, so that ends do not change with it."""
        self._folder: Path | None = None
        self._was_opened = False
        self._file: StateFile[list[ManualWindow]] | None = None
        self._opening = asyncio.Lock()
        self._saved_steady = -math.inf

    # -- windows -------------------------------------------------------------------------------------------------------

    def version(self, now: Instant) -> int:
        """Return a number that changes with the windows and with their ends on the wall clock."""
        offset = now.wall - now.steady
        if abs(offset - self._offset) > CLOCK_STEP_SECONDS:
            self._offset = offset
            self._version += 1
        return self._version

    def windows_of(self, upstream: str) -> list[ManualWindow]:
        """Return the windows of an upstream and its streams."""
        return [window for window in self._windows.values() if window.upstream == upstream]

    def end_of(self, window: ManualWindow, now: Instant) -> float:
        """Return the end in Unix seconds; not after ``now`` if the window is over on the steady clock."""
        end = round(window.end_steady + self._offset, 3)
        return min(end, now.wall) if now.steady >= window.end_steady else max(end, math.nextafter(now.wall, math.inf))

    @property
    def is_saved(self) -> bool:
        """Whether the windows survive a restart, as far as is known."""
        return self._file is not None and self._file.is_saved

    def start(self, upstream: str, stream: str, seconds: float, reason: str = "") -> ManualWindow:
        """Start a window. Raises ``InvalidWindowError`` and ``TooManyWindowsError``."""
        check_window(stream, seconds, reason)
        if len(self._windows) >= MAX_WINDOWS:
            raise TooManyWindowsError
        now = self._clock.instant()
        id_ = next(text for text in iter(partial(secrets.token_hex, 4), "") if text not in self._windows)
        window = ManualWindow(id_, upstream, stream, now.wall, seconds, now.steady + seconds, reason)
        self._windows[id_] = window
        self._version += 1
        log.info("maintenance window started", **_described(window), seconds=seconds, reason=reason)
        return window

    def end(self, id_: str) -> ManualWindow | None:
        """End a window; returns None if there is no such manual window."""
        window = self._windows.pop(id_, None)
        if window is not None:
            self._version += 1
            log.info("maintenance window ended by hand", **_described(window))
        return window

    def keep_only_upstreams(self, upstreams: Collection[str]) -> None:
        """Drop the windows of all other upstreams, which are no longer configured."""
        dropped = [window for window in self._windows.values() if window.upstream not in upstreams]
        for window in dropped:
            del self._windows[window.id]
            self._version += 1
            log.warning("maintenance window dropped; its upstream is not configured", **_described(window))
        if dropped:
            self._request_save()

    def refresh(self) -> None:
        """Drop windows that are over, and save the remaining times now and then."""
        now = self._clock.monotonic()
        over = [window for window in self._windows.values() if now >= window.end_steady]
        for window in over:
            del self._windows[window.id]
            self._version += 1
            log.info("maintenance window is over", **_described(window))
        if over or (self._windows and now >= self._saved_steady + SAVE_INTERVAL_SECONDS):
            self._request_save()

    # -- state file ----------------------------------------------------------------------------------------------------

    async def open(self, folder: Path | None) -> None:
        """Keep the windows in this folder. At the first call, load those of an earlier process.

        The folder is not touched before there is something to save or to load.
        """
        if self._was_opened and folder == self._folder:
            return
        await self.close()
        is_first, self._was_opened, self._folder = not self._was_opened, True, folder
        if folder is None:
            if self._windows:
                self._note_unsaved()
            return
        path = folder / FILE_NAME
        try:
            # a dangling symlink exists too, and is moved aside
            exists = await call_within_async(path, partial(os.path.lexists, path), DEADLINE_SECONDS)
        except FileError as error:
            self._log_unreadable(path, error)
            return
        if exists or self._windows:
            await self._open_file(path, load=is_first)

    async def save(self) -> bool:
        """Save the windows now; returns whether they survive a restart."""
        async with self._opening:
            if self._file is None and self._windows:
                await self._open_late()
        file = self._file
        if file is not None:
            await file.write()
        else:
            self._note_unsaved()
        self._saved_steady = self._clock.monotonic()
        return self.is_saved

    async def close(self) -> None:
        """Save for the last time and release the file."""
        if self._file is not None:
            file, self._file = self._file, None
            await file.close()

    async def _open_late(self) -> None:
        """Open the file because there is something to save for the first time."""
        if self._folder is not None:
            await self._open_file(self._folder / FILE_NAME, load=False)
        else:
            log.warning(
                "maintenance is not saved and will not survive a restart: "
                "set state_dir, or the environment variable STATE_DIRECTORY or HOME"
            )

    async def _open_file(self, path: Path, *, load: bool) -> None:
        file: StateFile[list[ManualWindow]] = StateFile(
            path,
            name="maintenance state",
            encode=self._encode,
            decode=lambda content: restore_windows(content, self._clock.instant(), self._clock.boot_id()),
            clock=self._clock,
            metrics=self._metrics,
        )
        try:
            if not await call_within_async(path, file.lock, DEADLINE_SECONDS):
                return
            found = await call_within_async(path, file.load, DEADLINE_SECONDS) if load else None
        except FileError as error:
            self._log_unreadable(path, error)
            return
        for window in found or ():
            self._windows.setdefault(window.id, window)
        self._version += 1
        self._file = file
        file.start()

    def _encode(self) -> bytes:
        now = self._clock.instant()
        windows = [
            _SavedWindow(w.id, w.upstream, w.stream, w.started_at, w.seconds, w.end_steady - now.steady, w.reason)
            for w in self._windows.values()
        ]
        return msgspec.json.encode(_StateDocument(VERSION, now.wall, now.steady, self._clock.boot_id(), windows))

    def _request_save(self) -> None:
        self._saved_steady = self._clock.monotonic()
        if self._file is not None:
            self._file.request_write()

    def _note_unsaved(self) -> None:
        if self._metrics is not None:
            self._metrics.set_saved(False)

    def _log_unreadable(self, path: Path, error: FileError) -> None:
        log.error(
            "maintenance state file cannot be read; maintenance will not survive a restart",
            state_file=str(path),
            error=error.strerror,
        )
        self._note_unsaved()


def check_window(stream: str, seconds: float, reason: str) -> None:
    """Refuse a window that would be endless or cannot be shown. Raises ``InvalidWindowError``."""
    if not MIN_WINDOW_SECONDS <= seconds <= MAX_WINDOW_SECONDS:
        raise InvalidWindowError("for: expected a duration from 1s to 30d")
    for name, text, longest in (("stream", stream, MAX_STREAM_CHARACTERS), ("reason", reason, MAX_REASON_CHARACTERS)):
        if len(text) > longest:
            raise InvalidWindowError(f"{name}: expected at most {longest} characters")
        if any(unicodedata.category(character) in _REFUSED_CATEGORIES for character in text):
            raise InvalidWindowError(f"{name}: control characters are not allowed")


def restore_windows(content: bytes, now: Instant, boot_id: str) -> list[ManualWindow]:
    """Decode a file's content. Raises ``ValueError``, whose message never quotes the content.

    The time since the file was written is measured with the steady clock if ``boot_id``, the current boot, is the same,
    otherwise with the wall clock. It is never negative, and a window never lasts longer than its duration.
    """
    try:
        version = msgspec.json.decode(content, type=_VersionOnly).version
        document = msgspec.json.decode(content, type=_StateDocument) if version == VERSION else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError(_NOT_A_STATE_FILE) from None
    if document is None:
        raise ValueError(f"its version is {version}; this exporter reads version {VERSION}")
    if not all(abs(time) <= MAX_SECONDS for time in (document.written_at, document.written_steady)):
        raise ValueError(_NOT_A_STATE_FILE)
    is_same_boot = bool(boot_id) and document.boot_id == boot_id
    elapsed = now.steady - document.written_steady if is_same_boot else now.wall - document.written_at
    restored = []
    for saved in document.windows[:MAX_WINDOWS]:
        remaining = min(saved.remaining_seconds, saved.seconds) - max(0.0, elapsed)
        if remaining > 0 and _is_valid(saved):
            end = now.steady + remaining
            started_at = min(saved.started_at, now.wall)
            restored.append(
                ManualWindow(saved.id, saved.upstream, saved.stream, started_at, saved.seconds, end, saved.reason)
            )
    return restored


def _is_valid(saved: _SavedWindow) -> bool:
    try:
        check_window(saved.stream, saved.seconds, saved.reason)
    except InvalidWindowError:
        return False
    return bool(saved.id and saved.upstream) and 0 <= saved.started_at <= MAX_SECONDS


def _described(window: ManualWindow) -> dict[str, str]:
    stream = {"stream": window.stream} if window.stream else {}
    return {"id": window.id, "upstream": window.upstream, **stream}
