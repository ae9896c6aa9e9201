"""The platform module against real node-media-servers, with media published by ffmpeg."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from exporter.config.upstream import AuthSettings
from exporter.http.client import UpstreamClient
from exporter.model import Status, StreamReport
from exporter.platforms.node_media_server import PLATFORM, NodeMediaServerSettings
from exporter.runtime.clock import Clock
from tests.real.child_process import GENEROUS_SECONDS
from tests.real.media import PASSWORD, USERNAME, NodeMediaServer, Publisher

# share one loop and one login per server, because version 4 allows ten logins a minute from one address
pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

TOLERANCE = 0.2


class Watch:
    """Polls a server as the exporter does, and keeps the last result."""

    def __init__(self, server: NodeMediaServer) -> None:
        self.server = server
        clock = Clock()
        auth = {"username": USERNAME, "password": PASSWORD}
        settings = NodeMediaServerSettings.model_validate(
            {"name": "origin", "url": server.url, "auth": auth, "interval": "1s", "timeout": "1s"}
        )
        self.client = UpstreamClient.from_settings(settings, clock, lambda endpoint, code, seconds: None)
        self._platform = PLATFORM(settings, self.client, clock)
        self.version = ""

    async def poll(self) -> dict[str, StreamReport]:
        snapshot = await self._platform.poll(self.client.requests(GENEROUS_SECONDS))
        assert snapshot.dropped_fields == {}
        self.version = snapshot.version
        return {sample.id: sample for sample in snapshot.streams}

    async def until(self, condition: Callable[[dict[str, StreamReport]], Any], what: str) -> dict[str, StreamReport]:
        """Poll several times a second until the condition holds."""
        deadline = time.monotonic() + GENEROUS_SECONDS
        while True:
            streams = await self.poll()
            if condition(streams):
                return streams
            assert time.monotonic() < deadline, f"waited until {what}: {streams}"
            await asyncio.sleep(0.2)


@pytest_asyncio.fixture(params=["nms2", "nms4"], scope="module", loop_scope="module")
async def watch(request: pytest.FixtureRequest) -> AsyncIterator[Watch]:
    watch = Watch(request.getfixturevalue(request.param))
    yield watch
    await watch.client.close()


def is_live(streams: dict[str, StreamReport], *names: str) -> bool:
    return all(f"live/{name}" in streams and streams[f"live/{name}"].live for name in names)


def name_for(watch: Watch, purpose: str) -> str:
    """Return a stream name for a test, because the tests share the servers."""
    return f"{purpose}-{watch.server.version}"


async def test_two_published_streams_are_live_with_their_bitrates(watch: Watch) -> None:
    low, high = name_for(watch, "low"), name_for(watch, "high")
    with watch.server.publish(low, bits_per_second=300_000) as slow, watch.server.publish(high) as fast:
        streams = await watch.until(
            lambda s: is_live(s, low, high) and all(s[f"live/{n}"].width_pixels for n in (low, high)), "both are live"
        )
        assert watch.version.startswith(f"{watch.server.version}.")
        for name in (low, high):
            sample = streams[f"live/{name}"]
            assert (sample.status, sample.protocol, sample.viewers) == (Status.LIVE, "rtmp", 0)
            assert (sample.video_codec, sample.audio_codec, sample.resolution) == ("h264", "aac", "320x180")
            assert (sample.width_pixels, sample.height_pixels, sample.frames_per_second) == (320, 180, 25)
            assert sample.session
            assert abs(time.time() - (sample.start_timestamp_seconds or 0)) < GENEROUS_SECONDS
        await assert_rates(watch, {low: slow, high: fast})


async def assert_rates(watch: Watch, publishers: dict[str, Publisher]) -> None:
    """Assert that bitrates measured over the same few seconds equal what ffmpeg has sent."""
    await watch.poll()
    began = time.monotonic()
    sent = {name: publisher.bytes_sent for name, publisher in publishers.items()}
    await asyncio.sleep(4)
    seconds = time.monotonic() - began
    sent = {name: publishers[name].bytes_sent - before for name, before in sent.items()}
    streams = await watch.poll()
    for name, count in sent.items():
        assert streams[f"live/{name}"].ingest_bitrate_bytes_per_second == pytest.approx(count / seconds, rel=TOLERANCE)


async def test_viewers_are_counted_until_they_leave(watch: Watch) -> None:
    name = name_for(watch, "watched")
    with watch.server.publish(name):
        await watch.until(lambda s: is_live(s, name), "it is live")
        with watch.server.watch(name), watch.server.watch(name) as viewer:
            await watch.until(lambda s: s[f"live/{name}"].viewers == 2, "two watch")
            await watch.until(
                lambda s: viewer.received and s[f"live/{name}"].ingest_bitrate_bytes_per_second, "they see something"
            )
        streams = await watch.until(lambda s: s[f"live/{name}"].viewers == 0, "nobody watches")
        # whatever the server's own measurement reports after they left
        assert streams[f"live/{name}"].ingest_bitrate_bytes_per_second


async def test_bitrate_is_zero_while_the_publisher_hangs(watch: Watch) -> None:
    name = name_for(watch, "frozen")
    with watch.server.publish(name) as publisher:
        await watch.until(lambda s: is_live(s, name) and s[f"live/{name}"].ingest_bitrate_bytes_per_second, "it sends")
        publisher.freeze()
        # bytes still in flight may move the first poll's counter
        streams = await watch.until(lambda s: s[f"live/{name}"].ingest_bitrate_bytes_per_second == 0, "it is silent")
        assert streams[f"live/{name}"].live
        publisher.thaw()
        await watch.until(lambda s: s[f"live/{name}"].ingest_bitrate_bytes_per_second, "it sends again")


async def test_stream_restarts_after_its_publisher_was_killed(watch: Watch) -> None:
    name = name_for(watch, "killed")
    with watch.server.publish(name) as publisher:
        streams = await watch.until(lambda s: is_live(s, name), "it is live")
        session = streams[f"live/{name}"].session
        publisher.kill()
        await watch.until(lambda s: not is_live(s, name), "it is gone")
    with watch.server.publish(name):
        streams = await watch.until(lambda s: is_live(s, name), "it is live again")
        assert streams[f"live/{name}"].session not in ("", session)


async def test_stream_with_only_a_viewer_is_not_live(watch: Watch) -> None:
    name = name_for(watch, "awaited")
    with watch.server.publish(name) as publisher:
        await watch.until(lambda s: is_live(s, name), "it is live")
        with watch.server.watch(name):
            await watch.until(lambda s: s[f"live/{name}"].viewers == 1, "one watches")
            publisher.kill()
            streams = await watch.until(lambda s: not is_live(s, name), "the publisher is gone")
            left = streams.get(f"live/{name}")
            # version 2 disconnects its viewers, version 4 holds the publisher's slot
            assert left is None or left.status in (Status.IDLE, Status.CONNECTING)


async def test_wrong_password_is_an_auth_error(nms2: NodeMediaServer) -> None:
    """Only for version 2, because wrong logins would lock the user of version 4 for other tests."""
    auth = AuthSettings.model_validate({"username": USERNAME, "password": "wrong"})
    clock = Clock()
    settings = NodeMediaServerSettings(name="origin", url=nms2.url, auth=auth)
    client = UpstreamClient.from_settings(settings, clock, lambda endpoint, code, seconds: None)
    with pytest.raises(Exception, match="401") as failed:
        await PLATFORM(settings, client, clock).poll(client.requests(GENEROUS_SECONDS))
    assert failed.value.reason == "auth"  # type: ignore[attr-defined]
    await client.close()
