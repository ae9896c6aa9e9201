"""``/probe`` in a loop, for an upstream whose platform has a request limit."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.attacks.attack_run import AttackRun
from tests.process.process_environment import STREAMS

CONNECTIONS = 20
INTERVAL_SECONDS = 2.0
REQUESTS_OF_A_START = 5
"""Maximum number of requests of the first poll on demand, to detect the server's version; later polls make one."""
LIMIT, WINDOW_SECONDS = 18, 10.0
"""Scheduled polls need 5 of them; polls on demand would use 10, at one per half interval."""


UP = 'stream_upstream_up{platform="node_media_server",upstream="limited"} 1'


class LimitedPlatform(ThreadingHTTPServer):
    """node-media-server 2 with one stream, behind a proxy that limits the requests per window."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._lock = threading.Lock()
        self._window_ends_at = 0.0
        self._used = 0
        self.requests = 0
        self.refused = 0

    def count(self) -> tuple[bool, dict[str, str]]:
        """Count a request; return whether it is allowed, and the headers of its response."""
        with self._lock:
            now = time.monotonic()
            if now >= self._window_ends_at:
                self._window_ends_at, self._used = now + WINDOW_SECONDS, 0
            self.requests += 1
            self._used += 1
            is_allowed = self._used <= LIMIT
            self.refused += not is_allowed
            return is_allowed, {
                "X-RateLimit-Limit": f"{LIMIT}",
                "X-RateLimit-Remaining": f"{max(0, LIMIT - self._used)}",
                "X-RateLimit-Reset": f"{self._window_ends_at - now:.3f}",
                "X-RateLimit-Window": f"{WINDOW_SECONDS:.0f}",
            }


class _Handler(BaseHTTPRequestHandler):
    server: LimitedPlatform
    protocol_version = "HTTP/1.1"
    documents: dict[str, Any] = {"/api/streams": STREAMS, "/api/server": {"version": "2.7.4"}}  # noqa: RUF012

    def do_GET(self) -> None:
        is_allowed, headers = self.server.count()
        document = self.documents.get(self.path)
        body = json.dumps(document or {}).encode()
        self.send_response(429 if not is_allowed else 404 if document is None else 200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@contextmanager
def serving_platform() -> Iterator[LimitedPlatform]:
    with LimitedPlatform() as platform:
        thread = threading.Thread(target=platform.serve_forever)
        thread.start()
        try:
            yield platform
        finally:
            platform.shutdown()
            thread.join()


def probe_in_a_loop(port: int, over: threading.Event) -> list[str]:
    """Return the texts of all probes over one connection until the event is set."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    texts = []
    try:
        while not over.is_set():
            connection.request("GET", "/probe?upstream=limited")
            answer = connection.getresponse()
            texts.append(answer.read().decode())
            assert answer.status == 200
    finally:
        connection.close()
    return texts


def total(text: str, name: str, **labels: str) -> float:
    """Return the sum of the samples with this name and these labels."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def test_probes_in_a_loop_share_polls_and_leave_the_limit_to_scheduled_polls(tmp_path: Path) -> None:
    with serving_platform() as platform:
        limited = {
            "name": "limited",
            "platform": "node_media_server",
            "url": f"http://127.0.0.1:{platform.server_port}",
            "auth": {},
            "interval": f"{INTERVAL_SECONDS:g}s",
            "timeout": f"{INTERVAL_SECONDS:g}s",
        }
        with AttackRun("probe", tmp_path, upstreams=[limited]) as run, ThreadPoolExecutor(CONNECTIONS) as attackers:
            run.exporter.wait_for(r'msg="upstream is up".* upstream=limited')
            over, began, before = threading.Event(), time.monotonic(), platform.requests
            try:
                with run.under_attack(12.0):
                    attacks = [attackers.submit(probe_in_a_loop, run.exporter.port, over) for _ in range(CONNECTIONS)]
            finally:
                over.set()
            texts = [text for attack in attacks for text in attack.result()]
            seconds, requests = time.monotonic() - began, platform.requests - before
            metrics = run.exporter.ask("/metrics")[1]
    assert len(texts) > 10 * CONNECTIONS
    assert any(UP in text for text in texts)
    # a scheduled poll per interval, and two on demand
    polls = 3 * (seconds / INTERVAL_SECONDS + 1)
    assert requests <= polls + REQUESTS_OF_A_START
    assert platform.refused == 0
    assert total(metrics, "stream_upstream_polls_total", upstream="limited") >= seconds / INTERVAL_SECONDS / 2
    failures = total(metrics, "stream_upstream_poll_failures_total", upstream="limited", reason="rate_limited")
    assert failures == 0, run.exporter.said
