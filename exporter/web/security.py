"""Who gets in, and with which headers answers leave: what ``--web.config.file`` says, read again when it changes."""

from __future__ import annotations

import math
import ssl
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import structlog
from aiohttp import hdrs, web

from exporter.config.loading import ConfigError
from exporter.runtime.clock import Clock
from exporter.web.concurrency_limit import ConcurrencyLimit, TokenBucket
from exporter.web.server.slow_clients import hand_over
from exporter.web.toolkit.tls import CurrentContext
from exporter.web.toolkit.users import BusyError, Passwords
from exporter.web.toolkit.web_config import FileStates, WebConfig, file_states, read_web_config

log = structlog.get_logger()

HEALTH: Final = frozenset({"/-/healthy", "/-/ready"})
"""Answered under load too: what asks them restarts what does not answer."""
DEFAULT_MAX_REQUESTS: Final = 40

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_CHALLENGE = 'Basic realm="stream-exporter", charset="UTF-8"'
_SWITCHED = "tls_server_config: TLS can't be switched on or off without a restart"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class WatchedConfig:
    """The web configuration as it is in force. A bad new one changes nothing, and is logged once."""

    def __init__(self, file: Path | None = None) -> None:
        """Raises ``ConfigError`` when the file is bad; without a file nothing is protected."""
        self._file = file
        self._seen: FileStates = {}
        self._config = WebConfig()
        if file is not None:
            reading = read_web_config(file)
            if reading.config is None:
                raise ConfigError(list(reading.errors))
            self._config, self._seen = reading.config, reading.files

    def current(self) -> WebConfig:
        """What holds now; costs a look at each file, and a reading when one has changed."""
        if self._file is not None and file_states(self._seen) != self._seen:
            self._read_again(self._file)
        return self._config

    def _read_again(self, file: Path) -> None:
        reading = read_web_config(file)
        self._seen = reading.files
        new, errors = reading.config, reading.errors
        if new is not None and (new.tls_server_config.context is None) != (
            self._config.tls_server_config.context is None
        ):
            new, errors = None, (f"{file}: {_SWITCHED}",)
        if new is None:
            log.error("web configuration not reloaded", errors=list(errors))
            return
        self._config = new
        log.info("web configuration reloaded")


class Security:
    """Stands before every handler of an application."""

    def __init__(
        self,
        file: Path | None = None,
        *,
        max_requests: int = DEFAULT_MAX_REQUESTS,
        clock: Clock | None = None,
        passwords: Passwords | None = None,
    ) -> None:
        """``max_requests``: answered at one time, 0 for any number. Raises ``ConfigError``."""
        self._watched = WatchedConfig(file)
        self._clock = clock or Clock()
        self._passwords = passwords or Passwords()
        self._at_once = ConcurrencyLimit(max_requests)
        self._bucket: TokenBucket | None = None

    @property
    def is_open(self) -> bool:
        """Whether anybody who reaches the port gets in."""
        config = self._watched.current()
        return not config.basic_auth_users and not config.tls_server_config.verifies_clients

    def ssl_context(self) -> ssl.SSLContext | None:
        """What the server listens with; None: without TLS."""
        if self._watched.current().tls_server_config.context is None:
            return None
        return CurrentContext.of(self._context)

    def protect(self, app: web.Application, headers: Mapping[str, str] = _NO_HEADERS) -> None:
        """Stand before the application's handlers, those of mounted applications too.

        ``headers``: of every answer, where the configuration has no others.
        """

        async def set_headers(_request: web.Request, response: web.StreamResponse) -> None:
            response.headers.update(headers)
            configured = self._watched.current().http_server_config.headers
            if configured:
                response.headers.update({name: value for name, value in configured.items() if value})

        app.middlewares.append(self._middleware)
        app.on_response_prepare.append(set_headers)
        app.on_cleanup.append(self._close)

    def _context(self) -> ssl.SSLContext:
        context = self._watched.current().tls_server_config.context
        assert context is not None
        return context

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        config = self._watched.current()
        is_health = request.path in HEALTH
        wait = 0.0 if is_health else self._rate(config)
        if wait:
            return _later(429, "too many requests", wait)
        if config.basic_auth_users:
            refusal = await self._refusal(request, config)
            if refusal is not None:
                return refusal
        # What is mounted is the demo's simulator, which the exporter itself asks.
        if is_health or len(request.match_info.apps) > 1:
            return await handler(request)
        if not self._at_once.enter():
            return _later(503, "too many requests at one time", 1.0)
        try:
            response = await handler(request)
            # Sending belongs to it: who asks for much and takes nothing would otherwise cost memory without a limit.
            await hand_over(request, response)
            return response
        finally:
            self._at_once.leave()

    def _rate(self, config: WebConfig) -> float:
        """Seconds until a request may come; 0: now."""
        limit = config.rate_limit
        if limit.interval <= 0:
            self._bucket = None
            return 0.0
        if self._bucket is None or (self._bucket.interval, self._bucket.burst) != (limit.interval, limit.burst):
            self._bucket = TokenBucket(limit.interval, limit.burst, self._clock)
        return self._bucket.take()

    async def _refusal(self, request: web.Request, config: WebConfig) -> web.Response | None:
        authorization = request.headers.get(hdrs.AUTHORIZATION, "")
        try:
            if await self._passwords.are_right(authorization, config.basic_auth_users):
                return None
        except BusyError:
            return _later(503, "too many passwords to check", 1.0)
        return web.Response(status=401, text="unauthorized\n", headers={hdrs.WWW_AUTHENTICATE: _CHALLENGE})

    async def _close(self, _app: web.Application) -> None:
        self._passwords.close()


def _later(status: int, text: str, seconds: float) -> web.Response:
    return web.Response(status=status, text=f"{text}\n", headers={hdrs.RETRY_AFTER: str(math.ceil(seconds))})
