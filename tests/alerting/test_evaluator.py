from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.alerting.evaluator import RESOLVED_KEPT_SECONDS, Alert, AlertKey, Evaluator, Phase
from exporter.alerting.rules import RULES_BY_NAME, Owner
from exporter.alerting.rules.active_rules import rules_in_force
from exporter.alerting.rules.rule import Series
from exporter.alerting.series_lookup import Subject, series_reader
from exporter.alerting.window_meters import ChangeCounter
from exporter.config.alerting import AlertingSettings
from exporter.model import HealthReason, Reason, Status, StreamState, UpstreamState
from exporter.runtime.clock import Instant
from tests.metrics.generated_views import stream, view


def key_of(rule: str, stream: str = "main", severity: str | None = None) -> AlertKey:
    """Return the key of an alert on ``studio`` (default: the rule's own severity)."""
    return AlertKey(rule, "studio", stream, severity=severity or RULES_BY_NAME[rule].severity.value)


OFFLINE = key_of("StreamExpectedOffline")
DOWN = key_of("StreamUpstreamDown", "")
KEPT = RULES_BY_NAME[OFFLINE.rule].keep_firing_seconds
FLAPPING = key_of("StreamFlapping")


def make_evaluator() -> Evaluator:
    return Evaluator(rules_in_force(owners=[Owner.BOTH]))


def evaluate(
    evaluator: Evaluator, at: float | Instant, *states: StreamState, up: bool | None = True, **facts: Any
) -> None:
    """Evaluate a state. ``at``: time on both clocks. By default, the upstream is answering if it is up."""
    upstream_state: UpstreamState = view(*states, up=up, **{"answering": up} | facts)
    for _ in evaluator.evaluate(upstream_state, at if isinstance(at, Instant) else Instant(at, at)):
        pass


def phases(evaluator: Evaluator) -> dict[str, Phase]:
    return {key.rule: alert.phase for key, alert in evaluator.alerts.items()}


def offline(**facts: Any) -> StreamState:
    return stream(live=False, status=Status.IDLE, expected=True, **facts)


def unknown() -> StreamState:
    return stream(live=None, status=Status.UNKNOWN, expected=True)


def firing_evaluator() -> Evaluator:
    evaluator = make_evaluator()
    evaluate(evaluator, 0, offline())
    evaluate(evaluator, 60, offline())
    assert phases(evaluator) == {"StreamExpectedOffline": Phase.FIRING}
    return evaluator


def test_alert_goes_from_pending_to_firing_to_resolved() -> None:
    evaluator = make_evaluator()
    evaluate(evaluator, 100, offline())
    alert = evaluator.alerts[OFFLINE]
    assert (alert.phase, alert.active_at, alert.fired_at) == (Phase.PENDING, 100, None)
    evaluate(evaluator, 159, offline())
    assert phases(evaluator) == {"StreamExpectedOffline": Phase.PENDING}
    evaluate(evaluator, 160, offline())
    assert (alert.phase, alert.fired_at, alert.value) == (Phase.FIRING, 160, 0.0)
    evaluate(evaluator, 200, stream(expected=True))
    assert (alert.phase, alert.keep_since) == (Phase.FIRING, 200)
    evaluate(evaluator, 210, offline())
    assert (alert.phase, alert.keep_since) == (Phase.FIRING, None)
    evaluate(evaluator, 300, stream(expected=True))
    evaluate(evaluator, 299 + KEPT, stream(expected=True))
    assert alert.phase is Phase.FIRING
    evaluate(evaluator, 300 + KEPT, stream(expected=True))
    assert (alert.phase, alert.resolved_at) == (Phase.RESOLVED, 300 + KEPT)
    evaluate(evaluator, 900, offline())
    assert evaluator.alerts[OFFLINE] is not alert
    assert evaluator.alerts[OFFLINE].active_at == 900


