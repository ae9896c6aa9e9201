"""Outcomes of the fetches of one poll: failures by object and reason, and the hosts that were reached."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from exporter.http.media import FetchError, FetchReason
from exporter.http.vantage import UNREACHED, Vantage


class FetchLog:
    """Collects the outcomes until ``take``, and tells the vantage point which hosts were reached."""

    def __init__(self, vantage: Vantage) -> None:
        self._vantage = vantage
        self._failures: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def recording(self, what: str, url: str) -> Iterator[None]:
        """Note the outcome of a fetch of this URL. ``what``: the kind of object."""
        host = urlsplit(url).netloc
        try:
            yield
        except FetchError as error:
            if not error.is_inconclusive:
                self.count(what, error.fetch_reason)
                self._vantage.note(host, is_reached=error.fetch_reason not in UNREACHED)
            raise
        self._vantage.note(host, is_reached=True)

    @property
    def is_vantage_down(self) -> bool:
        """Whether failures are more likely the exporter's own."""
        return self._vantage.is_down

    def count(self, what: str, reason: FetchReason) -> None:
        """Count an object that was fetched but cannot be used."""
        self._failures[what, reason.value] += 1

    def take(self) -> dict[tuple[str, str], int]:
        """Return the failures since the last call, by object and reason."""
        taken = dict(self._failures)
        self._failures.clear()
        return taken
