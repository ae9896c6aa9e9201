"""Bitrates measured from byte totals, and stalled totals."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.platforms.rates import MeasuredTotal


def measured(window_seconds: float = 0.0, stall_seconds: float | None = None) -> MeasuredTotal:
    return MeasuredTotal(window_seconds=window_seconds, stall_seconds=stall_seconds)


def rates(totals: Sequence[float | None], every: float = 30.0, **options: float) -> list[float | None]:
    """Return the rate after each poll; a total of None is a failed poll."""
    total = measured(**options)
    return [update(total, value, 1000.0 + index * every) for index, value in enumerate(totals) if value is not None]


def update(total: MeasuredTotal, value: float, at: float) -> float | None:
    total.update(value, at)
    return total.rate


LIVEPEER = {"window_seconds": 120.0, "stall_seconds": 75.0}


def test_rate_is_measured_between_the_last_two_moves() -> None:
    assert rates([0, 300, 900, 900, 1500], every=10.0) == [None, 30.0, 60.0, 60.0, 30.0]


def test_total_that_has_moved_is_stalled_after_three_polls_and_45_seconds() -> None:
    assert rates([0, 300, 300, 300, 300, 300, 600], every=15.0) == [None, 20.0, 20.0, 20.0, 0.0, 0.0, 20.0]
    assert rates([0, 300, 300, 300, 300, 300], every=10.0)[-1] == 30.0, "less than 45 s"
    assert rates([0, 600, 600, 600, 600], every=60.0) == [None, 10.0, 10.0, 10.0, 0.0], "three polls"


def test_slowly_updated_total_is_stalled_after_three_pauses_or_three_minutes() -> None:
    steps = [0, 300, 300, 300, 600, *[600] * 20]
    seen = rates(steps, every=10.0)
    assert seen.index(0.0) * 10 == 40 + 3 * 30
    slow = [0, *[300] * 4, *[600] * 10, 900, *[900] * 20]
    assert rates(slow, every=10.0).index(0.0) * 10 == 150 + 180


def test_total_that_never_moved_is_stalled_after_three_minutes() -> None:
    assert rates([0] * 20, every=15.0).index(0.0) * 15 == 180
    assert rates([0] * 8, **LIVEPEER).index(0.0) * 30 == 180


def test_polls_in_quick_succession_do_not_count_towards_a_stall() -> None:
    total = MeasuredTotal()
    for at, value in ((0.0, 0.0), (15.0, 300.0)):
        total.update(value, at)
    for at in (61.0, 62.0, 63.0):
        total.update(300.0, at, is_scheduled=False)
        assert not total.is_stalled


def test_rate_is_missing_until_the_window_is_filled() -> None:
    assert rates([0, 300, 600, 900, 1200, 1500], **LIVEPEER) == [None, None, None, None, 10.0, 10.0]


def test_rate_ignores_totals_older_than_the_window() -> None:
    totals = [300.0 * n for n in range(6)] + [1500.0 + 3000.0 * n for n in range(1, 7)]
    assert rates(totals, **LIVEPEER)[-2:] == [100.0, 100.0]


def test_rate_is_exact_if_totals_are_updated_in_long_steps() -> None:
    """The total is updated every 50 s and polled every 10 s."""
    totals = [1000.0 * (10 * n // 50) for n in range(40)]
    seen = rates(totals, every=10.0, **LIVEPEER)
    assert seen[:15] == [None] * 15
    assert set(seen[16:]) == {20.0}


def test_rate_is_0_after_the_platforms_stall_time() -> None:
    totals = [300.0 * n for n in range(6)] + [1500.0] * 4
    assert rates(totals, **LIVEPEER)[5:] == [10.0, 10.0, 10.0, 0.0, 0.0]


def test_pause_does_not_lower_the_rate_after_it() -> None:
    totals = [0, *[0] * 20, 300, 600, 900, 1200, 1500]
    assert rates(totals, **LIVEPEER)[-5:] == [None, None, None, 10.0, 10.0]


def test_total_that_falls_restarts_the_measurement() -> None:
    assert rates([0, 300, 50, 350], every=10.0) == [None, 30.0, None, 30.0]
    totals = [300.0 * n for n in range(6)] + [0.0, 300.0, 600.0, 900.0, 1200.0]
    assert rates(totals, **LIVEPEER)[6:] == [None, None, None, None, 10.0]


def test_failed_polls_do_not_affect_the_rate() -> None:
    assert rates([0, None, 600, None, None, 1500], every=10.0) == [None, 30.0, 30.0]


@pytest.mark.parametrize("again", [300.0, 900.0])
def test_two_polls_at_the_same_time_keep_the_rate(again: float) -> None:
    rate = MeasuredTotal()
    update(rate, 0.0, 10.0)
    assert update(rate, 300.0, 20.0) == 30.0
    assert update(rate, again, 20.0) == 30.0


@given(
    st.lists(st.tuples(st.floats(0.1, 100.0), st.floats(0.0, 1e9)), min_size=1, max_size=40),
    st.sampled_from([{}, LIVEPEER, {"window_seconds": 5.0, "stall_seconds": 20.0}]),
)
def test_rate_is_never_above_the_fastest_step(steps: list[tuple[float, float]], options: dict[str, float]) -> None:
    """Each step is the seconds since the last poll and the bytes per second in between."""
    rate = measured(**options)
    at = total = 0.0
    assert update(rate, total, at) is None
    for seconds, speed in steps:
        at, total = at + seconds, total + seconds * speed
        result = update(rate, total, at)
        assert result is None or 0.0 <= result <= max(speed for _, speed in steps) * 1.0001


@given(
    st.lists(st.tuples(st.floats(0.0, 100.0), st.floats(0.0, 1e18)), max_size=40),
    st.sampled_from([{}, LIVEPEER]),
)
def test_rate_is_never_negative_for_any_history(polls: list[tuple[float, float]], options: dict[str, float]) -> None:
    rate = measured(**options)
    at = 0.0
    for seconds, total in polls:
        at += seconds
        result = update(rate, total, at)
        assert result is None or result >= 0.0


@given(st.lists(st.floats(0.1, 100.0), min_size=2, max_size=200), st.sampled_from([{}, LIVEPEER]))
def test_points_older_than_the_window_are_dropped(steps: list[float], options: dict[str, float]) -> None:
    rate = measured(**options)
    at = 0.0
    for seconds in steps:
        at += seconds
        rate.update(at * 1000.0, at)
    kept = rate.points[::2]
    assert len(kept) <= 2 or kept[-1] - kept[1] < LIVEPEER["window_seconds"]
