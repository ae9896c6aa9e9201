"""Basic authentication (RFC 7617) against bcrypt hashes, checked in a worker thread."""

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

CACHE_SIZE: Final = 100
MAX_WAITING: Final = 64
"""Maximum number of waiting checks: without it, clients that guess passwords would block those that know one."""
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
    """The most recently used digests of right passwords. Thread-safe."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._digests: OrderedDict[bytes, None] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, digest: bytes) -> bool:
        with self._lock:
            if digest not in self._digests:
                return False
            self._digests.move_to_end(digest)
            return True

    def add(self, digest: bytes) -> None:
        """Add a digest, in place of the least recently used one."""
        with self._lock:
            self._digests[digest] = None
            if len(self._digests) > self._size:
                self._digests.popitem(last=False)


class PasswordChecker:
    """Check passwords one at a time in a thread, and cache those that were right.

    Wrong ones are never cached, so that guesses can't evict right ones.
    """

    def __init__(self, check: Check = matches_hash) -> None:
        self._check = check
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="password")
        self._cache = DigestCache(CACHE_SIZE)
        self._waiting = 0

    async def is_authorized(self, authorization: str, users: Mapping[str, str]) -> bool:
        """Return whether this ``Authorization`` header has the name and password of one of ``users`` (name to hash).

        An unknown name takes as long as a known one. Raises ``TooManyChecksError``.
        """
        found = credentials(authorization)
        if found is None:
            return False
        name, password = found
        hash_ = users.get(name)
        digest = None if hash_ is None else _digest(name, password, hash_)
        if digest is not None and digest in self._cache:
            return True
        if self._waiting >= MAX_WAITING:
            raise TooManyChecksError
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._worker, self._matches, digest, password, hash_ or _dummy_hash(users)
            )
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Stop checking."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _matches(self, digest: bytes | None, password: bytes, hash_: str) -> bool:
        """``digest``: what to cache if the password is right; None for an unknown name."""
        # Several requests with the same password may have arrived at once: only the first is checked.
        if digest is not None and digest in self._cache:
            return True
        try:
            right = self._check(password[:_MAX_PASSWORD_BYTES], hash_.encode())
        except ValueError:
            right = False
        if not right or digest is None:
            return False
        self._cache.add(digest)
        return True


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


def _digest(name: str, password: bytes, hash_: str) -> bytes:
    """Return what is cached instead of the password; it changes with the hash."""
    parts = (name.encode(), hashlib.sha256(password).digest(), hash_.encode())
    return hashlib.sha256(b"\0".join(parts)).digest()


def _dummy_hash(users: Mapping[str, str]) -> str:
    """Return a hash that costs as much as the most expensive of the users' own."""
    return _DUMMY_HASH.format(cost=max((int(hash_[4:6]) for hash_ in users.values()), default=_DEFAULT_COST))
