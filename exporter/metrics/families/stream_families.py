"""The families of a stream: how each is read from what is served for it."""

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
from exporter.model import Analytics, HealthReason, PlatformMetric, Rendition, StreamState

_INFO_FIELDS = (
    "name", "application", "protocol", "session", "kind", "video_codec", "audio_codec", "resolution", "playback_id",
)  # fmt: skip
_TOTAL = "The platform's running total, from one source per stream; it may begin again with a new publish."
_STEPS = f"{_TOTAL} On Livepeer it moves in steps of about 50 s, elsewhere with every poll."


def _reasons(reasons: Sequence[HealthReason]) -> Mapping[str, Number]:
    return {reason.value: 1 for reason in reasons}


def _targets(renditions: Sequence[Rendition]) -> Mapping[str, Number]:
    return {rendition.name: rendition.target_bitrate_bytes_per_second for rendition in renditions}


def _life() -> Iterator[StreamFamily]:
    yield words(
        "stream_info",
        "What does not change while the stream is live; what is not known is empty. Always 1.",
        {field: f"report.{field}" for field in _INFO_FIELDS},
        has="reported_at",
        fields=frozenset(_INFO_FIELDS),
    )
    yield computed(
        "stream_live",
        "Whether media arrives (1) or not (0). Absent while unknown.",
        "live",
        source=Source.PLATFORM,
        fields=frozenset({"live"}),
    )
    yield words(
        "stream_status",
        "The current status, normalised; only the current one is exposed. Always 1.",
        {"status": "status"},
        has="status",
        fields=frozenset({"status"}),
    )
    yield computed(
        "stream_status_last_change_timestamp_seconds",
        "Unix time of the last change of the status. Absent until a change was seen; a restart is no change.",
        "status_changed_at",
        source=Source.EXPORTER,
    )
    yield computed(
        "stream_expected",
        "Whether the configuration says that it should be live now (1) or not in these hours (0). Absent where it says "
        "nothing, and within start_grace.",
        "expected",
        source=Source.CONFIGURATION,
    )
    yield gauge("stream_start_timestamp_seconds", "Unix time at which the publish began.", "start_timestamp_seconds")
    yield gauge("stream_end_timestamp_seconds", "Unix time at which the publish ended.", "end_timestamp_seconds")
    yield gauge(
        "stream_last_seen_timestamp_seconds",
        "Unix time of the last sign of life, on the platform's clock.",
        "last_seen_timestamp_seconds",
    )
    yield computed(
        "stream_restarts_total",
        "New publishes seen since the stream was first seen.",
        "restarts",
        source=Source.EXPORTER,
        kind=Kind.COUNTER,
    )


def _health() -> Iterator[StreamFamily]:
    yield gauge("stream_healthy", "The platform's own verdict: 1 healthy, 0 not. Absent while unknown.", "healthy")
    yield computed(
        "stream_health_score_ratio",
        "Health from 0 to 1: the platform's score, or derived; stream_upstream_info says which.",
        "health_score_ratio",
        source=Source.EXPORTER,
    )
    yield entries(
        "stream_health_reason",
        "What pulls the health score down now. Always 1.",
        "reason",
        each="reason that holds",
        entries=_reasons,
        has="health_reasons",
        source=Source.EXPORTER,
    )
    yield word("stream_health_grade", "The platform's own word for the health. Always 1.", "grade", "health_grade")
    yield mapping(
        "stream_health_condition",
        "Each condition that the platform reports: 1 true, 0 false.",
        "condition",
        "health_conditions",
    )
    yield counted("stream_issues", "Issues that the platform reports now.", "issues")


