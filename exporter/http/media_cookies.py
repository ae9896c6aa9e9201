"""Cookies of one stream, in memory: few, small, and sent only where a browser would send them (RFC 6265)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from http.cookies import Morsel
from typing import Final

from exporter.http.media_url import MediaUrl
from exporter.http.response import http_date
from exporter.runtime.clock import Clock

MAX_COOKIES: Final = 50
"""Maximum number of cookies of a stream; the oldest make room for new ones."""
MAX_COOKIE_BYTES: Final = 4096
"""Maximum size of a cookie with its name and path; a larger one is ignored."""
MAX_TOTAL_BYTES: Final = 8192
"""Maximum size of all cookies of a stream, and so of the ``Cookie`` header."""
_SHARED_LABELS: Final = frozenset({"ac", "co", "com", "edu", "gov", "net", "org"})
"""Second-level labels below which countries register names for different owners (``co.uk``)."""


@dataclass(frozen=True, slots=True, repr=False)
class _Cookie:
    value: str
    is_host_only: bool
    is_secure: bool
    expires_at: float | None
    """Monotonic seconds; None: with the jar."""

    def has_expired(self, now: float) -> bool:
        return self.expires_at is not None and self.expires_at <= now

    def matches(self, key: _Key, url: MediaUrl) -> bool:
        """Return whether a browser would send the cookie to the URL."""
        domain, path, _ = key
        if not (url.host == domain or (not self.is_host_only and _is_below(url.host, domain))):
            return False
        at = url.path
        is_inside = at == path or (at.startswith(path) and (path.endswith("/") or at[len(path)] == "/"))
        return is_inside and (url.is_tls or not self.is_secure)


_Key = tuple[str, str, str]
"""Domain, path and name of a cookie."""


class CookieJar:
    """Cookies of one stream.

    A cookie is sent back to the host that set it or, with ``Domain``, to the hosts below that domain. There is no list
    of public suffixes: single labels and common shared domains (``co.uk``) are refused.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._cookies: dict[_Key, _Cookie] = {}
        """In the order in which they were set; the oldest is first."""

    def __len__(self) -> int:
        return len(self._cookies)

    def store(self, url: MediaUrl, cookies: Iterable[Morsel[str]]) -> None:
        """Store the cookies that a response from ``url`` set; ignore those that a browser would refuse."""
        for morsel in cookies:
            domain = str(morsel["domain"]).strip().lstrip(".").lower()
            if not (domain == "" or domain == url.host or _may_set(url, domain)):
                continue
            path = str(morsel["path"])
            path = path if path.startswith("/") else _default_path(url.path)
            if (morsel["secure"] and not url.is_tls) or not _fits(morsel.key, morsel.coded_value, path):
                continue
            key = (domain or url.host, path, morsel.key)
            self._cookies.pop(key, None)
            cookie = _Cookie(morsel.coded_value, not domain, bool(morsel["secure"]), self._expires_at(morsel))
            if not cookie.has_expired(self._clock.monotonic()):
                self._cookies[key] = cookie
        self._discard_oldest()

    def header(self, url: MediaUrl) -> str:
        """Return the ``Cookie`` header for a request; empty if there are no cookies for it."""
        now = self._clock.monotonic()
        for key in [key for key, cookie in self._cookies.items() if cookie.has_expired(now)]:
            del self._cookies[key]
        sent = [(key, cookie) for key, cookie in self._cookies.items() if cookie.matches(key, url)]
        sent.sort(key=lambda item: -len(item[0][1]))
        return "; ".join(f"{name}={cookie.value}" for (_, _, name), cookie in sent)

    def _expires_at(self, morsel: Morsel[str]) -> float | None:
        now = self._clock.monotonic()
        max_age = str(morsel["max-age"]).strip()
        if max_age.removeprefix("-").isdecimal() and max_age.isascii():
            return now + float(max_age[:12])
        expires = http_date(str(morsel["expires"])) if morsel["expires"] else None
        return None if expires is None else now + expires - self._clock.now()

    def _discard_oldest(self) -> None:
        total = sum(_size(key[2], cookie.value) for key, cookie in self._cookies.items())
        while len(self._cookies) > MAX_COOKIES or total > MAX_TOTAL_BYTES:
            oldest = next(iter(self._cookies))
            total -= _size(oldest[2], self._cookies.pop(oldest).value)


def _fits(name: str, value: str, path: str) -> bool:
    """Return whether a cookie is small enough, and valid in a header."""
    return (name + value).isprintable() and _size(name, value) + len(path) <= MAX_COOKIE_BYTES


def _size(name: str, value: str) -> int:
    """Return the bytes that a cookie takes in the header, with its separators."""
    return len(name.encode()) + len(value.encode()) + 3


def _is_below(host: str, domain: str) -> bool:
    return host.endswith("." + domain)


def _may_set(url: MediaUrl, domain: str) -> bool:
    """Return whether a host may set cookies for this parent domain."""
    labels = domain.split(".")
    is_shared = len(labels) < 2 or (len(labels) == 2 and len(labels[1]) == 2 and labels[0] in _SHARED_LABELS)
    return url.address is None and _is_below(url.host, domain) and not is_shared


def _default_path(path: str) -> str:
    """Return the folder of a path (RFC 6265, section 5.1.4)."""
    return path[: path.rfind("/")] or "/"
