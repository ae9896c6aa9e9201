"""Metric families of groups of streams, read from their states."""

from __future__ import annotations

from collections.abc import Callable

from exporter.metrics.families.family import (
    GROUP_LABELS,
    STREAM_LABELS,
    Kind,
    Labelled,
    ModelFamily,
    Number,
    Part,
    Source,
)
from exporter.model import GroupState

GroupFamily = ModelFamily[GroupState]


def _gauge(
    name: str, help_: str, value: Callable[[GroupState], Number | None], source: Source = Source.CONFIGURATION
) -> GroupFamily:
    return GroupFamily(
        name=name, kind=Kind.GAUGE, help=help_, part=Part.UPSTREAMS, labels=GROUP_LABELS, source=source, value=value
    )


def _members(state: GroupState) -> tuple[Labelled, ...]:
    return tuple(((member.role, member.platform, member.upstream, member.stream), 1) for member in state.members)


GROUP_FAMILIES: tuple[GroupFamily, ...] = (
    _gauge(
        "stream_group_live_streams",
        "Number of the group's streams that are known to be live. Streams in an unknown state are not counted.",
        lambda state: state.live,
        Source.EXPORTER,
    ),
    _gauge(
        "stream_group_needed_streams",
        "Number of the group's streams that must be live: need in the configuration, but at most the number of streams "
        "that are not in maintenance.",
        lambda state: state.needed,
    ),
    _gauge(
        "stream_group_expected",
        "Whether the group should be up now (1) or not (0), from expected in its configuration, otherwise from that of "
        "its streams. Absent if unknown.",
        lambda state: state.expected,
    ),
    _gauge("stream_group_streams", "Number of the group's streams.", lambda state: len(state.members)),
    GroupFamily(
        name="stream_group_member_info",
        kind=Kind.GAUGE,
        help="Stream that belongs to the group, and its role in it. Always 1.",
        part=Part.UPSTREAMS,
        labels=(*GROUP_LABELS, "role", *STREAM_LABELS),
        source=Source.CONFIGURATION,
        values=_members,
    ),
)
