"""Alerts in Alertmanager's format: labels, which never change, and annotations, which may."""

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
    format_time,
    page_url,
    runbook_url,
    unnamed_summary,
)
from exporter.alerting.evaluator import Alert, Phase
from exporter.alerting.rules.active_rules import ActiveRule, Grade
from exporter.alerting.rules.rule import Rule, Scope
from exporter.metrics.text_format import label_value
from exporter.model import Labels, Maintenance
from exporter.runtime.redaction import redactor

WATCHDOG = "StreamSidecarWatchdog"
SOURCE = "sidecar"
"""Value of the label ``source``, which distinguishes the sidecar's alerts from those of Prometheus."""

SENT_AT = "sent_at"
"""Annotation of the watchdog: when it was sent, on the exporter's clock."""

MAX_ISSUES = 5
_MAX_ISSUES_CHARACTERS = 1000
NO_TIME = "0001-01-01T00:00:00Z"
"""Go's zero time, which Prometheus and Alertmanager use for unknown times, such as the end of a firing alert."""
_FNV_OFFSET, _FNV_PRIME, _FNV_MASK, _FNV_SEPARATOR = 0xCBF29CE484222325, 0x100000001B3, 2**64 - 1, 0xFF


@dataclass(frozen=True)
class AlertPayload:
    """One alert, ready to be sent. Times are in Unix seconds unless stated otherwise."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    starts_at: float
    ends_at: float | None
    """When it was resolved; None while it is firing."""
    horizon_seconds: float
    """Time after which Alertmanager ends a firing alert that is not repeated."""
    generator_url: str = ""
    """URL of the exporter's page about the stream or upstream."""
    lapses_at: float | None = None
    """When Alertmanager ends a resolved alert by itself, if no resolve is sent."""

    def to_json(self, now: float, receiver_now: float | None = None, *, min_horizon: float = 0.0) -> dict[str, Any]:
        """Return the JSON for Alertmanager's API v2. A firing alert ends one horizon after ``now`` unless repeated.

        ``now``: Unix seconds; ``receiver_now``: the same moment on Alertmanager's clock, if known; ``min_horizon``:
        the minimum horizon of a firing alert.

        A wrong clock on either side may prolong an alert, but never ends one: a firing alert ends one horizon after the
        later of the two clocks, and the end of a resolved alert is in the past on both. Alertmanager refuses an alert
        that ends before it starts, which could happen after the wall clock was set back.
        """
        clocks = (now, now if receiver_now is None else receiver_now)
        starts_at = self.starts_at
        if self.ends_at is None:
            ends_at = max(*clocks, starts_at) + max(self.horizon_seconds, min_horizon)
        elif self.lapses_at is not None:
            ends_at = max(starts_at, self.lapses_at + max(clocks) - now)
        else:
            ends_at = min(*clocks, self.ends_at)
            starts_at = min(starts_at, ends_at)
        return self._json({"startsAt": rfc3339(starts_at), "endsAt": rfc3339(ends_at)})

    def to_json_without_times(self) -> dict[str, Any]:
        """Return the JSON without times, so that Alertmanager sets them from its clock and ``resolve_timeout``."""
        return self._json({})

    def to_webhook_json(self) -> dict[str, Any]:
        """Return the JSON of an alert in Alertmanager's webhook format."""
        is_resolved = self.ends_at is not None
        starts_at = self.starts_at if self.ends_at is None else min(self.starts_at, self.ends_at)
        return {
            "status": "resolved" if is_resolved else "firing",
            "labels": self.labels,
            "annotations": self.annotations,
            "startsAt": rfc3339(starts_at),
            "endsAt": NO_TIME if self.ends_at is None else rfc3339(self.ends_at),
            "generatorURL": self.generator_url,
            "fingerprint": fingerprint(self.labels),
        }

    def _json(self, times: Mapping[str, str]) -> dict[str, Any]:
        json = {"labels": self.labels, "annotations": self.annotations, **times}
        return {**json, "generatorURL": self.generator_url} if self.generator_url else json


