"""The tests of every rule for ``promtool test rules``, written out: ``alerts/tests/rules-*.yaml``.

The series and the description of each alert are written by hand in ``rule_inputs.py``; times follow from the table of
rules, and the other annotations from the sidecar's: Prometheus must write the same.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from exporter.alerting.annotations import AnnotationTemplates, AnnotationTexts, runbook_url
from exporter.alerting.promql import Dialect
from exporter.alerting.rules import RULES_BY_NAME, Scope, Severity
from exporter.alerting.rules.active_rules import ActiveRule, Grade, rules_in_force
from tests.alerting.rule_inputs import INPUTS, SCRAPE, SLO_STEP, Input, Values

SLACK = 2
"""Evaluations around an end that is reached when samples leave a window: Prometheus 2 and 3 disagree by one."""

_HEADER = "# Made from tests/alerting/rule_inputs.py by `make generate`; edit that instead.\n"
_UPSTREAM = {"platform": "livepeer", "upstream": "studio"}
_STREAM = _UPSTREAM | {"stream": "main"}
_ACTIVE = {active.rule.name: active for active in rules_in_force()}

Phase = tuple[Mapping[str, Values], int]
"""Series and their values, for so many seconds."""
Check = tuple[int, list[dict[str, Any]] | None]
"""When, and which alerts fire then; None: some alert fires, whatever it says."""


def page(file: str) -> str:
    """Return the content of one of the test files."""
    scrape, evaluation, _ = FILES[file]
    tests = [test for given in INPUTS if _belongs(given, file) for test in _tests(given, scrape, evaluation)]
    return _HEADER + yaml.safe_dump(document(file, tests), sort_keys=False, width=100_000, allow_unicode=True)


def document(file: str, tests: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what promtool reads, with these tests of one of the files."""
    return {
        "rule_files": ["../stream-alerts.yaml", "../stream-recordings.yaml"],
        "evaluation_interval": f"{FILES[file][1]}s",
        "group_eval_order": ["stream-health-slo-recordings", "stream-exporter"],
        "tests": tests,
    }


def _belongs(given: Input, file: str) -> bool:
    """Whether an input is tested in that file; one with times of its own only at the interval that they refer to."""
    scrape, _, slo_window = FILES[file]
    return given.slo_window == slo_window and (bool(slo_window) or scrape == SCRAPE or not given.fires_at)


@dataclass
class Timeline:
    """When a rule fires and ends, in seconds."""

    given: Input
    scrape: int
    evaluation: int
    begins: int = field(init=False)
    """When it begins to be bad."""
    holds: int = field(init=False)
    """When the condition begins to hold."""
    fires: int = field(init=False)
    ends: int = field(init=False)
    """When it is good again."""
    gone: int = field(init=False)
    """When the alert has resolved."""

    def __post_init__(self) -> None:
        given, grade = self.given, grade_of(self.given)
        self.begins = self._scrapes(given.lead) + self.scrape if given.lead else 0
        # the delay counts from the last good sample
        holds = self.begins - self.scrape + given.delay if given.delay else self.begins
        self.holds = math.ceil(holds / self.evaluation) * self.evaluation
        wait = math.ceil(grade.for_seconds / self.evaluation) * self.evaluation
        self.fires = given.fires_at or self.holds + wait
        self.ends = self._scrapes(given.bad_until or self.fires + 4 * self.evaluation)
        keep = int(_ACTIVE[given.rule].keep_firing_seconds)
        self.gone = (given.ceases_at or self.ends) + keep

    def _scrapes(self, seconds: int) -> int:
        return math.ceil(seconds / self.scrape) * self.scrape


def grade_of(given: Input) -> Grade:
    """Return the grade of the rule that is tested."""
    return next(grade for grade in _ACTIVE[given.rule].grades if grade.severity == severity_of(given))


def severity_of(given: Input) -> Severity:
    return given.severity or RULES_BY_NAME[given.rule].severity


