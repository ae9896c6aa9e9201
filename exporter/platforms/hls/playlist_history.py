"""What successive versions of one HLS media playlist prove: new media, lost media, restarts, and no media.

A frozen playlist looks like a healthy one, so only its history tells. Rules H1, H3 to H6, H8 and H11 to H13 are
numbered as in the documentation. Sources: RFC 8216 sections 4.3.3 and 6.2, and measurements with real packagers.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Final

from exporter.media.hls_playlist import MediaPlaylist, Segment
from exporter.platforms.hls.latency_history import LatencyHistory
from exporter.platforms.hls.totals import Totals
from exporter.platforms.hls.version_memory import VersionMemory

STALE_TARGETS: Final = 3.5
"""Time without new media, in target durations, after which players give up."""
STALE_PART_TARGETS: Final = 10.0
MIN_STALE_SECONDS: Final = 12.0
"""A player's usual buffer; a pause of 11 s loses no segment."""
DEFAULT_TARGET_SECONDS: Final = 6.0
"""Target duration of a playlist that has none that is readable."""
CONFIRMING_POLLS: Final = 2
BLIND_INTERVALS: Final = 3.0
"""Pause between two looks, in intervals between looks, that shows that the exporter itself did not look."""
JUMP_WINDOWS: Final = 10
"""A jump over more windows than this is a new numbering, not a loss."""
REBASE_POLLS: Final = 3
WINDOW_TARGETS: Final = 3.0
"""Minimum window, in target durations (H8)."""
WINDOW_SHORT_SECONDS: Final = 600.0
_DATE_TOLERANCE_SECONDS: Final = 0.5
GAP_SHARE: Final = 0.1


