from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from exporter.alerting.evaluator import Alert, AlertKey, Phase
from exporter.alerting.self_metrics import SidecarMetrics
from exporter.alerting.state_file import FILE_NAME, VERSION, AlertStateFile, default_state_file, restored
from tests.fake_clock import FakeClock
from tests.sidecar.alertmanagers import turns

NOW = FakeClock().now()
STATE_FILES = Path(__file__).parent / "state_files"

times = st.floats(0, NOW)
texts = st.text(max_size=20).filter(lambda text: text.isprintable())
keys = st.builds(AlertKey, texts, texts, texts, st.lists(texts, max_size=2).map(tuple))
finite = st.floats(allow_nan=False, allow_infinity=False)
common = {"key": keys, "platform": texts, "active_at": times, "value": finite}
words = st.lists(texts, max_size=2).map(tuple)
alerts = st.one_of(
    st.builds(Alert, phase=st.just(Phase.PENDING), fired_at=st.none(), resolved_at=st.none(), reasons=words, **common),
    st.builds(Alert, phase=st.just(Phase.FIRING), fired_at=times, resolved_at=st.none(), issues=words, **common),
    st.builds(Alert, phase=st.just(Phase.RESOLVED), fired_at=times, resolved_at=times, **common),
)


def alert(stream: str = "main", phase: Phase = Phase.PENDING, **more: Any) -> Alert:
    fired = {} if phase is Phase.PENDING else {"fired_at": NOW - 50}
    facts = {"platform": "livepeer", "active_at": NOW - 100, "value": 0.4, **fired, **more}
    return Alert(AlertKey("StreamUnhealthy", "studio", stream), phase=phase, **facts)


class Remembering:
    def __init__(self, path: Path, *known: Alert) -> None:
        self.clock = FakeClock()
        self.registry = CollectorRegistry()
        self.alerts = list(known)
        self.memory = AlertStateFile(
            path, lambda: self.alerts, clock=self.clock, instruments=SidecarMetrics(self.registry)
        )

    @property
    def failures(self) -> float | None:
        return self.registry.get_sample_value("stream_exporter_alert_state_write_failures_total")


@asynccontextmanager
async def remembering(path: Path, *known: Alert) -> AsyncIterator[Remembering]:
    running = Remembering(path, *known)
    assert running.memory.open()
    running.memory.start()
    try:
        yield running
    finally:
        await running.memory.close()


async def until_paused(running: Remembering, writes: int) -> None:
    """Until it pauses after that many writes: the disk may take its time after the content can be read."""
    async with asyncio.timeout(30):
        while len(running.clock.slept) < writes:  # noqa: ASYNC110 - a thread writes
            await asyncio.sleep(0.005)


@given(st.lists(alerts, max_size=5))
async def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, known: list[Alert]) -> None:
    path = tmp_path_factory.mktemp("state") / "folder" / "alerts.json"
    async with remembering(path, *known):
        pass
    async with remembering(path) as running:
        assert running.memory.load() == known
    assert path.stat().st_mode & 0o777 == 0o600


def assert_readable(content: bytes) -> None:
    said = ""
    try:
        restored(content, NOW)
    except ValueError as error:
        said = str(error)
    assert said in ("", "it is no memory of alerts") or said.startswith("it is of version")


@given(st.binary() | st.text().map(str.encode))
def test_any_content_is_alerts_or_a_value_error(content: bytes) -> None:
    assert_readable(content)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.fixed_dictionaries({"version": st.just(1), "written_at": st.floats() | json_values, "alerts": json_values}))
