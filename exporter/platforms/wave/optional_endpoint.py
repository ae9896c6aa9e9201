"""One thing that is asked for at its own interval, and may fail without anything else failing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import structlog

from exporter.http.client import Requests, UpstreamClient
from exporter.http.errors import UpstreamError
from exporter.model import Reason
from exporter.platforms.cached_fetch import STALE_AFTER_INTERVALS, CachedFetch
from exporter.platforms.parsing import DropCounter
from exporter.runtime.clock import Clock

log = structlog.get_logger()

T = TypeVar("T")
Read = Callable[[Requests, DropCounter, float], Awaitable[T]]
"""Asks, and reads the answer; the last argument: unix seconds from which on what is read now is stale."""


def was_not_sent(error: UpstreamError) -> bool:
    """Whether the request limit kept the request back: nothing has failed."""
    return error.reason is Reason.RATE_LIMITED and error.status is None


class Extra(Generic[T]):
    """A failure is told once, and leaves the last answer until it is stale."""

    def __init__(
        self, what: str, read: Read[T], *, interval: float, client: UpstreamClient, clock: Clock, stream: str = ""
    ) -> None:
        """``what`` and ``stream``: for the log."""
        self._what = what
        self._read = read
        self._client = client
        self._clock = clock
        self._stream = stream
        self._lifetime = STALE_AFTER_INTERVALS * interval
        self._known: CachedFetch[T] = CachedFetch(interval, clock)
        self._failing = False

    @property
    def is_due(self) -> bool:
        """Whether it is time to ask."""
        return self._known.due

    @property
    def asked_at(self) -> float:
        """When it was asked for last; what waits longest goes first."""
        return self._known.asked_at or 0.0

    @property
    def value(self) -> T | None:
        """The last answer, while it counts."""
        return self._known.value

    async def ask(self, poll: Requests, drops: DropCounter) -> None:
        """Ask now, until the poll's deadline. Raises ``UpstreamError``."""
        self._known.asked()
        try:
            value = await self._answer(poll, drops)
        except UpstreamError as error:
            if was_not_sent(error):
                self._known.not_asked()
            else:
                self._tell_failure(error)
            raise
        self._known.store(value)
        if self._failing:
            self._failing = False
            log.info("part of an upstream is back", **self._labels)

    async def _answer(self, poll: Requests, drops: DropCounter) -> T:
        left = poll.deadline - self._clock.monotonic()
        try:
            # reading may take long too, and must not take more than what is left
            async with asyncio.timeout(left):
                return await self._read(poll, drops, self._clock.now() + self._lifetime)
        except TimeoutError:
            raise UpstreamError(Reason.TIMEOUT, f"{self._what}: not read within the poll's time") from None

    def _tell_failure(self, error: UpstreamError) -> None:
        if not self._failing:
            self._failing = True
            log.warning("part of an upstream fails", **self._labels, reason=error.reason.value, error=str(error))

    @property
    def _labels(self) -> dict[str, str]:
        stream = {"stream": self._stream} if self._stream else {}
        return {"platform": self._client.platform, "upstream": self._client.upstream, "part": self._what, **stream}
