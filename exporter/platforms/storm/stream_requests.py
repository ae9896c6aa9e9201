"""Requests to Storm: login, lists of streams, and single streams by application and key.

Source: Storm Streaming Server 3.x, RESTful API, pages Login, Stream, Stream List (Batch) and Cluster Stream List; a
single server's list has the same paging as the cluster's.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from exporter.platforms.api import (
    MILLISECONDS,
    ApplicationStream,
    DropCounter,
    InvalidCommandError,
    ListFacts,
    Login,
    ManualRequest,
    Paging,
    Reason,
    Record,
    Requests,
    RowReader,
    SendRequest,
    SessionAction,
    SessionCommand,
    SessionCommands,
    UpstreamError,
    UpstreamSettings,
)
from exporter.platforms.storm.storm_streams import (
    StormStream,
    missing_stream,
    read_cluster_stream,
    read_envelope,
    read_stream,
)

NOT_OFFERED = frozenset({404, 405, 501})
"""Response statuses for endpoints that the server does not have."""

# -- login -------------------------------------------------------------------------------------------------------------

LOGIN_ENDPOINT = "POST /auth/login"
TOKEN_LIFE_SECONDS = 900.0
"""Lifetime of a token if the response does not contain it: the documented value."""


class StormLogin(Login):
    """Exchanges username and password for a bearer token. Storm allows five logins per minute and address."""

    max_logins_per_minute = 5

    async def login(self, send: SendRequest) -> tuple[str, float]:
        """Return a new token and its lifetime in seconds."""
        credentials = {"username": self.username, "password": self.password.get()}
        response = await send(LOGIN_ENDPOINT, body=credentials)
        record = read_envelope(response.data, LOGIN_ENDPOINT, DropCounter())
        token = record.text("accessToken")
        if not token or not token.isascii() or not token.isprintable():
            raise UpstreamError(Reason.BAD_RESPONSE, f"{LOGIN_ENDPOINT}: the response has no usable access token")
        life = record.number("remainingTime", unit=MILLISECONDS, low=1.0, high=30 * 86400.0)
        return token, life or TOKEN_LIFE_SECONDS


# -- lists -------------------------------------------------------------------------------------------------------------

STREAMS = "GET /streams"
CLUSTER_STREAMS = "GET /cluster/streams"
ROWS_PER_PAGE = 100
"""Requested page size; the server may return fewer rows (its default is 10), so a short page need not be the last."""

ReadRow = Callable[[Record], Sequence[StormStream] | None]
"""Returns None if the row does not identify its stream."""


class StreamList(msgspec.Struct, frozen=True):
    """A parsed list. A stream with several records appears more than once."""

    streams: list[StormStream]
    facts: ListFacts


async def fetch_streams(requests: Requests, drops: DropCounter, settings: UpstreamSettings) -> StreamList:
    """Return the streams of this server."""

    def read_row(record: Record) -> Sequence[StormStream] | None:
        stream = read_stream(record)
        return None if stream is None else (stream,)

    return await _fetch_list(requests, STREAMS, read_row, drops, settings)


async def fetch_cluster_streams(requests: Requests, drops: DropCounter, settings: UpstreamSettings) -> StreamList:
    """Return the streams of the cluster that this server manages."""

    def read_row(record: Record) -> Sequence[StormStream] | None:
        return tuple(read_cluster_stream(record)) if record.text("streamKey", unique=True) else None

    return await _fetch_list(requests, CLUSTER_STREAMS, read_row, drops, settings)


async def _fetch_list(
    requests: Requests, endpoint: str, read_row: ReadRow, drops: DropCounter, settings: UpstreamSettings
) -> StreamList:
    rows: RowReader[Sequence[StormStream]] = RowReader(endpoint, drops, "streamKey", max_streams=settings.max_streams)
    paging = Paging()
    has_next = True
    while has_next:
        page = await _fetch_page(requests, endpoint, paging.pages + 1, drops)
        listed = page.items("list")
        found = [record for row in listed if (record := rows.record(row, prefix="list.")) is not None]
        rows.refuse_repeated_page((r.raw.get("application"), r.raw.get("streamKey")) for r in found)
        # decoding and reading a page take milliseconds each: yield to the event loop in between
        await asyncio.sleep(0)
        async for record in rows.in_steps(found):
            streams = read_row(record)
            is_wanted = any(settings.includes(stream.report.id, stream.report.name) for stream in streams or ())
            rows.add(streams, is_wanted=is_wanted)
        has_next = paging.has_next(
            len(listed),
            has_next=page.flag("hasNext"),
            page_count=page.first_count("totalPages", "pageCount"),
            total=page.first_count("totalItems", "total"),
        )
        has_next = has_next and rows.needs_more()
    return StreamList([stream for found in rows.found for stream in found], rows.facts(paging))


async def _fetch_page(requests: Requests, endpoint: str, number: int, drops: DropCounter) -> Record:
    try:
        response = await requests.get(endpoint, params={"page": str(number), "rowsPerPage": str(ROWS_PER_PAGE)})
    except UpstreamError as error:
        if number > 1 and error.reason is Reason.NOT_FOUND:
            # not NOT_FOUND, which would mean that the server has no list
            raise UpstreamError(
                Reason.BAD_RESPONSE, f"{endpoint}: page {number} was announced but does not exist"
            ) from None
        raise
    return read_envelope(response.data, endpoint, drops)


# -- single streams ----------------------------------------------------------------------------------------------------

STREAM = "GET /streams/{app}/{key}"
BATCH = "POST /streams/batch"
BATCH_FROM = 2
"""Minimum number of streams for which batches are used."""
BATCH_SIZE = 100
_STREAM_FIELDS = ("application", "streamKey", "state")
"""Every response about a stream has at least one of these fields."""

Outcomes = dict[str, list[StormStream] | UpstreamError]
"""The records of each requested stream, or the error, by id."""


class StreamRequester:
    """Requests streams by application and key, in batches if the server accepts them."""

    def __init__(self) -> None:
        self._has_batch = True

    async def fetch(self, requests: Requests, streams: Sequence[ApplicationStream], drops: DropCounter) -> Outcomes:
        """Return the records or the error of each stream. A stream whose request gets Storm's 404 is idle."""
        outcomes: Outcomes = {}
        if self._has_batch and len(streams) >= BATCH_FROM:
            outcomes = await self._fetch_batches(requests, streams, drops)
        remaining = [stream for stream in streams if stream.id not in outcomes]

        async def fetch_one(stream: ApplicationStream) -> list[StormStream]:
            return [await _fetch_stream(requests, stream, drops)]

        outcomes.update((stream.id, result) for stream, result in await requests.map(fetch_one, remaining))
        return outcomes

    async def _fetch_batches(
        self, requests: Requests, streams: Sequence[ApplicationStream], drops: DropCounter
    ) -> Outcomes:
        """Return the streams whose state the batches contain."""
        # "a-b"/"c" and "a"/"b-c" have the same batch id: such streams are requested one by one
        times = Counter(map(_batch_id, streams))
        unambiguous = [stream for stream in streams if times[_batch_id(stream)] == 1]
        batches = [unambiguous[start : start + BATCH_SIZE] for start in range(0, len(unambiguous), BATCH_SIZE)]

        def fetch_batch(batch: list[ApplicationStream]) -> Awaitable[Outcomes]:
            return _fetch_batch(requests, batch, drops)

        outcomes: Outcomes = {}
        for batch, result in await requests.map(fetch_batch, batches):
            if not isinstance(result, UpstreamError):
                outcomes.update(result)
            elif result.status in NOT_OFFERED:
                self._has_batch = False
            else:
                outcomes.update((stream.id, result) for stream in batch)
        return outcomes


