"""Local times and spans of time.

A local time that a DST change skips becomes the next existing minute.
"""

from __future__ import annotations

import datetime
from bisect import bisect_left
from collections.abc import Iterable, Iterator

Span = tuple[float, float]
"""Start and end in Unix seconds."""


def local_span(start: datetime.datetime, end: datetime.datetime) -> Span:
    """Return the span between two local times.

    Where a local time occurs twice, the span starts at the first occurrence and ends at the second.
    """
    return find_timestamp(start.replace(fold=0)), find_timestamp(end.replace(fold=1))


def find_timestamp(moment: datetime.datetime) -> float:
    """Return the unix seconds of a local time, or of the next existing minute where the clock skips that time."""
    earlier, later = moment.replace(fold=1), moment.replace(fold=0)
    offset_before = _offset(later)
    if offset_before >= _offset(earlier):
        return moment.timestamp()
    # a skipped time: search for the clock change between its interpretations with either offset
    seconds = range(int(earlier.timestamp()), int(later.timestamp()) + 1)
    zone = moment.tzinfo
    index = bisect_left(
        seconds, True, key=lambda at: _offset(datetime.datetime.fromtimestamp(at, zone)) > offset_before
    )
    return float(seconds[index])


def merge_spans(spans: Iterable[Span]) -> Iterator[Span]:
    """Merge adjacent and overlapping spans, which are sorted, so that the start grace applies only once."""
    current: Span | None = None
    for start, end in spans:
        if current is not None and start <= current[1]:
            current = (current[0], max(current[1], end))
            continue
        if current is not None:
            yield current
        current = (start, end)
    if current is not None:
        yield current


def _offset(moment: datetime.datetime) -> datetime.timedelta:
    return moment.utcoffset() or datetime.timedelta()
