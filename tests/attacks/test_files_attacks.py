"""Files that cannot be read: FIFOs, devices and folders in their place, and a hung network mount."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.attacks.attack_run import MEMORY_MIB, AttackRun
from tests.exporter_process import Exporter
from tests.file_obstacles import OBSTACLES, put_obstacle
from tests.real.child_process import wait_until

HANGING_MOUNT = """
import os, sys, threading
stat = os.stat
def hang(path, *arguments, **more):
    if isinstance(path, (str, os.PathLike)) and os.path.basename(path) in ("web.yml", "token"):
        try:
            stat("hang")
        except FileNotFoundError:
            pass
        else:
            threading.Event().wait()
    return stat(path, *arguments, **more)
os.stat = hang
from exporter import cli
sys.exit(cli.main())
"""
"""The exporter on a file system that hangs for two files once a file named ``hang`` exists."""


class Platform(BaseHTTPRequestHandler):
    """WAVE, where every session is idle."""

    def do_GET(self) -> None:
        body = json.dumps({"sessionId": self.path.rpartition("/")[2], "protocol": "srt", "status": "idle"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def platform() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Platform) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@contextmanager
def attack_run(attack: str, folder: Path, platform: str, **options: Any) -> Iterator[AttackRun]:
    """An exporter that has read every kind of file, and whose upstreams are up."""
    trustme.CA().cert_pem.write_to_path(folder / "ca.pem")
    for name, content in {"web.yml": "{}", "sessions": "sess_1\n", "token": "canary-token"}.items():
        (folder / name).write_text(content)
    wave = {"platform": "wave", "url": platform}
    upstreams = [
        {**wave, "name": "wave", "sessions_file": "sessions", "auth": {"bearer_token": "canary-inline"}},
        {**wave, "name": "protected", "sessions": ["sess_2"], "auth": {"bearer_token_file": "token"}},
        {**wave, "name": "secure", "url": "https://127.0.0.1:9", "sessions": ["sess_3"], "tls": {"ca_file": "ca.pem"}},
    ]
    with AttackRun(attack, folder, upstreams=upstreams, arguments=["--web.config.file=web.yml"], **options) as run:
        for name in ("wave", "protected"):
            wait_until(lambda: is_up(run, name), f"{name} is up")  # noqa: B023
        yield run


def is_up(run: AttackRun, name: str) -> bool:
    metrics = run.exporter.ask("/metrics")[1]
    return re.search(rf'^stream_upstream_up{{platform="\w+",upstream="{name}"}} 1', metrics, re.MULTILINE) is not None


def reload(run: AttackRun) -> str:
    """Request a reload, and return the errors that it logs."""
    already = run.exporter.said.count('msg="configuration not reloaded"')
    run.exporter.send(signal.SIGHUP)

    def errors() -> list[str]:
        return re.findall(r'msg="configuration not reloaded" errors=(.*)', run.exporter.said)[already:]

    wait_until(errors, "the reload fails")
    assert "stream_exporter_config_last_reload_successful 0" in run.exporter.ask("/metrics")[1]
    return errors()[0]


def test_fifo_in_place_of_each_file_affects_only_users_of_the_file(tmp_path: Path, platform: str) -> None:
    with attack_run("files", tmp_path, platform) as run:
        with run.under_attack():
            for name in ("web.yml", "sessions", "token", "ca.pem"):
                put_obstacle(tmp_path / name, "FIFO")
            run.exporter.wait_for(r'msg="failed to reload web configuration".*web.yml: cannot read the file')
            run.exporter.wait_for(r'msg="sessions file not read" .*not a regular file')
            run.exporter.wait_for(r'msg="upstream is failing" .*upstream=protected .*reason=auth .*not a regular file')
            errors = reload(run)
            for name in ("sessions", "token", "ca.pem"):
                assert len(re.findall(rf"{name}\b[^,]*: not a regular file", errors)) == 1, errors
            put_obstacle(tmp_path / "config.yaml", "FIFO")
            assert "config.yaml: cannot read the file: not a regular file" in reload(run)
            assert is_up(run, "wave"), "with the sessions that were read last"
            assert not is_up(run, "protected")
        for message in ("failed to reload web configuration", "sessions file not read"):
            assert run.exporter.said.count(message) == 1
        assert run.exporter.said.count("upstream=protected") == 2, "up, then failing"


def test_hung_mount_affects_only_updates_of_its_files(tmp_path: Path, platform: str) -> None:
    with attack_run("hung_mount", tmp_path, platform, program=("-c", HANGING_MOUNT)) as run:
        threads = thread_count(run)
        with run.under_attack():
            (tmp_path / "hang").touch()
            run.exporter.wait_for(r"msg=\"cannot read secrets file; using its last content\"")
            run.exporter.wait_for(
                r'msg="failed to reload web configuration".*no answer from the file system within 5 s'
            )
            assert "token: no answer from the file system" in reload(run)
            assert is_up(run, "protected"), "with the token that was read last"
        assert run.exporter.said.count("using its last content") == 1
        assert run.exporter.said.count("failed to reload web configuration") == 1
        assert thread_count(run) <= threads + 4, "one for each file, and those that load the configuration"
        (tmp_path / "hang").unlink()
        run.exporter.send(signal.SIGTERM)
        assert run.exporter.ended() == 0


def thread_count(run: AttackRun) -> int:
    return len(os.listdir(f"/proc/{run.exporter.process.pid}/task"))


@pytest.mark.parametrize("kind", OBSTACLES)
@pytest.mark.parametrize("name", ["config.yaml", "web.yml"])
def test_start_without_a_regular_file_fails_with_one_error(tmp_path: Path, kind: str, name: str) -> None:
    (tmp_path / "config.yaml").write_text(
        "upstreams: [{name: a, platform: node_media_server, url: 'http://127.0.0.1:9', auth: {}}]"
    )
    cause = put_obstacle(tmp_path / name, kind)
    (tmp_path / "web.yml").exists() or (tmp_path / "web.yml").write_text("{}")
    arguments = ["--web.listen-address=127.0.0.1:0", "--web.config.file=web.yml"]
    limits = [f"--as={MEMORY_MIB << 20}", sys.executable, "-m", "exporter"]
    with Exporter(arguments, tmp_path, limits, "prlimit", measured=False) as started:
        assert started.ended() == 1
        assert started.said.count("level=error") == 1
        assert f"cannot read the file: {cause}" in started.said
