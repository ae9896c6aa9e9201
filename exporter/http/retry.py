"""Sending requests with credentials, deadlines and retries, within the platform's request limit."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import aiohttp
import msgspec
from aiohttp import hdrs
from yarl import URL

from exporter.http.auth import NO_HEADERS, Auth, NoAuth
from exporter.http.endpoint import BaseUrl, Endpoint, endpoint_of
from exporter.http.errors import LostConnectionError, UpstreamError, foreign_not_found, map_exception, status_error
from exporter.http.rate_limit import (
    LONGEST_PAUSE_SECONDS,
    LONGEST_WAIT_FOR_WINDOW_SECONDS,
    RateLimit,
    Ticket,
)
from exporter.http.response import (
    LARGE_VALUES,
    MAX_VALUES,
    ByteBudget,
    Response,
    count_values,
    decode_json,
    decode_large_json,
    decode_text,
    http_date,
    looks_like_error,
    next_page,
    read_body,
    retry_after,
)
from exporter.http.transport import Transport
from exporter.http.vantage import Vantage
from exporter.model import Reason
from exporter.runtime.clock import Clock

CONNECT_SHARE = 0.5
"""Maximum time to open a connection, as a fraction of the poll timeout."""
SILENCE_SHARE = 0.75
"""Maximum time without data, as a fraction of the poll timeout."""
DRAIN_SHARE = 0.25
"""Maximum time to read the body of an error response, as a fraction of the poll timeout. Its status is enough."""
DRAINED_BYTES = 65_536
"""Maximum size of an error response whose body is read, so that its connection can be reused."""
MAX_RETRIES = 2
RETRIES_PER_POLL = 10
"""Maximum number of retries per poll, so that an upstream that fails every request does not get triple the load."""
RESERVED_RETRIES = 5
"""Retries per poll that are not used after a 500, because a few streams may return it permanently."""
BACK_OFF_SECONDS, LONGEST_BACK_OFF_SECONDS = 0.2, 2.0
BODIES_PER_POLL = 4
"""Maximum total size of a poll's responses, as a multiple of the maximum size of one response."""
TRANSIENT = frozenset({429, 500, 502, 503, 504})
PAUSING = frozenset({429, 503})
_NO_CREDENTIALS: tuple[Auth, Mapping[str, str]] = NoAuth(), NO_HEADERS

Observe = Callable[[str, str, float], None]
"""Called after every attempt with the endpoint template, the HTTP status or failure reason, and the seconds."""


class ResponseLimits(NamedTuple):
    """Limits of the responses of one poll."""

    body_bytes: int
    """Maximum size of one response, in bytes after decompression."""
    values: int = MAX_VALUES
    """Maximum number of values in all responses."""


class PollContext:
    """State shared by all requests of one poll: deadline, counters, credentials and the platform's clock."""

    def __init__(self, clock: Clock, timeout: float, limits: ResponseLimits) -> None:
        """``timeout``: seconds for the whole poll."""
        self.clock = clock
        self.started_at = clock.now()
        """Unix seconds."""
        self.deadline = clock.monotonic() + timeout
        """Monotonic seconds."""
        self.timeouts = aiohttp.ClientTimeout(sock_connect=CONNECT_SHARE * timeout, sock_read=SILENCE_SHARE * timeout)
        self.drain_seconds = DRAIN_SHARE * timeout
        self.limits = limits
        self.bytes = ByteBudget(BODIES_PER_POLL * limits.body_bytes)
        self.values_left = limits.values
        self.requests_sent = 0
        self.usable_responses = 0
        self.retries_left = RETRIES_PER_POLL
        self.credentials: tuple[Auth, Mapping[str, str]] | None = None
        """The authentication and its headers, read once per poll."""
        self.clock_skew_seconds: float | None = None
        self._fastest_seconds: float | None = None
        self._platform_epoch = 0.0
        """Unix seconds on the platform's clock at the zero of our steady clock."""

    def platform_time(self) -> float:
        """Return the current unix seconds on the platform's clock, or on ours if the platform's is unknown."""
        is_known = self.clock_skew_seconds is not None
        return self._platform_epoch + self.clock.monotonic() if is_known else self.clock.now()

    def count_values(self, body: bytes, endpoint: str, *, is_json: bool) -> int:
        """Count and return the values of a response before it is decoded.

        Raises ``UpstreamError`` (``too_large``) if there are too many.
        """
        values = count_values(body, is_json=is_json)
        if values > MAX_VALUES:
            text = f"{endpoint}: the response has more than {MAX_VALUES} values"
            raise UpstreamError(Reason.TOO_LARGE, text)
        self.values_left -= values
        if self.values_left < 0:
            limit = self.limits.values
            text = f"{endpoint}: the responses of this poll exceed {limit} values in total (max_streams)"
            raise UpstreamError(Reason.TOO_LARGE, text)
        return values

    def update_clock_skew(self, date: float, seconds: float) -> None:
        """Update the clock skew from the ``Date`` of a response that started after ``seconds``."""
        if self._fastest_seconds is None or seconds < self._fastest_seconds:
            # the fastest response gives the most precise time
            self._fastest_seconds = seconds
            now = self.clock.now()
            skew = date - (now - seconds / 2)
            self.clock_skew_seconds = skew if abs(skew) >= 1.0 else 0.0
            self._platform_epoch = now + self.clock_skew_seconds - self.clock.monotonic()


