"""What is served now: one immutable view per upstream, replaced as a whole."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence

from exporter.model import UpstreamState


class Remembered:
    """Which views there were. It keeps none of them alive: with its streams one takes half of all memory."""

    __slots__ = ("_views",)

    def __init__(self, *views: UpstreamState) -> None:
        self._views = tuple(map(weakref.ref, views))

    def are_still(self, *views: UpstreamState) -> bool:
        """Whether those are the ones that there are now."""
        return len(views) == len(self._views) and all(
            ref() is view for ref, view in zip(self._views, views, strict=True)
        )


class Store:
    """The views of all upstreams, in the order of the configuration. Readers on other threads need no lock."""

    def __init__(self) -> None:
        self._order: tuple[str, ...] = ()
        self._views: dict[str, UpstreamState] = {}
        self._served: tuple[UpstreamState, ...] = ()
        self._subscribers: list[Callable[[UpstreamState], None]] = []

    def subscribe(self, published: Callable[[UpstreamState], None]) -> None:
        """Call ``published`` with every view from now on; it must be quick and never raise."""
        self._subscribers.append(published)

    def arrange(self, upstreams: Sequence[str]) -> None:
        """Say which upstreams there are, in which order; the views of others leave at once."""
        self._order = tuple(upstreams)
        self._views = {name: view for name, view in self._views.items() if name in self._order}
        self._serve()

    def publish(self, view: UpstreamState) -> None:
        """Serve this view from now on; one of an upstream that was removed meanwhile is ignored."""
        if view.upstream in self._order:
            self._views[view.upstream] = view
            self._serve()
            for published in self._subscribers:
                published(view)

    def withdraw(self, upstream: str) -> None:
        """Serve nothing of this upstream until it publishes again."""
        if self._views.pop(upstream, None) is not None:
            self._serve()

    def views(self) -> tuple[UpstreamState, ...]:
        """The views as they are now, but for upstreams that other shards poll; the tuple never changes."""
        return self._served

    def get(self, upstream: str) -> UpstreamState | None:
        """One upstream's view, None before its first poll is completed."""
        return self._views.get(upstream)

    def _serve(self) -> None:
        views = (self._views[name] for name in self._order if name in self._views)
        self._served = tuple(view for view in views if not view.not_owned)
