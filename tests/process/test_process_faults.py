"""Faults of a real exporter process: killed, stopped, full disk, no file descriptors, endless requests."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import yaml

from exporter.alerting.evaluator import Alert
from exporter.alerting.state_file import restore_state
from tests.exporter_process import GENEROUS_SECONDS
from tests.process.process_environment import (
    DOWN,
    UP,
    WRITE_FAILURES,
    Alertmanager,
    Platform,
    Running,
    configure,
    metric,
    running,
)
from tests.real.child_process import wait_until


@pytest.fixture(scope="module")
def exporter(environment: tuple[Platform, Alertmanager], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("faults")
    with disk(directory / "state") as state:
        configure(directory, environment[0], state / "alerts.json")
        with running(directory) as process:
            one = Running(process)
            one.wait(UP, lambda up: up == 1, "it is up")
            yield one
            one.kept.close()
            process.send(signal.SIGTERM)
            assert process.ended() == 0
            assert "Traceback" not in process.said


@contextmanager
def disk(place: Path) -> Iterator[Path]:
    """Mount a file system of 256 kB if permitted; otherwise use a folder."""
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "none", place], capture_output=True, check=False
    )
    try:
        yield place
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "--lazy", place], check=True)


def test_killed_exporter_resumes_its_alerts_after_a_restart(
    environment: tuple[Platform, Alertmanager], tmp_path: Path
) -> None:
    platform, alertmanager = environment
    state = tmp_path / "alerts.json"
    configure(tmp_path, platform, state)
    platform.status = 503
    already = len(alertmanager.received(DOWN))
    try:
        with running(tmp_path) as first:
            wait_until(lambda: len(alertmanager.received(DOWN)) > already, "it alerts", otherwise=lambda: first.said)
            wait_until(lambda: state.exists() and '"firing"' in state.read_text(), "the alert is saved")
            first.process.kill()
            first.ended()
        [remembered] = saved(state, DOWN)
        before = alertmanager.received(DOWN)
        with running(tmp_path) as second:
            wait_until(
                lambda: len(alertmanager.received(DOWN)) > len(before),
                "it sends the alert again",
                otherwise=lambda: second.said,
            )
            one = Running(second)
            firing = rf'stream_exporter_alerts\{{alertname="{DOWN}",state="firing"\}}'
            one.wait(firing, lambda count: count == 1, "it fires once")
            platform.status = 200
            one.wait(UP, lambda up: up == 1, "it is up again")
            one.wait(r"stream_live\{.*\}", lambda live: live == 1, "its stream is back")
            received = alertmanager.received(DOWN)[already:]
            assert len({json.dumps(alert["labels"], sort_keys=True) for alert in received}) == 1
            assert len({alert["startsAt"] for alert in received}) == 1
            assert all(alert["endsAt"] > received[-1]["startsAt"] for alert in received)
            [after] = saved(state, DOWN)
            assert (after.active_at, after.fired_at) == (remembered.active_at, remembered.fired_at)
            one.kept.close()
            second.send(signal.SIGTERM)
            assert second.ended() == 0
            assert "level=error" not in second.said
        # only the state file and its lock remain
        assert {path.name for path in tmp_path.iterdir()} == {"config.yaml", "alerts.json", "alerts.json.lock"}
    finally:
        platform.status = 200


WRITING_ALL_THE_TIME = """
import sys
from pathlib import Path
from exporter.alerting.self_metrics import SidecarMetrics
from exporter.alerting.state_file import AlertState, AlertStateFile
from exporter.metrics.self_metrics import FamilyRegistry
from exporter.runtime.clock import Clock
state_file = AlertStateFile(
    Path(sys.argv[1]), AlertState, clock=Clock(), metrics=SidecarMetrics(FamilyRegistry())
)
print("writing", flush=True)
while True:
    for letter in b"abc":
        state_file._replace_file(bytes([letter]) * 300_000)
