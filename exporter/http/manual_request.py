"""A request that a person sees before it is sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from exporter.http.client import Requests, UpstreamClient
from exporter.http.endpoint import endpoint_of
from exporter.http.response import Response


class ManualRequest(msgspec.Struct, frozen=True):
    """A request of any method; ``path`` fills the placeholders of ``endpoint``."""

    endpoint: str
    path: Mapping[str, Any]
    body: Mapping[str, Any] | None = None
    notice: str = ""
    """What to know before sending it; shown with the request."""
    refusal_meaning: str = "the platform refuses the request"
    """What it means when the platform refuses it with a 4xx status of no more specific meaning."""

    @property
    def method(self) -> str:
        """Return the HTTP method."""
        return endpoint_of(self.endpoint).method

    @property
    def changes_something(self) -> bool:
        """Return whether it does more than read."""
        return self.method != "GET"

    def url(self, client: UpstreamClient) -> str:
        """Return the full URL. Raises ``UpstreamError`` (``not_found``) for values that no path can hold."""
        return str(client.url_of(endpoint_of(self.endpoint).path(self.path), None))

    async def send(self, requests: Requests) -> Response:
        """Send it. Raises ``UpstreamError``, with the platform's message in its ``refusal``."""
        return await requests.request(
            self.endpoint, body=self.body, safe=not self.changes_something, keep_refusal=True, **self.path
        )
