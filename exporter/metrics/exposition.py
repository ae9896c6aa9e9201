"""Render the exposition in text format 0.0.4: metrics of upstreams and streams, and of the exporter itself.

Rendering runs in worker threads (in the event loop for a small probe), family by family and column by column
(``exporter.metrics.rendering``), because prometheus_client creates several objects per sample and takes 50 times as
long.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence, Set
from functools import lru_cache
from itertools import chain, groupby
from operator import attrgetter
from typing import Final, TypeVar

import msgspec
from isal import isal_zlib

from exporter.metrics.families.exporter_families import DUPLICATES, SERIES, STREAMS
from exporter.metrics.families.family import (
    GROUP_LABELS,
    STREAM_LABELS,
    UPSTREAM_LABELS,
    ModelFamily,
    Part,
    StreamFamily,
)
from exporter.metrics.families.group_families import GROUP_FAMILIES
from exporter.metrics.families.stream_families import (
    ANALYTICS_FAMILIES,
    PLATFORM_METRIC,
    SAMPLED_FAMILIES,
    STREAM_FAMILIES,
)
from exporter.metrics.families.upstream_families import PASSTHROUGH_SERIES_DROPPED, UPSTREAM_FAMILIES
from exporter.metrics.passthrough import PassthroughRenderer
from exporter.metrics.rendering.columns import NumberColumn, RowLabels
from exporter.metrics.rendering.lines import LabelCache
from exporter.metrics.rendering.render_cache import Chunk, ExtractionPlan, RenderCache
from exporter.metrics.rendering.row_renderer import render_rows
from exporter.metrics.rendering.tables import Counts, Rendering, Table, UniqueTables, render_histogram
from exporter.metrics.self_metrics import ExporterMetrics
from exporter.model import Analytics, GroupState, PlatformMetric, StreamState, UpstreamState
from exporter.store import StateReferences

LEVEL: Final = 1
_HEADER: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"
"""RFC 1952: deflate, no name, no time (the same content gives the same bytes), fastest level, unknown system."""
_RAW_DEFLATE: Final = -15


class GzipPrefix:
    """The immutable start of a gzip stream, which any number of streams can continue."""

    __slots__ = ("checksum", "pieces", "size")

    def __init__(self, pieces: tuple[bytes, ...], checksum: int, size: int) -> None:
        self.pieces = pieces
        self.checksum = checksum
        """CRC-32 of the uncompressed text."""
        self.size = size
        """Size of the uncompressed text in bytes."""


_EMPTY: Final = GzipPrefix((_HEADER,), 0, 0)


class GzipStream:
    """Compresses text as it is written, continuing a prefix."""

    def __init__(self, prefix: GzipPrefix = _EMPTY) -> None:
        self._pieces = list(prefix.pieces)
        self._checksum = prefix.checksum
        self._size = prefix.size
        self._deflate = isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, _RAW_DEFLATE)

    def write(self, text: bytes) -> None:
        """Compress more text."""
        self._checksum = isal_zlib.crc32(text, self._checksum)
        self._size += len(text)
        self._pieces.append(self._deflate.compress(text))

    def end_prefix(self) -> GzipPrefix:
        """Return everything written so far as a prefix. Do not write to this stream afterwards."""
        self._pieces.append(self._deflate.flush(isal_zlib.Z_FULL_FLUSH))
        return GzipPrefix((b"".join(self._pieces),), self._checksum, self._size)

    def finish(self) -> list[bytes]:
        """Return the whole stream, in pieces."""
        trailer = struct.pack("<LL", self._checksum, self._size & 0xFFFFFFFF)
        return [*self._pieces, self._deflate.flush(), trailer]


T = TypeVar("T")

ALL_PARTS: frozenset[str] = frozenset(Part)
MAX_ROWS = 20
"""Maximum number of streams and analytics to render row by row, in the event loop."""
JOINED_FAMILIES = 4
"""Number of families to join per chunk while the chunk's labels are in the CPU cache."""


class ExpositionCache(LabelCache):
    """Text that is reused between scrapes."""

    def __init__(self) -> None:
        super().__init__()
        self.passthrough = PassthroughRenderer()
        self.streams = RenderCache()


class _GzipCache:
    """Compressed text of these states, by the parts included. It does not keep the states alive."""

    def __init__(self, states: Sequence[UpstreamState | GroupState]) -> None:
        self.states = StateReferences(*states)
        self.prefixes: dict[frozenset[str], tuple[GzipPrefix, Counts]] = {}


