"""Runbook text for the rules about the quality of live streams."""

from __future__ import annotations

from collections.abc import Mapping

from exporter.alerting.runbook import Guidance

STREAM_QUALITY_GUIDANCE: Mapping[str, Guidance] = {
    "StreamIngestStalled": Guidance(
        impact="Viewers see a frozen picture or a spinner, although the platform reports the stream as live.",
        diagnosis="""
            1. Find out when the bitrate fell: `stream_ingest_bitrate_bytes_per_second`.
            2. Check the encoder: no input signal, a hung process, or a half-open connection?
            3. Check other streams. If all streams of the site stalled at once, suspect the uplink; if all streams of
               the upstream did, check for StreamUpstreamStatisticsFrozen.
        """,
        mitigation="""
            - Restart the encoder, or switch to the backup.
            - Dead session that blocks a reconnect: end it at the platform; on WAVE with
              `stream-exporter session end --upstream NAME ID`.
        """,
        tuning="""
            The threshold is in bytes per second. Raise it for streams with a high minimum bitrate. On Livepeer, the
            bitrate falls to 0 only 75 s after the last media.
        """,
    ),
    "StreamBitrateCritical": Guidance(
        impact="Viewers see a blocky or stuttering picture.",
        diagnosis="""
            1. Compare `stream_ingest_bitrate_bytes_per_second` with `stream_expected_ingest_bitrate_bytes_per_second`.
            2. Check packet loss and round-trip time if the platform reports them.
            3. Read the output bitrate on the encoder itself. If it is as configured, data is lost on the way.
        """,
        mitigation="""
            - Lower the encoder's bitrate, or use a better uplink (cable, bonded link, other route).
            - Encoder sends less than configured: check its load and its rate control.
        """,
        tuning="""
            Set `expected_bitrate` of the stream. Choose a low value for content with a variable bitrate, such as
            slides.
        """,
    ),
    "StreamBitrateLow": Guidance(
        impact="Viewers see a softer picture than intended.",
        diagnosis="Follow the steps of StreamBitrateCritical.",
        mitigation="Lower the encoder's bitrate, or use a better uplink (cable, bonded link, other route).",
        tuning="Set `expected_bitrate` of the stream.",
    ),
    "StreamBitrateDropped": Guidance(
        impact="Viewers may see a worse picture than before.",
        diagnosis="""
            Plot the bitrate over a day. A step means a changed encoder setting; a decline means a failing uplink.
        """,
        mitigation="""
            - Lower the encoder's bitrate, or use a better uplink (cable, bonded link, other route).
            - Changed on purpose: nothing to do. The new bitrate becomes the average within an hour.
        """,
        tuning="Set `expected_bitrate` of the stream; StreamBitrateLow then replaces this rule.",
    ),
    "StreamBitrateUnstable": Guidance(
        impact="The picture may alternate between sharp and soft.",
        diagnosis="Check whether the encoder adapts its bitrate, and why: packet loss or a long round-trip time?",
        mitigation="Lower the encoder's bitrate, or use a better uplink (cable, bonded link, other route).",
        tuning="""
            The threshold is the standard deviation divided by the mean. Raise it for encoders with a variable bitrate.
        """,
    ),
    "StreamUnhealthy": Guidance(
        impact="Viewers see a bad picture, or soon none.",
        diagnosis="""
            1. Read the reasons in the alert's description (`stream_health_reason`).
            2. Read the issues that the platform reports, on the exporter's page for the stream.
            3. `docs/health.md` explains how the score is computed.
        """,
        mitigation="""
            - `bitrate_low` or `loss`: lower the encoder's bitrate, or use a better uplink (cable, bonded link, other
              route).
            - `frame_rate_low`: reduce the load of the encoder.
            - `silent`: follow StreamIngestStalled.
            - `transcode_slow`: follow StreamTranscodeBelowRealtime.
            - `verdict` or `issues`: follow the platform's message.
        """,
        tuning="Raise `health_grace` for encoders that start slowly.",
    ),
    "StreamDegraded": Guidance(
        impact="Viewers may notice a worse picture.",
        diagnosis="Follow the steps of StreamUnhealthy.",
        mitigation="Do the same as for StreamUnhealthy, during working hours.",
        tuning="`health_grace`, `expected_bitrate` and `expected_frame_rate` affect the score.",
    ),
    "StreamVerdictUnstable": Guidance(
        impact="""
            The quality may change every few minutes. Other health alerts of this stream may not fire, because each bad
            phase is too short.
        """,
        diagnosis="""
            1. Plot `stream_healthy` over an hour next to bitrate, packet loss and frame rate. Which of them changes
               with the verdict?
            2. Read the issues that the platform reports, on the exporter's page for the stream.
            3. Check other streams of the upstream. If all change together, suspect the platform.
        """,
        mitigation="""
            - Bitrate or packet loss changes too: lower the encoder's bitrate, or use a better uplink (cable, bonded
              link, other route).
            - Nothing else changes: report it to the platform, with timestamps.
        """,
        tuning="The threshold is the number of changes within the window.",
    ),
    "StreamFrameRateLow": Guidance(
        impact="Motion stutters.",
        diagnosis="""
            1. Check the encoder's CPU, GPU and temperature.
            2. Check the camera's shutter and output mode.
        """,
        mitigation="Use a faster preset or a smaller picture, and stop other programs on the encoder.",
        tuning="Set `expected_frame_rate` of the stream.",
    ),
    "StreamDroppedFramesCritical": Guidance(
        impact="Motion stutters all the time.",
        diagnosis="""
            Find out where frames are lost: at the encoder (high load) or on the way (packet loss, bitrate above the
            uplink).
        """,
        mitigation="""
            - On the way: lower the encoder's bitrate, or use a better uplink (cable, bonded link, other route).
            - At the encoder: use a faster preset.
        """,
        tuning="The threshold is the share of frames that are dropped.",
    ),
    "StreamDroppedFramesHigh": Guidance(
        impact="Motion stutters every few seconds.",
        diagnosis="Follow the steps of StreamDroppedFramesCritical.",
        mitigation="Do the same as for StreamDroppedFramesCritical, during working hours.",
        tuning="The threshold is the share of frames that are dropped.",
    ),
    "StreamPacketLossCritical": Guidance(
        impact="Viewers see blocks and freezes, and hear gaps.",
        diagnosis="""
            1. Check round-trip time and jitter of the stream.
            2. Check other streams of the same site.
            3. Trace the route to the ingest server (`mtr`).
        """,
        mitigation="""
            - Use another route, or raise the SRT latency to four to six times the round-trip time.
            - Lower the encoder's bitrate, or use a better uplink (cable, bonded link, other route).
        """,
        tuning="The threshold is the share of packets, as the platform reports it.",
    ),
    "StreamPacketLossHigh": Guidance(
        impact="Usually none, as long as retransmission keeps up.",
        diagnosis="Follow the steps of StreamPacketLossCritical.",
        mitigation="Raise the SRT latency before it gets worse.",
        tuning="The threshold is the share of packets, as the platform reports it.",
    ),
    "StreamRoundTripTimeHigh": Guidance(
        impact="Interaction lags, and retransmitted packets arrive too late.",
        diagnosis="""
            1. Check whether the ingest server is on another continent.
            2. Plot round-trip time and bitrate together. If they rise together, the uplink is full.
        """,
        mitigation="Use an ingest server nearby, or raise the SRT latency to at least four round trips.",
        tuning="Satellite links need about 0.7 s.",
    ),
    "StreamJitterHigh": Guidance(
        impact="Gaps in sound and picture where buffers are short.",
        diagnosis="Check for Wi-Fi or mobile links, and for other traffic on the uplink.",
        mitigation="Use a cable, prioritize the stream's traffic, or enlarge the receive buffer.",
        tuning="Mobile uplinks may need 0.1 s.",
    ),
    "StreamLatencyHigh": Guidance(
        impact="Viewers see the programme with a long delay.",
        diagnosis="""
            1. Plot `stream_latency_seconds`. A steady rise means that a transcoder or player falls behind; a jump means
               a larger buffer.
            2. Check for StreamTranscodeBelowRealtime.
        """,
        mitigation="Restart the encoder's connection to drop the backlog.",
        tuning="The threshold is a multiple of the platform's target latency. Correct the target if it is wrong.",
    ),
    "StreamTranscodeBelowRealtime": Guidance(
        impact="Players run out of data: the picture stops every few seconds.",
        diagnosis="""
            1. Check whether one stream is slow or all streams of the platform are.
            2. Check the number of renditions (`stream_renditions`) and the source (4K, 60 frames/s).
        """,
        mitigation="""
            - One stream: use fewer or smaller renditions, or a smaller source.
            - All streams: contact the platform.
        """,
        tuning="Use a longer `for` if the transcoder catches up after each dip.",
    ),
    "StreamTranscodeErrors": Guidance(
        impact="Some renditions stop or are missing.",
        diagnosis="Check the source for unusual codecs or profiles, missing keyframes, and changes of resolution.",
        mitigation="""
            - Restart the encoder with plain settings: H.264, a keyframe every 2 s.
            - Still failing: contact the platform.
        """,
        tuning="Needs `health_details`; the value changes at that interval.",
    ),
}
