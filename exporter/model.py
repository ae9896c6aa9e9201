"""Data model shared by all platforms: frozen, with units in the field names, and None for missing facts.

``StreamReport`` is the data that one poll returned about one stream, ``PollResult`` the result of one poll, and
``StreamState`` the data that is served for a stream: the last report plus expectation, health and history.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

# gc=False: frozen structs form no cycles, and the garbage collector would spend too much time on so many of them.


class Status(StrEnum):
    """The normalised status of a stream (``stream_status``)."""

    IDLE = "idle"
    CONNECTING = "connecting"
    LIVE = "live"
    PAUSED = "paused"
    DEGRADED = "degraded"
    ENDED = "ended"
    ERROR = "error"
    UNKNOWN = "unknown"


class Reason(StrEnum):
    """Why a poll, or one stream's part of it, failed."""

    TIMEOUT = "timeout"
    CONNECT = "connect"
    TLS = "tls"
    AUTH = "auth"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    BAD_RESPONSE = "bad_response"
    TOO_LARGE = "too_large"
    INTERNAL = "internal"
    VANTAGE = "vantage"
    """The exporter's own network seems to be down, so no playback check could be made."""


class HealthReason(StrEnum):
    """A reason for a low health score (``stream_health_reason``)."""

    VERDICT = "verdict"
    ISSUES = "issues"
    BITRATE_LOW = "bitrate_low"
    FRAME_RATE_LOW = "frame_rate_low"
    TRANSCODE_SLOW = "transcode_slow"
    LOSS = "loss"
    SILENT = "silent"
    # of playback checks
    SEGMENT_MISSING = "segment_missing"
    AUDIO_MISSING = "audio_missing"
    VIDEO_MISSING = "video_missing"
    SLOW = "slow"
    SHORTAGE = "shortage"
    SEQUENCE = "sequence"
    GAP = "gap"
    RENDITION_MISSING = "rendition_missing"
    LATENCY_GROWING = "latency_growing"
    WINDOW_SHORT = "window_short"


class UnplayableReason(StrEnum):
    """Why a new viewer cannot start a stream now (``stream_unplayable_reason``)."""

    STALE = "stale"
    """The playlist gets no new media."""
    ENDED = "ended"
    """The playlist says that the stream has ended."""
    PLAYLIST_MISSING = "playlist_missing"
    """404 or 410."""
    PLAYLIST_FAILED = "playlist_failed"
    """No response, or an error status."""
    PLAYLIST_INVALID = "playlist_invalid"
    """The response is not a playlist that players accept."""
    SEGMENT_MISSING = "segment_missing"
    """The newest segments cannot be fetched."""
    SEGMENT_INVALID = "segment_invalid"
    """The newest segments are not media."""
    GAP = "gap"
    """Every variant marks its newest segments as missing."""
    RENDITIONS_MISSING = "renditions_missing"
    """The master playlist exists, but none of its variants."""


class Listing(StrEnum):
    """How a poll found the streams, and so what a stream's absence proves."""

    DIRECT = "direct"
    """Every stream was requested by its id; there is no list."""
    COMPLETE = "complete"
    """One response held the whole list: a stream that is not in it does not exist."""
    SHIFTING = "shifting"
    """The list has several pages, and a stream can move between them: absence counts after two polls."""
    DOUBTFUL = "doubtful"
    """Part of the list may be missing: absence proves nothing."""


class Rendition(msgspec.Struct, frozen=True, gc=False):
    """One rendition of a stream and its target bitrate."""

    name: str
    target_bitrate_bytes_per_second: float


class PlatformMetric(msgspec.Struct, frozen=True, gc=False):
    """A platform's number without a documented meaning or unit, exposed under its dotted path."""

    metric: str
    value: float
    period: str = ""


class Analytics(msgspec.Struct, frozen=True, kw_only=True):
    """Audience figures over a period, of one stream or of a whole account."""

    stream: str = ""
    """The stream's id in a poll result, its label in a state; empty: the whole account."""
    name: str = ""
    """The configured label."""
    period: str
    viewers: int | None = None
    peak_viewers: int | None = None
    average_watch_seconds: float | None = None
    platform_metrics: tuple[PlatformMetric, ...] = ()
    stale_at: float
    """Time on the steady clock, in seconds, from which the figures are no longer served."""


