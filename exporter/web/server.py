"""HTTP server: accepts connections, and handles malformed requests and slow clients."""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import socket
import ssl
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final, cast

import structlog
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpProcessingError, RawRequestMessage
from aiohttp.streams import StreamReader

from exporter.web.connections import OpenConnections
from exporter.web.options import address_of

log = structlog.get_logger()

HANDSHAKE_TIMEOUT_SECONDS: Final = 5.0
"""Maximum time for a TLS handshake, and for closing a TLS connection."""
HEAD_TIMEOUT_SECONDS: Final = 10.0
"""Maximum time to receive a request's head, from its first byte; for the first request, from the connection on."""
IDLE_TIMEOUT_SECONDS: Final = 75.0
"""Maximum time between a response and the next request; longer than most scrape intervals."""
MAX_UNANSWERED_BYTES: Final = 1 << 16
"""Maximum number of bytes that a client may send before its response: request heads and unread bodies."""
MAX_WAITING_REQUESTS: Final = 4
"""Maximum number of requests that a client may send before a response (pipelining)."""
PARSED_BYTES: Final = 1 << 12
"""Number of bytes to parse at a time, so that a flood of requests is detected before all of it is parsed."""
SEND_TIMEOUT_SECONDS: Final = 60.0
"""Maximum time for a client to read a response; no scrape takes this long."""
SINGLE_WRITE_BYTES: Final = 1 << 15
"""Maximum size of a body sent together with its headers; transports buffer twice as much before a write waits."""
ACCEPTS_AT_ONCE: Final = 16
"""Connections accepted in one go. Must be below ``RESERVED_DESCRIPTORS``, because each may replace another connection,
whose descriptor is only released afterwards."""
ACCEPT_RETRY_SECONDS: Final = 1.0
ACCEPT_ERROR_LOG_INTERVAL_SECONDS: Final = 60.0
SERVER_HEADER: Final = "stream-exporter"
"""Replaces aiohttp's value, which discloses the versions of aiohttp and Python."""

