"""Polls that somebody waits for, beside those of the background, which they leave alone.

Each upstream that is probed has a coordinator of its own for it, with its own connections and memory, whose polls are
counted nowhere. What concerns the account as a whole is shared: the platform's request limit, and logins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import structlog

from exporter.model import Reason, UpstreamView
from exporter.polling.coordinator import Coordinator
from exporter.store import Store
from exporter.tracebacks import describe

log = structlog.get_logger()

LATE_SECONDS = 0.25
"""A poll ends at its deadline by itself; who waits for it waits so much longer."""


class UnknownUpstreamError(LookupError):
    """No upstream of that name is polled."""


class Probes:
    """Makes the polls; those of one upstream that are wanted at the same time are one."""

    def __init__(
        self,
        running: Callable[[str], Coordinator | None],
        build: Callable[[Coordinator, Store], Coordinator],
    ) -> None:
        """``running``: the coordinator of the background; ``build``: another of the same upstream, over that store."""
        self._running = running
        self._build = build
        self._targets: dict[str, _Target] = {}

    async def view(self, upstream: str, seconds: float | None = None) -> UpstreamView:
        """What a poll says now, or one that is under way; ``up`` is False when it failed or took too long.

        ``seconds``: how long it may take, where that is shorter than the upstream's own timeout.
        """
        running = self._running(upstream)
        if running is None:
            raise UnknownUpstreamError(upstream)
        target = self._targets.get(upstream)
        if target is None or target.running is not running:
            replaced = self._take_replaced()
            target = self._targets[upstream] = _Target(running, self._build)
            for former in replaced:
                await former.close()
        return await target.view(min(seconds or running.settings.timeout, running.settings.timeout))

    async def close(self) -> None:
        """Close every connection, and make no more."""
        self._running = lambda _: None
        targets = list(self._targets.values())
        self._targets.clear()
        for target in targets:
            await target.close()

    def _take_replaced(self) -> list[_Target]:
        """Those that a reload has changed or removed, to be closed."""
        replaced = [name for name, target in self._targets.items() if self._running(name) is not target.running]
        return [self._targets.pop(name) for name in replaced]


class _Target:
    """One upstream, for as long as its settings stay."""

    def __init__(self, running: Coordinator, build: Callable[[Coordinator, Store], Coordinator]) -> None:
        self.running = running
        self._name = running.settings.name
        self._store = Store()
        self._store.arrange([self._name])
        self._coordinator = build(running, self._store)
        self._poll: asyncio.Task[None] | None = None

    async def view(self, seconds: float) -> UpstreamView:
        poll = self._poll
        if poll is None or poll.done():
            poll = self._poll = asyncio.create_task(self._coordinator.poll(seconds), name=f"probe {self._name}")
        await asyncio.wait({poll}, timeout=seconds + LATE_SECONDS)
        view = self._store.get(self._name)
        if not poll.done() or poll.cancelled():
            return self._failed(Reason.TIMEOUT, f"no answer within {seconds:g} s")
        error = poll.exception()
        if error is not None or view is None:
            log.error("probe broke on an internal error", upstream=self._name, error=describe(error) if error else "")
            return self._failed(Reason.INTERNAL, "internal error")
        return view

    async def close(self) -> None:
        if self._poll is not None:
            self._poll.cancel()
            await asyncio.gather(self._poll, return_exceptions=True)
        await self._coordinator.close()

    def _failed(self, reason: Reason, message: str) -> UpstreamView:
        """What is known from before, with an upstream that does not answer."""
        settings = self.running.settings
        view = self._store.get(self._name) or UpstreamView(
            platform=settings.platform,
            upstream=settings.name,
            host=settings.host,
            health_score=self._coordinator.platform.health_score,
            poll_interval_seconds=settings.interval,
        )
        return msgspec.structs.replace(view, up=False, last_error=message, last_error_reason=reason)
