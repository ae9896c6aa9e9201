"""Guard of the requests that change something: they are enabled by a flag, and refused to pages of other sites."""

from __future__ import annotations

from typing import Final

from aiohttp import hdrs, web

from exporter.web.options import Origin, WebOptions, is_own_host

CROSS_SITE: Final = "Cross-site requests are refused."
LIFECYCLE_OFF: Final = "Lifecycle API is not enabled. Start with --web.enable-lifecycle{instead}."


class LifecycleGuard:
    """Decides which requests may change something."""

    def __init__(self, options: WebOptions) -> None:
        self._is_enabled = options.enable_lifecycle
        self._external = options.external

    def refusal(self, request: web.Request, instead: str = "") -> str | None:
        """Return why the request is refused; None if it is not. ``instead``: what else the user can do."""
        if not self._is_enabled:
            return LIFECYCLE_OFF.format(instead=instead)
        return CROSS_SITE if _is_cross_site(request, self._external) else None


def _is_cross_site(request: web.Request, external: Origin | None) -> bool:
    """Return whether a browser sent the request for a page of another site.

    Browsers set ``Origin`` and ``Sec-Fetch-Site``, and pages cannot change them. Other clients send neither.
    https://developer.mozilla.org/en-US/docs/Web/HTTP/Reference/Headers/Sec-Fetch-Site
    """
    origin, site = request.headers.get(hdrs.ORIGIN), request.headers.get("Sec-Fetch-Site")
    if origin is None and site is None:
        return False
    if external is not None and origin == external.origin:
        return False
    host = request.headers.get(hdrs.HOST, "")
    is_same_origin = origin is None or origin == f"{'https' if request.secure else 'http'}://{host}"
    # DNS rebinding: a foreign name that resolves to this machine has the same origin for the browser.
    is_own = is_own_host(host) or (external is not None and host == external.address)
    return not (is_same_origin and is_own and (site or "none").lower() in ("none", "same-origin"))
