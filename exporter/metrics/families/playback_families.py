"""Metric families of playback checks: what a viewer gets, and the stream that a check is paired with."""

from __future__ import annotations

from collections.abc import Iterator

from exporter.metrics.families.family import (
    Source,
    StreamFamily,
    computed,
    counter,
    gauge,
    mapping,
    word,
    words,
)

_SEEN = "Counted by the exporter since it started."


def _verdict() -> Iterator[StreamFamily]:
    yield gauge(
        "stream_playable",
        "Whether a new viewer could start the stream now (1) or not (0). Absent if that cannot be told, for example "
        "while the server refuses the exporter's requests.",
        "playable",
    )
    yield word(
        "stream_unplayable_reason",
        "Why a new viewer cannot start the stream now. Always 1; absent while stream_playable is 1.",
        "reason",
        "unplayable_reason",
    )
    yield computed(
        "stream_source_live",
        "Whether the stream that a playback check is paired with is live (1) or not (0); if that is a check, too, "
        "whether it is live and playable. Absent while its upstream is not answering.",
        "source_live",
        source=Source.EXPORTER,
    )
    yield words(
        "stream_source_info",
        "The stream that a playback check is paired with. Always 1.",
        {name: name for name in ("source_platform", "source_upstream", "source_stream")},
        has="source_stream",
        source=Source.CONFIGURATION,
    )
    yield gauge(
        "stream_playback_forbidden",
        "Whether the server refuses the exporter's own requests with status 401 or 403 (1) or not (0).",
        "playback_forbidden",
    )


def _media() -> Iterator[StreamFamily]:
    yield gauge(
        "stream_media_last_change_timestamp_seconds",
        "Unix time, by the exporter's clock, when new media was last seen in the playlist.",
        "media_changed_timestamp_seconds",
    )
    yield gauge(
        "stream_media_edge_timestamp_seconds",
        "Unix time of the end of the newest media, as dated by the packager. Absent without dates.",
        "media_edge_timestamp_seconds",
    )
    yield gauge("stream_segment_target_seconds", "Target duration of segments.", "segment_target_seconds")
    yield gauge("stream_window_seconds", "Duration of the media that the playlist offers.", "window_seconds")
    yield counter("stream_media_segments_total", f"New segments seen. {_SEEN}", "media_segments")
    yield counter("stream_media_seconds_total", f"Seconds of new media seen. {_SEEN}", "media_seconds")
    yield counter(
        "stream_segments_missed_total",
        f"Segments that appeared in no response, although the polls were close enough to see all of them. {_SEEN}",
        "missed_segments",
    )
    yield counter(
        "stream_sequence_resets_total",
        f"Restarts of the sequence numbers, as after a restart of the packager. {_SEEN}",
        "sequence_resets",
    )
    yield counter(
        "stream_sequence_regressions_total",
        f"Responses older than an earlier response, as from origins that are out of step. {_SEEN}",
        "sequence_regressions",
    )
    yield counter(
        "stream_sequence_conflicts_total",
        f"Sequence numbers whose segment changed, and wrong discontinuity sequence numbers. {_SEEN}",
        "sequence_conflicts",
    )
    yield counter("stream_discontinuities_total", f"Discontinuities seen. {_SEEN}", "discontinuities")
    yield counter("stream_gap_segments_total", f"Segments marked as missing (EXT-X-GAP). {_SEEN}", "gap_segments")


def _segments() -> Iterator[StreamFamily]:
    yield counter(
        "stream_segment_fetch_failures_total",
        f"Segments that could not be fetched or are not media. {_SEEN}",
        "segment_fetch_failures",
    )
    yield counter(
        "stream_segment_download_seconds_total", f"Time spent on whole segments. {_SEEN}", "segment_download_seconds"
    )
    yield counter(
        "stream_segment_media_seconds_total", f"Duration of the same segments. {_SEEN}", "segment_media_seconds"
    )
    yield gauge(
        "stream_segment_first_byte_seconds",
        "Time until the first byte of the last segment arrived, with lookups and connecting.",
        "segment_first_byte_seconds",
    )
    yield mapping(
        "stream_media_bitrate_bytes_per_second",
        "Bitrate of the rendition's newest segment, in bytes per second.",
        "rendition",
        "media_bitrates",
    )
    yield gauge("stream_renditions_playable", "Number of renditions that are playable.", "playable_renditions")
    yield gauge(
        "stream_expected_renditions",
        "Number of renditions that should be playable: as configured, otherwise the largest number listed within an "
        "hour.",
        "expected_renditions",
    )
    yield gauge(
        "stream_audio_present",
        "Whether the newest segments have audio (1) or not (0). Absent if audio is neither required nor was seen.",
        "audio_present",
    )
    yield gauge(
        "stream_video_present",
        "Whether the newest segments have video (1) or not (0). Absent if video is neither required nor was seen.",
        "video_present",
    )


PLAYBACK_FAMILIES: tuple[StreamFamily, ...] = (*_verdict(), *_media(), *_segments())