@pytest.mark.parametrize("seconds", [30, 90])
def test_alert_of_a_renamed_stream_keeps_its_start_time(seconds: float) -> None:
    """``seconds``: age of the alert at the rename, which makes it pending or firing."""

    def named(label: str) -> StreamState:
        state = offline()
        identity = msgspec.structs.replace(state.identity, stream=label)
        return msgspec.structs.replace(state, identity=identity)

    evaluator = make_evaluator()
    evaluate(evaluator, 0, named("main"))
    evaluate(evaluator, seconds, named("main"))
    was_firing = evaluator.alerts[OFFLINE].phase is Phase.FIRING
    evaluate(evaluator, 95, named("renamed"))
    renamed = evaluator.alerts[replace(OFFLINE, stream="renamed")]
    assert (renamed.phase, renamed.active_at) == (Phase.FIRING, 0)
    old = evaluator.alerts.get(OFFLINE)
    assert (old.phase if old else None) == (Phase.RESOLVED if was_firing else None)


def test_pending_alert_is_dropped_when_its_condition_ends() -> None:
    evaluator = make_evaluator()
    evaluate(evaluator, 0, offline())
    evaluate(evaluator, 15, stream(expected=True))
    assert evaluator.alerts == {}


def test_alert_contains_reasons_and_issues() -> None:
    evaluator = make_evaluator()
    unhealthy = stream(
        health_score_ratio=0.3, health_reasons=(HealthReason.VERDICT, HealthReason.LOSS), issues=("no video",)
    )
    evaluate(evaluator, 0, unhealthy)
    alert = evaluator.alerts[key_of("StreamUnhealthy")]
    assert (alert.reasons, alert.issues) == (("verdict", "loss"), ("no video",))


def test_many_streams_are_evaluated_in_steps() -> None:
    evaluator = make_evaluator()
    many = [stream(f"s{index}", live=False, expected=True) for index in range(250)]
    assert len(list(evaluator.evaluate(view(*many, up=True, answering=True), Instant(0, 0)))) == 2
    assert len(evaluator.alerts) == 250


# -- upstreams that are not answering ----------------------------------------------------------------------------------


def test_failed_polls_change_nothing_while_the_upstream_is_answering() -> None:
    evaluator = make_evaluator()
    evaluate(evaluator, 0, offline())
    evaluate(evaluator, 30, offline(), up=False, answering=True)
    evaluate(evaluator, 60, offline(), up=False, answering=True)
    assert phases(evaluator)["StreamExpectedOffline"] is Phase.FIRING


@pytest.mark.parametrize(
    "served",
    [[unknown()], [stream(live=None, status=Status.UNKNOWN)], []],
    ids=["expected", "not expected", "not served"],
)
def test_firing_alert_is_frozen_while_its_stream_is_unknown(served: list[StreamState]) -> None:
    evaluator = firing_evaluator()
    evaluate(evaluator, 100, *served, up=False)
    evaluate(evaluator, 10_000, *served, up=False)
    assert evaluator.alerts[OFFLINE].phase is Phase.FIRING
    evaluate(evaluator, 10_015, stream(expected=True))
    assert (evaluator.alerts[OFFLINE].phase, evaluator.alerts[OFFLINE].keep_since) == (Phase.FIRING, 10_015)
    evaluate(evaluator, 10_015 + KEPT, stream(expected=True))
    assert evaluator.alerts[OFFLINE].phase is Phase.RESOLVED


def test_unknown_stream_fires_only_expected_unknown() -> None:
    not_expected = stream("other", live=None, status=Status.UNKNOWN)
    evaluator = make_evaluator()
    for at in range(0, 3600, 15):
        evaluate(evaluator, at, unknown(), not_expected)
    assert phases(evaluator) == {"StreamExpectedUnknown": Phase.FIRING}
    assert {key.stream for key in evaluator.alerts} == {"main"}
    for at in range(3600, 7200, 15):
        evaluate(evaluator, at, unknown(), not_expected, up=False)
    assert phases(evaluator) == {"StreamExpectedUnknown": Phase.FIRING, "StreamUpstreamDown": Phase.FIRING}


def test_overdue_polls_fire_while_the_upstream_counts_as_up() -> None:
    evaluator = make_evaluator()
    evaluate(evaluator, 0, answering=False)
    evaluate(evaluator, 119, answering=False)
    assert phases(evaluator) == {"StreamUpstreamDataStale": Phase.PENDING}
    evaluate(evaluator, 120, answering=False)
    assert phases(evaluator) == {"StreamUpstreamDataStale": Phase.FIRING}
    other = make_evaluator()
    for at in (0, 120):
        evaluate(other, at, answering=True)
    assert other.alerts == {}
    for at in (200, 400):
        evaluate(other, at, answering=False, up=False)
    assert phases(other) == {"StreamUpstreamDown": Phase.FIRING}