def _tests(given: Input, scrape: int, evaluation: int) -> Iterator[dict[str, Any]]:
    time = Timeline(given, scrape, evaluation)
    slack = SLACK * evaluation if given.delay else 0
    build = partial(_test, given, scrape)
    lead: list[Phase] = [(given.good, time.begins)] if given.lead else []
    fires, end = time.fires + slack, time.fires + slack + 4 * evaluation
    firing = [*lead, (given.bad, end)]
    one = _expected(given, since=time)
    before: list[Any] | None = [] if severity_of(given) != Severity.CRITICAL or not _escalates(given) else None

    if given.always:
        yield build("always fires", [({}, end)], [(0, one), (end, one)])
        yield build("two instances make one alert", [({}, end)], [(end, one)], instances="ab")
        return
    if before is None:
        # the lower grade fires until the critical one has taken its place and it is no longer kept firing
        keep = int(_ACTIVE[given.rule].keep_firing_seconds)
        later = time.fires + keep + evaluation
        firing = [*lead, (given.bad, later + 4 * evaluation)]
        yield build(
            "escalates, and not before",
            firing,
            [(later, one)],
            critical_checks=((time.fires - evaluation, 0), (time.fires, 1)),
        )
        return
    yield build("fires, and not before", firing, [(time.fires - evaluation - slack, []), (fires, one)])
    yield build("two instances make one alert", firing, [(fires, _of_two(given, time))], instances="ab")
    if given.good:
        disagreeing = _expected(given, since=time) if given.disagreeing == "fires" else []
        if given.per_instance:
            disagreeing = _of_two(given, time)[:1]
        well: list[Phase] = [(given.good, end + time.begins)]
        yield build("two instances disagree", firing, [(fires, disagreeing)], instances="ab", other=well)
        yield build("healthy", [(given.good, end)], [(end - evaluation, [])])
        resolving = [*lead, (given.bad, time.ends - time.begins), (given.good, time.gone + 8 * evaluation - time.ends)]
        still = max(time.gone - SLACK * evaluation, time.fires + slack)
        yield build(
            "resolves",
            resolving,
            [(still - evaluation * (time.gone == time.ends), None), (time.gone + evaluation + slack, [])],
        )
    if given.unknown is not None:
        phases = [(given.good, time.begins or scrape), (given.unknown, end)]
        yield build("stream unknown", phases, [(time.fires + 2 * evaluation, [])])
    if given.needs_evidence:
        blind = {**given.bad, "stream_upstream_answering": 0}
        yield build("upstream not answering", [*lead, (blind, end)], [(fires, [])])
        late = [*lead, (blind, scrape), (given.bad, end)]
        yield build(
            "counts from the answer on", late, [(time.fires + scrape - evaluation, []), (time.fires + scrape, None)]
        )
    if given.is_series_gone or not given.bad:
        return
    if given.fires_without:
        yield build("series missing", [({}, end)], [(fires, one)])
    else:
        (_, *rest) = given.bad.items()
        yield build("series missing", [*lead, (dict(rest), end)], [(end - evaluation, [])])


def _escalates(given: Input) -> bool:
    *_, own = _ACTIVE[given.rule].grades
    return grade_of(given).for_seconds > own.for_seconds


def _test(
    given: Input,
    scrape: int,
    what: str,
    phases: Sequence[Phase],
    checks: Sequence[Check],
    *,
    instances: str = "a",
    other: Sequence[Phase] | None = None,
    critical_checks: Sequence[tuple[int, int]] = (),
) -> dict[str, Any]:
    """``other``: the phases of the last instance, if it is not the same."""
    series: dict[str, str] = {}
    for instance in instances:
        own = other if other is not None and instance == instances[-1] else phases
        duration = sum(seconds for _, seconds in own)
        own = [({**_base(given), **values}, seconds) for values, seconds in own]
        for name in dict.fromkeys(itertools.chain.from_iterable(values for values, _ in own)):
            series.setdefault(_labelled(name, instance), " ".join(_sequence(name, own, scrape)))
        for name, values in given.besides.items():
            series.setdefault(
                _labelled(name, instance), " ".join(_sequence(name, [({name: values}, duration)], scrape))
            )
    firing = f'count(ALERTS{{alertname="{given.rule}",alertstate="firing"'
    return {
        "name": f"{given.rule} ({severity_of(given)}): {what}",
        "interval": f"{scrape}s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [
            {"eval_time": f"{at}s", "alertname": given.rule, "exp_alerts": alerts}
            for at, alerts in checks
            if alerts is not None
        ],
        "promql_expr_test": [
            {"expr": f"{firing}}})", "eval_time": f"{at}s", "exp_samples": [{"labels": "{}", "value": 1}]}
            for at, alerts in checks
            if alerts is None
        ]
        + [
            {
                "expr": f'{firing},severity="critical"}})',
                "eval_time": f"{at}s",
                "exp_samples": [{"labels": "{}", "value": count}] if count else [],
            }
            for at, count in critical_checks
        ],
    }


