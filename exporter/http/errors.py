"""What can go wrong while asking a platform, classed into the reasons that metrics and log carry."""

from __future__ import annotations

from exporter.model import Reason


class UpstreamError(Exception):
    """A request, or a whole poll, that failed.

    The message is made by us from what is safe to show (endpoint template, status, class of fault): never a body, a
    header, a URL with credentials or the text of a library's exception, which may carry any of them.
    """

    def __init__(
        self, reason: Reason, message: str, *, status: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.status = status
        self.retry_after = retry_after
        """Seconds that the platform asked us to wait, when it did."""
        self.refusal = b""
        """What the platform answered instead, for requests that ask to keep it; it may hold anything."""
