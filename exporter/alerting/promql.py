"""Renders rule conditions as PromQL.

Two replicas, or a new ``instance`` after a rollout, must result in one alert, so every operand is a recorded series
without replica labels (see ``recordings.py``). Joins list the labels to match on, because targets have additional
labels, which may differ.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from exporter.alerting import DEFAULT_RUNBOOK_URL, DEFAULT_SELECTOR
from exporter.alerting.recordings import ALERT_OFF, ALERT_THRESHOLD, is_upstream_series, record_name
from exporter.alerting.rules.active_rules import ActiveRule, Grade
from exporter.alerting.rules.rule import (
    BRIDGED_INTERVALS,
    SCRAPE_INTERVAL_SECONDS,
    UPSTREAM_LABELS_OF,
    AnyOf,
    AnyStream,
    Comparison,
    GroupGuard,
    Guard,
    Present,
    Rule,
    Scope,
    Series,
    ShareComparison,
    StreamShare,
    Threshold,
)
from exporter.config.alerting import HealthSlo
from exporter.config.types import format_duration, parse_duration
from exporter.metrics.text_format import bound, label_value
from exporter.model import Labels

REPLICA_LABELS = ("instance", "pod")

_POD = "pod"
_PLACEHOLDER = re.compile(
    r"\{(?:(?P<duration>\d+(?:ms|s|m|h|d|w))|count:(?P<count>\d+)|limits:(?P<base>[\w:]+)|(?P<name>[a-z_]+))\}"
)
_SELECTOR = re.compile(r"\{SELECTOR(,?)([^{}]*)\}")


class ConfiguredUpstream(NamedTuple):
    """An upstream in the configuration."""

    platform: str
    name: str
    labels: Labels = ()


@dataclass(frozen=True)
class Dialect:
    """Settings for a set of rule files."""

    selector: str = DEFAULT_SELECTOR
    """Label matchers of every series."""
    time_scale: float = 1.0
    """Divisor for all durations, and for the event counts within them."""
    runbook: str = DEFAULT_RUNBOOK_URL
    page: str = ""
    """URL of the exporter's page, with a trailing slash; empty: no links to it."""
    slo: HealthSlo = field(default_factory=HealthSlo)
    scrape_interval_seconds: float = SCRAPE_INTERVAL_SECONDS
    replica_labels: tuple[str, ...] = REPLICA_LABELS
    """Labels in which the replicas of an exporter differ."""
    target_labels: tuple[str, ...] = ()
    """Target labels that joins match on, in addition to ``job`` and ``cluster``."""
    keep_firing: bool = True
    """Write ``keep_firing_for``, which vmalert before 1.92 rejects."""
    upstreams: tuple[ConfiguredUpstream, ...] = ()
    """The configured upstreams, all of which some target must serve."""


