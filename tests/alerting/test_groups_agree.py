"""Prometheus and the sidecar have the same alerts about groups and their streams, at every step of random timelines.

The states of groups come from the tracker, and those of upstreams go through the exposition to ``promtool test rules``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from exporter.alerting.evaluator import Evaluator, Phase
from exporter.alerting.group_conditions import covered_streams
from exporter.alerting.promql import Dialect
from exporter.alerting.rule_files import alerts_file
from exporter.alerting.rules import RULES_BY_NAME, Owner, Scope
from exporter.alerting.rules.active_rules import rules_in_force
from exporter.cli.settings import load_settings
from exporter.metrics.exposition import ExpositionCache, render_groups
from exporter.model import GroupState, Identity, Maintenance, Status, StreamReport, StreamState, UpstreamState
from exporter.polling.calendars import Calendars
from exporter.polling.groups import GroupTracker, group_shards
from exporter.runtime.clock import Instant
from exporter.store import Store
from tests.alerting.test_evaluators_agree import (
    EXAMPLES,
    SCALE,
    SETTINGS,
    STEP,
    assert_rules_agree,
    gaps,
    missed_steps,
    selector,
    steps_of,
)
from tests.fake_clock import FakeClock
from tests.metrics.generated_views import rendered

pytestmark = pytest.mark.real

COMPARED = {
    "StreamGroupDown",
    "StreamGroupRedundancyLost",
    "StreamExpectedOffline",
    "StreamExpectedUnknown",
    "StreamUnhealthy",
    "StreamPacketLossCritical",
}
RULES = [active for active in rules_in_force(owners=[Owner.BOTH], time_scale=SCALE) if active.rule.name in COMPARED]
RULE_FILE = alerts_file(RULES, Dialect(time_scale=SCALE))
CONFIGURATION = """
upstreams:
  - {name: edge-a, platform: storm, url: "http://127.0.0.1:1", streams: [{application: live, key: a}]}
  - {name: edge-b, platform: storm, url: "http://127.0.0.1:1", streams: [{application: live, key: a}]}
groups:
  - name: final
    need: 1
    streams: [{upstream: edge-a, stream: main, role: main}, {upstream: edge-b, stream: main, role: backup}]
  - name: languages
    streams: [{upstream: edge-a, stream: main}, {upstream: edge-a, stream: german}]
  - name: two of three
    need: 2
    streams:
      - {upstream: edge-a, stream: main}
      - {upstream: edge-a, stream: german}
      - {upstream: edge-b, stream: main}