class Exposition:
    """Renders the current state of all upstreams and groups."""

    def __init__(
        self,
        upstreams: Callable[[], Sequence[UpstreamState]],
        metrics: ExporterMetrics,
        groups: Callable[[], Sequence[GroupState]] = tuple,
    ) -> None:
        """``upstreams`` and ``groups`` return the current states."""
        self._upstreams = upstreams
        self._groups = groups
        self._metrics = metrics
        self._cache = ExpositionCache()
        self._gzip_cache = _GzipCache(())

    def prepare(self, state: UpstreamState) -> None:
        """Render the streams of a new state ahead of the next scrape; thread-safe."""
        self._cache.streams.prepare(state)

    def render(self, parts: Set[str] = ALL_PARTS) -> bytes:
        """Render these parts; thread-safe."""
        return b"".join(self.pieces(parts))

    def pieces(self, parts: Set[str] = ALL_PARTS) -> list[bytes]:
        """Render these parts as a list of pieces, because the text is large."""
        upstreams = self._upstreams()
        rendering = Rendering()
        self._render_states(rendering, upstreams, self._groups(), parts)
        self._render_counts(rendering, upstreams, parts)
        return rendering.chunks

    def packed(self, parts: Set[str] = ALL_PARTS) -> list[bytes]:
        """Render these parts compressed with gzip.

        The compressed text of the states is kept until they change, for scrapes by other Prometheus replicas.
        """
        upstreams, groups = self._upstreams(), self._groups()
        cache = self._gzip_cache
        if not cache.states.refer_to(*upstreams, *groups):
            cache = self._gzip_cache = _GzipCache((*upstreams, *groups))
        state_parts = frozenset(parts) - {Part.EXPORTER}
        if state_parts not in cache.prefixes:
            stream = GzipStream()
            rendering = Rendering(stream.write)
            self._render_states(rendering, upstreams, groups, parts)
            cache.prefixes[state_parts] = stream.end_prefix(), rendering.counts
        prefix, counts = cache.prefixes[state_parts]
        stream = GzipStream(prefix)
        self._render_counts(Rendering(stream.write, counts), upstreams, parts)
        return stream.finish()

    def _render_states(
        self, rendering: Rendering, upstreams: Sequence[UpstreamState], groups: Sequence[GroupState], parts: Set[str]
    ) -> None:
        """Render the metrics that change only with the states."""
        if Part.UPSTREAMS in parts:
            render_upstreams(rendering, upstreams, self._cache)
            render_groups(rendering, groups, self._cache)
        if Part.STREAMS in parts:
            render_streams(rendering, upstreams, self._cache)

    def _render_counts(self, rendering: Rendering, upstreams: Sequence[UpstreamState], parts: Set[str]) -> None:
        """Render the counters and the exporter's own metrics; last, because they include the size of the rest."""
        if Part.UPSTREAMS in parts:
            rendering.add_text(self._metrics.render_upstreams())
        if Part.EXPORTER in parts:
            _render_tally(rendering, upstreams, whole=parts >= ALL_PARTS)
            rendering.add_text(self._metrics.render_exporter())


def render_upstream(
    state: UpstreamState, streams: Sequence[StreamState], analytics: Sequence[Analytics], *, passthrough: bool
) -> bytes:
    """Render one upstream with only these of its streams and analytics, without sampled histograms.

    ``passthrough``: whether to render its pass-through metrics.
    """
    metrics = state.passthrough if passthrough else None
    if state.passthrough is None and len(streams) + len(analytics) <= MAX_ROWS:
        return render_rows(state, streams, analytics)
    rendering, cache = Rendering(), ExpositionCache()
    render_upstreams(rendering, [state], cache)
    shown = msgspec.structs.replace(
        state, streams=tuple(streams), sampled=(), analytics=tuple(analytics), passthrough=metrics
    )
    render_streams(rendering, [shown], cache)
    return rendering.text


def is_quick_to_render(state: UpstreamState) -> bool:
    """Return whether ``render_upstream`` takes less time than switching to a thread and back."""
    return state.passthrough is None and len(state.streams) + len(state.analytics) <= MAX_ROWS


def render_upstreams(rendering: Rendering, upstreams: Sequence[UpstreamState], cache: ExpositionCache) -> None:
    """Render the upstream families."""
    keys = [((state.platform, state.upstream), state.labels) for state in upstreams]
    labels = cache.object_texts("upstreams", UPSTREAM_LABELS, keys)
    table = UniqueTables(rendering).table("upstreams", labels, upstreams)
    _render_families(rendering, UPSTREAM_FAMILIES, [table], cache)
    dropped = cache.passthrough.merge(upstreams).dropped
    counts = NumberColumn.from_values(
        [dropped[s.platform, s.upstream] if s.passthrough is not None else None for s in table.items]
    )
    if counts is not None:
        rendering.add_lines(PASSTHROUGH_SERIES_DROPPED, [counts.lines(PASSTHROUGH_SERIES_DROPPED.name, table.labels)])


