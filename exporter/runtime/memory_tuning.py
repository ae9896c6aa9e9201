"""Settings of Python's garbage collector and of the C library's heap.

Memory that a scrape has freed stays for the next one, and goes back to the system once a minute. glibc by itself gives
back what is free at the end of a heap after every scrape, and a quarter of the next one's time goes into making these
pages again. What is free elsewhere it keeps for good; and what stays from poll to poll lies between what scrapes need:
at 10,000 streams 170 MB became 200 MB within minutes, more than a quarter of it free.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from exporter.runtime.clock import Clock

GIVEN_BACK_EVERY_SECONDS: Final = 60.0


def freeze_startup_objects() -> None:
    """Leave the objects that exist now out of all further collections.

    Modules and classes, several hundred thousand objects, stay until the end. A full collection that includes them
    holds the event loop for 50 ms.
    """
    gc.collect()
    gc.freeze()


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Switch automatic collections off while many objects are created, which would take three times as long."""
    is_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if is_enabled:
            gc.enable()


class _Option(NamedTuple):
    number: int
    """In glibc's malloc.h."""
    value: int
    variable: str
    """Where people set it, which goes before."""


_OPTIONS: Final = (
    _Option(-1, 1 << 30, "MALLOC_TRIM_THRESHOLD_"),
    # the most there may be: larger blocks are a mapping of their own
    _Option(-3, 32 << 20, "MALLOC_MMAP_THRESHOLD_"),
    # with a heap for each thread that writes scrapes, each of them would hold what one scrape needs
    _Option(-8, 1, "MALLOC_ARENA_MAX"),
)


def _glibc() -> ctypes.CDLL | None:
    """The C library of this process; None when it is another one: musl and macOS manage by themselves."""
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):
        return None
    return library if hasattr(library, "malloc_trim") else None


def tune_allocator() -> None:
    """To be called before there are threads; ``mallopt(3)``."""
    library = _glibc()
    if library is not None:
        for option in _OPTIONS:
            if option.variable not in os.environ:
                library.mallopt(option.number, option.value)


async def trim_periodically(clock: Clock) -> None:
    """Give back what is free once a minute, outside the event loop, for as long as the process serves."""
    library = _glibc()
    while library is not None:
        await clock.sleep(GIVEN_BACK_EVERY_SECONDS)
        await asyncio.to_thread(library.malloc_trim, ctypes.c_size_t(0))
