"""Polls that somebody waits for, beside those of the background, which they leave alone.

Each upstream that is probed has a coordinator of its own for it, with its own connections and memory, whose polls are
counted nowhere. What concerns the account as a whole is shared: the platform's request limit, and logins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import msgspec
import structlog

from exporter.model import Reason, StreamState, UpstreamState
from exporter.polling.coordinator import Coordinator
from exporter.polling.histograms import PollHistograms
from exporter.runtime.logging import describe_exception
from exporter.store import Store

log = structlog.get_logger()

LATE_SECONDS = 0.25
"""A poll ends at its deadline by itself; who waits for it waits so much longer."""


class UnknownUpstreamError(LookupError):
    """No upstream of that name is polled."""


class NoHistograms(PollHistograms):
    """No histograms: polls that somebody asks for are no measure of how values spread."""

    def observe_in_steps(self, states: Iterator[StreamState]) -> Iterator[None]:  # noqa: ARG002 - nothing is kept
        """Take nothing in."""
        return iter(())


class OnDemandPolls:
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

    async def view(self, upstream: str, seconds: float | None = None) -> UpstreamState:
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
        self._poll: _Poll | None = None

    async def view(self, seconds: float) -> UpstreamState:
        try:
            async with asyncio.timeout(seconds + LATE_SECONDS) as scope:
                if self._poll is None:
                    await self._make_poll(seconds, scope)
                else:
                    await self._poll.ended()
        except TimeoutError:
            return self._failed(Reason.TIMEOUT, f"no answer within {seconds:g} s")
        except Exception as error:
            log.error("probe broke on an internal error", upstream=self._name, error=describe_exception(error))
            return self._failed(Reason.INTERNAL, "internal error")
        view = self._store.get(self._name)
        assert view is not None
        return view

    async def close(self) -> None:
        if self._poll is not None:
            await self._poll.stop()
        await self._coordinator.close()

    async def _make_poll(self, seconds: float, scope: asyncio.Timeout) -> None:
        """Poll for oneself and for who comes meanwhile: a task of its own would cost as much as half a request."""
        self._poll = poll = _Poll(scope)
        try:
            await self._coordinator.poll(seconds)
        except BaseException as error:
            poll.error = error
            raise
        finally:
            self._poll = None
            poll.over.set()

    def _failed(self, reason: Reason, message: str) -> UpstreamState:
        """What is known from before, with an upstream that does not answer."""
        settings = self.running.settings
        view = self._store.get(self._name) or UpstreamState(
            platform=settings.platform,
            upstream=settings.name,
            host=settings.host,
            health_score=self._coordinator.platform.health_score,
            poll_interval_seconds=settings.interval,
        )
        return msgspec.structs.replace(view, up=False, last_error=message, last_error_reason=reason)


class _Poll:
    """A poll that somebody makes, for those who wait for it."""

    def __init__(self, scope: asyncio.Timeout) -> None:
        self.over = asyncio.Event()
        self.error: BaseException | None = None
        self._scope = scope

    async def ended(self) -> None:
        """Wait until it is over. Raises what it broke on; ``TimeoutError`` when it was cut off."""
        await self.over.wait()
        if isinstance(self.error, asyncio.CancelledError):
            raise TimeoutError
        if self.error is not None:
            raise self.error

    async def stop(self) -> None:
        """Cut it off, and wait until it is over."""
        if not self._scope.expired():
            self._scope.reschedule(asyncio.get_running_loop().time())
        await self.over.wait()
