"""The one HTTP client of all platforms, bounded in every direction.

A poll has one deadline; connecting, and waiting for bytes, have shorter ones of their own. Requests at one time, bytes
of an answer, retries, and requests against the platform's limit are all counted. Redirects are never followed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
import structlog
from yarl import URL

from exporter.clock import Clock
from exporter.config.upstream import TlsSettings, UpstreamSettings
from exporter.model import Reason
from exporter.upstreams.answers import Answer, decode_json, decode_text, http_date, read_body, retry_after
from exporter.upstreams.auth import NO_HEADERS, Auth, auth_from_settings
from exporter.upstreams.endpoints import Endpoint, endpoint_of
from exporter.upstreams.errors import UpstreamError
from exporter.upstreams.faults import LostConnectionError, classed, refused
from exporter.upstreams.ratelimit import RateLimit, Ticket
from exporter.upstreams.transport import Transport

log = structlog.get_logger()

T = TypeVar("T")
R = TypeVar("R")
Params = Mapping[str, str] | Sequence[tuple[str, str]]
Observe = Callable[[str, str, float], None]
"""Called after every attempt: endpoint template, HTTP status or failure reason, seconds."""

CONNECT_SHARE, READ_SHARE = 0.5, 0.75
"""Of a poll's time: what a single connection, or a single silence, may take."""
MAX_RETRIES = 2
RETRIES_PER_POLL = 10
"""An upstream that refuses everything is not asked three times as much."""
BACK_OFF_SECONDS, LONGEST_BACK_OFF_SECONDS = 0.2, 2.0
TRANSIENT = frozenset({429, 502, 503, 504})
PAUSING = frozenset({429, 503})
DRAINED_BYTES = 65_536
"""The body of a refusal is read up to here, so that its connection can be used again; it is not looked at."""


class UpstreamClient:
    """The client of one upstream while its settings stay: connections, credentials, what is known of limits."""

    def __init__(
        self,
        *,
        upstream: str,
        platform: str,
        url: str,
        auth: Auth,
        tls: TlsSettings,
        max_concurrent_requests: int,
        max_body_bytes: int,
        clock: Clock,
        observe: Observe,
    ) -> None:
        """``url``: the base of all endpoints, without credentials, query and fragment."""
        self.upstream = upstream
        self.platform = platform
        self.url = url.rstrip("/")
        self.auth = auth
        self.max_concurrent_requests = max_concurrent_requests
        self.max_body_bytes = max_body_bytes
        self.clock = clock
        self.observe = observe
        self.rate_limit = RateLimit()
        self.transport = Transport(tls, is_tls=url.startswith("https:"), max_connections=max_concurrent_requests)
        self._date: tuple[str, float | None] = ("", None)

    @classmethod
    def from_settings(cls, settings: UpstreamSettings, clock: Clock, observe: Observe) -> UpstreamClient:
        """The client of a configured upstream; endpoints are below ``url`` and, where there is one, ``base_path``."""
        return cls(
            upstream=settings.name,
            platform=settings.platform,
            url=settings.url.rstrip("/") + getattr(settings, "base_path", ""),
            auth=auth_from_settings(settings.auth),
            tls=settings.tls,
            max_concurrent_requests=settings.max_concurrent_requests,
            max_body_bytes=settings.max_body_bytes,
            clock=clock,
            observe=observe,
        )

    def requests(self, timeout: float) -> Requests:
        """The requests of one poll, which may take ``timeout`` seconds."""
        return Requests(self, timeout)

    async def close(self) -> None:
        """Close all connections."""
        await self.transport.close()

    def parse_date(self, text: str | None) -> float | None:
        """A ``Date`` header; the answers of one second carry the same."""
        if text is None:
            return None
        if text != self._date[0]:
            self._date = text, http_date(text)
        return self._date[1]


