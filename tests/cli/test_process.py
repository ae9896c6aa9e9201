"""The exporter process: signals, exit codes, ports, reloads."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.exporter_process import GENEROUS_SECONDS, Exporter, exporter

pytestmark = pytest.mark.system

CANARY = "canary-0815-of-the-configuration"
CONFIG = f"""
upstreams:
  - name: edge
    platform: storm
    url: http://127.0.0.1:9
    auth: {{username: exporter, password: {CANARY}}}
    streams:
      - {{application: live, key: one, expected: true}}
"""
SECOND = """
  - name: second
    platform: storm
    url: http://127.0.0.1:9
    streams: [{application: live, key: two}]
"""
BAD = CONFIG.replace("name: edge", "name: e d g e").replace("http://127.0.0.1:9", "nonsense")
"""Errors on lines 3 and 5."""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text(CONFIG)
    return tmp_path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_exporter_serves_until_a_stop_signal(directory: Path, number: signal.Signals) -> None:
    with exporter(directory=directory) as running:
        status, text = running.ask("/metrics")
        assert status == 200
        assert "stream_exporter_build_info" in text
        assert running.ask("/-/healthy") == (200, "healthy\n")
        running.send(number)
        assert running.ended() == 0
        assert f"msg=stopping signal={number.name}" in running.said
        assert running.said.splitlines()[-1].endswith("msg=stopped")
        assert "Traceback" not in running.said


def test_exporter_becomes_ready_although_an_upstream_is_down(directory: Path) -> None:
    with exporter(directory=directory) as running:
        deadline = time.monotonic() + GENEROUS_SECONDS
        while running.ask("/-/ready")[0] != 200 and time.monotonic() < deadline:
            time.sleep(0.05)
        _, text = running.ask("/metrics")
        assert 'stream_upstream_up{platform="storm",upstream="edge"} 0' in text
        assert "down" in running.ask("/")[1]


def test_flags_set_addresses_log_format_and_telemetry_path(directory: Path) -> None:
    flags = ["--web.listen-address=:0", "--web.telemetry-path=/own", "--log.format=json", "--log.level=info"]
    with Exporter(["--web.listen-address=127.0.0.1:0", *flags], directory) as running:
        ports = [
            int(running.wait_for(rf'"address": "{host}:(\d+)"')[1])
            for host in (r"127\.0\.0\.1", r"(?:\[::\]|0\.0\.0\.0)")
        ]
        for port in ports:
            with urlopen(f"http://127.0.0.1:{port}/own", timeout=GENEROUS_SECONDS) as answer:
                assert answer.status == 200
        running.send(signal.SIGTERM)
        assert running.ended() == 0


SLOW_SCRAPE = """
import sys, time
from pathlib import Path
from exporter.cli import main
from exporter.metrics.exposition import Exposition
pieces = Exposition.pieces
def slow(self, *arguments):
    Path("scraping").touch()
    while not Path("go-on").exists():
        time.sleep(0.01)
    return pieces(self, *arguments)
Exposition.pieces = slow
sys.exit(main())
"""


def test_running_scrape_is_finished_before_exit(directory: Path) -> None:
    with Exporter(["--web.listen-address=127.0.0.1:0"], directory, program=("-c", SLOW_SCRAPE)) as running:
        port = running.port
        with socket.create_connection(("127.0.0.1", port), timeout=GENEROUS_SECONDS) as scrape:
            scrape.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await_file(directory / "scraping")
            running.send(signal.SIGTERM)
            running.wait_for("msg=stopping")
            (directory / "go-on").touch()
            answer = b"".join(iter(lambda: scrape.recv(65536), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert f"Content-Length: {len(body)}".encode() in head
        assert body.endswith(b"\n")
        assert running.ended() == 0


def await_file(path: Path) -> None:
    deadline = time.monotonic() + GENEROUS_SECONDS
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} never came"
        time.sleep(0.01)


HANGING_RELOAD = """
import sys, threading
from exporter import cli
from exporter.cli import settings
load = settings.load_settings
loads = 0
def load_once(*arguments):
    global loads
    loads += 1
    return load(*arguments) if loads == 1 else threading.Event().wait()
