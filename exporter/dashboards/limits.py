"""The numbers that the panels share with the alert rules."""

from __future__ import annotations

from collections.abc import Iterable

from exporter.alerting.rules.active_rules import ActiveRule, rules_in_force

Steps = list[dict[str, object]]
"""Grafana's thresholds: ``[{"color": ..., "value": ...}, ...]``, ascending; the first has no value."""

GOOD, WARNING, CRITICAL, NEUTRAL = "green", "orange", "red", "blue"


class Limits:
    """The thresholds of the rules that are in force, by the name of their alert."""

    def __init__(self, rules: Iterable[ActiveRule] | None = None) -> None:
        in_force = tuple(rules or rules_in_force())
        self._of = {active.rule.name: active.threshold for active in in_force}
        self.health_goal = in_force[0].slo.goal
        """An observation of health above it is a good one: what the rules on the budget of bad ones count."""

    def __getitem__(self, alert: str) -> float:
        """A rule's threshold, in the base unit of its metric or as a factor of what it is compared with."""
        threshold = self._of[alert]
        if threshold is None:
            raise ValueError(f"{alert} has no threshold")
        return threshold

    @property
    def health(self) -> Steps:
        """Of a health score."""
        return falling(warning=self["StreamDegraded"], critical=self["StreamUnhealthy"])

    @property
    def of_expected_bitrate(self) -> Steps:
        """Of the share of the expected bitrate that arrives."""
        return falling(warning=self["StreamBitrateLow"], critical=self["StreamBitrateCritical"])

    @property
    def packet_loss(self) -> Steps:
        """Of the share of lost packets."""
        return rising(warning=self["StreamPacketLossHigh"], critical=self["StreamPacketLossCritical"])

    @property
    def dropped_frames(self) -> Steps:
        """Of the share of dropped frames."""
        return rising(warning=self["StreamDroppedFramesHigh"], critical=self["StreamDroppedFramesCritical"])


def falling(*, critical: float, warning: float | None = None) -> Steps:
    """For what is worse the lower it is: critical below, good from the (warning's) threshold on."""
    steps: Steps = [{"color": CRITICAL, "value": None}]
    if warning is not None:
        steps.append({"color": WARNING, "value": critical})
    return [*steps, {"color": GOOD, "value": critical if warning is None else warning}]


def rising(*, warning: float | None = None, critical: float | None = None) -> Steps:
    """For what is worse the higher it is."""
    steps: Steps = [{"color": GOOD, "value": None}]
    if warning is not None:
        steps.append({"color": WARNING, "value": warning})
    if critical is not None:
        steps.append({"color": CRITICAL, "value": critical})
    return steps


def none() -> Steps:
    """For what is neither good nor bad."""
    return [{"color": NEUTRAL, "value": None}]
