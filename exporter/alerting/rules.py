"""Every alert rule, once, as data. The files in ``alerts/``, the sidecar and the runbook are made from this table.

Durations are seconds, thresholds in the unit that the description shows. The prose for people
stands in ``runbook.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from exporter.alerting.conditions import Compare, Condition, Over, Present, Series, Threshold, Window

MINUTE = 60.0


class Scope(StrEnum):
    """What an alert is about; every inhibit rule names it."""

    EXPORTER = "exporter"
    UPSTREAM = "upstream"
    STREAM = "stream"


class Severity(StrEnum):
    """``critical`` pages now, ``warning`` opens a ticket, ``info`` is context."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


class Owner(StrEnum):
    """Who can evaluate a rule."""

    BOTH = "both"
    """Prometheus, or the sidecar when it is on: one of them at a time."""
    PROMETHEUS = "prometheus"
    """Needs what the sidecar has not: scrapes, long windows, other targets."""


class Unit(StrEnum):
    """How a value reads in a description."""

    BITRATE = "bit/s"
    RATIO = "percent"
    SECONDS = "seconds"
    NUMBER = "number"
    NONE = "none"


@dataclass(frozen=True)
class Rule:
    """One alert rule. Either ``condition`` or ``promql`` says when it holds."""

    name: str
    scope: Scope
    severity: Severity
    summary: str
    description: str
    """Text with {stream}, {upstream}, {platform}, {value}, {threshold} and {reasons}; {label} for a further label."""
    why: str
    """Where the defaults come from."""
    condition: Condition | None = None
    promql: str = ""
    """For Prometheus only: text with SELECTOR inside each series' braces, {threshold}, and durations as {5m}."""
    for_seconds: float = 0.0
    keep_firing_seconds: float = 0.0
    threshold: float | None = None
    unit: Unit = Unit.NONE
    labels: tuple[str, ...] = ()
    """Further labels of the alert besides those of its scope."""

    @property
    def owner(self) -> Owner:
        """Who can evaluate it."""
        return Owner.BOTH if self.condition is not None else Owner.PROMETHEUS

    @property
    def worst_seconds(self) -> float:
        """From the platform's word to the page, polls and evaluations apart."""
        windows = [0.0]
        if self.condition is not None and self.condition.measure.left.window is not None:
            windows.append(self.condition.measure.left.window.seconds)
        return self.for_seconds + max(windows)


LIVE = Compare(Series("stream_live"), "==", 1)
NOT_LIVE = Compare(Series("stream_live"), "==", 0)
EXPECTED = Compare(Series("stream_expected"), "==", 1)
PAUSED = Compare(Series("stream_status", {"status": "paused"}), "==", 1)
FAILED = Compare(Series("stream_status", {"status": "error"}), "==", 1)
UPSTREAM_UP = Compare(Series("stream_upstream_up"), "==", 1)
REFUSED = Compare(Series("stream_upstream_failing", {"reason": ("auth", "forbidden")}), "==", 1)
INGEST_BITS = Series("stream_ingest_bitrate_bytes_per_second", scale=8)
EXPECTED_BITS = Series("stream_expected_ingest_bitrate_bytes_per_second", scale=8)

