"""Outcomes of the fetches of one poll: failures by object and reason, and the hosts that were reached."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

from exporter.http.media import FetchError, FetchReason
from exporter.http.vantage import UNREACHED, Vantage

_SERVER: Final = re.compile(r"[^/]*//([^/?#]*)")
"""Host and port in an absolute URL."""


class FetchLog:
    """Collects the outcomes until ``take``, and tells the vantage point which hosts were reached."""

    def __init__(self, vantage: Vantage) -> None:
        self._vantage = vantage
        self._failures: Counter[tuple[str, str]] = Counter()

    def recording(self, what: str, url: str) -> _Recording:
        """Return a context manager that notes the outcome of a fetch of this URL. ``what``: the kind of object."""
        return _Recording(self, what, url)

    def note(self, what: str, url: str, error: FetchError | None) -> None:
        """Note the outcome of a fetch."""
        if error is not None and error.is_inconclusive:
            return
        match = _SERVER.match(url)
        host = match[1] if match else ""
        if error is not None:
            self.count(what, error.fetch_reason)
        self._vantage.note(host, is_reached=error is None or error.fetch_reason not in UNREACHED)

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


class _Recording:
    """Notes how its block ends. A class, because a generator would take several times as long."""

    __slots__ = ("_log", "_url", "_what")

    def __init__(self, log: FetchLog, what: str, url: str) -> None:
        self._log = log
        self._what = what
        self._url = url

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        if error is None or isinstance(error, FetchError):
            self._log.note(self._what, self._url, error)
