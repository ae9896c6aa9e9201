"""The families of a platform's analytics, and of its numbers that have no documented meaning."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from exporter.metrics.families.family import STREAM_LABELS, Kind, Labelled, ModelFamily, Number, Part, Source
from exporter.model import Analytics, PlatformMetric

AnalyticsFamily = ModelFamily[Analytics]


def _over_period(name: str, help_: str, read: Callable[[Analytics], Number | None]) -> AnalyticsFamily:
    def values(figures: Analytics) -> Sequence[Labelled]:
        return (((figures.period,), read(figures)),)

    return AnalyticsFamily(
        name=name,
        kind=Kind.GAUGE,
        help=help_,
        part=Part.STREAMS,
        labels=(*STREAM_LABELS, "period"),
        source=Source.PLATFORM,
        values=values,
        fields=frozenset({"analytics"}),
        each="period",
    )


ANALYTICS_FAMILIES: tuple[AnalyticsFamily, ...] = (
    _over_period(
        "stream_analytics_viewers",
        "Viewers over the period, as the platform's analytics say.",
        lambda figures: figures.viewers,
    ),
    _over_period(
        "stream_analytics_peak_viewers",
        "The most viewers at once in the period, as the platform's analytics say.",
        lambda figures: figures.peak_viewers,
    ),
    _over_period(
        "stream_analytics_average_watch_seconds",
        "Seconds that a viewer watched on average in the period.",
        lambda figures: figures.average_watch_seconds,
    ),
)


def _numbers(metrics: Sequence[PlatformMetric]) -> Sequence[Labelled]:
    return [((metric.metric, metric.period), metric.value) for metric in metrics]


PLATFORM_METRIC = ModelFamily[Sequence[PlatformMetric]](
    name="stream_platform_metric",
    kind=Kind.GAUGE,
    help="Numbers of the platform without a documented meaning or unit, under their dotted path; "
    "stream is empty where they are of the whole account.",
    part=Part.STREAMS,
    labels=(*STREAM_LABELS, "metric", "period"),
    source=Source.PLATFORM,
    values=_numbers,
    fields=frozenset({"platform_metrics", "analytics"}),
    each="number",
)
