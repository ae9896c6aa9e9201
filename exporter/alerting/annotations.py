"""Alert annotations: Go templates for Prometheus and plain text for the sidecar, from the same rule texts.

Numbers are formatted exactly as by Prometheus' template functions:
https://prometheus.io/docs/prometheus/latest/configuration/template_reference/
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlencode

from exporter.alerting import DEFAULT_RUNBOOK_URL
from exporter.alerting.promql import Dialect, PromQL, number, overridden_limits, overrides_matchers
from exporter.alerting.recordings import ALERT_THRESHOLD
from exporter.alerting.rules.active_rules import ActiveRule, Grade
from exporter.alerting.rules.rule import Rule, Scope, Unit
from exporter.metrics.text_format import label_value
from exporter.model import HealthReason, UnplayableReason

REASON_WORDS: Mapping[HealthReason, str] = {
    HealthReason.SILENT: "no media",
    HealthReason.SEGMENT_MISSING: "segments missing",
    HealthReason.AUDIO_MISSING: "no audio",
    HealthReason.VIDEO_MISSING: "no video",
    HealthReason.SLOW: "slow delivery",
    HealthReason.SHORTAGE: "less media than time passes",
    HealthReason.VERDICT: "unhealthy according to the platform",
    HealthReason.TRANSCODE_SLOW: "transcoding slower than real time",
    HealthReason.LOSS: "packet loss",
    HealthReason.BITRATE_LOW: "bitrate below expected",
    HealthReason.FRAME_RATE_LOW: "frame rate below expected",
    HealthReason.ISSUES: "issues reported by the platform",
    HealthReason.SEQUENCE: "inconsistent sequence numbers",
    HealthReason.GAP: "segments marked as missing",
    HealthReason.RENDITION_MISSING: "missing renditions",
    HealthReason.LATENCY_GROWING: "growing latency",
    HealthReason.WINDOW_SHORT: "short playlist",
}
"""Reasons for a low health score, worst first."""
UNPLAYABLE_WORDS: Mapping[UnplayableReason, str] = {
    UnplayableReason.STALE: "no new media",
    UnplayableReason.ENDED: "the playlist has ended",
    UnplayableReason.PLAYLIST_MISSING: "playlist missing",
    UnplayableReason.PLAYLIST_FAILED: "playlist fails",
    UnplayableReason.PLAYLIST_INVALID: "invalid playlist",
    UnplayableReason.SEGMENT_MISSING: "segments missing",
    UnplayableReason.SEGMENT_INVALID: "segments are not media",
    UnplayableReason.GAP: "the newest segments are marked as missing",
    UnplayableReason.RENDITIONS_MISSING: "no rendition exists",
}
"""Why a stream cannot be played. The sidecar also knows the details, such as the HTTP status."""

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_LAST_KNOWN_WINDOW = "{6h}"
"""How far Prometheus looks back for the last known values."""
_GO_FORMATS = {
    Unit.BITRATE: '{{ reReplaceAll "([a-zA-Z]*)$" " ${1}bit/s" (%s | humanize) }}',
    Unit.RATIO: "{{ %s | humanizePercentage }}",
    Unit.SECONDS: "{{ %s | humanizeDuration }}",
    Unit.NUMBER: '{{ printf "%%.4g" %s }}',
    Unit.COUNT: '{{ printf "%%.0f" %s }}',
}
_PLAIN_UNITS = (Unit.NUMBER, Unit.COUNT)
"""Units whose thresholds are shown as plain numbers."""
_GO_GENERAL = '{{ printf "%%.6g" %s }}'
_GO_VALUE = "(. | first | value)"
_GO_TIME = f'reReplaceAll "([.][0-9]+)? [+]0000" "" ({_GO_VALUE} | humanizeTimestamp)'
NEVER = "never"
"""Text for a time that is not known because it did not happen."""
_SUBJECTS = {
    Scope.STREAM: "{stream} on {upstream} ({platform})",
    Scope.UPSTREAM: "{upstream} ({platform})",
    Scope.EXPORTER: "the stream exporter",
    Scope.GROUP: "group {group}",
}
_UNNAMED_SUBJECTS = {
    Scope.STREAM: "a stream",
    Scope.UPSTREAM: "an upstream",
    Scope.EXPORTER: "the stream exporter",
    Scope.GROUP: "a group",
}
_SCOPE_LABELS = {
    Scope.STREAM: ("platform", "upstream", "stream"),
    Scope.UPSTREAM: ("platform", "upstream"),
    Scope.GROUP: ("group",),
}
MAX_MEMBERS = 20
"""Maximum number of a group's streams to name."""


def runbook_url(rule: Rule, base: str = DEFAULT_RUNBOOK_URL) -> str:
    """Return the URL of the rule's runbook section."""
    return f"{base}#{rule.name.lower()}"


