"""Polls on demand, for ``/probe``; they do not affect the scheduled polls.

Each probed upstream has a second coordinator, with its own connections and memory, whose polls are not counted in any
metric. Only what belongs to the account as a whole is shared: the platform's rate limit, and logins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import structlog

from exporter.model import Reason, UpstreamState
from exporter.polling.coordinator import Coordinator
from exporter.runtime.logging import describe_exception
from exporter.store import Store

log = structlog.get_logger()

EXTRA_WAIT_SECONDS = 0.25
"""Extra time a waiter allows after the poll's own deadline."""


class UnknownUpstreamError(LookupError):
    """No upstream of that name is polled."""


class OnDemandPolls:
    """Polls upstreams on demand; simultaneous requests for one upstream share a poll."""

    def __init__(
        self,
        find_scheduled: Callable[[str], Coordinator | None],
        build: Callable[[Coordinator, Store], Coordinator],
    ) -> None:
        """``find_scheduled`` returns the coordinator that polls an upstream on schedule.

        ``build`` returns another coordinator for the same upstream, which publishes to the given store.
        """
        self._find_scheduled = find_scheduled
        self._build = build
        self._targets: dict[str, _ProbeTarget] = {}

    async def poll(self, upstream: str, seconds: float | None = None) -> UpstreamState:
        """Poll an upstream, or join a poll in progress; ``up`` is False if it failed or took too long.

        ``seconds``: time limit, if shorter than the upstream's own timeout. Raises ``UnknownUpstreamError``.
        """
        scheduled = self._find_scheduled(upstream)
        if scheduled is None:
            raise UnknownUpstreamError(upstream)
        target = self._targets.get(upstream)
        if target is None or target.scheduled is not scheduled:
            replaced = self._pop_replaced_targets()
            target = self._targets[upstream] = _ProbeTarget(scheduled, self._build)
            for replaced_target in replaced:
                await replaced_target.close()
        timeout = scheduled.settings.timeout
        return await target.poll(min(seconds or timeout, timeout))

    async def close(self) -> None:
        """Close every connection and refuse further polls."""
        self._find_scheduled = lambda _: None
        targets = list(self._targets.values())
        self._targets.clear()
        for target in targets:
            await target.close()

    def _pop_replaced_targets(self) -> list[_ProbeTarget]:
        """Remove the targets that a reload changed or removed, and return them to be closed."""
        replaced = [
            name for name, target in self._targets.items() if self._find_scheduled(name) is not target.scheduled
        ]
        return [self._targets.pop(name) for name in replaced]


class _ProbeTarget:
    """One probed upstream, for as long as its settings stay the same."""

    def __init__(self, scheduled: Coordinator, build: Callable[[Coordinator, Store], Coordinator]) -> None:
        self.scheduled = scheduled
        self._name = scheduled.settings.name
        self._store = Store()
        self._store.arrange([self._name])
        self._coordinator = build(scheduled, self._store)
        self._poll: _SharedPoll | None = None

    async def poll(self, seconds: float) -> UpstreamState:
        try:
            async with asyncio.timeout(seconds + EXTRA_WAIT_SECONDS) as scope:
                if self._poll is None:
                    await self._run_poll(seconds, scope)
                else:
                    await self._poll.wait()
        except TimeoutError:
            return self._failed_state(Reason.TIMEOUT, f"no answer within {seconds:g} s")
        except Exception as error:
            log.error("probe broke on an internal error", upstream=self._name, error=describe_exception(error))
            return self._failed_state(Reason.INTERNAL, "internal error")
        state = self._store.get(self._name)
        assert state is not None
        return state

    async def close(self) -> None:
        if self._poll is not None:
            await self._poll.stop()
        await self._coordinator.close()

    async def _run_poll(self, seconds: float, scope: asyncio.Timeout) -> None:
        """Poll in the caller's own task, which others may join: a separate task costs as much as half a request."""
        self._poll = poll = _SharedPoll(scope)
        try:
            await self._coordinator.poll(seconds)
        except BaseException as error:
            poll.error = error
            raise
        finally:
            self._poll = None
            poll.finished.set()

    def _failed_state(self, reason: Reason, message: str) -> UpstreamState:
        """Return the last known state with ``up`` False and this error."""
        settings = self.scheduled.settings
        state = self._store.get(self._name) or UpstreamState(
            platform=settings.platform,
            upstream=settings.name,
            host=settings.host,
            health_score=self._coordinator.platform.health_score,
            poll_interval_seconds=settings.interval,
        )
        return msgspec.structs.replace(state, up=False, last_error=message, last_error_reason=reason)


class _SharedPoll:
    """A poll that runs in one caller's task while other callers wait for it."""

    def __init__(self, scope: asyncio.Timeout) -> None:
        self.finished = asyncio.Event()
        self.error: BaseException | None = None
        self._scope = scope

    async def wait(self) -> None:
        """Wait until the poll ends. Raises its error, or ``TimeoutError`` if it was cancelled."""
        await self.finished.wait()
        if isinstance(self.error, asyncio.CancelledError):
            raise TimeoutError
        if self.error is not None:
            raise self.error

    async def stop(self) -> None:
        """Cancel the poll and wait until it ends."""
        if not self._scope.expired():
            self._scope.reschedule(asyncio.get_running_loop().time())
        await self.finished.wait()