settings.load_settings = load_once
sys.exit(cli.main())
"""


def hanging(directory: Path) -> Exporter:
    """Start an exporter whose reloads hang forever in a thread."""
    return Exporter(["--web.listen-address=127.0.0.1:0", "--web.enable-lifecycle"], directory, ("-c", HANGING_RELOAD))


def ask_for_reload(running: Exporter) -> socket.socket:
    port = running.port
    request = socket.create_connection(("127.0.0.1", port), timeout=GENEROUS_SECONDS)
    request.sendall(b"POST /-/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
    # after this response, the reload is under way
    assert running.ask("/-/healthy")[0] == 200
    return request


@pytest.mark.no_cover
def test_hanging_thread_does_not_prevent_a_clean_exit(directory: Path) -> None:
    with hanging(directory) as running, ask_for_reload(running):
        running.send(signal.SIGTERM)
        assert running.ended() == 0


HANGING_STOP = """
import asyncio, sys
from exporter import cli
from exporter.service import Service
async def stop(self):
    await asyncio.Event().wait()
Service.stop = stop
sys.exit(cli.main())
"""


@pytest.mark.no_cover
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_ends_the_process_at_once(directory: Path, second: signal.Signals) -> None:
    with Exporter(["--web.listen-address=127.0.0.1:0"], directory, ("-c", HANGING_STOP)) as running:
        assert running.port
        running.send(signal.SIGTERM)
        running.wait_for("msg=stopping")
        running.send(second)
        assert running.ended() == 128 + second
        assert "msg=stopped" not in running.said


def test_sighup_reloads_and_an_invalid_file_changes_nothing(directory: Path) -> None:
    with exporter(directory=directory) as running:
        assert "second" not in running.ask("/config")[1]
        (directory / "config.yaml").write_text(CONFIG + SECOND)
        running.send(signal.SIGHUP)
        running.wait_for('msg="configuration reloaded"')
        assert "second" in running.ask("/config")[1]
        (directory / "config.yaml").write_text(BAD)
        running.send(signal.SIGHUP)
        running.wait_for('msg="configuration not reloaded"')
        assert "second" in running.ask("/config")[1]
        assert "stream_exporter_config_last_reload_successful 0" in running.ask("/metrics?collect[]=exporter")[1]
        running.send(signal.SIGTERM)
        assert running.ended() == 0
        assert running.said.count("configuration not reloaded") == 1
        assert "Traceback" not in running.said


BROKEN_RELOAD = f"""
import sys
from exporter import cli
from exporter.cli import settings
load = settings.load_settings
loads = 0
def load_once(*arguments):
    global loads
    loads += 1
    if loads > 1:
        raise RuntimeError("{CANARY}")
    return load(*arguments)