def page_url(base: str, upstream: str, stream: str = "") -> str:
    """Return the URL of a stream's page, or of the overview for an upstream. ``base`` ends with a slash."""
    if not stream:
        return base
    query = {"upstream": label_value(upstream), "stream": label_value(stream)}
    return f"{base}streams?{urlencode(query)}"


def unnamed_summary(active: ActiveRule) -> str:
    """Return the rule's summary without the names of a stream or upstream, for lists of rules."""
    summary = active.rule.summary.replace(" at {instance}", "").replace(" {target}", "")
    subject = "an upstream or stream" if _may_name_stream(active.rule) else _UNNAMED_SUBJECTS[active.rule.scope]
    summary = summary.replace("{subject}", subject)
    values = {"threshold": format_threshold(active), **_slo_texts(active)}
    text = _PLACEHOLDER.sub(lambda match: values.get(match[1]) or match[0], summary)
    return text[0].upper() + text[1:]


def _may_name_stream(rule: Rule) -> bool:
    """Return whether alerts of a rule about upstreams can be about a stream instead."""
    return rule.scope is Scope.UPSTREAM and "stream" in rule.labels


class _AnnotationWriter(ABC):
    """Base class: fills the rule's texts. Subclasses provide the values."""

    def __init__(self, active: ActiveRule, grade: Grade) -> None:
        self._active = active
        self._rule = active.rule
        self._grade = grade

    def render(self) -> dict[str, str]:
        """Return the non-empty annotations, without links."""
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
        elif rule.scope is Scope.GROUP:
            annotations |= {"off_air": self._members(live=False), "unknown": self._members(live=None)}
        return {name: text for name, text in annotations.items() if text}

    def _fill(self, template: str) -> str:
        slo_texts = _slo_texts(self._active)

        def fill_placeholder(match: re.Match[str]) -> str:
            match match[1]:
                case "subject":
                    stream = self._optional_stream() if _may_name_stream(self._rule) else ""
                    return stream + self._fill(_SUBJECTS[self._rule.scope])
                case "value":
                    return self._value()
                case "expected":
                    return self._fill(self._rule.expected)
                case "reference":
                    return self._reference()
                case "threshold":
                    return self._threshold()
                case "needed":
                    return self._needed()
            text = slo_texts.get(match[1])
            return self._label(match[1]) if text is None else text

        return _PLACEHOLDER.sub(fill_placeholder, template)

    @abstractmethod
    def _value(self) -> str:
        """Return the value, the stream's status, or the reason for the upstream's failure."""

    @abstractmethod
    def _reference(self) -> str:
        """Return the value of the series that the value is compared with."""

    @abstractmethod
    def _threshold(self) -> str:
        """Return the threshold in force for the stream or upstream."""

    @abstractmethod
    def _needed(self) -> str:
        """Return the number of streams that the group needs."""

    @abstractmethod
    def _members(self, *, live: bool | None) -> str:
        """Return the group's streams that are off air (False) or unknown (None), with their roles."""

    @abstractmethod
    def _label(self, name: str) -> str:
        """Return the value of an alert label."""

    @abstractmethod
    def _optional_stream(self) -> str:
        """Return the stream and " on ", or nothing if the alert is about a whole upstream."""

    @abstractmethod
    def _since(self) -> str:
        """Return the time since which the condition has held."""

    @abstractmethod
    def _last_known(self) -> str:
        """Return the stream's last known bitrate and viewers."""

    @abstractmethod
    def _reasons(self) -> str:
        """Return the reasons for a low health score, worst first."""


