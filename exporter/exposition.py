"""What is served, as text 0.0.4: the catalogue's readings of the immutable views, and what the instruments count.

Rendering runs on worker threads. Label text is made once, when a stream is first seen, and lines are joined in bulk:
prometheus_client's own way, several objects for each sample, takes ten times as long.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TypeVar

from exporter.catalogue.analytics import ANALYTICS_FAMILIES, PLATFORM_METRIC
from exporter.catalogue.exporter import DUPLICATES, SERIES, STREAMS
from exporter.catalogue.family import STREAM_LABELS, UPSTREAM_LABELS, Family, Labelled, Number, Part, ViewFamily
from exporter.catalogue.sampled import SAMPLED_FAMILIES, SampledFamily
from exporter.catalogue.streams import STREAM_FAMILIES
from exporter.catalogue.upstreams import FOREIGN_SERIES_DROPPED, UPSTREAM_FAMILIES
from exporter.foreign import ForeignTexts
from exporter.instruments import Instruments
from exporter.model import PlatformMetric, SampledHistogram, StreamState, UpstreamView
from exporter.textformat import bound, heading, label_text, number

T = TypeVar("T")

ALL_PARTS: frozenset[str] = frozenset(Part)

_Row = tuple[str, T]
"""The label text of an object, and the object to read."""


class LabelTexts:
    """Label text, made once and kept while its family still uses it."""

    def __init__(self) -> None:
        self.foreign = ForeignTexts()
        self._known: dict[str, dict[tuple[str, ...], str]] = {}

    def of(self, user: str, names: Sequence[str], values: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
        """The text of each of the values; what ``user`` does not ask for this time is forgotten."""
        known = self._known.get(user, {})
        used = {key: known.get(key) or label_text(names, key) for key in values}
        # Two renderings at once may both make a text; either one's result is right.
        self._known[user] = used
        return used


@dataclass
class Rendering:
    """The text of some families, as it grows, and what was counted on the way."""

    chunks: list[bytes] = field(default_factory=list)
    series: int = 0
    duplicates: int = 0
    """Objects, or label sets of one object, left out because an earlier one has the same labels."""

    def add(self, family: Family, lines: Sequence[str]) -> None:
        """A family with its lines; nothing without lines."""
        self.add_block(family.name, family.kind, family.help, lines)

    def add_block(self, name: str, kind: str, help_: str, lines: Sequence[str]) -> None:
        """The same, of a family that the catalogue does not have."""
        if lines:
            self.series += len(lines)
            # Encoded family by family: one wide character makes the whole text that it stands in four times as large.
            self.chunks.append((heading(name, kind, help_) + "".join(lines)).encode())

    def add_text(self, text: bytes) -> None:
        """Text that was made elsewhere."""
        self.series += text.count(b"\n") - text.count(b"\n#") - text.startswith(b"#")
        self.chunks.append(text)

    @property
    def text(self) -> bytes:
        """All of it."""
        return b"".join(self.chunks)


class Exposition:
    """Renders what is served now."""

    def __init__(self, views: Callable[[], Sequence[UpstreamView]], instruments: Instruments) -> None:
        """``views``: gives the views that are served at that moment."""
        self._views = views
        self._instruments = instruments
        self._texts = LabelTexts()

    def render(self, parts: Set[str] = ALL_PARTS) -> bytes:
        """The whole text, or only these parts of it; safe to call from several threads at once."""
        views = self._views()
        rendering = Rendering()
        if Part.UPSTREAMS in parts:
            render_upstreams(rendering, views, self._texts)
            rendering.add_text(self._instruments.upstreams())
        if Part.STREAMS in parts:
            render_streams(rendering, views, self._texts)
        if Part.EXPORTER in parts:
            _render_tally(rendering, views, whole=parts >= ALL_PARTS)
            rendering.add_text(self._instruments.exporter())
        return rendering.text


def render_upstreams(rendering: Rendering, views: Sequence[UpstreamView], texts: LabelTexts) -> None:
    """The families of the views themselves."""
    keyed = [((view.platform, view.upstream), view) for view in views]
    rows = _rows(rendering, keyed, texts.of("upstreams", UPSTREAM_LABELS, (key for key, _ in keyed)))
    for family in UPSTREAM_FAMILIES:
        _render_family(rendering, family, rows, texts)
    dropped = texts.foreign.merged(views).dropped
    with_export = [(labels, dropped[view.platform, view.upstream]) for labels, view in rows if view.foreign is not None]
    rendering.add(FOREIGN_SERIES_DROPPED, _single_lines(FOREIGN_SERIES_DROPPED.name, lambda count: count, with_export))


def render_streams(rendering: Rendering, views: Sequence[UpstreamView], texts: LabelTexts) -> None:
    """The families of the streams, their sampled histograms, and what platforms export of their own."""
    keyed = [
        ((state.identity.platform, state.identity.upstream, state.identity.stream), state)
        for view in views
        for state in view.streams
    ]
    rows = _rows(rendering, keyed, texts.of("streams", STREAM_LABELS, (key for key, _ in keyed)))
    for family in STREAM_FAMILIES:
        _render_family(rendering, family, rows, texts)
    _render_analytics(rendering, views, rows, texts)
    for sampled in SAMPLED_FAMILIES:
        rendering.add(sampled, list(_histogram_lines(rendering, sampled, views, texts)))
    for block in texts.foreign.merged(views).blocks:
        rendering.add_block(*block)


def _render_analytics(
    rendering: Rendering, views: Sequence[UpstreamView], streams: Sequence[_Row[StreamState]], texts: LabelTexts
) -> None:
    """The figures over a period, and the numbers without a documented meaning, of streams and of accounts."""
    keyed = [((view.platform, view.upstream, figures.stream), figures) for view in views for figures in view.analytics]
    rows = _rows(rendering, keyed, texts.of("analytics", STREAM_LABELS, (key for key, _ in keyed)))
    for family in ANALYTICS_FAMILIES:
        _render_family(rendering, family, rows, texts)
    numbers: dict[str, list[PlatformMetric]] = {}
    for labels, state in streams:
        if state.sample.platform_metrics:
            numbers.setdefault(labels, []).extend(state.sample.platform_metrics)
    for labels, figures in rows:
        numbers.setdefault(labels, []).extend(figures.platform_metrics)
    _render_family(rendering, PLATFORM_METRIC, list(numbers.items()), texts)


def _rows(
    rendering: Rendering, keyed: Sequence[tuple[tuple[str, ...], T]], texts: dict[tuple[str, ...], str]
) -> list[_Row[T]]:
    """Objects with their label text, but for those whose text an earlier one has: a series twice fails the scrape."""
    rows = [(texts[key], item) for key, item in keyed]
    first = dict(reversed(rows))
    if len(first) == len(rows):
        return rows
    rendering.duplicates += len(rows) - len(first)
    return list(reversed(first.items()))


def _render_family(rendering: Rendering, family: ViewFamily[T], rows: Sequence[_Row[T]], texts: LabelTexts) -> None:
    if family.value is not None:
        rendering.add(family, _single_lines(family.name, family.value, rows))
    elif family.values is not None:
        rendering.add(family, list(_labelled_lines(rendering, family, family.values, rows, texts)))


def _single_lines(name: str, read: Callable[[T], Number | None], rows: Sequence[_Row[T]]) -> list[str]:
    return [
        f"{name}{{{labels}}} {text}\n"
        for labels, item in rows
        if (value := read(item)) is not None and (text := number(value)) is not None
    ]


def _labelled_lines(
    rendering: Rendering,
    family: ViewFamily[T],
    read: Callable[[T], Sequence[Labelled]],
    rows: Sequence[_Row[T]],
    texts: LabelTexts,
) -> Iterator[str]:
    common = len(STREAM_LABELS) if family.part is Part.STREAMS else len(UPSTREAM_LABELS)
    objects = [(labels, samples) for labels, item in rows if (samples := read(item))]
    own_texts = texts.of(family.name, family.labels[common:], (own for _, samples in objects for own, _ in samples))
    for labels, samples in objects:
        seen: set[str] = set()
        for own, value in samples:
            text = None if value is None else number(value)
            if text is None:
                continue
            own_text = own_texts[own]
            if own_text in seen:
                rendering.duplicates += 1
                continue
            seen.add(own_text)
            yield f"{family.name}{{{labels},{own_text}}} {text}\n"


def _histogram_lines(
    rendering: Rendering, family: SampledFamily, views: Sequence[UpstreamView], texts: LabelTexts
) -> Iterator[str]:
    shared: list[tuple[tuple[str, ...], SampledHistogram]] = []
    single: list[tuple[tuple[str, ...], SampledHistogram]] = []
    for view in views:
        for h in view.sampled:
            if h.family == family.name and h.stream is None:
                shared.append(((view.platform, view.upstream, h.protocol), h))
            elif h.family == family.name and h.stream is not None:
                single.append(((view.platform, view.upstream, h.stream, h.protocol), h))
    labels = {
        **texts.of(family.name, family.labels, (key for key, _ in shared)),
        **texts.of(f"{family.name} of streams", (*STREAM_LABELS, "protocol"), (key for key, _ in single)),
    }
    bounds = [bound(upper) for upper in (*family.bounds, math.inf)]
    for text, histogram in _rows(rendering, shared + single, labels):
        cumulated = list(accumulate(histogram.counts))
        for upper, count in zip(bounds, cumulated, strict=True):
            yield f'{family.name}_bucket{{{text},le="{upper}"}} {count}\n'
        yield f"{family.name}_count{{{text}}} {cumulated[-1]}\n"
        yield f"{family.name}_sum{{{text}}} {number(histogram.sum)}\n"


def _render_tally(rendering: Rendering, views: Sequence[UpstreamView], *, whole: bool) -> None:
    """What the exporter says about the rest of its own answer."""
    tally = [(STREAMS, sum(len(view.streams) for view in views))]
    if whole:
        tally += [(SERIES, rendering.series), (DUPLICATES, rendering.duplicates)]
    for family, value in tally:
        rendering.add(family, [f"{family.name} {value}\n"])
