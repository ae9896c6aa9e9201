"""Prometheus and the sidecar's evaluator have the same pending and firing alerts at every step.

Random timelines of streams, with overrides of rules that come and go, pass through the exposition to ``promtool
test rules``, and directly to the evaluator. Polls, scrapes and evaluations coincide here, so that both must agree
exactly. Some polls fail, some scrapes are missed, and there may be a second replica with the same data or without
network.

Stream alerts during outages are not compared: after an outage, Prometheus restarts pending alerts and the sidecar
resumes them. Both have separate tests.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import Phase as Stage
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from exporter.alerting.evaluator import Evaluator, Phase
from exporter.alerting.promql import Dialect
from exporter.alerting.rule_files import alerts_file
from exporter.alerting.rules import RULES_BY_NAME, Owner, Scope
from exporter.alerting.rules.active_rules import ActiveRule, rules_in_force
from exporter.config.alerting import AlertingSettings
from exporter.model import (
    NO_OVERRIDES,
    AlertOverrides,
    Identity,
    Labels,
    Reason,
    Status,
    StreamReport,
    StreamState,
    UpstreamState,
)
from exporter.polling.overrides import override_rows
from exporter.runtime.clock import Instant
from tests import yaml_text
from tests.alerting.promtool import assert_tests_pass, rule_group
from tests.metrics.generated_views import rendered

pytestmark = pytest.mark.real

STEP = 15
SCALE = 4.0
"""Makes ten minutes fit into a short timeline, and whole minutes into whole steps."""
RULES = rules_in_force(
    AlertingSettings.model_validate({"thresholds": {"StreamFlapping": 2, "StreamVerdictUnstable": 2}}),
    owners=[Owner.BOTH],
    time_scale=SCALE,
)
"""Two restarts or changes happen by chance; six hardly ever do."""
RULE_FILE = alerts_file(RULES, Dialect(time_scale=SCALE))
STREAMS = ("plain", 'odd "name" \\ {x}', "third")

Facts = dict[str, Any]
Segment = tuple[Facts | None, int]
"""Facts about a stream (None: it is not served), and for how many steps."""


LIVE_STATUSES = {Status.LIVE: True, Status.DEGRADED: True, Status.UNKNOWN: None}
"""Whether a stream is live, by status; in all other statuses it is off air."""


def near(*values: float) -> st.SearchStrategy[float | None]:
    return st.none() | st.sampled_from(values)


THRESHOLDS = {
    Scope.STREAM: {
        "StreamFlapping": (1.0, 3.0),
        "StreamVerdictUnstable": (1.0, 3.0),
        "StreamUnhealthy": (0.3, 0.9),
        "StreamIngestStalled": (100.0, 300_000.0),
        "StreamBitrateLow": (0.4, 1.0),
        "StreamBitrateCritical": (0.2, 0.8),
        "StreamFrameRateLow": (0.5, 1.0),
        "StreamPacketLossHigh": (0.01, 0.05),
        "StreamJitterHigh": (0.01, 0.1),
        "StreamLatencyHigh": (2.0, 4.0),
        "StreamTranscodeBelowRealtime": (0.8, 1.5),
        "StreamMediaShortage": (0.3, 0.9),
        "StreamDeliverySlow": (0.5, 2.0),
        "StreamSequenceUnsteady": (1.0, 5.0),
    },
    Scope.UPSTREAM: {"StreamUpstreamStatesUnknown": (0.1, 0.95)},
}
OFTEN_OFF = {
    Scope.STREAM: ("StreamFlapping", "StreamVerdictUnstable", "StreamExpectedOffline"),
    Scope.UPSTREAM: ("StreamUpstreamListDoubtful", "StreamUpstreamStatesUnknown", "StreamUpstreamDown"),
}


def overrides_of(scope: Scope) -> st.SearchStrategy[AlertOverrides]:
    """Return a strategy for overrides of the rules about streams or upstreams."""
    rules = [active.rule.name for active in RULES if active.rule.scope is scope]
    thresholds = st.fixed_dictionaries({}, optional={k: st.sampled_from(v) for k, v in THRESHOLDS[scope].items()})
    off = st.frozensets(st.sampled_from([*OFTEN_OFF[scope], *rules]), max_size=4)
    return st.just(NO_OVERRIDES) | st.builds(AlertOverrides, thresholds, off)


checks = st.fixed_dictionaries(
    {
        "playable": st.sampled_from([None, True, True, False]),
        "source_live": st.sampled_from([None, True, True, False]),
        "forbidden": st.sampled_from([None, False, False, False, True]),
        "audio": st.sampled_from([None, True, False]),
        "video": st.sampled_from([None, True, False]),
        "renditions": st.sampled_from([None, 2, 3]),
        "expected_renditions": st.sampled_from([None, 3]),
        "target": st.sampled_from([None, 6.0, 6.0, 12.0, 12.1]),
        "media": st.sampled_from([None, 0.0, 6.0, 9.0, 15.0, -100.0]),
        "downloads": st.sampled_from([None, (0.0, 0.0), (2.0, 6.0), (6.0, 6.0), (9.0, 6.0), (-50.0, -50.0)]),
        "faults": st.sampled_from([None, (0, 0, 0, 0), (0, 0, 0, 9), (1, 0, 1, 0), (0, -5, 0, 1)]),
    }
)
"""Facts of a playback check. Those of counters are how much they grow per step; negative ones reset them to 0."""
facts = st.fixed_dictionaries(
    {
        "status": st.sampled_from([Status.LIVE, Status.LIVE, Status.LIVE, *Status, Status.UNKNOWN]),
        "expected": st.sampled_from([None, True, True, False]),
        "restarts": st.sampled_from(["same", "same", "more", "reset"]),
        "healthy": st.sampled_from([None, None, True, False]),
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
        "check": st.none() | st.none() | checks,
        "overrides": overrides_of(Scope.STREAM),
    }
)
lives = st.lists(st.tuples(st.none() | facts | facts | facts, st.integers(1, 14)), min_size=2, max_size=5)
upstreams = st.lists(
    st.tuples(
        st.fixed_dictionaries(
            {
                "failure": st.sampled_from([None, None, Reason.TIMEOUT, Reason.AUTH, Reason.VANTAGE]),
                "list_complete": st.sampled_from([None, True, True, False]),
                "statistics_frozen": st.sampled_from([None, False, False, True]),
                "overrides": overrides_of(Scope.UPSTREAM),
            }
        ),
        st.integers(1, 14),
    ),
    min_size=1,
    max_size=5,
)
gaps = st.lists(st.sampled_from([1, 1, 2, 3, 5, 8]), min_size=1, max_size=6)
"""Numbers of successful scrapes before each missed one, so that all misses are bridged."""


CONFIGURED: Labels = (("site", "north"), ("team", "sports"))
"""Configured labels of the upstream."""


def steps_of(segments: Sequence[tuple[Any, int]], count: int) -> list[Any]:
    steps = [value for value, length in segments for _ in range(length)]
    return (steps + [steps[-1]] * count)[:count]


class Totals:
    """Counters of one stream."""

    def __init__(self) -> None:
        self.restarts = 0
        self._values: dict[str, list[float]] = {}

    def take(self, facts_: Facts) -> None:
        """Let the counters grow."""
        self.restarts = {"same": self.restarts, "more": self.restarts + 1, "reset": 0}[facts_["restarts"]]
        check = facts_["check"]
        if check is not None:
            self._grow("media", [check["media"]])
            self._grow("downloads", check["downloads"] or [None, None])
            self._grow("faults", check["faults"] or [None] * 4)

    def _grow(self, name: str, growth: Sequence[float | None]) -> None:
        values = self._values.get(name, [0.0] * len(growth))
        self._values[name] = [max(0.0, value + (more or 0.0)) for value, more in zip(values, growth, strict=True)]

    def of(self, name: str, check: Facts) -> Sequence[float | None]:
        """Return the counters that the check reports."""
        values = self._values[name]
        return values if check[name] is not None else [None] * len(values)


def check_facts(check: Facts | None, totals: Totals) -> Facts:
    """Return the fields of the report of a playback check."""
    if check is None:
        return {}
    (media,), downloads, faults = (totals.of(name, check) for name in ("media", "downloads", "faults"))
    return {
        "playable": check["playable"],
        "unplayable_reason": "stale" if check["playable"] is False else "",
        "playback_forbidden": check["forbidden"],
        "audio_present": check["audio"],
        "video_present": check["video"],
        "playable_renditions": check["renditions"],
        "expected_renditions": check["expected_renditions"],
        "segment_target_seconds": check["target"],
        "media_seconds": media,
        "segment_download_seconds": downloads[0],
        "segment_media_seconds": downloads[1],
        "sequence_resets": faults[0],
        "sequence_regressions": faults[1],
        "sequence_conflicts": faults[2],
        "missed_segments": faults[3],
    }


def stream_state(name: str, facts_: Facts, totals: Totals) -> StreamState:
    check = facts_["check"]
    report = StreamReport(
        id=name,
        live=LIVE_STATUSES.get(facts_["status"], False),
        status=facts_["status"],
        healthy=facts_["healthy"],
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
        **check_facts(check, totals),
    )
    return StreamState(
        identity=Identity("livepeer", "studio", name, CONFIGURED),
        report=report,
        status=facts_["status"],
        live=LIVE_STATUSES.get(facts_["status"], False),
        expected=facts_["expected"],
        restarts=totals.restarts,
        source_live=None if check is None else check["source_live"],
        health_score_ratio=facts_["score"],
        expected_ingest_bitrate_bytes_per_second=facts_["expected_bitrate"],
        expected_frames_per_second=facts_["expected_frames"],
        overrides=facts_["overrides"],
    )


def with_override_rows(state: UpstreamState) -> UpstreamState:
    thresholds, off = override_rows(state.overrides, [(each.identity, each.overrides) for each in state.streams])
    return msgspec.structs.replace(state, threshold_rows=thresholds, off_rows=off)


def states_of(
    lives_of_streams: Sequence[Sequence[Segment]], upstream: Sequence[tuple[Facts, int]], missed: set[int]
) -> list[UpstreamState]:
    """Return the state at each step. Streams do not change while the upstream fails or a scrape is missed."""
    count = min(60, max(sum(n for _, n in segments) for segments in lives_of_streams))
    steps = [steps_of(segments, count) for segments in lives_of_streams]
    upstream_facts = steps_of(upstream, count)
    totals = [Totals() for _ in steps]
    streams: tuple[StreamState, ...] = ()
    states: list[UpstreamState] = []
    for step in range(count):
        if step in missed:
            states.append(states[-1])
            continue
        facts_ = upstream_facts[step]
        if facts_["failure"] is None or not states:
            served = []
            for index, facts_of_stream in enumerate(steps):
                if facts_of_stream[step] is not None:
                    totals[index].take(facts_of_stream[step])
                    served.append(stream_state(STREAMS[index], facts_of_stream[step], totals[index]))
            streams = tuple(served)
        states.append(
            UpstreamState(
                platform="livepeer",
                upstream="studio",
                host="studio",
                health_score="derived",
                up=facts_["failure"] is None,
                answering=True,
                last_error_reason=facts_["failure"],
                list_complete=facts_["list_complete"],
                are_statistics_frozen=facts_["statistics_frozen"],
                streams_dropped=step % 7 // 5,
                poll_interval_seconds=STEP,
                labels=CONFIGURED,
                streams=streams,
                overrides=facts_["overrides"],
            )
        )
    return list(map(with_override_rows, states))


def missed_steps(pauses: Sequence[int]) -> set[int]:
    """Return the steps with a missed scrape: one after each pause, repeatedly, never the first step."""
    missed, step = set(), 0
    while step < 60:
        for pause in pauses:
            step += pause + 1
            missed.add(step - 1)
    return missed


def second_replica(kind: str, states: Sequence[UpstreamState]) -> list[UpstreamState]:
    """Return the states of a replica with the same data, or of one without network that keeps its first facts."""
    if kind != "blind":
        return list(states) if kind == "same" else []
    return [blind_state(states[0], state) for state in states]


def blind_state(first: UpstreamState, now: UpstreamState) -> UpstreamState:
    current = {state.identity: state for state in now.streams}
    no_settings = StreamState(identity=Identity("", "", ""), report=StreamReport(id=""))
    streams = tuple(
        msgspec.structs.replace(
            state,
            expected=(settings_ := current.get(state.identity, no_settings)).expected,
            expected_ingest_bitrate_bytes_per_second=settings_.expected_ingest_bitrate_bytes_per_second,
            expected_frames_per_second=settings_.expected_frames_per_second,
            overrides=settings_.overrides,
        )
        for state in first.streams
    )
    lost = {"up": False, "answering": False, "last_error_reason": Reason.TIMEOUT}
    return with_override_rows(msgspec.structs.replace(first, streams=streams, overrides=now.overrides, **lost))


def series_of(states: Sequence[UpstreamState], instance: str, missed: set[int]) -> dict[Labels, list[float | None]]:
    """Return the value at each step of every series that Prometheus stores of one exporter."""
    if not states:
        return {}
    target = {"job": "stream-exporter", "instance": instance}
    up = tuple({"__name__": "up", **target}.items())
    series: dict[Labels, list[float | None]] = {up: [float(step not in missed) for step in range(len(states))]}
    for step, state in enumerate(states):
        for family in text_string_to_metric_families(rendered(state).text.decode()) if step not in missed else ():
            for sample in family.samples:
                labels = {"__name__": sample.name, **target, **sample.labels}
                series.setdefault(tuple(labels.items()), [None] * len(states))[step] = sample.value
    return series


def promtool_values(values: Sequence[float | None]) -> str:
    """Return the values in promtool's notation, with a stale marker where the series disappears."""
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


