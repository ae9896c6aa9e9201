"""One request for a person to look at before it is sent."""

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

    @property
    def method(self) -> str:
        """The HTTP method."""
        return endpoint_of(self.endpoint).method

    @property
    def changes_something(self) -> bool:
        """Whether it does more than ask."""
        return self.method != "GET"

    def url(self, client: UpstreamClient) -> str:
        """Where it goes. Raises ``UpstreamError`` (``not_found``) for values that no path can hold."""
        return str(client.url_of(endpoint_of(self.endpoint).path(self.path), None))

    async def send(self, requests: Requests) -> Response:
        """Send it. Raises ``UpstreamError``, with what the platform said in its ``refusal``."""
        return await requests.request(
            self.endpoint, body=self.body, safe=not self.changes_something, keep_refusal=True, **self.path
        )
