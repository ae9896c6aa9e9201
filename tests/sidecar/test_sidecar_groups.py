"""Alerts of groups in the sidecar: evaluated when a member is published, delivered, and resolved on reload."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from exporter.alerting.group_conditions import member_names
from exporter.cli.settings import load_settings
from exporter.model import Identity, Maintenance, Status, StreamReport, StreamState, UpstreamState
from exporter.polling.calendars import Calendars
from exporter.polling.groups import GroupTracker, group_shards
from tests.sidecar.fake_alertmanager import run_event_loop
from tests.sidecar.sidecar_harness import INTERVAL, SidecarHarness, sidecar_harness

UPSTREAMS = ("edge-a", "edge-b")
GROUP = """
groups:
  - name: final
    need: {need}
    streams: [{{upstream: edge-a, stream: main, role: main}}, {{upstream: edge-b, stream: main, role: backup}}]
"""
CONFIGURATION = """
upstreams:
  - {name: edge-a, platform: storm, url: "http://127.0.0.1:1", discover: true}
  - {name: edge-b, platform: storm, url: "http://127.0.0.1:1", discover: true}
"""
OFFLINE, DOWN, LOST = "StreamExpectedOffline", "StreamGroupDown", "StreamGroupRedundancyLost"
Live = bool | None


class GroupHarness:
    """A sidecar with two upstreams, each with one stream of a group."""

    def __init__(self, running: SidecarHarness, file: Path) -> None:
        self.running = running
        self.file = file
        self.tracker = GroupTracker(running.store, running.clock, running.clock.instant(), Calendars(running.clock))
        self.maintenance: dict[str, Maintenance] = {}

    async def configure(self, groups: str) -> None:
        self.file.write_text(CONFIGURATION + groups)
        settings = load_settings(self.file, {})
        self.running.store.arrange(UPSTREAMS)
        self.tracker.configure(settings, group_shards(settings.groups))
        await self.running.apply(*UPSTREAMS)

    async def publish(self, upstream: str, live: Live, *, answering: bool = True, score: float | None = None) -> None:
        """Publish the upstream's state and evaluate it."""
        status = {True: Status.LIVE, False: Status.IDLE, None: Status.UNKNOWN}[live]
        stream = StreamState(
            identity=Identity("storm", upstream, "main"),
            report=StreamReport(id="main", live=live),
            status=status,
            live=live,
            expected=True,
            health_score_ratio=score,
        )
        work = self.maintenance.get(upstream)
        self.running.store.publish(
            UpstreamState(
                platform="storm",
                upstream=upstream,
                host="h",
                health_score="derived",
                up=answering,
                answering=answering,
                poll_interval_seconds=INTERVAL,
                streams=(stream,),
                maintained_streams={} if work is None else {"main": work},
            )
        )
        await run_event_loop()

    async def pass_time(self, seconds: float, main: Live, backup: Live, **facts: Any) -> None:
        for _ in range(int(seconds / INTERVAL)):
            self.running.clock.advance(INTERVAL)
            await run_event_loop()
            await self.publish("edge-a", main, **facts)
            await self.publish("edge-b", backup)

    def firing(self) -> set[str]:
        """Return the firing alerts: name and severity, and the upstream of a stream's alert."""
        return {
            f"{a.key.rule} {a.key.upstream or a.key.group} {a.key.severity}"
            for a in self.running.sidecar.alerts()
            if a.phase.value == "firing"
        }


@asynccontextmanager
async def group_harness(folder: Path, need: int = 1) -> AsyncIterator[GroupHarness]:
    async with sidecar_harness() as running:
        harness = GroupHarness(running, folder / "config.yaml")
        await harness.configure(GROUP.format(need=need))
        yield harness


async def test_final_from_a_lost_leg_to_the_recovery(tmp_path: Path) -> None:
    """Main dies, then the backup, then both return. No severity change is an all-clear."""
    async with group_harness(tmp_path) as groups:
        with structlog.testing.capture_logs() as logs:
            await groups.pass_time(60, True, True)
            assert groups.firing() == set()
            await groups.pass_time(150, False, True)
            assert groups.firing() == {f"{OFFLINE} edge-a warning", f"{LOST} final warning"}
            await groups.pass_time(90, False, False)
            expected = {f"{OFFLINE} edge-a critical", f"{OFFLINE} edge-b critical", f"{DOWN} final critical"}
            assert groups.firing() == expected | {f"{LOST} final warning"}
            await groups.pass_time(150, False, False)
            assert groups.firing() == expected
            await groups.pass_time(240, True, True)
            assert groups.firing() == set()
        changes = [
            (line["alertname"], line["upstream"] or line["group"], line["severity"], line["state"])
            for line in logs
            if line["event"] == "alert changed"
        ]
        assert sorted(changes) == sorted(
            [
                (OFFLINE, "edge-a", "warning", "firing"),
                (LOST, "final", "warning", "firing"),
                (DOWN, "final", "critical", "firing"),
                (OFFLINE, "edge-a", "critical", "firing"),
                (OFFLINE, "edge-b", "critical", "firing"),
                (LOST, "final", "warning", "resolved"),
                (DOWN, "final", "critical", "resolved"),
                (OFFLINE, "edge-a", "critical", "resolved"),
                (OFFLINE, "edge-b", "critical", "resolved"),
            ]
        )


