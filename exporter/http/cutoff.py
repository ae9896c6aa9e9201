"""When requests end that nobody answers: one timer sees to all requests of a poll.

A timer of its own for the end of each, and another for each silence, took a seventh of a request's time.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Watched:
    """A request, while something is being done about it."""

    __slots__ = ("is_cut_off", "silent_since")

    def __init__(self) -> None:
        self.is_cut_off = False
        self.silent_since = math.inf
        """On the event loop's clock; infinite while the platform owes nothing."""

    def listen(self) -> None:
        """The platform is being asked, or has been heard: from now on it owes more."""
        self.silent_since = asyncio.get_running_loop().time()

    def stop_listening(self) -> None:
        """It owes nothing until it is asked again."""
        self.silent_since = math.inf


class CutOff:
    """Cuts off what many tasks do for their requests: all at the end of the poll's time, each after a silence."""

    __slots__ = ("_end", "_longest_silence", "_timer", "_within")

    def __init__(self, longest_silence: float) -> None:
        """``longest_silence``: seconds."""
        self._longest_silence = longest_silence
        self._end = 0.0
        self._within: dict[asyncio.Task[Any], Watched] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def of(self, request: Watched, work: Coroutine[Any, Any, T], seconds: float) -> T:
        """What comes of ``work``; raises ``TimeoutError`` when it is cut off, as ``asyncio.timeout`` does.

        ``seconds``: until the end, which is the same for all.
        """
        task = asyncio.current_task()
        assert task is not None
        needed_by = self._within.get(task)
        self._within[task] = request
        if self._timer is None:
            self._begin(seconds)
        others = task.cancelling()
        try:
            return await work
        except asyncio.CancelledError:
            # who else wants the task to end has the last word
            if request.is_cut_off and task.cancelling() == others + 1:
                raise TimeoutError from None
            raise
        finally:
            if request.is_cut_off:
                task.uncancel()
            self._leave(task, needed_by)

    def _begin(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._end = now + seconds
        self._timer = loop.call_at(min(self._end, now + self._longest_silence), self._look)

    def _look(self) -> None:
        """Cut off what has to end now, and look again when the next may have to."""
        loop = asyncio.get_running_loop()
        now = first = loop.time()
        for task, request in self._within.items():
            if request.is_cut_off:
                continue
            if now >= self._end or now - request.silent_since >= self._longest_silence:
                request.is_cut_off = True
                task.cancel()
            else:
                first = min(first, request.silent_since)
        again = min(self._end, first + self._longest_silence)
        self._timer = loop.call_at(again, self._look) if now < self._end else None

    def _leave(self, task: asyncio.Task[Any], needed_by: Watched | None) -> None:
        if needed_by is not None:
            # such as a login's: what needed it goes on, but not beyond the end
            self._within[task] = needed_by
            if self._timer is None:
                self._begin(0.0)
            return
        del self._within[task]
        if self._timer is not None and not self._within:
            self._timer.cancel()
            self._timer = None
