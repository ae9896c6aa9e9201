"""Metric families of a stream, and how each is read from the stream's state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from exporter.metrics.families.family import (
    STREAM_LABELS,
    UPSTREAM_LABELS,
    Family,
    Kind,
    Labelled,
    ModelFamily,
    Number,
    Part,
    Source,
    StreamFamily,
    computed,
    counted,
    counter,
    entries,
    gauge,
    mapping,
    word,
    words,
)
from exporter.metrics.families.playback_families import PLAYBACK_FAMILIES
from exporter.model import Analytics, HealthReason, PlatformMetric, Rendition, StreamState

_INFO_FIELDS = (
    "name", "application", "protocol", "session", "kind", "video_codec", "audio_codec", "resolution", "playback_id",
)  # fmt: skip
_TOTAL = "Running total kept by the platform; it may restart from 0 with a new ingest session."
_STEPS = f"{_TOTAL} Livepeer updates it about every 50 s."


def _reasons(reasons: Sequence[HealthReason]) -> Mapping[str, Number]:
    return {reason.value: 1 for reason in reasons}


def _targets(renditions: Sequence[Rendition]) -> Mapping[str, Number]:
    return {rendition.name: rendition.target_bitrate_bytes_per_second for rendition in renditions}


def _life() -> Iterator[StreamFamily]:
    yield words(
        "stream_info",
        "Properties of the stream that stay the same while it is live; empty if unknown. Always 1.",
        {field: f"report.{field}" for field in _INFO_FIELDS},
        has="reported_at",
        fields=frozenset(_INFO_FIELDS),
    )
    yield computed(
        "stream_live",
        "Whether media is arriving (1) or not (0). Absent while unknown.",
        "live",
        source=Source.PLATFORM,
        fields=frozenset({"live"}),
    )
    yield words(
        "stream_status",
        "Current status, in the same words for all platforms. Only the current status has a series. Always 1.",
        {"status": "status"},
        has="status",
        fields=frozenset({"status"}),
    )
    yield computed(
        "stream_status_last_change_timestamp_seconds",
        "Unix time of the last status change. Absent until the exporter has seen a change; restarting the "
        "exporter is not a change.",
        "status_changed_at",
        source=Source.EXPORTER,
    )
    yield computed(
        "stream_expected",
        "Whether the stream is configured to be live at this time (1) or not (0). Absent if nothing is configured, and "
        "during start_grace.",
        "expected",
        source=Source.CONFIGURATION,
    )
    yield gauge(
        "stream_start_timestamp_seconds", "Unix time when the ingest session started.", "start_timestamp_seconds"
    )
    yield gauge("stream_end_timestamp_seconds", "Unix time when the ingest session ended.", "end_timestamp_seconds")
    yield gauge(
        "stream_last_seen_timestamp_seconds",
        "Unix time when the platform last saw the stream active, by the platform's clock.",
        "last_seen_timestamp_seconds",
    )
    yield computed(
        "stream_restarts_total",
        "New ingest sessions since the exporter first saw the stream.",
        "restarts",
        source=Source.EXPORTER,
        kind=Kind.COUNTER,
    )


def _health() -> Iterator[StreamFamily]:
    yield gauge(
        "stream_healthy",
        "Whether the platform reports the stream as healthy (1) or not (0). Absent while unknown.",
        "healthy",
    )
    yield computed(
        "stream_health_score_ratio",
        "Health score from 0 to 1, reported by the platform or derived by the exporter; see the label health_score of "
        "stream_upstream_info.",
        "health_score_ratio",
        source=Source.EXPORTER,
    )
    yield entries(
        "stream_health_reason",
        "Reasons that currently lower the health score. Always 1.",
        "reason",
        each="active reason",
        entries=_reasons,
        has="health_reasons",
        source=Source.EXPORTER,
    )
    yield word("stream_health_grade", "Health grade reported by the platform. Always 1.", "grade", "health_grade")
    yield mapping(
        "stream_health_condition",
        "Health condition reported by the platform: true (1) or false (0).",
        "condition",
        "health_conditions",
    )
    yield counted("stream_issues", "Number of issues that the platform currently reports.", "issues")


def _traffic() -> Iterator[StreamFamily]:
    for direction, what in (("ingest", "Ingest"), ("egress", "Egress"), ("transcode", "Transcoded")):
        yield gauge(
            f"stream_{direction}_bitrate_bytes_per_second",
            f"{what} bitrate in bytes per second; computed from the byte total where the platform's own rate freezes.",
            f"{direction}_bitrate_bytes_per_second",
        )
    yield computed(
        "stream_expected_ingest_bitrate_bytes_per_second",
        "Expected ingest bitrate from the configuration, in bytes per second.",
        "expected_ingest_bitrate_bytes_per_second",
        source=Source.CONFIGURATION,
    )
    yield computed(
        "stream_expected_frames_per_second",
        "Expected frame rate from the configuration.",
        "expected_frames_per_second",
        source=Source.CONFIGURATION,
    )
    yield gauge(
        "stream_max_bitrate_bytes_per_second",
        "Maximum bitrate allowed by the platform's settings, in bytes per second.",
        "max_bitrate_bytes_per_second",
    )
    yield gauge(
        "stream_nominal_bitrate_bytes_per_second",
        "Bitrate that the encoder declares, in bytes per second; not measured.",
        "nominal_bitrate_bytes_per_second",
    )
    yield counter("stream_ingest_bytes_total", f"Bytes received. {_STEPS}", "ingest_bytes")
    yield counter("stream_egress_bytes_total", f"Bytes sent. {_STEPS}", "egress_bytes")
    yield counter("stream_transcoded_bytes_total", f"Bytes produced by transcoding. {_STEPS}", "transcoded_bytes")
    yield counter("stream_source_segments_total", f"Segments received. {_TOTAL}", "source_segments")
    yield counter("stream_transcoded_segments_total", f"Segments transcoded. {_TOTAL}", "transcoded_segments")
    yield counter("stream_source_media_seconds_total", f"Seconds of media received. {_TOTAL}", "source_media_seconds")
    yield counter(
        "stream_transcoded_media_seconds_total", f"Seconds of media transcoded. {_TOTAL}", "transcoded_media_seconds"
    )


def _outputs_and_audience() -> Iterator[StreamFamily]:
    yield gauge(
        "stream_transcode_realtime_ratio",
        "Seconds of media transcoded per second. Below 1, the transcoder falls behind.",
        "transcode_realtime_ratio",
    )
    yield counted("stream_renditions", "Number of renditions that the stream is transcoded to.", "renditions")
    yield gauge("stream_substreams", "Number of sub-streams that the platform derives from the stream.", "substreams")
    yield entries(
        "stream_rendition_target_bitrate_bytes_per_second",
        "Target bitrate of a rendition, in bytes per second.",
        "rendition",
        entries=_targets,
        has="report.renditions",
        fields=frozenset({"renditions"}),
    )
    yield mapping(
        "stream_multistream_target_connected",
        "Whether the platform is connected to the multistream target (1) or not (0).",
        "target",
        "multistream_targets",
    )
    yield gauge("stream_viewers", "Current number of viewers.", "viewers")
    yield gauge(
        "stream_viewers_partial",
        "1 if stream_viewers is only a lower bound, because other processes of the platform serve part of the "
        "audience. Absent otherwise.",
        "viewers_partial",
    )
    yield gauge(
        "stream_viewers_peak", "Maximum number of concurrent viewers, as reported by the platform.", "viewers_peak"
    )
    yield counter(
        "stream_slow_viewers_total",
        f"Viewers that the platform disconnected because they were too slow. {_TOTAL}",
        "slow_viewers",
    )
    yield gauge(
        "stream_fallback_active",
        "Whether viewers get another programme instead of this stream (1) or not (0). Absent if no fallback is known.",
        "fallback_active",
    )
    yield gauge(
        "stream_system_clients",
        "Connections of the platform's own components, which are not viewers.",
        "system_clients",
    )
    yield gauge("stream_viewer_error_ratio", "Share of views with errors (0-1).", "viewer_error_ratio")


def _transport_and_picture() -> Iterator[StreamFamily]:
    yield gauge(
        "stream_latency_seconds", "Latency from capture to viewer, as measured by the platform.", "latency_seconds"
    )
    yield gauge(
        "stream_target_latency_seconds", "Target latency from the platform's settings.", "target_latency_seconds"
    )
    yield gauge(
        "stream_ingest_lag_seconds",
        "Age of the publisher's connection minus the time on its media clock. It rises while no media arrives. Absent "
        "if the media clock did not start with the connection.",
        "ingest_lag_seconds",
    )
    yield gauge("stream_round_trip_time_seconds", "Round-trip time to the publisher.", "round_trip_time_seconds")
    yield gauge("stream_jitter_seconds", "Jitter of the ingest.", "jitter_seconds")
    yield gauge("stream_packet_loss_ratio", "Share of packets lost (0-1).", "packet_loss_ratio")
    yield gauge("stream_video_frames_per_second", "Frame rate of the ingest.", "frames_per_second")
    yield gauge("stream_video_width_pixels", "Video width.", "width_pixels")
    yield gauge("stream_video_height_pixels", "Video height.", "height_pixels")
    yield counter("stream_dropped_frames_total", f"Frames dropped. {_TOTAL}", "dropped_frames")
    yield counter("stream_frames_total", f"Frames received. {_TOTAL}", "frames")
    yield gauge("stream_audio_sample_rate_hertz", "Audio sample rate.", "audio_sample_rate_hertz")
    yield gauge("stream_audio_channels", "Number of audio channels.", "audio_channels")


def _recording_and_connection() -> Iterator[StreamFamily]:
    yield gauge("stream_recording", "Whether the stream is being recorded (1) or not (0).", "recording")
    yield word(
        "stream_recording_status",
        "Recording status reported by the platform; kept after the stream has ended. Always 1.",
        "status",
        "recording_status",
    )
    yield gauge(
        "stream_publish_allowed",
        "Whether the platform accepts publishers for the stream (1) or not (0).",
        "publish_allowed",
    )
    yield mapping(
        "stream_ice_candidates", "Number of ICE candidates gathered, by type.", "candidate_type", "ice_candidates"
    )
    yield gauge(
        "stream_ice_gathering_complete",
        "Whether ICE gathering is complete (1) or not (0).",
        "ice_gathering_complete",
    )


STREAM_FAMILIES: tuple[StreamFamily, ...] = (
    *_life(),
    *_health(),
    *_traffic(),
    *_outputs_and_audience(),
    *_transport_and_picture(),
    *_recording_and_connection(),
    *PLAYBACK_FAMILIES,
)


AnalyticsFamily = ModelFamily[Analytics]


def _over_period(name: str, help_: str, read: Callable[[Analytics], Number | None]) -> AnalyticsFamily:
    def values(figures: Analytics) -> Sequence[Labelled]:
        return (((figures.period,), read(figures)),)

    return AnalyticsFamily(
        name=name,
        kind=Kind.GAUGE,
        help=help_,
        part=Part.STREAMS,
        labels=(*STREAM_LABELS, "period"),
        source=Source.PLATFORM,
        values=values,
        fields=frozenset({"analytics"}),
        each="period",
    )


ANALYTICS_FAMILIES: tuple[AnalyticsFamily, ...] = (
    _over_period(
        "stream_analytics_viewers",
        "Viewers over the period, from the platform's analytics.",
        lambda figures: figures.viewers,
    ),
    _over_period(
        "stream_analytics_peak_viewers",
        "Maximum number of concurrent viewers in the period, from the platform's analytics.",
        lambda figures: figures.peak_viewers,
    ),
    _over_period(
        "stream_analytics_average_watch_seconds",
        "Average watch time per viewer over the period, from the platform's analytics.",
        lambda figures: figures.average_watch_seconds,
    ),
)


def _numbers(metrics: Sequence[PlatformMetric]) -> Sequence[Labelled]:
    return [((metric.metric, metric.period), metric.value) for metric in metrics]


PLATFORM_METRIC = ModelFamily[Sequence[PlatformMetric]](
    name="stream_platform_metric",
    kind=Kind.GAUGE,
    help="Numbers reported by the platform whose meaning or unit is not documented, by dotted path. stream is empty "
    "for numbers about the whole account.",
    part=Part.STREAMS,
    labels=(*STREAM_LABELS, "metric", "period"),
    source=Source.PLATFORM,
    values=_numbers,
    fields=frozenset({"platform_metrics", "analytics"}),
    each="metric",
)


_BITRATE_BOUNDS_BITS = (100e3, 250e3, 500e3, 1e6, 1.5e6, 2.5e6, 4e6, 6e6, 8e6, 12e6, 20e6, 50e6)


@dataclass(frozen=True, kw_only=True)
class SampledFamily(Family):
    """A histogram of a gauge's value, with one observation per live stream and successful poll."""

    observed: Callable[[StreamState], float | None]
    """Returns the value to observe for a live stream; None if there is nothing to observe."""


