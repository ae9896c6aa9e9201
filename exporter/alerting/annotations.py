"""Annotations of an alert, from one set of templates: Go templates for Prometheus, plain text for the sidecar.

The sidecar formats numbers exactly as Prometheus' template functions do:
https://prometheus.io/docs/prometheus/latest/configuration/template_reference/
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlencode

from exporter.alerting import DEFAULT_RUNBOOK_URL
from exporter.alerting.promql import Dialect, PromQL, number
from exporter.alerting.rules.active_rules import ActiveRule, Grade
from exporter.alerting.rules.rule import Rule, Scope, Unit
from exporter.metrics.text_format import label_value
from exporter.model import HealthReason

REASON_WORDS: Mapping[HealthReason, str] = {
    HealthReason.SILENT: "no media arrives",
    HealthReason.VERDICT: "the platform reports it as unhealthy",
    HealthReason.TRANSCODE_SLOW: "transcoding is slower than real time",
    HealthReason.LOSS: "packets are lost",
    HealthReason.BITRATE_LOW: "bitrate is below the expected one",
    HealthReason.FRAME_RATE_LOW: "frame rate is below the expected one",
    HealthReason.ISSUES: "the platform reports issues",
}
"""The reasons for a low health score in words, worst first."""

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_LAST_KNOWN_WINDOW = "{6h}"
"""How far Prometheus looks back for the last known figures."""
_GO_FORMATS = {
    Unit.BITRATE: "{{ %s | humanize }}bit/s",
    Unit.RATIO: "{{ %s | humanizePercentage }}",
    Unit.SECONDS: "{{ %s | humanizeDuration }}",
    Unit.NUMBER: '{{ printf "%%.4g" %s }}',
    Unit.COUNT: '{{ printf "%%.0f" %s }}',
}
_GO_VALUE = "(. | first | value)"
_SUBJECTS = {
    Scope.STREAM: "{stream} on {upstream} ({platform})",
    Scope.UPSTREAM: "{upstream} ({platform})",
    Scope.EXPORTER: "the stream exporter",
}
_UNNAMED_SUBJECTS = {Scope.STREAM: "a stream", Scope.UPSTREAM: "an upstream", Scope.EXPORTER: "the stream exporter"}
_SCOPE_LABELS = {Scope.STREAM: ("platform", "upstream", "stream"), Scope.UPSTREAM: ("platform", "upstream")}


def runbook_url(rule: Rule, base: str = DEFAULT_RUNBOOK_URL) -> str:
    """Return the link to the rule's section of the runbook."""
    return f"{base}#{rule.name.lower()}"


def page_url(base: str, upstream: str, stream: str = "") -> str:
    """Return the link to a stream's page, or to the whole page for an upstream. ``base`` ends with a slash."""
    if not stream:
        return base
    query = {"upstream": label_value(upstream), "stream": label_value(stream)}
    return f"{base}streams?{urlencode(query)}"


def unnamed_summary(active: ActiveRule) -> str:
    """Return the rule's summary about any stream or upstream, for lists of rules."""
    words = {"subject": _UNNAMED_SUBJECTS[active.rule.scope]}
    summary = active.rule.summary.replace(" at {instance}", "").replace(" {target}", "")
    text = _PLACEHOLDER.sub(
        lambda match: words.get(match[1]) or _rule_text(active, active.grades[-1], match[1]) or match[0], summary
    )
    return text[0].upper() + text[1:]


class _AnnotationWriter(ABC):
    """The annotations that Prometheus and the sidecar share; each fills in what is known of an alert in its own way."""

    def __init__(self, active: ActiveRule, grade: Grade) -> None:
        self._active = active
        self._rule = active.rule
        self._grade = grade

    def render(self) -> dict[str, str]:
        """Return the annotations, without those that are empty and without links."""
        rule = self._rule
        annotations = {
            "summary": self._fill(rule.summary),
            "description": self._fill(rule.description),
            "value": self._value(),
            "expected": self._fill(rule.expected),
            "since": self._since(),
        }
        if rule.scope is Scope.STREAM:
            annotations |= {"last_known": self._last_known(), "reasons": self._reasons()}
        return {name: text for name, text in annotations.items() if text}

    def _fill(self, template: str) -> str:
        def fill_placeholder(match: re.Match[str]) -> str:
            match match[1]:
                case "subject":
                    return self._fill(_SUBJECTS[self._rule.scope])
                case "value":
                    return self._value()
                case "expected":
                    return self._fill(self._rule.expected)
                case "reference":
                    return self._reference()
            text = _rule_text(self._active, self._grade, match[1])
            return self._label(match[1]) if text is None else text

        return _PLACEHOLDER.sub(fill_placeholder, template)

    @abstractmethod
    def _value(self) -> str:
        """Return the value, the stream's status, or why the upstream fails."""

    @abstractmethod
    def _reference(self) -> str:
        """Return the value of the series that the value is compared with."""

    @abstractmethod
    def _label(self, name: str) -> str:
        """Return the value of one of the alert's labels."""

    @abstractmethod
    def _since(self) -> str:
        """Return since when the condition has held."""

    @abstractmethod
    def _last_known(self) -> str:
        """Return the stream's last known bitrate and viewers."""

    @abstractmethod
    def _reasons(self) -> str:
        """Return the reasons for a low health score in words, worst first."""


