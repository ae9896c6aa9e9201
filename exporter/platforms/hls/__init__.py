"""HLS playback checks: fetches streams as a viewer's player does, from any server or content delivery network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import structlog

from exporter.config.playback import PlaybackSettings
from exporter.http.auth import auth_from_settings
from exporter.http.media import MediaFetcher
from exporter.platforms.api import (
    ALL_STREAMS,
    Clock,
    DropCounter,
    FetchResult,
    Field,
    Platform,
    Reason,
    Requests,
    ShardFilter,
    StreamReport,
    UpstreamClient,
    UpstreamError,
)
from exporter.platforms.hls.stream_check import StreamCheck
from exporter.platforms.playback import traffic
from exporter.platforms.playback.fetch_log import FetchLog
from exporter.runtime.logging import describe_exception

log = structlog.get_logger()

FIRST_LOOK_SECONDS = 1.0
"""How long the first poll of a stream waits for its segments, so that it has a verdict."""
CHECKS_PER_STEP = 25
"""Number of checks to process before yielding to the event loop: about two milliseconds of work."""
FEEDS = frozenset(
    {
        "name", "protocol", "video_codec", "audio_codec", "resolution", "status", "live", "latency_seconds",
        "target_latency_seconds", "renditions", "playable", "unplayable_reason", "playback_detail", "playback_notes",
        "playback_findings", "playback_forbidden", "media_changed_timestamp_seconds", "media_edge_timestamp_seconds",
        "segment_target_seconds", "window_seconds", "media_segments", "media_seconds", "missed_segments",
        "sequence_resets", "sequence_regressions", "sequence_conflicts", "discontinuities", "gap_segments",
        "segment_fetch_failures", "segment_download_seconds", "segment_media_seconds", "segment_first_byte_seconds",
        "media_bitrates", "playable_renditions", "expected_renditions", "audio_present", "video_present",
    }
)  # fmt: skip


class HlsSettings(PlaybackSettings):
    """HLS streams on one server or content delivery network."""

    platform: Literal["hls"] = Field(default="hls", description="The platform's name.")


class Hls(Platform[HlsSettings]):
    """Checks the streams of one server. A failed fetch is a finding about the stream, not a failed poll."""

    name: ClassVar[str] = "hls"
    settings_class = HlsSettings
    feeds: ClassVar[frozenset[str]] = FEEDS

    def __init__(
        self, settings: HlsSettings, client: UpstreamClient, clock: Clock, shard_filter: ShardFilter = ALL_STREAMS
    ) -> None:
        super().__init__(settings, client, clock, shard_filter)
        own = self.owned(settings.streams)
        self._log = FetchLog(client.vantage)
        self._fetcher = MediaFetcher(
            url=settings.url,
            clock=clock,
            stream_urls=[settings.playlist_url(stream.url.get()) for stream in own],
            hosts=settings.hosts,
            auth=auth_from_settings(settings.auth),
            headers=settings.headers,
            tls=settings.tls,
            max_requests_per_server=max(2, settings.max_concurrent_requests),
            observe=client.observe,
        )
        self._checks = [
            StreamCheck(stream, settings, fetcher=self._fetcher, clock=clock, log=self._log) for stream in own
        ]
        self._tasks: set[asyncio.Task[None]] = set()
        self._has_looked = False
        self._is_down = False
        """Whether no server was reached when a playlist was last requested, because of the exporter's own network."""

    async def fetch(self, requests: Requests, drops: DropCounter) -> FetchResult:  # noqa: ARG002 - reads no records
        """Request the playlists that are due, and start to fetch new segments, which later polls report."""
        if not self._checks:
            return FetchResult(not_owned=True)
        deadline = requests.deadline
        failures: dict[str, Reason] = {}
        reached, unreached = self._log.reached, self._log.unreached
        async with asyncio.TaskGroup() as group:
            async for check in _in_steps(self._checks):
                group.create_task(self._fetch_one(check, deadline, failures))
        if self._log.reached > reached or not self.client.vantage.is_down:
            # while a server is reached, only the streams on others are unknown
            self._is_down = False
        elif self._log.unreached > unreached:
            self._is_down = True
        started: list[asyncio.Task[None]] = []
        async for check in _in_steps(self._checks):
            with self._guard(check, failures):
                started += check.apply(self._start_task)
        if self._is_down:
            hosts = self.client.vantage.describe()
            raise UpstreamError(Reason.VANTAGE, f"no check could be made: {hosts} could not be reached")
        if started and not self._has_looked:
            left = deadline - self.clock.monotonic()
            await asyncio.wait(started, timeout=max(0.0, min(FIRST_LOOK_SECONDS, left)))
        self._has_looked = True
        reports: list[StreamReport] = []
        async for check in _in_steps(self._checks):
            with self._guard(check, failures):
                reports.append(check.report())
        return FetchResult(
            reports=[report for report in reports if report.id not in failures],
            failures=failures,
            fetch_failures=self._log.take(),
        )

    async def _fetch_one(self, check: StreamCheck, deadline: float, failures: dict[str, Reason]) -> None:
        """Request a stream's playlists."""
        with self._guard(check, failures):
            await check.fetch(deadline)

    @contextmanager
    def _guard(self, check: StreamCheck, failures: dict[str, Reason]) -> Iterator[None]:
        """Limit the effect of an unexpected error to one stream, which keeps its last report."""
        try:
            yield
        except Exception as error:
            self._log_error(error)
            failures[check.stream.id] = Reason.INTERNAL

    async def _look(self, work: Coroutine[Any, Any, None]) -> None:
        """Fetch and inspect a segment; an unexpected error costs only this look."""
        try:
            await work
        except Exception as error:
            self._log_error(error)

    def _log_error(self, error: Exception) -> None:
        labels = {"platform": self.name, "upstream": self.settings.name}
        log.error("playback check failed", **labels, error=describe_exception(error))

    def _start_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(self._look(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Stop fetching segments, and close all connections."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._fetcher.close()

    @classmethod
    def requests_per_minute(cls, settings: HlsSettings) -> float:
        """Estimate the requests for playlists and segments."""
        return traffic.requests_per_minute(settings)

    @classmethod
    def bytes_per_minute(cls, settings: HlsSettings) -> float:
        """Estimate the bytes of playlists and segments."""
        return traffic.bytes_per_minute(settings)


async def _in_steps(checks: Sequence[StreamCheck]) -> AsyncIterator[StreamCheck]:
    """Yield all checks, and let other tasks run from time to time."""
    for number, check in enumerate(checks):
        if number % CHECKS_PER_STEP == CHECKS_PER_STEP - 1:
            await asyncio.sleep(0)
        yield check


PLATFORM = Hls
