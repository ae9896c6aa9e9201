"""Fetching of segments: whether viewers get them, how fast, and whether they have audio and video.

Media-format independent: the platform names the object, and the fetcher and the inspection do the rest.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from exporter.http.media import ByteRange, CookieJar, Fetched, FetchError, FetchReason, MediaFetcher
from exporter.media.facts import Container, MediaFacts, TrackKind
from exporter.media.fmp4 import InitFacts, inspect_init
from exporter.media.segment import inspect_segment
from exporter.platforms.playback.fetch_log import FetchLog
from exporter.runtime.clock import Clock

INIT_BYTES: Final = 2**20
RETRY_SECONDS: Final = 1.0
"""Delay before a segment is requested again, as players do."""
MIN_WHOLE_SECONDS, MAX_WHOLE_SECONDS = 10.0, 30.0
"""Bounds of the time limit of a whole segment."""
WHOLE_DURATIONS: Final = 5.0
"""Time limit of a whole segment, in its own durations: a slow server is to be measured, not cut off."""
THREAD_BYTES: Final = 65_536
SLOW_RATIO: Final = 0.8
SLOW_SEGMENTS: Final = 3
LOST_SEGMENTS: Final = 2
"""Number of different segments in a row that could not be fetched, after which segments count as missing."""
ABSENT_LOOKS: Final = 2
"""Number of whole segments in a row without audio (or video), after which it counts as missing."""
RETRIED = frozenset({FetchReason.NOT_FOUND, FetchReason.SERVER_ERROR})
"""Failures that may pass: a cache may remember for a moment that a segment did not exist yet."""
FORBIDDEN = frozenset({FetchReason.AUTH, FetchReason.FORBIDDEN})


class SegmentAddress(NamedTuple):
    """A segment to fetch."""

    key: str
    """What identifies it among the segments of its rendition."""
    url: str
    byte_range: ByteRange | None
    seconds: float | None
    """Its duration; None if unknown."""
    is_opaque: bool
    """Whether it is encrypted as a whole."""
    init: InitAddress | None


class InitAddress(NamedTuple):
    """An initialization section."""

    url: str
    byte_range: ByteRange | None


@dataclass
class SegmentTotals:
    """Running totals since the check started."""

    failures: int = 0
    download_seconds: float = 0.0
    media_seconds: float = 0.0


@dataclass
class Presence:
    """Whether a kind of media was seen in segments."""

    was_seen: bool = False
    is_seen: bool | None = None
    """Whether the last look that could tell saw it."""
    absent_looks: int = 0

    def observe(self, seen: bool | None) -> None:
        """Take the result of a look; None: it could not tell."""
        if seen is None:
            return
        self.is_seen = seen
        self.was_seen |= seen
        self.absent_looks = 0 if seen else self.absent_looks + 1

    @property
    def is_missing(self) -> bool:
        """Whether it is known to be absent."""
        return self.absent_looks >= ABSENT_LOOKS

    def verdict(self, requirement: str) -> bool | None:
        """Return whether it is present, for ``auto``, ``required`` or ``none``; None while unknown or not checked."""
        if requirement == "none" or (requirement == "auto" and not self.was_seen):
            return None
        return False if self.is_missing else self.is_seen or None


@dataclass
class SegmentHistory:
    """What is known about the segments of one rendition."""

    audio: Presence = field(default_factory=Presence)
    video: Presence = field(default_factory=Presence)
    looked_key: str = ""
    """The last segment that was looked at."""
    whole_at: float | None = None
    """Steady seconds of the last whole segment."""
    lost: int = 0
    """Number of different segments in a row that could not be fetched."""
    last_failure: FetchError | None = None
    is_invalid: bool = False
    """Whether the last segment is not media."""
    was_good: bool = False
    """Whether a segment was ever fetched."""
    is_forbidden: bool = False
    bitrate: float | None = None
    first_byte_seconds: float | None = None
    codecs: dict[TrackKind, str] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    is_encrypted: bool = False
    ratios: deque[float] = field(default_factory=lambda: deque(maxlen=SLOW_SEGMENTS))
    """Download time divided by duration of the last whole segments."""
    bitrates: deque[float] = field(default_factory=lambda: deque(maxlen=10))

    def presence(self, kind: TrackKind) -> Presence:
        """Return whether audio or video was seen."""
        return self.audio if kind is TrackKind.AUDIO else self.video

    @property
    def are_missing(self) -> bool:
        """Whether viewers do not get the newest segments."""
        return self.lost >= LOST_SEGMENTS

    @property
    def is_slow(self) -> bool:
        """Whether whole segments take too long to arrive."""
        return len(self.ratios) == SLOW_SEGMENTS and all(ratio > SLOW_RATIO for ratio in self.ratios)

    @property
    def wants_another_whole(self) -> bool:
        """Whether a missing track, or slow delivery, is to be confirmed by another whole segment."""
        is_suspected = any(0 < presence.absent_looks < ABSENT_LOOKS for presence in (self.audio, self.video))
        return is_suspected or (bool(self.ratios) and self.ratios[-1] > SLOW_RATIO and not self.is_slow)


class SegmentChecker:
    """Fetches and inspects the segments of one stream."""

    def __init__(self, fetcher: MediaFetcher, cookies: CookieJar, clock: Clock, log: FetchLog) -> None:
        self.totals = SegmentTotals()
        self._fetcher = fetcher
        self._cookies = cookies
        self._clock = clock
        self._log = log
        self._inits: dict[InitAddress, InitFacts | None] = {}

    async def look(self, address: SegmentAddress, history: SegmentHistory, *, whole: bool, timeout: float) -> None:
        """Fetch a segment, or its start, and note what it shows. Never raises."""
        history.looked_key = address.key
        if whole:
            history.whole_at = self._clock.monotonic()
            longest = WHOLE_DURATIONS * (address.seconds or 0.0)
            timeout = min(max(longest, MIN_WHOLE_SECONDS), MAX_WHOLE_SECONDS)
        try:
            fetched = await self._fetch_patiently(address, whole=whole, timeout=timeout)
        except FetchError as error:
            self._note_failure(history, error)
            if whole and history.last_failure is error and error.fetch_reason is FetchReason.TIMEOUT:
                # at least this slow
                self._note_download(history, error.seconds, address.seconds)
            return
        try:
            init = await self._init(address.init, timeout)
        except FetchError as error:
            self._note_failure(history, error)
            return
        facts = await self._inspect(fetched, init, is_opaque=address.is_opaque)
        self._note(address, history, fetched, facts, whole=whole)

    async def _fetch_patiently(self, address: SegmentAddress, *, whole: bool, timeout: float) -> Fetched:
        try:
            return await self._fetch(address, whole=whole, timeout=timeout)
        except FetchError as error:
            if error.fetch_reason not in RETRIED:
                raise
        await self._clock.sleep(RETRY_SECONDS)
        return await self._fetch(address, whole=whole, timeout=timeout)

    async def _fetch(self, address: SegmentAddress, *, whole: bool, timeout: float) -> Fetched:
        fetch = self._fetcher.fetch_whole if whole else self._fetcher.fetch_head
        with self._log.recording("segment", address.url):
            return await fetch(
                address.url, self._cookies, what="segment", timeout=timeout, byte_range=address.byte_range
            )

    async def _init(self, address: InitAddress | None, timeout: float) -> InitFacts | None:
        """Return what the initialization section declares; it is fetched once. Raises ``FetchError``.

        Without it, no player can play the segment.
        """
        if address is None:
            return None
        if address not in self._inits:
            with self._log.recording("init", address.url):
                fetched = await self._fetcher.fetch_whole(
                    address.url,
                    self._cookies,
                    what="init",
                    timeout=timeout,
                    max_bytes=INIT_BYTES,
                    byte_range=address.byte_range,
                )
            if len(self._inits) >= 16:
                self._inits.pop(next(iter(self._inits)))
            self._inits[address] = inspect_init(fetched.body)
        return self._inits[address]

    async def _inspect(self, fetched: Fetched, init: InitFacts | None, *, is_opaque: bool) -> MediaFacts:
        whole = not fetched.is_cut
        if len(fetched.body) <= THREAD_BYTES:
            return inspect_segment(fetched.body, whole=whole, init=init, opaque=is_opaque)
        return await asyncio.to_thread(inspect_segment, fetched.body, whole=whole, init=init, opaque=is_opaque)

    # -- results -------------------------------------------------------------------------------------------------------

    def _note_failure(self, history: SegmentHistory, error: FetchError) -> None:
        history.is_forbidden = error.fetch_reason in FORBIDDEN
        if error.is_inconclusive or history.is_forbidden or self._log.is_own_fault(error):
            return
        self.totals.failures += 1
        history.last_failure, history.is_invalid = error, False
        history.lost += 1

    def _note_download(self, history: SegmentHistory, seconds: float, media_seconds: float | None) -> None:
        """Count the download of a segment whose duration is known."""
        if not media_seconds:
            return
        self.totals.download_seconds += seconds
        self.totals.media_seconds += media_seconds
        history.ratios.append(seconds / media_seconds)

    def _note(
        self, address: SegmentAddress, history: SegmentHistory, fetched: Fetched, facts: MediaFacts, *, whole: bool
    ) -> None:
        history.is_forbidden = False
        history.first_byte_seconds = fetched.first_byte_seconds
        if facts.container in (Container.HTML, Container.TEXT) or not fetched.body:
            self.totals.failures += 1
            self._log.count("segment", FetchReason.BAD_RESPONSE)
            history.last_failure, history.is_invalid = None, True
            history.lost += 1
            return
        history.lost, history.last_failure, history.is_invalid, history.was_good = 0, None, False, True
        size = len(fetched.body) if not fetched.is_cut else fetched.total_bytes
        if address.byte_range is not None:
            size = address.byte_range.size
        if size and address.seconds:
            history.bitrate = size / address.seconds
            history.bitrates.append(history.bitrate)
        if whole and not fetched.is_cut:
            self._note_download(history, fetched.seconds, address.seconds)
        history.is_encrypted = bool(facts.encrypted)
        if not history.is_encrypted:
            history.audio.observe(facts.audio)
            history.video.observe(facts.video)
        for track in facts.tracks:
            if track.packets and track.codec:
                history.codecs[track.kind] = track.codec
            if track.width_pixels and track.height_pixels:
                history.size = track.width_pixels, track.height_pixels
