"""Basic authentication (RFC 7617) against bcrypt hashes, checked in worker threads, fairly between addresses."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import math
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, Generic, NamedTuple, TypeVar

from exporter.runtime.clock import Clock
from exporter.web.options import network_of

T = TypeVar("T")

RIGHT_SIZE: Final = 100
"""Maximum number of correct passwords to remember."""
WRONG_SIZE: Final = 1000
"""Maximum number of wrong passwords to remember."""
WRONG_SECONDS: Final = 300.0
"""Seconds to remember a wrong password."""
MAX_WAITING: Final = 1024
"""Maximum number of waiting checks: the default limit of connections."""
HEALTH_WAIT_SECONDS: Final = 1.0
"""Maximum time for a health endpoint to wait for a check; Kubernetes' default probe timeout."""
_MAX_PASSWORD_BYTES = 72
"""Number of bytes that bcrypt uses. The library raises for longer passwords; other implementations truncate them."""
_DUMMY_HASH = "$2b${cost:02}$" + "abcdefghijklmnopqrstu." + "nobodyhasthispasswordatall12345"
"""Template of the hash against which passwords of unknown users are checked."""
_DEFAULT_COST = 10

Check = Callable[[bytes, bytes], bool]
"""Checks whether a password matches a hash; slow by design."""


def matches_hash(password: bytes, hashed: bytes) -> bool:
    """Check a password with bcrypt, which is only imported if there are users."""
    import bcrypt

    return bcrypt.checkpw(password, hashed)


class TooManyChecksError(Exception):
    """Too many passwords are waiting to be checked."""


class DigestCache:
    """LRU cache of digests that expire."""

    def __init__(self, size: int, seconds: float, clock: Clock) -> None:
        self._size = size
        self._seconds = seconds
        self._clock = clock
        self._expiry: OrderedDict[bytes, float] = OrderedDict()

    def __contains__(self, digest: bytes) -> bool:
        if self._expiry.get(digest, -math.inf) <= self._clock.monotonic():
            return False
        self._expiry.move_to_end(digest)
        return True

    def add(self, digest: bytes) -> None:
        """Add a digest; evict the least recently used one if the cache is full."""
        self._expiry[digest] = self._clock.monotonic() + self._seconds
        self._expiry.move_to_end(digest)
        if len(self._expiry) > self._size:
            self._expiry.popitem(last=False)


class KnownResults:
    """Results of recent checks. Correct and wrong passwords are kept apart, so that guesses evict no correct one."""

    def __init__(self, clock: Clock) -> None:
        self._right = DigestCache(RIGHT_SIZE, math.inf, clock)
        self._wrong = DigestCache(WRONG_SIZE, WRONG_SECONDS, clock)

    def get(self, digest: bytes) -> bool | None:
        """Return the result, or None if it is not known."""
        if digest in self._right:
            return True
        return False if digest in self._wrong else None

    def add(self, digest: bytes, *, is_right: bool) -> None:
        """Remember a result."""
        (self._right if is_right else self._wrong).add(digest)


