"""Livepeer's bitrates over time: totals that step every 50 s, and reported rates that freeze."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from exporter.http.client import UpstreamClient
from exporter.model import StreamReport
from exporter.platforms.livepeer import Livepeer
from exporter.platforms.livepeer.livepeer_settings import LivepeerSettings
from exporter.platforms.livepeer.stream_objects import Report
from exporter.platforms.rates import RateBook
from tests.fake_clock import FakeClock
from tests.platforms.studio_server import KEY, Studio, running_studio

STREAM = "de7818e7-610a-4057-8f6f-b785dc1e6f88"
RATE, REPORTED = 500_000.0, 777_777.0
POLL_SECONDS, FLUSH_SECONDS = 30, 50


class Broadcast:
    """A stream at a steady ``RATE``, as the API shows it: in steps of 50 s, the reported rate a noisy one."""

    def __init__(self, studio: Studio, clock: FakeClock) -> None:
        self._studio, self._clock = studio, clock
        self._began = clock.now()
        self.stalled_at: float | None = None

    def show(self) -> None:
        now = self._clock.now()
        flushed = (now - self._began) // FLUSH_SECONDS * FLUSH_SECONDS
        if self.stalled_at is not None:
            flushed = min(flushed, self.stalled_at - self._began)
        # the media server's heartbeat goes on through a stall
        row = {
            "id": STREAM, "isActive": True, "lastSeen": now * 1000, "ingestRate": REPORTED, "outgoingRate": REPORTED,
            "sourceBytes": 10**9 + RATE * flushed, "transcodedBytes": 2 * RATE * flushed,
        }  # fmt: skip
        self._studio.streams = [row]
        self._studio.sessions[STREAM] = [{**row, "id": "session", "createdAt": self._began * 1000}]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def studio(clock: FakeClock) -> AsyncIterator[Studio]:
    async with running_studio(clock) as running:
        yield running


async def watch(studio: Studio, clock: FakeClock, broadcast: Broadcast, polls: int, **own: Any) -> list[StreamReport]:
    settings = LivepeerSettings.model_validate(
        {"name": "studio", "url": studio.url, "auth": {"bearer_token": KEY}, "viewership": False, **own}
    )
    client = UpstreamClient.from_settings(settings, clock, lambda *_: None)
    platform = Livepeer(settings, client, clock)
    samples = []
    for number in range(polls):
        if number:
            clock.advance(POLL_SECONDS)
        broadcast.show()
        (sample,) = (await platform.poll(client.requests(settings.timeout))).streams
        samples.append(sample)
    await client.close()
    return samples


@pytest.mark.parametrize("own", [{}, {"streams": [{"id": STREAM}]}], ids=["listed", "session"])
async def test_the_reported_rate_until_the_window_is_filled(
    studio: Studio, clock: FakeClock, own: dict[str, Any]
) -> None:
    samples = await watch(studio, clock, Broadcast(studio, clock), 40, **own)
    rates = [sample.ingest_bitrate_bytes_per_second for sample in samples]
    filled = next(index for index, rate in enumerate(rates) if rate != REPORTED)
    assert filled * POLL_SECONDS >= 120
    assert rates[filled - 1] == REPORTED
    assert all(rate == pytest.approx(RATE, rel=0.35) for rate in rates[filled:]), "one step more or less in the window"
    transcoded = [sample.transcode_bitrate_bytes_per_second for sample in samples[filled:]]
    assert transcoded == [pytest.approx(2 * rate) for rate in rates[filled:] if rate is not None]


@pytest.mark.parametrize("own", [{}, {"streams": [{"id": STREAM}]}], ids=["listed", "session"])
async def test_a_stall_shows_as_zero_though_the_reported_rate_stays(
    studio: Studio, clock: FakeClock, own: dict[str, Any]
) -> None:
    broadcast = Broadcast(studio, clock)
    broadcast.stalled_at = clock.now() + 300
    samples = await watch(studio, clock, broadcast, 18, **own)
    rates = [sample.ingest_bitrate_bytes_per_second for sample in samples]
    assert {sample.live for sample in samples} == {True}
    first_zero = rates.index(0.0)
    assert 300 + 75 <= first_zero * POLL_SECONDS <= 300 + 75 + POLL_SECONDS
    assert set(rates[first_zero:]) == {0.0}
    assert samples[-1].transcode_bitrate_bytes_per_second == 0.0
    assert samples[-1].ingest_bytes == 10**9 + RATE * 300


async def test_a_stall_before_the_window_is_filled(studio: Studio, clock: FakeClock) -> None:
    broadcast = Broadcast(studio, clock)
    broadcast.stalled_at = clock.now()
    samples = await watch(studio, clock, broadcast, 5)
    rates = [sample.ingest_bitrate_bytes_per_second for sample in samples]
    assert rates == [REPORTED, REPORTED, REPORTED, 0.0, 0.0]


def sample(total: float | None, **facts: Any) -> StreamReport:
    return Report(id="a", ingest_bytes=total, ingest_bitrate_bytes_per_second=REPORTED, **{"live": True, **facts})


def rates(polls: list[tuple[StreamReport | None, bool]]) -> list[float | None]:
    """The ingest rates of polls 30 s apart; None for a poll that had no word of the stream, and whether it failed."""
    bitrates, found = RateBook(Livepeer.rates, POLL_SECONDS), []
    for number, (current, failed) in enumerate(polls):
        rated = None if current is None else bitrates.apply(current, 30.0 * number)
        bitrates.end_poll({"a"} if failed else set())
        found.append(rated.ingest_bitrate_bytes_per_second if rated else None)
    return found


def test_another_session_begins_anew() -> None:
    polls: list[tuple[StreamReport | None, bool]] = [
        (sample(30e6 * number, session="one" if number < 6 else "two"), False) for number in range(8)
    ]
    assert rates(polls) == [REPORTED] * 4 + [1e6] * 2 + [REPORTED] * 2


def test_a_poll_that_failed_for_the_stream_keeps_its_window() -> None:
    polls: list[tuple[StreamReport | None, bool]] = [
        (None if number == 5 else sample(30e6 * number), number == 5) for number in range(7)
    ]
    assert rates(polls) == [REPORTED] * 4 + [1e6, None, 1e6]


def test_a_stream_that_was_gone_begins_anew() -> None:
    polls: list[tuple[StreamReport | None, bool]] = [
        (sample(30e6 * number, live=number != 5), False) for number in range(8)
    ]
    assert rates(polls) == [REPORTED] * 4 + [1e6] + [REPORTED] * 3


def test_without_a_total_the_reported_rate_stands() -> None:
    polls: list[tuple[StreamReport | None, bool]] = [(sample(None), False) for _ in range(6)]
    assert rates(polls) == [REPORTED] * 6


def test_a_zero_that_is_reported_before_the_first_total_is_unknown() -> None:
    """A publish begins with 0 everywhere; that is no stall until the total has stood still for long enough."""
    bitrates = RateBook(Livepeer.rates, POLL_SECONDS)
    seen = []
    for at in (0.0, 30.0, 74.0, 76.0):
        sample = Report(id="a", session="s", live=True, ingest_bytes=0.0, ingest_bitrate_bytes_per_second=0.0)
        seen.append(bitrates.apply(sample, at).ingest_bitrate_bytes_per_second)
    assert seen == [None, None, None, 0.0]
