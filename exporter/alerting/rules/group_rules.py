"""Rules about groups of streams, such as main and backup.

A group alerts only while it must be up: it is expected, and not all of its streams are in maintenance.
"""

from __future__ import annotations

from exporter.alerting.rules.rule import MINUTE, Critical, GroupGuard, Rule, Scope, Severity, Unit

KEEP_FIRING_SECONDS = 2 * MINUTE
"""Longer than ``for``, so that an alert that changes its severity is not resolved in between."""

GROUP_RULES: tuple[Rule, ...] = (
    Rule(
        name="StreamGroupDown",
        scope=Scope.GROUP,
        severity=Severity.WARNING,
        summary="Not enough streams of {subject} are known to be live.",
        description="Streams of {subject} that are known to be live: {value} (needed: {needed}).",
        expected="at least {needed} live",
        group_guards=(GroupGuard("group:stands", holds=False),),
        critical=Critical(for_seconds=MINUTE, also=(GroupGuard("group:may_stand", holds=False),)),
        for_seconds=MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        unit=Unit.COUNT,
        rationale="A stream in an unknown state is not dead. The alert is critical if too few streams would be live "
        "even if all unknown ones were, and a warning while the unknown ones decide. A minute is the time after which "
        "a single stream counts as off air.",
    ),
    Rule(
        name="StreamGroupRedundancyLost",
        scope=Scope.GROUP,
        severity=Severity.WARNING,
        summary="The redundancy of {subject} is lost.",
        description="Streams of {subject} that are live: {value} (needed: {needed}). At least one other is off air.",
        expected="all streams live, except those in maintenance",
        group_guards=(GroupGuard("group:stands"), GroupGuard("group:lost_member")),
        for_seconds=2 * MINUTE,
        keep_firing_seconds=KEEP_FIRING_SECONDS,
        unit=Unit.COUNT,
        rationale="Viewers notice nothing, but the next failure may take the group down. Two minutes cover a switch of "
        "encoders. Streams in maintenance and in an unknown state do not count.",
    ),
)
