from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
from hypothesis import given
from hypothesis import strategies as st

from exporter.alerting.evaluator import Alert, AlertKey, Phase
from exporter.alerting.payload import AlertFormatter
from exporter.alerting.rules.active_rules import rules_in_force
from exporter.alerting.self_metrics import SidecarMetrics
from exporter.alerting.state_file import (
    VERSION,
    AlertState,
    AlertStateFile,
    restore_state,
)
from exporter.alerting.webhooks import NotifiedGroup
from exporter.metrics.self_metrics import FamilyRegistry
from exporter.runtime.state_files import MAX_BYTES, MAX_SECONDS, default_state_folder
from tests.fake_clock import FakeClock
from tests.sidecar.fake_alertmanager import run_event_loop

CLOCK = FakeClock()
NOW, STEADY, BOOT = CLOCK.now(), CLOCK.monotonic(), CLOCK.boot_id()
STATE_FILES = Path(__file__).parent / "state_files"
LAST_SECOND = 253_402_300_799.0
"""The end of the year 9999."""

unix_times = st.floats(0, NOW)
steady_times = st.floats(-1e9, STEADY)
printable = st.characters(exclude_categories=["C", "Z"], include_characters=" ")
texts = st.text(printable, max_size=20)
keys = st.builds(AlertKey, texts, texts, texts, st.lists(texts, max_size=2).map(tuple), texts)
finite = st.floats(allow_nan=False, allow_infinity=False)
common = {"key": keys, "platform": texts, "active_at": unix_times, "active_steady": steady_times, "value": finite}
words = st.lists(texts, max_size=2).map(tuple)
kept = {"keep_since": unix_times, "keep_steady": steady_times}
resolved = {"fired_at": unix_times, "resolved_at": unix_times, "resolved_steady": steady_times}
alerts = st.one_of(
    st.builds(Alert, phase=st.just(Phase.PENDING), reasons=words, state=texts, **common),
    st.builds(Alert, phase=st.just(Phase.FIRING), fired_at=unix_times, issues=words, **common),
    st.builds(Alert, phase=st.just(Phase.FIRING), fired_at=unix_times, **kept, **common),
    st.builds(Alert, phase=st.just(Phase.RESOLVED), **resolved, **common),
)


def alert(stream: str = "main", phase: Phase = Phase.PENDING, **more: Any) -> Alert:
    """Return an alert that has been active for 100 s."""
    facts: dict[str, Any] = {
        "platform": "livepeer",
        "active_at": NOW - 100,
        "active_steady": STEADY - 100,
        "value": 0.4,
    }
    if phase is not Phase.PENDING:
        facts["fired_at"] = NOW - 50
    return Alert(AlertKey("StreamUnhealthy", "studio", stream), phase=phase, **facts | more)


def restored_alerts(*arguments: Any) -> list[Alert]:
    return restore_state(*arguments).alerts


class StateFileHarness:
    def __init__(self, path: Path, *known: Alert, clock: FakeClock | None = None) -> None:
        self.clock = clock or FakeClock()
        self.registry = FamilyRegistry()
        self.alerts = list(known)
        self.webhooks: dict[str, list[NotifiedGroup]] = {}
        self.state_file = AlertStateFile(
            path,
            lambda: AlertState(self.alerts, self.webhooks),
            clock=self.clock,
            metrics=SidecarMetrics(self.registry),
        )

    @property
    def saved(self) -> float | None:
        return self.registry.get_sample_value("stream_exporter_alert_state_saved")

    @property
    def failures(self) -> float | None:
        return self.registry.get_sample_value("stream_exporter_alert_state_write_failures_total")


@asynccontextmanager
async def running_state_file(path: Path, *known: Alert) -> AsyncIterator[StateFileHarness]:
    running = StateFileHarness(path, *known)
    assert running.state_file.lock()
    running.state_file.start()
    try:
        yield running
    finally:
        await running.state_file.close()


async def wait_for_writes(running: StateFileHarness, writes: int) -> None:
    """Wait for the pause after this many writes; fsync may finish after the content is readable."""
    async with asyncio.timeout(30):
        while len(running.clock.slept) < writes:  # noqa: ASYNC110 - a thread writes
            await asyncio.sleep(0.005)


groups = st.builds(NotifiedGroup, texts, st.lists(keys, max_size=3), steady_times)


