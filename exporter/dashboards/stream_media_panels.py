"""Panels about one stream's media: bitrate, video, viewers, network, transcoding, recording."""

from __future__ import annotations

from exporter.dashboards.panels import (
    DASHED,
    FieldOptions,
    Panel,
    Query,
    fixed_color,
    graph,
    override,
    override_pattern,
    timeline,
    value_mapping,
)
from exporter.dashboards.selections import one_stream
from exporter.dashboards.thresholds import RuleThresholds, falling, rising

INGEST = f"8 * {one_stream.current('stream_ingest_bitrate_bytes_per_second')}"
EXPECTED = f"8 * {one_stream.current('stream_expected_ingest_bitrate_bytes_per_second')}"
_YES_NO = value_mapping({"0": ("no", "#4b5160"), "1": ("yes", "green")})


def bitrates(thresholds: RuleThresholds) -> list[Panel]:
    """Return the panels about ingest, transcoded and egress bitrates."""
    warning, critical = thresholds["StreamBitrateLow"], thresholds["StreamBitrateCritical"]
    return [
        graph(
            "Ingest vs expected",
            f"Ingest bitrate. StreamBitrateLow fires below {warning:g} times the expected bitrate, "
            f"StreamBitrateCritical below {critical:g} times.",
            [
                Query(INGEST, "{{stream}}"),
                Query(EXPECTED, "expected"),
                Query(f"{warning:g} * {EXPECTED}", "low"),
                Query(f"{critical:g} * {EXPECTED}", "critical"),
                Query(f"8 * {one_stream.current('stream_max_bitrate_bytes_per_second')}", "maximum"),
                Query(f"8 * {one_stream.current('stream_nominal_bitrate_bytes_per_second')}", "declared"),
            ],
            FieldOptions(
                unit="bps",
                minimum=0,
                overrides=[
                    override("expected", color=fixed_color("blue"), custom__lineStyle=DASHED, custom__fillOpacity=0),
                    override("low", color=fixed_color("orange"), custom__lineStyle=DASHED, custom__fillOpacity=0),
                    override("critical", color=fixed_color("red"), custom__lineStyle=DASHED, custom__fillOpacity=0),
                    override("maximum", color=fixed_color("#6e7687"), custom__fillOpacity=0),
                    override("declared", color=fixed_color("#8a7fb5"), custom__lineStyle=DASHED, custom__fillOpacity=0),
                ],
            ),
        ),
        graph(
            "Bitrates",
            "Ingest, transcoded and egress bitrate, as far as the platform reports them.",
            [
                Query(INGEST, "{{stream}} in"),
                Query(
                    f"8 * {one_stream.current('stream_transcode_bitrate_bytes_per_second')}", "{{stream}} transcoded"
                ),
                Query(f"8 * {one_stream.current('stream_egress_bitrate_bytes_per_second')}", "{{stream}} out"),
            ],
            FieldOptions(unit="bps", minimum=0),
        ),
    ]


def video(thresholds: RuleThresholds) -> list[Panel]:
    """Return the panels about frame rate, dropped frames and video height."""
    now = one_stream.current("stream_video_frames_per_second")
    expected = f"({one_stream.current('stream_expected_frames_per_second')} and {now})"
    share = thresholds["StreamFrameRateLow"]
    dropped, frames = (one_stream.increase(f"stream_{name}_total") for name in ("dropped_frames", "frames"))
    return [
        graph(
            "Frame rate",
            f"Frames per second. StreamFrameRateLow fires below {share:g} times the expected frame rate.",
            [
                Query(now, "{{stream}}"),
                Query(expected, "expected"),
                Query(f"{share:g} * {expected}", "low"),
            ],
            FieldOptions(
                unit="none",
                minimum=0,
                overrides=[
                    override("expected", color=fixed_color("blue"), custom__lineStyle=DASHED, custom__fillOpacity=0),
                    override("low", color=fixed_color("orange"), custom__lineStyle=DASHED, custom__fillOpacity=0),
                ],
                empty="Not reported by this platform",
            ),
            width=8,
            height=7,
            axis="frames/s",
        ),
        graph(
            "Dropped frames",
            "Share of frames that were dropped.",
            [Query(f"{dropped}\n/ ({frames} > 0)", "{{stream}}")],
            FieldOptions(
                unit="percentunit",
                minimum=0,
                steps=thresholds.dropped_frames,
                empty="Not reported by this platform",
            ),
            width=8,
            height=7,
        ),
        graph(
            "Video height",
            "Video height in pixels. It changes when the encoder adapts to its uplink.",
            [Query(one_stream.current("stream_video_height_pixels"), "{{stream}}")],
            FieldOptions(unit="none", decimals=0, minimum=0, empty="Not reported by this platform"),
            width=8,
            height=7,
            axis="pixels",
        ),
    ]