STREAM_RULES: tuple[Rule, ...] = (
    Rule(
        name="StreamExpectedOffline",
        scope=Scope.STREAM,
        severity=Severity.CRITICAL,
        summary="A stream that should be live is not.",
        description="{stream} on {upstream} ({platform}) should be live now and no media arrives.",
        condition=Condition(Compare(Series("stream_live"), "==", 0), also=(EXPECTED,), unless=(PAUSED,)),
        for_seconds=MINUTE,
        keep_firing_seconds=2 * MINUTE,
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
        keep_firing_seconds=2 * MINUTE,
        why="An error state is no planned end. An expected stream in it is StreamExpectedOffline.",
    ),
    Rule(
        name="StreamExpectedUnknown",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="Nobody knows whether a stream that should be live is.",
        description="{stream} on {upstream} ({platform}) should be live. The platform does not say whether it is.",
        condition=Condition(EXPECTED, also=(UPSTREAM_UP,), unless=(Present(Series("stream_live")),)),
        for_seconds=5 * MINUTE,
        why="Longer than stale_after and a few polls, so that one lost answer is no alert.",
    ),
    Rule(
        name="StreamVanished",
        scope=Scope.STREAM,
        severity=Severity.INFO,
        summary="A live stream left without a trace.",
        description="{stream} on {upstream} ({platform}) was live and has no series now, while its upstream answers.",
        promql="(max without (instance, pod) (last_over_time(stream_live{SELECTOR}[{15m}])) == 1"
        " unless max without (instance, pod) (stream_live{SELECTOR})"
        " unless max without (instance, pod) (stream_expected{SELECTOR}))"
        " and ignoring (stream) max without (instance, pod) (stream_upstream_up{SELECTOR}) == 1",
        for_seconds=2 * MINUTE,
        why="Streams that end stay for ended_ttl with stream_live 0; one that does not was dropped or renamed.",
    ),
    Rule(
        name="StreamIngestStalled",
        scope=Scope.STREAM,
        severity=Severity.CRITICAL,
        summary="A stream is live, but hardly any media arrives.",
        description="{stream} on {upstream} ({platform}) is live and takes in only {value}.",
        condition=Condition(Compare(INGEST_BITS, "<", Threshold()), also=(LIVE,)),
        for_seconds=MINUTE,
        keep_firing_seconds=2 * MINUTE,
        threshold=1000.0,
        unit=Unit.BITRATE,
        why="A publisher that is connected and dead sends nothing; no encoder lives below 1 kbit/s.",
    ),
    Rule(
        name="StreamBitrateCritical",
        scope=Scope.STREAM,
        severity=Severity.CRITICAL,
        summary="A stream arrives with less than half of its expected bitrate.",
        description="{stream} on {upstream} ({platform}) takes in {value}, less than {threshold} of what is expected.",
        condition=Condition(Compare(INGEST_BITS, "<", Threshold(of=EXPECTED_BITS)), also=(LIVE,)),
        for_seconds=2 * MINUTE,
        keep_firing_seconds=5 * MINUTE,
        threshold=0.5,
        unit=Unit.BITRATE,
        why="Below half its bitrate a picture is visibly broken. Needs expected_bitrate.",
    ),
    Rule(
        name="StreamBitrateLow",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="A stream arrives with less than its expected bitrate.",
        description="{stream} on {upstream} ({platform}) takes in {value}, less than {threshold} of what is expected.",
        condition=Condition(Compare(INGEST_BITS, "<", Threshold(of=EXPECTED_BITS)), also=(LIVE,)),
        for_seconds=5 * MINUTE,
        keep_firing_seconds=5 * MINUTE,
        threshold=0.75,
        unit=Unit.BITRATE,
        why="Encoders vary by a fifth around their target; a quarter less for minutes is an uplink that starves.",
    ),
    Rule(
        name="StreamBitrateUnstable",
        scope=Scope.STREAM,
        severity=Severity.INFO,
        summary="The bitrate of a stream swings widely.",
        description="The ingest bitrate of {stream} on {upstream} ({platform}) varies by {value} of its mean.",
        promql="(max without (instance, pod) (stddev_over_time(stream_ingest_bitrate_bytes_per_second{SELECTOR}[{15m}])"
        " / avg_over_time(stream_ingest_bitrate_bytes_per_second{SELECTOR}[{15m}])) > {threshold})"
        " and max without (instance, pod) (stream_live{SELECTOR}) == 1",
        for_seconds=5 * MINUTE,
        keep_firing_seconds=5 * MINUTE,
        threshold=0.3,
        unit=Unit.RATIO,
        why="A steady encoder stays within a tenth; 0.3 is an adaptive encoder that hunts, or a bad uplink.",
    ),
    Rule(
        name="StreamUnhealthy",
        scope=Scope.STREAM,
        severity=Severity.CRITICAL,
        summary="A stream is unhealthy.",
        description="{stream} on {upstream} ({platform}) has a health score of {value}.",
        condition=Condition(Compare(Series("stream_health_score_ratio"), "<", Threshold()), also=(LIVE,)),
        for_seconds=2 * MINUTE,
        keep_firing_seconds=5 * MINUTE,
        threshold=0.5,
        unit=Unit.RATIO,
        why="A verdict against the stream scores 0.4; two minutes are several polls of every platform.",
    ),
    Rule(
        name="StreamDegraded",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="A stream is not as healthy as it should be.",
        description="{stream} on {upstream} ({platform}) has a health score of {value}.",
        condition=Condition(Compare(Series("stream_health_score_ratio"), "<", Threshold()), also=(LIVE,)),
        for_seconds=10 * MINUTE,
        keep_firing_seconds=5 * MINUTE,
        threshold=0.8,
        unit=Unit.RATIO,
        why="0.8 is two issues, or a fifth of the bitrate missing, for ten minutes.",
    ),
    Rule(
        name="StreamFrameRateLow",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="A stream has fewer frames per second than expected.",
        description="{stream} on {upstream} ({platform}) has {value} frames/s, below {threshold} of what is expected.",
        condition=Condition(
            Compare(
                Series("stream_video_frames_per_second"), "<", Threshold(of=Series("stream_expected_frames_per_second"))
            ),
            also=(LIVE,),
        ),
        for_seconds=3 * MINUTE,
        keep_firing_seconds=5 * MINUTE,
        threshold=0.9,
        unit=Unit.NUMBER,
        why="Below 90 % of nominal the encoder is overloaded. Needs expected_frame_rate.",
    ),
    Rule(
        name="StreamDroppedFramesHigh",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="A stream drops frames.",
        description="{stream} on {upstream} ({platform}) drops {value} of its frames.",
        promql="max without (instance, pod) (increase(stream_dropped_frames_total{SELECTOR}[{5m}])"
        " / (increase(stream_frames_total{SELECTOR}[{5m}]) > 0)) > {threshold}",
        for_seconds=5 * MINUTE,
        keep_firing_seconds=5 * MINUTE,
        threshold=0.01,
        unit=Unit.RATIO,
        why="1 % dropped is a visible stutter every few seconds.",
    ),
    Rule(
        name="StreamPacketLossCritical",
        scope=Scope.STREAM,
        severity=Severity.CRITICAL,
        summary="A stream loses more packets than can be repaired.",
        description="{stream} on {upstream} ({platform}) loses {value} of its packets.",
        condition=Condition(Compare(Series("stream_packet_loss_ratio"), ">", Threshold()), also=(LIVE,)),
        for_seconds=5 * MINUTE,
        keep_firing_seconds=5 * MINUTE,
        threshold=0.07,
        unit=Unit.RATIO,
        why="Above 7 % retransmission needs more latency than live streams have.",
    ),
    Rule(
        name="StreamPacketLossHigh",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="A stream loses packets.",
        description="{stream} on {upstream} ({platform}) loses {value} of its packets.",
        condition=Condition(Compare(Series("stream_packet_loss_ratio"), ">", Threshold()), also=(LIVE,)),
        for_seconds=5 * MINUTE,
        keep_firing_seconds=5 * MINUTE,
        threshold=0.02,
        unit=Unit.RATIO,
        why="A good network loses 0.1 to 0.2 %; 2 % asks for more SRT latency.",
    ),
    Rule(
        name="StreamRoundTripTimeHigh",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="The round trip to a stream's publisher is long.",
        description="{stream} on {upstream} ({platform}) has a round trip of {value}.",
        condition=Condition(Compare(Series("stream_round_trip_time_seconds"), ">", Threshold()), also=(LIVE,)),
        for_seconds=10 * MINUTE,
        keep_firing_seconds=5 * MINUTE,
        threshold=0.3,
        unit=Unit.SECONDS,
        why="Retransmission needs about four round trips; above 300 ms none fits into a second.",
    ),
    Rule(
        name="StreamJitterHigh",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="The jitter of a stream is high.",
        description="{stream} on {upstream} ({platform}) has a jitter of {value}.",
        condition=Condition(Compare(Series("stream_jitter_seconds"), ">", Threshold()), also=(LIVE,)),
        for_seconds=10 * MINUTE,
        keep_firing_seconds=5 * MINUTE,
        threshold=0.05,
        unit=Unit.SECONDS,
        why="Below 20 ms is good, above 50 ms buffers run dry.",
    ),
    Rule(
        name="StreamLatencyHigh",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="A stream is later than it is meant to be.",
        description="{stream} on {upstream} ({platform}) is late by {value}, more than {threshold} of its target.",
        condition=Condition(
            Compare(Series("stream_latency_seconds"), ">", Threshold(of=Series("stream_target_latency_seconds"))),
            also=(LIVE,),
        ),
        for_seconds=10 * MINUTE,
        keep_firing_seconds=5 * MINUTE,
        threshold=3.0,
        unit=Unit.SECONDS,
        why="The target is the platform's own setting; three times as late is no longer the product that was sold.",
    ),
    Rule(
        name="StreamTranscodeBelowRealtime",
        scope=Scope.STREAM,
        severity=Severity.CRITICAL,
        summary="A stream is transcoded more slowly than it plays.",
        description="{stream} on {upstream} ({platform}) is transcoded at {value} of real time: players run dry.",
        condition=Condition(Compare(Series("stream_transcode_realtime_ratio"), "<", Threshold()), also=(LIVE,)),
        for_seconds=2 * MINUTE,
        keep_firing_seconds=5 * MINUTE,
        threshold=1.0,
        unit=Unit.RATIO,
        why="Below 1 the transcoder falls behind and every buffer empties in the end.",
    ),
    Rule(
        name="StreamMultistreamTargetDown",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="A live stream does not reach one of its multistream targets.",
        description="{stream} on {upstream} ({platform}) is live, its target {target} is not connected.",
        condition=Condition(Compare(Series("stream_multistream_target_connected"), "==", 0), also=(LIVE,)),
        for_seconds=5 * MINUTE,
        keep_firing_seconds=5 * MINUTE,
        labels=("target",),
        why="Targets connect some seconds after the stream and reconnect by themselves.",
    ),
    Rule(
        name="StreamFlapping",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="A stream restarts again and again.",
        description="{stream} on {upstream} ({platform}) was published anew {value} times in a quarter of an hour.",
        condition=Condition(
            Compare(
                Series("stream_restarts_total", window=Window(Over.INCREASE, 15 * MINUTE)),
                ">=",
                Threshold(),
            )
        ),
        keep_firing_seconds=15 * MINUTE,
        threshold=6.0,
        unit=Unit.NUMBER,
        why="Six restarts in 15 minutes is what ingest services call continuous.",
    ),
)

