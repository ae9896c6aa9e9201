"""A platform as the service builds it, with the real client, polled by the test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from exporter.config.upstream import UpstreamSettings
from exporter.http.client import Requests, UpstreamClient
from exporter.metrics.passthrough import parse_passthrough
from exporter.model import PollResult, StreamReport
from exporter.platforms.base import Platform
from exporter.runtime.clock import Clock

MIN_TIMEOUT = 10.0
"""Minimum poll timeout, unless the test sets one; less would be too short on a busy machine."""


class Polled:
    """One upstream; ``requests`` are those of the last poll."""

    def __init__(self, platform: Platform[Any], client: UpstreamClient, timeout: float) -> None:
        self.platform = platform
        platform.passthrough_parser = parse_passthrough
        self.client = client
        self.requests: Requests = client.requests(timeout)
        self._timeout = timeout

    async def poll(self) -> PollResult:
        self.requests = self.client.requests(self._timeout)
        return await self.platform.poll(self.requests)

    async def streams(self) -> dict[str, StreamReport]:
        """Poll once and return the reports by id."""
        return {report.id: report for report in (await self.poll()).streams}


@asynccontextmanager
async def polled(kind: type[Platform[Any]], settings: UpstreamSettings, clock: Clock) -> AsyncIterator[Polled]:
    is_given = "timeout" in settings.model_fields_set
    timeout = settings.timeout if is_given else max(settings.timeout, MIN_TIMEOUT)
    client = UpstreamClient.from_settings(settings, clock, lambda endpoint, code, seconds: None)
    try:
        yield Polled(kind(settings, client, clock), client, timeout)
    finally:
        await client.close()