def viewers() -> list[Panel]:
    """Return the panels about viewers and their errors."""
    return [
        graph(
            "Viewers over time",
            "Current viewers, the peak reported by the platform, and connections of the platform's own components.",
            [
                Query(one_stream.current("stream_viewers"), "{{stream}} viewers"),
                Query(one_stream.current("stream_viewers_peak"), "{{stream}} peak"),
                Query(one_stream.current("stream_system_clients"), "{{stream}} system clients"),
            ],
            FieldOptions(
                unit="short",
                decimals=0,
                minimum=0,
                soft_maximum=5,
                overrides=[override_pattern(" peak$", custom__lineStyle=DASHED, custom__fillOpacity=0)],
            ),
            height=7,
        ),
        graph(
            "Views with errors",
            "Share of views with errors.",
            [Query(one_stream.current("stream_viewer_error_ratio"), "{{stream}}")],
            FieldOptions(unit="percentunit", minimum=0, soft_maximum=0.1, empty="Not reported by this platform"),
            height=7,
        ),
        timeline(
            "Fallback",
            "Whether viewers get another programme instead of this stream.",
            [Query(one_stream.current("stream_fallback_active"), "{{stream}}")],
            FieldOptions(
                unit="short",
                mappings=[value_mapping({"0": ("programme", "green"), "1": ("fallback", "red")})],
                empty="No fallback is known",
            ),
            width=24,
            height=4,
        ),
    ]


def network(thresholds: RuleThresholds) -> list[Panel]:
    """Return the panels about latency, packet loss, round-trip time and jitter."""
    target = one_stream.current("stream_target_latency_seconds")
    times = thresholds["StreamLatencyHigh"]
    return [
        graph(
            "Latency vs target",
            f"Latency from capture to viewer. StreamLatencyHigh fires above {times:g} times the target.",
            [
                Query(one_stream.current("stream_latency_seconds"), "{{stream}}"),
                Query(target, "target"),
                Query(f"{times:g} * {target}", "high"),
            ],
            FieldOptions(
                unit="s",
                minimum=0,
                overrides=[
                    override("target", color=fixed_color("blue"), custom__lineStyle=DASHED, custom__fillOpacity=0),
                    override("high", color=fixed_color("orange"), custom__lineStyle=DASHED, custom__fillOpacity=0),
                ],
                empty="Not reported by this platform",
            ),
            width=6,
        ),
        graph(
            "Packet loss",
            f"Share of packets lost. StreamPacketLossHigh fires at {thresholds['StreamPacketLossHigh']:g}, "
            f"StreamPacketLossCritical at {thresholds['StreamPacketLossCritical']:g}.",
            [Query(one_stream.current("stream_packet_loss_ratio"), "{{stream}}")],
            FieldOptions(
                unit="percentunit",
                minimum=0,
                soft_maximum=0.1,
                steps=thresholds.packet_loss,
                empty="Not reported by this platform",
            ),
            width=6,
        ),
        graph(
            "Round-trip time",
            "Round-trip time to the publisher. StreamRoundTripTimeHigh fires above "
            f"{thresholds['StreamRoundTripTimeHigh']:g} s.",
            [Query(one_stream.current("stream_round_trip_time_seconds"), "{{stream}}")],
            FieldOptions(
                unit="s",
                minimum=0,
                steps=rising(warning=thresholds["StreamRoundTripTimeHigh"]),
                empty="Not reported by this platform",
            ),
            width=6,
        ),
        graph(
            "Jitter",
            f"Jitter of the ingest. StreamJitterHigh fires above {thresholds['StreamJitterHigh']:g} s.",
            [Query(one_stream.current("stream_jitter_seconds"), "{{stream}}")],
            FieldOptions(
                unit="s",
                minimum=0,
                steps=rising(warning=thresholds["StreamJitterHigh"]),
                empty="Not reported by this platform",
            ),
            width=6,
        ),
        graph(
            "Ingest lag",
            "Age of the publisher's connection minus its media clock. It rises while the encoder sends nothing, or "
            "less than real time.",
            [Query(one_stream.current("stream_ingest_lag_seconds"), "{{stream}}")],
            FieldOptions(unit="s", soft_maximum=5, empty="Not reported by this platform"),
            width=12,
        ),
        graph(
            "Viewers disconnected as too slow",
            "Viewers that the platform disconnected because they could not receive the stream fast enough.",
            [Query(one_stream.increase("stream_slow_viewers_total"), "{{stream}}")],
            FieldOptions(unit="short", minimum=0, empty="Not reported by this platform"),
            width=12,
        ),
    ]


