"""Lists, starts and ends maintenance by hand, for the API."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from exporter.polling.coordinator import Coordinator
from exporter.polling.maintenance import Window
from exporter.polling.manual_maintenance import ManualMaintenance


class UnknownTargetError(Exception):
    """The upstream or stream does not exist; the text names it."""


class UnknownWindowError(Exception):
    """There is no window with this id."""


class ConfiguredWindowError(Exception):
    """The window is configured, so it cannot be ended by hand."""


class MaintenanceControl:
    """Connects the manual windows with the coordinators that publish them."""

    def __init__(self, manual: ManualMaintenance, coordinators: Mapping[str, Coordinator]) -> None:
        """``coordinators``: those of the configured upstreams, by name; the mapping changes with a reload."""
        self._manual = manual
        self._coordinators = coordinators

    @property
    def is_saved(self) -> bool:
        """Whether manual windows survive a restart, as far as is known."""
        return self._manual.is_saved

    def windows(self) -> list[Window]:
        """Return the current and future windows, configured and manual, by start."""
        windows = [
            window for coordinator in self._coordinators.values() for window in coordinator.maintenance_windows()
        ]
        return sorted(windows, key=lambda window: (window.start, window.end, window.upstream, window.stream, window.id))

    async def start(self, upstream: str, stream: str, seconds: float, reason: str) -> Window:
        """Start a window now, and save it.

        Raises ``UnknownTargetError``, ``InvalidWindowError`` and ``TooManyWindowsError``.
        """
        coordinator = self._coordinators.get(upstream)
        if coordinator is None:
            raise UnknownTargetError(f"unknown upstream {upstream[:64]!a}")
        if stream and not coordinator.may_serve(stream):
            raise UnknownTargetError(f"upstream {upstream} has no stream {stream[:64]!a}")
        started = self._manual.start(upstream, stream, seconds, reason)
        coordinator.refresh_maintenance()
        window = next(window for window in coordinator.maintenance_windows() if window.id == started.id)
        await self._manual.save()
        return window

    async def end(self, id_: str) -> None:
        """End a manual window. Raises ``UnknownWindowError`` and ``ConfiguredWindowError``."""
        ended = self._manual.end(id_)
        if ended is None:
            if any(window.id == id_ for window in self.windows()):
                raise ConfiguredWindowError
            raise UnknownWindowError
        coordinator = self._coordinators.get(ended.upstream)
        if coordinator is not None:
            coordinator.refresh_maintenance()
        await self._manual.save()

    async def apply(self, state_folder: Path | None) -> None:
        """Use this state folder and the current upstreams; publish what is under maintenance."""
        await self._manual.open(state_folder)
        self._manual.keep_only_upstreams(self._coordinators.keys())
        self.refresh()

    def refresh(self) -> None:
        """End windows that are over, and publish all changes."""
        self._manual.refresh()
        for coordinator in self._coordinators.values():
            coordinator.refresh_maintenance()

    async def close(self) -> None:
        """Save the windows for the last time."""
        await self._manual.close()
