"""The HTTP client that all platforms use.

A poll has one deadline, with shorter limits for connecting and for waiting for data. Concurrent requests, response
sizes and retries are limited, and the platform's own request limit is respected. Redirects are never followed.
"""

from __future__ import annotations

import asyncio
import copy
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeVar

import structlog
from aiohttp.abc import AbstractResolver
from yarl import URL

from exporter.config.upstream import AuthSettings, TlsSettings, UpstreamSettings
from exporter.http.auth import Auth, Login, auth_from_settings
from exporter.http.endpoint import BaseUrl, Params, endpoint_of
from exporter.http.errors import UpstreamError
from exporter.http.rate_limit import RateLimit
from exporter.http.response import Response
from exporter.http.retry import (
    Observe,
    PollContext,
    PreparedRequest,
    RequestSender,
    ResponseLimits,
    decode_within_limits,
    shared_time_limit,
)
from exporter.http.transport import Transport
from exporter.http.vantage import Vantage
from exporter.model import Reason
from exporter.runtime.clock import Clock

log = structlog.get_logger()

T = TypeVar("T")
R = TypeVar("R")

VALUES_PER_STREAM: Final = 100
"""Maximum number of values in all responses of a poll, as a multiple of ``max_streams``."""
MIN_POLL_VALUES: Final = 100_000
"""Lower bound of that maximum."""
_NO_RESULT: Final = object()
"""Marks a call that did not return before the deadline."""


class UpstreamClient(RequestSender):
    """The client of one upstream: connections, credentials and known limits; replaced when the settings change."""

    def __init__(
        self,
        *,
        upstream: str,
        platform: str,
        url: str,
        auth: Auth,
        tls: TlsSettings,
        max_concurrent_requests: int,
        limits: ResponseLimits,
        clock: Clock,
        observe: Observe,
        resolver: AbstractResolver | None = None,
    ) -> None:
        """``url``: the base of all endpoints, without credentials, query and fragment.

        ``resolver`` looks up the host; the system's resolver by default.
        """
        base_url = BaseUrl.parse(url)
        transport = Transport(
            tls, is_tls=base_url.scheme == "https", max_connections=max_concurrent_requests, resolver=resolver
        )
        super().__init__(
            base_url=base_url,
            transport=transport,
            auth=auth,
            limits=limits,
            clock=clock,
            observe=observe,
        )
        self.upstream = upstream
        self.platform = platform
        self.max_concurrent_requests = max_concurrent_requests
        self._logins: dict[type[Login], Login] = {}
        self._other_limits: dict[str, RateLimit] = {}

    @classmethod
    def from_settings(
        cls, settings: UpstreamSettings, clock: Clock, observe: Observe, vantage: Vantage | None = None
    ) -> UpstreamClient:
        """Return the client for a configured upstream; endpoints are below ``url`` plus ``base_path``, if any.

        ``vantage``: shared by all clients of the exporter; by default, the client has its own.
        """
        values = max(MIN_POLL_VALUES, VALUES_PER_STREAM * settings.max_streams)
        client = cls(
            upstream=settings.name,
            platform=settings.platform,
            url=settings.url.rstrip("/") + getattr(settings, "base_path", ""),
            auth=auth_from_settings(settings.auth),
            tls=settings.tls,
            max_concurrent_requests=settings.max_concurrent_requests,
            limits=ResponseLimits(settings.max_body_bytes, values),
            clock=clock,
            observe=observe,
        )
        client.rate_limit = RateLimit(settings.interval)
        client.vantage = vantage or client.vantage
        if hasattr(settings, "base_path"):
            client.keys_to_check = "url and base_path"
        return client

    def requests(self, timeout: float) -> Requests:
        """Return a request context for one poll that may take ``timeout`` seconds."""
        return Requests(self, timeout)

    def login(self, kind: type[Login], settings: AuthSettings) -> Login:
        """Return the login of this class; all clients of an account share it."""
        if kind not in self._logins:
            self._logins[kind] = kind(settings, self.clock)
        return self._logins[kind]

    def share(self, other: UpstreamClient) -> None:
        """Use the logins and request limits of the client for scheduled polls, because they are per account.

        From then on, this client leaves the scheduled polls the requests that they need.
        """
        self.is_on_demand = True
        self.rate_limit = other.rate_limit
        self._logins = other._logins
        self._other_limits = other._other_limits

    def with_credentials(self, name: str, auth: Auth) -> UpstreamClient:
        """Return a client for the same server with other credentials and its own request limit.

        ``name`` identifies these credentials among clients that share an account. The new client uses the connections
        of this one and need not be closed.
        """
        client = copy.copy(self)
        client.auth = auth
        client.rate_limit = self._other_limits.setdefault(name, RateLimit(self.rate_limit.interval))
        return client

    async def close(self) -> None:
        """Close all connections."""
        await self.transport.close()

    def url_of(self, path: str, params: Params | None) -> URL:
        """Return a URL below the base. ``path`` is already encoded, ``params`` are not."""
        return self.base_url.join(path, params)


