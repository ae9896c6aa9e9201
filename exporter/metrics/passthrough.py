"""Pass-through metrics: parse the metrics that a platform exports, and render them with the labels of the upstream.

Series are kept as Prometheus would keep them, with any value and in any order. Each one gets the labels ``platform``
and ``upstream``, and those configured for the upstream. Only series that would make the exposition invalid, or appear
in it twice, are dropped; they are counted, and each reason is logged once.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

import structlog
from prometheus_client.parser import text_fd_to_metric_families

from exporter.config.types import OWN_METRIC_PREFIXES
from exporter.metrics.text_format import bound, label_text, label_value, number
from exporter.model import (
    Labels,
    PassthroughFamily,
    PassthroughMetrics,
    PassthroughSample,
    PassthroughText,
    UpstreamState,
)
from exporter.runtime.redaction import redactor

log = structlog.get_logger()

DEFAULT_HELP = "From the platform's own export, without a description."
MAX_HELP_CHARACTERS = 1000
NAMES_IN_A_LOG_LINE = 3
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,255}")
_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]{0,255}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|[+-]?inf(?:inity)?|nan", re.IGNORECASE)
_ENDS_IN_INFINITY = re.compile(r"[\s}][+-]?inf(?:inity)?(?:\s+[0-9.e+-]+)?$", re.IGNORECASE)
"""A line with the value ``+Inf``. The parser also returns infinity for a number too large for a float."""
_HELP_ESCAPE = re.compile(r"\\[\\n]")
_OUR_LABELS = ("platform", "upstream")
_TARGET_LABELS = ("job", "instance", "namespace", "pod", "container", "service", "endpoint", "node")
"""Labels that Prometheus and its operator attach to targets."""
_RENAMED = "exported_"
"""Prefix of a renamed label, as in Prometheus."""
_UNTYPED = "untyped"
_PARTS: Mapping[str, tuple[str, ...]] = {
    "counter": (), "gauge": (), _UNTYPED: (), "summary": ("_sum", "_count"), "histogram": ("_bucket", "_sum", "_count"),
}  # fmt: skip
"""Metric types, each with the suffixes that its sample names may have."""
_BOUNDS = {"histogram": "le", "summary": "quantile"}
"""By type, the label whose value must be a number."""
_MEANINGFUL = {"histogram": {"le"}, "summary": {"quantile"}, _UNTYPED: {"le", "quantile"}}
"""Reserved labels that these types may have."""


class DropReason(StrEnum):
    """Why series are dropped."""

    MAX_SERIES = "more series than max_series"
    NAME = "invalid metric name"
    OWN_NAME = "name is reserved for the exporter's own metrics"
    LABEL = "invalid label name"
    BOUND = "le or quantile is not a number"
    VALUE = "value is too large for a float"
    DUPLICATE = "duplicate series"
    TYPE = "type differs from another upstream's family of the same name; set another prefix"


class _Drops:
    """Number of dropped series, and the first families concerned, by reason."""

    def __init__(self) -> None:
        self.counts: dict[DropReason, int] = {}
        self._families: dict[DropReason, dict[str, None]] = {}

    def add(self, reason: DropReason, family: str, series: int = 1) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + series
        families = self._families.setdefault(reason, {})
        if family and len(families) < NAMES_IN_A_LOG_LINE:
            families[label_value(family)] = None

    def log_new(self, logged: set[tuple[str, str, DropReason]], platform: str, upstream: str) -> None:
        """Log the reasons that are not in ``logged`` yet, and add them."""
        for reason, count in self.counts.items():
            if (platform, upstream, reason) in logged:
                continue
            logged.add((platform, upstream, reason))
            log.warning(
                "pass-through series dropped",
                platform=platform,
                upstream=upstream,
                reason=reason.value,
                count=count,
                families=list(self._families[reason]),
            )


# -- parsing -----------------------------------------------------------------------------------------------------------


class ExportParser:
    """Parses the exports of one upstream, and logs each reason for dropping series once."""

    def __init__(self, platform: str, upstream: str, labels: Labels = ()) -> None:
        """``labels`` are the labels configured for the upstream."""
        self._upstream = (platform, upstream)
        self._added_labels = frozenset(name for name, _ in labels)
        self._logged: set[tuple[str, str, DropReason]] = set()

    def __call__(self, exported: PassthroughText, /) -> PassthroughMetrics:
        """Parse text format 0.0.4. Raises ``ValueError``."""
        metrics, drops = _parse(exported, self._added_labels)
        drops.log_new(self._logged, *self._upstream)
        return metrics


def parse_passthrough(exported: PassthroughText) -> PassthroughMetrics:
    """Parse text format 0.0.4 up to the maximum number of series, ignoring timestamps. Raises ``ValueError``."""
    return _parse(exported, frozenset())[0]


def _parse(exported: PassthroughText, added_labels: frozenset[str]) -> tuple[PassthroughMetrics, _Drops]:
    drops = _Drops()
    try:
        lines, declarations = _read_lines(exported, drops)
        families = _read_families(lines, declarations, exported.prefix, drops, added_labels)
    except Exception:
        # The parser raises various errors, and their messages may quote secrets from the line.
        raise ValueError("not in Prometheus text format") from None
    metrics = PassthroughMetrics(
        prefix=exported.prefix, families=families, dropped=sum(drops.counts.values()), stale_at=exported.stale_at
    )
    return metrics, drops


class _Declarations:
    """The HELP and TYPE lines of a text. The first one for a name counts, even if it follows the samples."""

    def __init__(self) -> None:
        self.kinds: dict[str, str] = {}
        self.helps: dict[str, str] = {}

    def read(self, line: str) -> None:
        """Read a line that starts with ``#``; other comments are ignored. Raises ``ValueError``."""
        words = line.split(None, 3)
        if words[0] != "#" or len(words) < 2 or words[1] not in ("HELP", "TYPE"):
            return
        if words[1] == "TYPE":
            _, _, name, kind = words
            self.kinds.setdefault(name, kind if kind in _PARTS else _UNTYPED)
        elif len(words) == 4:
            self.helps.setdefault(words[2], _HELP_ESCAPE.sub(lambda found: "\\\n"[found[0] == r"\n"], words[3]))

    def ignore_parts(self) -> None:
        """Ignore the types of names that are also sample names of a histogram or summary: they are ambiguous."""
        declared, self.kinds = self.kinds, {}
        for name in sorted(declared, key=len):
            if self.find_family(name) == name:
                self.kinds[name] = declared[name]

    def find_family(self, sample_name: str) -> str:
        """Return the name of the family that a sample belongs to."""
        base, underscore, ending = sample_name.rpartition("_")
        return base if underscore + ending in _PARTS.get(self.kinds.get(base, ""), ()) else sample_name


