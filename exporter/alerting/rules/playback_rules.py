"""Rules about playback checks: what viewers get.

A check that is paired with a stream (``of``) is judged together with it. While the source is not live, or is a check
that cannot be played itself, ``stream_source_live`` is 0, and the alerts of the source explain the fault: so of a chain
of checks, only the first broken hop alerts.
"""

from __future__ import annotations

from exporter.alerting.rules.common_guards import (
    EXPECTED,
    FORBIDDEN,
    LIVE,
    PLAYS,
    SOURCE_LIVE,
    SOURCE_NOT_LIVE,
    UNPLAYABLE,
)
from exporter.alerting.rules.rule import (
    MINUTE,
    AnyOf,
    Comparison,
    Condition,
    Critical,
    Guard,
    Present,
    Rule,
    Scope,
    Series,
    Severity,
    Threshold,
    Unit,
)
from exporter.alerting.rules.stream_rules import INHIBITOR_KEEP_FIRING_SECONDS, KEEP_FIRING_SECONDS

_SHORTAGE_SECONDS = 2 * MINUTE
_MEDIA_RATIO = Series("stream_media_seconds_total", growth_within=_SHORTAGE_SECONDS)
_DOWNLOAD_RATIO = Series(
    "stream_segment_download_seconds_total",
    growth_within=5 * MINUTE,
    growth_per="stream_segment_media_seconds_total",
)
_SEQUENCE_FAULTS = Series(
    "stream_sequence_resets_total",
    rises_within=10 * MINUTE,
    and_rises_of=(
        "stream_sequence_regressions_total",
        "stream_sequence_conflicts_total",
        "stream_segments_missed_total",
    ),
)
_SHORTAGE_IS_MEASURABLE: tuple[Guard, ...] = (
    Comparison(Series("stream_upstream_poll_interval_seconds"), "<=", _SHORTAGE_SECONDS / 3),
    Comparison(Series("stream_segment_target_seconds"), "<=", _SHORTAGE_SECONDS / 10),
)
"""The window has three polls and ten segments, so that a segment that is late does not count as missing."""

