"""Panels about playback checks: what viewers get of each stream, and why not more."""

from __future__ import annotations

from collections.abc import Iterator

from exporter.dashboards.dashboard import link_to_stream, link_to_upstream
from exporter.dashboards.panels import (
    DASHED,
    Column,
    FieldOptions,
    Panel,
    Query,
    graph,
    override_pattern,
    stat,
    table,
    timeline,
    value_mapping,
)
from exporter.dashboards.selections import IDENTITY, or_zero, streams, upstreams
from exporter.dashboards.thresholds import RuleThresholds, falling, rising

CHECK = "{{stream}} ({{upstream}})"
"""Legend of a check: several upstreams may check streams of the same name."""
WHOLE_SEGMENTS_STEP = "2m"
"""Minimum step for what is measured from whole segments, one in a minute."""
_PLAYABLE = streams.current("stream_playable")
_FORBIDDEN = streams.current("stream_playback_forbidden")
_SOURCE_LIVE = streams.current("stream_source_live")
_RATE_SECONDS = 120
_WINDOW_TARGETS = 3
"""Minimum window, in target durations."""
_COUNTERS = (
    (
        "Missed segments",
        "stream_segments_missed_total",
        "Segments that appeared in no response, as behind a cache that serves old playlists.",
    ),
    ("Resets", "stream_sequence_resets_total", "Restarts of the sequence numbers, as after a restart of the packager."),
    (
        "Regressions",
        "stream_sequence_regressions_total",
        "Responses older than an earlier one, as from origins that are out of step.",
    ),
    (
        "Conflicts",
        "stream_sequence_conflicts_total",
        "Sequence numbers whose segment changed, and wrong discontinuity sequence numbers.",
    ),
    (
        "Discontinuities",
        "stream_discontinuities_total",
        "Discontinuities, as at a reconnect of the encoder or in an ad break. They are no fault.",
    ),
    ("Gaps", "stream_gap_segments_total", "Segments that the packager marks as missing (EXT-X-GAP)."),
)
"""Counters of the playlists of each check: title, family, description."""
_UNKNOWN = 0.5
"""Sort value of checks that cannot tell, between those that are not playable and the others."""
_PLAYABLE_WORDS = value_mapping({"0": ("no", "red"), f"{_UNKNOWN:g}": ("unknown", "#4b5160"), "1": ("yes", "green")})
_LIVE_WORDS = value_mapping({"0": ("off air", "#6e7687"), "1": ("live", "green")})
STATES = value_mapping(
    {"0": ("source live, viewers get nothing", "dark-red"), "1": ("not playable", "red"), "2": ("playable", "green")}
)
PRESENT = value_mapping({"0": ("missing", "red"), "1": ("present", "green")})


def check_states(playable: str, source_live: str) -> str:
    """Return the state of checks as the numbers of ``STATES``."""
    return f"2 * ({playable} == 1)\nor\n0 * ({playable} == 0 and {source_live} == 1)\nor\n1 + ({playable} == 0)"


def download_ratio(took: str, lasted: str) -> str:
    """Return the time that whole segments took, divided by their duration."""
    return f"{took}\n/ ({lasted} > 0)"