TWO_GRADES = "|".join(active.rule.name for active in RULES if active.rule.critical is not None)
ON_ALERT = "on (alertname, platform, upstream, stream)"
SHOWN = (
    f'ALERTS unless (ALERTS{{severity!="critical"}} and {ON_ALERT} '
    f'ALERTS{{severity="critical",alertstate="firing",alertname=~"{TWO_GRADES}"}})'
)
"""All alerts except warnings whose critical alert fires, which only Prometheus keeps firing for a while."""


COUNTING = frozenset(rule.name for rule in RULES_BY_NAME.values() if rule.condition and rule.settling_seconds)
"""Rules that count changes between samples. After a missed scrape, a change leaves the window a step later."""


def alerts_of(evaluator: Evaluator, hidden: Collection[str]) -> list[dict[str, Any]]:
    """Return the evaluator's alerts as samples of Prometheus' ``ALERTS``."""
    shown = []
    for key, alert in evaluator.alerts.items():
        critical = evaluator.alerts.get(replace(key, severity="critical"))
        is_worse_firing = critical is not alert and critical is not None and critical.phase is Phase.FIRING
        if alert.phase is Phase.RESOLVED or is_worse_firing or key.rule in hidden:
            continue
        rule = RULES_BY_NAME[key.rule]
        assert key.severity in rule.severities
        labels = {
            "__name__": "ALERTS",
            "alertname": key.rule,
            "alertstate": alert.phase.value,
            "job": "stream-exporter",
        }
        labels |= (
            {"platform": alert.platform, "upstream": key.upstream} | rule.static_labels | {"severity": key.severity}
        )
        labels |= {"stream": key.stream} if key.stream else {}
        labels |= dict(zip(rule.labels, key.extra, strict=True))
        labels |= dict(key.labels)
        shown.append({"labels": selector(labels), "value": 1})
    return shown


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("timeline")


