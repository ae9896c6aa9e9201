"""Half an hour of what healthy streams are like, in recorded time: nothing of it may page anyone."""

from __future__ import annotations

import random

import pytest

from tests.platforms.hls.check_world import TS, Answer, CheckWorld, check_world, iso, longest_run, master_playlist

HALF_HOUR = 1800.0
TARGET = 6.0
TOLERATED_SECONDS = 30.0
"""``for`` of StreamViewersGetNothing, the quickest rule that pages."""
RESTART_AT, AD_AT, AD_SECONDS = 600.0, 1200.0, 60.0


class NoisyOrigin:
    """Segments that come up to 1.4 target durations apart, random 503s, a restart of the encoder and an ad break."""

    def __init__(self, world: CheckWorld, seed: int, *, is_dated: bool, renditions: int) -> None:
        self._world = world
        self._random = random.Random(seed)
        self._renditions = [f"v{number}.m3u8" for number in range(renditions)]
        self._segments: list[tuple[float, str, list[str]]] = []
        """Time of each segment, its URI and the tags before it."""
        at, number, edge = 0.0, 3000, 0.0
        was_ad = is_restarted = False
        self._first = {0.0: number}
        while at < HALF_HOUR + 60:
            if at >= RESTART_AT and not is_restarted:
                # 8 s without an encoder
                at, number, is_restarted = at + 8.0, 0, True
                self._restarted_at, edge = at, at
            is_ad = AD_AT <= at < AD_AT + AD_SECONDS
            tags = []
            if is_ad != was_ad:
                tags += ["#EXT-X-DISCONTINUITY", "#EXT-X-CUE-OUT:60" if is_ad else "#EXT-X-CUE-IN"]
                tags.append(f'#EXT-X-MAP:URI="{"https://ads.example.net/i.mp4" if is_ad else "init.mp4"}"')
            was_ad = is_ad
            if is_dated:
                # the dates of advertisements are those of the programme that they replace
                tags.append(f"#EXT-X-PROGRAM-DATE-TIME:{iso(world.clock.now() + (AD_AT if is_ad else edge))}")
            host = "https://ads.example.net/spot" if is_ad else "s"
            self._segments.append((at, f"{host}{number}.m4s", tags))
            number += 1
            edge = at
            late = self._random.random() < 0.25
            at += TARGET * (1.4 if late else self._random.choice((0.7, 0.9, 1.0)))

    def respond(self, url: str, what: str, _now: float) -> Answer:
        if self._random.random() < 0.03:
            return Answer(status=503)
        if self._renditions and url.endswith("main.m3u8"):
            return Answer(master_playlist(*self._renditions))
        if what != "playlist":
            return Answer(TS, content_type="video/mp4", seconds=self._random.choice((0.0, 0.1, 0.5, 2.0)))
        now = self._world.elapsed
        is_after = now >= self._restarted_at
        known = [part for part in self._segments if part[0] <= now and (part[0] >= self._restarted_at) == is_after]
        first = 0 if is_after else 3000
        window = known[-6:]
        lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:6", f"#EXT-X-MEDIA-SEQUENCE:{first + len(known) - len(window)}"]
        for _, uri, tags in window:
            lines += [*tags, "#EXTINF:6.000,", uri]
        return Answer("\n".join([*lines, ""]).encode())


@pytest.mark.parametrize("is_dated", [True, False], ids=["dated", "undated"])
@pytest.mark.parametrize("renditions", [0, 5])
@pytest.mark.parametrize("seed", range(3))
async def test_healthy_half_hour_pages_nobody(seed: int, renditions: int, is_dated: bool) -> None:
    async with check_world(
        lambda *_: Answer(), has_alerts=True, streams=[{"name": "main", "url": "/live/main.m3u8", "expected": True}]
    ) as world:
        origin = NoisyOrigin(world, seed, is_dated=is_dated, renditions=renditions)
        world.respond = origin.respond
        await world.poll()
        reports = await world.run(HALF_HOUR)
    assert longest_run(reports, is_bad=lambda report: report.playable is False) < TOLERATED_SECONDS
    assert longest_run(reports, is_bad=lambda report: report.live is False) < TOLERATED_SECONDS
    assert sum(report.playable is False for _, report in reports) <= 4
    last = reports[-1][1]
    assert (last.sequence_resets, last.sequence_regressions, last.sequence_conflicts) == (1, 0, 0)
    assert last.missed_segments == 0
    found = {finding for _, report in reports for finding in report.playback_findings}
    # a rendition may fail twice in a row by chance, until it is looked at again
    assert found <= {"latency_growing", "rendition_missing"}
    assert longest_run(reports, is_bad=lambda report: "rendition_missing" in report.playback_findings) <= 30.0
    assert world.fired == set()
