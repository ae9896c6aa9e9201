"""Storm's lists: which streams there are, page by page.

Source: Storm Streaming Server 3.x, RESTful API, page Cluster Stream List; a single server's list shares its paging.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import msgspec

from exporter.http.client import Requests
from exporter.http.errors import UpstreamError
from exporter.model import Reason
from exporter.platforms.parsing import DropCounter, Record
from exporter.platforms.storm.envelope import data_of
from exporter.platforms.storm.storm_streams import FoundStream, read_cluster_stream, read_stream

STREAMS = "GET /streams"
CLUSTER_STREAMS = "GET /cluster/streams"
ROWS_PER_PAGE = 100
"""Asked for; the server may give fewer (its default is 10), which is why only ``hasNext`` ends the reading."""
ROWS_PER_STEP = 50
"""So many are read before the event loop gets a turn."""
MAX_PAGES = 1000

ReadItem = Callable[[Record], Iterable[FoundStream] | None]
"""None: the item does not tell which stream it is about."""


class StreamList(msgspec.Struct, frozen=True):
    """The streams of a whole list."""

    streams: dict[str, FoundStream]
    pages: int
    unreadable_rows: int
    """Items that do not tell which stream they are about."""


async def read_streams(requests: Requests, drops: DropCounter) -> StreamList:
    """The streams of this server."""

    def item(record: Record) -> Iterable[FoundStream] | None:
        found = read_stream(record)
        return None if found is None else (found,)

    return await _read_list(requests, STREAMS, item, drops)


async def read_cluster_streams(requests: Requests, drops: DropCounter) -> StreamList:
    """The streams of the cluster that this server manages."""

    def item(record: Record) -> Iterable[FoundStream] | None:
        return read_cluster_stream(record) if record.text("streamKey", unique=True) else None

    return await _read_list(requests, CLUSTER_STREAMS, item, drops)


async def _read_list(requests: Requests, endpoint: str, read: ReadItem, drops: DropCounter) -> StreamList:
    streams: dict[str, FoundStream] = {}
    pages: set[int] = set()
    read_items = unread = 0
    for number in range(1, MAX_PAGES + 1):
        page = await _read_page(requests, endpoint, number, drops)
        records = page.records("list")
        # the figures of a repeated page may have moved on; its streams have not
        names = hash(tuple(f"{r.raw.get('application')}/{r.raw.get('streamKey')}" for r in records))
        if names in pages:
            raise UpstreamError(Reason.BAD_RESPONSE, f"{endpoint}: page {number} came before")
        pages.add(names)
        for index, record in enumerate(records):
            if index % ROWS_PER_STEP == 0:
                # to read a whole page takes milliseconds, as its decoding did
                await asyncio.sleep(0)
            found = read(record)
            if found is None:
                drops.drop("streamKey")
                unread += 1
            else:
                read_items += 1
                streams.update((stream.report.id, stream) for stream in found)
        if page.flag("hasNext"):
            continue
        if unread and not read_items:
            raise UpstreamError(Reason.BAD_RESPONSE, f"{endpoint}: no item tells which stream it is about")
        return StreamList(streams, number, unread)
    raise UpstreamError(Reason.BAD_RESPONSE, f"{endpoint}: more than {MAX_PAGES} pages")


async def _read_page(requests: Requests, endpoint: str, number: int, drops: DropCounter) -> Record:
    try:
        answer = await requests.get(endpoint, params={"page": str(number), "rowsPerPage": str(ROWS_PER_PAGE)})
    except UpstreamError as error:
        if number > 1 and error.reason is Reason.NOT_FOUND:
            # the server does have a list: this must not pass for one without
            raise UpstreamError(
                Reason.BAD_RESPONSE, f"{endpoint}: page {number} was announced and is not there"
            ) from None
        raise
    page = data_of(answer, endpoint, drops)
    if "list" not in page:
        raise UpstreamError(Reason.BAD_RESPONSE, f"{endpoint}: no list in the answer")
    return page
