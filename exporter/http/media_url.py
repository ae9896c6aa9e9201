"""URLs of media objects, which documents and redirects choose, and the errors of fetching them.

A URL is parsed once, strictly; the checks and the request use the same result, so they cannot understand it in two
ways. Percent-encoding is sent as the document wrote it, because tokens may sign the exact text.

URLs hold tokens. They appear in no message, ``repr`` or log; ``shown`` returns the part that may be shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from yarl import URL

from exporter.http.errors import UpstreamError
from exporter.model import Reason
from exporter.runtime.redaction import redactor

MAX_URL_CHARACTERS: Final = 8192
"""Maximum length of a URL; common servers refuse longer request lines."""
_MAX_HOST_CHARACTERS: Final = 253
_PORTS: Final = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_-]{1,63})*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""A last label that makes browsers and the C library read the whole host as an IPv4 address (WHATWG URL, 3.5)."""
_SHOWN_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|[0-9A-Fa-f:.]{2,45}")
_SHOWN_NAME = re.compile(r"[A-Za-z0-9._-]{0,80}")
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,4}$")
_PATH_CHARACTERS: Final = "%/:@!$&'()*+,;=~[]|^"
"""Characters of a path that are sent as they are, besides unreserved ones; the same as in browsers."""

Address = IPv4Address | IPv6Address


class FetchReason(StrEnum):
    """Why a fetch failed: the words of ``Reason``, and two that only media objects have."""

    TIMEOUT = "timeout"
    CONNECT = "connect"
    TLS = "tls"
    AUTH = "auth"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    BAD_RESPONSE = "bad_response"
    TOO_LARGE = "too_large"
    INTERNAL = "internal"
    REDIRECT = "redirect"
    """Too many redirects, a redirect without a usable target, or one from https to http."""
    BLOCKED = "blocked"
    """The exporter refused to send the request: the URL's scheme, form or address is not allowed."""

    @property
    def poll_reason(self) -> Reason:
        """The reason of a poll that fails for this reason."""
        return _POLL_REASONS.get(self) or Reason(self.value)


_POLL_REASONS: Mapping[FetchReason, Reason] = {
    FetchReason.REDIRECT: Reason.BAD_RESPONSE,
    FetchReason.BLOCKED: Reason.BAD_RESPONSE,
}


class FetchError(UpstreamError):
    """A failed fetch. The message contains what was fetched, as ``shown``, and never the URL."""

    def __init__(
        self,
        reason: FetchReason,
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        is_inconclusive: bool = False,
        seconds: float = 0.0,
    ) -> None:
        """``seconds``: time since the first request was sent, without waits for a free connection."""
        super().__init__(reason.poll_reason, message, status=status, retry_after=retry_after)
        self.fetch_reason = reason
        self.server = ""
        """Host and port of the server that failed; not safe to show."""
        self.is_inconclusive = is_inconclusive
        """True if the failure shows nothing about the stream: the request was not sent, because of the exporter's own
        limits, a pause that the server asked for, or unreadable secrets."""
        self.seconds = seconds


