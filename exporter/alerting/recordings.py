"""Recording rules for the operands of the alert rules, in the same rule group as the alerts.

An operand is an exported series without replica labels:

- Failed scrapes are bridged: while ``up`` is 0, the operand keeps its last value for 2.5 scrape intervals, if it had a
  value before.
- Facts about a stream count only while its upstream is answering. This is checked per target before replicas are
  aggregated, so that the old data of a replica without network does not hide what another replica sees.
- Settings (what is expected) need no evidence.
- A stream is unknown only if no replica knows its state.
- The overrides of a stream or upstream that is no longer served are those that were in force when it last was, because
  some rules look back.
- Groups are judged by counting their streams, after replicas are aggregated.

``tests/alerting/test_scrape_scenarios.py`` checks this with promtool: gaps, replicas, shards, service discovery.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from exporter.alerting.rules import RULES
from exporter.alerting.rules.common_guards import UNKNOWN
from exporter.alerting.rules.rule import (
    MINIMUM_STEPS,
    RESET_SECONDS,
    AnyOf,
    AnyStream,
    Condition,
    GroupGuard,
    Guard,
    Present,
    RecordingRule,
    Series,
    StreamShare,
    Threshold,
)
from exporter.alerting.rules.slo_rules import SLO_OPERANDS
from exporter.alerting.rules.upstream_rules import UPSTREAM_OPERANDS
from exporter.config.types import format_duration
from exporter.metrics.families.family import STREAM_LABELS, UPSTREAM_LABELS, Family, Source
from exporter.metrics.families.stream_families import STREAM_FAMILIES
from exporter.metrics.families.upstream_families import UPSTREAM_FAMILIES

TARGET_ANSWERING = "target:upstream_answering"
_ANSWERING = "stream_upstream_answering"
_NOT_GATED = frozenset(
    {_ANSWERING, "stream_upstream_up", "stream_upstream_failing", "stream_upstream_calendar_readable"}
)
"""Upstream families that report whether the upstream is answering, or that do not depend on it."""
_UPSTREAM_FAMILY_NAMES = frozenset(family.name for family in UPSTREAM_FAMILIES if "stream" not in family.labels)
_ALL_FAMILIES: tuple[Family, ...] = (*STREAM_FAMILIES, *UPSTREAM_FAMILIES)
_FAMILIES = {family.name: family for family in _ALL_FAMILIES}
_SETTINGS = frozenset(family.name for family in _ALL_FAMILIES if family.source is Source.CONFIGURATION)
ALERT_THRESHOLD, ALERT_OFF = "stream:alert_threshold", "stream:alert_off"
"""Recordings of the overrides of rules; ``stream`` is empty for rules about an upstream."""
_OVERRIDES_NAME = re.compile(f"{ALERT_THRESHOLD}|{ALERT_OFF}")
_RECORDED_NAME = re.compile(r"(?<![\w:])(?:stream|upstream|group|target):\w+(?::\w+)*")
_FAMILY_NAME = re.compile(r"(?<![\w:])stream_\w+?(?=(?:_bucket|_count|_sum)?\{)")

TEMPLATE_SERIES = (
    Series("stream_live"),
    Series("stream_expected"),
    UNKNOWN.left,
    Series("stream_viewers"),
    Series("stream_ingest_bitrate_bytes_per_second"),
    Series("stream_expected_ingest_bitrate_bytes_per_second"),
    Series("stream_health_score_ratio"),
    Series(_ANSWERING),
)
"""Recorded series used in the PromQL of rules without a condition."""


def is_upstream_series(series: Series) -> bool:
    """Whether the series belongs to an upstream, not to a stream. A setting can belong to either."""
    return series.family in _UPSTREAM_FAMILY_NAMES


def needs_evidence(series: Series) -> bool:
    """Whether the series counts only while its upstream is answering."""
    return series.family not in _NOT_GATED and not is_setting(series)


def is_setting(series: Series) -> bool:
    """Whether the series is a setting, which is known even if nothing is known about the upstream."""
    return series.family in _SETTINGS


def record_name(series: Series) -> str:
    """Return the name of the recording, such as ``stream:status_paused`` for ``stream_status{status="paused"}``."""
    scope = "upstream" if is_upstream_series(series) else "stream"
    values = [word for value in series.labels.values() for word in ((value,) if isinstance(value, str) else value)]
    metric = "_and_".join(map(_short_name, (series.family, *series.and_rises_of)))
    if series.growth_per:
        metric = f"{metric}_per_{_short_name(series.growth_per)}"
    name = f"{scope}:{'_'.join([metric, *values]).lower()}"
    if series.rises_within is not None:
        return f"{name}:rises{format_duration(series.rises_within)}"
    if series.growth_within is not None:
        return f"{name}:growth{format_duration(series.growth_within)}"
    return name if series.changes_within is None else f"{name}:changes{format_duration(series.changes_within)}"


def _short_name(family: str) -> str:
    return family.removeprefix("stream_").removeprefix("upstream_")


def _bridged(family: str, matchers: str, record: str, labels: str) -> str:
    """Return the template of a series that keeps its last value while scrapes fail.

    ``matchers``: label matchers with a leading comma. ``record``: the recording of this series, identified by
    ``labels``. A fact withdrawn before the scrape failed is absent from the recording, so it does not come back. If
    all evaluations in the window saw a failed scrape, the recording proves nothing, and the last value counts.
    """
    series = f"{family}{{SELECTOR{matchers}}}"
    last = f"last_over_time({series}[{{window}}])"
    return (
        f"({series}\n"
        f"  or ({last} and on ({{by_target}}) target:scrape_missed and on ({labels}) {record})\n"
        f"  or ({last} and on ({{by_target}}) target:scrapes_unseen))"
    )


def recordings_for(expressions: Iterable[str]) -> list[RecordingRule]:
    """Return the recordings that these expressions need, directly and indirectly, in order of evaluation."""
    needed: dict[str, None] = {}
    adding: list[str] = []

    def add(expression: str) -> None:
        for name in _RECORDED_NAME.findall(expression):
            if name in OPERANDS and name not in needed and name not in adding:
                # a recording may read itself, which gives its value at the previous evaluation
                adding.append(name)
                add(OPERANDS[name].promql)
                adding.remove(name)
                needed[name] = None

    for expression in expressions:
        add(expression)
    return [OPERANDS[name] for name in needed]


def families_of(*expressions: str) -> frozenset[str]:
    """Return the metric families that expressions read, directly or through recordings.

    Overrides are not followed: without them, a rule has its defaults.
    """
    expressions = tuple(_OVERRIDES_NAME.sub("", expression) for expression in expressions)
    texts = [*expressions, *(recording.promql for recording in recordings_for(expressions))]
    return frozenset(name for text in texts for name in _FAMILY_NAME.findall(text))


def _operand(series: Series) -> RecordingRule:
    name, dropped = record_name(series), ", ".join(["{replicas}", *series.labels])
    if series.family == _ANSWERING:
        return RecordingRule(name, f"max without ({dropped}) ({TARGET_ANSWERING})")
    matchers = "".join(f",{_matcher(label, value)}" for label, value in series.labels.items())
    if series.growth_within is not None:
        value = _growth(series, series.growth_within)
    elif series.window_seconds is None:
        value = _bridged(series.family, matchers, name, _recorded_labels(series))
    else:
        window = format_duration(series.window_seconds)
        samples = [f"{family}{{SELECTOR{matchers}}}[{{{window}}}]" for family in (series.family, *series.and_rises_of)]
        rises = "\n  + ".join(f"changes({each}) - resets({each})" for each in samples)
        value = f"changes({samples[0]})" if series.rises_within is None else f"({rises})"
    if not needs_evidence(series):
        return RecordingRule(name, f"max without ({dropped}) (\n  {value}\n)")
    gate = f"and on ({{by_target}}, platform, upstream) {TARGET_ANSWERING} == 1"
    known = "\nunless on ({by_stream}) stream:live" if series == UNKNOWN.left else ""
    return RecordingRule(name, f"max without ({dropped}) (\n  {value}\n  {gate}\n){known}")


def _growth(series: Series, window_seconds: float) -> str:
    """Return the template of the growth of a stream's counter within a window.

    Unlike ``rate``, it does not extrapolate: with few samples, that would look like less growth. The samples must be
    nearly as far apart as the window is long, because media arrives in segments.
    """
    window, memory = format_duration(window_seconds), format_duration(window_seconds + RESET_SECONDS)
    by_stream = "{by_target}, platform, upstream, stream"
    counter, per = f"{series.family}{{SELECTOR}}", f"{series.growth_per}{{SELECTOR}}"
    lines = [f"({counter} - {counter} offset {{{window}}})"]
    if series.growth_per:
        lines.append(f"/ on ({by_stream}) group_left () ({per} - {per} offset {{{window}}} > 0)")
        lines.append(f"and on ({by_stream}) changes({per}[{{{window}}}]) >= {MINIMUM_STEPS}")
    else:
        seconds = f"timestamp({counter}) - timestamp({counter} offset {{{window}}})"
        lines.append(f"/ on ({by_stream}) group_left () ({seconds} >= {{count:{round(0.9 * window_seconds)}}})")
    counters = (counter, per) if series.growth_per else (counter,)
    lines += [f"unless on ({by_stream}) resets({each}[{{{memory}}}]) > 0" for each in counters]
    lines += [
        f"unless on ({by_stream}) max_over_time(stream_playback_forbidden{{SELECTOR}}[{{{window}}}]) == 1",
        f"and on ({by_stream}) stream_live{{SELECTOR}} offset {{{window}}} == 1",
        f"and on ({{by_target}}, platform, upstream) min_over_time({TARGET_ANSWERING}[{{{window}}}]) == 1",
    ]
    # an outage between two scrapes
    failures = f"increase(stream_upstream_poll_failures_total{{SELECTOR}}[{{{memory}}}])"
    lines.append(f"unless on ({{by_target}}, platform, upstream) sum without (reason) ({failures}) > 0")
    return "\n  ".join(lines)


def _overrides(record: str) -> RecordingRule:
    """Return the recording of overrides.

    Those of a stream are kept for longer than any rule about streams looks back, those of an upstream for longer than
    StreamUpstreamUnwatched does. What was changed while it was served does not come back.
    """
    family = record.replace(":", "_")
    return RecordingRule(
        record,
        f"max without ({{replicas}}) (\n  {_bridged(family, '', record, '{by_stream}, rule')}\n)\n"
        "or on ({by_stream}, rule) (\n"
        f"  {record}\n"
        "  and on ({by_stream}, rule) (\n"
        f'    last_over_time({family}{{SELECTOR,stream!=""}}[{{20m}}])\n'
        f'    or last_over_time({family}{{SELECTOR,stream=""}}[{{7h}}])\n'
        "  )\n"
        "  unless on ({by_stream}) stream:live\n"
        "  unless on ({by_stream}) stream:status_unknown\n"
        "  unless on ({by_stream}) upstream:answering\n"
        ")",
    )


def _recorded_labels(series: Series) -> str:
    """Return the labels that identify a sample of the recording."""
    scope, labels = ("{by_upstream}", UPSTREAM_LABELS) if is_upstream_series(series) else ("{by_stream}", STREAM_LABELS)
    own = [label for label in _FAMILIES[series.family].labels[len(labels) :] if label not in series.labels]
    return ", ".join([scope, *own])


def _matcher(name: str, value: str | tuple[str, ...]) -> str:
    return f'{name}="{value}"' if isinstance(value, str) else f'{name}=~"{"|".join(value)}"'


def series_of(condition: Condition) -> Iterator[Series]:
    """Yield the series that a condition reads, including its guards."""
    measured, right = condition.measure.left, condition.measure.right
    if isinstance(measured, StreamShare):
        yield from _series_of_guards(measured.guards)
    else:
        yield measured
    if isinstance(right, Threshold) and right.of is not None:
        yield right.of
    yield from _series_of_guards((*condition.also, *condition.unless))


def _series_of_guards(guards: Iterable[Guard]) -> Iterator[Series]:
    for guard in guards:
        if isinstance(guard, AnyStream | AnyOf):
            yield from _series_of_guards(guard.guards)
        elif not isinstance(guard, GroupGuard):
            yield guard.series if isinstance(guard, Present) else guard.left


def _group_operands() -> Iterator[RecordingRule]:
    """Yield the recordings about groups.

    Members are counted here, not in the exporters, because replicas may not know the state of different members.
    """

    def bridged(family: str, record: str, labels: str) -> str:
        return _bridged(family, "", record, labels)

    members = bridged("stream_group_member_info", "group:member", "{by_stream}, group")
    yield RecordingRule("group:member", f"max by ({{by_stream}}, group) (\n  {members}\n)")
    # as for maintenance, it is enough if one replica knows of it
    needed = bridged("stream_group_needed_streams", "group:needed_streams", "{by_group}")
    yield RecordingRule("group:needed_streams", f"min by ({{by_group}}) (\n  {needed}\n)")
    expected = bridged("stream_group_expected", "group:expected", "{by_group}")
    yield RecordingRule("group:expected", f"max by ({{by_group}}) (\n  {expected}\n)")
    yield RecordingRule("group:needed", "group:needed_streams > 0 and on ({by_group}) group:expected == 1")
    yield RecordingRule(
        "group:live_member",
        "group:member and on ({by_stream}) stream:live == 1 unless on ({by_stream}) stream:playable == 0",
    )
    # a playback check that cannot be played does not count as live, although media may arrive
    yield RecordingRule(
        "group:dead_member",
        "group:member and on ({by_stream}) (stream:live == 0 or on ({by_stream}) stream:playable == 0)",
    )
    yield RecordingRule(
        "group:live",
        "count by ({by_group}) (group:live_member)\nor 0 * max by ({by_group}) (group:member)",
    )
    yield RecordingRule("group:stands", "group:live >= on ({by_group}) group:needed")
    yield RecordingRule(
        "group:may_stand",
        "count by ({by_group}) (group:member unless on ({by_stream}) group:dead_member)\n"
        ">= on ({by_group}) group:needed",
    )
    yield RecordingRule(
        "group:lost_member",
        "count by ({by_group}) (\n"
        "  group:dead_member\n"
        "  unless on ({by_stream}) stream:maintenance\n"
        '  unless on ({by_upstream}) stream:maintenance{stream=""}\n'
        ")",
    )
    # the group is up without the stream: it is not one of the live streams, or there are more than needed
    yield RecordingRule(
        "stream:covered",
        "max by ({by_stream}) (\n"
        "  (group:member unless on ({by_stream}) group:live_member) and on ({by_group}) group:stands\n"
        "  or group:member and on ({by_group}) group:live > on ({by_group}) group:needed\n"
        ")",
    )


def _playback_operands() -> Iterator[RecordingRule]:
    """Yield the recordings that tell whether playback checks show that the streams of an upstream play.

    The series of a check has the labels of its source in labels of its own.
    """
    source = _bridged("stream_source_info", "", "stream:source_info", "{by_stream}")
    yield RecordingRule("stream:source_info", f"max without ({{replicas}}) (\n  {source}\n)")
    # aggregated first, because two checks of the same source would get the same labels
    relabelled = (
        "max by ({by_job}, source_platform, source_upstream, source_stream) (\n"
        "  stream:source_info and on ({by_stream}) stream:playable == 1\n"
        ")"
    )
    for label in ("platform", "upstream", "stream"):
        relabelled = f'label_replace({relabelled}, "{label}", "$1", "source_{label}", "(.*)")'
    yield RecordingRule("stream:seen_playing", relabelled)
    yield RecordingRule(
        "upstream:seen_playing",
        "count by ({by_upstream}) (stream:expected == 1)\n"
        "unless on ({by_upstream}) (stream:expected == 1 unless on ({by_stream}) stream:seen_playing)",
    )


def _all_operands() -> Mapping[str, RecordingRule]:
    answering = _bridged(_ANSWERING, "", TARGET_ANSWERING, "{by_target}, platform, upstream")
    recordings = [RecordingRule(TARGET_ANSWERING, answering)]
    for rule in RULES:
        if rule.condition is not None:
            recordings += map(_operand, series_of(rule.condition))
        if rule.critical is not None:
            recordings += map(_operand, _series_of_guards(rule.critical.also))
    recordings += map(_operand, TEMPLATE_SERIES)
    recordings += map(_overrides, (ALERT_THRESHOLD, ALERT_OFF))
    recordings += (*UPSTREAM_OPERANDS, *SLO_OPERANDS, *_group_operands(), *_playback_operands())
    return {recording.record: recording for recording in recordings}


OPERANDS = _all_operands()
"""Recording rules of all operands, by name."""
