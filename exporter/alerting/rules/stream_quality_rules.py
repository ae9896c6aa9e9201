"""Rules about how well a live stream arrives, is transcoded and delivered."""

from __future__ import annotations

from exporter.alerting.rules.common_guards import LIVE
from exporter.alerting.rules.rule import MINUTE, Comparison, Condition, Rule, Scope, Series, Severity, Threshold, Unit
from exporter.alerting.rules.stream_rules import INHIBITOR_KEEP_FIRING_SECONDS, KEEP_FIRING_SECONDS

_INGEST_BITS = Series("stream_ingest_bitrate_bytes_per_second", scale=8)
_EXPECTED_BITS = Series("stream_expected_ingest_bitrate_bytes_per_second", scale=8)
_SCORE = Series("stream_health_score_ratio")
_LOSS = Series("stream_packet_loss_ratio")
_DROPPED_FRAMES = (
    "max without ({replicas}) (\n"
    "  increase(stream_dropped_frames_total{SELECTOR}[{10m}])\n"
    "  / on ({by_target}, platform, upstream, stream) group_left ()\n"
    "  (increase(stream_frames_total{SELECTOR}[{10m}]) >= {count:3000})\n"
    ") > {threshold}\n"
    "and on ({by_stream}) stream:live == 1"
)