class AlertFormatter:
    """Builds payloads for the rules in force."""

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
        self._external_labels = dict(external_labels)
        self._page = page
        self._runbook = runbook

    def knows(self, alert: Alert) -> bool:
        """Return whether the alert's rule and severity exist; a state file of another version may have others."""
        return self._grade(alert) is not None

    def labels(self, alert: Alert) -> dict[str, str]:
        """Return the alert's non-empty labels, none of which contains a value or a time."""
        rule = self._rules[alert.key.rule].rule
        key = alert.key
        own = {"platform": alert.platform, "upstream": key.upstream, "stream": key.stream, "group": key.group}
        own |= dict(zip(rule.labels, alert.key.extra, strict=False))
        return self._labels(rule, own, alert.key.labels) | {"severity": alert.key.severity}

    def annotations(self, alert: Alert) -> dict[str, str]:
        """Return the alert's annotations: value, reasons, and the platform's own messages."""
        active, grade = self._rules[alert.key.rule], self._grade(alert)
        assert grade is not None, "an alert has a grade of its rule"
        facts = AlertFacts(
            value=alert.value,
            state=alert.state,
            unplayable=alert.unplayable,
            reference=alert.reference,
            threshold=alert.threshold,
            since=alert.active_at,
            reasons=alert.reasons,
            last_bitrate=alert.last_bitrate,
            last_viewers=alert.last_viewers,
            needed=alert.needed,
            off_air=alert.off_air,
            unknown=alert.unknown,
        )
        annotations = AnnotationTexts(active, grade, self.labels(alert), facts).render()
        if alert.issues and active.rule.scope is Scope.STREAM:
            annotations["issues"] = _format_issues(alert.issues)
        if alert.maintenance is not None:
            annotations["maintenance"] = _format_maintenance(alert.maintenance)
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
            generator_url=self._page_url(alert) if self._page else "",
        )

    def watchdog_payload(self, since: float, now: float, horizon_seconds: float) -> AlertPayload:
        """Build the watchdog alert, which is sent in every round. ``since``, ``now``: Unix seconds."""
        rule = self._rules[WATCHDOG].rule
        annotations = {
            "summary": rule.summary,
            "description": rule.description,
            "runbook_url": runbook_url(rule, self._runbook),
            SENT_AT: rfc3339(now),
        }
        return AlertPayload(self._labels(rule, {}), annotations, since, None, horizon_seconds, generator_url=self._page)

    def test_payload(self, name: str, now: float, horizon_seconds: float) -> AlertPayload:
        """Build a test alert of a rule, about an upstream, stream or group named ``test``. Raises ``KeyError``."""
        active = self._rules[name]
        rule = active.rule
        own = {"test": "true"}
        if rule.scope in (Scope.UPSTREAM, Scope.STREAM):
            own |= {"platform": "test", "upstream": "test"}
        if rule.scope in (Scope.STREAM, Scope.GROUP):
            own[rule.scope.value] = "test"
        annotations = {
            "summary": f"Test: {unnamed_summary(active)}",
            "description": "Test alert sent by hand. Nothing is wrong.",
            "runbook_url": runbook_url(rule, self._runbook),
        }
        labels = self._labels(rule, own) | {"severity": active.grades[0].severity.value}
        return AlertPayload(labels, annotations, now, None, horizon_seconds, generator_url=self._page)

    def _grade(self, alert: Alert) -> Grade | None:
        active = self._rules.get(alert.key.rule)
        grades = active.grades if active is not None else ()
        return next((grade for grade in grades if grade.severity.value == alert.key.severity), None)

    def _page_url(self, alert: Alert) -> str:
        stream = alert.key.stream or self.labels(alert).get("stream", "")
        return page_url(self._page, alert.key.upstream, stream)

    def _labels(self, rule: Rule, own: Mapping[str, str], configured: Labels = ()) -> dict[str, str]:
        """Return all labels. As in Prometheus, an alert's own labels override external ones of the same name."""
        labels = self._external_labels | dict(configured)
        labels |= {"alertname": rule.name, **rule.static_labels, "source": SOURCE}
        labels |= {label: value for label, value in own.items() if value}
        return {label: label_value(value) for label, value in sorted(labels.items()) if value}


def fingerprint(labels: Mapping[str, str]) -> str:
    """Return Alertmanager's fingerprint of a label set: 64-bit FNV-1a over its sorted names and values.

    Source: https://github.com/prometheus/common/blob/main/model/signature.go.
    """
    digest = _FNV_OFFSET
    for text in (text for pair in sorted(labels.items()) for text in pair):
        for byte in (*text.encode(), _FNV_SEPARATOR):
            digest = ((digest ^ byte) * _FNV_PRIME) & _FNV_MASK
    return f"{digest:016x}"


def rfc3339(at: float) -> str:
    """Format Unix seconds with milliseconds as Prometheus and Alertmanager do: without trailing zeros."""
    text = datetime.fromtimestamp(at, UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")
    return text.rstrip("0").removesuffix(".") + "Z"


def _format_maintenance(maintenance: Maintenance) -> str:
    """Return when maintenance ends, and its reason."""
    reason = " ".join(maintenance.reason.encode("utf-16", "surrogatepass").decode("utf-16", "replace").split())
    return ": ".join(filter(None, (f"until {format_time(maintenance.until)}", reason)))


def _format_issues(issues: tuple[str, ...]) -> str:
    """Join the first issues reported by the platform, without our secrets and up to a maximum length."""
    texts = [" ".join(redactor.scrub(text).split()) for text in issues[:MAX_ISSUES]]
    if len(issues) > MAX_ISSUES:
        texts.append(f"and {len(issues) - MAX_ISSUES} more")
    text = "; ".join(texts).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text if len(text) <= _MAX_ISSUES_CHARACTERS else text[: _MAX_ISSUES_CHARACTERS - 1] + "…"
