"""Failed requests: the error that all platforms raise, made from the library's exceptions and from HTTP statuses.

The texts are our own, because a library's text may contain a URL, a header or a body.
"""

from __future__ import annotations

import os
import re
import ssl
from urllib.parse import urlsplit

import aiohttp

from exporter.model import Reason
from exporter.runtime.redaction import redactor

_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}")
_STATUS_REASONS = {
    401: Reason.AUTH,
    402: Reason.FORBIDDEN,
    403: Reason.FORBIDDEN,
    404: Reason.NOT_FOUND,
    429: Reason.RATE_LIMITED,
}


class UpstreamError(Exception):
    """A request, or a whole poll, that failed.

    The message contains only what is safe to show (endpoint template, status, kind of failure): never a body, a
    header, a URL with credentials or the text of a library's exception.
    """

    def __init__(
        self, reason: Reason, message: str, *, status: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.status = status
        self.retry_after = retry_after
        """Seconds to wait, if the platform asked for a pause."""
        self.refusal = b""
        """Body of the refusal, for requests made with ``keep_refusal``; it may contain anything."""
        self.is_platform_answer = False
        """Whether a 404 is the platform's own answer, not that of a proxy or of another server at this address."""

    @property
    def means_absent(self) -> bool:
        """Whether the platform itself reports that there is no such thing."""
        return self.reason is Reason.NOT_FOUND and self.is_platform_answer


class LostConnectionError(UpstreamError):
    """The connection broke before a response came, for example one that was kept open for too long."""


def map_exception(error: Exception, endpoint: str) -> UpstreamError:
    """Return the error for an exception of the HTTP library."""
    match error:
        case aiohttp.ConnectionTimeoutError():
            return UpstreamError(Reason.TIMEOUT, f"{endpoint}: no connection in time")
        case TimeoutError():
            return UpstreamError(Reason.TIMEOUT, f"{endpoint}: no answer in time")
        case aiohttp.ClientConnectorCertificateError():
            return UpstreamError(Reason.TLS, f"{endpoint}: certificate refused{_certificate_cause(error)}")
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return UpstreamError(Reason.TLS, f"{endpoint}: no TLS connection")
        case aiohttp.ClientConnectorDNSError():
            return UpstreamError(Reason.CONNECT, f"{endpoint}: the host's name can't be resolved")
        case aiohttp.ClientConnectorError():
            return UpstreamError(Reason.CONNECT, f"{endpoint}: no connection{_system_cause(error.os_error)}")
        case aiohttp.ClientPayloadError():
            return UpstreamError(Reason.BAD_RESPONSE, f"{endpoint}: the answer's body is cut off or malformed")
        case aiohttp.ServerDisconnectedError() | OSError():
            return LostConnectionError(Reason.CONNECT, f"{endpoint}: the connection was lost")
        case aiohttp.ClientResponseError():
            return UpstreamError(Reason.BAD_RESPONSE, f"{endpoint}: the answer is no valid HTTP")
        case _:
            return UpstreamError(Reason.INTERNAL, f"{endpoint}: {type(error).__name__}")


def status_error(status: int, endpoint: str, location: str | None, retry_after: float | None) -> UpstreamError:
    """Return the error for a status outside 200 to 299, other than a 404 that is not the platform's own."""
    if 300 <= status < 400:
        text = f"{endpoint}: status {status}{_redirect_target(location)}; redirects are not followed"
        return UpstreamError(Reason.BAD_RESPONSE, text, status=status)
    reason = _STATUS_REASONS.get(status, Reason.SERVER_ERROR if 500 <= status < 600 else Reason.BAD_RESPONSE)
    return UpstreamError(reason, f"{endpoint}: status {status}", status=status, retry_after=retry_after)


def foreign_not_found(endpoint: str, keys_to_check: str) -> UpstreamError:
    """Return the error for a 404 that is not the platform's own; ``keys_to_check``: the settings that may be wrong."""
    text = f"{endpoint}: status 404, not from the platform's API: check {keys_to_check}"
    return UpstreamError(Reason.NOT_FOUND, text, status=404)


def _redirect_target(location: str | None) -> str:
    """Return the redirect's host if it is safe to show; the path may contain anything."""
    try:
        host = urlsplit(location or "").hostname or ""
    except ValueError:
        return ""
    return f" to {host}" if _HOST.fullmatch(host) and redactor.scrub(host) == host else ""


def _certificate_cause(error: aiohttp.ClientConnectorCertificateError) -> str:
    cause = error.certificate_error
    return f": {cause.verify_message}" if isinstance(cause, ssl.SSLCertVerificationError) else ""


def _system_cause(error: OSError) -> str:
    # use the text of the number, because several failed addresses are reported as one error with a combined text
    return f": {os.strerror(error.errno)}" if error.errno else ""
