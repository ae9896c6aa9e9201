"""Comparisons that several rules use."""

from __future__ import annotations

from exporter.alerting.rules.rule import Comparison, GroupGuard, Present, Series

UP = Comparison(Series("stream_upstream_up"), "==", 1)
DOWN = Comparison(Series("stream_upstream_up"), "==", 0)
ANSWERING = Comparison(Series("stream_upstream_answering"), "==", 1)
NOT_ANSWERING = Comparison(Series("stream_upstream_answering"), "==", 0)
VANTAGE_DOWN = Comparison(Series("stream_upstream_failing", {"reason": "vantage"}), "==", 1)
REFUSED = Comparison(Series("stream_upstream_failing", {"reason": ("auth", "forbidden")}), "==", 1)

LIVE = Comparison(Series("stream_live"), "==", 1)
OFF_AIR = Comparison(Series("stream_live"), "==", 0)
EXPECTED = Comparison(Series("stream_expected"), "==", 1)
PAUSED = Comparison(Series("stream_status", {"status": "paused"}), "==", 1)
FAILED = Comparison(Series("stream_status", {"status": "error"}), "==", 1)
UNKNOWN = Comparison(Series("stream_status", {"status": "unknown"}), "==", 1)

PLAYABLE = Series("stream_playable")
PLAYS = Comparison(PLAYABLE, "==", 1)
UNPLAYABLE = Comparison(PLAYABLE, "==", 0)
JUDGED_BY_CHECK = Present(PLAYABLE)
FORBIDDEN = Comparison(Series("stream_playback_forbidden"), "==", 1)
SOURCE_LIVE = Comparison(Series("stream_source_live"), "==", 1)
SOURCE_NOT_LIVE = Comparison(Series("stream_source_live"), "==", 0)

COVERED = GroupGuard("stream:covered")
NOT_COVERED = GroupGuard("stream:covered", holds=False)
SEEN_PLAYING = GroupGuard("upstream:seen_playing")
NOT_SEEN_PLAYING = GroupGuard("upstream:seen_playing", holds=False)