UPSTREAM_RULES: tuple[Rule, ...] = (
    Rule(
        name="StreamUpstreamDown",
        scope=Scope.UPSTREAM,
        severity=Severity.CRITICAL,
        summary="A streaming platform does not answer.",
        description="{upstream} ({platform}) does not answer: nobody knows how its streams are.",
        condition=Condition(Compare(Series("stream_upstream_up"), "==", 0), unless=(REFUSED,)),
        for_seconds=MINUTE,
        keep_firing_seconds=5 * MINUTE,
        why="A minute is two to four polls; longer, and blindness lasts more than two minutes before the page.",
    ),
    Rule(
        name="StreamUpstreamAuthFailing",
        scope=Scope.UPSTREAM,
        severity=Severity.CRITICAL,
        summary="A streaming platform refuses the exporter's credentials.",
        description="{upstream} ({platform}) refuses the credentials: nobody knows how its streams are.",
        condition=Condition(REFUSED),
        for_seconds=MINUTE,
        keep_firing_seconds=5 * MINUTE,
        why="No key heals by itself; the minute lets a rotated secret arrive.",
    ),
    Rule(
        name="StreamUpstreamErrorRatioHigh",
        scope=Scope.UPSTREAM,
        severity=Severity.WARNING,
        summary="Many requests to a streaming platform fail.",
        description="{value} of the requests to {upstream} ({platform}) fail.",
        promql="max without (instance, pod) ("
        'sum without (code, endpoint) (rate(stream_upstream_requests_total{SELECTOR,code!~"[23]..|404"}[{10m}]))'
        " / (sum without (code, endpoint) (rate(stream_upstream_requests_total{SELECTOR}[{10m}])) > 0)) > {threshold}",
        for_seconds=10 * MINUTE,
        keep_firing_seconds=5 * MINUTE,
        threshold=0.05,
        unit=Unit.RATIO,
        why="1 in 20 is more than a flaky network, and data still come: a ticket.",
    ),
    Rule(
        name="StreamUpstreamDataStale",
        scope=Scope.UPSTREAM,
        severity=Severity.WARNING,
        summary="What is shown of a streaming platform is old.",
        description="The last good answer of {upstream} ({platform}) is {value} old, although it counts as up.",
        promql="(time() - max without (instance, pod) (stream_upstream_last_success_timestamp_seconds{SELECTOR})"
        " > {threshold} * max without (instance, pod) (stream_upstream_poll_interval_seconds{SELECTOR}))"
        " and max without (instance, pod) (stream_upstream_up{SELECTOR}) == 1",
        for_seconds=2 * MINUTE,
        threshold=4.0,
        unit=Unit.SECONDS,
        why="Polls that stop while the exporter lives: four missed ones are no jitter.",
    ),
    Rule(
        name="StreamSeriesLimitReached",
        scope=Scope.UPSTREAM,
        severity=Severity.INFO,
        summary="A platform has more streams than may be exported.",
        description="{value} streams of {upstream} ({platform}) are left out by max_streams.",
        condition=Condition(Compare(Series("stream_upstream_streams_dropped"), ">", 0)),
        for_seconds=10 * MINUTE,
        unit=Unit.NUMBER,
        why="The guard of the series count is at work; expected and live streams are kept first.",
    ),
)

