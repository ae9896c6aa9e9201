"""Polls on demand, for ``/probe``; they do not affect the scheduled polls.

Each probed upstream has a second coordinator with its own connections and state, whose polls are not counted in any
metric. It shares only what the platform counts per account: logins, and the rate limit, of which the scheduled polls
get what they need. However often an upstream is probed, it is polled at most once per half interval.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import structlog

from exporter.model import Reason, UpstreamState
from exporter.polling.coordinator import Coordinator
from exporter.runtime.clock import Clock
from exporter.runtime.logging import describe_exception
from exporter.runtime.tasks import cancel_tasks
from exporter.store import Store

log = structlog.get_logger()

EXTRA_WAIT_SECONDS = 0.25
"""Extra time a waiter allows after the poll's own deadline."""
REUSE_SHARE = 0.5
"""Time after the start of a poll during which its result is reused, as a fraction of the interval."""


class UnknownUpstreamError(LookupError):
    """There is no upstream with this name."""


class OnDemandPolls:
    """Polls upstreams on demand; callers within half an interval share a poll."""

    def __init__(
        self,
        find_scheduled: Callable[[str], Coordinator | None],
        build: Callable[[Coordinator, Store], Coordinator],
        clock: Clock,
        join: Callable[[UpstreamState], UpstreamState] | None = None,
    ) -> None:
        """``find_scheduled`` returns the coordinator of an upstream's scheduled polls.

        ``build`` returns a second coordinator for the same upstream, which publishes to the given store. ``join`` adds
        what is known from the states of other upstreams.
        """
        self._clock = clock
        self._find_scheduled = find_scheduled
        self._build = build
        self._join = join or (lambda state: state)
        self._targets: dict[str, _ProbeTarget] = {}

    async def poll(self, upstream: str, seconds: float | None = None) -> UpstreamState:
        """Return the result of a poll that started within the last half interval, or of a new one.

        ``up`` is False if it failed or took too long. ``seconds``: how long the caller waits, at most the upstream's
        timeout; the poll continues after that. Raises ``UnknownUpstreamError``.
        """
        scheduled = self._find_scheduled(upstream)
        if scheduled is None:
            raise UnknownUpstreamError(upstream)
        target = self._targets.get(upstream)
        if target is None or target.scheduled is not scheduled:
            replaced = self._pop_replaced_targets()
            target = self._targets[upstream] = _ProbeTarget(scheduled, self._build, self._clock)
            for replaced_target in replaced:
                await replaced_target.close()
        timeout = scheduled.settings.timeout
        return self._join(await target.poll(min(seconds or timeout, timeout)))

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
    """One probed upstream; replaced when its settings change."""

    def __init__(
        self, scheduled: Coordinator, build: Callable[[Coordinator, Store], Coordinator], clock: Clock
    ) -> None:
        self.scheduled = scheduled
        self._name = scheduled.settings.name
        self._store = Store()
        self._store.arrange([self._name])
        self._coordinator = build(scheduled, self._store)
        self._clock = clock
        self._poll: asyncio.Task[bool] | None = None
        """The last poll, which may still be running."""
        self._began = 0.0
        """Steady seconds when the last poll started."""

    async def poll(self, seconds: float) -> UpstreamState:
        if self._poll is None or (self._poll.done() and not self._is_recent()):
            # a separate task with the upstream's full timeout, because callers that wait longer share the result
            self._began = self._clock.monotonic()
            self._poll = asyncio.create_task(self._run_poll(), name=f"probe {self._name}")
        poll = self._poll
        if not poll.done():
            await asyncio.wait([poll], timeout=seconds + EXTRA_WAIT_SECONDS)
        if not poll.done() or poll.cancelled():
            return self._failed_state(Reason.TIMEOUT, f"timed out after {seconds:g} s")
        if not poll.result():
            return self._failed_state(Reason.INTERNAL, "internal error")
        # facts may have become stale since the poll
        await self._coordinator.refresh()
        state = self._store.get(self._name)
        assert state is not None
        return state

    async def close(self) -> None:
        if self._poll is not None:
            await cancel_tasks([self._poll])
        await self._coordinator.close()

    def _is_recent(self) -> bool:
        return self._clock.monotonic() - self._began < REUSE_SHARE * self.scheduled.settings.interval

    async def _run_poll(self) -> bool:
        """Poll; return False if an internal error ended it."""
        try:
            await self._coordinator.poll()
        except Exception as error:
            log.error("internal error in probe", upstream=self._name, error=describe_exception(error))
            return False
        return True

    def _failed_state(self, reason: Reason, message: str) -> UpstreamState:
        """Return the last known state with ``up`` False and this error."""
        settings = self.scheduled.settings
        state = self._store.get(self._name) or UpstreamState(
            platform=settings.platform,
            upstream=settings.name,
            host=settings.host,
            health_score=self._coordinator.platform.health_score,
            poll_interval_seconds=settings.interval,
            labels=settings.label_pairs,
        )
        return msgspec.structs.replace(state, up=False, last_error=message, last_error_reason=reason)
