"""Facts about now are withdrawn as soon as they are not known any more, and secrets are read again."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.config.secrets import Secret
from tests.media.media_files import SEGMENTS
from tests.platforms.hls.check_world import Answer, check_world, numbered
from tests.platforms.hls.test_hls_verdicts import HEALTHY, Stream

FACTS_OF_NOW = (
    "stream_latency_seconds", "stream_media_edge_timestamp_seconds", "stream_window_seconds",
    "stream_segment_target_seconds", "stream_segment_first_byte_seconds", "stream_media_bitrate_bytes_per_second",
    "stream_audio_present", "stream_video_present",
)  # fmt: skip
AUDIO_AND_VIDEO = (SEGMENTS / "h264-aac.ts").read_bytes()


@pytest.mark.parametrize("playlist", [Answer(status=503), Answer(status=403), Answer(b"<html>"), Answer(status=404)])
async def test_playlist_that_cannot_be_read_withdraws_the_facts_about_now(playlist: Answer) -> None:
    async with check_world(numbered({})) as world:
        stream = Stream(world)
        stream.segment = Answer(AUDIO_AND_VIDEO)
        await world.run(HEALTHY)
        healthy = world.served()
        stream.playlist = playlist
        await world.run(HEALTHY)
        failing = world.served()
    assert [family for family in FACTS_OF_NOW if healthy.value(family, "main") is None] == []
    assert [family for family in FACTS_OF_NOW if failing.value(family, "main") is not None] == []
    assert failing.value("stream_media_seconds_total", "main") == healthy.value("stream_media_seconds_total", "main")


async def test_segments_that_cannot_be_fetched_withdraw_what_the_last_ones_had() -> None:
    async with check_world(numbered({})) as world:
        stream = Stream(world)
        stream.segment = Answer(AUDIO_AND_VIDEO)
        await world.run(HEALTHY)
        stream.segment = Answer(status=404)
        await world.run(HEALTHY)
        served = world.served()
    assert [family for family in FACTS_OF_NOW if served.value(family, "main") is not None] == list(FACTS_OF_NOW[:4])


async def test_initialization_section_that_is_missing_makes_a_stream_unplayable() -> None:
    async with check_world(numbered({})) as world:
        stream = Stream(world)
        stream.tags = '#EXT-X-MAP:URI="init.mp4"'
        stream.segment, stream.init = Answer((SEGMENTS / "h264-aac.m4s").read_bytes()), Answer(status=404)
        reports = await world.run(40)
    assert reports[-1][1].unplayable_reason == "segment_missing"
    assert reports[-1][1].live is True


async def test_url_in_a_file_is_read_again_after_the_token_has_expired(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("/live/main.m3u8?token=old-token-1")
    streams = [{"name": "main", "url": Secret.from_file(file)}]
    async with check_world(numbered({}), streams=streams) as world:
        stream = Stream(world)
        good = stream.respond
        world.respond = lambda url, what, now: (
            Answer(status=403) if what == "playlist" and valid not in url else good(url, what, now)
        )
        valid = "old-token-1"
        await world.run(HEALTHY)
        assert world.report().playable is True
        valid = "new-token-2"
        await world.run(20)
        assert world.report().playback_forbidden is True
        file.write_text("/live/main.m3u8?token=new-token-2")
        await world.run(20)
        assert (world.report().playable, world.report().playback_forbidden) == (True, False)
