"""The one HTTP client of all platforms, bounded in every direction.

A poll has one deadline; connecting, and waiting for bytes, have shorter ones of their own. Requests at one time, bytes
of an answer, retries, and requests against the platform's limit are all counted. Redirects are never followed.
"""

from __future__ import annotations

import asyncio
import copy
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import structlog
from aiohttp.abc import AbstractResolver
from yarl import URL

from exporter.config.upstream import AuthSettings, TlsSettings, UpstreamSettings
from exporter.http.auth import Auth, Login, auth_from_settings
from exporter.http.cutoff import CutOff
from exporter.http.endpoint import Endpoint, endpoint_of
from exporter.http.errors import UpstreamError
from exporter.http.rate_limit import RateLimit
from exporter.http.response import Answer, http_date
from exporter.http.retry import Attempts, PreparedRequest
from exporter.http.transport import Transport
from exporter.model import Reason
from exporter.runtime.clock import Clock

log = structlog.get_logger()

SILENCE_SHARE = 0.75
"""Of a poll's time: what the platform may take to begin an answer, and after every part of it to go on."""
URLS_KEPT = 10_000
"""A stream that has a request of its own is asked for at the same URL in every poll."""

T = TypeVar("T")
R = TypeVar("R")
Params = Mapping[str, str] | Sequence[tuple[str, str]]
Base = tuple[str, str, str]
"""What all URLs of an upstream begin with: scheme, authority, path."""
Observe = Callable[[str, str, float], None]
"""Called after every attempt: endpoint template, HTTP status or failure reason, seconds."""


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
        resolver: AbstractResolver | None = None,
    ) -> None:
        """``url``: the base of all endpoints, without credentials, query and fragment.

        ``resolver``: finds the addresses of its host; the system's by default.
        """
        self.upstream = upstream
        self.platform = platform
        self.auth = auth
        self.max_concurrent_requests = max_concurrent_requests
        self.max_body_bytes = max_body_bytes
        self.clock = clock
        self.observe = observe
        self.rate_limit = RateLimit()
        self._logins: dict[type[Login], Login] = {}
        self._other_limits: dict[str, RateLimit] = {}
        base = URL(url)
        if base.user is not None or base.password is not None:
            raise ValueError("a base URL carries no credentials")
        self._base = base.scheme, base.raw_authority, base.raw_path.rstrip("/")
        self.transport = Transport(
            tls, is_tls=base.scheme == "https", max_connections=max_concurrent_requests, resolver=resolver
        )
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

    def login(self, kind: type[Login], settings: AuthSettings) -> Login:
        """The login of this kind: one for all clients that share."""
        if kind not in self._logins:
            self._logins[kind] = kind(settings, self.clock)
        return self._logins[kind]

    def share(self, other: UpstreamClient) -> None:
        """Have with another client of the same account in common what its platform counts by account."""
        self.rate_limit = other.rate_limit
        self._logins = other._logins
        self._other_limits = other._other_limits

    def with_credentials(self, name: str, auth: Auth) -> UpstreamClient:
        """The same server asked with other credentials, which have a request limit of their own; it needs no closing.

        ``name`` tells several of them apart among clients that share.
        """
        client = copy.copy(self)
        client.auth = auth
        client.rate_limit = self._other_limits.setdefault(name, RateLimit())
        return client

    async def close(self) -> None:
        """Close all connections."""
        await self.transport.close()

    def url_of(self, path: str, params: Params | None) -> URL:
        """A URL below the base: ``path`` is encoded already, ``params`` are not."""
        query = urlencode(params, errors="replace", quote_via=quote) if params else ""
        return _url(self._base, path, query)

    def url_to(self, endpoint: Endpoint, values: Mapping[str, str], params: Params | None) -> URL:
        """That of an endpoint with these values in its path. Raises ``UpstreamError`` where no path can hold them."""
        if params:
            return self.url_of(endpoint.path(values), params)
        return _kept_url(self._base, endpoint, *values.items())

    def parse_date(self, text: str | None) -> float | None:
        """A ``Date`` header; the answers of one second carry the same."""
        if text is None:
            return None
        if text != self._date[0]:
            self._date = text, http_date(text)
        return self._date[1]


