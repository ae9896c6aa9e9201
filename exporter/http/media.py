"""The media fetcher: requests playlists, init segments and segments as a viewer's player does.

Unlike ``UpstreamClient``, it requests absolute URLs that documents choose, on any host, follows redirects, keeps
cookies, and reads parts of objects. What it sends and reads is limited:

- Only http and https, without proxies. At most ``MAX_REDIRECTS`` redirects, and none from https to http.
- Hosts that the operator did not name must have public addresses (``media_fence``).
- Credentials and configured headers are sent to the configured origin only (scheme, host and port), and not once a
  redirect has left it.
- Each object has a maximum size and a deadline, and each server a maximum number of concurrent requests. Playlists do
  not wait for segments (``media_hosts``).
- A pause that a server asks for with ``Retry-After`` applies to all requests to that server.

Every fetch runs in its caller's task. Cancelling the task closes the connection.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Iterable, Mapping
from typing import Any, Final

import aiohttp
from aiohttp import hdrs
from aiohttp.abc import AbstractResolver
from multidict import CIMultiDict

from exporter.config.playback import RESERVED_HEADERS
from exporter.config.secrets import Secret
from exporter.config.upstream import TlsSettings
from exporter.http.auth import NO_HEADERS, Auth, NoAuth, header_value, read_secret
from exporter.http.errors import UpstreamError, map_exception, status_error
from exporter.http.media_body import BodyError, ByteRange, read_media
from exporter.http.media_cookies import CookieJar
from exporter.http.media_fence import Fence, ForbiddenAddressError
from exporter.http.media_fetch import Fetch, Fetched, Wanted
from exporter.http.media_hosts import MIN_REQUESTS_PER_SERVER, MediaServers
from exporter.http.media_transport import MediaTransport
from exporter.http.media_url import FetchError, FetchReason, MediaUrl, UnusableUrlError, join_url, parse_url, shown
from exporter.http.rate_limit import LONGEST_PAUSE_SECONDS
from exporter.http.response import Response, http_date, retry_after
from exporter.http.retry import CONNECT_SHARE, DRAIN_SHARE, DRAINED_BYTES, PAUSING, Observe
from exporter.model import Reason
from exporter.runtime.clock import Clock

__all__ = [
    "HEAD_BYTES", "PLAYLIST_BYTES", "SEGMENT_BYTES", "ByteRange", "CookieJar", "FetchError", "FetchReason", "Fetched",
    "MediaFetcher", "join_url", "shown",
]  # fmt: skip

PLAYLIST_BYTES: Final = 2 * 2**20
"""Default maximum size of a playlist, after decompression."""
HEAD_BYTES: Final = 16 * 2**10
"""Default number of bytes to read from the start of a segment."""
SEGMENT_BYTES: Final = 32 * 2**20
"""Default maximum size of a whole segment."""
MAX_REDIRECTS: Final = 3
MAX_REQUESTS: Final = 64
"""Default maximum number of concurrent requests to all servers together."""
CREDENTIALS_SECONDS: Final = 5.0
"""Time for which credentials are used before they are read again."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class MediaFetcher:
    """Fetches media objects for the streams of one upstream."""

    def __init__(
        self,
        *,
        url: str,
        clock: Clock,
        stream_urls: Iterable[str] = (),
        hosts: Iterable[str] = (),
        auth: Auth | None = None,
        headers: Mapping[str, Secret] | None = None,
        tls: TlsSettings | None = None,
        max_requests: int = MAX_REQUESTS,
        max_requests_per_server: int = MIN_REQUESTS_PER_SERVER,
        resolver: AbstractResolver | None = None,
        observe: Observe = lambda _what, _code, _seconds: None,
    ) -> None:
        """``url``: the configured origin, the only one that gets credentials and ``headers``.

        ``stream_urls``: other URLs from the configuration, whose hosts may have private addresses, too. ``hosts``:
        globs on host names and addresses that documents may point to although they are private. ``tls`` applies to
        all of these hosts, but its ``server_name`` only to the origin; other hosts are verified with the system's
        certificates. ``max_requests``: concurrent requests to all servers together. ``observe`` is called after each
        request, unless its caller cancels it, with what was fetched, the status or failure reason, and the seconds.

        Raises ``ValueError`` for settings that cannot work; the message contains no value.
        """
        origin = _configured_url(url)
        if any(name.lower() in RESERVED_HEADERS for name in headers or ()):
            raise ValueError("headers contains a header that cannot be configured")
        tls = tls or TlsSettings()
        self._origin = origin.origin
        self._server_name = tls.server_name if origin.is_tls else None
        self._fence = Fence([origin, *map(_configured_url, stream_urls)], hosts)
        self._clock = clock
        self._auth = auth or NoAuth()
        self._header_secrets = headers or {}
        self._headers = NO_HEADERS
        self._servers = MediaServers(clock, max_requests=max_requests, max_requests_per_server=max_requests_per_server)
        self._transport = MediaTransport(tls, self._fence, max_connections=max_requests, resolver=resolver)
        self._observe = observe
        self._credentials: Mapping[str, str] | None = None
        self._credentials_read_at = 0.0

    def cookie_jar(self) -> CookieJar:
        """Return an empty cookie jar; each stream keeps one and passes it to all its fetches."""
        return CookieJar(self._clock)

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.close()

    # -- fetching ------------------------------------------------------------------------------------------------------

    async def fetch_playlist(
        self, url: str, cookies: CookieJar, *, what: str, timeout: float, max_bytes: int = PLAYLIST_BYTES
    ) -> Fetched:
        """Fetch a playlist or manifest, which may be compressed. ``what`` names it in messages (``playlist``).

        ``timeout``: seconds for the whole fetch. ``max_bytes``: maximum size after decompression.

        Raises ``FetchError`` for every status outside 200 to 299 and for every other failure.
        """
        return await self._fetch(url, cookies, Wanted(what, True, max_bytes, None, None, timeout))

    async def fetch_head(
        self,
        url: str,
        cookies: CookieJar,
        *,
        what: str,
        timeout: float,
        max_bytes: int = HEAD_BYTES,
        byte_range: ByteRange | None = None,
    ) -> Fetched:
        """Fetch the first ``max_bytes`` of a segment. ``byte_range``: the part of the object that is the segment.

        If the server ignores the range, only these bytes are read and the connection is closed. Other arguments and
        errors are those of ``fetch_playlist``.
        """
        head = ByteRange(0, max_bytes - 1) if byte_range is None else byte_range.head(max_bytes)
        return await self._fetch(url, cookies, Wanted(what, False, max_bytes, head, byte_range, timeout))

    async def fetch_whole(
        self,
        url: str,
        cookies: CookieJar,
        *,
        what: str,
        timeout: float,
        max_bytes: int = SEGMENT_BYTES,
        byte_range: ByteRange | None = None,
    ) -> Fetched:
        """Fetch a whole segment. ``byte_range``: the part of the object that is the segment.

        Other arguments and errors are those of ``fetch_playlist``.
        """
        if byte_range is not None and byte_range.size > max_bytes:
            text = f"{what} {shown(url)}: the byte range exceeds {max_bytes} bytes"
            raise FetchError(FetchReason.TOO_LARGE, text)
        return await self._fetch(url, cookies, Wanted(what, False, max_bytes, byte_range, byte_range, timeout))

    async def _fetch(self, url: str, cookies: CookieJar, wanted: Wanted) -> Fetched:
        fetch = Fetch(wanted, cookies, url)
        try:
            async with fetch.time_limit:
                return await self._follow(fetch, self._check_url(fetch, url))
        except TimeoutError:
            is_sent = fetch.sent_at is not None
            problem = "timed out" if is_sent else "timed out before the request could be sent"
            failure = FetchError(FetchReason.TIMEOUT, f"{fetch.place}: {problem}", is_inconclusive=not is_sent)
        except FetchError as error:
            failure = error
        except UpstreamError as error:
            # credentials or certificates cannot be read
            failure = FetchError(FetchReason(error.reason.value), f"{fetch.place}: {error}", is_inconclusive=True)
        failure.server, failure.is_reached = fetch.server, fetch.is_reached
        fetch.end_request(self._clock.monotonic())
        failure.seconds = fetch.seconds_before
        # outside of the handlers, so that no exception of a library, which may contain the URL, is attached
        raise failure

    async def _follow(self, fetch: Fetch, url: MediaUrl) -> Fetched:
        """Send the request, and then those that redirects ask for."""
        while True:
            fetch.has_left_origin |= url.origin != self._origin
            answer = await self._send(fetch, url)
            if isinstance(answer, Fetched):
                return answer
            fetch.end_request(self._clock.monotonic())
            url = answer

    def _check_url(self, fetch: Fetch, text: str) -> MediaUrl:
        """Parse a URL and check it, as far as that is possible without a lookup."""
        try:
            url = parse_url(text)
            self._fence.check_url(url)
        except UnusableUrlError as error:
            reason, problem = error.reason, str(error)
        except ForbiddenAddressError as error:
            reason, problem = FetchReason.BLOCKED, str(error)
        else:
            return url
        if fetch.redirects and reason is FetchReason.BAD_RESPONSE:
            reason = FetchReason.REDIRECT
        raise FetchError(reason, f"{fetch.place}: {problem}")

    # -- one request ---------------------------------------------------------------------------------------------------

    async def _send(self, fetch: Fetch, url: MediaUrl) -> Fetched | MediaUrl:
        """Send a request when the limits allow it; return the object, or the URL to request next."""
        async with self._servers.slot(url.server, is_playlist=fetch.wanted.is_playlist) as keeps_connections:
            pause = self._servers.pause(url.server)
            if pause > 0:
                text = f"{fetch.place}: not sent, the server asked for a pause ({pause:.0f} s left)"
                raise FetchError(FetchReason.RATE_LIMITED, text, retry_after=pause, is_inconclusive=True)
            context = await self._transport.context(url)
            credentials = NO_HEADERS if fetch.has_left_origin else await self._current_credentials()
            session = self._transport.session(keeps_connections=keeps_connections)
            return await self._send_now(fetch, url, session, context, credentials)

    async def _send_now(
        self,
        fetch: Fetch,
        url: MediaUrl,
        session: aiohttp.ClientSession,
        context: ssl.SSLContext | bool,
        credentials: Mapping[str, str],
    ) -> Fetched | MediaUrl:
        began = fetch.sent_at = self._clock.monotonic()
        fetch.server, fetch.is_reached = url.server, False
        code = ""
        try:
            async with session.get(
                url.url,
                headers=self._request_headers(fetch, url, credentials),
                allow_redirects=False,
                ssl=context,
                server_hostname=None if fetch.has_left_origin else self._server_name,
                timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_SHARE * fetch.wanted.timeout),
            ) as response:
                code = str(response.status)
                return await self._read_response(fetch, url, response, credentials)
        except asyncio.CancelledError:
            if fetch.time_limit.expired():
                code = code or FetchReason.TIMEOUT
            raise
        except UpstreamError:
            raise
        except Exception as error:
            failure = _fetch_error(error, fetch.place)
            fetch.is_reached = fetch.is_reached or failure.is_reached
            code = code or failure.fetch_reason
        finally:
            if code:
                self._observe(fetch.wanted.what, str(code), self._clock.monotonic() - began)
        raise failure

    def _request_headers(self, fetch: Fetch, url: MediaUrl, credentials: Mapping[str, str]) -> CIMultiDict[str]:
        headers: CIMultiDict[str] = CIMultiDict() if fetch.has_left_origin else CIMultiDict(self._headers)
        headers.update(credentials)
        # a compressed segment would hide its size
        headers[hdrs.ACCEPT_ENCODING] = "gzip" if fetch.wanted.is_playlist else "identity"
        part = fetch.wanted.byte_range
        if part is not None:
            headers[hdrs.RANGE] = f"bytes={part.first}-{part.last}"
        cookies = fetch.cookies.header(url)
        if cookies:
            configured = headers.get(hdrs.COOKIE)
            headers[hdrs.COOKIE] = f"{configured}; {cookies}" if configured else cookies
        return headers

    async def _current_credentials(self) -> Mapping[str, str]:
        """Return the headers with the credentials, and read the configured headers again, too.

        Raises ``UpstreamError`` if one of them is not available.
        """
        now = self._clock.monotonic()
        if self._credentials is None or now - self._credentials_read_at >= CREDENTIALS_SECONDS:
            self._headers = {
                name: header_value(await read_secret(secret)) for name, secret in self._header_secrets.items()
            }
            self._credentials = await self._auth.headers(_refuse_login)
            self._credentials_read_at = now
        return self._credentials

    # -- one response --------------------------------------------------------------------------------------------------

    async def _read_response(
        self, fetch: Fetch, url: MediaUrl, response: aiohttp.ClientResponse, credentials: Mapping[str, str]
    ) -> Fetched | MediaUrl:
        """Read a response; return the object, or the URL to request next. Raises ``FetchError``, ``BodyError``."""
        head_at = self._clock.monotonic()
        fetch.is_reached = True
        if hdrs.SET_COOKIE in response.headers:
            fetch.cookies.store(url, response.cookies.values())
        if response.status in _REDIRECTS:
            await _drain(response, fetch.wanted.timeout)
            return self._redirect_target(fetch, url, response)
        if not 200 <= response.status < 300:
            await _drain(response, fetch.wanted.timeout)
            if response.status == 401 and await self._has_new_credentials(fetch, credentials):
                return url
            raise self._status_error(fetch, url, response)
        body = await read_media(response, fetch.wanted.byte_range, fetch.wanted.max_bytes)
        return fetch.result(url, response, body, head_at=head_at, ended_at=self._clock.monotonic())

    def _redirect_target(self, fetch: Fetch, url: MediaUrl, response: aiohttp.ClientResponse) -> MediaUrl:
        if fetch.redirects == MAX_REDIRECTS:
            text = f"{fetch.place}: more than {MAX_REDIRECTS} redirects"
            raise FetchError(FetchReason.REDIRECT, text, status=response.status)
        location = response.headers.get(hdrs.LOCATION)
        if not location:
            raise FetchError(FetchReason.REDIRECT, f"{fetch.place}: redirect without a target", status=response.status)
        fetch.redirects += 1
        fetch.redirected_to = join_url(str(url.url), location)
        target = self._check_url(fetch, fetch.redirected_to)
        if url.is_tls and not target.is_tls:
            text = f"{fetch.place}: redirects from https to http are not followed"
            raise FetchError(FetchReason.REDIRECT, text, status=response.status)
        return target

    async def _has_new_credentials(self, fetch: Fetch, credentials: Mapping[str, str]) -> bool:
        """Return whether credentials have changed since a request that got a 401; try only once."""
        if fetch.has_left_origin or fetch.has_renewed:
            return False
        fetch.has_renewed = True
        if not await self._auth.discard_headers(credentials):
            return False
        self._credentials = None
        return True

    def _status_error(self, fetch: Fetch, url: MediaUrl, response: aiohttp.ClientResponse) -> FetchError:
        status = response.status
        pause = None
        if status in PAUSING:
            date = http_date(response.headers.get(hdrs.DATE, ""))
            pause = retry_after(response.headers.get(hdrs.RETRY_AFTER), date, self._clock.now())
        if pause is not None:
            pause = min(pause, LONGEST_PAUSE_SECONDS)
            self._servers.pause_for(url.server, pause)
        # 410 is what a server with a memory returns instead of a 404
        reason = status_error(404 if status == 410 else status, "", None, None).reason
        text = f"{fetch.place}: status {status}"
        return FetchError(FetchReason(reason.value), text, status=status, retry_after=pause)


