"""Random attacks on a running exporter, one at a time, for the soak run."""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import random
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.exporter_process import GENEROUS_SECONDS, Exporter

SILENT_CONNECTIONS = 1_120
SLOW_CONNECTIONS = 200
GUESSERS = 100
READERS = 38
SIGNALS = 400
UNKNOWN_KEYS = 20_000
TINY_RECORDS = 624_000


class HostilePlatform:
    """node-media-server 4 that returns far too many records on demand."""

    def __init__(self) -> None:
        self.url = ""
        self.is_hostile = False
        self.answers = {
            False: b'{"data":{"streams":[]}}',
            True: b'{"data":{"streams":[' + b",".join([b'{"app":"a","name":"b"}'] * TINY_RECORDS) + b"]}}",
        }

    @contextmanager
    def running(self) -> Iterator[HostilePlatform]:
        """Serve it on a free port."""
        platform = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                is_health = self.path.endswith("/health")
                body = b'{"data":{"version":"4.4.3"}}' if is_health else platform.answers[platform.is_hostile]
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Log nothing."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            self.url = f"http://127.0.0.1:{server.server_port}"
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()


@contextmanager
def descriptors_for(connections: int) -> Iterator[None]:
    """Raise this process's limit to this number of concurrent connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, connections + 512)), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class RandomAttacks:
    """Attacks one exporter, in the same order for the same seed; each attack takes ``seconds``."""

    def __init__(
        self,
        process: Exporter,
        config: Path,
        hostile: HostilePlatform,
        *,
        headers: Mapping[str, str],
        upstream: str,
        seconds: float,
        seed: int,
    ) -> None:
        """``headers``: for requests with a correct password. ``upstream``: the one to probe."""
        self._process = process
        self._config = config
        self._good_config = config.read_text()
        self._hostile = hostile
        self._headers = dict(headers)
        self._upstream = upstream
        self._seconds = seconds
        self._random = random.Random(seed)
        self._left: list[str] = []
        self._attacks: dict[str, Callable[[], None]] = {
            "silent connections": lambda: self._hold_connections(SILENT_CONNECTIONS, b""),
            "slow heads": lambda: self._hold_connections(SLOW_CONNECTIONS, b"GET /metrics HTTP/1.1\r\nHost: a\r\nX"),
            "guessed passwords": lambda: self._repeat(GUESSERS, self._guess_password),
            "configuration pages": lambda: self._repeat(READERS, lambda: self._request("GET", "/config")),
            "probes": lambda: self._repeat(READERS, lambda: self._request("GET", f"/probe?upstream={upstream}")),
            "pages of other sites": lambda: self._repeat(10, self._post_from_other_site),
            "malformed requests": lambda: self._repeat(READERS, self._send_malformed_request),
            "signals": self._send_signals,
            "unknown keys": lambda: self._replace_config(self._write_unknown_keys),
            "FIFO": lambda: self._replace_config(lambda: os.mkfifo(self._config)),
            "too many records": self._answer_with_too_many_records,
        }
        self.made: dict[str, int] = dict.fromkeys(self._attacks, 0)
        """Number of attacks by name."""

    def attack(self) -> None:
        """Make one attack. Each is made once before any is repeated."""
        if not self._left:
            self._left = list(self._attacks)
            self._random.shuffle(self._left)
        name = self._left.pop()
        self._attacks[name]()
        self.made[name] += 1

    # -- connections and requests --------------------------------------------------------------------------------------

    def _hold_connections(self, connections: int, sent: bytes) -> None:
        with descriptors_for(connections), contextlib.ExitStack() as stack:
            deadline = time.monotonic() + self._seconds
            for _ in range(connections):
                if time.monotonic() > deadline:
                    break
                with contextlib.suppress(OSError):
                    connection = stack.enter_context(
                        socket.create_connection(("127.0.0.1", self._process.port), timeout=1.0)
                    )
                    connection.sendall(sent)
            time.sleep(max(0.0, deadline - time.monotonic()))

    def _repeat(self, threads: int, request: Callable[[], object]) -> None:
        deadline = time.monotonic() + self._seconds

        def repeat() -> None:
            while time.monotonic() < deadline:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    request()

        with ThreadPoolExecutor(threads) as pool:
            for future in [pool.submit(repeat) for _ in range(threads)]:
                future.result()

    def _request(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self._process.port, timeout=GENEROUS_SECONDS)
        try:
            connection.request(method, path, headers={**self._headers, **(headers or {})})
            answer = connection.getresponse()
            answer.read()
        finally:
            connection.close()
        return answer.status

    def _guess_password(self) -> None:
        guess = base64.b64encode(b"user:guess-%d" % self._random.randrange(10**9)).decode()
        assert self._request("GET", "/metrics", {"Authorization": f"Basic {guess}"}) != 200

    def _post_from_other_site(self) -> None:
        assert self._request("POST", "/-/reload", {"Origin": "http://attacker.example"}) != 200
        time.sleep(0.05)

    def _send_malformed_request(self) -> None:
        with socket.create_connection(("127.0.0.1", self._process.port), timeout=GENEROUS_SECONDS) as connection:
            connection.sendall(
                b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\nTransfer-Encoding: x\r\n\r\n"
            )
            connection.recv(1)

    # -- reloads and platforms -----------------------------------------------------------------------------------------

    def _send_signals(self) -> None:
        for _ in range(SIGNALS):
            self._process.send(signal.SIGHUP)
            time.sleep(self._seconds / SIGNALS)

    def _replace_config(self, write: Callable[[], object]) -> None:
        """Reload with another file instead of the configuration, then with the configuration again."""
        self._config.unlink()
        try:
            write()
            self._process.send(signal.SIGHUP)
            time.sleep(self._seconds)
        finally:
            self._config.unlink()
            self._config.write_text(self._good_config)
            self._process.send(signal.SIGHUP)

    def _write_unknown_keys(self) -> None:
        keys = (f"unknown_{number}: 1\n" for number in range(UNKNOWN_KEYS))
        self._config.write_text(self._good_config + "".join(keys))

    def _answer_with_too_many_records(self) -> None:
        self._hostile.is_hostile = True
        time.sleep(self._seconds)
        self._hostile.is_hostile = False