"""


def test_state_file_is_complete_after_a_kill_while_writing(tmp_path: Path) -> None:
    path = tmp_path / "alerts.json"
    for _ in range(4):
        with subprocess.Popen([sys.executable, "-c", WRITING_ALL_THE_TIME, path], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            wait_until(path.exists, "it has written once")
            time.sleep(random.uniform(0.0, 0.05))
            writer.kill()
        content = path.read_bytes()
        assert len(content) == 300_000
        assert len(set(content)) == 1


def test_full_file_system_costs_only_the_alert_state_until_there_is_room(exporter: Running) -> None:
    state = Path(yaml.safe_load(exporter.process.ask("/config")[1])["alerting"]["state_file"])
    wait_until(state.exists, "the state is saved")
    assert_refused_then_recovered(
        exporter,
        state,
        lambda: exporter.limit(resource.RLIMIT_FSIZE, 1),
        lambda: exporter.limit(resource.RLIMIT_FSIZE, None),
    )
    ballast = state.parent / "ballast"
    # without the mount, this would fill the disk of the machine
    if os.path.ismount(state.parent):
        assert_refused_then_recovered(exporter, state, lambda: fill(ballast), ballast.unlink)


def saved(state: Path, rule: str) -> list[Alert]:
    """Return the alerts of a rule in the state file."""
    return [alert for alert in restore_state(state.read_bytes(), time.time()).alerts if alert.key.rule == rule]


def assert_refused_then_recovered(
    exporter: Running, state: Path, begin: Callable[[], object], end: Callable[[], object]
) -> None:
    """Check that failed writes between ``begin`` and ``end`` are logged once and do not stop polls."""
    said = len(exporter.process.said)
    failures = metric(exporter.scrape(), WRITE_FAILURES) or 0.0
    begin()
    try:
        exporter.wait(WRITE_FAILURES, lambda now: now >= failures + 2, "it can't write")
        exporter.wait_for_polls()
        restore_state(state.read_bytes(), time.time())
    finally:
        end()
    wait_until(lambda: "alert state is saved again" in exporter.process.said[said:], "it writes again")
    restore_state(state.read_bytes(), time.time())
    # once, however many writes failed
    assert exporter.process.said[said:].count("alert state cannot be saved") == 1
    assert not list(state.parent.glob(".*.new"))


def fill(file: Path) -> None:
    """Fill the file system to the last byte."""
    with file.open("wb", buffering=0) as ballast:
        for size in (4096, 1):
            try:
                while True:
                    ballast.write(b"\0" * size)
            except OSError:
                continue


def test_polls_without_file_descriptors_fail_with_their_reason_and_metrics_are_served(exporter: Running) -> None:
    exporter.wait_for_polls()
    process = exporter.process
    in_use = len(os.listdir(f"/proc/{process.process.pid}/fd"))
    failed = r'stream_upstream_poll_failures_total\{.*reason="connect".*\}'
    before = metric(exporter.scrape(), failed) or 0.0
    said = len(process.said)
    exporter.limit(resource.RLIMIT_NOFILE, in_use - 3)
    with socket.create_connection(("127.0.0.1", process.port), timeout=GENEROUS_SECONDS) as waiting:
        try:
            waiting.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n")
            exporter.wait(failed, lambda now: now >= before + 2, "polls fail")
            assert metric(exporter.scrape(), UP) == 0
        finally:
            exporter.limit(resource.RLIMIT_NOFILE, None)
        # the waiting connection is accepted as soon as there are descriptors
        assert waiting.recv(100).startswith(b"HTTP/1.1 200 OK")
    lines = process.said[said:]
    assert lines.count("cannot accept connections") == 1
    assert "logger=asyncio" not in lines
    assert "Too many open files" in lines
    exporter.wait(UP, lambda up: up == 1, "it is up again")
    # new connections are accepted too
    assert process.ask("/-/healthy")[0] == 200


def test_client_that_never_ends_a_request_is_disconnected(exporter: Running) -> None:
    """Use ten times the number of concurrent requests; some clients keep sending single bytes."""
    port = exporter.process.port
    heads = (b"", b"GET", b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    slow = [socket.create_connection(("127.0.0.1", port), timeout=GENEROUS_SECONDS) for _ in range(30)]
    try:
        for number, client in enumerate(slow):
            client.sendall(heads[number % len(heads)])
        assert exporter.process.ask("/-/healthy")[0] == 200
        assert exporter.process.ask("/metrics?collect[]=exporter")[0] == 200
        open_ones = set(slow)
        deadline = time.monotonic() + GENEROUS_SECONDS
        while open_ones and time.monotonic() < deadline:
            for client in list(open_ones):
                if is_disconnected(client):
                    open_ones.discard(client)
            # a client that sends requests in time keeps its connection
            exporter.scrape()
            time.sleep(0.1)
        assert not open_ones
        exporter.wait_for_polls()
    finally:
        for client in slow:
            client.close()


def is_disconnected(client: socket.socket) -> bool:
    """Return whether the server has closed the connection; if not, send another byte."""
    client.setblocking(False)
    try:
        if client.recv(1) == b"":
            return True
        client.send(b"x")
    except BlockingIOError:
        try:
            client.send(b"x")
        except OSError:
            return True
        return False
    except OSError:
        return True
    return False


def test_exporter_stopped_during_a_poll_exits_cleanly(
    environment: tuple[Platform, Alertmanager], tmp_path: Path
) -> None:
    platform, _ = environment
    configure(tmp_path, platform, tmp_path / "alerts.json", timeout="30s", interval="40s", stale_after="3m")
    platform.requested.clear()
    platform.hangs.set()
    try:
        with running(tmp_path) as process:
            assert platform.requested.wait(GENEROUS_SECONDS)
            port = process.port
            process.send(signal.SIGTERM)
            assert process.ended() == 0
            # this line shows that it stopped regularly, not by the forced exit
            assert process.said.splitlines()[-1].endswith("msg=stopped")
            assert "level=error" not in process.said
            assert "Traceback" not in process.said
            with closing(socket.socket()) as probe:
                assert probe.connect_ex(("127.0.0.1", port)) != 0
        assert {path.name for path in tmp_path.iterdir()} == {"config.yaml", "alerts.json", "alerts.json.lock"}
    finally:
        platform.hangs.clear()
