"""Authentication of requests: none, a token, a key, a password, or a token obtained by a login.

Secrets are sent in headers only. They are read for every poll and again right after a 401, so that a rotated secret
file takes effect.
"""

from __future__ import annotations

import asyncio
import base64
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Mapping
from typing import Any, ClassVar, Protocol

from exporter.config.auth import API_KEY, BEARER, LOGIN, AuthSettings
from exporter.config.secrets import Secret, SecretError
from exporter.http.errors import UpstreamError
from exporter.http.response import Response
from exporter.model import Reason
from exporter.runtime.clock import Clock
from exporter.runtime.redaction import redactor

RENEW_AT_RATIO = 0.8
"""Age at which a token is renewed, as a fraction of its lifetime."""
LOGIN_WINDOW_SECONDS = 60.0
UNREACHED_WAIT_SECONDS = 5.0
"""Seconds to wait after a login without a response; it is retried sooner than a refused one."""
FRESH_SECONDS = 60.0
"""If a token younger than this is refused, another login would not help."""
TOKENS_HIDDEN = 3
"""Number of recent tokens to redact: one that has just expired may still appear in a text."""
NO_HEADERS: Mapping[str, str] = {}


class SendRequest(Protocol):
    """Sends a login request, without credentials and within the time limit of the request that needs the login."""

    def __call__(self, endpoint: str, *, body: Any) -> Awaitable[Response]:
        """Send ``body`` as JSON to ``endpoint`` (``POST /login``). Raises ``UpstreamError``."""


class Auth(ABC):
    """Adds credentials to a client's requests."""

    @abstractmethod
    async def headers(self, send: SendRequest) -> Mapping[str, str]:
        """Return the headers to send; the same object as long as they do not change.

        Raises ``UpstreamError`` (``auth``, or the reason why a login failed) if the credentials are not available.
        """

    @abstractmethod
    async def discard_headers(self, headers: Mapping[str, str]) -> bool:
        """Discard headers that the platform rejected with a 401; return whether a retry may get different ones."""


class NoAuth(Auth):
    """No credentials."""

    async def headers(self, send: SendRequest) -> Mapping[str, str]:  # noqa: ARG002 - part of the interface
        return NO_HEADERS

    async def discard_headers(self, headers: Mapping[str, str]) -> bool:  # noqa: ARG002
        return False


class SecretAuth(Auth):
    """A header made from one secret."""

    def __init__(self, secret: Secret) -> None:
        self._secret = secret
        self._made_from: str | None = None
        self._headers = NO_HEADERS

    @abstractmethod
    def header(self, secret: str) -> tuple[str, str]:
        """Return the header's name and value."""

    async def headers(self, send: SendRequest) -> Mapping[str, str]:  # noqa: ARG002 - part of the interface
        return await self._current_headers()

    async def discard_headers(self, headers: Mapping[str, str]) -> bool:
        return await self._current_headers() is not headers

    async def _current_headers(self) -> Mapping[str, str]:
        secret = await read_secret(self._secret)
        if secret != self._made_from:
            name, value = self.header(secret)
            self._headers = {name: header_value(value)}
            self._made_from = secret
        return self._headers


class Header(SecretAuth):
    """A secret in a header with a configurable name."""

    def __init__(self, name: str, secret: Secret) -> None:
        super().__init__(secret)
        self._name = name

    def header(self, secret: str) -> tuple[str, str]:
        return self._name, secret


class Bearer(SecretAuth):
    """A token: ``Authorization: Bearer``."""

    def header(self, secret: str) -> tuple[str, str]:
        return "Authorization", f"Bearer {secret}"


class Basic(SecretAuth):
    """User name and password: ``Authorization: Basic``."""

    def __init__(self, settings: AuthSettings) -> None:
        """``settings`` of kind ``login``."""
        self._username, password = _credentials(settings)
        super().__init__(password)

    def header(self, secret: str) -> tuple[str, str]:
        encoded = base64.b64encode(f"{self._username}:{secret}".encode()).decode()
        redactor.add(encoded)
        return "Authorization", f"Basic {encoded}"


