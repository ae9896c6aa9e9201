"""Panels about the playback checks of one stream: the stream itself, if it is a check, and the checks of it."""

from __future__ import annotations

from exporter.dashboards.dashboard import link_to_stream
from exporter.dashboards.panels import (
    DASHED,
    Column,
    FieldOptions,
    Panel,
    Query,
    graph,
    override_pattern,
    table,
    timeline,
    value_mapping,
)
from exporter.dashboards.playback_panels import PRESENT, STATES, WHOLE_SEGMENTS_STEP, check_states, download_ratio
from exporter.dashboards.selections import IDENTITY, Selection, exporter, one_stream
from exporter.dashboards.thresholds import RuleThresholds

_CHECKS_OF_IT = Selection(
    f'{exporter.matchers}, source_platform=~"$platform", source_upstream=~"$upstream", source_stream="$stream"'
).max_by("stream_source_info")
_CHECK = "{{upstream}}: {{stream}}"
_NONE = "No playback check"


def _with_checks(own: str, all_checks: str) -> str:
    """Return a value of the stream, if it is a check, and of the checks of it."""
    return f"{own}\nor\n{all_checks} and on ({IDENTITY}) {_CHECKS_OF_IT}"


def _current(family: str) -> str:
    return f"({_with_checks(one_stream.current(family), exporter.current(family))})"


def _rate(family: str) -> str:
    return f"({_with_checks(one_stream.rate(family), exporter.rate(family))})"


def _increase(family: str) -> str:
    return f"({_with_checks(one_stream.increase(family), exporter.increase(family))})"


def playback(thresholds: RuleThresholds) -> list[Panel]:
    """Return the panels about playback."""
    shortage, slow = thresholds["StreamMediaShortage"], thresholds["StreamDeliverySlow"]
    took, lasted = (_increase(f"stream_segment_{name}_seconds_total") for name in ("download", "media"))
    return [
        _table(),
        timeline(
            "What viewers get",
            "Whether a new viewer could start the stream, by check. Dark red: the source is live meanwhile.",
            [Query(check_states(_current("stream_playable"), _current("stream_source_live")), _CHECK)],
            FieldOptions(unit="short", mappings=[STATES], empty=_NONE),
            width=12,
            height=7,
        ),
        timeline(
            "Audio and video of viewers",
            "Whether the newest segments have audio and video.",
            [
                Query(_current("stream_audio_present"), f"{_CHECK} audio"),
                Query(_current("stream_video_present"), f"{_CHECK} video"),
            ],
            FieldOptions(unit="short", mappings=[PRESENT], empty=_NONE),
            width=12,
            height=7,
        ),
        graph(
            "New media per second",
            f"Seconds of new media per second; 1 is healthy. StreamMediaShortage fires below {shortage:g}.",
            [Query(_rate("stream_media_seconds_total"), _CHECK, WHOLE_SEGMENTS_STEP)],
            FieldOptions(unit="none", minimum=0, soft_maximum=1.5, steps=thresholds.media_rate, empty=_NONE),
            width=8,
        ),
        graph(
            "Time since new media",
            "Time since new media was last seen in the playlist, and its target duration.",
            [
                Query(f"time() - {_current('stream_media_last_change_timestamp_seconds')}", _CHECK),
                Query(_current("stream_segment_target_seconds"), f"{_CHECK}, target duration"),
            ],
            FieldOptions(
                unit="s",
                minimum=0,
                soft_maximum=15,
                overrides=[override_pattern(", target duration$", custom__lineStyle=DASHED, custom__fillOpacity=0)],
                empty=_NONE,
            ),
            width=8,
        ),
        graph(
            "Download time of segments",
            f"Time that whole segments took, divided by their duration. StreamDeliverySlow fires above {slow:g}.",
            [Query(download_ratio(took, lasted), _CHECK, WHOLE_SEGMENTS_STEP)],
            FieldOptions(unit="none", minimum=0, soft_maximum=1.5, steps=thresholds.download_ratio, empty=_NONE),
            width=8,
        ),
        graph(
            "Faults of playlists",
            "Missed segments, and sequence numbers that restart, go back or contradict each other.",
            [
                Query(_increase(f"stream_{family}_total"), f"{_CHECK} {name}")
                for family, name in (
                    ("segments_missed", "missed"),
                    ("sequence_resets", "resets"),
                    ("sequence_regressions", "regressions"),
                    ("sequence_conflicts", "conflicts"),
                )
            ],
            FieldOptions(unit="short", minimum=0, soft_maximum=1, empty=_NONE),
            width=8,
            bars=True,
        ),
        graph(
            "Renditions of viewers",
            "Playable renditions, and how many should be.",
            [
                Query(_current("stream_renditions_playable"), _CHECK),
                Query(_current("stream_expected_renditions"), f"{_CHECK}, expected"),
            ],
            FieldOptions(
                unit="none",
                decimals=0,
                minimum=0,
                overrides=[override_pattern(", expected$", custom__lineStyle=DASHED, custom__fillOpacity=0)],
                empty=_NONE,
            ),
            width=8,
        ),
        graph(
            "Bitrates of renditions",
            "Bitrate of the newest segment of each rendition.",
            [Query(f"8 * {_current('stream_media_bitrate_bytes_per_second')}", f"{_CHECK} {{{{rendition}}}}")],
            FieldOptions(unit="bps", minimum=0, empty=_NONE),
            width=8,
        ),
    ]


def _table() -> Panel:
    playable = value_mapping({"0": ("no", "red"), "1": ("yes", "green")})
    return table(
        "Playback checks",
        "What a new viewer would get now: this stream, if it is a check, and the checks that are paired with it.",
        [
            Column(name="Upstream", label="upstream"),
            Column(name="Stream", label="stream", field=FieldOptions(unit="none", links=link_to_stream())),
            Column(name="Platform", label="platform", width=100),
            Column(
                name="Playable",
                expression=f"max by ({IDENTITY}) {_current('stream_playable')}",
                field=FieldOptions(unit="none", mappings=[playable]),
                width=100,
                colored=True,
            ),
            Column(
                name="Reason",
                expression=f"max by ({IDENTITY}, reason) {_current('stream_unplayable_reason')}",
                label="reason",
            ),
            Column(
                name="Since new media",
                expression=f"time() - max by ({IDENTITY}) {_current('stream_media_last_change_timestamp_seconds')}",
                field=FieldOptions(unit="s", decimals=0),
            ),
            Column(
                name="Window",
                expression=f"max by ({IDENTITY}) {_current('stream_window_seconds')}",
                field=FieldOptions(unit="s", decimals=0),
            ),
        ],
        sort_by="Playable",
        height=5,
        empty=_NONE,
    )