@given(st.lists(alerts, max_size=5), st.dictionaries(texts, st.lists(groups, max_size=3), max_size=2))
async def test_written_state_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, known: list[Alert], webhooks: dict[str, list[NotifiedGroup]]
) -> None:
    path = tmp_path_factory.mktemp("state") / "folder" / "alerts.json"
    async with running_state_file(path, *known) as running:
        running.webhooks = webhooks
    async with running_state_file(path) as running:
        assert running.state_file.load() == AlertState(known, webhooks)
    assert path.stat().st_mode & 0o777 == 0o600


def assert_alerts_or_value_error(content: bytes) -> None:
    message = ""
    try:
        restored_alerts(content, NOW)
    except ValueError as error:
        message = str(error)
    assert message in ("", "it is not a valid state file") or message.startswith("its version is")


@given(st.binary() | st.text().map(str.encode))
def test_any_content_gives_alerts_or_a_value_error(content: bytes) -> None:
    assert_alerts_or_value_error(content)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.fixed_dictionaries(
        {"version": st.sampled_from([1, 2]), "written_at": st.floats() | json_values, "alerts": json_values},
        optional={"webhooks": json_values},
    )
)
def test_any_document_gives_alerts_or_a_value_error(document: dict[str, Any]) -> None:
    assert_alerts_or_value_error(json.dumps(document).encode())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"version":1,"written_at":', "it is not a valid state file"),
        ("", "it is not a valid state file"),
        ('{"version":3,"more":"alerts"}', "its version is 3; this exporter reads versions 1 and 2"),
        ('{"version":2,"written_at":1e300,"alerts":[]}', "it is not a valid state file"),
    ],
)
async def test_corrupt_file_is_moved_aside(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "alerts.json"
    path.write_text(content)
    with structlog.testing.capture_logs() as logs:
        async with running_state_file(path) as running:
            assert running.state_file.load() == AlertState()
            assert not path.exists()
    assert (tmp_path / "alerts.json.broken").read_text() == content
    (line,) = logs
    assert (line["event"], line["error"]) == ("alert state file cannot be used; moved aside", message)
    assert json.loads(path.read_text())["alerts"] == []


@pytest.mark.parametrize("version", range(1, VERSION + 1))
def test_file_of_every_version_is_read(version: int) -> None:
    """The files were written by each version. When raising VERSION, add a file and keep reading the others."""
    known = restored_alerts((STATE_FILES / f"version-{version}.json").read_bytes(), NOW)
    assert {found.phase for found in known} == set(Phase)
    (firing,) = [found for found in known if found.phase is Phase.FIRING]
    assert firing.key == AlertKey("StreamUnhealthy", "studio", "main-stage")
    assert (firing.active_at, firing.fired_at) == (NOW - 600, NOW - 480)


def make_symlink(path: Path) -> None:
    target = path.with_name("target")
    target.write_text("precious")
    path.symlink_to(target)


def make_foreign(path: Path) -> None:
    path.write_text('{"version":2,"written_at":1,"alerts":[]}')
    os.chown(path, 1234, 1234)


def make_too_large(path: Path) -> None:
    path.touch()
    os.truncate(path, MAX_BYTES + 1)


UNSAFE: dict[str, Callable[[Path], None]] = {
    "symlink": make_symlink,
    "dangling symlink": lambda path: path.symlink_to("nowhere"),
    "FIFO": os.mkfifo,
    "folder": Path.mkdir,
    "socket": lambda path: os.mknod(path, stat.S_IFSOCK | 0o600),
    "too large": make_too_large,
}


@pytest.mark.parametrize("kind", [*UNSAFE, "another user's file"])
async def test_unsafe_file_is_refused_and_moved_aside(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "alerts.json"
    if kind in UNSAFE:
        UNSAFE[kind](path)
    elif os.geteuid() == 0:
        make_foreign(path)
    else:
        pytest.skip("only root can give a file to another user")
    before = path.lstat()
    with structlog.testing.capture_logs() as logs:
        async with running_state_file(path, alert("new")) as running:
            assert running.state_file.load() == AlertState()
    assert [line["event"] for line in logs] == ["alert state file cannot be used; moved aside"]
    aside = (tmp_path / "alerts.json.broken").lstat()
    assert (aside.st_ino, aside.st_mode) == (before.st_ino, before.st_mode)
    assert "new" in path.read_text()
    assert stat.S_ISREG(path.lstat().st_mode)
    if kind == "symlink":
        assert (tmp_path / "target").read_text() == "precious"


async def test_unusable_file_that_cannot_be_moved_does_not_stop_the_sidecar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "alerts.json"
    path.write_text("?")

    def refuse(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "replace", refuse)
    with structlog.testing.capture_logs() as logs:
        running = StateFileHarness(path, alert())
        assert running.state_file.load() == AlertState()
        await running.state_file.close()
    assert [line["event"] for line in logs] == [
        "alert state file cannot be used or moved aside",
        "alert state cannot be saved; retrying with every change",
    ]
    assert path.read_text() == "?"


@pytest.mark.parametrize("kind", ["symlink", "file"])
async def test_leftover_temporary_file_is_replaced_and_not_followed(tmp_path: Path, kind: str) -> None:
    path, target = tmp_path / "alerts.json", tmp_path / "target"
    target.write_text("precious")
    in_the_way = tmp_path / ".alerts.json.new"
    if kind == "symlink":
        in_the_way.symlink_to(target)
    else:
        in_the_way.write_text("left by a crash")
    async with running_state_file(path, alert("new")):
        pass
    assert target.read_text() == "precious"
    assert "new" in path.read_text()
    assert not in_the_way.exists()


async def test_removed_folder_is_created_again_and_locked(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "alerts.json"
    async with running_state_file(path, alert("first")) as running:
        running.state_file.request_write()
        await wait_for_writes(running, writes=1)
        await asyncio.to_thread(shutil.rmtree, path.parent)
        running.clock.advance(5)
        running.state_file.request_write()
        await wait_for_writes(running, writes=2)
        assert "first" in path.read_text()
        assert running.failures == 0
        assert not StateFileHarness(path).state_file.lock()
        await asyncio.to_thread(shutil.rmtree, path.parent)
        other = StateFileHarness(path)
        assert other.state_file.lock()
        running.clock.advance(5)
        running.state_file.request_write()
        await wait_for_writes(running, writes=3)
        assert running.failures == 1, "another process has locked it"
        await other.state_file.close()


async def write(path: Path, *known: Alert, clock: FakeClock | None = None) -> bytes:
    """Write a state file at ``NOW``, or at the clock's time, and return its content."""
    await StateFileHarness(path, *known, clock=clock).state_file.close()
    return await asyncio.to_thread(path.read_bytes)


@pytest.mark.parametrize("clock_step", [0.0, 3600.0, -3600.0, 86400.0, -86400.0])
async def test_clock_step_within_one_boot_changes_no_duration(tmp_path: Path, clock_step: float) -> None:
    known = [
        alert(),
        alert("kept", Phase.FIRING, keep_since=NOW - 30, keep_steady=STEADY - 30),
        alert("kept in an outage", Phase.FIRING, keep_steady=STEADY - 30),
        alert("ended", Phase.RESOLVED, resolved_at=NOW - 10, resolved_steady=STEADY - 10),
    ]
    content = await write(tmp_path / "alerts.json", *known)
    assert restored_alerts(content, NOW + 599 + clock_step, STEADY + 599, BOOT) == known
    assert restored_alerts(content, NOW + 601 + clock_step, STEADY + 601, BOOT) == known[1:], "down for too long"


@pytest.mark.parametrize("clock_step", [0.0, 3600.0, -3600.0])
async def test_downtime_across_a_reboot_is_measured_with_the_wall_clock(tmp_path: Path, clock_step: float) -> None:
    """A clock step before the file was written makes no difference."""
    clock = FakeClock()
    clock.step(clock_step)
    known = alert("kept", Phase.FIRING, keep_since=NOW - 30, keep_steady=STEADY - 30)
    content = await write(tmp_path / "alerts.json", alert(), known, clock=clock)
    pending, firing = restored_alerts(content, clock.now() + 60, 5.0, "next boot")
    assert 5.0 - pending.active_steady == 160
    assert firing.keep_steady is not None
    assert 5.0 - firing.keep_steady == 90
    assert (firing.fired_at, firing.active_at) == (known.fired_at, known.active_at), "times are sent unchanged"
    assert [a.key.stream for a in restored_alerts(content, clock.now() + 601, 5.0, "next boot")] == ["kept"]


async def test_clock_behind_the_file_after_a_reboot_loses_no_alert(tmp_path: Path) -> None:
    """Without a battery, the clock may start years ago. The downtime then counts as 0."""
    content = await write(tmp_path / "alerts.json", alert(), alert("other", Phase.FIRING))
    pending, firing = restored_alerts(content, 100.0, 5.0, "next boot")
    assert [5.0 - a.active_steady for a in (pending, firing)] == [100, 100]
    assert firing.fired_at == NOW - 50


async def test_time_in_the_future_counts_as_now(tmp_path: Path) -> None:
    ahead = alert("ended", Phase.RESOLVED, resolved_at=NOW + 60, resolved_steady=STEADY + 60)
    ahead.active_at, ahead.active_steady = NOW + 60, STEADY + 60
    content = await write(tmp_path / "alerts.json", ahead)
    for boot in (BOOT, "next boot"):
        [found] = restored_alerts(content, NOW, STEADY, boot)
        assert (found.active_steady, found.resolved_steady) == (STEADY, STEADY)


@pytest.mark.parametrize("boot", [BOOT, "next boot"])
async def test_paused_alert_is_still_paused_after_a_restart(tmp_path: Path, boot: str) -> None:
    """60 s of its ``for`` have passed, regardless of the downtime."""
    content = await write(tmp_path / "alerts.json", alert(stopped_steady=STEADY - 40))
    steady_now = STEADY + 300 if boot == BOOT else 5.0
    [found] = restored_alerts(content, NOW + 300, steady_now, boot)
    assert found.stopped_steady is not None
    assert (steady_now - found.stopped_steady, found.stopped_steady - found.active_steady) == (340, 60)


@pytest.mark.parametrize("stopped", [STEADY + 60, STEADY - 1e11])
async def test_impossible_pause_time_delays_an_alert_by_at_most_its_for(tmp_path: Path, stopped: float) -> None:
    content = await write(tmp_path / "alerts.json", alert(stopped_steady=stopped))
    [found] = restored_alerts(content, NOW, STEADY, BOOT)
    assert found.stopped_steady is not None
    assert found.active_steady <= found.stopped_steady <= STEADY


async def test_unknown_boot_counts_as_another_boot(tmp_path: Path) -> None:
    clock = FakeClock(boot="")
    content = await write(tmp_path / "alerts.json", alert(), clock=clock)
    [found] = restored_alerts(content, NOW + 60, STEADY, "")
    assert STEADY - found.active_steady == 160


@pytest.mark.parametrize("now", [NOW, NOW - 3600])
def test_version_1_counts_as_another_boot(now: float) -> None:
    """Version 1 has only wall times. The file was written 15 s ago."""
    found = {a.phase: a for a in restored_alerts((STATE_FILES / "version-1.json").read_bytes(), now, STEADY, BOOT)}
    away = 15 if now == NOW else 0
    assert STEADY - found[Phase.FIRING].active_steady == 585 + away
    assert STEADY - found[Phase.PENDING].active_steady == 5 + away
    assert found[Phase.FIRING].fired_at == NOW - 480


@pytest.mark.parametrize(
    "unsound",
    [
        alert(active_at=1e12),
        alert(phase=Phase.FIRING, fired_at=LAST_SECOND),
        alert(stopped_steady=1e300),
        alert(active_steady=-1e300),
        alert(phase=Phase.FIRING, fired_at=None),
        alert(phase=Phase.FIRING, keep_since=-1.0, keep_steady=1.0),
        alert(phase=Phase.FIRING, keep_since=1.0),
        alert(phase=Phase.RESOLVED),
        alert(phase=Phase.RESOLVED, resolved_at=1.0),
    ],
)
async def test_alerts_with_impossible_times_are_dropped(tmp_path: Path, unsound: Alert) -> None:
    content = await write(tmp_path / "alerts.json", unsound, alert("sound"))
    assert restored_alerts(content, NOW, STEADY, BOOT) == [alert("sound")]


async def test_latest_accepted_times_can_be_sent(tmp_path: Path) -> None:
    """An alert ends after it starts, but its end must not be after the year 9999."""
    latest = alert(phase=Phase.FIRING, fired_at=MAX_SECONDS, keep_since=MAX_SECONDS, keep_steady=STEADY)
    latest.key = replace(latest.key, severity="critical")
    [found] = restored_alerts(await write(tmp_path / "alerts.json", latest), NOW, STEADY, BOOT)
    sent = AlertFormatter(rules_in_force(), {}).payload(found, 240.0).to_json(NOW)
    assert sent["endsAt"] == "9999-01-01T00:03:59Z"
    assert sent["annotations"]["cleared"].startswith("condition cleared")


async def test_changes_are_written_soon_but_not_often(tmp_path: Path) -> None:
    path = tmp_path / "alerts.json"
    async with running_state_file(path, alert("first")) as running:
        running.state_file.request_write()
        await wait_for_writes(running, writes=1)
        assert "first" in path.read_text()
        running.alerts.append(alert("second"))
        running.state_file.request_write()
        await run_event_loop()
        assert "second" not in path.read_text()
        running.clock.advance(5)
        await wait_for_writes(running, writes=2)
        assert "second" in path.read_text()
        running.alerts.append(alert("last"))
    assert "last" in path.read_text()
    assert set(os.listdir(tmp_path)) == {"alerts.json", "alerts.json.lock"}


async def test_failed_write_is_logged_once(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    path = folder / "alerts.json"
    with structlog.testing.capture_logs() as logs:
        async with running_state_file(path, alert("first")) as running:
            assert (running.failures, running.saved) == (0, 1)
            # a folder in the way fails the write, even for root
            (folder / ".alerts.json.new").mkdir()
            for attempt in (1, 2, 3):
                running.state_file.request_write()
                await wait_for_writes(running, writes=attempt)
                assert (running.failures, running.saved) == (attempt, 0)
                running.clock.advance(5)
            (folder / ".alerts.json.new").rmdir()
            running.state_file.request_write()
            await wait_for_writes(running, writes=4)
            assert "first" in path.read_text()
            assert running.saved == 1
    assert [(line["log_level"], line["event"]) for line in logs] == [
        ("error", "alert state cannot be saved; retrying with every change"),
        ("info", "alert state is saved again"),
    ]


async def test_unusable_path_is_logged_once_and_counted() -> None:
    """A device cannot contain files. ``tests/process`` has a full disk."""
    running = StateFileHarness(Path("/dev/full/alerts.json"), alert())
    with structlog.testing.capture_logs() as logs:
        assert running.state_file.lock()
        running.state_file.start()
        assert running.saved == 0
        await running.state_file.close()
    assert (running.failures, running.saved) == (2, 0)
    assert [line["event"] for line in logs] == ["alert state cannot be saved; retrying with every change"]


async def test_hung_file_system_does_not_block_and_is_written_to_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, answers, fsync = tmp_path / "alerts.json", threading.Event(), os.fsync

    def hang(descriptor: int) -> None:
        assert answers.wait(60)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", hang)
    monkeypatch.setattr("exporter.runtime.state_files.WRITE_DEADLINE_SECONDS", 0.01)
    with structlog.testing.capture_logs() as logs:
        running = StateFileHarness(path, alert("first"))
        running.state_file.lock()
        for _ in range(2):
            await running.state_file.close()
        assert running.failures == 2
        monkeypatch.setattr("exporter.runtime.state_files.WRITE_DEADLINE_SECONDS", 60.0)
        running.alerts = [alert("second")]
        answers.set()
        await running.state_file.close()
    assert "second" in path.read_text()
    assert [(line["event"], line.get("error")) for line in logs] == [
        (
            "alert state cannot be saved; retrying with every change",
            "no answer from the file system within 0.01 s",
        ),
        ("alert state is saved again", None),
    ]


async def test_unencodable_alert_is_logged(tmp_path: Path) -> None:
    async with running_state_file(tmp_path / "alerts.json", alert()) as running:
        running.alerts = [object()]  # type: ignore[list-item]
        with structlog.testing.capture_logs() as logs:
            await running.state_file.close()
    assert logs[0]["event"] == "alert state could not be saved"
    assert running.failures


async def test_second_process_cannot_lock_the_file(tmp_path: Path) -> None:
    path = tmp_path / "alerts.json"
    async with running_state_file(path):
        with structlog.testing.capture_logs() as logs:
            assert not StateFileHarness(path).state_file.lock()
        assert "locked by another process" in logs[0]["event"]
    async with running_state_file(path):
        pass


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"STATE_DIRECTORY": "/var/lib/stream-exporter"}, "/var/lib/stream-exporter"),
        ({"STATE_DIRECTORY": "/one:/two", "HOME": "/home/me"}, "/one"),
        ({"XDG_STATE_HOME": "/state", "HOME": "/home/me"}, "/state/stream-exporter"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/home/me"}, "/home/me/.local/state/stream-exporter"),
        ({}, None),
        ({"HOME": ""}, None),
    ],
)
def test_default_folder_comes_from_the_environment(environ: dict[str, str], expected: str | None) -> None:
    assert default_state_folder(environ) == (None if expected is None else Path(expected))


async def test_file_is_replaced_atomically(tmp_path: Path) -> None:
    """A reader sees either the old or the new content, never a part."""
    path = tmp_path / "alerts.json"
    path.write_text("old")
    with path.open() as old:
        await StateFileHarness(path, alert("new")).state_file.close()
        assert old.read() == "old"
    assert "new" in path.read_text()
