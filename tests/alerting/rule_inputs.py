"""For every rule: what makes it fire, what does not, and what it then says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

STEP = 15
"""Seconds between samples, and between evaluations."""
SLO_STEP = 60

Values = float | str | tuple[float | None, ...]
"""A steady value, the growth of a counter per step (``+3``), or values in turn (None: no sample)."""


@dataclass(frozen=True, kw_only=True)
class Input:
    """Series are named by family and the labels of their own; times are seconds."""

    rule: str
    bad: Mapping[str, Values]
    """The first is the one without which nothing can be said."""
    good: Mapping[str, Values]
    description: str
    labels: Mapping[str, str] = field(default_factory=dict)
    lead: int = 0
    """How long all is well before it is bad."""
    fires_at: int = 0
    """Where it is not simply ``for``."""
    bad_until: int = 0
    ceases_at: int = 0
    """When the condition ceases to hold, where that is not at once."""
    step: int = STEP
    per_instance: bool = False
    unknown: Mapping[str, Values] | None = None
    """What is served of a stream of which nothing is known: nothing fires."""
    fires_without: bool = False
    """It fires where there is no series at all."""


LIVE: Mapping[str, Values] = {"stream_live": 1}
UNKNOWN = 'stream_status{status="unknown"}'
_BAD_BUCKET, _COUNT = (
    'stream_sampled_health_score_ratio_bucket{protocol="rtmp",le="0.8"}',
    'stream_sampled_health_score_ratio_count{protocol="rtmp"}',
)
_FAILED = 'stream_upstream_requests_total{request="GET /stream",code="500"}'
_ANSWERED = 'stream_upstream_requests_total{request="GET /stream",code="200"}'
_ERRORS = 'stream_exporter_notifications_errors_total{alertmanager="am:9093"}'


def _burn(name: str, window: str, ceases_at: int) -> Input:
    """Ten observations a minute, half of them bad for ten minutes, then good ones until the short window allows it."""
    return Input(
        rule=f"StreamHealthBudgetBurn{name}",
        bad={_BAD_BUCKET: "+5", _COUNT: "+10"},
        good={_BAD_BUCKET: "+0", _COUNT: "+10"},
        description=f"50% of the health observations on studio (livepeer) in the last {window} were not above 80%, "
        "where 1% are allowed.",
        step=SLO_STEP,
        fires_at=360,
        bad_until=600,
        ceases_at=ceases_at,
    )


EXPORTER_INPUTS = (
    Input(
        rule="StreamExporterDown",
        bad={"up": 0},
        good={"up": 1},
        description="No instance of the job stream-exporter can be scraped: nobody watches the streams.",
        fires_without=True,
    ),
    Input(
        rule="StreamExporterReloadFailed",
        bad={"stream_exporter_config_last_reload_successful": 0},
        good={"stream_exporter_config_last_reload_successful": 1},
        description="The last reload of the configuration of a:10071 failed; the one before is still in force.",
        labels={"instance": "a:10071"},
        per_instance=True,
    ),
    Input(
        rule="StreamAlertPushFailing",
        bad={_ERRORS: "+3"},
        good={_ERRORS: 0},
        description="In a quarter of an hour alerts were lost or refused 5 times.",
        labels={"alertmanager": "am:9093"},
        fires_at=75,
        bad_until=90,
        ceases_at=930,
    ),
)
UPSTREAM_INPUTS = (
    Input(
        rule="StreamUpstreamDown",
        bad={"stream_upstream_up": 0},
        good={"stream_upstream_up": 1},
        description="studio (livepeer) does not answer usably: nobody knows how its streams are.",
    ),
    Input(
        rule="StreamUpstreamAuthFailing",
        bad={'stream_upstream_failing{reason="auth"}': 1, "stream_upstream_up": 0},
        good={"stream_upstream_up": 1},
        description="studio (livepeer) refuses the credentials: nobody knows how its streams are.",
    ),
    Input(
        rule="StreamUpstreamErrorRatioHigh",
        bad={_FAILED: "+1", _ANSWERED: "+3"},
        good={_FAILED: "+0", _ANSWERED: "+3"},
        description="25% of the requests to studio (livepeer) fail, more than 5%.",
        fires_at=75,
        bad_until=90,
        ceases_at=570,
    ),
    Input(
        rule="StreamUpstreamDataStale",
        bad={"stream_upstream_answering": 0, "stream_upstream_up": 1},
        good={"stream_upstream_answering": 1, "stream_upstream_up": 1},
        description="The last successful poll of studio (livepeer) is more than 2.5 poll intervals old, although the "
        "upstream counts as up.",
    ),
    Input(
        rule="StreamSeriesLimitReached",
        bad={"stream_upstream_streams_dropped": 12},
        good={"stream_upstream_streams_dropped": 0},
        description="12 streams of studio (livepeer) are left out by max_streams.",
    ),
)
SLO_INPUTS = (
    _burn("Fast", "1h", 840),
    _burn("Steady", "6h", 2220),
    _burn("Slow", "1d", 7380),
    _burn("Creeping", "3d", 21780),
)
STREAM_INPUTS = (
    Input(
        rule="StreamExpectedOffline",
        bad={"stream_live": 0, "stream_expected": 1},
        good={"stream_live": 1, "stream_expected": 1},
        unknown={UNKNOWN: 1, "stream_expected": 1, "stream_upstream_up": 1},
        description="main on studio (livepeer) should be live now and no media arrives.",
    ),
    Input(
        rule="StreamError",
        bad={'stream_status{status="error"}': 1, "stream_live": 0},
        good={'stream_status{status="live"}': 1, "stream_live": 1},
        unknown={UNKNOWN: 1, "stream_upstream_up": 1},
        description="main on studio (livepeer) is in the platform's error state.",
    ),
    Input(
        rule="StreamExpectedUnknown",
        bad={"stream_expected": 1, "stream_upstream_up": 1, UNKNOWN: 1},
        good={"stream_expected": 1, "stream_upstream_up": 1, "stream_live": 0},
        description="main on studio (livepeer) should be live. The platform does not say whether it is.",
    ),
    Input(
        rule="StreamVanished",
        bad={"stream_upstream_up": 1},
        good={"stream_upstream_up": 1, "stream_live": 1},
        unknown={UNKNOWN: 1, "stream_upstream_up": 1},
        lead=60,
        description="main on studio (livepeer) was live and is no longer served, while its upstream answers.",
    ),
    Input(
        rule="StreamFlapping",
        bad={"stream_restarts_total": "+1"},
        good={"stream_restarts_total": 10},
        description="main on studio (livepeer) was published anew 6 times in a quarter of an hour.",
        fires_at=90,
        bad_until=150,
        ceases_at=975,
    ),
    Input(
        rule="StreamMultistreamTargetDown",
        bad={'stream_multistream_target_connected{target="yt"}': 0, **LIVE},
        good={'stream_multistream_target_connected{target="yt"}': 1, **LIVE},
        description="main on studio (livepeer) is live, its target yt is not connected.",
        labels={"target": "yt"},
    ),
    Input(
        rule="StreamViewersDropped",
        bad={"stream_viewers": 10, **LIVE},
        good={"stream_viewers": 100, **LIVE},
        lead=600,
        description="main on studio (livepeer) is live and has lost 90% of its viewers in ten minutes.",
    ),
)
QUALITY_INPUTS = (
    Input(
        rule="StreamIngestStalled",
        bad={"stream_ingest_bitrate_bytes_per_second": 10, **LIVE, 'stream_health_reason{reason="silent"}': 1},
        good={"stream_ingest_bitrate_bytes_per_second": 500000, **LIVE},
        description="main on studio (livepeer) is live and takes in only 80bit/s. Reasons: silent.",
    ),
    Input(
        rule="StreamBitrateCritical",
        bad={
            "stream_ingest_bitrate_bytes_per_second": 200000,
            "stream_expected_ingest_bitrate_bytes_per_second": 500000,
            **LIVE,
        },
        good={
            "stream_ingest_bitrate_bytes_per_second": 250000,
            "stream_expected_ingest_bitrate_bytes_per_second": 500000,
            **LIVE,
        },
        description="main on studio (livepeer) takes in 1.6Mbit/s, less than 50% of what is expected.",
    ),
    Input(
        rule="StreamBitrateLow",
        bad={
            "stream_ingest_bitrate_bytes_per_second": 350000,
            "stream_expected_ingest_bitrate_bytes_per_second": 500000,
            **LIVE,
        },
        good={
            "stream_ingest_bitrate_bytes_per_second": 375000,
            "stream_expected_ingest_bitrate_bytes_per_second": 500000,
            **LIVE,
        },
        description="main on studio (livepeer) takes in 2.8Mbit/s, less than 75% of what is expected.",
    ),
    Input(
        rule="StreamBitrateDropped",
        bad={"stream_ingest_bitrate_bytes_per_second": 100000, **LIVE},
        good={"stream_ingest_bitrate_bytes_per_second": 500000, **LIVE},
        lead=1200,
        description="main on studio (livepeer) takes in 800kbit/s, less than 50% of its mean of the hour before.",
    ),
    Input(
        rule="StreamBitrateUnstable",
        # 60 samples in the window, whether it contains its left end (Prometheus 2) or not (3)
        bad={"stream_ingest_bitrate_bytes_per_second": (None, *[100000, 900000] * 40), **LIVE},
        good={"stream_ingest_bitrate_bytes_per_second": 500000, **LIVE},
        description="The ingest bitrate of main on studio (livepeer) varies by 80% of its mean.",
        fires_at=900,
        bad_until=960,
        ceases_at=1755,
    ),
    Input(
        rule="StreamUnhealthy",
        bad={
            "stream_health_score_ratio": 0.4,
            **LIVE,
            'stream_health_reason{reason="verdict"}': 1,
            'stream_health_reason{reason="loss"}': 1,
        },
        good={"stream_health_score_ratio": 0.5, **LIVE},
        description="main on studio (livepeer) has a health score of 40%. Reasons: loss, verdict.",
    ),
    Input(
        rule="StreamDegraded",
        bad={"stream_health_score_ratio": 0.7, **LIVE},
        good={"stream_health_score_ratio": 0.8, **LIVE},
        description="main on studio (livepeer) has a health score of 70%.",
    ),
    Input(
        rule="StreamFrameRateLow",
        bad={"stream_video_frames_per_second": 19.98, "stream_expected_frames_per_second": 30, **LIVE},
        good={"stream_video_frames_per_second": 27, "stream_expected_frames_per_second": 30, **LIVE},
        description="main on studio (livepeer) has 19.98 frames/s, less than 90% of what is expected.",
    ),
    Input(
        rule="StreamDroppedFramesCritical",
        bad={"stream_dropped_frames_total": "+45", "stream_frames_total": "+450", **LIVE},
        good={"stream_dropped_frames_total": "+0", "stream_frames_total": "+450", **LIVE},
        description="main on studio (livepeer) drops 10% of its frames.",
        fires_at=105,
        bad_until=120,
        ceases_at=240,
    ),
    Input(
        rule="StreamDroppedFramesHigh",
        bad={"stream_dropped_frames_total": "+9", "stream_frames_total": "+450", **LIVE},
        good={"stream_dropped_frames_total": "+0", "stream_frames_total": "+450", **LIVE},
        description="main on studio (livepeer) drops 2% of its frames.",
        fires_at=105,
        bad_until=120,
        ceases_at=240,
    ),
    Input(
        rule="StreamPacketLossCritical",
        bad={"stream_packet_loss_ratio": 0.1, **LIVE},
        good={"stream_packet_loss_ratio": 0.07, **LIVE},
        description="main on studio (livepeer) loses 10% of its packets.",
    ),
    Input(
        rule="StreamPacketLossHigh",
        bad={"stream_packet_loss_ratio": 0.03, **LIVE},
        good={"stream_packet_loss_ratio": 0.02, **LIVE},
        description="main on studio (livepeer) loses 3% of its packets.",
    ),
    Input(
        rule="StreamRoundTripTimeHigh",
        bad={"stream_round_trip_time_seconds": 0.5, **LIVE},
        good={"stream_round_trip_time_seconds": 0.3, **LIVE},
        description="main on studio (livepeer) has a round trip of 500ms.",
    ),
    Input(
        rule="StreamJitterHigh",
        bad={"stream_jitter_seconds": 0.0812, **LIVE},
        good={"stream_jitter_seconds": 0.05, **LIVE},
        description="main on studio (livepeer) has a jitter of 81.2ms.",
    ),
    Input(
        rule="StreamLatencyHigh",
        bad={"stream_latency_seconds": 72.5, "stream_target_latency_seconds": 3, **LIVE},
        good={"stream_latency_seconds": 9, "stream_target_latency_seconds": 3, **LIVE},
        description="main on studio (livepeer) is late by 1m 12s, more than 300% of its target.",
    ),
    Input(
        rule="StreamTranscodeBelowRealtime",
        bad={"stream_transcode_realtime_ratio": 0.8, **LIVE},
        good={"stream_transcode_realtime_ratio": 1, **LIVE},
        description="main on studio (livepeer) is transcoded at 80% of real time: players run dry.",
    ),
    Input(
        rule="StreamTranscodeErrors",
        bad={'stream_health_condition{condition="TranscodeNoErrors"}': 0, **LIVE},
        good={'stream_health_condition{condition="TranscodeNoErrors"}': 1, **LIVE},
        description="main on studio (livepeer) is transcoded with errors.",
    ),
)
INPUTS = (*EXPORTER_INPUTS, *UPSTREAM_INPUTS, *STREAM_INPUTS, *QUALITY_INPUTS, *SLO_INPUTS)
