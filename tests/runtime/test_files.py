"""Reading files: refused files, deadlines, and files that change."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from exporter.runtime import files
from exporter.runtime.files import (
    FileError,
    NoAnswerError,
    WatchedFile,
    call_within,
    call_within_async,
    read_file,
    read_file_within,
    shared_deadline,
)
from tests.file_obstacles import OBSTACLES, put_obstacle

GENEROUS = 60.0
SHORT = 0.01
NO_ANSWER = "no answer from the file system within 0.01 s"


class Hung:
    """A function that does not return until it is released."""

    def __init__(self) -> None:
        self.calls = 0
        self.running = threading.Event()
        self._released = threading.Event()

    def __call__(self) -> str:
        self.calls += 1
        self.running.set()
        assert self._released.wait(GENEROUS)
        return "late"

    def release(self) -> None:
        self._released.set()


@pytest.fixture
def hung() -> Iterator[Hung]:
    function = Hung()
    yield function
    function.release()


def file_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("file ")]


def wait_for_threads_to_end() -> None:
    for thread in file_threads():
        thread.join(GENEROUS)
        assert not thread.is_alive()


# -- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [read_file, read_file_within])
def test_regular_file_up_to_the_limit_is_read(tmp_path: Path, read: Callable[[Path, int], files.File]) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 200_000)
    assert read(path, 200_000).content == b"x" * 200_000
    with pytest.raises(FileError, match="longer than 199999 bytes"):
        read(path, 199_999)


def test_file_of_unknown_size_is_read() -> None:
    assert read_file(Path("/proc/self/status"), 100_000).content.startswith(b"Name:")
    with pytest.raises(FileError, match="longer than 10 bytes"):
        read_file(Path("/proc/self/status"), 10)


def test_file_that_grows_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, fstat = tmp_path / "file", os.fstat
    path.write_bytes(b"short")

    def grow(descriptor: int) -> os.stat_result:
        status = fstat(descriptor)
        path.write_bytes(b"x" * 100)
        return status

    monkeypatch.setattr(os, "fstat", grow)
    with pytest.raises(FileError, match="longer than 10 bytes"):
        read_file(path, 10)


@pytest.mark.parametrize("kind", OBSTACLES)
def test_anything_but_a_regular_file_is_refused(tmp_path: Path, kind: str) -> None:
    cause = put_obstacle(tmp_path / "file", kind)
    with pytest.raises(FileError) as caught:
        read_file_within(tmp_path / "file", 100)
    assert caught.value.strerror == cause
    assert not isinstance(caught.value, NoAnswerError)


def test_fifo_that_appears_between_check_and_open_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, stat = tmp_path / "file", os.stat
    path.touch()

    def replace_after_look(given: Path) -> os.stat_result:
        status = stat(given)
        path.unlink()
        os.mkfifo(path)
        return status

    with monkeypatch.context() as patched:
        patched.setattr(os, "stat", replace_after_look)
        with pytest.raises(FileError, match="not a regular file"):
            read_file(path, 100)


def test_cause_given_by_the_operating_system_is_kept(tmp_path: Path) -> None:
    with pytest.raises(FileError) as caught:
        read_file(tmp_path / "missing", 100)
    assert caught.value.strerror == "No such file or directory"
    with pytest.raises(FileError) as caught:
        read_file(Path("a\0b"), 100)
    assert caught.value.strerror == "not a valid path"


@pytest.mark.parametrize(("mode", "is_world_readable"), [(0o644, True), (0o640, False)])
def test_world_readable_file_is_recognised(tmp_path: Path, mode: int, is_world_readable: bool) -> None:
    path = tmp_path / "file"
    path.touch()
    path.chmod(mode)
    assert read_file(path, 1).is_world_readable is is_world_readable


# -- deadlines --------------------------------------------------------------------------------------------------------


def test_hung_call_ends_at_the_deadline(hung: Hung, tmp_path: Path) -> None:
    with pytest.raises(NoAnswerError) as caught:
        call_within(tmp_path, hung, SHORT)
    assert caught.value.strerror == NO_ANSWER


async def test_hung_call_blocks_neither_the_event_loop_nor_its_executor(hung: Hung, tmp_path: Path) -> None:
    call = asyncio.create_task(call_within_async(tmp_path, hung, GENEROUS))
    while not hung.running.is_set():  # noqa: ASYNC110 - a thread sets it
        await asyncio.sleep(0)
    assert await asyncio.gather(*(asyncio.to_thread(int) for _ in range(50))) == [0] * 50
    assert not call.done()
    hung.release()
    assert await call == "late"


async def test_later_calls_for_a_hung_path_fail_at_once_and_start_no_thread(hung: Hung, tmp_path: Path) -> None:
    for _ in range(3):
        with pytest.raises(NoAnswerError, match=NO_ANSWER):
            await call_within_async(tmp_path, hung, SHORT)
        with pytest.raises(NoAnswerError, match=NO_ANSWER):
            call_within(tmp_path, hung, SHORT)
    assert hung.calls == len(file_threads()) == 1
    assert call_within(tmp_path / "other", lambda: 7, GENEROUS) == 7
    hung.release()
    wait_for_threads_to_end()
    assert call_within(tmp_path, lambda: 8, GENEROUS) == 8
    assert hung.calls == 1, "calls that timed out while waiting are not made later"


async def test_call_waits_for_the_running_call_of_the_same_path(hung: Hung, tmp_path: Path) -> None:
    """The running call may already have read old content."""
    first = asyncio.create_task(call_within_async(tmp_path, hung, GENEROUS))
    while not hung.running.is_set():  # noqa: ASYNC110 - a thread sets it
        await asyncio.sleep(0)
    second = asyncio.create_task(call_within_async(tmp_path, lambda: "own", GENEROUS))
    abandoned = asyncio.create_task(call_within_async(tmp_path, hung, GENEROUS))
    await asyncio.sleep(0)
    abandoned.cancel()
    with pytest.raises(asyncio.CancelledError):
        await abandoned
    assert len(file_threads()) == 1
    hung.release()
    assert (await first, await second) == ("late", "own")
    wait_for_threads_to_end()
    assert hung.calls == 1


def fail() -> None:
    raise TimeoutError("its own")


async def test_errors_of_the_function_are_raised(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError, match="its own"):
        call_within(tmp_path, fail)
    with pytest.raises(TimeoutError, match="its own"):
        await call_within_async(tmp_path, fail)


def test_hung_calls_share_a_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hung = [Hung() for _ in range(3)]
    monkeypatch.setattr(files, "LEAST_SECONDS", SHORT)
    try:
        with shared_deadline(0.0):
            for number, each in enumerate(hung):
                with pytest.raises(NoAnswerError, match=NO_ANSWER):
                    call_within(tmp_path / str(number), each, GENEROUS)
            # a busy machine may take longer to start the thread
            monkeypatch.setattr(files, "LEAST_SECONDS", GENEROUS)
            assert call_within(tmp_path, lambda: 7, GENEROUS) == 7, "a file system that answers is still read"
    finally:
        for each in hung:
            each.release()


def test_failed_thread_start_is_an_error_and_the_next_call_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(FileError, match="cannot start a thread"):
            call_within(tmp_path, int)
    assert call_within(tmp_path, int) == 0


# -- files that change ------------------------------------------------------------------------------------------------


async def test_watched_file_is_returned_when_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"first")
    watched = WatchedFile(path, 100)

    async def read() -> bytes | None:
        file = await watched.read_if_changed()
        return None if file is None else file.content

    assert [await read(), await read()] == [b"first", None]
    path.write_bytes(b"second")
    assert [await read(), await read()] == [b"second", None]
    path.rename(tmp_path / "aside")
    for kind in OBSTACLES:
        cause = put_obstacle(path, kind)
        for _ in range(2):
            with pytest.raises(FileError, match=cause):
                await read()
        path.rename(tmp_path / "away") if path.is_dir() else path.unlink()
    (tmp_path / "aside").rename(path)
    assert [await read(), await read()] == [b"second", None], "after an error, the file is returned even if unchanged"


async def test_content_that_arrived_too_late_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, hung, read = tmp_path / "file", Hung(), read_file
    path.write_bytes(b"first")
    monkeypatch.setattr(files, "DEADLINE_SECONDS", SHORT)
    monkeypatch.setattr(files, "read_file", lambda *arguments: (hung(), read(*arguments))[1])
    watched = WatchedFile(path, 100)
    with pytest.raises(NoAnswerError):
        await watched.read_if_changed()
    hung.release()
    wait_for_threads_to_end()
    monkeypatch.setattr(files, "DEADLINE_SECONDS", GENEROUS)
    file = await watched.read_if_changed()
    assert file is not None
    assert file.content == b"first"


def test_content_is_current_at_the_time_of_the_call(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for number in range(50):
        path.write_text(str(number))
        content = call_within(path, partial(read_file, path, 100)).content
        assert content == str(number).encode()
