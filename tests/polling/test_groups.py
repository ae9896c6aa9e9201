"""States of groups: from the served states of upstreams to the exposition."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
from prometheus_client.parser import text_string_to_metric_families

from exporter.cli.settings import load_settings
from exporter.metrics.exposition import Exposition
from exporter.metrics.self_metrics import ExporterMetrics
from exporter.model import (
    GroupState,
    GroupStatus,
    Identity,
    Maintenance,
    Status,
    StreamReport,
    StreamState,
    UpstreamState,
)
from exporter.polling.calendars import Calendars
from exporter.polling.groups import GroupTracker, group_shards
from exporter.runtime.clock import Instant
from exporter.store import Store
from tests.fake_clock import FakeClock

CONFIGURATION = """
upstreams:
  - {{name: edge-a, platform: storm, url: "http://127.0.0.1:1", discover: true, streams: [{first}]}}
  - {{name: edge-b, platform: storm, url: "http://127.0.0.1:1", discover: true}}
groups:
  - name: final
    {more}
    streams:
      - {{upstream: edge-a, stream: live/final, role: main}}
      - {{upstream: edge-b, stream: live/final, role: backup}}
"""
MEMBER = 'platform="storm",upstream="{}",stream="live/final"'
WORK = Maintenance(until=2e9)


def stream(live: bool | None, **facts: Any) -> StreamState:
    status = {True: Status.LIVE, False: Status.IDLE, None: Status.UNKNOWN}[live]
    return StreamState(
        identity=Identity("storm", "", "live/final"), report=StreamReport(id="x"), live=live, status=status, **facts
    )


class Groups:
    """A tracker with one group of a main and a backup stream."""

    def __init__(self, folder: Path, more: str = "need: 1", wall: float = 1_800_000_000.0, first: str = "") -> None:
        file = folder / "config.yaml"
        file.write_text(CONFIGURATION.format(more=more, first=first))
        self.settings = load_settings(file, {})
        self.store, self.clock = Store(), FakeClock(wall)
        self.store.arrange(["edge-a", "edge-b"])
        self.tracker = GroupTracker(
            self.store, self.clock, Instant(wall, self.clock.monotonic()), Calendars(self.clock)
        )
        self.tracker.configure(self.settings, group_shards(self.settings.groups))

    def publish(self, upstream: str, *streams: StreamState, answering: bool | None = True, **facts: Any) -> None:
        facts = {"host": "h", "health_score": "derived", "platform": "storm"} | facts
        self.store.publish(UpstreamState(upstream=upstream, answering=answering, streams=streams, **facts))

    @property
    def state(self) -> GroupState:
        (state,) = self.store.groups()
        return state

    def samples(self) -> dict[str, float]:
        """Return the values of the group's series, by name without prefix, and the members."""
        text = Exposition(self.store.states, ExporterMetrics(), self.store.groups).render().decode()
        return {
            sample.name.removeprefix("stream_group_"): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name.startswith("stream_group_") and sample.labels["group"] == "final"
        }


def test_member_that_its_upstream_has_never_served_is_logged_once(tmp_path: Path) -> None:
    groups = Groups(tmp_path)
    with structlog.testing.capture_logs() as logs:
        for minute in range(30):
            groups.publish("edge-a", stream(True), answering=True)
            groups.publish("edge-b", answering=minute >= 5)
            groups.clock.advance(60)
            groups.tracker.refresh()
            assert bool(logs) is (minute >= 14)
        # a stream that was served once has the right name
        groups.publish("edge-a", answering=True)
        groups.clock.advance(3600)
        groups.tracker.refresh()
    (entry,) = logs
    assert (entry["group"], entry["upstream"], entry["stream"]) == ("final", "edge-b", "live/final")


