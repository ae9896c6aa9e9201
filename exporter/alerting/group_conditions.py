"""Rule conditions of groups, evaluated on their states."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter

from exporter.alerting.rules.active_rules import ActiveRule, Grade
from exporter.alerting.rules.rule import GroupGuard, Rule
from exporter.model import GroupMember, GroupState

_READERS: Mapping[str, Callable[[GroupState], bool]] = {
    "group:stands": attrgetter("stands"),
    "group:may_stand": attrgetter("may_stand"),
    "group:lost_member": attrgetter("has_lost_members"),
}
"""Whether a recording has a sample for a group."""


class CompiledGroupCondition:
    """The condition of one grade of a group rule."""

    needs_evidence = is_setting = False

    def __init__(self, active: ActiveRule, grade: Grade) -> None:
        self.active = active
        self.grade = grade
        guards = (guard for guard in (*active.rule.group_guards, *grade.also) if isinstance(guard, GroupGuard))
        self._guards = [(_READERS[guard.record], guard.holds) for guard in guards]

    @property
    def rule(self) -> Rule:
        """The rule that the condition belongs to."""
        return self.active.rule

    def holds(self, state: GroupState) -> bool:
        """Return whether the condition holds for a group."""
        return state.is_required and all(read(state) is holds for read, holds in self._guards)


def covered_streams(groups: Iterable[GroupState]) -> dict[str, frozenset[str]]:
    """Return the labels of the streams without which their group is up, by upstream."""
    found: dict[str, set[str]] = {}
    for member in (member for group in groups for member in group.covered):
        found.setdefault(member.upstream, set()).add(member.stream)
    return {upstream: frozenset(streams) for upstream, streams in found.items()}


def member_names(state: GroupState, *, live: bool | None) -> tuple[str, ...]:
    """Return the names and roles of the group's streams that are off air (False) or unknown (None), sorted."""
    members = sorted(
        (member for member in state.members if member.live is live),
        key=lambda member: f"{member.upstream}/{member.stream}",
    )
    return tuple(map(_member_name, members))


def _member_name(member: GroupMember) -> str:
    role = f" ({member.role})" if member.role else ""
    return f"{member.stream} on {member.upstream}{role}"
