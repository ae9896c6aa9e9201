"""Movement outranks flags, clocks and rates: what moves is live, what does not is trusted only for a while."""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

import pytest

from exporter.platforms.testing import START, RecordedResponse
from tests.evidence.evidence_harness import (
    LIVEPEER,
    LIVEPEER_KEY,
    NMS,
    RATES,
    STORM,
    WAVE,
    EvidenceHarness,
    Served,
    evidence_harness,
    json_of,
    livepeer_session,
    livepeer_stream,
    nms4,
    nms4_stream,
    storm,
    storm_stream,
    wave,
    wave_session,
)

# -- the platform's clock ----------------------------------------------------------------------------------------------

WAYS: dict[str, dict[str, Any]] = {
    "list": {"discover": True},
    "list and sessions": {"discover": True, "streams": [{"id": "s1", "expected": True}]},
    "sessions": {"streams": [{"id": "s1", "expected": True}]},
    "single session": {"sessions": [{"id": "e1", "name": "s1", "expected": True}]},
}
"""The ways in which Livepeer reports whether a stream is live."""


async def poll_livepeer(harness: EvidenceHarness, *, date: float, seen: float) -> Served:
    """Poll while the ``Date`` header is ``date`` seconds ahead of the exporter's clock, with this heartbeat."""

    def dated(document: Any) -> RecordedResponse:
        moment = formatdate(harness.clock.now() + date, usegmt=True)
        return RecordedResponse(json_of(document).body, headers={"Date": moment})

    total = int(1_000_000 + 300_000 * max(0.0, seen - START))
    session = livepeer_session(seen=seen, sourceBytes=total)
    harness.responses |= {
        "GET /stream": dated([livepeer_stream(seen=seen, sourceBytes=total)]),
        "GET /stream/s1/sessions": dated([session]),
        "GET /session/e1": dated(session),
        "GET /data/views/now": dated([]),
    }
    return await harness.poll()


@pytest.mark.parametrize("date", [300.0, 3600.0, -300.0, -3600.0])
@pytest.mark.parametrize("way", WAYS)
async def test_advancing_heartbeat_is_live_whatever_the_clocks_show(way: str, date: float) -> None:
    settings: dict[str, Any] = {"interval": "15s", **WAYS[way], **LIVEPEER_KEY}
    async with evidence_harness(LIVEPEER, {}, **settings) as harness:
        statuses = []
        for index in range(20):
            # the platform updates it every 30 s
            seen = START + 30 * (index // 2) - 10
            statuses.append((await poll_livepeer(harness, date=date, seen=seen)).status("s1"))
        first = "unknown" if date > 0 else "live"
        assert statuses[0] == first, "at the first poll there is only the platform's own clock"
        assert set(statuses[2:]) == {"live"}
        assert harness.pages() == set()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("date", "ahead"),
    [(-300.0, 0.0), (0.0, 3600.0), (300.0, 3600.0), (-300.0, 3600.0), (0.0, 86_400.0)],
)
async def test_stopped_heartbeat_is_off_air_after_90_s(way: str, date: float, ahead: float) -> None:
    settings: dict[str, Any] = {"interval": "15s", **WAYS[way], **LIVEPEER_KEY}
    async with evidence_harness(LIVEPEER, {}, **settings) as harness:
        lives = [(await poll_livepeer(harness, date=date, seen=START + ahead)).status("s1") for _ in range(9)]
    assert lives[0] == "live"
    assert lives[-1] in ("idle", "ended"), "90 s later"


@pytest.mark.parametrize("way", WAYS)
async def test_old_heartbeat_at_the_first_poll_is_unknown(way: str) -> None:
    settings: dict[str, Any] = {"interval": "15s", **WAYS[way], **LIVEPEER_KEY}
    async with evidence_harness(LIVEPEER, {}, **settings) as harness:
        for _ in range(6):
            served = await poll_livepeer(harness, date=0.0, seen=START - 3600)
            assert served.status("s1") == "unknown"
        assert harness.pages() == set()
        assert (await poll_livepeer(harness, date=0.0, seen=START - 3500)).status("s1") == "live"


# -- rates beside their totals -----------------------------------------------------------------------------------------

