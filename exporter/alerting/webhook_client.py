"""Notifications in Alertmanager's webhook format (version 4), and the client that posts them.

https://prometheus.io/docs/alerting/latest/configuration/#webhook_config describes the format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from yarl import URL

from exporter.alerting.payload import AlertPayload
from exporter.config.alerting import WebhookSettings
from exporter.http.auth import auth_from_settings, header_value, read_secret
from exporter.http.client import UpstreamClient
from exporter.http.endpoint import endpoint_of
from exporter.http.errors import UpstreamError
from exporter.http.retry import PollContext, PreparedRequest, ResponseLimits
from exporter.model import Reason
from exporter.runtime.clock import Clock

TIMEOUT_SECONDS = 10.0
_LIMITS = ResponseLimits(65_536)
_ENDPOINT = "POST /"


def notification(
    receiver: str, label: str, name: str, payloads: Sequence[AlertPayload], *, external_url: str, truncated: int = 0
) -> dict[str, Any]:
    """Return a notification about the alerts of an upstream or a group of streams.

    ``label``: the label that its alerts have in common, ``upstream`` or ``group``; ``name``: its value. ``truncated``:
    the number of alerts left out.

    Source: samples of Alertmanager 0.25.
    """
    is_firing = any(payload.ends_at is None for payload in payloads)
    return {
        "receiver": receiver,
        "status": "firing" if is_firing else "resolved",
        "alerts": [payload.to_webhook_json() for payload in payloads],
        "groupLabels": {label: name},
        "commonLabels": _common([payload.labels for payload in payloads]),
        "commonAnnotations": _common([payload.annotations for payload in payloads]),
        "externalURL": external_url.rstrip("/"),
        "version": "4",
        "groupKey": f"{{}}:{{{label}={msgspec.json.encode(name).decode()}}}",
        "truncatedAlerts": truncated,
    }


def _common(mappings: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return the items common to all mappings."""
    common = set(mappings[0].items()) if mappings else set()
    for mapping in mappings[1:]:
        common &= mapping.items()
    return dict(sorted(common))


class WebhookClient:
    """Posts notifications to one URL; a URL in a file is read again when the file changes."""

    def __init__(self, settings: WebhookSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._client: UpstreamClient | None = None
        self._origin = URL()

    async def post(self, body: Mapping[str, Any]) -> int:
        """Send a notification and return the HTTP status. Raises ``UpstreamError``, also if a web page responds."""
        settings = self._settings
        url = URL(await read_secret(settings.url))
        request = PreparedRequest(
            poll=PollContext(self._clock, TIMEOUT_SECONDS, _LIMITS),
            endpoint=endpoint_of(_ENDPOINT),
            url=url,
            body=body,
            extra_headers={name: header_value(await read_secret(secret)) for name, secret in settings.headers.items()},
            wants_json=False,
        )
        client = await self._client_for(url.origin())
        response = await client.send(request)
        if _is_web_page(response.body):
            text = f"{_ENDPOINT}: status {response.status} with a web page; check the url and whether it needs a login"
            raise UpstreamError(Reason.BAD_RESPONSE, text, status=response.status)
        return response.status

    async def close(self) -> None:
        """Close the connection."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _client_for(self, origin: URL) -> UpstreamClient:
        if self._client is None or origin != self._origin:
            await self.close()
            self._origin = origin
            self._client = UpstreamClient(
                upstream=self._settings.name,
                platform="webhook",
                url=str(origin),
                auth=auth_from_settings(self._settings.auth),
                tls=self._settings.tls,
                max_concurrent_requests=1,
                limits=_LIMITS,
                clock=self._clock,
                observe=lambda *_: None,
            )
        return self._client


def _is_web_page(body: bytes) -> bool:
    start = body[:1024].lstrip().lower()
    return start.startswith((b"<!doctype html", b"<html"))