class AnnotationTemplates(_AnnotationWriter):
    """Writes the annotations of one severity of a rule as Go templates for a rule file."""

    def __init__(self, active: ActiveRule, grade: Grade, dialect: Dialect) -> None:
        super().__init__(active, grade)
        self._dialect = dialect
        self._labels = (*_SCOPE_LABELS.get(active.rule.scope, ()), *active.rule.labels)

    def render(self) -> dict[str, str]:
        """Return the annotations with their links, without those that the rule does not have."""
        rule = self._rule
        annotations = super().render() | {"runbook_url": runbook_url(rule, self._dialect.runbook)}
        if self._dialect.page and rule.scope is not Scope.EXPORTER:
            query = "streams?upstream={{ urlquery $labels.upstream }}&stream={{ urlquery $labels.stream }}"
            annotations["page_url"] = self._dialect.page + (query if rule.scope is Scope.STREAM else "")
        return annotations

    def _label(self, name: str) -> str:
        return f"{{{{ $labels.{name} }}}}"

    def _value(self) -> str:
        match self._rule.unit:
            case Unit.FLAG:
                return ""
            case Unit.STATUS:
                return f'{{{{ with {self._query("stream_status")} }}}}{{{{ . | first | label "status" }}}}{{{{ end }}}}'
            case Unit.FAILURE:
                query = self._query("stream_upstream_failing")
                return f'{{{{ with {query} }}}}{{{{ . | first | label "reason" }}}}{{{{ end }}}}'
        return _GO_FORMATS[self._rule.unit] % "$value"

    def _reference(self) -> str:
        reference = self._rule.reference
        assert reference is not None, "only a rule that compares with a series names it"
        query = self._query(reference.family, f"{number(reference.scale)} * max(last_over_time(%s[{{window}}]))")
        return f"{{{{ with {query} }}}}{_GO_FORMATS[self._rule.unit] % _GO_VALUE}{{{{ end }}}}"

    def _since(self) -> str:
        if not self._labels:
            return ""
        matchers = f'alertname="{self._rule.name}",severity="{self._grade.severity}"'
        query = self._query("ALERTS_FOR_STATE", "max(%s)", matchers=matchers)
        moment = f'reReplaceAll "([.][0-9]+)? [+]0000" "" ({_GO_VALUE} | humanizeTimestamp)'
        return f"{{{{ with {query} }}}}{{{{ {moment} }}}}{{{{ end }}}}"

    def _last_known(self) -> str:
        last = f"max(last_over_time(%s[{_LAST_KNOWN_WINDOW}]))"
        bitrate = self._query("stream_ingest_bitrate_bytes_per_second", f"8 * {last}")
        viewers = self._query("stream_viewers", last)
        return (
            '{{ $sep := "" }}'
            f'{{{{ with {bitrate} }}}}{_GO_FORMATS[Unit.BITRATE] % _GO_VALUE}{{{{ $sep = ", " }}}}{{{{ end }}}}'
            f"{{{{ with {viewers} }}}}{{{{ $sep }}}}{_GO_FORMATS[Unit.COUNT] % _GO_VALUE} viewers{{{{ end }}}}"
        )

    def _reasons(self) -> str:
        each = "".join(
            f'{{{{ range $samples }}}}{{{{ if eq .Labels.reason "{reason.value}" }}}}'
            f'{{{{ $sep }}}}{words}{{{{ $sep = ", " }}}}{{{{ end }}}}{{{{ end }}}}'
            for reason, words in REASON_WORDS.items()
        )
        query = self._query("stream_health_reason", "max by (reason) (%s)")
        return f'{{{{ $sep := "" }}}}{{{{ with $samples := {query} }}}}{each}{{{{ end }}}}'

    def _query(self, family: str, expression: str = "%s", *, matchers: str | None = None) -> str:
        """Return a template's query of the series of the alert's own labels. ``expression``: what to do with it."""
        own = self._dialect.selector if matchers is None else matchers
        labels = self._labels if matchers is not None else _SCOPE_LABELS[self._rule.scope]
        selector = ",".join(part for part in (own.replace("%", "%%"), *(f"{label}=%q" for label in labels)) if part)
        filled = PromQL(self._dialect).fill_template(expression, self._active.slo) % f"{family}{{{selector}}}"
        text = filled.replace("\\", "\\\\").replace('"', '\\"')
        return f'query (printf "{text}" {" ".join(f"$labels.{label}" for label in labels)})'


