"""icecast against a real Icecast 2.4, with media sent by ffmpeg.

A bitrate takes half a minute to measure, so that test runs in the background of all others.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from exporter.http.client import UpstreamClient
from exporter.http.errors import UpstreamError
from exporter.model import PollResult, Reason, Status, StreamReport
from exporter.platforms.icecast import PLATFORM, IcecastSettings
from exporter.runtime.clock import Clock
from tests.real.child_process import GENEROUS_SECONDS, wait_until
from tests.real.icecast import BITS_PER_SECOND, PASSWORD, USERNAME, Icecast, running_icecast

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

TOLERANCE = 0.2
SOURCE_TIMEOUT = 13
UPDATE_SECONDS = 6.0
"""Longer than the time between two updates of a byte total: 5 s, rounded to polls of its threads (0.25 and 0.3 s)."""
Streams = dict[str, StreamReport]


class Watch:
    """Polls a server as the exporter does, and keeps the last result."""

    def __init__(self, server: Icecast, *, password: str | None = PASSWORD) -> None:
        """``password``: None polls the public statistics."""
        auth = {} if password is None else {"auth": {"username": USERNAME, "password": password}}
        settings = IcecastSettings.model_validate(
            {"name": "radio", "url": server.url, "interval": "1s", "timeout": "1s", **auth}
        )
        clock = Clock()
        self.client = UpstreamClient.from_settings(settings, clock, lambda endpoint, code, seconds: None)
        self._platform = PLATFORM(settings, self.client, clock)
        self.result = PollResult()

    async def poll(self) -> Streams:
        self.result = await self._platform.poll(self.client.requests(GENEROUS_SECONDS))
        assert self.result.dropped_fields == {}
        return {report.id: report for report in self.result.streams}

    async def until(self, condition: Callable[[Streams], Any], what: str) -> Streams:
        """Poll several times a second until the condition holds."""
        deadline = time.monotonic() + GENEROUS_SECONDS
        while True:
            streams = await self.poll()
            if condition(streams):
                return streams
            assert time.monotonic() < deadline, f"waited until {what}: {streams}"
            await asyncio.sleep(0.2)


@asynccontextmanager
async def watching(server: Icecast, *, password: str | None = PASSWORD) -> AsyncIterator[Watch]:
    watch = Watch(server, password=password)
    try:
        yield watch
    finally:
        await watch.client.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Icecast]:
    with running_icecast(
        tmp_path_factory.mktemp("icecast"),
        source_timeout=SOURCE_TIMEOUT,
        fallback={"/main.mp3": "/backup.mp3"},
        hidden=["/secret.mp3"],
    ) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def background(server: Icecast) -> AsyncIterator[asyncio.Task[None]]:
    """Run the test of bitrates and of a frozen source in the background."""
    task = asyncio.create_task(check_bitrate_and_freeze(server))
    yield task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def check_bitrate_and_freeze(server: Icecast) -> None:
    async with watching(server) as watch, watching(server, password=None) as public:
        with server.publish("/steady.mp3"), server.publish("/frozen.mp3") as frozen:
            await watch.until(lambda s: total(s, "/frozen.mp3"), "its bytes are counted")
            frozen.freeze()
            frozen_at = time.monotonic()
            # the next update counts what was received before the freeze
            before = await watch.until(lambda _: time.monotonic() - frozen_at > UPDATE_SECONDS, "the next update")
            streams = await watch.until(lambda _: time.monotonic() - frozen_at > SOURCE_TIMEOUT - 0.5, "it is overdue")
            assert total(streams, "/frozen.mp3") == total(before, "/frozen.mp3")
            assert total(streams, "/steady.mp3") != total(before, "/steady.mp3")
            # the public statistics do not show it
            assert is_live(await public.poll(), "/frozen.mp3")
            await watch.until(lambda s: "/frozen.mp3" not in s, "the server disconnects it")
            assert time.monotonic() - frozen_at < SOURCE_TIMEOUT + 5
            frozen.thaw()
            await watch.until(lambda _: not frozen.is_running, "it notices")
            assert not is_live(await watch.poll(), "/frozen.mp3")
            with server.publish("/frozen.mp3"):
                await watch.until(lambda s: is_live(s, "/frozen.mp3"), "a new source is live")
            streams = await watch.until(lambda s: bitrate(s, "/steady.mp3"), "the bitrate is measured")
            assert bitrate(streams, "/steady.mp3") == pytest.approx(BITS_PER_SECOND / 8, rel=TOLERANCE)


def is_live(streams: Streams, mount: str) -> bool:
    return mount in streams and streams[mount].live is True


def total(streams: Streams, mount: str) -> float | None:
    return streams[mount].ingest_bytes if mount in streams else None


def public_title(server: Icecast, mount: str) -> str:
    """Return the title in the public statistics, which are updated about every 0.3 s, as it is written there."""
    match = re.search(rf'{re.escape(mount)}".*?"title":(.*?),"dummy":null', server.status_json(), re.DOTALL)
    return match[1] if match else ""


def change_title(server: Icecast, mount: str, title: str) -> None:
    before = public_title(server, mount)
    server.set_title(mount, title)
    wait_until(lambda: public_title(server, mount) != before, f"the title is {title!r}")


def bitrate(streams: Streams, mount: str) -> float | None:
    return streams[mount].ingest_bitrate_bytes_per_second if mount in streams else None


async def test_source_is_live_and_its_listeners_are_counted(server: Icecast) -> None:
    async with watching(server) as watch, watching(server, password=None) as public:
        with server.publish("/live.mp3"):
            streams = await watch.until(lambda s: is_live(s, "/live.mp3"), "it is live")
            report = streams["/live.mp3"]
            assert (report.status, report.protocol, report.audio_codec) == (Status.LIVE, "icecast", "mp3")
            assert abs(time.time() - (report.start_timestamp_seconds or 0)) < GENEROUS_SECONDS
            assert (report.viewers, report.viewers_peak, report.slow_viewers) == (0, 0, 0)
            with server.listen("/live.mp3"):
                for each in (watch, public):
                    streams = await each.until(lambda s: s["/live.mp3"].viewers == 1, "one listens")
                    assert streams["/live.mp3"].viewers_peak == 1
            streams = await watch.until(lambda s: s["/live.mp3"].viewers == 0, "nobody listens")
            assert streams["/live.mp3"].viewers_peak == 1
        assert watch.result.version == public.result.version
        assert watch.result.version.startswith("2.4.")


async def test_ogg_source_declares_its_codec_and_rates(server: Icecast) -> None:
    async with watching(server) as watch:
        with server.publish("/vorbis.ogg", form="vorbis", bits_per_second=64_000), server.publish("/aac", form="aac"):
            streams = await watch.until(
                lambda s: is_live(s, "/aac") and is_live(s, "/vorbis.ogg") and s["/vorbis.ogg"].audio_codec, "its facts"
            )
    report = streams["/vorbis.ogg"]
    assert (report.audio_codec, streams["/aac"].audio_codec) == ("vorbis", "aac")
    assert (report.audio_sample_rate_hertz, report.audio_channels) == (48_000, 2)
    assert report.nominal_bitrate_bytes_per_second == 8000


async def test_killed_source_is_gone_with_and_without_a_listener(server: Icecast) -> None:
    async with watching(server) as watch:
        for has_listener in (False, True):
            with server.publish("/killed.mp3") as encoder:
                await watch.until(lambda s: is_live(s, "/killed.mp3"), "it is live")
                if has_listener:
                    with server.listen("/killed.mp3"):
                        await watch.until(lambda s: s["/killed.mp3"].viewers == 1, "one listens")
                        encoder.kill()
                        await watch.until(lambda s: "/killed.mp3" not in s, "it is gone")
                encoder.kill()
                await watch.until(lambda s: "/killed.mp3" not in s, "it is gone")


async def test_refused_sources_change_nothing(server: Icecast) -> None:
    async with watching(server) as watch:
        with server.publish("/taken.mp3") as encoder:
            start = (await watch.until(lambda s: is_live(s, "/taken.mp3"), "it is live"))["/taken.mp3"]
            with (
                server.publish("/taken.mp3") as second,
                server.publish("/taken.mp3", password="wrong") as stranger,
                server.publish("/other.mp3", password="wrong") as other,
            ):
                refused = (second, stranger, other)
                streams = await watch.until(lambda s: not any(each.is_running for each in refused), "all have ended")
            assert encoder.is_running
            assert streams["/taken.mp3"].start_timestamp_seconds == start.start_timestamp_seconds
            assert "/other.mp3" not in streams


async def test_wrong_admin_password_is_an_auth_error(server: Icecast) -> None:
    async with watching(server, password="wrong") as watch:
        with pytest.raises(UpstreamError) as failed:
            await watch.poll()
    assert failed.value.reason is Reason.AUTH


async def test_hidden_mount_is_listed_only_with_credentials(server: Icecast) -> None:
    async with watching(server) as watch, watching(server, password=None) as public:
        with server.publish("/secret.mp3"):
            await watch.until(lambda s: is_live(s, "/secret.mp3"), "it is live")
            assert "/secret.mp3" not in await public.poll()


async def test_hostile_titles_hide_no_stream(server: Icecast) -> None:
    titles = [
        "5.", ".5", "-", "-.5", "5e", "-007", "true", "1e5", 'a "quoted" \\ title', "control \x01 \x1f", "</title>&",
        '","listeners":99,"title":"', "}]}", ",,", "é",
    ]  # fmt: skip
    async with watching(server) as watch, watching(server, password=None) as public:
        with server.publish("/titles.mp3"):
            await watch.until(lambda s: is_live(s, "/titles.mp3"), "it is live")
            with server.listen("/titles.mp3"):
                await watch.until(lambda s: s["/titles.mp3"].viewers == 1, "one listens")
                for title in titles:
                    await asyncio.to_thread(change_title, server, "/titles.mp3", title)
                    for each in (watch, public):
                        report = (await each.poll())["/titles.mp3"]
                        assert (report.live, report.viewers) == (True, 1), title


async def test_listeners_move_to_the_fallback_and_back(server: Icecast) -> None:
    async with watching(server) as watch, watching(server, password=None) as public:
        with server.publish("/backup.mp3"):
            await watch.until(lambda s: is_live(s, "/backup.mp3"), "the fallback is live")
            with server.publish("/main.mp3") as encoder:
                await watch.until(lambda s: is_live(s, "/main.mp3"), "it is live")
                with server.listen("/main.mp3") as listener:
                    await watch.until(lambda s: s["/main.mp3"].viewers == 1, "one listens")
                    encoder.kill()
                    for each in (watch, public):
                        streams = await each.until(
                            lambda s: "/main.mp3" in s and s["/main.mp3"].fallback_active, "the listener has moved"
                        )
                        assert (streams["/main.mp3"].status, streams["/main.mp3"].live) == (Status.IDLE, False)
                        assert (streams["/main.mp3"].viewers, streams["/backup.mp3"].viewers) == (None, 1)
                    with server.publish("/main.mp3"):
                        for each in (watch, public):
                            streams = await each.until(
                                lambda s: is_live(s, "/main.mp3") and s["/main.mp3"].viewers == 1, "it is back"
                            )
                            assert streams["/main.mp3"].fallback_active is False
                    assert listener.is_connected


async def test_restarted_server_begins_with_new_totals(tmp_path: Path) -> None:
    with running_icecast(tmp_path) as server:
        async with watching(server) as watch:
            with server.publish("/live.mp3"):
                first = (await watch.until(lambda s: is_live(s, "/live.mp3"), "it is live"))["/live.mp3"]
                server.stop()
            with pytest.raises(UpstreamError) as failed:
                await watch.poll()
            assert failed.value.reason is Reason.CONNECT
            server.start()
            assert await watch.poll() == {}
            with server.publish("/live.mp3"):
                again = (await watch.until(lambda s: is_live(s, "/live.mp3"), "it is live again"))["/live.mp3"]
    assert again.ingest_bytes == 0
    # in whole seconds, which may be the same
    assert (again.start_timestamp_seconds or 0) >= (first.start_timestamp_seconds or 0) > 0


async def test_bitrate_is_measured_and_frozen_source_shows_in_its_total(background: asyncio.Task[None]) -> None:
    """The last test, because the others run in the meantime."""
    await background
