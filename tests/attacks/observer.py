"""A healthy platform and a scraper in their own process, so that an attack by the test does not slow them.

``python -m tests.attacks.observer`` prints its port, then reads commands from its standard input.
"""

from __future__ import annotations

import http.client
import json
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from tests.process.process_environment import STREAMS

SCRAPE_INTERVAL_SECONDS = 0.5
SCRAPE_TIMEOUT_SECONDS = 10.0


class Observer:
    """Counts the polls that reach the platform, and times scrapes of the exporter."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._scraper: threading.Thread | None = None
        self._polls = 0
        self._scrapes: list[float | None] = []
        self._began = 0.0

    def count_poll(self) -> None:
        with self._lock:
            self._polls += 1

    def start(self, url: str, headers: dict[str, str]) -> None:
        """Start counting, and scraping the URL over new connections."""
        with self._lock:
            self._polls, self._scrapes = 0, []
        self._began = time.monotonic()
        self._stop.clear()
        self._scraper = threading.Thread(target=self._scrape_repeatedly, args=(url, headers))
        self._scraper.start()

    def stop(self) -> dict[str, Any]:
        """Stop; return the duration, the number of polls, and the seconds of each scrape (null if it failed)."""
        assert self._scraper is not None
        self._stop.set()
        seconds = time.monotonic() - self._began
        with self._lock:
            polls = self._polls
        self._scraper.join()
        return {"seconds": seconds, "polls": polls, "scrapes": self._scrapes}

    def _scrape_repeatedly(self, url: str, headers: dict[str, str]) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            is_answered = scrape(url, headers)
            seconds = time.monotonic() - began
            self._scrapes.append(seconds if is_answered else None)
            self._stop.wait(max(0.0, SCRAPE_INTERVAL_SECONDS - seconds))


def scrape(url: str, headers: dict[str, str]) -> bool:
    """Return whether the URL returns 200 and a complete body."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=SCRAPE_TIMEOUT_SECONDS, context=context
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=SCRAPE_TIMEOUT_SECONDS)
    try:
        connection.request("GET", parts.path, headers=headers)
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return answer.status == 200


def main() -> None:
    observer = Observer()
    streams = json.dumps(STREAMS).encode()

    class Platform(BaseHTTPRequestHandler):
        """node-media-server 2 with one stream."""

        def do_GET(self) -> None:
            status, body = 404, b"{}"
            if self.path.endswith("/streams"):
                observer.count_poll()
                status, body = 200, streams
            elif self.path.endswith("/server"):
                status, body = 200, b'{"version": "2.7.4"}'
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Platform) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        print(server.server_port, flush=True)
        for line in sys.stdin:
            command = json.loads(line)
            if command["do"] == "start":
                observer.start(command["url"], command["headers"])
            else:
                print(json.dumps(observer.stop()), flush=True)
        server.shutdown()
        thread.join()


if __name__ == "__main__":
    main()