class AnnotationTemplates(_AnnotationWriter):
    """Renders the annotations of a grade as Go templates for a rule file."""

    def __init__(self, active: ActiveRule, grade: Grade, dialect: Dialect) -> None:
        super().__init__(active, grade)
        self._dialect = dialect
        self._labels = (*_SCOPE_LABELS.get(active.rule.scope, ()), *active.rule.labels)

    def render(self) -> dict[str, str]:
        """Return the annotations, including links."""
        rule = self._rule
        annotations = super().render() | {"runbook_url": runbook_url(rule, self._dialect.runbook)}
        if self._dialect.page and rule.scope is not Scope.EXPORTER:
            query = "streams?upstream={{ urlquery $labels.upstream }}&stream={{ urlquery $labels.stream }}"
            if _may_name_stream(rule):
                query = f"{{{{ if $labels.stream }}}}{query}{{{{ end }}}}"
            elif rule.scope is not Scope.STREAM:
                query = ""
            annotations["page_url"] = self._dialect.page + query
        return annotations

    def _needed(self) -> str:
        query = self._query("group:needed", "max(%s)")
        return f"{{{{ with {query} }}}}{_GO_FORMATS[Unit.COUNT] % _GO_VALUE}{{{{ end }}}}"

    def _members(self, *, live: bool | None) -> str:
        # the role is not recorded, because replicas could differ in it
        state = "and on ({by_stream}) group:dead_member"
        if live is None:
            state = "unless on ({by_stream}) stream:live unless on ({by_stream}) group:dead_member"
        members = f"max by ({{by_stream}}, role) (last_over_time(%s[{{window}}])) {state}"
        query = self._query("stream_group_member_info", f'label_join({members}, "member", "/", "upstream", "stream")')
        name = "{{ .Labels.stream }} on {{ .Labels.upstream }}{{ if .Labels.role }} ({{ .Labels.role }}){{ end }}"
        return (
            f'{{{{ range $i, $_ := {query} | sortByLabel "member" }}}}{{{{ if lt $i {MAX_MEMBERS} }}}}'
            f"{{{{ if $i }}}}, {{{{ end }}}}{name}"
            f"{{{{ else if eq $i {MAX_MEMBERS} }}}}, …{{{{ end }}}}{{{{ end }}}}"
        )

    def _label(self, name: str) -> str:
        return f"{{{{ $labels.{name} }}}}"

    def _optional_stream(self) -> str:
        return "{{ with $labels.stream }}{{ . }} on {{ end }}"

    def _value(self) -> str:
        match self._rule.unit:
            case Unit.FLAG:
                return ""
            case Unit.STATUS:
                return f'{{{{ with {self._query("stream_status")} }}}}{{{{ . | first | label "status" }}}}{{{{ end }}}}'
            case Unit.FAILURE:
                query = self._query("stream_upstream_failing")
                return f'{{{{ with {query} }}}}{{{{ . | first | label "reason" }}}}{{{{ end }}}}'
            case Unit.UNPLAYABLE:
                return self._unplayable()
        return _GO_FORMATS[self._rule.unit] % "$value"

    def _unplayable(self) -> str:
        """Return the words for the reasons, which can differ between replicas."""
        words = "".join(
            f'{{{{ {"else " if index else ""}if eq . "{reason.value}" }}}}{words}'
            for index, (reason, words) in enumerate(UNPLAYABLE_WORDS.items())
        )
        query = self._query("stream_unplayable_reason", "max by (reason) (%s)")
        words = f'{{{{ with . | first | label "reason" }}}}{words}{{{{ end }}}}{{{{ end }}}}'
        return f"{{{{ with {query} }}}}{words}{{{{ end }}}}"

    def _reference(self) -> str:
        reference = self._rule.reference
        assert reference is not None, "{reference} needs a condition that compares with a series"
        last = f"{number(reference.scale)} * max(last_over_time(%s[{{window}}]))"
        query = self._query(reference.family, last, labels=self._labels)
        if self._rule.shown_unit is Unit.TIME:
            return f"{{{{ with {query} }}}}{{{{ {_GO_TIME} }}}}{{{{ else }}}}{NEVER}{{{{ end }}}}"
        return f"{{{{ with {query} }}}}{_GO_FORMATS[self._rule.unit] % _GO_VALUE}{{{{ end }}}}"

    def _threshold(self) -> str:
        own = format_threshold(self._active, self._grade)
        if self._rule.scope is Scope.EXPORTER or not own:
            return own
        query = self._query(
            ALERT_THRESHOLD,
            overridden_limits("max(%s)", self._active, self._grade),
            matchers=overrides_matchers(self._rule),
            labels=PromQL(self._dialect).join_labels(self._rule.scope).split(", "),
        )
        unit = _threshold_unit(self._rule)
        overridden = (_GO_GENERAL if unit in _PLAIN_UNITS else _GO_FORMATS[unit]) % _GO_VALUE
        return f"{{{{ with {query} }}}}{overridden}{{{{ else }}}}{own}{{{{ end }}}}"

    def _since(self) -> str:
        if not self._labels:
            return ""
        matchers = f'alertname="{self._rule.name}",severity="{self._grade.severity}"'
        query = self._query("ALERTS_FOR_STATE", "max(%s)", matchers=matchers)
        return f"{{{{ with {query} }}}}{{{{ {_GO_TIME} }}}}{{{{ end }}}}"

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

    def _query(
        self, family: str, expression: str = "%s", *, matchers: str | None = None, labels: Sequence[str] | None = None
    ) -> str:
        """Return a template query for the series with the alert's labels, which ``expression`` wraps."""
        own = self._dialect.selector if matchers is None else matchers
        if labels is None:
            labels = self._labels if matchers is not None else _SCOPE_LABELS[self._rule.scope]
        selector = ",".join(part for part in (own.replace("%", "%%"), *(f"{label}=%q" for label in labels)) if part)
        filled = PromQL(self._dialect).fill_template(expression, self._active.slo) % f"{family}{{{selector}}}"
        text = filled.replace("\\", "\\\\").replace('"', '\\"')
        return f'query (printf "{text}" {" ".join(f"$labels.{label}" for label in labels)})'


