"""Basic authentication (RFC 7617) against bcrypt hashes, checked in worker threads, in turn for each address."""

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
"""Maximum number of remembered pairs of name and right password."""
WRONG_SIZE: Final = 1000
"""Maximum number of remembered pairs of name and wrong password."""
WRONG_SECONDS: Final = 300.0
"""Seconds that a wrong password is remembered."""
MAX_WAITING: Final = 1024
"""Maximum number of waiting checks, as many as there can be connections."""
HEALTH_WAIT_SECONDS: Final = 1.0
"""Maximum time that a request for a health endpoint waits for a check: Kubernetes' default probe timeout."""
_MAX_PASSWORD_BYTES = 72
"""Number of bytes that bcrypt uses; this library refuses longer passwords, others truncate them."""
_DUMMY_HASH = "$2b${cost:02}$" + "abcdefghijklmnopqrstu." + "nobodyhasthispasswordatall12345"
"""Template of the hash that passwords of unknown users are checked against."""
_DEFAULT_COST = 10

Check = Callable[[bytes, bytes], bool]
"""Return whether a password matches a hash; slow on purpose."""


def matches_hash(password: bytes, hashed: bytes) -> bool:
    """Check a password with bcrypt, which is imported only where there are users."""
    import bcrypt

    return bcrypt.checkpw(password, hashed)


class TooManyChecksError(Exception):
    """Too many passwords are waiting to be checked."""


class DigestCache:
    """The most recently used digests, each for a limited time."""

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
        """Add a digest, in place of the least recently used one."""
        self._expiry[digest] = self._clock.monotonic() + self._seconds
        self._expiry.move_to_end(digest)
        if len(self._expiry) > self._size:
            self._expiry.popitem(last=False)


class KnownResults:
    """Results of recent checks. Right and wrong ones are kept apart, so that guesses can't evict right ones."""

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
    """A bounded queue that serves addresses in turn, and each address's names in turn."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._addresses: OrderedDict[str, OrderedDict[str, deque[T]]] = OrderedDict()
        self._lengths: dict[str, int] = {}
        self._length = 0

    def push(self, address: str, name: str, item: T) -> T | None:
        """Add an item. If the queue is full, remove and return one of the address with the most items.

        It is the last one of the name with the most, and among equals of the one served last.
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
    """A check that waits for its turn."""

    digest: bytes
    password: bytes
    hash_: str
    is_user: bool
    """Whether there is a user of this name; otherwise the result is always false."""
    result: asyncio.Future[bool | None]
    """None if there were too many checks."""


class CheckLane:
    """Runs checks one at a time in a thread of its own. bcrypt releases the GIL, so the event loop goes on."""

    def __init__(self, check: Check, known: KnownResults, max_waiting: int) -> None:
        self._check = check
        self._known = known
        self._queue: FairQueue[_Waiting] = FairQueue(max_waiting)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="password")
        self._running: asyncio.Future[bool] | None = None

    def submit(self, address: str, name: str, waiting: _Waiting) -> None:
        """Run a check when its turn comes, even if nobody waits for the result: the client may ask again."""
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
            # Several requests with the same password may have arrived at once: only the first is checked.
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
    """Check passwords, each client address in turn, and remember the results.

    Health endpoints have a lane of their own, so that guesses on other paths never delay them. There, a password that
    is not known to be right in time counts as wrong, and its check goes on: an orchestrator's next probe finds the
    result. Refusing every unknown password at once instead would fail the first probe after each restart, and granting
    it would show anyone the answer.
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
        """Return whether this ``Authorization`` header has the name and password of one of ``users`` (name to hash).

        An unknown name takes as long as a known one. ``address``: the client's. ``is_health``: whether the request is
        for a health endpoint. Raises ``TooManyChecksError``, except for health endpoints.
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
        """Return what is remembered instead of the password; it changes with the hash."""
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
    """Return a hash that costs as much as the most expensive of the users' own."""
    return _DUMMY_HASH.format(cost=max(map(hash_cost, users.values()), default=_DEFAULT_COST))


def hash_cost(hash_: str) -> int:
    """Return the cost of a bcrypt hash; a check takes 2 to the power of it."""
    return int(hash_[4:6])
