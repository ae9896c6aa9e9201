"""Streams, read once for each poll: what is made of a slice of them is text by columns, which a scrape joins.

None of the states is kept, and text that stays the same is taken over from what was there before.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from itertools import compress
from operator import attrgetter
from typing import Any, Final

from exporter.metrics.families.analytics_families import PLATFORM_METRIC
from exporter.metrics.families.family import STREAM_LABELS
from exporter.metrics.families.stream_families import STREAM_FAMILIES
from exporter.metrics.families.stream_family import StreamFamily
from exporter.metrics.rendering.columns import (
    Column,
    Entries,
    EntryTexts,
    Numbers,
    RowLabels,
    Rows,
    Texts,
    Words,
    chosen,
)
from exporter.metrics.rendering.label_texts import closed
from exporter.metrics.rendering.lines import NONE, Lines
from exporter.metrics.rendering.struct_columns import columns
from exporter.model import Identity, PlatformMetric, StreamState

_SAMPLE: Final = "report."
_IDENTITY: Final = "identity"
_METRICS: Final = "report.platform_metrics"
_OWNER: Final = attrgetter("platform", "upstream")
_KNOWN: Final[Texts[Any]] = Texts([], [])

Columns = dict[str, Sequence[Any]]
"""What stands at each path, row by row."""


class Reading:
    """Which families are read of streams, and how."""

    def __init__(self, feeds: frozenset[str] | None, excluded: frozenset[str]) -> None:
        """``feeds``: what their platform can say, None: anything; ``excluded``: the names of what is left out."""
        self.families = tuple(f for f in STREAM_FAMILIES if f.is_fed(feeds) and f.name not in excluded)
        self.has_metrics = PLATFORM_METRIC.name not in excluded
        paths = {_IDENTITY, _METRICS}.union(*(family.paths for family in self.families))
        self._of_samples = frozenset(path.removeprefix(_SAMPLE) for path in paths if path.startswith(_SAMPLE))
        self._of_states = frozenset(path for path in paths if not path.startswith(_SAMPLE)) | {"report"}

    def columns(self, states: Sequence[StreamState]) -> Columns:
        """What the streams have to say."""
        found = columns(states, self._of_states)
        of_samples = columns(found["report"], self._of_samples)
        return found | {_SAMPLE + name: column for name, column in of_samples.items()}


@lru_cache(maxsize=64)
def reading(feeds: frozenset[str] | None, excluded: frozenset[str]) -> Reading:
    """The one of platforms that can say this, and upstreams of which that is left out."""
    return Reading(feeds, excluded)


class Slice:
    """What is served of some streams, ready to be joined."""

    def __init__(self, states: Sequence[StreamState], seen: set[bytes], read: Reading, before: Slice | None) -> None:
        """``seen``: the label texts that are taken; those of these streams are added. ``before``: where texts are."""
        found = read.columns(states)
        self.identities: Texts[bytes] = (before.identities if before else _KNOWN).of([found[_IDENTITY]], _labels)
        """The streams, and the label texts that they make."""
        self.closed: Sequence[bytes] = self.identities.texts
        self.duplicates = 0
        """Streams left out because an earlier one has the same labels."""
        labels = set(self.closed)
        if len(labels) < len(self.closed) or not seen.isdisjoint(labels):
            wanted = _first_of_each(self.closed, seen)
            self.duplicates = wanted.count(0)
            self.closed, found = chosen(self.closed, wanted), read.columns(chosen(states, wanted))
        seen |= labels
        self.owners: frozenset[tuple[str, str]] = (
            before.owners
            if before and before.identities is self.identities
            else frozenset(map(_OWNER, self.identities.columns[0]))
        )
        """The platforms and upstreams of the streams."""
        self.words: dict[str, Texts[Any]] = {}
        """The texts of labels that families have of their own."""
        columns_ = ((family.name, self._column(family, found, before)) for family in read.families)
        self.columns: dict[str, Column] = {name: column for name, column in columns_ if column is not None}
        """What each family says, by its name."""
        metrics = found[_METRICS] if read.has_metrics else ()
        self.metrics: list[tuple[bytes, Sequence[PlatformMetric]]] = list(
            zip(compress(self.closed, metrics), filter(None, metrics), strict=True)
        )
        """The streams, by their labels, with numbers that have no documented meaning."""

    def lines(self, family: StreamFamily, labels: RowLabels) -> Lines:
        """The lines of a family; ``labels``: those of this slice."""
        column = self.columns.get(family.name)
        return NONE if column is None else column.lines(family.name, labels)

    def _column(self, family: StreamFamily, found: Columns, before: Slice | None) -> Column | None:
        known_column = before.columns.get(family.name) if before else None
        if family.path:
            return Numbers.of(found[family.path], known_column)
        if family.length_of:
            return Numbers.of([None if each is None else len(each) for each in found[family.length_of]], known_column)
        there = found[family.has]
        having = bytes(map(bool, there))
        if 1 not in having:
            return None
        rows: Rows = having if 0 in having else None
        known = before.words.get(family.name, _KNOWN) if before else _KNOWN
        if family.words:
            labels = [chosen(found[path], rows) for path in family.words]
            said = partial(_said, family.labels[len(STREAM_LABELS) :])
            words = self.words[family.name] = known.of(labels, said)
            return Words(words.texts, rows)
        texts = self.words[family.name] = known.of([chosen(there, rows)], partial(_entry_texts, family))
        return Entries.of(texts, rows, known_column)


def _first_of_each(labels: Sequence[bytes], seen: set[bytes]) -> bytes:
    """1 for each label that is there for the first time."""
    own: set[bytes] = set()
    return bytes(not (text in seen or text in own or own.add(text)) for text in labels)  # type: ignore[func-returns-value]


def _labels(identity: Identity) -> bytes:
    return closed(STREAM_LABELS, (identity.platform, identity.upstream, identity.stream))


def _said(names: Sequence[str], words: str | tuple[str, ...]) -> bytes:
    return closed(names, (words,) if isinstance(words, str) else words) + b"1"


def _entry_texts(family: StreamFamily, key: tuple[Any, ...]) -> EntryTexts:
    """``key``: what the entries are made of; the items of a mapping, which itself can't be one."""
    assert family.entries is not None
    return EntryTexts.of(family.labels[-1], family.entries(key))
