"""Maintenance windows: what is under maintenance, when it starts and ends, and what is exported."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from exporter.metrics.self_metrics import FamilyRegistry
from exporter.model import Maintenance, PollResult, Status, StreamReport
from exporter.polling.coordinator import Coordinator, build_coordinator
from exporter.polling.maintenance_control import (
    ConfiguredWindowError,
    MaintenanceControl,
    UnknownTargetError,
    UnknownWindowError,
)
from exporter.polling.manual_maintenance import (
    FILE_NAME,
    MAX_WINDOW_SECONDS,
    MAX_WINDOWS,
    InvalidWindowError,
    ManualMaintenance,
    TooManyWindowsError,
    restore_windows,
)
from exporter.polling.self_metrics import MaintenanceMetrics, PollingMetrics
from exporter.runtime.clock import Instant
from exporter.store import Store
from tests.fake_clock import FakeClock
from tests.metrics.generated_views import rendered
from tests.polling.test_coordinator import DOWN, ScriptedPlatform, ScriptedSettings, live_streams

HOUR = 3600.0


def window(clock: FakeClock, start: float, end: float, reason: str | None = None, *, offset: int = 0) -> dict[str, Any]:
    """Return a configured window, by seconds from now, written with a UTC offset in hours."""
    zone = timezone(timedelta(hours=offset))
    start_at, end_at = (datetime.fromtimestamp(clock.now() + at, zone).isoformat() for at in (start, end))
    return {"from": start_at, "to": end_at} | ({} if reason is None else {"reason": reason})


class MaintainedUpstream:
    """A coordinator over a scripted platform, with manual maintenance."""

    def __init__(self, clock: FakeClock | None = None, **keys: Any) -> None:
        self.clock = clock or FakeClock()
        settings = {"name": "u", "url": "http://127.0.0.1:9", "interval": "10s"} | keys
        self.store = Store()
        self.store.arrange(["u"])
        self.registry = FamilyRegistry()
        self.manual = ManualMaintenance(self.clock, MaintenanceMetrics(self.registry))
        self.coordinator: Coordinator = build_coordinator(
            ScriptedSettings.model_validate(settings),
            ScriptedPlatform,
            store=self.store,
            metrics=PollingMetrics(FamilyRegistry()),
            clock=self.clock,
            started_at=self.clock.instant(),
            random_=random.Random(1),
            maintenance=self.manual,
        )
        self.control = MaintenanceControl(self.manual, {"u": self.coordinator})

    async def poll(self, outcome: Any, after: float = 10.0) -> None:
        assert isinstance(self.coordinator.platform, ScriptedPlatform)
        self.coordinator.platform.outcomes = [outcome]
        self.clock.advance(after)
        await self.coordinator.poll()

    def pass_time(self, seconds: float) -> list[str]:
        self.clock.advance(seconds)
        self.control.refresh()
        return self.series()

    def series(self) -> list[str]:
        """Return the values of the label ``stream`` of ``stream_maintenance`` in the exposition."""
        lines = rendered(*self.store.states()).text.decode().splitlines()
        return [line.split(',stream="')[1].split('"')[0] for line in lines if line.startswith("stream_maintenance{")]

    def maintenance(self, stream: str | None = None) -> Maintenance | None:
        state = self.store.get("u")
        if state is None:
            return None
        if stream is None:
            return state.maintenance
        return next(known.maintenance for known in state.streams if known.identity.stream == stream)


# -- configured windows ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [-11, 0, 1, 2, 14])
async def test_configured_window_starts_and_ends_between_polls(offset: int) -> None:
    clock = FakeClock()
    upstream = MaintainedUpstream(clock, maintenance=[window(clock, 60, 120, "encoder swap", offset=offset)])
    await upstream.poll(live_streams("a"))
    assert upstream.pass_time(49) == []
    assert upstream.pass_time(1) == [""]
    assert upstream.maintenance() == Maintenance(until=clock.now() + 60, reason="encoder swap")
    assert upstream.pass_time(59) == [""]
    assert upstream.pass_time(1) == []
    assert upstream.maintenance() is None


async def test_stream_window_is_of_the_stream_only_and_hidden_by_that_of_the_upstream() -> None:
    clock = FakeClock()
    streams = [{"key": "a", "name": "A", "maintenance": [window(clock, 0, 600)]}]
    upstream = MaintainedUpstream(clock, maintenance=[window(clock, 120, 240)], streams=streams)
    await upstream.poll(live_streams("a", "b"))
    assert upstream.series() == ["A"]
    assert (upstream.maintenance(), upstream.maintenance("b")) == (None, None)
    assert upstream.maintenance("A") is not None
    assert upstream.pass_time(110) == [""], "only the series of the upstream"
    assert upstream.maintenance("A") is not None
    assert upstream.pass_time(120) == ["A"]


async def test_window_of_a_stream_that_is_not_served_is_exported() -> None:
    """Otherwise StreamVanished would page when a stream is removed from the platform during its maintenance."""
    clock = FakeClock()
    upstream = MaintainedUpstream(clock, streams=[{"key": "a", "maintenance": [window(clock, 0, 600)]}])
    await upstream.poll(live_streams("b"))
    assert upstream.series() == ["a"]
    assert [known.identity.stream for known in upstream.store.states()[0].streams] == ["b"]


async def test_overlapping_windows_end_with_the_last_one_that_follows_without_a_gap() -> None:
    clock = FakeClock()
    windows = [
        window(clock, 0, 100, "first"),
        window(clock, 50, 200, "second"),
        window(clock, 200, 300),
        window(clock, 301, 400, "after a gap"),
    ]
    upstream = MaintainedUpstream(clock, maintenance=windows)
    await upstream.poll(live_streams("a"), after=0)
    end = clock.now() + 300
    assert upstream.maintenance() == Maintenance(until=end, reason="first")
    upstream.pass_time(60)
    assert upstream.maintenance() == Maintenance(until=end, reason="second")
    upstream.pass_time(160)
    assert upstream.maintenance() == Maintenance(until=end)
    assert upstream.pass_time(80) == []
    assert upstream.pass_time(1) == [""]


async def test_configured_window_follows_the_wall_clock() -> None:
    clock = FakeClock()
    upstream = MaintainedUpstream(clock, maintenance=[window(clock, HOUR, 2 * HOUR)])
    await upstream.poll(live_streams("a"), after=0)
    clock.step(HOUR)
    assert upstream.pass_time(1) == [""]
    clock.step(-HOUR)
    assert upstream.pass_time(1) == []
    clock.step(3 * HOUR)
    assert upstream.pass_time(1) == []


async def test_maintenance_is_published_before_the_first_poll_and_during_a_poll() -> None:
    clock = FakeClock()
    upstream = MaintainedUpstream(clock, maintenance=[window(clock, 0, 60)])
    upstream.control.refresh()
    assert upstream.series() == [""]
    answered = asyncio.Event()
    polling = asyncio.create_task(upstream.poll(answered))
    await asyncio.sleep(0)
    assert upstream.pass_time(60) == []
    await upstream.control.start("u", "", HOUR, "")
    assert upstream.series() == [""]
    answered.set()
    await polling
    assert upstream.series() == [""]


async def test_nothing_is_published_before_the_first_poll_without_maintenance() -> None:
    upstream = MaintainedUpstream()
    upstream.control.refresh()
    assert upstream.store.states() == ()


async def test_maintenance_of_a_failing_upstream_is_exported() -> None:
    upstream = MaintainedUpstream()
    for _ in range(4):
        await upstream.poll(DOWN)
    await upstream.control.start("u", "", HOUR, "")
    await upstream.poll(DOWN)
    assert upstream.series() == [""]


async def test_upstream_of_another_shard_has_no_maintenance() -> None:
    clock = FakeClock()
    upstream = MaintainedUpstream(clock, maintenance=[window(clock, 0, 600)])
    await upstream.poll(PollResult(not_owned=True))
    assert upstream.pass_time(1) == []
    await upstream.poll(live_streams("a"))
    assert upstream.series() == [""]


# -- health observations -----------------------------------------------------------------------------------------------


async def test_health_is_not_observed_during_maintenance() -> None:
    upstream = MaintainedUpstream(streams=[{"key": "c", "expected": True}])
    live = [
        StreamReport(id=id_, live=True, status=Status.LIVE, ingest_bitrate_bytes_per_second=1e6, health_score_ratio=0.9)
        for id_ in ("a", "b")
    ]
    off = StreamReport(id="c", live=False, status=Status.IDLE)

    async def observed() -> dict[str, int]:
        """Poll; return the number of observations by family."""
        before = (
            {h.family: sum(h.counts) for h in upstream.store.states()[0].sampled} if upstream.store.states() else {}
        )
        await upstream.poll(PollResult(streams=(*live, off), listing=live_streams().listing))
        after = {h.family: sum(h.counts) for h in upstream.store.states()[0].sampled}
        return {name.removeprefix("stream_sampled_"): count - before.get(name, 0) for name, count in after.items()}

    bitrate, health = "ingest_bitrate_bytes_per_second", "health_score_ratio"
    assert await observed() == {bitrate: 2, health: 3}
    await upstream.control.start("u", "a", HOUR, "")
    assert await observed() == {bitrate: 2, health: 2}
    await upstream.control.start("u", "c", HOUR, "")
    assert await observed() == {bitrate: 2, health: 1}
    await upstream.control.start("u", "", HOUR, "")
    assert await observed() == {bitrate: 2, health: 0}
    upstream.pass_time(HOUR)
    assert await observed() == {bitrate: 2, health: 3}


# -- windows started by hand -------------------------------------------------------------------------------------------


async def test_manual_window_takes_effect_at_once_and_ends_by_itself() -> None:
    upstream = MaintainedUpstream()
    await upstream.poll(live_streams("a"))
    started = await upstream.control.start("u", "a", 120, "cables")
    assert upstream.series() == ["a"]
    assert upstream.maintenance("a") == Maintenance(until=upstream.clock.now() + 120, reason="cables", is_manual=True)
    assert [(w.id, w.end - w.start, w.is_manual) for w in upstream.control.windows()] == [(started.id, 120, True)]
    assert upstream.pass_time(119) == ["a"]
    assert upstream.pass_time(1) == []
    assert upstream.control.windows() == []


async def test_manual_window_ends_by_hand() -> None:
    upstream = MaintainedUpstream()
    await upstream.poll(live_streams("a"))
    first, second = [await upstream.control.start("u", "", HOUR, "") for _ in range(2)]
    await upstream.control.end(first.id)
    assert upstream.series() == [""]
    await upstream.control.end(second.id)
    assert upstream.series() == []
    with pytest.raises(UnknownWindowError):
        await upstream.control.end(first.id)


async def test_configured_window_cannot_be_ended_by_hand() -> None:
    clock = FakeClock()
    upstream = MaintainedUpstream(clock, maintenance=[window(clock, 60, 120)])
    (configured,) = upstream.control.windows()
    with pytest.raises(ConfiguredWindowError):
        await upstream.control.end(configured.id)


@pytest.mark.parametrize(
    ("stream", "seconds", "reason", "message"),
    [
        ("", MAX_WINDOW_SECONDS + 1, "", "for: expected a duration from 1s to 30d"),
        ("", float("inf"), "", "for: "),
        ("", float("nan"), "", "for: "),
        ("", 0, "", "for: "),
        ("", 60, "x" * 201, "reason: expected at most 200 characters"),
        ("", 60, "a\nb", "reason: control characters are not allowed"),
        ("a\0", 60, "", "stream: control characters are not allowed"),
        ("a" * 1001, 60, "", "stream: expected at most 1000 characters"),
    ],
)
async def test_invalid_window_is_refused(stream: str, seconds: float, reason: str, message: str) -> None:
    upstream = MaintainedUpstream()
    with pytest.raises(InvalidWindowError) as refused:
        await upstream.control.start("u", stream, seconds, reason)
    assert str(refused.value).startswith(message)
    assert upstream.series() == []


async def test_unknown_stream_is_refused_once_the_streams_are_known() -> None:
    upstream = MaintainedUpstream(streams=[{"key": "planned", "name": "Planned"}])
    await upstream.control.start("u", "unknown before the first poll", HOUR, "")
    await upstream.poll(live_streams("a"))
    for known in ("a", "Planned"):
        await upstream.control.start("u", known, HOUR, "")
    with pytest.raises(UnknownTargetError, match="upstream u has no stream 'b'"):
        await upstream.control.start("u", "b", HOUR, "")
    with pytest.raises(UnknownTargetError, match="unknown upstream 'v'"):
        await upstream.control.start("v", "", HOUR, "")


async def test_number_of_windows_is_bounded() -> None:
    manual = ManualMaintenance(FakeClock())
    for _ in range(MAX_WINDOWS):
        manual.start("u", "", HOUR)
    with pytest.raises(TooManyWindowsError):
        manual.start("u", "", HOUR)


@pytest.mark.parametrize("step", [86_400.0, -86_400.0, 10 * 365 * 86_400.0])
async def test_setting_the_clock_does_not_change_the_duration(step: float) -> None:
    upstream = MaintainedUpstream()
    await upstream.poll(live_streams("a"))
    await upstream.control.start("u", "", 120, "")
    upstream.clock.step(step)
    assert upstream.pass_time(119) == [""]
    maintenance = upstream.maintenance()
    assert maintenance is not None
    assert maintenance.until == pytest.approx(upstream.clock.now() + 1, abs=0.01)
    assert upstream.pass_time(1) == []


# -- the state file ----------------------------------------------------------------------------------------------------


class Process:
    """The manual maintenance of one process after another, with the same folder."""

    def __init__(self, folder: Path, clock: FakeClock) -> None:
        self.folder = folder
        self.clock = clock
        self.registry = FamilyRegistry()
        self.manual = ManualMaintenance(clock, MaintenanceMetrics(self.registry))

    async def open(self) -> Process:
        await self.manual.open(self.folder)
        self.manual.keep_only_upstreams({"u", "v"})
        return self

    async def restart(self) -> Process:
        await self.manual.close()
        return await Process(self.folder, self.clock).open()

    def windows(self) -> list[tuple[str, str, float, str]]:
        now = self.clock.instant()
        self.manual.refresh()
        windows = [w for upstream in ("u", "v") for w in self.manual.windows_of(upstream)]
        return [(w.upstream, w.stream, round(self.manual.end_of(w, now) - now.wall), w.reason) for w in windows]

    @property
    def saved(self) -> float | None:
        return self.registry.get_sample_value("stream_exporter_maintenance_saved")


async def test_restart_keeps_manual_windows(tmp_path: Path) -> None:
    process = await Process(tmp_path / "folder", FakeClock()).open()
    assert not (tmp_path / "folder").exists(), "nothing to save"
    assert process.saved is None
    process.manual.start("u", "a", HOUR, "cables")
    process.manual.start("v", "", 60)
    assert await process.manual.save()
    assert process.saved == 1
    process.clock.advance(60)
    process = await process.restart()
    assert process.windows() == [("u", "a", HOUR - 60, "cables")]
    assert (tmp_path / "folder" / FILE_NAME).stat().st_mode & 0o777 == 0o600
    await process.manual.close()


async def test_killed_process_keeps_manual_windows(tmp_path: Path) -> None:
    process = await Process(tmp_path, FakeClock()).open()
    process.manual.start("u", "", HOUR)
    assert await process.manual.save()
    os.rename(tmp_path / f"{FILE_NAME}.lock", tmp_path / "lock of the killed process")
    process.clock.advance(600)
    next_process = await Process(tmp_path, process.clock).open()
    assert next_process.windows() == [("u", "", HOUR - 600, "")]
    await next_process.manual.close()


async def test_reboot_measures_the_downtime_with_the_wall_clock(tmp_path: Path) -> None:
    process = await Process(tmp_path, FakeClock()).open()
    process.manual.start("u", "", HOUR)
    await process.manual.close()
    await process.manual.save()
    await process.manual.close()
    content = (tmp_path / FILE_NAME).read_bytes()
    wall, steady = process.clock.instant()
    for elapsed, left in ((600.0, HOUR - 600), (-86_400.0, HOUR), (HOUR, None)):
        windows = restore_windows(content, Instant(wall + elapsed, 5.0), "next boot")
        assert [w.end_steady - 5.0 for w in windows] == ([] if left is None else [left])
    assert restore_windows(content, Instant(wall - 1e6, steady + HOUR), process.clock.boot_id()) == []


async def test_remaining_time_is_saved_every_minute(tmp_path: Path) -> None:
    """So that a machine whose clock starts at the same time after every reboot does not prolong a window each time."""
    process = await Process(tmp_path, FakeClock()).open()
    process.manual.start("u", "", HOUR)
    await process.manual.save()
    process.clock.advance(61)
    process.manual.refresh()

    def remaining() -> float:
        (saved,) = json.loads((tmp_path / FILE_NAME).read_bytes())["windows"]
        return float(saved["remaining_seconds"])

    async with asyncio.timeout(30):
        while remaining() > HOUR - 61:  # noqa: ASYNC110 - a thread writes
            await asyncio.sleep(0.005)
    await process.manual.close()


async def test_failed_write_in_the_background_is_reported(tmp_path: Path) -> None:
    folder, aside = tmp_path / "folder", tmp_path / "aside"
    process = await Process(folder, FakeClock()).open()
    process.manual.start("u", "", HOUR)
    assert await process.manual.save()
    folder.rename(aside)
    folder.write_text("not a folder")
    for obstacle in (True, False):
        process.clock.advance(61)
        process.manual.refresh()
        async with asyncio.timeout(30):
            while process.saved == obstacle:  # noqa: ASYNC110 - a thread writes
                await asyncio.sleep(0.005)
        assert process.manual.is_saved is not obstacle
        if obstacle:
            folder.unlink()
    await process.manual.open(None)
    assert (process.saved, process.manual.is_saved) == (0, False)


async def test_second_process_keeps_windows_in_memory_only(tmp_path: Path) -> None:
    clock = FakeClock()
    first = await Process(tmp_path, clock).open()
    first.manual.start("u", "", HOUR, "of the first")
    assert await first.manual.save()
    with structlog.testing.capture_logs() as logs:
        second = await Process(tmp_path, clock).open()
        second.manual.start("u", "", HOUR, "of the second")
        assert not await second.manual.save()
    assert second.saved == 0
    assert {line["event"] for line in logs if line["log_level"] == "error"} == {
        "maintenance state file is locked by another process; maintenance state will not survive a restart"
    }
    assert second.windows() == [("u", "", HOUR, "of the second")]
    await second.manual.close()
    first = await first.restart()
    assert first.windows() == [("u", "", HOUR, "of the first")]
    await first.manual.close()


async def test_missing_folder_is_logged_and_windows_work() -> None:
    manual = ManualMaintenance(FakeClock())
    await manual.open(None)
    manual.start("u", "", HOUR)
    with structlog.testing.capture_logs() as logs:
        assert not await manual.save()
    assert "not saved and will not survive a restart" in logs[0]["event"]
    assert len(manual.windows_of("u")) == 1


async def test_window_of_a_removed_upstream_is_dropped_and_logged(tmp_path: Path) -> None:
    process = await Process(tmp_path, FakeClock()).open()
    process.manual.start("u", "", HOUR)
    process.manual.start("v", "", HOUR)
    with structlog.testing.capture_logs() as logs:
        process.manual.keep_only_upstreams({"v"})
    assert [(line["event"], line["upstream"]) for line in logs] == [
        ("maintenance window dropped; its upstream is not configured", "u")
    ]
    assert [upstream for upstream, *_ in process.windows()] == ["v"]


@pytest.mark.parametrize("content", [b"", b"{}", b'{"version":2}', b"\xff", b'{"version":1,"windows":[]}'])
async def test_corrupt_file_is_moved_aside(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    with structlog.testing.capture_logs() as logs:
        process = await Process(tmp_path, FakeClock()).open()
    assert [line["event"] for line in logs] == ["maintenance state file cannot be used; moved aside"]
    assert (tmp_path / f"{FILE_NAME}.broken").read_bytes() == content
    process.manual.start("u", "", HOUR)
    assert await process.manual.save()
    await process.manual.close()


async def test_other_folder_gets_the_windows_after_a_reload(tmp_path: Path) -> None:
    process = await Process(tmp_path / "old", FakeClock()).open()
    process.manual.start("u", "", HOUR)
    await process.manual.save()
    process.folder = tmp_path / "new"
    await process.open()
    process = await process.restart()
    assert process.windows() == [("u", "", HOUR, "")]
    await process.manual.close()


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
saved_windows = st.fixed_dictionaries(
    {
        "id": st.text(min_size=1, max_size=3),
        "upstream": st.sampled_from(["u", ""]),
        "stream": st.text(max_size=3),
        "started_at": st.floats(),
        "seconds": st.floats(),
        "remaining_seconds": st.floats(),
    },
    optional={"reason": st.text(max_size=5)},
)


@given(
    st.binary()
    | st.fixed_dictionaries(
        {
            "version": st.sampled_from([1, 2]),
            "written_at": st.floats() | json_values,
            "written_steady": st.floats(),
            "boot_id": st.sampled_from(["", "boot"]),
            "windows": json_values | st.lists(saved_windows, max_size=3),
        }
    ).map(lambda document: json.dumps(document).encode())
)
def test_any_content_gives_bounded_windows_or_a_value_error(content: bytes) -> None:
    windows, message = [], ""
    try:
        windows = restore_windows(content, Instant(1e9, 1e5), "boot")
    except ValueError as error:
        message = str(error)
    assert message in ("", "it is not a valid state file") or message.startswith("its version is")
    for restored in windows:
        assert 0 < restored.end_steady - 1e5 <= restored.seconds <= MAX_WINDOW_SECONDS
        assert restored.started_at <= 1e9


class ManualWindows(RuleBasedStateMachine):
    """Windows with clock steps, restarts and reboots.

    The model knows how long each window has run on a clock that nobody sets. Within a boot, it must end exactly then.
    While the machine is off, only the wall clock shows the time, so a clock set forwards may end a window early; a
    clock set back never gives it more time than it had when it was last saved.
    """

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.manual = ManualMaintenance(self.clock)
        self.left: dict[str, float] = {}
        """Remaining seconds by id."""

    def pass_model_time(self, seconds: float) -> None:
        self.left = {id_: left - seconds for id_, left in self.left.items() if left > seconds}

    def active(self) -> dict[str, float]:
        now = self.clock.instant()
        self.manual.version(now)
        windows = [w for w in self.manual.windows_of("u") if self.manual.end_of(w, now) > now.wall]
        return {w.id: self.manual.end_of(w, now) - now.wall for w in windows}

    @rule(seconds=st.sampled_from([1.0, 60.0, HOUR, MAX_WINDOW_SECONDS]))
    def start(self, seconds: float) -> None:
        if len(self.left) < 5:
            self.left[self.manual.start("u", "", seconds).id] = seconds

    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        if self.left:
            id_ = data.draw(st.sampled_from(sorted(self.left)))
            assert self.manual.end(id_) is not None
            del self.left[id_]

    @rule(seconds=st.sampled_from([0.5, 1.0, 59.0, 1800.0, 86_400.0]))
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.pass_model_time(seconds)

    @rule(seconds=st.sampled_from([-1e9, -86_400.0, -0.4, 0.4, 2.0, 86_400.0, 1e9]))
    def step(self, seconds: float) -> None:
        if self.clock.now() + seconds > 0:
            self.clock.step(seconds)

    @rule()
    def refresh(self) -> None:
        self.manual.refresh()

    @rule(seconds=st.sampled_from([0.0, 30.0, HOUR]))
    def restart(self, seconds: float) -> None:
        content = self.manual._encode()
        self.clock.advance(seconds)
        self.pass_model_time(seconds)
        restored = restore_windows(content, self.clock.instant(), self.clock.boot_id())
        self.manual = ManualMaintenance(self.clock)
        self.manual._windows = {w.id: w for w in restored}

    @rule(seconds=st.sampled_from([30.0, HOUR]), step=st.sampled_from([-1e9, -HOUR, 0.0]))
    def reboot(self, seconds: float, step: float) -> None:
        content = self.manual._encode()
        if self.clock.now() + step <= 0:
            step = 0.0
        self.clock.advance(seconds)
        self.clock.step(step)
        self.pass_model_time(max(0.0, seconds + step))
        restored = restore_windows(content, self.clock.instant(), f"boot at {self.clock.monotonic()}")
        self.manual = ManualMaintenance(self.clock)
        self.manual._windows = {w.id: w for w in restored}

    @invariant()
    def windows_end_on_time(self) -> None:
        active = self.active()
        assert active.keys() == self.left.keys()
        for id_, left in active.items():
            # the shown end follows a clock step of more than a second
            assert left == pytest.approx(self.left[id_], abs=1.1)


TestManualWindows = ManualWindows.TestCase


def test_duration_needs_no_time_zone() -> None:
    """A window that spans a DST change lasts as long as written, because the offsets are."""
    upstream = MaintainedUpstream(
        maintenance=[{"from": "2026-10-25T02:30:00+02:00", "to": "2026-10-25T02:30:00+01:00"}]
    )
    (configured,) = upstream.coordinator._maintenance.windows({}, Instant(0.0, 0.0))
    assert configured.end - configured.start == HOUR
    assert configured.start == datetime(2026, 10, 25, 0, 30, tzinfo=UTC).timestamp()


def test_ids_of_configured_windows_do_not_change() -> None:
    clock = FakeClock()
    make: Callable[[], MaintainedUpstream] = lambda: MaintainedUpstream(clock, maintenance=[window(clock, 1, 2)])  # noqa: E731
    assert [w.id for w in make().control.windows()] == [w.id for w in make().control.windows()]