PLAYBACK_RULES: tuple[Rule, ...] = (
    Rule(
        name="StreamViewersGetNothing",
        scope=Scope.STREAM,
        severity=Severity.CRITICAL,
        summary="Viewers of {subject} get nothing, although its source is live.",
        description="Viewers of {subject} get nothing, although its source is live: {value}.",
        expected="playable",
        condition=Condition(UNPLAYABLE, also=(SOURCE_LIVE,)),
        for_seconds=30.0,
        keep_firing_seconds=INHIBITOR_KEEP_FIRING_SECONDS,
        unit=Unit.UNPLAYABLE,
        rationale="The source is live, so the fault lies between it and the viewers. Before the check gives this "
        "verdict, it waits for its start grace, for a second failure, and for as long as players do (at least 12 s "
        "without new media). It gives none while the server refuses the exporter's requests (401, 403) or the "
        "exporter's own network is down. Encrypted media is no fault. Of a chain of checks, only the first one that "
        "cannot be played fires.",
    ),
    Rule(
        name="StreamUnplayable",
        scope=Scope.STREAM,
        severity=Severity.CRITICAL,
        summary="{subject} cannot be played, although it is live or should be.",
        description="Viewers of {subject} get nothing, although it is live or should be: {value}.",
        expected="playable",
        condition=Condition(UNPLAYABLE, also=(AnyOf((EXPECTED, LIVE)),), unless=(Present(SOURCE_LIVE.left),)),
        for_seconds=45.0,
        keep_firing_seconds=INHIBITOR_KEEP_FIRING_SECONDS,
        unit=Unit.UNPLAYABLE,
        rationale="For a check without a source, and while the state of its source is unknown: if the platform's API "
        "is down, the check is the only evidence. A stream that is not expected counts while its playlist gets new "
        "media, for example without segments. It waits longer than StreamViewersGetNothing, because nothing proves "
        "that media should arrive: the encoder may be restarting.",
    ),
    Rule(
        name="StreamAudioMissing",
        scope=Scope.STREAM,
        severity=Severity.CRITICAL,
        summary="{subject} has no sound.",
        description="The segments of {subject} contain no audio.",
        expected="audio",
        condition=Condition(
            Comparison(Series("stream_audio_present"), "==", 0), also=(LIVE,), unless=(SOURCE_NOT_LIVE,)
        ),
        for_seconds=2 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        unit=Unit.FLAG,
        rationale="Only if audio is required or was seen before, and two looks found no audio packets. Whole segments "
        "are fetched once a minute, so two minutes confirm it. Encrypted media is not judged, and neither is a slate "
        "after the end of the source.",
    ),
    Rule(
        name="StreamVideoMissing",
        scope=Scope.STREAM,
        severity=Severity.CRITICAL,
        summary="{subject} has no picture.",
        description="The segments of {subject} contain no video.",
        expected="video",
        condition=Condition(
            Comparison(Series("stream_video_present"), "==", 0), also=(LIVE,), unless=(SOURCE_NOT_LIVE,)
        ),
        for_seconds=2 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        unit=Unit.FLAG,
        rationale="As StreamAudioMissing, for video. A black or frozen picture is video.",
    ),
    Rule(
        name="StreamMediaShortage",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="{subject} delivers less media than time passes.",
        description="Only {value} of the media of {subject} arrived in the last 2 minutes.",
        expected="at least {threshold}",
        condition=Condition(
            Comparison(_MEDIA_RATIO, "<", Threshold()),
            also=(LIVE, *_SHORTAGE_IS_MEASURABLE),
            unless=(SOURCE_NOT_LIVE,),
        ),
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=0.75,
        threshold_max=1.0,
        unit=Unit.RATIO,
        critical=Critical(for_seconds=0.0, threshold=0.5, also=(AnyOf((SOURCE_LIVE, EXPECTED)),)),
        rationale="A healthy stream delivers one second of media per second, and the window is so long that a late "
        "segment costs little. With less, players stall although every request succeeds: a cache that keeps playlists "
        "for 25 s lets 36 % through. The check of such a stream is off air for some seconds again and again, so the "
        "stream must be live now and at the start of the window, but not all the time. A single interruption of more "
        "than 30 s is a shortage too; it is critical only if the source is live or the stream is expected. There is no "
        "verdict in the first minutes after a start of the stream or of the exporter, and after an outage of the "
        "exporter's network or refused requests, nor with a poll interval above 40 s or segments longer than 12 s.",
    ),
    Rule(
        name="StreamDeliverySlow",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="The segments of {subject} load slowly.",
        description="Loading segments of {subject} took {value} of their duration in the last 5 minutes.",
        expected="at most {threshold}",
        condition=Condition(Comparison(_DOWNLOAD_RATIO, ">", Threshold()), also=(LIVE,), unless=(SOURCE_NOT_LIVE,)),
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=0.8,
        unit=Unit.RATIO,
        critical=Critical(for_seconds=2 * MINUTE, threshold=1.2),
        rationale="Above 100 %, players run out of media; just below, any hiccup stalls them. Measured with whole "
        "segments of the lowest rendition, once a minute by default. The window needs at least three of them, so "
        "`whole_segment_every` must be at most 100 s. The rule cannot tell a slow server from a slow "
        "connection of the exporter: then the checks of several servers fire at once.",
    ),
    Rule(
        name="StreamRenditionMissing",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="Renditions of {subject} are missing.",
        description="Only {value} renditions of {subject} are playable (expected {expected}).",
        expected="{reference}",
        condition=Condition(
            Comparison(Series("stream_renditions_playable"), "<", Threshold(of=Series("stream_expected_renditions"))),
            also=(LIVE,),
            unless=(SOURCE_NOT_LIVE,),
        ),
        for_seconds=3 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=1.0,
        threshold_max=1.0,
        unit=Unit.COUNT,
        threshold_unit=Unit.RATIO,
        rationale="Players switch to another rendition, so this is a ticket. Renditions are checked in turn, and "
        "transcoders start one after the other, which takes less than three minutes.",
    ),
    Rule(
        name="StreamSequenceUnsteady",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="The playlist of {subject} is inconsistent.",
        description="The playlist of {subject} lost segments, or its sequence numbers went wrong, {value} times in 10 "
        "minutes.",
        expected="at most {threshold} times",
        condition=Condition(Comparison(_SEQUENCE_FAULTS, ">", Threshold()), also=(LIVE,), unless=(SOURCE_NOT_LIVE,)),
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        threshold=3.0,
        unit=Unit.COUNT,
        rationale="The value is the number of times that the totals of resets, regressions, conflicts and missed "
        "segments rose from one sample to the next, not by how much: a restart of the packager, or one response from a "
        "stale cache, is one event, however many segments it costs. More than three point to origins that are out of "
        "step, or to a cache that keeps playlists for too long.",
    ),
    Rule(
        name="StreamPlaybackForbidden",
        scope=Scope.STREAM,
        severity=Severity.WARNING,
        summary="The server refuses the playback check of {subject}.",
        description="The server answers the exporter's requests for {subject} with 401 or 403. What viewers get is "
        "unknown.",
        expected="access for the exporter",
        condition=Condition(FORBIDDEN),
        for_seconds=10 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        unit=Unit.FLAG,
        rationale="Usually only the exporter is refused: its token has expired, or its address or country is blocked. "
        "That says nothing about viewers, so it does not page.",
    ),
    Rule(
        name="StreamViewersSeeOther",
        scope=Scope.STREAM,
        severity=Severity.INFO,
        summary="{subject} plays, although its source is not live.",
        description="{subject} can be played and gets new media, although its source is not live.",
        expected="off air, like its source",
        condition=Condition(PLAYS, also=(LIVE, SOURCE_NOT_LIVE)),
        for_seconds=5 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        unit=Unit.FLAG,
        rationale="The check is paired with the wrong stream, or viewers get a slate, a loop or another encoder. "
        "Playlists outlive their source for some seconds; five minutes are more than that.",
    ),
)
