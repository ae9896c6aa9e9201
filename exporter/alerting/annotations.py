"""Annotations of an alert, from one template: Go templates for Prometheus, plain text for the sidecar.

The sidecar formats numbers exactly as Prometheus' template functions do:
https://prometheus.io/docs/prometheus/latest/configuration/template_reference/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from exporter.alerting import DEFAULT_RUNBOOK_URL
from exporter.alerting.promql import number
from exporter.alerting.rules.active_rules import ActiveRule
from exporter.alerting.rules.rule import Rule, Unit
from exporter.metrics.text_format import label_value

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_GO_VALUE_TEMPLATES = {
    Unit.BITRATE: "{{ $value | humanize }}bit/s",
    Unit.RATIO: "{{ $value | humanizePercentage }}",
    Unit.SECONDS: "{{ $value | humanizeDuration }}",
    Unit.NUMBER: '{{ printf "%.4g" $value }}',
    Unit.COUNT: '{{ printf "%.0f" $value }}',
}
_GO_REASONS_TEMPLATE = (
    '{{ with printf "max by (reason) (stream_health_reason{%s})" '
    "$labels.platform $labels.upstream $labels.stream | query }}"
    ' Reasons: {{ range $index, $sample := sortByLabel "reason" . }}'
    "{{ if $index }}, {{ end }}{{ $sample.Labels.reason }}{{ end }}.{{ end }}"
)
_STREAM_MATCHERS = "platform=%q,upstream=%q,stream=%q"


def runbook_url(rule: Rule, base: str = DEFAULT_RUNBOOK_URL) -> str:
    """Return the link to the rule's section of the runbook."""
    return f"{base}#{rule.name.lower()}"


def description_template(active: ActiveRule, selector: str = "") -> str:
    """Return the description for a rule file, as a Go template."""

    def go_placeholder(name: str) -> str:
        if name == "value":
            return _GO_VALUE_TEMPLATES[active.rule.unit]
        if name == "reasons":
            # escape the selector: it is inside a quoted printf format
            own = selector.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
            return _GO_REASONS_TEMPLATE.replace("%s", ",".join(part for part in (own, _STREAM_MATCHERS) if part), 1)
        return _rule_placeholder(active, name) or f"{{{{ $labels.{name} }}}}"

    return _fill_template(active.rule, go_placeholder)


def description(active: ActiveRule, labels: Mapping[str, str], value: float, reasons: Iterable[str] = ()) -> str:
    """Return the description of one alert, as Prometheus renders it from the template."""

    def plain_placeholder(name: str) -> str:
        if name == "value":
            return format_value(active.rule.unit, value)
        if name == "reasons":
            names = sorted(reasons)
            return f" Reasons: {', '.join(names)}." if names else ""
        return _rule_placeholder(active, name) or label_value(labels.get(name, ""))

    return _fill_template(active.rule, plain_placeholder)


def format_value(unit: Unit, value: float) -> str:
    """Format a value for a description."""
    return _VALUE_FORMATS[unit](value)


def format_threshold(active: ActiveRule) -> str:
    """Format the threshold for a description; empty if the rule has none."""
    if active.limit is None:
        return ""
    unit = active.rule.threshold_unit or active.rule.unit
    return number(active.limit) if unit in (Unit.NUMBER, Unit.COUNT) else format_value(unit, active.limit)


def _fill_template(rule: Rule, fill: Callable[[str], str]) -> str:
    return _PLACEHOLDER.sub(lambda match: fill(match[1]), rule.description)


def _rule_placeholder(active: ActiveRule, name: str) -> str | None:
    """Return the value of a placeholder that does not depend on an alert."""
    match name:
        case "threshold":
            return format_threshold(active)
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