class PassthroughText(msgspec.Struct, frozen=True, kw_only=True):
    """A platform's own metrics as it exports them, not parsed yet."""

    text: str
    prefix: str
    """Prefix of all names in our exposition."""
    max_series: int
    """Maximum number of series to keep."""
    stale_at: float
    """Time on the steady clock, in seconds, from which the metrics are no longer served."""


class PassthroughSample(msgspec.Struct, frozen=True):
    """One series of a platform's own metrics."""

    name: str
    labels: tuple[tuple[str, str], ...]
    value: float


class PassthroughFamily(msgspec.Struct, frozen=True):
    """One family of a platform's own metrics, as the platform exports it."""

    name: str
    """Prefix of its samples' names; a counter's name ends in ``_total``."""
    kind: str
    """``counter``, ``gauge``, ``histogram``, ``summary``, ``untyped``, or another word from the platform."""
    help: str
    samples: tuple[PassthroughSample, ...]


class PassthroughMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """A platform's own metrics, to be passed through."""

    prefix: str
    """Prefix of all names in our exposition."""
    families: tuple[PassthroughFamily, ...]
    dropped: int
    """Number of series that were dropped, and so are in none of the families."""
    stale_at: float
    """Time on the steady clock, in seconds, from which the metrics are no longer served."""


_NOTHING: Mapping[str, Any] = {}


def _nothing() -> Mapping[str, Any]:
    """Return one empty mapping shared by all reports, because most mappings are empty."""
    return _NOTHING