class PromQL:
    """Renders rule conditions for one dialect."""

    def __init__(self, dialect: Dialect | None = None) -> None:
        self._dialect = dialect = dialect or Dialect()
        base = ("job", "cluster", *dialect.target_labels)
        # the series of a pod and its `up` have the same instance; use the pod only if instance is not a replica label
        identity = tuple(label for label in dialect.replica_labels if label != _POD) or dialect.replica_labels
        self._joins = {
            "by_job": base,
            "by_target": (*base, *identity),
            "by_upstream": (*base, "platform", "upstream"),
            "by_stream": (*base, "platform", "upstream", "stream"),
            "by_group": (*base, "group"),
            "replicas": dialect.replica_labels,
        }

    def duration(self, seconds: float) -> str:
        """Format a duration for PromQL, divided by the time scale; at least one millisecond."""
        return format_duration(max(0.001, round(seconds / self._dialect.time_scale, 3)))

    def join_labels(self, scope: Scope) -> str:
        """Return the labels that joins match on for rules of a scope."""
        return ", ".join(self._joins["by_job" if scope is Scope.EXPORTER else f"by_{scope}"])

    def expression(self, active: ActiveRule, grade: Grade | None = None) -> str:
        """Return the expression of a grade (default: the rule's own severity)."""
        *worse, own = active.grades
        if own.is_downgraded:
            own, worse = worse[0], []
        grade = grade or own
        lines = [self._grade(active, grade), *self._unless_off(active)]
        if grade == own:
            lines += [self._unless_worse(active, own, other) for other in worse]
        return "\n".join(lines)

    def _grade(self, active: ActiveRule, grade: Grade) -> str:
        condition = active.rule.condition
        if active.rule.group_guards:
            lines = [f"group:live\nand on ({self.join_labels(Scope.GROUP)}) group:needed"]
            lines += [self._join("and", Scope.GROUP, guard) for guard in active.rule.group_guards]
        elif condition is None:
            lines = [self._fill_rule(active, grade)] if active.rule.promql else []
        else:
            lines = [self._comparison(condition.measure, active, grade)]
            lines += [self._join("and", active.rule.scope, guard) for guard in condition.also]
            lines += [self._join("unless", active.rule.scope, guard) for guard in condition.unless]
        lines += [self._join("and", active.rule.scope, guard) for guard in grade.also]
        return "\n".join(lines)

    def _unless_off(self, active: ActiveRule) -> Iterator[str]:
        """Exclude streams or upstreams for which the rule is switched off."""
        if active.rule.scope in (Scope.UPSTREAM, Scope.STREAM):
            yield f"unless on ({self.join_labels(active.rule.scope)}) {_select_overrides(ALERT_OFF, active.rule)}"

    def _unless_worse(self, active: ActiveRule, own: Grade, worse: Grade) -> str:
        """Exclude alerts for which the critical grade fires, or would fire no later."""
        on = self.join_labels(active.rule.scope)
        condition = self._grade(active, worse)
        if worse.for_seconds > own.for_seconds:
            name = f'alertname="{active.rule.name}",severity="{worse.severity}",alertstate="firing"'
            condition = f"{condition}\nand on ({on}) ALERTS{{{name}}}"
        return f"unless on ({on}) (\n{_indent(condition)}\n)"

    def _overridden_limits(self, active: ActiveRule, grade: Grade) -> str:
        """Return an expression for the thresholds that replace a grade's own, by stream or upstream."""
        selected = _select_overrides(ALERT_THRESHOLD, active.rule)
        return overridden_limits(f"max by ({self.join_labels(active.rule.scope)}) ({selected})", active, grade)

    def _limits(self, active: ActiveRule, grade: Grade, base: str) -> str:
        """Return the thresholds in force, for every stream or upstream in ``base``."""
        on = self.join_labels(active.rule.scope)
        limit = number(_require_limit(active.limit_of(grade)))
        return f"(\n  {self._overridden_limits(active, grade)}\n  or on ({on}) 0 * max by ({on}) ({base}) + {limit}\n)"

    def _fill_rule(self, active: ActiveRule, grade: Grade) -> str:
        return self.fill_template(
            active.rule.promql,
            active.slo,
            active.limit_of(grade),
            lambda base: self._limits(active, grade, base),
        )

    def fill_template(
        self,
        template: str,
        slo: HealthSlo,
        limit: float | None = None,
        limits: Callable[[str], str] | None = None,
    ) -> str:
        """Fill in the placeholders of a rule's PromQL.

        - ``{SELECTOR}`` or ``{SELECTOR,more="…"}``: label matchers of a series
        - ``{5m}``: a duration; ``{count:20}``: a number of events within a duration
        - ``{window}``: how long failed scrapes are bridged
        - ``{by_job}``, ``{by_target}``, ``{by_upstream}``, ``{by_stream}``, ``{by_group}``: labels that identify one of
          them
        - ``{replicas}``: the replica labels
        - ``{limits:stream:live}``: the thresholds in force for all streams (or upstreams) in a recording
        - ``{threshold}`` (of a rule about the exporter), ``{goal}``, ``{goal_bound}`` (as a bucket's ``le``),
          ``{budget_ratio}``, ``{minimum}``: settings
        """
        values: dict[str, Callable[[], str]] = {
            "threshold": lambda: number(_require_limit(limit)),
            "goal": lambda: number(slo.goal),
            "goal_bound": lambda: bound(slo.goal),
            "budget_ratio": lambda: number(slo.budget_ratio),
            "minimum": lambda: self._count(slo.minimum_observations),
            "window": lambda: self.duration(BRIDGED_INTERVALS * self._dialect.scrape_interval_seconds),
        }

        def fill_placeholder(match: re.Match[str]) -> str:
            if match["duration"]:
                return self.duration(parse_duration(match["duration"]))
            if match["count"]:
                return self._count(int(match["count"]))
            if match["base"]:
                assert limits is not None, "only a rule has limits"
                return limits(match["base"])
            labels = self._joins.get(match["name"])
            return values[match["name"]]() if labels is None else ", ".join(labels)

        def fill_selector(match: re.Match[str]) -> str:
            matchers = ",".join(part for part in (self._dialect.selector, match[2]) if part)
            return "{" + matchers + "}" if matchers else ""

        return _SELECTOR.sub(fill_selector, _PLACEHOLDER.sub(fill_placeholder, template))

    def unwatched_upstreams(self) -> str:
        """Return an expression that holds for each configured upstream that no target serves, even if none ever did.

        It holds only once some target has been up for a whole window, so that a start raises no alert.
        """
        selector = f"{self._dialect.selector}," if self._dialect.selector else ""
        window = self.fill_template("{window}", self._dialect.slo)
        absent = [
            _add_labels(
                f'absent_over_time(stream_upstream_poll_interval_seconds{{{selector}platform="{upstream.platform}",'
                f'upstream="{_escape(upstream.name)}"}}[{window}])',
                upstream.labels,
            )
            for upstream in self._dialect.upstreams
        ]
        some_target = self.fill_template(
            "and on () max(max_over_time(up{SELECTOR}[{window}])) == 1\n"
            "and on () max(up{SELECTOR} offset {window}) == 1",
            self._dialect.slo,
        )
        return "\n".join(["(", _indent("\nor\n".join(absent)), ")", some_target])

    def _count(self, count: int) -> str:
        return str(max(1, math.ceil(count / self._dialect.time_scale)))

    def _join(self, operator: str, scope: Scope, guard: Guard) -> str:
        if isinstance(guard, GroupGuard):
            return f"{'and' if guard.holds else 'unless'} on ({self.join_labels(scope)}) {guard.record}"
        if isinstance(guard, AnyOf):
            on = self.join_labels(scope)
            text = f" or on ({on}) ".join(map(self._guard, guard.guards))
            return f"{operator} on ({on}) ({text})"
        if isinstance(guard, AnyStream):
            lines = [self._guard(guard.guards[0])]
            lines += [self._join("and", Scope.STREAM, other) for other in guard.guards[1:]]
            text = _indent("\n".join(lines))
            return f"{operator} on ({self.join_labels(Scope.UPSTREAM)}) (\n{text}\n)"
        series = guard.series if isinstance(guard, Present) else guard.left
        joined = Scope.UPSTREAM if is_upstream_series(series) else scope
        return f"{operator} on ({self.join_labels(joined)}) {self._guard(guard)}"

    def _guard(self, guard: Comparison | Present) -> str:
        if isinstance(guard, Present):
            return _render_series(guard.series)
        return f"{_render_series(guard.left)} {guard.operator} {number(guard.constant)}"

    def _comparison(self, comparison: Comparison | ShareComparison, active: ActiveRule, grade: Grade) -> str:
        measured, operator = comparison.left, comparison.operator
        if not isinstance(comparison.right, Threshold):
            left = self._share(measured) if isinstance(measured, StreamShare) else _render_series(measured)
            return f"{left} {operator} {number(comparison.right)}"
        on = self.join_labels(active.rule.scope)
        if isinstance(measured, StreamShare):
            limits = self._limits(active, grade, "upstream:answering")
            return f"{self._share(measured)}\n{operator} on ({on}) group_left () {limits}"
        left, limit = _render_series(measured), number(_require_limit(active.limit_of(grade)))
        overridden, reference = self._overridden_limits(active, grade), comparison.right.of
        if reference is None:
            # without overrides, this costs no more than the comparison with the default
            own = f"{left} {operator} {limit} unless on ({on}) {_select_overrides(ALERT_THRESHOLD, active.rule)}"
            return f"(\n  {own}\n  or {left} {operator} on ({on}) group_left () {overridden}\n)"
        series = _render_series(reference)
        return (
            f"{left} {operator} on ({on}) group_left () (\n"
            f"  {overridden} * on ({on}) max by ({on}) ({series})\n"
            f"  or on ({on}) max by ({on}) ({limit} * {series})\n"
            ")"
        )

    def _share(self, share: StreamShare) -> str:
        by_upstream, by_stream = self.join_labels(Scope.UPSTREAM), self.join_labels(Scope.STREAM)
        lines = [self._guard(share.guards[0])]
        lines += [self._join("and", Scope.STREAM, guard) for guard in share.guards[1:]]
        lines = [f"(count by ({by_upstream}) (", *map(_indent, lines), f") >= {share.minimum})"]
        all_streams = f"stream:live or on ({by_stream}) stream:status_unknown"
        lines.append(f"/ on ({by_upstream}) count by ({by_upstream}) ({all_streams})")
        ratio = _indent("\n".join(lines))
        return self.fill_template(f"{UPSTREAM_LABELS_OF} (\n{ratio}\n)", self._dialect.slo)