NEEDS_EVIDENCE: list[tuple[str, float, list[StreamState], dict[str, Any]]] = [
    ("StreamExpectedOffline", 60, [stream(live=False, status=Status.IDLE, expected=True)], {}),
    ("StreamExpectedUnknown", 300, [stream(live=None, status=Status.UNKNOWN, expected=True)], {}),
    ("StreamUpstreamListDoubtful", 600, [], {"list_complete": False}),
    ("StreamUpstreamStatisticsFrozen", 180, [], {"are_statistics_frozen": True}),
    (
        "StreamUpstreamStatesUnknown",
        300,
        [stream(f"s{n}", live=None, status=Status.UNKNOWN) for n in range(3)],
        {},
    ),
]
"""A rule, its ``for``, and the streams and facts that make it pending."""


@pytest.mark.parametrize(
    ("rule", "for_seconds", "streams", "facts"), NEEDS_EVIDENCE, ids=[r for r, *_ in NEEDS_EVIDENCE]
)
def test_pending_alert_pauses_until_its_upstream_answers_again(
    rule: str, for_seconds: float, streams: list[StreamState], facts: dict[str, Any]
) -> None:
    evaluator = make_evaluator()
    evaluate(evaluator, 0, *streams, **facts)
    assert phases(evaluator)[rule] is Phase.PENDING
    for at in (for_seconds - 20, for_seconds + 20, 5000):
        evaluate(evaluator, at, *streams, up=False, **facts)
        assert phases(evaluator)[rule] is Phase.PENDING, "it neither ends nor advances"
    evaluate(evaluator, 5020, *streams, **facts)
    assert phases(evaluator)[rule] is Phase.PENDING
    assert evaluator.due_at("studio") == 5040, "20 s were left"
    evaluate(evaluator, 5039, *streams, **facts)
    assert phases(evaluator)[rule] is Phase.PENDING
    evaluate(evaluator, 5040, *streams, **facts)
    (alert,) = [alert for key, alert in evaluator.alerts.items() if key.rule == rule and alert.phase is Phase.FIRING]
    assert (alert.active_at, alert.fired_at) == (0, 5040)


def test_paused_alert_is_dropped_if_the_condition_is_false_after_an_outage() -> None:
    evaluator = make_evaluator()
    evaluate(evaluator, 0, offline())
    evaluate(evaluator, 50, unknown(), up=False)
    evaluate(evaluator, 500, stream(expected=True))
    assert OFFLINE not in evaluator.alerts


def test_paused_alert_does_not_count_the_time_of_outages() -> None:
    evaluator = make_evaluator()
    evaluate(evaluator, 0, offline())
    for up, at in ((False, 20), (True, 100), (False, 120), (True, 500)):
        evaluate(evaluator, at, offline(), up=up)
    assert evaluator.due_at("studio") == 520, "20 s before the first outage, 20 s after it"


def test_keep_firing_pauses_while_the_upstream_is_not_answering() -> None:
    """An unknown stream is no evidence that the condition has cleared."""
    evaluator = firing_evaluator()
    evaluate(evaluator, 100, stream(expected=True))
    assert evaluator.alerts[OFFLINE].keep_since == 100
    for at in (130, 5000):
        evaluate(evaluator, at, unknown(), up=False)
        assert (evaluator.alerts[OFFLINE].phase, evaluator.alerts[OFFLINE].keep_since) == (Phase.FIRING, None)
    evaluate(evaluator, 5015, stream(expected=True))
    assert evaluator.alerts[OFFLINE].phase is Phase.RESOLVED, "it had cleared long before"


def test_paused_alert_does_not_delay_the_due_time_of_others() -> None:
    evaluator = firing_evaluator()
    evaluate(evaluator, 100, stream(expected=True))
    evaluate(evaluator, 95 + KEPT, unknown(), up=False)
    evaluate(evaluator, 101 + KEPT, unknown(), up=False)
    assert evaluator.due_at("studio", 101 + KEPT) == 95 + KEPT + 15, "StreamUpstreamDown"


