"""Helpers to cancel asyncio tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any


async def cancel_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait for them."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def run_within(seconds: float, functions: Iterable[Callable[[], Coroutine[Any, Any, None]]]) -> None:
    """Run functions concurrently and cancel those that take longer; 0 seconds runs none."""
    tasks = [asyncio.create_task(function()) for function in functions] if seconds else []
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=seconds)
        await cancel_tasks(late)
