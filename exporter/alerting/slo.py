"""The recording rules of the health SLO: the share of bad health observations of an upstream, over several windows.

Health is observed once per poll and live stream, and as 0 for a stream that should be live and is not: a stream that
is expected and dead costs as much budget as any other bad one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from exporter.alerting.promql import PromQL
from exporter.config.alerting import HealthSlo
from exporter.config.types import parse_duration
from exporter.metrics.families.sampled_families import HEALTH_SCORE
from exporter.metrics.text_format import bound

WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
"""The windows of the burn-rate rules, which name their recordings by them, whatever the time scale makes of them."""
LONG_WINDOWS = ("1h", "6h", "1d", "3d")

_FURTHER_LABELS = "instance, pod, protocol, stream"
"""Labels of the histograms that an upstream's SLO does not tell apart."""


@dataclass(frozen=True)
class Recording:
    """A recording rule."""

    record: str
    expression: str


def recordings(promql: PromQL, slo: HealthSlo) -> Iterator[Recording]:
    """The share of observations that are not above the goal, and how many there are."""
    family = HEALTH_SCORE.name
    for window in WINDOWS:
        samples = promql.duration(parse_duration(window))
        bad = promql.select(f'{family}_bucket{{SELECTOR,le="{bound(slo.goal)}"}}')
        count = promql.select(f"{family}_count{{SELECTOR}}")
        yield Recording(
            f"upstream:stream_health_below_goal:ratio_rate{window}",
            f"sum without ({_FURTHER_LABELS}, le) (rate({bad}[{samples}]))\n"
            f"/\n(sum without ({_FURTHER_LABELS}) (rate({count}[{samples}])) > 0)",
        )
        if window in LONG_WINDOWS:
            yield Recording(
                f"upstream:stream_health_observations:increase{window}",
                f"max without (instance, pod) (\n  sum without (protocol, stream) (increase({count}[{samples}]))\n)",
            )
