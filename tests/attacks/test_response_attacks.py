"""Platforms whose responses are far too large: they fail alone, cost little memory, and stop nobody else's polls."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.attack_run import AttackRun

pytestmark = pytest.mark.no_cover

BUDGET_MIB = 250
"""Memory that any response of 16 MiB may cost above that of an idle exporter (design, section 11)."""
MAX_BYTES = 2**24


def surrogate_bomb() -> bytes:
    """16 MiB that are 32 kB on the wire, and that only the lenient decoder reads."""
    start = rb'{"data":{"streams":[]},"s":"\ud800","x":['
    return start + b",".join([b'{"a":{}}'] * ((MAX_BYTES - len(start)) // 9 - 1)) + b"]}"


def many_streams() -> bytes:
    """Version 2 of node-media-server with 1.5 million streams, cut to the size that is read."""
    streams = b",".join(b'"%x":{}' % number for number in range(1_500_000))
    return b'{"live":{' + streams[: streams.rindex(b",", 0, MAX_BYTES - 16)] + b"}}"


def many_records() -> bytes:
    """Version 4 with 624,000 tiny records."""
    return b'{"data":{"streams":[' + b",".join([b'{"app":"a","name":"b"}'] * 624_000) + b"]}}"


def livepeer_page() -> bytes:
    """One of pages without end, of 15 MB each and few values."""
    stream = {"id": "x" * 20, "name": "n" * 1000, "isActive": True}
    return json.dumps([stream] * 14_000).encode()


class Platform:
    """Answers every list with the same body, and with an empty list until the attack begins."""

    def __init__(self) -> None:
        self.body = b""
        self.asked = threading.Semaphore(0)
        """Released for each hostile answer."""
        self.url = ""


@pytest.fixture
def platform() -> Iterator[Platform]:
    served = Platform()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_health = self.path.endswith(("/health", "/server"))
            is_hostile = bool(served.body) and not is_health
            body = served.body if is_hostile else gzip.compress(b'{"version": "2.7.4"}' if is_health else b"[]")
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
            if is_hostile:
                served.asked.release()

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield served
        server.shutdown()
        thread.join()


NMS = {"platform": "node_media_server", "auth": {}}
UPSTREAMS: dict[str, tuple[Callable[[], bytes], dict[str, Any]]] = {
    "surrogate": (surrogate_bomb, {"platform": "storm", "auth": {"api_key": "abcdefgh"}, "discover": True}),
    "streams": (many_streams, NMS),
    "records": (many_records, NMS),
    "pages": (livepeer_page, {"platform": "livepeer", "auth": {"bearer_token": "abcdefgh"}}),
}


@pytest.mark.parametrize("attack", UPSTREAMS)
def test_far_too_large_response_fails_alone_and_costs_little_memory(
    platform: Platform, attack: str, tmp_path: Path
) -> None:
    make_body, upstream = UPSTREAMS[attack]
    body = gzip.compress(make_body(), 1)
    hostile = {"name": "hostile", "url": platform.url, **upstream, "timeout": "5s", "interval": "6s"}
    with AttackRun(attack, tmp_path, [hostile]) as run:
        with run.under_attack(14.0):
            idle = run.memory_mib_of("VmRSS")
            platform.body = body
            assert platform.asked.acquire(timeout=30)
            run.exporter.wait_for(r'msg="upstream fails".* upstream=hostile .*reason=too_large')
        assert run.memory_mib_of("VmHWM") - idle <= BUDGET_MIB