INTERVAL = 15.0
TOTALS = {
    STORM: lambda key, total: storm_stream(key, inTotalBytes=total),
    WAVE: lambda key, total: wave_session(key, network={"bytesReceived": total}),
    NMS: lambda key, total: nms4_stream(key, publisher={"inBytes": total}),
}
RESPONSES = {STORM: storm, WAVE: wave, NMS: nms4}
LABELS = {STORM: "a/{}", WAVE: "{}", NMS: "live/{}"}
REPORTED = {STORM: 300_000.0, WAVE: 300_000.0, NMS: 300_000.0}
MOVING = {STORM: 0.88, WAVE: 1.0, NMS: 1.0}
"""The score while the total moves."""


def settings_of(platform: str, *keys: str) -> dict[str, Any]:
    own = {WAVE: {"sessions": list(keys), "auth": {"bearer_token": "t"}}}.get(platform, {})
    return {"interval": f"{INTERVAL:g}s", **own}


async def poll_totals(harness: EvidenceHarness, platform: str, **totals: int) -> Served:
    """Poll live streams with a constant reported bitrate and these ingest totals."""
    harness.responses.update(RESPONSES[platform](*[TOTALS[platform](key, total) for key, total in totals.items()]))
    return await harness.poll()


@pytest.mark.parametrize("platform", TOTALS)
async def test_rate_is_0_once_its_total_is_stalled(platform: str) -> None:
    label = LABELS[platform].format("k")
    async with evidence_harness(platform, {}, **settings_of(platform, "k")) as harness:
        total = 1_000_000
        for _ in range(8):
            total += 4_500_000
            served = await poll_totals(harness, platform, k=total)
        assert served.bitrate(label) == pytest.approx(300_000)
        assert served.score(label) == pytest.approx(MOVING[platform])
        for _ in range(2):
            served = await poll_totals(harness, platform, k=total)
            assert served.bitrate(label) == pytest.approx(300_000), "the last value is kept until the stall time"
        served = await poll_totals(harness, platform, k=total)
        assert served.bitrate(label) == 0, "three polls and 45 s"
        assert "silent" in served.reasons(label)
        assert served.score(label) == (None if platform == STORM else 0.0)
        for _ in range(20):
            served = await poll_totals(harness, platform, k=total)
            assert (served.bitrate(label), served.status(label)) == (0, "live")
        served = await poll_totals(harness, platform, k=total + 4_500_000)
        served = await poll_totals(harness, platform, k=total + 9_000_000)
        assert served.bitrate(label) == pytest.approx(300_000)
        assert served.score(label) == pytest.approx(MOVING[platform])
        assert "silent" not in served.reasons(label)