def render_groups(rendering: Rendering, groups: Sequence[GroupState], cache: ExpositionCache) -> None:
    """Render the group families."""
    labels = cache.label_texts("groups", GROUP_LABELS, [(state.group,) for state in groups])
    _render_families(rendering, GROUP_FAMILIES, [Table("groups", labels, groups)], cache)


def render_streams(rendering: Rendering, upstreams: Sequence[UpstreamState], cache: ExpositionCache) -> None:
    """Render the stream families, sampled histograms, and pass-through metrics."""
    blocks = cache.streams.blocks(upstreams)
    chunks = [(chunk, RowLabels(chunk.closed)) for block in blocks for chunk in block.chunks]
    rendering.duplicates += sum(chunk.duplicates for chunk, _ in chunks)
    families = _planned_families(tuple(block.plan for block in blocks))
    for start in range(0, len(families), JOINED_FAMILIES):
        some = families[start : start + JOINED_FAMILIES]
        found = [[chunk.lines(family, labels) for family in some] for chunk, labels in chunks]
        for family, lines in zip(some, zip(*found, strict=True), strict=False):
            rendering.add_lines(family, lines)
    _render_analytics(rendering, upstreams, [chunk for chunk, _ in chunks], cache)
    for sampled in SAMPLED_FAMILIES:
        render_histogram(rendering, sampled, upstreams, cache)
    for block in cache.passthrough.merge(upstreams).blocks:
        rendering.add_block(*block)


@lru_cache(maxsize=64)
def _planned_families(plans: tuple[ExtractionPlan, ...]) -> tuple[StreamFamily, ...]:
    """Return the families that at least one of these plans reads."""
    return tuple(family for family in STREAM_FAMILIES if any(family in plan.families for plan in plans))


def _render_analytics(
    rendering: Rendering, upstreams: Sequence[UpstreamState], chunks: Sequence[Chunk], cache: ExpositionCache
) -> None:
    """Render the analytics, and the platform metrics of streams and accounts."""
    analytics = list(_analytics_tables(rendering, upstreams, cache))
    _render_families(rendering, ANALYTICS_FAMILIES, analytics, cache)
    metrics_by_labels: dict[bytes, list[PlatformMetric]] = {}
    for labels, metrics in chain.from_iterable(chunk.metrics for chunk in chunks):
        metrics_by_labels.setdefault(labels, []).extend(metrics)
    for table in analytics:
        for labels, figures in zip(table.labels.closed, table.items, strict=True):
            if PLATFORM_METRIC.name not in table.excluded:
                metrics_by_labels.setdefault(labels, []).extend(figures.platform_metrics)
    platform_metrics: Table[Sequence[PlatformMetric]] = Table(
        "platform metrics", list(metrics_by_labels), list(metrics_by_labels.values())
    )
    _render_families(rendering, [PLATFORM_METRIC], [platform_metrics], cache)


def _analytics_tables(
    rendering: Rendering, upstreams: Sequence[UpstreamState], cache: ExpositionCache
) -> Iterator[Table[Analytics]]:
    """Yield one table for each run of upstreams with the same excluded families."""
    tables = UniqueTables(rendering)
    for index, (excluded, group) in enumerate(groupby(upstreams, attrgetter("excluded"))):
        found = [(state, figures) for state in group for figures in state.analytics]
        name = f"analytics {index}"
        keys = [((state.platform, state.upstream, figures.stream), state.labels) for state, figures in found]
        items = [figures for _, figures in found]
        yield tables.table(name, cache.object_texts(name, STREAM_LABELS, keys), items, excluded)


def _render_families(
    rendering: Rendering, families: Sequence[ModelFamily[T]], tables: Sequence[Table[T]], cache: ExpositionCache
) -> None:
    for family in families:
        rendering.add_lines(family, [table.lines(family, cache) for table in tables])


def _render_tally(rendering: Rendering, upstreams: Sequence[UpstreamState], *, whole: bool) -> None:
    """Render the number of streams, and of series and duplicates in the rest of the response."""
    tally = [(STREAMS, sum(len(state.streams) for state in upstreams))]
    if whole:
        tally += [(SERIES, rendering.series), (DUPLICATES, rendering.duplicates)]
    for family, value in tally:
        rendering.add(family, [f"{family.name} {value}\n"])
