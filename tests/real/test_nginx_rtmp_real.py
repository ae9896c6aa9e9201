"""nginx_rtmp against a real nginx with its RTMP module, with media published by ffmpeg."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from exporter.http.client import UpstreamClient
from exporter.http.errors import UpstreamError
from exporter.model import PollResult, Reason, Status, StreamReport
from exporter.platforms.nginx_rtmp import PLATFORM, NginxRtmpSettings
from exporter.runtime.clock import Clock
from tests.real.child_process import GENEROUS_SECONDS, free_port
from tests.real.media import PASSWORD, USERNAME
from tests.real.nginx_rtmp import NginxRtmp, running_nginx_rtmp

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

TOLERANCE = 0.2


class Watch:
    """Polls a server as the exporter does, and keeps the last result."""

    def __init__(self, server: NginxRtmp, **more: Any) -> None:
        """``more``: settings of the upstream."""
        settings = NginxRtmpSettings.model_validate(
            {"name": "origin", "url": server.url, "interval": "1s", "timeout": "1s", **more}
        )
        clock = Clock()
        self.client = UpstreamClient.from_settings(settings, clock, lambda endpoint, code, seconds: None)
        self._platform = PLATFORM(settings, self.client, clock)
        self.result = PollResult()

    async def poll(self) -> dict[str, StreamReport]:
        self.result = await self._platform.poll(self.client.requests(GENEROUS_SECONDS))
        assert self.result.dropped_fields == {}
        return {report.id: report for report in self.result.streams}

    async def until(self, condition: Callable[[dict[str, StreamReport]], Any], what: str) -> dict[str, StreamReport]:
        """Poll several times a second until the condition holds."""
        deadline = time.monotonic() + GENEROUS_SECONDS
        while True:
            streams = await self.poll()
            if condition(streams):
                return streams
            assert time.monotonic() < deadline, f"waited until {what}: {streams}"
            await asyncio.sleep(0.2)


@asynccontextmanager
async def watching(server: NginxRtmp, **more: Any) -> AsyncIterator[Watch]:
    watch = Watch(server, **more)
    try:
        yield watch
    finally:
        await watch.client.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NginxRtmp]:
    with running_nginx_rtmp(tmp_path_factory.mktemp("nginx-rtmp")) as running:
        yield running


def is_live(streams: dict[str, StreamReport], name: str) -> bool:
    return f"live/{name}" in streams and streams[f"live/{name}"].live is True


async def test_published_stream_is_live_with_its_bitrate_and_facts(server: NginxRtmp) -> None:
    async with watching(server) as watch:
        with server.publish("start") as publisher:
            await watch.until(lambda s: is_live(s, "start") and s["live/start"].width_pixels, "it is live")
            began, before = time.monotonic(), publisher.bytes_sent
            await watch.poll()
            await asyncio.sleep(4)
            streams = await watch.poll()
            rate = (publisher.bytes_sent - before) / (time.monotonic() - began)
    report = streams["live/start"]
    assert report.ingest_bitrate_bytes_per_second == pytest.approx(rate, rel=TOLERANCE)
    assert (report.protocol, report.video_codec, report.audio_codec) == ("rtmp", "h264", "aac")
    assert (report.resolution, report.frames_per_second, report.audio_sample_rate_hertz) == ("320x180", 25, 44100)
    assert report.ingest_lag_seconds == pytest.approx(0, abs=2)
    assert (report.viewers, report.viewers_partial) == (0, None)
    assert watch.result.version


async def test_player_is_a_viewer_until_it_leaves(server: NginxRtmp) -> None:
    async with watching(server) as watch:
        with server.publish("watched"):
            await watch.until(lambda s: is_live(s, "watched"), "it is live")
            with server.watch("watched"):
                await watch.until(lambda s: s["live/watched"].viewers == 1, "one watches")
            await watch.until(lambda s: s["live/watched"].viewers == 0, "nobody watches")


async def test_freeze_shows_in_bitrate_and_lag_and_ends_with_it(server: NginxRtmp) -> None:
    async with watching(server) as watch:
        with server.publish("frozen") as publisher:
            await watch.until(
                lambda s: is_live(s, "frozen") and s["live/frozen"].ingest_bitrate_bytes_per_second, "data"
            )
            session = (await watch.poll())["live/frozen"].session
            publisher.freeze()
            streams = await watch.until(lambda s: s["live/frozen"].ingest_bitrate_bytes_per_second == 0, "it stalls")
            assert streams["live/frozen"].status is Status.LIVE
            assert (streams["live/frozen"].ingest_lag_seconds or 0) > 30
            publisher.thaw()
            streams = await watch.until(lambda s: s["live/frozen"].ingest_bitrate_bytes_per_second, "it sends again")
            assert streams["live/frozen"].session == session


async def test_killed_publisher_is_off_air_at_once_with_and_without_a_player(server: NginxRtmp) -> None:
    async with watching(server) as watch:
        with server.publish("killed") as publisher:
            await watch.until(lambda s: is_live(s, "killed"), "it is live")
            with server.watch("killed"):
                await watch.until(lambda s: s["live/killed"].viewers == 1, "one watches")
                publisher.kill()
                streams = await watch.until(lambda s: not is_live(s, "killed"), "it is off air")
                assert streams["live/killed"].status is Status.IDLE
            await watch.until(lambda s: "live/killed" not in s, "the player has left")
            assert watch.result.list_doubt == ""


async def test_second_publisher_changes_nothing(server: NginxRtmp) -> None:
    async with watching(server) as watch:
        with server.publish("taken"):
            before = (await watch.until(lambda s: is_live(s, "taken"), "it is live"))["live/taken"]
            with server.publish("taken", suffix="-second") as second:
                second.process.wait(GENEROUS_SECONDS)
            after = (await watch.poll())["live/taken"]
    assert (after.session, after.start_timestamp_seconds) == (before.session, before.start_timestamp_seconds)


async def test_restart_of_the_server_ends_its_streams(tmp_path: Path) -> None:
    with running_nginx_rtmp(tmp_path) as server:
        async with watching(server) as watch:
            with server.publish("before"):
                first = await watch.until(lambda s: is_live(s, "before"), "it is live")
                # starts of sessions that are closer together cannot be distinguished
                await watch.until(
                    lambda s: time.time() - (s["live/before"].start_timestamp_seconds or 0) > 4, "it is old"
                )
                server.restart()
            with server.publish("before", suffix="-again"):
                again = await watch.until(lambda s: is_live(s, "before"), "it is live again")
            assert watch.result.list_doubt == ""
            starts = [streams["live/before"].start_timestamp_seconds for streams in (first, again)]
            assert None not in starts
            assert starts[1] != starts[0]


async def test_several_workers_are_noticed_and_prove_no_absence(tmp_path: Path) -> None:
    with running_nginx_rtmp(tmp_path, workers=3, stat="keepalive_timeout 0;") as server:
        async with watching(server) as watch:
            with server.publish("shared"):
                await watch.until(lambda s: is_live(s, "shared"), "it is live")
                with server.watch("shared"), server.watch("shared"):
                    await watch.until(lambda _: watch.result.list_doubt, "another worker answers")
                    for _ in range(20):
                        streams = await watch.poll()
                        assert "live/shared" not in streams or is_live(streams, "shared")
                        assert watch.result.list_doubt


async def test_idle_publisher_is_dropped_if_configured(tmp_path: Path) -> None:
    with running_nginx_rtmp(tmp_path, directives="drop_idle_publisher 3s; idle_streams off;") as server:
        async with watching(server) as watch:
            with server.publish("dropped") as publisher:
                # the server drops only publishers that have sent something
                await watch.until(lambda s: is_live(s, "dropped") and s["live/dropped"].ingest_bytes, "it sends")
                publisher.freeze()
                await watch.until(lambda s: "live/dropped" not in s, "the server drops it")
                assert watch.result.list_doubt == ""


async def test_stream_with_hls_is_one_stream(tmp_path: Path) -> None:
    with running_nginx_rtmp(tmp_path, directives=f"hls on; hls_path {tmp_path}/hls; hls_fragment 1s;") as server:
        async with watching(server) as watch:
            with server.publish("hls"):
                await watch.until(lambda s: is_live(s, "hls") and s["live/hls"].width_pixels, "it is live")
                await watch.until(lambda _: list(tmp_path.glob("hls/*.m3u8")), "the playlist exists")
                streams = await watch.poll()
    assert list(streams) == ["live/hls"]
    assert streams["live/hls"].viewers == 0


async def test_page_behind_tls_and_a_password_is_read(tmp_path: Path) -> None:
    authority, port = trustme.CA(), free_port()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    (tmp_path / "users").write_text(f"{USERNAME}:{{PLAIN}}{PASSWORD}\n")
    secured = f"""server {{
      listen 127.0.0.1:{port} ssl;
      ssl_certificate server.pem;
      ssl_certificate_key server.pem;
      auth_basic statistics;
      auth_basic_user_file users;
      location = /rtmp/stat {{ rtmp_stat all; }}
    }}"""
    upstream = {
        "url": f"https://127.0.0.1:{port}",
        "stat_path": "/rtmp/stat",
        "tls": {"ca_file": str(tmp_path / "ca.pem")},
    }
    with running_nginx_rtmp(tmp_path, http=secured) as server, server.publish("secured"):
        async with watching(server, **upstream, auth={"username": USERNAME, "password": PASSWORD}) as watch:
            await watch.until(lambda s: is_live(s, "secured"), "it is live")
        async with watching(server, **upstream, auth={"username": USERNAME, "password": "wrong"}) as watch:
            with pytest.raises(UpstreamError) as refused:
                await watch.poll()
    assert refused.value.reason is Reason.AUTH