def stats(thresholds: RuleThresholds) -> list[Panel]:
    """Return the key figures."""
    lost = f"({streams.current('stream_renditions_playable')} < {streams.current('stream_expected_renditions')})"
    silent, blind = (f"({streams.current(f'stream_{kind}_present')} == 0)" for kind in ("audio", "video"))
    count = FieldOptions(unit="short", decimals=0)
    errors = FieldOptions(unit="short", decimals=0, steps=rising(critical=1))
    tickets = FieldOptions(unit="short", decimals=0, steps=rising(warning=1))
    shortage = thresholds["StreamMediaShortage"]
    return [
        stat("Playable", "Streams that a new viewer could start now.", Query(f"sum({_PLAYABLE})"), count),
        stat(
            "Not playable",
            "Streams that a new viewer could not start now, also those that are off air on purpose.",
            Query(or_zero(f"sum(1 - {_PLAYABLE})")),
            count,
        ),
        stat(
            "Viewers get nothing",
            "Streams whose source is live, but which a new viewer could not start now (StreamViewersGetNothing).",
            Query(or_zero(f"count({_PLAYABLE} == 0 and {_SOURCE_LIVE} == 1)")),
            errors,
        ),
        stat(
            "Without audio or video",
            "Streams whose newest segments have no audio or no video.",
            Query(or_zero(f"count({silent} or {blind})")),
            errors,
        ),
        stat(
            "Short of media",
            f"Playable streams that get less than {shortage:g} s of new media per second (StreamMediaShortage).",
            Query(or_zero(f"count({_media_rate()} < {shortage:g} and {_PLAYABLE} == 1)"), min_step=WHOLE_SEGMENTS_STEP),
            tickets,
        ),
        stat(
            "Renditions missing",
            "Streams with fewer playable renditions than expected (StreamRenditionMissing).",
            Query(or_zero(f"count({lost})")),
            tickets,
        ),
        stat(
            "Access refused",
            "Streams for which the server refuses the exporter's requests with status 401 or 403.",
            Query(or_zero(f"sum({_FORBIDDEN})")),
            tickets,
        ),
        stat(
            "Failed fetches in 1 h",
            "Playlists, initialization sections and segments that could not be fetched or read.",
            Query(f"round(sum({upstreams.increase('stream_upstream_fetch_failures_total', within='1h')}))"),
            count,
            graph=False,
        ),
    ]


def checks_table(thresholds: RuleThresholds) -> Panel:
    """Return the table of all checks, those first that are not playable."""
    order = f"max by ({IDENTITY}) ({_PLAYABLE} or {_UNKNOWN:g} + 0 * {_FORBIDDEN})"
    latency = (
        f"{streams.max_by('stream_latency_seconds')} and on ({IDENTITY}) {streams.max_by('stream_window_seconds')}"
    )
    seen = f"max by ({IDENTITY}) (increase({streams.selector('stream_media_seconds_total')}[{_RATE_SECONDS}s]))"
    ratio = download_ratio(
        *(
            f"max by ({IDENTITY}) (increase({streams.selector(f'stream_segment_{name}_seconds_total')}[5m]))"
            for name in ("download", "media")
        )
    )
    plain = FieldOptions(unit="none", decimals=0)
    return table(
        "Checks",
        "All checks, those first that are not playable. New media is in seconds per second; Download is the time that "
        "whole segments took, divided by their duration. Cells are empty where a value is unknown.",
        [
            Column(name="Stream", label="stream", field=FieldOptions(unit="none", links=link_to_stream())),
            Column(
                name="Upstream", label="upstream", field=FieldOptions(unit="none", links=link_to_upstream()), width=130
            ),
            Column(name="Platform", label="platform", width=80),
            Column(
                name="Playable",
                expression=order,
                field=FieldOptions(unit="none", mappings=[_PLAYABLE_WORDS]),
                width=90,
                colored=True,
            ),
            Column(
                name="Reason",
                expression=streams.max_by("stream_unplayable_reason", by=f"{IDENTITY}, reason"),
                label="reason",
                width=150,
            ),
            Column(
                name="Source upstream",
                expression=streams.max_by("stream_source_info", by=f"{IDENTITY}, source_upstream, source_stream"),
                label="source_upstream",
                width=130,
            ),
            Column(name="Source", label="source_stream", width=150),
            Column(
                name="Source state",
                expression=streams.max_by("stream_source_live"),
                field=FieldOptions(unit="none", mappings=[_LIVE_WORDS]),
                width=110,
                colored=True,
            ),
            Column(
                name="Since new media",
                expression=f"time() - {streams.max_by('stream_media_last_change_timestamp_seconds')}",
                field=FieldOptions(unit="s", decimals=0),
                width=130,
            ),
            Column(name="Latency", expression=latency, field=FieldOptions(unit="s", decimals=1), width=90),
            Column(
                name="Window",
                expression=streams.max_by("stream_window_seconds"),
                field=FieldOptions(unit="s", decimals=0),
                width=90,
            ),
            Column(
                name="New media",
                expression=f"{seen} / {_RATE_SECONDS}",
                field=FieldOptions(unit="none", decimals=2, steps=thresholds.media_rate),
                width=100,
                colored=True,
            ),
            Column(
                name="Download",
                expression=ratio,
                field=FieldOptions(unit="none", decimals=2, steps=thresholds.download_ratio),
                width=100,
                colored=True,
            ),
            Column(name="Renditions", expression=streams.max_by("stream_renditions_playable"), field=plain, width=100),
            Column(name="Expected", expression=streams.max_by("stream_expected_renditions"), field=plain, width=90),
        ],
        sort_by="Playable",
        height=12,
        empty="No playback checks",
    )


