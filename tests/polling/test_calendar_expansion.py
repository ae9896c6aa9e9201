"""Expanding iCalendar files in the worker process: what real programs write, what is broken, and what is hostile."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import io
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.calendars import worker
from exporter.calendars.__main__ import main
from exporter.calendars.expansion import expand_calendar
from exporter.calendars.worker import MAX_BYTES, MAX_EVENTS, CalendarError, Expansion, expand, expand_now

FOLDER = Path(__file__).parent / "calendars"
NOW = datetime.datetime(2026, 12, 1, 12, tzinfo=datetime.UTC)
BERLIN = "Europe/Berlin"


def calendar(*events: str, zones: str = "") -> bytes:
    blocks = "".join(f"BEGIN:VEVENT\n{event}\nEND:VEVENT\n" for event in events)
    return f"BEGIN:VCALENDAR\nVERSION:2.0\n{zones}{blocks}END:VCALENDAR\n".replace("\n", "\r\n").encode()


def expansion(content: bytes, timezones: Sequence[str] = ("UTC",), now: datetime.datetime = NOW) -> Expansion:
    """Expand in this process, without its limits."""
    return expand_calendar(content, now.timestamp(), timezones, contextlib.nullcontext)


def events(content: bytes, timezone: str = "UTC", now: datetime.datetime = NOW) -> list[str]:
    """Return the events as ``SUMMARY: START – END`` in local time."""
    zone = ZoneInfo(timezone)

    def local(at: float) -> str:
        return f"{datetime.datetime.fromtimestamp(at, zone):%m-%d %H:%M}"

    found = expansion(content, (timezone,), now).events[timezone]
    return [f"{event.summary}: {local(event.start)} – {local(event.end)}" for event in found]


def spans(content: bytes, timezone: str = "UTC", now: datetime.datetime = NOW) -> list[str]:
    return [text.removeprefix(": ") for text in events(content, timezone, now)]


# -- exports of common programs ----------------------------------------------------------------------------------------


def test_google_export_with_moved_cancelled_excluded_and_all_day_events() -> None:
    assert events((FOLDER / "google.ics").read_bytes(), BERLIN) == [
        "Press conference: 12-01 18:00 – 12-01 19:00",
        "Cup final: 12-05 20:00 – 12-05 22:00",
        "Press conference: 12-09 20:00 – 12-09 20:30",
        "Press conference: 12-10 18:00 – 12-10 19:00",
        "Open weekend: 12-12 00:00 – 12-14 00:00",
    ]


def test_outlook_export_with_windows_and_customized_time_zones() -> None:
    content = (FOLDER / "outlook.ics").read_bytes()
    assert events(content, BERLIN) == [
        "Morning show: 12-01 10:00 – 12-01 11:30",
        "Morning show: 12-02 10:00 – 12-02 11:30",
        "Concert: 12-02 13:30 – 12-02 15:30",
        "Morning show: 12-03 10:00 – 12-03 11:30",
        "Morning show: 12-05 10:00 – 12-05 11:30",
        "Morning show: 12-06 10:00 – 12-06 11:30",
        "Trade fair: 12-07 00:00 – 12-08 00:00",
    ]
    assert expansion(content).warnings() == []


def test_nextcloud_export_with_durations_and_floating_times() -> None:
    assert events((FOLDER / "nextcloud.ics").read_bytes(), "America/New_York") == [
        "Sunday service, live: 11-29 10:00 – 11-29 11:30",
        "Sunday service, live: 12-06 10:00 – 12-06 11:30",
        "Evensong: 12-10 18:30 – 12-10 19:30",
        "Evensong: 12-11 18:30 – 12-11 19:30",
    ]


def test_all_day_and_floating_times_are_in_each_requested_time_zone() -> None:
    content = calendar("UID:1\nDTSTART;VALUE=DATE:20261202", "UID:2\nDTSTART:20261203T100000\nDURATION:PT1H")
    assert spans(content, "Asia/Tokyo") == ["12-02 00:00 – 12-03 00:00", "12-03 10:00 – 12-03 11:00"]
    both = expansion(content, ("Asia/Tokyo", "UTC")).events
    assert [event.start for event in both["UTC"]] == [event.start + 9 * 3600 for event in both["Asia/Tokyo"]]


# -- clock changes -----------------------------------------------------------------------------------------------------

SPRING = datetime.datetime(2027, 3, 25, 12, tzinfo=datetime.UTC)
AUTUMN = datetime.datetime(2026, 10, 22, 12, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("now", "event", "hours", "first"),
    [
        # 28 March 2027: 02:00 becomes 03:00 in Berlin
        (SPRING, "DTSTART;TZID={zone}:20270328T013000\nDTEND;TZID={zone}:20270328T043000", 2.0, "00:30"),
        (SPRING, "DTSTART;TZID={zone}:20270328T023000\nDTEND;TZID={zone}:20270328T043000", 1.5, "01:00"),
        (
            SPRING,
            "DTSTART;TZID={zone}:20270327T023000\nDTEND;TZID={zone}:20270327T043000\nRRULE:FREQ=DAILY",
            2.0,
            "01:30",
        ),
        (SPRING, "DTSTART:20270328T023000\nDTEND:20270328T043000", 1.5, "01:00"),
        (SPRING, "DTSTART;VALUE=DATE:20270328", 23.0, "23:00"),
        # 25 October 2026: 03:00 becomes 02:00, so 02:30 occurs twice
        (AUTUMN, "DTSTART;TZID={zone}:20261025T023000\nDTEND;TZID={zone}:20261025T024500", 1.25, "00:30"),
        (AUTUMN, "DTSTART;TZID={zone}:20261025T013000\nDTEND;TZID={zone}:20261025T043000", 4.0, "23:30"),
        (AUTUMN, "DTSTART;VALUE=DATE:20261025", 25.0, "22:00"),
    ],
)
def test_local_times_follow_the_wall_clock_at_clock_changes(
    now: datetime.datetime, event: str, hours: float, first: str
) -> None:
    found = expansion(calendar(f"UID:1\n{event.format(zone=BERLIN)}"), (BERLIN,), now).events[BERLIN][0]
    assert (found.end - found.start) / 3600 == hours
    assert f"{datetime.datetime.fromtimestamp(found.start, datetime.UTC):%H:%M}" == first


def test_daily_event_keeps_its_local_time_after_a_clock_change() -> None:
    event = f"UID:1\nDTSTART;TZID={BERLIN}:20261024T100000\nDURATION:PT1H\nRRULE:FREQ=DAILY;COUNT=3"
    assert spans(calendar(event), "UTC", AUTUMN) == [
        "10-24 08:00 – 10-24 09:00",
        "10-25 09:00 – 10-25 10:00",
        "10-26 09:00 – 10-26 10:00",
    ]


# -- recurrences -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("master", "overrides", "starts"),
    [
        ("RRULE:FREQ=DAILY;COUNT=3", [], ["12-01", "12-02", "12-03"]),
        ("RRULE:FREQ=DAILY;COUNT=3\nEXDATE:20261202T100000Z", [], ["12-01", "12-03"]),
        ("RRULE:FREQ=DAILY;COUNT=3\nSTATUS:CANCELLED", [], []),
        ("RRULE:FREQ=DAILY;UNTIL=20261202T100000Z", [], ["12-01", "12-02"]),
        ("RDATE:20261205T100000Z", [], ["12-01", "12-05"]),
        (
            "RRULE:FREQ=DAILY;COUNT=3",
            ["DTSTART:20261210T100000Z\nRECURRENCE-ID:20261202T100000Z"],
            ["12-01", "12-03", "12-10"],
        ),
        # moved from far outside of the window to the inside, and out of it
        ("RRULE:FREQ=YEARLY;COUNT=2", ["DTSTART:20261204T100000Z\nRECURRENCE-ID:20271201T100000Z"], ["12-01", "12-04"]),
        ("RRULE:FREQ=DAILY;COUNT=2", ["DTSTART:20270202T100000Z\nRECURRENCE-ID:20261202T100000Z"], ["12-01"]),
        (
            "RRULE:FREQ=DAILY;COUNT=3",
            ["DTSTART:20261202T100000Z\nRECURRENCE-ID:20261202T100000Z\nSTATUS:cancelled"],
            ["12-01", "12-03"],
        ),
        # a damaged change does not hide the other occurrences; it may have moved its own
        ("RRULE:FREQ=DAILY;COUNT=2", ["DTSTART:never\nRECURRENCE-ID:20261202T100000Z"], ["12-01"]),
    ],
)  # fmt: skip
def test_occurrences_of_recurring_events(master: str, overrides: list[str], starts: list[str]) -> None:
    series = [f"UID:1\nDTSTART:20261201T100000Z\nDURATION:PT1H\n{master}"]
    series += [f"UID:1\nDURATION:PT1H\n{override}" for override in overrides]
    for order in (series, series[::-1]):
        assert [text[:5] for text in spans(calendar(*order))] == starts


def test_long_event_that_began_before_the_window_is_found() -> None:
    running = calendar(
        "UID:1\nDTSTART:20260901T000000Z\nDTEND:20270101T000000Z",
        "UID:2\nDTSTART;VALUE=DATE:20261101\nDTEND;VALUE=DATE:20261215\nRRULE:FREQ=YEARLY;UNTIL=20261101",
    )
    assert spans(running) == ["09-01 00:00 – 01-01 00:00", "11-01 00:00 – 12-15 00:00"]


def test_events_without_id_do_not_replace_each_other() -> None:
    assert len(spans(calendar("DTSTART:20261201", "DTSTART:20261202", "UID:\nDTSTART:20261203"))) == 3


@settings(max_examples=20, deadline=None)
@given(
    st.integers(-30, 30), st.integers(1, 72), st.integers(1, 5), st.integers(1, 20), st.sampled_from([BERLIN, "UTC"])
)
def test_daily_rule_gives_the_days_that_it_describes(
    first_day: int, hours: int, interval: int, count: int, zone: str
) -> None:
    first = (NOW + datetime.timedelta(days=first_day)).replace(hour=8, tzinfo=ZoneInfo(zone))
    rule = f"RRULE:FREQ=DAILY;INTERVAL={interval};COUNT={count}"
    found = expansion(calendar(f"UID:1\nDTSTART;TZID={zone}:{first:%Y%m%dT%H%M%S}\nDURATION:PT{hours}H\n{rule}"))
    starts = [first + datetime.timedelta(days=index * interval) for index in range(count)]
    days = [(start, start + datetime.timedelta(hours=hours)) for start in starts]
    assert [(event.start, event.end) for event in found.events["UTC"]] == [
        (start.timestamp(), end.timestamp())
        for start, end in days
        if end.timestamp() > found.known_from and start.timestamp() < found.known_until
    ]


# -- broken calendars --------------------------------------------------------------------------------------------------

GOOD = "UID:good\nDTSTART:20261203T100000Z\nDURATION:PT1H\nSUMMARY:good"


@pytest.mark.parametrize(
    "content",
    [
        calendar(GOOD).replace(b"\r\n", b"\n"),
        calendar(GOOD).replace(b"\r\n", b"\r"),
        b"\xef\xbb\xbf" + calendar(GOOD),
        calendar(GOOD) + calendar("UID:other\nDTSTART:20270503T100000Z\nDURATION:PT1H"),
        calendar(GOOD.replace("good", "go\r\n od")),
        calendar(GOOD + "\nX-NONSENSE;;=:\nDESCRIPTION:first line\nsecond line without a property\n\nATTENDEE"),
        calendar(GOOD + "\nLOCATION:caf\xe9").replace("\xe9".encode(), b"\xe9"),
        calendar(GOOD, zones="BEGIN:VTIMEZONE\nTZID:X\nBEGIN:STANDARD\nTZOFFSETTO:x\nEND:STANDARD\nEND:VTIMEZONE\n"),
        calendar(GOOD, zones="BEGIN:VTODO\nUID:good\nDTSTART:20261201T000000Z\nEND:VTODO\n"),
        calendar(GOOD.replace("SUMMARY", "summary")).replace(b"BEGIN:VEVENT", b"begin:vevent"),
        calendar(GOOD + "\nSUMMARY:another\nDTSTART:20261204T100000Z"),
    ],
)  # fmt: skip
def test_damage_that_does_not_matter_is_ignored(content: bytes) -> None:
    assert events(content) == ["good: 12-03 10:00 – 12-03 11:00"]
    assert expansion(content).warnings() == []


@pytest.mark.parametrize(
    ("event", "warning"),
    [
        ("DTSTART:garbage", "1 event ignored: invalid DTSTART"),
        ("DTSTART:2026-12-03T10:00:00Z", "1 event ignored: invalid DTSTART"),
        ("DTEND:20261203T100000Z", "1 event ignored: DTSTART is missing"),
        ("DTSTART:20261203T100000Z\nDTEND:20261202T100000Z", "1 event ignored: DTEND is before DTSTART"),
        ("DTSTART:20261203T100000Z\nDURATION:P99999999999D", "1 event ignored: invalid DURATION"),
        ("DTSTART:20261203T100000Z\nRRULE:FREQ=SOMETIMES", "1 event ignored: invalid RRULE"),
        ("DTSTART:20261203T100000Z\nDURATION:PT1H\nRRULE:FREQ=DAILY;INTERVAL=-1", "1 event ignored: invalid values"),
        ("DTSTART:20261203\nDTEND:99991231\nRRULE:FREQ=DAILY;UNTIL=99991231", "1 event ignored: invalid values"),
        ("DTSTART:00010101\nDTEND:00010102", None),
        ("DTSTART:20261203T100000Z\nDTEND:20261203T100000Z", None),
        ("DTSTART:20261203T100000Z", None),
    ],
)
def test_unusable_event_does_not_hide_the_others(event: str, warning: str | None) -> None:
    found = expansion(calendar(f"UID:bad\n{event}\nSUMMARY:bad", GOOD))
    assert "good" in [event.summary for event in found.events["UTC"]]
    assert found.warnings() == ([] if warning is None else [warning])


ALL = "11-29 12:00 – 12-15 12:00"


@pytest.mark.parametrize(
    ("event", "unknown"),
    [
        ("DTSTART:20261203T250000Z", ["12-02 00:00 – 12-05 00:00"]),
        ("DTSTART;VALUE=DATE:20261203\nDTEND:20261205T2", ["12-02 00:00 – 12-07 00:00"]),
        ("DTSTART:20261203T100000Z\nDTEND:20261202T100000Z", ["12-01 00:00 – 12-05 00:00"]),
        ("DTSTART:20261203T250000Z\nRECURRENCE-ID:20261207T100000Z", ["12-02 00:00 – 12-09 00:00"]),
        ("DTSTART:garbage", [ALL]),
        ("DTEND:20261203T100000Z", [ALL]),
        ("DTSTART:20261203T100000Z\nDURATION:P99999999999D", [ALL]),
        ("DTSTART:20261101T100000Z\nRRULE:FREQ=SOMETIMES", [ALL]),
        ("DTSTART:20251203T250000Z", []),
        ("DTSTART:00010101\nDTEND:00010102", []),
        (GOOD.replace("UID:good\n", ""), []),
    ],
)
def test_days_of_an_unusable_event_are_unknown(event: str, unknown: list[str]) -> None:
    found = expansion(calendar(f"UID:bad\n{event}", GOOD)).unknown
    assert [" – ".join(f"{datetime.datetime.fromtimestamp(at, datetime.UTC):%m-%d %H:%M}" for at in span)
            for span in found] == unknown  # fmt: skip


def test_event_that_shares_its_id_with_an_unusable_one_still_recurs() -> None:
    daily = "UID:1\nDTSTART:20261201T100000Z\nDURATION:PT1H\nRRULE:FREQ=DAILY;COUNT=3"
    for order in (["UID:1\nDTSTART:never", daily], [daily, "UID:1\nDTSTART:never"]):
        assert len(spans(calendar(*order))) == 3


def test_unknown_time_zone_is_read_as_the_configured_one_with_a_warning() -> None:
    content = calendar("UID:1\nDTSTART;TZID=Mars/Olympus:20261203T100000\nDURATION:PT1H")
    assert spans(content, BERLIN) == ["12-03 10:00 – 12-03 11:00"]
    assert expansion(content).warnings() == ["unknown time zone 'Mars/Olympus'; using the configured one"]


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "not an iCalendar file: it does not begin with BEGIN:VCALENDAR"),
        (b"<!DOCTYPE html><html>sign in</html>", "not an iCalendar file: it does not begin with BEGIN:VCALENDAR"),
        (b"BEGIN:VCARD\nEND:VCARD\n", "not an iCalendar file: it does not begin with BEGIN:VCALENDAR"),
        (b"\x00\x01\x02" * 1000, "not an iCalendar file: it does not begin with BEGIN:VCALENDAR"),
        # a truncated download must not look like a calendar with fewer events
        (calendar(GOOD).removesuffix(b"END:VCALENDAR\r\n"), "the file is incomplete: END:VCALENDAR is missing"),
        (calendar(GOOD)[:60], "the file is incomplete: END:VCALENDAR is missing"),
        (b"BEGIN:VCALENDAR\nEND:VEVENT\nEND:VCALENDAR\n", "the file is damaged: unexpected END:VEVENT"),
        (b"BEGIN:VCALENDAR\n" * 100_000, "the file is damaged: components are nested too deeply"),
    ],
)
def test_document_that_is_no_whole_calendar_is_refused(content: bytes, error: str) -> None:
    with pytest.raises(CalendarError, match=error):
        expansion(content)


def test_calendar_without_events_is_valid() -> None:
    assert expansion(calendar()).events == {"UTC": []}


@settings(max_examples=25, deadline=None)
@given(st.binary(max_size=300), st.data())
def test_random_damage_is_refused_or_ignored(junk: bytes, data: st.DataObject) -> None:
    content = (FOLDER / "google.ics").read_bytes()
    at = data.draw(st.integers(0, len(content)))
    with contextlib.suppress(CalendarError):
        found = expansion(content[:at] + junk + content[data.draw(st.integers(at, len(content))) :])
        assert found.known_from < found.known_until


# -- limits ------------------------------------------------------------------------------------------------------------


def test_horizon_is_shorter_if_there_are_too_many_events() -> None:
    start = datetime.datetime(2026, 12, 1, tzinfo=datetime.UTC)
    hourly = [start + datetime.timedelta(minutes=15 * index) for index in range(1344)]
    found = expansion(calendar(*(f"UID:{at}\nDTSTART:{at:%Y%m%dT%H%M%SZ}\nDURATION:PT5M" for at in hourly)))
    assert len(found.events["UTC"]) == MAX_EVENTS
    assert found.known_until == hourly[MAX_EVENTS].timestamp()


def test_calendar_with_too_many_events_at_once_is_refused() -> None:
    crowd = calendar(*(f"UID:{index}\nDTSTART:20261201T100000Z\nDURATION:PT1H" for index in range(MAX_EVENTS + 1)))
    with pytest.raises(CalendarError, match="more than 1000 events within 3 days"):
        expansion(crowd)


HOSTILE = [
    "FREQ=SECONDLY",
    "FREQ=MINUTELY;INTERVAL=1",
    "FREQ=DAILY;INTERVAL=0",
    "FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=31",
    "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=31",
]


@pytest.mark.slow
def test_hostile_rules_end_at_the_limit_and_do_not_hide_other_events() -> None:
    hostile = [f"UID:{rule}\nDTSTART:19700101T000000Z\nDURATION:PT1H\nRRULE:{rule}" for rule in HOSTILE]
    zone = "BEGIN:VTIMEZONE\nTZID:Evil\nBEGIN:STANDARD\nDTSTART:16010101T000000\nTZOFFSETFROM:+0000\nTZOFFSETTO:+0100\n"
    zone += "RRULE:FREQ=SECONDLY\nEND:STANDARD\nEND:VTIMEZONE\n"
    evil = "UID:zone\nDTSTART;TZID=Evil:20261203T100000\nDURATION:PT1H\nRRULE:FREQ=DAILY"
    found = expand_now(calendar(*hostile, evil, GOOD, zones=zone), NOW.timestamp(), ["UTC"])
    assert [event.summary for event in found.events["UTC"] if event.summary] == ["good"]
    assert sum(found.ignored.values()) >= len(HOSTILE)


def test_worker_ends_at_its_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "WORKER_SECONDS", 0.05)
    with pytest.raises(CalendarError, match="take too long"):
        expand_now(calendar(GOOD), NOW.timestamp(), ["UTC"])


async def test_worker_is_killed_at_its_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    processes: list[asyncio.subprocess.Process] = []
    start = asyncio.create_subprocess_exec

    async def start_and_note(*arguments: Any, **options: Any) -> asyncio.subprocess.Process:
        processes.append(await start(*arguments, **options))
        return processes[-1]

    monkeypatch.setattr(worker, "WORKER_SECONDS", 0.05)
    monkeypatch.setattr(asyncio, "create_subprocess_exec", start_and_note)
    with pytest.raises(CalendarError, match="take too long"):
        await expand(calendar(GOOD), NOW.timestamp(), ["UTC"])
    assert [process.returncode for process in processes] == [-signal.SIGKILL]


def test_worker_refuses_a_calendar_that_is_too_large() -> None:
    with pytest.raises(CalendarError, match=f"larger than {MAX_BYTES} bytes"):
        expand_now(b"x" * (MAX_BYTES + 1), NOW.timestamp(), ["UTC"])


def test_worker_that_cannot_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(CalendarError, match="cannot start a process to read it: No such file"):
        expand_now(calendar(GOOD), NOW.timestamp(), ["UTC"])


async def test_both_ways_to_expand_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    content = (FOLDER / "outlook.ics").read_bytes()
    began = time.monotonic()
    found = await expand(content, NOW.timestamp(), [BERLIN, "UTC"])
    assert found == expand_now(content, NOW.timestamp(), [BERLIN, "UTC"]) == expansion(content, (BERLIN, "UTC"))
    assert time.monotonic() - began < 2 * worker.WORKER_SECONDS


def test_worker_runs_in_a_sandbox_that_forbids_limits(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(resource, "setrlimit", refuse)
    monkeypatch.setattr(os, "nice", refuse)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(calendar(GOOD))))
    assert main([repr(NOW.timestamp()), "UTC"]) == 0
    sys.stdout.flush()
    found = msgspec.json.decode(capfdbinary.readouterr().out, type=Expansion)
    assert [event.summary for event in found.events["UTC"]] == ["good"]
