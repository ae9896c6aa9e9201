"""Rules about the state of streams: off air, unknown, paused, flapping."""

from __future__ import annotations

from exporter.alerting.rules.common_guards import (
    EXPECTED,
    FAILED,
    FORBIDDEN,
    JUDGED_BY_CHECK,
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
"""Keep-firing time of stream alerts."""
INHIBITOR_KEEP_FIRING_SECONDS = 3 * MINUTE
"""Keep-firing time of alerts that inhibit other alerts of their stream. Ending first, they would let the others page.

Upstream alerts inhibit these in turn, and are not kept firing: a stream that died during an outage pages as soon as its
upstream is back.
"""

STREAM_RULES: tuple[Rule, ...] = (
    Rule(
        name="StreamExpectedOffline",
        scope=Scope.STREAM,
        severity=Severity.CRITICAL,
        summary="{subject} should be live, but is off air.",
        description="No media arrives for {subject}, although it should be live now.",
        expected="live",
        condition=Condition(OFF_AIR, also=(EXPECTED,), unless=(PAUSED, JUDGED_BY_CHECK)),
        for_seconds=MINUTE,
        keep_firing_seconds=INHIBITOR_KEEP_FIRING_SECONDS,
        unit=Unit.STATUS,
        rationale="Broadcast monitors treat 60 s without media as offline. Expected hours and the start grace come "
        "from the configuration. A playback check that is off air cannot be played either, which pages as "
        "StreamViewersGetNothing or StreamUnplayable. This rule leaves it out, so that there is one page, not two. "
        "While the source of a check is off air, only the source pages.",
    ),
    Rule(
        name="StreamError",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="The platform reports an error for {subject}.",
        description="The platform reports an error for {subject}. The stream is not expected to be live.",
        expected="no error",
        # `unless LIVE`, because another replica may see it live
        condition=Condition(FAILED, unless=(EXPECTED, LIVE)),
        for_seconds=MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        unit=Unit.STATUS,
        rationale="An error is not a planned end, but the stream is not expected to be live, so this is a ticket. An "
        "expected stream in this state fires StreamExpectedOffline.",
    ),
    Rule(
        name="StreamExpectedUnknown",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="{subject} should be live, but its state is unknown.",
        description="{subject} should be live now. Its upstream answers, but does not report whether the stream is "
        "live.",
        expected="live",
        condition=Condition(UNKNOWN, also=(EXPECTED,), unless=(JUDGED_BY_CHECK, FORBIDDEN)),
        for_seconds=5 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        critical=Critical(for_seconds=15 * MINUTE),
        unit=Unit.STATUS,
        rationale="Five minutes are longer than `stale_after` and a few polls, so one lost response causes no alert. "
        "After 15 minutes, an outage may have gone unnoticed for too long. A playback check that has a verdict, or "
        "whose requests are refused, has other alerts.",
    ),
    Rule(
        name="StreamExpectedPaused",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="{subject} should be live, but is paused.",
        description="{subject} should be live now, but it is paused.",
        expected="live",
        condition=Condition(PAUSED, also=(EXPECTED,), unless=(LIVE,)),
        for_seconds=10 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        unit=Unit.STATUS,
        rationale="Somebody paused the stream on purpose, so this does not page. After ten minutes, the pause may have "
        "been forgotten.",
    ),
    Rule(
        name="StreamLiveUnexpectedly",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="{subject} is live outside its expected hours.",
        description="{subject} is live, although it should be off air.",
        expected="off air",
        condition=Condition(LIVE, also=(Comparison(Series("stream_expected"), "==", 0),)),
        for_seconds=30 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        unit=Unit.FLAG,
        rationale="Half an hour covers line checks and overruns. After that, an encoder was left running or the "
        "configured hours are wrong.",
    ),
    Rule(
        name="StreamVanished",
        scope=Scope.STREAM,
        severity=Severity.INFO,
        summary="{subject} was live and has disappeared.",
        description="{subject} was live and has disappeared, although its upstream is answering.",
        expected="live, or listed as ended",
        # a stream has not disappeared if only its exporter is down
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
        rationale="A stream that ends is served with `stream_live 0` for `ended_ttl`; one that disappears at once was "
        "dropped or renamed. A stream in an unknown state has not disappeared. The alert ends after 15 minutes.",
    ),
    Rule(
        name="StreamFlapping",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="{subject} keeps restarting.",
        description="{subject} restarted {value} times in 15 minutes.",
        expected="fewer than {threshold} restarts",
        condition=Condition(Comparison(Series("stream_restarts_total", rises_within=15 * MINUTE), ">=", Threshold())),
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=6.0,
        unit=Unit.COUNT,
        rationale="Ingest services describe six restarts in 15 minutes as continuous restarting.",
    ),
    Rule(
        name="StreamVerdictUnstable",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="The platform's health verdict for {subject} keeps changing.",
        description="The platform's health verdict for {subject} changed {value} times in 15 minutes.",
        expected="fewer than {threshold} changes",
        condition=Condition(Comparison(Series("stream_healthy", changes_within=15 * MINUTE), ">=", Threshold())),
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=6.0,
        unit=Unit.COUNT,
        rationale="A verdict that changes every few minutes never lasts long enough for StreamUnhealthy, although the "
        "picture is bad half of the time.",
    ),
    Rule(
        name="StreamMultistreamTargetDown",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="{subject} does not reach its multistream target {target}.",
        description="{subject} is live, but its multistream target {target} is not connected.",
        expected="connected",
        condition=Condition(Comparison(Series("stream_multistream_target_connected"), "==", 0), also=(LIVE,)),
        for_seconds=5 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        labels=("target",),
        unit=Unit.FLAG,
        rationale="Targets connect a few seconds after the stream, and reconnect on their own.",
    ),
    Rule(
        name="StreamViewersDropped",
        scope=Scope.STREAM,
        severity=Severity.INFO,
        summary="{subject} has lost most of its viewers.",
        description="{subject} is live and lost {value} of its viewers in 10 minutes.",
        expected="at most {threshold}",
        promql="1 - (\n"
        "  stream:viewers\n"
        "  / on ({by_stream}) group_left () max by ({by_stream}) (stream:viewers offset {10m} > 50)\n"
        ") > on ({by_stream}) group_left () {limits:stream:live}\n"
        "and on ({by_stream}) stream:live == 1",
        for_seconds=3 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=0.8,
        threshold_max=1.0,
        unit=Unit.RATIO,
        rationale="If four of five viewers leave a stream that is still live, players may be failing in a way that the "
        "server cannot see. Below 50 viewers, the share means little. The end of a programme looks the same, so this "
        "is only `info`.",
    ),
)