EXAMPLES = settings().max_examples // 2
"""Each takes a run of promtool; ``make fuzz`` has more."""
SETTINGS = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    # shrinking takes minutes, because every try runs promtool; add Stage.shrink to investigate a failure
    phases=[Stage.explicit, Stage.reuse, Stage.generate],
)


@settings(SETTINGS, max_examples=EXAMPLES)
@given(
    segments=st.tuples(lives, lives, lives),
    upstream=upstreams,
    pauses=st.none() | gaps,
    replica=st.sampled_from(["none", "same", "blind"]),
)
def test_random_timelines_give_the_same_alerts(
    segments: tuple[list[Segment], ...], upstream: list[Any], pauses: list[int] | None, replica: str, folder: Path
) -> None:
    missed = missed_steps(pauses) if pauses else set[int]()
    states = states_of(segments, upstream, missed)
    assert_same_alerts(states, second_replica(replica, states), missed, folder)


QUIET: Facts = {
    **dict.fromkeys(
        (
            "expected", "healthy", "score", "expected_bitrate", "bitrate", "frames", "expected_frames", "loss",
            "round_trip", "jitter", "latency", "target_latency", "transcode", "check",
        )
    ),
    "status": Status.LIVE,
    "conditions": {},
    "targets": {},
}  # fmt: skip
restless = st.fixed_dictionaries(
    {
        "restarts": st.sampled_from(["more", "more", "same"]),
        "healthy": st.sampled_from([None, True, False]),
        "overrides": st.sampled_from(
            [
                NO_OVERRIDES,
                AlertOverrides({"StreamFlapping": 1.0, "StreamVerdictUnstable": 1.0}),
                AlertOverrides({"StreamFlapping": 4.0, "StreamVerdictUnstable": 3.0}),
                AlertOverrides(off=frozenset({"StreamFlapping", "StreamVerdictUnstable"})),
            ]
        ),
    }
).map(lambda changes: {**QUIET, **changes})
departures = st.lists(st.tuples(st.none() | restless | restless, st.integers(1, 6)), min_size=3, max_size=12)


