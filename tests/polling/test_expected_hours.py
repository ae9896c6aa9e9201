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
from exporter.runtime.clock import Instant

BERLIN = "Europe/Berlin"
ALL_DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class AnyStream(StreamSettings):
    @property
    def id(self) -> str:
        return "any"


def timestamp(text: str, zone: str = BERLIN, fold: int = 0) -> float:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def weekly_hours(from_: str, to: str, days: list[str] | None = None, zone: str = BERLIN) -> dict[str, Any]:
    return {"days": days or ALL_DAYS, "from": from_, "to": to, "timezone": zone}


class Hours:
    """Expected hours, on a wall clock that is never set."""

    def __init__(self, hours: ExpectedHours) -> None:
        self.hours = hours

    def is_expected(self, at: float) -> bool | None:
        return self.hours.is_expected(Instant(at, at))

    @property
    def changes_at(self) -> float:
        return self.hours.changes_at


def expected_hours(expected: Any, *, grace: str = "0s", started_at: float = 0.0) -> Hours:
    settings = AnyStream.model_validate({"expected": expected, "start_grace": grace})
    return Hours(ExpectedHours(settings, Instant(started_at, started_at)))


def test_expected_is_as_configured_without_hours() -> None:
    assert expected_hours(True).is_expected(5.0) is True
    assert expected_hours(False).is_expected(5.0) is False
    assert expected_hours(None).is_expected(5.0) is None
    assert expected_hours(True).changes_at == -math.inf


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
def test_stream_is_expected_within_its_weekly_hours(when: str, expected: bool) -> None:
    assert expected_hours([weekly_hours("14:00", "18:30", ["sat", "sun"])]).is_expected(timestamp(when)) is expected


def test_hours_use_the_configured_timezone() -> None:
    tokyo = expected_hours([weekly_hours("09:00", "10:00", zone="Asia/Tokyo")])
    assert tokyo.is_expected(timestamp("2026-11-21T00:30:00", "UTC")) is True
    assert tokyo.is_expected(timestamp("2026-11-21T09:30:00", "UTC")) is False


def test_hours_over_midnight_belong_to_the_day_they_start() -> None:
    late = expected_hours([weekly_hours("22:00", "02:00", ["sat"])])
    assert late.is_expected(timestamp("2026-11-21T23:00:00")) is True
    assert late.is_expected(timestamp("2026-11-22T01:59:59")) is True
    assert late.is_expected(timestamp("2026-11-22T02:00:00")) is False
    assert late.is_expected(timestamp("2026-11-22T23:00:00")) is False
    assert late.is_expected(timestamp("2026-11-21T01:00:00")) is False


def test_hours_around_the_skipped_hour_are_shorter() -> None:
    # 2026-03-29: from 02:00 to 03:00 there is no local time
    night = expected_hours([weekly_hours("01:30", "03:30", ["sun"])])
    assert night.is_expected(timestamp("2026-03-29T01:29:59")) is False
    assert night.is_expected(timestamp("2026-03-29T01:30:00")) is True
    assert night.is_expected(timestamp("2026-03-29T03:29:59")) is True
    assert night.is_expected(timestamp("2026-03-29T03:30:00")) is False
    assert timestamp("2026-03-29T03:30:00") - timestamp("2026-03-29T01:30:00") == 3600


def test_hours_starting_in_the_skipped_hour_still_apply() -> None:
    gap = expected_hours([weekly_hours("02:15", "04:00", ["sun"])])
    assert gap.is_expected(timestamp("2026-03-29T03:30:00")) is True
    assert gap.is_expected(timestamp("2026-03-29T04:00:00")) is False


def test_hours_in_the_repeated_hour_apply_both_times() -> None:
    # 2026-10-25: 02:00 to 03:00 comes twice
    night = expected_hours([weekly_hours("02:15", "02:45", ["sun"])])
    assert night.is_expected(timestamp("2026-10-25T02:14:59")) is False
    assert night.is_expected(timestamp("2026-10-25T02:20:00")) is True
    assert night.is_expected(timestamp("2026-10-25T02:20:00", fold=1)) is True
    assert night.is_expected(timestamp("2026-10-25T02:45:00", fold=1)) is False


def test_start_grace_applies_after_the_hours_start_and_the_exporters_start() -> None:
    slot = [weekly_hours("14:00", "18:00")]
    assert expected_hours(slot, grace="2m").is_expected(timestamp("2026-11-21T14:01:59")) is False
    assert expected_hours(slot, grace="2m").is_expected(timestamp("2026-11-21T14:02:00")) is True
    late = expected_hours(slot, grace="2m", started_at=timestamp("2026-11-21T15:00:00"))
    assert late.is_expected(timestamp("2026-11-21T15:01:00")) is False
    assert late.is_expected(timestamp("2026-11-21T15:02:00")) is True


def test_hours_no_longer_than_start_grace_are_never_expected() -> None:
    brief = expected_hours([weekly_hours("14:00", "14:05")], grace="5m")
    assert not any(brief.is_expected(timestamp("2026-11-21T14:00:00") + seconds) for seconds in range(0, 400, 10))


def test_adjacent_hours_have_one_start_grace() -> None:
    day = expected_hours(
        [weekly_hours("14:00", "16:00"), weekly_hours("16:00", "18:00"), weekly_hours("15:00", "15:30")], grace="5m"
    )
    assert day.is_expected(timestamp("2026-11-21T16:01:00")) is True


def test_next_change_is_the_start_or_end_of_the_hours() -> None:
    slot = expected_hours([weekly_hours("14:00", "18:00", ["sat"])])
    slot.is_expected(timestamp("2026-11-21T12:00:00"))
    assert slot.changes_at == timestamp("2026-11-21T14:00:00")
    slot.is_expected(timestamp("2026-11-21T14:00:00"))
    assert slot.changes_at == timestamp("2026-11-21T18:00:00")


times = st.times().map(lambda t: t.strftime("%H:%M"))


@given(
    slots=st.lists(
        st.tuples(times, times, st.sets(st.sampled_from(ALL_DAYS), min_size=1)).filter(lambda s: s[0] != s[1]),
        min_size=1,
        max_size=3,
    ),
    zone=st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC", "Asia/Kathmandu"]),
    begin=st.floats(timestamp("2026-01-01T00:00:00"), timestamp("2027-12-31T00:00:00")),
    steps=st.lists(st.floats(1, 200_000), max_size=30),
)
def test_cached_answer_equals_a_fresh_one_until_the_next_change(
    slots: list[tuple[str, str, set[str]]], zone: str, begin: float, steps: list[float]
) -> None:
    expected = [weekly_hours(from_, to, sorted(days), zone) for from_, to, days in slots]
    remembering, now = expected_hours(expected), begin
    for step in steps:
        now += step
        assert remembering.is_expected(now) is expected_hours(expected).is_expected(now)
        assert remembering.changes_at > now