STREAM_QUALITY_RULES: tuple[Rule, ...] = (
    Rule(
        name="StreamIngestStalled",
        scope=Scope.STREAM,
        severity=Severity.CRITICAL,
        summary="{subject} is live, but hardly any media arrives.",
        description="Ingest of {subject} is only {value}.",
        expected="at least {threshold}",
        condition=Condition(Comparison(_INGEST_BITS, "<", Threshold()), also=(LIVE,)),
        for_seconds=MINUTE,
        keep_firing_seconds=INHIBITOR_KEEP_FIRING_SECONDS,
        threshold=125.0,
        unit=Unit.BITRATE,
        why="A publisher that is connected but dead sends nothing; no encoder sends less than 1 kbit/s.",
    ),
    Rule(
        name="StreamBitrateCritical",
        scope=Scope.STREAM,
        severity=Severity.CRITICAL,
        summary="{subject} arrives with less than {threshold} of its bitrate.",
        description="Ingest of {subject} is {value} (expected {expected}).",
        expected="{reference}; alert below {threshold}",
        condition=Condition(Comparison(_INGEST_BITS, "<", Threshold(of=_EXPECTED_BITS)), also=(LIVE,)),
        for_seconds=2 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=0.5,
        threshold_max=1.0,
        unit=Unit.BITRATE,
        threshold_unit=Unit.RATIO,
        why="Below half its bitrate a picture is visibly broken. Needs expected_bitrate.",
    ),
    Rule(
        name="StreamBitrateLow",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="{subject} arrives with less than {threshold} of its bitrate.",
        description="Ingest of {subject} is {value} (expected {expected}).",
        expected="{reference}; alert below {threshold}",
        condition=Condition(Comparison(_INGEST_BITS, "<", Threshold(of=_EXPECTED_BITS)), also=(LIVE,)),
        for_seconds=5 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=0.75,
        threshold_max=1.0,
        unit=Unit.BITRATE,
        threshold_unit=Unit.RATIO,
        why="Encoders vary by a fifth around their target; a quarter less for minutes means that the uplink is too "
        "small. Needs expected_bitrate.",
    ),
    Rule(
        name="StreamBitrateDropped",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="{subject} arrives with much less than its usual bitrate.",
        description="Ingest of {subject} is {value}, less than {threshold} of the mean of the hour before.",
        expected="at least {threshold} of the mean of the hour before",
        promql="8 * stream:ingest_bitrate_bytes_per_second\n"
        "< on ({by_stream}) group_left () max by ({by_stream}) (\n"
        "  {threshold} * 8 * avg_over_time(stream:ingest_bitrate_bytes_per_second[{1h}] offset {10m})\n"
        ")\n"
        "unless on ({by_stream}) stream:expected_ingest_bitrate_bytes_per_second\n"
        "and on ({by_stream}) stream:live == 1",
        for_seconds=5 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=0.5,
        threshold_max=1.0,
        unit=Unit.BITRATE,
        threshold_unit=Unit.RATIO,
        why="For streams without expected_bitrate: half of what it was is not what the viewers had. A stream whose "
        "bitrate changes on purpose should be given an expected one.",
    ),
    Rule(
        name="StreamBitrateUnstable",
        scope=Scope.STREAM,
        severity=Severity.INFO,
        summary="The bitrate of {subject} swings widely.",
        description="The ingest bitrate of {subject} varies by {value} of its mean.",
        expected="at most {threshold}",
        promql="stddev_over_time(stream:ingest_bitrate_bytes_per_second[{15m}])\n"
        "/ on ({by_stream}) group_left () max by ({by_stream}) (\n"
        "  avg_over_time(stream:ingest_bitrate_bytes_per_second[{15m}]) > 0\n"
        ") > {threshold}\n"
        "and on ({by_stream}) stream:live == 1\n"
        "and on ({by_stream}) stream:live offset {15m} == 1",
        window_seconds=15 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=0.3,
        unit=Unit.RATIO,
        why="A steady encoder stays within a tenth; 0.3 is an adaptive encoder that hunts, or a bad uplink. The window "
        "must lie within the ingest session, because its start and end are no swings.",
    ),
    Rule(
        name="StreamUnhealthy",
        scope=Scope.STREAM,
        severity=Severity.CRITICAL,
        summary="{subject} is unhealthy.",
        description="The health score of {subject} is {value}.",
        expected="at least {threshold}",
        condition=Condition(Comparison(_SCORE, "<", Threshold()), also=(LIVE,)),
        for_seconds=2 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=0.5,
        threshold_max=1.0,
        unit=Unit.RATIO,
        why="A negative verdict of the platform scores 0.4; two minutes are several polls of every platform.",
    ),
    Rule(
        name="StreamDegraded",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="{subject} is impaired.",
        description="The health score of {subject} is {value}.",
        expected="at least {threshold}",
        condition=Condition(Comparison(_SCORE, "<", Threshold()), also=(LIVE,)),
        for_seconds=10 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=0.8,
        threshold_max=1.0,
        unit=Unit.RATIO,
        why="Below 0.8 means three issues, or more than a quarter of the bitrate missing, for ten minutes.",
    ),
    Rule(
        name="StreamFrameRateLow",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="{subject} has fewer frames per second than expected.",
        description="{subject} has {value} frames/s (expected {expected}).",
        expected="{reference} frames/s; alert below {threshold}",
        condition=Condition(
            Comparison(
                Series("stream_video_frames_per_second"), "<", Threshold(of=Series("stream_expected_frames_per_second"))
            ),
            also=(LIVE,),
        ),
        for_seconds=3 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=0.9,
        threshold_max=1.0,
        threshold_unit=Unit.RATIO,
        why="Below 90 % of nominal the encoder is overloaded. Needs expected_frame_rate.",
    ),
    Rule(
        name="StreamDroppedFramesCritical",
        scope=Scope.STREAM,
        severity=Severity.CRITICAL,
        summary="{subject} drops so many frames that it stutters.",
        description="{subject} drops {value} of its frames.",
        expected="at most {threshold}",
        promql=_DROPPED_FRAMES,
        window_seconds=10 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=0.05,
        threshold_max=1.0,
        unit=Unit.RATIO,
        why="One dropped frame in 20 is a stutter that every viewer notices.",
    ),
    Rule(
        name="StreamDroppedFramesHigh",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="{subject} drops frames.",
        description="{subject} drops {value} of its frames.",
        expected="at most {threshold}",
        promql=_DROPPED_FRAMES,
        window_seconds=10 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=0.01,
        threshold_max=1.0,
        unit=Unit.RATIO,
        why="1 % dropped is a visible stutter every few seconds. Fewer than 3000 frames (100 s) are too few to judge.",
    ),
    Rule(
        name="StreamPacketLossCritical",
        scope=Scope.STREAM,
        severity=Severity.CRITICAL,
        summary="{subject} loses more packets than can be repaired.",
        description="{subject} loses {value} of its packets.",
        expected="at most {threshold}",
        condition=Condition(Comparison(_LOSS, ">", Threshold()), also=(LIVE,)),
        for_seconds=3 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=0.07,
        threshold_max=1.0,
        unit=Unit.RATIO,
        why="Above 7 % retransmission needs more latency than live streams have.",
    ),
    Rule(
        name="StreamPacketLossHigh",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="{subject} loses packets.",
        description="{subject} loses {value} of its packets.",
        expected="at most {threshold}",
        condition=Condition(Comparison(_LOSS, ">", Threshold()), also=(LIVE,)),
        for_seconds=5 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=0.02,
        threshold_max=1.0,
        unit=Unit.RATIO,
        why="A good network loses 0.1 to 0.2 %; 2 % asks for more SRT latency.",
    ),
    Rule(
        name="StreamRoundTripTimeHigh",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="The round trip to the publisher of {subject} is long.",
        description="The round trip to the publisher of {subject} takes {value}.",
        expected="at most {threshold}",
        condition=Condition(Comparison(Series("stream_round_trip_time_seconds"), ">", Threshold()), also=(LIVE,)),
        for_seconds=10 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=0.3,
        unit=Unit.SECONDS,
        why="Retransmission needs about four round trips; above 300 ms none fits into a second.",
    ),
    Rule(
        name="StreamJitterHigh",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="The ingest of {subject} has much jitter.",
        description="The jitter of {subject} is {value}.",
        expected="at most {threshold}",
        condition=Condition(Comparison(Series("stream_jitter_seconds"), ">", Threshold()), also=(LIVE,)),
        for_seconds=10 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=0.05,
        unit=Unit.SECONDS,
        why="Below 20 ms is good, above 50 ms buffers run dry.",
    ),
    Rule(
        name="StreamLatencyHigh",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="{subject} reaches its viewers late.",
        description="The latency of {subject} is {value} (target {expected}).",
        expected="{reference}; alert above {threshold}",
        condition=Condition(
            Comparison(Series("stream_latency_seconds"), ">", Threshold(of=Series("stream_target_latency_seconds"))),
            also=(LIVE,),
        ),
        for_seconds=10 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=3.0,
        unit=Unit.SECONDS,
        threshold_unit=Unit.RATIO,
        why="The target is the platform's own setting; three times as late is not the product that was sold.",
    ),
    Rule(
        name="StreamTranscodeBelowRealtime",
        scope=Scope.STREAM,
        severity=Severity.CRITICAL,
        summary="{subject} is transcoded more slowly than it plays.",
        description="{subject} is transcoded at {value} of real time, so players run dry.",
        expected="at least {threshold}",
        condition=Condition(Comparison(Series("stream_transcode_realtime_ratio"), "<", Threshold()), also=(LIVE,)),
        for_seconds=2 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=1.0,
        unit=Unit.RATIO,
        why="Below 1 the transcoder falls behind and every buffer empties in the end.",
    ),
    Rule(
        name="StreamTranscodeErrors",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="The transcoding of {subject} has errors.",
        description="{subject} is transcoded with errors.",
        expected="no errors",
        condition=Condition(
            Comparison(Series("stream_health_condition", {"condition": "TranscodeNoErrors"}), "==", 0), also=(LIVE,)
        ),
        for_seconds=5 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        unit=Unit.FLAG,
        why="The platform tries another transcoder by itself; errors that last have a cause in the source. Livepeer "
        "only, with health_details.",
    ),
)
