"""Metric families as data: name, HELP text, labels, and how to read their values from the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from typing import Any, Generic, TypeVar

from exporter.model import StreamState

T = TypeVar("T")

Number = float | int | bool
"""Value of a sample; missing and non-finite values are not rendered."""
Labelled = tuple[tuple[str, ...], Number | None]
"""Values of the family's additional labels, and the sample's value."""

UPSTREAM_LABELS = ("platform", "upstream")
STREAM_LABELS = (*UPSTREAM_LABELS, "stream")
GROUP_LABELS = ("group",)


class Kind(StrEnum):
    """Metric type."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


class Part(StrEnum):
    """Part of the exposition, as selected with ``collect[]``."""

    EXPORTER = "exporter"
    UPSTREAMS = "upstreams"
    STREAMS = "streams"


class Source(StrEnum):
    """Where a family's values come from, as shown on the reference page."""

    PLATFORM = "platform"
    CONFIGURATION = "configuration"
    EXPORTER = "exporter"
    SIDECAR = "alerting sidecar"


@dataclass(frozen=True, kw_only=True)
class Family:
    """A metric family. ``labels`` are all of its labels, in the order of the exposition."""

    name: str
    kind: Kind
    help: str
    part: Part
    labels: tuple[str, ...] = ()
    source: Source = Source.EXPORTER
    bounds: tuple[float, ...] = ()
    """Upper bounds of a histogram's buckets, ascending, without ``+Inf``."""


@dataclass(frozen=True, kw_only=True)
class ModelFamily(Family, Generic[T]):
    """A family read from a ``StreamState``, an ``UpstreamState``, a ``GroupState``, or a part of one.

    Set either ``value`` or ``values``; neither for a family that nothing in the model provides yet.
    """

    value: Callable[[T], Number | None] | None = None
    """Returns the value of a family with at most one series per object. Keep it cheap: it may run for every stream."""
    values: Callable[[T], Sequence[Labelled]] | None = None
    """Returns the samples of a family with additional labels."""
    path: str = ""
    """Path of the attribute that ``value`` returns (``report.viewers``), for reading it from many objects at once."""
    length_of: str = ""
    """Path of the collection whose length ``value`` returns."""
    words: tuple[str, ...] = ()
    """Paths of the additional labels, if ``values`` returns only them, with the value 1."""
    entries: Callable[[Any], Mapping[str, Number]] | None = None
    """Returns the values by the only additional label, given the attribute at ``has``."""
    has: str = ""
    """Path of an attribute that is falsy when the object has no samples (fast path)."""
    fields: frozenset[str] = frozenset()
    """Fields that the family is read from, as in ``Platform.feeds``; a platform that fills any of them provides it."""
    each: str = ""
    """Property that distinguishes the series of one object, such as ``condition``; empty if there is at most one."""

    @property
    def additional_labels(self) -> tuple[str, ...]:
        """The labels in addition to those that identify the object."""
        for identity in (STREAM_LABELS if self.part is Part.STREAMS else UPSTREAM_LABELS, GROUP_LABELS):
            if self.labels[: len(identity)] == identity:
                return self.labels[len(identity) :]
        raise AssertionError(f"{self.name} does not start with the labels of its object")

    @property
    def paths(self) -> frozenset[str]:
        """All paths that are read from an object."""
        return frozenset({self.path, self.length_of, self.has, *self.words}) - {""}

    def is_fed(self, feeds: frozenset[str] | None) -> bool:
        """Return whether a platform that fills these fields (None: any) can provide the family."""
        return feeds is None or not self.fields or not self.fields.isdisjoint(feeds)


# -- constructors of stream families -----------------------------------------------------------------------------------

StreamFamily = ModelFamily[StreamState]


def _family(kind: Kind, name: str, help_: str, field: str) -> StreamFamily:
    """Create a family from one field of the report."""
    return StreamFamily(
        name=name,
        kind=kind,
        help=help_,
        part=Part.STREAMS,
        labels=STREAM_LABELS,
        source=Source.PLATFORM,
        value=attrgetter(f"report.{field}"),
        path=f"report.{field}",
        fields=frozenset({field}),
    )


