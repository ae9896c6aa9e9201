"""Where a calendar comes from: a file, or a URL."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from aiohttp import hdrs
from yarl import URL

from exporter.calendars.worker import MAX_BYTES
from exporter.config.auth import TlsSettings
from exporter.config.secrets import Secret, SecretError
from exporter.http.auth import NoAuth, read_secret
from exporter.http.client import UpstreamClient
from exporter.http.endpoint import endpoint_of
from exporter.http.errors import UpstreamError
from exporter.http.response import Response
from exporter.http.retry import PollContext, PreparedRequest, ResponseLimits
from exporter.model import Reason
from exporter.runtime.clock import Clock
from exporter.runtime.files import WatchedFile

TIMEOUT_SECONDS = 20.0
"""Maximum time to download a calendar, including retries."""
_LIMITS = ResponseLimits(MAX_BYTES)
_ENDPOINT = "GET /"
_NOT_MODIFIED = 304
_ACCEPT: Mapping[str, str] = {hdrs.ACCEPT: "text/calendar, */*;q=0.5"}
_VALIDATORS = ((hdrs.ETAG, hdrs.IF_NONE_MATCH), (hdrs.LAST_MODIFIED, hdrs.IF_MODIFIED_SINCE))
"""Headers of a response, and the headers of the next request that repeat them."""


class CalendarFile:
    """A calendar in a file."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        """Value of the label ``calendar``."""
        self._path = path
        self._file = WatchedFile(path, MAX_BYTES)

    async def read(self) -> bytes | None:
        """Return the content; None if it has not changed since the last call. Raises ``FileError``."""
        file = await self._file.read_if_changed()
        return None if file is None else file.content

    def forget(self) -> None:
        """Return the content at the next read even if it does not change."""
        self._file = WatchedFile(self._path, MAX_BYTES)

    async def close(self) -> None:
        """Do nothing; a file has no connection."""


class CalendarUrl:
    """A calendar at a URL, which may contain a token: only its host is shown."""

    def __init__(self, secret: Secret, clock: Clock) -> None:
        try:
            host = URL(secret.get()).host
        except (SecretError, ValueError):
            host = None
        self.name = host or "calendar_url"
        """Value of the label ``calendar``."""
        self._secret = secret
        self._clock = clock
        self._client: UpstreamClient | None = None
        self._origin = URL()
        self._url = ""
        self._validators: dict[str, str] = {}

    async def read(self) -> bytes | None:
        """Return the content; None if the server reports that it has not changed. Raises ``UpstreamError``."""
        text = await read_secret(self._secret)
        if text != self._url:
            self._url, self._validators = text, {}
        try:
            url = URL(text, encoded=text.isascii())
            origin = url.origin()
        except ValueError:
            raise UpstreamError(Reason.NOT_FOUND, "calendar_url is not an http:// or https:// URL") from None
        try:
            response = await self._send(url, origin)
        except UpstreamError as error:
            if error.status == _NOT_MODIFIED and self._validators:
                return None
            raise _without_endpoint(error) from None
        self._validators = {
            request: response.headers[name] for name, request in _VALIDATORS if name in response.headers
        }
        return response.body

    def forget(self) -> None:
        """Return the content at the next read even if it does not change."""
        self._validators = {}

    async def close(self) -> None:
        """Close the connection."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _send(self, url: URL, origin: URL) -> Response:
        if self._client is None or origin != self._origin:
            await self.close()
            self._origin = origin
            self._client = self._make_client()
        request = PreparedRequest(
            poll=PollContext(self._clock, TIMEOUT_SECONDS, _LIMITS),
            endpoint=endpoint_of(_ENDPOINT),
            url=url,
            extra_headers={**_ACCEPT, **self._validators},
            wants_json=False,
            safe=True,
        )
        return await self._client.send(request)

    def _make_client(self) -> UpstreamClient:
        client = UpstreamClient(
            upstream="",
            platform="calendar",
            url=str(self._origin),
            auth=NoAuth(),
            tls=TlsSettings(),
            max_concurrent_requests=1,
            limits=_LIMITS,
            clock=self._clock,
            observe=lambda *_: None,
        )
        # every 404 has the same meaning here
        client.recognise_error = lambda _: True
        return client


def _without_endpoint(error: UpstreamError) -> UpstreamError:
    """Return the error with a text that fits a calendar."""
    if error.reason is Reason.TOO_LARGE:
        return UpstreamError(error.reason, f"it is larger than {MAX_BYTES} bytes", status=error.status)
    text = str(error).removeprefix(f"{_ENDPOINT}: ")
    return UpstreamError(error.reason, text, status=error.status)
