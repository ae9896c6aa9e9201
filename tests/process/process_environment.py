"""The environment of an exporter process: a platform that can misbehave, and an Alertmanager that records alerts."""

from __future__ import annotations

import http.client
import json
import re
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from tests.exporter_process import GENEROUS_SECONDS, Exporter
from tests.real.child_process import wait_until

STREAMS = json.loads(
    (Path(__file__).parents[1] / "platforms" / "responses" / "node_media_server" / "2.7.4-streams.json").read_text()
)
DOWN = "StreamUpstreamDown"
WITH_SHORT_TIMES = """
import sys
from exporter import cli
from exporter.runtime import state_files
from exporter.web import server
state_files.WRITE_INTERVAL_SECONDS = 0.2
server.HEAD_TIMEOUT_SECONDS = 3.0
sys.exit(cli.main())
"""


class Platform:
    """node-media-server 2 with one stream. It closes each connection after the response."""

    def __init__(self, streams: dict[str, Any]) -> None:
        self.streams = json.dumps(streams).encode()
        self.status = 200
        self.hangs = threading.Event()
        """While set, requests for the list are not answered."""
        self.requested = threading.Event()
        self.ended = threading.Event()
        self.url = ""

    def answer(self, path: str) -> tuple[int, bytes]:
        if path.endswith("/streams"):
            self.requested.set()
            while self.hangs.is_set() and not self.ended.wait(0.05):
                pass
            return self.status, self.streams
        if path.endswith("/server"):
            return self.status, b'{"version": "2.7.4"}'
        return 404, b"{}"


class Alertmanager:
    """Accepts and records all alerts."""

    def __init__(self) -> None:
        self.url = ""
        self._received: list[dict[str, Any]] = []

    def accept(self, alerts: list[dict[str, Any]]) -> None:
        self._received.extend(alerts)

    def received(self, name: str) -> list[dict[str, Any]]:
        """Return what was received for the alerts of this name, oldest first."""
        return [alert for alert in list(self._received) if alert["labels"]["alertname"] == name]


class _Handler(BaseHTTPRequestHandler):
    platform: Platform
    alertmanager: Alertmanager

    def do_GET(self) -> None:
        self._answer(*self.platform.answer(self.path.partition("?")[0]))

    def do_POST(self) -> None:
        self.alertmanager.accept(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._answer(200, b"")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the base class's name
        """Log nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors of clients that were killed."""


@contextmanager
def running_environment(streams: dict[str, Any]) -> Iterator[tuple[Platform, Alertmanager]]:
    """Run both on one free port of the loopback interface."""
    platform, alertmanager = Platform(streams), Alertmanager()
    handler = type("Handler", (_Handler,), {"platform": platform, "alertmanager": alertmanager})
    with _Server(("127.0.0.1", 0), handler) as server:
        platform.url = alertmanager.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield platform, alertmanager
        finally:
            platform.ended.set()
            server.shutdown()
            thread.join()


def configure(directory: Path, platform: Platform, state_file: Path, **more: Any) -> None:
    configuration = {
        "defaults": {"interval": "1s", "timeout": "700ms"},
        "upstreams": [{"name": "origin", "platform": "node_media_server", "url": platform.url, **more}],
        "alerting": {
            "alertmanagers": [{"url": platform.url}],
            "state_file": str(state_file),
            "thresholds": {DOWN: {"for": "1s"}},
        },
    }
    (directory / "config.yaml").write_text(yaml.safe_dump(configuration))


def running(directory: Path) -> Exporter:
    return Exporter(["--web.listen-address=127.0.0.1:0", "--web.max-requests=3"], directory, ("-c", WITH_SHORT_TIMES))


def metric(text: str, name: str) -> float | None:
    """Return the value of the series that the pattern matches; None if there is none."""
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else None


UP = r"stream_upstream_up\{.*\}"
POLLS = r"stream_upstream_polls_total\{.*\}"
WRITE_FAILURES = "stream_exporter_alert_state_write_failures_total"


class Running:
    """A process that is put through several faults, with a kept-alive connection for scrapes."""

    def __init__(self, process: Exporter) -> None:
        self.process = process
        self.kept = http.client.HTTPConnection("127.0.0.1", process.port, timeout=GENEROUS_SECONDS)

    def scrape(self) -> str:
        self.kept.request("GET", "/metrics")
        with self.kept.getresponse() as answer:
            assert answer.status == 200
            return answer.read().decode()

    def wait(self, name: str, holds: Callable[[float], bool], what: str) -> None:
        def ask() -> bool:
            value = metric(self.scrape(), name)
            return value is not None and holds(value)

        wait_until(ask, what, otherwise=lambda: self.process.said)

    def wait_for_polls(self) -> None:
        """Wait until polls continue."""
        before = metric(self.scrape(), POLLS) or 0.0
        self.wait(POLLS, lambda now: now >= before + 2, "polls continue")

    def limit(self, which: int, value: int | None) -> None:
        """Set a soft limit of the process; None resets it."""
        hard = resource.prlimit(self.process.process.pid, which)[1]
        resource.prlimit(self.process.process.pid, which, (hard if value is None else value, hard))
