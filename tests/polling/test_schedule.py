from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.polling.schedule import Schedule


def started_schedule(interval: float, now: float = 1000.0, seed: int = 1) -> Schedule:
    schedule = Schedule(interval, random.Random(seed))
    schedule.start(now)
    return schedule


@pytest.mark.parametrize(("interval", "within"), [(15.0, 2.0), (0.5, 0.5)])
def test_first_poll_is_due_at_a_random_time_within_two_seconds(interval: float, within: float) -> None:
    dues = [started_schedule(interval, seed=seed).due - 1000.0 for seed in range(200)]
    assert min(dues) >= 0
    assert max(dues) <= within
    assert max(dues) - min(dues) > within / 2


def test_second_poll_is_shifted_once_and_the_rest_are_steady() -> None:
    schedule = started_schedule(10.0)
    dues = []
    for _ in range(5):
        dues.append(schedule.due)
        schedule.record_success(schedule.due + 0.2, None, None)
    steps = [later - earlier for earlier, later in itertools.pairwise(dues)]
    assert 5.0 <= steps[0] <= 10.0
    assert steps[1:] == pytest.approx([10.0] * 3)


def test_poll_longer_than_its_interval_skips_due_times_and_keeps_the_phase() -> None:
    schedule = started_schedule(10.0)
    schedule.record_success(schedule.due, None, None)
    due = schedule.due
    schedule.record_success(due + 25.0, None, None)
    assert schedule.due == pytest.approx(due + 30.0)


def failed_steps(schedule: Schedule, failures: int) -> list[float]:
    """Record failures in a row and return the seconds to the next poll after each."""
    steps = []
    for _ in range(failures):
        before = schedule.due
        schedule.record_failure(before, None)
        steps.append(schedule.due - before)
    return steps


def test_back_off_begins_with_the_third_failure_doubles_up_to_one_minute_and_ends_with_a_success() -> None:
    schedule = started_schedule(15.0)
    assert failed_steps(schedule, 6) == pytest.approx([15, 15, 30, 60, 60, 60])
    before = schedule.due
    schedule.record_success(before, None, None)
    assert schedule.due - before <= 15.0
    assert failed_steps(schedule, 3) == pytest.approx([15, 15, 30])


def test_back_off_is_never_shorter_than_the_interval() -> None:
    schedule = started_schedule(300.0)
    for _ in range(4):
        before = schedule.due
        schedule.record_failure(before, None)
        assert schedule.due - before == pytest.approx(300.0)


def test_retry_after_postpones_the_next_poll_but_keeps_the_interval() -> None:
    schedule = started_schedule(15.0)
    now = schedule.due
    schedule.record_failure(now, 120.0)
    assert (schedule.due, schedule.effective_interval) == (now + 120.0, 15.0)


def test_pause_after_a_success_postpones_the_next_poll_and_lengthens_the_interval() -> None:
    schedule = started_schedule(15.0)
    now = schedule.due
    schedule.record_success(now, None, 120.0)
    assert (schedule.due, schedule.effective_interval) == (now + 120.0, 120.0)
    schedule.record_success(schedule.due, None, None)
    assert schedule.effective_interval == 15.0
    schedule.record_success(schedule.due, None, 1e9)
    assert schedule.effective_interval == 900.0


def test_retry_after_is_limited_to_15_minutes() -> None:
    schedule = started_schedule(15.0)
    now = schedule.due
    schedule.record_failure(now, 1e9)
    assert schedule.due == pytest.approx(now + 900.0)


def test_request_budget_lengthens_the_interval() -> None:
    schedule = started_schedule(30.0)
    now = schedule.due
    schedule.record_success(now, 180.0, 45.0)
    assert schedule.effective_interval == 180.0
    assert schedule.due == pytest.approx(now + 45.0)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 500), st.none() | st.floats(0, 2000)), max_size=50))
def test_due_time_is_always_ahead_and_within_15_minutes(polls: list[tuple[bool, float, float | None]]) -> None:
    schedule = started_schedule(15.0)
    for ok, took, pause in polls:
        now = schedule.due + took
        if ok:
            schedule.record_success(now, None, pause)
        else:
            schedule.record_failure(now, pause)
        assert now < schedule.due + 1e-6
        assert schedule.due <= now + 900.0
