"""For every rule: series with which it fires, series with which it does not, and the expected annotations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from exporter.alerting.annotations import AlertFacts
from exporter.alerting.rules import RULES_BY_NAME, Scope, Severity

SCRAPE = 15
"""Interval between samples, in seconds, to which ``+3`` and the times in inputs refer."""
SLO_STEP = 60

Values = float | str | tuple[float | None, ...]
"""A constant value, the increase of a counter per step (``+3``), or repeating values (None: no sample)."""


@dataclass(frozen=True, kw_only=True)
class Input:
    """Test input for a rule. ``rule_cases`` adds the labels of target and scope to series. Times are in seconds."""

    rule: str
    severity: Severity | None = None
    """Tested grade (default: the rule's own severity)."""
    bad: Mapping[str, Values]
    """Series with which the rule fires. It cannot fire without the first one."""
    good: Mapping[str, Values]
    description: str
    facts: AlertFacts
    """Facts in the annotations when the rule fires."""
    labels: Mapping[str, str] = field(default_factory=dict)
    besides: Mapping[str, Values] = field(default_factory=dict)
    """Series that are always present."""
    lead: int = 0
    """How long the series are good before they become bad."""
    delay: int = 0
    """Time from the last good sample until the condition holds."""
    fires_at: int = 0
    """When it fires, if not after ``for``."""
    bad_until: int = 0
    ceases_at: int = 0
    """When the condition no longer holds, if later than the first good sample."""
    slo_window: Literal["", "hours", "days"] = ""
    per_instance: bool = False
    disagreeing: Literal["fires", "silent"] = "silent"
    """Whether it fires while a second instance has the good series."""
    unknown: Mapping[str, Values] | None = None
    """Series of a stream in an unknown state, with which nothing fires."""
    fires_without: bool = False
    """Fires if there are no series at all."""
    always: bool = False
    is_series_gone: bool = False
    """Fires because a series is gone, so none of the bad series is required."""

    @property
    def needs_evidence(self) -> bool:
        """Whether it has ``for`` and is evaluated only while its upstream is answering."""
        is_about_stream = RULES_BY_NAME[self.rule].scope is Scope.STREAM
        return (is_about_stream or self.rule in _EVIDENCE_OF_UPSTREAM) and not self.fires_at

    def facts_since(self, since: float | None) -> AlertFacts:
        """Return the facts with the time since which the condition has held."""
        return replace(self.facts, since=since)


_EVIDENCE_OF_UPSTREAM = frozenset(
    {
        "StreamUpstreamStatesUnknown",
        "StreamUpstreamListDoubtful",
        "StreamUpstreamStatisticsFrozen",
        "StreamSeriesLimitReached",
    }
)


LIVE: Mapping[str, Values] = {"stream_live": 1}
BACKUP = 'stream_live{stream="backup"}'
GROUP: Mapping[str, Values] = {
    f'stream_group_member_info{{role="{name}",platform="livepeer",upstream="studio",stream="{name}"}}': 1
    for name in ("main", "backup")
} | {"stream_group_expected": 1}
"""Group ``final`` of the streams ``main`` and ``backup``, without the number of streams that it needs."""
NEEDED = "stream_group_needed_streams"
UNKNOWN = 'stream_status{status="unknown"}'
_CHECK = 'platform="hls",upstream="cdn",stream="main"'
_OTHER_CHECK = 'platform="hls",upstream="cdn",stream="low"'
_SOURCE = 'source_platform="livepeer",source_upstream="studio",source_stream="main"'
_STEADY: Mapping[str, Values] = {
    f"stream_sequence_{name}_total": "+0" for name in ("resets", "regressions", "conflicts")
}
_MEASURABLE: Mapping[str, Values] = {"stream_segment_target_seconds": 6, "stream_upstream_poll_interval_seconds": 5}
_BAD_BUCKET, _COUNT = (
    'stream_sampled_health_score_ratio_bucket{protocol="rtmp",le="0.8"}',
    'stream_sampled_health_score_ratio_count{protocol="rtmp"}',
)
_FAILED = 'stream_upstream_requests_total{request="GET /stream",code="500"}'
_ANSWERED = 'stream_upstream_requests_total{request="GET /stream",code="200"}'
_POLLS = "stream_upstream_polls_total"
_POLL_FAILURES = 'stream_upstream_poll_failures_total{reason="timeout"}'
_ERRORS = 'stream_exporter_notifications_errors_total{alertmanager="http://am:9093"}'


def _burn(name: str, window: str, fires_at: int, slo_window: Literal["hours", "days"]) -> Input:
    """Half of the observations are bad until some time after the window is covered, then none."""
    return Input(
        rule=f"StreamHealthBudgetBurn{name}",
        bad={_BAD_BUCKET: "+5", _COUNT: "+10", "stream_health_score_ratio": 0.5, **LIVE},
        good={_BAD_BUCKET: "+0", _COUNT: "+10", "stream_health_score_ratio": 1, **LIVE},
        description=f"50% of the health observations of studio (livepeer) in the last {window} were at or below 80% "
        "(allowed: 1%).",
        facts=AlertFacts(value=0.5),
        slo_window=slo_window,
        fires_at=fires_at,
        bad_until=fires_at + 1500,
    )


EXPORTER_INPUTS = (
    Input(
        rule="StreamExporterDown",
        bad={"up": 0},
        good={"up": 1},
        description="No target of job stream-exporter can be scraped. No stream is being monitored.",
        fires_without=True,
        facts=AlertFacts(value=0),
    ),
    Input(
        rule="StreamScrapesFailing",
        bad={"up": (1, 0)},
        good={"up": 1},
        description="12.2% of the scrapes of a:10071 failed in the last 10 minutes.",
        facts=AlertFacts(value=5 / 41),
        labels={"instance": "a:10071"},
        lead=900,
        per_instance=True,
        fires_at=1050,
        bad_until=1065,
        ceases_at=1545,
    ),
    Input(
        rule="StreamShardMissing",
        bad={"stream_exporter_shards": 3, "stream_exporter_shard_ordinal": 0},
        good={"stream_exporter_shards": 3, "stream_exporter_shard_ordinal": 1},
        besides={
            'stream_exporter_shard_ordinal{instance="z:10071"}': 2,
            'stream_exporter_shard_ordinal{instance="y:10071"}': 0,
        },
        description="Only 2 shards of job stream-exporter can be scraped. The streams of the missing shards are not "
        "monitored.",
        facts=AlertFacts(value=2),
    ),
    Input(
        rule="StreamShardsDisagree",
        bad={"stream_exporter_config_hash": 281474976710655, "stream_exporter_shards": 2},
        good={"stream_exporter_config_hash": 5, "stream_exporter_shards": 2},
        besides={
            'stream_exporter_config_hash{instance="z:10071"}': 5,
            'stream_exporter_shards{instance="z:10071"}': 2,
        },
        description="The shards of job stream-exporter run with 2 different shard counts or configurations.",
        facts=AlertFacts(value=2),
        disagreeing="fires",
    ),
    Input(
        rule="StreamWatchdog",
        bad={},
        good={},
        description="This alert always fires. If it stops arriving, other alerts from Prometheus do not arrive either.",
        facts=AlertFacts(value=1),
        always=True,
    ),
    Input(
        rule="StreamExporterReloadFailed",
        bad={"stream_exporter_config_last_reload_successful": 0},
        good={"stream_exporter_config_last_reload_successful": 1},
        description="The last configuration reload of a:10071 failed. It is still running with the previous "
        "configuration.",
        labels={"instance": "a:10071"},
        per_instance=True,
        facts=AlertFacts(value=0),
    ),
    Input(
        rule="StreamAlertPushFailing",
        bad={_ERRORS: "+3"},
        good={_ERRORS: 0},
        description="Sending alerts failed, or the receiver refused them, 5 times in the last 15 minutes.",
        labels={"alertmanager": "http://am:9093"},
        fires_at=75,
        bad_until=90,
        ceases_at=930,
        facts=AlertFacts(value=5),
        disagreeing="fires",
    ),
)
UPSTREAM_INPUTS = (
    Input(
        rule="StreamUpstreamUnwatched",
        bad={"up": 0},
        good={"up": 1, "stream_upstream_poll_interval_seconds": 15},
        besides={'up{instance="z:10071"}': 1},
        description="The target that polled studio (livepeer) is down or gone, and no other target polls it. The state "
        "of its streams is unknown.",
        facts=AlertFacts(value=1),
        lead=300,
        delay=165,
        is_series_gone=True,
    ),
    Input(
        rule="StreamUpstreamUnstable",
        bad={_POLL_FAILURES: "+1", _POLLS: "+3", "stream_upstream_up": 1},
        good={_POLL_FAILURES: "+0", _POLLS: "+3", "stream_upstream_up": 1},
        description="33.33% of the polls of studio (livepeer) failed in the last 10 minutes.",
        facts=AlertFacts(value=1 / 3),
        fires_at=330,
        bad_until=390,
        ceases_at=630,
    ),
    Input(
        rule="StreamUpstreamUnstable",
        severity=Severity.CRITICAL,
        bad={_POLL_FAILURES: "+3", _POLLS: "+4", "stream_upstream_up": 1},
        good={_POLL_FAILURES: "+0", _POLLS: "+4", "stream_upstream_up": 1},
        description="75% of the polls of studio (livepeer) failed in the last 10 minutes.",
        facts=AlertFacts(value=0.75),
        fires_at=615,
    ),
    Input(
        rule="StreamUpstreamStatesUnknown",
        bad=dict.fromkeys([f'stream_status{{stream="{name}",status="unknown"}}' for name in "abc"], 1),
        good={f'stream_live{{stream="{name}"}}': 1 for name in "abc"},
        besides={f'stream_live{{stream="s{index}"}}': 1 for index in range(9)},
        description="The state of 25% of the streams of studio (livepeer) is unknown, although the upstream is "
        "answering.",
        facts=AlertFacts(value=0.25),
    ),
    Input(
        rule="StreamUpstreamStatesUnknown",
        severity=Severity.CRITICAL,
        bad=dict.fromkeys([f'stream_status{{stream="{name}",status="unknown"}}' for name in "abc"], 1),
        good={f'stream_live{{stream="{name}"}}': 1 for name in "abc"},
        besides={
            **{f'stream_live{{stream="s{index}"}}': 1 for index in range(9)},
            'stream_expected{stream="b"}': 1,
        },
        description="The state of 25% of the streams of studio (livepeer) is unknown, although the upstream is "
        "answering.",
        facts=AlertFacts(value=0.25),
    ),
    Input(
        rule="StreamUpstreamListDoubtful",
        bad={"stream_upstream_list_complete": 0},
        good={"stream_upstream_list_complete": 1},
        description="The stream list of studio (livepeer) may be incomplete. Streams missing from it become unknown "
        "instead of off air.",
        facts=AlertFacts(value=0),
    ),
    Input(
        rule="StreamCalendarUnreadable",
        bad={'stream_upstream_calendar_readable{calendar="matches.ics"}': 0},
        good={'stream_upstream_calendar_readable{calendar="matches.ics"}': 1},
        besides={
            'stream_upstream_calendar_last_success_timestamp_seconds{calendar="matches.ics"}': 1700000000,
            'stream_upstream_calendar_last_success_timestamp_seconds{calendar="other.ics"}': 1800000000,
        },
        labels={"calendar": "matches.ics"},
        description="The calendar matches.ics of studio (livepeer) cannot be read. Last successful read: "
        "2023-11-14 22:13:20 UTC. Changes since then are missing; if it has never been read, it is unknown when its "
        "streams are expected.",
        facts=AlertFacts(value=0, reference=1.7e9),
    ),
    Input(
        rule="StreamMaintenance",
        bad={'stream_maintenance{stream="main"}': 1},
        good=LIVE,
        besides={"stream_upstream_up": 0},
        labels={"stream": "main"},
        lead=60,
        description="A maintenance window of main on studio (livepeer) is active. Its alerts are inhibited until the "
        "window ends.",
        facts=AlertFacts(value=1),
        disagreeing="fires",
    ),
    Input(
        rule="StreamUpstreamStatisticsFrozen",
        bad={"stream_upstream_statistics_frozen": 1},
        good={"stream_upstream_statistics_frozen": 0},
        description="The byte totals of all live streams of studio (livepeer) stopped rising at the same time. "
        "Bitrates and health scores are withdrawn.",
        facts=AlertFacts(value=1),
        disagreeing="fires",
    ),
    Input(
        rule="StreamUpstreamStatisticsFrozen",
        severity=Severity.CRITICAL,
        bad={"stream_upstream_statistics_frozen": 1},
        good={"stream_upstream_statistics_frozen": 0},
        besides={"stream_live": 1, "stream_expected": 1},
        description="The byte totals of all live streams of studio (livepeer) stopped rising at the same time. "
        "Bitrates and health scores are withdrawn.",
        facts=AlertFacts(value=1),
    ),
    Input(
        rule="StreamUpstreamDown",
        bad={"stream_upstream_answering": 0, "stream_upstream_up": 0, 'stream_upstream_failing{reason="timeout"}': 1},
        good={"stream_upstream_up": 1},
        description="No data from studio (livepeer); the state of its streams is unknown.",
        facts=AlertFacts(value=0, state="timeout"),
    ),
    Input(
        rule="StreamUpstreamDown",
        severity=Severity.WARNING,
        bad={"stream_upstream_answering": 0, "stream_upstream_up": 0, 'stream_upstream_failing{reason="timeout"}': 1},
        good={"stream_upstream_up": 1},
        besides={
            "stream_expected": 1,
            f"stream_playable{{{_CHECK}}}": 1,
            f"stream_source_info{{{_CHECK},{_SOURCE}}}": 1,
            f"stream_source_info{{{_OTHER_CHECK},{_SOURCE}}}": 1,
            f"stream_playable{{{_OTHER_CHECK}}}": 1,
            'stream_upstream_answering{platform="hls",upstream="cdn"}': 1,
        },
        description="No data from studio (livepeer); the state of its streams is unknown.",
        facts=AlertFacts(value=0, state="timeout"),
    ),
    Input(
        rule="StreamPlaybackVantageDown",
        bad={'stream_upstream_failing{reason="vantage"}': 1, "stream_upstream_up": 0, "stream_upstream_answering": 0},
        good={"stream_upstream_up": 1},
        description="No playback check of studio (livepeer) can be made, because the exporter's own network seems to "
        "be down. What viewers get is unknown.",
        facts=AlertFacts(value=0, state="vantage"),
    ),
    Input(
        rule="StreamUpstreamAuthFailing",
        bad={'stream_upstream_failing{reason="auth"}': 1, "stream_upstream_up": 0, "stream_upstream_answering": 0},
        good={"stream_upstream_up": 1},
        description="studio (livepeer) rejects the exporter's credentials; the state of its streams is unknown.",
        facts=AlertFacts(value=1, state="auth"),
    ),
    Input(
        rule="StreamUpstreamErrorRatioHigh",
        bad={_FAILED: "+1", _ANSWERED: "+3"},
        good={_FAILED: "+0", _ANSWERED: "+3"},
        description="25% of the requests to studio (livepeer) failed in the last 15 minutes.",
        fires_at=75,
        bad_until=105,
        ceases_at=570,
        facts=AlertFacts(value=0.25),
        disagreeing="fires",
    ),
    Input(
        rule="StreamUpstreamDataStale",
        bad={"stream_upstream_answering": 0, "stream_upstream_up": 1},
        good={"stream_upstream_answering": 1, "stream_upstream_up": 1},
        description="The last successful poll of studio (livepeer) is more than 2.5 poll intervals old, although the "
        "upstream counts as up.",
        facts=AlertFacts(value=0),
    ),
    Input(
        rule="StreamSeriesLimitReached",
        bad={"stream_upstream_streams_dropped": 12},
        good={"stream_upstream_streams_dropped": 0},
        description="12 streams of studio (livepeer) are not exported, because of max_streams.",
        facts=AlertFacts(value=12),
        disagreeing="fires",
    ),
)
SLO_INPUTS = (
    _burn("Fast", "1h", 1740, "hours"),
    _burn("Steady", "6h", 10740, "hours"),
    _burn("Slow", "1d", 42900, "days"),
    _burn("Creeping", "3d", 129300, "days"),
)
STREAM_INPUTS = (
    Input(
        rule="StreamExpectedOffline",
        bad={"stream_live": 0, "stream_expected": 1, 'stream_status{status="idle"}': 1},
        good={"stream_live": 1, "stream_expected": 1},
        unknown={UNKNOWN: 1, "stream_expected": 1},
        description="No media arrives for main on studio (livepeer), although it should be live now.",
        facts=AlertFacts(value=0, state="idle"),
    ),
    Input(
        rule="StreamError",
        bad={'stream_status{status="error"}': 1, "stream_live": 0},
        good={'stream_status{status="live"}': 1, "stream_live": 1},
        unknown={UNKNOWN: 1},
        description="The platform reports an error for main on studio (livepeer). The stream is not expected to be "
        "live.",
        facts=AlertFacts(value=1, state="error"),
    ),
    Input(
        rule="StreamExpectedUnknown",
        bad={"stream_expected": 1, UNKNOWN: 1},
        good={"stream_expected": 1, "stream_live": 0},
        description="main on studio (livepeer) should be live now. Its upstream answers, but does not report whether "
        "the stream is live.",
        facts=AlertFacts(value=1, state="unknown"),
    ),
    Input(
        rule="StreamExpectedUnknown",
        severity=Severity.CRITICAL,
        bad={"stream_expected": 1, UNKNOWN: 1},
        good={"stream_expected": 1, "stream_live": 0},
        description="main on studio (livepeer) should be live now. Its upstream answers, but does not report whether "
        "the stream is live.",
        facts=AlertFacts(value=1, state="unknown"),
    ),
    Input(
        rule="StreamExpectedPaused",
        bad={'stream_status{status="paused"}': 1, "stream_live": 0, "stream_expected": 1},
        good={'stream_status{status="live"}': 1, "stream_live": 1, "stream_expected": 1},
        unknown={UNKNOWN: 1, "stream_expected": 1},
        description="main on studio (livepeer) should be live now, but it is paused.",
        facts=AlertFacts(value=1, state="paused"),
    ),
    Input(
        rule="StreamLiveUnexpectedly",
        bad={"stream_live": 1, 'stream_status{status="live"}': 1, "stream_expected": 0},
        good={"stream_live": 0, 'stream_status{status="idle"}': 1, "stream_expected": 0},
        unknown={UNKNOWN: 1, "stream_expected": 0},
        description="main on studio (livepeer) is live, although it should be off air.",
        facts=AlertFacts(value=1),
        disagreeing="fires",
    ),
    Input(
        rule="StreamVerdictUnstable",
        bad={"stream_healthy": (1, 0)},
        good={"stream_healthy": 1},
        description="The platform's health verdict for main on studio (livepeer) changed 6 times in 15 minutes.",
        facts=AlertFacts(value=6),
        fires_at=90,
        bad_until=150,
        ceases_at=975,
        disagreeing="fires",
    ),
    Input(
        rule="StreamVanished",
        bad={},
        good={"stream_live": 1},
        unknown={UNKNOWN: 1},
        lead=60,
        description="main on studio (livepeer) was live and has disappeared, although its upstream is answering.",
        facts=AlertFacts(value=1),
    ),
    Input(
        rule="StreamFlapping",
        bad={"stream_restarts_total": "+1"},
        good={"stream_restarts_total": 10},
        description="main on studio (livepeer) restarted 6 times in 15 minutes.",
        fires_at=90,
        bad_until=150,
        ceases_at=975,
        facts=AlertFacts(value=6),
        disagreeing="fires",
    ),
    Input(
        rule="StreamMultistreamTargetDown",
        bad={'stream_multistream_target_connected{target="yt"}': 0, **LIVE},
        good={'stream_multistream_target_connected{target="yt"}': 1, **LIVE},
        description="main on studio (livepeer) is live, but its multistream target yt is not connected.",
        labels={"target": "yt"},
        facts=AlertFacts(value=0),
    ),
    Input(
        rule="StreamViewersDropped",
        bad={"stream_viewers": 10, **LIVE},
        good={"stream_viewers": 100, **LIVE},
        lead=600,
        description="main on studio (livepeer) is live and lost 90% of its viewers in 10 minutes.",
        facts=AlertFacts(value=0.9, last_viewers=10),
    ),
)
PLAYBACK_INPUTS = (
    Input(
        rule="StreamViewersGetNothing",
        bad={"stream_playable": 0, "stream_source_live": 1, 'stream_unplayable_reason{reason="segment_missing"}': 1},
        good={"stream_playable": 1, "stream_source_live": 1},
        unknown={UNKNOWN: 1, "stream_source_live": 1},
        description="Viewers of main on studio (livepeer) get nothing, although its source is live: segments missing.",
        facts=AlertFacts(value=0, unplayable="segments missing"),
    ),
    Input(
        rule="StreamUnplayable",
        bad={"stream_playable": 0, "stream_expected": 1, 'stream_unplayable_reason{reason="stale"}': 1},
        good={"stream_playable": 1, "stream_expected": 1},
        unknown={UNKNOWN: 1, "stream_expected": 1},
        description="Viewers of main on studio (livepeer) get nothing, although it is live or should be: no new media.",
        facts=AlertFacts(value=0, unplayable="no new media"),
    ),
    Input(
        rule="StreamAudioMissing",
        bad={"stream_audio_present": 0, **LIVE},
        good={"stream_audio_present": 1, **LIVE},
        description="The segments of main on studio (livepeer) contain no audio.",
        facts=AlertFacts(value=0),
    ),
    Input(
        rule="StreamVideoMissing",
        bad={"stream_video_present": 0, **LIVE},
        good={"stream_video_present": 1, **LIVE},
        description="The segments of main on studio (livepeer) contain no video.",
        facts=AlertFacts(value=0),
    ),
    Input(
        rule="StreamMediaShortage",
        bad={"stream_media_seconds_total": "+9", **LIVE, **_MEASURABLE},
        good={"stream_media_seconds_total": "+15", **LIVE, **_MEASURABLE},
        description="Only 60% of the media of main on studio (livepeer) arrived in the last 2 minutes.",
        fires_at=120,
        bad_until=180,
        ceases_at=210,
        facts=AlertFacts(value=0.6),
    ),
    Input(
        rule="StreamMediaShortage",
        severity=Severity.CRITICAL,
        bad={"stream_media_seconds_total": "+6", **LIVE, **_MEASURABLE, "stream_source_live": 1},
        good={"stream_media_seconds_total": "+15", **LIVE, **_MEASURABLE, "stream_source_live": 1},
        description="Only 40% of the media of main on studio (livepeer) arrived in the last 2 minutes.",
        fires_at=120,
        bad_until=180,
        # the warning follows
        ceases_at=240,
        facts=AlertFacts(value=0.4),
    ),
    Input(
        rule="StreamDeliverySlow",
        bad={
            "stream_segment_download_seconds_total": "+0.9",
            "stream_segment_media_seconds_total": "+1",
            **LIVE,
        },
        good={
            "stream_segment_download_seconds_total": "+0.1",
            "stream_segment_media_seconds_total": "+1",
            **LIVE,
        },
        description="Loading segments of main on studio (livepeer) took 90% of their duration in the last 5 minutes.",
        fires_at=300,
        bad_until=360,
        ceases_at=390,
        facts=AlertFacts(value=0.9),
        disagreeing="fires",
    ),
    Input(
        rule="StreamDeliverySlow",
        severity=Severity.CRITICAL,
        bad={
            "stream_segment_download_seconds_total": "+1.3",
            "stream_segment_media_seconds_total": "+1",
            **LIVE,
        },
        good={
            "stream_segment_download_seconds_total": "+0.1",
            "stream_segment_media_seconds_total": "+1",
            **LIVE,
        },
        description="Loading segments of main on studio (livepeer) took 130% of their duration in the last 5 minutes.",
        fires_at=420,
        facts=AlertFacts(value=1.3),
    ),
    Input(
        rule="StreamRenditionMissing",
        bad={"stream_renditions_playable": 3, "stream_expected_renditions": 4, **LIVE},
        good={"stream_renditions_playable": 4, "stream_expected_renditions": 4, **LIVE},
        description="Only 3 renditions of main on studio (livepeer) are playable (expected 4).",
        facts=AlertFacts(value=3, reference=4),
    ),
    Input(
        rule="StreamSequenceUnsteady",
        bad={"stream_segments_missed_total": "+9", **_STEADY, **LIVE},
        good={"stream_segments_missed_total": "+0", **_STEADY, **LIVE},
        description="The playlist of main on studio (livepeer) lost segments, or its sequence numbers went wrong, 4 "
        "times in 10 minutes.",
        fires_at=60,
        bad_until=120,
        ceases_at=660,
        facts=AlertFacts(value=4),
        disagreeing="fires",
    ),
    Input(
        rule="StreamPlaybackForbidden",
        bad={"stream_playback_forbidden": 1},
        good={"stream_playback_forbidden": 0},
        description="The server answers the exporter's requests for main on studio (livepeer) with 401 or 403. What "
        "viewers get is unknown.",
        facts=AlertFacts(value=1),
        disagreeing="fires",
    ),
    Input(
        rule="StreamViewersSeeOther",
        bad={"stream_source_live": 0, "stream_playable": 1, **LIVE},
        good={"stream_source_live": 1, "stream_playable": 1, **LIVE},
        description="main on studio (livepeer) can be played and gets new media, although its source is not live.",
        facts=AlertFacts(value=1),
    ),
)
GROUP_INPUTS = (
    Input(
        rule="StreamGroupDown",
        bad={NEEDED: 1, BACKUP: 0},
        good={NEEDED: 1, BACKUP: 0, **LIVE},
        besides=GROUP,
        description="Streams of group final that are known to be live: 0 (needed: 1).",
        facts=AlertFacts(value=0, needed=1, off_air=["backup on studio (backup)"], unknown=["main on studio (main)"]),
    ),
    Input(
        rule="StreamGroupDown",
        severity=Severity.CRITICAL,
        bad={NEEDED: 1, "stream_live": 0, BACKUP: 0},
        good={NEEDED: 1, "stream_live": 0, BACKUP: 1},
        besides=GROUP,
        description="Streams of group final that are known to be live: 0 (needed: 1).",
        facts=AlertFacts(value=0, needed=1, off_air=["backup on studio (backup)", "main on studio (main)"]),
    ),
    Input(
        rule="StreamGroupRedundancyLost",
        bad={"stream_live": 0, NEEDED: 1, BACKUP: 1},
        good={"stream_live": 1, NEEDED: 1, BACKUP: 1},
        besides=GROUP,
        description="Streams of group final that are live: 1 (needed: 1). At least one other is off air.",
        facts=AlertFacts(value=1, needed=1, off_air=["main on studio (main)"]),
    ),
)
QUALITY_INPUTS = (
    Input(
        rule="StreamIngestStalled",
        bad={"stream_ingest_bitrate_bytes_per_second": 10, **LIVE, 'stream_health_reason{reason="silent"}': 1},
        good={"stream_ingest_bitrate_bytes_per_second": 500000, **LIVE},
        description="Ingest of main on studio (livepeer) is 80 bit/s (expected at least 1 kbit/s).",
        facts=AlertFacts(value=80, last_bitrate=10, reasons=("silent",)),
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
        description="Ingest of main on studio (livepeer) is 1.6 Mbit/s (expected 4 Mbit/s; alert below 50%).",
        facts=AlertFacts(value=1.6e6, reference=4e6, last_bitrate=200000),
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
        description="Ingest of main on studio (livepeer) is 2.8 Mbit/s (expected 4 Mbit/s; alert below 75%).",
        facts=AlertFacts(value=2.8e6, reference=4e6, last_bitrate=350000),
    ),
    Input(
        rule="StreamBitrateDropped",
        bad={"stream_ingest_bitrate_bytes_per_second": 100000, **LIVE},
        good={"stream_ingest_bitrate_bytes_per_second": 500000, **LIVE},
        lead=1200,
        description="Ingest of main on studio (livepeer) is 800 kbit/s, below 50% of its average over the previous "
        "hour.",
        facts=AlertFacts(value=800e3, last_bitrate=100000),
    ),
    Input(
        rule="StreamBitrateUnstable",
        # 60 samples in the window, whether it includes its left end (Prometheus 2) or not (Prometheus 3)
        bad={"stream_ingest_bitrate_bytes_per_second": (None, *[100000, 900000] * 40), **LIVE},
        good={"stream_ingest_bitrate_bytes_per_second": 500000, **LIVE},
        description="The standard deviation of the ingest bitrate of main on studio (livepeer) is 80% of its average.",
        fires_at=900,
        bad_until=960,
        ceases_at=1755,
        facts=AlertFacts(value=0.8, last_bitrate=900000),
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
        description="The health score of main on studio (livepeer) is 40%.",
        facts=AlertFacts(value=0.4, reasons=("verdict", "loss")),
    ),
    Input(
        rule="StreamDegraded",
        bad={"stream_health_score_ratio": 0.7, **LIVE},
        good={"stream_health_score_ratio": 0.8, **LIVE},
        description="The health score of main on studio (livepeer) is 70%.",
        facts=AlertFacts(value=0.7),
    ),
    Input(
        rule="StreamFrameRateLow",
        bad={"stream_video_frames_per_second": 19.98, "stream_expected_frames_per_second": 30, **LIVE},
        good={"stream_video_frames_per_second": 27, "stream_expected_frames_per_second": 30, **LIVE},
        description="The frame rate of main on studio (livepeer) is 19.98 frames/s (expected 30 frames/s; alert below "
        "90%).",
        facts=AlertFacts(value=19.98, reference=30),
    ),
    Input(
        rule="StreamDroppedFramesCritical",
        bad={"stream_dropped_frames_total": "+45", "stream_frames_total": "+450", **LIVE},
        good={"stream_dropped_frames_total": "+0", "stream_frames_total": "+450", **LIVE},
        description="10% of the frames of main on studio (livepeer) were dropped in the last 10 minutes.",
        fires_at=105,
        bad_until=135,
        ceases_at=240,
        facts=AlertFacts(value=0.1),
        disagreeing="fires",
    ),
    Input(
        rule="StreamDroppedFramesHigh",
        bad={"stream_dropped_frames_total": "+9", "stream_frames_total": "+450", **LIVE},
        good={"stream_dropped_frames_total": "+0", "stream_frames_total": "+450", **LIVE},
        description="2% of the frames of main on studio (livepeer) were dropped in the last 10 minutes.",
        fires_at=105,
        bad_until=135,
        ceases_at=240,
        facts=AlertFacts(value=0.02),
        disagreeing="fires",
    ),
    Input(
        rule="StreamPacketLossCritical",
        bad={"stream_packet_loss_ratio": 0.1, **LIVE},
        good={"stream_packet_loss_ratio": 0.07, **LIVE},
        description="Packet loss of main on studio (livepeer) is 10%.",
        facts=AlertFacts(value=0.1),
        disagreeing="fires",
    ),
    Input(
        rule="StreamPacketLossHigh",
        bad={"stream_packet_loss_ratio": 0.03, **LIVE},
        good={"stream_packet_loss_ratio": 0.02, **LIVE},
        description="Packet loss of main on studio (livepeer) is 3%.",
        facts=AlertFacts(value=0.03),
        disagreeing="fires",
    ),
    Input(
        rule="StreamRoundTripTimeHigh",
        bad={"stream_round_trip_time_seconds": 0.5, **LIVE},
        good={"stream_round_trip_time_seconds": 0.3, **LIVE},
        description="The round-trip time to the publisher of main on studio (livepeer) is 500ms.",
        facts=AlertFacts(value=0.5),
        disagreeing="fires",
    ),
    Input(
        rule="StreamJitterHigh",
        bad={"stream_jitter_seconds": 0.0812, **LIVE},
        good={"stream_jitter_seconds": 0.05, **LIVE},
        description="Ingest jitter of main on studio (livepeer) is 81.2ms.",
        facts=AlertFacts(value=0.0812),
        disagreeing="fires",
    ),
    Input(
        rule="StreamLatencyHigh",
        bad={"stream_latency_seconds": 72.5, "stream_target_latency_seconds": 3, **LIVE},
        good={"stream_latency_seconds": 9, "stream_target_latency_seconds": 3, **LIVE},
        description="The latency of main on studio (livepeer) is 1m 12s (target 3s; alert above 300%).",
        facts=AlertFacts(value=72.5, reference=3),
        disagreeing="fires",
    ),
    Input(
        rule="StreamTranscodeBelowRealtime",
        bad={"stream_transcode_realtime_ratio": 0.8, **LIVE},
        good={"stream_transcode_realtime_ratio": 1, **LIVE},
        description="Transcoding of main on studio (livepeer) runs at 80% of real time. Players run out of data.",
        facts=AlertFacts(value=0.8),
    ),
    Input(
        rule="StreamTranscodeErrors",
        bad={'stream_health_condition{condition="TranscodeNoErrors"}': 0, **LIVE},
        good={'stream_health_condition{condition="TranscodeNoErrors"}': 1, **LIVE},
        description="The platform reports transcoding errors for main on studio (livepeer).",
        facts=AlertFacts(value=0),
    ),
)


def _covered(given: Input) -> Input:
    """Return the input with a group that is up without the stream."""
    return replace(given, severity=Severity.WARNING, besides={**given.besides, **GROUP, NEEDED: 1, BACKUP: 1})


_BASE = (
    *EXPORTER_INPUTS,
    *UPSTREAM_INPUTS,
    *GROUP_INPUTS,
    *STREAM_INPUTS,
    *PLAYBACK_INPUTS,
    *QUALITY_INPUTS,
    *SLO_INPUTS,
)
COVERED_INPUTS = tuple(_covered(given) for given in _BASE if RULES_BY_NAME[given.rule].is_downgraded_by_groups)
INPUTS = (*_BASE, *COVERED_INPUTS)
