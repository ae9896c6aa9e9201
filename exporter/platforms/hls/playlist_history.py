"""What successive versions of one HLS media playlist prove: new media, lost media, restarts, and no media.

A frozen playlist looks like a healthy one, so only its history tells. Rules H1, H3 to H6, H8 and H11 to H13 are
numbered as in the documentation. Sources: RFC 8216 sections 4.3.3 and 6.2, and measurements with real packagers.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from exporter.media.hls_playlist import MediaPlaylist, Segment

STALE_TARGETS: Final = 3.5
"""Time without new media, in target durations, after which players give up."""
STALE_PART_TARGETS: Final = 10.0
MIN_STALE_SECONDS: Final = 12.0
"""A player's usual buffer; a pause of 11 s loses no segment."""
DEFAULT_TARGET_SECONDS: Final = 6.0
"""Target duration of a playlist that has none that is readable."""
CONFIRMING_POLLS: Final = 2
JUMP_WINDOWS: Final = 10
"""A jump over more windows than this is a new numbering, not a loss."""
REBASE_POLLS: Final = 3
WINDOW_TARGETS: Final = 3.0
"""Minimum window, in target durations (H8)."""
WINDOW_SHORT_SECONDS: Final = 600.0
LARGEST_LATENCY, SMALLEST_LATENCY = 3600.0, -2.0
"""A latency outside of this range, in seconds, shows a wrong date, not the latency."""
LATENCY_SECONDS, LATENCY_TARGETS = 30.0, 6.0
_LATENCY_MEMORY_SECONDS = 600.0
_DATE_TOLERANCE_SECONDS: Final = 0.5
_LATENCY_STEPS = 10
GAP_SHARE: Final = 0.1


@dataclass
class Totals:
    """Running totals since the check started."""

    segments: int = 0
    seconds: float = 0.0
    missed: int = 0
    resets: int = 0
    regressions: int = 0
    conflicts: int = 0
    discontinuities: int = 0
    gaps: int = 0

    def add_growth(self, before: Totals, after: Totals) -> None:
        """Add what other totals have grown by."""
        self.segments += after.segments - before.segments
        self.seconds += after.seconds - before.seconds
        self.missed += after.missed - before.missed
        self.resets += after.resets - before.resets
        self.regressions += after.regressions - before.regressions
        self.conflicts += after.conflicts - before.conflicts
        self.discontinuities += after.discontinuities - before.discontinuities
        self.gaps += after.gaps - before.gaps


