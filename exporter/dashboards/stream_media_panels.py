"""The panels of one stream's media: bitrate, picture, viewers, network, transcoding, recording."""

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
    """What arrives, against what is expected, and what goes out."""
    warning, critical = thresholds["StreamBitrateLow"], thresholds["StreamBitrateCritical"]
    return [
        graph(
            "Ingest against expected",
            f"Media that arrives. Below {warning:g} of the configured bitrate StreamBitrateLow fires, below "
            f"{critical:g} StreamBitrateCritical.",
            [
                Query(INGEST, "{{stream}}"),
                Query(EXPECTED, "expected"),
                Query(f"{warning:g} * {EXPECTED}", "low"),
                Query(f"{critical:g} * {EXPECTED}", "critical"),
                Query(f"8 * {one_stream.current('stream_max_bitrate_bytes_per_second')}", "the most allowed"),
            ],
            FieldOptions(
                unit="bps",
                minimum=0,
                overrides=[
                    override("expected", color=fixed_color("blue"), custom__lineStyle=DASHED, custom__fillOpacity=0),
                    override("low", color=fixed_color("orange"), custom__lineStyle=DASHED, custom__fillOpacity=0),
                    override("critical", color=fixed_color("red"), custom__lineStyle=DASHED, custom__fillOpacity=0),
                    override("the most allowed", color=fixed_color("#6e7687"), custom__fillOpacity=0),
                ],
            ),
        ),
        graph(
            "Bitrates",
            "Media in, made by transcoding, and out to viewers; what the platform does not tell is left out.",
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


def picture(thresholds: RuleThresholds) -> list[Panel]:
    """Frames, those that were dropped, and the size of the picture."""
    now = one_stream.current("stream_video_frames_per_second")
    expected = f"({one_stream.current('stream_expected_frames_per_second')} and {now})"
    share = thresholds["StreamFrameRateLow"]
    dropped, frames = (one_stream.increase(f"stream_{name}_total") for name in ("dropped_frames", "frames"))
    return [
        graph(
            "Frame rate",
            f"Frames per second. Below {share:g} of the configured rate StreamFrameRateLow fires.",
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
                empty="This platform tells no frame rate",
            ),
            width=8,
            height=7,
            axis="frames/s",
        ),
        graph(
            "Dropped frames",
            "Share of the frames that were dropped. WAVE.",
            [Query(f"{dropped}\n/ ({frames} > 0)", "{{stream}}")],
            FieldOptions(
                unit="percentunit",
                minimum=0,
                steps=thresholds.dropped_frames,
                empty="This platform counts no dropped frames",
            ),
            width=8,
            height=7,
        ),
        graph(
            "Picture height",
            "Lines of the picture: it changes when an encoder adapts to its uplink.",
            [Query(one_stream.current("stream_video_height_pixels"), "{{stream}}")],
            FieldOptions(unit="none", decimals=0, minimum=0, empty="This platform tells no picture size"),
            width=8,
            height=7,
            axis="pixels",
        ),
    ]


def viewers() -> list[Panel]:
    """Who watches, and how many have errors."""
    return [
        graph(
            "Viewers of the stream",
            "Viewers now, the most at once as the platform says, and connections of the platform itself.",
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
            "Share of the views that met an error. Livepeer.",
            [Query(one_stream.current("stream_viewer_error_ratio"), "{{stream}}")],
            FieldOptions(
                unit="percentunit", minimum=0, soft_maximum=0.1, empty="This platform counts no errors of viewers"
            ),
            height=7,
        ),
    ]


def network(thresholds: RuleThresholds) -> list[Panel]:
    """How the media travel."""
    target = one_stream.current("stream_target_latency_seconds")
    times = thresholds["StreamLatencyHigh"]
    return [
        graph(
            "Latency against its target",
            f"From capture to viewer. Above {times:g} times the target StreamLatencyHigh fires. WAVE.",
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
                empty="This platform measures no latency",
            ),
            width=6,
        ),
        graph(
            "Packet loss",
            f"Share of packets lost; {thresholds['StreamPacketLossHigh']:g} fires StreamPacketLossHigh, "
            f"{thresholds['StreamPacketLossCritical']:g} StreamPacketLossCritical. WAVE.",
            [Query(one_stream.current("stream_packet_loss_ratio"), "{{stream}}")],
            FieldOptions(
                unit="percentunit",
                minimum=0,
                soft_maximum=0.1,
                steps=thresholds.packet_loss,
                empty="This platform measures no loss",
            ),
            width=6,
        ),
        graph(
            "Round trip",
            f"To the publisher and back; above {thresholds['StreamRoundTripTimeHigh']:g} s StreamRoundTripTimeHigh "
            "fires. WAVE.",
            [Query(one_stream.current("stream_round_trip_time_seconds"), "{{stream}}")],
            FieldOptions(
                unit="s",
                minimum=0,
                steps=rising(warning=thresholds["StreamRoundTripTimeHigh"]),
                empty="This platform measures no round trip",
            ),
            width=6,
        ),
        graph(
            "Jitter",
            f"Of the ingest; above {thresholds['StreamJitterHigh']:g} s StreamJitterHigh fires. WAVE.",
            [Query(one_stream.current("stream_jitter_seconds"), "{{stream}}")],
            FieldOptions(
                unit="s",
                minimum=0,
                steps=rising(warning=thresholds["StreamJitterHigh"]),
                empty="This platform measures no jitter",
            ),
            width=6,
        ),
    ]