@pytest.mark.parametrize(
    ("rule", "for_seconds", "facts"),
    [
        ("StreamUpstreamDown", 15, {"up": False}),
        ("StreamUpstreamAuthFailing", 15, {"up": False, "last_error_reason": Reason.AUTH}),
        ("StreamUpstreamDataStale", 120, {"up": True}),
    ],
)
def test_outage_alerts_fire_without_evidence(rule: str, for_seconds: float, facts: dict[str, Any]) -> None:
    evaluator = make_evaluator()
    for at in (0, for_seconds):
        evaluate(evaluator, at, answering=False, **facts)
    assert phases(evaluator)[rule] is Phase.FIRING


def test_alert_of_a_departed_stream_resolves_while_the_upstream_answers() -> None:
    evaluator = firing_evaluator()
    evaluate(evaluator, 100)
    evaluate(evaluator, 100 + KEPT)
    assert evaluator.alerts[OFFLINE].phase is Phase.RESOLVED


def test_rejected_credentials_fire_their_own_alert() -> None:
    evaluator = make_evaluator()
    for at in (0, 15):
        evaluate(evaluator, at, up=False, last_error_reason=Reason.FORBIDDEN)
    assert phases(evaluator) == {"StreamUpstreamDown": Phase.FIRING, "StreamUpstreamAuthFailing": Phase.FIRING}
    other = make_evaluator()
    for at in (0, 15):
        evaluate(other, at, up=False, last_error_reason=Reason.TIMEOUT)
    assert phases(other) == {"StreamUpstreamDown": Phase.FIRING}


def test_alerts_do_not_change_while_answering_is_unknown() -> None:
    evaluator = make_evaluator()
    evaluate(evaluator, 0, offline(), list_complete=False)
    evaluate(evaluator, 60, offline(), list_complete=False)
    for at in (70, 85):
        evaluate(evaluator, at, offline(), up=False, last_error_reason=Reason.AUTH)
    frozen = {
        "StreamExpectedOffline": Phase.FIRING,
        "StreamUpstreamListDoubtful": Phase.PENDING,
        "StreamUpstreamDown": Phase.FIRING,
        "StreamUpstreamAuthFailing": Phase.FIRING,
    }
    for up, at in ((None, 100), (False, 1000), (False, 5000)):
        evaluate(evaluator, at, unknown(), up=up, answering=None, last_error_reason=Reason.TIMEOUT)
        assert phases(evaluator) == frozen
        assert evaluator.due_at("studio") == math.inf
    evaluate(evaluator, 5015, offline(), list_complete=False)
    over = {"StreamUpstreamDown": Phase.RESOLVED, "StreamUpstreamAuthFailing": Phase.RESOLVED}
    assert phases(evaluator) == frozen | over


def test_failing_upstream_has_no_alerts_while_answering_is_unknown() -> None:
    evaluator = make_evaluator()
    for at in (0, 30, 1000):
        evaluate(evaluator, at, up=False, answering=None, last_error_reason=Reason.AUTH)
    assert evaluator.alerts == {}


def test_pending_outage_alert_resumes_once_answering_is_known_again() -> None:
    evaluator = make_evaluator()
    evaluate(evaluator, 0, up=False)
    for at in (5, 75):
        evaluate(evaluator, at, up=False, answering=None)
    evaluate(evaluator, 80, up=False)
    assert phases(evaluator) == {"StreamUpstreamDown": Phase.PENDING}
    assert evaluator.due_at("studio") == 90, "10 s were left"
    evaluate(evaluator, 90, up=False)
    assert phases(evaluator) == {"StreamUpstreamDown": Phase.FIRING}


def test_upstream_without_a_completed_poll_has_no_alerts() -> None:
    evaluator = make_evaluator()
    for at in (0, 1000):
        evaluate(evaluator, at, up=None)
    assert evaluator.alerts == {}


# -- two severities of a rule ------------------------------------------------------------------------------------------

UNKNOWN_WARNING, UNKNOWN_CRITICAL = (key_of("StreamExpectedUnknown", severity=word) for word in ("warning", "critical"))
STATES_WARNING, STATES_CRITICAL = (
    key_of("StreamUpstreamStatesUnknown", "", severity) for severity in ("warning", "critical")
)


def many_unknown(*, expected: bool) -> list[StreamState]:
    """Return ten streams, three of them unknown. ``expected``: whether one of the unknown streams is expected."""
    streams = [stream(f"s{n}", live=None, status=Status.UNKNOWN) for n in range(3)]
    return [msgspec.structs.replace(streams[0], expected=expected), *streams[1:], *(stream(f"l{n}") for n in range(7))]


