"""Alerts as Alertmanager receives them: labels that never change, and annotations that do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from exporter.alerting import DEFAULT_RUNBOOK_URL
from exporter.alerting.annotations import (
    AlertFacts,
    AnnotationTexts,
    format_clock,
    page_url,
    runbook_url,
    unnamed_summary,
)
from exporter.alerting.evaluator import Alert, Phase
from exporter.alerting.rules.active_rules import ActiveRule, Grade
from exporter.alerting.rules.rule import Rule, Scope
from exporter.metrics.text_format import label_value
from exporter.runtime.redaction import redactor

WATCHDOG = "StreamSidecarWatchdog"
SOURCE = "sidecar"
"""Value of the label ``source``, which distinguishes the sidecar's alerts from those of Prometheus."""

MAX_ISSUES = 5
_MAX_ISSUES_CHARACTERS = 1000

Fingerprint = tuple[tuple[str, str], ...]
"""All labels in order: the identity of an alert, here and in Alertmanager."""


@dataclass(frozen=True)
class AlertPayload:
    """The state of one alert, to be sent. Times are in Unix seconds unless stated otherwise."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts_at: float
    ends_at: float | None
    """When it was resolved; None while it is firing."""
    horizon_seconds: float
    """How long a firing alert lasts in Alertmanager if it is not sent again."""
    resolved_steady: float | None = None
    """When it was resolved, on the steady clock."""
    generator_url: str = ""
    """The page about what the alert is about."""

    @property
    def fingerprint(self) -> Fingerprint:
        """Identity of the alert."""
        return tuple(sorted(self.labels.items()))

    def to_json(self, now: float) -> dict[str, Any]:
        """Return the JSON of Alertmanager's API v2. A firing alert ends a horizon from now, however long it waited.

        ``now``: Unix seconds. Since the alert started, the wall clock may have been set back. Alertmanager refuses an
        alert that ends before it starts, and considers one that ends in the future as firing.
        """
        if self.ends_at is None:
            starts_at, ends_at = self.starts_at, max(now, self.starts_at) + self.horizon_seconds
        else:
            ends_at = min(now, self.ends_at)
            starts_at = min(self.starts_at, ends_at)
        json: dict[str, Any] = {
            "labels": self.labels,
            "annotations": self.annotations,
            "startsAt": rfc3339(starts_at),
            "endsAt": rfc3339(ends_at),
        }
        if self.generator_url:
            json["generatorURL"] = self.generator_url
        return json


class AlertFormatter:
    """Builds payloads with the rules that are in force."""

    def __init__(
        self,
        rules: Iterable[ActiveRule],
        external_labels: Mapping[str, str],
        *,
        page: str = "",
        runbook: str = DEFAULT_RUNBOOK_URL,
    ) -> None:
        """``page``: URL of the exporter's page, with a trailing slash, or empty. ``runbook``: URL of the runbook."""
        self._rules = {active.rule.name: active for active in rules}
        self._external_labels = external_labels
        self._page = page
        self._runbook = runbook

    def knows(self, alert: Alert) -> bool:
        """Whether the alert's rule exists: a state file of another version may name one that does not."""
        return self._grade(alert) is not None

    def labels(self, alert: Alert) -> dict[str, str]:
        """Return the alert's non-empty labels; none of them is a value or a time."""
        rule = self._rules[alert.key.rule].rule
        own = {"platform": alert.platform, "upstream": alert.key.upstream, "stream": alert.key.stream}
        own |= dict(zip(rule.labels, alert.key.extra, strict=False))
        return self._labels(rule, own) | {"severity": alert.key.severity}

    def annotations(self, alert: Alert) -> dict[str, str]:
        """Return the texts for people: value, reasons, and the platform's own words."""
        active, grade = self._rules[alert.key.rule], self._grade(alert)
        assert grade is not None, "an alert has a grade of its rule"
        facts = AlertFacts(
            value=alert.value,
            state=alert.state,
            reference=alert.reference,
            since=alert.active_at,
            reasons=alert.reasons,
            last_bitrate=alert.last_bitrate,
            last_viewers=alert.last_viewers,
        )
        annotations = AnnotationTexts(active, grade, self.labels(alert), facts).render()
        if alert.issues and active.rule.scope is Scope.STREAM:
            annotations["issues"] = _format_issues(alert.issues)
        if alert.phase is Phase.FIRING and alert.keep_since is not None:
            resolves_at = alert.keep_since + active.keep_firing_seconds
            annotations["cleared"] = f"condition cleared, resolves at {format_clock(resolves_at)}"
        annotations["runbook_url"] = runbook_url(active.rule, self._runbook)
        if self._page:
            annotations["page_url"] = self._page_url(alert)
        return annotations

    def payload(self, alert: Alert, horizon_seconds: float) -> AlertPayload:
        """Build the payload of a firing or resolved alert."""
        assert alert.fired_at is not None
        return AlertPayload(
            labels=self.labels(alert),
            annotations=self.annotations(alert),
            starts_at=alert.fired_at,
            ends_at=alert.resolved_at if alert.phase is Phase.RESOLVED else None,
            horizon_seconds=horizon_seconds,
            resolved_steady=alert.resolved_steady,
            generator_url=self._page_url(alert) if self._page else "",
        )

    def watchdog_payload(self, since: float, horizon_seconds: float) -> AlertPayload:
        """Build the sign of life that is sent with every round."""
        rule = self._rules[WATCHDOG].rule
        annotations = {
            "summary": rule.summary,
            "description": rule.description,
            "runbook_url": runbook_url(rule, self._runbook),
        }
        return AlertPayload(self._labels(rule, {}), annotations, since, None, horizon_seconds, generator_url=self._page)

    def test_payload(self, name: str, now: float, horizon_seconds: float) -> AlertPayload:
        """Build a marked alert of a rule, about an upstream and a stream called ``test``. Raises ``KeyError``."""
        active = self._rules[name]
        rule = active.rule
        own = {"test": "true"}
        if rule.scope is not Scope.EXPORTER:
            own |= {"platform": "test", "upstream": "test"}
        if rule.scope is Scope.STREAM:
            own["stream"] = "test"
        annotations = {
            "summary": f"Test: {unnamed_summary(active)}",
            "description": "A test of the path to the pager, sent by hand. Nothing is wrong.",
            "runbook_url": runbook_url(rule, self._runbook),
        }
        labels = self._labels(rule, own) | {"severity": active.grades[0].severity.value}
        return AlertPayload(labels, annotations, now, None, horizon_seconds, generator_url=self._page)

    def _grade(self, alert: Alert) -> Grade | None:
        active = self._rules.get(alert.key.rule)
        grades = active.grades if active is not None else ()
        return next((grade for grade in grades if grade.severity.value == alert.key.severity), None)

    def _page_url(self, alert: Alert) -> str:
        return page_url(self._page, alert.key.upstream, alert.key.stream)

    def _labels(self, rule: Rule, own: Mapping[str, str]) -> dict[str, str]:
        labels = {**self._external_labels, "alertname": rule.name, **rule.static_labels, "source": SOURCE}
        labels |= {label: value for label, value in own.items() if value}
        return {label: label_value(value) for label, value in sorted(labels.items()) if value}


def rfc3339(at: float) -> str:
    """Format Unix seconds as Alertmanager reads times."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _format_issues(issues: tuple[str, ...]) -> str:
    """Join the first issues, in the platform's words, without our secrets and up to a maximum length."""
    texts = [" ".join(redactor.scrub(text).split()) for text in issues[:MAX_ISSUES]]
    if len(issues) > MAX_ISSUES:
        texts.append(f"and {len(issues) - MAX_ISSUES} more")
    text = "; ".join(texts).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text if len(text) <= _MAX_ISSUES_CHARACTERS else text[: _MAX_ISSUES_CHARACTERS - 1] + "…"
