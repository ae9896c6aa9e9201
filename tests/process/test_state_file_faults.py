"""State files that are missing, removed or unsafe, on a real process."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from exporter.alerting.state_file import restore_state
from tests.process.process_environment import (
    UP,
    Alertmanager,
    Platform,
    Running,
    configure,
    running,
)
from tests.real.child_process import wait_until


def make_symlink(path: Path) -> None:
    path.with_name("precious").write_text("precious")
    path.symlink_to(path.with_name("precious"))


@pytest.mark.parametrize("make", [os.mkfifo, make_symlink], ids=["FIFO", "symlink"])
def test_unsafe_state_file_does_not_keep_the_sidecar_from_starting(
    environment: tuple[Platform, Alertmanager], tmp_path: Path, make: Callable[[Path], None]
) -> None:
    platform, alertmanager = environment
    state = tmp_path / "alerts.json"
    configure(tmp_path, platform, state)
    make(state)
    already = len(alertmanager.received("StreamSidecarWatchdog"))
    with running(tmp_path) as process:
        wait_until(lambda: len(alertmanager.received("StreamSidecarWatchdog")) > already, "the sidecar sends")
        wait_until(lambda: not state.is_symlink() and state.is_file(), "the state is saved")
        process.send(signal.SIGTERM)
        assert process.ended() == 0
        assert process.said.count("alert state file cannot be used; moved aside") == 1
    restore_state(state.read_bytes(), time.time())
    assert (tmp_path / "alerts.json.broken").lstat()
    if make is make_symlink:
        assert (tmp_path / "precious").read_text() == "precious"


def test_alert_state_is_saved_again_after_its_folder_was_removed(
    environment: tuple[Platform, Alertmanager], tmp_path: Path
) -> None:
    state = tmp_path / "state" / "alerts.json"
    configure(tmp_path, environment[0], state)
    with running(tmp_path) as process:
        one = Running(process)
        one.wait(UP, lambda up: up == 1, "it is up")
        wait_until(state.exists, "the state is saved")
        shutil.rmtree(state.parent)
        wait_until(state.exists, "the state is saved again")
        one.wait_for_polls()
        one.kept.close()
        process.send(signal.SIGTERM)
        assert process.ended() == 0
        # the folder may have been removed during a write
        assert process.said.count("level=error") == process.said.count("alert state is saved again") <= 1


def test_missing_home_is_logged_once_and_the_sidecar_runs(
    environment: tuple[Platform, Alertmanager], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform, alertmanager = environment
    configure(tmp_path, platform, tmp_path / "unused.json")
    file = tmp_path / "config.yaml"
    configuration = yaml.safe_load(file.read_text())
    del configuration["alerting"]["state_file"]
    file.write_text(yaml.safe_dump(configuration))
    for name in ("HOME", "XDG_STATE_HOME", "STATE_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    already = len(alertmanager.received("StreamSidecarWatchdog"))
    with running(tmp_path) as process:
        wait_until(lambda: len(alertmanager.received("StreamSidecarWatchdog")) > already, "the sidecar sends")
        one = Running(process)
        one.wait_for_polls()
        one.kept.close()
        process.send(signal.SIGTERM)
        assert process.ended() == 0
        assert process.said.count("alert state is not saved") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"config.yaml"}
