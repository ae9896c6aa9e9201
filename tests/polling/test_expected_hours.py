from __future__ import annotations

import datetime
import math
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.upstream import StreamSettings
from exporter.polling.expected_hours import ExpectedHours
from exporter.runtime.clock import Instant
from tests.evidence.evidence_harness import evidence_harness, storm, storm_stream

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
    """Expected hours, with a wall clock that is never set."""

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


def test_hours_over_midnight_belong_to_the_day_on_which_they_start() -> None:
    late = expected_hours([weekly_hours("22:00", "02:00", ["sat"])])
    assert late.is_expected(timestamp("2026-11-21T23:00:00")) is True
    assert late.is_expected(timestamp("2026-11-22T01:59:59")) is True
    assert late.is_expected(timestamp("2026-11-22T02:00:00")) is False
    assert late.is_expected(timestamp("2026-11-22T23:00:00")) is False
    assert late.is_expected(timestamp("2026-11-21T01:00:00")) is False


class ClockChange(NamedTuple):
    """A change between standard time and DST: the clock shows ``before`` and is set to ``after``."""

    zone: str
    day: str
    before: str
    after: str

    def at(self, time: str, *, second: bool = False) -> float:
        """Return the unix seconds of a local time on the day of the change, or of its second occurrence."""
        return timestamp(f"{self.day}T{time}", self.zone, fold=int(second))


FORWARD = [
    ClockChange("Europe/Berlin", "2026-03-29", "02:00", "03:00"),
    ClockChange("America/New_York", "2026-03-08", "02:00", "03:00"),
    ClockChange("Australia/Sydney", "2026-10-04", "02:00", "03:00"),
    ClockChange("Australia/Lord_Howe", "2026-10-04", "02:00", "02:30"),
]
BACK = [
    ClockChange("Europe/Berlin", "2026-10-25", "03:00", "02:00"),
    ClockChange("America/New_York", "2026-11-01", "02:00", "01:00"),
    ClockChange("Australia/Sydney", "2026-04-05", "03:00", "02:00"),
    ClockChange("Australia/Lord_Howe", "2026-04-05", "02:00", "01:30"),
]


def clock(time: str, minutes: int) -> str:
    """Return the time of day that is this number of minutes later."""
    moment = datetime.datetime.combine(datetime.date(2026, 1, 1), datetime.time.fromisoformat(time))
    return (moment + datetime.timedelta(minutes=minutes)).strftime("%H:%M")


def expected_minutes(change: ClockChange, from_: str, to: str) -> list[float]:
    """Return the unix seconds of the minutes, on the day of the change, that are within these hours."""
    day = datetime.date.fromisoformat(change.day)
    hours = expected_hours([weekly_hours(from_, to, [ALL_DAYS[day.weekday()]], change.zone)])
    start = change.at("00:00")
    return [at for minute in range(24 * 60) if hours.is_expected(at := start + 60 * minute)]


def minutes_from(start: float, end: float) -> list[float]:
    return [start + 60 * minute for minute in range(round((end - start) / 60))]


@pytest.mark.parametrize("change", FORWARD, ids=str)
class TestSkippedTime:
    def test_hours_around_it_are_shorter(self, change: ClockChange) -> None:
        found = expected_minutes(change, clock(change.before, -30), clock(change.after, 30))
        assert found == minutes_from(change.at(clock(change.before, -30)), change.at(clock(change.after, 30)))
        assert len(found) == 60

    def test_hours_that_start_in_it_start_with_the_next_existing_minute(self, change: ClockChange) -> None:
        found = expected_minutes(change, clock(change.before, 10), clock(change.after, 45))
        assert found == minutes_from(change.at(change.after), change.at(clock(change.after, 45)))
        assert len(found) == 45

    def test_hours_that_end_in_it_end_with_the_last_existing_minute(self, change: ClockChange) -> None:
        found = expected_minutes(change, clock(change.before, -45), clock(change.before, 10))
        assert found == minutes_from(change.at(clock(change.before, -45)), change.at(change.after))
        assert len(found) == 45

    def test_hours_that_start_where_it_starts_are_not_shifted(self, change: ClockChange) -> None:
        found = expected_minutes(change, change.before, clock(change.after, 15))
        assert found == minutes_from(change.at(change.after), change.at(clock(change.after, 15)))

    def test_hours_within_it_have_no_length(self, change: ClockChange) -> None:
        assert expected_minutes(change, change.before, clock(change.before, 20)) == []
        assert expected_minutes(change, clock(change.before, 5), change.after) == []
        assert expected_minutes(change, clock(change.before, 5), clock(change.before, 20)) == []