class FairQueue(Generic[T]):
    """A bounded queue that is fair between addresses, and between the user names of an address."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._addresses: OrderedDict[str, OrderedDict[str, deque[T]]] = OrderedDict()
        self._lengths: dict[str, int] = {}
        self._length = 0

    def push(self, address: str, name: str, item: T) -> T | None:
        """Add an item. If the queue is full, remove and return an item of the address with the most items.

        Of its names, the one with the most items loses its last item; among equals, the one served last.
        """
        self._addresses.setdefault(address, OrderedDict()).setdefault(name, deque()).append(item)
        self._lengths[address] = self._lengths.get(address, 0) + 1
        self._length += 1
        if self._length <= self._size:
            return None
        address = max(reversed(self._addresses), key=self._lengths.__getitem__)
        names = self._addresses[address]
        name = max(reversed(names), key=lambda each: len(names[each]))
        removed = names[name].pop()
        self._count_removed(address, name)
        return removed

    def pop(self) -> T | None:
        """Remove and return the next item; None if the queue is empty."""
        if not self._addresses:
            return None
        address, names = next(iter(self._addresses.items()))
        name, items = next(iter(names.items()))
        item = items.popleft()
        self._addresses.move_to_end(address)
        names.move_to_end(name)
        self._count_removed(address, name)
        return item

    def _count_removed(self, address: str, name: str) -> None:
        self._length -= 1
        self._lengths[address] -= 1
        names = self._addresses[address]
        if not names[name]:
            del names[name]
        if not names:
            del self._addresses[address], self._lengths[address]


class _Waiting(NamedTuple):
    """A waiting check."""

    digest: bytes
    password: bytes
    hash_: str
    is_user: bool
    """Whether the user exists; otherwise the result is false."""
    result: asyncio.Future[bool | None]
    """Whether the password is correct; None if there are too many checks."""


class CheckLane:
    """Runs checks one at a time in its own thread. bcrypt releases the GIL, so the event loop is not blocked."""

    def __init__(self, check: Check, known: KnownResults, max_waiting: int) -> None:
        self._check = check
        self._known = known
        self._queue: FairQueue[_Waiting] = FairQueue(max_waiting)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="password")
        self._running: asyncio.Future[bool] | None = None

    def submit(self, address: str, name: str, waiting: _Waiting) -> None:
        """Queue a check. It runs even if the client disconnects, because the client may retry."""
        refused = self._queue.push(address, name, waiting)
        if refused is not None and not refused.result.done():
            refused.result.set_result(None)
        self._run_next()

    def close(self) -> None:
        """Stop checking."""
        while waiting := self._queue.pop():
            waiting.result.cancel()
        if self._running is not None:
            self._running.cancel()
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _run_next(self) -> None:
        while self._running is None and (waiting := self._queue.pop()):
            # Check only the first of several concurrent requests with the same password.
            known = self._known.get(waiting.digest)
            if known is None:
                self._running = asyncio.get_running_loop().run_in_executor(self._worker, self._matches, waiting)
                self._running.add_done_callback(partial(self._finish, waiting))
            elif not waiting.result.done():
                waiting.result.set_result(known)

    def _finish(self, waiting: _Waiting, running: asyncio.Future[bool]) -> None:
        self._running = None
        if running.cancelled():
            waiting.result.cancel()
            return
        error = running.exception()
        if error is None:
            self._known.add(waiting.digest, is_right=running.result())
        if not waiting.result.done():
            if error is None:
                waiting.result.set_result(running.result())
            else:
                waiting.result.set_exception(error)
        self._run_next()

    def _matches(self, waiting: _Waiting) -> bool:
        try:
            return self._check(waiting.password, waiting.hash_.encode()) and waiting.is_user
        except ValueError:
            return False


class PasswordChecker:
    """Check passwords, fairly between client addresses, and remember the results.

    Health endpoints have their own lane, so that guesses on other paths never delay them. There, a password whose check
    takes too long counts as wrong, but the check continues, and the next probe of the orchestrator finds its result.
    Rejecting unknown passwords at once would fail the first probe after each restart.
    """

    def __init__(
        self,
        check: Check = matches_hash,
        clock: Clock | None = None,
        *,
        max_waiting: int = MAX_WAITING,
        health_wait_seconds: float = HEALTH_WAIT_SECONDS,
    ) -> None:
        """``max_waiting``: maximum number of waiting checks in each lane."""
        self._known = KnownResults(clock or Clock())
        self._lane, self._health_lane = (CheckLane(check, self._known, max_waiting) for _ in range(2))
        self._health_wait_seconds = health_wait_seconds
        self._key = secrets.token_bytes(32)

    async def is_authorized(
        self, authorization: str, users: Mapping[str, str], address: str | None = None, *, is_health: bool = False
    ) -> bool:
        """Return whether an ``Authorization`` header is valid for ``users`` (name → hash).

        The check takes as long for unknown names as for known ones. ``address``: client address. ``is_health``: whether
        the request is for a health endpoint. Raises ``TooManyChecksError``, except for health endpoints.
        """
        found = credentials(authorization)
        if found is None:
            return False
        name, password = found
        hash_ = users.get(name) or _dummy_hash(users)
        digest = self._digest(name, password, hash_)
        known = self._known.get(digest)
        if known is not None:
            return known
        result: asyncio.Future[bool | None] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(digest, password[:_MAX_PASSWORD_BYTES], hash_, name in users, result)
        network = network_of(address)
        if is_health:
            self._health_lane.submit(network, name, waiting)
            done, _ = await asyncio.wait((result,), timeout=self._health_wait_seconds)
            return bool(done) and result.result() is True
        self._lane.submit(network, name, waiting)
        is_right = await result
        if is_right is None:
            raise TooManyChecksError
        return is_right

    def close(self) -> None:
        """Stop checking."""
        self._lane.close()
        self._health_lane.close()

    def _digest(self, name: str, password: bytes, hash_: str) -> bytes:
        """Return a digest to remember instead of the password; it depends on the hash as well."""
        parts = (name.encode(), hashlib.sha256(password).digest(), hash_.encode())
        return hmac.digest(self._key, b"\0".join(parts), "sha256")


def credentials(authorization: str) -> tuple[str, bytes] | None:
    """Return the name and password of an ``Authorization`` header, or None."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return (name.decode(), password) if colon else None
    except (binascii.Error, ValueError):
        return None


def _dummy_hash(users: Mapping[str, str]) -> str:
    """Return a hash as expensive as the most expensive one of the users."""
    return _DUMMY_HASH.format(cost=max(map(hash_cost, users.values()), default=_DEFAULT_COST))


def hash_cost(hash_: str) -> int:
    """Return the cost of a bcrypt hash; the time of a check is proportional to 2 to the power of the cost."""
    return int(hash_[4:6])
