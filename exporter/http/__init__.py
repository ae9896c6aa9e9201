"""The bounded HTTP client: connections, authentication, retries, rate limits, responses, errors."""

from __future__ import annotations

import mimetypes
import os
import ssl

_NO_EXTENSIONS = "FROZENLIST_NO_EXTENSIONS"


def _import_aiohttp() -> None:
    """Import aiohttp without what takes memory and is never used; docs/adr/0003-memory-at-start.md.

    Nothing uses the CA certificates of its default TLS contexts: each upstream with TLS has a context of its own.
    Nothing looks up the media types of the machine, and the lists in ``frozenlist``, whose compiled form loads the
    C++ library, hold a handful of items.
    """

    def load_nothing(_context: ssl.SSLContext) -> None:
        pass

    if not mimetypes.inited:
        mimetypes.init(files=())
    given = os.environ.get(_NO_EXTENSIONS)
    os.environ[_NO_EXTENSIONS] = given or "1"
    # hides the method of the base class
    ssl.SSLContext.set_default_verify_paths = load_nothing  # type: ignore[assignment, method-assign]
    try:
        import aiohttp  # noqa: F401 - for the contexts that the import makes
    finally:
        del ssl.SSLContext.set_default_verify_paths
        if given is None:
            del os.environ[_NO_EXTENSIONS]


_import_aiohttp()
