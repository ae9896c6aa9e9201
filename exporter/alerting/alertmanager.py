"""Client of one Alertmanager, or of one of its addresses, for its API v2."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from exporter.config.alerting import AlertmanagerSettings
from exporter.http.auth import auth_from_settings, header_value, read_secret
from exporter.http.client import UpstreamClient
from exporter.http.errors import UpstreamError
from exporter.http.rate_limit import RateLimit
from exporter.runtime.clock import Clock

TIMEOUT_SECONDS = 10.0
ENDPOINT = "POST /api/v2/alerts"
_MAX_RESPONSE_BYTES = 65_536
_RETRIABLE_STATUSES = frozenset({401, 403, 404, 408, 429})
"""4xx statuses that do not mean that an alert is invalid."""


class Alertmanager:
    """Posts alerts to one address."""

    def __init__(
        self,
        settings: AlertmanagerSettings,
        clock: Clock,
        *,
        address: str | None = None,
        observe: Callable[[float], None] = lambda _: None,
        timeout: float = TIMEOUT_SECONDS,
    ) -> None:
        """``address``: the only IP address of the host to use; ``observe`` is called with every request's seconds."""
        self.label = host_and_port(settings.url, address)
        """The only part of the URL for labels and log lines."""
        self._headers = settings.headers
        self._timeout = timeout
        self._client = UpstreamClient(
            upstream=self.label,
            platform="alertmanager",
            url=settings.url,
            auth=auth_from_settings(settings.auth),
            tls=settings.tls,
            max_concurrent_requests=1,
            max_body_bytes=_MAX_RESPONSE_BYTES,
            clock=clock,
            observe=lambda _endpoint, _code, seconds: observe(seconds),
            resolver=None if address is None else _FixedAddressResolver(address),
        )

    async def post(self, alerts: Sequence[Mapping[str, Any]]) -> int:
        """Send alerts, and return the HTTP status. Raises ``UpstreamError``."""
        # ignore a proxy's Retry-After: the queue's own back-off is shorter
        self._client.rate_limit = RateLimit()
        headers = {name: header_value(read_secret(secret)) for name, secret in self._headers.items()}
        requests = self._client.requests(self._timeout)
        answer = await requests.post(ENDPOINT, body=alerts, json=False, headers=headers)
        return answer.status

    async def close(self) -> None:
        """Close the connection."""
        await self._client.close()


def are_alerts_refused(error: UpstreamError) -> bool:
    """Whether Alertmanager refused the alerts themselves, so that sending them again is useless.

    It answers 400 if any alert of a request is invalid, and accepts the valid ones all the same
    (https://github.com/prometheus/alertmanager/blob/main/api/v2/api.go).
    """
    status = error.status or 0
    return 400 <= status < 500 and status not in _RETRIABLE_STATUSES


def host_and_port(url: str, address: str | None = None) -> str:
    """Return ``host:port`` of a base URL, or of one of its addresses."""
    parts = URL(url)
    host = address or parts.host or ""
    return f"[{host}]:{parts.port}" if ":" in host else f"{host}:{parts.port}"


class _FixedAddressResolver(AbstractResolver):
    """Resolves every name to one address; requests and TLS still use the host's name."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the one address."""
        del family
        kind = socket.AF_INET6 if ":" in self._address else socket.AF_INET
        return [
            ResolveResult(
                hostname=host, host=self._address, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST
            )
        ]

    async def close(self) -> None:
        """There is nothing to close."""
