"""The growth of counters over a window, as rules about playback checks read it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from exporter.alerting.rules.rule import RESET_SECONDS, Series
from exporter.alerting.series_lookup import Subject
from exporter.alerting.window_meters import GrowthMeter, WindowMeter, meter_maker
from exporter.model import StreamState
from tests.metrics.generated_views import stream, view

WINDOW, POLL = 120.0, 5
MEDIA = Series("stream_media_seconds_total", growth_within=WINDOW)
DOWNLOADS = Series(
    "stream_segment_download_seconds_total", growth_within=300.0, growth_per="stream_segment_media_seconds_total"
)
Facts = Callable[[int], StreamState | None]


def meter_of(series: Series, *, time_scale: float = 1.0) -> WindowMeter:
    make = meter_maker(series, time_scale)
    assert make is not None
    return make()


def values(meter: WindowMeter, facts: Facts, until: int) -> dict[int, float]:
    """Return the known values by time, with a poll every five seconds."""
    found = {}
    for at in range(0, until, POLL):
        state = facts(at)
        meter.observe(Subject(view(), state, "main"), at)
        value = meter.value(at)
        if value is not None:
            found[at] = value
    return found


def test_growth_is_known_once_the_window_is_full() -> None:
    found = values(meter_of(MEDIA), lambda at: stream(media_seconds=float(at)), 300)
    assert found == dict.fromkeys(range(int(WINDOW), 300, POLL), 1.0)


def test_window_is_scaled() -> None:
    found = values(meter_of(MEDIA, time_scale=4.0), lambda at: stream(media_seconds=at / 2), 60)
    assert found == dict.fromkeys(range(30, 60, POLL), 0.5)


def test_caching_lets_a_third_through() -> None:
    """New playlists come every 28 s with 10 s of new media; in between, the check is off air."""

    def cached(at: int) -> StreamState:
        playlists, age = divmod(at, 28)
        return stream(live=age < 14, media_seconds=10.0 * playlists)

    found = values(meter_of(MEDIA), cached, 600)
    assert found
    assert all(0.3 < value < 0.45 for value in found.values())


def test_stream_must_have_been_live_at_the_start_of_the_window() -> None:
    found = values(meter_of(MEDIA), lambda at: stream(live=at >= 60, media_seconds=float(max(0, at - 60))), 300)
    assert min(found) == 60 + WINDOW
    assert set(found.values()) == {1.0}


@pytest.mark.parametrize("before", [1000.0, 40.0])
def test_growth_is_unknown_for_a_while_after_a_reset(before: float) -> None:
    """Even if the counter has passed its old value meanwhile."""
    found = values(meter_of(MEDIA), lambda at: stream(media_seconds=at + before if at < 200 else at - 200.0), 700)
    assert max(at for at in found if at < 300) == 195
    assert min(at for at in found if at > 200) == 195 + RESET_SECONDS + WINDOW + POLL


def test_stream_that_is_missing_has_no_growth() -> None:
    found = values(meter_of(MEDIA), lambda at: None if at in (200, 205) else stream(media_seconds=float(at)), 400)
    assert {200, 205} & found.keys() == set()
    assert {200 + WINDOW, 205 + WINDOW} & found.keys() == set()
    assert {210, 210 + WINDOW} <= found.keys()


def test_growth_is_unknown_after_refused_requests() -> None:
    def refused(at: int) -> StreamState:
        return stream(media_seconds=float(min(at, 200)), playback_forbidden=200 <= at < 230)

    found = values(meter_of(MEDIA), refused, 400)
    assert max(at for at in found if at < 230) == 195
    assert min(at for at in found if at > 230) == 230 + WINDOW


def test_growth_is_unknown_after_an_outage() -> None:
    """No sample is observed while the upstream is not answering."""
    meter = meter_of(MEDIA)
    assert values(meter, lambda at: stream(media_seconds=float(at)), 300)
    meter.interrupt()
    assert meter.value(300) is None
    meter.observe(Subject(view(), stream(media_seconds=295.0), "main"), 400)
    assert meter.value(400) is None
    meter.observe(Subject(view(), stream(media_seconds=415.0), "main"), 400 + WINDOW)
    assert meter.value(400 + WINDOW) == 1.0


def test_ratio_of_two_counters_needs_three_steps() -> None:
    def minutely(at: int) -> StreamState:
        segments = at // 60
        return stream(segment_download_seconds=9.0 * segments, segment_media_seconds=6.0 * segments)

    assert set(values(meter_of(DOWNLOADS), minutely, 900).values()) == {1.5}
    rarely = values(
        meter_of(DOWNLOADS),
        lambda at: stream(segment_download_seconds=9.0 * (at // 150), segment_media_seconds=6.0 * (at // 150)),
        900,
    )
    assert rarely == {}


def test_no_sample_is_kept_for_longer_than_needed() -> None:
    meter = meter_of(MEDIA)
    assert isinstance(meter, GrowthMeter)
    values(meter, lambda at: stream(media_seconds=float(at)), 3000)
    assert len(meter._samples) == WINDOW / POLL + 1
    assert meter.has_samples(3000 + WINDOW - POLL)
    assert not meter.has_samples(3000 + WINDOW + POLL)


def test_series_without_a_window_has_no_meter() -> None:
    assert meter_maker(Series("stream_live"), 1.0) is None