def transcoding(thresholds: RuleThresholds) -> list[Panel]:
    """What the platform makes of the media."""
    pace = thresholds["StreamTranscodeBelowRealtime"]
    source, made = (
        one_stream.increase(f"stream_{name}_segments_total", within="5m") for name in ("source", "transcoded")
    )
    return [
        graph(
            "Pace of transcoding",
            f"Media seconds per second of time; StreamTranscodeBelowRealtime fires below {pace:g}. Livepeer.",
            [Query(one_stream.current("stream_transcode_realtime_ratio"), "{{stream}}")],
            FieldOptions(
                unit="percentunit",
                minimum=0,
                steps=falling(critical=pace),
                empty="This platform tells nothing of its transcoding",
            ),
            width=6,
        ),
        graph(
            "Segments in 5 minutes",
            "Received and transcoded. Livepeer counts them in steps of about 50 s.",
            [Query(source, "{{stream}} received"), Query(made, "{{stream}} transcoded")],
            FieldOptions(unit="short", minimum=0, empty="This platform counts no segments"),
            width=6,
        ),
        graph(
            "Bitrates of the renditions",
            "What each rendition is meant to have. Livepeer.",
            [Query(f"8 * {one_stream.current('stream_rendition_target_bitrate_bytes_per_second')}", "{{rendition}}")],
            FieldOptions(unit="bps", minimum=0, empty="This platform tells no renditions"),
            width=6,
        ),
        timeline(
            "Multistream targets",
            "Whether the platform reaches each target that it forwards the stream to. Livepeer.",
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
    """Whether it is recorded, and how a WebRTC session connects."""
    return [
        timeline(
            "Recording and publishing",
            "Whether the stream is recorded, and whether the platform lets publishers in.",
            [
                Query(one_stream.current("stream_recording"), "{{stream}} is recorded"),
                Query(one_stream.current("stream_publish_allowed"), "{{stream}} may be published"),
            ],
            FieldOptions(unit="short", mappings=[_YES_NO], empty="This platform tells nothing of recording"),
            width=8,
            height=6,
            shows_values=True,
        ),
        timeline(
            "Status of the recording",
            "The platform's own word; an ended stream keeps it. Livepeer.",
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
            "Gathered so far, by type. WAVE, for sessions of WebRTC.",
            [Query(one_stream.current("stream_ice_candidates"), "{{candidate_type}}")],
            FieldOptions(unit="short", decimals=0, minimum=0, empty="No WebRTC"),
            width=6,
            height=6,
            stacked=True,
        ),
        timeline(
            "ICE gathering",
            "Whether all candidates are gathered. WAVE, for sessions of WebRTC.",
            [Query(one_stream.current("stream_ice_gathering_complete"), "{{stream}}")],
            FieldOptions(
                unit="short",
                mappings=[value_mapping({"0": ("gathering", "blue"), "1": ("complete", "green")})],
                empty="No WebRTC",
            ),
            width=5,
            height=6,
            shows_values=True,
        ),
    ]
