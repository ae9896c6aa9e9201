"""The tests of every rule for ``promtool test rules``, written out: ``alerts/tests/rules.yaml``.

What goes in and what must be said stands here by hand; the rest (how long until it fires, how long it keeps firing) is
the table's.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from exporter.alerting.annotations import runbook_url
from exporter.alerting.rules import RULES_BY_NAME, Owner, Scope
from tests.alerting.rule_inputs import INPUTS, SLO_STEP, STEP, Input, Values

SLACK = 2
"""Steps around an end that is reached when samples leave a window: Prometheus 2 and 3 disagree by one."""

_HEADER = "# Made from tests/alerting/rule_inputs.py by `make generate`; edit that instead.\n"
_UPSTREAM = {"platform": "livepeer", "upstream": "studio"}
_STREAM = _UPSTREAM | {"stream": "main"}

Phase = tuple[Mapping[str, Values], int]
"""Series and their values, for so many steps."""
Check = tuple[str, list[dict[str, Any]] | None]
"""When, and which alerts fire then; None: any."""


def page(step: int) -> str:
    """The file of those rules whose tests have this step; the days of the SLO are tested in longer ones."""
    document = {
        "rule_files": ["../stream-alerts.yaml", "../stream-recordings.yaml"],
        "evaluation_interval": f"{step}s",
        "group_eval_order": ["stream-health-slo-recordings", "stream-health-slo"],
        "tests": [test for given in INPUTS if given.step == step for test in _tests(given)],
    }
    return _HEADER + yaml.safe_dump(document, sort_keys=False, width=100_000, allow_unicode=True)


@dataclass
class Timeline:
    """When a rule fires and ends, in steps."""

    given: Input
    step: int = field(init=False)
    fires: int = field(init=False)
    bad: int = field(init=False)
    ceased: int = field(init=False)
    keep: int = field(init=False)

    def __post_init__(self) -> None:
        rule = RULES_BY_NAME[self.given.rule]
        self.step = self.given.step
        lead = self.given.lead // self.step
        begins = lead + 1 if lead else 0
        self.fires = self._steps(self.given.fires_at) or begins + int(rule.for_seconds) // self.step
        self.bad = self._steps(self.given.bad_until) or self.fires + 4
        self.ceased = self._steps(self.given.ceases_at) or self.bad + 1
        self.keep = int(rule.keep_firing_seconds) // self.step

    def at(self, step: int) -> str:
        return f"{step * self.step}s"

    def _steps(self, seconds: int) -> int:
        return seconds // self.step


def _tests(given: Input) -> Iterator[dict[str, Any]]:
    time = Timeline(given)
    lead: list[Phase] = [(given.good, given.lead // given.step + 1)] if given.lead else []
    end = time.fires + 4
    firing = [*lead, (given.bad, end)]
    one = _expected(given, given.description)

    yield _test(given, "fires, and not before", firing, [(time.at(time.fires - 1), []), (time.at(time.fires), one)])
    yield _test(given, "two instances make one alert", firing, [(time.at(time.fires), _of_two(given))], instances="ab")
    if given.good:
        yield _test(given, "healthy", [(given.good, end)], [(time.at(end - 1), [])])
        gone = time.ceased + time.keep
        resolving = [*lead, (given.bad, time.bad + 1 - sum(n for _, n in lead)), (given.good, gone + 8 - time.bad)]
        checks: list[Check] = [(time.at(gone - SLACK), None), (time.at(gone + 1), [])]
        yield _test(given, "resolves", resolving, checks)
    if given.unknown is not None:
        phases = [(given.good, (given.lead or STEP) // given.step + 1), (given.unknown, end)]
        yield _test(given, "stream unknown", phases, [(time.at(time.fires + 2), [])])
    if not given.fires_without:
        (_, *rest) = given.bad.items()
        yield _test(given, "series missing", [*lead, (dict(rest), end)], [(time.at(end - 1), [])])
    else:
        yield _test(given, "series missing", [({}, end)], [(time.at(time.fires), one)])


def _test(
    given: Input,
    what: str,
    phases: Sequence[Phase],
    checks: Sequence[Check],
    *,
    instances: str = "a",
) -> dict[str, Any]:
    names = dict.fromkeys(itertools.chain.from_iterable(values for values, _ in phases))
    series = [
        {"series": _labelled(name, instance), "values": " ".join(_sequence(name, phases))}
        for name in names
        for instance in instances
    ]
    return {
        "name": f"{given.rule}: {what}",
        "interval": f"{given.step}s",
        "input_series": series,
        "alert_rule_test": [
            {"eval_time": at, "alertname": given.rule, "exp_alerts": alerts}
            for at, alerts in checks
            if alerts is not None
        ],
        # whether it is still firing, whatever it says by now
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{given.rule}",alertstate="firing"}})',
                "eval_time": at,
                "exp_samples": [{"labels": "{}", "value": 1}],
            }
            for at, alerts in checks
            if alerts is None
        ],
    }


def _expected(given: Input, description: str, **more: str) -> list[dict[str, Any]]:
    rule = RULES_BY_NAME[given.rule]
    about = {Scope.STREAM: _STREAM, Scope.UPSTREAM: _UPSTREAM, Scope.EXPORTER: {}}[rule.scope]
    job = {"job": "stream-exporter"} if rule.owner is Owner.BOTH or given.bad or given.fires_without else {}
    labels = {"severity": rule.severity.value, "scope": rule.scope.value} | job | about | dict(given.labels) | more
    annotations = {"summary": rule.summary, "description": description, "runbook_url": runbook_url(rule)}
    return [{"exp_labels": labels, "exp_annotations": annotations}]


def _of_two(given: Input) -> list[dict[str, Any]]:
    if not given.per_instance:
        return _expected(given, given.description)
    return [
        alert
        for name in "ab"
        for alert in _expected(given, given.description.replace("a:10071", f"{name}:10071"), instance=f"{name}:10071")
    ]


def _labelled(name: str, instance: str) -> str:
    """The series with the labels that every one of its kind has."""
    family, _, own = name.partition("{")
    labels = {"job": "stream-exporter", "instance": f"{instance}:10071"}
    if family.startswith(("stream_upstream_", "stream_sampled_")):
        labels |= _UPSTREAM
    elif family != "up" and not family.startswith("stream_exporter_"):
        labels |= _STREAM
    text = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return f"{family}{{{text}{',' + own if own else '}'}"


def _sequence(name: str, phases: Sequence[Phase]) -> Iterator[str]:
    """The values of one series over the phases, as promtool reads them."""
    last = 0.0
    was_there = False
    for values, steps in phases:
        value = values.get(name)
        if value is None:
            if was_there:
                yield "stale"
            yield f"_x{steps - was_there}"
        elif isinstance(value, tuple):
            yield from (_sample(value[index % len(value)]) for index in range(steps))
        elif isinstance(value, str):
            growth = float(value)
            start = last + growth if was_there else 0.0
            yield f"{start:g}+{growth:g}x{steps - 1}"
            last = start + growth * (steps - 1)
        else:
            yield f"{value:g}x{steps - 1}"
        was_there = value is not None


def _sample(value: float | None) -> str:
    return "_" if value is None else f"{value:g}"


FILES = {"rules.yaml": partial(page, STEP), "slo.yaml": partial(page, SLO_STEP)}

if __name__ == "__main__":
    for file, text in FILES.items():
        (Path(sys.argv[1]) / file).write_text(text())
