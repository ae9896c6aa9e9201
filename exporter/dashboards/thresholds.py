"""Colours, and the thresholds that panels share with the alert rules."""

from __future__ import annotations

from collections.abc import Iterable

from exporter.alerting.rules.active_rules import ActiveRule, rules_in_force
from exporter.model import Status

Steps = list[dict[str, object]]
"""Thresholds as in Grafana's JSON: ``[{"color": ..., "value": ...}, ...]``, ascending; the first has no value."""

GOOD, WARNING, CRITICAL, NEUTRAL = "green", "orange", "red", "blue"

STATUS_COLORS = {
    Status.IDLE: "#6e7687",
    Status.CONNECTING: "blue",
    Status.LIVE: "green",
    Status.PAUSED: "purple",
    Status.DEGRADED: "orange",
    Status.ENDED: "#9fa7b3",
    Status.ERROR: "red",
    Status.UNKNOWN: "#4b5160",
}


class RuleThresholds:
    """Thresholds of the active rules, by alert name."""

    def __init__(self, rules: Iterable[ActiveRule] | None = None) -> None:
        rules = tuple(rules or rules_in_force())
        self._thresholds = {active.rule.name: active.threshold for active in rules}
        self._critical = {active.rule.name: active.own_grades[0].threshold for active in rules}
        self.health_goal = rules[0].slo.goal
        """Health score above which the health SLO counts an observation as good."""

    def __getitem__(self, alert: str) -> float:
        """Return a rule's threshold, in the base unit of its metric or as a factor of the value it is compared with."""
        threshold = self._thresholds[alert]
        if threshold is None:
            raise ValueError(f"{alert} has no threshold")
        return threshold

    def critical(self, alert: str) -> float:
        """Return the threshold of a rule's critical grade."""
        threshold = self._critical[alert]
        if threshold is None:
            raise ValueError(f"{alert} has no threshold")
        return threshold

    @property
    def media_rate(self) -> Steps:
        """Steps for seconds of new media per second."""
        return falling(warning=self["StreamMediaShortage"], critical=self.critical("StreamMediaShortage"))

    @property
    def download_ratio(self) -> Steps:
        """Steps for the time that segments take, as a multiple of their duration."""
        return rising(warning=self["StreamDeliverySlow"], critical=self.critical("StreamDeliverySlow"))

    @property
    def health(self) -> Steps:
        """Steps for a health score."""
        return falling(warning=self["StreamDegraded"], critical=self["StreamUnhealthy"])

    @property
    def expected_bitrate_share(self) -> Steps:
        """Steps for the ingest bitrate as a share of the expected bitrate."""
        return falling(warning=self["StreamBitrateLow"], critical=self["StreamBitrateCritical"])

    @property
    def packet_loss(self) -> Steps:
        """Steps for packet loss."""
        return rising(warning=self["StreamPacketLossHigh"], critical=self["StreamPacketLossCritical"])

    @property
    def dropped_frames(self) -> Steps:
        """Steps for the share of dropped frames."""
        return rising(warning=self["StreamDroppedFramesHigh"], critical=self["StreamDroppedFramesCritical"])


def falling(*, critical: float, warning: float | None = None) -> Steps:
    """Return steps for values where lower is worse."""
    steps: Steps = [{"color": CRITICAL, "value": None}]
    if warning is not None:
        steps.append({"color": WARNING, "value": critical})
    return [*steps, {"color": GOOD, "value": critical if warning is None else warning}]


def rising(*, warning: float | None = None, critical: float | None = None) -> Steps:
    """Return steps for values where higher is worse."""
    steps: Steps = [{"color": GOOD, "value": None}]
    if warning is not None:
        steps.append({"color": WARNING, "value": warning})
    if critical is not None:
        steps.append({"color": CRITICAL, "value": critical})
    return steps


def neutral() -> Steps:
    """Return a single step for values that are neither good nor bad."""
    return [{"color": NEUTRAL, "value": None}]
