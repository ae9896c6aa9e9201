"""Limit of open connections, and which connection is closed for a new one at the limit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, Literal, Protocol, get_args

import structlog

from exporter.config.root import Settings
from exporter.metrics.families.exporter_families import CONNECTION_LIMIT, CONNECTIONS, CONNECTIONS_CLOSED
from exporter.metrics.self_metrics import FamilyRegistry
from exporter.runtime.clock import Clock
from exporter.web.options import DEFAULT_MAX_CONNECTIONS, network_of

log = structlog.get_logger()

RESERVED_DESCRIPTORS: Final = 64
"""File descriptors reserved for polls, DNS, logs, and the exporter's own files."""
FEW_CONNECTIONS: Final = 16
"""Minimum limit of connections, regardless of the file descriptors, so that scrapes are always possible."""
LIMIT_LOG_INTERVAL_SECONDS: Final = 60.0
ClosingReason = Literal["limit", "timeout", "flood"]
"""The limit was reached; the client took too long; the client sent too much before reading a response."""


class OpenConnection(Protocol):
    """A connection that may be closed for a new one."""

    host: str
    """Client address."""
    is_answering: bool
    """Whether a request is being handled."""

    def abort(self) -> None:
        """Close the connection at once and discard unsent data."""


class ConnectionBudget:
    """Compute the limit of connections that leaves enough file descriptors for polls and notifications."""

    def __init__(self, settings: Callable[[], Settings], *, descriptors: int, maximum: int) -> None:
        """``settings`` returns the settings in force. ``descriptors``: file descriptor limit of the process."""
        self._settings = settings
        self._descriptors = descriptors
        self._maximum = maximum
        self._counted: Settings | None = None
        self._limit = maximum

    def __call__(self) -> int:
        """Return the limit. It is computed again after a reload."""
        settings = self._settings()
        if settings is not self._counted:
            self._counted = settings
            available = self._descriptors - RESERVED_DESCRIPTORS - _outgoing_connections(settings)
            self._limit = min(self._maximum, max(FEW_CONNECTIONS, available))
            if available < FEW_CONNECTIONS:
                log.warning(
                    "file descriptor limit allows few connections",
                    descriptors=self._descriptors,
                    connections=self._limit,
                    remedy="raise the limit of open files (ulimit -Hn, LimitNOFILE) or lower max_concurrent_requests",
                )
        return self._limit


def _outgoing_connections(settings: Settings) -> int:
    """Return the maximum number of connections that polls and notifications open at the same time.

    The connections of ``/probe`` are not counted, because upstreams rarely use all that they may.
    """
    upstreams = sum(upstream.max_concurrent_requests for upstream in settings.upstreams)
    return upstreams + len(settings.alerting.alertmanagers) + len(settings.alerting.webhooks)


class OpenConnections:
    """The open connections of all listening sockets, from being accepted until they are closed.

    At the limit, a new connection replaces an idle connection of the client with the most connections: the one that has
    waited longest for a request. So the new connection has time for its request, and clients with few connections keep
    them.
    """

    def __init__(
        self,
        limit: Callable[[], int] = lambda: DEFAULT_MAX_CONNECTIONS,
        *,
        registry: FamilyRegistry | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._limit = limit
        self._clock = clock or Clock()
        self._by_network: dict[str, dict[OpenConnection, None]] = {}
        """Connections of each client, longest waiting first."""
        self._count = 0
        self._logged_at = -math.inf
        registry = registry or FamilyRegistry()
        registry.gauge(CONNECTIONS).set_function(lambda: self._count)
        registry.gauge(CONNECTION_LIMIT).set_function(limit)
        self._closed = registry.counter(CONNECTIONS_CLOSED)
        for reason in get_args(ClosingReason):
            self._closed.labels(reason)

    def admit(self, connection: OpenConnection) -> bool:
        """Return whether to keep a new connection. If so, call ``remove`` once it is closed.

        It is refused if the limit is reached and requests are being handled on all other connections.
        """
        limit = self._limit()
        while self._count >= limit:
            self._log_limit(limit)
            self.count_closed("limit")
            longest_waiting = self._longest_waiting()
            if longest_waiting is None:
                return False
            self.remove(longest_waiting)
            longest_waiting.abort()
        self._by_network.setdefault(network_of(connection.host), {})[connection] = None
        self._count += 1
        return True

    def wait_again(self, connection: OpenConnection) -> None:
        """Record that the connection now waits for its next request."""
        known = self._by_network.get(network_of(connection.host), {})
        if connection in known:
            known[connection] = known.pop(connection)

    def remove(self, connection: OpenConnection) -> None:
        """Remove a connection if it is known."""
        network = network_of(connection.host)
        known = self._by_network.get(network, {})
        if connection in known:
            del known[connection]
            self._count -= 1
            if not known:
                del self._by_network[network]

    def count_closed(self, reason: ClosingReason) -> None:
        """Count a connection that is closed by the exporter."""
        self._closed.labels(reason).inc()

    def _longest_waiting(self) -> OpenConnection | None:
        """Return the connection to close; None if all are handling a request."""
        for connections in sorted(self._by_network.values(), key=len, reverse=True):
            for connection in connections:
                if not connection.is_answering:
                    return connection
        return None

    def _log_limit(self, limit: int) -> None:
        now = self._clock.monotonic()
        if now >= self._logged_at + LIMIT_LOG_INTERVAL_SECONDS:
            self._logged_at = now
            log.warning("connection limit reached; closing idle connections", connections=limit)
