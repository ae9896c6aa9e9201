"""A platform's own metrics: parsed from its text, checked, and rendered as one block per family over all upstreams.

Each series gets the labels ``platform`` and ``upstream``. Whatever would spoil our exposition for a reader is left out
and counted: invalid names, values that are not numbers, a family whose type differs from an earlier one of the same
name, incomplete histograms.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from prometheus_client import Metric
from prometheus_client.parser import text_fd_to_metric_families

from exporter.config.types import OWN_METRIC_PREFIXES
from exporter.metrics.text_format import bound, label_text, number
from exporter.model import PassthroughFamily, PassthroughMetrics, PassthroughSample, PassthroughText, UpstreamState

DEFAULT_HELP = "From the platform's own export, which does not say what it is."
MAX_HELP_CHARACTERS = 1000
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,255}")
_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]{0,255}")
_OUR_LABELS = ("platform", "upstream")
_RENAMED = "exported_"
"""Prefix of a label that has one of our names, as in Prometheus."""
_ENDINGS = {
    "counter": ("",), "gauge": ("",), "untyped": ("",), "summary": ("", "_sum", "_count"),
    "histogram": ("", "_bucket", "_sum", "_count"),
}  # fmt: skip
"""The types of the format, each with what its samples' names end in; the first is the family's own name."""
_MEANINGFUL = {"histogram": {"le"}, "summary": {"quantile"}, "untyped": {"le", "quantile"}}
"""Labels that only these types may have."""
_KINDS = {"unknown": "untyped"}
"""The parser's word for a type where it differs from the format's."""

Labels = tuple[tuple[str, str], ...]

# -- parsing -----------------------------------------------------------------------------------------------------------


def parse_passthrough(exported: PassthroughText) -> PassthroughMetrics:
    """Parse text 0.0.4, up to the maximum of series and without timestamps. Raises ``ValueError``."""
    lines = exported.text.split("\n")
    taken, series = _count_series(lines, exported.max_series)
    try:
        families = _merge_metrics(text_fd_to_metric_families(islice(lines, taken)))  # type: ignore[arg-type] # any lines do
    except Exception:
        # the parser has no error class of its own, and its messages quote the line
        raise ValueError("not in the text format of Prometheus") from None
    return PassthroughMetrics(
        prefix=exported.prefix,
        families=families,
        dropped=max(0, series - exported.max_series),
        stale_at=exported.stale_at,
    )


def _count_series(lines: list[str], max_series: int) -> tuple[int, int]:
    """Return how many lines hold the series that are allowed, and how many series there are in all."""
    series, taken = 0, len(lines)
    for index, line in enumerate(lines):
        content = line.strip()
        if content and not content.startswith("#"):
            series += 1
            if series == max_series + 1:
                taken = index
    return taken, series


def _merge_metrics(metrics: Iterator[Metric]) -> tuple[PassthroughFamily, ...]:
    """Return one family for each name and type: the parser yields lines without a type one by one."""
    found: dict[tuple[str, str], tuple[str, list[PassthroughSample]]] = {}
    for metric in metrics:
        kind = _KINDS.get(metric.type, metric.type)
        # the parser removes the ending from a counter's name, and adds it to its samples' names where it is missing
        name = f"{metric.name}_total" if kind == "counter" else metric.name
        _, samples = found.setdefault((name, kind), (metric.documentation, []))
        samples.extend(
            PassthroughSample(sample.name, tuple(sample.labels.items()), sample.value) for sample in metric.samples
        )
    return tuple(
        PassthroughFamily(name, kind, help_, tuple(samples))
        for (name, kind), (help_, samples) in found.items()
        if samples
    )


# -- rendering ---------------------------------------------------------------------------------------------------------


class Block(NamedTuple):
    """One family as text."""

    name: str
    kind: str
    help: str
    lines: Sequence[str]


class MergedFamilies(NamedTuple):
    """The families of all upstreams, and how many series of each upstream were left out."""

    blocks: Sequence[Block]
    dropped: Mapping[tuple[str, str], int]
    """By platform and upstream; only upstreams with an export."""


class PassthroughRenderer:
    """Renders pass-through metrics, and reuses the text of an upstream as long as its metrics stay the same."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[PassthroughMetrics, list[Block], int]] = {}

    def merge(self, upstreams: Sequence[UpstreamState]) -> MergedFamilies:
        """Merge the families of these upstreams; the first family of a name decides its type."""
        self._known, before = {}, self._known
        blocks: dict[str, Block] = {}
        claimed: dict[str, str] = {}
        dropped: dict[tuple[str, str], int] = {}
        for state in upstreams:
            if state.passthrough is None:
                continue
            key = (state.platform, state.upstream)
            known = before.get(key)
            if known is None or known[0] is not state.passthrough:
                known = state.passthrough, *_render_blocks(state.passthrough, key)
            self._known[key] = known
            dropped[key] = dropped.get(key, 0) + known[2] + _add_blocks(known[1], blocks, claimed)
        return MergedFamilies(list(blocks.values()), dropped)


