from __future__ import annotations

import math
from typing import Any

import pytest

from exporter.alerting.compiled_conditions import Rises
from exporter.alerting.conditions import Series
from exporter.alerting.evaluator import RESOLVED_KEPT_SECONDS, Alert, AlertKey, Evaluator, Phase
from exporter.alerting.rules import RULES_BY_NAME, Owner
from exporter.alerting.rules.active_rules import rules_in_force
from exporter.alerting.series_lookup import Subject, reader
from exporter.model import HealthReason, Reason, Status, StreamState, UpstreamState
from tests.metrics.generated_views import stream, view

OFFLINE = AlertKey("StreamExpectedOffline", "studio", "main")
DOWN = AlertKey("StreamUpstreamDown", "studio")
KEPT = RULES_BY_NAME[OFFLINE.rule].keep_firing_seconds
FLAPPING = AlertKey("StreamFlapping", "studio", "main")


def watching() -> Evaluator:
    return Evaluator(rules_in_force(owners=[Owner.BOTH]))


def see(evaluator: Evaluator, at: float, *states: StreamState, up: bool | None = True, **facts: Any) -> None:
    given: UpstreamState = view(*states, up=up, **facts)
    for _ in evaluator.evaluate(given, at):
        pass


def phases(evaluator: Evaluator) -> dict[str, Phase]:
    return {key.rule: alert.phase for key, alert in evaluator.alerts.items()}


def offline(**facts: Any) -> StreamState:
    return stream(live=False, status=Status.IDLE, expected=True, **facts)


def unknown() -> StreamState:
    return stream(live=None, status=None, expected=True)


def firing() -> Evaluator:
    evaluator = watching()
    see(evaluator, 0, offline())
    see(evaluator, 60, offline())
    assert phases(evaluator) == {"StreamExpectedOffline": Phase.FIRING}
    return evaluator


def test_the_life_of_an_alert() -> None:
    evaluator = watching()
    see(evaluator, 100, offline())
    alert = evaluator.alerts[OFFLINE]
    assert (alert.phase, alert.active_at, alert.fired_at) == (Phase.PENDING, 100, None)
    see(evaluator, 159, offline())
    assert phases(evaluator) == {"StreamExpectedOffline": Phase.PENDING}
    see(evaluator, 160, offline())
    assert (alert.phase, alert.fired_at, alert.value) == (Phase.FIRING, 160, 0.0)
    see(evaluator, 200, stream(expected=True))
    assert (alert.phase, alert.keep_since) == (Phase.FIRING, 200)
    see(evaluator, 210, offline())
    assert (alert.phase, alert.keep_since) == (Phase.FIRING, None)
    see(evaluator, 300, stream(expected=True))
    see(evaluator, 299 + KEPT, stream(expected=True))
    assert alert.phase is Phase.FIRING
    see(evaluator, 300 + KEPT, stream(expected=True))
    assert (alert.phase, alert.resolved_at) == (Phase.RESOLVED, 300 + KEPT)
    see(evaluator, 900, offline())
    assert evaluator.alerts[OFFLINE] is not alert
    assert evaluator.alerts[OFFLINE].active_at == 900


def test_a_pending_alert_that_ceases_leaves_no_trace() -> None:
    evaluator = watching()
    see(evaluator, 0, offline())
    see(evaluator, 15, stream(expected=True))
    assert evaluator.alerts == {}


def test_it_carries_reasons_and_the_platforms_words() -> None:
    evaluator = watching()
    ill = stream(health_score_ratio=0.3, health_reasons=(HealthReason.VERDICT, HealthReason.LOSS), issues=("no video",))
    see(evaluator, 0, ill)
    alert = evaluator.alerts[AlertKey("StreamUnhealthy", "studio", "main")]
    assert (alert.reasons, alert.issues) == (("verdict", "loss"), ("no video",))


def test_many_streams_are_worked_on_in_steps() -> None:
    evaluator = watching()
    many = [stream(f"s{index}", live=False, expected=True) for index in range(250)]
    assert len(list(evaluator.evaluate(view(*many, up=True), 0))) == 2
    assert len(evaluator.alerts) == 250


# -- while an upstream does not answer -----------------------------------------------------------------------------


def test_what_is_still_served_is_judged_as_always() -> None:
    """For stale_after the former answer counts, for Prometheus too."""
    evaluator = watching()
    see(evaluator, 0, offline())
    see(evaluator, 60, offline(), up=False)
    assert phases(evaluator)["StreamExpectedOffline"] is Phase.FIRING


@pytest.mark.parametrize("served", [[unknown()], []], ids=["expected", "not even expected"])
def test_a_firing_alert_is_frozen_while_nothing_is_known(served: list[StreamState]) -> None:
    evaluator = firing()
    see(evaluator, 100, *served, up=False)
    see(evaluator, 10_000, *served, up=False)
    assert evaluator.alerts[OFFLINE].phase is Phase.FIRING
    see(evaluator, 10_015, stream(expected=True))
    assert (evaluator.alerts[OFFLINE].phase, evaluator.alerts[OFFLINE].keep_since) == (Phase.FIRING, 10_015)
    see(evaluator, 10_015 + KEPT, stream(expected=True))
    assert evaluator.alerts[OFFLINE].phase is Phase.RESOLVED


def test_a_pending_alert_is_not_frozen() -> None:
    """Nobody knows whether it would have held all the time."""
    evaluator = watching()
    see(evaluator, 0, offline())
    see(evaluator, 50, unknown(), up=False)
    assert OFFLINE not in evaluator.alerts
    see(evaluator, 500, offline())
    assert evaluator.alerts[OFFLINE].phase is Phase.PENDING


