"""Far too large responses: only their own poll fails, they use little memory, and no other poll is delayed."""

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

BUDGET_MIB = 250
"""Maximum memory for any response of 16 MiB, above that of an idle exporter."""
MAX_BYTES = 2**24


def surrogate_bomb() -> bytes:
    """16 MiB that are 32 kB on the wire, and that only the lenient decoder can read."""
    start = rb'{"data":{"streams":[]},"s":"\ud800","x":['
    return start + b",".join([b'{"a":{}}'] * ((MAX_BYTES - len(start)) // 9 - 1)) + b"]}"


def many_streams() -> bytes:
    """Version 2 of node-media-server with 1.5 million streams, cut to the maximum size."""
    streams = b",".join(b'"%x":{}' % number for number in range(1_500_000))
    return b'{"live":{' + streams[: streams.rindex(b",", 0, MAX_BYTES - 16)] + b"}}"


def many_records() -> bytes:
    """Version 4 with 624,000 tiny records."""
    return b'{"data":{"streams":[' + b",".join([b'{"app":"a","name":"b"}'] * 624_000) + b"]}}"


def livepeer_page() -> bytes:
    """One of an endless number of pages, of 15 MB each with few values; every page has other ids."""
    return json.dumps([{"id": f"PAGE-{row}", "name": "n" * 16_000, "isActive": True} for row in range(900)]).encode()


class Platform:
    """Returns the same body for every list; before the attack, one without streams."""

    def __init__(self) -> None:
        self.empty = b""
        """The list without streams."""
        self.hostile = b""
        """The response during the attack; ``PAGE`` is replaced by the number of the response."""
        self.health: dict[str, bytes] = {}
        """By the last part of the path; others get a 404."""
        self.answers = 0
        self.url = ""

    def answer(self, path: str) -> bytes:
        last = path.partition("?")[0].rpartition("/")[2]
        if last in ("health", "server"):
            return self.health.get(last, b"")
        self.answers += bool(self.hostile)
        return self.hostile.replace(b"PAGE", b"%04d" % self.answers) or self.empty


@pytest.fixture
def platform() -> Iterator[Platform]:
    served = Platform()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = served.answer(self.path)
            body = gzip.compress(answer, 1)
            self.send_response(200 if answer else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(body)))
            if served.hostile:
                self.send_header("Link", f'<?cursor={served.answers}>; rel="next"')
            self.end_headers()
            try:
                self.wfile.write(body)
            except OSError:
                return

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
STORM = {"platform": "storm", "auth": {"api_key": "abcdefgh"}, "discover": True}
LIVEPEER = {"platform": "livepeer", "auth": {"bearer_token": "abcdefgh"}}
ATTACKERS: dict[str, tuple[Callable[[], bytes], bytes, dict[str, bytes], dict[str, Any]]] = {
    "surrogate": (surrogate_bomb, b'{"data":{"list":[],"hasNext":false}}', {}, STORM),
    "streams": (many_streams, b"{}", {"server": b'{"version":"2.7.4"}'}, NMS),
    "records": (many_records, b'{"data":{"streams":[]}}', {"health": b'{"data":{"version":"4.4.3"}}'}, NMS),
    "pages": (livepeer_page, b"[]", {}, LIVEPEER),
}
"""By attack: the hostile list, the empty list, the health pages, and the settings of the upstream."""


@pytest.mark.parametrize("attack", ATTACKERS)
def test_far_too_large_response_fails_only_its_poll_and_uses_little_memory(
    platform: Platform, attack: str, tmp_path: Path
) -> None:
    make_hostile, platform.empty, platform.health, upstream = ATTACKERS[attack]
    hostile_answer = make_hostile()
    hostile = {"name": "hostile", "url": platform.url, **upstream, "timeout": "15s", "interval": "15s"}
    with AttackRun(attack, tmp_path, [hostile]) as run:
        run.exporter.wait_for(r'msg="upstream is up".* upstream=hostile')
        with run.under_attack(14.0):
            idle = run.memory_mib_of("VmRSS")
            platform.hostile = hostile_answer
            run.exporter.wait_for(r'msg="upstream is failing".* upstream=hostile .*reason=too_large')
        assert run.memory_mib_of("VmHWM") - idle <= BUDGET_MIB
