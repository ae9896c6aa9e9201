"""Users with passwords: Basic authentication (RFC 7617) against bcrypt hashes, which the event loop never waits for."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import bcrypt

CACHED: Final = 100
WAITING: Final = 64
"""Checks that may wait for their turn; beyond, those who guess would keep those who know waiting for ever."""
_MAX_PASSWORD_BYTES = 72
"""What bcrypt looks at; this library refuses longer passwords, others cut them."""
_NO_ONE = "$2b${cost:02}$" + "abcdefghijklmnopqrstu." + "nobodyhasthispasswordatall12345"
"""The hash that the passwords of unknown users are checked against."""
_DEFAULT_COST = 10

Check = Callable[[bytes, bytes], bool]
"""Whether a password has a hash; slow on purpose."""


class BusyError(Exception):
    """Too many passwords wait to be checked."""


class Remembered:
    """The newest of what was right; asked and told from several threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, digest: bytes) -> bool:
        with self._lock:
            if digest not in self._known:
                return False
            self._known.move_to_end(digest)
            return True

    def add(self, digest: bytes) -> None:
        """Remember it, in place of what was not asked for longest."""
        with self._lock:
            self._known[digest] = None
            if len(self._known) > self._size:
                self._known.popitem(last=False)


class Passwords:
    """Checks passwords one at a time on a thread of its own, and remembers those that were right.

    Wrong ones are never remembered: whoever guesses can't push out what is.
    """

    def __init__(self, check: Check = bcrypt.checkpw) -> None:
        self._check = check
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="password")
        self._right = Remembered(CACHED)
        self._waiting = 0

    async def are_right(self, authorization: str, users: Mapping[str, str]) -> bool:
        """Whether this ``Authorization`` header names one of the users (name to hash) with the right password.

        An unknown name takes as long as a known one. Raises ``BusyError``.
        """
        given = credentials(authorization)
        if given is None:
            return False
        name, password = given
        known = users.get(name)
        digest = None if known is None else _digest(name, password, known)
        if digest is not None and digest in self._right:
            return True
        if self._waiting >= WAITING:
            raise BusyError
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._worker, self._matches, digest, password, known or _hash_of_no_one(users)
            )
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Check no more."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _matches(self, digest: bytes | None, password: bytes, hash_: str) -> bool:
        """``digest``: what to remember of a user's password; None: the name is nobody's."""
        # Of several requests that come with the same password at once, the first pays for all.
        if digest is not None and digest in self._right:
            return True
        try:
            right = self._check(password[:_MAX_PASSWORD_BYTES], hash_.encode())
        except ValueError:
            right = False
        if not right or digest is None:
            return False
        self._right.add(digest)
        return True


def credentials(authorization: str) -> tuple[str, bytes] | None:
    """Name and password of an ``Authorization`` header; None when it holds none."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return (name.decode(), password) if colon else None
    except (binascii.Error, ValueError):
        return None


def _digest(name: str, password: bytes, hash_: str) -> bytes:
    """What is remembered in place of the password; a changed hash makes another."""
    parts = (name.encode(), hashlib.sha256(password).digest(), hash_.encode())
    return hashlib.sha256(b"\0".join(parts)).digest()


def _hash_of_no_one(users: Mapping[str, str]) -> str:
    """As costly as the costliest of the users' own."""
    return _NO_ONE.format(cost=max((int(hash_[4:6]) for hash_ in users.values()), default=_DEFAULT_COST))
