"""A fast local upstream (nginx with static responses in Storm's format) and exporter configurations that poll it."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.server_process import Server

ROWS_PER_PAGE = 100
APPLICATION = "live"
_PROVIDED = Path(__file__).parents[1] / ".cache/tools/nginx/usr/sbin/nginx"
_CONFIGURATION = """\
daemon off;
master_process off;
error_log stderr crit;
pid nginx.pid;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  open_file_cache max=10000 inactive=1h;
  default_type application/json;
  client_body_temp_path .; proxy_temp_path .; fastcgi_temp_path .; uwsgi_temp_path .; scgi_temp_path .;
  server {{
    listen 127.0.0.1:{port};
    root {root};
    location = /api/streams {{ try_files /$arg_page.json =404; }}
    location = /api/streams/batch {{ return 404; }}
    location /api/streams/ {{ try_files /stream.json =404; }}
    location ~ ^/(\\d+)/api/streams$ {{ try_files /$arg_page.json =404; }}
    location = /metrics {{
      default_type "text/plain; version=0.0.4; charset=utf-8";
      add_header Content-Encoding gzip;
      alias {root}/metrics.gz;
    }}
  }}
}}
"""
"""The same lists are also below /NUMBER/api, for more upstreams of the same size; /metrics is the file metrics.gz."""


def stream_object(index: int | None) -> dict[str, Any]:
    """Return a stream object as in Storm's documentation; without an index it has no identity."""
    names = {} if index is None else {"streamKey": f"stream-{index:06}", "application": APPLICATION}
    return {
        **names,
        "id": index or 0,
        "type": "LIVE",
        "state": "PUBLISHED",
        "startTime": 1_700_000_000_000 + 1000 * (index or 0),
        "healthScore": 97,
        "healthGrade": "Excellent",
        "inBandwidth": 562_500 + (index or 0),
        "outBandwidth": 1_125_000 + (index or 0),
        "inTotalBytes": 123_456_789_012 + (index or 0),
        "outTotalBytes": 223_456_789_012 + (index or 0),
        "viewerCount": 120,
        "systemClientCount": 2,
        "isRecording": False,
        "allowedToPublish": True,
        "videoCodec": "h264",
        "audioCodec": "aac",
        "publisherAddress": "192.0.2.17",
        "vhost": "_defaultVHost_",
        "server": "edge-1.example.org",
        "protocol": "rtmp",
        "metadata": {"encoder": "OBS 30.1", "title": "A stream of the bench", "language": "en"},
    }


def find_nginx() -> Path | None:
    """Return the path of nginx, either installed or provided by ``make tools``."""
    installed = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if installed:
        return Path(installed)
    return _PROVIDED if _PROVIDED.exists() else None


@contextmanager
def running_nginx(
    program: Path, directory: Path, streams: int, rows_per_page: int = ROWS_PER_PAGE
) -> Iterator[tuple[str, int]]:
    """Run nginx with this number of streams in its list; yield the base URL and the process."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    (directory / "stream.json").write_text(json.dumps({"data": stream_object(None), "meta": {}}))
    pages = -(-streams // rows_per_page)
    for number in range(1, pages + 1):
        rows = range((number - 1) * rows_per_page, min(number * rows_per_page, streams))
        page = {"list": [stream_object(index) for index in rows], "hasNext": number < pages}
        (directory / f"{number}.json").write_text(json.dumps({"data": page, "meta": {}}))
    configuration = directory / "nginx.conf"
    configuration.write_text(_CONFIGURATION.format(port=port, root=directory))
    process = subprocess.Popen([program, "-p", directory, "-c", configuration, "-e", "stderr"])
    try:
        _wait_for_port(port)
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        process.wait()


def _wait_for_port(port: int) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError("nginx does not listen")


GENEROUS_SECONDS = 180.0


def list_config(url: str, upstreams: int, **defaults: Any) -> dict[str, Any]:
    """Return a configuration with several upstreams that have the same list."""
    return {
        "defaults": {"max_streams": 1_000_000, **defaults},
        "upstreams": [
            {"name": f"list-{number}", "platform": "storm", "url": url, "base_path": f"/{number}/api", "discover": True}
            for number in range(upstreams)
        ],
    }


def single_config(url: str, upstreams: int, streams: int, **defaults: Any) -> dict[str, Any]:
    """Return a configuration with several upstreams whose streams are requested individually."""
    return {
        "defaults": {"max_streams": 1_000_000, **defaults},
        "upstreams": [
            {
                "name": f"single-{number}",
                "platform": "storm",
                "url": url,
                "discover": False,
                "streams": [{"application": APPLICATION, "key": f"stream-{n:06}"} for n in range(streams)],
            }
            for number in range(upstreams)
        ],
    }


def write_config(directory: str, configuration: dict[str, Any]) -> str:
    """Write the configuration as JSON, which is also YAML, and return the file."""
    file = Path(directory, "config.yaml")
    file.write_text(json.dumps(configuration))
    return str(file)


def wait_for_streams(server: Server, streams: int) -> None:
    """Wait until the exporter serves this number of streams."""
    until = time.monotonic() + GENEROUS_SECONDS
    while not server.call("ready") or server.call("streams") < streams:
        if time.monotonic() > until:
            raise TimeoutError(f"{server.call('streams')} streams of {streams} are there")
        time.sleep(0.1)
