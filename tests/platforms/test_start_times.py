"""Start times from ages: constant while the age grows with time, new when a session is."""

from hypothesis import given
from hypothesis import strategies as st

from exporter.platforms.start_times import KEPT_UNSEEN, TOLERANCE_SECONDS, StartTimes

UNIX = 1_790_000_000.0
"""Platform's clock minus steady clock."""


def start(starts: StartTimes, now: float, age: float | None, key: str = "a", *, step: float = 0.0) -> float | None:
    return starts.observe(key, age, now=now, platform_now=UNIX + now + step)


@given(st.lists(st.floats(-TOLERANCE_SECONDS, TOLERANCE_SECONDS), min_size=1, max_size=20))
def test_start_is_constant_while_ages_are_imprecise(errors: list[float]) -> None:
    starts = StartTimes()
    first = start(starts, 1000.0, 100.0)
    later = {start(starts, 1015.0 + 15 * i, 115.0 + 15 * i + error) for i, error in enumerate(errors)}
    assert later == {first} == {UNIX + 900.0}


def test_younger_session_has_a_new_start() -> None:
    starts = StartTimes()
    assert start(starts, 1000.0, 100.0) == UNIX + 900
    assert start(starts, 1015.0, 5.0) == UNIX + 1010


def test_clock_that_is_set_does_not_move_the_start() -> None:
    starts = StartTimes()
    first = start(starts, 1000.0, 100.0)
    assert start(starts, 1015.0, 115.0, step=3600.0) == first


def test_age_that_stands_still_is_an_old_copy_of_the_data() -> None:
    starts = StartTimes()
    first = start(starts, 1000.0, 100.0)
    assert start(starts, 1015.0, 100.0) == first
    assert start(starts, 1030.0, 130.0) == first


def test_unknown_age_has_no_start() -> None:
    assert start(StartTimes(), 1000.0, None) is None


def test_sessions_that_are_no_longer_reported_are_forgotten() -> None:
    starts = StartTimes()
    for number in range(10 * KEPT_UNSEEN):
        start(starts, 1000.0, 100.0, f"old-{number}")
    starts.end_poll()
    start(starts, 1015.0, 115.0, "new")
    starts.end_poll()
    # a forgotten session gets a start from its present age
    assert start(starts, 1015.0, 117.0, "old-1") == UNIX + 898
    assert start(starts, 1015.0, 117.0, "new") == UNIX + 900
