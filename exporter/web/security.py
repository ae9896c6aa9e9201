"""Authentication, request limits and response headers, as configured by ``--web.config.file``."""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final

import structlog
from aiohttp import hdrs, web

from exporter.config.loading import ConfigError
from exporter.runtime.clock import Clock
from exporter.runtime.files import DEADLINE_SECONDS, FileError, call_within, call_within_async
from exporter.runtime.logging import describe_exception
from exporter.runtime.tasks import cancel_tasks
from exporter.web.options import DEFAULT_MAX_REQUESTS
from exporter.web.server import send_response
from exporter.web.toolkit.tls import CurrentContext
from exporter.web.toolkit.users import PasswordChecker, TooManyChecksError
from exporter.web.toolkit.web_config import FileStates, ReadResult, WebConfig, file_states, read_web_config

log = structlog.get_logger()

WATCH_SECONDS: Final = 1.0
"""Seconds between two checks for changed files."""
HEALTH_PATHS: Final = frozenset({"/-/healthy", "/-/ready"})
"""Exempt from limits, because orchestrators restart a container whose health endpoint does not respond."""

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_CHALLENGE = 'Basic realm="stream-exporter", charset="UTF-8"'
_NEEDS_RESTART = "tls_server_config: enabling or disabling TLS requires a restart"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class WatchedConfig:
    """The web configuration in force. An invalid new version is logged once and ignored.

    Files are read in the background, so that no request or connection waits for a file system.
    """

    def __init__(self, file: Path | None = None) -> None:
        """Read the file. Raises ``ConfigError`` if it is invalid. Without a file, nothing is protected."""
        self._file = file
        self._file_states: FileStates = {}
        self._config = WebConfig()
        self.warnings: tuple[str, ...] = ()
        self._is_answered = True
        if file is not None:
            try:
                reading = call_within(file, partial(read_web_config, file), DEADLINE_SECONDS)
            except FileError as error:
                raise ConfigError([_no_answer(file, error)]) from None
            if reading.config is None:
                raise ConfigError(list(reading.errors))
            self._config, self._file_states, self.warnings = reading.config, reading.files, reading.warnings

    def current(self) -> WebConfig:
        """Return the configuration in force."""
        return self._config

    async def watch(self, clock: Clock) -> None:
        """Read the files again whenever one changes, until cancelled."""
        while self._file is not None:
            await clock.sleep(WATCH_SECONDS)
            try:
                await self.refresh()
            except Exception as error:
                log.error("failed to check web configuration for changes", error=describe_exception(error))

    async def refresh(self) -> None:
        """Read the files again if one has changed. If they cannot be read, the configuration stays in force."""
        file = self._file
        if file is None:
            return
        try:
            read = partial(_read_if_changed, file, self._file_states)
            reading = await call_within_async(file, read, DEADLINE_SECONDS)
        except FileError as error:
            if self._is_answered:
                log.error("failed to reload web configuration", errors=[_no_answer(file, error)])
            self._is_answered = False
            return
        self._is_answered = True
        if reading is not None:
            self._apply(file, reading)

    def _apply(self, file: Path, reading: ReadResult) -> None:
        self._file_states = reading.files
        config, errors = reading.config, reading.errors
        if config is not None and (config.tls_server_config.context is None) != (
            self._config.tls_server_config.context is None
        ):
            config, errors = None, (f"{file}: {_NEEDS_RESTART}",)
        if config is None:
            log.error("failed to reload web configuration", errors=list(errors))
            return
        self._config, self.warnings = config, reading.warnings
        log.info("web configuration reloaded")
        self.log_warnings()

    def log_warnings(self) -> None:
        """Log the warnings about the configuration in force."""
        for warning in self.warnings:
            log.warning("warning about web configuration", warning=warning)


def _read_if_changed(file: Path, known: FileStates) -> ReadResult | None:
    """Return None if no file has changed. Blocks while their file system does not answer."""
    return None if file_states(known) == known else read_web_config(file)


def _no_answer(file: Path, error: FileError) -> str:
    return f"{file} or a file it refers to: {error.strerror}"