def test_any_document_is_alerts_or_a_value_error(document: dict[str, Any]) -> None:
    assert_readable(json.dumps(document).encode())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"version":1,"written_at":', "it is no memory of alerts"),
        ("", "it is no memory of alerts"),
        ('{"version":2,"more":"alerts"}', "it is of version 2, this exporter knows 1"),
    ],
)
async def test_a_broken_file_is_put_aside(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "alerts.json"
    path.write_text(content)
    with structlog.testing.capture_logs() as logs:
        async with remembering(path) as running:
            assert running.memory.load() == []
            assert not path.exists()
    assert (tmp_path / "alerts.json.broken").read_text() == content
    (line,) = logs
    assert (line["event"], line["error"]) == ("alerts of before can't be understood", said)
    assert json.loads(path.read_text())["alerts"] == []


@pytest.mark.parametrize("version", range(1, VERSION + 1))
def test_a_file_of_each_version_that_there_ever_was_is_read(version: int) -> None:
    """Committed as that version wrote it: whoever raises VERSION adds a file here, and goes on reading the others."""
    known = restored((STATE_FILES / f"version-{version}.json").read_bytes(), NOW)
    assert {found.phase for found in known} == set(Phase)
    (firing,) = [found for found in known if found.phase is Phase.FIRING]
    assert firing.key == AlertKey("StreamUnhealthy", "studio", "main-stage")
    assert (firing.active_at, firing.fired_at) == (NOW - 600, NOW - 480)


async def test_a_file_that_cannot_be_read_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "alerts.json"
    path.mkdir()
    with structlog.testing.capture_logs() as logs:
        assert Remembering(path).memory.load() == []
    assert logs[0]["event"] == "alerts of before can't be read"


async def test_for_begins_again_after_a_long_absence(tmp_path: Path) -> None:
    path = tmp_path / "alerts.json"
    pending, firing = alert(), alert("other", Phase.FIRING)
    async with remembering(path, pending, firing):
        pass
    content = path.read_bytes()
    assert restored(content, NOW + 599) == [pending, firing]
    assert restored(content, NOW + 601) == [firing]


@pytest.mark.parametrize(
    "unsound",
    [
        alert(active_at=NOW + 60),
        alert(phase=Phase.FIRING, fired_at=None),
        alert(phase=Phase.FIRING, keep_since=-1.0),
        alert(phase=Phase.RESOLVED),
    ],
)
async def test_alerts_that_cannot_be_are_left_out(tmp_path: Path, unsound: Alert) -> None:
    path = tmp_path / "alerts.json"
    async with remembering(path, unsound, alert("sound")):
        pass
    assert restored(path.read_bytes(), NOW) == [alert("sound")]


async def test_it_writes_soon_but_not_often(tmp_path: Path) -> None:
    path = tmp_path / "alerts.json"
    async with remembering(path, alert("first")) as running:
        running.memory.changed()
        await until_paused(running, writes=1)
        assert "first" in path.read_text()
        running.alerts.append(alert("second"))
        running.memory.changed()
        await turns()
        assert "second" not in path.read_text()
        running.clock.advance(5)
        await until_paused(running, writes=2)
        assert "second" in path.read_text()
        running.alerts.append(alert("last"))
    assert "last" in path.read_text()
    assert set(os.listdir(tmp_path)) == {"alerts.json", "alerts.json.lock"}


async def test_a_place_that_cannot_be_written_is_told_once(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    path = folder / "alerts.json"
    with structlog.testing.capture_logs() as logs:
        async with remembering(path, alert("first")) as running:
            assert running.failures == 0
            # no process may write a file where a folder stands, whoever it runs as
            (folder / ".alerts.json.new").mkdir()
            for attempt in (1, 2, 3):
                running.memory.changed()
                await until_paused(running, writes=attempt)
                assert running.failures == attempt
                running.clock.advance(5)
            (folder / ".alerts.json.new").rmdir()
            running.memory.changed()
            await until_paused(running, writes=4)
            assert "first" in path.read_text()
    assert [(line["log_level"], line["event"]) for line in logs] == [
        ("error", "alerts can't be remembered"),
        ("info", "alerts are remembered again"),
    ]


async def test_a_place_that_can_never_be_costs_nothing_but_the_memory() -> None:
    """Below a device there are no files. A full disk is tried on a process: tests/process/."""
    running = Remembering(Path("/dev/full/alerts.json"), alert())
    with structlog.testing.capture_logs() as logs:
        assert running.memory.open()
        await running.memory.close()
    assert running.failures == 2
    assert [line["event"] for line in logs] == ["alerts can't be remembered"]


async def test_what_cannot_be_written_down_is_told(tmp_path: Path) -> None:
    async with remembering(tmp_path / "alerts.json", alert()) as running:
        running.alerts = [object()]  # type: ignore[list-item]
        with structlog.testing.capture_logs() as logs:
            await running.memory.close()
    assert logs[0]["event"] == "alerts not remembered"
    assert running.failures


async def test_two_processes_do_not_share_it(tmp_path: Path) -> None:
    path = tmp_path / "alerts.json"
    async with remembering(path):
        with structlog.testing.capture_logs() as logs:
            assert not Remembering(path).memory.open()
        assert logs[0]["event"] == "another process uses this file of alerts, this one remembers none"
    async with remembering(path):
        pass


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"STATE_DIRECTORY": "/var/lib/stream-exporter"}, f"/var/lib/stream-exporter/{FILE_NAME}"),
        ({"STATE_DIRECTORY": "/one:/two", "HOME": "/home/me"}, f"/one/{FILE_NAME}"),
        ({"XDG_STATE_HOME": "/state", "HOME": "/home/me"}, f"/state/stream-exporter/{FILE_NAME}"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/home/me"}, f"/home/me/.local/state/stream-exporter/{FILE_NAME}"),
        ({}, None),
        ({"HOME": ""}, None),
    ],
)
def test_where_it_is_when_nobody_says(environ: dict[str, str], expected: str | None) -> None:
    assert default_state_file(environ) == (None if expected is None else Path(expected))


def test_a_crash_while_writing_leaves_the_old_content(tmp_path: Path) -> None:
    """The new file takes the old one's place as a whole: a reader sees the one or the other, never a part."""
    path = tmp_path / "alerts.json"
    path.write_text("old")
    running = Remembering(path)
    held = os.open(path, os.O_RDONLY)
    running.memory._replace(b"new")
    assert os.read(held, 10) == b"old"
    os.close(held)
    assert path.read_bytes() == b"new"