class PlaylistHistory:
    """The versions of one media playlist. All times are seconds on the steady clock, unless stated otherwise."""

    def __init__(self, totals: Totals, *, interval: float, stale_media: float | None) -> None:
        """``totals``: where to count. ``interval``: seconds between looks. ``stale_media``: None for automatic."""
        self.totals = totals
        self.interval = interval
        self.playlist: MediaPlaylist | None = None
        """The last version."""
        self.target_seconds = DEFAULT_TARGET_SECONDS
        """Target duration: that of the playlist, but at most twice its longest segment."""
        self.looked_at: float | None = None
        """Time of the last look that showed anything, whether it succeeded or not."""
        self.read_at: float | None = None
        """Time of the last version."""
        self.changed_at: float | None = None
        """Time when new media was last seen. Time in which nothing could be seen is not counted."""
        self.changed_wall: float | None = None
        """The same in unix seconds."""
        self.has_advanced = False
        """Whether new media was seen, or the newest media is dated as fresh."""
        self.latency: float | None = None
        """Seconds between the newest media's end, as dated, and its arrival."""
        self.has_wrong_date = False
        self.has_date_jumps = False
        self._stale_media = stale_media
        self._newest = (0, 0)
        self._lower_polls: list[tuple[int, int]] = []
        """Newest media of consecutive versions that were older than an earlier version."""
        self._ended_polls = 0
        self._ended_since: float | None = None
        self._too_long_polls = 0
        self._short_since: float | None = None
        self._lowest_latencies: deque[tuple[float, float]] = deque(maxlen=_LATENCY_STEPS + 1)
        """Start of a period, and the lowest latency in it."""

    # -- looks ---------------------------------------------------------------------------------------------------------

    def observe(self, playlist: MediaPlaylist, *, now: float, wall: float, server_wall: float) -> None:
        """Take a version of the playlist. ``wall``: unix seconds; ``server_wall``: the same on the server's clock."""
        self._begin_look(now)
        before, gap = self.playlist, 0.0 if self.read_at is None else now - self.read_at
        self.playlist, self.read_at = playlist, now
        self.target_seconds = _target_seconds(playlist)
        self._observe_end(playlist, now)
        self._observe_latency(playlist, now, server_wall)
        self._observe_durations(playlist, now)
        if before is None:
            self._newest = playlist.newest_media
            self._note_change(now, wall)
            self.has_advanced = self._is_dated_fresh()
            return
        if playlist.segment_count or playlist.parts:
            self._compare(before, playlist, gap=gap, now=now, wall=wall)

    def observe_failure(self, now: float) -> None:
        """Take note of a fetch that shows that viewers do not get the playlist either."""
        self._begin_look(now)

    def skip(self, now: float) -> None:
        """Do not count the time since the last look, because nothing could be seen in it."""
        if self.looked_at is not None and self.changed_at is not None:
            self.changed_at += now - self.looked_at
        self.looked_at = now

    def _begin_look(self, now: float) -> None:
        """Exclude time in which the exporter itself did not look."""
        if self.looked_at is None:
            self.looked_at = now
            self.changed_at = now
        pause = now - self.looked_at
        if pause > 3 * self.interval and self.changed_at is not None:
            self.changed_at += pause - self.interval
        self.looked_at = now

    # -- verdicts ------------------------------------------------------------------------------------------------------

    @property
    def stale_seconds(self) -> float:
        """Time without new media after which the stream is not live."""
        if self._stale_media is not None:
            return self._stale_media
        playlist, target = self.playlist, self.target_seconds
        if playlist is not None and playlist.part_target_seconds and playlist.parts:
            limit = STALE_PART_TARGETS * playlist.part_target_seconds
        else:
            limit = max(STALE_TARGETS * target, target)
        return max(limit, target + 2 * self.interval + 2.0, MIN_STALE_SECONDS)

    def age(self, now: float) -> float:
        """Return the seconds since new media was last seen, or since the first look."""
        return 0.0 if self.changed_at is None else now - self.changed_at

    def is_stale(self, now: float) -> bool:
        """Whether no new media was seen for too long."""
        return self.age(now) > self.stale_seconds

    @property
    def has_ended(self) -> bool:
        """Whether the playlist says that there will be no more segments (H12), for at least one target duration."""
        if self._ended_since is None or self.read_at is None:
            return False
        return self._ended_polls >= CONFIRMING_POLLS and self.read_at - self._ended_since >= self.target_seconds

    def is_window_short(self, now: float) -> bool:
        """Whether the playlist has offered too little media for a long time (H8)."""
        return self._short_since is not None and now - self._short_since > WINDOW_SHORT_SECONDS

    @property
    def has_long_segments(self) -> bool:
        """Whether segments have exceeded the target duration in three versions (H7)."""
        return self._too_long_polls >= REBASE_POLLS

    @property
    def gap_share(self) -> float:
        """Share of the segments that are marked as missing (H13)."""
        segments = () if self.playlist is None else self.playlist.segments
        return sum(segment.gap for segment in segments) / len(segments) if segments else 0.0

    @property
    def is_gap_at_edge(self) -> bool:
        """Whether the two newest segments are marked as missing."""
        segments = () if self.playlist is None else self.playlist.segments[-2:]
        return bool(segments) and all(segment.gap for segment in segments)

    def is_latency_growing(self) -> bool:
        """Whether the latency is high, and higher than within the last ten minutes (H11)."""
        playlist = self.playlist
        if self.latency is None or playlist is None or playlist.ad_markers or not self._lowest_latencies:
            return False
        target = self.target_seconds
        lowest = min(latency for _, latency in self._lowest_latencies)
        is_high = self.latency > max(LATENCY_SECONDS, LATENCY_TARGETS * target)
        return is_high and self.latency > lowest + max(LATENCY_SECONDS / 3, LATENCY_TARGETS * target / 2)

    # -- comparison of versions ----------------------------------------------------------------------------------------

    def _compare(self, before: MediaPlaylist, after: MediaPlaylist, *, gap: float, now: float, wall: float) -> None:
        first, newest = after.media_sequence, after.newest_media
        overlap = _overlap(before, after)
        are_same = [old.key == new.key for old, new in overlap if not _may_differ(old, new, before, after)]
        is_replaced = bool(are_same) and not any(are_same)
        if is_replaced or self._is_new_numbering(before, after):
            self._start_numbering(after, now, wall)
            return
        self.totals.conflicts += (not all(are_same)) + _has_wrong_discontinuities(before, after, overlap)
        if newest[0] < self._newest[0] or first < before.media_sequence:
            self._observe_older(before, newest)
            if newest[0] < self._newest[0]:
                return
        else:
            self._lower_polls.clear()
        if newest <= self._newest:
            return
        known_end = self._newest[0]
        self._count_missed(before, after, known_end, gap)
        self._count_new(after, known_end)
        self._newest, self.has_advanced = newest, True
        self._lower_polls.clear()
        self._note_change(now, wall)

    def _is_new_numbering(self, before: MediaPlaylist, after: MediaPlaylist) -> bool:
        """Whether the packager started to count anew, as after a restart."""
        known_end, count = self._newest[0], max(before.segment_count, JUMP_WINDOWS)
        if after.media_sequence > known_end + JUMP_WINDOWS * count:
            return True
        if after.newest_media[0] > before.media_sequence or after.media_sequence >= before.media_sequence:
            return False
        edges = before.edge_timestamp_seconds, after.edge_timestamp_seconds
        if edges[0] is not None and edges[1] is not None:
            return edges[1] >= edges[0] - _DATE_TOLERANCE_SECONDS
        return after.media_sequence <= 1

    def _start_numbering(self, playlist: MediaPlaylist, now: float, wall: float) -> None:
        self.totals.resets += 1
        self._count_new(playlist, playlist.media_sequence)
        self._newest, self.has_advanced = playlist.newest_media, True
        self._lower_polls.clear()
        self._note_change(now, wall)

    def _observe_older(self, before: MediaPlaylist, newest: tuple[int, int]) -> None:
        """Count a version that is older than an earlier one; follow it once it is clear that only it goes on."""
        if newest[0] < before.newest_media[0]:
            self.totals.regressions += 1
        self._lower_polls = [*self._lower_polls, newest][-REBASE_POLLS:]
        has_moved = len(self._lower_polls) == REBASE_POLLS and self._lower_polls[0] < self._lower_polls[-1]
        if has_moved and self._lower_polls == sorted(self._lower_polls):
            self._newest = self._lower_polls[-2]

    def _count_missed(self, before: MediaPlaylist, after: MediaPlaylist, known_end: int, gap: float) -> None:
        """Count segments that were in no version (H4), unless the exporter itself looked too rarely."""
        missed = after.media_sequence - known_end
        if missed <= 0:
            return
        # a segment stays in the playlist for the window; two target durations allow for segments that appear together
        longest = max(before.window_seconds / 2, before.window_seconds - 2 * self.target_seconds)
        if before.window_seconds and gap <= longest:
            self.totals.missed += missed
        else:
            # they may have been there
            self.totals.segments += missed
            self.totals.seconds += missed * _mean_seconds(after)

    def _count_new(self, playlist: MediaPlaylist, known_end: int) -> None:
        new = [segment for segment in playlist.segments if segment.sequence >= known_end]
        self.totals.segments += sum(not segment.gap for segment in new)
        self.totals.gaps += sum(segment.gap for segment in new)
        self.totals.discontinuities += sum(segment.discontinuity for segment in new)
        self.totals.seconds += sum(segment.duration_seconds or 0.0 for segment in new if not segment.gap)

    def _note_change(self, now: float, wall: float) -> None:
        self.changed_at, self.changed_wall = now, wall

    # -- single versions -----------------------------------------------------------------------------------------------

    def _observe_end(self, playlist: MediaPlaylist, now: float) -> None:
        if not playlist.ended:
            self._ended_polls, self._ended_since = 0, None
            return
        self._ended_polls += 1
        self._ended_since = now if self._ended_since is None else self._ended_since

    def _observe_latency(self, playlist: MediaPlaylist, now: float, server_wall: float) -> None:
        edge = playlist.edge_timestamp_seconds
        latency = None if edge is None else server_wall - edge
        self.has_wrong_date = latency is not None and not SMALLEST_LATENCY <= latency <= LARGEST_LATENCY
        self.latency = None if self.has_wrong_date or latency is None else max(0.0, latency)
        self.has_date_jumps = _has_date_jumps(playlist)
        if self.latency is None:
            return
        step = _LATENCY_MEMORY_SECONDS / _LATENCY_STEPS
        lows = self._lowest_latencies
        if not lows or now - lows[-1][0] >= step:
            lows.append((now, self.latency))
        elif self.latency < lows[-1][1]:
            lows[-1] = (lows[-1][0], self.latency)

    def _observe_durations(self, playlist: MediaPlaylist, now: float) -> None:
        target = playlist.target_duration_seconds
        lengths = [segment.duration_seconds or 0.0 for segment in playlist.segments if not segment.ad_break]
        is_too_long = target is not None and any(round(length) > round(target) for length in lengths)
        self._too_long_polls = self._too_long_polls + 1 if is_too_long else 0
        has_whole_window = playlist.playlist_type is None and not playlist.ended and not playlist.ad_markers
        is_short = has_whole_window and playlist.window_seconds < WINDOW_TARGETS * self.target_seconds
        if not is_short:
            self._short_since = None
        elif self._short_since is None:
            self._short_since = now

    def _is_dated_fresh(self) -> bool:
        playlist = self.playlist
        is_fresh = self.latency is not None and self.latency <= self.stale_seconds
        return is_fresh and playlist is not None and not playlist.ended


