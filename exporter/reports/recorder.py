"""Record what happens to the streams, in memory: their changes over the last 24 hours.

Times are kept on the steady clock, so a step of the wall clock causes neither negative nor double time. They are
presented on the wall clock as it is set when a timeline is read.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from exporter.metrics.text_format import label_value
from exporter.model import StreamState, UpstreamState
from exporter.reports.timeline import Segment, StreamKey, StreamTimeline, Viewers
from exporter.runtime.clock import Clock, Instant

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
BITRATE_RULE: Final = "StreamBitrateLow"

_SUSPENDED = "exporter was suspended or blocked"
_MAX_CAUSES = 65_536
_MAX_RESTARTS = 254
_NO_RESTARTS = 255
_UNKNOWN = 0
"""Flags of a stream of which nothing is known."""
_CLOSED = 0xFF
"""Flags from the moment on which a stream is no longer recorded."""
_NO_VIEWERS = 0xFFFF_FFFF
_ENTRY = struct.Struct("<dBBH")
"""A segment: start on the steady clock, flags, restarts, index of its cause."""
_COUNT = struct.Struct("<II")
"""A number of viewers: minute since the recorder's start, maximum in this and the following minutes."""
_VALUES = (None, False, True)
"""Values of two bits of the flags."""


class _Track:
    """The history of one stream."""

    __slots__ = ("flags", "health_reasons", "held_viewers", "on_demand", "restarts", "round", "segments", "viewers")

    def __init__(self, *, on_demand: bool) -> None:
        self.on_demand = on_demand
        self.round = 0
        """The last publish that contained the stream."""
        self.flags = _CLOSED
        self.restarts: int | None = None
        """Last known value of the counter."""
        self.health_reasons: tuple[str, ...] = ()
        """While the stream was last live."""
        self.held_viewers = _NO_VIEWERS
        self.segments = bytearray()
        self.viewers = bytearray()

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
        self.segments += _ENTRY.pack(at, flags, restarts, cause)

    def note_viewers(self, minute: int, viewers: int) -> None:
        """Add a changed number of viewers. Each minute keeps its maximum, unknown being less than any number."""
        counts = self.viewers
        held, self.held_viewers = self.held_viewers, viewers
        if not counts:
            counts += _COUNT.pack(minute, viewers)
            return
        last_minute, last = _COUNT.unpack_from(counts, len(counts) - _COUNT.size)
        if last_minute == minute:
            _COUNT.pack_into(counts, len(counts) - _COUNT.size, minute, _larger(last, viewers))
            return
        if last != held and last_minute + 1 < minute:
            counts += _COUNT.pack(last_minute + 1, held)
            last = held
        largest = _larger(held, viewers)
        if largest != last:
            counts += _COUNT.pack(minute, largest)

    def trim(self, horizon: float, oldest_minute: int, max_segments: int, max_counts: int) -> None:
        """Drop what ended before the horizon, and the oldest data above the limits."""
        _trim(self.segments, _ENTRY, horizon, max_segments)
        _trim(self.viewers, _COUNT, oldest_minute, max_counts)


def _larger(one: int, other: int) -> int:
    if one == _NO_VIEWERS:
        return other
    return one if other == _NO_VIEWERS else max(one, other)


