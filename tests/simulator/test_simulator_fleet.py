"""The life of the fleet: pure, complete, and in agreement with its own integrals."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.simulator.exporter_config import upstreams_config
from exporter.simulator.fault_injection import STREAM_FAULTS, FaultKind
from exporter.simulator.fleet import Fleet
from exporter.simulator.simulated_streams import PLATFORMS, Platform, Stream
from exporter.simulator.stream_conditions import Condition
from exporter.simulator.totals import IngestSession, Totals

NOW = 1_726_000_000.0
DAY = 86_400.0


def everyone(fleet: Fleet) -> list[Stream]:
    return [stream for platform in PLATFORMS for stream in fleet.streams(platform)]


def seen(fleet: Fleet, stream: Stream, now: float) -> tuple[object, ...]:
    ingest = fleet.latest_ingest(stream, now)
    total = fleet.all_time(stream, ingest, now)
    return (
        ingest.start,
        ingest.is_live(now),
        ingest.bitrate(now),
        ingest.viewers(now),
        ingest.peak_viewers(now),
        total,
    )


def all_time(fleet: Fleet, stream: Stream, now: float) -> Totals:
    return fleet.all_time(stream, fleet.latest_ingest(stream, now), now)


@pytest.mark.parametrize("size", [1, 2, 3, 60, 100, 1000])
def test_the_fleet_is_dealt_to_the_platforms_in_turn(size: int) -> None:
    fleet = Fleet(size)
    sizes = [len(fleet.streams(platform)) for platform in PLATFORMS]
    assert sum(sizes) == size
    assert max(sizes) - min(sizes) <= 1
    assert [stream.index for stream in sorted(everyone(fleet), key=lambda s: s.index)] == list(range(size))
    assert all(fleet.by_index(stream.index) is stream for stream in everyone(fleet))


def test_names_and_ids_are_unique_on_each_platform_and_look_like_a_broadcasters() -> None:
    fleet = Fleet(3000, seed=5)
    for platform in PLATFORMS:
        streams = fleet.streams(platform)
        assert len({stream.name for stream in streams}) == len({stream.id for stream in streams}) == len(streams)
    assert "main-stage" in {stream.name for stream in fleet.streams(Platform.STORM)}
    assert len({stream.application for stream in fleet.streams(Platform.STORM)}) == 4
    assert {stream.protocol for stream in fleet.streams(Platform.WAVE)} == {"webrtc", "srt", "rtmp"}


def test_a_stream_is_found_by_name_id_and_playback_id() -> None:
    fleet = Fleet(30)
    for stream in everyone(fleet):
        assert fleet.find_stream(stream.platform, stream.name) is stream
        assert fleet.find_stream(stream.platform, stream.id) is stream
        if stream.playback_id:
            assert fleet.find_stream(stream.platform, stream.playback_id) is stream
    assert fleet.find_stream(Platform.STORM, fleet.streams(Platform.WAVE)[0].id) is None
    assert fleet.by_playback_id(Platform.WAVE, fleet.streams(Platform.LIVEPEER)[0].playback_id) is None


@pytest.mark.parametrize(("streams", "speed"), [(0, 1.0), (3, 0.0), (3, -1.0)])
def test_an_impossible_fleet_is_refused(streams: int, speed: float) -> None:
    with pytest.raises(ValueError, match="at least one stream"):
        Fleet(streams, speed=speed)


@pytest.mark.parametrize("size", [3, 20, 39, 60, 100, 401])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_at_least_95_percent_are_live_at_every_moment_of_a_day(size: int, seed: int) -> None:
    fleet = Fleet(size, seed=seed)
    for step in range(150):
        now = NOW + step * DAY / 150
        assert sum(len(fleet.live_streams(platform, now)) for platform in PLATFORMS) >= 0.95 * size


def test_a_day_holds_the_whole_life_of_streams() -> None:
    fleet = Fleet(60)
    conditions, starts, off_air = set(), set(), 0
    for stream in everyone(fleet):
        for step in range(0, int(DAY), 60):
            ingest = fleet.latest_ingest(stream, NOW + step)
            starts.add((stream.index, ingest.start))
            conditions.add(ingest.condition(NOW + step))
            off_air += not ingest.is_live(NOW + step)
    life = {Condition.START, Condition.STEADY, Condition.STRUGGLING, Condition.STALLED, Condition.RECOVERING}
    assert conditions == life
    assert len(starts) > 60 * 2
    assert off_air


def test_viewers_come_and_go_with_the_day() -> None:
    fleet = Fleet(60)
    by_hour = [
        sum(fleet.latest_ingest(s, NOW + h * 3600).viewers(NOW + h * 3600) for s in everyone(fleet)) for h in range(24)
    ]
    assert max(by_hour) > 3 * min(by_hour) > 0


def test_the_same_question_has_the_same_answer_in_any_order() -> None:
    moments = [NOW + step * 997.3 for step in range(60)]
    first, second = Fleet(9, seed=4, speed=7), Fleet(9, seed=4, speed=7)
    forwards = {now: [seen(first, stream, now) for stream in everyone(first)] for now in moments}
    backwards = {now: [seen(second, stream, now) for stream in everyone(second)] for now in reversed(moments)}
    assert forwards == backwards
    other = Fleet(9, seed=5, speed=7)
    assert [seen(other, stream, NOW) for stream in everyone(other)] != forwards[NOW]


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 1000),
    index=st.integers(0, 59),
    speed=st.sampled_from([0.5, 1.0, 10.0, 500.0]),
    start=st.floats(0, 30 * DAY),
    step=st.floats(0.01, 4000.0),
)
def test_counters_never_fall_and_integrate_the_rate(
    seed: int, index: int, speed: float, start: float, step: float
) -> None:
    fleet = Fleet(60, seed=seed, speed=speed)
    stream = fleet.by_index(index)
    ingest = fleet.latest_ingest(stream, NOW + start)
    before, after = ingest.totals(ingest.start), ingest.totals(ingest.start)
    now = ingest.start
    for _ in range(20):
        now += step
        before, after = after, ingest.totals(now)
        assert all(new >= old for new, old in zip(after, before, strict=True))
    _integrates(ingest, ingest.start, min(ingest.start + 20 * step, ingest.end))


def _integrates(ingest: IngestSession, start: float, end: float) -> None:
    """Compares the closed form with a sum over small steps that know the spans."""
    edges = sorted(
        {
            start,
            end,
            *(edge for span in ingest.spans if start < (edge := ingest.course.natural_start + span.start) < end),
        }
    )
    bytes_, egress = 0.0, 0.0
    for low, high in itertools.pairwise(edges):
        steps = max(1, math.ceil((high - low) / 4))
        width = (high - low) / steps
        for number in range(steps):
            middle = low + (number + 0.5) * width
            bytes_ += ingest.bitrate(middle) * width
            egress += ingest.bitrate(middle) * ingest.audience(middle) * width
    measured = ingest.totals(end)
    assert measured.bytes == pytest.approx(bytes_, rel=0.01, abs=1000)
    assert measured.egress_bytes == pytest.approx(egress, rel=0.01, abs=1000 * (1 + ingest.course.stream.audience))


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 100),
    index=st.integers(0, 8),
    orders=st.lists(
        st.tuples(
            st.sampled_from(sorted(STREAM_FAULTS)), st.floats(0, 3000), st.none() | st.floats(1, 20_000), st.booleans()
        ),
        max_size=6,
    ),
)
def test_all_time_totals_never_fall_whatever_is_ordered_and_cleared(
    seed: int, index: int, orders: list[tuple[FaultKind, float, float | None, bool]]
) -> None:
    fleet = Fleet(9, seed=seed, speed=20)
    stream = fleet.by_index(index)
    now, total = NOW, all_time(fleet, stream, NOW)

    def advance(seconds: float) -> None:
        nonlocal now, total
        for _ in range(5):
            now += seconds / 5
            new = all_time(fleet, stream, now)
            assert all(a >= b for a, b in zip(new, total, strict=True))
            assert new.bytes - total.bytes <= stream.bitrate * 1.07 * seconds / 5 + 5
            total = new

    for kind, wait, lasts, clear in orders:
        fleet.faults.inject(stream.platform, stream.index, kind, now, math.inf if lasts is None else lasts)
        assert all_time(fleet, stream, now) == total
        advance(wait)
        if clear:
            fleet.faults.clear(now)
            assert all_time(fleet, stream, now) == total
    advance(20_000)


def test_speed_changes_life_and_leaves_rates_alone() -> None:
    slow, fast = Fleet(60, seed=2), Fleet(60, seed=2, speed=60)
    restarts = [
        sum(len({f.latest_ingest(s, NOW + t).start for t in range(0, 3600, 10)}) for s in everyone(f))
        for f in (slow, fast)
    ]
    assert restarts[1] > 5 * restarts[0]
    for stream, same in zip(everyone(slow), everyone(fast), strict=True):
        assert stream.bitrate == same.bitrate
        ingest = fast.latest_ingest(same, NOW)
        if ingest.is_live(NOW) and ingest.condition(NOW) is Condition.STEADY:
            assert ingest.bitrate(NOW) == pytest.approx(stream.bitrate, rel=0.07)


def test_who_is_on_the_air_is_remembered_rightly() -> None:
    fleet = Fleet(60, seed=3, speed=100)
    moments = [NOW + step * 1.7 for step in range(300)]
    for now in [*moments, *reversed(moments)]:
        remembered = {stream.index for stream, _ in fleet.live_streams(Platform.STORM, now)}
        assert remembered == {s.index for s in fleet.streams(Platform.STORM) if fleet.is_live(s, now)}


@pytest.mark.no_cover
def test_a_large_fleet_costs_the_same_for_each_stream() -> None:
    small, large = Fleet(30), Fleet(30_000)
    for fleet in (small, large):
        ingest = fleet.latest_ingest(fleet.by_index(7), NOW)
        assert len(ingest.spans) < 100
    assert len(large.live_streams(Platform.WAVE, NOW)) >= 9_500


def test_the_configuration_names_what_an_exporter_must_know() -> None:
    fleet = Fleet(60)
    upstreams = upstreams_config(fleet, "http://127.0.0.1:1/simulator/")["upstreams"]
    assert [upstream["platform"] for upstream in upstreams] == ["livepeer", "storm", "wave"]
    livepeer, storm, wave = upstreams
    assert livepeer["url"] == "http://127.0.0.1:1/simulator/livepeer/api"
    assert livepeer["discover"] is True
    assert all(fleet.by_id(Platform.LIVEPEER, stream["id"]) for stream in livepeer["streams"])
    assert storm["url"] + storm["base_path"] == "http://127.0.0.1:1/simulator/storm/api"
    assert all(fleet.by_id(Platform.STORM, f"{s['application']}/{s['key']}") for s in storm["streams"])
    assert {session["id"] for session in wave["sessions"]} == {stream.id for stream in fleet.streams(Platform.WAVE)}
    assert sum("expected" in session for session in wave["sessions"]) == 4
    assert len(upstreams_config(Fleet(2), "http://127.0.0.1:1")["upstreams"]) == 2
