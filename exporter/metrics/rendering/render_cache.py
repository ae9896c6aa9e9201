"""Cache of the streams' text by column, rendered once per poll.

Text that did not change is reused from the previous poll. The cache does not keep states alive.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from itertools import chain, compress, groupby, zip_longest
from operator import attrgetter
from typing import Any, Final

from exporter.metrics.families.family import STREAM_LABELS, StreamFamily
from exporter.metrics.families.stream_families import PLATFORM_METRIC, STREAM_FAMILIES
from exporter.metrics.rendering.columns import (
    Column,
    EntryColumn,
    EntryTexts,
    NumberColumn,
    RowLabels,
    Rows,
    RowTexts,
    WordColumn,
    read_columns,
    select_rows,
)
from exporter.metrics.rendering.lines import NO_LINES, Lines, closed_labels
from exporter.model import Identity, PlatformMetric, StreamState, UpstreamState
from exporter.store import StateReferences

CHUNK_STREAMS: Final = 1_000
"""Maximum number of streams in a chunk, so that it fits the CPU cache and the event loop can run between chunks."""
SHARED_BLOCK_STREAMS: Final = 50
"""Maximum number of streams of adjacent upstreams that share a block."""

_REPORT: Final = "report."
_IDENTITY: Final = "identity"
_METRICS: Final = "report.platform_metrics"
_OWNER: Final = attrgetter("platform", "upstream")
_EXTRACTION: Final = attrgetter("feeds", "excluded")
_NO_TEXTS: Final[RowTexts[Any]] = RowTexts([], [])

Columns = dict[str, Sequence[Any]]
"""Values by path, one per row."""


class ExtractionPlan:
    """Determines which families and attributes to read from streams."""

    def __init__(self, feeds: frozenset[str] | None, excluded: frozenset[str]) -> None:
        """``feeds`` are the fields that the platform fills (None: any); ``excluded`` are the families to leave out."""
        self.families = tuple(f for f in STREAM_FAMILIES if f.is_fed(feeds) and f.name not in excluded)
        self.has_metrics = PLATFORM_METRIC.name not in excluded
        paths = {_IDENTITY, _METRICS}.union(*(family.paths for family in self.families))
        self._report_fields = frozenset(path.removeprefix(_REPORT) for path in paths if path.startswith(_REPORT))
        self._state_fields = frozenset(path for path in paths if not path.startswith(_REPORT)) | {"report"}

    def read(self, streams: Sequence[StreamState]) -> Columns:
        """Read the columns of these streams."""
        found = read_columns(streams, self._state_fields)
        report_columns = read_columns(found["report"], self._report_fields)
        return found | {_REPORT + name: column for name, column in report_columns.items()}


extraction_plan = lru_cache(maxsize=64)(ExtractionPlan)


class Chunk:
    """The text of a number of streams, ready to be joined."""

    def __init__(
        self, streams: Sequence[StreamState], seen: set[bytes], plan: ExtractionPlan, before: Chunk | None
    ) -> None:
        """``seen`` are the label texts already used, to which this adds; texts are reused from ``before``."""
        found = plan.read(streams)
        self.identities: RowTexts[bytes] = (before.identities if before else _NO_TEXTS).update(
            [found[_IDENTITY]], _identity_labels
        )
        """The streams' identities and their label texts."""
        self.closed: Sequence[bytes] = self.identities.texts
        self.duplicates = 0
        """Number of streams dropped because an earlier one has the same labels."""
        labels = set(self.closed)
        if len(labels) < len(self.closed) or not seen.isdisjoint(labels):
            wanted = _mark_first(self.closed, seen)
            self.duplicates = wanted.count(0)
            self.closed, found = select_rows(self.closed, wanted), plan.read(select_rows(streams, wanted))
        seen |= labels
        self.owners: frozenset[tuple[str, str]] = (
            before.owners
            if before and before.identities is self.identities
            else frozenset(map(_OWNER, self.identities.columns[0]))
        )
        """Platform and upstream of the streams."""
        self.label_texts: dict[str, RowTexts[Any]] = {}
        """Texts of additional labels, by family name."""
        columns = ((family.name, self._render_column(family, found, before)) for family in plan.families)
        self.columns: dict[str, Column] = {name: column for name, column in columns if column is not None}
        """By family name."""
        metrics = found[_METRICS] if plan.has_metrics else ()
        self.metrics: list[tuple[bytes, Sequence[PlatformMetric]]] = list(
            zip(compress(self.closed, metrics), filter(None, metrics), strict=True)
        )
        """Label texts and platform metrics of the streams that have any."""

    def lines(self, family: StreamFamily, labels: RowLabels) -> Lines:
        """Return the lines of a family, given the labels of this chunk."""
        column = self.columns.get(family.name)
        return NO_LINES if column is None else column.lines(family.name, labels)

    def _render_column(self, family: StreamFamily, found: Columns, before: Chunk | None) -> Column | None:
        known_column = before.columns.get(family.name) if before else None
        if family.path:
            return NumberColumn.from_values(found[family.path], known_column)
        if family.length_of:
            lengths = [None if each is None else len(each) for each in found[family.length_of]]
            return NumberColumn.from_values(lengths, known_column)
        present = found[family.has]
        having = bytes(map(bool, present))
        if 1 not in having:
            return None
        rows: Rows = having if 0 in having else None
        known = before.label_texts.get(family.name, _NO_TEXTS) if before else _NO_TEXTS
        if family.words:
            labels = [select_rows(found[path], rows) for path in family.words]
            create = partial(_word_text, family.labels[len(STREAM_LABELS) :])
            words = self.label_texts[family.name] = known.update(labels, create)
            return WordColumn(words.texts, rows)
        texts = known.update([select_rows(present, rows)], partial(_entry_texts, family))
        self.label_texts[family.name] = texts
        return EntryColumn.from_texts(texts, rows, known_column)


