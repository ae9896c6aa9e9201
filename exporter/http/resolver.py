"""DNS lookups in their own threads, so that an unresponsive name server delays only the requests that need it.

asyncio's default executor has a few threads, which also read files, write the alert state and render pages; a dozen
hanging lookups would block all of that. Here, each lookup has its own thread, because a thread cannot be stopped while
the C library waits for the name server. There is one lookup at a time per name. All callers share it, and none of them
cancels it.
"""

from __future__ import annotations

import asyncio
import copy
import socket
import threading
from collections import OrderedDict
from contextlib import suppress
from typing import Final, NamedTuple
from weakref import WeakKeyDictionary

import structlog
from aiohttp.abc import AbstractResolver, ResolveResult

from exporter.runtime.clock import Clock

log = structlog.get_logger()

MAX_LOOKUPS: Final = 80
"""Maximum number of concurrent lookups, each with a thread. The systemd unit allows 128 tasks."""
RESERVED_LOOKUPS: Final = 16
"""Number of lookups reserved for names whose last lookup succeeded, in case lookups of many other names hang."""
KEEP_SECONDS: Final = 600.0
"""Maximum age of an address that is used after a failed lookup."""
KEEP_SECONDS_TLS: Final = 3600.0
"""The same for servers with a verified certificate, which proves that the address is still right."""
SECONDS_WITH_ADDRESS: Final = 0.3
"""Maximum time to wait for a lookup if an earlier address can be used."""
SECONDS_WITHOUT_ADDRESS: Final = 8.0
"""Maximum time to wait for a lookup otherwise.

Longer than 5 s, when the C library tries the next name server. Shorter than the default poll timeout, so that the error
gives the cause.
"""
MAX_NAMES: Final = 10_000
"""Maximum number of names whose addresses are kept."""
STACK_BYTES: Final = 2**20
"""Stack size of a lookup's thread; the default is 8 MiB of address space."""
WARNING_INTERVAL_SECONDS: Final = 600.0
NO_SUCH_NAME: Final = frozenset(
    getattr(socket, error) for error in ("EAI_NONAME", "EAI_NODATA") if hasattr(socket, error)
)
"""Errors that mean the name does not exist, as opposed to a failed lookup."""


class Address(NamedTuple):
    """One address of a host."""

    host: str
    family: int
    proto: int


Result = tuple[Address, ...] | Exception
"""The host's addresses, or the lookup's error."""


class _Name:
    """State of one host name: its lookup in flight and its last addresses."""

    def __init__(self, host: str, family: int) -> None:
        self.host = host
        self.family = family
        self.lookup: asyncio.Future[Result] | None = None
        """The lookup that is in flight or waiting for a thread."""
        self.began_at = 0.0
        """When that lookup was requested, on the steady clock."""
        self.addresses: tuple[Address, ...] = ()
        self.found_at = 0.0
        self.has_failed = False
        """Whether the last lookup failed."""
        self.warned_at: float | None = None

    @property
    def is_reliable(self) -> bool:
        """Whether the last lookup succeeded."""
        return bool(self.addresses) and not self.has_failed

    @property
    def rank(self) -> int:
        """Order in which names get a thread: reliable ones first, then new ones, then failing ones."""
        return 0 if self.is_reliable else 1 + self.has_failed

    def addresses_within(self, seconds: float, now: float) -> tuple[Address, ...]:
        """Return the last known addresses if they are at most ``seconds`` old."""
        return self.addresses if now - self.found_at <= seconds else ()


