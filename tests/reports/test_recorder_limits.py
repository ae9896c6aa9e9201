"""What the recorder keeps, and what it costs to stay within the limits."""

from __future__ import annotations

from collections import Counter
from typing import Any
from unittest import mock

import pytest

from exporter.reports import recorder as recorder_module
from exporter.reports.recorder import TRIM_SECONDS
from tests.reports.recording import Recording, stream


@pytest.fixture
def trims(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the streams that were trimmed."""
    counts: Counter[str] = Counter()
    trim = recorder_module._Track.trim

    def counted(*arguments: Any) -> None:
        counts["streams"] += 1
        trim(*arguments)

    monkeypatch.setattr(recorder_module._Track, "trim", counted)
    return counts


def test_start_with_many_upstreams_trims_each_stream_a_few_times(trims: Counter[str]) -> None:
    made = Recording()
    for upstream in range(300):
        made.publish(*(stream(f"s{index}", upstream=f"u{upstream}") for index in range(10)), name=f"u{upstream}")
    assert trims["streams"] < 15 * 3000
    before = trims["streams"]
    made.minutes(TRIM_SECONDS / 60, stream(upstream="u0"), name="u0")
    made.publish(stream(upstream="u0"), name="u0")
    assert trims["streams"] - before > 3000, "the interval has passed"


def test_share_of_each_stream_shrinks_as_streams_are_added() -> None:
    with mock.patch.object(recorder_module, "MAX_SEGMENTS", 200):
        made = Recording()
        for step in range(190):
            made.clock.advance(1)
            made.publish(stream("first", live=step % 2 == 0))
        for count in range(1, 100):
            made.publish(*(stream(f"s{index}") for index in range(count)), name="other")
        sizes = [len(track.segments) // 12 for tracks in made.recorder._tracks.values() for track in tracks.values()]
    assert len(sizes) == 100
    assert sum(sizes) <= 1.1 * 200