def severities(evaluator: Evaluator, rule: str, phase: Phase = Phase.FIRING) -> set[str]:
    """Return the severities of a rule's alerts in a phase."""
    return {key.severity for key, alert in evaluator.alerts.items() if key.rule == rule and alert.phase is phase}


def test_warning_becomes_critical_and_only_the_critical_alert_resolves() -> None:
    evaluator = make_evaluator()
    for at, expected in ((0, set()), (299, set()), (300, {"warning"}), (899, {"warning"}), (900, {"critical"})):
        evaluate(evaluator, at, unknown())
        assert severities(evaluator, "StreamExpectedUnknown") == expected
    assert UNKNOWN_WARNING not in evaluator.alerts, "replaced, not resolved"
    assert (evaluator.alerts[UNKNOWN_CRITICAL].active_at, evaluator.alerts[UNKNOWN_CRITICAL].fired_at) == (0, 900)
    evaluate(evaluator, 2000, unknown())
    assert set(evaluator.alerts) == {UNKNOWN_CRITICAL}
    keep = RULES_BY_NAME["StreamExpectedUnknown"].keep_firing_seconds
    evaluate(evaluator, 2015, stream(expected=True))
    evaluate(evaluator, 2015 + keep, stream(expected=True))
    assert {key: alert.phase for key, alert in evaluator.alerts.items()} == {UNKNOWN_CRITICAL: Phase.RESOLVED}


def test_due_time_follows_each_severity() -> None:
    evaluator = make_evaluator()
    evaluate(evaluator, 0, unknown())
    assert evaluator.due_at("studio") == 300
    evaluate(evaluator, 300, unknown())
    assert evaluator.due_at("studio") == 900


def test_warning_that_ends_before_it_is_critical_resolves() -> None:
    evaluator = make_evaluator()
    for at in (0, 300):
        evaluate(evaluator, at, unknown())
    for at in (315, 1000):
        evaluate(evaluator, at, stream(expected=True))
    assert {key: alert.phase for key, alert in evaluator.alerts.items()} == {UNKNOWN_WARNING: Phase.RESOLVED}


def test_warning_with_a_longer_for_fires_only_as_critical() -> None:
    """The critical grade is never easier to reach than the warning."""
    settings = AlertingSettings.model_validate({"thresholds": {"StreamExpectedUnknown": {"for": "20m"}}})
    evaluator = Evaluator(rules_in_force(settings, owners=[Owner.BOTH]))
    for at in (0, 900, 1199):
        evaluate(evaluator, at, unknown())
        assert set(evaluator.alerts) == {UNKNOWN_CRITICAL}
        assert severities(evaluator, "StreamExpectedUnknown") == set()
    evaluate(evaluator, 1200, unknown())
    assert severities(evaluator, "StreamExpectedUnknown") == {"critical"}


def test_unknown_expected_stream_among_many_is_critical_at_once() -> None:
    evaluator = make_evaluator()
    for at in range(0, 301, 15):
        evaluate(evaluator, at, *many_unknown(expected=True))
        assert STATES_WARNING not in evaluator.alerts, "there is never a warning"
    assert severities(evaluator, "StreamUpstreamStatesUnknown") == {"critical"}
    other = make_evaluator()
    for at in range(0, 2000, 15):
        evaluate(other, at, *many_unknown(expected=False))
        assert STATES_CRITICAL not in other.alerts
    assert severities(other, "StreamUpstreamStatesUnknown") == {"warning"}


@pytest.mark.parametrize("expected_first", [False, True])
def test_severities_replace_each_other_without_a_gap_or_a_resolve(expected_first: bool) -> None:
    first, then = ("critical", "warning") if expected_first else ("warning", "critical")
    evaluator = make_evaluator()
    for at in range(0, 601, 15):
        evaluate(evaluator, at, *many_unknown(expected=expected_first))
    for at in range(615, 1500, 15):
        evaluate(evaluator, at, *many_unknown(expected=not expected_first))
        assert severities(evaluator, "StreamUpstreamStatesUnknown") == ({first} if at < 915 else {then})
        assert severities(evaluator, "StreamUpstreamStatesUnknown", Phase.RESOLVED) == set()
    for at in (1515, 1815):
        evaluate(evaluator, at, stream())
    assert severities(evaluator, "StreamUpstreamStatesUnknown", Phase.RESOLVED) == {then}
    assert severities(evaluator, "StreamUpstreamStatesUnknown") == set()