@settings(SETTINGS, max_examples=EXAMPLES // 2)
@given(segments=st.tuples(departures, departures, departures), replica=st.sampled_from(["none", "same", "blind"]))
def test_overrides_outlive_their_stream_in_both(
    segments: tuple[list[Segment], ...], replica: str, folder: Path
) -> None:
    """Rules that look back use the overrides that were in force when the stream was last served."""
    calm = [({"failure": None, "list_complete": None, "statistics_frozen": None, "overrides": NO_OVERRIDES}, 1)]
    states = states_of(segments, calm, set())
    assert_same_alerts(states, second_replica(replica, states), set(), folder)


watched = st.tuples(st.just({**QUIET, "restarts": "same", "overrides": NO_OVERRIDES}), checks, st.booleans()).map(
    lambda parts: {**parts[0], "check": parts[1], "expected": parts[2]}
)
watches = st.lists(st.tuples(st.none() | watched | watched | watched, st.integers(1, 14)), min_size=2, max_size=6)


@settings(SETTINGS, max_examples=EXAMPLES // 2)
@given(segments=st.tuples(watches, watches, watches), replica=st.sampled_from(["none", "same", "blind"]))
def test_random_playback_checks_give_the_same_alerts(
    segments: tuple[list[Segment], ...], replica: str, folder: Path
) -> None:
    """Counters grow, stop, reset, disappear and come back."""
    calm = [({"failure": None, "list_complete": None, "statistics_frozen": None, "overrides": NO_OVERRIDES}, 1)]
    states = states_of(segments, calm, set())
    assert_same_alerts(states, second_replica(replica, states), set(), folder)


@settings(SETTINGS, max_examples=EXAMPLES // 2)
@given(
    polls=st.lists(
        st.tuples(
            st.sampled_from([None, Reason.TIMEOUT, Reason.AUTH, Reason.FORBIDDEN, Reason.VANTAGE]), st.integers(1, 12)
        ),
        min_size=2,
        max_size=8,
    ),
    overrides=st.lists(st.tuples(overrides_of(Scope.UPSTREAM), st.integers(1, 20)), min_size=1, max_size=4),
    pauses=st.none() | gaps,
    replica=st.sampled_from(["none", "same"]),
)
def test_random_outages_give_the_same_alerts(
    polls: list[tuple[Reason | None, int]],
    overrides: list[tuple[AlertOverrides, int]],
    pauses: list[int] | None,
    replica: str,
    folder: Path,
) -> None:
    """Compares upstream alerts. The upstream is answering until two polls after the last success."""
    missed = missed_steps(pauses) if pauses else set[int]()
    states: list[UpstreamState] = []
    succeeded_at: int | None = None
    failures = steps_of(polls, min(60, sum(length for _, length in polls)))
    for step, (failure, overridden) in enumerate(zip(failures, steps_of(overrides, len(failures)), strict=True)):
        if step in missed:
            states.append(states[-1])
            continue
        succeeded_at = step if failure is None else succeeded_at
        states.append(
            UpstreamState(
                platform="livepeer",
                upstream="studio",
                host="studio",
                health_score="derived",
                up=failure is None,
                answering=succeeded_at is not None and step - succeeded_at <= 2,
                last_error_reason=failure,
                labels=CONFIGURED,
                overrides=overridden,
            )
        )
    states = list(map(with_override_rows, states))
    assert_same_alerts(states, states if replica == "same" else [], missed, folder)


def assert_rules_agree(
    folder: Path,
    active_rules: Sequence[ActiveRule],
    rule_file: str,
    series: Mapping[Labels, Sequence[float | None]],
    expected: Sequence[dict[str, Any]],
) -> None:
    """Assert that promtool evaluates the rules in a rule file on these series as expected."""
    test: dict[str, Any] = {
        "interval": f"{STEP}s",
        "input_series": [
            {"series": selector(dict(labels)), "values": promtool_values(values)} for labels, values in series.items()
        ],
        "promql_expr_test": expected,
    }
    names = {active.rule.name for active in active_rules}
    rules = rule_group(names, rule_file, inputs=[each["series"] for each in test["input_series"]])
    (folder / "rules.yaml").write_text(yaml_text.render_quickly(rules))
    document = {"rule_files": ["rules.yaml"], "evaluation_interval": f"{STEP}s", "tests": [test]}
    (folder / "test.yaml").write_text(yaml_text.render_quickly(document))
    assert_tests_pass(folder / "test.yaml")


def assert_same_alerts(
    states: Sequence[UpstreamState], other: Sequence[UpstreamState], missed: set[int], folder: Path
) -> None:
    evaluator = Evaluator(RULES)
    hidden = COUNTING if missed else frozenset[str]()
    shown = f'{SHOWN} unless ALERTS{{alertname=~"{"|".join(hidden)}"}}' if hidden else SHOWN
    expected = []
    for step, state in enumerate(states):
        for _ in evaluator.evaluate(state, Instant(step * STEP, step * STEP)):
            pass
        expected.append({"expr": shown, "eval_time": f"{step * STEP}s", "exp_samples": alerts_of(evaluator, hidden)})
    note(f"{len(states)} steps, {sum(len(e['exp_samples']) for e in expected)} samples of ALERTS, {missed=}")
    series = series_of(states, "a:1", missed) | series_of(other, "b:1", set())
    assert_rules_agree(folder, RULES, RULE_FILE, series, expected)
