"""The error for failed requests, and its mapping from aiohttp's exceptions and HTTP statuses.

The messages are our own, because a library's message may contain a URL, a header or a body.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from exporter.http.resolver import NO_SUCH_NAME
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
_OWN_AUTHORITY = "; for a private certificate authority, set tls.ca_file"
_OTHER_NAME = "; check the host in url, or set tls.server_name"
_CERTIFICATE_HINTS = {
    9: "; check this machine's clock",
    10: "; renew it on the server",
    18: _OWN_AUTHORITY,
    19: _OWN_AUTHORITY,
    20: _OWN_AUTHORITY,
    21: _OWN_AUTHORITY,
    62: _OTHER_NAME,
    64: _OTHER_NAME,
}
"""Hints for certificate errors, by OpenSSL's error number (``X509_V_ERR_*``)."""


class UpstreamError(Exception):
    """A failed request, or a failed poll.

    The message contains only what is safe to show, such as the endpoint template and the status. It never contains a
    body, a header, a URL with credentials or the message of a library's exception.
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
        """Body of the error response, for requests with ``keep_refusal``; not safe to show."""
        self.is_platform_answer = False
        """Whether a 404 came from the platform itself, and not from a proxy or another server at this address."""
        self.is_reached: bool | None = None
        """Whether the server was reached, so that the exporter's own network works; None if that is not known."""

    @property
    def means_absent(self) -> bool:
        """Whether the platform itself reports that the requested object does not exist."""
        return self.reason is Reason.NOT_FOUND and self.is_platform_answer


class LostConnectionError(UpstreamError):
    """The connection was lost before the response was complete, for example because it had been idle for too long."""


def map_exception(error: Exception, endpoint: str) -> UpstreamError:
    """Return the error for an exception of the HTTP library, with what happened and what to check."""
    for kind, reason, cause in _CAUSES:
        if isinstance(error, kind):
            made = LostConnectionError if kind in _LOST_CONNECTION else UpstreamError
            mapped = made(reason, f"{endpoint}: {cause if isinstance(cause, str) else cause(error)}")
            mapped.is_reached = _has_reached(error, reason)
            return mapped
    return UpstreamError(Reason.INTERNAL, f"{endpoint}: {type(error).__name__}")


def _has_reached(error: Exception, reason: Reason) -> bool:
    """Return whether an exception shows that the server was reached: a refused connection is an answer, too."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return reason is Reason.TLS or isinstance(error.os_error, ConnectionRefusedError | ConnectionResetError)
    return reason is not Reason.TIMEOUT


def status_error(status: int, endpoint: str, location: str | None, retry_after: float | None) -> UpstreamError:
    """Return the error for a status outside 200 to 299. For a 404 from another server, use ``foreign_not_found``."""
    if 300 <= status < 400:
        text = f"{endpoint}: status {status}{_redirect_target(location)}; redirects are not followed"
        return UpstreamError(Reason.BAD_RESPONSE, text, status=status)
    reason = _STATUS_REASONS.get(status, Reason.SERVER_ERROR if 500 <= status < 600 else Reason.BAD_RESPONSE)
    return UpstreamError(reason, f"{endpoint}: status {status}", status=status, retry_after=retry_after)


def foreign_not_found(endpoint: str, keys_to_check: str) -> UpstreamError:
    """Return the error for a 404 that did not come from the platform; ``keys_to_check``: settings that may be wrong."""
    text = f"{endpoint}: status 404, but not from the expected API: check {keys_to_check}"
    return UpstreamError(Reason.NOT_FOUND, text, status=404)


def _redirect_target(location: str | None) -> str:
    """Return the redirect's host if it is safe to show; the path is never shown."""
    try:
        host = urlsplit(location or "").hostname or ""
    except ValueError:
        return ""
    return f" to {host}" if _HOST.fullmatch(host) and redactor.scrub(host) == host else ""


def _certificate_cause(error: aiohttp.ClientConnectorCertificateError) -> str:
    cause = error.certificate_error
    if not isinstance(cause, ssl.SSLCertVerificationError):
        return "certificate verification failed"
    hint = _CERTIFICATE_HINTS.get(cause.verify_code, "")
    return f"certificate verification failed: {cause.verify_message.rstrip('.')}{hint}"


def _tls_cause(error: Exception) -> str:
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    reason = getattr(cause, "reason", None)
    if reason == "WRONG_VERSION_NUMBER":
        # the response does not start with a TLS record
        return "the server uses plain HTTP on this port: use http:// in url, or the server's TLS port"
    words = f" ({reason.lower().replace('_', ' ')})" if reason else ""
    return f"the TLS handshake failed{words}: check the port in url, and the server's TLS settings"


def _name_cause(error: aiohttp.ClientConnectorDNSError) -> str:
    if error.os_error.errno in NO_SUCH_NAME:
        return "host name not found: check the host in url, and DNS"
    return "host name cannot be resolved at the moment: check DNS"


def _connection_cause(error: aiohttp.ClientConnectorError) -> str:
    cause = error.os_error
    if isinstance(cause, ConnectionRefusedError):
        return "connection refused: check that the server is running, and the port in url"
    if isinstance(cause, ConnectionResetError):
        return "the server closed the connection during the TLS handshake: check the port in url, and its TLS versions"
    # not the error's own text, which combines the errors of all addresses if there are several
    words = f" ({os.strerror(cause.errno)})" if cause.errno else ""
    return f"cannot connect to the host{words}: check host and port in url, the network and firewalls"


_CAUSES: tuple[tuple[type[Exception], Reason, str | Callable[[Any], str]], ...] = (
    (
        aiohttp.ConnectionTimeoutError,
        Reason.TIMEOUT,
        "connection timed out: check host and port in url, and firewalls",
    ),
    (TimeoutError, Reason.TIMEOUT, "timed out"),
    (aiohttp.ClientConnectorCertificateError, Reason.TLS, _certificate_cause),
    (aiohttp.ClientSSLError, Reason.TLS, _tls_cause),
    (ssl.SSLError, Reason.TLS, _tls_cause),
    (aiohttp.ClientConnectorDNSError, Reason.CONNECT, _name_cause),
    (aiohttp.ClientConnectorError, Reason.CONNECT, _connection_cause),
    (aiohttp.ClientPayloadError, Reason.BAD_RESPONSE, "response body is truncated or malformed"),
    (
        aiohttp.ServerDisconnectedError,
        Reason.CONNECT,
        "the server closed the connection without responding: check scheme and port in url",
    ),
    (OSError, Reason.CONNECT, "connection lost before the response was complete: check the server's log"),
    (aiohttp.ClientResponseError, Reason.BAD_RESPONSE, "response is not valid HTTP: check the port in url"),
)
"""Reason and message for each exception class; the first match is used."""
_LOST_CONNECTION = frozenset({aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, OSError})
