"""Render an upstream with few streams row by row, with the same result as by column.

Columns are designed for thousands of rows; for a single row their setup takes 10 times as long. Here, everything except
the numbers is joined once and kept for later responses that differ only in their numbers (docs/adr/0002).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeVar

from exporter.metrics.families.family import STREAM_LABELS, UPSTREAM_LABELS, ModelFamily, Number
from exporter.metrics.families.stream_families import ANALYTICS_FAMILIES, PLATFORM_METRIC, STREAM_FAMILIES
from exporter.metrics.families.upstream_families import UPSTREAM_FAMILIES
from exporter.metrics.rendering.lines import ABSENT, closed_labels, number_text, reopen_labels
from exporter.metrics.text_format import heading
from exporter.model import Analytics, Identity, PlatformMetric, StreamState, UpstreamState

T = TypeVar("T")

MAX_LABEL_TEXTS: Final = 5_000
"""Maximum number of label texts to cache."""
MAX_FRAMES: Final = 1_000
"""Maximum number of frames to cache, each of about 5 kB."""
MAX_FRAME_OBJECTS: Final = 4
"""Maximum number of objects in a cached frame: an upstream, a stream, its analytics and platform metrics."""

_label_text = lru_cache(MAX_LABEL_TEXTS)(closed_labels)


def render_rows(state: UpstreamState, streams: Iterable[StreamState], analytics: Iterable[Analytics]) -> bytes:
    """Render an upstream with these streams and analytics, without histograms and pass-through metrics."""
    objects, numbers = [], []
    for families, labels, item in _list_objects(state, streams, analytics):
        words, values = families.read(item)
        objects.append(_Object(families, labels, words))
        numbers += values
    texts = number_text(numbers).split(b",")
    create_frame = _cached_frame if len(objects) <= MAX_FRAME_OBJECTS else _create_frame
    frame = create_frame(tuple(objects), bytes(map(ABSENT.__eq__, texts)))
    pieces = list(frame.pieces)
    pieces[1::3] = [texts[place] for place in frame.places]
    return b"".join(pieces)


def _list_objects(
    state: UpstreamState, streams: Iterable[StreamState], analytics: Iterable[Analytics]
) -> Iterator[tuple[_Families, bytes, Any]]:
    """Yield the objects in the order of the text, each with its families and its label text."""
    stream_rows = _unique_rows(streams, lambda each: _identity_labels(each.identity))
    analytics_rows = _unique_rows(
        analytics, lambda each: _label_text(STREAM_LABELS, (state.platform, state.upstream, each.stream), state.labels)
    )
    yield _UPSTREAM, _label_text(UPSTREAM_LABELS, (state.platform, state.upstream), state.labels), state
    stream_families = _stream_families(state.feeds, state.excluded)
    analytics_families = _analytics_families(state.excluded)
    metrics: dict[bytes, list[PlatformMetric]] = {}
    for labels, stream in stream_rows.items():
        yield stream_families, labels, stream
        if stream.report.platform_metrics:
            metrics[labels] = list(stream.report.platform_metrics)
    for labels, figures in analytics_rows.items():
        yield analytics_families, labels, figures
        metrics.setdefault(labels, []).extend(figures.platform_metrics)
    if PLATFORM_METRIC.name not in state.excluded:
        for labels, found in metrics.items():
            yield _METRICS, labels, found


def _identity_labels(identity: Identity) -> bytes:
    return _label_text(STREAM_LABELS, (identity.platform, identity.upstream, identity.stream), identity.labels)


def _unique_rows(items: Iterable[T], labels: Callable[[T], bytes]) -> dict[bytes, T]:
    """Return the first item for each label text, because a duplicate series would fail the scrape."""
    rows: dict[bytes, T] = {}
    for item in items:
        rows.setdefault(labels(item), item)
    return rows


class _Families:
    """The families of one type of object."""

    def __init__(self, families: Sequence[ModelFamily[Any]], common: Sequence[str]) -> None:
        """``common`` are the labels that all families have."""
        self.headings = [heading(family.name, family.kind, family.help).encode() for family in families]
        self._starts = [f"{family.name}{{".encode() for family in families]
        self._single = [index for index, family in enumerate(families) if family.value is not None]
        self._values = [family.value for family in families if family.value is not None]
        self._several = [(index, f.labels[len(common) :]) for index, f in enumerate(families) if f.values is not None]
        self._samples = [family.values for family in families if family.values is not None]

    def read(self, item: object) -> tuple[Hashable, list[Number | None]]:
        """Return the additional label values and the numbers of an object."""
        numbers = [value(item) for value in self._values]
        words = []
        for samples in self._samples:
            some = samples(item)
            words.append(tuple([values for values, _ in some]))
            numbers += [number for _, number in some]
        return tuple(words), numbers

    def lines(self, labels: bytes, words: Any) -> Iterator[tuple[int, bytes]]:
        """Yield for each number the index of its family, and its line up to the number."""
        for index in self._single:
            yield index, self._starts[index] + labels
        for (index, names), some in zip(self._several, words, strict=True):
            for values in some:
                yield index, self._starts[index] + reopen_labels(labels) + _label_text(names, values)


class _Object(NamedTuple):
    """Everything in the text of an object except its numbers."""

    families: _Families
    labels: bytes
    words: Hashable


class _Frame(NamedTuple):
    """A text without its numbers."""

    pieces: Sequence[bytes]
    """For each line: its start, an empty text for the number, and its end."""
    places: Sequence[int]
    """Index of the number of each line."""


def _create_frame(objects: Sequence[_Object], missing: bytes) -> _Frame:
    """Create a frame; ``missing`` is 1 for each number that is absent, 0 for the others."""
    found: dict[_Families, list[dict[bytes, int]]] = {}
    place = 0
    for families, labels, words in objects:
        tables = found.setdefault(families, [{} for _ in families.headings])
        for index, line in families.lines(labels, words):
            if not missing[place]:
                tables[index].setdefault(line, place)
            place += 1
    pieces: list[bytes] = []
    places: list[int] = []
    for families, tables in found.items():
        for heading_, lines in zip(families.headings, tables, strict=True):
            before = heading_
            for line, number in lines.items():
                pieces += (before + line, b"", b"\n")
                places.append(number)
                before = b""
    return _Frame(pieces, places)


_cached_frame = lru_cache(MAX_FRAMES)(_create_frame)


@lru_cache(maxsize=64)
def _stream_families(feeds: frozenset[str] | None, excluded: frozenset[str]) -> _Families:
    """Return the families of a platform that fills these fields, without the excluded ones."""
    families = [family for family in STREAM_FAMILIES if family.is_fed(feeds) and family.name not in excluded]
    return _Families(families, STREAM_LABELS)


@lru_cache(maxsize=64)
def _analytics_families(excluded: frozenset[str]) -> _Families:
    return _Families([family for family in ANALYTICS_FAMILIES if family.name not in excluded], STREAM_LABELS)


_UPSTREAM: Final = _Families(UPSTREAM_FAMILIES, UPSTREAM_LABELS)
_METRICS: Final = _Families([PLATFORM_METRIC], STREAM_LABELS)