def _url(base: Base, path: str, query: str = "") -> URL:
    """All of it is encoded already."""
    scheme, authority, base_path = base
    return URL.build(scheme=scheme, authority=authority, path=base_path + path, query_string=query, encoded=True)


@lru_cache(maxsize=URLS_KEPT)
def _kept_url(base: Base, endpoint: Endpoint, *values: tuple[str, str]) -> URL:
    return _url(base, endpoint.path(dict(values)))


class Requests:
    """The requests of one poll: they share a deadline and are counted together."""

    def __init__(self, client: UpstreamClient, timeout: float) -> None:
        self.now = client.clock.now()
        """Unix seconds when the poll began."""
        self.deadline = client.clock.monotonic() + timeout
        """Monotonic seconds by which all of it is over."""
        self._client = client
        self._clock = client.clock
        self._cut_off = CutOff(SILENCE_SHARE * timeout)
        self._attempts = Attempts(client, self, timeout)
        self._told_internal_error = False

    @property
    def count(self) -> int:
        """Requests sent, retries among them."""
        return self._attempts.count

    @property
    def usable(self) -> int:
        """Answers that could be used; a 404 says something too."""
        return self._attempts.usable

    @property
    def clock_skew_seconds(self) -> float | None:
        """How far the platform's clock is ahead; 0 within the second that ``Date`` can tell. None: it has not said."""
        return self._attempts.clock_skew_seconds

    @property
    def server_time(self) -> float | None:
        """Unix seconds now on the platform's clock; None while it has not said."""
        skew = self.clock_skew_seconds
        return None if skew is None else self._clock.now() + skew

    def budget(self) -> int | None:
        """How many more requests may be made now without meeting the platform's limit; None: no limit is known."""
        return self._client.rate_limit.budget(self._clock.now())

    # -- asking ------------------------------------------------------------------------------------------------------

    def get(
        self,
        endpoint: str,
        *,
        params: Params | None = None,
        json: bool = True,
        headers: Mapping[str, str] | None = None,
        auth: bool = True,
        **path: str,
    ) -> Coroutine[Any, Any, Answer]:
        """Ask for ``endpoint`` (``GET /stream/{id}``), its placeholders filled from ``path``."""
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
    ) -> Coroutine[Any, Any, Answer]:
        """Send ``body`` as JSON. ``safe``: it is a query that changes nothing, and may be sent again."""
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
    ) -> Answer:
        """Any method; with ``json`` the answer's body is decoded, else it is a text.

        ``keep_refusal``: the error of a refusal carries what the platform answered.

        Raises ``UpstreamError``: for every status outside of 200 to 299, and for every fault on the way.
        """
        template = endpoint_of(endpoint)
        url = self._client.url_to(template, path, params)
        call = PreparedRequest(
            template, url, body, headers, wants_json=json, auth=auth, safe=safe, keep_refusal=keep_refusal
        )
        left = self.deadline - self._clock.monotonic()
        if left <= 0:
            raise UpstreamError(Reason.TIMEOUT, f"{endpoint}: not sent, the poll's time is over")
        try:
            return await self._cut_off.of(call, self._attempts.send_with_retries(call), left)
        except TimeoutError:
            raise UpstreamError(Reason.TIMEOUT, f"{endpoint}: no answer in time") from None

    async def map(self, function: Callable[[T], Awaitable[R]], items: Iterable[T]) -> list[tuple[T, R | UpstreamError]]:
        """``function`` of every item, as many at one time as the upstream allows; in the order of the items.

        What fails is a result too; an error that is none of ours becomes one with the reason ``internal``.
        """
        todo = list(items)
        if len(todo) <= 1:
            return [(item, await self._outcome(function, item)) for item in todo]
        results: list[Any] = [None] * len(todo)
        turns = iter(enumerate(todo))

        async def work() -> None:
            for index, item in turns:
                results[index] = await self._outcome(function, item)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._client.max_concurrent_requests, len(todo))):
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
                # its text may hold anything that the platform sent
                frame = traceback.extract_tb(error.__traceback__)[-1]
                place = f"{frame.filename}:{frame.lineno}"
                log.error("a part of a poll broke on an internal error", **labels, error=type(error).__name__, at=place)
            return UpstreamError(Reason.INTERNAL, f"internal error: {type(error).__name__}")
