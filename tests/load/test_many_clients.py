"""Many simultaneous clients, well-behaved and not, of an exporter with 10,000 streams."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.exporter_process import GENEROUS_SECONDS, Exporter
from tests.load.exporter_watch import Watch
from tests.process.process_environment import running_environment
from tests.real.child_process import wait_until

STREAMS = 10_000
INTERVAL_SECONDS = 5.0
AT_ONCE = 40
"""The default of --web.max-requests."""
FLOOD = 400
SAMPLE = json.loads(
    (Path(__file__).parents[1] / "platforms" / "responses" / "node_media_server" / "2.7.4-streams.json").read_text()
)


def fleet() -> dict[str, Any]:
    """Return a response with many copies of a real stream's record."""
    return {"live": {f"stream-{number:05}": SAMPLE["live"]["test"] for number in range(STREAMS)}}


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    directory = tmp_path_factory.mktemp("many")
    with running_environment(fleet()) as (platform, _):
        upstream = {"name": "origin", "platform": "node_media_server", "url": platform.url}
        defaults = {"interval": f"{INTERVAL_SECONDS:g}s"}
        (directory / "config.yaml").write_text(yaml.safe_dump({"defaults": defaults, "upstreams": [upstream]}))
        with Exporter(["--web.listen-address=127.0.0.1:0"], directory, measured=False) as process:
            one = Watch(process, f"http://127.0.0.1:{process.port}")
            wait_until(lambda: f"upstream_streams{{{ORIGIN}}} {STREAMS}" in one.fetch(UPSTREAMS), "all are seen")
            yield one
            assert "Traceback" not in process.said
            assert "level=error" not in process.said


ORIGIN = 'platform="node_media_server",upstream="origin"'
UPSTREAMS = "/metrics?collect[]=exporter&collect[]=upstreams"


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    retry_after: str | None
    seconds: float


def get(watch: Watch, path: str, **headers: str) -> Answer:
    """Send one request over a new connection; a truncated body is an error."""
    client = http.client.HTTPConnection(watch.url.removeprefix("http://"), timeout=GENEROUS_SECONDS)
    try:
        began = time.monotonic()
        client.request("GET", path, headers=headers)
        answer = client.getresponse()
        body = answer.read()
        return Answer(answer.status, body, answer.getheader("Retry-After"), time.monotonic() - began)
    finally:
        client.close()


def polls(watch: Watch) -> float:
    found = re.search(rf"^stream_upstream_polls_total{{{ORIGIN}}} (\S+)$", watch.fetch(UPSTREAMS), re.MULTILINE)
    assert found
    return float(found[1])


def memory_bytes(watch: Watch) -> float:
    found = re.search(r"^process_resident_memory_bytes (\S+)$", watch.fetch(UPSTREAMS), re.MULTILINE)
    assert found
    return float(found[1])


def test_forty_simultaneous_scrapers_get_complete_responses_or_503(watch: Watch) -> None:
    before, began = polls(watch), time.monotonic()
    together = threading.Barrier(AT_ONCE)

    def scrape(number: int) -> Answer:
        together.wait(GENEROUS_SECONDS)
        return get(watch, "/metrics", **({"Accept-Encoding": "gzip"} if number % 2 else {}))

    with ThreadPoolExecutor(AT_ONCE) as scrapers:
        answers = list(scrapers.map(scrape, range(AT_ONCE)))
    taken = [
        gzip.decompress(answer.body) if number % 2 else answer.body
        for number, answer in enumerate(answers)
        if answer.status == 200
    ]
    refused = [answer for answer in answers if answer.status != 200]
    assert all((answer.status, answer.retry_after) == (503, "1") for answer in refused)
    assert taken
    of_streams = {streams_of(text) for text in taken}
    wait_until(lambda: polls(watch) > before, "polls go on")
    seconds = sorted(answer.seconds for answer in answers)
    print(
        f"{len(taken)} answered, {len(refused)} refused; median {seconds[len(seconds) // 2]:.2f} s, "
        f"longest {seconds[-1]:.2f} s; {len(taken[0]) / 1e6:.1f} MB each, {len({hash(text) for text in taken})} "
        f"renderings; {polls(watch) - before:.0f} polls in {time.monotonic() - began:.1f} s"
    )
    # between two polls, the stream series of all scrapes are equal
    assert len(of_streams) <= 2 + (time.monotonic() - began) / INTERVAL_SECONDS


def streams_of(text: bytes) -> bytes:
    """Return a hash of all stream series; check that all streams are there, in complete lines."""
    assert text.endswith(b"\n")
    lines = re.findall(rb"^stream_live\{.*\} [01]$", text, re.MULTILINE)
    assert len(lines) == STREAMS
    return hashlib.sha256(b"\n".join(lines)).digest()


@pytest.mark.parametrize("path", ["/probe?upstream=origin&stream=live/stream-00007", "/", "/api/v1/streams"])
def test_flood_of_requests_gets_responses_or_503_and_polls_continue(watch: Watch, path: str) -> None:
    before, memory = polls(watch), memory_bytes(watch)
    with ThreadPoolExecutor(100) as clients:
        flood = [clients.submit(get, watch, path, **{"Accept-Encoding": "gzip"}) for _ in range(FLOOD)]
        healthy = [get(watch, "/-/healthy").status for _ in range(5)]
        answers = [request.result() for request in flood]
    statuses = Counter(answer.status for answer in answers)
    print(f"{path}: {dict(statuses)}, longest {max(answer.seconds for answer in answers):.2f} s")
    assert healthy == [200] * 5
    assert statuses.keys() <= {200, 503}
    assert statuses[200]
    assert all(answer.retry_after == "1" for answer in answers if answer.status == 503)
    wait_until(lambda: polls(watch) > before, "polls go on")
    print(f"memory {memory / 1e6:.0f} MB before, {memory_bytes(watch) / 1e6:.0f} MB after")
    assert memory_bytes(watch) < memory + 100e6


def test_scraper_gets_503_while_scrapers_that_read_nothing_use_all_slots(watch: Watch) -> None:
    before, memory = polls(watch), memory_bytes(watch)
    with ExitStack() as clients:
        for _ in range(AT_ONCE):
            client = clients.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", watch.process.port))
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")

        def is_refused() -> Answer | None:
            answer = get(watch, "/metrics?collect[]=exporter")
            return answer if answer.status == 503 else None

        refused = wait_until(is_refused, "all slots are used")
        assert refused.retry_after == "1"
        assert get(watch, "/-/healthy").status == 200
    wait_until(lambda: get(watch, UPSTREAMS).status == 200, "they have left")
    wait_until(lambda: polls(watch) > before, "polls went on")
    after = memory_bytes(watch)
    print(f"memory {memory / 1e6:.0f} MB before, {after / 1e6:.0f} MB after {AT_ONCE} that read nothing")
    assert after < memory + 200e6
