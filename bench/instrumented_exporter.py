"""The whole exporter, with measurements that are only possible from inside."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bench.server_process import serve_app
from exporter.cli.settings import load_settings
from exporter.polling import on_demand
from exporter.polling.coordinator import Coordinator
from exporter.runtime.logging import configure
from exporter.runtime.memory_tuning import freeze_startup_objects, trim_periodically, tune_allocator
from exporter.service import Service
from exporter.web.app import make_app
from exporter.web.options import WebOptions

LONG_SECONDS = 0.005


@asynccontextmanager
async def serving(file: str, watch: bool = False) -> AsyncIterator[tuple[int, dict[str, Callable[[], Any]]]]:
    """Commands: see below. ``stalls`` needs ``watch``, which costs a little CPU."""
    # log lines would mix with the responses
    configure("error", "logfmt")
    tune_allocator()
    # make each probe poll, because a cached result costs almost nothing
    on_demand.REUSE_SHARE = 0.0
    late: list[float] = []
    _record_lateness(late)
    service = Service(load_settings(Path(file), {}), load=lambda: load_settings(Path(file), {}))
    stalls = CallbackTimes()
    if watch:
        stalls.watch()

    async def poll() -> None:
        # keep the old states until the end, so that freeing them is included
        for name in [view.upstream for view in service.store.states()]:
            coordinator = service.coordinator(name)
            assert coordinator is not None
            await coordinator.poll()

    def forget() -> None:
        late.clear()
        stalls.forget()

    async with serve_app(make_app(service, options=WebOptions())) as port:
        await service.start()
        freeze_startup_objects()
        trimming = asyncio.create_task(trim_periodically(service.clock))
        yield (
            port,
            {
                "ready": lambda: service.ready and all(view.up for view in service.store.states()),
                "streams": lambda: sum(len(view.streams) for view in service.store.states()),
                "upstreams": lambda: len(service.store.states()),
                "series": lambda: service.exposition.render(frozenset({"streams"})).count(b"\nstream_"),
                "poll": poll,
                "reload": service.reload,
                "forget": forget,
                "lateness": lambda: sorted(late),
                "stalls": stalls.figures,
            },
        )
        trimming.cancel()
        await service.stop()


def _record_lateness(late: list[float]) -> None:
    """Append to the list how many seconds after its due time every poll starts."""
    poll = Coordinator.poll

    async def timed_poll(self: Coordinator) -> None:
        late.append(self._clock.monotonic() - self._schedule.due)
        await poll(self)

    Coordinator.poll = timed_poll  # type: ignore[method-assign]


class CallbackTimes:
    """Durations of callbacks in the event loop."""

    def __init__(self) -> None:
        self._longest_cpu = self._longest = 0.0
        self._long = 0

    def forget(self) -> None:
        """Reset the figures."""
        self._longest_cpu = self._longest = 0.0
        self._long = 0

    def figures(self) -> dict[str, float]:
        """Return the longest callback, by CPU time and by wall time, and the number of long callbacks."""
        return {"cpu": self._longest_cpu, "clock": self._longest, "long": self._long}

    def watch(self) -> None:
        """Time every callback from now on."""
        run = asyncio.Handle._run  # noqa: SLF001

        def timed(handle: asyncio.Handle) -> None:
            began, began_cpu = time.perf_counter(), time.thread_time()
            run(handle)
            self._longest_cpu = max(self._longest_cpu, time.thread_time() - began_cpu)
            took = time.perf_counter() - began
            self._longest = max(self._longest, took)
            self._long += took > LONG_SECONDS

        asyncio.Handle._run = timed  # type: ignore[method-assign, assignment]  # noqa: SLF001
