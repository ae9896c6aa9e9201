"""Whether failures to reach servers are the exporter's own."""

from __future__ import annotations

import pytest

from exporter.http.vantage import FAILURE_MEMORY_SECONDS, MEMORY_SECONDS, PARTIAL_SECONDS, Vantage
from tests.fake_clock import FakeClock


def vantage_with(reached: int, failing: int) -> tuple[Vantage, FakeClock]:
    clock = FakeClock()
    vantage = Vantage(clock)
    for number in range(reached):
        vantage.note(f"good{number}", is_reached=True)
    for number in range(failing):
        vantage.note(f"bad{number}", is_reached=False)
    return vantage, clock


@pytest.mark.parametrize(
    ("reached", "failing", "is_down"),
    [
        (0, 0, False),
        (0, 1, False),
        (0, 2, True),
        (1, 1, False),
        (1, 2, False),
        (1, 3, True),
        (2, 2, True),
        (3, 2, False),
        (50, 49, False),
        (50, 50, True),
    ],
)
def test_network_is_down_if_enough_hosts_fail(reached: int, failing: int, is_down: bool) -> None:
    vantage, _ = vantage_with(reached, failing)
    assert vantage.is_down is is_down
    assert vantage.describe() == f"{failing} of {reached + failing} hosts"


def test_half_of_the_hosts_failing_for_minutes_is_their_own_fault() -> None:
    vantage, clock = vantage_with(2, 2)
    for _ in range(int(PARTIAL_SECONDS / 10)):
        clock.advance(10)
        assert vantage.is_down
        for number in range(2):
            vantage.note(f"good{number}", is_reached=True)
            vantage.note(f"bad{number}", is_reached=False)
    clock.advance(10)
    assert not vantage.is_down


def test_all_hosts_failing_is_the_network_for_as_long_as_it_takes() -> None:
    """Upstreams that fail are polled once a minute, at different times."""
    vantage, clock = vantage_with(0, 3)
    for _ in range(60):
        for number in range(3):
            clock.advance(20)
            vantage.note(f"bad{number}", is_reached=False)
            assert vantage.is_down
    vantage.note("bad0", is_reached=True)
    assert not vantage.is_down


def test_old_outcomes_are_forgotten() -> None:
    vantage, clock = vantage_with(3, 0)
    clock.advance(MEMORY_SECONDS + 1)
    vantage.note("bad0", is_reached=False)
    vantage.note("bad1", is_reached=False)
    assert vantage.is_down
    clock.advance(FAILURE_MEMORY_SECONDS + 1)
    assert not vantage.is_down
    assert vantage.describe() == "0 of 0 hosts"


def test_host_may_be_fine_until_another_one_is_reached() -> None:
    vantage, clock = vantage_with(2, 0)
    clock.advance(8)
    vantage.note("good0", is_reached=False)
    assert vantage.may_be_fine("good0")
    assert not vantage.may_be_fine("good1")
    clock.advance(1)
    vantage.note("good1", is_reached=True)
    assert not vantage.may_be_fine("good0")
    # a later failure in the same row needs no new proof
    clock.advance(5)
    vantage.note("good0", is_reached=False)
    assert not vantage.may_be_fine("good0")


def test_only_host_is_taken_at_its_word() -> None:
    vantage, _ = vantage_with(0, 1)
    assert not vantage.may_be_fine("bad0")


@pytest.mark.parametrize(
    ("one", "other"),
    [("cdn.example", "CDN.example:443"), ("cdn.example:80", "cdn.example"), ("[::1]:8080", "::1:8080")],
)
def test_ways_to_write_a_host_are_one_host(one: str, other: str) -> None:
    vantage, _ = vantage_with(0, 1)
    vantage.note(one, is_reached=False)
    vantage.note(other, is_reached=True)
    assert vantage.describe() == "1 of 2 hosts"


def test_number_of_hosts_is_bounded() -> None:
    vantage, _ = vantage_with(5000, 0)
    assert vantage.describe() == "0 of 1000 hosts"
