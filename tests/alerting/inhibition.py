"""Which firing alerts notify anyone, with the sample configuration of Alertmanager."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from exporter.config.types import parse_duration

SAMPLE = Path(__file__).parents[2] / "alerts" / "alertmanager.example.yaml"
_MATCHER = re.compile(r'\s*(\w+)\s*(=~|!~|!=|=)\s*"(.*)"\s*')
Labels = Mapping[str, str]
Alert = tuple[tuple[str, str], ...]
"""Sorted labels of an alert."""


@cache
def _sample() -> Any:
    return yaml.safe_load(SAMPLE.read_text(encoding="utf-8"))


GROUP_WAIT_SECONDS: Final = parse_duration(_sample()["route"]["group_wait"])


def not_inhibited(alerts: Iterable[Labels]) -> list[Labels]:
    """Return the alerts that no other of these firing alerts inhibits."""
    found = list(alerts)
    return [
        alert for alert in found if not any(_is_inhibited(alert, found, rule) for rule in _sample()["inhibit_rules"])
    ]


def _is_inhibited(target: Labels, alerts: Iterable[Labels], rule: Mapping[str, Any]) -> bool:
    if not _matches(rule["target_matchers"], target):
        return False
    # an alert that matches both sides is not inhibited by another one that does
    is_source = _matches(rule["source_matchers"], target)
    return any(
        _matches(rule["source_matchers"], source)
        and not (is_source and _matches(rule["target_matchers"], source))
        and all(source.get(label, "") == target.get(label, "") for label in rule["equal"])
        for source in alerts
    )


def _matches(matchers: Iterable[str], labels: Labels) -> bool:
    return all(_matches_one(matcher, labels) for matcher in matchers)


def _matches_one(matcher: str, labels: Labels) -> bool:
    parsed = _MATCHER.fullmatch(matcher)
    assert parsed is not None, matcher
    name, operator, value = parsed.groups()
    found = labels.get(name, "")
    is_equal = re.fullmatch(value, found) is not None if operator.endswith("~") else found == value
    return is_equal is not operator.startswith("!")


class Notifications:
    """Collects the alerts that fire, without being inhibited, for as long as Alertmanager waits for others."""

    def __init__(self) -> None:
        self.since: dict[Alert, float] = {}
        """When each alert that was sent began to fire, in seconds."""
        self._waiting: dict[Alert, float] = {}

    def observe(self, firing: Iterable[Labels], now: float) -> list[Alert]:
        """Take the firing alerts; return those that are now sent for the first time."""
        alerts = {tuple(sorted(labels.items())) for labels in not_inhibited(firing)}
        self._waiting = {alert: self._waiting.get(alert, now) for alert in alerts}
        new = [
            alert
            for alert, since in self._waiting.items()
            if now - since >= GROUP_WAIT_SECONDS and alert not in self.since
        ]
        self.since |= {alert: self._waiting[alert] for alert in new}
        return new
