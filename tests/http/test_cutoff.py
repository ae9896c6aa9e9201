"""What cuts off all requests of a poll: at its end as ``asyncio.timeout`` does one, and each after a silence."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from exporter.http.cutoff import CutOff, Watched
from tests.http.loop_clock import LoopTime

LONG = 60.0
Limit = Callable[[Coroutine[Any, Any, str], float], Coroutine[Any, Any, str]]


async def with_cut_off(work: Coroutine[Any, Any, str], seconds: float) -> str:
    return await CutOff(LONG).of(Watched(), work, seconds)


async def with_asyncio(work: Coroutine[Any, Any, str], seconds: float) -> str:
    async with asyncio.timeout(seconds):
        return await work


async def done() -> str:
    return "done"


async def forever() -> str:
    await asyncio.Event().wait()
    return "never"


async def failing() -> str:
    raise KeyError("its own")


async def stubborn() -> str:
    try:
        await forever()
    except asyncio.CancelledError:
        return "did not end"
    return "never"


async def failing_at_the_end() -> str:
    try:
        await forever()
    finally:
        raise KeyError("its own")


@pytest.fixture(params=[with_cut_off, with_asyncio])
def limit(request: pytest.FixtureRequest) -> Limit:
    made: Limit = request.param
    return made


async def outcome(work: Awaitable[str]) -> object:
    try:
        return await work
    except (Exception, asyncio.CancelledError) as error:
        return type(error)


@pytest.mark.parametrize(
    ("work", "seconds", "expected"),
    [
        (done, LONG, "done"),
        (failing, LONG, KeyError),
        (forever, 0.0, TimeoutError),
        (stubborn, 0.0, "did not end"),
        (failing_at_the_end, 0.0, KeyError),
    ],
)
async def test_what_comes_of_it(
    limit: Limit, work: Callable[[], Coroutine[Any, Any, str]], seconds: float, expected: object
) -> None:
    assert await outcome(limit(work(), seconds)) == expected
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_who_cancels_the_task_has_the_last_word(limit: Limit) -> None:
    task = asyncio.create_task(limit(forever(), LONG))
    await asyncio.sleep(0)
    task.cancel()
    assert await outcome(task) is asyncio.CancelledError


async def test_cancelled_at_the_same_moment(limit: Limit) -> None:
    task = asyncio.create_task(limit(forever(), 0.0))
    # in the turn after which the time is over
    asyncio.get_running_loop().call_soon(lambda: asyncio.get_running_loop().call_soon(task.cancel))
    assert await outcome(task) is asyncio.CancelledError


@pytest.fixture
def cut_off() -> CutOff:
    return CutOff(LONG)


async def test_those_that_are_done_are_done_and_the_others_end_together(cut_off: CutOff) -> None:
    works = (done, forever, failing, forever)
    results = await asyncio.gather(*(outcome(cut_off.of(Watched(), work(), 0.0)) for work in works))
    assert results == ["done", TimeoutError, KeyError, TimeoutError]


async def test_one_timer_for_all_and_none_when_all_are_done(cut_off: CutOff, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    timers: list[asyncio.TimerHandle] = []
    at = loop.call_at

    def noted(*args: Any, **options: Any) -> asyncio.TimerHandle:
        timers.append(at(*args, **options))
        return timers[-1]

    monkeypatch.setattr(loop, "call_at", noted)
    go = asyncio.Event()

    async def waiting() -> str:
        await go.wait()
        return "done"

    tasks = [asyncio.create_task(cut_off.of(Watched(), waiting(), LONG)) for _ in range(100)]
    await asyncio.sleep(0)
    assert [timer.cancelled() for timer in timers] == [False]
    go.set()
    assert await asyncio.gather(*tasks) == ["done"] * 100
    assert [timer.cancelled() for timer in timers] == [True]
    assert await cut_off.of(Watched(), done(), LONG) == "done"
    assert [timer.cancelled() for timer in timers] == [True, True]


# -- a request that needs another, such as a login --------------------------------------------------------------------


async def test_what_is_needed_is_cut_off_and_what_needed_it_hears_of_it(cut_off: CutOff) -> None:
    async def needy() -> str:
        return str(await outcome(cut_off.of(Watched(), forever(), LONG)))

    assert await outcome(cut_off.of(Watched(), needy(), 0.0)) == str(TimeoutError)


async def test_what_goes_on_beyond_the_end_is_cut_off_too(cut_off: CutOff) -> None:
    async def needy() -> str:
        await outcome(cut_off.of(Watched(), forever(), LONG))
        return await forever()

    assert await outcome(cut_off.of(Watched(), needy(), 0.0)) is TimeoutError


async def test_who_comes_while_others_are_ending_has_an_end_of_their_own(cut_off: CutOff) -> None:
    ending, go = asyncio.Event(), asyncio.Event()

    async def slow_to_end() -> str:
        try:
            return await forever()
        finally:
            ending.set()
            await go.wait()

    first = asyncio.create_task(cut_off.of(Watched(), slow_to_end(), 0.0))
    await ending.wait()
    assert await outcome(cut_off.of(Watched(), forever(), 0.0)) is TimeoutError
    assert first.cancelling() == 1
    go.set()
    assert await outcome(first) is TimeoutError


# -- silences ---------------------------------------------------------------------------------------------------------

END, SILENCE = 10.0, 4.0


class Asked:
    """Requests of one poll that wait for their platform."""

    def __init__(self) -> None:
        self._cut_off = CutOff(SILENCE)
        self.requests: list[Watched] = []
        self._tasks: list[asyncio.Task[object]] = []

    async def ask(self, *, listening: bool = True) -> Watched:
        """One more."""
        request = Watched()

        async def work() -> str:
            if listening:
                request.listen()
            return await forever()

        self._tasks.append(asyncio.create_task(outcome(self._cut_off.of(request, work(), END))))
        await asyncio.sleep(0)
        return request

    def ended(self) -> list[bool]:
        """Whether each has been cut off."""
        assert all(task.result() is TimeoutError for task in self._tasks if task.done())
        return [task.done() for task in self._tasks]


async def test_a_silence_ends_a_request_and_no_other(loop_time: LoopTime) -> None:
    asked = Asked()
    await asked.ask()
    await loop_time.advance(1.0)
    await asked.ask()
    await loop_time.advance(2.5)
    assert asked.ended() == [False, False]
    await loop_time.advance(0.5)
    assert asked.ended() == [True, False]
    await loop_time.advance(0.5)
    assert asked.ended() == [True, False]
    await loop_time.advance(0.5)
    assert asked.ended() == [True, True]


async def test_who_is_heard_goes_on_to_the_end(loop_time: LoopTime) -> None:
    asked = Asked()
    heard, silent = await asked.ask(), await asked.ask()
    await loop_time.advance(3.0)
    heard.listen()
    await loop_time.advance(3.0)
    assert asked.ended() == [False, True]
    assert silent.is_cut_off
    heard.listen()
    await loop_time.advance(3.9)
    assert asked.ended() == [False, True]
    await loop_time.advance(0.1)
    assert asked.ended() == [True, True]


async def test_who_waits_for_something_else_goes_on_to_the_end(loop_time: LoopTime) -> None:
    asked = Asked()
    await asked.ask(listening=False)
    between = await asked.ask()
    await loop_time.advance(3.0)
    between.stop_listening()
    await loop_time.advance(6.9)
    assert asked.ended() == [False, False]
    await loop_time.advance(0.1)
    assert asked.ended() == [True, True]