def _read_lines(exported: PassthroughText, drops: _Drops) -> tuple[list[str], _Declarations]:
    """Return the lines of the first ``max_series`` series, and the declarations, with secrets redacted."""
    lines: list[str] = []
    declarations = _Declarations()
    for raw in redactor.scrub_text(exported.text).split("\n"):
        line = raw.strip()
        if line.startswith("#"):
            declarations.read(line)
        elif line and len(lines) < exported.max_series:
            lines.append(line)
        elif line:
            name = _NAME.match(line)
            drops.add(DropReason.MAX_SERIES, name[0] if name else "")
    declarations.ignore_parts()
    return lines, declarations


def _read_families(
    lines: Sequence[str], declarations: _Declarations, prefix: str, drops: _Drops, added_labels: frozenset[str]
) -> tuple[PassthroughFamily, ...]:
    families: dict[str, _Family] = {}
    by_sample_name: dict[str, _Family] = {}
    # Without HELP and TYPE lines, the parser yields each line unchanged as a family of its own.
    for line, metric in zip(lines, text_fd_to_metric_families(lines), strict=True):  # type: ignore[arg-type]
        ((name, labels, value, *_),) = metric.samples
        family = by_sample_name.get(name)
        if family is None:
            base = declarations.find_family(name)
            if base not in families:
                families[base] = _Family(base, declarations, prefix, added_labels)
            family = by_sample_name[name] = families[base]
        reason = family.add_sample(name, labels, value, line)
        if reason is not None:
            drops.add(reason, family.name)
    taken = declarations.kinds.keys() | families.keys()
    return tuple(family.build(taken) for family in families.values() if family.samples)


