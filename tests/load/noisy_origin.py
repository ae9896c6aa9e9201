"""A server of HLS streams with the faults of every day, none of which viewers notice.

It serves the files of an encoder, but answers some requests with 503, publishes some segments late, and can replace
segments with advertisements.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

UNAVAILABLE_SHARE = 0.03
"""Share of all requests that get status 503."""
LATE_SHARE = 0.25
LATE_SECONDS = 0.8
"""How much later than usual, of a target duration of 2 s: 1.4 target durations after the segment before."""
AD_SECONDS = 20.0
_LOOK_SECONDS = 0.05
_TYPES = {".m3u8": "application/vnd.apple.mpegurl", ".ts": "video/mp2t"}


class NoisyOrigin:
    """Serves a folder. The advertisements are the segments of another folder."""

    def __init__(self, folder: Path, advertisements: Path, seed: int) -> None:
        self.folder = folder
        self._advertisements = advertisements
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._playlists: dict[str, _PublishedPlaylist] = {}
        self.url = ""
        self.requests = self.unavailable = 0
        self._ad_until = 0.0

    def start_advertisement(self) -> None:
        """Replace the segments that appear within ``AD_SECONDS`` from now."""
        self._ad_until = time.monotonic() + AD_SECONDS

    @property
    def late(self) -> int:
        """Number of playlist versions that were published late."""
        return sum(playlist.late for playlist in self._playlists.values())

    def respond(self, path: str, byte_range: str | None) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body."""
        with self._lock:
            self.requests += 1
            if self._random.random() < UNAVAILABLE_SHARE:
                self.unavailable += 1
                return 503, {}, b"busy"
        name = path.rpartition("/")[2]
        if name.endswith(".m3u8"):
            return self._playlist(name)
        file = self._newest_advertisement() if path.startswith("/ad/") else self.folder / name
        try:
            body = b"" if file is None else file.read_bytes()
        except FileNotFoundError:
            body = b""
        if not body:
            return 404, {}, b"not found"
        return _partial(body, byte_range)

    def _playlist(self, name: str) -> tuple[int, dict[str, str], bytes]:
        with self._lock:
            published = self._playlists.get(name)
            text = None if published is None else published.current
        return (404, {}, b"not found") if text is None else (200, {}, text.encode())

    def _newest_advertisement(self) -> Path | None:
        return max(self._advertisements.glob("*.ts"), default=None, key=lambda file: file.stat().st_mtime)

    def look(self) -> None:
        """Take note of new versions of playlists, and publish those that are due."""
        now = time.monotonic()
        for file in self.folder.glob("*.m3u8"):
            with self._lock:
                published = self._playlists.setdefault(file.name, _PublishedPlaylist(self._random))
                published.look(file.read_text(), now, is_ad=now < self._ad_until)


class _PublishedPlaylist:
    """The versions of one playlist."""

    def __init__(self, generator: random.Random) -> None:
        self._random = generator
        self.current: str | None = None
        self.late = 0
        self._written = ""
        self._next: tuple[float, str] | None = None
        self._ads: set[str] = set()
        """Segments that are replaced."""
        self._seen: set[str] = set()
        self._sequence = 0

    def look(self, text: str, now: float, *, is_ad: bool) -> None:
        if text != self._written and text.endswith("\n"):
            self._written = text
            if self._next is not None:
                self.current = self._next[1]
            is_late = self.current is not None and self._random.random() < LATE_SHARE
            self.late += is_late
            self._next = now + (LATE_SECONDS if is_late else 0.0), self._spliced(text, is_ad=is_ad)
        if self._next is not None and now >= self._next[0]:
            self.current, self._next = self._next[1], None

    def _spliced(self, text: str, *, is_ad: bool) -> str:
        """Return the playlist with its advertisements."""
        if "#EXT-X-STREAM-INF" in text:
            return text
        uris = [line for line in text.splitlines() if line and not line.startswith("#")]
        sequence = int(text.partition("#EXT-X-MEDIA-SEQUENCE:")[2].partition("\n")[0])
        if sequence < self._sequence:
            # the encoder was restarted, and uses the same names again
            self._seen, self._ads = set(), set()
        self._sequence = sequence
        new = [uri for uri in uris if uri not in self._seen]
        self._seen.update(new)
        self._ads.update(new if is_ad else ())
        lines: list[str] = []
        was_ad, pending = False, list[str]()
        for line in text.splitlines():
            if line.startswith(("#EXTINF", "#EXT-X-PROGRAM-DATE-TIME")):
                pending.append(line)
            elif line and not line.startswith("#"):
                is_in_ad = line in self._ads
                if is_in_ad != was_ad:
                    lines.append("#EXT-X-DISCONTINUITY")
                    lines.append(f"#EXT-X-CUE-OUT:DURATION={AD_SECONDS:.0f}" if is_in_ad else "#EXT-X-CUE-IN")
                lines += [*pending, f"/ad/{line}" if is_in_ad else line]
                was_ad, pending = is_in_ad, []
            else:
                lines.append(line)
        return "\n".join(lines) + "\n"


def _partial(body: bytes, byte_range: str | None) -> tuple[int, dict[str, str], bytes]:
    if byte_range is None:
        return 200, {}, body
    first, _, last = byte_range.removeprefix("bytes=").partition("-")
    start, end = int(first), min(int(last or len(body)), len(body) - 1)
    return 206, {"Content-Range": f"bytes {start}-{end}/{len(body)}"}, body[start : end + 1]


@contextmanager
def running_noisy_origin(folder: Path, advertisements: Path, seed: int) -> Iterator[NoisyOrigin]:
    """Serve a folder on a free loopback port."""
    origin = NoisyOrigin(folder, advertisements, seed)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, headers, body = origin.respond(self.path.partition("?")[0], self.headers.get("Range"))
            self.send_response(status)
            kind = _TYPES.get(Path(self.path).suffix, "text/plain")
            for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    is_over = threading.Event()

    def look() -> None:
        while not is_over.wait(_LOOK_SECONDS):
            origin.look()

    threads = [threading.Thread(target=target, daemon=True) for target in (server.serve_forever, look)]
    for thread in threads:
        thread.start()
    origin.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield origin
    finally:
        is_over.set()
        server.shutdown()
        server.server_close()
        for thread in threads:
            thread.join()
