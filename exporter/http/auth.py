"""How a request proves who asks: nothing, a token, a key, a password, or a token that a login gives.

Secrets stand in headers alone. They are read when a request is made, so that a rotated file counts from the next
request on, and after a 401 at once.
"""

from __future__ import annotations

import asyncio
import base64
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from exporter.config.auth import API_KEY, BEARER, LOGIN, AuthSettings
from exporter.config.secrets import Secret, SecretError
from exporter.http.errors import UpstreamError
from exporter.model import Reason
from exporter.runtime.clock import Clock
from exporter.runtime.redaction import redactor

if TYPE_CHECKING:
    from exporter.http.client import Requests

RENEW_AT_RATIO = 0.8
LOGIN_WINDOW_SECONDS = 60.0
UNREACHED_WAIT_SECONDS = 5.0
"""A login that nobody answered is tried again sooner than one that was refused."""
FRESH_SECONDS = 60.0
"""A token refused while it is as young as this was never good: another login would not help."""
TOKENS_HIDDEN = 3
"""So many of the last tokens of a login are kept out of texts: one that has just run out may still be said."""
NO_HEADERS: Mapping[str, str] = {}


class Auth(ABC):
    """What a client adds to its requests."""

    @abstractmethod
    async def headers(self, requests: Requests) -> Mapping[str, str]:
        """The headers to send; the same object for as long as they are the same.

        Raises ``UpstreamError`` (``auth``, or the reason that a login failed) when there are none to be had.
        """

    @abstractmethod
    async def rejected(self, headers: Mapping[str, str]) -> bool:
        """The platform answered 401 to these headers: whether there are, or may be, others to try."""


class NoAuth(Auth):
    """Nothing."""

    async def headers(self, requests: Requests) -> Mapping[str, str]:  # noqa: ARG002 - the same for every kind
        return NO_HEADERS

    async def rejected(self, headers: Mapping[str, str]) -> bool:  # noqa: ARG002
        return False


class SecretAuth(Auth):
    """Headers that are made from one secret and nothing else."""

    def __init__(self, secret: Secret) -> None:
        self._secret = secret
        self._made_from: str | None = None
        self._headers = NO_HEADERS

    @abstractmethod
    def header(self, secret: str) -> tuple[str, str]:
        """Name and value."""

    async def headers(self, requests: Requests) -> Mapping[str, str]:  # noqa: ARG002 - the same for every kind
        return self._current()

    async def rejected(self, headers: Mapping[str, str]) -> bool:
        return self._current() is not headers

    def _current(self) -> Mapping[str, str]:
        secret = read_secret(self._secret)
        if secret != self._made_from:
            name, value = self.header(secret)
            self._headers = {name: header_value(value)}
            self._made_from = secret
        return self._headers


class Header(SecretAuth):
    """A secret in a header of its own."""

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
    """User name and password for a token that lives for a while; a platform says how.

    One login at a time, whoever asks. After one that failed the next waits, longer each time, but for a new password:
    that is tried at once. A token is renewed before it ends, and used to its end when that fails.
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
    async def login(self, requests: Requests) -> tuple[str, float]:
        """Log in: a new token, and for how many seconds it is good. Its requests carry ``auth=False``."""

    async def headers(self, requests: Requests) -> Mapping[str, str]:
        if self._headers is None or self._clock.monotonic() >= self._renew_at:
            async with self._lock:
                await self._renew(requests)
        assert self._headers is not None
        return self._headers

    async def rejected(self, headers: Mapping[str, str]) -> bool:
        if headers is not self._headers:
            # another request was told so before, and has seen to it
            return True
        self._headers = None
        if self._clock.monotonic() - self._made_at < FRESH_SECONDS:
            self._fail(
                UpstreamError(Reason.AUTH, "the token of the last login was refused"), read_secret(self.password)
            )
            return False
        return True

    async def _renew(self, requests: Requests) -> None:
        now = self._clock.monotonic()
        if self._headers is not None and now < self._renew_at:
            # somebody else did while this request waited
            return
        try:
            await self._log_in(requests, now)
        except UpstreamError:
            if self._headers is None or self._clock.monotonic() >= self._ends_at:
                raise
            self._renew_at = min(self._retry_at, self._ends_at)

    async def _log_in(self, requests: Requests, now: float) -> None:
        password = read_secret(self.password)
        if self._failure is not None and now < self._retry_at and password == self._failed_with:
            message = f"{self._failure} (next login in {self._retry_at - now:.0f} s)"
            raise UpstreamError(self._failure.reason, message)
        self._count_login(now)
        try:
            token, life = await self.login(requests)
        except SecretError as error:
            raise UpstreamError(Reason.AUTH, str(error)) from None
        except UpstreamError as error:
            raise self._fail(_login_error(error), password) from None
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
        """Raises when the last minute has seen as many logins as the platform allows."""
        logins = self._logins
        if len(logins) == logins.maxlen and now - logins[0] < LOGIN_WINDOW_SECONDS:
            text = f"no login for {LOGIN_WINDOW_SECONDS - (now - logins[0]):.0f} s: {len(logins)} in the last minute"
            raise UpstreamError(Reason.AUTH, text)
        logins.append(now)

    def _fail(self, error: UpstreamError, password: str) -> UpstreamError:
        """Remember a failed login and set when the next may be; returns the error to raise."""
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
    """The kind that the settings resolve to; for a user name and password Basic, unless the platform has a login."""
    if settings.kind == LOGIN:
        return Basic(settings)
    if settings.secret is not None and settings.kind == BEARER:
        return Bearer(settings.secret)
    if settings.secret is not None and settings.kind == API_KEY:
        return Header("X-Api-Key", settings.secret)
    return NoAuth()


def read_secret(secret: Secret) -> str:
    """The secret's text now. Raises ``UpstreamError`` (``auth``) where it can't be had."""
    try:
        return secret.get()
    except SecretError as error:
        raise UpstreamError(Reason.AUTH, str(error)) from None


def header_value(value: str) -> str:
    """The value, when a header can carry it; raises ``UpstreamError`` (``auth``) without showing it."""
    if not value.isascii() or not value.isprintable():
        raise UpstreamError(Reason.AUTH, "the token or key holds characters that no header can carry")
    return value


def _credentials(settings: AuthSettings) -> tuple[str, Secret]:
    if settings.username is None or settings.secret is None:
        raise ValueError("a user name and a password are needed")
    return settings.username, settings.secret


def _login_error(error: UpstreamError) -> UpstreamError:
    """A failed login, told from the failure of the request that needed it: it has no status of its own.

    A refusal of any kind is ``auth``: a 404 of a login must not pass for a stream's.
    """
    is_refusal = error.status is not None and 400 <= error.status < 500 and error.status != 429
    reason = Reason.AUTH if is_refusal else error.reason
    return UpstreamError(reason, f"login failed: {error}", retry_after=error.retry_after)
