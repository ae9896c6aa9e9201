"""Estimates of what playback checks request, for ``--config.check``.

Servers choose how many renditions a stream has, and how long and large its segments are, so all of these are assumed.
Streams with separate audio need about a third more requests.
"""

from __future__ import annotations

from typing import Final

from exporter.config.playback import CheckedStream, PlaybackSettings

PLAYLIST_BYTES: Final = 2_000
HEAD_BYTES: Final = 16 * 2**10
WHOLE_SEGMENT_BYTES: Final = 300_000
"""Size of a whole segment of the lowest rendition: 6 s at 400 kbit/s."""
SEGMENT_SECONDS: Final = 6.0
FULL_BYTES_PER_SECOND: Final = 375_000
"""Bitrate of the renditions whose segments are all fetched as a whole: 3 Mbit/s."""
RENDITIONS: Final = 4
"""Number of renditions of a stream without ``expected_renditions``."""
_MINUTE: Final = 60.0


def requests_per_minute(settings: PlaybackSettings) -> float:
    """Estimate the requests for playlists and segments, at most one new segment in each playlist."""
    objects = 1 if settings.segments == "none" else 2
    looks = sum(_renditions_per_poll(settings, stream) for stream in settings.streams)
    return _polls(settings) * looks * objects + _whole_segments(settings) * len(settings.streams)


def bytes_per_minute(settings: PlaybackSettings) -> float:
    """Estimate the bytes of playlists and segments, at most one new segment in each playlist."""
    polls, total = _polls(settings), 0.0
    for stream in settings.streams:
        looks = polls * _renditions_per_poll(settings, stream)
        total += looks * PLAYLIST_BYTES + _whole_segments(settings) * WHOLE_SEGMENT_BYTES
        if settings.segments == "head":
            total += looks * HEAD_BYTES
        elif settings.segments == "full":
            total += _full_seconds(settings, stream) * FULL_BYTES_PER_SECOND
    return total


def _polls(settings: PlaybackSettings) -> float:
    return _MINUTE / settings.interval


def _whole_segments(settings: PlaybackSettings) -> float:
    """Return the whole segments of a stream per minute that are fetched besides the starts of segments."""
    if settings.segments != "head" or not settings.whole_segment_every:
        return 0.0
    return _MINUTE / max(settings.whole_segment_every, settings.interval)


def _renditions_per_poll(settings: PlaybackSettings, stream: CheckedStream) -> int:
    if settings.renditions == "all":
        return stream.expected_renditions or RENDITIONS
    return 1 if settings.renditions == "first" else 2


def _full_seconds(settings: PlaybackSettings, stream: CheckedStream) -> float:
    """Return the seconds of media per minute if every new segment that is seen is fetched as a whole."""
    renditions = stream.expected_renditions or RENDITIONS
    if settings.renditions == "all":
        return _MINUTE * renditions
    if settings.renditions == "first":
        return _MINUTE
    return _MINUTE + min(_polls(settings) * SEGMENT_SECONDS, _MINUTE * (renditions - 1))