async def decode_within_limits(poll: PollContext, body: bytes, content_type: str | None, endpoint: str) -> Any:
    """Decode JSON. Raises ``UpstreamError`` (``bad_response``, ``too_large``)."""
    if poll.count_values(body, endpoint, is_json=True) > LARGE_VALUES:
        return await decode_large_json(body, content_type, endpoint)
    return decode_json(body, content_type, endpoint)


@dataclass(slots=True, kw_only=True)
class PreparedRequest:
    """One request that can be sent several times."""

    poll: PollContext
    endpoint: Endpoint
    url: URL
    body: Any = None
    extra_headers: Mapping[str, str] | None = None
    wants_json: bool = True
    auth: bool = True
    safe: bool = False
    keep_refusal: bool = False
    is_login: bool = False
    time_limit: asyncio.Timeout = field(init=False)
    """Ends the request, and any login that it needs, at the poll's deadline."""

    def __post_init__(self) -> None:
        if self.body is not None:
            self.body = _encode_json(self.body)

    def headers(self, credentials: Mapping[str, str]) -> Mapping[str, str]:
        """Return the headers of this request; the session adds those common to all requests."""
        if self.body is None and not self.extra_headers:
            return credentials
        content = {} if self.body is None else {"Content-Type": "application/json"}
        return {**credentials, **content, **(self.extra_headers or {})}


def _encode_json(data: Any) -> bytes:
    try:
        return msgspec.json.encode(data)
    except UnicodeEncodeError:
        # an id with a lone surrogate, which is sent back as the escape sequence that it was received as
        return json.dumps(msgspec.to_builtins(data)).encode()


shared_time_limit: ContextVar[asyncio.Timeout | None] = ContextVar("shared_time_limit", default=None)
"""Time limit shared by the tasks that send a poll's requests concurrently; a timer per request would be slower."""


