"""What a process under fault stands between: a platform that can misbehave, and an Alertmanager that remembers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Platform:
    """node-media-server 2 with one stream. It closes each connection after its answer."""

    def __init__(self, streams: dict[str, Any]) -> None:
        self.streams = json.dumps(streams).encode()
        self.status = 200
        self.hangs = threading.Event()
        """While set, answers to the list do not come."""
        self.asked = threading.Event()
        self.ended = threading.Event()
        self.url = ""

    def answer(self, path: str) -> tuple[int, bytes]:
        if path.endswith("/streams"):
            self.asked.set()
            while self.hangs.is_set() and not self.ended.wait(0.05):
                pass
            return self.status, self.streams
        if path.endswith("/server"):
            return self.status, b'{"version": "2.7.4"}'
        return 404, b"{}"


class Alertmanager:
    """Takes everything."""

    def __init__(self) -> None:
        self.url = ""
        self._told: list[dict[str, Any]] = []

    def take(self, alerts: list[dict[str, Any]]) -> None:
        self._told.extend(alerts)

    def told(self, name: str) -> list[dict[str, Any]]:
        """What was said of the alerts of this name, oldest first."""
        return [alert for alert in list(self._told) if alert["labels"]["alertname"] == name]


class _Handler(BaseHTTPRequestHandler):
    platform: Platform
    alertmanager: Alertmanager

    def do_GET(self) -> None:
        self._answer(*self.platform.answer(self.path.partition("?")[0]))

    def do_POST(self) -> None:
        self.alertmanager.take(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._answer(200, b"")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is none of our concern."""


@contextmanager
def running_environment(streams: dict[str, Any]) -> Iterator[tuple[Platform, Alertmanager]]:
    """Both, on one free port of the loopback."""
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
