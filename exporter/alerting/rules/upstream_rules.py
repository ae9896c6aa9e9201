"""Rules about the platforms that are polled."""

from __future__ import annotations

from exporter.alerting.rules.common_guards import ANSWERING, DOWN, EXPECTED, LIVE, NOT_ANSWERING, REFUSED, UNKNOWN, UP
from exporter.alerting.rules.rule import (
    GONE_AFTER_SECONDS,
    MINUTE,
    AnyStream,
    Comparison,
    Condition,
    Critical,
    RecordingRule,
    Rule,
    Scope,
    Series,
    Severity,
    ShareComparison,
    StreamShare,
    Threshold,
    Unit,
)

UPSTREAM_OPERANDS = (
    RecordingRule(
        "upstream:poll_failures:ratio10m",
        "min without ({replicas}) (\n"
        "  sum without (reason) (increase(stream_upstream_poll_failures_total{SELECTOR}[{10m}]))\n"
        "  / on ({by_target}, platform, upstream) group_left ()\n"
        "  (increase(stream_upstream_polls_total{SELECTOR}[{10m}]) >= {count:4})\n"
        ")",
    ),
    RecordingRule(
        "target:upstream_served:timestamp",
        "timestamp(stream_upstream_poll_interval_seconds{SELECTOR})",
    ),
    RecordingRule(
        "target:up:timestamp",
        "max by ({by_target}) (timestamp(up{SELECTOR}) and up{SELECTOR} == 1)",
    ),
    RecordingRule(
        "target:scrape_missed",
        "up{SELECTOR} == 0 and on ({by_target}) last_over_time(target:up:timestamp[{window}])",
    ),
    RecordingRule(
        "target:scrapes_unseen",
        "up{SELECTOR} == 0 unless on ({by_target}) last_over_time(target:up:timestamp[{window}])",
    ),
)
"""Operands that need more than a series without the labels of replicas.

The share of failed polls is the smallest of the replicas': one that has lost its network says nothing of the platform.
"""

_REPORTED_AS_DOWN = 'ALERTS{alertname=~"StreamUpstream(Down|AuthFailing)",alertstate="firing"}'
"""An outage that was reported explains the failures in the windows of other rules, also for some time afterwards."""