def test_firing_warning_stays_while_its_critical_grade_is_pending() -> None:
    evaluator = make_evaluator()
    for at in (0, 300):
        evaluate(evaluator, at, *many_unknown(expected=False))
    evaluate(evaluator, 315, *many_unknown(expected=True))
    warning = evaluator.alerts[STATES_WARNING]
    assert (warning.phase, warning.keep_since) == (Phase.FIRING, None), "it has not cleared"
    evaluate(evaluator, 330, *many_unknown(expected=False))
    assert (warning.phase, warning.keep_steady) == (Phase.FIRING, None)
    assert STATES_CRITICAL not in evaluator.alerts
    evaluate(evaluator, 345, *many_unknown(expected=True))
    evaluate(evaluator, 400, stream())
    assert warning.keep_since == 345
    evaluate(evaluator, 345 + 300, stream())
    assert warning.phase is Phase.RESOLVED


def test_resolved_warning_is_kept_while_its_critical_grade_is_pending() -> None:
    """Its resolve is still repeated, for an Alertmanager that was unreachable."""
    evaluator = make_evaluator()
    for at in (0, 300):
        evaluate(evaluator, at, *many_unknown(expected=False))
    for at in (315, 615):
        evaluate(evaluator, at, stream())
    evaluate(evaluator, 630, *many_unknown(expected=True))
    assert evaluator.alerts[STATES_WARNING].phase is Phase.RESOLVED


@given(
    st.lists(
        st.tuples(st.sampled_from([Status.LIVE, Status.IDLE, Status.UNKNOWN]), st.sampled_from([None, True, False])),
        max_size=20,
    )
)
def test_share_of_unknown_streams_is_counted(streams: list[tuple[Status, bool | None]]) -> None:
    live = {Status.LIVE: True, Status.IDLE: False}
    states = [
        stream(f"s{index}", status=status, live=live.get(status), expected=expected)
        for index, (status, expected) in enumerate(streams)
    ]
    evaluator = make_evaluator()
    # streams of another upstream do not count
    evaluate(evaluator, 0, *many_unknown(expected=True), upstream="other")
    evaluate(evaluator, 0, *states)
    unknown_streams = [expected for status, expected in streams if status is Status.UNKNOWN]
    share = len(unknown_streams) / max(1, len(streams))
    holds = len(unknown_streams) >= 3 and share > 0.2
    found = {key: alert.value for key, alert in evaluator.alerts.items() if key in (STATES_WARNING, STATES_CRITICAL)}
    expected_key = STATES_CRITICAL if True in unknown_streams else STATES_WARNING
    assert found == ({expected_key: share} if holds else {})


@pytest.mark.parametrize(
    ("expected", "live", "severity"), [(True, True, "critical"), (True, False, "warning"), (None, True, "warning")]
)
def test_frozen_statistics_are_critical_if_an_expected_stream_is_live(
    expected: bool | None, live: bool, severity: str
) -> None:
    states = [
        stream("a", live=live, status=Status.LIVE if live else Status.IDLE, expected=expected),
        stream("b", live=False, status=Status.IDLE),
    ]
    evaluator = make_evaluator()
    for at in (0, 180, 300):
        evaluate(evaluator, at, *states, are_statistics_frozen=True)
        if at == 180:
            assert severities(evaluator, "StreamUpstreamStatisticsFrozen") == {"warning"}
    assert severities(evaluator, "StreamUpstreamStatisticsFrozen") == {severity}


# -- between polls -----------------------------------------------------------------------------------------------------


def test_due_time_is_when_an_alert_fires_or_resolves() -> None:
    evaluator = make_evaluator()
    assert evaluator.due_at("studio") == math.inf
    evaluate(evaluator, 10, up=False)
    assert evaluator.due_at("studio") == 25
    assert evaluator.due_at("other") == math.inf
    evaluate(evaluator, 25, up=False)
    assert evaluator.alerts[DOWN].phase is Phase.FIRING
    assert evaluator.due_at("studio") == math.inf
    evaluate(evaluator, 60, list_complete=False)
    assert evaluator.alerts[DOWN].phase is Phase.RESOLVED, "it inhibits others, so it is not kept firing"
    assert evaluator.due_at("studio") == 660
    evaluate(evaluator, 660, list_complete=False)
    assert evaluator.due_at("studio") == math.inf
    evaluate(evaluator, 700, list_complete=True)
    assert evaluator.due_at("studio") == 1000
    evaluate(evaluator, 1000, list_complete=True)
    assert evaluator.due_at("studio") == math.inf
    assert set(phases(evaluator).values()) == {Phase.RESOLVED}


