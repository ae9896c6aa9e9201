"""The few ways in which a family of a stream is read, and the constructors that the table of them is written with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any

from exporter.metrics.families.family import STREAM_LABELS, Kind, Labelled, Number, Part, Source, ViewFamily
from exporter.model import StreamState

StreamFamily = ViewFamily[StreamState]


def _family(kind: Kind, name: str, help_: str, field: str) -> StreamFamily:
    """A family that shows one field of the sample as it is."""
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
    """A gauge that shows a field of the report."""
    return _family(Kind.GAUGE, name, help_, field)


def counter(name: str, help_: str, field: str) -> StreamFamily:
    """A counter that shows a field of the sample, which is the platform's own running total."""
    return _family(Kind.COUNTER, name, help_, field)


def own(
    name: str,
    help_: str,
    attribute: str,
    *,
    source: Source,
    kind: Kind = Kind.GAUGE,
    fields: frozenset[str] = frozenset(),
) -> StreamFamily:
    """A family that shows what the exporter knows, or made of what the platform says: an attribute of the state."""
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
    """A gauge with one series for each entry of a mapping.

    ``entries`` makes it of what stands at the path ``has``, unless that is the mapping itself.
    """
    read = attrgetter(has)
    mapping = entries or _in_order

    def values(state: StreamState) -> Sequence[Labelled]:
        there = read(state)
        return [((key,), value) for key, value in mapping(there).items()] if there else ()

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


def _in_order(mapping: Mapping[str, Number]) -> Mapping[str, Number]:
    """By its keys, as a platform may tell them in another order every time."""
    return dict(sorted(dict(mapping).items()))


def words(
    name: str, help_: str, labels: Mapping[str, str], *, has: str, fields: frozenset[str] = frozenset()
) -> StreamFamily:
    """A gauge of 1 that carries words as labels; ``labels``: each with the path of what it shows."""
    read = attrgetter(*labels.values())
    is_there: Callable[[StreamState], object] = attrgetter(has)

    def values(state: StreamState) -> Sequence[Labelled]:
        if not is_there(state):
            return ()
        own = read(state)
        return ((own if len(labels) > 1 else (own,), 1),)

    return StreamFamily(
        name=name,
        kind=Kind.GAUGE,
        help=help_,
        part=Part.STREAMS,
        labels=(*STREAM_LABELS, *labels),
        source=Source.PLATFORM,
        values=values,
        words=tuple(labels.values()),
        has=has,
        fields=fields,
    )


def mapping(name: str, help_: str, label: str, field: str) -> StreamFamily:
    """A gauge with one series for each key of a mapping in the report."""
    return entries(name, help_, label, has=f"report.{field}", fields=frozenset({field}))


def word(name: str, help_: str, label: str, field: str) -> StreamFamily:
    """A gauge of 1 that carries a word of the platform as a label, and is absent without one."""
    return words(name, help_, {label: f"report.{field}"}, has=f"report.{field}", fields=frozenset({field}))


def _count(field: str) -> Callable[[StreamState], int | None]:
    read = attrgetter(f"report.{field}")

    def value(state: StreamState) -> int | None:
        entries = read(state)
        return None if entries is None else len(entries)

    return value


def counted(name: str, help_: str, field: str) -> StreamFamily:
    """A gauge of how many entries a field of the sample holds."""
    return StreamFamily(
        name=name,
        kind=Kind.GAUGE,
        help=help_,
        part=Part.STREAMS,
        labels=STREAM_LABELS,
        source=Source.PLATFORM,
        value=_count(field),
        length_of=f"report.{field}",
        fields=frozenset({field}),
    )
