"""What happened to a stream: the interface between a source of data and the reports.

A timeline is complete: a moment that is in no segment was not recorded. All times are Unix seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class StreamKey(NamedTuple):
    """The labels that identify a stream."""

    upstream: str
    stream: str


class Segment(NamedTuple):
    """A period in which none of these facts changed. None: unknown."""

    start: float
    end: float
    expected: bool | None = None
    live: bool | None = None
    playable: bool | None = None
    below_bitrate: bool | None = None
    """Whether the ingest bitrate is below the threshold of StreamBitrateLow; None while the stream is not live."""
    restarts: int | None = None
    """Number of new ingest sessions seen at ``start``."""
    cause: str = ""
    """If the stream is not known to be live: why, as seen at ``start``."""


class Viewers(NamedTuple):
    """Maximum number of viewers in each minute of a period. Periods start and end with a minute of the recorder."""

    start: float
    end: float
    viewers: int


class StreamTimeline(NamedTuple):
    """Everything recorded about one stream, oldest first, without overlaps."""

    key: StreamKey
    segments: Sequence[Segment] = ()
    viewers: Sequence[Viewers] = ()