class Requests:
    """The requests of one poll: they share a deadline and are counted together."""

    def __init__(self, client: UpstreamClient, timeout: float) -> None:
        self.now = client.clock.now()
        """Unix seconds when the poll began."""
        self.deadline = client.clock.monotonic() + timeout
        self.count = 0
        """Requests sent, retries among them."""
        self.usable = 0
        """Answers that could be used; a 404 says something too."""
        self.clock_skew_seconds: float | None = None
        """How far the platform's clock is ahead; 0 within the second that ``Date`` can tell. None: it has not said."""
        self._client = client
        self._clock = client.clock
        self._timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_SHARE * timeout, sock_read=READ_SHARE * timeout
        )
        self._retries_left = RETRIES_PER_POLL
        self._quickest: float | None = None
        self._told_internal_error = False

    @property
    def server_time(self) -> float | None:
        """Unix seconds now on the platform's clock; None while it has not said."""
        return None if self.clock_skew_seconds is None else self._clock.now() + self.clock_skew_seconds

    def budget(self) -> int | None:
        """How many more requests may be made now without meeting the platform's limit; None: no limit is known."""
        return self._client.rate_limit.budget(self._clock.now())

    # -- asking ------------------------------------------------------------------------------------------------------

    async def get(
        self,
        endpoint: str,
        *,
        params: Params | None = None,
        json: bool = True,
        headers: Mapping[str, str] | None = None,
        auth: bool = True,
        **path: object,
    ) -> Answer:
        """Ask for ``endpoint`` (``GET /stream/{id}``), its placeholders filled from ``path``."""
        return await self.request(endpoint, params=params, json=json, headers=headers, auth=auth, safe=True, **path)

    async def post(
        self,
        endpoint: str,
        *,
        body: Any,
        safe: bool = False,
        params: Params | None = None,
        json: bool = True,
        headers: Mapping[str, str] | None = None,
        auth: bool = True,
        **path: object,
    ) -> Answer:
        """Send ``body`` as JSON. ``safe``: it is a query that changes nothing, and may be sent again."""
        return await self.request(
            endpoint, body=body, safe=safe, params=params, json=json, headers=headers, auth=auth, **path
        )

    async def request(
        self,
        endpoint: str,
        *,
        body: Any = None,
        safe: bool = False,
        params: Params | None = None,
        json: bool = True,
        headers: Mapping[str, str] | None = None,
        auth: bool = True,
        **path: object,
    ) -> Answer:
        """Any method; with ``json`` the answer's body is decoded, else it is a text.

        Raises ``UpstreamError``: for every status outside of 200 to 299, and for every fault on the way.
        """
        template = endpoint_of(endpoint)
        url = self._client.url + template.path(path)
        if params:
            url = f"{url}?{urlencode(params, quote_via=quote)}"
        call = _Call(template, url, body, headers, wants_json=json, auth=auth, safe=safe)
        left = self.deadline - self._clock.monotonic()
        if left <= 0:
            raise UpstreamError(Reason.TIMEOUT, f"{endpoint}: not sent, the poll's time is over")
        try:
            async with asyncio.timeout(left) as scope:
                return await self._insist(call, scope)
        except TimeoutError:
            raise UpstreamError(Reason.TIMEOUT, f"{endpoint}: no answer within the poll's time") from None

    async def map(self, function: Callable[[T], Awaitable[R]], items: Iterable[T]) -> list[tuple[T, R | UpstreamError]]:
        """``function`` of every item, as many at one time as the upstream allows; in the order of the items.

        What fails is a result too; an error that is none of ours becomes one with the reason ``internal``.
        """
        todo = list(items)
        results: list[Any] = [None] * len(todo)
        turns = iter(enumerate(todo))

        async def work() -> None:
            for index, item in turns:
                results[index] = await self._outcome(function, item)

        workers = min(self._client.max_concurrent_requests, len(todo))
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(work())
        return list(zip(todo, results, strict=True))

    async def _outcome(self, function: Callable[[T], Awaitable[R]], item: T) -> R | UpstreamError:
        try:
            return await function(item)
        except UpstreamError as error:
            # thousands of them may be kept for a while, and their frames with them
            return error.with_traceback(None)
        except Exception as error:
            if not self._told_internal_error:
                self._told_internal_error = True
                labels = {"platform": self._client.platform, "upstream": self._client.upstream}
                log.exception("a part of a poll broke on an internal error", **labels, error=type(error).__name__)
            return UpstreamError(Reason.INTERNAL, f"internal error: {type(error).__name__}")

    # -- one request, as often as it takes ---------------------------------------------------------------------------

    async def _insist(self, call: _Call, scope: asyncio.Timeout) -> Answer:
        """Send the call until it is answered, or no retry is left for it."""
        auth = self._client.auth
        has_renewed = False
        retries = 0
        while True:
            credentials = await auth.headers(self) if call.auth else NO_HEADERS
            try:
                return await self._attempt(call, credentials, scope)
            except UpstreamError as error:
                if error.status == 401 and call.auth and not has_renewed and await auth.rejected(credentials):
                    has_renewed = True
                    continue
                wait = self._wait_before_retry(call, error, retries)
                if wait is None:
                    raise
            retries += 1
            self._retries_left -= 1
            await self._clock.sleep(wait)

    def _wait_before_retry(self, call: _Call, error: UpstreamError, retries: int) -> float | None:
        """Seconds before the next attempt; None: there is none. A pause that the platform asks for holds for all."""
        pause = 0.0
        if error.status in PAUSING and error.retry_after is not None:
            pause = error.retry_after
            self._client.rate_limit.pause_for(pause, self._clock.now())
        if not call.safe or retries == MAX_RETRIES or not self._retries_left:
            return None
        if error.status not in TRANSIENT and not isinstance(error, LostConnectionError):
            return None
        if error.status == 429 and error.retry_after is None:
            return None
        back_off = min(LONGEST_BACK_OFF_SECONDS, BACK_OFF_SECONDS * 2.0**retries)
        wait = pause + random.uniform(0.0, back_off)  # noqa: S311 - spreads load, guards nothing
        return wait if self._clock.monotonic() + wait < self.deadline else None

    async def _attempt(self, call: _Call, credentials: Mapping[str, str], scope: asyncio.Timeout) -> Answer:
        transport = self._client.transport
        session = await transport.session()
        ticket = await self._turn(call)
        self.count += 1
        code = ""
        began = self._clock.monotonic()
        try:
            async with session.request(
                call.endpoint.method,
                call.url,
                headers=call.headers(credentials),
                data=call.body,
                allow_redirects=False,
                timeout=self._timeout,
                server_hostname=transport.server_name,
            ) as response:
                code = str(response.status)
                self._note_headers(response, ticket, self._clock.monotonic() - began)
                return await self._usable(call, response)
        except UpstreamError:
            raise
        except asyncio.CancelledError:
            if scope.expired():
                code = code or Reason.TIMEOUT
            raise
        except Exception as error:
            failure = classed(error, call.endpoint.template)
            code = code or failure.reason
            raise failure from None
        finally:
            self._client.rate_limit.end()
            if code:
                self._client.observe(call.endpoint.template, str(code), self._clock.monotonic() - began)

    async def _turn(self, call: _Call) -> Ticket:
        """Wait until the request may be sent, or raise: within the platform's limit, and not while it wants a pause."""
        limit = self._client.rate_limit
        pause = limit.pause(self._clock.now())
        if pause > 0:
            if self._clock.monotonic() + pause >= self.deadline:
                text = f"{call.endpoint.template}: not sent, the platform asked for a pause of {pause:.0f} s more"
                raise UpstreamError(Reason.RATE_LIMITED, text, retry_after=pause)
            await self._clock.sleep(pause)
        await limit.turn()
        now = self._clock.now()
        if limit.budget(now) == 0:
            text = f"{call.endpoint.template}: not sent, the platform's request limit is used up"
            raise UpstreamError(Reason.RATE_LIMITED, text, retry_after=limit.until_reset(now))
        return limit.begin()

    # -- its answer --------------------------------------------------------------------------------------------------

    def _note_headers(self, response: aiohttp.ClientResponse, ticket: Ticket, seconds: float) -> None:
        """Learn the platform's time and its limit from an answer that took ``seconds`` to begin."""
        now = self._clock.now()
        date = self._client.parse_date(response.headers.get("Date"))
        if date is not None and "Age" not in response.headers and (self._quickest is None or seconds < self._quickest):
            # the quicker the answer, the better is known when in between it was written
            self._quickest = seconds
            skew = date - (now - seconds / 2)
            self.clock_skew_seconds = skew if abs(skew) >= 1.0 else 0.0
        self._client.rate_limit.answered(ticket, response.headers, now, self.clock_skew_seconds or 0.0)

    async def _usable(self, call: _Call, response: aiohttp.ClientResponse) -> Answer:
        """The answer, read and decoded; raises when it can't be used."""
        endpoint, status = call.endpoint.template, response.status
        date = self._client.parse_date(response.headers.get("Date"))
        if not 200 <= status < 300:
            await _drain(response)
            self.usable += status == 404
            raise refused(status, endpoint, response.headers.get("Location"), self._pause_asked(response, date))
        body = await read_body(response, self._client.max_body_bytes, endpoint)
        data, text = None, None
        if not call.wants_json:
            text = decode_text(body, endpoint)
        elif body or (call.safe and status != 204):
            data = decode_json(body, response.content_type, endpoint)
        self.usable += 1
        return Answer(status, response.headers, str(call.url), data=data, text=text, date=date)

    def _pause_asked(self, response: aiohttp.ClientResponse, date: float | None) -> float | None:
        """Seconds that a 429 or 503 asks to wait; a 429 that does not say means until the limit's window is over."""
        if response.status not in PAUSING:
            return None
        now = self._clock.now()
        seconds = retry_after(response.headers.get("Retry-After"), date, now)
        if seconds is None and response.status == 429:
            seconds = self._client.rate_limit.until_reset(now)
        return seconds


class _Call:
    """One request, ready to be sent as often as it takes."""

    __slots__ = ("_headers", "auth", "body", "endpoint", "safe", "url", "wants_json")

    def __init__(
        self,
        endpoint: Endpoint,
        url: str,
        body: Any,
        headers: Mapping[str, str] | None,
        *,
        wants_json: bool,
        auth: bool,
        safe: bool,
    ) -> None:
        self.endpoint = endpoint
        self.url = URL(url, encoded=True)
        self.body = None if body is None else msgspec.json.encode(body)
        self.wants_json = wants_json
        self.auth = auth
        self.safe = safe
        self._headers = headers

    def headers(self, credentials: Mapping[str, str]) -> Mapping[str, str]:
        """What is sent besides the headers of every request."""
        if self.body is None and not self._headers:
            return credentials
        content = {} if self.body is None else {"Content-Type": "application/json"}
        return {**credentials, **content, **(self._headers or {})}


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Read what belongs to a refusal; whatever is wrong with it, the status is what counts."""
    try:
        await read_body(response, DRAINED_BYTES, "")
    except (UpstreamError, aiohttp.ClientError, OSError):
        response.close()
