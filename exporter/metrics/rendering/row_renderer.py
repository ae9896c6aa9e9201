"""The text of an upstream with few streams, line by line: the same bytes as in bulk.

The bulk way is made for columns of thousands: to set up its families takes ten times as long as a single row. Here all
but the numbers is put together once, and kept for the next answer that says the same with other numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeVar

from exporter.metrics.families.analytics_families import ANALYTICS_FAMILIES, PLATFORM_METRIC
from exporter.metrics.families.family import STREAM_LABELS, UPSTREAM_LABELS, Number, ViewFamily
from exporter.metrics.families.stream_families import STREAM_FAMILIES
from exporter.metrics.families.upstream_families import UPSTREAM_FAMILIES
from exporter.metrics.rendering.label_texts import closed, opened
from exporter.metrics.rendering.numbers import ABSENT, number_text
from exporter.metrics.text_format import heading
from exporter.model import Analytics, PlatformMetric, StreamState, UpstreamState

T = TypeVar("T")

LABELS_KEPT: Final = 5_000
"""So many label texts are kept for the next answers."""
FRAMES_KEPT: Final = 1_000
"""So many texts without their numbers are, each of some 5 kB."""
OBJECTS_KEPT: Final = 4
"""Of so many objects at most: a view, a stream, and what else is said of it."""

_label_text = lru_cache(LABELS_KEPT)(closed)


def render_rows(view: UpstreamState, states: Iterable[StreamState], analytics: Iterable[Analytics]) -> bytes:
    """The families of a view, and of these streams and figures of it; without its histograms and foreign metrics."""
    objects, numbers = [], []
    for families, labels, item in _objects(view, states, analytics):
        own, said = families.read(item)
        objects.append(_Object(families, labels, own))
        numbers += said
    texts = number_text(numbers).split(b",")
    make = _kept_frame if len(objects) <= OBJECTS_KEPT else _frame
    frame = make(tuple(objects), bytes(map(ABSENT.__eq__, texts)))
    pieces = list(frame.pieces)
    pieces[1::3] = [texts[place] for place in frame.places]
    return b"".join(pieces)


def _objects(
    view: UpstreamState, states: Iterable[StreamState], analytics: Iterable[Analytics]
) -> Iterator[tuple[_Families, bytes, Any]]:
    """All that is shown, in the order of the text, with how it is read and its label text."""
    streams = _rows(states, lambda state: (state.identity.platform, state.identity.upstream, state.identity.stream))
    figures = _rows(analytics, lambda item: (view.platform, view.upstream, item.stream))
    yield _UPSTREAM, _label_text(UPSTREAM_LABELS, (view.platform, view.upstream)), view
    of_streams, of_analytics = _of_streams(view.feeds, view.excluded), _of_analytics(view.excluded)
    metrics: dict[bytes, list[PlatformMetric]] = {}
    for labels, state in streams.items():
        yield of_streams, labels, state
        if state.report.platform_metrics:
            metrics[labels] = list(state.report.platform_metrics)
    for labels, item in figures.items():
        yield of_analytics, labels, item
        metrics.setdefault(labels, []).extend(item.platform_metrics)
    if PLATFORM_METRIC.name not in view.excluded:
        for labels, found in metrics.items():
            yield _METRICS, labels, found


def _rows(items: Iterable[T], labels: Callable[[T], tuple[str, str, str]]) -> dict[bytes, T]:
    """Each by its label text; of those with the same the first, as a series that stood twice would fail the scrape."""
    rows: dict[bytes, T] = {}
    for item in items:
        rows.setdefault(_label_text(STREAM_LABELS, labels(item)), item)
    return rows


class _Families:
    """The families of one kind of object."""

    def __init__(self, families: Sequence[ViewFamily[Any]], common: Sequence[str]) -> None:
        """``common``: the labels of the objects themselves."""
        self.headings = [heading(family.name, family.kind, family.help).encode() for family in families]
        self._heads = [f"{family.name}{{".encode() for family in families]
        self._single = [index for index, family in enumerate(families) if family.value is not None]
        self._values = [family.value for family in families if family.value is not None]
        self._several = [(index, f.labels[len(common) :]) for index, f in enumerate(families) if f.values is not None]
        self._samples = [family.values for family in families if family.values is not None]

    def read(self, item: object) -> tuple[Hashable, list[Number | None]]:
        """What an object says, in words and in numbers."""
        numbers = [value(item) for value in self._values]
        words = []
        for reports in self._samples:
            some = reports(item)
            words.append(tuple([own for own, _ in some]))
            numbers += [number for _, number in some]
        return tuple(words), numbers

    def lines(self, labels: bytes, words: Any) -> Iterator[tuple[int, bytes]]:
        """For each of the numbers which family it is of, and its line up to it."""
        for index in self._single:
            yield index, self._heads[index] + labels
        for (index, names), some in zip(self._several, words, strict=True):
            for own in some:
                yield index, self._heads[index] + opened(labels) + _label_text(names, own)


class _Object(NamedTuple):
    """All that makes the text of an object but its numbers."""

    families: _Families
    labels: bytes
    words: Hashable


class _Frame(NamedTuple):
    """A text without its numbers."""

    pieces: Sequence[bytes]
    """Of every line its beginning, nothing, and its end."""
    places: Sequence[int]
    """Which of the numbers stand in these lines."""


def _frame(objects: Sequence[_Object], missing: bytes) -> _Frame:
    """``missing``: 1 for each of the numbers that has no line, else 0."""
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
            ahead = heading_
            for line, number in lines.items():
                pieces += (ahead + line, b"", b"\n")
                places.append(number)
                ahead = b""
    return _Frame(pieces, places)


_kept_frame = lru_cache(FRAMES_KEPT)(_frame)


@lru_cache(maxsize=64)
def _of_streams(feeds: frozenset[str] | None, excluded: frozenset[str]) -> _Families:
    """The families of platforms that can say this, but for those that are left out."""
    families = [family for family in STREAM_FAMILIES if family.is_fed(feeds) and family.name not in excluded]
    return _Families(families, STREAM_LABELS)


@lru_cache(maxsize=64)
def _of_analytics(excluded: frozenset[str]) -> _Families:
    return _Families([family for family in ANALYTICS_FAMILIES if family.name not in excluded], STREAM_LABELS)


_UPSTREAM: Final = _Families(UPSTREAM_FAMILIES, UPSTREAM_LABELS)
_METRICS: Final = _Families([PLATFORM_METRIC], STREAM_LABELS)