@dataclass(frozen=True, kw_only=True)
class AlertFacts:
    """Facts about an alert for its annotations. None or empty if unknown."""

    value: float
    state: str = ""
    """The stream's status, or the reason for the upstream's failure."""
    unplayable: str = ""
    """Why the stream cannot be played, in words."""
    reference: float | None = None
    """Scaled value of the series that the value is compared with."""
    threshold: float | None = None
    """Threshold of the rule for the stream or upstream, if it has been overridden, in the base unit of the metric."""
    since: float | None = None
    """Time since which the condition has held, in Unix seconds."""
    reasons: Iterable[str] = ()
    last_bitrate: float | None = None
    """Bytes per second."""
    last_viewers: int | None = None
    needed: int | None = None
    """Number of streams that the group needs."""
    off_air: Sequence[str] = ()
    """Names of the group's streams that are off air."""
    unknown: Sequence[str] = ()
    """Names of the group's streams in an unknown state."""


class AnnotationTexts(_AnnotationWriter):
    """Renders the annotations of an alert exactly as Prometheus renders the templates."""

    def __init__(self, active: ActiveRule, grade: Grade, labels: Mapping[str, str], facts: AlertFacts) -> None:
        super().__init__(active, grade)
        self._labels = labels
        self._facts = facts

    def _label(self, name: str) -> str:
        return label_value(self._labels.get(name, ""))

    def _optional_stream(self) -> str:
        stream = self._label("stream")
        return f"{stream} on " if stream else ""

    def _value(self) -> str:
        unit = self._rule.unit
        if unit in (Unit.STATUS, Unit.FAILURE):
            return self._facts.state
        if unit is Unit.UNPLAYABLE:
            return self._facts.unplayable
        return "" if unit is Unit.FLAG else format_value(unit, self._facts.value)

    def _last_known(self) -> str:
        bitrate, viewers = self._facts.last_bitrate, self._facts.last_viewers
        parts = [] if bitrate is None else [format_value(Unit.BITRATE, 8 * bitrate)]
        return ", ".join(parts if viewers is None else [*parts, f"{viewers:.0f} viewers"])

    def _needed(self) -> str:
        return "" if self._facts.needed is None else str(self._facts.needed)

    def _members(self, *, live: bool | None) -> str:
        names = self._facts.unknown if live is None else self._facts.off_air
        return ", ".join(names if len(names) <= MAX_MEMBERS else [*names[:MAX_MEMBERS], "…"])

    def _reference(self) -> str:
        reference = self._facts.reference
        if self._rule.shown_unit is Unit.TIME:
            return NEVER if reference is None else format_time(reference)
        return "" if reference is None else format_value(self._rule.unit, reference)

    def _threshold(self) -> str:
        return format_threshold(self._active, self._grade, self._facts.threshold)

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
    """Format a value with its unit."""
    return _VALUE_FORMATS[unit](value)


def format_threshold(active: ActiveRule, grade: Grade | None = None, override: float | None = None) -> str:
    """Format the threshold of a grade (default: the rule's own severity); empty if it has none.

    ``override``: the threshold of one stream or upstream, in the base unit of the metric.
    """
    limit = active.limit_of(grade or active.own_grades[-1], override)
    if limit is None:
        return ""
    unit = _threshold_unit(active.rule)
    if unit in _PLAIN_UNITS:
        return number(limit) if override is None else f"{limit:.6g}"
    return format_value(unit, limit)


def _threshold_unit(rule: Rule) -> Unit:
    return rule.threshold_unit or rule.unit


def _slo_texts(active: ActiveRule) -> dict[str, str]:
    """Return the texts of the placeholders for the health SLO."""
    slo = active.slo
    return {"goal": format_value(Unit.RATIO, slo.goal), "budget": format_value(Unit.RATIO, slo.budget_ratio)}


def _format_general(value: float) -> str:
    return f"{value:.4g}"


def _format_bitrate(value: float) -> str:
    prefix = ""
    if abs(value) >= 1:
        for larger in "kMGTPEZY":
            if abs(value) < 1000:
                break
            prefix, value = larger, value / 1000
    else:
        prefix, value = _scale_up(value)
    return f"{_format_general(value)} {prefix}bit/s"


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
    Unit.BITRATE: _format_bitrate,
    Unit.RATIO: lambda value: f"{_format_general(value * 100)}%",
    Unit.SECONDS: _format_duration,
    Unit.NUMBER: _format_general,
    Unit.COUNT: "{:.0f}".format,
}
