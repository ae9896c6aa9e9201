"""Outcomes of the fetches of one poll: failures by object and reason, and the hosts that were reached."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

from exporter.http.media import FetchError, FetchReason
from exporter.http.vantage import Vantage

_SERVER: Final = re.compile(r"[^/]*//([^/?#]*)")
"""Host and port in an absolute URL."""


class FetchLog:
    """Collects the outcomes until ``take``, and tells the vantage point which hosts were reached."""

    def __init__(self, vantage: Vantage) -> None:
        self._vantage = vantage
        self._failures: Counter[tuple[str, str]] = Counter()
        self.reached = self.unreached = 0
        """Number of playlists for which a server was reached, and was not, since the start."""

    def recording(self, what: str, url: str) -> _Recording:
        """Return a context manager that notes the outcome of a fetch of this URL. ``what``: the kind of object."""
        return _Recording(self, what, url)

    def note(self, what: str, url: str, error: FetchError | None) -> None:
        """Note the outcome of a fetch."""
        if error is not None and error.is_inconclusive:
            return
        if error is not None:
            self.count(what, error.fetch_reason)
            if error.is_reached is None:
                return
        is_reached = error is None or error.is_reached is True
        if what == "playlist":
            self.reached += is_reached
            self.unreached += not is_reached
        self._vantage.note(_host(url, error), is_reached=is_reached)

    def is_own_fault(self, error: FetchError) -> bool:
        """Return whether a failure is more likely the exporter's own network's than the server's."""
        if error.is_reached is not False:
            return False
        return self._vantage.is_down or self._vantage.may_be_fine(error.server)

    def count(self, what: str, reason: FetchReason) -> None:
        """Count an object that was fetched but cannot be used."""
        self._failures[what, reason.value] += 1

    def take(self) -> dict[tuple[str, str], int]:
        """Return the failures since the last call, by object and reason."""
        taken = dict(self._failures)
        self._failures.clear()
        return taken


def _host(url: str, error: FetchError | None) -> str:
    """Return host and port of a fetch; of a failed one, where the last redirect led."""
    if error is not None and error.server:
        return error.server
    match = _SERVER.match(url)
    return match[1] if match else ""


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
