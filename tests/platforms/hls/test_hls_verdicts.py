"""Verdicts on streams over time: what viewers would get."""

from __future__ import annotations

from tests.platforms.hls.check_world import LivePackager, check_world, numbered


async def test_healthy_stream_is_playable_from_the_first_poll() -> None:
    async with check_world(numbered({})) as world:
        packager = LivePackager(world.clock)
        world.respond = numbered({"main.m3u8": packager.playlist})
        await world.poll()
        assert world.report().playable is True
        assert world.report().live is True
        for _, report in await world.run(120):
            assert (report.live, report.playable, report.missed_segments) == (True, True, 0)
        served = world.served()
    assert served.value("stream_playable", "main") == 1
    assert served.status("main") == "live"
    assert served.reasons("main") == set()
