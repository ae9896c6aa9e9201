"""Looks up the series of a condition in the model, through the same metric families as the exposition."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exporter.alerting.rules.rule import Series
from exporter.metrics.families.family import STREAM_LABELS, UPSTREAM_LABELS, ModelFamily
from exporter.metrics.families.stream_families import STREAM_FAMILIES
from exporter.metrics.families.upstream_families import UPSTREAM_FAMILIES
from exporter.model import AlertOverrides, StreamState, UpstreamState

ExtraLabels = tuple[str, ...]
"""Label values of a sample, without the labels of its scope and those that the series matches on."""


@dataclass(frozen=True)
class Subject:
    """The upstream, and for stream rules the stream, that a rule is evaluated for."""

    upstream_state: UpstreamState
    stream_state: StreamState | None = None
    stream: str = ""
    """The stream's label, even if the stream is no longer served."""
    is_covered: bool = False
    """Whether a group of the stream is up without it, or playback checks show that the upstream's streams play."""

    @property
    def overrides(self) -> AlertOverrides | None:
        """Overrides of the rules about the subject; None if the stream is no longer served."""
        if not self.stream:
            return self.upstream_state.overrides
        return None if self.stream_state is None else self.stream_state.overrides


Samples = Sequence[tuple[ExtraLabels, float]]
SeriesReader = Callable[[Subject], Samples]
"""Returns the samples of a series for a subject."""

_FAMILIES: Mapping[str, ModelFamily[Any]] = {
    **{family.name: family for family in STREAM_FAMILIES},
    **{family.name: family for family in UPSTREAM_FAMILIES},
}
_UPSTREAM_FAMILY_NAMES = frozenset(family.name for family in UPSTREAM_FAMILIES)


def is_fed(series: Series, feeds: frozenset[str] | None) -> bool:
    """Return whether reports with these fields (None: any) can have samples of the series."""
    return _FAMILIES[series.family].is_fed(feeds)


def series_reader(series: Series) -> SeriesReader:
    """Return a function that reads the scaled samples of ``series``. It does not count rises or changes.

    As in the exposition, a missing or non-finite value has no sample. Raises ``KeyError`` for an unknown family.
    """
    family = _FAMILIES[series.family]
    is_upstream_series = series.family in _UPSTREAM_FAMILY_NAMES
    scale = series.scale

    if family.value is not None:
        get_value = family.value

        def read_value(subject: Subject) -> Samples:
            state = subject.upstream_state if is_upstream_series else subject.stream_state
            value = get_value(state) if state is not None else None
            return (((), float(value) * scale),) if value is not None and math.isfinite(value) else ()

        return read_value

    assert family.values is not None, f"{family.name} has no values in the model"
    get_values = family.values
    names = family.labels[len(UPSTREAM_LABELS if is_upstream_series else STREAM_LABELS) :]
    allowed_values = [(names.index(name), _allowed_values(allowed)) for name, allowed in series.labels.items()]
    extra_indexes = [index for index, name in enumerate(names) if name not in series.labels]

    def read_labelled_values(subject: Subject) -> Samples:
        state = subject.upstream_state if is_upstream_series else subject.stream_state
        samples = []
        for labels, value in get_values(state) if state is not None else ():
            for index, allowed in allowed_values:
                if labels[index] not in allowed:
                    break
            else:
                if value is not None and math.isfinite(value):
                    samples.append((tuple([labels[index] for index in extra_indexes]), float(value) * scale))
        return samples

    return read_labelled_values


def _allowed_values(value: str | tuple[str, ...]) -> frozenset[str]:
    return frozenset((value,)) if isinstance(value, str) else frozenset(value)
