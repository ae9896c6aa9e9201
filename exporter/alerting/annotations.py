"""What an alert says, in two dialects of one text: Go's templates for Prometheus, plain text for the sidecar.

Numbers are formatted by Prometheus' own template functions there, and exactly as they do it here:
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

_FIELD = re.compile(r"\{([a-z_]+)\}")
_GO_VALUES = {
    Unit.BITRATE: "{{ $value | humanize }}bit/s",
    Unit.RATIO: "{{ $value | humanizePercentage }}",
    Unit.SECONDS: "{{ $value | humanizeDuration }}",
    Unit.NUMBER: '{{ printf "%.4g" $value }}',
    Unit.COUNT: '{{ printf "%.0f" $value }}',
}
_GO_REASONS = (
    '{{ with printf "max by (reason) (stream_health_reason{%s})" '
    "$labels.platform $labels.upstream $labels.stream | query }}"
    ' Reasons: {{ range $index, $sample := sortByLabel "reason" . }}'
    "{{ if $index }}, {{ end }}{{ $sample.Labels.reason }}{{ end }}.{{ end }}"
)
_STREAM_MATCHERS = "platform=%q,upstream=%q,stream=%q"


def runbook_url(rule: Rule, base: str = DEFAULT_RUNBOOK_URL) -> str:
    """Where the runbook speaks of this rule."""
    return f"{base}#{rule.name.lower()}"


def description_template(active: ActiveRule, selector: str = "") -> str:
    """The description for a rule file, as a Go template."""

    def go(name: str) -> str:
        if name == "value":
            return _GO_VALUES[active.rule.unit]
        if name == "reasons":
            # the selector stands inside a quoted format
            own = selector.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
            return _GO_REASONS.replace("%s", ",".join(part for part in (own, _STREAM_MATCHERS) if part), 1)
        return _static(active, name) or f"{{{{ $labels.{name} }}}}"

    return _filled(active.rule, go)


def description(active: ActiveRule, labels: Mapping[str, str], value: float, reasons: Iterable[str] = ()) -> str:
    """The description of one alert: the same words that Prometheus makes of the template."""

    def plain(name: str) -> str:
        if name == "value":
            return shown(active.rule.unit, value)
        if name == "reasons":
            names = sorted(reasons)
            return f" Reasons: {', '.join(names)}." if names else ""
        return _static(active, name) or label_value(labels.get(name, ""))

    return _filled(active.rule, plain)


def shown(unit: Unit, value: float) -> str:
    """A value as a description shows it."""
    return _PLAIN_VALUES[unit](value)


def threshold_shown(active: ActiveRule) -> str:
    """The threshold as a description shows it; empty where the rule has none."""
    if active.limit is None:
        return ""
    unit = active.rule.threshold_unit or active.rule.unit
    return number(active.limit) if unit in (Unit.NUMBER, Unit.COUNT) else shown(unit, active.limit)


def _filled(rule: Rule, field: Callable[[str], str]) -> str:
    return _FIELD.sub(lambda match: field(match[1]), rule.description)


def _static(active: ActiveRule, name: str) -> str | None:
    """What is known when the rule is written: it depends on no alert."""
    match name:
        case "threshold":
            return threshold_shown(active)
        case "goal":
            return shown(Unit.RATIO, active.slo.goal)
        case "budget":
            return shown(Unit.RATIO, active.slo.budget_ratio)
    return None


# -- numbers as Prometheus' templates write them -----------------------------------------------------------------------


def _general(value: float) -> str:
    return f"{value:.4g}"


def _humanize(value: float) -> str:
    prefix = ""
    if abs(value) >= 1:
        for larger in "kMGTPEZY":
            if abs(value) < 1000:
                break
            prefix, value = larger, value / 1000
    else:
        prefix, value = _reduced(value)
    return f"{_general(value)}{prefix}"


def _humanize_duration(value: float) -> str:
    if abs(value) < 1:
        prefix, value = _reduced(value)
        return f"{_general(value)}{prefix}s"
    sign, value = ("-", -value) if value < 0 else ("", value)
    minutes, seconds = divmod(int(value), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{sign}{days}d {hours}h {minutes}m {seconds}s"
    if hours:
        return f"{sign}{hours}h {minutes}m {seconds}s"
    return f"{sign}{minutes}m {seconds}s" if minutes else f"{sign}{_general(value)}s"


def _reduced(value: float) -> tuple[str, float]:
    prefix = ""
    if value:
        for smaller in "munpfazy":
            if abs(value) >= 1:
                break
            prefix, value = smaller, value * 1000
    return prefix, value


_PLAIN_VALUES: Mapping[Unit, Callable[[float], str]] = {
    Unit.BITRATE: lambda value: f"{_humanize(value)}bit/s",
    Unit.RATIO: lambda value: f"{_general(value * 100)}%",
    Unit.SECONDS: _humanize_duration,
    Unit.NUMBER: _general,
    Unit.COUNT: "{:.0f}".format,
}
