"""Client of one Alertmanager, or of one of its addresses, for its API v2."""

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
"""The status contains the whole configuration."""
_OWN_WATCHDOG = [("filter", f'alertname="{WATCHDOG}"'), ("filter", f'source="{SOURCE}"')]


class Fault(Enum):
    """The cause of a request that was not accepted."""

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
        """``address``: the only IP address of the host to use; ``observe`` is called with every request's seconds."""
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
        """Send alerts, and return the HTTP status. Raises ``UpstreamError``, also if the response is not its own."""
        response = await self._request(POST_ALERTS, body=alerts)
        if response.body.strip() and _is_foreign(response.body):
            text = (
                f"{POST_ALERTS}: status {response.status}, but the response is not Alertmanager's: check url, and "
                "whether a proxy asks for a sign-in"
            )
            raise UpstreamError(Reason.BAD_RESPONSE, text, status=response.status)
        return response.status

    async def listed_watchdogs(self) -> list[tuple[str, float | None]]:
        """Return when each listed watchdog was sent, and when Alertmanager received it (Unix seconds on its clock).

        Alertmanager sets ``updatedAt`` when it gets an alert. Raises ``UpstreamError``.
        """
        response = await self._request(GET_ALERTS, params=_OWN_WATCHDOG)
        found = decode_json(response.body, None, GET_ALERTS)
        if not isinstance(found, list):
            raise UpstreamError(Reason.BAD_RESPONSE, f"{GET_ALERTS}: the response is not a list of alerts")
        return [_sent_and_received(item) for item in found if isinstance(item, dict)]

    async def started_at(self) -> str | None:
        """Return its ``uptime``: the time of its start, which is the same text until it starts again; None if unknown.

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
        # ignore a proxy's Retry-After: the queue's own back-off is shorter
        self._client.rate_limit = RateLimit()
        headers = {name: header_value(await read_secret(secret)) for name, secret in self._headers.items()}
        requests = self._client.requests(self._timeout)
        return await requests.request(endpoint, json=False, headers=headers, keep_refusal=True, **more)


def fault_of(error: UpstreamError) -> Fault:
    """Return the cause of a failed ``post``.

    Alertmanager answers 400 or 422 with a JSON text, or with an object of ``code`` and ``message``, if an alert of the
    request is invalid. A 400 from anything else, such as a gateway, does not concern the alerts.
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
    """Return whether the body of a successful response is not Alertmanager's: no JSON, or an error in JSON."""
    try:
        data = decode_json(body, None, "")
    except UpstreamError:
        return True
    return isinstance(data, dict) and any(data.get(key) for key in ("error", "errors"))


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
