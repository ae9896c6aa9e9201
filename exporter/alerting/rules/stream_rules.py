"""Rules about whether a stream is there, and stays there."""

from __future__ import annotations

from exporter.alerting.rules.common_guards import (
    EXPECTED,
    FAILED,
    LIVE,
    OFF_AIR,
    PAUSED,
    UNKNOWN,
)
from exporter.alerting.rules.rule import (
    MINUTE,
    Comparison,
    Condition,
    Critical,
    Rule,
    Scope,
    Series,
    Severity,
    Threshold,
    Unit,
)

KEEP_FIRING_SECONDS = 2 * MINUTE
"""Default for alerts of streams."""
INHIBITOR_KEEP_FIRING_SECONDS = 3 * MINUTE
"""For alerts that inhibit the others of their stream: if they ended first, the others would page for what is over.

The alerts of upstreams, which inhibit these, are not kept firing: a stream that died during an outage pages as soon as
its upstream is back.
"""

STREAM_RULES: tuple[Rule, ...] = (
    Rule(
        name="StreamExpectedOffline",
        scope=Scope.STREAM,
        severity=Severity.CRITICAL,
        summary="{subject} should be live, but no media arrives.",
        description="{subject} should be live now, but no media arrives.",
        expected="live",
        condition=Condition(OFF_AIR, also=(EXPECTED,), unless=(PAUSED,)),
        for_seconds=MINUTE,
        keep_firing_seconds=INHIBITOR_KEEP_FIRING_SECONDS,
        unit=Unit.STATUS,
        why="60 s without media is what broadcast monitors call offline; hours and grace come from the configuration.",
    ),
    Rule(
        name="StreamError",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="The platform reports an error of {subject}.",
        description="{subject} is in the platform's error state.",
        expected="no error",
        # another replica may see it live
        condition=Condition(FAILED, unless=(EXPECTED, LIVE)),
        for_seconds=MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        unit=Unit.STATUS,
        why="An error state is not a planned end, but the stream is not expected to be live, so it is a ticket. An "
        "expected stream in this state is StreamExpectedOffline.",
    ),
    Rule(
        name="StreamExpectedUnknown",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="{subject} should be live, but its state is unknown.",
        description="{subject} should be live. Its upstream answers, but does not tell whether the stream is live.",
        expected="live",
        condition=Condition(UNKNOWN, also=(EXPECTED,)),
        for_seconds=5 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        critical=Critical(for_seconds=15 * MINUTE),
        unit=Unit.STATUS,
        why="Longer than stale_after and a few polls, so that one lost response is no alert. After 15 minutes an "
        "outage could have gone unnoticed for too long.",
    ),
    Rule(
        name="StreamExpectedPaused",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="{subject} is paused although it should be live.",
        description="{subject} should be live now, but it is paused.",
        expected="live",
        condition=Condition(PAUSED, also=(EXPECTED,), unless=(LIVE,)),
        for_seconds=10 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        unit=Unit.STATUS,
        why="Somebody paused it on purpose, so it is no page. After ten minutes it may have been forgotten.",
    ),
    Rule(
        name="StreamLiveUnexpectedly",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="{subject} is live outside its expected hours.",
        description="{subject} is live although it should not be.",
        expected="off air",
        condition=Condition(LIVE, also=(Comparison(Series("stream_expected"), "==", 0),)),
        for_seconds=30 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        unit=Unit.FLAG,
        why="Half an hour lets line checks and overruns pass. After that an encoder was left running, or the hours "
        "are wrong.",
    ),
    Rule(
        name="StreamVanished",
        scope=Scope.STREAM,
        severity=Severity.INFO,
        summary="{subject} was live and is gone.",
        description="{subject} was live and is no longer served, while its upstream answers.",
        expected="served until it has ended",
        # a stream whose exporter is down is not gone
        promql="max without ({replicas}) (\n"
        "  last_over_time(stream_live{SELECTOR}[{15m}]) == 1\n"
        "  and on ({by_target}) max_over_time(up{SELECTOR}[{window}]) == 1\n"
        ")\n"
        "unless on ({by_stream}) stream:live\n"
        "unless on ({by_stream}) stream:expected\n"
        "unless on ({by_stream}) stream:status_unknown\n"
        "unless on ({by_stream}) last_over_time(stream_former_label{SELECTOR}[{window}])\n"
        "and on ({by_upstream}) upstream:answering == 1",
        for_seconds=2 * MINUTE,
        unit=Unit.FLAG,
        why="Streams that end are served for ended_ttl with stream_live 0; one that is not was dropped or renamed. A "
        "stream whose state is unknown is not gone. It is forgotten after 15 minutes.",
    ),
    Rule(
        name="StreamFlapping",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="{subject} restarts again and again.",
        description="{subject} restarted {value} times in 15 minutes.",
        expected="less than {threshold} times",
        condition=Condition(Comparison(Series("stream_restarts_total", rises_within=15 * MINUTE), ">=", Threshold())),
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=6.0,
        unit=Unit.COUNT,
        why="Six restarts in 15 minutes is what ingest services call continuous.",
    ),
    Rule(
        name="StreamVerdictUnstable",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="The platform's health verdict for {subject} keeps changing.",
        description="The platform's health verdict for {subject} changed {value} times in 15 minutes.",
        expected="less than {threshold} times",
        condition=Condition(Comparison(Series("stream_healthy", changes_within=15 * MINUTE), ">=", Threshold())),
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=6.0,
        unit=Unit.COUNT,
        why="A verdict that changes every few minutes never holds long enough for StreamUnhealthy, although the "
        "picture is bad half of the time.",
    ),
    Rule(
        name="StreamMultistreamTargetDown",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="{subject} does not reach its multistream target {target}.",
        description="{subject} is live, but its target {target} is not connected.",
        expected="connected",
        condition=Condition(Comparison(Series("stream_multistream_target_connected"), "==", 0), also=(LIVE,)),
        for_seconds=5 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        labels=("target",),
        unit=Unit.FLAG,
        why="Targets connect some seconds after the stream and reconnect by themselves.",
    ),
    Rule(
        name="StreamViewersDropped",
        scope=Scope.STREAM,
        severity=Severity.INFO,
        summary="Most viewers of {subject} left within minutes.",
        description="{subject} is live and has lost {value} of its viewers in ten minutes.",
        expected="at most {threshold}",
        promql="1 - (\n"
        "  stream:viewers\n"
        "  / on ({by_stream}) group_left () max by ({by_stream}) (stream:viewers offset {10m} > 50)\n"
        ") > {threshold}\n"
        "and on ({by_stream}) stream:live == 1",
        for_seconds=3 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=0.8,
        threshold_max=1.0,
        unit=Unit.RATIO,
        why="If four of five viewers leave a stream that goes on, players fail where the server sees nothing. With "
        "less than 50 viewers a share means little; the end of a programme looks alike, hence only info.",
    ),
)
