"""Users with passwords: Basic authentication (RFC 7617) against bcrypt hashes, which the event loop never waits for."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
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


class Passwords:
    """Checks passwords one at a time on a thread of its own, and remembers those that were right.

    Wrong ones are never remembered: whoever guesses can't push out what is.
    """

    def __init__(self, check: Check = bcrypt.checkpw) -> None:
        self._check = check
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="password")
        self._right: OrderedDict[bytes, None] = OrderedDict()
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
        digest = _digest(name, password, known or "")
        if known is not None and digest in self._right:
            self._right.move_to_end(digest)
            return True
        if self._waiting >= WAITING:
            raise BusyError
        self._waiting += 1
        try:
            right = await asyncio.get_running_loop().run_in_executor(
                self._worker, self._matches, digest, password, known or _hash_of_no_one(users)
            )
        finally:
            self._waiting -= 1
        if not right or known is None:
            return False
        self._remember(digest)
        return True

    def close(self) -> None:
        """Check no more."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _matches(self, digest: bytes, password: bytes, hash_: str) -> bool:
        # Of several requests that come with the same password at once, the first pays for all.
        if digest in self._right:
            return True
        try:
            return self._check(password[:_MAX_PASSWORD_BYTES], hash_.encode())
        except ValueError:
            return False

    def _remember(self, digest: bytes) -> None:
        self._right[digest] = None
        self._right.move_to_end(digest)
        while len(self._right) > CACHED:
            self._right.popitem(last=False)


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