def _traffic() -> Iterator[StreamFamily]:
    for direction, what in (("ingest", "received"), ("egress", "sent"), ("transcode", "made by transcoding")):
        yield gauge(
            f"stream_{direction}_bitrate_bytes_per_second",
            f"Media {what} now, in bytes per second; derived from the byte total where the platform's figure freezes.",
            f"{direction}_bitrate_bytes_per_second",
        )
    yield computed(
        "stream_expected_ingest_bitrate_bytes_per_second",
        "The ingest bitrate that the configuration expects, in bytes per second.",
        "expected_ingest_bitrate_bytes_per_second",
        source=Source.CONFIGURATION,
    )
    yield computed(
        "stream_expected_frames_per_second",
        "The frame rate that the configuration expects.",
        "expected_frames_per_second",
        source=Source.CONFIGURATION,
    )
    yield gauge(
        "stream_max_bitrate_bytes_per_second",
        "The highest bitrate that the platform's settings allow, in bytes per second.",
        "max_bitrate_bytes_per_second",
    )
    yield counter("stream_ingest_bytes_total", f"Bytes received. {_STEPS}", "ingest_bytes")
    yield counter("stream_egress_bytes_total", f"Bytes sent. {_STEPS}", "egress_bytes")
    yield counter("stream_transcoded_bytes_total", f"Bytes made by transcoding. {_STEPS}", "transcoded_bytes")
    yield counter("stream_source_segments_total", f"Segments received. {_TOTAL}", "source_segments")
    yield counter("stream_transcoded_segments_total", f"Segments transcoded. {_TOTAL}", "transcoded_segments")
    yield counter("stream_source_media_seconds_total", f"Seconds of media received. {_TOTAL}", "source_media_seconds")
    yield counter(
        "stream_transcoded_media_seconds_total", f"Seconds of media transcoded. {_TOTAL}", "transcoded_media_seconds"
    )


def _outputs_and_audience() -> Iterator[StreamFamily]:
    yield gauge(
        "stream_transcode_realtime_ratio",
        "Media seconds transcoded per second of time: below 1 the transcoder falls behind.",
        "transcode_realtime_ratio",
    )
    yield counted("stream_renditions", "Renditions that the stream is transcoded to.", "renditions")
    yield gauge("stream_substreams", "Sub-streams that the platform derives from the stream.", "substreams")
    yield entries(
        "stream_rendition_target_bitrate_bytes_per_second",
        "The bitrate that a rendition is meant to have, in bytes per second.",
        "rendition",
        entries=_targets,
        has="report.renditions",
        fields=frozenset({"renditions"}),
    )
    yield mapping(
        "stream_multistream_target_connected",
        "Whether the platform is connected to each target that it forwards the stream to.",
        "target",
        "multistream_targets",
    )
    yield gauge("stream_viewers", "Viewers now.", "viewers")
    yield gauge("stream_viewers_peak", "The most viewers at once, as the platform says.", "viewers_peak")
    yield gauge("stream_system_clients", "Connections of the platform itself, which are no viewers.", "system_clients")
    yield gauge("stream_viewer_error_ratio", "Share of views that met an error (0-1).", "viewer_error_ratio")


def _transport_and_picture() -> Iterator[StreamFamily]:
    yield gauge(
        "stream_latency_seconds", "Seconds from capture to viewer, as the platform measures.", "latency_seconds"
    )
    yield gauge(
        "stream_target_latency_seconds", "The latency that the stream is meant to have.", "target_latency_seconds"
    )
    yield gauge("stream_round_trip_time_seconds", "Round-trip time to the publisher.", "round_trip_time_seconds")
    yield gauge("stream_jitter_seconds", "Jitter of the ingest.", "jitter_seconds")
    yield gauge("stream_packet_loss_ratio", "Share of packets lost (0-1).", "packet_loss_ratio")
    yield gauge("stream_video_frames_per_second", "Frame rate of the ingest.", "frames_per_second")
    yield gauge("stream_video_width_pixels", "Width of the picture.", "width_pixels")
    yield gauge("stream_video_height_pixels", "Height of the picture.", "height_pixels")
    yield counter("stream_dropped_frames_total", f"Frames dropped. {_TOTAL}", "dropped_frames")
    yield counter("stream_frames_total", f"Frames received. {_TOTAL}", "frames")


