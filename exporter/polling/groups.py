"""Track groups of streams: whether enough of their streams are live, from the served states of their upstreams."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import structlog

from exporter.config.groups import GroupMember as MemberSettings
from exporter.config.groups import GroupSettings
from exporter.config.root import Settings
from exporter.config.upstream import UpstreamSettings
from exporter.metrics.text_format import label_value
from exporter.model import GroupMember, GroupState, Status, StreamState, UpstreamState
from exporter.polling.calendars import Calendars
from exporter.polling.expected_hours import ExpectedHours
from exporter.runtime.clock import Clock, Instant
from exporter.sharding import SINGLE, GroupShards, Shard
from exporter.store import Store

log = structlog.get_logger()

UNMATCHED_SECONDS = 600.0
"""Time after which a member that its answering upstream has never served is logged, because its name may be wrong."""


def group_shards(groups: Iterable[GroupSettings], upstreams: Iterable[UpstreamSettings] = ()) -> GroupShards:
    """Return the assignment of groups with their streams, and of playback checks with their sources, to shards."""
    return GroupShards(
        {group.name: [(member.upstream, label_value(member.stream)) for member in group.streams] for group in groups},
        [
            ((upstream.name, label_value(stream.name or stream.id)), (source.upstream, label_value(source.stream)))
            for upstream in upstreams
            for stream in upstream.configured_streams()
            if (source := stream.source) is not None
        ],
    )


class _TrackedGroup:
    """One group over time."""

    def __init__(
        self,
        settings: GroupSettings,
        upstreams: Mapping[str, UpstreamSettings],
        started_at: Instant,
        calendars: Calendars,
    ) -> None:
        self.settings = settings
        self.upstreams = frozenset(member.upstream for member in settings.streams)
        self.expected_hours = None if settings.expected is None else ExpectedHours(settings, started_at, calendars)
        self.members = tuple(
            _unknown_member(member, upstreams[member.upstream].platform) for member in settings.streams
        )
        self._streams_with_hours = frozenset(
            (name, label_value(stream.name or stream.id))
            for name in self.upstreams
            for stream in upstreams[name].configured_streams()
            if stream.expected is not None
        )
        """Upstream and label of the streams of these upstreams for which ``expected`` is configured."""
        self.state: GroupState | None = None
        self._unmatched_since: dict[tuple[str, str], float | None] = {}
        """By upstream and stream: since when the upstream answers without having served it (steady seconds)."""

    def read_upstream(
        self, upstream: str, state: UpstreamState | None, streams: Mapping[str, StreamState], now: Instant
    ) -> None:
        """Read the members of one upstream. ``streams``: its streams in groups, by label."""
        for member in self.members:
            place = (member.upstream, member.stream)
            if member.upstream == upstream and state is not None and state.answering:
                is_served = member.stream in streams
                if is_served or place not in self._unmatched_since:
                    self._unmatched_since[place] = None if is_served else now.steady
        self.members = tuple(
            _read_member(member, state, streams.get(member.stream)) if member.upstream == upstream else member
            for member in self.members
        )

    def take_unmatched(self, now: Instant) -> Iterator[tuple[str, str]]:
        """Yield each member that its upstream has not served for ``UNMATCHED_SECONDS``, once."""
        for place, since in self._unmatched_since.items():
            if since is not None and now.steady >= since + UNMATCHED_SECONDS:
                self._unmatched_since[place] = None
                yield place

    def update(self, now: Instant) -> GroupState:
        """Return the current state: the same object while nothing has changed."""
        state = GroupState(
            group=self.settings.name,
            need=self.settings.needed,
            members=self.members,
            expected=self._is_any_expected() if self.expected_hours is None else self.expected_hours.is_expected(now),
        )
        if self.state is None or state != self.state:
            self.state = state
        return self.state

    def _is_any_expected(self) -> bool | None:
        """Return whether any member should be live now; None if unknown, or if ``expected`` is configured for none."""
        expected = {
            member.expected
            for member in self.members
            if member.expected is not None or (member.upstream, member.stream) in self._streams_with_hours
        }
        if True in expected:
            return True
        return None if None in expected or not expected else False


class GroupTracker:
    """Publishes the states of groups whenever the upstream of a member is published, and as time passes."""

    def __init__(
        self, store: Store, clock: Clock, started_at: Instant, calendars: Calendars, shard: Shard = SINGLE
    ) -> None:
        """``started_at``: when the exporter started. ``calendars``: those in use. ``shard``: whose groups to track."""
        self._store = store
        self._clock = clock
        self._started_at = started_at
        self._calendars = calendars
        self._shard = shard
        self._groups: Sequence[_TrackedGroup] = ()
        self._labels: Mapping[str, frozenset[str]] = {}
        """Labels of the streams in groups, by upstream."""
        store.subscribe(self._read_published)

    def configure(self, settings: Settings, shards: GroupShards) -> None:
        """Track the groups of this shard, and publish their states."""
        upstreams = {upstream.name: upstream for upstream in settings.upstreams}
        self._groups = [
            _TrackedGroup(group, upstreams, self._started_at, self._calendars)
            for group in settings.groups
            if shards.owns(self._shard, group.name)
        ]
        labels: dict[str, set[str]] = {}
        for member in (member for group in self._groups for member in group.members):
            labels.setdefault(member.upstream, set()).add(member.stream)
        self._labels = {upstream: frozenset(wanted) for upstream, wanted in labels.items()}
        for upstream in self._labels:
            self._read_upstream(upstream, self._store.get(upstream))
        self.refresh()

    def refresh(self) -> None:
        """Update expectations that change with time, and publish the states if one has changed."""
        now = self._clock.instant()
        for group in self._groups:
            for upstream, stream in group.take_unmatched(now):
                log.warning(
                    "stream of a group is unknown to its upstream; check its name",
                    group=group.settings.name,
                    upstream=upstream,
                    stream=stream,
                )
        states = tuple(group.update(now) for group in self._groups)
        served = self._store.groups()
        if len(states) != len(served) or any(state is not other for state, other in zip(states, served, strict=True)):
            self._store.publish_groups(states)

    def _read_published(self, state: UpstreamState) -> None:
        if state.upstream in self._labels:
            self._read_upstream(state.upstream, state)
            self.refresh()

    def _read_upstream(self, upstream: str, state: UpstreamState | None) -> None:
        wanted = self._labels[upstream]
        streams = {}
        for stream in state.streams if state is not None else ():
            label = label_value(stream.identity.stream)
            if label in wanted:
                streams[label] = stream
        for group in self._groups:
            if upstream in group.upstreams:
                group.read_upstream(upstream, state, streams, self._clock.instant())


def _unknown_member(settings: MemberSettings, platform: str) -> GroupMember:
    return GroupMember(
        platform=platform,
        upstream=settings.upstream,
        stream=label_value(settings.stream),
        role=settings.role or "",
        is_awaited=True,
    )


def _read_member(member: GroupMember, state: UpstreamState | None, stream: StreamState | None) -> GroupMember:
    """Return the member as known from its upstream's state; ``stream`` is its own, if it is served."""
    is_answering = state is not None and state.answering is True
    return GroupMember(
        platform=member.platform,
        upstream=member.upstream,
        stream=member.stream,
        role=member.role,
        status=stream.status if stream is not None and is_answering else Status.UNKNOWN,
        live=_is_live(stream) if stream is not None and is_answering else None,
        expected=stream.expected if stream is not None else None,
        in_maintenance=state is not None and state.maintenance_of(member.stream) is not None,
        is_awaited=state is None or (state.answering is None and not state.not_owned),
    )


def _is_live(stream: StreamState) -> bool | None:
    """Return whether a stream is live. A playback check that cannot be played is not, although media may arrive."""
    return False if stream.report.playable is False else stream.live