class _Key(NamedTuple):
    """Identity of a series within its family."""

    ending: str
    labels: Labels
    """Without ``le`` or ``quantile`` if that label is the bound."""
    bound: str


class _Family:
    """Collects the samples of one family."""

    def __init__(self, name: str, declarations: _Declarations, prefix: str, added_labels: frozenset[str]) -> None:
        self.name = name
        self.samples: dict[_Key, float] = {}
        self._kind = declarations.kinds.get(name, _UNTYPED)
        self._help = declarations.helps.get(name, "")
        self._bound_label = _BOUNDS.get(self._kind, "")
        reserved = {"le", "quantile", *_OUR_LABELS, *_TARGET_LABELS, *added_labels}
        self._reserved = reserved - _MEANINGFUL.get(self._kind, set())
        self._label_names: set[str] = set()
        self._invalid: DropReason | None = None
        if not _NAME.fullmatch(prefix + name):
            self._invalid = DropReason.NAME
        elif (prefix + name).startswith(OWN_METRIC_PREFIXES):
            self._invalid = DropReason.OWN_NAME

    def add_sample(self, name: str, labels: Mapping[str, str], value: float, line: str) -> DropReason | None:
        """Add a sample, or return the reason why it must be dropped."""
        if self._invalid is not None:
            return self._invalid
        if not _fits_float(value, line):
            return DropReason.VALUE
        # Prometheus treats a label with an empty value as no label.
        kept = {label: label_value(text) for label, text in labels.items() if text}
        if not self._label_names.issuperset(kept):
            if not all(map(_LABEL.fullmatch, kept)):
                return DropReason.LABEL
            self._label_names.update(kept)
        if not self._reserved.isdisjoint(kept):
            self._rename_labels(kept)
        limit = ""
        if self._bound_label in kept:
            limit = _normalize_bound(kept.pop(self._bound_label))
            if not limit:
                return DropReason.BOUND
        key = _Key(name[len(self.name) :], tuple(sorted(kept.items())), limit)
        if key in self.samples:
            return DropReason.DUPLICATE
        self.samples[key] = value
        return None

    def _rename_labels(self, labels: dict[str, str]) -> None:
        for name in sorted(self._reserved & labels.keys()):
            renamed = _RENAMED + name
            while renamed in labels:
                renamed = _RENAMED + renamed
            labels[renamed] = labels.pop(name)

    def build(self, taken: Iterable[str]) -> PassthroughFamily:
        """Return the family. A counter's name gets the suffix ``_total`` unless that name is in ``taken``."""
        name = self.name
        if self._kind == "counter" and not name.endswith("_total") and f"{name}_total" not in taken:
            name += "_total"
        samples = sorted(self.samples.items(), key=self._order()) if self._bound_label else self.samples.items()
        return PassthroughFamily(
            name,
            self._kind,
            self._help,
            tuple(
                PassthroughSample(name + ending, (*labels, (self._bound_label, limit)) if limit else labels, value)
                for (ending, labels, limit), value in samples
            ),
        )

    def _order(self) -> Callable[[tuple[_Key, float]], tuple[bool, int, bool, float]]:
        """Return a sort key that groups the samples of each histogram or summary, sorted by bound."""
        groups: dict[Labels, int] = {}
        for key in self.samples:
            groups.setdefault(key.labels, len(groups))

        def order(item: tuple[_Key, float]) -> tuple[bool, int, bool, float]:
            ending, labels, limit = item[0]
            is_no_part = self._kind == "histogram" and not ending
            # NaN cannot be compared.
            return is_no_part, groups[labels], not limit, math.inf if limit in ("", "NaN") else float(limit)

        return order