async def test_alert_names_the_group_and_its_streams(tmp_path: Path) -> None:
    async with group_harness(tmp_path) as groups:
        await groups.pass_time(90, False, None)
        await groups.running.wait_until_sent()
        alert = groups.running.last_received(DOWN)
        assert alert["labels"] == {
            "alertname": DOWN,
            "group": "final",
            "scope": "group",
            "severity": "warning",
            "source": "sidecar",
        }
        annotations = alert["annotations"]
        assert annotations["summary"] == "Not enough streams of group final are known to be live."
        assert annotations["description"] == "Streams of group final that are known to be live: 0 (needed: 1)."
        assert annotations["off_air"] == "main on edge-a (main)"
        assert annotations["unknown"] == "main on edge-b (backup)"
        assert member_names(groups.running.store.groups()[0], live=True) == ()


async def test_unknown_stream_that_dies_turns_the_warning_critical(tmp_path: Path) -> None:
    async with group_harness(tmp_path) as groups:
        with structlog.testing.capture_logs() as logs:
            await groups.pass_time(120, False, None)
            assert f"{DOWN} final warning" in groups.firing()
            await groups.pass_time(90, False, False)
            assert f"{DOWN} final critical" in groups.firing()
            assert f"{DOWN} final warning" not in groups.firing()
        changes = [(line["severity"], line["state"]) for line in logs if line.get("alertname") == DOWN]
        assert changes == [("warning", "firing"), ("critical", "firing")]


async def test_stream_of_an_upstream_that_stops_answering_is_not_dead(tmp_path: Path) -> None:
    async with group_harness(tmp_path) as groups:
        await groups.pass_time(60, False, True)
        await groups.publish("edge-b", True, answering=False)
        for _ in range(8):
            groups.running.clock.advance(INTERVAL)
            await groups.publish("edge-b", True, answering=False)
            await groups.publish("edge-a", False)
        assert f"{DOWN} final warning" in groups.firing()
        assert f"{DOWN} final critical" not in groups.firing()


async def test_other_upstream_changes_the_severity_without_a_poll_of_its_own(tmp_path: Path) -> None:
    """The backup dies; the critical alert of the main stream is pending at once, and fires without a poll of edge-a."""
    async with group_harness(tmp_path) as groups:
        await groups.pass_time(120, False, True)
        assert f"{OFFLINE} edge-a warning" in groups.firing()
        await groups.publish("edge-b", False)
        groups.running.clock.advance(61)
        await run_event_loop()
        assert f"{OFFLINE} edge-a critical" in groups.firing()


@pytest.mark.parametrize(("need", "severity"), [(1, "warning"), (2, "critical")])
async def test_quality_alert_of_a_needed_stream_stays_critical(need: int, severity: str, tmp_path: Path) -> None:
    """With both streams live but both needed, the group is not up without the bad one."""
    async with group_harness(tmp_path, need) as groups:
        await groups.pass_time(180, True, True, score=0.1)
        assert groups.firing() == {f"StreamUnhealthy edge-a {severity}"}


async def test_stream_in_maintenance_loses_no_redundancy(tmp_path: Path) -> None:
    async with group_harness(tmp_path) as groups:
        groups.maintenance["edge-a"] = Maintenance(until=1e12)
        await groups.pass_time(180, False, True)
        assert groups.firing() == {f"{OFFLINE} edge-a warning", "StreamMaintenance edge-a none"}
        groups.maintenance["edge-b"] = Maintenance(until=1e12)
        await groups.pass_time(180, False, False)
        assert {alert for alert in groups.firing() if "final" in alert} == set()


@pytest.mark.parametrize("after", ["", GROUP.format(need=1).replace("final", "semifinal")])
async def test_alerts_of_a_removed_group_are_resolved(after: str, tmp_path: Path) -> None:
    async with group_harness(tmp_path) as groups:
        await groups.pass_time(90, False, False)
        assert f"{DOWN} final critical" in groups.firing()
        await groups.configure(after)
        await groups.running.wait_until_sent()
        assert not [alert for alert in groups.firing() if "final" in alert]
        assert not groups.running.is_firing(DOWN)
        await groups.pass_time(90, False, False)
        assert (f"{DOWN} semifinal critical" in groups.firing()) is bool(after)


async def test_alerts_of_a_group_do_not_change_while_an_upstream_is_replaced(tmp_path: Path) -> None:
    """After a reload, the state of a changed upstream is unknown until its first poll."""
    async with group_harness(tmp_path) as groups:
        await groups.pass_time(90, False, False)
        groups.running.store.withdraw("edge-a")
        await groups.configure(GROUP.format(need=1))
        for _ in range(20):
            groups.running.clock.advance(INTERVAL)
            await groups.publish("edge-b", False)
        assert f"{DOWN} final critical" in groups.firing()
        assert f"{DOWN} final warning" not in groups.firing()
