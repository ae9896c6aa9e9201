"""The envelope that every answer of Storm 3.x comes in: ``{"data": {...}, "meta": {...}}``."""

from __future__ import annotations

from exporter.http.errors import UpstreamError
from exporter.http.response import Response
from exporter.model import Reason
from exporter.platforms.parsing import DropCounter, Record

NOT_OFFERED = frozenset({404, 405, 501})
"""What a server answers with that does not have an endpoint."""


def data_of(answer: Response, endpoint: str, drops: DropCounter) -> Record:
    """What the envelope holds; its fields are counted under their own names. Raises ``UpstreamError``."""
    data = answer.data.get("data") if isinstance(answer.data, dict) else None
    if not isinstance(data, dict):
        raise UpstreamError(Reason.BAD_RESPONSE, f"{endpoint}: no data in the answer")
    return Record(data, drops)