class Requests:
    """Sends the requests of one poll, which share a deadline and counters."""

    def __init__(self, client: UpstreamClient, timeout: float) -> None:
        self._client = client
        self._poll = PollContext(client.clock, timeout, client.limits)
        self._has_logged_internal_error = False

    @property
    def now(self) -> float:
        """Unix seconds when the poll began."""
        return self._poll.started_at

    @property
    def deadline(self) -> float:
        """Monotonic seconds when the poll ends."""
        return self._poll.deadline

    @property
    def count(self) -> int:
        """Requests sent, including retries and logins."""
        return self._poll.requests_sent

    @property
    def usable(self) -> int:
        """Usable responses, including 404s in the platform's own format."""
        return self._poll.usable_responses

    @property
    def clock_skew_seconds(self) -> float | None:
        """Seconds by which the platform's clock is ahead; 0 if less than a second, None if unknown."""
        return self._poll.clock_skew_seconds

    @property
    def server_time(self) -> float | None:
        """Unix seconds now on the platform's clock; None if unknown."""
        return None if self._poll.clock_skew_seconds is None else self._poll.platform_time()

    def budget(self) -> int | None:
        """Return how many more requests the platform's limit allows now; None if there is no known limit."""
        now = self._poll.clock.monotonic()
        return self._client.rate_limit.budget(now, on_demand=self._client.is_on_demand)

    # -- sending -------------------------------------------------------------------------------------------------------

    def get(
        self,
        endpoint: str,
        *,
        params: Params | None = None,
        json: bool = True,
        headers: Mapping[str, str] | None = None,
        auth: bool = True,
        **path: str,
    ) -> Coroutine[Any, Any, Response]:
        """Get ``endpoint`` (``GET /stream/{id}``) with its placeholders filled from ``path``."""
        return self.request(
            endpoint, params=params, json=json, headers=headers, auth=auth, safe=True, keep_refusal=False, **path
        )

    def post(
        self,
        endpoint: str,
        *,
        body: Any,
        safe: bool = False,
        params: Params | None = None,
        json: bool = True,
        headers: Mapping[str, str] | None = None,
        auth: bool = True,
        **path: str,
    ) -> Coroutine[Any, Any, Response]:
        """Send ``body`` as JSON. ``safe``: the request changes nothing, so it may be retried."""
        return self.request(
            endpoint,
            body=body,
            safe=safe,
            params=params,
            json=json,
            headers=headers,
            auth=auth,
            keep_refusal=False,
            **path,
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
        keep_refusal: bool = False,
        **path: str,
    ) -> Response:
        """Send a request with any method. With ``json`` the response body is decoded, otherwise it is returned as is.

        ``keep_refusal``: attach the body of an error response to the exception.

        Raises ``UpstreamError`` for every status outside 200 to 299 and for every network failure.
        """
        template = endpoint_of(endpoint)
        request = PreparedRequest(
            poll=self._poll,
            endpoint=template,
            url=self._client.base_url.endpoint_url(template, path, params),
            body=body,
            extra_headers=headers,
            wants_json=json,
            auth=auth,
            safe=safe,
            keep_refusal=keep_refusal,
        )
        return await self._client.send(request)

    async def decode_json(self, body: bytes, endpoint: str) -> Any:
        """Decode a body that was requested without ``json``, within the limits of the poll.

        Raises ``UpstreamError`` (``bad_response``, ``too_large``).
        """
        return await decode_within_limits(self._poll, body, None, endpoint)

    async def map(self, function: Callable[[T], Awaitable[R]], items: Iterable[T]) -> list[tuple[T, R | UpstreamError]]:
        """Call ``function`` on every item concurrently, up to ``max_concurrent_requests``; keep the items' order.

        An ``UpstreamError`` is returned as the item's result. Any other exception becomes one with the reason
        ``internal``.
        """
        todo = list(items)
        if len(todo) <= 1:
            return [(item, await self._result_or_error(function, item)) for item in todo]
        results: list[Any] = [_NO_RESULT] * len(todo)
        turns = iter(enumerate(todo))
        left = self._poll.deadline - self._poll.clock.monotonic()

        async def work(time_limit: asyncio.Timeout) -> None:
            # all these requests share one timer; a timer for each would take 5 % of a request's time
            shared_time_limit.set(time_limit)
            for index, item in turns:
                results[index] = await self._result_or_error(function, item)

        with suppress(TimeoutError):
            async with asyncio.timeout(left) as time_limit, asyncio.TaskGroup() as group:
                for _ in range(min(self._client.max_concurrent_requests, len(todo))):
                    group.create_task(work(time_limit))
        late = UpstreamError(Reason.TIMEOUT, "timed out")
        return [(item, late if result is _NO_RESULT else result) for item, result in zip(todo, results, strict=True)]

    async def _result_or_error(self, function: Callable[[T], Awaitable[R]], item: T) -> R | UpstreamError:
        try:
            return await function(item)
        except UpstreamError as error:
            # thousands of errors may be kept for a while; their tracebacks would keep all frames alive
            return error.with_traceback(None)
        except Exception as error:
            if not self._has_logged_internal_error:
                self._has_logged_internal_error = True
                labels = {"platform": self._client.platform, "upstream": self._client.upstream}
                # without the error's text, which may contain data that the platform sent
                frame = traceback.extract_tb(error.__traceback__)[-1]
                place = f"{frame.filename}:{frame.lineno}"
                log.error("internal error in part of a poll", **labels, error=type(error).__name__, at=place)
            return UpstreamError(Reason.INTERNAL, f"internal error: {type(error).__name__}")