def gauge(name: str, help_: str, field: str) -> StreamFamily:
    """Create a gauge from one field of the report."""
    return _family(Kind.GAUGE, name, help_, field)


def counter(name: str, help_: str, field: str) -> StreamFamily:
    """Create a counter from one field of the report, which is a running total kept by the platform."""
    return _family(Kind.COUNTER, name, help_, field)


def computed(
    name: str,
    help_: str,
    attribute: str,
    *,
    source: Source,
    kind: Kind = Kind.GAUGE,
    fields: frozenset[str] = frozenset(),
) -> StreamFamily:
    """Create a family from one attribute of the stream's state, which the exporter computed."""
    return StreamFamily(
        name=name,
        kind=kind,
        help=help_,
        part=Part.STREAMS,
        labels=STREAM_LABELS,
        source=source,
        value=attrgetter(attribute),
        path=attribute,
        fields=fields,
    )


def entries(
    name: str,
    help_: str,
    label: str,
    *,
    entries: Callable[[Any], Mapping[str, Number]] | None = None,
    has: str,
    each: str = "",
    fields: frozenset[str] = frozenset(),
    source: Source = Source.PLATFORM,
) -> StreamFamily:
    """Create a gauge with one series for each entry of a mapping.

    ``entries`` returns the mapping, given the attribute at ``has``; by default that attribute is the mapping.
    """
    read = attrgetter(has)
    mapping = entries or _sort_entries

    def values(state: StreamState) -> Sequence[Labelled]:
        present = read(state)
        return [((key,), value) for key, value in mapping(present).items()] if present else ()

    return StreamFamily(
        name=name,
        kind=Kind.GAUGE,
        help=help_,
        part=Part.STREAMS,
        labels=(*STREAM_LABELS, label),
        source=source,
        values=values,
        entries=mapping,
        has=has,
        fields=fields,
        each=each or label.replace("_", " "),
    )


def _sort_entries(mapping: Mapping[str, Number]) -> Mapping[str, Number]:
    """Sort by key, because a platform may return the entries in a different order each time."""
    return dict(sorted(dict(mapping).items()))


def words(
    name: str,
    help_: str,
    labels: Mapping[str, str],
    *,
    has: str,
    source: Source = Source.PLATFORM,
    fields: frozenset[str] = frozenset(),
) -> StreamFamily:
    """Create an info-style gauge (always 1) with texts as labels; ``labels`` maps each label to its path."""
    read = attrgetter(*labels.values())
    is_present: Callable[[StreamState], object] = attrgetter(has)

    def values(state: StreamState) -> Sequence[Labelled]:
        if not is_present(state):
            return ()
        found = read(state)
        return ((found if len(labels) > 1 else (found,), 1),)

    return StreamFamily(
        name=name,
        kind=Kind.GAUGE,
        help=help_,
        part=Part.STREAMS,
        labels=(*STREAM_LABELS, *labels),
        source=source,
        values=values,
        words=tuple(labels.values()),
        has=has,
        fields=fields,
    )


def mapping(name: str, help_: str, label: str, field: str) -> StreamFamily:
    """Create a gauge with one series for each entry of a mapping in the report."""
    return entries(name, help_, label, has=f"report.{field}", fields=frozenset({field}))


def word(name: str, help_: str, label: str, field: str) -> StreamFamily:
    """Create an info-style gauge (always 1) with one text of the report as its label; absent without that text."""
    return words(name, help_, {label: f"report.{field}"}, has=f"report.{field}", fields=frozenset({field}))


def _length_reader(field: str) -> Callable[[StreamState], int | None]:
    read = attrgetter(f"report.{field}")

    def value(state: StreamState) -> int | None:
        entries = read(state)
        return None if entries is None else len(entries)

    return value


def counted(name: str, help_: str, field: str) -> StreamFamily:
    """Create a gauge from the number of entries in a field of the report."""
    return StreamFamily(
        name=name,
        kind=Kind.GAUGE,
        help=help_,
        part=Part.STREAMS,
        labels=STREAM_LABELS,
        source=Source.PLATFORM,
        value=_length_reader(field),
        length_of=f"report.{field}",
        fields=frozenset({field}),
    )
