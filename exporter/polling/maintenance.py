"""Which upstreams and streams are under maintenance now, from configured and manual windows."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from exporter.config.control import MaintenanceWindow
from exporter.config.upstream import UpstreamSettings
from exporter.model import Maintenance, StreamState, UpstreamState
from exporter.polling.manual_maintenance import ManualMaintenance
from exporter.runtime.clock import Instant

ConfiguredWindows = Mapping[str, tuple[MaintenanceWindow, ...]]
"""The configured windows of streams, by label."""


class Window(msgspec.Struct, frozen=True):
    """A window of an upstream or, if ``stream`` is not empty, of a stream. Times are in Unix seconds."""

    id: str
    upstream: str
    stream: str
    start: float
    end: float
    reason: str = ""
    is_manual: bool = False


class ActiveMaintenance(msgspec.Struct, frozen=True):
    """What is under maintenance at one moment."""

    upstream: Maintenance | None = None
    streams: Mapping[str, Maintenance] = {}
    """By label, without that of the upstream. Streams that are not served are included."""

    def covers(self, stream: str) -> bool:
        """Return whether the stream or its upstream is under maintenance."""
        return self.upstream is not None or stream in self.streams

    def summary(self) -> dict[str, Any]:
        """Return what is under maintenance, for a log line."""
        return {"whole_upstream": self.upstream is not None, "streams": len(self.streams)}

    def apply_to(self, state: UpstreamState) -> UpstreamState:
        """Return the state with this maintenance instead of its own."""
        if self is NO_MAINTENANCE and state.maintenance is None and not state.maintained_streams:
            return state
        streams = state.streams
        if self.streams or state.maintained_streams:
            streams = tuple([self._apply_to_stream(stream) for stream in streams])
        return msgspec.structs.replace(
            state, streams=streams, maintenance=self.upstream, maintained_streams=self.streams
        )

    def _apply_to_stream(self, stream: StreamState) -> StreamState:
        maintenance = self.streams.get(stream.identity.stream)
        if maintenance == stream.maintenance:
            return stream
        return msgspec.structs.replace(stream, maintenance=maintenance)


NO_MAINTENANCE = ActiveMaintenance()


class UpstreamMaintenance:
    """The maintenance windows of one upstream and its streams."""

    def __init__(self, settings: UpstreamSettings, manual: ManualMaintenance) -> None:
        self._upstream = settings.name
        self._own = settings.maintenance
        self._manual = manual
        self._cached_for: tuple[ConfiguredWindows, int] | None = None
        self._active = NO_MAINTENANCE
        self._from = self._until = -math.inf

    def active(self, configured: ConfiguredWindows, now: Instant) -> ActiveMaintenance:
        """Return what is under maintenance. ``configured``: the same object for as long as nothing has changed."""
        version = self._manual.version(now)
        is_cached = (
            self._cached_for is not None and self._cached_for[0] is configured and self._cached_for[1] == version
        )
        if not is_cached or not self._from <= now.wall < self._until:
            self._active, self._until = _find_active(self.windows(configured, now), now.wall)
            self._from, self._cached_for = now.wall, (configured, version)
        return self._active

    def windows(self, configured: ConfiguredWindows, now: Instant) -> list[Window]:
        """Return the current and future windows."""
        windows = [_configured_window(self._upstream, "", window) for window in self._own]
        for stream, listed in configured.items():
            windows += [_configured_window(self._upstream, stream, window) for window in listed]
        for manual in self._manual.windows_of(self._upstream):
            end = self._manual.end_of(manual, now)
            start = min(manual.started_at, now.wall)
            windows.append(Window(manual.id, manual.upstream, manual.stream, start, end, manual.reason, is_manual=True))
        return [window for window in windows if window.end > now.wall]


def _configured_window(upstream: str, stream: str, window: MaintenanceWindow) -> Window:
    start, end, reason = window.from_.timestamp(), window.to.timestamp(), window.reason or ""
    text = "\0".join((upstream, stream, repr(start), repr(end), reason))
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return Window(f"config-{digest[:8]}", upstream, stream, start, end, reason)


def _find_active(windows: Iterable[Window], now: float) -> tuple[ActiveMaintenance, float]:
    """Return the active maintenance, and when it changes (Unix seconds)."""
    by_stream: dict[str, list[Window]] = {}
    for window in windows:
        by_stream.setdefault(window.stream, []).append(window)
    changes_at, active = math.inf, {}
    for stream, listed in by_stream.items():
        maintenance = _merge_windows(listed, now)
        if maintenance is not None:
            active[stream] = maintenance
        times = (window.start if window.start > now else window.end for window in listed)
        changes_at = min(changes_at, *times)
    if not active:
        return NO_MAINTENANCE, changes_at
    return ActiveMaintenance(active.pop("", None), active), changes_at


def _merge_windows(windows: Sequence[Window], now: float) -> Maintenance | None:
    """Return the maintenance of overlapping windows: it ends with the last one that follows without a gap.

    The reason is that of the active window that ends last and has one.
    """
    active = sorted((window for window in windows if window.start <= now < window.end), key=lambda window: window.end)
    if not active:
        return None
    until = active[-1].end
    for window in sorted(windows, key=lambda window: window.start):
        if window.start <= until:
            until = max(until, window.end)
    reason = next((window.reason for window in reversed(active) if window.reason), "")
    return Maintenance(until=until, reason=reason, is_manual=active[-1].is_manual)
