"""The text of an upstream with few streams, row by row: the same bytes as in bulk.

The bulk way is made for columns of thousands: to set up its families takes ten times as long as a single row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, Generic, NamedTuple, TypeVar

from exporter.catalogue.analytics import ANALYTICS_FAMILIES, PLATFORM_METRIC
from exporter.catalogue.family import STREAM_LABELS, UPSTREAM_LABELS, Labelled, Number, ViewFamily
from exporter.catalogue.streams import STREAM_FAMILIES
from exporter.catalogue.upstreams import UPSTREAM_FAMILIES
from exporter.model import Analytics, PlatformMetric, StreamState, UpstreamView
from exporter.rendering.labels import closed, opened
from exporter.rendering.numbers import ABSENT, number_texts
from exporter.textformat import heading, number

T = TypeVar("T")

TEXTS_KEPT: Final = 5_000
"""So many label texts, of objects and of what families add to them, are kept for the next answers."""

_label_text = lru_cache(TEXTS_KEPT)(closed)


def few_text(view: UpstreamView, states: Iterable[StreamState], analytics: Iterable[Analytics]) -> bytes:
    """The families of a view, and of these streams and figures of it; without its histograms and foreign metrics."""
    streams = _rows(states, lambda state: (state.identity.platform, state.identity.upstream, state.identity.stream))
    figures = _rows(analytics, lambda item: (view.platform, view.upstream, item.stream))
    pieces = _UPSTREAM.pieces({_label_text(UPSTREAM_LABELS, (view.platform, view.upstream)): view})
    pieces += _of_streams(view.feeds, view.excluded).pieces(streams)
    pieces += _of_analytics(view.excluded).pieces(figures)
    metrics: dict[bytes, list[PlatformMetric]] = {}
    for labels, state in streams.items():
        if state.sample.platform_metrics:
            metrics[labels] = list(state.sample.platform_metrics)
    for labels, item in figures.items():
        metrics.setdefault(labels, []).extend(item.platform_metrics)
    if metrics and PLATFORM_METRIC.name not in view.excluded:
        pieces += _METRICS.pieces(metrics)
    return b"".join(pieces)


def _rows(items: Iterable[T], labels: Callable[[T], tuple[str, str, str]]) -> dict[bytes, T]:
    """Each by its label text; of those with the same the first, as a series that stood twice would fail the scrape."""
    rows: dict[bytes, T] = {}
    for item in items:
        rows.setdefault(_label_text(STREAM_LABELS, labels(item)), item)
    return rows


class _Reading(NamedTuple):
    """How the lines of a family are made."""

    heading: bytes
    head: bytes
    """A line up to its labels."""
    own_names: tuple[str, ...]
    samples: Callable[[Any], Sequence[Labelled]] | None
    """None: it has one value at most, and no labels of its own."""


class _Families(Generic[T]):
    """The families of one kind of object."""

    def __init__(self, families: Sequence[ViewFamily[T]], common: Sequence[str]) -> None:
        """``common``: the labels of the objects themselves."""
        self._values: list[Callable[[T], Number | None]] = [family.value or _nothing for family in families]
        self._readings = [
            _Reading(
                heading(family.name, family.kind, family.help).encode(),
                f"{family.name}{{".encode(),
                family.labels[len(common) :],
                family.values,
            )
            for family in families
        ]

    def pieces(self, rows: Mapping[bytes, T]) -> list[bytes]:
        """The text of objects by their label text: that of the families which have samples."""
        table = [(labels, item, self._texts(item)) for labels, item in rows.items()]
        pieces: list[bytes] = []
        for index, (heading_, head, own_names, samples) in enumerate(self._readings):
            ahead = heading_
            for labels, item, texts in table:
                text = texts[index]
                if text != ABSENT:
                    pieces += (ahead, head, labels, text, b"\n")
                    ahead = b""
                elif samples is not None and (lines := _several(head + opened(labels), own_names, samples(item))):
                    pieces += (ahead, lines)
                    ahead = b""
        return pieces

    def _texts(self, item: T) -> Sequence[bytes]:
        """What each family says that has one value at most."""
        numbers = number_texts([value(item) for value in self._values])
        return numbers.texts if numbers else ()


def _several(head: bytes, own_names: tuple[str, ...], samples: Sequence[Labelled]) -> bytes:
    """Lines with labels of their own; of those with the same labels the first."""
    lines: dict[bytes, bytes] = {}
    for own, value in samples:
        text = None if value is None else number(value)
        if text is not None:
            labels = _label_text(own_names, own)
            lines.setdefault(labels, b"%b%b%b\n" % (head, labels, text.encode()))
    return b"".join(lines.values())


@lru_cache(maxsize=64)
def _of_streams(feeds: frozenset[str] | None, excluded: frozenset[str]) -> _Families[StreamState]:
    """The families of platforms that can say this, but for those that are left out."""
    families = [family for family in STREAM_FAMILIES if family.is_fed(feeds) and family.name not in excluded]
    return _Families(families, STREAM_LABELS)


@lru_cache(maxsize=64)
def _of_analytics(excluded: frozenset[str]) -> _Families[Analytics]:
    return _Families([family for family in ANALYTICS_FAMILIES if family.name not in excluded], STREAM_LABELS)


def _nothing(_item: object) -> None:
    return None


_UPSTREAM: Final = _Families[UpstreamView](UPSTREAM_FAMILIES, UPSTREAM_LABELS)
_METRICS: Final = _Families[Sequence[PlatformMetric]]([PLATFORM_METRIC], STREAM_LABELS)