EXPORTER_RULES: tuple[Rule, ...] = (
    Rule(
        name="StreamExporterDown",
        scope=Scope.EXPORTER,
        severity=Severity.CRITICAL,
        summary="The stream exporter cannot be scraped.",
        description="No stream exporter can be scraped: nobody watches the streams.",
        promql="absent(up{SELECTOR} == 1)",
        for_seconds=5 * MINUTE,
        why="One of two replicas is enough; five minutes let a rollout pass.",
    ),
    Rule(
        name="StreamExporterReloadFailed",
        scope=Scope.EXPORTER,
        severity=Severity.WARNING,
        summary="The stream exporter runs with an old configuration.",
        description="The last reload of the configuration failed; the one before is still in force.",
        promql="stream_exporter_config_last_reload_successful{SELECTOR} == 0",
        for_seconds=10 * MINUTE,
        why="Time enough to mend the file that one is editing.",
    ),
    Rule(
        name="StreamAlertPushFailing",
        scope=Scope.EXPORTER,
        severity=Severity.WARNING,
        summary="The sidecar cannot deliver its alerts.",
        description="Alerts for {alertmanager} are lost or refused.",
        promql="sum without (instance, pod) (increase(stream_exporter_notifications_errors_total{SELECTOR}[{10m}])"
        " + increase(stream_exporter_notifications_dropped_total{SELECTOR}[{10m}])) > 0",
        for_seconds=10 * MINUTE,
        labels=("alertmanager",),
        why="One lost request is sent again within a minute; ten minutes of them is a pager that is cut off.",
    ),
)

RULES: tuple[Rule, ...] = EXPORTER_RULES + UPSTREAM_RULES + STREAM_RULES
