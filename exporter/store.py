"""The served states: one immutable state per upstream and per group, replaced as a whole.

The store joins playback checks with the streams that they are paired with: ``StreamState.source_live`` of a check
follows the states of both, whichever is published.
"""

from __future__ import annotations

import operator
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import msgspec

from exporter.model import GroupState, StreamState, UpstreamState


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
        self._lookups: dict[str, _StreamLookup] = {}
        """Of the upstreams that playback checks are paired with."""
        self._dependents: dict[str, list[str]] = {}
        """The upstreams whose playback checks are paired with streams of an upstream."""

    def subscribe(self, subscriber: Callable[[UpstreamState], None]) -> None:
        """Call ``subscriber`` with every state published from now on; it must be quick and never raise."""
        self._subscribers.append(subscriber)

    def arrange(self, upstreams: Sequence[str]) -> None:
        """Set the upstreams and their order; the states of other upstreams are dropped at once."""
        self._order = tuple(upstreams)
        removed = self._states.keys() - set(upstreams)
        self._states = {name: state for name, state in self._states.items() if name not in removed}
        self._lookups = {name: lookup for name, lookup in self._lookups.items() if name not in removed}
        self._serve_changes((), removed)

    def publish(self, state: UpstreamState) -> None:
        """Serve a new state and notify subscribers; ignore it if the upstream has been removed."""
        if state.upstream in self._order:
            before = self._states.get(state.upstream)
            state = self._states[state.upstream] = self.join(state)
            if state.source_upstreams != (before.source_upstreams if before else frozenset()):
                self._update_dependents()
            self._serve_changes([state], [state.upstream])

    def withdraw(self, upstream: str) -> None:
        """Stop serving an upstream until its next state is published."""
        if self._states.pop(upstream, None) is not None:
            self._serve_changes((), [upstream])

    def states(self) -> tuple[UpstreamState, ...]:
        """Return an immutable snapshot of the states, without upstreams that only other shards poll."""
        return self._served

    def get(self, upstream: str) -> UpstreamState | None:
        """Return an upstream's state, or None before its first poll has finished."""
        return self._states.get(upstream)

    def find_stream(self, upstream: str, label: str) -> StreamState | None:
        """Return the served stream with this label, fast for the few streams that checks are paired with."""
        state = self._states.get(upstream)
        return None if state is None else self._find_in(state, label)

    def join(self, state: UpstreamState) -> UpstreamState:
        """Return the state with ``source_live`` of its playback checks according to the served states.

        Objects that do not change are returned as they are.
        """
        if not state.source_upstreams:
            return state
        streams = tuple([self._join_stream(stream, state) for stream in state.streams])
        if all(map(operator.is_, streams, state.streams)):
            return state
        return msgspec.structs.replace(state, streams=streams)

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

    # -- pairs of playback checks and their sources ------------------------------------------------------------------

    def _join_stream(self, stream: StreamState, of: UpstreamState) -> StreamState:
        upstream = stream.source_upstream
        if not upstream:
            return stream
        state = of if upstream == of.upstream else self._states.get(upstream)
        source = None if state is None or state.answering is not True else self._find_in(state, stream.source_stream)
        live = None if state is None or source is None else _is_source_live(source, state)
        return stream if live is stream.source_live else msgspec.structs.replace(stream, source_live=live)

    def _find_in(self, state: UpstreamState, label: str) -> StreamState | None:
        return self._lookups.setdefault(state.upstream, _StreamLookup()).find(state, label)

    def _join_dependents(self, upstreams: Collection[str]) -> Iterator[UpstreamState]:
        """Join the playback checks of other upstreams that are paired with these; yield the states that change.

        One step is enough, because ``source_live`` of a check depends on no other ``source_live``.
        """
        names = (name for upstream in upstreams for name in self._dependents.get(upstream, ()) if name != upstream)
        for name in dict.fromkeys(names):
            state = self._states.get(name)
            joined = None if state is None else self.join(state)
            if joined is not None and joined is not state:
                self._states[name] = joined
                yield joined

    def _update_dependents(self) -> None:
        self._dependents = {}
        for name, state in self._states.items():
            for upstream in state.source_upstreams:
                self._dependents.setdefault(upstream, []).append(name)

    def _serve_changes(self, published: Iterable[UpstreamState], changed: Collection[str]) -> None:
        """Serve the states and notify subscribers. ``changed``: the upstreams that were published or dropped."""
        states = [*published, *self._join_dependents(changed)]
        self._update_served()
        for state in states:
            for subscriber in self._subscribers:
                subscriber(state)

    def _update_served(self) -> None:
        states = (self._states[name] for name in self._order if name in self._states)
        self._served = tuple(state for state in states if not state.not_owned)


class _StreamLookup:
    """Finds streams of one upstream by label. Their positions rarely change, so nearly no state is searched."""

    __slots__ = ("_index", "_indexed", "_positions")

    def __init__(self) -> None:
        self._positions: dict[str, int] = {}
        """Where streams were last found."""
        self._index: dict[str, int] = {}
        self._indexed = StateReferences()
        """The last state that had to be searched, of which the index has all streams."""

    def find(self, state: UpstreamState, label: str) -> StreamState | None:
        streams, at = state.streams, self._positions.get(label)
        if at is None or at >= len(streams) or streams[at].identity.stream != label:
            if not self._indexed.refer_to(state):
                self._index = {stream.identity.stream: at for at, stream in enumerate(streams)}
                self._indexed = StateReferences(state)
            at = self._index.get(label)
            if at is None:
                return None
            self._positions[label] = at
        return streams[at]


def _is_source_live(source: StreamState, state: UpstreamState) -> bool | None:
    """Return whether a check's source is live and, if it is a check too, playable; None if unknown."""
    playable = source.report.playable
    if playable is False:
        return False
    is_check = playable is not None or (state.feeds is not None and "playable" in state.feeds)
    return playable if source.live and is_check else source.live
