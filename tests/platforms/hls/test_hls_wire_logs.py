"""Logs of real servers while something was broken, replayed on a recorded clock.

Each line of ``wire/*.jsonl`` is one poll of a real probe: ``t`` seconds, ``st`` status, ``msn`` first sequence number,
``n`` segments, ``td`` target duration, ``end`` ENDLIST, ``lat`` age of the newest segment's end by its date, ``sst``
status of the newest segment, ``ratio`` its download time divided by its duration.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from exporter.model import StreamReport
from tests.platforms.hls.check_world import TS, Answer, check_world, longest_run, media_playlist

WIRE = Path(__file__).parent / "wire"
EXPECTED = [{"name": "main", "url": "/live/main.m3u8", "expected": True, "start_grace": "0s"}]
UNEXPECTED = [{"name": "main", "url": "/live/main.m3u8"}]
Reports = list[tuple[float, StreamReport]]


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (WIRE / f"{name}.jsonl").read_text().splitlines()]


async def replay(
    name: str,
    *,
    times: int = 1,
    step: int = 0,
    hold: int = 0,
    until: int | None = None,
    is_moving: bool = False,
    interval: float | None = None,
    **settings: Any,
) -> tuple[Reports, Any]:
    """Replay a log at the pace of its lines; return the reports with the times, and the world.

    ``times``: how often, in a row; ``step``: by how much the numbers then go on. ``hold``: number of polls of the last
    line that follow, with numbers that go on if ``is_moving``. ``interval``: that of the upstream. ``until``: number of
    lines.
    """
    log = lines(name)[:until]
    pace = log[1]["t"] - log[0]["t"]
    line, segment, offset = log[0], log[0], 0

    def respond(_url: str, what: str, _now: float) -> Answer:
        if what == "playlist":
            if line["st"] != 200:
                return Answer(status=line["st"], content_type="text/html")
            edge = None if line.get("lat") is None else world.clock.now() - line["lat"]
            return Answer(
                media_playlist(offset + line["msn"], line["n"], seconds=line["td"], edge=edge, ended=line["end"])
            )
        # the log has one look at each new segment
        return Answer(TS, status=segment["sst"], content_type="video/mp2t", seconds=segment["ratio"] * line["td"])

    reports: Reports = []
    settings.setdefault("streams", EXPECTED)
    async with check_world(
        respond, has_alerts=True, interval=f"{round(1000 * (interval or pace))}ms", **settings
    ) as world:
        for turn in range(times):
            began = world.elapsed if turn == 0 else world.elapsed + pace
            offset = turn * step
            for line in log:
                segment = line if "sst" in line else segment
                await world.wait(max(0.0, began + line["t"] - world.elapsed))
                await world.poll()
                reports.append((world.elapsed, world.report()))
        for number in range(hold):
            offset = int(number * pace / line["td"]) if is_moving else offset
            await world.wait(pace)
            await world.poll()
            reports.append((world.elapsed, world.report()))
        return reports, world


def first(reports: Reports, **values: Any) -> float | None:
    """Return the time of the first report with these values."""
    for at, report in reports:
        if all(getattr(report, name) == value for name, value in values.items()):
            return at
    return None


async def test_encoder_stopped_for_11_seconds_is_never_stale_and_loses_nothing() -> None:
    reports, world = await replay("sigstop-11s-cont", times=4, step=17)
    assert all(report.live is True and report.playable is True for _, report in reports)
    last = reports[-1][1]
    assert (last.missed_segments, last.sequence_resets, last.sequence_regressions) == (0, 0, 0)
    assert last.media_segments == 4 * 17 - 1
    assert world.fired == set()


async def test_killed_encoder_is_stale_after_12_to_14_seconds_and_live_after_its_restart() -> None:
    reports, _ = await replay("kill9-then-restart")
    stale = first(reports, unplayable_reason="stale")
    assert stale is not None
    # the last segment came at 4 s
    assert 4.0 + 12.0 < stale <= 4.0 + 14.0
    assert [report.live for at, report in reports if stale <= at < 25.0] == [False] * 4
    assert reports[-1][1].live is True
    assert reports[-1][1].playable is True
    assert (reports[-1][1].sequence_resets, reports[-1][1].sequence_regressions) == (1, 0)


async def test_deleted_segments_make_a_stream_unplayable_although_its_playlist_advances() -> None:
    reports, _ = await replay("segments-deleted")
    assert all(report.live is True for _, report in reports)
    # missing from 5 s on: the second of two different segments proves it
    bad = first(reports, unplayable_reason="segment_missing")
    assert bad is not None
    assert 7.0 <= bad <= 9.0
    assert {report.playback_detail for _, report in reports if report.playable is False} == {"segments missing (404)"}
    # they exist again from 11 s on
    assert reports[-1][1].playable is True
    assert reports[-1][1].segment_fetch_failures == 3


async def test_cached_playlist_loses_segments_and_is_short_of_media() -> None:
    """Stale alone would not show it: it never lasts."""
    reports, world = await replay("cdn-caches-playlist-25s", times=4, step=28)
    last = reports[-1][1]
    assert longest_run(reports, is_bad=lambda report: report.live is False) <= 16.0
    assert first(reports, unplayable_reason="stale") is not None
    assert "StreamMediaShortage critical" in world.fired
    assert not {alert for alert in world.fired if "Unplayable" in alert}
    # 9 of 14 segments are lost with each step but the first
    steps = (last.media_segments or 0) / 5
    assert last.missed_segments == 9 * steps
    assert steps >= 6
    (start, before), (end, after) = reports[7], reports[7 + 7 * 6]
    ratio = ((after.media_seconds or 0.0) - (before.media_seconds or 0.0)) / (end - start)
    assert 0.34 <= ratio <= 0.38
    live = [report for at, report in reports if report.live and at > 130.0]
    assert live
    assert all("shortage" in report.playback_findings and "sequence" in report.playback_findings for report in live)
    assert (last.sequence_resets, last.sequence_regressions) == (0, 0)


async def test_slow_edge_shows_in_whole_segments_and_delays_no_playlist() -> None:
    reports, world = await replay("slow-edge-12kBps", times=30, step=4, segments="full", interval=1.0)
    last = reports[-1][1]
    assert last.segment_download_seconds is not None
    assert last.segment_media_seconds is not None
    assert 3.4 <= last.segment_download_seconds / last.segment_media_seconds <= 4.1
    assert all(report.playable is True for _, report in reports)
    assert "slow" in last.playback_findings
    assert "StreamDeliverySlow critical" in world.fired
    # each poll requested the playlist at once
    assert len(world.urls()) == len(reports)


async def test_killed_publisher_is_stale_at_first_and_then_its_playlist_is_missing() -> None:
    """nginx-rtmp: the playlist stays as it is for 14 s, and then becomes a 404 for good: off air, not a failure."""
    reports, world = await replay("nginx-rtmp-publisher-killed", streams=UNEXPECTED)
    missing = first(reports, unplayable_reason="playlist_missing")
    assert missing is not None
    # 404 from 21 s on, twice
    assert 24.0 <= missing <= 24.2
    after = [report for at, report in reports if at >= missing]
    assert all(report.live is False and report.playable is False for report in after)
    assert {report.status.value for report in after} == {"idle"}
    assert after[-1].playback_detail == "playlist missing (404)"
    served = world.served()
    assert served.status("main") == "idle"
    assert served.value("stream_unplayable_reason", "main", reason="playlist_missing") == 1
    assert served.value("stream_upstream_up") == 1
    assert world.fired == set()


async def test_killed_publisher_of_an_expected_stream_pages() -> None:
    _, world = await replay("nginx-rtmp-publisher-killed", hold=30)
    assert "StreamUnplayable critical" in world.fired


async def test_encoder_that_stays_dead_pages_within_a_minute_and_a_half() -> None:
    log = lines("kill9-then-restart")
    dead_at = next(index for index, line in enumerate(log) if line["age"] >= 16)
    reports, world = await replay("kill9-then-restart", until=dead_at, hold=35)
    assert reports[-1][1].unplayable_reason == "stale"
    assert "StreamUnplayable critical" in world.fired


async def test_segments_that_stay_deleted_page() -> None:
    log = lines("segments-deleted")
    deleted_at = max(index for index, line in enumerate(log) if line.get("sst") == 404)
    reports, world = await replay("segments-deleted", until=deleted_at, hold=60, is_moving=True)
    assert reports[-1][1].unplayable_reason == "segment_missing"
    assert "StreamUnplayable critical" in world.fired