@dataclass(frozen=True, kw_only=True)
class AlertFacts:
    """The facts about one alert that its annotations tell. None or empty: not known."""

    value: float
    state: str = ""
    """The stream's status, or why the upstream fails."""
    reference: float | None = None
    """The value of the series that the value is compared with, scaled."""
    since: float | None = None
    """Unix seconds since when the condition has held."""
    reasons: Iterable[str] = ()
    last_bitrate: float | None = None
    """Bytes per second."""
    last_viewers: int | None = None


class AnnotationTexts(_AnnotationWriter):
    """Writes the annotations of one alert, as Prometheus renders them from the templates."""

    def __init__(self, active: ActiveRule, grade: Grade, labels: Mapping[str, str], facts: AlertFacts) -> None:
        super().__init__(active, grade)
        self._labels = labels
        self._facts = facts

    def _label(self, name: str) -> str:
        return label_value(self._labels.get(name, ""))

    def _value(self) -> str:
        unit = self._rule.unit
        if unit in (Unit.STATUS, Unit.FAILURE):
            return self._facts.state
        return "" if unit is Unit.FLAG else format_value(unit, self._facts.value)

    def _last_known(self) -> str:
        bitrate, viewers = self._facts.last_bitrate, self._facts.last_viewers
        parts = [] if bitrate is None else [format_value(Unit.BITRATE, 8 * bitrate)]
        return ", ".join(parts if viewers is None else [*parts, f"{viewers:.0f} viewers"])

    def _reference(self) -> str:
        reference = self._facts.reference
        return "" if reference is None else format_value(self._rule.unit, reference)

    def _since(self) -> str:
        return "" if self._facts.since is None else format_time(self._facts.since)

    def _reasons(self) -> str:
        known = set(self._facts.reasons)
        return ", ".join(words for reason, words in REASON_WORDS.items() if reason.value in known)


def format_time(at: float) -> str:
    """Format Unix seconds as UTC, in whole seconds: ``2026-11-30 03:14:15 UTC``."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def format_clock(at: float) -> str:
    """Format Unix seconds as the time of day: ``03:14:15 UTC``."""
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S UTC")


def format_value(unit: Unit, value: float) -> str:
    """Format a value for a description."""
    return _VALUE_FORMATS[unit](value)


def format_threshold(active: ActiveRule, grade: Grade | None = None) -> str:
    """Format the threshold of a grade for a description, by default of the rule's own severity; empty without one."""
    limit = active.limit_of(grade or active.grades[-1])
    if limit is None:
        return ""
    unit = active.rule.threshold_unit or active.rule.unit
    return number(limit) if unit in (Unit.NUMBER, Unit.COUNT) else format_value(unit, limit)


def _rule_text(active: ActiveRule, grade: Grade, name: str) -> str | None:
    """Return the text of a placeholder that does not depend on an alert; None if it names a label."""
    match name:
        case "threshold":
            return format_threshold(active, grade)
        case "goal":
            return format_value(Unit.RATIO, active.slo.goal)
        case "budget":
            return format_value(Unit.RATIO, active.slo.budget_ratio)
    return None


def _format_general(value: float) -> str:
    return f"{value:.4g}"


def _format_humanized(value: float) -> str:
    prefix = ""
    if abs(value) >= 1:
        for larger in "kMGTPEZY":
            if abs(value) < 1000:
                break
            prefix, value = larger, value / 1000
    else:
        prefix, value = _scale_up(value)
    return f"{_format_general(value)}{prefix}"


def _format_duration(value: float) -> str:
    if abs(value) < 1:
        prefix, value = _scale_up(value)
        return f"{_format_general(value)}{prefix}s"
    sign, value = ("-", -value) if value < 0 else ("", value)
    minutes, seconds = divmod(int(value), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{sign}{days}d {hours}h {minutes}m {seconds}s"
    if hours:
        return f"{sign}{hours}h {minutes}m {seconds}s"
    return f"{sign}{minutes}m {seconds}s" if minutes else f"{sign}{_format_general(value)}s"


def _scale_up(value: float) -> tuple[str, float]:
    prefix = ""
    if value:
        for smaller in "munpfazy":
            if abs(value) >= 1:
                break
            prefix, value = smaller, value * 1000
    return prefix, value


_VALUE_FORMATS: Mapping[Unit, Callable[[float], str]] = {
    Unit.BITRATE: lambda value: f"{_format_humanized(value)}bit/s",
    Unit.RATIO: lambda value: f"{_format_general(value * 100)}%",
    Unit.SECONDS: _format_duration,
    Unit.NUMBER: _format_general,
    Unit.COUNT: "{:.0f}".format,
}