async def _fetch_stream(requests: Requests, stream: ApplicationStream, drops: DropCounter) -> StormStream:
    try:
        response = await requests.get(STREAM, app=stream.application, key=stream.key)
    except UpstreamError as error:
        if error.means_absent:
            return missing_stream(stream.application, stream.key)
        raise
    record = read_envelope(response.data, STREAM, drops)
    if not any(name in record for name in _STREAM_FIELDS):
        raise UpstreamError(Reason.BAD_RESPONSE, f"{STREAM}: the response is not a stream")
    found = read_stream(record, application=stream.application, key=stream.key)
    if found is None or found.report.id != stream.id:
        raise UpstreamError(Reason.BAD_RESPONSE, f"{STREAM}: the response is about another stream")
    return found


async def _fetch_batch(requests: Requests, batch: Sequence[ApplicationStream], drops: DropCounter) -> Outcomes:
    body = {"data": {"streamKeyIds": [_batch_id(stream) for stream in batch]}}
    response = await requests.post(BATCH, body=body, safe=True)
    data = read_envelope(response.data, BATCH, drops)
    requested_ids = {stream.id for stream in batch}
    found: dict[str, list[StormStream]] = {}
    for record in data.records("found"):
        stream = read_stream(record)
        if stream is not None and stream.report.id in requested_ids:
            found.setdefault(stream.report.id, []).append(stream)
    not_found = frozenset(data.texts("notFound") or ())
    missing = {
        stream.id: [missing_stream(stream.application, stream.key)]
        for stream in batch
        if stream.id not in found and _batch_id(stream) in not_found
    }
    return {**found, **missing}


def _batch_id(stream: ApplicationStream) -> str:
    return f"{stream.application}-{stream.key}"


def _show_stream(stream_id: str, _options: Mapping[str, Any]) -> tuple[ManualRequest, ...]:
    application, _slash, key = stream_id.partition("/")
    if not application or not key:
        raise InvalidCommandError(f"{stream_id!r}: the id of a Storm stream is application/key")
    return (ManualRequest(STREAM, {"app": application, "key": key}),)


SESSION_COMMANDS = SessionCommands({SessionAction.SHOW: SessionCommand(_show_stream)}, id_help="application/key")
