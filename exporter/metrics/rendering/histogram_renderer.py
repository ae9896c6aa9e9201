"""The lines of sampled histograms."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate

from exporter.metrics.families.family import STREAM_LABELS
from exporter.metrics.families.sampled_families import SampledFamily
from exporter.metrics.rendering.label_texts import KeptTexts, opened
from exporter.metrics.rendering.tables import Seen
from exporter.metrics.rendering.text_assembly import Rendering
from exporter.metrics.text_format import bound, number
from exporter.model import SampledHistogram, UpstreamState


def render_histogram(
    rendering: Rendering, family: SampledFamily, views: Sequence[UpstreamState], texts: KeptTexts
) -> None:
    """A family with the histograms of upstreams, and those of single streams."""
    shared: list[tuple[tuple[str, ...], SampledHistogram]] = []
    single: list[tuple[tuple[str, ...], SampledHistogram]] = []
    for view in views:
        for h in view.sampled if family.name not in view.excluded else ():
            if h.family == family.name and h.stream is None:
                shared.append(((view.platform, view.upstream, h.protocol), h))
            elif h.family == family.name and h.stream is not None:
                single.append(((view.platform, view.upstream, h.stream, h.protocol), h))
    if not shared and not single:
        return
    labels = [
        *texts.of(family.name, family.labels, [key for key, _ in shared]),
        *texts.of(f"{family.name} of streams", (*STREAM_LABELS, "protocol"), [key for key, _ in single]),
    ]
    histograms = [histogram for _, histogram in (*shared, *single)]
    table = Seen(rendering).table(family.name, labels, histograms)
    rendering.add(family, list(_lines(family, table.labels.closed, table.items)))


def _lines(family: SampledFamily, labels: Sequence[bytes], histograms: Sequence[SampledHistogram]) -> Iterator[str]:
    bounds = [bound(upper) for upper in (*family.bounds, math.inf)]
    for closed, histogram in zip(labels, histograms, strict=True):
        text = closed.decode()
        ahead = f"{family.name}_bucket{{{opened(closed).decode()}"
        cumulated = list(accumulate(histogram.counts))
        for upper, count in zip(bounds, cumulated, strict=True):
            yield f'{ahead}le="{upper}"}} {count}\n'
        yield f"{family.name}_count{{{text}{cumulated[-1]}\n"
        yield f"{family.name}_sum{{{text}{number(histogram.sum)}\n"
