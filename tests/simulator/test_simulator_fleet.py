"""The fleet: deterministic, mostly live, and with counters that agree with the bitrates."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.simulator.exporter_config import upstreams_config
from exporter.simulator.fault_injection import STREAM_FAULTS, FaultKind
from exporter.simulator.fleet import Fleet
from exporter.simulator.simulated_livepeer import StreamList
from exporter.simulator.simulated_livepeer_records import latest_broadcast
from exporter.simulator.simulated_streams import PLATFORMS, Platform, Stream
from exporter.simulator.stream_conditions import Condition
from exporter.simulator.totals import IngestSession, Totals

NOW = 1_726_000_000.0
DAY = 86_400.0


def all_streams(fleet: Fleet) -> list[Stream]:
    return [stream for platform in PLATFORMS for stream in fleet.streams(platform)]


def all_time(fleet: Fleet, stream: Stream, now: float) -> Totals:
    return fleet.all_time(stream, fleet.latest_ingest(stream, now), now)


def measurements(fleet: Fleet, stream: Stream, now: float) -> tuple[object, ...]:
    ingest = fleet.latest_ingest(stream, now)
    figures = ingest.bitrate(now), ingest.viewers(now), ingest.peak_viewers(now), all_time(fleet, stream, now)
    return ingest.start, ingest.is_live(now), *figures


def test_names_and_ids_are_unique_on_each_platform() -> None:
    fleet = Fleet(3000, seed=5)
    for platform in PLATFORMS:
        streams = fleet.streams(platform)
        assert len(streams) == 1000
        assert len({stream.name for stream in streams}) == len({stream.id for stream in streams}) == 1000


def test_stream_is_found_by_name_id_and_playback_id() -> None:
    fleet = Fleet(30)
    for stream in all_streams(fleet):
        for text in filter(None, (stream.name, stream.id, stream.playback_id)):
            assert fleet.find_stream(stream.platform, text) is stream
    assert fleet.find_stream(Platform.STORM, fleet.streams(Platform.WAVE)[0].id) is None


@pytest.mark.parametrize(("size", "seed"), [(3, 0), (39, 1), (60, 2), (401, 3)])
def test_at_least_95_percent_are_live_throughout_a_day(size: int, seed: int) -> None:
    fleet = Fleet(size, seed=seed)
    for step in range(150):
        now = NOW + step * DAY / 150
        assert sum(len(fleet.live_streams(platform, now)) for platform in PLATFORMS) >= 0.95 * size


def test_streams_go_through_all_conditions_within_a_day() -> None:
    fleet = Fleet(60)
    conditions, starts, has_pauses = set(), set(), False
    for stream in all_streams(fleet):
        for now in range(int(NOW), int(NOW + DAY), 60):
            ingest = fleet.latest_ingest(stream, now)
            starts.add((stream.index, ingest.start))
            conditions.add(ingest.condition(now))
            has_pauses |= not ingest.is_live(now)
    natural = {Condition.START, Condition.STEADY, Condition.STRUGGLING, Condition.STALLED, Condition.RECOVERING}
    assert conditions == natural
    assert len(starts) > 60 * 2
    assert has_pauses


def test_measurements_do_not_depend_on_the_order_of_calls() -> None:
    times = [NOW + step * 997.3 for step in range(60)]
    first, second = Fleet(9, seed=4, speed=7), Fleet(9, seed=4, speed=7)
    forwards = {now: [measurements(first, stream, now) for stream in all_streams(first)] for now in times}
    backwards = {now: [measurements(second, stream, now) for stream in all_streams(second)] for now in times[::-1]}
    assert forwards == backwards


def test_speed_affects_restarts_but_not_bitrates() -> None:
    slow, fast = Fleet(60, seed=2), Fleet(60, seed=2, speed=60)
    restarts = [
        sum(len({f.latest_ingest(s, NOW + t).start for t in range(0, 3600, 10)}) for s in all_streams(f))
        for f in (slow, fast)
    ]
    assert restarts[1] > 5 * restarts[0]
    assert [stream.bitrate for stream in all_streams(slow)] == [stream.bitrate for stream in all_streams(fast)]


@pytest.mark.no_cover
@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 1000),
    index=st.integers(0, 59),
    speed=st.sampled_from([0.5, 1.0, 10.0, 500.0]),
    start=st.floats(0, 30 * DAY),
    seconds=st.floats(0.2, 80_000.0),
)
def test_totals_are_the_integral_of_the_bitrate(
    seed: int, index: int, speed: float, start: float, seconds: float
) -> None:
    fleet = Fleet(60, seed=seed, speed=speed)
    ingest = fleet.latest_ingest(fleet.by_index(index), NOW + start)
    end = min(ingest.start + seconds, ingest.end)
    bytes_, egress = _sum_in_steps(ingest, end)
    totals = ingest.totals(end)
    assert totals.bytes == pytest.approx(bytes_, rel=0.01, abs=1000)
    assert totals.egress_bytes == pytest.approx(egress, rel=0.01, abs=1000 * (1 + ingest.course.stream.audience))


def _sum_in_steps(ingest: IngestSession, end: float) -> tuple[float, float]:
    """Integrate ingest and egress numerically, span by span."""
    starts = (ingest.course.natural_start + span.start for span in ingest.spans)
    edges = sorted({ingest.start, end, *(start for start in starts if ingest.start < start < end)})
    bytes_, egress = 0.0, 0.0
    for low, high in itertools.pairwise(edges):
        steps = max(1, math.ceil((high - low) / 4))
        width = (high - low) / steps
        for number in range(steps):
            middle = low + (number + 0.5) * width
            bytes_ += ingest.bitrate(middle) * width
            egress += ingest.bitrate(middle) * ingest.audience(middle) * width
    return bytes_, egress


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 100),
    index=st.integers(0, 8),
    faults=st.lists(
        st.tuples(
            st.sampled_from(sorted(STREAM_FAULTS)), st.floats(0, 3000), st.none() | st.floats(1, 20_000), st.booleans()
        ),
        max_size=6,
    ),
)
def test_all_time_totals_never_decrease_whatever_faults_are_injected(
    seed: int, index: int, faults: list[tuple[FaultKind, float, float | None, bool]]
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

    for kind, wait, duration, clear in faults:
        fleet.faults.inject(stream.platform, stream.index, kind, now, math.inf if duration is None else duration)
        assert all_time(fleet, stream, now) == total
        advance(wait)
        if clear:
            fleet.faults.clear(now)
            assert all_time(fleet, stream, now) == total
    advance(20_000)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 100),
    speed=st.sampled_from([1.0, 20.0, 400.0]),
    steps=st.lists(
        st.tuples(
            st.floats(-50, 400) | st.sampled_from([0.0, 30.0, 50.0]),
            st.none() | st.tuples(st.integers(0, 29), st.sampled_from(sorted(STREAM_FAULTS)), st.booleans()),
        ),
        max_size=12,
    ),
)
def test_cached_lists_equal_a_full_evaluation(
    seed: int, speed: float, steps: list[tuple[float, tuple[int, FaultKind, bool] | None]]
) -> None:
    fleet = Fleet(90, seed=seed, speed=speed)
    stream_list = StreamList(fleet)
    streams, now = fleet.streams(Platform.LIVEPEER), NOW
    for seconds, fault in [(0.0, None), *steps]:
        now += seconds
        if fault is not None:
            place, kind, is_permanent = fault
            duration = math.inf if is_permanent else 35.0
            fleet.faults.inject(Platform.LIVEPEER, streams[place].index, kind, now, duration)
        broadcasts = [latest_broadcast(fleet, stream, now) for stream in streams]
        broadcasts.sort(key=lambda broadcast: (-broadcast.last_seen, broadcast.stream.index))
        assert [row.stream for row in stream_list.rows_at(now, only_active=False)] == [b.stream for b in broadcasts]
        active = [broadcast.stream for broadcast in broadcasts if broadcast.active]
        assert [row.stream for row in stream_list.rows_at(now, only_active=True)] == active
        live = [stream for stream, _ in fleet.live_streams(Platform.LIVEPEER, now)]
        assert live == [stream for stream in streams if fleet.is_live(stream, now)]


def test_exporter_configuration_names_existing_streams() -> None:
    fleet = Fleet(60)
    livepeer, storm, wave = upstreams_config(fleet, "http://127.0.0.1:1/simulator/")["upstreams"]
    assert livepeer["url"] == "http://127.0.0.1:1/simulator/livepeer/api"
    assert all(fleet.by_id(Platform.LIVEPEER, stream["id"]) for stream in livepeer["streams"])
    assert storm["url"] + storm["base_path"] == "http://127.0.0.1:1/simulator/storm/api"
    assert all(fleet.by_id(Platform.STORM, f"{s['application']}/{s['key']}") for s in storm["streams"])
    assert {session["id"] for session in wave["sessions"]} == {stream.id for stream in fleet.streams(Platform.WAVE)}