def test_series_of_a_group(tmp_path: Path) -> None:
    groups = Groups(tmp_path)
    groups.publish("edge-a", stream(True, expected=True))
    groups.publish("edge-b", stream(False, expected=False))
    text = Exposition(groups.store.states, ExporterMetrics(), groups.store.groups).render().decode()
    lines = [line for line in text.splitlines() if line.startswith("stream_group_")]
    assert lines == [
        'stream_group_live_streams{group="final"} 1',
        'stream_group_needed_streams{group="final"} 1',
        'stream_group_expected{group="final"} 1',
        'stream_group_streams{group="final"} 2',
        f'stream_group_member_info{{group="final",role="main",{MEMBER.format("edge-a")}}} 1',
        f'stream_group_member_info{{group="final",role="backup",{MEMBER.format("edge-b")}}} 1',
    ]


def test_group_is_exported_before_the_first_poll_without_an_expectation(tmp_path: Path) -> None:
    groups = Groups(tmp_path)
    assert groups.samples() == {"live_streams": 0, "needed_streams": 1, "streams": 2, "member_info": 1}
    assert groups.state.is_awaited


@pytest.mark.parametrize("answering", [None, False])
def test_stream_of_an_upstream_that_is_not_answering_is_unknown(answering: bool | None, tmp_path: Path) -> None:
    groups = Groups(tmp_path)
    groups.publish("edge-b", stream(False, expected=True))
    groups.publish("edge-a", stream(True, expected=True), answering=answering)
    main, backup = groups.state.members
    assert (main.live, main.status, main.expected) == (None, Status.UNKNOWN, True)
    assert backup.live is False
    assert groups.samples()["live_streams"] == 0
    assert groups.state.may_stand
    assert groups.state.is_awaited is (answering is None)


def test_stream_that_is_not_served_is_unknown_and_settled(tmp_path: Path) -> None:
    groups = Groups(tmp_path)
    groups.publish("edge-a")
    groups.publish("edge-b", stream(True, expected=True))
    assert [member.live for member in groups.state.members] == [None, True]
    assert not groups.state.is_awaited


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ((True, False), True),
        ((None, True), True),
        ((None, False), False),
        ((False, False), False),
        ((None, None), None),
    ],
)
def test_group_is_expected_while_one_of_its_streams_is(
    members: tuple[bool | None, bool | None], expected: bool | None, tmp_path: Path
) -> None:
    groups = Groups(tmp_path)
    for upstream, value in zip(("edge-a", "edge-b"), members, strict=True):
        groups.publish(upstream, stream(True, expected=value))
    assert groups.state.expected is expected
    assert groups.samples().get("expected") == expected


@pytest.mark.parametrize("other", [None, False, True])
def test_group_may_be_expected_while_that_is_unknown_for_one_of_its_streams(other: bool | None, tmp_path: Path) -> None:
    hours = '{days: [mon, tue, wed, thu, fri, sat, sun], from: "09:00", to: "10:00"}'
    groups = Groups(tmp_path, first=f"{{application: live, key: final, name: live/final, expected: [{hours}]}}")
    groups.publish("edge-a", stream(True))
    groups.publish("edge-b", stream(True, expected=other))
    assert groups.samples().get("expected") == (True if other else None)
    groups.publish("edge-a", stream(True, expected=False))
    assert groups.samples()["expected"] == bool(other)


def test_own_hours_of_a_group_apply_without_a_poll(tmp_path: Path) -> None:
    at_eight = 1_800_000_000.0 - 1_800_000_000.0 % 86_400 + 8 * 3600
    hours = 'expected: [{days: [mon, tue, wed, thu, fri, sat, sun], from: "09:00", to: "10:00"}]\n    start_grace: 5m'
    groups = Groups(tmp_path, hours, at_eight)
    published: list[bool | None] = []
    groups.store.subscribe_groups(lambda: published.append(groups.state.expected))
    for upstream in ("edge-a", "edge-b"):
        groups.publish(upstream, stream(True, expected=True))
    assert groups.state.expected is False
    published.clear()
    for _ in range(3 * 60):
        groups.clock.advance(60)
        groups.tracker.refresh()
    assert published == [None, True, False]


