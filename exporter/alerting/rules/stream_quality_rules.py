"""Rules about how well a live stream arrives, is transcoded and delivered."""

from __future__ import annotations

from exporter.alerting.rules.rule import MINUTE, Comparison, Condition, Rule, Scope, Series, Severity, Threshold, Unit
from exporter.alerting.rules.stream_rules import INHIBITOR_KEEP_FIRING_SECONDS, KEEP_FIRING_SECONDS, LIVE

_INGEST_BITS = Series("stream_ingest_bitrate_bytes_per_second", scale=8)
_EXPECTED_BITS = Series("stream_expected_ingest_bitrate_bytes_per_second", scale=8)
_SCORE = Series("stream_health_score_ratio")
_LOSS = Series("stream_packet_loss_ratio")
_DROPPED_FRAMES = (
    "max without (instance, pod) (\n"
    "  increase(stream_dropped_frames_total{SELECTOR}[{10m}])\n"
    "  / (increase(stream_frames_total{SELECTOR}[{10m}]) >= {count:3000})\n"
    ") > {threshold}\n"
    "and\n"
    "max without (instance, pod) (stream_live{SELECTOR}) == 1"
)

STREAM_QUALITY_RULES: tuple[Rule, ...] = (
    Rule(
        name="StreamIngestStalled",
        scope=Scope.STREAM,
        severity=Severity.CRITICAL,
        summary="A stream is live, but hardly any media arrives.",
        description="{stream} on {upstream} ({platform}) is live and takes in only {value}.{reasons}",
        condition=Condition(Comparison(_INGEST_BITS, "<", Threshold()), also=(LIVE,)),
        for_seconds=MINUTE,
        keep_firing_seconds=INHIBITOR_KEEP_FIRING_SECONDS,
        threshold=125.0,
        unit=Unit.BITRATE,
        why="A publisher that is connected and dead sends nothing; no encoder lives below 1 kbit/s.",
    ),
    Rule(
        name="StreamBitrateCritical",
        scope=Scope.STREAM,
        severity=Severity.CRITICAL,
        summary="A stream arrives with less than half of its expected bitrate.",
        description="{stream} on {upstream} ({platform}) takes in {value}, less than {threshold} of what is expected."
        "{reasons}",
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
        summary="A stream arrives with less than its expected bitrate.",
        description="{stream} on {upstream} ({platform}) takes in {value}, less than {threshold} of what is expected."
        "{reasons}",
        condition=Condition(Comparison(_INGEST_BITS, "<", Threshold(of=_EXPECTED_BITS)), also=(LIVE,)),
        for_seconds=5 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=0.75,
        threshold_max=1.0,
        unit=Unit.BITRATE,
        threshold_unit=Unit.RATIO,
        why="Encoders vary by a fifth around their target; a quarter less for minutes is an uplink that starves. Needs "
        "expected_bitrate.",
    ),
    Rule(
        name="StreamBitrateDropped",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="A stream arrives with much less than its own usual bitrate.",
        description="{stream} on {upstream} ({platform}) takes in {value}, less than {threshold} of its mean of the "
        "hour before.{reasons}",
        promql="(\n"
        "  8 * max without (instance, pod) (stream_ingest_bitrate_bytes_per_second{SELECTOR})\n"
        "  < {threshold} * 8 * max without (instance, pod) (\n"
        "    avg_over_time(stream_ingest_bitrate_bytes_per_second{SELECTOR}[{1h}] offset {10m})\n"
        "  )\n"
        "  unless\n"
        "  max without (instance, pod) (stream_expected_ingest_bitrate_bytes_per_second{SELECTOR})\n"
        ")\n"
        "and\n"
        "max without (instance, pod) (stream_live{SELECTOR}) == 1",
        for_seconds=5 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=0.5,
        threshold_max=1.0,
        unit=Unit.BITRATE,
        threshold_unit=Unit.RATIO,
        why="For streams without expected_bitrate: half of what it was is no longer what the viewers had. A stream "
        "that is meant to change its bitrate should be given the expected one.",
    ),
    Rule(
        name="StreamBitrateUnstable",
        scope=Scope.STREAM,
        severity=Severity.INFO,
        summary="The bitrate of a stream swings widely.",
        description="The ingest bitrate of {stream} on {upstream} ({platform}) varies by {value} of its mean.{reasons}",
        promql="max without (instance, pod) (\n"
        "  stddev_over_time(stream_ingest_bitrate_bytes_per_second{SELECTOR}[{15m}])\n"
        "  / (avg_over_time(stream_ingest_bitrate_bytes_per_second{SELECTOR}[{15m}]) > 0)\n"
        ") > {threshold}\n"
        "and\n"
        "max without (instance, pod) (stream_live{SELECTOR}) == 1\n"
        "and\n"
        "max without (instance, pod) (stream_live{SELECTOR} offset {15m}) == 1",
        window_seconds=15 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=0.3,
        unit=Unit.RATIO,
        why="A steady encoder stays within a tenth; 0.3 is an adaptive encoder that hunts, or a bad uplink. The window "
        "must lie within the publish, for its start and its end are no swings.",
    ),
    Rule(
        name="StreamUnhealthy",
        scope=Scope.STREAM,
        severity=Severity.CRITICAL,
        summary="A stream is unhealthy.",
        description="{stream} on {upstream} ({platform}) has a health score of {value}.{reasons}",
        condition=Condition(Comparison(_SCORE, "<", Threshold()), also=(LIVE,)),
        for_seconds=2 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=0.5,
        threshold_max=1.0,
        unit=Unit.RATIO,
        why="A verdict against the stream scores 0.4; two minutes are several polls of every platform.",
    ),
    Rule(
        name="StreamDegraded",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="A stream is not as healthy as it should be.",
        description="{stream} on {upstream} ({platform}) has a health score of {value}.{reasons}",
        condition=Condition(Comparison(_SCORE, "<", Threshold()), also=(LIVE,)),
        for_seconds=10 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=0.8,
        threshold_max=1.0,
        unit=Unit.RATIO,
        why="Below 0.8 are three issues, or more than a quarter of the bitrate missing, for ten minutes.",
    ),
    Rule(
        name="StreamFrameRateLow",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="A stream has fewer frames per second than expected.",
        description="{stream} on {upstream} ({platform}) has {value} frames/s, less than {threshold} of what is "
        "expected.{reasons}",
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
        summary="A stream drops so many frames that it stutters.",
        description="{stream} on {upstream} ({platform}) drops {value} of its frames.{reasons}",
        promql=_DROPPED_FRAMES,
        window_seconds=10 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=0.05,
        threshold_max=1.0,
        unit=Unit.RATIO,
        why="One frame in 20 is a stutter that nobody overlooks.",
    ),
    Rule(
        name="StreamDroppedFramesHigh",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="A stream drops frames.",
        description="{stream} on {upstream} ({platform}) drops {value} of its frames.{reasons}",
        promql=_DROPPED_FRAMES,
        window_seconds=10 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=0.01,
        threshold_max=1.0,
        unit=Unit.RATIO,
        why="1 % dropped is a visible stutter every few seconds. Fewer than 3000 frames (100 s) say nothing.",
    ),
    Rule(
        name="StreamPacketLossCritical",
        scope=Scope.STREAM,
        severity=Severity.CRITICAL,
        summary="A stream loses more packets than can be repaired.",
        description="{stream} on {upstream} ({platform}) loses {value} of its packets.{reasons}",
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
        summary="A stream loses packets.",
        description="{stream} on {upstream} ({platform}) loses {value} of its packets.{reasons}",
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
        summary="The round trip to a stream's publisher is long.",
        description="{stream} on {upstream} ({platform}) has a round trip of {value}.{reasons}",
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
        summary="The jitter of a stream is high.",
        description="{stream} on {upstream} ({platform}) has a jitter of {value}.{reasons}",
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
        summary="A stream is later than it is meant to be.",
        description="{stream} on {upstream} ({platform}) is late by {value}, more than {threshold} of its target."
        "{reasons}",
        condition=Condition(
            Comparison(Series("stream_latency_seconds"), ">", Threshold(of=Series("stream_target_latency_seconds"))),
            also=(LIVE,),
        ),
        for_seconds=10 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=3.0,
        unit=Unit.SECONDS,
        threshold_unit=Unit.RATIO,
        why="The target is the platform's own setting; three times as late is no longer the product that was sold.",
    ),
    Rule(
        name="StreamTranscodeBelowRealtime",
        scope=Scope.STREAM,
        severity=Severity.CRITICAL,
        summary="A stream is transcoded more slowly than it plays.",
        description="{stream} on {upstream} ({platform}) is transcoded at {value} of real time: players run dry."
        "{reasons}",
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
        summary="The transcoding of a stream has errors.",
        description="{stream} on {upstream} ({platform}) is transcoded with errors.{reasons}",
        condition=Condition(
            Comparison(Series("stream_health_condition", {"condition": "TranscodeNoErrors"}), "==", 0), also=(LIVE,)
        ),
        for_seconds=5 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        why="The platform tries another transcoder by itself; errors that last have a cause in the source. Livepeer "
        "only, with health_details.",
    ),
)