class Login(Auth):
    """User name and password, exchanged for a token with a limited lifetime by a platform-specific request.

    Only one login runs at a time. After each failed login the wait before the next one grows; a new password is tried
    immediately. A token is renewed before it expires. If the renewal fails, the old token is used until it expires.
    """

    max_logins_per_minute: ClassVar[int] = 5
    refused_wait_seconds: ClassVar[float] = 15.0
    longest_refused_wait_seconds: ClassVar[float] = 300.0

    def __init__(self, settings: AuthSettings, clock: Clock) -> None:
        """``settings`` of kind ``login``."""
        self.username, self.password = _credentials(settings)
        self._clock = clock
        self._lock = asyncio.Lock()
        self._headers: Mapping[str, str] | None = None
        self._tokens: deque[str] = deque()
        self._made_at = self._renew_at = self._ends_at = 0.0
        self._logins: deque[float] = deque(maxlen=self.max_logins_per_minute)
        self._failure: UpstreamError | None = None
        self._failed_with = ""
        self._refusals = 0
        self._retry_at = 0.0

    @abstractmethod
    async def login(self, send: SendRequest) -> tuple[str, float]:
        """Log in; return a new token and its lifetime in seconds."""

    async def headers(self, send: SendRequest) -> Mapping[str, str]:
        if self._headers is None or self._clock.monotonic() >= self._renew_at:
            async with self._lock:
                await self._renew_token(send)
        assert self._headers is not None
        return self._headers

    async def discard_headers(self, headers: Mapping[str, str]) -> bool:
        if headers is not self._headers:
            # another request also got a 401 and has already discarded them
            return True
        self._headers = None
        if self._clock.monotonic() - self._made_at < FRESH_SECONDS:
            error = UpstreamError(Reason.AUTH, "the platform rejected the token of the last login")
            self._note_failed_login(error, await read_secret(self.password))
            return False
        return True

    async def _renew_token(self, send: SendRequest) -> None:
        now = self._clock.monotonic()
        if self._headers is not None and now < self._renew_at:
            # another request renewed it while this one waited for the lock
            return
        try:
            await self._log_in(send, now)
        except UpstreamError:
            if self._headers is None or self._clock.monotonic() >= self._ends_at:
                raise
            self._renew_at = min(self._retry_at, self._ends_at)

    async def _log_in(self, send: SendRequest, now: float) -> None:
        password = await read_secret(self.password)
        if self._failure is not None and now < self._retry_at and password == self._failed_with:
            message = f"{self._failure} (next login in {self._retry_at - now:.0f} s)"
            raise UpstreamError(self._failure.reason, message)
        self._count_login(now)
        try:
            token, life = await self.login(send)
        except SecretError as error:
            raise UpstreamError(Reason.AUTH, str(error)) from None
        except UpstreamError as error:
            raise self._note_failed_login(_login_error(error), password) from None
        redactor.add(token)
        self._tokens.append(token)
        if len(self._tokens) > TOKENS_HIDDEN:
            redactor.forget(self._tokens.popleft())
        self._headers = {"Authorization": header_value(f"Bearer {token}")}
        self._made_at = self._clock.monotonic()
        self._renew_at, self._ends_at = self._made_at + RENEW_AT_RATIO * life, self._made_at + life
        self._failure = None
        self._refusals = 0

    def _count_login(self, now: float) -> None:
        """Count a login; raise ``UpstreamError`` if the maximum for the last minute is reached."""
        logins = self._logins
        if len(logins) == logins.maxlen and now - logins[0] < LOGIN_WINDOW_SECONDS:
            wait = LOGIN_WINDOW_SECONDS - (now - logins[0])
            text = f"too many logins ({len(logins)} in the last minute); next login in {wait:.0f} s"
            raise UpstreamError(Reason.AUTH, text)
        logins.append(now)

    def _note_failed_login(self, error: UpstreamError, password: str) -> UpstreamError:
        """Store the failure and the time of the next attempt; return the error to raise."""
        if error.reason is Reason.AUTH:
            wait = self.refused_wait_seconds * 2.0 ** min(self._refusals, 10)
            wait = min(self.longest_refused_wait_seconds, wait)
            self._refusals += 1
        else:
            wait = max(UNREACHED_WAIT_SECONDS, error.retry_after or 0.0)
        self._failure, self._failed_with = error, password
        self._retry_at = self._clock.monotonic() + wait
        return error


def auth_from_settings(settings: AuthSettings) -> Auth:
    """Return the authentication for these settings; Basic for a user name and password, unless the platform logs in."""
    if settings.kind == LOGIN:
        return Basic(settings)
    if settings.secret is not None and settings.kind == BEARER:
        return Bearer(settings.secret)
    if settings.secret is not None and settings.kind == API_KEY:
        return Header("X-Api-Key", settings.secret)
    return NoAuth()


async def read_secret(secret: Secret) -> str:
    """Return the secret's current text. Raises ``UpstreamError`` (``auth``) if it cannot be read."""
    try:
        return await secret.refresh()
    except SecretError as error:
        raise UpstreamError(Reason.AUTH, str(error)) from None


def header_value(value: str) -> str:
    """Return the value if it is valid in a header; otherwise raise ``UpstreamError`` (``auth``) without showing it."""
    if not value.isascii() or not value.isprintable():
        raise UpstreamError(Reason.AUTH, "the token or key contains characters that are not allowed in a header")
    return value


def _credentials(settings: AuthSettings) -> tuple[str, Secret]:
    if settings.username is None or settings.secret is None:
        raise ValueError("user name and password are required")
    return settings.username, settings.secret


def _login_error(error: UpstreamError) -> UpstreamError:
    """Return the error for a failed login.

    It has no status, because a status would be taken for that of the request that needed the login. Every 4xx becomes
    ``auth``, except 429 and a 404 from another server, which never saw the password. ``is_platform_answer`` stays
    False, so that a 404 for the login is not taken for a missing stream.
    """
    is_foreign = error.reason is Reason.NOT_FOUND and not error.is_platform_answer
    is_refusal = error.status is not None and 400 <= error.status < 500 and error.status != 429 and not is_foreign
    reason = Reason.AUTH if is_refusal else error.reason
    return UpstreamError(reason, f"login failed: {error}", retry_after=error.retry_after)
