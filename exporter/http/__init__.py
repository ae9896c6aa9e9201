"""The bounded HTTP client: connections, authentication, retries, rate limits, responses, errors."""

from __future__ import annotations

import ssl


def _import_aiohttp() -> None:
    """Import aiohttp without the CA certificates of its default TLS contexts; docs/adr/0003-memory-at-start.md.

    Nothing uses these contexts: each upstream with TLS has its own.
    """

    def load_nothing(_context: ssl.SSLContext) -> None:
        pass

    # hides the method of the base class
    ssl.SSLContext.set_default_verify_paths = load_nothing  # type: ignore[assignment, method-assign]
    try:
        import aiohttp  # noqa: F401 - for the contexts that the import makes
    finally:
        del ssl.SSLContext.set_default_verify_paths


_import_aiohttp()