@pytest.mark.parametrize("pause", [2, 3, 4])
async def test_total_updated_in_steps_is_not_stalled_between_them(pause: int) -> None:
    async with evidence_harness(STORM, {}, **settings_of(STORM)) as harness:
        for index in range(12 * pause):
            served = await poll_totals(harness, STORM, k=1_000_000 + 4_500_000 * (index // pause))
            if index > 2 * pause:
                assert served.bitrate("a/k") == pytest.approx(300_000)
        last = 1_000_000 + 4_500_000 * 11
        polls = 0
        while served.bitrate("a/k"):
            served = await poll_totals(harness, STORM, k=last)
            polls += 1
    assert 45 <= (polls + pause - 1) * INTERVAL <= 180
    assert (polls + pause - 1) >= 3 * pause


@pytest.mark.parametrize("platform", [STORM, WAVE])
async def test_total_that_never_moved_is_stalled_after_three_minutes(platform: str) -> None:
    label = LABELS[platform].format("k")
    async with evidence_harness(platform, {}, **settings_of(platform, "k")) as harness:
        for index in range(16):
            served = await poll_totals(harness, platform, k=1_000_000)
            stalled = index * INTERVAL >= 180
            assert served.bitrate(label) == (0 if stalled else pytest.approx(300_000))
            assert (served.score(label) or 0) == (0 if stalled else pytest.approx(MOVING[platform]))


async def test_polls_in_quick_succession_do_not_prove_a_stall() -> None:
    async with evidence_harness(STORM, {}, **settings_of(STORM)) as harness:
        for index in range(4):
            await poll_totals(harness, STORM, k=1_000_000 + 4_500_000 * index)
        for _ in range(20):
            served = await harness.poll(after=1.0)
        assert served.bitrate("a/k") == pytest.approx(300_000)


@pytest.mark.parametrize("platform", TOTALS)
async def test_rates_are_withdrawn_if_all_statistics_freeze_at_once(platform: str) -> None:
    keys = ("k1", "k2", "k3")
    labels = [LABELS[platform].format(key) for key in keys]
    async with evidence_harness(platform, {}, **settings_of(platform, *keys)) as harness:
        totals = dict.fromkeys(keys, 1_000_000)
        for _ in range(8):
            totals = {key: total + 4_500_000 for key, total in totals.items()}
            served = await poll_totals(harness, platform, **totals)
        assert [served.score(label) for label in labels] == [pytest.approx(MOVING[platform])] * 3
        for _ in range(15):
            served = await poll_totals(harness, platform, **totals)
        for label in labels:
            assert served.status(label) == "live"
            assert [family for family in RATES if served.value(family, label) is not None] == []
            assert served.score(label) is None, "all other values are as old"
            assert "silent" not in served.reasons(label)
        assert harness.pages() == set()
        totals["k1"] += 4_500_000
        served = await poll_totals(harness, platform, **totals)
        assert served.bitrate(labels[1]) == 0, "one stream moves again, so the others are stalled"


@pytest.mark.parametrize("platform", TOTALS)
async def test_one_stalled_stream_of_three_is_silent(platform: str) -> None:
    keys = ("k1", "k2", "k3")
    labels = [LABELS[platform].format(key) for key in keys]
    async with evidence_harness(platform, {}, **settings_of(platform, *keys)) as harness:
        for index in range(16):
            moving = 1_000_000 + 4_500_000 * index
            served = await poll_totals(harness, platform, k1=moving, k2=moving, k3=min(moving, 20_000_000))
    assert [served.bitrate(label) for label in labels] == [pytest.approx(300_000), pytest.approx(300_000), 0]
    assert ["silent" in served.reasons(label) for label in labels] == [False, False, True]
    assert served.value(FROZEN) == 0


FROZEN = "stream_upstream_statistics_frozen"


async def poll_storm(harness: EvidenceHarness, *totals: int | None) -> float | None:
    """Poll live streams with these ingest totals, and return whether their statistics are frozen."""
    rows = [storm_stream(f"k{index}", inTotalBytes=total) for index, total in enumerate(totals)]
    harness.responses.update(storm(*rows))
    return (await harness.poll()).value(FROZEN)


@pytest.mark.parametrize("platform", TOTALS)
async def test_frozen_statistics_are_reported_until_one_total_moves_again(platform: str) -> None:
    keys = ("k1", "k2", "k3")
    async with evidence_harness(platform, {}, **settings_of(platform, *keys)) as harness:
        totals = dict.fromkeys(keys, 1_000_000)
        served = await poll_totals(harness, platform, **totals)
        assert served.value(FROZEN) is None, "no total was seen moving yet"
        for _ in range(5):
            totals = {key: total + 4_500_000 for key, total in totals.items()}
            assert (await poll_totals(harness, platform, **totals)).value(FROZEN) == 0
        found = [(await poll_totals(harness, platform, **totals)).value(FROZEN) for _ in range(6)]
        assert found == [0, 0, 1, 1, 1, 1], "1 from the stall time on"
        totals["k1"] += 4_500_000
        assert (await poll_totals(harness, platform, **totals)).value(FROZEN) == 0


async def test_frozen_statistics_are_reported_after_a_restart_of_the_exporter() -> None:
    async with evidence_harness(STORM, {}, **settings_of(STORM)) as harness:
        found = [await poll_storm(harness, 1_000_000, 2_000_000, 3_000_000) for _ in range(14)]
    assert found == [None] * 12 + [1] * 2, "unknown for three minutes, because the totals were never seen moving"


async def test_frozen_statistics_are_unknown_with_fewer_than_three_totals() -> None:
    async with evidence_harness(STORM, {}, **settings_of(STORM)) as harness:
        for index in range(16):
            total = 1_000_000 + 4_500_000 * min(index, 8)
            assert await poll_storm(harness, total, total, None) is None


async def test_frozen_statistics_are_unknown_while_a_live_stream_has_no_total() -> None:
    async with evidence_harness(STORM, {}, **settings_of(STORM)) as harness:
        for index in range(8):
            total = 1_000_000 + 4_500_000 * index
            found = await poll_storm(harness, total, total, total, None)
            assert found == (0 if index else None), "three totals are enough while they move"
        assert [await poll_storm(harness, total, total, total, None) for _ in range(4)] == [0, 0, None, None]
        assert [await poll_storm(harness, total, total, total) for _ in range(2)] == [1, 1]


async def test_statistics_are_not_frozen_if_streams_stop_one_by_one() -> None:
    async with evidence_harness(STORM, {}, **settings_of(STORM)) as harness:
        await poll_storm(harness, 0, 0, 0)
        for index in range(1, 20):
            found = await poll_storm(harness, *(1_000_000 * min(index, stop) for stop in (6, 9, 12)))
            assert found == 0


async def test_frozen_statistics_are_withdrawn_when_the_upstream_stops_answering() -> None:
    async with evidence_harness(STORM, {}, **settings_of(STORM)) as harness:
        for total in (1_000_000, 2_000_000, *[3_000_000] * 6):
            found = await poll_storm(harness, total, total, total)
        assert found == 1
        harness.responses["GET /api/streams"] = RecordedResponse(b"", 500)
        served = [await harness.poll() for _ in range(4)]
    assert [one.upstream("answering") for one in served] == [1, 1, 0, 0]
    assert [one.value(FROZEN) for one in served] == [1, 1, None, None]


# -- flags against movement --------------------------------------------------------------------------------------------

OFF_AIR: dict[str, Any] = {
    STORM: lambda key, total: storm_stream(key, state="UNPUBLISHED", inTotalBytes=total, outTotalBytes=total),
    WAVE: lambda key, total: wave_session(key, status="ended", network={"bytesReceived": total}),
}


@pytest.mark.parametrize("platform", OFF_AIR)
async def test_off_air_stream_with_a_rising_total_is_unknown_then_live(platform: str) -> None:
    label = LABELS[platform].format("k")
    async with evidence_harness(platform, {}, **settings_of(platform, "k")) as harness:
        await poll_totals(harness, platform, k=1_000_000)
        statuses = []
        for index in range(10):
            harness.responses.update(RESPONSES[platform](OFF_AIR[platform]("k", 2_000_000 + 4_500_000 * index)))
            statuses.append((await harness.poll()).status(label))
    assert statuses[:3] == ["ended", "ended", "unknown"], "accepted at first, unknown after two rises"
    assert statuses[6] == "unknown", "75 s after the first rise"
    assert set(statuses[7:]) == {"live"}, "three rises in 90 s"


@pytest.mark.parametrize("platform", OFF_AIR)
async def test_off_air_stream_with_a_stalled_total_stays_off_air(platform: str) -> None:
    label = LABELS[platform].format("k")
    async with evidence_harness(platform, {}, **settings_of(platform, "k")) as harness:
        await poll_totals(harness, platform, k=1_000_000)
        for _ in range(10):
            harness.responses.update(RESPONSES[platform](OFF_AIR[platform]("k", 2_000_000)))
            assert (await harness.poll()).status(label) == "ended"


async def test_rising_egress_total_does_not_make_a_stream_live() -> None:
    async with evidence_harness(STORM, {}) as harness:
        for index in range(12):
            row = storm_stream(state="UNPUBLISHED", outTotalBytes=3_000_000 + index * 1_000_000)
            harness.responses.update(storm(row))
            assert (await harness.poll()).status("a/k") == "ended"


async def test_off_air_stream_with_only_a_heartbeat_is_unknown() -> None:
    async with evidence_harness(LIVEPEER, {}, interval="30s", discover=True, **LIVEPEER_KEY) as harness:
        statuses = []
        for _ in range(10):
            row = livepeer_stream(seen=harness.clock.now() + 30, isActive=False, sourceBytes=None)
            harness.responses |= {"GET /stream": json_of([row]), "GET /data/views/now": json_of([])}
            statuses.append((await harness.poll()).status("s1"))
    assert statuses[0] == "idle"
    assert set(statuses[3:]) == {"unknown"}


async def test_rate_continues_after_an_outage() -> None:
    async with evidence_harness(NMS, {}, interval="15s") as harness:
        for total in (1_000_000, 2_500_000):
            harness.responses.update(nms4(nms4_stream(publisher={"inBytes": total})))
            await harness.poll()
        harness.responses["GET /api/v1/streams"] = {"error": "restarting"}
        for _ in range(8):
            assert (await harness.poll()).value("stream_upstream_up") == 0
        harness.responses.update(nms4(nms4_stream(publisher={"inBytes": 16_000_000})))
        served = await harness.poll()
    assert served.value(RATES[0], "live/n") == pytest.approx(100_000.0, rel=0.01)
    assert served.value("stream_restarts_total", "live/n") == 0