def _base(given: Input) -> dict[str, Values]:
    """The series of an exporter that is scraped and whose upstream is answering."""
    if RULES_BY_NAME[given.rule].scope is Scope.EXPORTER:
        return {}
    return {"up": 1, "stream_upstream_answering": 1}


def expected_texts(given: Input) -> dict[str, str]:
    """Return the annotations of the alert, without the time since when it holds."""
    active = _ACTIVE[given.rule]
    about = {Scope.STREAM: _STREAM, Scope.UPSTREAM: _UPSTREAM, Scope.EXPORTER: {"job": "stream-exporter"}}
    labels = about[active.rule.scope] | dict(given.labels)
    return AnnotationTexts(active, grade_of(given), labels, given.facts).render()


def _expected(given: Input, since: Timeline, **more: str) -> list[dict[str, Any]]:
    active: ActiveRule = _ACTIVE[given.rule]
    rule, grade = active.rule, grade_of(given)
    about = {Scope.STREAM: _STREAM, Scope.UPSTREAM: _UPSTREAM, Scope.EXPORTER: {}}[rule.scope]
    job = {} if given.always else {"job": "stream-exporter"}
    labels = {"severity": grade.severity.value, "scope": rule.scope.value} | job | about | dict(given.labels) | more
    facts = given.facts
    if rule.scope is Scope.EXPORTER and not rule.labels:
        facts = given.facts_since(None)
    elif grade.for_seconds:
        facts = given.facts_since(float(since.fires - int(grade.for_seconds) if given.fires_at else since.holds))
    texts = AnnotationTexts(active, grade, labels, facts).render() | {"runbook_url": runbook_url(rule)}
    # Prometheus keeps annotations that turn out to be empty
    annotations = {name: texts.get(name, "") for name in AnnotationTemplates(active, grade, Dialect()).render()}
    return [{"exp_labels": labels, "exp_annotations": annotations}]


def _of_two(given: Input, time: Timeline) -> list[dict[str, Any]]:
    if not given.per_instance:
        return _expected(given, time)
    return [alert for name in "ab" for alert in _expected(given, time, instance=f"{name}:10071")]


def _labelled(name: str, instance: str) -> str:
    """The series with the labels that every one of its kind has."""
    family, _, own = name.partition("{")
    labels = {"job": "stream-exporter", "instance": f"{instance}:10071"}
    if family.startswith(("stream_upstream_", "stream_sampled_")):
        labels |= _UPSTREAM
    elif family != "up" and not family.startswith("stream_exporter_"):
        labels |= _STREAM
    named = {pair.partition("=")[0] for pair in own.rstrip("}").split(",")}
    text = ",".join(f'{label}="{value}"' for label, value in labels.items() if label not in named)
    return f"{family}{{{text}{',' + own if own else '}'}"


def _sequence(name: str, phases: Sequence[Phase], scrape: int) -> Iterator[str]:
    """The values of one series over the phases, as promtool reads them."""
    last = 0.0
    was_there = False
    for values, seconds in phases:
        steps = math.ceil(seconds / scrape)
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


FILES = {
    "rules-15s.yaml": (15, 15, ""),
    "rules-30s.yaml": (30, 30, ""),
    "rules-60s.yaml": (60, 30, ""),
    "slo-hours.yaml": (SLO_STEP, SLO_STEP, "hours"),
    "slo-days.yaml": (SLO_STEP, 5 * SLO_STEP, "days"),
}
"""The files: seconds between scrapes, and between evaluations; which windows of the SLO they test."""

if __name__ == "__main__":
    for name in FILES:
        (Path(sys.argv[1]) / name).write_text(page(name))