class Lookups:
    """All lookups of an event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._names: OrderedDict[tuple[str, int], _Name] = OrderedDict()
        """In order of use; the most recently used name is last."""
        self._waiting: list[_Name] = []
        self._running = 0

    async def find(
        self, host: str, family: int = socket.AF_UNSPEC, *, keep_seconds: float = 0.0
    ) -> tuple[Address, ...]:
        """Return a host's addresses; if the lookup fails, earlier ones that are at most ``keep_seconds`` old.

        Raises ``OSError``.
        """
        name = self._name_of(host, family)
        lookup = self._lookup_of(name)
        now = self._clock.monotonic()
        limit = SECONDS_WITH_ADDRESS if name.addresses_within(keep_seconds, now) else SECONDS_WITHOUT_ADDRESS
        # count the time that other callers have already waited for the same lookup
        left = name.began_at + limit - now
        if left > 0:
            await asyncio.wait([lookup], timeout=left)
        result = lookup.result() if lookup.done() else socket.gaierror(socket.EAI_AGAIN, "lookup timed out")
        if isinstance(result, tuple):
            return result
        kept = name.addresses_within(keep_seconds, self._clock.monotonic())
        if kept:
            return kept
        # a copy, because each raise adds to an exception's traceback
        raise copy.copy(result)

    def _name_of(self, host: str, family: int) -> _Name:
        name = self._names.setdefault((host, family), _Name(host, family))
        self._names.move_to_end((host, family))
        if len(self._names) > MAX_NAMES:
            oldest = next((key for key, other in self._names.items() if other.lookup is None), None)
            if oldest is not None:
                del self._names[oldest]
        return name

    def _lookup_of(self, name: _Name) -> asyncio.Future[Result]:
        """Return the lookup in flight, or request one."""
        if name.lookup is None:
            name.lookup = asyncio.get_running_loop().create_future()
            name.began_at = self._clock.monotonic()
            self._waiting.append(name)
            self._start_waiting()
            assert name.lookup is not None
        return name.lookup

    def _start_waiting(self) -> None:
        """Start waiting lookups while threads are available."""
        while self._waiting:
            name = min(self._waiting, key=lambda name: name.rank)
            if self._running >= (MAX_LOOKUPS if name.is_reliable else MAX_LOOKUPS - RESERVED_LOOKUPS):
                return
            self._waiting.remove(name)
            self._start(name)

    def _start(self, name: _Name) -> None:
        loop = asyncio.get_running_loop()
        self._running += 1

        def run() -> None:
            result = _look_up(name.host, name.family)
            # the event loop may have been closed in the meantime
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._finish, name, result)

        stack_bytes = threading.stack_size(STACK_BYTES)
        try:
            # a daemon thread instead of an executor's, because the process would wait for the latter at exit
            threading.Thread(target=run, name="name lookup", daemon=True).start()
        except RuntimeError:
            failure = socket.gaierror(socket.EAI_AGAIN, "cannot start a thread")
            loop.call_soon(self._finish, name, failure)
        finally:
            threading.stack_size(stack_bytes)

    def _finish(self, name: _Name, result: Result) -> None:
        self._running -= 1
        lookup, name.lookup = name.lookup, None
        assert lookup is not None
        if isinstance(result, tuple):
            name.addresses, name.found_at, name.has_failed = result, self._clock.monotonic(), False
        else:
            if isinstance(result, socket.gaierror) and result.errno in NO_SUCH_NAME:
                name.addresses = ()
            self._warn(name)
            name.has_failed = True
        lookup.set_result(result)
        self._start_waiting()

    def _warn(self, name: _Name) -> None:
        """Log the first failure after a success, if the last addresses may still be used."""
        now = self._clock.monotonic()
        if not name.is_reliable or not name.addresses_within(KEEP_SECONDS, now):
            return
        if name.warned_at is None or now - name.warned_at >= WARNING_INTERVAL_SECONDS:
            name.warned_at = now
            age = round(now - name.found_at)
            log.warning("host name cannot be resolved; using its last address", host=name.host, age_seconds=age)


def _look_up(host: str, family: int) -> Result:
    """Call the system's resolver, which may block for any time."""
    try:
        found = socket.getaddrinfo(host, 0, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        return tuple(Address(_numeric_host(address), kind, proto) for kind, _, proto, _, address in found)
    except Exception as error:
        return error.with_traceback(None)


def _numeric_host(address: tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]) -> str:
    """Return the address as text; a link-local address includes its interface."""
    if len(address) == 4 and address[3]:
        return socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0]
    return str(address[0])


_lookups_by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, Lookups] = WeakKeyDictionary()


def lookups() -> Lookups:
    """Return the lookups of the running event loop, which all clients share."""
    loop = asyncio.get_running_loop()
    if loop not in _lookups_by_loop:
        _lookups_by_loop[loop] = Lookups(Clock())
    return _lookups_by_loop[loop]


class SystemResolver(AbstractResolver):
    """aiohttp resolver that uses the event loop's shared lookups."""

    def __init__(self, keep_seconds: float = KEEP_SECONDS) -> None:
        """``keep_seconds``: maximum age of earlier addresses to use when lookups fail."""
        self._keep_seconds = keep_seconds

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the host's addresses. Raises ``OSError``."""
        found = await lookups().find(host, family, keep_seconds=self._keep_seconds)
        return [
            ResolveResult(
                hostname=host,
                host=address.host,
                port=port,
                family=address.family,
                proto=address.proto,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in found
        ]

    async def close(self) -> None:
        """Do nothing, because other clients may share the lookups."""
