"""Comparisons that several rules use."""

from __future__ import annotations

from exporter.alerting.rules.rule import Comparison, GroupGuard, Series

UP = Comparison(Series("stream_upstream_up"), "==", 1)
DOWN = Comparison(Series("stream_upstream_up"), "==", 0)
ANSWERING = Comparison(Series("stream_upstream_answering"), "==", 1)
NOT_ANSWERING = Comparison(Series("stream_upstream_answering"), "==", 0)
REFUSED = Comparison(Series("stream_upstream_failing", {"reason": ("auth", "forbidden")}), "==", 1)

LIVE = Comparison(Series("stream_live"), "==", 1)
OFF_AIR = Comparison(Series("stream_live"), "==", 0)
EXPECTED = Comparison(Series("stream_expected"), "==", 1)
PAUSED = Comparison(Series("stream_status", {"status": "paused"}), "==", 1)
FAILED = Comparison(Series("stream_status", {"status": "error"}), "==", 1)
UNKNOWN = Comparison(Series("stream_status", {"status": "unknown"}), "==", 1)

COVERED = GroupGuard("stream:covered")
NOT_COVERED = GroupGuard("stream:covered", holds=False)