async def _drain(response: aiohttp.ClientResponse, timeout: float) -> None:
    """Read a small body that is not needed, so that the connection can be reused; otherwise close it."""
    left = DRAINED_BYTES
    try:
        async with asyncio.timeout(DRAIN_SHARE * timeout):
            while left >= 0 and (part := await response.content.readany()):
                left -= len(part)
    except (aiohttp.ClientError, OSError):
        left = -1
    if left < 0:
        response.close()


def _fetch_error(error: Exception, place: str) -> FetchError:
    """Return the error for an exception of a request or a body."""
    if isinstance(error, ForbiddenAddressError):
        return FetchError(FetchReason.BLOCKED, f"{place}: {error}")
    if isinstance(error, BodyError):
        return FetchError(error.reason, f"{place}: {error}")
    mapped = map_exception(error, place)
    failure = FetchError(FetchReason(mapped.reason.value), str(mapped))
    failure.is_reached = mapped.is_reached
    return failure


def _configured_url(text: str) -> MediaUrl:
    try:
        return parse_url(text)
    except UnusableUrlError as error:
        problem = str(error)
    raise ValueError(problem)


def _refuse_login(endpoint: str, *, body: Any) -> Awaitable[Response]:  # noqa: ARG001 - part of the interface
    raise UpstreamError(Reason.AUTH, "playback checks do not support logins")