class UnusableUrlError(Exception):
    """A URL that cannot be fetched. The message does not contain the URL."""

    def __init__(self, reason: FetchReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Origin(NamedTuple):
    """The server of a URL, as browsers define it."""

    scheme: str
    host: str
    """In lower case; an IPv6 address without brackets."""
    port: int


class MediaUrl:
    """A parsed URL."""

    __slots__ = ("address", "origin", "url")

    def __init__(self, origin: Origin, address: Address | None, url: URL) -> None:
        self.origin = origin
        self.address = address
        """The host, if it is an address."""
        self.url = url
        """The URL to request, without fragment."""

    @property
    def host(self) -> str:
        """The host in lower case; an IPv6 address without brackets."""
        return self.origin.host

    @property
    def server(self) -> str:
        """Host and port."""
        return f"{self.origin.host}:{self.origin.port}"

    @property
    def path(self) -> str:
        """The encoded path."""
        return self.url.raw_path

    @property
    def is_tls(self) -> bool:
        """Whether the scheme is https."""
        return self.origin.scheme == "https"

    def __repr__(self) -> str:
        return f"<MediaUrl {shown(str(self.url))}>"


def parse_url(text: str) -> MediaUrl:
    """Parse an absolute URL.

    Raises ``UnusableUrlError``: ``blocked`` for a scheme other than http and https, credentials in the URL, a host
    with a trailing dot or a zone id, and an IPv4 address in another form than four decimal numbers; ``bad_response``
    for text that is not a URL.
    """
    if len(text) > MAX_URL_CHARACTERS:
        raise _malformed(f"has more than {MAX_URL_CHARACTERS} characters")
    try:
        parts = urlsplit(text.strip())
        origin, address = _parse_origin(parts.scheme, parts.netloc)
    except ValueError:
        raise _malformed("cannot be parsed") from None
    return MediaUrl(origin, address, _build_url(origin, parts))


@lru_cache(maxsize=256)
def _parse_origin(scheme: str, authority: str) -> tuple[Origin, Address | None]:
    """Return the origin, and its host if that is an address. Cached because most URLs lead to the same few servers.

    Raises ``ValueError`` and ``UnusableUrlError``.
    """
    parts = SplitResult(scheme, authority, "", "", "")
    port, host = parts.port, parts.hostname or ""
    if scheme not in _PORTS:
        raise _blocked("has a scheme other than http and https") if scheme else _malformed("is not absolute")
    if "@" in authority:
        raise _blocked("contains credentials")
    if port == 0:
        raise _malformed("has port 0")
    host, address = _parse_host(host)
    return Origin(scheme, host, _PORTS[scheme] if port is None else port), address


def _parse_host(host: str) -> tuple[str, Address | None]:
    """Return the host in its normal form, and the address if it is one."""
    if ":" in host:
        if "%" in host:
            raise _blocked("has a host with a zone id")
        try:
            address = IPv6Address(host)
        except ValueError:
            raise _malformed("has an invalid IPv6 address") from None
        return address.compressed, address
    is_ascii = host.isascii()
    if not is_ascii:
        host = _encode_name(host)
    if host.endswith("."):
        raise _blocked("has a host with a trailing dot")
    if len(host) > _MAX_HOST_CHARACTERS or not _HOST.fullmatch(host):
        raise _malformed("has an invalid host")
    if not _NUMBER.fullmatch(host.rpartition(".")[2]):
        return host, None
    try:
        ipv4 = IPv4Address(host)
    except ValueError:
        ipv4 = None
    if ipv4 is None or not is_ascii:
        raise _blocked("has an IPv4 address in an unusual form")
    return host, ipv4


def _encode_name(host: str) -> str:
    """Return an international name in its ASCII form."""
    try:
        return (URL.build(scheme="http", host=host).raw_host or "").lower()
    except (ValueError, UnicodeError, IndexError):
        raise _malformed("has an invalid host") from None


def _build_url(origin: Origin, parts: SplitResult) -> URL:
    try:
        path = quote(parts.path or "/", safe=_PATH_CHARACTERS)
        query = quote(parts.query, safe=_PATH_CHARACTERS + "?")
    except UnicodeEncodeError:
        raise _malformed("contains a lone surrogate") from None
    name = f"[{origin.host}]" if ":" in origin.host else origin.host
    authority = name if origin.port == _PORTS[origin.scheme] else f"{name}:{origin.port}"
    return URL.build(scheme=origin.scheme, authority=authority, path=path, query_string=query, encoded=True)


def _blocked(problem: str) -> UnusableUrlError:
    return UnusableUrlError(FetchReason.BLOCKED, f"the URL {problem}")


def _malformed(problem: str) -> UnusableUrlError:
    return UnusableUrlError(FetchReason.BAD_RESPONSE, f"the URL {problem}")


def join_url(base: str, reference: str) -> str:
    """Return the absolute URL of a reference in the document at ``base`` (RFC 3986, section 5).

    A reference that cannot be parsed is returned unchanged; fetching it fails.
    """
    try:
        return urljoin(base, reference.strip())
    except ValueError:
        return reference


def shown(url: str) -> str:
    """Return what may be shown of a URL: its host, and the last part of its path without query and parameters.

    Names that are long or contain unusual characters may be tokens; they are shown as ``…`` and the file suffix.
    """
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname or "", parts.port
        host = host if host.isascii() else _encode_name(host)
    except (ValueError, UnusableUrlError):
        return "unreadable URL"
    # browsers take a backslash for the end of the host, so that what follows may be anything
    if not _SHOWN_HOST.fullmatch(host) or "\\" in parts.netloc:
        return "unreadable URL"
    name = parts.path.rpartition("/")[2].partition(";")[0]
    if not _SHOWN_NAME.fullmatch(name):
        suffix = _SUFFIX.search(name)
        name = "…" + (suffix[0] if suffix else "")
    host = f"[{host}]" if ":" in host else host
    return redactor.scrub(f"{host}/{name}" if port is None else f"{host}:{port}/{name}")
