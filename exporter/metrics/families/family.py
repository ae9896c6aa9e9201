"""What a metric family is, as data: its name and meaning, its labels, and how it is read from the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

T = TypeVar("T")

Number = float | int | bool
"""A sample's value; what is missing or not finite is never rendered."""
Labelled = tuple[tuple[str, ...], Number | None]
"""The values of a family's own labels, and the sample's value."""

UPSTREAM_LABELS = ("platform", "upstream")
STREAM_LABELS = (*UPSTREAM_LABELS, "stream")


class Kind(StrEnum):
    """The type in the exposition."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


class Part(StrEnum):
    """The part of the exposition that a family belongs to: what ``collect[]`` names."""

    EXPORTER = "exporter"
    UPSTREAMS = "upstreams"
    STREAMS = "streams"


class Source(StrEnum):
    """Where a family's values come from, in the words of the reference page."""

    PLATFORM = "platform"
    CONFIGURATION = "configuration"
    EXPORTER = "exporter"
    SIDECAR = "alerting sidecar"


@dataclass(frozen=True, kw_only=True)
class Family:
    """One metric family. ``help`` is its HELP line; ``labels`` are all of its labels, in the order of the text."""

    name: str
    kind: Kind
    help: str
    part: Part
    labels: tuple[str, ...] = ()
    source: Source = Source.EXPORTER
    bounds: tuple[float, ...] = ()
    """The upper bounds of a histogram, ascending, without the infinite one."""


@dataclass(frozen=True, kw_only=True)
class ViewFamily(Family, Generic[T]):
    """A family read from what is served: a ``StreamState``, an ``UpstreamState``, or a part of one.

    It has one way of being read, or none while nothing in the model feeds it.
    """

    value: Callable[[T], Number | None] | None = None
    """The value, for at most one series per object. It runs for every stream at every scrape: keep it cheap."""
    values: Callable[[T], Sequence[Labelled]] | None = None
    """The samples of a family with labels of its own."""
    path: str = ""
    """The attribute (``report.viewers``) that ``value`` shows as it is: whole columns of it are read at once."""
    length_of: str = ""
    """The path of what ``value`` counts the entries of."""
    words: tuple[str, ...] = ()
    """The paths of the labels of its own, where these and the value 1 are all that ``values`` says."""
    entries: Callable[[Any], Mapping[str, Number]] | None = None
    """What ``values`` says, by the one label of its own, from what stands at ``has``."""
    has: str = ""
    """The path of what is falsy for an object without samples: most need not be asked for their ``values``."""
    fields: frozenset[str] = frozenset()
    """What it shows, as ``Platform.feeds`` names it; a platform that feeds one of them feeds the family."""
    each: str = ""
    """What there is one series for where an object can have several: ``condition``. Empty: one at most."""

    @property
    def paths(self) -> frozenset[str]:
        """All that is read of an object to tell what the family says."""
        return frozenset({self.path, self.length_of, self.has, *self.words}) - {""}

    def is_fed(self, feeds: frozenset[str] | None) -> bool:
        """Whether a platform that feeds these fields (None: any) can feed the family."""
        return feeds is None or not self.fields or not self.fields.isdisjoint(feeds)