""".replace("two of three", "two-of-three")
STREAMS = (("edge-a", "main"), ("edge-a", "german"), ("edge-b", "main"))
WORK = Maintenance(until=1e9)

Facts = dict[str, Any]
SeriesLabels = tuple[tuple[str, str], ...]

members = st.lists(
    st.tuples(
        st.none()
        | st.fixed_dictionaries(
            {
                "status": st.sampled_from([Status.LIVE, Status.LIVE, Status.IDLE, Status.IDLE, Status.UNKNOWN]),
                "expected": st.sampled_from([None, True, True, True, False]),
                "maintenance": st.sampled_from([None, None, None, WORK]),
                "score": st.sampled_from([None, 1.0, 0.1]),
                "loss": st.sampled_from([None, 0.0, 0.1]),
                "playable": st.sampled_from([None, None, True, False]),
            }
        ),
        st.integers(1, 20),
    ),
    min_size=2,
    max_size=5,
)
works = st.lists(st.tuples(st.sampled_from([None, None, WORK]), st.integers(1, 20)), min_size=1, max_size=3)
answers = st.lists(st.tuples(st.sampled_from([True, True, False]), st.integers(1, 14)), min_size=1, max_size=5)


def stream_state(upstream: str, stream: str, facts: Facts) -> StreamState:
    live = {Status.LIVE: True, Status.UNKNOWN: None}.get(facts["status"], False)
    return StreamState(
        identity=Identity("storm", upstream, stream),
        report=StreamReport(
            id=stream,
            live=live,
            status=facts["status"],
            packet_loss_ratio=facts["loss"],
            playable=facts["playable"],
        ),
        status=facts["status"],
        live=live,
        expected=facts["expected"],
        health_score_ratio=facts["score"],
    )


class Timeline:
    """The states of both upstreams and of the groups at each step."""

    def __init__(self, folder: Path, lives: Sequence[Any], work: Sequence[Any], answering: Sequence[Any]) -> None:
        count = min(70, max(sum(length for _, length in segments) for segments in lives))
        steps = [steps_of(segments, count) for segments in lives]
        work_steps = [steps_of(segments, count) for segments in work]
        answering_steps = [steps_of(segments, count) for segments in answering]
        file = folder / "config.yaml"
        file.write_text(CONFIGURATION)
        configuration = load_settings(file, {})
        store, clock = Store(), FakeClock()
        tracker = GroupTracker(store, clock, clock.instant(), Calendars(clock))
        store.arrange([upstream.name for upstream in configuration.upstreams])
        tracker.configure(configuration, group_shards(configuration.groups))
        self.upstreams: list[tuple[UpstreamState, ...]] = []
        self.groups: list[tuple[GroupState, ...]] = []
        for step in range(count):
            for index, upstream in enumerate(("edge-a", "edge-b")):
                served = [(place, facts[step]) for place, facts in zip(STREAMS, steps, strict=True)]
                store.publish(
                    UpstreamState(
                        platform="storm",
                        upstream=upstream,
                        host="h",
                        health_score="derived",
                        up=answering_steps[index][step],
                        answering=answering_steps[index][step],
                        maintenance=work_steps[index][step],
                        maintained_streams={
                            stream: facts["maintenance"]
                            for (owner, stream), facts in served
                            if facts and facts["maintenance"] and owner == upstream
                        },
                        streams=tuple(
                            stream_state(*place, facts) for place, facts in served if facts and place[0] == upstream
                        ),
                    )
                )
            self.upstreams.append(store.states())
            self.groups.append(store.groups())


def samples(upstreams: Sequence[UpstreamState], groups: Sequence[GroupState]) -> dict[SeriesLabels, float]:
    """Return what an exporter exports: its series and their values."""
    rendering = rendered(*upstreams)
    render_groups(rendering, groups, ExpositionCache())
    found = {}
    for family in text_string_to_metric_families(rendering.text.decode()):
        for sample in family.samples:
            found[tuple({"__name__": sample.name, **sample.labels}.items())] = sample.value
    return found


def series_of(timeline: Timeline, instance: str, missed: set[int]) -> dict[SeriesLabels, list[float | None]]:
    target = {"job": "stream-exporter", "instance": instance}
    count = len(timeline.groups)
    up = tuple({"__name__": "up", **target}.items())
    series: dict[SeriesLabels, list[float | None]] = {up: [float(step not in missed) for step in range(count)]}
    for step in set(range(count)) - missed:
        for labels, value in samples(timeline.upstreams[step], timeline.groups[step]).items():
            name, *own = labels
            key = (name, *target.items(), *own)
            series.setdefault(key, [None] * count)[step] = value
    return series


def hide(shown: str) -> str:
    """Return an expression without lower grades whose critical alert fires, which only Prometheus keeps firing."""
    on = "on (alertname, platform, upstream, stream, group)"
    return f'{shown} unless (ALERTS{{severity!="critical"}} and {on} ALERTS{{severity="critical",alertstate="firing"}})'


def alerts_of(evaluator: Evaluator, *, only_groups: bool) -> list[dict[str, Any]]:
    """Return the evaluator's alerts as samples of Prometheus' ``ALERTS``."""
    shown = []
    for key, alert in evaluator.alerts.items():
        critical = evaluator.alerts.get(replace(key, severity="critical"))
        is_worse_firing = critical is not alert and critical is not None and critical.phase is Phase.FIRING
        rule = RULES_BY_NAME[key.rule]
        if alert.phase is Phase.RESOLVED or is_worse_firing or (only_groups and rule.scope is not Scope.GROUP):
            continue
        labels = {"__name__": "ALERTS", "alertname": key.rule, "alertstate": alert.phase.value}
        labels |= {"job": "stream-exporter", "severity": key.severity, "scope": rule.scope.value}
        labels |= {"platform": alert.platform, "upstream": key.upstream, "stream": key.stream, "group": key.group}
        shown.append({"labels": selector({name: value for name, value in labels.items() if value}), "value": 1})
    return shown


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("groups")


def assert_same_alerts(
    timeline: Timeline, folder: Path, missed: set[int], *, only_groups: bool, replica: bool = False
) -> None:
    evaluator = Evaluator(RULES)
    shown = hide('ALERTS{scope="group"}' if only_groups else "ALERTS")
    expected = []
    for step, (upstreams, groups) in enumerate(zip(timeline.upstreams, timeline.groups, strict=True)):
        now = Instant(step * STEP, step * STEP)
        if step not in missed:
            evaluated = upstreams, groups
        evaluator.evaluate_groups(evaluated[1], now)
        covered = covered_streams(evaluated[1])
        for state in evaluated[0]:
            for _ in evaluator.evaluate(state, now, covered.get(state.upstream, frozenset())):
                pass
        alerts = alerts_of(evaluator, only_groups=only_groups)
        expected.append({"expr": shown, "eval_time": f"{step * STEP}s", "exp_samples": alerts})
    note(f"{len(expected)} steps, {sum(len(e['exp_samples']) for e in expected)} samples of ALERTS, {missed=}")
    series = series_of(timeline, "a:1", missed)
    if replica:
        series |= series_of(timeline, "b:1", missed)
    assert_rules_agree(folder, RULES, RULE_FILE, series, expected)


@settings(SETTINGS, max_examples=EXAMPLES)
@given(
    lives=st.tuples(members, members, members),
    work=st.tuples(works, works),
    pauses=st.none() | gaps,
    replica=st.booleans(),
)
def test_random_timelines_of_streams_give_the_same_alerts(
    lives: Sequence[Any], work: Sequence[Any], pauses: list[int] | None, replica: bool, folder: Path
) -> None:
    missed = missed_steps(pauses) if pauses else set[int]()
    timeline = Timeline(folder, lives, work, ([(True, 1)], [(True, 1)]))
    assert_same_alerts(timeline, folder, missed, only_groups=False, replica=replica)


@settings(SETTINGS, max_examples=EXAMPLES)
@given(
    lives=st.tuples(members, members, members),
    work=st.tuples(works, works),
    answering=st.tuples(answers, answers),
)
def test_random_outages_give_the_same_alerts_about_groups(
    lives: Sequence[Any], work: Sequence[Any], answering: Sequence[Any], folder: Path
) -> None:
    """Alerts of streams are not compared: after an outage, Prometheus restarts pending ones."""
    timeline = Timeline(folder, lives, work, answering)
    assert_same_alerts(timeline, folder, set(), only_groups=True)
