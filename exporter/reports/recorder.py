"""Record what happens to the streams, in memory: their changes over the last 24 hours.

Times are kept on the steady clock, so a step of the wall clock causes neither negative nor double time. They are
presented on the wall clock as it is set when a timeline is read.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

from exporter.metrics.text_format import label_value
from exporter.model import GroupState, StreamState, UpstreamState
from exporter.reports.timeline import Segment, StreamKey, StreamTimeline, Viewers
from exporter.reports.viewer_counts import ViewerCounts
from exporter.runtime.clock import Instant

KEPT_SECONDS: Final = 24 * 3600.0
MAX_STREAMS: Final = 20_000
"""Maximum number of recorded streams."""
MAX_SEGMENTS: Final = 1_000_000
"""Maximum number of segments of all streams; each takes 12 bytes."""
MAX_STREAM_SEGMENTS: Final = 2_880
"""Maximum number of segments of one stream: a change every 30 s for a day."""
MAX_VIEWER_COUNTS: Final = 2_000_000
"""Maximum number of viewer counts of all streams; each takes 8 bytes."""
MAX_STREAM_VIEWER_COUNTS: Final = 1_440
"""Maximum number of viewer counts of one stream: a change every minute for a day."""
MAX_ON_DEMAND: Final = 200
"""Maximum number of streams that are recorded only because a report on them was requested."""
VIEWERS_SECONDS: Final = 60.0
TRIM_SECONDS: Final = 60.0
"""Time between two checks of the limits."""
TRIM_GROWTH: Final = 1.1
"""Growth of the number of streams after which the limits are checked earlier."""
BITRATE_RULE: Final = "StreamBitrateLow"

SUSPENDED: Final = "exporter was suspended or blocked"
INTERNAL_ERROR: Final = "internal error of the exporter"

_MAX_CAUSES = 65_536
_MAX_RESTARTS = 254
_NO_RESTARTS = 255
_UNKNOWN = 0
"""Flags of a stream whose state is unknown."""
_CLOSED = 0xFF
"""Flags from the moment on which a stream is no longer recorded."""
_ENTRY = struct.Struct("<dBBH")
"""A segment: start on the steady clock, flags, restarts, index of its cause."""
_VALUES = (None, False, True)
"""Values of two bits of the flags."""


class _Track:
    """The history of one stream."""

    __slots__ = ("flags", "has_restarts", "health_reasons", "on_demand", "restarts", "round", "segments", "viewers")

    def __init__(self) -> None:
        self.on_demand = True
        self.round = 0
        """The last publish that contained the stream."""
        self.flags = _CLOSED
        self.restarts: int | None = None
        """Last known value of the counter."""
        self.has_restarts = False
        """Whether the last segment contains a number of restarts."""
        self.health_reasons: tuple[str, ...] = ()
        """While the stream was last live."""
        self.segments = bytearray()
        self.viewers: ViewerCounts | None = None
        """None until a number is known."""

    def add_segment(self, at: float, flags: int, restarts: int, cause: int) -> None:
        """Add a segment. One that would replace another of the same moment overwrites it."""
        self.flags = flags
        if self.segments:
            start, _, earlier, _ = _ENTRY.unpack_from(self.segments, len(self.segments) - _ENTRY.size)
            if at <= start:
                at = start
                restarts = (
                    restarts if earlier == _NO_RESTARTS else min(_MAX_RESTARTS, earlier + restarts % _NO_RESTARTS)
                )
                del self.segments[-_ENTRY.size :]
        self.has_restarts = restarts != _NO_RESTARTS
        self.segments += _ENTRY.pack(at, flags, restarts, cause)

    def note_viewers(self, minute: int, viewers: int | None) -> None:
        """Note the number of viewers from now on."""
        if self.viewers is not None:
            self.viewers.note(minute, viewers)
        elif viewers is not None:
            self.viewers = ViewerCounts()
            self.viewers.note(minute, viewers)

    def trim(self, horizon: float, limit: int) -> None:
        """Drop the segments that ended before the horizon, and the oldest ones above the limit."""
        count = len(self.segments) // _ENTRY.size
        dropped = max(0, count - limit)
        while dropped + 1 < count and _ENTRY.unpack_from(self.segments, (dropped + 1) * _ENTRY.size)[0] <= horizon:
            dropped += 1
        if dropped:
            del self.segments[: dropped * _ENTRY.size]


class Recorder:
    """The timelines of the served streams. Not thread-safe: only one thread may use it at a time."""

    def __init__(self, start: Instant) -> None:
        """``start``: when recording begins."""
        self._started = start.steady
        # minutes of viewer counts are those of the wall clock, unless it is set
        self._origin = start.steady - start.wall % VIEWERS_SECONDS
        self._groups: dict[str, tuple[StreamKey, ...]] = {}
        self._members: frozenset[StreamKey] = frozenset()
        self._group_viewers: dict[str, ViewerCounts] = {}
        self._group_expectations: dict[str, _Track] = {}
        self._upstream_viewers: dict[str, ViewerCounts] = {}
        self._tracks: dict[str, dict[str, _Track]] = {}
        self._count = 0
        """Number of tracks."""
        self._on_demand: dict[StreamKey, None] = {}
        self._round = 0
        self._causes: dict[str, int] = {"": 0}
        self._cause_texts = [""]
        self._trimmed_at = start.steady
        self._trimmed_count = 0
        """Number of tracks when they were last trimmed."""

    # -- recording -----------------------------------------------------------------------------------------------------

    def configure(self, upstreams: Collection[str], groups: Mapping[str, Sequence[StreamKey]], now: Instant) -> None:
        """Set the upstreams that are polled, and the groups, whose members are always recorded.

        What is already recorded stays until it is older than 24 h, except the viewers of a group with other members.
        """
        before, self._groups = self._groups, {name: tuple(members) for name, members in groups.items()}
        self._members = frozenset(key for members in self._groups.values() for key in members)
        self._group_viewers = {
            name: self._group_viewers[name] if before.get(name) == members else ViewerCounts()
            for name, members in self._groups.items()
        }
        for upstream, tracks in self._tracks.items():
            if upstream not in upstreams:
                self._close_missing(tracks, self._round + 1, now)
                self._note_totals(upstream, None, self._minute(now.steady))
        self._trim_all(now)

    def record_groups(self, groups: Sequence[GroupState], now: Instant) -> None:
        """Record when these groups are expected; no other group is served any more."""
        current = {group.group: group.expected for group in groups}
        for name in self._group_expectations.keys() | current.keys():
            track = self._group_expectations.setdefault(name, _Track())
            expected = current.get(name)
            flags = _CLOSED if name not in current else 0 if expected is None else 1 + expected
            if flags != track.flags:
                track.add_segment(now.steady, flags, _NO_RESTARTS, 0)

    def watch(self, key: StreamKey) -> None:
        """Record this stream from its next state on, although it is neither configured nor in a group."""
        self._on_demand.pop(key, None)
        self._on_demand[key] = None
        if len(self._on_demand) > MAX_ON_DEMAND:
            del self._on_demand[next(iter(self._on_demand))]

    def mark_unknown(self, since: float, cause: str) -> None:
        """Mark everything as unknown from ``since`` (steady seconds) until the next state of each upstream."""
        for upstream in self._tracks:
            self.mark_upstream_unknown(upstream, since, cause)
        self.mark_groups_unknown(since, cause)

    def mark_groups_unknown(self, since: float, cause: str) -> None:
        """Mark the expectations of all groups as unknown from ``since`` (steady seconds) until their next states."""
        for track in self._group_expectations.values():
            if track.flags != _CLOSED:
                track.add_segment(since, _UNKNOWN, _NO_RESTARTS, self._index_cause(cause))

    def mark_upstream_unknown(self, upstream: str, since: float, cause: str) -> None:
        """Mark the streams of an upstream as unknown from ``since`` (steady seconds) until its next state."""
        index, minute = self._index_cause(cause), self._minute(since)
        for track in self._tracks.get(upstream, {}).values():
            if track.flags != _CLOSED:
                track.add_segment(since, _UNKNOWN, _NO_RESTARTS, index)
                track.note_viewers(minute, None)
        self._note_totals(upstream, None, minute)

    def record(self, state: UpstreamState, threshold: float, now: Instant) -> None:
        """Record a published state. ``threshold``: of StreamBitrateLow, unless a stream has its own."""
        tracks = self._tracks.setdefault(state.upstream, {})
        self._round += 1
        minute = self._minute(now.steady)
        total: int | None = None
        for stream in state.streams:
            label = stream.identity.stream
            track = tracks.get(label)
            if track is None:
                if not self._is_wanted(state.upstream, label, stream):
                    continue
                track = tracks[label] = _Track()
                self._count += 1
            if track.on_demand:
                track.on_demand = not self._is_always_recorded(state.upstream, label, stream)
            track.round = self._round
            self._record_stream(track, stream, state, threshold, now.steady)
            viewers = stream.report.viewers if stream.live and state.answering else None
            track.note_viewers(minute, viewers)
            if viewers is not None:
                total = (total or 0) + viewers
        self._close_missing(tracks, self._round, now)
        self._note_totals(state.upstream, total, minute)
        has_grown = self._count > TRIM_GROWTH * self._trimmed_count
        if has_grown or now.steady >= self._trimmed_at + TRIM_SECONDS:
            self._trim_all(now)

    def _note_totals(self, upstream: str, viewers: int | None, minute: int) -> None:
        """Note the viewers of an upstream and of its groups, whose members have at most one state each."""
        self._upstream_viewers.setdefault(upstream, ViewerCounts()).note(minute, viewers)
        for name, members in self._groups.items():
            if any(key.upstream == upstream for key in members):
                counts = [count for key in members if (count := self._held_viewers(key)) is not None]
                self._group_viewers[name].note(minute, sum(counts) if counts else None)

    def _held_viewers(self, key: StreamKey) -> int | None:
        track = self._tracks.get(key.upstream, {}).get(key.stream)
        return None if track is None or track.viewers is None else track.viewers.held

    def _minute(self, at: float) -> int:
        return int((at - self._origin) // VIEWERS_SECONDS)

    def _record_stream(
        self, track: _Track, stream: StreamState, state: UpstreamState, threshold: float, at: float
    ) -> None:
        live = stream.live if state.answering else None
        expected = stream.expected
        below = _is_below_bitrate(stream, threshold) if live else None
        flags = (
            (0 if expected is None else 1 + expected)
            | (0 if live is None else 1 + live) << 2
            | (0 if below is None else 1 + below) << 4
        )
        restarts, counted = _NO_RESTARTS, stream.restarts
        if counted is not None:
            before = counted if track.restarts is None else track.restarts
            # after a reset, such as a reload, the counter starts at 0 again
            restarts = min(_MAX_RESTARTS, counted - before if counted >= before else counted)
            track.restarts = counted
        has_news = restarts != _NO_RESTARTS and (restarts > 0 or not track.has_restarts)
        if flags != track.flags or has_news:
            cause = 0 if live else self._index_cause(_describe_cause(stream, state, live, track.health_reasons))
            track.add_segment(at, flags, restarts, cause)
        track.health_reasons = stream.health_reasons if live else ()

    def _is_wanted(self, upstream: str, label: str, stream: StreamState) -> bool:
        if self._count >= MAX_STREAMS:
            return False
        return self._is_always_recorded(upstream, label, stream) or StreamKey(upstream, label) in self._on_demand

    def _is_always_recorded(self, upstream: str, label: str, stream: StreamState) -> bool:
        return stream.configured or stream.expected is not None or StreamKey(upstream, label) in self._members

    def _close_missing(self, tracks: dict[str, _Track], current: int, now: Instant) -> None:
        """End the recording of streams that are no longer served."""
        for track in tracks.values():
            if track.round != current and track.flags != _CLOSED:
                track.add_segment(now.steady, _CLOSED, _NO_RESTARTS, 0)
                track.restarts = None
                track.note_viewers(self._minute(now.steady), None)

    def _index_cause(self, text: str) -> int:
        index = self._causes.get(text)
        if index is None:
            if len(self._cause_texts) >= _MAX_CAUSES:
                return 0
            index = self._causes[text] = len(self._cause_texts)
            self._cause_texts.append(text)
        return index

    def _trim_all(self, now: Instant) -> None:
        """Keep all tracks within the limits, and forget those without data of the last 24 h."""
        self._trimmed_at = now.steady
        horizon = now.steady - KEPT_SECONDS
        oldest_minute = self._minute(horizon)
        totals = (*self._upstream_viewers.values(), *self._group_viewers.values())
        max_segments = min(MAX_STREAM_SEGMENTS, MAX_SEGMENTS // max(1, self._count))
        max_counts = min(MAX_STREAM_VIEWER_COUNTS, MAX_VIEWER_COUNTS // max(1, self._count + len(totals)))
        for upstream, tracks in list(self._tracks.items()):
            for label, track in list(tracks.items()):
                track.trim(horizon, max_segments)
                if track.viewers is not None:
                    track.viewers.trim(oldest_minute, max_counts)
                is_abandoned = track.on_demand and StreamKey(upstream, label) not in self._on_demand
                if is_abandoned or (track.flags == _CLOSED and _last_start(track.segments) <= horizon):
                    del tracks[label]
                    self._count -= 1
            if not tracks:
                del self._tracks[upstream]
                self._upstream_viewers.pop(upstream, None)
        for total in totals:
            total.trim(oldest_minute, max_counts)
        for name, track in list(self._group_expectations.items()):
            track.trim(horizon, max_segments)
            if track.flags == _CLOSED and _last_start(track.segments) <= horizon:
                del self._group_expectations[name]
        self._trimmed_count = self._count

    # -- reading, always with the same moment for one report -----------------------------------------------------------

    def started_at(self, now: Instant) -> float:
        """Return when recording began, in Unix seconds."""
        return self._started - now.steady + now.wall

    def recorded_streams(self, upstream: str) -> Sequence[StreamKey]:
        """Return the recorded streams of an upstream."""
        return [StreamKey(upstream, label) for label in self._tracks.get(upstream, ())]

    def read(self, streams: Sequence[StreamKey], now: Instant) -> Iterator[StreamTimeline]:
        """Yield the timelines of these streams in this order; an empty one for a stream that is not recorded."""
        for key in streams:
            track = self._tracks.get(key.upstream, {}).get(key.stream)
            shown = StreamKey(key.upstream, label_value(key.stream))
            if track is None:
                yield StreamTimeline(shown)
            else:
                yield StreamTimeline(shown, self._read_segments(track, now), self._read_viewers(track.viewers, now))

    def _read_segments(self, track: _Track, now: Instant) -> list[Segment]:
        offset, horizon = now.wall - now.steady, now.steady - KEPT_SECONDS
        entries = list(_ENTRY.iter_unpack(track.segments))
        ends = [*(entry[0] for entry in entries[1:]), now.steady]
        found: list[Segment] = []
        for (start, flags, restarts, cause), end in zip(entries, ends, strict=True):
            if flags == _CLOSED or end <= max(start, horizon):
                continue
            segment = Segment(
                start=max(start, horizon) + offset,
                end=end + offset,
                expected=_VALUES[flags & 3],
                live=_VALUES[flags >> 2 & 3],
                below_bitrate=_VALUES[flags >> 4 & 3],
                playable=_VALUES[flags >> 6 & 3],
                restarts=None if restarts == _NO_RESTARTS else restarts * (start >= horizon),
                cause=self._cause_texts[cause],
            )
            found.append(segment)
        return found

    def read_group_expectation(self, group: str, now: Instant) -> Sequence[Segment]:
        """Return when a group was expected."""
        track = self._group_expectations.get(group)
        return [] if track is None else self._read_segments(track, now)

    def read_group_viewers(self, group: str, now: Instant) -> Sequence[Viewers]:
        """Return the viewers of a group's members together."""
        return self._read_viewers(self._group_viewers.get(group), now)

    def read_upstream_viewers(self, upstream: str, now: Instant) -> Sequence[Viewers]:
        """Return the viewers of an upstream's recorded streams together."""
        return self._read_viewers(self._upstream_viewers.get(upstream), now)

    def _read_viewers(self, counts: ViewerCounts | None, now: Instant) -> list[Viewers]:
        origin = self._origin + now.wall - now.steady
        spans = [] if counts is None else counts.spans(self._minute(now.steady))
        return [
            Viewers(origin + VIEWERS_SECONDS * minute, origin + VIEWERS_SECONDS * end, viewers)
            for minute, end, viewers in spans
        ]


