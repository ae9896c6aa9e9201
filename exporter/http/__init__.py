"""The HTTP client and its limits: connections, authentication, retries, rate limits, responses, errors."""

from __future__ import annotations

import mimetypes
import os
import ssl

from exporter.runtime.lean_imports import import_html

_NO_EXTENSIONS = "FROZENLIST_NO_EXTENSIONS"


def _import_aiohttp() -> None:
    """Import aiohttp without loading data that is never used; see docs/adr/0003-memory-at-start.md.

    The CA certificates of its default TLS contexts are not needed, because each upstream with TLS has its own context.
    Neither are the machine's media types and the names of HTML entities. ``frozenlist`` runs in pure Python, because
    its lists are short here and its compiled form loads the C++ library.
    """

    def load_nothing(_context: ssl.SSLContext) -> None:
        pass

    import_html()
    if not mimetypes.inited:
        mimetypes.init(files=())
    given = os.environ.get(_NO_EXTENSIONS)
    os.environ[_NO_EXTENSIONS] = given or "1"
    # shadows the method of the base class
    ssl.SSLContext.set_default_verify_paths = load_nothing  # type: ignore[assignment, method-assign]
    try:
        import aiohttp  # noqa: F401 - creates its TLS contexts on import
    finally:
        del ssl.SSLContext.set_default_verify_paths
        if given is None:
            del os.environ[_NO_EXTENSIONS]


_import_aiohttp()
