"""What is told of an alert, in Alertmanager's terms: labels that never change, and annotations that do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from exporter.alerting.annotations import description, runbook_url, shown
from exporter.alerting.evaluator import Alert, Phase
from exporter.alerting.rule_files import static_labels
from exporter.alerting.rules.active_rules import ActiveRule
from exporter.alerting.rules.rule import Scope
from exporter.metrics.text_format import label_value
from exporter.runtime.redaction import redactor

WATCHDOG = "StreamSidecarWatchdog"
SOURCE = "sidecar"
"""The value of the label ``source``: it keeps the sidecar's alerts apart from those of Prometheus."""

ISSUES_TOLD = 5
_ISSUES_CHARACTERS = 1000

Fingerprint = tuple[tuple[str, str], ...]
"""All labels, in order: what tells one alert from another, here and in Alertmanager."""


@dataclass(frozen=True)
class AlertPayload:
    """The state of one alert, to be sent. Times are unix seconds."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts_at: float
    ends_at: float | None
    """When it was resolved; None while it is firing."""
    horizon_seconds: float
    """How long a firing alert lasts in Alertmanager when nothing more is heard of it."""

    @property
    def fingerprint(self) -> Fingerprint:
        """What the alert is told from others by."""
        return tuple(sorted(self.labels.items()))

    def wire(self, now: float, generator_url: str) -> dict[str, Any]:
        """As Alertmanager's API v2 takes it; the end of a firing alert is counted from now, however long it waited."""
        wire: dict[str, Any] = {
            "labels": self.labels,
            "annotations": self.annotations,
            "startsAt": rfc3339(self.starts_at),
            "endsAt": rfc3339(now + self.horizon_seconds if self.ends_at is None else self.ends_at),
        }
        if generator_url:
            wire["generatorURL"] = generator_url
        return wire


class AlertFormatter:
    """Says alerts with the rules that are in force."""

    def __init__(self, rules: Iterable[ActiveRule], external_labels: Mapping[str, str]) -> None:
        self._rules = {active.rule.name: active for active in rules}
        self._external_labels = external_labels

    def knows(self, alert: Alert) -> bool:
        """Whether there is a rule for this alert: one from an older memory may have lost it."""
        return alert.key.rule in self._rules

    def labels(self, alert: Alert) -> dict[str, str]:
        """The alert's labels, without empty ones: no values and no times are among them."""
        rule = self._rules[alert.key.rule].rule
        own = {"platform": alert.platform, "upstream": alert.key.upstream, "stream": alert.key.stream}
        own |= dict(zip(rule.labels, alert.key.extra, strict=False))
        return self._labels(rule.name, own)

    def annotations(self, alert: Alert) -> dict[str, str]:
        """What people read: value, reasons, and the platform's own words."""
        active = self._rules[alert.key.rule]
        annotations = {
            "summary": active.rule.summary,
            "description": description(active, self.labels(alert), alert.value, alert.reasons),
            "runbook_url": runbook_url(active.rule),
            "value": shown(active.rule.unit, alert.value),
        }
        if alert.reasons:
            annotations["reasons"] = ", ".join(sorted(alert.reasons))
        if alert.issues and active.rule.scope is Scope.STREAM:
            annotations["issues"] = _issues(alert.issues)
        return annotations

    def notice(self, alert: Alert, horizon_seconds: float) -> AlertPayload:
        """A firing or resolved alert as it is sent."""
        assert alert.fired_at is not None
        return AlertPayload(
            labels=self.labels(alert),
            annotations=self.annotations(alert),
            starts_at=alert.fired_at,
            ends_at=alert.resolved_at if alert.phase is Phase.RESOLVED else None,
            horizon_seconds=horizon_seconds,
        )

    def watchdog(self, since: float, horizon_seconds: float) -> AlertPayload:
        """The sign of life that goes out with every round."""
        rule = self._rules[WATCHDOG].rule
        texts = {"summary": rule.summary, "description": rule.description, "runbook_url": runbook_url(rule)}
        return AlertPayload(self._labels(WATCHDOG, {}), texts, since, None, horizon_seconds)

    def test(self, name: str, now: float, horizon_seconds: float) -> AlertPayload:
        """A marked alert of a rule, about an upstream and a stream called ``test``. Raises ``KeyError``."""
        rule = self._rules[name].rule
        own = {"test": "true"}
        if rule.scope is not Scope.EXPORTER:
            own |= {"platform": "test", "upstream": "test"}
        if rule.scope is Scope.STREAM:
            own["stream"] = "test"
        texts = {
            "summary": f"Test: {rule.summary}",
            "description": "A test of the way to the pager, sent by hand. Nothing is wrong.",
            "runbook_url": runbook_url(rule),
        }
        return AlertPayload(self._labels(name, own), texts, now, None, horizon_seconds)

    def _labels(self, name: str, own: Mapping[str, str]) -> dict[str, str]:
        rule = self._rules[name].rule
        labels = {**self._external_labels, "alertname": name, **static_labels(rule), "source": SOURCE}
        labels |= {label: value for label, value in own.items() if value}
        return {label: label_value(value) for label, value in sorted(labels.items()) if value}


def rfc3339(at: float) -> str:
    """Unix seconds as Alertmanager reads times."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _issues(issues: tuple[str, ...]) -> str:
    """The first issues in the platform's words, without what may be a secret of ours, and not without end."""
    told = [" ".join(redactor.scrub(text).split()) for text in issues[:ISSUES_TOLD]]
    if len(issues) > ISSUES_TOLD:
        told.append(f"and {len(issues) - ISSUES_TOLD} more")
    text = "; ".join(told).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text if len(text) <= _ISSUES_CHARACTERS else text[: _ISSUES_CHARACTERS - 1] + "…"
