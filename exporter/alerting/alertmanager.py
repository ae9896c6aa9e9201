"""Client for API v2 of one Alertmanager, or of one of its addresses."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from exporter.alerting.payload import SENT_AT, SOURCE, WATCHDOG
from exporter.config.alerting import AlertmanagerSettings
from exporter.http.auth import auth_from_settings, header_value, read_secret
from exporter.http.client import UpstreamClient
from exporter.http.errors import UpstreamError
from exporter.http.rate_limit import RateLimit
from exporter.http.response import Response, decode_json
from exporter.http.retry import ResponseLimits
from exporter.model import Reason
from exporter.runtime.clock import Clock

TIMEOUT_SECONDS = 10.0
POST_ALERTS = "POST /api/v2/alerts"
GET_ALERTS = "GET /api/v2/alerts"
GET_STATUS = "GET /api/v2/status"
_MAX_RESPONSE_BYTES = 2**22
"""``/api/v2/status`` contains the whole configuration."""
_OWN_WATCHDOG = [("filter", f'alertname="{WATCHDOG}"'), ("filter", f'source="{SOURCE}"')]


class Fault(Enum):
    """Why a request was not accepted."""

    ALERT = "alert"
    """Alertmanager refused an alert of the request."""
    SIZE = "size"
    """The request is too large."""
    CONNECTION = "connection"
    """Anything else, such as the network, a proxy, credentials, or Alertmanager itself."""


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
        """``address``: the IP address to use instead of resolving the host; ``observe`` gets each request's seconds."""
        self.label = target_label(settings, address)
        """Its identity in labels and log lines."""
        self._headers = settings.headers
        self._timeout = timeout
        self._client = UpstreamClient(
            upstream=self.label,
            platform="alertmanager",
            url=settings.url,
            auth=auth_from_settings(settings.auth),
            tls=settings.tls,
            max_concurrent_requests=1,
            limits=ResponseLimits(_MAX_RESPONSE_BYTES),
            clock=clock,
            observe=lambda _endpoint, _code, seconds: observe(seconds),
            resolver=None if address is None else _FixedAddressResolver(address),
        )

    async def post(self, alerts: Sequence[Mapping[str, Any]]) -> int:
        """Send alerts and return the HTTP status. Raises ``UpstreamError``, also if something else responded."""
        response = await self._request(POST_ALERTS, body=alerts)
        if response.body.strip() and _is_foreign(response.body):
            text = (
                f"{POST_ALERTS}: status {response.status}, but the response is not from Alertmanager; check the url "
                "and whether a proxy requires a login"
            )
            raise UpstreamError(Reason.BAD_RESPONSE, text, status=response.status)
        return response.status

    async def listed_watchdogs(self) -> list[tuple[str, float | None]]:
        """Return the ``sent_at`` of each listed watchdog, and when Alertmanager received it (Unix seconds, its clock).

        Alertmanager sets ``updatedAt`` on receipt. Raises ``UpstreamError``.
        """
        response = await self._request(GET_ALERTS, params=_OWN_WATCHDOG)
        found = decode_json(response.body, None, GET_ALERTS)
        if not isinstance(found, list):
            raise UpstreamError(Reason.BAD_RESPONSE, f"{GET_ALERTS}: the response is not a list of alerts")
        return [_sent_and_received(item) for item in found if isinstance(item, dict)]

    async def started_at(self) -> str | None:
        """Return Alertmanager's ``uptime``, which is the time of its start, or None if it reports none.

        Raises ``UpstreamError``.
        """
        response = await self._request(GET_STATUS)
        data = decode_json(response.body, None, GET_STATUS)
        uptime = data.get("uptime") if isinstance(data, dict) else None
        return uptime if isinstance(uptime, str) and uptime else None

    async def close(self) -> None:
        """Close the connection."""
        await self._client.close()

    async def _request(self, endpoint: str, **more: Any) -> Response:
        # forget a proxy's Retry-After, because the queue's own back-off is shorter
        self._client.rate_limit = RateLimit()
        headers = {name: header_value(await read_secret(secret)) for name, secret in self._headers.items()}
        requests = self._client.requests(self._timeout)
        return await requests.request(endpoint, json=False, headers=headers, keep_refusal=True, **more)


def classify_failure(error: UpstreamError) -> Fault:
    """Return why a ``post`` failed.

    If an alert is invalid, Alertmanager responds with 400 or 422 and either a JSON string or an object with ``code``
    and ``message``. A 400 from anything else, such as a gateway, is not about the alerts.
    """
    if error.status == 413:
        return Fault.SIZE
    if error.status not in (400, 422):
        return Fault.CONNECTION
    try:
        refusal = decode_json(error.refusal, None, "")
    except UpstreamError:
        return Fault.CONNECTION
    is_error_object = isinstance(refusal, dict) and "code" in refusal and "message" in refusal
    return Fault.ALERT if isinstance(refusal, str) or is_error_object else Fault.CONNECTION


def target_label(settings: AlertmanagerSettings, address: str | None = None) -> str:
    """Return the identity of an Alertmanager, or of one of its addresses."""
    if address is None:
        return settings.identity
    port = URL(settings.url).port
    return f"{settings.identity} at " + (f"[{address}]:{port}" if ":" in address else f"{address}:{port}")


def _sent_and_received(alert: Mapping[str, Any]) -> tuple[str, float | None]:
    annotations, updated_at = alert.get("annotations"), alert.get("updatedAt")
    sent_at = annotations.get(SENT_AT) if isinstance(annotations, dict) else None
    try:
        received_at = datetime.fromisoformat(str(updated_at)).timestamp()
    except ValueError:
        received_at = None
    return str(sent_at), received_at


def _is_foreign(body: bytes) -> bool:
    """Return whether the body of a successful response is not from Alertmanager: not JSON, or a JSON error."""
    try:
        data = decode_json(body, None, "")
    except UpstreamError:
        return True
    return isinstance(data, dict) and any(data.get(key) for key in ("error", "errors"))


class _FixedAddressResolver(AbstractResolver):
    """Resolves every host to one address; requests and TLS still use the host name."""

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