def _add_blocks(added: Sequence[Block], blocks: dict[str, Block], claimed: dict[str, str]) -> int:
    """Add families to ``blocks``; return how many series were left out.

    ``claimed`` maps the names of samples to the family that they belong to.
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


def _render_blocks(metrics: PassthroughMetrics, upstream: tuple[str, str]) -> tuple[list[Block], int]:
    """Render the families that can be passed through; also return how many series cannot."""
    blocks: dict[str, Block] = {}
    dropped = metrics.dropped
    for family in metrics.families:
        name = metrics.prefix + family.name
        is_usable = family.kind in _ENDINGS and _NAME.fullmatch(name) and not name.startswith(OWN_METRIC_PREFIXES)
        lines = list(_FamilyLines(family, name, upstream).render()) if is_usable and name not in blocks else []
        dropped += len(family.samples) - len(lines)
        if lines:
            blocks[name] = Block(name, family.kind, family.help[:MAX_HELP_CHARACTERS] or DEFAULT_HELP, lines)
    return list(blocks.values()), dropped


class _FamilyLines:
    """Renders the lines of one family of one upstream, each series once."""

    def __init__(self, family: PassthroughFamily, name: str, upstream: tuple[str, str]) -> None:
        self._family = family
        self._name = name
        self._common = tuple(zip(_OUR_LABELS, upstream, strict=True))
        self._reserved = ({"le", "quantile"} - _MEANINGFUL.get(family.kind, set())) | set(_OUR_LABELS)
        self._seen: set[tuple[str, str]] = set()

    def render(self) -> Iterator[str]:
        if self._family.kind == "histogram":
            yield from self._render_histograms()
        elif self._family.kind == "summary":
            yield from self._render_samples(self._read_summary)
        else:
            yield from self._render_samples(self._read_value)

    def _render_samples(self, read: Callable[[str, dict[str, str], float], str | None]) -> Iterator[str]:
        """Render each sample by itself; ``read`` returns the value's text, and may rewrite labels."""
        for sample in self._family.samples:
            ending, labels = self._split_ending(sample), self._rename_labels(sample)
            if ending is None or labels is None:
                continue
            value = read(ending, labels, sample.value)
            if value is not None:
                yield from self._render_line(ending, labels, value)

    def _read_value(self, ending: str, _: dict[str, str], value: float) -> str | None:
        if ending or (self._family.kind == "counter" and value < 0):
            return None
        return number(value)

    def _read_summary(self, ending: str, labels: dict[str, str], value: float) -> str | None:
        if ending:
            return None if "quantile" in labels or (ending == "_count" and value < 0) else number(value)
        quantile = _parse_float(labels.get("quantile"))
        if not 0 <= quantile <= 1:
            return None
        labels["quantile"] = bound(quantile)
        return number(value)

    def _render_histograms(self) -> Iterator[str]:
        groups: dict[Labels, _Histogram] = {}
        for sample in self._family.samples:
            ending, labels = self._split_ending(sample), self._rename_labels(sample)
            if ending is not None and labels is not None:
                upper = _parse_float(labels.pop("le", None))
                groups.setdefault(_sort_labels(labels), _Histogram()).add_sample(ending, upper, sample.value)
        for labels_, histogram in groups.items():
            if histogram.is_complete:
                for upper, count in sorted(histogram.buckets.items()):
                    yield from self._render_line("_bucket", dict(labels_), str(number(count)), upper)
                yield from self._render_line("_count", dict(labels_), str(number(histogram.single["_count"])))
                yield from self._render_line("_sum", dict(labels_), str(number(histogram.single["_sum"])))

    def _render_line(
        self, ending: str, labels: Mapping[str, str], value: str, upper: float | None = None
    ) -> Iterator[str]:
        pairs = (*self._common, *_sort_labels(labels), *([("le", bound(upper))] if upper is not None else []))
        text = label_text([name for name, _ in pairs], [value for _, value in pairs])
        if (ending, text) not in self._seen:
            self._seen.add((ending, text))
            yield f"{self._name}{ending}{{{text}}} {value}\n"

    def _split_ending(self, sample: PassthroughSample) -> str | None:
        ending = sample.name.removeprefix(self._family.name)
        is_ours = sample.name.startswith(self._family.name) and ending in _ENDINGS[self._family.kind]
        return ending if is_ours else None

    def _rename_labels(self, sample: PassthroughSample) -> dict[str, str] | None:
        """Return the sample's labels, those with our names renamed; None if a name is invalid."""
        # to Prometheus a label with an empty value is the same as no label
        labels = {name: value for name, value in sample.labels if value}
        if not all(map(_LABEL.fullmatch, labels)):
            return None
        for name in sorted(self._reserved & labels.keys()):
            renamed = _RENAMED + name
            while renamed in labels:
                renamed = _RENAMED + renamed
            labels[renamed] = labels.pop(name)
        return labels


class _Histogram:
    """The samples of one histogram."""

    def __init__(self) -> None:
        self.buckets: dict[float, float] = {}
        self.single: dict[str, float] = {}
        self._is_bad = False

    def add_sample(self, ending: str, upper: float, value: float) -> None:
        """Add a sample; ``upper`` is NaN if it has no bound."""
        if ending == "_bucket" and not math.isnan(upper):
            self.buckets.setdefault(upper, value)
        elif ending in ("_sum", "_count") and math.isnan(upper):
            self.single.setdefault(ending, value)
        else:
            self._is_bad = True

    @property
    def is_complete(self) -> bool:
        """Whether all parts are there and consistent: an incomplete histogram would make all quantiles wrong."""
        if self._is_bad or math.inf not in self.buckets or self.single.keys() != {"_sum", "_count"}:
            return False
        counts = [self.buckets[upper] for upper in sorted(self.buckets)]
        return (
            all(map(math.isfinite, (*counts, *self.single.values())))
            and counts[0] >= 0
            and counts == sorted(counts)
            and counts[-1] == self.single["_count"]
        )


def _sort_labels(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted(labels.items()))


def _parse_float(text: str | None) -> float:
    """Parse a number; NaN for any other text."""
    try:
        return math.nan if text is None else float(text)
    except ValueError:
        return math.nan
