"""Reads the series of a condition from the model, through the catalogue that the exposition reads too."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from exporter.alerting.conditions import Series
from exporter.metrics.families.family import STREAM_LABELS, UPSTREAM_LABELS, ModelFamily
from exporter.metrics.families.stream_families import STREAM_FAMILIES
from exporter.metrics.families.upstream_families import UPSTREAM_FAMILIES
from exporter.model import StreamState, UpstreamState

Extra = tuple[str, ...]
"""The values of the labels that a family has besides those of its scope, without the ones that the series fixes."""


@dataclass(frozen=True)
class Subject:
    """What a rule is evaluated for: an upstream, and one of its streams where the rule is about streams."""

    view: UpstreamState
    state: StreamState | None = None
    stream: str = ""
    """The stream's label, also where nothing of the stream is served any more."""


Reader = Callable[[Subject], Iterable[tuple[Extra, float]]]

_FAMILIES: Mapping[str, ModelFamily[Any]] = {
    **{family.name: family for family in STREAM_FAMILIES},
    **{family.name: family for family in UPSTREAM_FAMILIES},
}
_OF_UPSTREAMS = frozenset(family.name for family in UPSTREAM_FAMILIES)


def reader(series: Series) -> Reader:
    """A function that gives the reports of ``series`` for a subject, scaled; counting rises is the caller's affair.

    As in the exposition, what is missing or not finite has no report.
    Raises ``KeyError`` for a family that the catalogue does not have.
    """
    family = _FAMILIES[series.family]
    of_upstream = series.family in _OF_UPSTREAMS
    scale = series.scale

    if family.value is not None:
        value = family.value

        def single(subject: Subject) -> Iterator[tuple[Extra, float]]:
            item = subject.view if of_upstream else subject.state
            read = value(item) if item is not None else None
            if read is not None and math.isfinite(read):
                yield (), float(read) * scale

        return single

    assert family.values is not None, f"{family.name} is not read from the model"
    values = family.values
    names = family.labels[len(UPSTREAM_LABELS if of_upstream else STREAM_LABELS) :]
    wanted = [(names.index(name), _allowed(allowed)) for name, allowed in series.labels.items()]
    kept = [index for index, name in enumerate(names) if name not in series.labels]

    def labelled(subject: Subject) -> Iterator[tuple[Extra, float]]:
        item = subject.view if of_upstream else subject.state
        if item is None:
            return
        for own, read in values(item):
            if read is not None and math.isfinite(read) and all(own[index] in allowed for index, allowed in wanted):
                yield tuple(own[index] for index in kept), float(read) * scale

    return labelled


def _allowed(value: str | tuple[str, ...]) -> frozenset[str]:
    return frozenset((value,)) if isinstance(value, str) else frozenset(value)
