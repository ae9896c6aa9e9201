"""What is served, as text 0.0.4: the catalogue's readings of the immutable views, and what the instruments count.

Rendering runs on worker threads (that of a small probe in the event loop), family by family and column by column
(``exporter.metrics.rendering``): prometheus_client takes fifty times as long, with several objects for each report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from functools import lru_cache
from itertools import chain, groupby
from operator import attrgetter
from typing import TypeVar

from exporter.metrics.families.analytics_families import ANALYTICS_FAMILIES, PLATFORM_METRIC
from exporter.metrics.families.exporter_families import DUPLICATES, SERIES, STREAMS
from exporter.metrics.families.family import STREAM_LABELS, UPSTREAM_LABELS, Part, ViewFamily
from exporter.metrics.families.sampled_families import SAMPLED_FAMILIES
from exporter.metrics.families.stream_families import STREAM_FAMILIES
from exporter.metrics.families.stream_family import StreamFamily
from exporter.metrics.families.upstream_families import PASSTHROUGH_SERIES_DROPPED, UPSTREAM_FAMILIES
from exporter.metrics.passthrough import PassthroughRenderer
from exporter.metrics.rendering.columns import Numbers, RowLabels
from exporter.metrics.rendering.gzip_stream import GzipStream, Packed
from exporter.metrics.rendering.histogram_renderer import render_histogram
from exporter.metrics.rendering.label_texts import KeptTexts
from exporter.metrics.rendering.render_cache import RenderCache
from exporter.metrics.rendering.stream_renderer import Reading, Slice
from exporter.metrics.rendering.tables import Seen, Table
from exporter.metrics.rendering.text_assembly import Counts, Rendering
from exporter.metrics.self_metrics import ExporterMetrics
from exporter.model import Analytics, PlatformMetric, UpstreamState
from exporter.store import Remembered

T = TypeVar("T")

ALL_PARTS: frozenset[str] = frozenset(Part)
FAMILIES_AT_ONCE = 4
"""So many of one slice are joined while its labels are in the processor's cache, and are in memory until written."""


class LabelTexts(KeptTexts):
    """The texts that renderings have in common."""

    def __init__(self) -> None:
        super().__init__()
        self.passthrough = PassthroughRenderer()
        self.streams = RenderCache()


class _Kept:
    """What was compressed of these views, by the parts that it shows. It keeps no view alive."""

    def __init__(self, views: Sequence[UpstreamState]) -> None:
        self.views = Remembered(*views)
        self.packed: dict[frozenset[str], tuple[Packed, Counts]] = {}


class Exposition:
    """Renders what is served now."""

    def __init__(self, views: Callable[[], Sequence[UpstreamState]], metrics: ExporterMetrics) -> None:
        """``views``: gives the views that are served at that moment."""
        self._views = views
        self._metrics = metrics
        self._texts = LabelTexts()
        self._kept = _Kept(())

    def prepare(self, view: UpstreamState) -> None:
        """Read the streams of a view that has just been published, so that the next scrape need not; thread-safe."""
        self._texts.streams.prepare(view)

    def render(self, parts: Set[str] = ALL_PARTS) -> bytes:
        """The whole text, or only these parts of it; safe to call from several threads at once."""
        return b"".join(self.pieces(parts))

    def pieces(self, parts: Set[str] = ALL_PARTS) -> list[bytes]:
        """The same in pieces, as it is large."""
        views = self._views()
        rendering = Rendering()
        self._render_views(rendering, views, parts)
        self._render_counts(rendering, views, parts)
        return rendering.chunks

    def packed(self, parts: Set[str] = ALL_PARTS) -> list[bytes]:
        """The same compressed by gzip. What comes of the views is kept while they stay: for the next replica."""
        views = self._views()
        kept = self._kept
        if not kept.views.are_still(*views):
            kept = self._kept = _Kept(views)
        of_views = frozenset(parts) - {Part.EXPORTER}
        if of_views not in kept.packed:
            packer = GzipStream()
            rendering = Rendering(packer.write)
            self._render_views(rendering, views, parts)
            kept.packed[of_views] = packer.so_far(), rendering.counts
        beginning, counts = kept.packed[of_views]
        packer = GzipStream(beginning)
        self._render_counts(Rendering(packer.write, counts), views, parts)
        return packer.finished()

    def _render_views(self, rendering: Rendering, views: Sequence[UpstreamState], parts: Set[str]) -> None:
        """What stays the same as long as the views do."""
        if Part.UPSTREAMS in parts:
            render_upstreams(rendering, views, self._texts)
        if Part.STREAMS in parts:
            render_streams(rendering, views, self._texts)

    def _render_counts(self, rendering: Rendering, views: Sequence[UpstreamState], parts: Set[str]) -> None:
        """What is counted all the time; it comes last, as it tells of the rest too."""
        if Part.UPSTREAMS in parts:
            rendering.add_text(self._metrics.render_upstreams())
        if Part.EXPORTER in parts:
            _render_tally(rendering, views, whole=parts >= ALL_PARTS)
            rendering.add_text(self._metrics.render_exporter())