def _last_start(segments: bytearray) -> float:
    if not segments:
        return -math.inf
    start: float = _ENTRY.unpack_from(segments, len(segments) - _ENTRY.size)[0]
    return start


def _is_below_bitrate(stream: StreamState, threshold: float) -> bool | None:
    """Return whether StreamBitrateLow's condition holds for a live stream; None if unknown."""
    expected = stream.expected_ingest_bitrate_bytes_per_second
    bitrate = stream.report.ingest_bitrate_bytes_per_second
    if expected is None or bitrate is None:
        return None
    return bitrate < stream.overrides.thresholds.get(BITRATE_RULE, threshold) * expected


def _describe_cause(stream: StreamState, state: UpstreamState, live: bool | None, health_reasons: Sequence[str]) -> str:
    """Return why a stream is not known to be live; ``health_reasons``: while it last was.

    The text has no part that a platform sent, so it has few variants and no secrets.
    """
    if live is None and not state.answering:
        reason = f" ({state.last_error_reason.value})" if state.last_error_reason is not None else ""
        return f"upstream is not answering{reason}"
    if live is None:
        return "state is unknown" if stream.was_live is None else "state is unknown: no recent data about the stream"
    before = f"; health before: {', '.join(health_reasons)}" if health_reasons else ""
    return f"status {stream.status.value}{before}"
