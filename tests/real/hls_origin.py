"""HLS origins and what goes wrong with them: real encoders, web servers, caches, balancers and slow servers.

One nginx serves everything: the encoders' folders, a cache in front of them, a slow server, a balancer before two
origins, and what its RTMP module makes of publishers. Segments are 2 s long.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

from tests.real.child_process import (
    GENEROUS_SECONDS,
    Program,
    free_port,
    request_json,
    responds,
    running_server,
    wait_until,
)
from tests.real.media import Publisher
from tests.real.nginx_rtmp import NginxRtmp, running_nginx_rtmp
from tests.real.tools import tool

SEGMENT_SECONDS = 2
FREEZE_SECONDS = 11
"""Time for which an encoder may stop without loss: players have buffered more."""
CACHE_SECONDS = 25
SLOW_BYTES_PER_SECOND = 12_000
_WINDOW = 5
"""Number of segments in a playlist."""
_DELETE_SECONDS = 0.02
_CACHED, _SLOWED, _BALANCED = "cached", "slowed", "balanced"
"""Files whose existence switches a fault on."""
_HTTP = """\
types {{ application/vnd.apple.mpegurl m3u8; video/mp2t ts; video/mp4 mp4 m4s; }}
proxy_cache_path {directory}/cache keys_zone=media:1m;
split_clients $request_id $either {{ 50% 127.0.0.1:{first}; * 127.0.0.1:{second}; }}
server {{ listen 127.0.0.1:{origin}; root {www}; add_header Cache-Control no-cache; }}
server {{ listen 127.0.0.1:{first}; root {www}/first; }}
server {{ listen 127.0.0.1:{second}; root {www}/second; }}
server {{
  listen 127.0.0.1:{balancer};
  set $chosen 127.0.0.1:{first};
  if (-f {directory}/balanced) {{ set $chosen $either; }}
  location / {{ proxy_pass http://$chosen; }}
}}
server {{
  listen 127.0.0.1:{cache};
  set $is_fresh 1;
  if (-f {directory}/cached) {{ set $is_fresh ""; }}
  location / {{
    proxy_pass http://127.0.0.1:{origin};
    proxy_cache media;
    proxy_cache_valid 200 {cache_seconds}s;
    proxy_cache_bypass $is_fresh;
    proxy_no_cache $is_fresh;
    proxy_ignore_headers Cache-Control Expires;
    add_header X-Cache $upstream_cache_status;
  }}
}}
server {{
  listen 127.0.0.1:{slow};
  root {www};
  location ~ \\.(ts|m4s)$ {{ if (-f {directory}/slowed) {{ set $limit_rate {slow_rate}; }} }}
}}
"""


class Encoder(Program):
    """ffmpeg, writing a moving picture and a tone as HLS into a folder. Killed, it leaves the playlist as it was."""

    def __init__(self, folder: Path, *, kind: str = "ts", ladder: bool = False) -> None:
        """``kind``: ``ts`` or ``fmp4``. ``ladder``: two renditions and a master playlist, only for ``ts``."""
        folder.mkdir(parents=True, exist_ok=True)
        self._kind, self._ladder = kind, ladder
        quiet = ["-hide_banner", "-loglevel", "warning", "-nostdin"]
        inputs = [
            "-re",
            "-f",
            "lavfi",
            "-i",
            "testsrc2=s=320x180:r=15",
            "-re",
            "-f",
            "lavfi",
            "-i",
            "sine=f=440:r=44100",
        ]
        rate = SEGMENT_SECONDS * 15
        video = ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p"]
        video += ["-threads", "1", "-g", str(rate), "-keyint_min", str(rate), "-sc_threshold", "0"]
        audio = ["-c:a", "aac", "-b:a", "48k", "-ac", "1"]
        flags = "delete_segments+program_date_time+independent_segments"
        hls = ["-f", "hls", "-hls_time", str(SEGMENT_SECONDS), "-hls_list_size", str(_WINDOW), "-hls_flags", flags]
        super().__init__(
            [tool("ffmpeg"), *quiet, *inputs, *video, *audio, *hls, *(_ladder() if ladder else _single(kind))],
            folder,
            name="ffmpeg",
        )

    @property
    def playlist(self) -> Path:
        """The playlist to start with."""
        return self.directory / ("master.m3u8" if self._ladder else "index.m3u8")

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def restart(self) -> None:
        """Kill it, and start it again in the same folder: numbers and files start again, too."""
        self.kill()
        self.process = Encoder(self.directory, kind=self._kind, ladder=self._ladder).process


def _single(kind: str) -> list[str]:
    if kind == "ts":
        return ["-b:v", "200k", "-hls_segment_filename", "s%05d.ts", "index.m3u8"]
    container = ["-hls_segment_type", "fmp4", "-hls_fmp4_init_filename", "init.mp4"]
    return ["-b:v", "200k", *container, "-hls_segment_filename", "s%05d.m4s", "index.m3u8"]


def _ladder() -> list[str]:
    rates = []
    for number, rate in enumerate(("300k", "100k")):
        rates += [f"-b:v:{number}", rate, f"-maxrate:v:{number}", rate, f"-bufsize:v:{number}", rate]
    maps = ["-map", "0:v", "-map", "0:v", "-map", "1:a", "-map", "1:a", "-filter:v:1", "scale=160:90"]
    names = ["-master_pl_name", "master.m3u8", "-var_stream_map", "v:0,a:0 v:1,a:1"]
    return [*maps, *rates, *names, "-hls_segment_filename", "v%v_%05d.ts", "v%v.m3u8"]


class LowLatencyOrigin(Program):
    """A low-latency HLS origin, in a process of its own (``ll_hls_server.py``)."""

    def __init__(self, directory: Path, port: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        server = Path(__file__).with_name("ll_hls_server.py")
        super().__init__([sys.executable, server, str(tool("ffmpeg")), str(port)], directory, name="ll-hls")
        self.url = f"http://127.0.0.1:{port}"

    def kill_encoder(self) -> None:
        """Kill only its ffmpeg."""
        request_json(f"{self.url}/kill", method="POST")


class SegmentRemover:
    """Deletes segments as soon as they exist, until the end of the block."""

    def __init__(self, folder: Path, pattern: str) -> None:
        self._folder, self._pattern = folder, pattern
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._remove, daemon=True)

    def _remove(self) -> None:
        while not self._is_over.wait(_DELETE_SECONDS):
            for segment in self._folder.glob(self._pattern):
                segment.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        self._thread.join(GENEROUS_SECONDS)


class HlsOrigins:
    """The running servers. ``www`` is what the origin serves."""

    def __init__(self, directory: Path, www: Path, nginx: NginxRtmp, ports: dict[str, int], stack: ExitStack) -> None:
        self.directory = directory
        self.www = www
        self.nginx = nginx
        self.url, self.cache_url, self.slow_url, self.balancer_url = (
            f"http://127.0.0.1:{ports[name]}" for name in ("origin", "cache", "slow", "balancer")
        )
        self._stack = stack

    def encode(self, name: str, *, kind: str = "ts", ladder: bool = False) -> Encoder:
        """Start an encoder that writes into ``www/NAME``; it ends with the servers."""
        return self._stack.enter_context(Encoder(self.www / name, kind=kind, ladder=ladder))

    def publish(self, name: str, *, has_audio: bool = True, suffix: str = "") -> Publisher:
        """Publish to nginx-rtmp, which serves it as ``rtmp/NAME.m3u8``; it ends with the servers."""
        publisher = self.nginx.publish(name, bits_per_second=200_000, suffix=suffix, seconds=7200, has_audio=has_audio)
        return self._stack.enter_context(publisher)

    def start_low_latency(self) -> LowLatencyOrigin:
        """Start a low-latency origin, which ends with the servers."""

        def start(port: int) -> Program:
            return LowLatencyOrigin(self.directory / "ll-hls", port)

        ready = running_server(start, lambda port: responds(f"http://127.0.0.1:{port}/index.m3u8"))
        program, _ = self._stack.enter_context(ready)
        assert isinstance(program, LowLatencyOrigin)
        return program

    def start_caching(self) -> None:
        """Let the cache keep everything for ``CACHE_SECONDS``, playlists too; before, it keeps nothing."""
        (self.directory / _CACHED).touch()

    def start_slowing(self) -> None:
        """Let the slow server send segments with ``SLOW_BYTES_PER_SECOND``; before, it is fast."""
        (self.directory / _SLOWED).touch()

    def start_balancing(self) -> None:
        """Let the balancer use both origins; before, it uses the first one."""
        (self.directory / _BALANCED).touch()

    def remove_segments(self, folder: str, pattern: str) -> None:
        """Delete segments from now on."""
        self._stack.enter_context(SegmentRemover(self.www / folder, pattern))


@contextmanager
def running_hls_origins(directory: Path) -> Iterator[HlsOrigins]:
    """Run nginx as all of the servers."""
    www = directory / "www"
    for folder in (www / "rtmp", www / "first", www / "second", directory / "cache"):
        folder.mkdir(parents=True)
    ports = {name: free_port() for name in ("origin", "first", "second", "balancer", "cache", "slow")}
    http = _HTTP.format(
        directory=directory, www=www, cache_seconds=CACHE_SECONDS, slow_rate=SLOW_BYTES_PER_SECOND, **ports
    )
    length = SEGMENT_SECONDS * _WINDOW
    directives = f"hls on; hls_path {www}/rtmp; hls_fragment {SEGMENT_SECONDS}s; hls_playlist_length {length}s;"
    with (
        running_nginx_rtmp(directory, directives=directives, http=http) as nginx,
        ExitStack() as stack,
    ):
        yield HlsOrigins(directory, www, nginx, ports, stack)


def wait_for_playlists(*files: Path) -> None:
    """Wait until all playlists list a segment."""

    def is_ready(file: Path) -> bool:
        return file.exists() and ("#EXTINF" in file.read_text() or "#EXT-X-STREAM-INF" in file.read_text())

    wait_until(lambda: all(map(is_ready, files)), f"{len(files)} playlists exist")
