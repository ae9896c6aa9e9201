"""What a rule's condition is made of: few enough primitives that two evaluators can agree on them.

A condition compares one measured series with a threshold or with another series, and holds only where its guards hold.
``promql.py`` writes it as PromQL, ``evaluator.py`` works it out on the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Operator = Literal["==", "<", "<=", ">", ">="]


@dataclass(frozen=True)
class Series:
    """A family of the catalogue, narrowed by label values; several allowed values of a label are given as a tuple."""

    family: str
    labels: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    rises_within: float | None = None
    """Seconds. Where it is given, the value is how many times the counter rose from one report to the next in them.

    Counted so, and not by ``increase``, it is a whole number, a reset counts nothing, and both evaluators agree.
    """
    scale: float = 1.0
    """What the value is multiplied by before it is compared and shown: 8 turns bytes per second into bit/s."""


@dataclass(frozen=True)
class Threshold:
    """The rule's own threshold, which the configuration may change, times another series where there is one."""

    of: Series | None = None


@dataclass(frozen=True)
class Compare:
    """``left operator right``; false where a series has no report."""

    left: Series
    operator: Operator
    right: float | Threshold


@dataclass(frozen=True)
class Present:
    """The series has a report, whatever its value."""

    series: Series


Test = Compare | Present


@dataclass(frozen=True)
class Condition:
    """``measure``, whose left value is the alert's, where every ``also`` holds and no ``unless`` does."""

    measure: Compare
    also: tuple[Test, ...] = ()
    unless: tuple[Test, ...] = ()
