"""The last quarter of an hour of every stream's bitrate and health: one small ring per stream, for the page's lines."""

from __future__ import annotations

import math
from array import array
from typing import Final

import msgspec

from exporter.metrics.text_format import label_value
from exporter.model import StreamState, UpstreamState
from exporter.runtime.clock import Clock
from exporter.store import Store

STEP_SECONDS: Final = 15.0
POINTS: Final = 60

# Besides facts, a place in a ring says "nothing was published in this step", or "it was, without this fact".
_NO_BITRATE = -1.0
_NOTHING_SCORE, _NO_SCORE, _FULL_SCORE = 255, 254, 250
_EMPTY_BITRATES = array("f", [_NO_BITRATE]) * POINTS
_EMPTY_SCORES = array("B", [_NOTHING_SCORE]) * POINTS


class Points(msgspec.Struct, frozen=True, kw_only=True):
    """One stream's last ``POINTS`` steps of ``STEP_SECONDS``, oldest first, the present one last; None: not known."""

    ingest_bitrate_bytes_per_second: tuple[float | None, ...]
    health_score_ratio: tuple[float | None, ...]


class History:
    """What was published over the last ``POINTS * STEP_SECONDS``. Used in the event loop alone."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._upstreams: dict[str, _Rings] = {}
        store.subscribe(self._record)

    def points(self, upstream: str, stream: str) -> Points | None:
        """A stream's points, None for one that is not served."""
        rings = self._upstreams.get(upstream)
        view = self._store.get(upstream)
        if rings is None or view is None:
            return None
        held = math.ceil(view.poll_interval_seconds / STEP_SECONDS)
        return rings.points(stream, self._step(), held)

    def _step(self) -> int:
        # The monotonic clock: a wall clock that is set would tear the lines.
        return int(self._clock.monotonic() // STEP_SECONDS)

    def _record(self, view: UpstreamState) -> None:
        for name in [name for name in self._upstreams if self._store.get(name) is None]:
            del self._upstreams[name]
        self._upstreams.setdefault(view.upstream, _Rings()).record(view.streams, self._step())


class _Rings:
    """The rings of one upstream's streams, side by side in two arrays in the order of its view: 300 bytes a stream."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._rows: dict[str, int] | None = None
        """The row of each label, once anybody has asked."""
        self._bitrates = array("f")
        self._scores = array("B")
        self._newest: int | None = None

    def record(self, streams: tuple[StreamState, ...], step: int) -> None:
        """What is served from now on; within one step the last word holds. It takes a column of each array at once."""
        names = [state.identity.stream for state in streams]
        if names != self._names:
            self._arrange(names)
        self._turn(step)
        bitrates = [state.report.ingest_bitrate_bytes_per_second for state in streams]
        scores = [state.health_score_ratio for state in streams]
        column = slice(step % POINTS, None, POINTS)
        self._bitrates[column] = array("f", [_NO_BITRATE if bitrate is None else bitrate for bitrate in bitrates])
        self._scores[column] = array("B", [_NO_SCORE if score is None else _stored(score) for score in scores])

    def points(self, stream: str, step: int, held: int) -> Points | None:
        """``held``: for how many steps a word holds until the next poll is due to bring another."""
        if self._rows is None:
            self._rows = _rows(self._names)
        row = self._rows.get(stream)
        if row is None or self._newest is None:
            return None
        start, oldest = row * POINTS, max(step - POINTS, self._newest - POINTS) + 1
        bitrates: list[float | None] = []
        scores: list[float | None] = []
        since = held + 1
        for wanted in range(step - POINTS + 1, step + 1):
            at = start + wanted % POINTS
            written = oldest <= wanted <= self._newest and self._scores[at] != _NOTHING_SCORE
            since = 0 if written else since + 1
            if written:
                bitrate, score = self._bitrates[at], self._scores[at]
                bitrates.append(float(round(bitrate)) if 0 <= bitrate < math.inf else None)
                scores.append(None if score == _NO_SCORE else score / _FULL_SCORE)
            else:
                bitrates.append(bitrates[-1] if since <= held else None)
                scores.append(scores[-1] if since <= held else None)
        return Points(ingest_bitrate_bytes_per_second=tuple(bitrates), health_score_ratio=tuple(scores))

    def _turn(self, step: int) -> None:
        """Empty the places of the steps that have passed since the last record."""
        rows = len(self._scores) // POINTS
        newest = step - POINTS if self._newest is None else self._newest
        for passed in range(max(newest, step - POINTS) + 1, step + 1):
            self._scores[passed % POINTS :: POINTS] = array("B", [_NOTHING_SCORE]) * rows
        self._newest = step

    def _arrange(self, names: list[str]) -> None:
        """Give each stream the row of its place; those that came have an empty one, those that left have none."""
        bitrates, scores, rows = _EMPTY_BITRATES * len(names), _EMPTY_SCORES * len(names), _rows(self._names)
        for row, name in enumerate(names if rows else ()):
            known = rows.get(label_value(name))
            if known is not None:
                here, there = row * POINTS, known * POINTS
                bitrates[here : here + POINTS] = self._bitrates[there : there + POINTS]
                scores[here : here + POINTS] = self._scores[there : there + POINTS]
        self._names, self._rows, self._bitrates, self._scores = names, None, bitrates, scores


def _rows(names: list[str]) -> dict[str, int]:
    return {label_value(name): row for row, name in enumerate(names)}


def _stored(score: float) -> int:
    # Whatever a platform of another package says, a view is published.
    return int(score * _FULL_SCORE + 0.5) if 0.0 <= score <= 1.0 else _NO_SCORE
