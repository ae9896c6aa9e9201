"""Sending one request as often as it takes, and reading what comes of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
from aiohttp import hdrs
from yarl import URL

from exporter.http.auth import NO_HEADERS, Auth, NoAuth
from exporter.http.cutoff import Watched
from exporter.http.endpoint import Endpoint
from exporter.http.error_mapping import LostConnectionError, map_exception, status_error
from exporter.http.errors import UpstreamError
from exporter.http.rate_limit import Ticket
from exporter.http.response import Answer, decode_json, decode_text, read_body, retry_after
from exporter.model import Reason

if TYPE_CHECKING:
    from exporter.http.client import Requests, UpstreamClient

CONNECT_SHARE = 0.5
"""Of a poll's time: what a single connection may take."""
MAX_RETRIES = 2
RETRIES_PER_POLL = 10
"""An upstream that refuses everything is not asked three times as much."""
BACK_OFF_SECONDS, LONGEST_BACK_OFF_SECONDS = 0.2, 2.0
TRANSIENT = frozenset({429, 502, 503, 504})
PAUSING = frozenset({429, 503})
DRAINED_BYTES = 65_536
"""The body of a refusal is read up to here, so that its connection can be used again."""
DRAIN_SHARE = 0.25
"""Of a poll's time: what that may take. The status says enough."""
_NOTHING: tuple[Auth, Mapping[str, str]] = NoAuth(), NO_HEADERS


class PreparedRequest(Watched):
    """One request, ready to be sent as often as it takes."""

    __slots__ = ("_headers", "auth", "body", "endpoint", "keep_refusal", "safe", "url", "wants_json")

    def __init__(
        self,
        endpoint: Endpoint,
        url: URL,
        body: Any,
        headers: Mapping[str, str] | None,
        *,
        wants_json: bool,
        auth: bool,
        safe: bool,
        keep_refusal: bool,
    ) -> None:
        super().__init__()
        self.endpoint = endpoint
        self.url = url
        self.body = None if body is None else msgspec.json.encode(body)
        self.wants_json = wants_json
        self.auth = auth
        self.safe = safe
        self.keep_refusal = keep_refusal
        self._headers = headers

    def headers(self, credentials: Mapping[str, str]) -> Mapping[str, str]:
        """What is sent besides the headers of every request."""
        if self.body is None and not self._headers:
            return credentials
        content = {} if self.body is None else {"Content-Type": "application/json"}
        return {**credentials, **content, **(self._headers or {})}