def _fits_float(value: float, line: str) -> bool:
    """Return whether every parser can read the line's value as a float."""
    if isinstance(value, int):
        return abs(value) <= sys.float_info.max
    return not math.isinf(value) or _ENDS_IN_INFINITY.search(line) is not None


@lru_cache(maxsize=1024)
def _normalize_bound(text: str) -> str:
    """Return a bound as Prometheus 3 stores it; "" if Go cannot parse it or it is too large for a float."""
    if not _NUMBER.fullmatch(text):
        return ""
    value = float(text)
    return "" if math.isinf(value) and text[-1].isdigit() else bound(value)


# -- rendering ---------------------------------------------------------------------------------------------------------


class Block(NamedTuple):
    """One family as text: its heading and sample lines."""

    name: str
    kind: str
    help: str
    lines: Sequence[str]


class MergedFamilies(NamedTuple):
    """The families of all upstreams, and how many series of each upstream were dropped."""

    blocks: Sequence[Block]
    dropped: Mapping[tuple[str, str], int]
    """By platform and upstream; only upstreams with pass-through metrics."""


class PassthroughRenderer:
    """Renders parsed metrics, and reuses an upstream's text until its metrics change."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[PassthroughMetrics, Labels, list[Block]]] = {}
        self._logged: set[tuple[str, str, DropReason]] = set()

    def merge(self, upstreams: Sequence[UpstreamState]) -> MergedFamilies:
        """Merge the families of these upstreams. The first family with a name determines its type."""
        self._known, before = {}, self._known
        blocks: dict[str, Block] = {}
        claimed: set[str] = set()
        dropped: dict[tuple[str, str], int] = {}
        for state in upstreams:
            metrics = state.passthrough
            if metrics is None:
                continue
            key = (state.platform, state.upstream)
            known = before.get(key)
            if known is None or known[0] is not metrics or known[1] != state.labels:
                known = metrics, state.labels, list(_render_blocks(metrics, state))
            self._known[key] = known
            drops = _Drops()
            for block in known[2]:
                if not _add_block(block, blocks, claimed):
                    drops.add(DropReason.TYPE, block.name, len(block.lines))
            drops.log_new(self._logged, *key)
            dropped[key] = dropped.get(key, 0) + metrics.dropped + sum(drops.counts.values())
        return MergedFamilies(list(blocks.values()), dropped)


def _add_block(added: Block, blocks: dict[str, Block], claimed: set[str]) -> bool:
    """Add a family to ``blocks``; return False if another family of a different type already uses its names.

    ``claimed``: the sample names of all blocks.
    """
    known = blocks.get(added.name)
    if known is not None and _PARTS[known.kind] == _PARTS[added.kind]:
        blocks[added.name] = known._replace(lines=[*known.lines, *added.lines])
        return True
    names = {added.name, *(added.name + ending for ending in _PARTS[added.kind])}
    if not claimed.isdisjoint(names):
        return False
    blocks[added.name] = added
    claimed |= names
    return True


def _render_blocks(metrics: PassthroughMetrics, state: UpstreamState) -> Iterator[Block]:
    ours = _join_labels(label_text(_OUR_LABELS, (state.platform, state.upstream)), state.labels)
    for family in metrics.families:
        lines = [
            f"{metrics.prefix}{sample.name}{{{_join_labels(ours, sample.labels)}}} {_value_text(sample.value)}\n"
            for sample in family.samples
        ]
        help_ = family.help[:MAX_HELP_CHARACTERS] or DEFAULT_HELP
        yield Block(metrics.prefix + family.name, family.kind, help_, lines)


def _join_labels(ours: str, labels: Labels) -> str:
    return f"{ours},{label_text(*zip(*labels, strict=True))}" if labels else ours


def _value_text(value: float) -> str:
    """Return a sample's value as text; unlike the exporter's own values, it may be NaN or infinite."""
    return number(value) or bound(value)
