"""Platforms whose responses are far too large: they fail alone, cost little memory, and stop nobody else's polls."""

from __future__ import annotations

import gzip
import json
import re
import signal
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.exporter_process import Exporter
from tests.process.process_environment import STREAMS
from tests.real.child_process import wait_until

BUDGET_KIB = 250 * 1024
"""Memory that any response of 16 MiB may cost above that of an idle exporter."""


def surrogate_bomb() -> bytes:
    """16 MiB that are 32 kB on the wire, and that only the lenient decoder reads."""
    start = rb'{"data":{"streams":[]},"s":"\ud800","x":['
    return start + b",".join([b'{"a":{}}'] * ((2**24 - len(start)) // 9 - 1)) + b"]}"


def many_streams() -> bytes:
    """Version 2 of node-media-server with 1.5 million streams."""
    return b'{"live":{' + b",".join(b'"%x":{}' % n for n in range(1_500_000)) + b"}}"


def many_records() -> bytes:
    """Version 4 with 624,000 tiny records."""
    return b'{"data":{"streams":[' + b",".join([b'{"app":"a","name":"b"}'] * 624_000) + b"]}}"


def livepeer_page() -> bytes:
    """One of many pages of 15 MB."""
    stream = {"id": "x" * 20, "name": "n" * 60, "isActive": True, "renditions": {f"r{n}": n for n in range(20)}}
    return json.dumps([stream] * 45_000).encode()


class Platforms:
    """Every path begins with the name of a platform."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}
        self.url = ""

    def answer(self, path: str) -> bytes:
        return self.bodies[path.split("/")[1]]


@pytest.fixture(scope="module")
def platforms() -> Iterator[Platforms]:
    served = Platforms()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_list = not self.path.endswith(("/health", "/server"))
            body = served.answer(self.path) if is_list else gzip.compress(b'{"version": "2.7.4"}')
            # version 2 of node-media-server has no /health
            self.send_response(404 if self.path.endswith("/health") else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Link", '<?cursor=more>; rel="next"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            try:
                self.wfile.write(body)
            except OSError:
                return

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served.url = f"http://127.0.0.1:{server.server_port}"
        served.bodies["healthy"] = gzip.compress(json.dumps(STREAMS).encode())
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield served
        server.shutdown()
        thread.join()


def memory_kib(process: Exporter, name: str) -> int:
    status = Path(f"/proc/{process.process.pid}/status").read_text()
    return int(re.findall(rf"{name}:\s+(\d+) kB", status)[0])


NMS = {"platform": "node_media_server", "auth": {}}
ATTACKS: dict[str, tuple[Callable[[], bytes], dict[str, Any]]] = {
    "surrogate": (surrogate_bomb, {"platform": "storm", "auth": {"api_key": "abcdefgh"}, "discover": True}),
    "streams": (many_streams, NMS),
    "records": (many_records, NMS),
    "pages": (livepeer_page, {"platform": "livepeer", "auth": {"bearer_token": "abcdefgh"}}),
}


@pytest.mark.no_cover
@pytest.mark.parametrize("attack", ATTACKS)
def test_far_too_large_response_fails_alone_and_costs_little_memory(
    platforms: Platforms, attack: str, tmp_path: Path
) -> None:
    make_body, upstream = ATTACKS[attack]
    platforms.bodies["hostile"] = gzip.compress(b"{}")
    settings = {
        "defaults": {"interval": "1s", "timeout": "900ms"},
        "upstreams": [
            {"name": "healthy", "url": f"{platforms.url}/healthy", **NMS},
            {"name": "hostile", "url": f"{platforms.url}/hostile", **upstream, "timeout": "60s", "interval": "60s"},
        ],
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    with Exporter(["--web.listen-address=127.0.0.1:0"], tmp_path, measured=False) as process:

        def value(pattern: str) -> float:
            found = re.search(rf"^{pattern} (\S+)$", process.ask("/metrics?collect[]=upstreams")[1], re.MULTILINE)
            return float(found[1]) if found else 0.0

        polls = r'stream_upstream_polls_total\{.*upstream="healthy".*\}'
        wait_until(lambda: value(polls) >= 3, "the healthy upstream is polled")
        idle = memory_kib(process, "VmRSS")
        platforms.bodies["hostile"] = gzip.compress(make_body(), 1)
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings | {"histograms": {"per_stream": True}}))
        process.send(signal.SIGHUP)
        too_large = r'stream_upstream_poll_failures_total\{.*upstream="hostile".*reason="too_large".*\}'
        wait_until(lambda: value(too_large) >= 1, "the hostile one is refused", otherwise=lambda: process.said)
        before = value(polls)
        wait_until(lambda: value(polls) >= before + 3, "the healthy upstream is polled on")
        assert value(r'stream_upstream_up\{.*upstream="healthy".*\}') == 1
        assert memory_kib(process, "VmHWM") - idle <= BUDGET_KIB
