"""Findings that affect no viewer now: violations of the HLS specification, and what some players refuse.

The rules H6, H7, H9, H10, H15, H16 and H19, as numbered in the documentation. Notes contain nothing from the server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from exporter.media.hls_playlist import MediaPlaylist
from exporter.platforms.hls.rendition_check import RenditionCheck

TYPES = frozenset({"application/vnd.apple.mpegurl", "audio/mpegurl"})
DECLARED_TOLERANCE: Final = 1.1
HOLD_BACK_TARGETS, PART_HOLD_BACK_TARGETS, SKIP_TARGETS = 3.0, 2.0, 6.0


def find(checks: Sequence[RenditionCheck]) -> Iterator[str]:
    """Yield the notes about the renditions of a stream, each once."""
    known = [(check, check.playlist) for check in checks if check.playlist is not None]
    if len({playlist.target_duration_seconds for check, playlist in known if not check.is_audio}) > 1:
        yield "renditions have different target durations (H9)"
    for note, applies in _NOTES:
        if any(applies(check, playlist) for check, playlist in known):
            yield note


def _exceeds_bandwidth(check: RenditionCheck) -> bool:
    bitrates = check.segments.bitrates
    return bool(check.bandwidth and bitrates and max(bitrates) > DECLARED_TOLERANCE * check.bandwidth)


def _has_bad_low_latency(playlist: MediaPlaylist) -> bool:
    if not playlist.part_target_seconds:
        return False
    part, target = playlist.part_target_seconds, playlist.target_duration_seconds or 0.0
    limits = (
        (playlist.part_hold_back_seconds, PART_HOLD_BACK_TARGETS * part),
        (playlist.hold_back_seconds, HOLD_BACK_TARGETS * target),
        (playlist.can_skip_until_seconds, SKIP_TARGETS * target),
    )
    return any(value is not None and value < least for value, least in limits)


_NOTES: tuple[tuple[str, Callable[[RenditionCheck, MediaPlaylist], bool]], ...] = (
    (
        "a discontinuity left a playlist without EXT-X-DISCONTINUITY-SEQUENCE (H6)",
        lambda check, _: check.history.lacks_discontinuity_sequence,
    ),
    ("segments are longer than the target duration (H7)", lambda check, _: check.history.has_long_segments),
    ("dates do not follow the durations of segments (H10)", lambda check, _: check.history.has_date_jumps),
    (
        "dates differ too much from the clock to give a latency (H11)",
        lambda check, _: check.history.latency.has_wrong_date,
    ),
    ("a rendition's bitrate exceeds its declared BANDWIDTH (H15)", lambda check, _: _exceeds_bandwidth(check)),
    (
        "low-latency attributes are below the specified minimum (H16)",
        lambda _, playlist: _has_bad_low_latency(playlist),
    ),
    (
        "playlists have a content type that some players refuse (H19)",
        lambda check, _: check.content_type not in TYPES,
    ),
    ("a playlist has unreadable tags", lambda _, playlist: bool(playlist.dropped)),
    ("a playlist has no readable target duration", lambda _, playlist: playlist.target_duration_seconds is None),
    ("segments are encrypted, so audio and video are not checked", lambda check, _: check.segments.is_encrypted),
)
"""Notes in words, and to which renditions they apply."""