UPSTREAM_RULES: tuple[Rule, ...] = (
    Rule(
        name="StreamUpstreamUnwatched",
        scope=Scope.UPSTREAM,
        severity=Severity.CRITICAL,
        summary="No exporter watches {subject} any more.",
        description="The target that polled {subject} is down or gone, and no other target polls it. The state of its "
        "streams is unknown.",
        expected="polled by a target",
        # both times are those of successful scrapes: an upstream that a reload removed was served before the last one
        promql="(\n"
        "  max by ({by_upstream}) (\n"
        "    last_over_time(target:upstream_served:timestamp[{6h}])\n"
        "    >= on ({by_target}) group_left () last_over_time(target:up:timestamp[{6h}])\n"
        "    unless on ({by_target}) up{SELECTOR} == 1\n"
        "  )\n"
        "  or max by ({by_upstream}) (\n"
        '    last_over_time(ALERTS{SELECTOR,alertname="StreamUpstreamUnwatched",alertstate="firing"}[{1h}])\n'
        "  )\n"
        ")\n"
        "unless on ({by_upstream}) last_over_time(stream_upstream_poll_interval_seconds{SELECTOR}[{window}])\n"
        "unless on ({by_job}, upstream) last_over_time(stream_upstream_retired{SELECTOR}[{window}]) == 1\n"
        "and on ({by_job}) max by ({by_job}) (max_over_time(up{SELECTOR}[{window}])) == 1",
        window_seconds=GONE_AFTER_SECONDS,
        for_seconds=MINUTE,
        unit=Unit.FLAG,
        why="A target counts as gone after 2.5 scrape intervals, and a restart takes less. If every target is down, "
        "StreamExporterDown fires instead. It fires until the upstream is polled again or listed under `retired`.",
    ),
    Rule(
        name="StreamUpstreamDown",
        scope=Scope.UPSTREAM,
        severity=Severity.CRITICAL,
        summary="{subject} is down: its polls fail.",
        description="No usable response from {subject}; the state of its streams is unknown.",
        expected="a usable response in the last 2.5 poll intervals",
        condition=Condition(NOT_ANSWERING, also=(DOWN,)),
        for_seconds=15.0,
        unit=Unit.FAILURE,
        why="Single failed polls change nothing, at any interval: the last success, or the start, must be 2.5 "
        "intervals ago. With 30 s intervals that pages within two minutes: 75 s, 15 s each until it is scraped and "
        "evaluated, and these 15 s. It is not kept firing, because it inhibits the alerts of its streams.",
    ),
    Rule(
        name="StreamUpstreamAuthFailing",
        scope=Scope.UPSTREAM,
        severity=Severity.CRITICAL,
        summary="{subject} refuses the exporter's credentials.",
        description="{subject} refuses the credentials; the state of its streams is unknown.",
        expected="accepted credentials",
        condition=Condition(REFUSED, also=(DOWN, NOT_ANSWERING)),
        for_seconds=15.0,
        unit=Unit.FAILURE,
        why="A key does not recover by itself; 2.5 poll intervals leave time for a rotated secret to arrive. It fires "
        "together with StreamUpstreamDown and inhibits it.",
    ),
    Rule(
        name="StreamUpstreamUnstable",
        scope=Scope.UPSTREAM,
        severity=Severity.WARNING,
        summary="Many polls of {subject} fail.",
        description="{value} of the polls of {subject} failed in the last ten minutes.",
        expected="at most {threshold}",
        promql="upstream:poll_failures:ratio10m > {threshold}\n"
        f"unless on ({{by_upstream}}) last_over_time({_REPORTED_AS_DOWN}[{{10m}}])",
        for_seconds=5 * MINUTE,
        window_seconds=2 * MINUTE,
        keep_firing_seconds=5 * MINUTE,
        threshold=0.2,
        threshold_max=1.0,
        unit=Unit.RATIO,
        critical=Critical(for_seconds=10 * MINUTE, threshold=0.5),
        why="One poll in five is more than a flaky network; above one in two the alerts of its streams come late. "
        "Failures of an outage that StreamUpstreamDown has reported do not count. At least four polls are needed.",
    ),
    Rule(
        name="StreamUpstreamErrorRatioHigh",
        scope=Scope.UPSTREAM,
        severity=Severity.WARNING,
        summary="Many requests to {subject} fail.",
        description="{value} of the requests to {subject} fail.",
        expected="at most {threshold}",
        promql="max without ({replicas}) (\n"
        '  sum without (code, request) (rate(stream_upstream_requests_total{SELECTOR,code!~"[23]..|404"}[{15m}]))\n'
        "  / on ({by_target}, platform, upstream) group_left ()\n"
        "  (sum without (code, request) (rate(stream_upstream_requests_total{SELECTOR}[{15m}])) > 0)\n"
        ") > {threshold}\n"
        "and on ({by_upstream}) max without ({replicas}) (\n"
        "  sum without (code, request) (increase(stream_upstream_requests_total{SELECTOR}[{15m}]))\n"
        ") >= {count:20}\n"
        f"unless on ({{by_upstream}}) last_over_time({_REPORTED_AS_DOWN}[{{15m}}])",
        window_seconds=15 * MINUTE,
        keep_firing_seconds=5 * MINUTE,
        threshold=0.05,
        threshold_max=1.0,
        unit=Unit.RATIO,
        why="1 in 20 is more than a flaky network, and data still arrive: a ticket. Fewer than 20 requests are too few "
        "to judge.",
    ),
    Rule(
        name="StreamUpstreamDataStale",
        scope=Scope.UPSTREAM,
        severity=Severity.WARNING,
        summary="The polls of {subject} are overdue.",
        description="The last successful poll of {subject} is more than 2.5 poll intervals old, although the upstream "
        "counts as up.",
        expected="a successful poll in the last 2.5 intervals",
        condition=Condition(NOT_ANSWERING, also=(UP,)),
        for_seconds=2 * MINUTE,
        keep_firing_seconds=5 * MINUTE,
        unit=Unit.FLAG,
        why="Polls have stopped although the exporter runs. One late poll is only jitter, hence the two minutes. The "
        "exporter measures the age on its own steady clock, so setting a clock does not matter.",
    ),
    Rule(
        name="StreamUpstreamStatesUnknown",
        scope=Scope.UPSTREAM,
        severity=Severity.WARNING,
        summary="The state of many streams of {subject} is unknown.",
        description="The state of {value} of the streams of {subject} is unknown, although the upstream answers.",
        expected="at most {threshold}",
        condition=Condition(
            ShareComparison(StreamShare((UNKNOWN,), minimum=3), ">", Threshold()),
            also=(ANSWERING,),
        ),
        for_seconds=5 * MINUTE,
        keep_firing_seconds=5 * MINUTE,
        threshold=0.2,
        threshold_max=1.0,
        unit=Unit.RATIO,
        critical=Critical(for_seconds=5 * MINUTE, also=(AnyStream((UNKNOWN, EXPECTED)),)),
        why="A platform that was upgraded may report states that the exporter does not know. A few unknown streams "
        "are the affair of StreamExpectedUnknown; a fifth of all, and at least three, are a fault of the platform.",
    ),
    Rule(
        name="StreamUpstreamListDoubtful",
        scope=Scope.UPSTREAM,
        severity=Severity.WARNING,
        summary="The list of streams of {subject} may be incomplete.",
        description="Part of the list of streams of {subject} may be missing, so a stream's absence from it proves "
        "nothing.",
        expected="a complete list",
        condition=Condition(Comparison(Series("stream_upstream_list_complete"), "==", 0)),
        for_seconds=10 * MINUTE,
        keep_firing_seconds=5 * MINUTE,
        unit=Unit.FLAG,
        why="Streams that disappear from the list stay unknown instead of off air, so their alerts come late or as "
        "StreamExpectedUnknown. A list that grows while it is read is complete again at one of the next polls.",
    ),
    Rule(
        name="StreamUpstreamStatisticsFrozen",
        scope=Scope.UPSTREAM,
        severity=Severity.WARNING,
        summary="The statistics of {subject} are frozen.",
        description="The byte totals of all live streams of {subject} stopped at the same time. Its bitrates and "
        "scores are withdrawn.",
        expected="totals that move",
        condition=Condition(Comparison(Series("stream_upstream_statistics_frozen"), "==", 1)),
        for_seconds=3 * MINUTE,
        keep_firing_seconds=5 * MINUTE,
        critical=Critical(for_seconds=5 * MINUTE, also=(AnyStream((EXPECTED, LIVE)),)),
        unit=Unit.FLAG,
        why="Streams do not all stop in the same second: the platform's statistics have stopped, or its ingest has. "
        "Bitrate alerts cannot fire meanwhile, so it pages if an expected stream is live on it.",
    ),
    Rule(
        name="StreamSeriesLimitReached",
        scope=Scope.UPSTREAM,
        severity=Severity.INFO,
        summary="{subject} has more streams than may be exported.",
        description="{value} streams of {subject} are left out by max_streams.",
        expected="none left out",
        condition=Condition(Comparison(Series("stream_upstream_streams_dropped"), ">", 0)),
        for_seconds=10 * MINUTE,
        keep_firing_seconds=5 * MINUTE,
        unit=Unit.COUNT,
        why="max_streams limits the number of series; expected and live streams are kept first.",
    ),
)