def states() -> list[Panel]:
    """Return the panels about what viewers get over time, and why they get nothing."""
    return [
        timeline(
            "What viewers get",
            "Whether a new viewer could start the stream. Dark red: the source is live meanwhile. Gap: unknown.",
            [Query(check_states(_PLAYABLE, _SOURCE_LIVE), CHECK)],
            FieldOptions(unit="short", mappings=[STATES], links=link_to_stream(field_of="labels")),
            width=12,
            height=10,
        ),
        timeline(
            "Sources",
            "Whether the stream that each check is paired with is live; a check must also be playable.",
            [Query(_SOURCE_LIVE, CHECK)],
            FieldOptions(unit="short", mappings=[_LIVE_WORDS], empty="No check is paired with a stream"),
            width=12,
            height=10,
        ),
        timeline(
            "Reasons",
            "Why a new viewer could not start the stream.",
            [Query(streams.current("stream_unplayable_reason"), "{{stream}} ({{upstream}}): {{reason}}")],
            FieldOptions(
                unit="short", mappings=[value_mapping({"1": ("active", "orange")})], empty="All streams are playable"
            ),
            width=12,
        ),
        timeline(
            "Refused requests",
            "Whether the server refuses the exporter's requests (401 or 403). What viewers get is then unknown.",
            [Query(_FORBIDDEN, CHECK)],
            FieldOptions(unit="short", mappings=[value_mapping({"0": ("no", "green"), "1": ("refused", "orange")})]),
            width=12,
        ),
    ]


def media(thresholds: RuleThresholds) -> list[Panel]:
    """Return the panels about new media, latency and window."""
    shortage, little = thresholds["StreamMediaShortage"], thresholds.critical("StreamMediaShortage")
    return [
        graph(
            "New media per second",
            f"Seconds of new media per second; 1 is healthy. StreamMediaShortage fires below {shortage:g}, and is "
            f"critical below {little:g}.",
            [Query(_media_rate(), CHECK, WHOLE_SEGMENTS_STEP)],
            FieldOptions(unit="none", minimum=0, soft_maximum=1.5, steps=thresholds.media_rate),
            width=8,
        ),
        graph(
            "Time since new media",
            "Time since new media was last seen in the playlist. Players stop after 3 to 3.5 target durations.",
            [Query(f"time() - {streams.current('stream_media_last_change_timestamp_seconds')}", CHECK)],
            FieldOptions(unit="s", minimum=0, soft_maximum=15),
            width=8,
        ),
        graph(
            "Latency of playlists",
            "How old the newest media is when the playlist arrives, from the packager's dates.",
            [
                Query(
                    f"{streams.current('stream_latency_seconds')}\n"
                    f"and on ({IDENTITY}) {streams.max_by('stream_media_edge_timestamp_seconds')}",
                    CHECK,
                )
            ],
            FieldOptions(unit="s", minimum=0, empty="No playlist has dates"),
            width=8,
        ),
        graph(
            "Window",
            "Duration of the media that the playlist offers, in target durations. Players need at least 3.",
            [
                Query(
                    f"{streams.current('stream_window_seconds')}\n/ "
                    f"({streams.current('stream_segment_target_seconds')} > 0)",
                    CHECK,
                )
            ],
            FieldOptions(unit="none", minimum=0, steps=falling(critical=_WINDOW_TARGETS)),
            width=8,
        ),
        graph(
            "New segments per minute",
            "New segments seen.",
            [Query(f"60 * {streams.rate('stream_media_segments_total')}", CHECK, WHOLE_SEGMENTS_STEP)],
            FieldOptions(unit="none", minimum=0),
            width=8,
        ),
        graph(
            "Bitrates",
            "Bitrate of the newest segment of each rendition.",
            [
                Query(
                    f"8 * {streams.current('stream_media_bitrate_bytes_per_second')}",
                    "{{stream}} ({{upstream}}) {{rendition}}",
                )
            ],
            FieldOptions(unit="bps", minimum=0),
            width=8,
        ),
    ]