class Attempts:
    """Sends the calls of one poll: counts them, and keeps to its deadline, its retries and the platform's limit."""

    def __init__(self, client: UpstreamClient, requests: Requests, timeout: float) -> None:
        self.count = 0
        self.usable = 0
        self.clock_skew_seconds: float | None = None
        self._client = client
        self._clock = client.clock
        self._requests = requests
        self._timeout = _client_timeout(timeout)
        self._drain_seconds = DRAIN_SHARE * timeout
        self._retries_left = RETRIES_PER_POLL
        self._quickest: float | None = None
        self._proof: tuple[Auth, Mapping[str, str]] | None = None

    async def send_with_retries(self, call: PreparedRequest) -> Answer:
        """Send the call until it is answered, or no retry is left for it."""
        has_renewed = False
        retries = 0
        while True:
            auth, credentials = await self._credentials_now() if call.auth else _NOTHING
            try:
                return await self._attempt(call, credentials)
            except UpstreamError as error:
                if error.status == 401 and not has_renewed and await auth.rejected(credentials):
                    has_renewed = True
                    self._proof = None
                    continue
                wait = self._wait_before_retry(call, error, retries)
                if wait is None:
                    raise
            retries += 1
            self._retries_left -= 1
            await self._clock.sleep(wait)

    async def _credentials_now(self) -> tuple[Auth, Mapping[str, str]]:
        """The credentials of this poll, read once; the platform may change their kind, a 401 their text."""
        auth = self._client.auth
        if self._proof is None or self._proof[0] is not auth:
            self._proof = auth, await auth.headers(self._requests)
        return self._proof

    def _wait_before_retry(self, call: PreparedRequest, error: UpstreamError, retries: int) -> float | None:
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
        return wait if self._clock.monotonic() + wait < self._requests.deadline else None

    async def _attempt(self, call: PreparedRequest, credentials: Mapping[str, str]) -> Answer:
        transport = self._client.transport
        session = await transport.session()
        limit = self._client.rate_limit
        ticket = limit.begin() if limit.is_unknown else await self._turn(call)
        self.count += 1
        code = ""
        began = self._clock.monotonic()
        call.listen()
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
                call.listen()
                code = str(response.status)
                date = self._client.parse_date(response.headers.get(hdrs.DATE))
                self._note_headers(response, ticket, date, self._clock.monotonic() - began)
                return await self._usable(call, response, date)
        except UpstreamError:
            raise
        except asyncio.CancelledError:
            if call.is_cut_off:
                code = code or Reason.TIMEOUT
            raise
        except Exception as error:
            failure = map_exception(error, call.endpoint.template)
            code = code or failure.reason
            raise failure from None
        finally:
            call.stop_listening()
            limit.end()
            if code:
                self._client.observe(call.endpoint.template, str(code), self._clock.monotonic() - began)

    async def _turn(self, call: PreparedRequest) -> Ticket:
        """Wait until the request may be sent, or raise: within the platform's limit, and not while it wants a pause."""
        limit = self._client.rate_limit
        while (pause := limit.pause(self._clock.now())) > 0:
            if self._clock.monotonic() + pause >= self._requests.deadline:
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

    def _note_headers(
        self, response: aiohttp.ClientResponse, ticket: Ticket, date: float | None, seconds: float
    ) -> None:
        """Learn the platform's time and its limit from an answer that took ``seconds`` to begin."""
        now = self._clock.now()
        is_quickest = self._quickest is None or seconds < self._quickest
        if date is not None and is_quickest and hdrs.AGE not in response.headers:
            # the quicker the answer, the better is known when in between it was written
            self._quickest = seconds
            skew = date - (now - seconds / 2)
            self.clock_skew_seconds = skew if abs(skew) >= 1.0 else 0.0
        self._client.rate_limit.answered(ticket, response.headers, now, self.clock_skew_seconds or 0.0)

    async def _usable(self, call: PreparedRequest, response: aiohttp.ClientResponse, date: float | None) -> Answer:
        """The answer, read and decoded; raises when it can't be used."""
        endpoint, status = call.endpoint.template, response.status
        if not 200 <= status < 300:
            body = await self._drain(call, response)
            self.usable += status == 404
            error = status_error(status, endpoint, response.headers.get("Location"), self._pause_asked(response, date))
            error.refusal = body if call.keep_refusal else b""
            raise error
        body = await read_body(response, self._client.max_body_bytes, endpoint, call.listen)
        data, text = None, None
        if not call.wants_json:
            text = decode_text(body, endpoint)
        elif body or (call.safe and status != 204):
            data = decode_json(body, response.headers.get(hdrs.CONTENT_TYPE), endpoint)
        self.usable += 1
        return Answer(status, response.headers, call.url, data=data, text=text, date=date)

    async def _drain(self, call: PreparedRequest, response: aiohttp.ClientResponse) -> bytes:
        """Read what belongs to a refusal; whatever is wrong with it, the status is what counts."""
        try:
            async with asyncio.timeout(self._drain_seconds):
                return await read_body(response, DRAINED_BYTES, "", call.listen)
        except (UpstreamError, aiohttp.ClientError, OSError):
            response.close()
            return b""

    def _pause_asked(self, response: aiohttp.ClientResponse, date: float | None) -> float | None:
        """Seconds that a 429 or 503 asks to wait; a 429 that does not say means until the limit's window is over."""
        if response.status not in PAUSING:
            return None
        now = self._clock.now()
        seconds = retry_after(response.headers.get("Retry-After"), date, now)
        if seconds is None and response.status == 429:
            seconds = self._client.rate_limit.until_reset(now)
        return seconds


@lru_cache(maxsize=64)
def _client_timeout(timeout: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SHARE * timeout)
