"""Run the process that expands a calendar, with limits on time and memory."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

import msgspec

from exporter.calendars.local_time import Span

MAX_BYTES: Final = 5 * 2**20
"""Maximum size of a calendar."""
MAX_EVENTS: Final = 1000
"""Maximum number of events to expand. If there are more, fewer days are expanded."""
DAYS_BACK, DAYS_AHEAD = 2, 14
"""Days before and after now to expand. Events that have ended matter for the time that streams stay live after them."""
LEAST_DAYS_AHEAD: Final = 1
"""A calendar with so many events that fewer days can be expanded is refused."""
WORKER_SECONDS: Final = 60.0
"""Maximum time for the process to run."""
REFUSED_EXIT: Final = 3
"""Exit code of the process if the calendar cannot be used; its output is the reason."""
INSTALL_HINT: Final = 'needs the extra calendar: pip install "stream-exporter[calendar]"'
_LIBRARIES = ("icalendar", "recurring_ical_events")
_SOURCE_ROOT = Path(__file__).resolve().parent.parent.parent


class CalendarError(Exception):
    """A calendar that cannot be used. The message contains nothing from the calendar that could be a secret."""


class Event(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One occurrence of an event."""

    start: float
    """Unix seconds."""
    end: float
    summary: str


class Expansion(msgspec.Struct, frozen=True):
    """The events of a calendar around now. Nothing is known about the time before and after it."""

    known_from: float
    """Unix seconds."""
    known_until: float
    events: dict[str, list[Event]]
    """By time zone, in which all-day events and times without a time zone are read; sorted."""
    ignored: dict[str, int]
    """Number of events that could not be read, by cause."""
    unknown: list[Span]
    """When the events that could not be read may be; sorted, without overlaps."""
    unknown_zones: list[str]
    """Names of time zones that neither the calendar nor the IANA database defines."""

    def warnings(self) -> list[str]:
        """Return what is wrong with the calendar, although it can be used."""
        found = [f"{count} {'event' if count == 1 else 'events'} ignored: {why}" for why, count in self.ignored.items()]
        return found + [f"unknown time zone {name!r}; using the configured one" for name in self.unknown_zones]


def is_installed() -> bool:
    """Return whether the libraries of the extra are installed, without importing them."""
    return all(importlib.util.find_spec(name) is not None for name in _LIBRARIES)


def expand_now(content: bytes, now: float, timezones: Collection[str]) -> Expansion:
    """Expand a calendar; blocks for at most ``WORKER_SECONDS``. Raises ``CalendarError``."""
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            _command(now, timezones),
            input=content,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            start_new_session=True,
            timeout=WORKER_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _too_slow() from None
    except OSError as error:
        raise _no_process(error) from None
    return _read_result(done.returncode, done.stdout)


async def expand(content: bytes, now: float, timezones: Collection[str]) -> Expansion:
    """Like ``expand_now``, without blocking the event loop."""
    try:
        process = await asyncio.create_subprocess_exec(
            *_command(now, timezones),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            start_new_session=True,
        )
    except OSError as error:
        raise _no_process(error) from None
    try:
        async with asyncio.timeout(WORKER_SECONDS):
            output, _ = await process.communicate(content)
    except TimeoutError:
        raise _too_slow() from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return _read_result(process.returncode or 0, output)


def _command(now: float, timezones: Collection[str]) -> list[str]:
    return [sys.executable, "-P", "-m", "exporter.calendars", repr(now), *sorted(timezones)]


def _environment() -> Mapping[str, str]:
    given = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(_SOURCE_ROOT), *([given] if given else [])])}


def _read_result(code: int, output: bytes) -> Expansion:
    if code == 0:
        try:
            return msgspec.json.decode(output, type=Expansion)
        except msgspec.DecodeError:
            pass
    if code == REFUSED_EXIT and output:
        raise CalendarError(output.decode("utf-8", "replace"))
    if code < 0:
        raise _too_slow()
    raise CalendarError(f"the process that reads it failed (exit code {code})")


def _too_slow() -> CalendarError:
    return CalendarError("its events take too long to compute, or too much memory")


def _no_process(error: OSError) -> CalendarError:
    return CalendarError(f"cannot start a process to read it: {error.strerror or type(error).__name__}")
