"""Who watches now: ``GET /data/views/now``, one row per playback id that has viewers."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from exporter.http.client import Requests
from exporter.http.errors import UpstreamError
from exporter.model import Reason, StreamReport
from exporter.platforms.parsing import DropCounter, Record

ENDPOINT = "GET /data/views/now"
ROW_LIMIT = 1000
"""From so many rows on the answer may be cut off: a playback id without a row is then unknown, not unwatched."""


class Audience(msgspec.Struct, frozen=True):
    """The viewers of one playback id."""

    viewers: int | None
    error_ratio: float | None


class Viewership(msgspec.Struct, frozen=True):
    """The audiences by playback id; ``complete``: those without a row have nobody watching."""

    audiences: Mapping[str, Audience]
    complete: bool

    def applied(self, report: StreamReport) -> StreamReport:
        """The report with its viewers, where they are known."""
        audience = self.audiences.get(report.playback_id)
        if audience is not None:
            return msgspec.structs.replace(report, viewers=audience.viewers, viewer_error_ratio=audience.error_ratio)
        if report.live and report.playback_id and self.complete:
            return msgspec.structs.replace(report, viewers=0)
        return report


async def fetch_viewership(requests: Requests, drops: DropCounter) -> Viewership:
    """Ask for the viewers of all playback ids at once. Raises ``UpstreamError``: 403 for keys that may not ask."""
    answer = await requests.get(ENDPOINT, params={"breakdownBy[]": "playbackId"})
    if not isinstance(answer.data, list):
        raise UpstreamError(Reason.BAD_RESPONSE, f"{ENDPOINT}: not a list")
    audiences: dict[str, Audience] = {}
    for raw in answer.data:
        row = Record(raw if isinstance(raw, dict) else {}, drops)
        audiences[row.text("playbackId")] = Audience(row.count("viewCount"), row.ratio("errorRate"))
    # a row that does not tell whose it is may be anybody's
    unknown = audiences.pop("", None)
    return Viewership(audiences, complete=unknown is None and len(answer.data) < ROW_LIMIT)
