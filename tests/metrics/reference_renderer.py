"""A simple renderer, line by line, as the reference for tests of the real renderers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from exporter.metrics.families.family import STREAM_LABELS, UPSTREAM_LABELS, Labelled, ModelFamily, Part
from exporter.metrics.families.stream_families import (
    ANALYTICS_FAMILIES,
    PLATFORM_METRIC,
    SAMPLED_FAMILIES,
    STREAM_FAMILIES,
    SampledFamily,
)
from exporter.metrics.families.upstream_families import PASSTHROUGH_SERIES_DROPPED, UPSTREAM_FAMILIES
from exporter.metrics.passthrough import PassthroughRenderer
from exporter.metrics.text_format import bound, heading, label_text, number
from exporter.model import PlatformMetric, SampledHistogram, UpstreamState

Row = tuple[str, Any, frozenset[str]]
"""Label text of an object, the object, and its excluded families."""


@dataclass
class ReferenceRendering:
    """The text, and the number of series and duplicates."""

    text: str = ""
    series: int = 0
    duplicates: int = 0
    passthrough: PassthroughRenderer = field(default_factory=PassthroughRenderer)

    def add(self, name: str, kind: str, help_: str, lines: Sequence[str]) -> None:
        if lines:
            self.series += len(lines)
            self.text += heading(name, kind, help_) + "".join(lines)

    def family(self, family: ModelFamily[Any], rows: Iterable[Row]) -> None:
        self.add(family.name, family.kind, family.help, list(self.lines(family, rows)))

    def lines(self, family: ModelFamily[Any], rows: Iterable[Row]) -> Iterator[str]:
        common = len(STREAM_LABELS) if family.part is Part.STREAMS else len(UPSTREAM_LABELS)
        for labels, item, excluded in rows:
            if family.name in excluded:
                continue
            seen: set[str] = set()
            for own, value in samples_of(family, item):
                own_text = label_text(family.labels[common:], own)
                text = None if value is None else number(value)
                if text is None:
                    continue
                if own_text in seen:
                    self.duplicates += 1
                    continue
                seen.add(own_text)
                yield f"{family.name}{{{labels}{',' if own else ''}{own_text}}} {text}\n"

    def rows(self, names: Sequence[str], objects: Iterable[tuple[tuple[str, ...], Any, UpstreamState]]) -> list[Row]:
        """Return objects with their label texts, without those whose text occurred earlier."""
        first: dict[str, Row] = {}
        for values, item, view in objects:
            text = with_configured(label_text(names, values), view)
            self.duplicates += text in first
            first.setdefault(text, (text, item, view.excluded))
        return list(first.values())

    def histogram(self, family: SampledFamily, views: Sequence[UpstreamState]) -> None:
        shared: list[tuple[str, SampledHistogram]] = []
        single: list[tuple[str, SampledHistogram]] = []
        for view in views:
            for h in view.sampled if family.name not in view.excluded else ():
                common = (view.platform, view.upstream)
                if h.family == family.name and h.stream is None:
                    text = label_text((*UPSTREAM_LABELS, "protocol"), (*common, h.protocol))
                    shared.append((with_configured(text, view), h))
                elif h.family == family.name and h.stream is not None:
                    text = label_text((*STREAM_LABELS, "protocol"), (*common, h.stream, h.protocol))
                    single.append((with_configured(text, view), h))
        first: dict[str, SampledHistogram] = {}
        for text, histogram in shared + single:
            self.duplicates += text in first
            first.setdefault(text, histogram)
        lines = []
        for text, histogram in first.items():
            cumulated = list(accumulate(histogram.counts))
            for upper, count in zip((*family.bounds, math.inf), cumulated, strict=True):
                lines.append(f'{family.name}_bucket{{{text},le="{bound(upper)}"}} {count}\n')
            lines.append(f"{family.name}_count{{{text}}} {cumulated[-1]}\n")
            lines.append(f"{family.name}_sum{{{text}}} {number(histogram.sum)}\n")
        self.add(family.name, family.kind, family.help, lines)


def with_configured(text: str, view: UpstreamState) -> str:
    """Append the labels configured for the upstream."""
    return ",".join([text, *(label_text([name], [value]) for name, value in view.labels)])


def samples_of(family: ModelFamily[Any], item: Any) -> Sequence[Labelled]:
    if family.value is not None:
        return [((), family.value(item))]
    return family.values(item) if family.values is not None else ()


def render_reference(views: Sequence[UpstreamState], *, upstreams: bool = True) -> ReferenceRendering:
    """Render the metrics of upstreams and streams."""
    rendering = ReferenceRendering()
    if upstreams:
        _upstreams(rendering, views)
    streams = rendering.rows(
        STREAM_LABELS,
        (
            ((state.identity.platform, state.identity.upstream, state.identity.stream), state, view)
            for view in views
            for state in view.streams
        ),
    )
    for family in STREAM_FAMILIES:
        rendering.family(family, streams)
    _analytics(rendering, views, streams)
    for sampled in SAMPLED_FAMILIES:
        rendering.histogram(sampled, views)
    for block in rendering.passthrough.merge(views).blocks:
        rendering.add(*block)
    return rendering


def _upstreams(rendering: ReferenceRendering, views: Sequence[UpstreamState]) -> None:
    rows = rendering.rows(UPSTREAM_LABELS, (((view.platform, view.upstream), view, view) for view in views))
    for family in UPSTREAM_FAMILIES:
        rendering.family(family, rows)
    dropped = rendering.passthrough.merge(views).dropped
    rendering.add(
        PASSTHROUGH_SERIES_DROPPED.name,
        PASSTHROUGH_SERIES_DROPPED.kind,
        PASSTHROUGH_SERIES_DROPPED.help,
        [
            f"{PASSTHROUGH_SERIES_DROPPED.name}{{{labels}}} {dropped[view.platform, view.upstream]}\n"
            for labels, view, _ in rows
            if view.passthrough is not None
        ],
    )


def _analytics(rendering: ReferenceRendering, views: Sequence[UpstreamState], streams: Sequence[Row]) -> None:
    figures = rendering.rows(
        STREAM_LABELS,
        (((view.platform, view.upstream, one.stream), one, view) for view in views for one in view.analytics),
    )
    for family in ANALYTICS_FAMILIES:
        rendering.family(family, figures)
    numbers: dict[str, list[PlatformMetric]] = {}
    for labels, state, excluded in streams:
        if state.report.platform_metrics and PLATFORM_METRIC.name not in excluded:
            numbers.setdefault(labels, []).extend(state.report.platform_metrics)
    for labels, one, excluded in figures:
        if PLATFORM_METRIC.name not in excluded:
            numbers.setdefault(labels, []).extend(one.platform_metrics)
    rendering.family(PLATFORM_METRIC, ((labels, one, frozenset()) for labels, one in numbers.items()))