def transcoding(thresholds: RuleThresholds) -> list[Panel]:
    """Return the panels about transcoding and multistream targets."""
    realtime_ratio = thresholds["StreamTranscodeBelowRealtime"]
    source, made = (
        one_stream.increase(f"stream_{name}_segments_total", within="5m") for name in ("source", "transcoded")
    )
    return [
        graph(
            "Transcoding speed",
            f"Seconds of media transcoded per second. StreamTranscodeBelowRealtime fires below {realtime_ratio:g}.",
            [Query(one_stream.current("stream_transcode_realtime_ratio"), "{{stream}}")],
            FieldOptions(
                unit="percentunit",
                minimum=0,
                steps=falling(critical=realtime_ratio),
                empty="Not reported by this platform",
            ),
            width=6,
        ),
        graph(
            "Segments in 5 minutes",
            "Segments received and transcoded. Livepeer updates them about every 50 s.",
            [Query(source, "{{stream}} received"), Query(made, "{{stream}} transcoded")],
            FieldOptions(unit="short", minimum=0, empty="Not reported by this platform"),
            width=6,
        ),
        graph(
            "Rendition target bitrates",
            "Target bitrate of each rendition.",
            [Query(f"8 * {one_stream.current('stream_rendition_target_bitrate_bytes_per_second')}", "{{rendition}}")],
            FieldOptions(unit="bps", minimum=0, empty="Not reported by this platform"),
            width=6,
        ),
        timeline(
            "Multistream targets",
            "Whether the platform is connected to each multistream target.",
            [Query(one_stream.current("stream_multistream_target_connected"), "{{target}}")],
            FieldOptions(
                unit="short",
                mappings=[value_mapping({"0": ("not connected", "red"), "1": ("connected", "green")})],
                empty="No targets",
            ),
            width=6,
        ),
    ]


def recording_and_connection() -> list[Panel]:
    """Return the panels about recording, publishing and WebRTC connections."""
    return [
        timeline(
            "Recording and publishing",
            "Whether the stream is being recorded, and whether the platform accepts publishers.",
            [
                Query(one_stream.current("stream_recording"), "{{stream}} recording"),
                Query(one_stream.current("stream_publish_allowed"), "{{stream}} publishing allowed"),
            ],
            FieldOptions(unit="short", mappings=[_YES_NO], empty="Not reported by this platform"),
            width=8,
            height=6,
            shows_values=True,
        ),
        timeline(
            "Recording status",
            "Recording status reported by the platform; kept after the stream has ended.",
            [Query(one_stream.current("stream_recording_status"), "{{status}}")],
            FieldOptions(
                unit="short",
                mappings=[value_mapping({"1": ("current", "blue")})],
                empty="No recording",
            ),
            width=5,
            height=6,
        ),
        graph(
            "ICE candidates",
            "ICE candidates gathered, by type. WAVE with WebRTC only.",
            [Query(one_stream.current("stream_ice_candidates"), "{{candidate_type}}")],
            FieldOptions(unit="short", decimals=0, minimum=0, empty="Not a WebRTC stream"),
            width=6,
            height=6,
            stacked=True,
        ),
        timeline(
            "ICE gathering",
            "Whether ICE gathering is complete. WAVE with WebRTC only.",
            [Query(one_stream.current("stream_ice_gathering_complete"), "{{stream}}")],
            FieldOptions(
                unit="short",
                mappings=[value_mapping({"0": ("gathering", "blue"), "1": ("complete", "green")})],
                empty="Not a WebRTC stream",
            ),
            width=5,
            height=6,
            shows_values=True,
        ),
    ]
