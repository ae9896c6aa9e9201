"""Endpoint templates as platforms document them (``GET /stream/{id}/sessions``), and the URLs made from them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, urlencode

from yarl import URL

from exporter.http.errors import UpstreamError
from exporter.model import Reason

MAX_CACHED_URLS = 10_000
"""Maximum number of cached URLs; a stream with its own request is polled at the same URL every time."""
_TEMPLATE = re.compile(r"([A-Z]+) (/\S*)")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_UNRESERVED = re.compile(r"[A-Za-z0-9_.~-]+")
"""Text that ``quote`` would leave unchanged; this check is faster than ``quote``."""
_NO_SEGMENTS = frozenset({"", ".", ".."})
"""Path segments that servers and proxies drop, even encoded, so that the request would reach another endpoint."""

Params = Mapping[str, str] | Sequence[tuple[str, str]]


class Endpoint:
    """A parsed template: the method, the fixed parts of the path, and the placeholders between them."""

    __slots__ = ("_names", "_parts", "method", "template")

    def __init__(self, template: str) -> None:
        match = _TEMPLATE.fullmatch(template)
        if match is None:
            raise ValueError(f"not an endpoint: {template!r}")
        self.template = template
        self.method = match[1]
        pieces = _PLACEHOLDER.split(match[2])
        self._parts, self._names = pieces[::2], pieces[1::2]

    def path(self, values: Mapping[str, str]) -> str:
        """Return the path. Each value is percent-encoded as one segment, so a slash in it cannot add segments.

        Raises ``UpstreamError`` (``not_found``) for values that cannot be a path segment.
        """
        if not self._names:
            return self._parts[0]
        path = self._parts[0]
        for name, part in zip(self._names, self._parts[1:], strict=True):
            value = values[name]
            if value in _NO_SEGMENTS:
                raise UpstreamError(Reason.NOT_FOUND, f"{self.template}: {name} cannot be {value!r}")
            path += (value if _UNRESERVED.fullmatch(value) else self._quote(name, value)) + part
        return path

    def _quote(self, name: str, value: str) -> str:
        try:
            # send invalid bytes in a platform's name back unchanged
            return quote(value, safe="", errors="surrogateescape")
        except UnicodeEncodeError:
            # without the value, which may be a stream key
            text = f"{self.template}: {name} contains a lone surrogate, which cannot be part of a URL"
            raise UpstreamError(Reason.NOT_FOUND, text) from None


endpoint_of = lru_cache(maxsize=256)(Endpoint)
"""Parse each template once; the platform modules contain only a few."""


class BaseUrl(NamedTuple):
    """Common prefix of an upstream's URLs."""

    scheme: str
    authority: str
    path: str

    @classmethod
    def parse(cls, url: str) -> BaseUrl:
        """Parse ``url``, which has no credentials, query or fragment."""
        base = URL(url)
        if base.user is not None or base.password is not None:
            raise ValueError("the base URL must not contain credentials")
        return cls(base.scheme, base.raw_authority, base.raw_path.rstrip("/"))

    def join(self, path: str, params: Params | None = None) -> URL:
        """Return a URL below the base. ``path`` is already encoded, ``params`` are not."""
        query = _encode_query(params) if params else ""
        return URL.build(
            scheme=self.scheme, authority=self.authority, path=self.path + path, query_string=query, encoded=True
        )

    def endpoint_url(self, endpoint: Endpoint, values: Mapping[str, str], params: Params | None) -> URL:
        """Return an endpoint's URL with these values in its path. Raises the errors of ``Endpoint.path``."""
        if params:
            return self.join(endpoint.path(values), params)
        return _cached_url(self, endpoint, *values.items())


def _encode_query(params: Params) -> str:
    try:
        return urlencode(params, errors="surrogateescape", quote_via=quote)
    except UnicodeEncodeError:
        # a lone surrogate, encoded so that different values stay different
        return urlencode(params, errors="surrogatepass", quote_via=quote)


@lru_cache(maxsize=MAX_CACHED_URLS)
def _cached_url(base: BaseUrl, endpoint: Endpoint, *values: tuple[str, str]) -> URL:
    return base.join(endpoint.path(dict(values)))