def number(value: float) -> str:
    """Format a number without trailing zeros: 8, not 8.0."""
    return f"{value:g}" if value == float(f"{value:g}") else repr(value)


def overrides_matchers(rule: Rule) -> str:
    """Return the matchers that select a rule's overrides."""
    return f'rule="{rule.name}"' if rule.scope is Scope.STREAM else f'rule="{rule.name}",stream=""'


def overridden_limits(thresholds: str, active: ActiveRule, grade: Grade) -> str:
    """Return an expression that converts thresholds like ``ActiveRule.limit_of`` does."""
    scale, least = active.rule.scale, grade.least_threshold
    scaled = thresholds if scale == 1 else f"{number(scale)} * {thresholds}"
    return scaled if least is None else f"clamp_min({scaled}, {number(least * scale)})"


def _select_overrides(record: str, rule: Rule) -> str:
    return f"{record}{{{overrides_matchers(rule)}}}"


def _render_series(series: Series) -> str:
    name = record_name(series)
    return name if series.scale == 1 else f"{number(series.scale)} * {name}"


def _require_limit(limit: float | None) -> float:
    assert limit is not None, "the rule compares with a threshold, but has none"
    return limit


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.split("\n"))


def _add_labels(expression: str, labels: Labels) -> str:
    """Add labels to the series of an expression. A dollar sign in a value would refer to a capture group."""
    for name, value in labels:
        text = _escape(label_value(value).replace("$", "$$"))
        expression = f'label_replace({expression}, "{name}", "{text}", "", "")'
    return expression


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
