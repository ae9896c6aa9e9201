"""Which segments of a stream to fetch, and when: at most one at a time of each rendition."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any
from zlib import crc32

from exporter.config.playback import PlaybackSettings
from exporter.platforms.hls.rendition_check import RenditionCheck
from exporter.platforms.playback.segment_checks import SegmentChecker, SegmentTotals
from exporter.runtime.clock import Clock

StartTask = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class SegmentLooks:
    """Starts to fetch new segments, which never delays a playlist."""

    def __init__(self, settings: PlaybackSettings, checker: SegmentChecker, clock: Clock) -> None:
        self._settings = settings
        self._checker = checker
        self._clock = clock
        self._tasks: dict[str, asyncio.Task[None]] = {}
        """By rendition."""

    @property
    def totals(self) -> SegmentTotals:
        """Running totals of all segments."""
        return self._checker.totals

    def wants_whole(self, rendition: RenditionCheck, now: float) -> bool:
        """Return whether a whole segment is due, for a rendition whose whole segments are fetched.

        The second one is due earlier than after ``whole_segment_every``, by a part that depends on the rendition's
        URL. All streams get their first one at the start of the exporter, and would otherwise stay in step: hundreds
        of megabytes within seconds, every minute.
        """
        every, segments = self._settings.whole_segment_every, rendition.segments
        if self._settings.segments == "none" or not every:
            return False
        if segments.whole_at is None or segments.wants_another_whole:
            return True
        offset = every * crc32(rendition.url.encode(errors="replace")) / 2**32
        return (now + offset) // every > (segments.whole_at + offset) // every

    def start(
        self, renditions: Iterable[RenditionCheck], judged: Sequence[RenditionCheck], start: StartTask
    ) -> list[asyncio.Task[None]]:
        """Start to fetch the newest segments of renditions with a new playlist; return the tasks.

        ``judged``: the renditions whose whole segments are fetched.
        """
        if self._settings.segments == "none":
            return []
        now = self._clock.monotonic()
        started = []
        for rendition in renditions:
            whole = self._settings.segments == "full" or (rendition in judged and self.wants_whole(rendition, now))
            look = self._look(rendition, whole=whole)
            if look is not None:
                task = self._tasks[rendition.name] = start(look)
                started.append(task)
        return started

    def _look(self, rendition: RenditionCheck, *, whole: bool) -> Coroutine[Any, Any, None] | None:
        """Return the fetch of the newest segment; None if it was fetched before, or another one is being fetched."""
        address = rendition.newest_segment()
        if address is None or address.key == rendition.segments.looked_key:
            return None
        running = self._tasks.get(rendition.name)
        if running is not None and not running.done():
            return None
        return self._checker.look(address, rendition.segments, whole=whole, timeout=rendition.timeout(60.0))
