"""Endpoint templates, as platforms document them: ``GET /stream/{id}/sessions``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import quote

from exporter.http.errors import UpstreamError
from exporter.model import Reason

_TEMPLATE = re.compile(r"([A-Z]+) (/\S*)")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_UNRESERVED = re.compile(r"[A-Za-z0-9_.~-]+")
"""What ``quote`` leaves as it is, found out in less time."""
_NO_SEGMENTS = frozenset({"", ".", ".."})
"""What servers and proxies fold away, encoded or not: the request would be for another endpoint."""


class Endpoint:
    """A parsed template: its method, and its path's fixed parts with the placeholders between them."""

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
        """The path, each value percent-encoded as one segment: a slash in it cannot leave its place.

        Raises ``UpstreamError`` (``not_found``) for values that no segment can hold.
        """
        if not self._names:
            return self._parts[0]
        path = self._parts[0]
        for name, part in zip(self._names, self._parts[1:], strict=True):
            value = values[name]
            if value in _NO_SEGMENTS:
                raise UpstreamError(Reason.NOT_FOUND, f"{self.template}: {name} can't be {value!r}")
            path += (value if _UNRESERVED.fullmatch(value) else quote(value, safe="", errors="replace")) + part
        return path


endpoint_of = lru_cache(maxsize=256)(Endpoint)
"""Each template is parsed once; they are few, being what the platforms' modules name."""
