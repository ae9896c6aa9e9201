"""Rules about the quality of live streams: bitrate, health score, frames, network and transcoding."""

from __future__ import annotations

from exporter.alerting.rules.common_guards import JUDGED_BY_CHECK, LIVE, UNPLAYABLE
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
    ") > on ({by_stream}) group_left () {limits:stream:live}\n"
    "and on ({by_stream}) stream:live == 1"
)

STREAM_QUALITY_RULES: tuple[Rule, ...] = (
    Rule(
        name="StreamIngestStalled",
        scope=Scope.STREAM,
        severity=Severity.CRITICAL,
        summary="{subject} is live, but hardly any media arrives.",
        description="Ingest of {subject} is {value} (expected {expected}).",
        expected="at least {threshold}",
        condition=Condition(Comparison(_INGEST_BITS, "<", Threshold()), also=(LIVE,)),
        for_seconds=MINUTE,
        keep_firing_seconds=INHIBITOR_KEEP_FIRING_SECONDS,
        threshold=125.0,
        unit=Unit.BITRATE,
        rationale="A publisher that hangs while connected sends nothing, and no working encoder sends less than 1 "
        "kbit/s.",
    ),
    Rule(
        name="StreamBitrateCritical",
        scope=Scope.STREAM,
        severity=Severity.CRITICAL,
        summary="Ingest of {subject} is below {threshold} of its expected bitrate.",
        description="Ingest of {subject} is {value} (expected {expected}).",
        expected="{reference}; alert below {threshold}",
        condition=Condition(Comparison(_INGEST_BITS, "<", Threshold(of=_EXPECTED_BITS)), also=(LIVE,)),
        for_seconds=2 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=0.5,
        threshold_max=1.0,
        unit=Unit.BITRATE,
        threshold_unit=Unit.RATIO,
        rationale="Below half of its bitrate, a picture is visibly broken. Needs `expected_bitrate`.",
    ),
    Rule(
        name="StreamBitrateLow",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="Ingest of {subject} is below {threshold} of its expected bitrate.",
        description="Ingest of {subject} is {value} (expected {expected}).",
        expected="{reference}; alert below {threshold}",
        condition=Condition(Comparison(_INGEST_BITS, "<", Threshold(of=_EXPECTED_BITS)), also=(LIVE,)),
        for_seconds=5 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=0.75,
        threshold_max=1.0,
        unit=Unit.BITRATE,
        threshold_unit=Unit.RATIO,
        rationale="Encoders vary by 20 % around their target. A quarter less for minutes means that the uplink is too "
        "small. Needs `expected_bitrate`.",
    ),
    Rule(
        name="StreamBitrateDropped",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="The ingest bitrate of {subject} has dropped.",
        description="Ingest of {subject} is {value}, below {threshold} of its average over the previous hour.",
        expected="at least {threshold} of the average over the previous hour",
        promql="8 * stream:ingest_bitrate_bytes_per_second\n"
        "< on ({by_stream}) group_left () max by ({by_stream}) (\n"
        "  8 * avg_over_time(stream:ingest_bitrate_bytes_per_second[{1h}] offset {10m})\n"
        ") * on ({by_stream}) {limits:stream:live}\n"
        "unless on ({by_stream}) stream:expected_ingest_bitrate_bytes_per_second\n"
        "and on ({by_stream}) stream:live == 1",
        for_seconds=5 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=0.5,
        threshold_max=1.0,
        unit=Unit.BITRATE,
        threshold_unit=Unit.RATIO,
        rationale="For streams without `expected_bitrate`. Viewers notice when half of the bitrate is gone. Configure "
        "`expected_bitrate` for a stream whose bitrate changes on purpose.",
    ),
    Rule(
        name="StreamBitrateUnstable",
        scope=Scope.STREAM,
        severity=Severity.INFO,
        summary="The ingest bitrate of {subject} is unstable.",
        description="The standard deviation of the ingest bitrate of {subject} is {value} of its average.",
        expected="at most {threshold}",
        promql="stddev_over_time(stream:ingest_bitrate_bytes_per_second[{15m}])\n"
        "/ on ({by_stream}) group_left () max by ({by_stream}) (\n"
        "  avg_over_time(stream:ingest_bitrate_bytes_per_second[{15m}]) > 0\n"
        ") > on ({by_stream}) group_left () {limits:stream:live}\n"
        "and on ({by_stream}) stream:live == 1\n"
        "and on ({by_stream}) stream:live offset {15m} == 1",
        window_seconds=15 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=0.3,
        unit=Unit.RATIO,
        rationale="A steady encoder stays within 10 %. 30 % means an adaptive encoder that keeps hunting, or a bad "
        "uplink. The window must lie within the ingest session, so that a start or an end does not count.",
    ),
    Rule(
        name="StreamUnhealthy",
        scope=Scope.STREAM,
        severity=Severity.CRITICAL,
        summary="{subject} is unhealthy.",
        description="The health score of {subject} is {value}.",
        expected="at least {threshold}",
        condition=Condition(Comparison(_SCORE, "<", Threshold()), also=(LIVE,), unless=(JUDGED_BY_CHECK,)),
        for_seconds=2 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=0.5,
        threshold_max=1.0,
        unit=Unit.RATIO,
        rationale="A negative verdict from the platform scores 0.4. Two minutes are several polls of every platform. "
        "For playback checks, each finding has its own rule and severity.",
    ),
    Rule(
        name="StreamDegraded",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="{subject} is impaired.",
        description="The health score of {subject} is {value}.",
        expected="at least {threshold}",
        condition=Condition(Comparison(_SCORE, "<", Threshold()), also=(LIVE,), unless=(UNPLAYABLE,)),
        for_seconds=10 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=0.8,
        threshold_max=1.0,
        unit=Unit.RATIO,
        rationale="A score below 0.8 means three issues, or more than a quarter of the bitrate missing, for ten "
        "minutes.",
    ),
    Rule(
        name="StreamFrameRateLow",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="The frame rate of {subject} is low.",
        description="The frame rate of {subject} is {value} frames/s (expected {expected}).",
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
        rationale="Below 90 % of the expected frame rate, the encoder is overloaded. Needs `expected_frame_rate`.",
    ),
    Rule(
        name="StreamDroppedFramesCritical",
        scope=Scope.STREAM,
        severity=Severity.CRITICAL,
        summary="{subject} is dropping many frames.",
        description="{value} of the frames of {subject} were dropped in the last 10 minutes.",
        expected="at most {threshold}",
        promql=_DROPPED_FRAMES,
        window_seconds=10 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=0.05,
        threshold_max=1.0,
        unit=Unit.RATIO,
        rationale="One dropped frame in 20 is a stutter that every viewer notices.",
    ),
    Rule(
        name="StreamDroppedFramesHigh",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="{subject} is dropping frames.",
        description="{value} of the frames of {subject} were dropped in the last 10 minutes.",
        expected="at most {threshold}",
        promql=_DROPPED_FRAMES,
        window_seconds=10 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=0.01,
        threshold_max=1.0,
        unit=Unit.RATIO,
        rationale="1 % of dropped frames is a visible stutter every few seconds. Fewer than 3000 frames (100 s) are "
        "too few to judge.",
    ),
    Rule(
        name="StreamPacketLossCritical",
        scope=Scope.STREAM,
        severity=Severity.CRITICAL,
        summary="Packet loss of {subject} is too high to repair.",
        description="Packet loss of {subject} is {value}.",
        expected="at most {threshold}",
        condition=Condition(Comparison(_LOSS, ">", Threshold()), also=(LIVE,)),
        for_seconds=3 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=0.07,
        threshold_max=1.0,
        unit=Unit.RATIO,
        rationale="Above 7 %, retransmission needs more latency than live streams have.",
    ),
    Rule(
        name="StreamPacketLossHigh",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="Packet loss of {subject} is high.",
        description="Packet loss of {subject} is {value}.",
        expected="at most {threshold}",
        condition=Condition(Comparison(_LOSS, ">", Threshold()), also=(LIVE,)),
        for_seconds=5 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=0.02,
        threshold_max=1.0,
        unit=Unit.RATIO,
        rationale="A good network loses 0.1 to 0.2 %. At 2 %, SRT needs more latency.",
    ),
    Rule(
        name="StreamRoundTripTimeHigh",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="The round-trip time to the publisher of {subject} is high.",
        description="The round-trip time to the publisher of {subject} is {value}.",
        expected="at most {threshold}",
        condition=Condition(Comparison(Series("stream_round_trip_time_seconds"), ">", Threshold()), also=(LIVE,)),
        for_seconds=10 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=0.3,
        unit=Unit.SECONDS,
        rationale="Retransmission needs about four round trips. Above 300 ms, they do not fit into one second.",
    ),
    Rule(
        name="StreamJitterHigh",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="Ingest jitter of {subject} is high.",
        description="Ingest jitter of {subject} is {value}.",
        expected="at most {threshold}",
        condition=Condition(Comparison(Series("stream_jitter_seconds"), ">", Threshold()), also=(LIVE,)),
        for_seconds=10 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=0.05,
        unit=Unit.SECONDS,
        rationale="Below 20 ms is good. Above 50 ms, buffers run dry.",
    ),
    Rule(
        name="StreamLatencyHigh",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="The latency of {subject} is high.",
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
        rationale="The target is the platform's own setting. Three times the target is not what viewers were promised.",
    ),
    Rule(
        name="StreamTranscodeBelowRealtime",
        scope=Scope.STREAM,
        severity=Severity.CRITICAL,
        summary="Transcoding of {subject} is slower than real time.",
        description="Transcoding of {subject} runs at {value} of real time. Players run out of data.",
        expected="at least {threshold}",
        condition=Condition(Comparison(Series("stream_transcode_realtime_ratio"), "<", Threshold()), also=(LIVE,)),
        for_seconds=2 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=1.0,
        unit=Unit.RATIO,
        rationale="Below 1, the transcoder falls behind until every buffer is empty.",
    ),
    Rule(
        name="StreamTranscodeErrors",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="The platform reports transcoding errors for {subject}.",
        description="The platform reports transcoding errors for {subject}.",
        expected="no errors",
        condition=Condition(
            Comparison(Series("stream_health_condition", {"condition": "TranscodeNoErrors"}), "==", 0), also=(LIVE,)
        ),
        for_seconds=5 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        unit=Unit.FLAG,
        rationale="The platform retries with another transcoder on its own, so lasting errors have a cause in the "
        "source. Livepeer only, with `health_details`.",
    ),
)