def _target_seconds(playlist: MediaPlaylist) -> float:
    target, longest = playlist.target_duration_seconds, playlist.longest_segment_seconds
    known = [value for value in (target, None if longest is None else 2 * longest) if value]
    return min(known) if known else DEFAULT_TARGET_SECONDS


def _overlap(before: MediaPlaylist, after: MediaPlaylist) -> list[tuple[Segment, Segment]]:
    """Return the segments with the same sequence number in both versions."""
    old = {segment.sequence: segment for segment in before.segments}
    return [(old[segment.sequence], segment) for segment in after.segments if segment.sequence in old]


def _may_differ(old: Segment, new: Segment, before: MediaPlaylist, after: MediaPlaylist) -> bool:
    """Whether a segment may have another URI in the next version: advertisements are chosen for each viewer."""
    return old.ad_break or new.ad_break or before.ad_markers or after.ad_markers or old.gap or new.gap


def _has_wrong_discontinuities(
    before: MediaPlaylist, after: MediaPlaylist, overlap: list[tuple[Segment, Segment]]
) -> bool:
    """Whether a segment changed its discontinuity sequence number (H6). Playlists without the tag are exempt."""
    if before.discontinuity_sequence is None and after.discontinuity_sequence is None:
        return False
    return any(old.discontinuity_sequence != new.discontinuity_sequence for old, new in overlap)


def _mean_seconds(playlist: MediaPlaylist) -> float:
    return playlist.window_seconds / playlist.segment_count if playlist.segment_count else 0.0


def _has_date_jumps(playlist: MediaPlaylist) -> bool:
    """Whether dates do not follow the durations, without a discontinuity (H10)."""
    for one, next_ in pairwise(playlist.segments):
        dates, length = (one.start_timestamp_seconds, next_.start_timestamp_seconds), one.duration_seconds
        if next_.discontinuity or next_.ad_break or one.ad_break or length is None:
            continue
        if (
            dates[0] is not None
            and dates[1] is not None
            and abs(dates[1] - dates[0] - length) > _DATE_TOLERANCE_SECONDS
        ):
            return True
    return False