def test_alerts_of_removed_upstreams_are_resolved() -> None:
    evaluator = firing_evaluator()
    evaluate(evaluator, 60, stream("other", restarts=1, live=False, expected=True))
    evaluator.keep_only_upstreams(["studio"], Instant(70, 70))
    assert evaluator.alerts[OFFLINE].phase is Phase.FIRING
    evaluator.keep_only_upstreams([], Instant(80, 80))
    assert {alert.phase for alert in evaluator.alerts.values()} == {Phase.RESOLVED}
    assert evaluator.alerts[OFFLINE].resolved_at == 80


def test_resolved_alert_is_forgotten_after_its_time() -> None:
    evaluator = firing_evaluator()
    evaluator.keep_only_upstreams([], Instant(100, 100))
    evaluator.forget_resolved(100 + RESOLVED_KEPT_SECONDS - 1)
    assert OFFLINE in evaluator.alerts
    evaluator.forget_resolved(100 + RESOLVED_KEPT_SECONDS)
    assert evaluator.alerts == {}


def test_alert_of_an_unknown_rule_is_resolved() -> None:
    """A state file of an older version may contain one."""
    evaluator = make_evaluator()
    key = AlertKey("StreamGone", "studio", "main")
    evaluator.alerts[key] = Alert(key, "livepeer", Phase.FIRING, active_at=0, value=1, fired_at=0)
    assert evaluator.due_at("studio") == math.inf
    evaluate(evaluator, 10)
    assert evaluator.alerts[key].phase is Phase.RESOLVED


# -- wall clock changes ------------------------------------------------------------------------------------------------


polls = st.lists(
    st.tuples(
        st.sampled_from(["live", "restarted", "offline", "unhealthy", "unknown", "gone"]),
        st.sampled_from([True, True, True, False]),
        st.integers(1, 12),
        st.sampled_from([0.0, 0.0, 0.0, 3600.0, -3600.0, 86400.0, -86400.0]),
    ),
    min_size=3,
    max_size=15,
)
"""Condition of the stream, whether its upstream answers, number of polls, and a clock step before them."""


def timeline(lives: list[tuple[str, bool, int, float]], *, steps: bool) -> list[Any]:
    """Return the phases and values of all alerts, and the next due time, after each poll."""
    evaluator, seen, restarts = make_evaluator(), [], 0
    wall, steady = 1_726_000_000.0, 1000.0
    for condition, up, count, step in lives:
        wall += step if steps else 0.0
        for _ in range(count):
            wall, steady, restarts = wall + 15, steady + 15, restarts + (condition == "restarted")
            served = {
                "offline": [offline(restarts=restarts)],
                "unhealthy": [stream(expected=True, health_score_ratio=0.2, restarts=restarts)],
                "unknown": [unknown()],
                "gone": [],
            }.get(condition, [stream(expected=True, restarts=restarts)])
            evaluate(evaluator, Instant(wall, steady), *served, up=up)
            evaluator.forget_resolved(steady)
            found = sorted((key, alert.phase, alert.value) for key, alert in evaluator.alerts.items())
            seen.append((found, evaluator.due_at("studio")))
    return seen


@given(polls)
def test_wall_clock_steps_do_not_change_phases(lives: list[tuple[str, bool, int, float]]) -> None:
    assert timeline(lives, steps=True) == timeline(lives, steps=False)


def test_times_are_taken_from_the_wall_clock() -> None:
    evaluator = make_evaluator()
    evaluate(evaluator, Instant(5000, 0), offline())
    evaluate(evaluator, Instant(1400, 60), offline())
    alert = evaluator.alerts[OFFLINE]
    assert (alert.phase, alert.active_at, alert.fired_at) == (Phase.FIRING, 5000, 1400)
    evaluate(evaluator, Instant(9000, 75), stream(expected=True))
    assert (alert.fired_at, alert.keep_since) == (1400, 9000)
    evaluate(evaluator, Instant(2000, 75 + KEPT), stream(expected=True))
    assert (evaluator.alerts[OFFLINE].resolved_at, evaluator.alerts[OFFLINE].keep_since) == (2000, None)


