"""Streams, read once for each poll: what is made of a slice of them is text by columns, which a scrape joins.

None of the states is kept, and text that stays the same is taken over from what was there before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from itertools import chain, compress
from operator import attrgetter
from typing import Any, Final

from exporter.catalogue.analytics import PLATFORM_METRIC
from exporter.catalogue.family import STREAM_LABELS
from exporter.catalogue.stream_family import StreamFamily
from exporter.catalogue.streams import STREAM_FAMILIES
from exporter.model import Identity, PlatformMetric, StreamState
from exporter.rendering.columns import (
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
from exporter.rendering.labels import closed
from exporter.rendering.lines import NONE, Lines

ROWS_AT_ONCE: Final = 200
"""All attributes of so many objects are read before those of the next."""

_SAMPLE: Final = "sample."
_IDENTITY: Final[Callable[[StreamState], Identity]] = attrgetter("identity")
_OWNER: Final[Callable[[Identity], tuple[str, str]]] = attrgetter("platform", "upstream")
_SAMPLE_OF: Final = attrgetter("sample")
_METRICS: Final[Callable[[StreamState], Sequence[PlatformMetric]]] = attrgetter("sample.platform_metrics")
_KNOWN: Final[Texts[Any, Any]] = Texts([], [])


Chunks = dict[str, list[tuple[Any, ...]]]
"""What stands at each path, in chunks of rows."""


class Reading:
    """Which families are read of streams, and how."""

    def __init__(self, feeds: frozenset[str] | None, excluded: frozenset[str]) -> None:
        """``feeds``: what their platform can say, None: anything; ``excluded``: the names of what is left out."""
        self.families = tuple(f for f in STREAM_FAMILIES if f.is_fed(feeds) and f.name not in excluded)
        self.has_metrics = PLATFORM_METRIC.name not in excluded
        paths = sorted({path for family in self.families for path in (family.path, family.has) if path})
        self._paths = [path for path in paths if not path.startswith(_SAMPLE)]
        self._of_state = _reader(self._paths)
        self._sample_paths = [path for path in paths if path.startswith(_SAMPLE)]
        self._of_sample = _reader([path.removeprefix(_SAMPLE) for path in self._sample_paths])

    def chunks(self, states: Sequence[StreamState]) -> Chunks:
        """What the streams have to say."""
        chunks: Chunks = {path: [] for path in (*self._paths, *self._sample_paths)}
        for start in range(0, len(states), ROWS_AT_ONCE):
            rows = states[start : start + ROWS_AT_ONCE]
            for path, column in zip(self._paths, zip(*map(self._of_state, rows), strict=True), strict=True):
                chunks[path].append(column)
            samples = map(self._of_sample, map(_SAMPLE_OF, rows))
            for path, column in zip(self._sample_paths, zip(*samples, strict=True), strict=True):
                chunks[path].append(column)
        return chunks


@lru_cache(maxsize=64)
def reading(feeds: frozenset[str] | None, excluded: frozenset[str]) -> Reading:
    """The one of platforms that can say this, and upstreams of which that is left out."""
    return Reading(feeds, excluded)


class Slice:
    """What is served of some streams, ready to be joined."""

    identities: Texts[Identity, bytes]
    """The streams, and the label texts that they make."""
    owners: frozenset[tuple[str, str]]
    """The platforms and upstreams of the streams."""

    def __init__(self, states: Sequence[StreamState], seen: set[bytes], read: Reading, before: Slice | None) -> None:
        """``seen``: the label texts that are taken; those of these streams are added. ``before``: where texts are."""
        self.identities = (before.identities if before else _KNOWN).of(list(map(_IDENTITY, states)), _labels)
        if before is not None and self.identities is before.identities:
            self.owners = before.owners
        else:
            self.owners = frozenset(map(_OWNER, self.identities.keys))
        self.closed: Sequence[bytes] = self.identities.texts
        self.duplicates = 0
        """Streams left out because an earlier one has the same labels."""
        labels = set(self.closed)
        if len(labels) < len(self.closed) or not seen.isdisjoint(labels):
            wanted = _first_of_each(self.closed, seen)
            self.duplicates = wanted.count(0)
            self.closed, states = chosen(self.closed, wanted), chosen(states, wanted)
        seen |= labels
        self.words: dict[str, Texts[Any, Any]] = {}
        """The texts of labels that families have of their own."""
        self.columns: dict[str, Column] = {}
        """What each family says, by its name."""
        chunks = read.chunks(states)
        for family in read.families:
            known = before.words.get(family.name, _KNOWN) if before else _KNOWN
            column = self._column(family, states, chunks, known)
            if column is not None:
                self.columns[family.name] = column
        self.metrics: list[tuple[bytes, Sequence[PlatformMetric]]] = []
        """The streams, by their labels, with numbers that have no documented meaning."""
        if read.has_metrics:
            numbers = list(map(_METRICS, states))
            self.metrics = list(zip(compress(self.closed, numbers), filter(None, numbers), strict=True))

    def lines(self, family: StreamFamily, labels: RowLabels) -> Lines:
        """The lines of a family; ``labels``: those of this slice."""
        column = self.columns.get(family.name)
        return NONE if column is None else column.lines(family.name, labels)

    def _column(
        self, family: StreamFamily, states: Sequence[StreamState], chunks: Chunks, known: Texts[Any, Any]
    ) -> Column | None:
        if family.path:
            return Numbers.of(chunks[family.path])
        if family.value is not None:
            return Numbers.of([list(map(family.value, states))])
        there = list(chain.from_iterable(chunks[family.has]))
        having = bytes(map(bool, there))
        if 1 not in having:
            return None
        rows: Rows = having if 0 in having else None
        there, states = list(chosen(there, rows)), chosen(states, rows)
        own_labels = family.labels[len(STREAM_LABELS) :]
        if family.words:
            words = self.words[family.name] = known.of(_words(family.words, states), partial(_said, own_labels))
            return Words(words.texts, rows)
        keys = [tuple(each.items()) for each in there] if isinstance(there[0], Mapping) else there
        texts = self.words[family.name] = known.of(keys, partial(_entry_texts, family))
        return Entries(texts.texts, rows)


def _reader(paths: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    """Reads all the attributes of an object at once."""
    if len(paths) > 1:
        return attrgetter(*paths)
    single = [attrgetter(path) for path in paths]
    return lambda item: tuple(read(item) for read in single)


def _first_of_each(labels: Sequence[bytes], seen: set[bytes]) -> bytes:
    """1 for each label that is there for the first time."""
    own: set[bytes] = set()
    return bytes(not (text in seen or text in own or own.add(text)) for text in labels)  # type: ignore[func-returns-value]


def _labels(identity: Identity) -> bytes:
    return closed(STREAM_LABELS, (identity.platform, identity.upstream, identity.stream))


def _words(paths: Sequence[str], states: Sequence[StreamState]) -> list[Any]:
    """The words of each state: a text where there is one path, else a tuple."""
    if all(path.startswith(_SAMPLE) for path in paths):
        return list(map(attrgetter(*(path.removeprefix(_SAMPLE) for path in paths)), map(_SAMPLE_OF, states)))
    return list(map(attrgetter(*paths), states))


def _said(names: Sequence[str], words: str | tuple[str, ...]) -> bytes:
    return closed(names, (words,) if isinstance(words, str) else words) + b"1"


def _entry_texts(family: StreamFamily, key: tuple[Any, ...]) -> EntryTexts:
    """``key``: what the entries are made of; the items of a mapping, which itself can't be one."""
    assert family.entries is not None
    return EntryTexts.of(family.labels[-1], family.entries(key))
