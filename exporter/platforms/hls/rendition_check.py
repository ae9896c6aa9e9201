"""One rendition of a stream: its playlist, the history of it, and its segments."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from exporter.config.playback import PlaybackSettings
from exporter.config.secrets import Secret, SecretError
from exporter.http.media import ByteRange, CookieJar, Fetched, FetchError, FetchReason, MediaFetcher, join_url
from exporter.media.facts import TrackKind
from exporter.media.hls_playlist import ByteRange as PlaylistRange
from exporter.media.hls_playlist import (
    MasterPlaylist,
    MediaPlaylist,
    PlaylistError,
    Segment,
    parse_playlist,
)
from exporter.model import UnplayableReason
from exporter.platforms.hls.playlist_history import CONFIRMING_POLLS, PlaylistHistory
from exporter.platforms.hls.totals import Totals
from exporter.platforms.playback.fetch_log import FetchLog
from exporter.platforms.playback.segment_checks import (
    FORBIDDEN,
    THREAD_BYTES,
    InitAddress,
    SegmentAddress,
    SegmentHistory,
)
from exporter.runtime.clock import Clock

MAX_TIMEOUT: Final = 10.0
TIMEOUT_TARGETS: Final = 2.0
_TIMER_SECONDS = 0.05
"""A poll may start this much early."""
SESSION_SECONDS: Final = 30.0
"""Minimum time between two sessions while the target of a redirect fails."""
_MOVED = frozenset({FetchReason.NOT_FOUND, FetchReason.AUTH, FetchReason.FORBIDDEN})
"""Failures after which the rendition's own URL is used again, not that of a redirect."""


class Verdict(NamedTuple):
    """Whether a rendition is playable, and why not."""

    playable: bool | None
    reason: UnplayableReason | None = None
    detail: str = ""


UNKNOWN: Final = Verdict(None)
PLAYABLE: Final = Verdict(True)


