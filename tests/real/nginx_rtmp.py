"""nginx with its RTMP module, ffmpeg as publisher and as player."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from tests.real.child_process import GENEROUS_SECONDS, Program, free_port, responds, running_server, wait_until
from tests.real.media import Publisher
from tests.real.tools import tool

APPLICATION = "live"
_CONFIGURATION = """\
load_module {module};
{user}
worker_processes {workers};
daemon off;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 256; }}
{main}
rtmp {{
  access_log off;
  server {{
    listen 127.0.0.1:{rtmp_port};
    application {application} {{ live on; record off; {directives} }}
    application vod {{ play .; }}
  }}
}}
http {{
  access_log off;
  client_body_temp_path .; proxy_temp_path .; fastcgi_temp_path .; uwsgi_temp_path .; scgi_temp_path .;
  server {{
    listen 127.0.0.1:{port};
    location = /stat {{ rtmp_stat all; {stat} }}
  }}
  {http}
}}
"""


class NginxRtmp:
    """A server, its statistics page, and where to publish."""

    def __init__(self, program: Program, port: int, rtmp_port: int) -> None:
        self.program = program
        self.port = port
        self.rtmp_port = rtmp_port
        self.url = f"http://127.0.0.1:{port}"

    def publish(
        self,
        name: str,
        *,
        bits_per_second: int = 400_000,
        suffix: str = "",
        seconds: int = 300,
        has_audio: bool = True,
    ) -> Publisher:
        """Publish a test picture to ``live/NAME`` until the end of the block."""
        url = f"rtmp://127.0.0.1:{self.rtmp_port}/{APPLICATION}/{name}"
        return Publisher(
            url,
            self.program.directory,
            bits_per_second=bits_per_second,
            suffix=suffix,
            seconds=seconds,
            has_audio=has_audio,
        )

    def watch(self, name: str) -> Program:
        """Play ``live/NAME`` until the end of the block."""
        url = f"rtmp://127.0.0.1:{self.rtmp_port}/{APPLICATION}/{name}"
        quiet = ["-hide_banner", "-loglevel", "error", "-nostdin"]
        command: list[str | Path] = [tool("ffmpeg"), *quiet, "-i", url, "-c", "copy", "-f", "null", "-"]
        return Program(command, self.program.directory, name=f"player-{name}")

    def statistics(self) -> str:
        """Return the statistics page, as a new connection gets it."""
        with urlopen(f"{self.url}/stat", timeout=GENEROUS_SECONDS) as answer:
            return str(answer.read().decode())

    def restart(self) -> None:
        """End all processes of the server, and start it again on the same ports."""
        self.program.signal(signal.SIGKILL)
        self.program.process.wait(GENEROUS_SECONDS)
        self.program = _start(self.program.directory)
        wait_until(lambda: responds(f"{self.url}/stat"), "nginx is ready again")


@contextmanager
def running_nginx_rtmp(
    directory: Path, *, workers: int = 1, main: str = "", directives: str = "", stat: str = "", http: str = ""
) -> Iterator[NginxRtmp]:
    """Run a server.

    ``main``, ``directives``, ``stat``, ``http``: more directives at the top, of the application, of the page, and of
    the web server.
    """
    rtmp_port = free_port()

    def start(port: int) -> Program:
        text = _CONFIGURATION.format(
            module=tool("nginx-rtmp-module"),
            user="user root root;" if os.geteuid() == 0 else "",
            workers=workers,
            main=main,
            directives=directives,
            stat=stat,
            http=http,
            application=APPLICATION,
            port=port,
            rtmp_port=rtmp_port,
        )
        (directory / "nginx.conf").write_text(text)
        return _start(directory)

    with running_server(start, lambda port: responds(f"http://127.0.0.1:{port}/stat")) as (program, port):
        server = NginxRtmp(program, port, rtmp_port)
        try:
            yield server
        finally:
            server.program.kill()


def _start(directory: Path) -> Program:
    command: list[str | Path] = [tool("nginx"), "-p", directory, "-c", directory / "nginx.conf", "-e", "stderr"]
    return Program(command, directory, name="nginx")