_BARE_HEADERS: Final = {"Server": SERVER_HEADER, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Errors after which accepting fails for a while. Other errors concern a single connection."""


class Runner(web.AppRunner):
    """Run an application with this module's ``Server``."""

    __slots__ = ("_open_connections",)

    def __init__(
        self, app: web.Application, *, shutdown_timeout: float, open_connections: OpenConnections | None = None
    ) -> None:
        super().__init__(app, shutdown_timeout=shutdown_timeout)
        self._open_connections = OpenConnections() if open_connections is None else open_connections

    async def _make_server(self) -> web.Server:
        return Server(await super()._make_server(), self._open_connections, access_log=None, logger=_server_logger())


class Site(web.BaseSite):
    """Accept the connections of a listening socket.

    asyncio's own server has no limit of connections, and hides those whose TLS handshake is not complete.
    """

    __slots__ = ("_listening", "_logged_at", "_opening", "_retry")

    def __init__(self, runner: Runner, listening: socket.socket, *, ssl_context: ssl.SSLContext | None = None) -> None:
        super().__init__(runner, ssl_context=ssl_context)
        self._listening = listening
        self._opening: dict[asyncio.Task[None], Connection] = {}
        self._retry: asyncio.TimerHandle | None = None
        self._logged_at = -math.inf

    @property
    def name(self) -> str:
        """The address."""
        return address_of(self._listening)

    async def start(self) -> None:
        """Start to accept connections."""
        await super().start()
        self._listening.setblocking(False)
        self._accept_when_ready()

    async def stop(self) -> None:
        """Close the listening socket and the connections in their TLS handshake."""
        await super().stop()
        asyncio.get_running_loop().remove_reader(self._listening)
        if self._retry is not None:
            self._retry.cancel()
        self._listening.close()
        for connection in self._opening.values():
            connection.abort()

    def _accept_when_ready(self) -> None:
        self._retry = None
        asyncio.get_running_loop().add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTS_AT_ONCE):
            try:
                client, address = self._listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._pause(error)
                    return
                continue
            self._open(client, address[0])

    def _pause(self, error: OSError) -> None:
        """Stop accepting for a moment, because the socket stays readable. Logged at most once a minute."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._listening)
        self._retry = loop.call_later(ACCEPT_RETRY_SECONDS, self._accept_when_ready)
        if loop.time() >= self._logged_at + ACCEPT_ERROR_LOG_INTERVAL_SECONDS:
            self._logged_at = loop.time()
            log.error("cannot accept connections; retrying", error=error.strerror)

    def _open(self, client: socket.socket, host: str) -> None:
        server = cast("Server", self._runner.server)
        connection = Connection(server, client, host)
        if not server.open_connections.admit(connection):
            client.close()
            return
        client.setblocking(False)
        task = asyncio.get_running_loop().create_task(self._complete(connection, client))
        self._opening[task] = connection
        task.add_done_callback(self._opening.pop)

    async def _complete(self, connection: Connection, client: socket.socket) -> None:
        """Connect the protocol to the socket, after a TLS handshake if there is one."""
        limits: dict[str, Any] = {}
        if self._ssl_context is not None:
            limits = {
                "ssl": self._ssl_context,
                "ssl_handshake_timeout": HANDSHAKE_TIMEOUT_SECONDS,
                "ssl_shutdown_timeout": HANDSHAKE_TIMEOUT_SECONDS,
            }
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, client, **limits)
        except Exception as error:
            # The frames of the traceback keep a buffer of 256 kB alive in a reference cycle.
            error.__traceback__ = None
            client.close()
            connection.fail_to_open(error)


class Server(web.Server):
    """Creates and tracks the connections of an application."""

    def __init__(self, app_server: web.Server, open_connections: OpenConnections, **options: Any) -> None:
        """``app_server``: server of the application, whose handler and request factory are used."""
        super().__init__(app_server.request_handler, request_factory=self._begin_request, **options)
        self.options = options
        self.open_connections = open_connections
        self._app_server = app_server

    def __call__(self) -> web.RequestHandler:
        return Connection(self)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """Remove a closed connection."""
        super().connection_lost(handler, exc)
        self.open_connections.remove(cast("Connection", handler))

    def _begin_request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        cast("Connection", protocol).begin_answer()
        return self._app_server.request_factory(message, payload, protocol, writer, task)


class Connection(web.RequestHandler):
    """A client's connection.

    It is closed if the client is too slow, sends too much, or does not read its response. Unlike aiohttp, it
    does not quote malformed requests in responses, because they may contain a password.
    """

    __slots__ = (
        "_client",
        "_is_idle",
        "_open_connections",
        "_open_transport",
        "_timer",
        "_unanswered_bytes",
        "host",
        "is_answering",
    )

    def __init__(self, server: Server, client: socket.socket | None = None, host: str = "") -> None:
        """``client``: the accepted socket. ``host``: the client address."""
        super().__init__(server, loop=asyncio.get_running_loop(), **server.options)
        self.host = host
        self.is_answering = False
        self._open_connections = server.open_connections
        self._client = client
        self._open_transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_idle = False
        """Whether nothing has been received since the last response."""
        self._unanswered_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the timeout for the first request."""
        self._open_transport = cast("asyncio.Transport", transport)
        self._abort_after(HEAD_TIMEOUT_SECONDS)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Release the socket and the timer."""
        self._open_transport = self._client = None
        self._cancel_timer()
        super().connection_lost(exc)

    def fail_to_open(self, error: Exception) -> None:
        """Remove a connection whose TLS handshake failed."""
        log.debug("TLS handshake failed", error=type(error).__name__)
        self._open_connections.remove(self)
        if isinstance(error, ConnectionAbortedError):
            # asyncio raises it only if the handshake times out.
            self._open_connections.count_closed("timeout")

    def data_received(self, data: bytes) -> None:
        """Parse received data. aiohttp also calls this without data, to parse the rest of its buffer."""
        if self._is_idle and data and not self._messages:
            self._is_idle = False
            self._unanswered_bytes = 0
            self._abort_after(HEAD_TIMEOUT_SECONDS)
        self._unanswered_bytes += len(data)
        if self._unanswered_bytes > MAX_UNANSWERED_BYTES:
            self._end_flood()
            return
        for start in range(0, max(1, len(data)), PARSED_BYTES):
            super().data_received(data[start : start + PARSED_BYTES])
            if len(self._messages) > MAX_WAITING_REQUESTS:
                self._end_flood()
                return

    def begin_answer(self) -> None:
        """Record that a request is complete. Until its handler returns, the connection is not replaced by a new one."""
        self.is_answering = True
        self._is_idle = False
        self._cancel_timer()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the rest of the response, and wait for the next request."""
        self.is_answering = False
        self._open_connections.wait_again(self)
        self._abort_after(SEND_TIMEOUT_SECONDS)
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self._is_idle = True
            self._abort_after(IDLE_TIMEOUT_SECONDS)

    def abort(self) -> None:
        """Close the connection at once and discard unsent data."""
        if self._open_transport is not None:
            self._open_transport.abort()
        elif self._client is not None:
            # asyncio owns the socket during the handshake, and closes it at the end of the stream.
            with suppress(OSError):
                self._client.shutdown(socket.SHUT_RDWR)

    def _abort_after(self, seconds: float) -> None:
        self._cancel_timer()
        if self._open_transport is not None:
            self._timer = self._loop.call_later(seconds, self._end_waiting)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end_flood(self) -> None:
        self._open_connections.count_closed("flood")
        self.abort()

    def _end_waiting(self) -> None:
        if not self._is_idle:
            self._open_connections.count_closed("timeout")
        self.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Log the error and return the response. Malformed requests get a text that does not quote them."""
        response = super().handle_error(request, status, exc, message)
        if isinstance(exc, HttpProcessingError):
            response = web.Response(status=status, text="malformed request\n", headers=_BARE_HEADERS)
            response.force_close()
        return response


def _server_logger() -> logging.Logger:
    """Return aiohttp's server logger with a filter for malformed requests."""
    logger = logging.getLogger("aiohttp.server")
    logger.addFilter(_drop_malformed_requests)
    return logger


