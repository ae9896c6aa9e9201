"""Rules about upstreams."""

from __future__ import annotations

from exporter.alerting.rules.common_guards import (
    ANSWERING,
    DOWN,
    EXPECTED,
    LIVE,
    NOT_ANSWERING,
    REFUSED,
    UNKNOWN,
    UP,
    VANTAGE_DOWN,
)
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

MAINTENANCE = "StreamMaintenance"
MAINTENANCE_KEEP_FIRING_SECONDS = 6 * MINUTE
"""Longer than any alert that pages: otherwise work that ends as soon as the stream is back would page."""

UPSTREAM_OPERANDS = (
    RecordingRule(
        "upstream:poll_failures:ratio10m",
        "min without ({replicas}) (\n"
        "  sum without (reason) (increase(stream_upstream_poll_failures_total{SELECTOR}[{10m}]))\n"
        "  / on ({by_target}, platform, upstream) group_left ()\n"
        "  (max by ({by_target}, platform, upstream) (increase(stream_upstream_polls_total{SELECTOR}[{10m}]))\n"
        "    >= {count:4})\n"
        ")",
    ),
    RecordingRule(
        "upstream:request_failures:ratio15m",
        "max without ({replicas}) (\n"
        '  sum without (code, request) (rate(stream_upstream_requests_total{SELECTOR,code!~"[23]..|404"}[{15m}]))\n'
        "  / on ({by_target}, platform, upstream) group_left ()\n"
        "  (max by ({by_target}, platform, upstream) (\n"
        "    sum without (code, request) (rate(stream_upstream_requests_total{SELECTOR}[{15m}]))\n"
        "  ) > 0)\n"
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
"""Recorded series that are computed, not only stripped of replica labels.

The ratio of failed polls is the lowest of all replicas, because a replica that has lost its network proves nothing
about the platform. Divisors are aggregated, because a window in which a configured label changed has both versions of a
series.
"""

_REPORTED_AS_DOWN = (
    'ALERTS{alertname=~"StreamUpstream(Down|AuthFailing)|StreamPlaybackVantageDown",alertstate="firing"}'
)
"""Outages already reported. They explain the failures in the windows of other rules, even for a while afterwards."""

UPSTREAM_RULES: tuple[Rule, ...] = (
    Rule(
        name="StreamUpstreamUnwatched",
        scope=Scope.UPSTREAM,
        severity=Severity.CRITICAL,
        summary="No exporter polls {subject} any more.",
        description="The target that polled {subject} is down or gone, and no other target polls it. The state of its "
        "streams is unknown.",
        expected="at least one target that polls it",
        # the target served the upstream in its last successful scrape, so no reload had removed it
        promql="(\n"
        "  max without ({replicas}) (\n"
        "    last_over_time(target:upstream_served:timestamp[{6h}])\n"
        "    >= on ({by_target}) group_left () last_over_time(target:up:timestamp[{6h}])\n"
        "    unless on ({by_target}) up{SELECTOR} == 1\n"
        "  )\n"
        "  or on ({by_upstream}) max without ({replicas}, alertname, alertstate, severity, scope) (\n"
        '    last_over_time(ALERTS{SELECTOR,alertname="StreamUpstreamUnwatched",alertstate="firing"}[{1h}])\n'
        "  )\n"
        ")\n"
        "unless on ({by_upstream}) last_over_time(stream_upstream_poll_interval_seconds{SELECTOR}[{window}])\n"
        "unless on ({by_job}, upstream) last_over_time(stream_upstream_retired{SELECTOR}[{window}]) == 1\n"
        "and on ({by_job}) max by ({by_job}) (max_over_time(up{SELECTOR}[{window}])) == 1",
        window_seconds=GONE_AFTER_SECONDS,
        for_seconds=MINUTE,
        unit=Unit.FLAG,
        rationale="A target counts as gone after 2.5 scrape intervals; a restart takes less. If every target is down, "
        "StreamExporterDown fires instead. The alert fires until the upstream is polled again or listed under "
        "`retired`.",
    ),
    Rule(
        name="StreamUpstreamDown",
        scope=Scope.UPSTREAM,
        severity=Severity.CRITICAL,
        summary="{subject} is down: polls are failing.",
        description="No data from {subject}; the state of its streams is unknown.",
        expected="a successful poll in the last 2.5 poll intervals",
        condition=Condition(NOT_ANSWERING, also=(DOWN,), unless=(VANTAGE_DOWN,)),
        for_seconds=15.0,
        unit=Unit.FAILURE,
        is_downgraded_by_checks=True,
        rationale="Single failed polls change nothing, whatever the interval: the last successful poll (or the start) "
        "must be 2.5 intervals ago. With an interval of 30 s, it pages within two minutes: 75 s, and 15 s each for the "
        "scrape, the evaluation and `for`. It is not kept firing, because it inhibits the alerts of its streams. "
        "While playback checks show that every expected stream of the upstream plays, viewers are not affected, so it "
        "is a warning. If the exporter's own network fails, StreamPlaybackVantageDown replaces it for upstreams with "
        "playback checks.",
    ),
    Rule(
        name="StreamUpstreamAuthFailing",
        scope=Scope.UPSTREAM,
        severity=Severity.CRITICAL,
        summary="{subject} rejects the exporter's credentials.",
        description="{subject} rejects the exporter's credentials; the state of its streams is unknown.",
        expected="valid credentials",
        condition=Condition(REFUSED, also=(DOWN, NOT_ANSWERING)),
        for_seconds=15.0,
        unit=Unit.FAILURE,
        rationale="Rejected credentials do not recover on their own. The 2.5 poll intervals leave time to deploy a "
        "rotated secret. The alert fires together with StreamUpstreamDown and inhibits it.",
    ),
    Rule(
        name="StreamPlaybackVantageDown",
        scope=Scope.UPSTREAM,
        severity=Severity.WARNING,
        summary="No playback check of {subject} can be made.",
        description="No playback check of {subject} can be made, because the exporter's own network seems to be down. "
        "What viewers get is unknown.",
        expected="a network that reaches most servers",
        condition=Condition(NOT_ANSWERING, also=(VANTAGE_DOWN,)),
        for_seconds=30.0,
        unit=Unit.FAILURE,
        rationale="A failed fetch is a finding about the stream, and never about the upstream. Only if most servers "
        "cannot be reached at all, including the platforms' APIs, is the exporter's own network at fault, and then no "
        "check proves anything. It does not page, because it says nothing about viewers. It replaces "
        "StreamUpstreamDown, inhibits the alerts of the checks, and is therefore not kept firing.",
    ),
    Rule(
        name="StreamUpstreamUnstable",
        scope=Scope.UPSTREAM,
        severity=Severity.WARNING,
        summary="Many polls of {subject} are failing.",
        description="{value} of the polls of {subject} failed in the last 10 minutes.",
        expected="at most {threshold}",
        promql="upstream:poll_failures:ratio10m\n"
        "> on ({by_upstream}) group_left () {limits:upstream:poll_failures:ratio10m}\n"
        f"unless on ({{by_upstream}}) last_over_time({_REPORTED_AS_DOWN}[{{10m}}])",
        for_seconds=5 * MINUTE,
        window_seconds=2 * MINUTE,
        keep_firing_seconds=5 * MINUTE,
        threshold=0.2,
        threshold_max=1.0,
        unit=Unit.RATIO,
        critical=Critical(for_seconds=10 * MINUTE, threshold=0.5),
        rationale="A flaky network does not fail one poll in five. When more than half of them fail, alerts about the "
        "streams are late. Failures during an outage that StreamUpstreamDown has reported do not count. The window "
        "needs at least four polls.",
    ),
    Rule(
        name="StreamUpstreamErrorRatioHigh",
        scope=Scope.UPSTREAM,
        severity=Severity.WARNING,
        summary="Many requests to {subject} are failing.",
        description="{value} of the requests to {subject} failed in the last 15 minutes.",
        expected="at most {threshold}",
        promql="upstream:request_failures:ratio15m\n"
        "> on ({by_upstream}) group_left () {limits:upstream:request_failures:ratio15m}\n"
        "and on ({by_upstream}) max without ({replicas}) (\n"
        "  sum without (code, request) (increase(stream_upstream_requests_total{SELECTOR}[{15m}]))\n"
        ") >= {count:20}\n"
        f"unless on ({{by_upstream}}) last_over_time({_REPORTED_AS_DOWN}[{{15m}}])",
        window_seconds=15 * MINUTE,
        keep_firing_seconds=5 * MINUTE,
        threshold=0.05,
        threshold_max=1.0,
        unit=Unit.RATIO,
        rationale="A flaky network does not fail one request in 20. Data still arrive, so this is a ticket. Fewer than "
        "20 requests are too few to judge.",
    ),
    Rule(
        name="StreamUpstreamDataStale",
        scope=Scope.UPSTREAM,
        severity=Severity.WARNING,
        summary="Polls of {subject} are overdue.",
        description="The last successful poll of {subject} is more than 2.5 poll intervals old, although the upstream "
        "counts as up.",
        expected="a successful poll in the last 2.5 poll intervals",
        condition=Condition(NOT_ANSWERING, also=(UP,)),
        for_seconds=2 * MINUTE,
        keep_firing_seconds=5 * MINUTE,
        unit=Unit.FLAG,
        rationale="Polling has stopped although the exporter is running. The two minutes let a single late poll pass. "
        "The age is measured on the exporter's steady clock, so changing a clock has no effect.",
    ),
    Rule(
        name="StreamUpstreamStatesUnknown",
        scope=Scope.UPSTREAM,
        severity=Severity.WARNING,
        summary="The state of many streams of {subject} is unknown.",
        description="The state of {value} of the streams of {subject} is unknown, although the upstream is answering.",
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
        rationale="After an upgrade, a platform may report states that the exporter does not know. "
        "StreamExpectedUnknown covers a few unknown streams; a fifth of all streams, and at least three, point to the "
        "platform.",
    ),
    Rule(
        name="StreamUpstreamListDoubtful",
        scope=Scope.UPSTREAM,
        severity=Severity.WARNING,
        summary="The stream list of {subject} may be incomplete.",
        description="The stream list of {subject} may be incomplete. Streams missing from it become unknown instead of "
        "off air.",
        expected="a complete list",
        condition=Condition(Comparison(Series("stream_upstream_list_complete"), "==", 0)),
        for_seconds=10 * MINUTE,
        keep_firing_seconds=5 * MINUTE,
        unit=Unit.FLAG,
        rationale="Streams that disappear from the list become unknown instead of off air, so they page later, as "
        "StreamExpectedUnknown. A list that changed while it was read is complete again within a few polls.",
    ),
    Rule(
        name="StreamUpstreamStatisticsFrozen",
        scope=Scope.UPSTREAM,
        severity=Severity.WARNING,
        summary="The statistics of {subject} are frozen.",
        description="The byte totals of all live streams of {subject} stopped rising at the same time. Bitrates and "
        "health scores are withdrawn.",
        expected="rising byte totals",
        condition=Condition(Comparison(Series("stream_upstream_statistics_frozen"), "==", 1)),
        for_seconds=3 * MINUTE,
        keep_firing_seconds=5 * MINUTE,
        critical=Critical(for_seconds=5 * MINUTE, also=(AnyStream((EXPECTED, LIVE)),)),
        unit=Unit.FLAG,
        rationale="Streams do not all stop in the same second, so either the platform's statistics or its ingest has "
        "stopped. Bitrate alerts cannot fire in the meantime, so the alert is critical if an expected stream is live "
        "on the upstream.",
    ),
    Rule(
        name="StreamCalendarUnreadable",
        scope=Scope.UPSTREAM,
        severity=Severity.WARNING,
        summary="The calendar {calendar} of {subject} cannot be read.",
        description="The calendar {calendar} of {subject} cannot be read. Last successful read: {reference}. Changes "
        "since then are missing; if it has never been read, it is unknown when its streams are expected.",
        expected="a readable calendar",
        condition=Condition(Comparison(Series("stream_upstream_calendar_readable"), "==", 0)),
        for_seconds=15 * MINUTE,
        keep_firing_seconds=5 * MINUTE,
        unit=Unit.FLAG,
        shown=Series("stream_upstream_calendar_last_success_timestamp_seconds"),
        shown_unit=Unit.TIME,
        labels=("calendar",),
        rationale="The last good copy stays in use, and most events are entered days before, so this is a ticket. "
        "Without a copy, because the exporter has never read the calendar since its start, alerts that depend on the "
        "expectation of its streams cannot fire. The fifteen minutes let a restart of the calendar's server pass. The "
        "alert fires whether the upstream is answering or not.",
    ),
    Rule(
        name=MAINTENANCE,
        scope=Scope.UPSTREAM,
        severity=Severity.NONE,
        summary="{subject} is under maintenance.",
        description="A maintenance window of {subject} is active. Its alerts are inhibited until the window ends.",
        condition=Condition(Comparison(Series("stream_maintenance"), "==", 1)),
        keep_firing_seconds=MAINTENANCE_KEEP_FIRING_SECONDS,
        unit=Unit.FLAG,
        labels=("stream",),
        rationale="It only inhibits the other alerts of the stream, or of the upstream and all of its streams: those "
        "that are firing are not resolved, and those that still fire six minutes after the window are reported then. "
        "By that time, the alerts of streams that have recovered are over. It needs no evidence, so it also fires "
        "while the upstream is not answering.",
    ),
    Rule(
        name="StreamSeriesLimitReached",
        scope=Scope.UPSTREAM,
        severity=Severity.INFO,
        summary="{subject} has more streams than max_streams allows.",
        description="{value} streams of {subject} are not exported, because of max_streams.",
        expected="all streams exported",
        condition=Condition(Comparison(Series("stream_upstream_streams_dropped"), ">", 0)),
        for_seconds=10 * MINUTE,
        keep_firing_seconds=5 * MINUTE,
        unit=Unit.COUNT,
        rationale="`max_streams` limits the number of series. Expected and live streams are kept first.",
    ),
)
