"""A platform's own metrics as text: checked, told apart by ``platform`` and ``upstream``, one block per family over all
upstreams.

What would spoil the answer for a reader is left out and counted: names that are none, values that are no numbers, a
family of another type than an earlier one of its name, histograms that are not whole.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from exporter.config.types import OWN_METRIC_PREFIXES
from exporter.metrics.text_format import bound, label_text, number
from exporter.model import PassthroughFamily, PassthroughMetrics, PassthroughSample, UpstreamState

DEFAULT_HELP = "From the platform's own export, which does not say what it is."
MAX_HELP_CHARACTERS = 1000
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,255}")
_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]{0,255}")
_OURS = ("platform", "upstream")
_MOVED = "exported_"
"""What a label is called whose name is ours: as Prometheus does it."""
_ENDINGS = {
    "counter": ("",), "gauge": ("",), "untyped": ("",), "summary": ("", "_sum", "_count"),
    "histogram": ("", "_bucket", "_sum", "_count"),
}  # fmt: skip
"""The types of the format, and what the names of a family's samples end in, the family's own name first."""
_MEANINGFUL = {"histogram": {"le"}, "summary": {"quantile"}, "untyped": {"le", "quantile"}}
"""Labels that only these types may have."""

Labels = tuple[tuple[str, str], ...]


class Block(NamedTuple):
    """One family as text."""

    name: str
    kind: str
    help: str
    lines: Sequence[str]


class Merged(NamedTuple):
    """The families of all upstreams, and how many series of each upstream were left out."""

    blocks: Sequence[Block]
    dropped: Mapping[tuple[str, str], int]
    """By platform and upstream, of those that have an export."""


class PassthroughTexts:
    """Makes the text of an upstream's metrics once for as long as they stay the same."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[PassthroughMetrics, list[Block], int]] = {}

    def merged(self, views: Sequence[UpstreamState]) -> Merged:
        """The families of these views: of one name those of the first one's type, whoever brought it."""
        self._known, before = {}, self._known
        blocks: dict[str, Block] = {}
        claimed: dict[str, str] = {}
        dropped: dict[tuple[str, str], int] = {}
        for view in views:
            if view.passthrough is None:
                continue
            key = (view.platform, view.upstream)
            known = before.get(key)
            if known is None or known[0] is not view.passthrough:
                known = view.passthrough, *_blocks(view.passthrough, key)
            self._known[key] = known
            dropped[key] = dropped.get(key, 0) + known[2] + _merge(known[1], blocks, claimed)
        return Merged(list(blocks.values()), dropped)


def _merge(added: Sequence[Block], blocks: dict[str, Block], claimed: dict[str, str]) -> int:
    """Add these families to ``blocks``; returns how many series were left out.

    ``claimed``: the names that samples have, and the family whose samples they are.
    """
    dropped = 0
    for block in added:
        names = [block.name + ending for ending in _ENDINGS[block.kind]]
        known = blocks.get(block.name)
        if known is not None and known.kind == block.kind:
            blocks[block.name] = known._replace(lines=[*known.lines, *block.lines])
        elif known is None and not any(name in claimed for name in names):
            blocks[block.name] = block
            claimed.update(dict.fromkeys(names, block.name))
        else:
            dropped += len(block.lines)
    return dropped


def _blocks(foreign: PassthroughMetrics, upstream: tuple[str, str]) -> tuple[list[Block], int]:
    """The families that can be passed through, and how many series can't."""
    blocks: dict[str, Block] = {}
    dropped = foreign.dropped
    for family in foreign.families:
        name = foreign.prefix + family.name
        is_usable = family.kind in _ENDINGS and _NAME.fullmatch(name) and not name.startswith(OWN_METRIC_PREFIXES)
        lines = list(_Lines(family, name, upstream).all()) if is_usable and name not in blocks else []
        dropped += len(family.samples) - len(lines)
        if lines:
            blocks[name] = Block(name, family.kind, family.help[:MAX_HELP_CHARACTERS] or DEFAULT_HELP, lines)
    return list(blocks.values()), dropped