class RequestSender:
    """Sends requests to one upstream with its credentials, within its request limit, and with retries."""

    def __init__(
        self,
        *,
        base_url: BaseUrl,
        transport: Transport,
        auth: Auth,
        limits: ResponseLimits,
        clock: Clock,
        observe: Observe,
    ) -> None:
        self.base_url = base_url
        self.transport = transport
        self.auth = auth
        self.limits = limits
        self.clock = clock
        self.observe = observe
        self.rate_limit = RateLimit()
        self.vantage = Vantage(clock)
        self.is_on_demand = False
        """Whether requests are for polls on demand, which leave enough of the request limit for scheduled polls."""
        self.recognise_error: Callable[[Any], bool] = looks_like_error
        """Returns whether the body of a 404 came from the platform itself. Platforms may replace it.

        The argument is the decoded JSON or, if the body is not JSON, its text.
        """
        self.keys_to_check = "url"
        """Settings that may be wrong when a 404 came from another server."""
        self._date: tuple[str, float | None] = ("", None)

    async def send(self, request: PreparedRequest) -> Response:
        """Send a request and return the response.

        Raises ``UpstreamError`` for every status outside 200 to 299 and for every network failure.
        """
        endpoint = request.endpoint.template
        left = request.poll.deadline - self.clock.monotonic()
        shared = shared_time_limit.get()
        # the event loop's timer may run slightly ahead of the clock
        if left <= 0 or (shared is not None and shared.expired()):
            raise UpstreamError(Reason.TIMEOUT, f"{endpoint}: not sent, the poll's timeout is over")
        try:
            if shared is not None:
                request.time_limit = shared
                return await self._send_with_retries(request)
            async with asyncio.timeout(left) as request.time_limit:
                return await self._send_with_retries(request)
        except TimeoutError:
            raise UpstreamError(Reason.TIMEOUT, f"{endpoint}: timed out") from None
        except asyncio.CancelledError:
            if shared is None or not shared.expired():
                raise
            # cancelled by the shared time limit, so return a timeout; the limit's owner notices other cancellations
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()
            raise UpstreamError(Reason.TIMEOUT, f"{endpoint}: timed out") from None

    async def _send_with_retries(self, request: PreparedRequest) -> Response:
        """Send the request until it succeeds or no retry is left."""
        poll = request.poll
        has_renewed = False
        retries = 0
        while True:
            auth, credentials = await self._credentials(request) if request.auth else _NO_CREDENTIALS
            try:
                return await self._send_once(request, credentials)
            except UpstreamError as error:
                if error.status == 401 and not has_renewed and await auth.discard_headers(credentials):
                    has_renewed = True
                    poll.credentials = None
                    continue
                wait = self._wait_before_retry(request, error, retries)
                if wait is None:
                    raise
            retries += 1
            poll.retries_left -= 1
            await self.clock.sleep(wait)

    async def _credentials(self, request: PreparedRequest) -> tuple[Auth, Mapping[str, str]]:
        """Return the poll's credentials; read them again after a 401, or if the platform has replaced ``auth``."""
        poll, auth = request.poll, self.auth
        if poll.credentials is None or poll.credentials[0] is not auth:
            poll.credentials = auth, await auth.headers(partial(self._send_login, request))
        return poll.credentials

    def _send_login(self, request: PreparedRequest, endpoint: str, *, body: Any) -> Awaitable[Response]:
        """Send the login that ``request`` needs, without credentials and within that request's time limit."""
        template = endpoint_of(endpoint)
        url = self.base_url.endpoint_url(template, {}, None)
        login = PreparedRequest(poll=request.poll, endpoint=template, url=url, body=body, auth=False, is_login=True)
        login.time_limit = request.time_limit
        return self._send_with_retries(login)

    def _wait_before_retry(self, request: PreparedRequest, error: UpstreamError, retries: int) -> float | None:
        """Return the seconds until the next attempt; None if there is none.

        A pause that the platform asked for applies to all requests.
        """
        pause = 0.0
        if error.status in PAUSING and error.retry_after is not None:
            pause = error.retry_after
            self.rate_limit.pause_for(pause, self.clock.monotonic())
        if not request.safe or retries == MAX_RETRIES or not request.poll.retries_left:
            return None
        if error.status not in TRANSIENT and not isinstance(error, LostConnectionError):
            return None
        if error.status == 429 and error.retry_after is None:
            return None
        # a 500 is more often permanent than the others, so it is retried only once
        if error.status == 500 and (retries or request.poll.retries_left <= RESERVED_RETRIES):
            return None
        back_off = min(LONGEST_BACK_OFF_SECONDS, BACK_OFF_SECONDS * 2.0**retries)
        wait = pause + random.uniform(0.0, back_off)  # noqa: S311 - spreads load, guards nothing
        return wait if self.clock.monotonic() + wait < request.poll.deadline else None

    async def _send_once(self, request: PreparedRequest, credentials: Mapping[str, str]) -> Response:
        session = await self.transport.session()
        limit = self.rate_limit
        # a login counts as scheduled, because scheduled polls use the same token
        on_demand = self.is_on_demand and not request.is_login
        if limit.is_unknown:
            ticket = limit.start_request(on_demand=on_demand)
        else:
            ticket = await self._wait_for_turn(request, on_demand=on_demand)
        request.poll.requests_sent += 1
        endpoint, code, is_reached = request.endpoint, "", True
        began = self.clock.monotonic()
        try:
            async with session.request(
                endpoint.method,
                request.url,
                headers=request.headers(credentials),
                data=request.body,
                allow_redirects=False,
                timeout=request.poll.timeouts,
                server_hostname=self.transport.server_name,
            ) as response:
                code = str(response.status)
                date = self._parse_date(response.headers.get(hdrs.DATE))
                self._note_headers(request.poll, response, ticket, date, self.clock.monotonic() - began)
                return await self._read_response(request, response, date)
        except UpstreamError:
            raise
        except asyncio.CancelledError:
            if request.time_limit.expired():
                is_reached = bool(code)
                code = code or Reason.TIMEOUT
            raise
        except Exception as error:
            failure = map_exception(error, endpoint.template)
            is_reached = bool(code) or failure.is_reached is not False
            code = code or failure.reason
            raise failure from None
        finally:
            limit.finish_request()
            if code:
                self.observe(endpoint.template, str(code), self.clock.monotonic() - began)
                self.vantage.note(self.base_url.authority, is_reached=is_reached)

    async def _wait_for_turn(self, request: PreparedRequest, *, on_demand: bool) -> Ticket:
        """Wait until the platform's limit and pauses allow the request; raise if that is after the deadline."""
        limit, endpoint = self.rate_limit, request.endpoint.template
        while True:
            now = self.clock.monotonic()
            wait: float | None = limit.pause(now)
            if wait:
                if now + wait >= request.poll.deadline:
                    text = f"{endpoint}: not sent, the platform asked for a pause ({wait:.0f} s left)"
                    raise UpstreamError(Reason.RATE_LIMITED, text, retry_after=wait)
            else:
                await limit.wait_for_turn()
                now = self.clock.monotonic()
                if limit.budget(now, on_demand=on_demand) != 0:
                    return limit.start_request(on_demand=on_demand)
                wait = limit.until_reset(now)
                if wait is None or wait > LONGEST_WAIT_FOR_WINDOW_SECONDS or now + wait >= request.poll.deadline:
                    is_used_up = limit.budget(now) == 0
                    why = "is used up" if is_used_up else "has nothing left for polls on demand"
                    text = f"{endpoint}: not sent, the platform's request limit {why}"
                    raise UpstreamError(Reason.RATE_LIMITED, text, retry_after=wait)
            with limit.waiting(on_demand=on_demand):
                await self.clock.sleep(wait)

    # -- responses -----------------------------------------------------------------------------------------------------

    def _parse_date(self, text: str | None) -> float | None:
        """Parse a ``Date`` header. The last one is cached, because all responses within a second have the same."""
        if text is None:
            return None
        if text != self._date[0]:
            self._date = text, http_date(text)
        return self._date[1]

    def _note_headers(
        self, poll: PollContext, response: aiohttp.ClientResponse, ticket: Ticket, date: float | None, seconds: float
    ) -> None:
        """Update clock skew and request limit from a response that started after ``seconds``."""
        if date is not None and hdrs.AGE not in response.headers:
            poll.update_clock_skew(date, seconds)
        self.rate_limit.update(ticket, response.headers, self.clock.monotonic(), poll.platform_time())

    async def _read_response(
        self, request: PreparedRequest, response: aiohttp.ClientResponse, date: float | None
    ) -> Response:
        """Read and decode the response. Raises ``UpstreamError`` if it is not usable."""
        endpoint, status = request.endpoint.template, response.status
        if not 200 <= status < 300:
            body = await self._drain_refusal(request, response)
            if status == 404:
                error = self._not_found_error(body, endpoint)
                request.poll.usable_responses += error.is_platform_answer
            else:
                pause = self._requested_pause(request.poll, response, date)
                error = status_error(status, endpoint, response.headers.get(hdrs.LOCATION), pause)
            error.refusal = body if request.keep_refusal else b""
            raise error
        body = await read_body(response, self.limits.body_bytes, endpoint, request.poll.bytes)
        data = None
        if request.wants_json and (body or (request.safe and status != 204)):
            data = await decode_within_limits(request.poll, body, response.headers.get(hdrs.CONTENT_TYPE), endpoint)
        else:
            request.poll.count_values(body, endpoint, is_json=False)
        request.poll.usable_responses += 1
        kept = b"" if request.wants_json else body
        return Response(status, response.headers, data=data, body=kept, date=date, link_next=next_page(response))

    def _not_found_error(self, body: bytes, endpoint: str) -> UpstreamError:
        try:
            document = decode_json(body, None, endpoint)
        except UpstreamError:
            document = decode_text(body)
        if not self.recognise_error(document):
            return foreign_not_found(endpoint, self.keys_to_check)
        error = status_error(404, endpoint, None, None)
        error.is_platform_answer = True
        return error

    async def _drain_refusal(self, request: PreparedRequest, response: aiohttp.ClientResponse) -> bytes:
        """Read the body of an error response; return nothing if that fails, because the status is what counts."""
        try:
            async with asyncio.timeout(request.poll.drain_seconds):
                return await read_body(response, DRAINED_BYTES, "", ByteBudget(DRAINED_BYTES))
        except (UpstreamError, aiohttp.ClientError, OSError):
            response.close()
            return b""

    def _requested_pause(self, poll: PollContext, response: aiohttp.ClientResponse, date: float | None) -> float | None:
        """Return the pause that a 429 or 503 asks for; for a 429 without ``Retry-After``, until the window ends."""
        if response.status not in PAUSING:
            return None
        seconds = retry_after(response.headers.get(hdrs.RETRY_AFTER), date, poll.platform_time())
        if seconds is None and response.status == 429:
            seconds = self.rate_limit.until_reset(self.clock.monotonic())
        return None if seconds is None else min(seconds, LONGEST_PAUSE_SECONDS)