def _trim(data: bytearray, entry: struct.Struct, horizon: float, limit: int) -> None:
    size = entry.size
    dropped = max(0, len(data) // size - limit)
    while (dropped + 2) * size <= len(data) and entry.unpack_from(data, (dropped + 1) * size)[0] <= horizon:
        dropped += 1
    if dropped:
        del data[: dropped * size]


class Recorder:
    """The timelines of the served streams. Not thread-safe: only one thread may use it at a time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        start = clock.instant()
        self._started = start.steady
        # minutes of viewer counts are those of the wall clock, unless it is set
        self._origin = start.steady - start.wall % VIEWERS_SECONDS
        self._members: frozenset[StreamKey] = frozenset()
        self._tracks: dict[str, dict[str, _Track]] = {}
        self._count = 0
        """Number of tracks."""
        self._on_demand: dict[StreamKey, None] = {}
        self._round = 0
        self._causes: dict[str, int] = {"": 0}
        self._cause_texts = [""]
        self._trimmed_at = start.steady

    # -- recording -----------------------------------------------------------------------------------------------------

    def configure(self, upstreams: Collection[str], members: Collection[StreamKey], now: Instant) -> None:
        """Set the upstreams that are polled, and the members of groups, which are always recorded.

        What is already recorded stays until it is older than 24 h.
        """
        self._members = frozenset(members)
        for upstream, tracks in self._tracks.items():
            if upstream not in upstreams:
                self._close_missing(tracks, self._round + 1, now.steady)
        self._trim_all(now)

    def watch(self, key: StreamKey) -> None:
        """Record this stream from its next state on, although it is neither configured nor in a group."""
        self._on_demand.pop(key, None)
        self._on_demand[key] = None
        if len(self._on_demand) > MAX_ON_DEMAND:
            del self._on_demand[next(iter(self._on_demand))]

    def note_suspension(self, since: float) -> None:
        """Mark everything as unknown from ``since`` (steady seconds) until the next state of each upstream."""
        cause = self._index_cause(_SUSPENDED)
        for tracks in self._tracks.values():
            for track in tracks.values():
                if track.flags != _CLOSED:
                    track.add_segment(since, _UNKNOWN, _NO_RESTARTS, cause)
                    self._end_viewers(track, since)

    def record(self, state: UpstreamState, threshold: float, now: Instant) -> None:
        """Record a published state. ``threshold``: of StreamBitrateLow, unless a stream has its own."""
        tracks = self._tracks.setdefault(state.upstream, {})
        self._round += 1
        before, at, minute = self._count, now.steady, int((now.steady - self._origin) // VIEWERS_SECONDS)
        for stream in state.streams:
            label = stream.identity.stream
            track = tracks.get(label)
            if track is None:
                if not self._is_wanted(state.upstream, label, stream):
                    continue
                track = tracks[label] = _Track(on_demand=True)
                self._count += 1
            if track.on_demand:
                track.on_demand = not self._is_always_recorded(state.upstream, label, stream)
            track.round = self._round
            self._record_stream(track, stream, state, threshold, at)
            viewers = stream.report.viewers if stream.live and state.answering else None
            count = _NO_VIEWERS if viewers is None else min(max(viewers, 0), _NO_VIEWERS - 1)
            if count != track.held_viewers:
                track.note_viewers(minute, count)
        self._close_missing(tracks, self._round, at)
        if self._count != before or at >= self._trimmed_at + VIEWERS_SECONDS:
            self._trim_all(now)

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
        if flags != track.flags or 0 < restarts < _NO_RESTARTS:
            cause = 0 if live else self._index_cause(_describe_cause(stream, state, live, track.health_reasons))
            track.add_segment(at, flags, restarts, cause)
        track.health_reasons = stream.health_reasons if live else ()

    def _is_wanted(self, upstream: str, label: str, stream: StreamState) -> bool:
        if self._count >= MAX_STREAMS:
            return False
        return self._is_always_recorded(upstream, label, stream) or StreamKey(upstream, label) in self._on_demand

    def _is_always_recorded(self, upstream: str, label: str, stream: StreamState) -> bool:
        return stream.configured or stream.expected is not None or StreamKey(upstream, label) in self._members

    def _close_missing(self, tracks: dict[str, _Track], current: int, at: float) -> None:
        """End the recording of streams that are no longer served."""
        for track in tracks.values():
            if track.round != current and track.flags != _CLOSED:
                track.add_segment(at, _CLOSED, _NO_RESTARTS, 0)
                track.restarts = None
                self._end_viewers(track, at)

    def _end_viewers(self, track: _Track, at: float) -> None:
        if track.held_viewers != _NO_VIEWERS:
            track.note_viewers(int((at - self._origin) // VIEWERS_SECONDS), _NO_VIEWERS)

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
        oldest_minute = int((horizon - self._origin) // VIEWERS_SECONDS)
        max_segments = min(MAX_STREAM_SEGMENTS, MAX_SEGMENTS // max(1, self._count))
        max_counts = min(MAX_STREAM_VIEWER_COUNTS, MAX_VIEWER_COUNTS // max(1, self._count))
        for upstream, tracks in list(self._tracks.items()):
            for label, track in list(tracks.items()):
                track.trim(horizon, oldest_minute, max_segments, max_counts)
                is_abandoned = track.on_demand and StreamKey(upstream, label) not in self._on_demand
                if is_abandoned or (track.flags == _CLOSED and _last_start(track.segments) <= horizon):
                    del tracks[label]
                    self._count -= 1
            if not tracks:
                del self._tracks[upstream]

    # -- reading -------------------------------------------------------------------------------------------------------

    @property
    def started_at(self) -> float:
        """When recording began, in Unix seconds."""
        now = self._clock.instant()
        return self._started - now.steady + now.wall

    def recorded_streams(self, upstream: str) -> Sequence[StreamKey]:
        """Return the recorded streams of an upstream."""
        return [StreamKey(upstream, label) for label in self._tracks.get(upstream, ())]

    def read(self, streams: Sequence[StreamKey]) -> Iterator[StreamTimeline]:
        """Yield the timelines of these streams in this order; an empty one for a stream that is not recorded."""
        now = self._clock.instant()
        for key in streams:
            track = self._tracks.get(key.upstream, {}).get(key.stream)
            shown = StreamKey(key.upstream, label_value(key.stream))
            if track is None:
                yield StreamTimeline(shown)
            else:
                yield StreamTimeline(shown, self._read_segments(track, now), self._read_viewers(track, now))

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

    def _read_viewers(self, track: _Track, now: Instant) -> list[Viewers]:
        counts = list(_COUNT.iter_unpack(track.viewers))
        if not counts:
            return []
        if counts[-1][1] != track.held_viewers:
            counts.append((counts[-1][0] + 1, track.held_viewers))
        last = math.floor((now.steady - self._origin) / VIEWERS_SECONDS) + 1
        ends = [*(minute for minute, _ in counts[1:]), last]
        origin = self._origin + now.wall - now.steady
        return [
            Viewers(origin + VIEWERS_SECONDS * minute, origin + VIEWERS_SECONDS * end, viewers)
            for (minute, viewers), end in zip(counts, ends, strict=True)
            if viewers != _NO_VIEWERS and end > minute
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