@pytest.mark.parametrize("change", BACK, ids=str)
class TestRepeatedTime:
    def test_hours_around_it_are_longer(self, change: ClockChange) -> None:
        found = expected_minutes(change, clock(change.after, -30), clock(change.before, 30))
        assert found == minutes_from(change.at(clock(change.after, -30)), change.at(clock(change.before, 30)))
        repeated = (change.at(change.after, second=True) - change.at(change.after)) / 60
        assert len(found) == 60 + 2 * repeated

    def test_hours_that_start_in_it_start_at_the_first_occurrence(self, change: ClockChange) -> None:
        found = expected_minutes(change, clock(change.after, 10), clock(change.before, 30))
        assert found == minutes_from(change.at(clock(change.after, 10)), change.at(clock(change.before, 30)))

    def test_hours_that_end_in_it_end_at_the_second_occurrence(self, change: ClockChange) -> None:
        found = expected_minutes(change, clock(change.after, -30), clock(change.after, 10))
        end = change.at(clock(change.after, 10), second=True)
        assert found == minutes_from(change.at(clock(change.after, -30)), end)

    def test_hours_within_it_apply_from_the_first_to_the_second_occurrence(self, change: ClockChange) -> None:
        found = expected_minutes(change, clock(change.after, 10), clock(change.after, 20))
        end = change.at(clock(change.after, 20), second=True)
        assert found == minutes_from(change.at(clock(change.after, 10)), end)
        repeated = (change.at(change.after, second=True) - change.at(change.after)) / 60
        assert len(found) == 10 + repeated


def test_hours_of_the_previous_evening_can_end_in_skipped_time() -> None:
    late = expected_hours([weekly_hours("22:00", "02:30", ["sat"])])
    assert late.is_expected(timestamp("2026-03-29T01:59:59")) is True
    assert late.is_expected(timestamp("2026-03-29T03:00:00")) is False


def test_adjacent_hours_around_skipped_time_have_one_start_grace() -> None:
    night = expected_hours([weekly_hours("00:00", "02:15"), weekly_hours("02:45", "06:00")], grace="10m")
    assert night.is_expected(timestamp("2026-03-29T01:59:59")) is True
    assert night.is_expected(timestamp("2026-03-29T03:00:00")) is True


async def test_expectation_is_not_exposed_within_start_grace() -> None:
    stream = {"application": "a", "key": "k", "expected": True, "start_grace": "1m"}
    responses = storm(storm_stream())
    async with evidence_harness("storm", responses, interval="15s", streams=[stream]) as harness:
        found = [(await harness.poll()).value("stream_expected", "a/k") for _ in range(6)]
    assert found == [None] * 4 + [1] * 2


LOCAL_MINUTES: dict[ClockChange, tuple[list[float], list[datetime.datetime]]] = {}
"""Unix seconds of the minutes around a change, with the local time."""


def local_minutes(change: ClockChange) -> tuple[list[float], list[datetime.datetime]]:
    if change not in LOCAL_MINUTES:
        first = change.at("00:00") - 2.5 * 86_400
        moments = [first + 60 * minute for minute in range(6 * 24 * 60)]
        zone = ZoneInfo(change.zone)
        walls = [datetime.datetime.fromtimestamp(at, zone).replace(tzinfo=None) for at in moments]
        LOCAL_MINUTES[change] = moments, walls
    return LOCAL_MINUTES[change]


def index_of(walls: list[datetime.datetime], time: datetime.datetime, occurrence: int) -> int:
    """Return the first (0) or last (-1) moment with this local time or, if it is skipped, with the next one."""
    near = range(round((time - walls[0]).total_seconds() / 60) - 90, len(walls))
    found = [index for index in near[:180] if walls[index] == time]
    return found[occurrence] if found else next(index for index in near if walls[index] > time)


near_the_change = st.integers(0, 5 * 60).map(lambda minute: f"{minute // 60:02}:{minute % 60:02}")
times = st.times().map(lambda t: t.strftime("%H:%M"))
any_slots = st.lists(
    st.tuples(near_the_change | times, near_the_change | times, st.sets(st.sampled_from(ALL_DAYS), min_size=1)).filter(
        lambda slot: slot[0] != slot[1]
    ),
    min_size=1,
    max_size=3,
)