settings.load_settings = load_once
sys.exit(cli.main())
"""


def test_unexpected_error_during_a_reload_is_logged_and_changes_nothing(directory: Path) -> None:
    arguments = ["--web.listen-address=127.0.0.1:0", "--web.enable-lifecycle"]
    with Exporter(arguments, directory, program=("-c", BROKEN_RELOAD)) as running:
        assert running.port
        running.send(signal.SIGHUP)
        running.wait_for('msg="configuration not reloaded" error="RuntimeError in ')
        status, text = running.ask("/-/reload", "POST")
        assert status == 500
        assert CANARY not in text
        running.wait_for('msg="Error handling request from 127.0.0.1" logger=aiohttp.server')
        assert running.ask("/-/healthy")[0] == 200
        running.send(signal.SIGTERM)
        assert running.ended() == 0
        assert CANARY not in running.said


def test_reload_over_http_requires_the_flag(directory: Path) -> None:
    with exporter(directory=directory) as running:
        status, text = running.ask("/-/reload", "POST")
        assert status == 403
        assert "--web.enable-lifecycle" in text
        assert running.ask("/-/reload")[0] == 405


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_reload_over_http_reports_success_and_errors(directory: Path, method: str) -> None:
    with exporter("--web.enable-lifecycle", directory=directory) as running:
        (directory / "config.yaml").write_text(CONFIG + SECOND)
        assert running.ask("/-/reload", method) == (200, "reloaded\n")
        (directory / "config.yaml").write_text(BAD)
        status, text = running.ask("/-/reload", method)
        assert status == 500
        assert "config.yaml:5:" in text
        assert CANARY not in text
        assert "second" in running.ask("/config")[1]


@pytest.mark.no_cover
def test_port_in_use_is_one_line_of_error(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with Exporter(["--web.listen-address", f"127.0.0.1:{port}"], directory) as running:
            assert running.ended() == 1
            (line,) = running.said.splitlines()
            assert f"127.0.0.1:{port}: Address already in use" in line


def test_invalid_configuration_ends_the_start_with_all_errors(directory: Path) -> None:
    (directory / "config.yaml").write_text(BAD)
    with exporter(directory=directory) as running:
        assert running.ended() == 1
        assert "config.yaml:3:" in running.said
        assert "config.yaml:5:" in running.said
        assert "Traceback" not in running.said


@pytest.mark.no_cover
def test_missing_configuration_is_named_in_the_error(tmp_path: Path) -> None:
    with exporter("--config.file=nowhere.yaml", directory=tmp_path) as running:
        assert running.ended() == 1
        assert "nowhere.yaml" in running.said
        assert "Traceback" not in running.said


@pytest.mark.no_cover
def test_output_never_contains_a_secret(directory: Path) -> None:
    with exporter("--web.enable-lifecycle", "--log.level=debug", directory=directory) as running:
        running.wait_for("upstream=edge")
        paths = ("/", "/config", "/metrics", "/-/healthy", "/-/ready", "/nowhere")
        answers = [running.ask(path)[1] for path in paths]
        (directory / "config.yaml").write_text(
            CONFIG.replace("{username: exporter, password", "{username: exporter, pass")
        )
        answers.append(running.ask("/-/reload", "POST")[1])
        running.send(signal.SIGTERM)
        assert running.ended() == 0
        assert CANARY not in running.said
        assert not [path for path, text in zip((*paths, "reload"), answers, strict=True) if CANARY in text]


@pytest.mark.no_cover
@pytest.mark.parametrize(("level", "said"), [("info", 0), ("debug", 1)])
def test_malformed_request_is_logged_only_at_debug_level(directory: Path, level: str, said: int) -> None:
    with exporter("--log.level", level, directory=directory) as running:
        with socket.create_connection(("127.0.0.1", running.port), timeout=GENEROUS_SECONDS) as scanner:
            scanner.sendall(f"GET / HTTP/1.1\r\nAuthorization {CANARY}\r\n\r\n".encode())
            assert scanner.recv(65536).startswith(b"HTTP/1.0 400 Bad Request")
        running.send(signal.SIGTERM)
        assert running.ended() == 0
        assert running.said.count('msg="malformed request"') == said
        assert "aiohttp.server" not in running.said
        assert CANARY not in running.said


SLOW_START = """
import sys, time
from pathlib import Path
from exporter import cli
from exporter.cli import settings
load = settings.load_settings
def load_slowly(*arguments):
    Path("loading").touch()
    while not Path("go-on").exists():
        time.sleep(0.01)
    return load(*arguments)
settings.load_settings = load_slowly
sys.exit(cli.main())
"""


def test_sighup_during_the_start_is_ignored(directory: Path) -> None:
    with Exporter(["--web.listen-address=127.0.0.1:0"], directory, ("-c", SLOW_START)) as running:
        await_file(directory / "loading")
        running.send(signal.SIGHUP)
        (directory / "go-on").touch()
        assert running.ask("/-/healthy")[0] == 200
        running.send(signal.SIGTERM)
        assert running.ended() == 0


@pytest.mark.no_cover
@pytest.mark.parametrize("command", ["metrics", "rules"])
def test_closed_standard_output_causes_no_traceback(command: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as pipe:
        arguments = [sys.executable, "-m", "exporter", command]
        done = subprocess.run(arguments, stdout=pipe, stderr=subprocess.PIPE, check=False, timeout=GENEROUS_SECONDS)
    assert (done.returncode, done.stderr) == (141, b"")
