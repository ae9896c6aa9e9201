"""The served states: one immutable state per upstream and per group, replaced as a whole."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence

from exporter.model import GroupState, UpstreamState


class StateReferences:
    """Weak references to the states that a cache was built from, so that it does not keep large old states alive."""

    __slots__ = ("_references",)

    def __init__(self, *states: UpstreamState | GroupState) -> None:
        self._references = tuple(map(weakref.ref, states))

    def refer_to(self, *states: UpstreamState | GroupState) -> bool:
        """Return whether these are the same objects, in the same order."""
        return len(states) == len(self._references) and all(
            reference() is state for reference, state in zip(self._references, states, strict=True)
        )


class Store:
    """The states of all upstreams and groups in configuration order. Other threads can read them without a lock."""

    def __init__(self) -> None:
        self._order: tuple[str, ...] = ()
        self._states: dict[str, UpstreamState] = {}
        self._served: tuple[UpstreamState, ...] = ()
        self._subscribers: list[Callable[[UpstreamState], None]] = []
        self._groups: tuple[GroupState, ...] = ()
        self._group_subscribers: list[Callable[[], None]] = []

    def subscribe(self, subscriber: Callable[[UpstreamState], None]) -> None:
        """Call ``subscriber`` with every state published from now on; it must be quick and never raise."""
        self._subscribers.append(subscriber)

    def arrange(self, upstreams: Sequence[str]) -> None:
        """Set the upstreams and their order; the states of other upstreams are dropped at once."""
        self._order = tuple(upstreams)
        self._states = {name: state for name, state in self._states.items() if name in self._order}
        self._update_served()

    def publish(self, state: UpstreamState) -> None:
        """Serve a new state and notify subscribers; ignore it if the upstream has been removed."""
        if state.upstream in self._order:
            self._states[state.upstream] = state
            self._update_served()
            for subscriber in self._subscribers:
                subscriber(state)

    def withdraw(self, upstream: str) -> None:
        """Stop serving an upstream until its next state is published."""
        if self._states.pop(upstream, None) is not None:
            self._update_served()

    def states(self) -> tuple[UpstreamState, ...]:
        """Return an immutable snapshot of the states, without upstreams that only other shards poll."""
        return self._served

    def get(self, upstream: str) -> UpstreamState | None:
        """Return an upstream's state, or None before its first poll has finished."""
        return self._states.get(upstream)

    def subscribe_groups(self, subscriber: Callable[[], None]) -> None:
        """Call ``subscriber`` whenever the state of a group has changed; it must be quick and never raise."""
        self._group_subscribers.append(subscriber)

    def publish_groups(self, groups: tuple[GroupState, ...]) -> None:
        """Serve new states of all groups and notify subscribers. Reuse the objects of states that are unchanged."""
        self._groups = groups
        for subscriber in self._group_subscribers:
            subscriber()

    def groups(self) -> tuple[GroupState, ...]:
        """Return an immutable snapshot of the states of the groups that this process watches."""
        return self._groups

    def _update_served(self) -> None:
        states = (self._states[name] for name in self._order if name in self._states)
        self._served = tuple(state for state in states if not state.not_owned)