@given(change=st.sampled_from(FORWARD + BACK), slots=any_slots)
def test_hours_around_clock_changes_are_what_the_wall_clock_shows(
    change: ClockChange, slots: list[tuple[str, str, set[str]]]
) -> None:
    moments, walls = local_minutes(change)
    expected: set[float] = set()
    for from_, to, days in slots:
        for offset in range(-2, 2):
            day = datetime.date.fromisoformat(change.day) + offset * datetime.timedelta(days=1)
            if ALL_DAYS[day.weekday()] in days:
                last_day = day if to > from_ else day + datetime.timedelta(days=1)
                start = datetime.datetime.combine(day, datetime.time.fromisoformat(from_))
                end = datetime.datetime.combine(last_day, datetime.time.fromisoformat(to))
                expected.update(moments[index_of(walls, start, 0) : index_of(walls, end, -1)])
    hours = expected_hours([weekly_hours(from_, to, sorted(days), change.zone) for from_, to, days in slots])
    noon = change.at("12:00")
    around = [at for at in moments if noon - 1.5 * 86_400 <= at < noon + 0.5 * 86_400]
    found = {at for at in around if hours.is_expected(at)}
    assert found == expected.intersection(around)
    assert all(hours.is_expected(at + 59.5) is (at in found) for at in around[::7])


def test_expectation_is_unknown_within_start_grace() -> None:
    slot = [weekly_hours("14:00", "18:00")]
    hours = expected_hours(slot, grace="2m")
    assert hours.is_expected(timestamp("2026-11-21T13:59:59")) is False
    assert hours.is_expected(timestamp("2026-11-21T14:00:00")) is None
    assert hours.is_expected(timestamp("2026-11-21T14:01:59")) is None
    assert hours.is_expected(timestamp("2026-11-21T14:02:00")) is True
    assert hours.is_expected(timestamp("2026-11-21T18:00:00")) is False


def test_start_grace_also_applies_after_the_exporters_start() -> None:
    late = expected_hours([weekly_hours("14:00", "18:00")], grace="2m", started_at=timestamp("2026-11-21T15:00:00"))
    assert late.is_expected(timestamp("2026-11-21T15:01:00")) is None
    assert late.is_expected(timestamp("2026-11-21T15:02:00")) is True
    outside = expected_hours([weekly_hours("14:00", "18:00")], grace="2m", started_at=timestamp("2026-11-21T12:00:00"))
    assert outside.is_expected(timestamp("2026-11-21T12:01:00")) is False, "no hours have begun"
    always = expected_hours(True, grace="2m", started_at=1000.0)
    assert [always.is_expected(at) for at in (1000.0, 1119.0, 1120.0)] == [None, None, True]
    never = expected_hours(False, grace="2m", started_at=1000.0)
    assert never.is_expected(1000.0) is False


def test_hours_shorter_than_start_grace_are_never_expected() -> None:
    brief = expected_hours([weekly_hours("14:00", "14:05")], grace="5m")
    found = [brief.is_expected(timestamp("2026-11-21T14:00:00") + seconds) for seconds in range(-10, 400, 10)]
    assert found == [False] + [None] * 30 + [False] * 10


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


def test_next_change_is_the_end_of_the_start_grace() -> None:
    slot = expected_hours([weekly_hours("14:00", "18:00", ["sat"])], grace="10m")
    slot.is_expected(timestamp("2026-11-21T12:00:00"))
    assert slot.changes_at == timestamp("2026-11-21T14:00:00")
    slot.is_expected(timestamp("2026-11-21T14:00:00"))
    assert slot.changes_at == timestamp("2026-11-21T14:10:00")


@given(
    slots=any_slots,
    zone=st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC", "Asia/Kathmandu"]),
    begin=st.floats(timestamp("2026-01-01T00:00:00"), timestamp("2027-12-31T00:00:00")),
    steps=st.lists(st.floats(1, 200_000), max_size=30),
    grace=st.sampled_from(["0s", "90s", "3h"]),
)
def test_cached_answer_equals_a_fresh_one_until_the_next_change(
    slots: list[tuple[str, str, set[str]]], zone: str, begin: float, steps: list[float], grace: str
) -> None:
    expected = [weekly_hours(from_, to, sorted(days), zone) for from_, to, days in slots]

    def make() -> Hours:
        return expected_hours(expected, grace=grace, started_at=begin)

    remembering, now = make(), begin
    for step in steps:
        now += step
        assert remembering.is_expected(now) is make().is_expected(now)
        assert remembering.changes_at > now
