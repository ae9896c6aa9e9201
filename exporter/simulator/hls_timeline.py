"""The segments of a stream's HLS playlist, computed from the clock and the stream's ingest sessions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain, groupby, zip_longest
from typing import Final, NamedTuple

from exporter.simulator.fleet import EPOCH, Fleet
from exporter.simulator.simulated_streams import Stream
from exporter.simulator.totals import IngestSession
from exporter.simulator.transport_stream import SEGMENT_SECONDS

WINDOW_SEGMENTS: Final = 6
LINGER_SECONDS: Final = 14.0
"""How long a playlist stays after its stream has ended, as measured with nginx-rtmp."""
KEPT_SECONDS: Final = 60.0
"""How long a segment stays after its end."""


class HlsSegment(NamedTuple):
    """One segment."""

    sequence: int
    """Media sequence number."""
    number: int
    """Number of the segment in its ingest session, from 0."""
    start: float
    discontinuity_sequence: int

    @property
    def end(self) -> float:
        """When the segment is complete."""
        return self.start + SEGMENT_SECONDS

    @property
    def is_first(self) -> bool:
        """Whether the segment is the first one of an ingest session."""
        return self.number == 0


class _Session(NamedTuple):
    """The complete segments of one ingest session."""

    start: float
    end: float
    first_sequence: int
    segments: int
    discontinuity_sequence: int

    def segment(self, number: int) -> HlsSegment:
        start = self.start + number * SEGMENT_SECONDS
        return HlsSegment(self.first_sequence + number, number, start, self.discontinuity_sequence)


def playlist_segments(fleet: Fleet, stream: Stream, now: float) -> list[HlsSegment]:
    """Return the segments in the playlist, oldest first; empty if there is no playlist."""
    started = fleet.latest_ingest(stream, now).start
    if now - started < SEGMENT_SECONDS:
        # The playlist does not change before the first segment is complete.
        now = math.nextafter(started, 0.0)
    sessions = next(_cycles(fleet, stream, now))
    if now - sessions[-1].end >= LINGER_SECONDS:
        return []
    segments: list[HlsSegment] = []
    for session, earlier in zip_longest(reversed(sessions), reversed(sessions[:-1])):
        wanted = WINDOW_SEGMENTS - len(segments)
        segments[:0] = [
            session.segment(number) for number in range(max(0, session.segments - wanted), session.segments)
        ]
        # After a longer pause, a new playlist was started.
        if len(segments) == WINDOW_SEGMENTS or earlier is None or session.start - earlier.end >= LINGER_SECONDS:
            break
    return segments


def find_segment(fleet: Fleet, stream: Stream, sequence: int, now: float) -> HlsSegment | None:
    """Return the segment with this sequence number if the server has it: complete, and not too old."""
    for session in chain.from_iterable(_cycles(fleet, stream, now)):
        if 0 <= sequence - session.first_sequence < session.segments:
            segment = session.segment(sequence - session.first_sequence)
            return segment if now - segment.end < KEPT_SECONDS else None
    return None


def _cycles(fleet: Fleet, stream: Stream, now: float) -> Iterator[list[_Session]]:
    """Yield the sessions of the current or last cycle and of some earlier ones; each list is oldest first.

    Segments are numbered without gaps in a cycle. The first number of a cycle depends only on its start, so that
    numbers rise from cycle to cycle, and all earlier cycles need not be known.
    """
    for _, ingests in groupby(fleet.past_ingests(stream, now), key=lambda ingest: ingest.course.number):
        yield _number_segments(list(ingests)[::-1], now)


def _number_segments(ingests: Sequence[IngestSession], now: float) -> list[_Session]:
    first = sequence = int((ingests[0].course.natural_start - EPOCH) // SEGMENT_SECONDS)
    sessions = []
    for ordinal, ingest in enumerate(ingests):
        end = min(ingest.end, now)
        count = int((end - ingest.start) // SEGMENT_SECONDS)
        sessions.append(_Session(ingest.start, end, sequence, count, first + ordinal))
        sequence += count
    return sessions
