"""Overrides in the sidecar's evaluator. ``test_evaluators_agree`` compares them with Prometheus."""

from __future__ import annotations

from typing import Any

import pytest

from exporter.alerting.evaluator import Phase
from exporter.alerting.payload import AlertFormatter
from exporter.alerting.rules import RULES_BY_NAME
from exporter.alerting.rules.active_rules import rules_in_force
from exporter.model import AlertOverrides, Status, StreamState
from tests.alerting.test_evaluator import evaluate, key_of, make_evaluator, offline, phases
from tests.metrics.generated_views import stream

OFF = AlertOverrides(off=frozenset({"StreamExpectedOffline", "StreamUnhealthy", "StreamFlapping"}))
UNHEALTHY = key_of("StreamUnhealthy")
FLAPPING = key_of("StreamFlapping")


def scored(score: float, **thresholds: float) -> StreamState:
    return stream(health_score_ratio=score, overrides=AlertOverrides(thresholds))


def test_rule_that_is_off_raises_no_alert() -> None:
    evaluator = make_evaluator()
    for at in (0, 60, 120):
        evaluate(evaluator, at, offline(overrides=OFF))
    assert evaluator.alerts == {}


def test_switching_a_rule_off_ends_its_alert_after_the_keep_firing_time() -> None:
    """As in Prometheus, where the expression is then empty."""
    evaluator = make_evaluator()
    keep = RULES_BY_NAME["StreamExpectedOffline"].keep_firing_seconds
    evaluate(evaluator, 0, offline())
    evaluate(evaluator, 60, offline())
    for at, phase in ((75, Phase.FIRING), (74 + keep, Phase.FIRING), (75 + keep, Phase.RESOLVED)):
        evaluate(evaluator, at, offline(overrides=OFF))
        assert phases(evaluator) == {"StreamExpectedOffline": phase}


def test_switching_a_rule_off_drops_its_pending_alert() -> None:
    evaluator = make_evaluator()
    evaluate(evaluator, 0, offline())
    evaluate(evaluator, 15, offline(overrides=OFF))
    assert evaluator.alerts == {}


def test_threshold_of_a_stream_replaces_the_default() -> None:
    evaluator = make_evaluator()
    tolerant = scored(0.3, StreamUnhealthy=0.2, StreamDegraded=0.2)
    evaluate(evaluator, 0, tolerant)
    assert evaluator.alerts == {}
    evaluate(evaluator, 15, scored(0.85, StreamUnhealthy=0.9))
    assert phases(evaluator) == {"StreamUnhealthy": Phase.PENDING}
    evaluate(evaluator, 30, scored(0.85))
    assert evaluator.alerts == {}


def test_factor_of_a_stream_replaces_the_default() -> None:
    """The default of StreamBitrateLow is 0.75."""
    low: dict[str, Any] = {
        "ingest_bitrate_bytes_per_second": 300_000.0,
        "expected_ingest_bitrate_bytes_per_second": 500_000.0,
    }
    evaluator = make_evaluator()
    evaluate(evaluator, 0, stream(**low, overrides=AlertOverrides({"StreamBitrateLow": 0.5})))
    assert evaluator.alerts == {}
    evaluate(evaluator, 15, stream(**low, overrides=AlertOverrides({"StreamBitrateLow": 0.61})))
    assert phases(evaluator) == {"StreamBitrateLow": Phase.PENDING}


def test_bitrate_threshold_is_in_bytes_per_second() -> None:
    evaluator = make_evaluator()
    stalled = AlertOverrides({"StreamIngestStalled": 2500.0})
    evaluate(evaluator, 0, stream(ingest_bitrate_bytes_per_second=2501.0, overrides=stalled))
    assert evaluator.alerts == {}
    evaluate(evaluator, 15, stream(ingest_bitrate_bytes_per_second=2499.0, overrides=stalled))
    assert phases(evaluator) == {"StreamIngestStalled": Phase.PENDING}


def test_overrides_of_the_upstream_apply_to_its_own_rules() -> None:
    streams = [stream(f"s{index}", status=Status.UNKNOWN, live=None) for index in range(4)]
    evaluator = make_evaluator()
    for overrides in (
        AlertOverrides(off=frozenset({"StreamUpstreamStatesUnknown"})),
        AlertOverrides({"StreamUpstreamStatesUnknown": 1.0}),
    ):
        evaluate(evaluator, 0, *streams, overrides=overrides)
        assert evaluator.alerts == {}
    evaluate(evaluator, 15, *streams, overrides=AlertOverrides({"StreamUpstreamStatesUnknown": 0.9}))
    assert phases(evaluator) == {"StreamUpstreamStatesUnknown": Phase.PENDING}


@pytest.mark.parametrize(
    ("overrides", "firing"),
    [
        (AlertOverrides(), True),
        (AlertOverrides({"StreamFlapping": 5.0}), True),
        (AlertOverrides({"StreamFlapping": 20.0}), False),
        (OFF, False),
    ],
)
def test_departed_stream_keeps_its_overrides(overrides: AlertOverrides, firing: bool) -> None:
    evaluator = make_evaluator()
    for index in range(8):
        evaluate(evaluator, 15 * index, stream(restarts=index, overrides=overrides))
    evaluate(evaluator, 120)
    alert = evaluator.alerts.get(FLAPPING)
    assert (alert is not None and alert.phase is Phase.FIRING and alert.keep_steady is None) is firing


def test_restarts_while_a_rule_is_off_count_when_it_is_on_again() -> None:
    """As in Prometheus, whose recordings know nothing of overrides."""
    evaluator = make_evaluator()
    for index in range(8):
        evaluate(evaluator, 15 * index, stream(restarts=index, overrides=OFF))
    assert evaluator.alerts == {}
    evaluate(evaluator, 120, stream(restarts=7))
    assert phases(evaluator) == {"StreamFlapping": Phase.FIRING}


@pytest.mark.parametrize(("thresholds", "text"), [({}, "at least 50%"), ({"StreamUnhealthy": 0.9}, "at least 90%")])
def test_alert_shows_the_threshold_in_force(thresholds: dict[str, Any], text: str) -> None:
    evaluator = make_evaluator()
    evaluate(evaluator, 0, scored(0.1, **thresholds))
    formatter = AlertFormatter(rules_in_force(), {})
    assert formatter.annotations(evaluator.alerts[UNHEALTHY])["expected"] == text


def test_alert_shows_the_default_again_after_the_override_has_gone() -> None:
    evaluator = make_evaluator()
    evaluate(evaluator, 0, scored(0.1, StreamUnhealthy=0.9))
    evaluate(evaluator, 15, scored(0.1))
    assert AlertFormatter(rules_in_force(), {}).annotations(evaluator.alerts[UNHEALTHY])["expected"] == "at least 50%"