def test_unchanged_states_are_not_published_again(tmp_path: Path) -> None:
    groups = Groups(tmp_path)
    groups.publish("edge-a", stream(True, expected=True))
    before, published = groups.state, list[int]()
    groups.store.subscribe_groups(lambda: published.append(1))
    groups.publish("edge-a", stream(True, expected=True))
    groups.tracker.refresh()
    assert groups.state is before
    assert not published


@pytest.mark.parametrize(
    ("need", "in_maintenance", "needed"),
    [(1, (), 1), (1, ("edge-a",), 1), (2, ("edge-a",), 1), (2, ("edge-a", "edge-b"), 0), (1, ("edge-a", "edge-b"), 0)],
)
@pytest.mark.parametrize("whole_upstream", [False, True])
def test_streams_in_maintenance_are_not_needed(
    need: int, in_maintenance: tuple[str, ...], needed: int, whole_upstream: bool, tmp_path: Path
) -> None:
    groups = Groups(tmp_path, f"need: {need}")
    for upstream in ("edge-a", "edge-b"):
        work = WORK if upstream in in_maintenance else None
        of_streams = {"maintained_streams": {"live/final": work} if work else {}}
        in_force: dict[str, Any] = {"maintenance": work} if whole_upstream else of_streams
        groups.publish(upstream, stream(False, expected=True), **in_force)
    assert groups.samples()["needed_streams"] == needed
    assert groups.state.is_required is (needed > 0)


@pytest.mark.parametrize(
    ("lives", "expected", "status"),
    [
        ((True, True), True, GroupStatus.UP),
        ((True, None), True, GroupStatus.UP),
        ((True, False), True, GroupStatus.REDUNDANCY_LOST),
        ((False, None), True, GroupStatus.UNKNOWN),
        ((False, False), True, GroupStatus.DOWN),
        ((False, False), False, GroupStatus.NOT_EXPECTED),
        ((False, False), None, GroupStatus.UNKNOWN),
    ],
)
def test_status_of_a_group(
    lives: tuple[bool | None, bool | None], expected: bool | None, status: GroupStatus, tmp_path: Path
) -> None:
    groups = Groups(tmp_path)
    for upstream, live in zip(("edge-a", "edge-b"), lives, strict=True):
        groups.publish(upstream, stream(live, expected=expected))
    assert groups.state.status is status


@pytest.mark.parametrize(
    ("need", "lives", "covered"),
    [
        (1, (True, True), ["edge-a", "edge-b"]),
        (1, (True, False), ["edge-b"]),
        (1, (False, False), []),
        (2, (True, True), []),
    ],
)
def test_stream_is_covered_while_the_group_is_up_without_it(
    need: int, lives: tuple[bool, bool], covered: list[str], tmp_path: Path
) -> None:
    groups = Groups(tmp_path, f"need: {need}")
    for upstream, live in zip(("edge-a", "edge-b"), lives, strict=True):
        groups.publish(upstream, stream(live, expected=True))
    assert [member.upstream for member in groups.state.covered] == covered


def test_compressed_exposition_follows_groups(tmp_path: Path) -> None:
    """The compressed text is cached until a state changes; the expectation of a group changes without a poll."""
    groups = Groups(tmp_path, 'expected: [{days: [mon], from: "09:00", to: "09:01"}]')
    exposition = Exposition(groups.store.states, ExporterMetrics(), groups.store.groups)
    seen = set[str]()
    for _ in range(8 * 24 * 60):
        groups.clock.advance(60)
        groups.tracker.refresh()
        if len(seen) < 1 or groups.state.expected:
            text = gzip.decompress(b"".join(exposition.packed())).decode()
            seen |= {line for line in text.splitlines() if line.startswith("stream_group_expected{")}
    assert seen == {'stream_group_expected{group="final"} 0', 'stream_group_expected{group="final"} 1'}