def _recording_and_connection() -> Iterator[StreamFamily]:
    yield gauge("stream_recording", "Whether the stream is being recorded (1) or not (0).", "recording")
    yield word(
        "stream_recording_status",
        "The platform's word for the state of the recording; an ended stream keeps it. Always 1.",
        "status",
        "recording_status",
    )
    yield gauge("stream_publish_allowed", "Whether the platform lets publishers in (1) or not (0).", "publish_allowed")
    yield mapping(
        "stream_ice_candidates", "ICE candidates gathered, by their type.", "candidate_type", "ice_candidates"
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
        "Viewers over the period, as the platform's analytics say.",
        lambda figures: figures.viewers,
    ),
    _over_period(
        "stream_analytics_peak_viewers",
        "The most viewers at once in the period, as the platform's analytics say.",
        lambda figures: figures.peak_viewers,
    ),
    _over_period(
        "stream_analytics_average_watch_seconds",
        "Seconds that a viewer watched on average in the period.",
        lambda figures: figures.average_watch_seconds,
    ),
)


def _numbers(metrics: Sequence[PlatformMetric]) -> Sequence[Labelled]:
    return [((metric.metric, metric.period), metric.value) for metric in metrics]


PLATFORM_METRIC = ModelFamily[Sequence[PlatformMetric]](
    name="stream_platform_metric",
    kind=Kind.GAUGE,
    help="Numbers of the platform without a documented meaning or unit, under their dotted path; "
    "stream is empty where they are of the whole account.",
    part=Part.STREAMS,
    labels=(*STREAM_LABELS, "metric", "period"),
    source=Source.PLATFORM,
    values=_numbers,
    fields=frozenset({"platform_metrics", "analytics"}),
    each="number",
)


_BITRATE_BOUNDS_BITS = (100e3, 250e3, 500e3, 1e6, 1.5e6, 2.5e6, 4e6, 6e6, 8e6, 12e6, 20e6, 50e6)


@dataclass(frozen=True, kw_only=True)
class SampledFamily(Family):
    """A histogram with one observation per live stream and successful poll, of the value that a gauge shows."""

    observed: Callable[[StreamState], float | None]
    """The value to observe for a live stream; None: nothing to observe."""


INGEST_BITRATE = SampledFamily(
    name="stream_sampled_ingest_bitrate_bytes_per_second",
    kind=Kind.HISTOGRAM,
    help="Ingest bitrate of live streams, observed once per successful poll, in bytes per second.",
    part=Part.STREAMS,
    labels=(*UPSTREAM_LABELS, "protocol"),
    source=Source.PLATFORM,
    bounds=tuple(bits / 8 for bits in _BITRATE_BOUNDS_BITS),
    observed=attrgetter("report.ingest_bitrate_bytes_per_second"),
)
LATENCY = SampledFamily(
    name="stream_sampled_latency_seconds",
    kind=Kind.HISTOGRAM,
    help="Latency of live streams, observed once per successful poll, in seconds.",
    part=Part.STREAMS,
    labels=(*UPSTREAM_LABELS, "protocol"),
    source=Source.PLATFORM,
    bounds=(0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 30.0, 60.0),
    observed=attrgetter("report.latency_seconds"),
)
HEALTH_SCORE = SampledFamily(
    name="stream_sampled_health_score_ratio",
    kind=Kind.HISTOGRAM,
    help="Health score of live streams (0-1), observed once per successful poll; "
    "an expected stream that is not live counts as 0.",
    part=Part.STREAMS,
    labels=(*UPSTREAM_LABELS, "protocol"),
    bounds=(0.1, 0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0),
    observed=attrgetter("health_score_ratio"),
)

SAMPLED_FAMILIES: tuple[SampledFamily, ...] = (INGEST_BITRATE, LATENCY, HEALTH_SCORE)
