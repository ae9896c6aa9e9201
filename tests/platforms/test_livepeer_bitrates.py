"""Livepeer's bitrates over time: totals that step every 50 s, and reported rates that freeze."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from exporter.http.client import UpstreamClient
from exporter.model import StreamReport
from exporter.platforms.livepeer import Livepeer, LivepeerSettings
from exporter.platforms.livepeer.stream_objects import Report
from exporter.platforms.movement import MovementTracker
from tests.fake_clock import FakeClock
from tests.platforms.studio_server import KEY, Studio, running_studio

STREAM = "de7818e7-610a-4057-8f6f-b785dc1e6f88"
RATE, REPORTED = 500_000.0, 777_777.0
POLL_SECONDS, FLUSH_SECONDS = 30, 50


class SteadyBroadcast:
    """A stream at a steady ``RATE``, as the API reports it: totals in steps of 50 s, and a wrong rate."""

    def __init__(self, studio: Studio, clock: FakeClock) -> None:
        self._studio, self._clock = studio, clock
        self._started_at = clock.now()
        self.stalled_at: float | None = None

    def update_studio(self) -> None:
        now = self._clock.now()
        flushed = (now - self._started_at) // FLUSH_SECONDS * FLUSH_SECONDS
        if self.stalled_at is not None:
            flushed = min(flushed, self.stalled_at - self._started_at)
        # the media server's heartbeat goes on through a stall
        row = {
            "id": STREAM, "isActive": True, "lastSeen": now * 1000, "ingestRate": REPORTED, "outgoingRate": REPORTED,
            "sourceBytes": 10**9 + RATE * flushed, "transcodedBytes": 2 * RATE * flushed,
        }  # fmt: skip
        self._studio.streams = [row]
        self._studio.sessions[STREAM] = [{**row, "id": "session", "createdAt": self._started_at * 1000}]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def studio(clock: FakeClock) -> AsyncIterator[Studio]:
    async with running_studio(clock) as running:
        yield running


async def poll_repeatedly(
    studio: Studio, clock: FakeClock, broadcast: SteadyBroadcast, polls: int, **own: Any
) -> list[StreamReport]:
    settings = LivepeerSettings.model_validate(
        {"name": "studio", "url": studio.url, "auth": {"bearer_token": KEY}, "viewership": False, **own}
    )
    client = UpstreamClient.from_settings(settings, clock, lambda *_: None)
    platform = Livepeer(settings, client, clock)
    reports = []
    for number in range(polls):
        if number:
            clock.advance(POLL_SECONDS)
        broadcast.update_studio()
        (report,) = (await platform.poll(client.requests(settings.timeout))).streams
        reports.append(report)
    await client.close()
    return reports


@pytest.mark.parametrize("own", [{}, {"streams": [{"id": STREAM}]}], ids=["listed", "session"])
async def test_reported_rate_counts_until_the_window_is_filled(
    studio: Studio, clock: FakeClock, own: dict[str, Any]
) -> None:
    reports = await poll_repeatedly(studio, clock, SteadyBroadcast(studio, clock), 40, **own)
    rates = [report.ingest_bitrate_bytes_per_second for report in reports]
    filled = next(index for index, rate in enumerate(rates) if rate != REPORTED)
    assert filled * POLL_SECONDS >= 120
    assert rates[filled - 1] == REPORTED
    assert all(rate == pytest.approx(RATE, rel=0.35) for rate in rates[filled:]), "one step more or less in the window"
    transcoded = [report.transcode_bitrate_bytes_per_second for report in reports[filled:]]
    assert transcoded == [pytest.approx(2 * rate) for rate in rates[filled:] if rate is not None]


@pytest.mark.parametrize("own", [{}, {"streams": [{"id": STREAM}]}], ids=["listed", "session"])
async def test_stall_is_zero_although_the_reported_rate_stays(
    studio: Studio, clock: FakeClock, own: dict[str, Any]
) -> None:
    broadcast = SteadyBroadcast(studio, clock)
    broadcast.stalled_at = clock.now() + 300
    reports = await poll_repeatedly(studio, clock, broadcast, 18, **own)
    rates = [report.ingest_bitrate_bytes_per_second for report in reports]
    assert {report.live for report in reports} == {True}
    first_zero = rates.index(0.0)
    assert 300 + 75 <= first_zero * POLL_SECONDS <= 300 + 75 + POLL_SECONDS
    assert set(rates[first_zero:]) == {0.0}
    assert reports[-1].transcode_bitrate_bytes_per_second == 0.0
    assert reports[-1].ingest_bytes == 10**9 + RATE * 300


async def test_stall_before_the_window_is_filled_is_zero(studio: Studio, clock: FakeClock) -> None:
    broadcast = SteadyBroadcast(studio, clock)
    broadcast.stalled_at = clock.now()
    reports = await poll_repeatedly(studio, clock, broadcast, 8)
    rates = [report.ingest_bitrate_bytes_per_second for report in reports]
    assert rates == [REPORTED] * 6 + [0.0, 0.0]


def make_report(total: float | None, **facts: Any) -> StreamReport:
    return Report(id="a", ingest_bytes=total, ingest_bitrate_bytes_per_second=REPORTED, **{"live": True, **facts})


def rates(polls: list[tuple[StreamReport | None, bool]]) -> list[float | None]:
    """Return the ingest rates of polls 30 s apart: a poll is its report (None: unchanged) and whether it failed."""
    tracker, found = MovementTracker(Livepeer.rates, POLL_SECONDS), []
    for number, (current, failed) in enumerate(polls):
        tracker.start_poll()
        rated = None if current is None else tracker.judge(current, 30.0 * number, is_scheduled=True)
        if failed:
            tracker.keep("a")
        found.append(rated.ingest_bitrate_bytes_per_second if rated else None)
    return found


def test_new_session_restarts_the_rate() -> None:
    polls: list[tuple[StreamReport | None, bool]] = [
        (make_report(30e6 * number, session="one" if number < 6 else "two"), False) for number in range(8)
    ]
    assert rates(polls) == [REPORTED] * 4 + [1e6] * 2 + [REPORTED] * 2


def test_failed_poll_keeps_the_rates_window() -> None:
    polls: list[tuple[StreamReport | None, bool]] = [
        (None if number == 5 else make_report(30e6 * number), number == 5) for number in range(7)
    ]
    assert rates(polls) == [REPORTED] * 4 + [1e6, None, 1e6]


def test_stream_that_returns_restarts_the_rate() -> None:
    polls: list[tuple[StreamReport | None, bool]] = [
        (make_report(30e6 * number, live=number != 5), False) for number in range(8)
    ]
    assert rates(polls) == [REPORTED] * 4 + [1e6] + [REPORTED] * 3


def test_reported_rate_counts_without_a_total() -> None:
    polls: list[tuple[StreamReport | None, bool]] = [(make_report(None), False) for _ in range(6)]
    assert rates(polls) == [REPORTED] * 6


def test_reported_zero_before_the_first_bytes_is_unknown() -> None:
    """A publish starts with 0 everywhere; that is not a stall until the total has not moved for long enough."""
    tracker = MovementTracker(Livepeer.rates, POLL_SECONDS)
    seen = []
    for at in (0.0, 30.0, 179.0, 181.0):
        report = Report(id="a", session="s", live=True, ingest_bytes=0.0, ingest_bitrate_bytes_per_second=0.0)
        seen.append(tracker.judge(report, at, is_scheduled=True).ingest_bitrate_bytes_per_second)
    assert seen == [None, None, None, 0.0]
