"""The last quarter of an hour of every stream's bitrate and health: one small ring per stream, for the page's lines."""

from __future__ import annotations

import math
from array import array
from typing import Final

import msgspec

from exporter.clock import Clock
from exporter.model import StreamState, UpstreamView
from exporter.store import Store

STEP_SECONDS: Final = 15.0
POINTS: Final = 60

# Besides facts, a place in a ring says "nothing was published in this step", or "it was, without this fact".
_NOTHING_BITRATE, _NO_BITRATE = math.nan, -1.0
_NOTHING_SCORE, _NO_SCORE, _FULL_SCORE = 255, 254, 250
_EMPTY_BITRATES = array("f", [_NOTHING_BITRATE]) * POINTS
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

    def _record(self, view: UpstreamView) -> None:
        for name in [name for name in self._upstreams if self._store.get(name) is None]:
            del self._upstreams[name]
        self._upstreams.setdefault(view.upstream, _Rings()).record(view.streams, self._step())


class _Rings:
    """The rings of one upstream's streams, side by side in two arrays: 300 bytes a stream, and a row's number."""

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}
        self._free: list[int] = []
        self._bitrates = array("f")
        self._scores = array("B")
        self._newest: int | None = None

    def record(self, streams: tuple[StreamState, ...], step: int) -> None:
        """What is served from now on; within one step the last word holds."""
        self._turn(step)
        place = step % POINTS
        rows, bitrates, scores = self._rows, self._bitrates, self._scores
        for state in streams:
            row = rows.get(state.identity.stream)
            if row is None:
                row = self._admit(state.identity.stream)
            bitrate, score = state.sample.ingest_bitrate_bytes_per_second, state.health_score_ratio
            at = row * POINTS + place
            bitrates[at] = _NO_BITRATE if bitrate is None else bitrate
            scores[at] = _NO_SCORE if score is None else min(max(round(score * _FULL_SCORE), 0), _FULL_SCORE)
        if len(rows) != len(streams):
            self._forget_all_but({state.identity.stream for state in streams})

    def points(self, stream: str, step: int, held: int) -> Points | None:
        """``held``: for how many steps a word holds until the next poll is due to bring another."""
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
                bitrates.append(None if bitrate < 0 else float(round(bitrate)))
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
            self._bitrates[passed % POINTS :: POINTS] = array("f", [_NOTHING_BITRATE]) * rows
            self._scores[passed % POINTS :: POINTS] = array("B", [_NOTHING_SCORE]) * rows
        self._newest = step

    def _admit(self, stream: str) -> int:
        if self._free:
            row = self._free.pop()
            self._bitrates[row * POINTS : (row + 1) * POINTS] = _EMPTY_BITRATES
            self._scores[row * POINTS : (row + 1) * POINTS] = _EMPTY_SCORES
        else:
            row = len(self._scores) // POINTS
            self._bitrates.extend(_EMPTY_BITRATES)
            self._scores.extend(_EMPTY_SCORES)
        self._rows[stream] = row
        return row

    def _forget_all_but(self, streams: set[str]) -> None:
        for stream in self._rows.keys() - streams:
            self._free.append(self._rows.pop(stream))