class ConcurrencyLimit:
    """Limit the number of concurrent requests; 0 means no limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._running = 0

    def enter(self) -> bool:
        """Return whether another request may start. If so, call ``leave`` when it has finished."""
        if self._limit and self._running >= self._limit:
            return False
        self._running += 1
        return True

    def leave(self) -> None:
        """Count a request as finished."""
        self._running -= 1


class TokenBucket:
    """Allow one request per ``interval`` seconds on average, and bursts of ``burst`` requests."""

    def __init__(self, interval: float, burst: int, clock: Clock) -> None:
        self.interval = interval
        self.burst = burst
        self._clock = clock
        self._tokens = float(burst)
        self._filled_at = clock.monotonic()

    def take(self) -> float:
        """Take a token and return 0, or return the seconds until the next token."""
        now = self._clock.monotonic()
        self._tokens = min(self.burst, self._tokens + (now - self._filled_at) / self.interval)
        self._filled_at = now
        if self._tokens < 1.0:
            return (1.0 - self._tokens) * self.interval
        self._tokens -= 1.0
        return 0.0


class Security:
    """Middleware in front of an application's handlers."""

    def __init__(
        self,
        file: Path | None = None,
        *,
        max_requests: int = DEFAULT_MAX_REQUESTS,
        health_without_auth: bool = False,
        clock: Clock | None = None,
        passwords: PasswordChecker | None = None,
    ) -> None:
        """``max_requests``: maximum number of concurrent requests, 0 for no limit. Raises ``ConfigError``.

        ``health_without_auth``: whether health endpoints need no authentication.
        """
        self._watched = WatchedConfig(file)
        self._clock = clock or Clock()
        self._passwords = passwords or PasswordChecker(clock=self._clock)
        self._health_without_auth = health_without_auth
        self._concurrency = ConcurrencyLimit(max_requests)
        self._bucket: TokenBucket | None = None

    @property
    def is_open(self) -> bool:
        """Whether clients have access without authentication."""
        config = self._watched.current()
        return not config.basic_auth_users and not config.tls_server_config.verifies_clients

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about the web configuration in force."""
        return self._watched.warnings

    def log_warnings(self) -> None:
        """Log the warnings about the web configuration in force."""
        self._watched.log_warnings()

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return the TLS context of the listening sockets; None without TLS."""
        if self._watched.current().tls_server_config.context is None:
            return None
        return CurrentContext.create(self._current_context)

    def protect(self, app: web.Application, headers: Mapping[str, str] = _NO_HEADERS) -> None:
        """Protect the handlers of the application and its subapplications.

        ``headers``: default headers of every response; the configuration takes precedence.
        """

        async def set_headers(_request: web.Request, response: web.StreamResponse) -> None:
            response.headers.update(headers)
            configured = self._watched.current().http_server_config.headers
            if configured:
                response.headers.update({name: value for name, value in configured.items() if value})

        app.middlewares.append(self._middleware)
        app.on_response_prepare.append(set_headers)
        app.cleanup_ctx.append(self._watch)
        app.on_cleanup.append(self._close)

    def _current_context(self) -> ssl.SSLContext:
        context = self._watched.current().tls_server_config.context
        assert context is not None
        return context

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        config = self._watched.current()
        is_health = request.path in HEALTH_PATHS
        wait = 0.0 if is_health else self._rate_limit_wait(config)
        if wait:
            return _retry_later(429, "too many requests", wait)
        if config.basic_auth_users and not (is_health and self._health_without_auth):
            refusal = await self._check_password(request, config, is_health=is_health)
            if refusal is not None:
                return refusal
        # The only subapplication is the demo's simulator, which the exporter itself polls.
        if is_health or len(request.match_info.apps) > 1:
            return await handler(request)
        if not self._concurrency.enter():
            return _retry_later(503, "too many concurrent requests", 1.0)
        try:
            response = await handler(request)
            # Sending counts as well; otherwise clients that do not read their responses could use unlimited memory.
            await send_response(request, response)
            return response
        finally:
            self._concurrency.leave()

    def _rate_limit_wait(self, config: WebConfig) -> float:
        """Return the seconds until a request is allowed."""
        limit = config.rate_limit
        if limit.interval <= 0:
            self._bucket = None
            return 0.0
        if self._bucket is None or (self._bucket.interval, self._bucket.burst) != (limit.interval, limit.burst):
            self._bucket = TokenBucket(limit.interval, limit.burst, self._clock)
        return self._bucket.take()

    async def _check_password(self, request: web.Request, config: WebConfig, *, is_health: bool) -> web.Response | None:
        """Return None if the password is correct, or the error response."""
        authorization = request.headers.get(hdrs.AUTHORIZATION, "")
        try:
            if await self._passwords.is_authorized(
                authorization, config.basic_auth_users, request.remote, is_health=is_health
            ):
                return None
        except TooManyChecksError:
            return _retry_later(503, "too many password checks in progress", 1.0)
        return web.Response(status=401, text="unauthorized\n", headers={hdrs.WWW_AUTHENTICATE: _CHALLENGE})

    async def _watch(self, _app: web.Application) -> AsyncIterator[None]:
        watcher = asyncio.create_task(self._watched.watch(self._clock), name="watch web configuration")
        yield
        await cancel_tasks([watcher])

    async def _close(self, _app: web.Application) -> None:
        self._passwords.close()


def _retry_later(status: int, text: str, seconds: float) -> web.Response:
    return web.Response(status=status, text=f"{text}\n", headers={hdrs.RETRY_AFTER: str(math.ceil(seconds))})