def render_upstreams(rendering: Rendering, views: Sequence[UpstreamState], texts: LabelTexts) -> None:
    """The families of the views themselves."""
    keys = [(view.platform, view.upstream) for view in views]
    table = Seen(rendering).table("upstreams", texts.of("upstreams", UPSTREAM_LABELS, keys), views)
    _render_families(rendering, UPSTREAM_FAMILIES, [table], texts)
    dropped = texts.passthrough.merge(views).dropped
    counts = Numbers.of([dropped[v.platform, v.upstream] if v.passthrough is not None else None for v in table.items])
    if counts is not None:
        rendering.add_lines(PASSTHROUGH_SERIES_DROPPED, [counts.lines(PASSTHROUGH_SERIES_DROPPED.name, table.labels)])


def render_streams(rendering: Rendering, views: Sequence[UpstreamState], texts: LabelTexts) -> None:
    """The families of the streams, their sampled histograms, and what platforms export of their own."""
    blocks = texts.streams.of(views)
    slices = [(part, RowLabels(part.closed)) for block in blocks for part in block.slices]
    rendering.duplicates += sum(part.duplicates for part, _ in slices)
    families = _fed(tuple(block.reading for block in blocks))
    for start in range(0, len(families), FAMILIES_AT_ONCE):
        some = families[start : start + FAMILIES_AT_ONCE]
        found = [[part.lines(family, labels) for family in some] for part, labels in slices]
        for family, lines in zip(some, zip(*found, strict=True), strict=False):
            rendering.add_lines(family, lines)
    _render_analytics(rendering, views, [part for part, _ in slices], texts)
    for sampled in SAMPLED_FAMILIES:
        render_histogram(rendering, sampled, views, texts)
    for block in texts.passthrough.merge(views).blocks:
        rendering.add_block(*block)


@lru_cache(maxsize=64)
def _fed(readings: tuple[Reading, ...]) -> tuple[StreamFamily, ...]:
    """The families that are read in one of these ways."""
    return tuple(family for family in STREAM_FAMILIES if any(family in read.families for read in readings))


def _render_analytics(
    rendering: Rendering, views: Sequence[UpstreamState], streams: Sequence[Slice], texts: LabelTexts
) -> None:
    """The figures over a period, and the numbers without a documented meaning, of streams and of accounts."""
    analytics = list(_analytics_tables(rendering, views, texts))
    _render_families(rendering, ANALYTICS_FAMILIES, analytics, texts)
    numbers: dict[bytes, list[PlatformMetric]] = {}
    for labels, metrics in chain.from_iterable(part.metrics for part in streams):
        numbers.setdefault(labels, []).extend(metrics)
    for figures in analytics:
        for labels, item in zip(figures.labels.closed, figures.items, strict=True):
            if PLATFORM_METRIC.name not in figures.excluded:
                numbers.setdefault(labels, []).extend(item.platform_metrics)
    table_of_numbers: Table[Sequence[PlatformMetric]] = Table("numbers", list(numbers), list(numbers.values()))
    _render_families(rendering, [PLATFORM_METRIC], [table_of_numbers], texts)


def _analytics_tables(
    rendering: Rendering, views: Sequence[UpstreamState], texts: LabelTexts
) -> Iterator[Table[Analytics]]:
    """The figures of neighbours of which the same is shown are one table."""
    seen = Seen(rendering)
    for index, (excluded, group) in enumerate(groupby(views, attrgetter("excluded"))):
        having = [(view.platform, view.upstream, item) for view in group for item in view.analytics]
        name = f"analytics {index}"
        keys = [(platform, upstream, item.stream) for platform, upstream, item in having]
        items = [item for _, _, item in having]
        yield seen.table(name, texts.of(name, STREAM_LABELS, keys), items, excluded)


def _render_families(
    rendering: Rendering, families: Sequence[ViewFamily[T]], tables: Sequence[Table[T]], texts: LabelTexts
) -> None:
    for family in families:
        rendering.add_lines(family, [table.lines(family, texts) for table in tables])


def _render_tally(rendering: Rendering, views: Sequence[UpstreamState], *, whole: bool) -> None:
    """What the exporter says about the rest of its own answer."""
    tally = [(STREAMS, sum(len(view.streams) for view in views))]
    if whole:
        tally += [(SERIES, rendering.series), (DUPLICATES, rendering.duplicates)]
    for family, value in tally:
        rendering.add(family, [f"{family.name} {value}\n"])
