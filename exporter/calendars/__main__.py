"""Expand the calendar on standard input: ``python -m exporter.calendars NOW TIMEZONE…``."""

from __future__ import annotations

import os
import resource
import sys
from contextlib import suppress
from typing import Final

import msgspec

from exporter.calendars.worker import INSTALL_HINT, MAX_BYTES, REFUSED_EXIT, CalendarError

CPU_SECONDS: Final = 20
MEMORY_BYTES: Final = 384 * 2**20
"""Address space, of which the libraries use about a quarter."""
NICENESS: Final = 10
"""Polls take precedence."""


def main(arguments: list[str]) -> int:
    """Write the expansion, or the reason why there is none, to standard output and return the exit code."""
    _limit_resources()
    content = sys.stdin.buffer.read(MAX_BYTES + 1)
    try:
        output = msgspec.json.encode(_expand(content, float(arguments[0]), arguments[1:]))
    except CalendarError as error:
        sys.stdout.buffer.write(str(error).encode())
        return REFUSED_EXIT
    sys.stdout.buffer.write(output)
    return 0


def _limit_resources() -> None:
    """Limit time and memory, as far as a sandbox allows it; the exporter also stops the process after a time."""
    for kind, limit in ((resource.RLIMIT_CPU, CPU_SECONDS), (resource.RLIMIT_AS, MEMORY_BYTES)):
        with suppress(OSError, ValueError):
            resource.setrlimit(kind, (limit, limit))
    with suppress(OSError):
        os.nice(NICENESS)


def _expand(content: bytes, now: float, timezones: list[str]) -> object:
    if len(content) > MAX_BYTES:
        raise CalendarError(f"it is larger than {MAX_BYTES} bytes")
    try:
        from exporter.calendars.expansion import expand_calendar
    except ImportError:
        raise CalendarError(INSTALL_HINT) from None
    try:
        return expand_calendar(content, now, timezones)
    except MemoryError:
        raise CalendarError("its events take too much memory") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
