"""Read a platform's list of streams page by page, and decide what it proves about a stream that is not in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Generic, TypeVar

import msgspec

from exporter.http.errors import UpstreamError
from exporter.model import Listing, Reason
from exporter.platforms.parsing import DropCounter, Record

T = TypeVar("T")
RowT = TypeVar("RowT")

MAX_PAGES = 1000
ROWS_PER_STREAM = 10
"""Maximum number of rows to read, as a multiple of ``max_streams``."""
REPORTS_PER_STEP = 100
"""Number of rows or reports to process before yielding to the event loop: a few milliseconds of work."""
UNREADABLE_ROW = "row"
"""Field name under which rows that do not identify their stream are counted."""


class ListFacts(msgspec.Struct, frozen=True, kw_only=True):
    """How a list was read."""

    pages: int = 1
    unreadable_rows: int = 0
    """Number of rows that do not identify their stream."""
    is_shifting: bool = False
    """Whether the list changed while its pages were read."""
    doubt: str = ""
    """Why part of the list may be missing; empty if there is no doubt."""

    @property
    def listing(self) -> Listing:
        """Return what the absence of a stream from this list means."""
        if self.doubt:
            return Listing.DOUBTFUL
        return Listing.SHIFTING if self.pages > 1 or self.is_shifting else Listing.COMPLETE

    @property
    def may_miss_streams(self) -> bool:
        """Whether the platform may have streams that were not read."""
        return bool(self.doubt or self.unreadable_rows)


class Paging:
    """Decides from the paging fields whether another page follows; contradictory fields make the list doubtful."""

    def __init__(self) -> None:
        self.pages = 0
        self.doubt = ""
        self.is_shifting = False
        self._rows = 0
        self._total: int | None = None

    def has_next(
        self, rows: int, *, has_next: bool | None = None, page_count: int | None = None, total: int | None = None
    ) -> bool:
        """Return whether another page must be read after one with this many rows.

        ``page_count``, ``total``: number of pages and rows of the whole list. Arguments are None if the platform does
        not report the field or it is unreadable.
        """
        self.pages += 1
        self._rows += rows
        self._note_total(total)
        more_pages = None if page_count is None else self.pages < page_count
        more_rows = None if total is None else self._rows < total
        known = [is_more for is_more in (has_next, more_pages, more_rows) if is_more is not None]
        if not known:
            self._set_doubt("paging fields are unreadable")
            return False
        if known[0] and not rows:
            self._set_doubt("an empty page announces another one")
            return False
        has_too_many = total is not None and self._rows > total
        if not known[0] and (any(known) or has_too_many) and not self.is_shifting:
            self._set_doubt("paging fields contradict each other")
        if known[0] and self.pages == MAX_PAGES:
            self._set_doubt(f"more than {MAX_PAGES} pages")
            return False
        return known[0]

    def _note_total(self, total: int | None) -> None:
        if total is not None:
            self.is_shifting |= self._total is not None and total != self._total
            self._total = total

    def _set_doubt(self, why: str) -> None:
        self.doubt = self.doubt or why


class RowReader(Generic[T]):
    """Collects what the rows of a list report, and counts the rows that do not identify their stream.

    Reading ends when more than ``max_streams`` rows have passed the filters, or after ten times as many rows.
    """

    def __init__(
        self, endpoint: str, drops: DropCounter, field: str = UNREADABLE_ROW, *, max_streams: int | None = None
    ) -> None:
        """``field``: the field name under which unreadable rows are counted."""
        self.found: list[T] = []
        self.unreadable_rows = 0
        self._max_streams = max_streams
        self._rows = 0
        self._wanted = 0
        self._is_cut = False
        self._endpoint = endpoint
        self._drops = drops
        self._field = field
        self._pages: set[int] = set()

    def record(self, row: object, *, prefix: str = "") -> Record | None:
        """Return a row as a record. If the row is not an object, count it and return None."""
        if isinstance(row, dict):
            return Record(row, self._drops, prefix)
        self.add(None)
        return None

    async def in_steps(self, rows: Iterable[RowT]) -> AsyncIterator[RowT]:
        """Yield the rows of a page up to the maximum; yields to the event loop in between."""
        max_rows = None if self._max_streams is None else ROWS_PER_STREAM * self._max_streams
        for row in rows:
            if self._rows == max_rows:
                self._is_cut = True
                return
            self._rows += 1
            yield row
            if self._rows % REPORTS_PER_STEP == 0:
                await asyncio.sleep(0)

    def add(self, found: T | None, *, is_wanted: bool = True) -> None:
        """Add what a row reports; None if it does not identify its stream.

        ``is_wanted``: whether the stream passes the include and exclude filters.
        """
        if found is None:
            self.unreadable_rows += 1
            self._drops.drop(self._field)
        else:
            self._wanted += is_wanted
            self.found.append(found)

    def needs_more(self) -> bool:
        """Return whether to read a further page. If not, the list is truncated, and therefore doubtful."""
        if self._max_streams is None:
            return True
        self._is_cut |= self._wanted > self._max_streams or self._rows >= ROWS_PER_STREAM * self._max_streams
        return not self._is_cut

    def refuse_repeated_page(self, identities: Iterable[object]) -> None:
        """Raise ``UpstreamError`` (``bad_response``) if a page with exactly these streams was read before.

        Only identities are compared, because values may change between two requests. Empty pages are ignored.
        """
        named = tuple(map(repr, identities))
        page = hash(named)
        if named and page in self._pages:
            raise UpstreamError(Reason.BAD_RESPONSE, f"{self._endpoint}: the same page was returned twice")
        self._pages.add(page)

    def facts(self, paging: Paging | None = None, *, doubt: str = "") -> ListFacts:
        """Return how the list was read. ``doubt``: why the platform may have left out streams.

        Raises ``UpstreamError`` (``bad_response``) if the list has rows but none is readable, because that must not be
        taken for a list without streams.
        """
        if self.unreadable_rows and not self.found:
            raise UpstreamError(Reason.BAD_RESPONSE, f"{self._endpoint}: no row identifies its stream")
        doubt = "truncated at max_streams" if self._is_cut else doubt
        if paging is None:
            return ListFacts(unreadable_rows=self.unreadable_rows, doubt=doubt)
        return ListFacts(
            pages=paging.pages,
            unreadable_rows=self.unreadable_rows,
            is_shifting=paging.is_shifting,
            doubt=paging.doubt or doubt,
        )