def _drop_malformed_requests(record: logging.LogRecord) -> bool:
    """Drop errors about malformed requests: port scans would fill the log, and the text may quote credentials."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        log.debug("malformed request", error=type(error).__name__)
        return False
    return True


async def send_response(
    request: web.Request, response: web.StreamResponse, chunks: Iterable[bytes | memoryview] = ()
) -> None:
    """Send a whole response, followed by ``chunks``.

    A client that does not read it in time is disconnected, because it counts against the limit of concurrent requests.
    A client that disconnects is not an error. In both cases the response counts as sent.
    """
    try:
        if _fits_in_buffer(request, response):
            await _write_response(request, response, chunks)
        else:
            async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
                await _write_response(request, response, chunks)
    except (TimeoutError, ConnectionError) as error:
        log.debug("response could not be sent", path=request.path, error=type(error).__name__)
        if request.transport is not None:
            request.transport.abort()


async def _write_response(
    request: web.Request, response: web.StreamResponse, chunks: Iterable[bytes | memoryview]
) -> None:
    await response.prepare(request)
    for chunk in chunks:
        await response.write(chunk)
        # Yield, because writing blocks the event loop while the kernel accepts every chunk immediately.
        await asyncio.sleep(0)
    await response.write_eof()


def _fits_in_buffer(request: web.Request, response: web.StreamResponse) -> bool:
    """Return whether the write cannot wait, because the transport's buffer is empty and large enough."""
    if not isinstance(response, web.Response) or request.transport is None:
        return False
    length = response.content_length
    return length is not None and length <= SINGLE_WRITE_BYTES and not request.transport.get_write_buffer_size()
