"""History of the streams over the last 15 minutes."""

import math
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model import StreamReport, StreamState
from exporter.store import Store
from exporter.web.history import POINTS, STEP_SECONDS, History
from tests.fake_clock import FakeClock
from tests.page.states import stream_state, upstream_state


class Recorded:
    """A history, and the store that it records."""

    def __init__(self, upstreams: tuple[str, ...] = ("edge",)) -> None:
        self.clock = FakeClock(monotonic=STEP_SECONDS * 1000)
        self.store = Store()
        self.store.arrange(upstreams)
        self.history = History(self.store, self.clock)

    def publish(self, *streams: StreamState, interval: float = STEP_SECONDS, upstream: str = "edge") -> None:
        self.store.publish(upstream_state(streams, upstream=upstream, poll_interval_seconds=interval))

    def step(self, steps: int = 1) -> None:
        self.clock.advance(steps * STEP_SECONDS)

    def bitrates(self, name: str = "one") -> list[float | None]:
        points = self.history.points("edge", name)
        assert points is not None
        assert len(points.ingest_bitrate_bytes_per_second) == len(points.health_score_ratio) == POINTS
        return list(points.ingest_bitrate_bytes_per_second)


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


def one(bitrate: float | None, score: float | None = None, name: str = "one") -> StreamState:
    report = StreamReport(id=name, ingest_bitrate_bytes_per_second=bitrate)
    return stream_state(name, report=report, health_score_ratio=score)


def test_each_step_keeps_its_last_value_and_the_current_one_is_last(recorded: Recorded) -> None:
    for bitrate in (100.0, 200.0, 300.0):
        recorded.publish(one(1.0))
        recorded.publish(one(bitrate, 0.5))
        recorded.step()
    recorded.publish(one(400.4, 1.0))
    assert recorded.bitrates() == [None] * (POINTS - 4) + [100, 200, 300, 400]
    points = recorded.history.points("edge", "one")
    assert points is not None
    assert points.health_score_ratio[-4:] == (0.5, 0.5, 0.5, 1.0)


def test_history_covers_15_minutes(recorded: Recorded) -> None:
    for number in range(2 * POINTS):
        recorded.publish(one(float(number)))
        recorded.step()
    recorded.publish(one(0.0))
    assert recorded.bitrates() == [*map(float, range(POINTS + 1, 2 * POINTS)), 0.0]
    recorded.step(POINTS + 5)
    recorded.publish(one(7.0))
    assert recorded.bitrates() == [None] * (POINTS - 1) + [7.0]


def test_value_is_repeated_until_the_next_poll_is_due(recorded: Recorded) -> None:
    recorded.publish(one(5.0), interval=30.0)
    recorded.step(6)
    assert recorded.bitrates()[-8:] == [None, 5, 5, 5, None, None, None, None]


def test_unknown_value_is_a_gap(recorded: Recorded) -> None:
    recorded.publish(one(5.0, 0.5), interval=60.0)
    recorded.step()
    recorded.publish(one(None), interval=60.0)
    recorded.step()
    assert recorded.bitrates()[-3:] == [5, None, None]


def test_stream_that_leaves_loses_its_history(recorded: Recorded) -> None:
    recorded.publish(one(1.0), one(2.0, name="two"))
    recorded.step()
    recorded.publish(one(3.0, name="two"))
    assert recorded.history.points("edge", "one") is None
    assert recorded.bitrates("two")[-2:] == [2, 3]
    recorded.step()
    recorded.publish(one(4.0), one(5.0, name="two"), one(6.0, name="three"))
    assert recorded.bitrates("one")[-3:] == [None, None, 4]
    assert recorded.bitrates("two")[-3:] == [2, 3, 5]
    assert recorded.bitrates("three")[-3:] == [None, None, 6]


def test_removed_upstream_loses_its_history() -> None:
    recorded = Recorded(("edge", "other"))
    recorded.publish(one(1.0))
    recorded.publish(one(1.0), upstream="other")
    recorded.store.withdraw("edge")
    assert recorded.history.points("edge", "one") is None
    recorded.publish(one(1.0), upstream="other")
    recorded.publish(one(2.0))
    assert recorded.bitrates()[-2:] == [None, 2]


def test_stream_that_is_not_served_has_no_points(recorded: Recorded) -> None:
    assert recorded.history.points("edge", "one") is None
    recorded.publish(one(1.0))
    assert recorded.history.points("edge", "two") is None
    assert recorded.history.points("other", "one") is None


@pytest.mark.parametrize("bitrate", [math.nan, math.inf, -5.0, 1e300])
@pytest.mark.parametrize("score", [math.nan, -0.1, 1.5])
def test_invalid_value_does_not_prevent_publishing(bitrate: float, score: float, recorded: Recorded) -> None:
    recorded.publish(one(bitrate, score))
    points = recorded.history.points("edge", "one")
    assert points is not None
    assert points.ingest_bitrate_bytes_per_second[-1] is None
    assert points.health_score_ratio[-1] is None


names = st.text(min_size=1, max_size=3)


@given(polls=st.lists(st.tuples(st.integers(0, 5), st.dictionaries(names, st.floats(0, 1e6), max_size=4)), max_size=30))
def test_history_stays_with_its_stream_when_other_streams_change(polls: list[tuple[int, dict[str, float]]]) -> None:
    recorded = Recorded()
    last: dict[str, float] = {}
    for steps, streams in polls:
        recorded.step(steps)
        recorded.publish(*(one(bitrate, name=name) for name, bitrate in streams.items()))
        last = streams
    for name, bitrate in last.items():
        assert recorded.bitrates(name)[-1] == pytest.approx(bitrate, abs=0.6)


def test_history_takes_less_than_half_a_kilobyte_per_stream(recorded: Recorded) -> None:
    streams = [one(1e6, 0.9, name=f"application/stream-{number}") for number in range(2000)]
    recorded.publish(*streams)
    tracemalloc.start()
    try:
        history = History(recorded.store, recorded.clock)
        for _ in range(3 * POINTS):
            recorded.step()
            recorded.publish(*streams)
        assert history.points("edge", "application/stream-7") is not None
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used / len(streams) < 500