class StreamBlock:
    """The chunks of upstreams with the same extraction plan. It does not keep the states alive."""

    def __init__(self, upstreams: Sequence[UpstreamState], seen: set[bytes], before: StreamBlock | None = None) -> None:
        """``seen`` are the label texts already used; ``before`` is the block of the same upstreams' previous states."""
        self.upstreams = StateReferences(*upstreams)
        self.plan = extraction_plan(upstreams[0].feeds, upstreams[0].excluded)
        streams = list(chain.from_iterable(state.streams for state in upstreams))
        parts = [streams[start : start + CHUNK_STREAMS] for start in range(0, len(streams), CHUNK_STREAMS)]
        earlier: list[Chunk] = before.chunks[: len(parts)] if before else []
        self.chunks: list[Chunk] = [Chunk(part, seen, self.plan, then) for part, then in zip_longest(parts, earlier)]
        self.owners = frozenset(chain.from_iterable(chunk.owners for chunk in self.chunks))
        """Platform and upstream of the streams."""


class RenderCache:
    """The blocks of all upstreams. Thread-safe: only one thread renders at a time."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], StreamBlock] = {}
        self._rendering = threading.Lock()

    def prepare(self, state: UpstreamState) -> None:
        """Render an upstream with many streams now; small ones are rendered by the next scrape."""
        if len(state.streams) > SHARED_BLOCK_STREAMS:
            with self._rendering:
                self._known |= [self._get_or_render([state])]

    def blocks(self, upstreams: Sequence[UpstreamState]) -> list[StreamBlock]:
        """Return the blocks of these upstreams, in order, and render those that are not cached."""
        groups = [list(group) for alike in groupby(upstreams, _EXTRACTION) for group in _group_small(alike[1])]
        with self._rendering:
            kept = self._known = dict(map(self._get_or_render, groups))
        found = list(kept.values())
        owners = [owner for block in found for owner in block.owners]
        if len(found) == len(groups) and len(set(owners)) == len(owners):
            return found
        # A stream may appear in two upstreams, and a duplicate series would fail the scrape.
        seen: set[bytes] = set()
        return [StreamBlock(group, seen) for group in groups]

    def _get_or_render(self, group: list[UpstreamState]) -> tuple[tuple[str, ...], StreamBlock]:
        names = tuple(state.upstream for state in group)
        known = self._known.get(names)
        return names, known if known and known.upstreams.refer_to(*group) else StreamBlock(group, set(), known)


def _group_small(upstreams: Iterator[UpstreamState]) -> Iterator[list[UpstreamState]]:
    """Group adjacent upstreams with few streams; an upstream with many has its own group."""
    group: list[UpstreamState] = []
    count = 0
    for state in upstreams:
        count += len(state.streams)
        if group and count > SHARED_BLOCK_STREAMS:
            yield group
            group, count = [], len(state.streams)
        group.append(state)
    yield group


def _mark_first(labels: Sequence[bytes], seen: set[bytes]) -> bytes:
    """Return 1 for each label that occurs for the first time, 0 for the others."""
    own: set[bytes] = set()
    return bytes(not (text in seen or text in own or own.add(text)) for text in labels)  # type: ignore[func-returns-value]


def _identity_labels(identity: Identity) -> bytes:
    return closed_labels(STREAM_LABELS, (identity.platform, identity.upstream, identity.stream), identity.labels)


def _word_text(names: Sequence[str], words: str | tuple[str, ...]) -> bytes:
    return closed_labels(names, (words,) if isinstance(words, str) else words) + b"1"


def _entry_texts(family: StreamFamily, key: tuple[Any, ...]) -> EntryTexts:
    """``key`` is the attribute that the entries are created from; for a mapping, a tuple of its items."""
    assert family.entries is not None
    return EntryTexts.from_entries(family.labels[-1], family.entries(key))
