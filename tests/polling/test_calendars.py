"""Calendars in use: files and URLs, the last good copy, and what streams are expected to do."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import gzip
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from exporter.calendars.expansion import expand_calendar
from exporter.calendars.worker import MAX_BYTES, CalendarError, Event, Expansion
from exporter.config.calendars import CalendarSettings
from exporter.config.groups import GroupMember, GroupSettings
from exporter.config.secrets import Secret
from exporter.config.upstream import StreamSettings
from exporter.model import CalendarState
from exporter.polling import calendar_sources, calendars
from exporter.polling.calendars import EXPAND_AGAIN_SECONDS, RETRY_SECONDS, Calendars
from exporter.polling.expected_hours import ExpectedHours
from tests.fake_clock import FakeClock

START = datetime.datetime(2026, 12, 1, 12, tzinfo=datetime.UTC).timestamp()
HOUR = 3600.0
DEADLINE_SECONDS = 60.0
"""Generous limit that only a hanging test reaches."""
TOKEN = "private-0123456789abcdef"
PATH = f"/ical/someone%40example.org/{TOKEN}/basic.ics?key={TOKEN}%2f"


def ics(*starts: float, summary: str = "Final", hours: float = 1.0) -> bytes:
    """Return a calendar with events, given in hours from now."""
    lines = ["BEGIN:VCALENDAR"]
    for index, start in enumerate(starts):
        begin, end = (datetime.datetime.fromtimestamp(START + at * HOUR, datetime.UTC) for at in (start, start + hours))
        lines += ["BEGIN:VEVENT", f"UID:{index}", f"DTSTART:{begin:%Y%m%dT%H%M%SZ}", f"DTEND:{end:%Y%m%dT%H%M%SZ}"]
        lines += [f"SUMMARY:{summary}", "END:VEVENT"]
    return "\r\n".join([*lines, "END:VCALENDAR", ""]).encode()


def configured(**keys: Any) -> CalendarSettings:
    """Return settings; numbers are durations in seconds."""
    texts = {key: f"{round(value)}s" for key, value in keys.items() if isinstance(value, int | float)}
    return CalendarSettings(**{**keys, **texts})


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(START)


@pytest.fixture
async def used(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Calendars]:
    """The calendars in use; events are expanded in this process, which is faster."""

    async def expand(content: bytes, now: float, timezones: Collection[str]) -> Expansion:
        return expand_calendar(content, now, timezones, contextlib.nullcontext)

    monkeypatch.setattr(calendars, "expand", expand)
    made = Calendars(clock)
    yield made
    await made.close()


class Reads:
    """Counts the reads of files that have ended."""

    def __init__(self) -> None:
        self.count = 0

    async def another(self, clock: FakeClock) -> None:
        """Let time pass until a file has been read again, and the result has been used."""
        target = self.count + 1
        async with asyncio.timeout(DEADLINE_SECONDS):
            while self.count < target:
                clock.advance(5)
                await asyncio.sleep(0.005)
        # the reader goes on in the same step of the event loop, unless it expands the calendar in this process
        await asyncio.sleep(0.005)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    counted = Reads()
    read = calendar_sources.CalendarFile.read

    async def read_and_count(source: calendar_sources.CalendarFile) -> bytes | None:
        try:
            return await read(source)
        finally:
            counted.count += 1

    monkeypatch.setattr(calendar_sources.CalendarFile, "read", read_and_count)
    return counted


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not holds():  # noqa: ASYNC110 - a reader's task has no other sign
            await asyncio.sleep(0.005)


async def is_readable(used: Calendars, expected: bool) -> None:
    """Wait until the calendar of the upstream ``edge`` can be read, or can no longer be read."""
    await until(lambda: [state.readable for state in used.states("edge")] == [expected])


def hours_of(used: Calendars, settings: CalendarSettings) -> list[tuple[float, float]] | None:
    """Return the spans in hours from the start of the test."""
    known = used.spans(settings)
    return None if known is None else [((start - START) / HOUR, (end - START) / HOUR) for start, end in known.spans]


# -- files -------------------------------------------------------------------------------------------------------------


async def test_events_with_margins_that_match_the_summary_are_merged(used: Calendars, tmp_path: Path) -> None:
    path = tmp_path / "matches.ics"
    path.write_bytes(ics(1, 2.5, 10, summary="The FINAL match"))
    plain = configured(calendar_file=path)
    wide = configured(calendar_file=path, summary="*final*", before=HOUR / 2, after=HOUR / 4)
    other = configured(calendar_file=path, summary="final")
    used.use("edge", (plain, wide, other))
    await is_readable(used, True)
    assert hours_of(used, plain) == [(1, 2), (2.5, 3.5), (10, 11)]
    assert hours_of(used, wide) == [(0.5, 3.75), (9.5, 11.25)]
    assert hours_of(used, other) == []
    assert used.states("edge") == (CalendarState(name="matches.ics", readable=True, read_at=START),)
    assert used.states("other") == ()


async def test_last_good_copy_stays_in_use_while_a_file_cannot_be_used(
    used: Calendars, clock: FakeClock, tmp_path: Path, reads: Reads
) -> None:
    path = tmp_path / "matches.ics"
    path.write_bytes(ics(1))
    settings = configured(calendar_file=path, refresh=60)
    with structlog.testing.capture_logs() as logs:
        used.use("edge", (settings,))
        await is_readable(used, True)
        for damage in (path.unlink, lambda: path.write_bytes(b"half a"), lambda: None):
            damage()
            await reads.another(clock)
            await is_readable(used, False)
            assert hours_of(used, settings) == [(1, 2)]
            assert used.states("edge")[0].read_at == START
        path.write_bytes(ics(4))
        await reads.another(clock)
        await is_readable(used, True)
    assert hours_of(used, settings) == [(4, 5)]
    assert [(entry["event"], entry.get("error"), entry.get("using")) for entry in logs] == [
        ("calendar cannot be read", "No such file or directory", "its last good copy"),
        ("calendar can be read again", None, None),
    ]


async def test_unusable_file_that_does_not_change_stays_unreadable(
    used: Calendars, clock: FakeClock, tmp_path: Path, reads: Reads
) -> None:
    path = tmp_path / "matches.ics"
    path.write_bytes(b"half a calendar")
    settings = configured(calendar_file=path, refresh=60)
    used.use("edge", (settings,))
    await is_readable(used, False)
    for _ in range(2):
        await reads.another(clock)
    assert [state.readable for state in used.states("edge")] == [False]
    assert used.spans(settings) is None


async def test_one_reader_serves_all_users_of_a_file_and_survives_other_settings(
    used: Calendars, clock: FakeClock, tmp_path: Path
) -> None:
    path = tmp_path / "matches.ics"
    path.write_bytes(ics(1))
    settings = configured(calendar_file=path)
    used.use("edge", (settings,))
    await is_readable(used, True)
    path.unlink()
    # a reload with other settings, and another upstream: the copy is still there
    changed = configured(calendar_file=path, refresh=300, before=60)
    used.use("edge", (changed,))
    used.use("origin", (settings,))
    used.retain(["edge", "origin"])
    assert used.spans(changed) is not None
    assert used.spans(settings) is not None
    assert [state.name for state in used.states("origin")] == ["matches.ics"]
    used.retain(["origin"])
    assert used.spans(settings) is not None
    used.retain([])
    assert used.spans(settings) is None


async def test_another_time_zone_is_expanded_from_the_copy(used: Calendars, clock: FakeClock, tmp_path: Path) -> None:
    path = tmp_path / "days.ics"
    path.write_bytes(b"BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART;VALUE=DATE:20261202\nEND:VEVENT\nEND:VCALENDAR\n")
    used.use("edge", (configured(calendar_file=path),))
    await is_readable(used, True)
    path.unlink()
    tokyo = configured(calendar_file=path, timezone="Asia/Tokyo")
    used.use("edge", (tokyo,))
    clock.advance(5)
    await until(lambda: used.spans(tokyo))
    assert hours_of(used, tokyo) == [(3, 27)]


async def test_calendars_with_the_same_name_share_a_row(used: Calendars, tmp_path: Path) -> None:
    paths = [tmp_path / folder / "matches.ics" for folder in "ab"]
    for path in paths:
        path.parent.mkdir()
    paths[0].write_bytes(ics(1))
    used.use("edge", tuple(configured(calendar_file=path) for path in paths))
    await is_readable(used, False)


async def test_calendar_of_a_group_counts_for_the_upstreams_of_its_streams(used: Calendars, tmp_path: Path) -> None:
    path = tmp_path / "group.ics"
    path.write_bytes(ics(1))
    members = tuple(GroupMember(upstream=name, stream="main") for name in ("edge", "origin"))
    settings = configured(calendar_file=path)
    used.use_for_groups((GroupSettings(name="final", streams=members, expected=settings),))
    await is_readable(used, True)
    assert used.states("edge") == used.states("origin") != ()
    assert used.states("elsewhere") == ()
    assert hours_of(used, settings) == [(1, 2)]
    used.use_for_groups(())
    assert used.states("edge") == ()


# -- time passes -------------------------------------------------------------------------------------------------------


async def test_copy_is_expanded_again_as_time_passes_and_after_the_clock_is_set(
    used: Calendars, clock: FakeClock, tmp_path: Path
) -> None:
    path = tmp_path / "matches.ics"
    path.write_bytes(ics(1, 14 * 24 + 1))
    settings = configured(calendar_file=path, refresh=86_400)
    used.use("edge", (settings,))
    await is_readable(used, True)
    path.unlink()
    assert hours_of(used, settings) == [(1, 2)]
    clock.advance(EXPAND_AGAIN_SECONDS)
    await until(lambda: hours_of(used, settings) == [(1, 2), (337, 338)])
    # far ahead and back again
    for seconds, expected in ((10 * 86_400, [(337, 338)]), (-10 * 86_400, [(1, 2), (337, 338)])):
        clock.step(seconds)
        clock.advance(5)
        await until(lambda spans=expected: hours_of(used, settings) == spans)  # type: ignore[misc]
    assert [state.readable for state in used.states("edge")] == [True]


async def test_failed_expansion_makes_the_calendar_unreadable(
    used: Calendars, clock: FakeClock, reads: Reads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "matches.ics"
    path.write_bytes(ics(1))
    settings = configured(calendar_file=path)
    used.use("edge", (settings,))
    await is_readable(used, True)

    attempts = 0

    async def fail(*_: Any) -> Expansion:
        nonlocal attempts
        attempts += 1
        raise CalendarError("no")

    with monkeypatch.context() as patched:
        patched.setattr(calendars, "expand", fail)
        clock.advance(EXPAND_AGAIN_SECONDS)
        await is_readable(used, False)
        assert hours_of(used, settings) == [(1, 2)]
        assert attempts == 1
        started = clock.monotonic()
        for _ in range(8):
            await reads.another(clock)
        # with each read, and at an interval between reads
        assert attempts <= 9 + (clock.monotonic() - started) / calendars.EXPAND_RETRY_SECONDS
    path.write_bytes(ics(3))
    await reads.another(clock)
    await is_readable(used, True)
    assert hours_of(used, settings) == [(3, 4)]


async def test_copy_is_expanded_again_while_its_source_is_gone(
    used: Calendars, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "matches.ics"
    path.write_bytes(ics(1, 14 * 24 + 1))
    settings = configured(calendar_file=path)
    used.use("edge", (settings,))
    await is_readable(used, True)
    path.unlink()

    async def fail(*_: Any) -> Expansion:
        raise CalendarError("no")

    with monkeypatch.context() as patched:
        patched.setattr(calendars, "expand", fail)
        clock.advance(EXPAND_AGAIN_SECONDS)
        await is_readable(used, False)
    async with asyncio.timeout(DEADLINE_SECONDS):
        while hours_of(used, settings) != [(1, 2), (337, 338)]:
            clock.advance(60)
            await asyncio.sleep(0.005)
    assert [state.readable for state in used.states("edge")] == [False]


# -- URLs --------------------------------------------------------------------------------------------------------------


class CalendarServer:
    """A server of one calendar, whose answer the test sets."""

    def __init__(self) -> None:
        self.answer: Callable[[web.Request], Any] = lambda _: self.calendar()
        self.content = ics(1)
        self.requests: list[dict[str, str]] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        assert request.raw_path == PATH
        self.requests.append(dict(request.headers))
        response = self.answer(request)
        return response if isinstance(response, web.StreamResponse) else await response

    def calendar(self) -> web.Response:
        return web.Response(body=self.content, content_type="text/calendar")


@pytest.fixture
async def served() -> AsyncIterator[tuple[CalendarServer, CalendarSettings]]:
    server = CalendarServer()
    app = web.Application()
    app.router.add_get("/ical/{path:.*}", server.handle)
    async with TestServer(app) as listening:
        url = f"{listening.make_url('/')}{PATH.removeprefix('/')}"
        yield server, configured(calendar_url=Secret.inline(url), refresh=60)


async def slow(_: web.Request) -> web.Response:
    await asyncio.sleep(DEADLINE_SECONDS)
    return web.Response()


ANSWERS: dict[str, tuple[Callable[[web.Request], Any], str]] = {
    "404": (lambda _: web.Response(status=404, text="<html>"), "status 404"),
    "403": (lambda _: web.Response(status=403), "status 403"),
    "500": (lambda _: web.Response(status=500), "status 500"),
    "304 that was not asked for": (lambda _: web.Response(status=304), "status 304; redirects are not followed"),
    "html": (
        lambda _: web.Response(text="<!DOCTYPE html><html>Sign in</html>", content_type="text/html"),
        "not an iCalendar file: it does not begin with BEGIN:VCALENDAR",
    ),
    "redirect": (
        lambda _: web.Response(status=302, headers={"Location": f"https://login.example/{TOKEN}"}),
        "status 302 to login.example; redirects are not followed",
    ),
    "huge": (lambda _: web.Response(body=b"x" * (MAX_BYTES + 1)), f"it is larger than {MAX_BYTES} bytes"),
    "gzip bomb": (
        lambda _: web.Response(body=gzip.compress(b"x" * (MAX_BYTES + 1)), headers={"Content-Encoding": "gzip"}),
        f"it is larger than {MAX_BYTES} bytes",
    ),
    "truncated": (lambda _: web.Response(body=ics(1)[:60]), "the file is incomplete: END:VCALENDAR is missing"),
    "slow": (slow, "timed out"),
}


@pytest.mark.parametrize("kind", ANSWERS)
async def test_unusable_answer_makes_the_expectation_unknown_and_shows_no_token(
    used: Calendars,
    clock: FakeClock,
    served: tuple[CalendarServer, CalendarSettings],
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(calendar_sources, "TIMEOUT_SECONDS", 20.0 if kind != "slow" else 0.3)
    server, settings = served
    server.answer, error = ANSWERS[kind]
    with structlog.testing.capture_logs() as logs:
        used.use("edge", (settings,))
        if kind == "500":
            # it is retried after a short time
            await until(lambda: len(server.requests) == 1)
            while not used.states("edge"):
                clock.advance(0.2)
                await asyncio.sleep(0.005)
        await is_readable(used, False)
    assert used.spans(settings) is None
    assert used.states("edge") == (CalendarState(name="127.0.0.1", readable=False, read_at=None),)
    shown = [entry for entry in logs if entry["log_level"] != "debug"]
    assert [(entry["event"], entry["error"]) for entry in shown] == [("calendar cannot be read", error)]
    assert TOKEN not in f"{logs} {used.states('edge')} {settings!r} {capsys.readouterr()}"


async def test_calendar_that_is_gone_for_a_while_keeps_its_last_good_copy(
    used: Calendars, clock: FakeClock, served: tuple[CalendarServer, CalendarSettings]
) -> None:
    server, settings = served
    used.use("edge", (settings,))
    await is_readable(used, True)
    server.answer = ANSWERS["404"][0]
    clock.advance(60)
    await is_readable(used, False)
    assert hours_of(used, settings) == [(1, 2)]
    server.answer, server.content = (lambda _: server.calendar()), ics(3)
    clock.advance(RETRY_SECONDS)
    await is_readable(used, True)
    assert hours_of(used, settings) == [(3, 4)]


async def test_unchanged_calendar_is_not_sent_again(
    used: Calendars, clock: FakeClock, served: tuple[CalendarServer, CalendarSettings]
) -> None:
    server, settings = served

    def answer(request: web.Request) -> web.Response:
        if request.headers.get("If-None-Match") == '"1"':
            return web.Response(status=304)
        return web.Response(body=server.content, headers={"ETag": '"1"', "Last-Modified": "yesterday"})

    server.answer = answer
    used.use("edge", (settings,))
    await is_readable(used, True)
    version = used.version
    clock.advance(60)
    await until(lambda: used.states("edge")[0].read_at == START + 60)
    assert [request.get("If-None-Match") for request in server.requests] == [None, '"1"']
    assert server.requests[1]["If-Modified-Since"] == "yesterday"
    assert server.requests[0]["Accept"].startswith("text/calendar")
    assert used.version == version


async def test_compressed_calendar_is_read(used: Calendars, served: tuple[CalendarServer, CalendarSettings]) -> None:
    server, settings = served
    server.answer = lambda _: web.Response(body=gzip.compress(ics(2)), headers={"Content-Encoding": "gzip"})
    used.use("edge", (settings,))
    await is_readable(used, True)
    assert hours_of(used, settings) == [(2, 3)]


async def test_url_in_a_file_is_read_again_when_it_changes(
    used: Calendars, clock: FakeClock, served: tuple[CalendarServer, CalendarSettings], tmp_path: Path
) -> None:
    _, good = served
    assert good.calendar_url is not None
    path = tmp_path / "url"
    for number, content in enumerate(["https://nowhere.invalid/x", good.calendar_url.get(), "no url", ""]):
        path.write_text(content)
        if number == 0:
            settings = configured(calendar_url=Secret.from_file(path), refresh=60)
            used.use("edge", (settings,))
        else:
            clock.advance(RETRY_SECONDS * 2)
        await is_readable(used, number == 1)
    assert hours_of(used, settings) == [(1, 2)]


# -- what is expected --------------------------------------------------------------------------------------------------


async def test_stream_is_expected_during_events_after_its_grace(
    used: Calendars, clock: FakeClock, tmp_path: Path
) -> None:
    path = tmp_path / "matches.ics"
    path.write_bytes(ics(1, 2, 5))
    settings = configured(calendar_file=path, refresh=86_400)
    stream = StreamSettings.model_validate({"expected": settings, "start_grace": "10m"})
    hours = ExpectedHours(stream, clock.instant(), used)
    assert hours.is_expected(clock.instant()) is None
    used.use("edge", (settings,))
    await is_readable(used, True)
    assert hours.has_news
    timeline = []
    for minutes in (0, 59, 60, 69, 70, 119, 120, 125, 179, 180, 299, 300, 310, 360):
        clock.advance(START + minutes * 60 - clock.now())
        timeline.append(hours.is_expected(clock.instant()))
    # the second event follows the first one, so the grace applies once
    assert timeline == [False, False, None, None, True, True, True, True, True, False, False, None, True, False]


async def test_nothing_is_known_while_an_unreadable_event_may_be(
    clock: FakeClock, used: Calendars, tmp_path: Path
) -> None:
    path = tmp_path / "matches.ics"
    broken = b"BEGIN:VEVENT\r\nDTSTART:20261205T990000Z\r\nEND:VEVENT\r\n"
    path.write_bytes(ics(1, 4 * 24).replace(b"END:VCALENDAR", broken + b"END:VCALENDAR"))
    settings = configured(calendar_file=path, refresh=86_400)
    used.use("edge", (settings,))
    await is_readable(used, True)
    hours = ExpectedHours(StreamSettings.model_validate({"expected": settings}), clock.instant(), used)
    answers: list[bool | None] = []
    for _ in range(8 * 24):
        clock.advance(HOUR / 2)
        answer = hours.is_expected(clock.instant())
        if answers[-1:] != [answer]:
            answers.append(answer)
        clock.advance(HOUR / 2)
    assert answers == [False, True, False, None, True, None, False]


async def test_nothing_is_expected_or_not_expected_beyond_the_horizon(clock: FakeClock, used: Calendars) -> None:
    class Fixed(Calendars):
        def spans(self, calendar: CalendarSettings) -> calendars.KnownSpans:
            return calendars.KnownSpans(START - HOUR, START + 2 * HOUR, ((START + HOUR, START + 9 * HOUR),))

    settings = StreamSettings(expected=configured(calendar_file=Path("x.ics")))
    hours = ExpectedHours(settings, clock.instant(), Fixed(clock))
    clock.step(-2 * HOUR)
    answers = []
    for _ in range(6):
        answers.append(hours.is_expected(clock.instant()))
        clock.step(HOUR)
    assert answers == [None, False, False, True, None, None]


@given(
    st.lists(st.tuples(st.integers(-100, 100), st.integers(1, 50)), max_size=8),
    st.integers(0, 24),
    st.integers(0, 24),
    st.integers(-150, 150),
)
def test_spans_with_margins_cover_exactly_the_widened_events(
    found: list[tuple[int, int]], before: int, after: int, at: int
) -> None:
    settings = configured(calendar_file=Path("x.ics"), before=before * HOUR, after=after * HOUR)
    events = [Event(start * HOUR, (start + hours) * HOUR, "") for start, hours in found]
    known = calendars.known_spans(Expansion(-1000 * HOUR, 1000 * HOUR, {"UTC": events}, {}, [], []), settings)
    moment = (at + 0.5) * HOUR
    is_inside = any(event.start - before * HOUR <= moment < event.end + after * HOUR for event in events)
    assert any(start <= moment < end for start, end in known.spans) == is_inside
    edges = [edge for span in known.spans for edge in span]
    assert edges == sorted(set(edges))
    assert (known.since, known.until) == ((after - 1000) * HOUR, (1000 - before) * HOUR)