class RenditionCheck:
    """One media playlist and its segments."""

    def __init__(
        self,
        name: str,
        url: str,
        *,
        totals: Totals,
        interval: float,
        stale_media: float | None,
        has_segments: bool = True,
        bandwidth: float | None = None,
        is_audio: bool = False,
    ) -> None:
        """``has_segments``: whether its segments are fetched. ``bandwidth``: declared bytes per second.

        ``is_audio``: whether it is a separate audio rendition.
        """
        self.name = name
        self.url = url
        self.bandwidth = bandwidth
        self.is_audio = is_audio
        self.counted = Totals()
        """What of its totals the stream has counted."""
        self._has_segments = has_segments
        self.history = PlaylistHistory(totals, interval=interval, stale_media=stale_media)
        self.segments = SegmentHistory()
        self.failure: FetchError | None = None
        """Why the last look at the playlist failed; None if it succeeded."""
        self.problem = ""
        """Why the last response was not a playlist; empty if it was."""
        self.is_forbidden = False
        self.content_type = ""
        self.requested_at: float | None = None
        """Steady seconds of the last request for the playlist."""
        self.base_url = ""
        """URL of the last playlist, for its relative references."""
        self._missing_polls = 0
        self._failed_polls = 0
        """Number of looks in a row that failed."""
        self._session_url = ""
        """Where a redirect led; used as long as it works, because the first URL may open a new session each time."""
        self._session_at = 0.0
        """Steady seconds of the last request to the first URL."""

    @property
    def playlist(self) -> MediaPlaylist | None:
        """The last version of the playlist."""
        return self.history.playlist

    @property
    def protocol(self) -> str:
        """``hls``, or ``ll-hls`` for low latency; empty until there was a playlist."""
        if self.playlist is None:
            return ""
        return "ll-hls" if self.playlist.part_target_seconds else "hls"

    def move(self, url: str) -> None:
        """Use another URL for the same rendition, as after the master playlist has changed."""
        self.url, self._session_url = url, ""

    async def refresh_url(self, secret: Secret, settings: PlaybackSettings) -> None:
        """Read the file again that contains the URL, because the URL may have expired."""
        if secret.origin != "file":
            return
        try:
            url = settings.playlist_url(await secret.refresh())
        except SecretError:
            # the last URL may still work
            return
        if url != self.url:
            self.move(url)

    def timeout(self, left: float) -> float:
        """Return the time limit of a fetch, in seconds; ``left``: until the end of the poll."""
        return max(0.1, min(MAX_TIMEOUT, max(TIMEOUT_TARGETS * self.history.target_seconds, 2.0), left))

    def is_due(self, now: float) -> bool:
        """Whether the playlist may be requested again: not more often than every half target duration."""
        if self.requested_at is None or self.playlist is None:
            return True
        return now - self.requested_at >= self.history.target_seconds / 2 - _TIMER_SECONDS

    async def fetch(
        self, fetcher: MediaFetcher, cookies: CookieJar, log: FetchLog, clock: Clock, *, deadline: float
    ) -> Fetched | None:
        """Request the playlist; None if that failed. ``deadline``: steady seconds.

        The outcome is applied by ``accept`` or ``note_failure``.
        """
        now = self.requested_at = clock.monotonic()
        url = self.url
        if self._session_url and not self._needs_new_session(now):
            url = self._session_url
        else:
            self._session_at, self._session_url = now, ""
        try:
            with log.recording("playlist", url):
                fetched = await fetcher.fetch_playlist(
                    url, cookies, what="playlist", timeout=self.timeout(deadline - now)
                )
        except FetchError as error:
            self.failure, self.problem = error, ""
            return None
        self.failure = None
        if fetched.redirects:
            self._session_url = fetched.url
        return fetched

    def _needs_new_session(self, now: float) -> bool:
        """Whether the target of the redirect fails, so that a new viewer may be sent elsewhere."""
        if self.has_moved:
            return True
        is_bad = self.history.is_stale or (self.has_failed and self.history.unchanged_looks >= CONFIRMING_POLLS)
        return is_bad and now - self._session_at >= SESSION_SECONDS

    async def read(
        self, fetched: Fetched, log: FetchLog, imported: Mapping[str, str]
    ) -> MasterPlaylist | MediaPlaylist | None:
        """Parse a response; None if it is not a playlist."""
        query = urlsplit(fetched.url).query
        try:
            if len(fetched.body) > THREAD_BYTES:
                return await asyncio.to_thread(parse_playlist, fetched.body, query=query, imported=imported)
            return parse_playlist(fetched.body, query=query, imported=imported)
        except PlaylistError as error:
            log.count("playlist", FetchReason.BAD_RESPONSE)
            self.problem = str(error)
            return None

    def accept(self, playlist: MediaPlaylist, fetched: Fetched, *, now: float, wall: float) -> None:
        """Apply a version of the playlist."""
        self.note_success()
        self.content_type, self.base_url = fetched.content_type, fetched.url
        server_wall = wall
        if fetched.date is not None and abs(fetched.date + (fetched.age or 0.0) - wall) > 1.0:
            server_wall = fetched.date + (fetched.age or 0.0)
        self.history.observe(playlist, now=now, wall=wall, server_wall=server_wall)

    def note_success(self) -> None:
        """Note that the last response was a usable playlist."""
        self.problem, self.is_forbidden = "", False
        self._missing_polls = self._failed_polls = 0

    def note_other_document(self, now: float) -> None:
        """Note that the last response was a master playlist, which only leads to the media.

        It is requested again to find out what a new viewer gets, so a redirect is followed again.
        """
        self.note_success()
        self._session_url = ""
        self.history.note_other_document(now)

    def note_failure(self, now: float, log: FetchLog) -> None:
        """Apply a failed look: the playlist could not be fetched or read."""
        error = self.failure
        self._failed_polls += 1
        if error is not None and (error.is_inconclusive or log.is_own_fault(error)):
            self.history.skip(now)
            return
        self.is_forbidden = error is not None and error.fetch_reason in FORBIDDEN
        if self.is_forbidden:
            self.history.skip(now)
            return
        is_missing = error is not None and error.fetch_reason is FetchReason.NOT_FOUND
        self._missing_polls = self._missing_polls + 1 if is_missing else 0
        self.history.observe_failure(now)

    @property
    def target_latency_seconds(self) -> float | None:
        """How far behind the newest media players shall stay, as the playlist tells."""
        playlist = self.current_playlist
        if playlist is None:
            return None
        return playlist.part_hold_back_seconds if playlist.part_target_seconds else playlist.hold_back_seconds

    # -- verdict -------------------------------------------------------------------------------------------------------

    @property
    def has_failed(self) -> bool:
        """Whether the last look did not get a usable playlist, and that was not for a reason of our own."""
        return bool(self.problem) or (self.failure is not None and not self.failure.is_inconclusive)

    @property
    def needs_another_look(self) -> bool:
        """Whether the next look will show if the rendition is dead."""
        return self.history.needs_another_look or (self.has_failed and self.history.unchanged_looks == 1)

    @property
    def has_moved(self) -> bool:
        """Whether the last request failed in a way that another master playlist may cure."""
        return self.failure is not None and self.failure.fetch_reason in _MOVED

    @property
    def is_missing(self) -> bool:
        """Whether the playlist does not exist (404 or 410 twice in a row)."""
        return self._missing_polls >= CONFIRMING_POLLS

    @property
    def is_unknown(self) -> bool:
        """Whether the playlist could not be seen, or not lately."""
        return self.is_forbidden or self.history.looked_at is None or self.history.is_outdated

    @property
    def current_playlist(self) -> MediaPlaylist | None:
        """The last version of the playlist, as long as it tells about now."""
        is_past = self.is_missing or self.is_unknown or (self.has_failed and self.history.is_stale)
        return None if is_past else self.playlist

    @property
    def current_segments(self) -> SegmentHistory | None:
        """What the last segments show; None if the newest ones cannot be fetched."""
        is_past = self.current_playlist is None or self.segments.are_missing or self.segments.is_forbidden
        return None if is_past else self.segments

    @property
    def live(self) -> bool | None:
        """Whether new media arrives; None if that is unknown."""
        history = self.history
        if self.is_missing or history.has_ended:
            return False
        if self.is_unknown:
            return None
        if history.is_stale:
            # without a current version, it is unknown whether there is new media; a single failed look changes nothing
            return False if self._failed_polls < CONFIRMING_POLLS else None
        return True if history.has_advanced else None

    @property
    def verdict(self) -> Verdict:
        """Whether a new viewer could start this rendition now."""
        history, segments = self.history, self.segments
        if self.is_missing:
            return Verdict(False, UnplayableReason.PLAYLIST_MISSING, f"playlist missing ({self._status(self.failure)})")
        if self.is_unknown:
            return UNKNOWN
        if history.has_ended:
            return Verdict(False, UnplayableReason.ENDED, "the playlist has ended")
        if history.is_stale:
            return self._stale_verdict()
        if not history.has_advanced or segments.is_forbidden:
            return UNKNOWN
        if history.is_gap_at_edge:
            return Verdict(False, UnplayableReason.GAP, "the newest segments are marked as missing")
        if segments.are_missing:
            if segments.is_invalid:
                return Verdict(False, UnplayableReason.SEGMENT_INVALID, "segments are not media")
            detail = f"segments missing ({self._status(segments.last_failure)})"
            return Verdict(False, UnplayableReason.SEGMENT_MISSING, detail)
        if self._has_segments and not segments.was_good and self.newest_segment() is not None:
            return UNKNOWN
        return PLAYABLE

    def _stale_verdict(self) -> Verdict:
        if self.problem:
            return Verdict(False, UnplayableReason.PLAYLIST_INVALID, f"invalid playlist: {self.problem}")
        if self.failure is not None:
            detail = f"playlist fails ({self._status(self.failure)})"
            return Verdict(False, UnplayableReason.PLAYLIST_FAILED, detail)
        detail = f"no new media for {self.history.age:.0f} s"
        return Verdict(False, UnplayableReason.STALE, detail)

    @staticmethod
    def _status(error: FetchError | None) -> str:
        if error is None:
            return "no response"
        return str(error.status) if error.status is not None else error.fetch_reason.value.replace("_", " ")

    # -- segments ------------------------------------------------------------------------------------------------------

    def newest_segment(self) -> SegmentAddress | None:
        """Return the newest complete segment that may be fetched; None if there is none."""
        playlist = self.playlist
        segment = None if playlist is None else playlist.newest_segment
        if segment is None or (segment.byte_range is not None and segment.byte_range.start_bytes is None):
            return None
        return SegmentAddress(
            key=f"{segment.sequence} {segment.key}",
            url=join_url(self.base_url, segment.uri),
            byte_range=_to_range(segment.byte_range),
            seconds=segment.duration_seconds,
            is_opaque=segment.opaque,
            init=self._init(segment),
        )

    def _init(self, segment: Segment) -> InitAddress | None:
        init = segment.init
        if init is None or (init.byte_range is not None and init.byte_range.start_bytes is None):
            return None
        return InitAddress(join_url(self.base_url, init.uri), _to_range(init.byte_range))


def _to_range(part: PlaylistRange | None) -> ByteRange | None:
    if part is None or part.start_bytes is None or not part.length_bytes:
        return None
    return ByteRange(part.start_bytes, part.start_bytes + part.length_bytes - 1)


def combine(verdicts: list[Verdict]) -> Verdict:
    """Return the best verdict: one playable rendition is enough, and an unknown one may be playable."""
    if not verdicts:
        return UNKNOWN
    playable = next((verdict for verdict in verdicts if verdict.playable), None)
    unknown = next((verdict for verdict in verdicts if verdict.playable is None), None)
    return playable or unknown or verdicts[0]


def first_codec(checks: list[RenditionCheck], kind: TrackKind) -> str:
    """Return the codec of the first rendition that has this kind of track; empty if none is known."""
    return next((check.segments.codecs[kind] for check in checks if kind in check.segments.codecs), "")
