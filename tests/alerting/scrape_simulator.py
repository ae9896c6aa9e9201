"""Simulates Prometheus scraping exporters, and evaluates the rules with promtool on the resulting samples.

Targets have their own offset, fail scrapes, and enter and leave service discovery. As in Prometheus, a series that is
missing from a response is marked stale, and so are all series of a target whose scrape fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests import yaml_text
from tests.alerting.promtool import assert_tests_pass, budget_recordings, rule_group

GRID = 5
"""Seconds between the samples that promtool reads; scrapes fall on this grid."""
EVALUATION = 30
"""Seconds between evaluations."""
every_scrape_interval = pytest.mark.parametrize(
    "scrape", [60, pytest.param(30, marks=pytest.mark.soak), pytest.param(15, marks=pytest.mark.soak)]
)
"""Seconds between scrapes; ``make soak PART=scenarios`` runs those other than the default."""
JOB = "stream-exporter"

Facts = Mapping[str, float]
"""Values of a response by series, such as ``stream_live{platform="p",…}``."""
FIRING = 'ALERTS{{alertstate="firing",alertname!="StreamWatchdog"{more}}}'


def never(_: int) -> bool:
    return False


def every(nth: int) -> Callable[[int], bool]:
    """Return a function that fails every nth scrape."""
    return lambda number: number % nth == nth - 1


@dataclass(frozen=True, kw_only=True)
class Target:
    """An exporter. Times are seconds since the start."""

    instance: str
    facts: Callable[[int], Facts]
    """Returns the series of a scrape at a time."""
    offset: int = 5
    misses: Callable[[int], bool] = never
    """Returns whether the scrape with a number fails."""
    is_down: Callable[[int], bool] = never
    """Returns whether a scrape at a time fails."""
    is_discovered: Callable[[int], bool] = lambda _: True
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels of the target in addition to ``instance`` and the default ``job``."""

    def series(self, scrape_interval: int, duration: int, grid: int) -> Iterator[tuple[str, str]]:
        """Yield every series with its values in promtool's notation."""
        steps = duration // grid + 1
        columns: dict[str, list[str]] = {}
        served: set[str] = set()
        was_discovered, number = False, 0
        for step in range(steps):
            at = step * grid
            written: dict[str, str] = {}
            if was_discovered and not self.is_discovered(at):
                written = dict.fromkeys(served | {"up"}, "stale")
                served = set()
            elif self.is_discovered(at) and at >= self.offset and (at - self.offset) % scrape_interval == 0:
                fails = self.misses(number) or self.is_down(at)
                number += 1
                facts = {} if fails else self.facts(at)
                written = dict.fromkeys(served - facts.keys(), "stale") | {"up": f"{not fails:d}"}
                written |= {name: f"{value:g}" for name, value in facts.items()}
                served = set(facts)
            was_discovered = self.is_discovered(at)
            for name, value in written.items():
                columns.setdefault(name, ["_"] * steps)[step] = value
        for name, values in columns.items():
            yield self._labelled(name), " ".join(values)

    def _labelled(self, name: str) -> str:
        family, _, own = name.partition("{")
        labels = {"job": JOB, "instance": self.instance, **self.labels}
        text = ",".join(f'{label}="{value}"' for label, value in labels.items())
        return f"{family}{{{text}{',' + own if own else '}'}"


@dataclass
class Expectations:
    """Checks of which alerts fire. Names: ``Alert``, ``Alert/upstream`` or ``Alert/upstream/stream``."""

    checks: list[dict[str, Any]] = field(default_factory=list)

    def fires(self, alert: str, *, after: int, before: int) -> Expectations:
        """Expect the alert to start firing between these times."""
        return self._firing(alert, after, 0)._firing(alert, before, 1)

    def fires_at(self, alert: str, *times: int) -> Expectations:
        for at in times:
            self._firing(alert, at, 1)
        return self

    def is_silent_at(self, alert: str, *times: int) -> Expectations:
        for at in times:
            self._firing(alert, at, 0)
        return self

    def only(self, alerts: set[str], *, until: int) -> Expectations:
        """Expect that no other alert has fired."""
        expression = f"last_over_time({FIRING.format(more='')}[{until}s])"
        samples = []
        for alert in sorted(alerts):
            labels = dict(zip(("alertname", "upstream", "stream"), alert.split("/", 2), strict=False))
            samples.append({"labels": _selector(labels), "value": 1})
        self.checks.append(
            {
                "expr": f"group by (alertname, upstream, stream) ({expression})",
                "eval_time": f"{until}s",
                "exp_samples": samples,
            }
        )
        return self

    def _firing(self, alert: str, at: int, count: int) -> Expectations:
        labels = dict(zip(("alertname", "upstream", "stream"), alert.split("/", 2), strict=False))
        more = "".join(f',{label}="{value}"' for label, value in labels.items())
        at = -(-at // EVALUATION) * EVALUATION
        self.checks.append(
            {
                "expr": f'group (ALERTS{{alertstate="firing"{more}}})',
                "eval_time": f"{at}s",
                "exp_samples": [{"labels": "{}", "value": 1}] if count else [],
            }
        )
        return self


def check_alerts(
    folder: Path,
    targets: Sequence[Target],
    expected: Expectations,
    *,
    scrape_interval: int,
    duration: int,
    alerts: set[str],
    evaluation: int = EVALUATION,
    rules: str | None = None,
    recordings: str | None = None,
    grid: int = GRID,
) -> None:
    """Evaluate alerts on simulated scrapes. ``rules``, ``recordings``: rule files (default: the committed ones)."""
    series = [found for target in targets for found in target.series(scrape_interval, duration, grid)]
    group = rule_group(alerts, rules, inputs=[name for name, _ in series])
    (folder / "alerts.yaml").write_text(yaml_text.render_quickly(group))
    (folder / "recordings.yaml").write_text(yaml_text.render_quickly(budget_recordings(alerts, recordings)))
    document = {
        "rule_files": ["alerts.yaml", "recordings.yaml"],
        "evaluation_interval": f"{evaluation}s",
        "group_eval_order": ["stream-health-slo-recordings", "stream-exporter"],
        "tests": [
            {
                "interval": f"{grid}s",
                "input_series": [{"series": name, "values": values} for name, values in series],
                "promql_expr_test": expected.checks,
            }
        ],
    }
    (folder / "tests.yaml").write_text(yaml_text.render_quickly(document))
    assert_tests_pass(folder / "tests.yaml")


def _selector(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{label}="{value}"' for label, value in labels.items()) + "}"