def playlists() -> list[Panel]:
    """Return the panels about faults in the sequence of playlists."""
    return list(_counters())


def _counters() -> Iterator[Panel]:
    for title, family, description in _COUNTERS:
        yield graph(
            title,
            description,
            [Query(streams.increase(family), CHECK)],
            FieldOptions(unit="short", minimum=0, soft_maximum=1),
            width=8,
            height=7,
            bars=True,
        )


def segments(thresholds: RuleThresholds) -> list[Panel]:
    """Return the panels about fetching segments."""
    slow, stalls = thresholds["StreamDeliverySlow"], thresholds.critical("StreamDeliverySlow")
    took, lasted = (streams.increase(f"stream_segment_{name}_seconds_total") for name in ("download", "media"))
    return [
        graph(
            "Download time of segments",
            "Time that whole segments of the lowest rendition took, divided by their duration. StreamDeliverySlow "
            f"fires above {slow:g}, and is critical above {stalls:g}.",
            [Query(download_ratio(took, lasted), CHECK, WHOLE_SEGMENTS_STEP)],
            FieldOptions(unit="none", minimum=0, soft_maximum=1.5, steps=thresholds.download_ratio),
            width=8,
        ),
        graph(
            "First byte",
            "Time until the first byte of the last segment, with lookups and connecting.",
            [Query(streams.current("stream_segment_first_byte_seconds"), CHECK)],
            FieldOptions(unit="s", minimum=0),
            width=8,
        ),
        graph(
            "Segment failures",
            "Segments that could not be fetched or are not media.",
            [Query(streams.increase("stream_segment_fetch_failures_total"), CHECK)],
            FieldOptions(unit="short", minimum=0, soft_maximum=1),
            width=8,
            bars=True,
        ),
    ]


def renditions() -> list[Panel]:
    """Return the panels about renditions, audio and video."""
    return [
        graph(
            "Renditions",
            "Playable renditions, and how many should be.",
            [
                Query(streams.current("stream_renditions_playable"), CHECK),
                Query(streams.current("stream_expected_renditions"), f"{CHECK}, expected"),
            ],
            FieldOptions(
                unit="none",
                decimals=0,
                minimum=0,
                overrides=[override_pattern(", expected$", custom__lineStyle=DASHED, custom__fillOpacity=0)],
            ),
            width=8,
        ),
        *(
            timeline(
                title,
                f"Whether the newest segments have {kind}. Gap: neither required nor seen.",
                [Query(streams.current(f"stream_{kind}_present"), CHECK)],
                FieldOptions(unit="short", mappings=[PRESENT]),
                width=8,
            )
            for title, kind in (("Audio", "audio"), ("Video", "video"))
        ),
    ]


def fetches() -> list[Panel]:
    """Return the panels about the requests of all checks."""
    objects = 'request=~"playlist|segment|init"'
    duration = f"{upstreams.selector('stream_upstream_request_duration_seconds_bucket', objects)}[$__rate_interval]"
    quantile = f"histogram_quantile(0.95, sum by (le, request) (max without (instance, pod) (rate({duration}))))"
    return [
        graph(
            "Failed fetches",
            "Objects that could not be fetched or read, by object and reason.",
            [
                Query(
                    f"sum by (object, reason) ({upstreams.increase('stream_upstream_fetch_failures_total')})",
                    "{{object}}: {{reason}}",
                )
            ],
            FieldOptions(unit="short", minimum=0, soft_maximum=1),
            width=8,
            bars=True,
        ),
        graph(
            "Fetches per second",
            "Requests for playlists, initialization sections and segments, by object and status.",
            [
                Query(
                    f"sum by (request, code) ({upstreams.rate('stream_upstream_requests_total', objects)})",
                    "{{request}} {{code}}",
                )
            ],
            FieldOptions(unit="reqps", minimum=0),
            width=8,
        ),
        graph(
            "Duration of fetches",
            "95th percentile, by object. Starts of segments and whole segments are not told apart.",
            [Query(f"{quantile} >= 0", "{{request}}")],
            FieldOptions(unit="s", minimum=0),
            width=8,
        ),
    ]


def _media_rate() -> str:
    return streams.rate("stream_media_seconds_total")