class _Lines:
    """The lines of one family of one upstream, each series once."""

    def __init__(self, family: PassthroughFamily, name: str, upstream: tuple[str, str]) -> None:
        self._family = family
        self._name = name
        self._common = tuple(zip(_OURS, upstream, strict=True))
        self._reserved = ({"le", "quantile"} - _MEANINGFUL.get(family.kind, set())) | set(_OURS)
        self._seen: set[tuple[str, str]] = set()

    def all(self) -> Iterator[str]:
        if self._family.kind == "histogram":
            yield from self._histograms()
        elif self._family.kind == "summary":
            yield from self._each(self._summary_value)
        else:
            yield from self._each(self._plain_value)

    def _each(self, read: Callable[[str, dict[str, str], float], str | None]) -> Iterator[str]:
        """The samples that stand for themselves; ``read`` may rewrite labels, and gives the value's text."""
        for sample in self._family.samples:
            ending, labels = self._ending(sample), self._own_labels(sample)
            if ending is None or labels is None:
                continue
            value = read(ending, labels, sample.value)
            if value is not None:
                yield from self._line(ending, labels, value)

    def _plain_value(self, ending: str, _: dict[str, str], value: float) -> str | None:
        if ending or (self._family.kind == "counter" and value < 0):
            return None
        return number(value)

    def _summary_value(self, ending: str, labels: dict[str, str], value: float) -> str | None:
        if ending:
            return None if "quantile" in labels or (ending == "_count" and value < 0) else number(value)
        quantile = _float(labels.get("quantile"))
        if not 0 <= quantile <= 1:
            return None
        labels["quantile"] = bound(quantile)
        return number(value)

    def _histograms(self) -> Iterator[str]:
        groups: dict[Labels, _Histogram] = {}
        for sample in self._family.samples:
            ending, labels = self._ending(sample), self._own_labels(sample)
            if ending is not None and labels is not None:
                upper = _float(labels.pop("le", None))
                groups.setdefault(_sorted(labels), _Histogram()).take(ending, upper, sample.value)
        for labels_, histogram in groups.items():
            if histogram.is_whole:
                for upper, count in sorted(histogram.buckets.items()):
                    yield from self._line("_bucket", dict(labels_), str(number(count)), upper)
                yield from self._line("_count", dict(labels_), str(number(histogram.single["_count"])))
                yield from self._line("_sum", dict(labels_), str(number(histogram.single["_sum"])))

    def _line(self, ending: str, labels: Mapping[str, str], value: str, upper: float | None = None) -> Iterator[str]:
        pairs = (*self._common, *_sorted(labels), *([("le", bound(upper))] if upper is not None else []))
        text = label_text([name for name, _ in pairs], [value for _, value in pairs])
        if (ending, text) not in self._seen:
            self._seen.add((ending, text))
            yield f"{self._name}{ending}{{{text}}} {value}\n"

    def _ending(self, sample: PassthroughSample) -> str | None:
        ending = sample.name.removeprefix(self._family.name)
        is_ours = sample.name.startswith(self._family.name) and ending in _ENDINGS[self._family.kind]
        return ending if is_ours else None

    def _own_labels(self, sample: PassthroughSample) -> dict[str, str] | None:
        """The sample's own labels, moved out of the way of ours; None where a name is none."""
        # to Prometheus an empty label is none, and the series the same as without it
        labels = {name: value for name, value in sample.labels if value}
        if not all(map(_LABEL.fullmatch, labels)):
            return None
        for name in sorted(self._reserved & labels.keys()):
            moved = _MOVED + name
            while moved in labels:
                moved = _MOVED + moved
            labels[moved] = labels.pop(name)
        return labels


class _Histogram:
    """One histogram: what counts in it."""

    def __init__(self) -> None:
        self.buckets: dict[float, float] = {}
        self.single: dict[str, float] = {}
        self._is_bad = False

    def take(self, ending: str, upper: float, value: float) -> None:
        """One of its samples; ``upper`` is NaN where it has no bound."""
        if ending == "_bucket" and not math.isnan(upper):
            self.buckets.setdefault(upper, value)
        elif ending in ("_sum", "_count") and math.isnan(upper):
            self.single.setdefault(ending, value)
        else:
            self._is_bad = True

    @property
    def is_whole(self) -> bool:
        """Whether it has all its parts, which fit together: half a histogram makes wrong quantiles of all of them."""
        if self._is_bad or math.inf not in self.buckets or self.single.keys() != {"_sum", "_count"}:
            return False
        counts = [self.buckets[upper] for upper in sorted(self.buckets)]
        return (
            all(map(math.isfinite, (*counts, *self.single.values())))
            and counts[0] >= 0
            and counts == sorted(counts)
            and counts[-1] == self.single["_count"]
        )


def _sorted(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted(labels.items()))


def _float(text: str | None) -> float:
    """NaN for what is no number."""
    try:
        return math.nan if text is None else float(text)
    except ValueError:
        return math.nan