def test_a_stream_that_is_gone_while_the_upstream_answers_is_not_frozen() -> None:
    evaluator = firing()
    see(evaluator, 100)
    see(evaluator, 100 + KEPT)
    assert evaluator.alerts[OFFLINE].phase is Phase.RESOLVED


def test_wrong_credentials_are_told_apart_and_told_besides() -> None:
    evaluator = watching()
    for at in (0, 45):
        see(evaluator, at, up=False, last_error_reason=Reason.FORBIDDEN)
    assert phases(evaluator) == {"StreamUpstreamDown": Phase.FIRING, "StreamUpstreamAuthFailing": Phase.FIRING}
    other = watching()
    for at in (0, 45):
        see(other, at, up=False, last_error_reason=Reason.TIMEOUT)
    assert phases(other) == {"StreamUpstreamDown": Phase.FIRING}


def test_an_upstream_without_a_completed_poll_raises_nothing() -> None:
    evaluator = watching()
    for at in (0, 1000):
        see(evaluator, at, up=None)
    assert evaluator.alerts == {}


# -- between polls -------------------------------------------------------------------------------------------------


def test_it_says_when_it_wants_to_be_asked_again() -> None:
    evaluator = watching()
    assert evaluator.due_at("studio") == math.inf
    see(evaluator, 10, up=False)
    assert evaluator.due_at("studio") == 55
    assert evaluator.due_at("other") == math.inf
    see(evaluator, 55, up=False)
    assert evaluator.alerts[DOWN].phase is Phase.FIRING
    assert evaluator.due_at("studio") == math.inf
    see(evaluator, 60)
    assert evaluator.due_at("studio") == 360
    see(evaluator, 360)
    assert evaluator.due_at("studio") == math.inf
    assert evaluator.alerts[DOWN].phase is Phase.RESOLVED


def test_alerts_of_upstreams_that_left_the_configuration_are_resolved() -> None:
    evaluator = firing()
    see(evaluator, 60, stream("other", restarts=1, live=False, expected=True))
    evaluator.retire(["studio"], 70)
    assert evaluator.alerts[OFFLINE].phase is Phase.FIRING
    evaluator.retire([], 80)
    assert {alert.phase for alert in evaluator.alerts.values()} == {Phase.RESOLVED}
    assert evaluator.alerts[OFFLINE].resolved_at == 80


def test_resolved_alerts_are_forgotten_after_a_while() -> None:
    evaluator = firing()
    evaluator.retire([], 100)
    evaluator.forget_resolved(100 + RESOLVED_KEPT_SECONDS - 1)
    assert OFFLINE in evaluator.alerts
    evaluator.forget_resolved(100 + RESOLVED_KEPT_SECONDS)
    assert evaluator.alerts == {}


def test_alerts_of_rules_that_are_no_more_are_resolved() -> None:
    """They come from a memory that an older version wrote."""
    evaluator = watching()
    key = AlertKey("StreamGone", "studio", "main")
    evaluator.alerts[key] = Alert(key, "livepeer", Phase.FIRING, active_at=0, value=1, fired_at=0)
    assert evaluator.due_at("studio") == math.inf
    see(evaluator, 10)
    assert evaluator.alerts[key].phase is Phase.RESOLVED


# -- windows -------------------------------------------------------------------------------------------------------


def test_rises_are_counted_in_samples() -> None:
    rises = Rises()
    assert rises.count(0) is None
    for at, value in enumerate([5, 5, 7, 0, 0, 1, 2], start=100):
        rises.add(at, value)
    assert rises.count(0) == 3
    assert rises.count(101) == 3
    assert rises.count(102) == 2
    assert rises.count(106) == 0
    assert rises.count(107) is None


def restarted(evaluator: Evaluator, times: int) -> float:
    for count in range(times + 1):
        see(evaluator, count * 15.0, stream(restarts=count))
    return times * 15.0


def test_six_restarts_in_the_window_are_flapping() -> None:
    calm, evaluator = watching(), watching()
    restarted(calm, 5)
    assert calm.alerts == {}
    restarted(evaluator, 6)
    assert (evaluator.alerts[FLAPPING].phase, evaluator.alerts[FLAPPING].value) == (Phase.FIRING, 6.0)


def test_a_window_outlives_its_stream_and_ends() -> None:
    evaluator = watching()
    last = restarted(evaluator, 7)
    see(evaluator, last + 15)
    assert evaluator.alerts[FLAPPING].keep_since is None
    see(evaluator, last + 900)
    assert evaluator.alerts[FLAPPING].keep_since == last + 900
    see(evaluator, last + 901)
    assert all(not program.remembered("studio", last + 901) for program in evaluator._of_streams)


def test_windows_of_upstreams_that_left_are_forgotten() -> None:
    evaluator = watching()
    last = restarted(evaluator, 5)
    evaluator.retire(["other"], last)
    see(evaluator, last + 15, stream(restarts=6))
    assert FLAPPING not in evaluator.alerts


# -- reading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_exposed_has_no_sample(value: float) -> None:
    state = stream(ingest_bitrate_bytes_per_second=value, health_score_ratio=value, multistream_targets={"yt": value})
    for family in ("stream_ingest_bitrate_bytes_per_second", "stream_health_score_ratio"):
        assert list(reader(Series(family))(Subject(view(state), state, "main"))) == []
    targets = reader(Series("stream_multistream_target_connected"))
    assert list(targets(Subject(view(state), state, "main"))) == []


def test_a_stream_that_is_gone_has_no_samples() -> None:
    gone = Subject(view(up=True), None, "main")
    assert list(reader(Series("stream_live"))(gone)) == []
    assert list(reader(Series("stream_health_condition"))(gone)) == []
    assert list(reader(Series("stream_upstream_up"))(gone)) == [((), 1.0)]


def test_a_family_that_does_not_exist_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        reader(Series("stream_nonsense"))
