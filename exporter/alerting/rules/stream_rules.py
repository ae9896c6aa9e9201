"""Rules about whether a stream is there, and stays there."""

from __future__ import annotations

from exporter.alerting.rules.rule import (
    MINUTE,
    Comparison,
    Condition,
    Present,
    Rule,
    Scope,
    Series,
    Severity,
    Threshold,
    Unit,
)
from exporter.alerting.rules.upstream_rules import UP

LIVE = Comparison(Series("stream_live"), "==", 1)
EXPECTED = Comparison(Series("stream_expected"), "==", 1)
PAUSED = Comparison(Series("stream_status", {"status": "paused"}), "==", 1)
FAILED = Comparison(Series("stream_status", {"status": "error"}), "==", 1)

KEEP_FIRING_SECONDS = 2 * MINUTE
"""Default for alerts of streams. Together with ``stale_after`` it exceeds the two minutes within which the alert of
their upstream fires."""
INHIBITOR_KEEP_FIRING_SECONDS = 3 * MINUTE
"""For alerts that inhibit all others of their stream: if they ended first, the others would page for what is over.

The alerts of upstreams, which inhibit these, are kept firing for five minutes.
"""

STREAM_RULES: tuple[Rule, ...] = (
    Rule(
        name="StreamExpectedOffline",
        scope=Scope.STREAM,
        severity=Severity.CRITICAL,
        summary="A stream that should be live is not.",
        description="{stream} on {upstream} ({platform}) should be live now and no media arrives.",
        condition=Condition(Comparison(Series("stream_live"), "==", 0), also=(EXPECTED,), unless=(PAUSED,)),
        for_seconds=MINUTE,
        keep_firing_seconds=INHIBITOR_KEEP_FIRING_SECONDS,
        why="60 s without media is what broadcast monitors call offline; hours and grace come from the configuration.",
    ),
    Rule(
        name="StreamError",
        scope=Scope.STREAM,
        severity=Severity.CRITICAL,
        summary="The platform reports an error of a stream.",
        description="{stream} on {upstream} ({platform}) is in the platform's error state.",
        condition=Condition(FAILED, unless=(EXPECTED,)),
        for_seconds=MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        why="An error state is no planned end. An expected stream in it is StreamExpectedOffline.",
    ),
    Rule(
        name="StreamExpectedUnknown",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="Nobody knows whether a stream that should be live is.",
        description="{stream} on {upstream} ({platform}) should be live. The platform does not say whether it is.",
        condition=Condition(EXPECTED, also=(UP,), unless=(Present(Series("stream_live")),)),
        for_seconds=5 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        why="Longer than stale_after and a few polls, so that one lost answer is no alert.",
    ),
    Rule(
        name="StreamVanished",
        scope=Scope.STREAM,
        severity=Severity.INFO,
        summary="A live stream left without a trace.",
        description="{stream} on {upstream} ({platform}) was live and is no longer served, while its upstream answers.",
        promql="(\n"
        "  max without (instance, pod) (last_over_time(stream_live{SELECTOR}[{15m}])) == 1\n"
        "  unless\n"
        "  max without (instance, pod) (stream_live{SELECTOR})\n"
        "  unless\n"
        "  max without (instance, pod) (stream_expected{SELECTOR})\n"
        "  unless\n"
        '  max without (instance, pod, status) (stream_status{SELECTOR,status="unknown"})\n'
        ")\n"
        "and ignoring (stream)\n"
        "max without (instance, pod) (stream_upstream_up{SELECTOR}) == 1",
        for_seconds=2 * MINUTE,
        why="Streams that end stay for ended_ttl with stream_live 0; one that does not was dropped or renamed. One of "
        "which nothing is known is unknown, not gone. It is forgotten after 15 minutes.",
    ),
    Rule(
        name="StreamFlapping",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="A stream restarts again and again.",
        description="{stream} on {upstream} ({platform}) was published anew {value} times in a quarter of an hour."
        "{reasons}",
        condition=Condition(Comparison(Series("stream_restarts_total", rises_within=15 * MINUTE), ">=", Threshold())),
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=6.0,
        unit=Unit.COUNT,
        why="Six restarts in 15 minutes is what ingest services call continuous.",
    ),
    Rule(
        name="StreamMultistreamTargetDown",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="A live stream does not reach one of its multistream targets.",
        description="{stream} on {upstream} ({platform}) is live, its target {target} is not connected.{reasons}",
        condition=Condition(Comparison(Series("stream_multistream_target_connected"), "==", 0), also=(LIVE,)),
        for_seconds=5 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        labels=("target",),
        why="Targets connect some seconds after the stream and reconnect by themselves.",
    ),
    Rule(
        name="StreamViewersDropped",
        scope=Scope.STREAM,
        severity=Severity.INFO,
        summary="Most viewers of a live stream left within minutes.",
        description="{stream} on {upstream} ({platform}) is live and has lost {value} of its viewers in ten minutes."
        "{reasons}",
        promql="(\n"
        "  1 - max without (instance, pod) (stream_viewers{SELECTOR})\n"
        "  / (max without (instance, pod) (stream_viewers{SELECTOR} offset {10m}) > 50)\n"
        "  > {threshold}\n"
        ")\n"
        "and\n"
        "max without (instance, pod) (stream_live{SELECTOR}) == 1",
        for_seconds=3 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=0.8,
        threshold_max=1.0,
        unit=Unit.RATIO,
        why="Four of five leaving a stream that runs on means that players fail where the server sees nothing. With "
        "less than 50 viewers a share says little; the end of a programme looks alike, hence only info.",
    ),
)