# -- windows -----------------------------------------------------------------------------------------------------------


def test_rises_are_counted_by_samples() -> None:
    rises = ChangeCounter(only_rises=True)
    assert rises.count(0) is None
    for at, value in enumerate([5, 5, 7, 0, 0, 1, 2], start=100):
        rises.add(at, value)
    assert rises.count(0) == 3
    assert rises.count(101) == 3
    assert rises.count(102) == 2
    assert rises.count(106) == 0
    assert rises.count(107) is None


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 3)), max_size=30), st.integers(0, 600), st.booleans())
def test_changes_are_counted_between_samples_in_the_window(
    samples: list[tuple[int, int]], since: int, only_rises: bool
) -> None:
    counter = ChangeCounter(only_rises=only_rises)
    at, seen = 0, []
    for pause, value in samples:
        at += pause
        seen.append((at, value))
        counter.add(at, value)
    values = [value for at, value in seen if at >= since]
    pairs = itertools.pairwise(values)
    changes = sum(later > earlier if only_rises else later != earlier for earlier, later in pairs)
    assert counter.count(since) == (changes if values else None)


def test_six_verdict_changes_in_the_window_fire() -> None:
    evaluator = make_evaluator()
    for count in range(7):
        evaluate(evaluator, count * 15.0, stream(healthy=bool(count % 2)))
        assert phases(evaluator).get("StreamVerdictUnstable") is (Phase.FIRING if count == 6 else None)
    assert evaluator.alerts[key_of("StreamVerdictUnstable")].value == 6.0
    evaluate(evaluator, 90 + 900, stream(healthy=False))
    assert evaluator.alerts[key_of("StreamVerdictUnstable")].keep_since == 990


def evaluate_restarts(evaluator: Evaluator, times: int) -> float:
    for count in range(times + 1):
        evaluate(evaluator, count * 15.0, stream(restarts=count))
    return times * 15.0


def test_six_restarts_in_the_window_fire_flapping() -> None:
    calm, evaluator = make_evaluator(), make_evaluator()
    evaluate_restarts(calm, 5)
    assert calm.alerts == {}
    evaluate_restarts(evaluator, 6)
    assert (evaluator.alerts[FLAPPING].phase, evaluator.alerts[FLAPPING].value) == (Phase.FIRING, 6.0)


def test_restarts_count_after_their_stream_has_departed() -> None:
    evaluator = make_evaluator()
    last = evaluate_restarts(evaluator, 7)
    evaluate(evaluator, last + 15)
    assert evaluator.alerts[FLAPPING].keep_since is None
    evaluate(evaluator, last + 900)
    assert evaluator.alerts[FLAPPING].keep_since == last + 900


def test_windows_of_removed_upstreams_are_forgotten() -> None:
    evaluator = make_evaluator()
    last = evaluate_restarts(evaluator, 5)
    evaluator.keep_only_upstreams(["other"], Instant(last, last))
    evaluate(evaluator, last + 15, stream(restarts=6))
    assert FLAPPING not in evaluator.alerts


# -- series lookup -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_value_has_no_sample(value: float) -> None:
    state = stream(ingest_bitrate_bytes_per_second=value, health_score_ratio=value, multistream_targets={"yt": value})
    for family in ("stream_ingest_bitrate_bytes_per_second", "stream_health_score_ratio"):
        assert list(series_reader(Series(family))(Subject(view(state), state, "main"))) == []
    targets = series_reader(Series("stream_multistream_target_connected"))
    assert list(targets(Subject(view(state), state, "main"))) == []


def test_departed_stream_has_no_samples() -> None:
    gone = Subject(view(up=True), None, "main")
    assert list(series_reader(Series("stream_live"))(gone)) == []
    assert list(series_reader(Series("stream_health_condition"))(gone)) == []
    assert list(series_reader(Series("stream_upstream_up"))(gone)) == [((), 1.0)]


def test_unknown_family_raises_key_error() -> None:
    with pytest.raises(KeyError):
        series_reader(Series("stream_nonsense"))
