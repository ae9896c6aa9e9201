"""A large fleet: what a question costs is counted in streams that are looked at, not in seconds."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.simulator.fault_injection import STREAM_FAULTS, FaultKind
from exporter.simulator.fleet import Fleet
from exporter.simulator.simulated_livepeer import StreamList
from exporter.simulator.simulated_livepeer_records import latest_broadcast
from exporter.simulator.simulated_streams import Platform
from tests.simulator.conftest import Simulate

NOW = 1_726_000_000.0
SIZE = 100_000


@pytest.mark.no_cover
async def test_the_pages_of_a_hundred_thousand_look_at_every_stream_once(simulate: Simulate) -> None:
    async with simulate(SIZE) as simulator:
        fleet = simulator.fleet
        first = (await simulator.ask("/storm/api/streams?rowsPerPage=100"))["data"]
        evaluated = fleet.evaluations(Platform.STORM)
        assert evaluated == SIZE // 3
        simulator.clock.advance(5)
        last = (await simulator.ask(f"/storm/api/streams?rowsPerPage=100&page={first['totalPages']}"))["data"]
        # In five seconds a few streams begin or end; only these are looked at again.
        assert fleet.evaluations(Platform.STORM) - evaluated < 100
        streams = fleet.streams(Platform.STORM)
        live = [stream.name for stream in streams[:200] if fleet.is_live(stream, simulator.clock.now() - 5)]
        assert [record["streamKey"] for record in first["list"]] == live[:100]
        live = [stream.name for stream in streams[-200:] if fleet.is_live(stream, simulator.clock.now())]
        rest = last["totalItems"] % 100 or 100
        assert [record["streamKey"] for record in last["list"]] == live[-rest:]
        assert 0.95 * len(streams) < last["totalItems"] < len(streams)
        await simulator.ask("/storm/api/streams?page=7")
        assert fleet.evaluations(Platform.STORM) - evaluated < 100


def test_a_fault_has_only_its_own_stream_looked_at_again() -> None:
    fleet = Fleet(3000)
    live = fleet.live_streams(Platform.STORM, NOW)
    evaluated = fleet.evaluations(Platform.STORM)
    stream = live[0][0]
    fleet.faults.inject(Platform.STORM, stream.index, FaultKind.END, NOW)
    fleet.faults.inject(Platform.WAVE, None, FaultKind.DOWN, NOW)
    assert stream not in [on_air for on_air, _ in fleet.live_streams(Platform.STORM, NOW)]
    assert fleet.evaluations(Platform.STORM) == evaluated + 1


def test_livepeers_list_asks_only_those_with_a_new_sign_of_life() -> None:
    fleet = Fleet(3000)
    stream_list = StreamList(fleet)
    stream_list.rows_at(NOW, only_active=True)
    assert stream_list.entries.evaluations == 1000
    stream_list.rows_at(NOW + 1, only_active=True)
    # One heartbeat in 30 s and one flush in 50 s each.
    assert stream_list.entries.evaluations - 1000 == pytest.approx(1000 * (1 / 30 + 1 / 50), rel=0.5)


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
def test_what_is_remembered_is_what_everyone_would_say(
    seed: int, speed: float, steps: list[tuple[float, tuple[int, FaultKind, bool] | None]]
) -> None:
    fleet = Fleet(90, seed=seed, speed=speed)
    stream_list = StreamList(fleet)
    streams, now = fleet.streams(Platform.LIVEPEER), NOW
    for seconds, order in [(0.0, None), *steps]:
        now += seconds
        if order is not None:
            place, kind, for_ever = order
            fleet.faults.inject(Platform.LIVEPEER, streams[place].index, kind, now, math.inf if for_ever else 35.0)
        everyone = [latest_broadcast(fleet, stream, now) for stream in streams]
        everyone.sort(key=lambda broadcast: (-broadcast.last_seen, broadcast.stream.index))
        assert [row.stream for row in stream_list.rows_at(now, only_active=False)] == [b.stream for b in everyone]
        assert [row.stream for row in stream_list.rows_at(now, only_active=True)] == [
            b.stream for b in everyone if b.active
        ]
        on_air = [stream for stream, _ in fleet.live_streams(Platform.LIVEPEER, now)]
        assert on_air == [stream for stream in streams if fleet.is_live(stream, now)]
