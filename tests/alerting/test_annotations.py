"""One description, two dialects: what Prometheus makes of the template is what the sidecar says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from exporter.alerting.annotations import description, description_template, format_threshold, format_value, runbook_url
from exporter.alerting.rules import RULES_BY_NAME, Unit
from exporter.alerting.rules.active_rules import ActiveRule, rules_in_force
from exporter.config.alerting import AlertingSettings
from tests.alerting.promtool import assert_tests_pass

ACTIVE = {active.rule.name: active for active in rules_in_force()}
ONE_PER_UNIT = {
    Unit.BITRATE: "StreamIngestStalled",
    Unit.RATIO: "StreamUnhealthy",
    Unit.SECONDS: "StreamJitterHigh",
    Unit.NUMBER: "StreamFrameRateLow",
    Unit.COUNT: "StreamFlapping",
}
EXOTIC = ("main", 'a "b" \\c', "{{ .Value }}", "ü%s{x=1}", "live/a b\nc")
REASONS = ((), ("verdict",), ("loss", "verdict"), ("bitrate_low", "silent", "verdict"), ("issues",))
EDGES = [0.0, 0.9999, 1.0, 59.99, 60.0, 999.96, 1000.0, 1234.5678, 3599.9, 3600.0, 86400.0, 90061.5, 1e-7, 5e9, 0.12345]

values = st.lists(
    st.floats(0, 1e15, allow_subnormal=False)
    | st.floats(0, 2)
    | st.sampled_from(EDGES)
    | st.integers(0, 10**6).map(float),
    min_size=1,
    max_size=40,
)


def quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(numbers=values)
@example(numbers=EDGES)
def test_description_equals_that_of_prometheus(numbers: list[float], tmp_path: Path) -> None:
    rules, series, checks = [], [], []
    for name in ONE_PER_UNIT.values():
        expected: list[dict[str, Any]] = []
        for index, number in enumerate(numbers):
            labels = {"platform": "storm", "upstream": f"edge{index}", "stream": EXOTIC[index % len(EXOTIC)]}
            text = ",".join(f"{label}={quoted(value)}" for label, value in labels.items())
            series.append({"series": f'shown{{rule="{name}",{text}}}', "values": repr(number)})
            reasons = REASONS[index % len(REASONS)]
            if name == "StreamUnhealthy":
                series += [
                    {"series": f'stream_health_reason{{{text},reason="{r}",instance="{i}"}}', "values": "1"}
                    for r in reversed(reasons)
                    for i in "ab"
                ]
            text = description(ACTIVE[name], labels, number, reasons)
            expected.append({"exp_labels": {"rule": name, **labels}, "exp_annotations": {"description": text}})
        template = description_template(ACTIVE[name])
        rules.append({"alert": name, "expr": f'shown{{rule="{name}"}}', "annotations": {"description": template}})
        checks.append({"eval_time": "0s", "alertname": name, "exp_alerts": expected})
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": rules}]}))
    test = {"interval": "15s", "input_series": series, "alert_rule_test": checks}
    document = {"rule_files": ["rules.yaml"], "evaluation_interval": "15s", "tests": [test]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(document, allow_unicode=True))
    assert_tests_pass(tmp_path / "test.yaml")


@pytest.mark.parametrize(
    ("unit", "value", "text"),
    [
        (Unit.BITRATE, 0.0, "0bit/s"),
        (Unit.BITRATE, 2_800_000.0, "2.8Mbit/s"),
        (Unit.BITRATE, 0.5, "500mbit/s"),
        (Unit.RATIO, 0.12345, "12.35%"),
        (Unit.SECONDS, 0.3, "300ms"),
        (Unit.SECONDS, 0.0, "0s"),
        (Unit.SECONDS, 12.5, "12.5s"),
        (Unit.SECONDS, 3725.0, "1h 2m 5s"),
        (Unit.SECONDS, 90061.0, "1d 1h 1m 1s"),
        (Unit.SECONDS, -90.0, "-1m 30s"),
        (Unit.NUMBER, 29.97, "29.97"),
        (Unit.COUNT, 12345.0, "12345"),
    ],
)
def test_value_is_formatted_with_its_unit(unit: Unit, value: float, text: str) -> None:
    assert format_value(unit, value) == text


def test_threshold_is_formatted_in_the_compared_unit() -> None:
    assert format_threshold(ACTIVE["StreamIngestStalled"]) == "1kbit/s"
    assert format_threshold(ACTIVE["StreamBitrateLow"]) == "75%"
    assert format_threshold(ACTIVE["StreamLatencyHigh"]) == "300%"
    assert format_threshold(ACTIVE["StreamFlapping"]) == "6"
    assert format_threshold(ACTIVE["StreamExpectedOffline"]) == ""


def test_missing_label_is_empty_as_in_prometheus() -> None:
    text = description(ACTIVE["StreamMultistreamTargetDown"], {"stream": "s", "upstream": "u", "platform": "p"}, 0.0)
    assert text == "s on u (p) is live, its target  is not connected."


def test_long_label_is_cut_as_in_the_exposition() -> None:
    text = description(ACTIVE["StreamError"], {"stream": "x" * 300, "upstream": "u", "platform": "p"}, 1.0)
    assert "x" * 241 not in text


def test_selector_with_formats_and_quotes_survives_the_template(tmp_path: Path) -> None:
    template = description_template(ACTIVE["StreamUnhealthy"], 'job=~"a%s|b\\\\.c"')
    rule = {"alert": "A", "expr": "shown", "annotations": {"description": template}}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": [rule]}]}))
    labels = 'platform="p",upstream="u",stream="s"'
    test = {
        "interval": "15s",
        "input_series": [
            {"series": f"shown{{{labels}}}", "values": "0.4"},
            {"series": f'stream_health_reason{{{labels},job="b.c",reason="loss"}}', "values": "1"},
            {"series": f'stream_health_reason{{{labels},job="bxc",reason="silent"}}', "values": "1"},
        ],
        "alert_rule_test": [
            {
                "eval_time": "0s",
                "alertname": "A",
                "exp_alerts": [
                    {
                        "exp_labels": {"platform": "p", "upstream": "u", "stream": "s"},
                        "exp_annotations": {"description": "s on u (p) has a health score of 40%. Reasons: loss."},
                    }
                ],
            }
        ],
    }
    document = {"rule_files": ["rules.yaml"], "evaluation_interval": "15s", "tests": [test]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(document))
    assert_tests_pass(tmp_path / "test.yaml")


def test_runbook_url_uses_the_given_base() -> None:
    rule = RULES_BY_NAME["StreamUnhealthy"]
    assert runbook_url(rule).endswith("/docs/runbook.md#streamunhealthy")
    assert runbook_url(rule, "https://wiki/streams") == "https://wiki/streams#streamunhealthy"


def test_configured_threshold_replaces_that_of_the_rule() -> None:
    settings_ = AlertingSettings.model_validate({"thresholds": {"StreamUnhealthy": {"value": 0.3, "for": "5m"}}})
    active: ActiveRule = next(a for a in rules_in_force(settings_) if a.rule.name == "StreamUnhealthy")
    assert (active.threshold, active.for_seconds) == (0.3, 300.0)
    assert active.keep_firing_seconds == active.rule.keep_firing_seconds
