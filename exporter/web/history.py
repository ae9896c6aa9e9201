"""Bitrate and health score of each stream over the last 15 minutes, for the page's sparklines and charts."""

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

# Markers in a ring buffer: no state was published in this step, or it was published without this value.
_NO_BITRATE = -1.0
_UNPUBLISHED, _NO_SCORE, _FULL_SCORE = 255, 254, 250
_EMPTY_BITRATES = array("f", [_NO_BITRATE]) * POINTS
_EMPTY_SCORES = array("B", [_UNPUBLISHED]) * POINTS


class Points(msgspec.Struct, frozen=True, kw_only=True):
    """Values of a stream in the last ``POINTS`` steps of ``STEP_SECONDS``, oldest first; None where unknown."""

    ingest_bitrate_bytes_per_second: tuple[float | None, ...]
    health_score_ratio: tuple[float | None, ...]


class History:
    """Values published in the last ``POINTS * STEP_SECONDS``. Not thread-safe."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._upstreams: dict[str, _Rings] = {}
        store.subscribe(self._record)

    def points(self, upstream: str, stream: str) -> Points | None:
        """Return a stream's points, or None if it is not served."""
        rings = self._upstreams.get(upstream)
        state = self._store.get(upstream)
        if rings is None or state is None:
            return None
        hold_steps = math.ceil(state.poll_interval_seconds / STEP_SECONDS)
        return rings.points(stream, self._current_step(), hold_steps)

    def _current_step(self) -> int:
        # Monotonic, so that setting the wall clock does not leave gaps or overlaps.
        return int(self._clock.monotonic() // STEP_SECONDS)

    def _record(self, state: UpstreamState) -> None:
        for name in [name for name in self._upstreams if self._store.get(name) is None]:
            del self._upstreams[name]
        self._upstreams.setdefault(state.upstream, _Rings()).record(state.streams, self._current_step())


class _Rings:
    """Ring buffers of one upstream: two arrays with a row per stream (300 bytes), in the order of its state."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._rows: dict[str, int] | None = None
        """Row of each label; built when first needed."""
        self._bitrates = array("f")
        self._scores = array("B")
        self._newest: int | None = None

    def record(self, streams: tuple[StreamState, ...], step: int) -> None:
        """Record the streams. Several records in one step overwrite each other."""
        names = [state.identity.stream for state in streams]
        if names != self._names:
            self._rearrange(names)
        self._clear_skipped(step)
        bitrates = [state.report.ingest_bitrate_bytes_per_second for state in streams]
        scores = [state.health_score_ratio for state in streams]
        column = slice(step % POINTS, None, POINTS)
        self._bitrates[column] = array("f", [_NO_BITRATE if bitrate is None else bitrate for bitrate in bitrates])
        self._scores[column] = array("B", [_NO_SCORE if score is None else _encode_score(score) for score in scores])

    def points(self, stream: str, step: int, hold_steps: int) -> Points | None:
        """Return a stream's points. A value is repeated for ``hold_steps`` steps, until the next poll is due."""
        if self._rows is None:
            self._rows = _rows_by_label(self._names)
        row = self._rows.get(stream)
        if row is None or self._newest is None:
            return None
        start, oldest = row * POINTS, max(step - POINTS, self._newest - POINTS) + 1
        bitrates: list[float | None] = []
        scores: list[float | None] = []
        unwritten = hold_steps + 1
        for shown in range(step - POINTS + 1, step + 1):
            at = start + shown % POINTS
            written = oldest <= shown <= self._newest and self._scores[at] != _UNPUBLISHED
            unwritten = 0 if written else unwritten + 1
            if written:
                bitrate, score = self._bitrates[at], self._scores[at]
                bitrates.append(float(round(bitrate)) if 0 <= bitrate < math.inf else None)
                scores.append(None if score == _NO_SCORE else score / _FULL_SCORE)
            else:
                bitrates.append(bitrates[-1] if unwritten <= hold_steps else None)
                scores.append(scores[-1] if unwritten <= hold_steps else None)
        return Points(ingest_bitrate_bytes_per_second=tuple(bitrates), health_score_ratio=tuple(scores))

    def _clear_skipped(self, step: int) -> None:
        """Clear the slots of the steps since the last record."""
        rows = len(self._scores) // POINTS
        newest = step - POINTS if self._newest is None else self._newest
        for passed in range(max(newest, step - POINTS) + 1, step + 1):
            self._scores[passed % POINTS :: POINTS] = array("B", [_UNPUBLISHED]) * rows
        self._newest = step

    def _rearrange(self, names: list[str]) -> None:
        """Reorder the rows, with empty rows for new streams."""
        bitrates, scores, rows = _EMPTY_BITRATES * len(names), _EMPTY_SCORES * len(names), _rows_by_label(self._names)
        for row, name in enumerate(names if rows else ()):
            known = rows.get(label_value(name))
            if known is not None:
                to, from_ = row * POINTS, known * POINTS
                bitrates[to : to + POINTS] = self._bitrates[from_ : from_ + POINTS]
                scores[to : to + POINTS] = self._scores[from_ : from_ + POINTS]
        self._names, self._rows, self._bitrates, self._scores = names, None, bitrates, scores


def _rows_by_label(names: list[str]) -> dict[str, int]:
    return {label_value(name): row for row, name in enumerate(names)}


def _encode_score(score: float) -> int:
    # An invalid score from a third-party platform must not raise here.
    return int(score * _FULL_SCORE + 0.5) if 0.0 <= score <= 1.0 else _NO_SCORE