class PlaylistHistory:
    """The versions of one media playlist. All times are seconds on the steady clock, unless stated otherwise."""

    def __init__(self, totals: Totals, *, interval: float, stale_media: float | None) -> None:
        """``totals``: where to count. ``interval``: seconds between polls. ``stale_media``: None for automatic."""
        self.totals = totals
        self.interval = interval
        self.look_interval = interval
        """Seconds between looks; longer for a rendition that is looked at in turn with others."""
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
        self.unchanged_looks = 0
        """Number of looks since then, failed ones included."""
        self.latency = LatencyHistory()
        self.has_date_jumps = False
        self.lacks_discontinuity_sequence = False
        """Whether a discontinuity left the playlist, and nothing counts those (H6)."""
        self._stale_media = stale_media
        self._newest = (0, 0)
        self._versions = VersionMemory()
        self._blind_since: float | None = None
        """Time of the last look that showed anything, if a later one did not."""
        self._lower_polls: list[tuple[int, int]] = []
        """Newest media of consecutive versions that were older than an earlier version."""
        self._ended_polls = 0
        self._ended_since: float | None = None
        self._too_long_polls = 0
        self._short_since: float | None = None

    # -- looks ---------------------------------------------------------------------------------------------------------

    def observe(self, playlist: MediaPlaylist, *, now: float, wall: float, server_wall: float) -> None:
        """Take a version of the playlist. ``wall``: unix seconds; ``server_wall``: the same on the server's clock."""
        looked_at = self.looked_at
        is_blind = self._begin_look(now)
        before, gap = self.playlist, 0.0 if self.read_at is None else now - self.read_at
        self.playlist, self.read_at = playlist, now
        self.target_seconds = _target_seconds(playlist)
        self._observe_end(playlist, now)
        self.latency.observe(playlist, now=now, server_wall=server_wall)
        self.has_date_jumps = _has_date_jumps(playlist)
        self._observe_durations(playlist, now)
        is_repeated = self._versions.is_repeated(playlist, now)
        if before is None:
            self._newest = playlist.newest_media
            self._note_change(now, wall)
            self.has_advanced = self._is_dated_fresh()
            return
        has_media = bool(playlist.segment_count or playlist.parts)
        new = self._compare(before, playlist, gap=gap, is_repeated=is_repeated) if has_media else None
        if new is None:
            return
        ago = 0.0
        if not is_blind and looked_at is not None and now - looked_at > 2 * self.interval:
            # a rendition that was not looked at for some time may have stopped in between
            ago = max(0.0, now - looked_at - new)
        self._note_change(now - ago, wall - ago)
        self.unchanged_looks = int(ago > self.stale_seconds)

    def note_other_document(self, now: float) -> None:
        """Take note of a document that shows that the server works, and is not a media playlist."""
        self._begin_look(now)
        self.changed_at, self.unchanged_looks = now, 0

    def observe_failure(self, now: float) -> None:
        """Take note of a fetch that shows that viewers do not get the playlist either."""
        self._begin_look(now)

    def skip(self, now: float) -> None:
        """Do not count the time since the last look, because nothing could be seen in it."""
        if self.looked_at is None or self.changed_at is None:
            return
        self.changed_at += now - self.looked_at
        if self._blind_since is None:
            self._blind_since = self.looked_at
        self.looked_at = now

    def _begin_look(self, now: float) -> bool:
        """Exclude time in which the exporter itself did not look; return whether there was any."""
        if self.looked_at is None:
            self.looked_at = now
            self.changed_at = now
        pause = now - self.looked_at
        # playlists are not requested more often than every half target duration
        expected = max(self.look_interval, self.target_seconds / 2 + self.interval)
        is_blind = pause > BLIND_INTERVALS * expected
        if is_blind and self.changed_at is not None:
            self.changed_at += pause - expected
        self.looked_at, self._blind_since = now, None
        self.unchanged_looks += 1
        return is_blind

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
            limit = STALE_TARGETS * target
        return max(limit, target + 2 * self.interval + 2.0, MIN_STALE_SECONDS)

    @property
    def age(self) -> float:
        """Seconds from the last new media (or the first look) to the last look."""
        return 0.0 if self.changed_at is None or self.looked_at is None else self.looked_at - self.changed_at

    @property
    def is_stale(self) -> bool:
        """Whether no new media was seen for too long, and in more than one look."""
        return self.unchanged_looks >= CONFIRMING_POLLS and self.age > self.stale_seconds

    @property
    def needs_another_look(self) -> bool:
        """Whether another look will show if there is no new media."""
        return self.unchanged_looks == 1 and self.age > self.stale_seconds

    @property
    def is_outdated(self) -> bool:
        """Whether nothing could be seen for so long that the last version shows nothing about now."""
        since = self._blind_since
        return since is not None and self.looked_at is not None and self.looked_at - since > self.stale_seconds

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

    @property
    def is_latency_growing(self) -> bool:
        """Whether the latency is high, and higher than within the last ten minutes (H11)."""
        playlist = self.playlist
        return playlist is not None and not playlist.ad_markers and self.latency.is_growing(self.target_seconds)

    # -- comparison of versions ----------------------------------------------------------------------------------------

    def _compare(self, before: MediaPlaylist, after: MediaPlaylist, *, gap: float, is_repeated: bool) -> float | None:
        """Count what a version shows in comparison with the one before; return the seconds of new media, if any.

        ``gap``: seconds between both. ``is_repeated``: whether the version came back too often to have any.
        """
        first, newest = after.media_sequence, after.newest_media
        overlap = _overlap(before, after)
        compared = [pair for pair in overlap if not _may_differ(*pair, before, after)]
        are_same = [old.key == new.key for old, new in compared]
        # a token in the path changes all keys, too, but not the names
        is_replaced = (
            bool(are_same) and not any(are_same) and not all(_name(old) == _name(new) for old, new in compared)
        )
        if is_replaced or self._is_new_numbering(before, after):
            if is_repeated:
                self.totals.regressions += 1
                return None
            self._start_numbering(after)
            return math.inf
        self.lacks_discontinuity_sequence |= _has_lost_discontinuity(before, after)
        self.totals.conflicts += (not all(are_same)) + _has_wrong_discontinuities(before, after, overlap)
        if newest[0] < self._newest[0] or first < before.media_sequence:
            self._observe_older(before, newest)
            if newest[0] < self._newest[0]:
                return None
        else:
            self._lower_polls.clear()
        if newest <= self._newest or is_repeated:
            return None
        known_end = self._newest[0]
        self._count_missed(before, after, known_end, gap)
        self._count_new(after, known_end)
        self._newest = newest
        self._lower_polls.clear()
        # parts may be new although no segment is
        return (newest[0] - known_end + 1) * _mean_seconds(after)

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

    def _start_numbering(self, playlist: MediaPlaylist) -> None:
        self.totals.resets += 1
        self._count_new(playlist, playlist.media_sequence)
        self._newest = playlist.newest_media
        self._lower_polls.clear()

    def _observe_older(self, before: MediaPlaylist, newest: tuple[int, int]) -> None:
        """Count a version that is older than an earlier one; follow it once it is clear that only it goes on."""
        if newest[0] < before.newest_media[0]:
            self.totals.regressions += 1
        self._lower_polls = [*self._lower_polls, newest][-REBASE_POLLS:]
        has_moved = len(self._lower_polls) == REBASE_POLLS and self._lower_polls[0] < self._lower_polls[-1]
        if has_moved and self._lower_polls == sorted(self._lower_polls):
            self._newest = self._lower_polls[-2]

    def _count_missed(self, before: MediaPlaylist, after: MediaPlaylist, known_end: int, gap: float) -> None:
        """Count segments that were in no version (H4), unless they may have come and gone between both looks."""
        missed = after.media_sequence - known_end
        if missed <= 0:
            return
        seconds = _mean_seconds(after)
        unseen = 0
        if gap > max(before.window_seconds / 2, before.window_seconds - 2 * self.target_seconds):
            unseen = missed if not seconds else min(missed, int(gap / seconds) + 1)
        self.totals.missed += missed - unseen
        self.totals.segments += unseen
        self.totals.seconds += unseen * seconds

    def _count_new(self, playlist: MediaPlaylist, known_end: int) -> None:
        new = [segment for segment in playlist.segments if segment.sequence >= known_end]
        self.totals.segments += sum(not segment.gap for segment in new)
        self.totals.gaps += sum(segment.gap for segment in new)
        self.totals.discontinuities += sum(segment.discontinuity for segment in new)
        self.totals.seconds += sum(segment.duration_seconds or 0.0 for segment in new if not segment.gap)

    def _note_change(self, now: float, wall: float) -> None:
        self.changed_at, self.changed_wall = now, wall
        self.has_advanced, self.unchanged_looks = True, 0

    # -- single versions -----------------------------------------------------------------------------------------------

    def _observe_end(self, playlist: MediaPlaylist, now: float) -> None:
        if not playlist.ended:
            self._ended_polls, self._ended_since = 0, None
            return
        self._ended_polls += 1
        self._ended_since = now if self._ended_since is None else self._ended_since

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
        latency = self.latency.seconds
        is_fresh = latency is not None and latency <= self.stale_seconds
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


def _name(segment: Segment) -> str:
    return segment.key.rpartition("/")[2]


def _has_wrong_discontinuities(
    before: MediaPlaylist, after: MediaPlaylist, overlap: list[tuple[Segment, Segment]]
) -> bool:
    """Whether a segment changed its discontinuity sequence number (H6). Playlists without the tag are exempt."""
    if before.discontinuity_sequence is None and after.discontinuity_sequence is None:
        return False
    return any(old.discontinuity_sequence != new.discontinuity_sequence for old, new in overlap)


def _has_lost_discontinuity(before: MediaPlaylist, after: MediaPlaylist) -> bool:
    if after.discontinuity_sequence is not None:
        return False
    return any(segment.discontinuity for segment in before.segments if segment.sequence < after.media_sequence)


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
