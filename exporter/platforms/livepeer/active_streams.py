"""List the active streams: all pages of ``GET /stream?streamsonly=1&active=1``."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

import msgspec

from exporter.platforms.api import (
    DropCounter,
    ListFacts,
    Paging,
    Reason,
    Record,
    Requests,
    RowReader,
    UpstreamError,
    UpstreamSettings,
    require_list,
)
from exporter.platforms.livepeer.stream_objects import ParsedObject, Reader, parse_stream

ENDPOINT = "GET /stream"
PAGE_SIZE = 1000
"""The platform's maximum; its default is 20."""
Params = tuple[tuple[str, str], ...]
FIRST_PAGE: Params = (("streamsonly", "1"), ("active", "1"), ("limit", str(PAGE_SIZE)))


class ActiveStreams(msgspec.Struct, frozen=True):
    """The streams that the platform lists as active."""

    streams: Mapping[str, ParsedObject]
    """By id."""
    facts: ListFacts
    duplicates: int = 0
    """Number of rows left out because another row of the same stream was chosen."""

    def is_active(self, stream_id: str) -> bool | None:
        """Return whether the platform reports the stream as active; None if unknown."""
        stream = self.streams.get(stream_id)
        if stream is not None:
            return stream.active
        is_complete = self.facts.pages == 1 and not self.facts.may_miss_streams
        return False if is_complete else None


async def fetch_active_streams(
    requests: Requests, reader: Reader, drops: DropCounter, settings: UpstreamSettings
) -> tuple[list[ParsedObject], ListFacts]:
    """Request pages until the platform announces no further one; a short page need not be the last.

    Pages are offsets into an order that changes while they are read, so a stream may appear twice. Raises
    ``UpstreamError``, also for an endless list.
    """
    rows: RowReader[ParsedObject] = RowReader(ENDPOINT, drops, "id", max_streams=settings.max_streams)
    paging = Paging()
    requested: set[Params] = set()
    params: Params | None = FIRST_PAGE
    while params is not None:
        if params in requested:
            raise UpstreamError(Reason.BAD_RESPONSE, f"{ENDPOINT}: the Link header points to a page already read")
        requested.add(params)
        response = await requests.get(ENDPOINT, params=params)
        page = require_list(response.data, ENDPOINT)
        read_before = len(rows.found)
        async for row in rows.in_steps(page):
            record = rows.record(row)
            if record is not None:
                stream = _parse_row(record, reader)
                is_wanted = stream is not None and settings.includes(stream.report.id, stream.report.name)
                rows.add(stream, is_wanted=is_wanted)
        rows.refuse_repeated_page(stream.report.id for stream in rows.found[read_before:])
        has_next = paging.has_next(len(page), has_next=response.link_next is not None) and rows.needs_more()
        params = _parse_link(response.link_next) if has_next and response.link_next is not None else None
    return rows.found, rows.facts(paging)


def _parse_row(record: Record, reader: Reader) -> ParsedObject | None:
    """Return a stream of the list; None for a row without a readable id."""
    if not isinstance(record.raw.get("id"), str):
        return None
    stream = parse_stream(record, reader)
    return stream if stream.report.id else None


def _parse_link(link: str) -> Params:
    """Return the query of the announced page, with our filter; without it, the list has every stream ever created."""
    return tuple((dict(FIRST_PAGE) | dict(parse_qsl(urlsplit(link).query, keep_blank_values=True))).items())
