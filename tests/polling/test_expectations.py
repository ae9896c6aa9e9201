from __future__ import annotations

import datetime
import math
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.upstream import StreamSettings
from exporter.polling.expected_hours import ExpectedHours

BERLIN = "Europe/Berlin"
ALL_DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class AnyStream(StreamSettings):
    @property
    def id(self) -> str:
        return "any"


def at(text: str, zone: str = BERLIN, fold: int = 0) -> float:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def hours(from_: str, to: str, days: list[str] | None = None, zone: str = BERLIN) -> dict[str, Any]:
    return {"days": days or ALL_DAYS, "from": from_, "to": to, "timezone": zone}


def expecting(expected: Any, *, grace: str = "0s", started_at: float = 0.0) -> ExpectedHours:
    return ExpectedHours(AnyStream.model_validate({"expected": expected, "start_grace": grace}), started_at)


def test_always_never_and_nothing_said() -> None:
    assert expecting(True).at(5.0) is True
    assert expecting(False).at(5.0) is False
    assert expecting(None).at(5.0) is None
    assert expecting(True).changes_at == -math.inf


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("2026-11-21T13:59:59", False),  # a Saturday
        ("2026-11-21T14:00:00", True),
        ("2026-11-21T18:29:59", True),
        ("2026-11-21T18:30:00", False),
        ("2026-11-22T15:00:00", True),
        ("2026-11-23T15:00:00", False),  # Monday
    ],
)
def test_hours_of_the_week(when: str, expected: bool) -> None:
    assert expecting([hours("14:00", "18:30", ["sat", "sun"])]).at(at(when)) is expected


def test_hours_are_the_places_own() -> None:
    tokyo = expecting([hours("09:00", "10:00", zone="Asia/Tokyo")])
    assert tokyo.at(at("2026-11-21T00:30:00", "UTC")) is True
    assert tokyo.at(at("2026-11-21T09:30:00", "UTC")) is False


def test_over_midnight_the_hours_belong_to_the_day_they_began() -> None:
    late = expecting([hours("22:00", "02:00", ["sat"])])
    assert late.at(at("2026-11-21T23:00:00")) is True
    assert late.at(at("2026-11-22T01:59:59")) is True
    assert late.at(at("2026-11-22T02:00:00")) is False
    assert late.at(at("2026-11-22T23:00:00")) is False
    assert late.at(at("2026-11-21T01:00:00")) is False


def test_the_night_without_its_third_hour() -> None:
    # 2026-03-29: from 02:00 to 03:00 there is no local time
    night = expecting([hours("01:30", "03:30", ["sun"])])
    assert night.at(at("2026-03-29T01:29:59")) is False
    assert night.at(at("2026-03-29T01:30:00")) is True
    assert night.at(at("2026-03-29T03:29:59")) is True
    assert night.at(at("2026-03-29T03:30:00")) is False
    assert at("2026-03-29T03:30:00") - at("2026-03-29T01:30:00") == 3600


def test_hours_that_begin_in_the_missing_hour_still_come() -> None:
    gap = expecting([hours("02:15", "04:00", ["sun"])])
    assert gap.at(at("2026-03-29T03:30:00")) is True
    assert gap.at(at("2026-03-29T04:00:00")) is False


def test_the_night_with_two_third_hours() -> None:
    # 2026-10-25: 02:00 to 03:00 comes twice
    night = expecting([hours("02:15", "02:45", ["sun"])])
    assert night.at(at("2026-10-25T02:14:59")) is False
    assert night.at(at("2026-10-25T02:20:00")) is True
    assert night.at(at("2026-10-25T02:20:00", fold=1)) is True
    assert night.at(at("2026-10-25T02:45:00", fold=1)) is False


def test_grace_after_the_beginning_and_after_our_own_start() -> None:
    slot = [hours("14:00", "18:00")]
    assert expecting(slot, grace="2m").at(at("2026-11-21T14:01:59")) is False
    assert expecting(slot, grace="2m").at(at("2026-11-21T14:02:00")) is True
    late = expecting(slot, grace="2m", started_at=at("2026-11-21T15:00:00"))
    assert late.at(at("2026-11-21T15:01:00")) is False
    assert late.at(at("2026-11-21T15:02:00")) is True


def test_a_grace_as_long_as_the_slot_never_expects() -> None:
    brief = expecting([hours("14:00", "14:05")], grace="5m")
    assert not any(brief.at(at("2026-11-21T14:00:00") + seconds) for seconds in range(0, 400, 10))


def test_slots_that_touch_have_one_grace() -> None:
    day = expecting([hours("14:00", "16:00"), hours("16:00", "18:00"), hours("15:00", "15:30")], grace="5m")
    assert day.at(at("2026-11-21T16:01:00")) is True


def test_says_when_it_changes() -> None:
    slot = expecting([hours("14:00", "18:00", ["sat"])])
    slot.at(at("2026-11-21T12:00:00"))
    assert slot.changes_at == at("2026-11-21T14:00:00")
    slot.at(at("2026-11-21T14:00:00"))
    assert slot.changes_at == at("2026-11-21T18:00:00")


times = st.times().map(lambda t: t.strftime("%H:%M"))


@given(
    slots=st.lists(
        st.tuples(times, times, st.sets(st.sampled_from(ALL_DAYS), min_size=1)).filter(lambda s: s[0] != s[1]),
        min_size=1,
        max_size=3,
    ),
    zone=st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC", "Asia/Kathmandu"]),
    begin=st.floats(at("2026-01-01T00:00:00"), at("2027-12-31T00:00:00")),
    steps=st.lists(st.floats(1, 200_000), max_size=30),
)
def test_remembering_until_the_next_change_changes_nothing(
    slots: list[tuple[str, str, set[str]]], zone: str, begin: float, steps: list[float]
) -> None:
    expected = [hours(from_, to, sorted(days), zone) for from_, to, days in slots]
    remembering, now = expecting(expected), begin
    for step in steps:
        now += step
        assert remembering.at(now) is expecting(expected).at(now)
        assert remembering.changes_at > now