class StreamReport(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The data that one poll returned about one stream. None: the platform does not report it.

    ``exporter.platforms.base`` makes slim classes with fewer stored fields and the same attributes.
    """

    id: str
    """The id on the platform, the same in every ingest session: stream id, session id, or application/key."""

    # Facts that do not change while the stream is live
    name: str = ""
    application: str = ""
    protocol: str = ""
    session: str = ""
    kind: str = ""
    video_codec: str = ""
    audio_codec: str = ""
    resolution: str = ""
    playback_id: str = ""

    # Status
    status: Status = Status.UNKNOWN
    live: bool | None = None
    start_timestamp_seconds: float | None = None
    end_timestamp_seconds: float | None = None
    last_seen_timestamp_seconds: float | None = None
    """On the platform's clock."""
    last_seen_age_seconds: float | None = None
    """Age of the last sign of life when the report arrived, measured on the exporter's own steady clock."""

    # Health as reported by the platform
    health_unreadable: bool = False
    """A health fact (score, verdict, issues, loss, frame rate, bitrate) was present but unreadable."""
    healthy: bool | None = None
    health_score_ratio: float | None = None
    health_grade: str = ""
    health_conditions: Mapping[str, bool] = msgspec.field(default_factory=_nothing)
    issues: tuple[str, ...] | None = None
    """The issues' texts; empty: no issues; None: the platform does not report issues."""

    # Rates and totals
    ingest_bitrate_bytes_per_second: float | None = None
    egress_bitrate_bytes_per_second: float | None = None
    transcode_bitrate_bytes_per_second: float | None = None
    max_bitrate_bytes_per_second: float | None = None
    nominal_bitrate_bytes_per_second: float | None = None
    """Bitrate that the encoder declares; not measured."""
    ingest_bytes: float | None = None
    egress_bytes: float | None = None
    transcoded_bytes: float | None = None
    source_segments: float | None = None
    transcoded_segments: float | None = None
    source_media_seconds: float | None = None
    transcoded_media_seconds: float | None = None
    transcode_realtime_ratio: float | None = None

    # Outputs
    renditions: tuple[Rendition, ...] | None = None
    substreams: int | None = None
    multistream_targets: Mapping[str, bool] = msgspec.field(default_factory=_nothing)

    # Audience
    viewers: int | None = None
    viewers_partial: bool | None = None
    """True if ``viewers`` is only a lower bound, because others serve part of the audience; None otherwise."""
    viewers_peak: int | None = None
    slow_viewers: float | None = None
    """Total of viewers that the server disconnected because they were too slow."""
    fallback_active: bool | None = None
    """Whether viewers get another programme instead of this stream; also known while the stream is off air."""
    system_clients: int | None = None
    viewer_error_ratio: float | None = None

    # Transport and picture
    latency_seconds: float | None = None
    target_latency_seconds: float | None = None
    ingest_lag_seconds: float | None = None
    """Age of the publisher's connection minus the time on its media clock."""
    round_trip_time_seconds: float | None = None
    jitter_seconds: float | None = None
    packet_loss_ratio: float | None = None
    frames_per_second: float | None = None
    width_pixels: int | None = None
    height_pixels: int | None = None
    dropped_frames: float | None = None
    frames: float | None = None
    audio_sample_rate_hertz: float | None = None
    audio_channels: int | None = None

    # Recording and publishing
    recording: bool | None = None
    recording_status: str = ""
    publish_allowed: bool | None = None

    # WebRTC
    ice_candidates: Mapping[str, int] = msgspec.field(default_factory=_nothing)
    ice_gathering_complete: bool | None = None

    # Playback checks: what a viewer gets
    playable: bool | None = None
    """Whether a new viewer could start now; None if that cannot be told, as with status 401 or 403."""
    unplayable_reason: str = ""
    """The word of an ``UnplayableReason``; empty while the stream is playable or nothing is known."""
    playback_detail: str = ""
    """The reason in words, such as ``segments missing (404)``. It contains nothing from the server."""
    playback_notes: tuple[str, ...] = ()
    """Findings that affect no viewer now, in words; they contain nothing from the server."""
    playback_findings: tuple[HealthReason, ...] = ()
    """Findings that lower the health score."""
    playback_forbidden: bool | None = None
    """Whether the server refuses the exporter's requests with 401 or 403."""
    media_changed_timestamp_seconds: float | None = None
    """Unix seconds on the exporter's clock when new media was last seen."""
    media_edge_timestamp_seconds: float | None = None
    """Unix seconds of the end of the newest media, as the packager dated it."""
    segment_target_seconds: float | None = None
    window_seconds: float | None = None
    media_segments: float | None = None
    """Total of new segments seen by the check, as the following totals."""
    media_seconds: float | None = None
    missed_segments: float | None = None
    """Segments that left the playlist before any poll saw them, although the polls were close enough."""
    sequence_resets: float | None = None
    sequence_regressions: float | None = None
    sequence_conflicts: float | None = None
    """Sequence numbers that changed their segment, and discontinuity sequences that went wrong."""
    discontinuities: float | None = None
    gap_segments: float | None = None
    segment_fetch_failures: float | None = None
    segment_download_seconds: float | None = None
    """Total time of downloading whole segments."""
    segment_media_seconds: float | None = None
    """Total duration of the same segments."""
    segment_first_byte_seconds: float | None = None
    media_bitrates: Mapping[str, float] = msgspec.field(default_factory=_nothing)
    """Measured bytes per second of the newest segment, by rendition."""
    playable_renditions: int | None = None
    expected_renditions: int | None = None
    audio_present: bool | None = None
    """Whether audio packets were seen; False only if audio is required, or was seen before."""
    video_present: bool | None = None

    # Numbers without a documented meaning
    platform_metrics: tuple[PlatformMetric, ...] = ()

    def departed(self, at: float | None) -> StreamReport:
        """Return a report for a stream that left the platform's list: keep names and totals, clear current values.

        ``at``: Unix seconds of its end, if known.
        """
        lasting = {name: getattr(self, name) for name in self.__struct_fields__ if name in _LASTING}
        return type(self)(
            **lasting,
            status=self.status if self.live is False else Status.ENDED,
            live=False,
            end_timestamp_seconds=self.end_timestamp_seconds or at,
        )

    def off_air(self) -> StreamReport:
        """Return a copy without the values that an off-air stream cannot have, or the report itself if it has none."""
        fields = self.__struct_fields__
        values = [(name, getattr(self, name)) for name in fields if name in _LIVE_ONLY]
        changes = {name: _CLEARED.get(name) for name, value in values if value not in (None, "", _NOTHING)}
        return msgspec.structs.replace(self, **changes) if changes else self


_LIVE_ONLY = frozenset(
    {
        "last_seen_age_seconds", "healthy", "health_score_ratio", "health_grade", "health_conditions", "issues",
        "ingest_bitrate_bytes_per_second", "egress_bitrate_bytes_per_second", "transcode_bitrate_bytes_per_second",
        "transcode_realtime_ratio", "multistream_targets", "viewers", "viewers_partial", "system_clients",
        "viewer_error_ratio", "latency_seconds", "ingest_lag_seconds", "round_trip_time_seconds", "jitter_seconds",
        "packet_loss_ratio", "frames_per_second", "media_edge_timestamp_seconds", "segment_first_byte_seconds",
        "media_bitrates", "playable_renditions", "audio_present", "video_present", "playback_findings",
    }
)  # fmt: skip
"""The fields of ``StreamReport`` that ``off_air`` clears."""
_CLEARED: Mapping[str, Any] = {
    "health_grade": "", "health_conditions": _NOTHING, "multistream_targets": _NOTHING, "media_bitrates": _NOTHING,
    "playback_findings": (),
}  # fmt: skip
"""Values that ``off_air`` sets instead of None."""
_LASTING = frozenset(
    {
        "id", "name", "application", "protocol", "session", "kind", "video_codec", "audio_codec", "resolution",
        "playback_id", "start_timestamp_seconds", "last_seen_timestamp_seconds",
        "ingest_bytes", "egress_bytes", "transcoded_bytes", "source_segments", "transcoded_segments",
        "source_media_seconds", "transcoded_media_seconds", "dropped_frames", "frames", "viewers_peak",
        "slow_viewers", "recording_status", "media_changed_timestamp_seconds", "media_segments", "media_seconds",
        "missed_segments", "sequence_resets", "sequence_regressions", "sequence_conflicts", "discontinuities",
        "gap_segments", "segment_fetch_failures", "segment_download_seconds", "segment_media_seconds",
    }
)  # fmt: skip
"""The fields of ``StreamReport`` that ``departed`` keeps."""
DEPARTURE_FIELDS = frozenset({"end_timestamp_seconds"})
"""The fields of ``StreamReport`` that ``departed`` sets, even if the platform does not report them."""


class PollResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one successful poll of an upstream."""

    streams: tuple[StreamReport, ...] = ()
    listing: Listing = Listing.DIRECT
    failures: Mapping[str, Reason] = {}
    """Streams (by id) whose own request or record failed while the poll succeeded; they keep their last report."""
    postponed: frozenset[str] = frozenset()
    """Streams (by id) not requested because the request budget was used up; they keep their last report."""
    is_evidence: bool = True
    """Whether the poll counts for absence and histograms; False if it follows the last one that counted too soon."""
    are_statistics_frozen: bool | None = None
    """Whether the platform's statistics are frozen as a whole; None if unknown, as with fewer than three totals."""
    list_names: Mapping[str, str] = {}
    """Names of all streams in the platform's list by id, including those that are not served here."""
    unreadable_rows: int = 0
    """Number of list rows that do not identify a stream."""
    list_doubt: str = ""
    """Why part of the list may be missing; empty if the list is not doubtful."""
    duplicate_records: int = 0
    """Number of records dropped because another record of the same stream was chosen."""
    unknown_words: Mapping[str, str] = {}
    """Unrecognized words by the platform's name for the field."""
    dropped_fields: Mapping[str, int] = {}
    """Number of bad values dropped, by the platform's name for the field."""
    fetch_failures: Mapping[tuple[str, str], int] = {}
    """Number of media objects that could not be fetched or read, by object and reason."""
    version: str = ""
    round_seconds: float | None = None
    """Seconds needed to request every stream once, if the request budget does not allow it in one poll."""
    analytics: tuple[Analytics, ...] = ()
    passthrough: PassthroughMetrics | None = None
    not_owned: bool = False
    """Nothing was requested because all streams of this upstream belong to other shards."""


Labels = tuple[tuple[str, str], ...]
"""Names and values of labels, such as those configured for an upstream, sorted by name."""


class Identity(msgspec.Struct, frozen=True, cache_hash=True, gc=False):
    """The labels of every stream family."""

    platform: str
    upstream: str
    stream: str
    labels: Labels = ()


class AlertOverrides(msgspec.Struct, frozen=True, gc=False):
    """Settings of alert rules for one upstream or stream."""

    thresholds: Mapping[str, float] = {}
    """Thresholds by rule, in the base unit of the rule's metric."""
    off: frozenset[str] = frozenset()
    """Rules that are switched off."""


NO_OVERRIDES = AlertOverrides()


class Maintenance(msgspec.Struct, frozen=True, gc=False):
    """An active maintenance window."""

    until: float
    """Unix seconds."""
    reason: str = ""
    is_manual: bool = False
    """Whether it was started by hand, not configured."""


class StreamState(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The data served for one stream: the last report plus expectation, health and history."""

    identity: Identity
    report: StreamReport
    configured: bool = False
    status: Status = Status.UNKNOWN
    status_changed_at: float | None = None
    """Unix seconds of the last change of ``status``; None if none was seen."""
    live: bool | None = None
    was_live: bool | None = None
    """Whether the stream was live when its facts were withdrawn; None while they are served."""
    expected: bool | None = None
    """Whether the stream is expected to be live now; None if the configuration does not say, or within ``start_grace``.
    With ``end_ok``, a stream that has ended is no longer expected."""
    restarts: int | None = None
    health_score_ratio: float | None = None
    health_reasons: tuple[HealthReason, ...] = ()
    expected_ingest_bitrate_bytes_per_second: float | None = None
    expected_frames_per_second: float | None = None
    reported_at: float | None = None
    """Unix seconds of the poll that returned the report; None if there is no report or it was withdrawn."""
    last_ingest_bitrate_bytes_per_second: float | None = None
    """Last known value while the stream was live, kept while it is off air or unknown."""
    last_viewers: int | None = None
    """Last known value while the stream was live, kept while it is off air or unknown."""
    overrides: AlertOverrides = NO_OVERRIDES
    """Of the stream and its upstream; the stream's take precedence."""
    maintenance: Maintenance | None = None
    """The stream's own active maintenance window, not that of its upstream."""
    source_platform: str = ""
    source_upstream: str = ""
    source_stream: str = ""
    """The stream that a playback check is paired with, as its labels; empty without one."""
    source_live: bool | None = None
    """Whether the source is live (and, if it is a check, playable); None while its upstream is not answering, or the
    stream is not known there. Set by the store."""

    @property
    def is_withdrawn(self) -> bool:
        """Whether nothing is known about the stream: no poll has returned it, or none within ``stale_after``."""
        return self.status is Status.UNKNOWN and self.reported_at is None


NO_REPORT = StreamReport(id="")
"""The report of a configured stream that no poll has returned yet."""


class SampledHistogram(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A histogram of a gauge's values over the polls of an upstream."""

    family: str
    """The name of the histogram's family."""
    protocol: str = ""
    stream: str | None = None
    """The stream's label, if histograms are kept per stream."""
    counts: tuple[int, ...]
    """Observations per bucket, not cumulative; one more bucket than the family has bounds."""
    sum: float


class CalendarState(msgspec.Struct, frozen=True, gc=False):
    """A calendar that an upstream's streams, or a group with one of them, use."""

    name: str
    """The file's name or the URL's host."""
    readable: bool
    """Whether the last attempt to read it succeeded."""
    read_at: float | None = None
    """Unix seconds when the copy in use was last read, or found to be unchanged; None if it has never been read."""


class UpstreamState(msgspec.Struct, frozen=True, kw_only=True, weakref=True):
    """The data served for one upstream; a new state replaces the old one as a whole."""

    platform: str
    upstream: str
    host: str
    health_score: str
    """``reported`` or ``derived``."""
    feeds: frozenset[str] | None = None
    """Fields that reports can have, as in ``Platform.feeds``; None means any."""
    version: str = ""
    up: bool | None = None
    answering: bool | None = None
    """Whether the last successful poll is younger than 2.5 intervals; None until a poll has succeeded or is overdue."""
    list_complete: bool | None = None
    """Whether absence from the last list proves anything; None if there is no list."""
    are_statistics_frozen: bool | None = None
    """As in the last poll's result; None while the upstream is not answering."""
    streams: tuple[StreamState, ...] = ()
    former_labels: tuple[str, ...] = ()
    """Labels that streams had before a recent rename."""
    streams_dropped: int = 0
    poll_interval_seconds: float = 0.0
    last_success_timestamp_seconds: float | None = None
    clock_skew_seconds: float | None = None
    rate_limit_remaining: float | None = None
    last_error: str = ""
    last_error_reason: Reason | None = None
    last_poll_at: float | None = None
    next_poll_at: float | None = None
    sampled: tuple[SampledHistogram, ...] = ()
    """The histograms of the sampled gauges."""
    analytics: tuple[Analytics, ...] = ()
    passthrough: PassthroughMetrics | None = None
    not_owned: bool = False
    """All streams belong to other shards: nothing is served for this upstream here."""
    excluded: frozenset[str] = frozenset()
    """Names of the stream families excluded from the exposition."""
    labels: Labels = ()
    """Configured labels, sorted by name."""
    calendars: tuple[CalendarState, ...] = ()
    """One per name; without those whose first read has not finished."""
    overrides: AlertOverrides = NO_OVERRIDES
    """For rules about the upstream itself."""
    threshold_rows: tuple[tuple[tuple[str, str], float], ...] = ()
    """Rows of ``stream_alert_threshold``: stream (empty: the upstream itself) and rule, and the threshold."""
    off_rows: tuple[tuple[tuple[str, str], float], ...] = ()
    """Rows of ``stream_alert_off``: stream (empty: the upstream itself) and rule, and 1."""
    maintenance: Maintenance | None = None
    """The upstream's own active maintenance window."""
    maintained_streams: Mapping[str, Maintenance] = {}
    """Active maintenance windows of streams by label, including streams that are not served."""
    source_upstreams: frozenset[str] = frozenset()
    """Upstreams of the streams that playback checks of this upstream are paired with."""

    def maintenance_of(self, stream: str) -> Maintenance | None:
        """Return the active maintenance window of the upstream, otherwise that of the stream with this label."""
        return self.maintenance or self.maintained_streams.get(stream)


class GroupStatus(StrEnum):
    """The status of a group, as shown on the page."""

    UP = "up"
    REDUNDANCY_LOST = "redundancy_lost"
    DOWN = "down"
    UNKNOWN = "unknown"
    NOT_EXPECTED = "not_expected"
    MAINTENANCE = "maintenance"


class GroupMember(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A stream of a group, as known from the state of its upstream."""

    platform: str
    upstream: str
    stream: str
    """The stream's label."""
    role: str = ""
    status: Status = Status.UNKNOWN
    live: bool | None = None
    """None also while the upstream is not answering or the stream is not served; False for a playback check that cannot
    be played."""
    expected: bool | None = None
    in_maintenance: bool = False
    """Whether the stream or its upstream is in maintenance."""
    is_awaited: bool = False
    """Whether the upstream's first poll has not finished, so that its state is about to be known."""

    @property
    def is_lost(self) -> bool:
        """Whether the stream is known not to be live, and that is not planned work."""
        return self.live is False and not self.in_maintenance


class GroupState(msgspec.Struct, frozen=True, kw_only=True, weakref=True):
    """The data served for a group, computed from the states of its members' upstreams."""

    group: str
    need: int
    """Configured number of streams that must be live."""
    members: tuple[GroupMember, ...]
    expected: bool | None = None
    """Whether the group should be up now; None if unknown."""

    @property
    def needed(self) -> int:
        """Number of streams that must be live now: at most the number of streams that are not in maintenance."""
        return min(self.need, sum(not member.in_maintenance for member in self.members))

    @property
    def live(self) -> int:
        """Number of streams that are known to be live."""
        return sum(member.live is True for member in self.members)

    @property
    def unknown(self) -> int:
        """Number of streams whose state is unknown."""
        return sum(member.live is None for member in self.members)

    @property
    def is_required(self) -> bool:
        """Whether the group must be up now: it is expected, and not all of its streams are in maintenance."""
        return self.expected is True and self.needed > 0

    @property
    def stands(self) -> bool:
        """Whether the group must be up and is known to be."""
        return self.is_required and self.live >= self.needed

    @property
    def may_stand(self) -> bool:
        """Whether the group must be up, and is if all unknown streams are live."""
        return self.is_required and self.live + self.unknown >= self.needed

    @property
    def has_lost_members(self) -> bool:
        """Whether the group must be up, and at least one of its streams is lost."""
        return self.is_required and any(member.is_lost for member in self.members)

    @property
    def is_awaited(self) -> bool:
        """Whether the state of some stream is about to be known, as after a start."""
        return any(member.is_awaited for member in self.members)

    @property
    def covered(self) -> tuple[GroupMember, ...]:
        """The streams without which the group, which must be up, is still known to be."""
        spare = self.live - self.needed if self.is_required else -1
        return tuple(member for member in self.members if spare >= (member.live is True))

    @property
    def status(self) -> GroupStatus:
        """The status shown on the page."""
        if self.expected is False:
            return GroupStatus.NOT_EXPECTED
        if self.needed == 0:
            return GroupStatus.MAINTENANCE
        if self.live >= self.needed:
            is_whole = not any(member.is_lost for member in self.members)
            return GroupStatus.UP if is_whole else GroupStatus.REDUNDANCY_LOST
        is_down = self.expected is True and self.live + self.unknown < self.needed
        return GroupStatus.DOWN if is_down else GroupStatus.UNKNOWN
