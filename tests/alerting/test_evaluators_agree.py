"""Prometheus and the sidecar's evaluator see the same alerts pending, firing and gone, step by step.

Random lives of streams go through the exposition into ``promtool test rules``, and straight into the evaluator. Polls,
scrapes and evaluations fall together here, so that not even one step of difference is left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, note, settings
from hypothesis import Phase as Stage
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from exporter.alerting.evaluator import Evaluator, Phase
from exporter.alerting.rule_files import Dialect, alerts_file
from exporter.alerting.rules import RULES_BY_NAME, Owner
from exporter.alerting.rules.active_rules import rules_in_force
from exporter.config.alerting import AlertingSettings
from exporter.model import Identity, Reason, Status, StreamReport, StreamState, UpstreamState
from exporter.runtime.clock import Instant
from tests.alerting.promtool import assert_tests_pass
from tests.metrics.generated_views import rendered

STEP = 15
SCALE = 4.0
"""So that ten minutes fit into a short life, and times of whole minutes into whole steps: every limit is met."""
RULES = rules_in_force(
    AlertingSettings.model_validate({"thresholds": {"StreamFlapping": 2}}), owners=[Owner.BOTH], time_scale=SCALE
)
"""Two restarts happen by chance, six hardly do."""
STREAMS = ("plain", 'odd "name" \\ {x}')

Facts = dict[str, Any]
Segment = tuple[Facts | None, int]
"""What is true of a stream (None: it is not served), for so many steps."""


def near(*values: float) -> st.SearchStrategy[float | None]:
    return st.none() | st.sampled_from(values)


facts = st.fixed_dictionaries(
    {
        "live": st.sampled_from([True, True, False, None]),
        "status": st.sampled_from(list(Status)),
        "expected": st.sampled_from([None, True, True, False]),
        "restarts": st.sampled_from(["same", "same", "more", "reset"]),
        "score": near(0.0, 0.4, 0.5, 0.7, 0.8, 1.0),
        "expected_bitrate": near(500_000.0),
        "bitrate": near(0.0, 124.0, 125.0, 249_999.0, 250_000.0, 375_000.0, 500_000.0),
        "frames": near(26.9, 27.0, 30.0),
        "expected_frames": near(30.0),
        "loss": near(0.0, 0.02, 0.03, 0.07, 0.08),
        "round_trip": near(0.1, 0.3, 0.31),
        "jitter": near(0.05, 0.06),
        "latency": near(8.9, 9.1),
        "target_latency": near(3.0),
        "transcode": near(0.9, 1.0),
        "conditions": st.dictionaries(st.sampled_from(["TranscodeNoErrors", "Other"]), st.booleans(), max_size=2),
        "targets": st.dictionaries(st.sampled_from(["yt", "tw"]), st.booleans(), max_size=2),
    }
)
lives = st.lists(st.tuples(st.none() | facts | facts | facts, st.integers(1, 14)), min_size=2, max_size=5)
upstreams = st.lists(
    st.tuples(st.sampled_from([None, None, Reason.TIMEOUT, Reason.AUTH, Reason.FORBIDDEN]), st.integers(1, 12)),
    min_size=1,
    max_size=5,
)


def steps_of(segments: Sequence[tuple[Any, int]], count: int) -> list[Any]:
    steps = [value for value, length in segments for _ in range(length)]
    return (steps + [steps[-1]] * count)[:count]


def stream_state(name: str, facts_: Facts, restarts: int) -> StreamState:
    report = StreamReport(
        id=name,
        live=facts_["live"],
        status=facts_["status"],
        ingest_bitrate_bytes_per_second=facts_["bitrate"],
        frames_per_second=facts_["frames"],
        packet_loss_ratio=facts_["loss"],
        round_trip_time_seconds=facts_["round_trip"],
        jitter_seconds=facts_["jitter"],
        latency_seconds=facts_["latency"],
        target_latency_seconds=facts_["target_latency"],
        transcode_realtime_ratio=facts_["transcode"],
        health_conditions=facts_["conditions"],
        multistream_targets=facts_["targets"],
    )
    return StreamState(
        identity=Identity("livepeer", "studio", name),
        report=report,
        status=facts_["status"],
        live=facts_["live"],
        expected=facts_["expected"],
        restarts=restarts,
        health_score_ratio=facts_["score"],
        expected_ingest_bitrate_bytes_per_second=facts_["expected_bitrate"],
        expected_frames_per_second=facts_["expected_frames"],
    )


def states_of(
    lives_of_streams: Sequence[Sequence[Segment]], upstream: Sequence[tuple[Reason | None, int]]
) -> Iterator[UpstreamState]:
    """While the upstream is down, streams stay as they are; where one is unknown it is not down.

    What the sidecar freezes then, Prometheus lets go: that difference is meant, and has a test of its own.
    """
    count = min(60, max(sum(n for _, n in segments) for segments in lives_of_streams))
    steps = [steps_of(segments, count) for segments in lives_of_streams]
    reasons = steps_of(upstream, count)
    restarts = [0] * len(steps)
    last: tuple[StreamState, ...] = ()
    for step in range(count):
        reason = reasons[step]
        is_down = reason is not None and len(last) == len(steps) and not any(s.is_withdrawn for s in last)
        if not is_down:
            streams = []
            for index, facts_ in enumerate(steps):
                if facts_[step] is not None:
                    change = facts_[step]["restarts"]
                    restarts[index] = {"same": restarts[index], "more": restarts[index] + 1, "reset": 0}[change]
                    streams.append(stream_state(STREAMS[index], facts_[step], restarts[index]))
            last = tuple(streams)
        yield UpstreamState(
            platform="livepeer",
            upstream="studio",
            host="studio",
            health_score="derived",
            up=not is_down,
            last_error_reason=reason if is_down else None,
            streams_dropped=step % 7 // 5,
            streams=last,
        )


Labels = tuple[tuple[str, str], ...]


def series_of(states: Sequence[UpstreamState]) -> dict[Labels, list[float | None]]:
    """Every series of the exposition, with its value at each step."""
    series: dict[Labels, list[float | None]] = {}
    for step, state in enumerate(states):
        for family in text_string_to_metric_families(rendered(state).text.decode()):
            for sample in family.samples:
                labels = {"__name__": sample.name, "job": "stream-exporter", "instance": "a:1", **sample.labels}
                series.setdefault(tuple(labels.items()), [None] * len(states))[step] = sample.value
    return series


def promtool_values(values: Sequence[float | None]) -> str:
    """A series that is not in an answer any more is marked stale there, as a scrape does."""
    was_there = False
    words = []
    for value in values:
        words.append(repr(float(value)) if value is not None else "stale" if was_there else "_")
        was_there = value is not None
    return " ".join(words)


def selector(labels: dict[str, str]) -> str:
    name = labels.pop("__name__", "")
    quoted = (f"{label}={yaml_quoted(value)}" for label, value in labels.items())
    return f"{name}{{{','.join(quoted)}}}"


def yaml_quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def alerts_of(evaluator: Evaluator) -> list[dict[str, Any]]:
    """The evaluator's alerts as the series ALERTS of Prometheus would show them."""
    shown = []
    for key, alert in evaluator.alerts.items():
        if alert.phase is Phase.RESOLVED:
            continue
        rule = RULES_BY_NAME[key.rule]
        labels = {
            "__name__": "ALERTS",
            "alertname": key.rule,
            "alertstate": alert.phase.value,
            "job": "stream-exporter",
        }
        labels |= {"platform": alert.platform, "upstream": key.upstream} | rule.static_labels
        labels |= {"stream": key.stream} if key.stream else {}
        labels |= dict(zip(rule.labels, key.extra, strict=True))
        shown.append({"labels": selector(labels), "value": 1})
    return shown


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("timeline")
    (folder / "rules.yaml").write_text(alerts_file(RULES, Dialect(time_scale=SCALE)))
    return folder


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    # a run of promtool per try makes shrinking a matter of minutes: add Stage.shrink to look into a failure
    phases=[Stage.explicit, Stage.reuse, Stage.generate],
)
@given(segments=st.tuples(lives, lives), upstream=upstreams)
def test_random_timelines_give_the_same_alerts(
    segments: tuple[list[Segment], list[Segment]], upstream: list[Any], folder: Path
) -> None:
    states = list(states_of(segments, upstream))
    evaluator = Evaluator(RULES)
    expected = []
    for step, state in enumerate(states):
        for _ in evaluator.evaluate(state, Instant(step * STEP, step * STEP)):
            pass
        expected.append({"expr": "ALERTS", "eval_time": f"{step * STEP}s", "exp_samples": alerts_of(evaluator)})
    note(f"{len(states)} steps, {sum(len(e['exp_samples']) for e in expected)} samples of ALERTS")
    test = {
        "interval": f"{STEP}s",
        "input_series": [
            {"series": selector(dict(labels)), "values": promtool_values(values)}
            for labels, values in series_of(states).items()
        ],
        "promql_expr_test": expected,
    }
    document = {"rule_files": ["rules.yaml"], "evaluation_interval": f"{STEP}s", "tests": [test]}
    (folder / "test.yaml").write_text(yaml.safe_dump(document))
    assert_tests_pass(folder / "test.yaml")
