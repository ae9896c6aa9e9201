"""How many connections to the exporter's port may be open, and which one is closed in favour of a new one."""

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
"""File descriptors that no connection to the port may use: for polls, DNS, logs, and the exporter's own files."""
FEW_CONNECTIONS: Final = 16
"""Connections allowed however few file descriptors there are, so that a scrape always gets in."""
LIMIT_LOG_INTERVAL_SECONDS: Final = 60.0
ClosingReason = Literal["limit", "timeout", "flood"]
"""Closed or refused because of the limit; the client took too long; it sent too much ahead of a response."""


class OpenConnection(Protocol):
    """What decides whether a connection is closed in favour of a new one."""

    host: str
    """The client's address."""
    is_answering: bool
    """Whether a request is being answered."""

    def abort(self) -> None:
        """Close the connection at once, whatever is left to send."""


class ConnectionBudget:
    """Compute how many connections leave enough file descriptors for polls and notifications."""

    def __init__(self, settings: Callable[[], Settings], *, descriptors: int, maximum: int) -> None:
        """``settings`` returns those in force; ``descriptors``: how many the process may open."""
        self._settings = settings
        self._descriptors = descriptors
        self._maximum = maximum
        self._counted: Settings | None = None
        self._limit = maximum

    def __call__(self) -> int:
        """Return the number; it is computed again when a reload has changed the settings."""
        settings = self._settings()
        if settings is not self._counted:
            self._counted = settings
            available = self._descriptors - RESERVED_DESCRIPTORS - _outgoing_connections(settings)
            self._limit = min(self._maximum, max(FEW_CONNECTIONS, available))
            if available < FEW_CONNECTIONS:
                log.warning(
                    "few file descriptors are left for connections",
                    descriptors=self._descriptors,
                    connections=self._limit,
                    remedy="a higher limit of open files (ulimit -n, LimitNOFILE), or a lower max_concurrent_requests",
                )
        return self._limit


def _outgoing_connections(settings: Settings) -> int:
    """Return the most connections that polls and notifications open at a time.

    ``/probe`` has its own connections. They are not counted, because an upstream rarely uses all that it may.
    """
    upstreams = sum(upstream.max_concurrent_requests for upstream in settings.upstreams)
    return upstreams + len(settings.alerting.alertmanagers) + len(settings.alerting.webhooks)


class OpenConnections:
    """The open connections of all listening sockets, from accepting them until they are closed.

    At the limit, a new connection takes the place of another one of the client that has the most: of the one that has
    waited longest for a request, or for its next one. The new one thus has the most time for its own request, and a
    client with few connections keeps them.
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
        """Connections of each client; the one that has waited longest is first."""
        self._count = 0
        self._logged_at = -math.inf
        registry = registry or FamilyRegistry()
        registry.gauge(CONNECTIONS).set_function(lambda: self._count)
        registry.gauge(CONNECTION_LIMIT).set_function(limit)
        self._closed = registry.counter(CONNECTIONS_CLOSED)
        for reason in get_args(ClosingReason):
            self._closed.labels(reason)

    def admit(self, connection: OpenConnection) -> bool:
        """Return whether the connection may stay. If so, ``remove`` must follow once it is closed.

        It may not if all others are being answered.
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
        """Note that the connection waits for its next request from now on."""
        known = self._by_network.get(network_of(connection.host), {})
        if connection in known:
            known[connection] = known.pop(connection)

    def remove(self, connection: OpenConnection) -> None:
        """Forget a connection, if it is known."""
        network = network_of(connection.host)
        known = self._by_network.get(network, {})
        if connection in known:
            del known[connection]
            self._count -= 1
            if not known:
                del self._by_network[network]

    def count_closed(self, reason: ClosingReason) -> None:
        """Count a connection that is closed early."""
        self._closed.labels(reason).inc()

    def _longest_waiting(self) -> OpenConnection | None:
        """Return the connection to close; None if all are being answered."""
        for connections in sorted(self._by_network.values(), key=len, reverse=True):
            for connection in connections:
                if not connection.is_answering:
                    return connection
        return None

    def _log_limit(self, limit: int) -> None:
        now = self._clock.monotonic()
        if now >= self._logged_at + LIMIT_LOG_INTERVAL_SECONDS:
            self._logged_at = now
            log.warning("connection limit is reached; idle connections are closed", connections=limit)