INGEST_BITRATE = SampledFamily(
    name="stream_sampled_ingest_bitrate_bytes_per_second",
    kind=Kind.HISTOGRAM,
    help="Ingest bitrate of live streams in bytes per second, observed once per successful poll.",
    part=Part.STREAMS,
    labels=(*UPSTREAM_LABELS, "protocol"),
    source=Source.PLATFORM,
    bounds=tuple(bits / 8 for bits in _BITRATE_BOUNDS_BITS),
    observed=attrgetter("report.ingest_bitrate_bytes_per_second"),
)
LATENCY = SampledFamily(
    name="stream_sampled_latency_seconds",
    kind=Kind.HISTOGRAM,
    help="Latency of live streams in seconds, observed once per successful poll.",
    part=Part.STREAMS,
    labels=(*UPSTREAM_LABELS, "protocol"),
    source=Source.PLATFORM,
    bounds=(0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 30.0, 60.0),
    observed=attrgetter("report.latency_seconds"),
)
HEALTH_SCORE = SampledFamily(
    name="stream_sampled_health_score_ratio",
    kind=Kind.HISTOGRAM,
    help="Health score of live streams (0-1), observed once per successful poll. An expected stream that is not live "
    "counts as 0.",
    part=Part.STREAMS,
    labels=(*UPSTREAM_LABELS, "protocol"),
    bounds=(0.1, 0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0),
    observed=attrgetter("health_score_ratio"),
)

SAMPLED_FAMILIES: tuple[SampledFamily, ...] = (INGEST_BITRATE, LATENCY, HEALTH_SCORE)
