"""When whole segments are due."""

from __future__ import annotations

from typing import cast

from exporter.platforms.hls import HlsSettings
from exporter.platforms.hls.rendition_check import RenditionCheck
from exporter.platforms.hls.segment_looks import SegmentLooks
from exporter.platforms.hls.totals import Totals
from exporter.platforms.playback.segment_checks import SegmentChecker
from tests.fake_clock import FakeClock

EVERY = 60.0
STEP = 5.0
STREAMS = 600


def test_whole_segments_of_many_streams_are_spread_after_the_first() -> None:
    urls = [f"http://origin.example/live/{number}/index.m3u8" for number in range(STREAMS)]
    settings = HlsSettings.model_validate(
        {
            "name": "origin",
            "platform": "hls",
            "url": "http://origin.example",
            "streams": [{"name": "a", "url": urls[0]}],
        }
    )
    looks = SegmentLooks(settings, cast("SegmentChecker", None), FakeClock())
    renditions = [RenditionCheck("", url, totals=Totals(), interval=STEP, stale_media=None) for url in urls]
    counts = []
    for step in range(25):
        now = 1234.0 + step * STEP
        due = [rendition for rendition in renditions if looks.wants_whole(rendition, now)]
        counts.append(len(due))
        for rendition in due:
            rendition.segments.whole_at = now
    assert counts[0] == STREAMS
    assert max(counts[1:]) < STREAMS / 6
    assert sum(counts[1:]) == 2 * STREAMS
