"""Polls of one response with 1,000 streams: request, decoding, validation, states, histograms and publishing."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen
from xml.etree import ElementTree

from bench.case_runner import Figures, measure_cpu
from bench.generated_streams import settings_of
from exporter.config.root import Settings
from exporter.polling.coordinator import Coordinator
from exporter.service import Service

STREAMS = 1_000
POLLS = 10


def main(case: str, directory: str) -> Figures:
    """Return CPU seconds of a poll, and of parsing its response with the standard library."""
    platform, form = case.split()
    path, body = RESPONSES[case]()
    file = Path(directory) / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(body)
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", directory]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            port = server.stdout.readline().split(" port ")[1].split()[0]
            url = f"http://127.0.0.1:{port}"
            with urlopen(f"{url}/{path}") as answer:
                assert answer.status == 200
            upstream: dict[str, Any] = {"name": "bench", "platform": platform, "url": url}
            upstream |= {"timeout": "60s", "interval": "90s"}
            if case == "icecast XML":
                upstream["auth"] = {"username": "admin", "password": "p"}
            seconds = asyncio.run(_poll(settings_of({"upstreams": [upstream]})))
        finally:
            server.kill()
    parse: Callable[[], Any] = (lambda: ElementTree.fromstring(body)) if form == "XML" else (lambda: json.loads(body))
    return {"poll": seconds, "parse": measure_cpu(lambda: [parse() for _ in range(POLLS)]) / POLLS}


async def _poll(settings: Settings) -> float:
    service = Service(settings, load=lambda: settings)
    (upstream,) = settings.upstreams
    service.store.arrange([upstream.name])
    coordinator: Coordinator = service._build_coordinator(upstream, service.settings)  # noqa: SLF001
    service.polling_metrics.add_upstream(upstream.platform, upstream.name)
    await coordinator.poll()
    view = service.store.get(upstream.name)
    assert view is not None and len(view.streams) == STREAMS and view.up, view and view.last_error  # noqa: PT018
    began = time.process_time()
    for _ in range(POLLS):
        await coordinator.poll()
    spent = time.process_time() - began
    await coordinator.close()
    return spent / POLLS


def _nginx_xml() -> tuple[str, str]:
    rows = "".join(
        f"<stream><name>cam{n:04}</name><time>21881</time><bw_in>892304</bw_in><bytes_in>{2218618 + n}</bytes_in>"
        f"<bw_out>476168</bw_out><bytes_out>{611056 + n}</bytes_out><bw_audio>106496</bw_audio>"
        f"<bw_video>785800</bw_video><client><id>{2 * n}</id><address>192.0.2.1</address><time>7970</time>"
        "<flashver>LNX 9,0,124,2</flashver><dropped>0</dropped><avsync>-13</avsync><timestamp>21863</timestamp>"
        f"<active/></client><client><id>{2 * n + 1}</id><address>192.0.2.2</address><time>22063</time>"
        "<flashver>FMLE/3.0 (compatible; Lavf59.27</flashver><dropped>0</dropped><avsync>-13</avsync>"
        "<timestamp>21863</timestamp><publishing/><active/></client><meta><video><width>640</width><height>360</height>"
        "<frame_rate>25</frame_rate><codec>H264</codec><profile>Baseline</profile><compat>192</compat><level>3.0</level>"
        "</video><audio><codec>AAC</codec><profile>LC</profile><channels>1</channels><sample_rate>44100</sample_rate>"
        "</audio></meta><nclients>2</nclients><publishing/><active/></stream>\n"
        for n in range(STREAMS)
    )
    head = "<nginx_rtmp_version>1.1.4</nginx_rtmp_version><pid>4242</pid><uptime>24</uptime><bw_in>903144</bw_in>"
    live = f"<application><name>live</name><live>{rows}</live></application>"
    return "stat", f'<?xml version="1.0" encoding="utf-8" ?>\n<rtmp>{head}<server>{live}</server></rtmp>\n'


def _nginx_json() -> tuple[str, str]:
    def client(number: int, *, publishing: bool) -> dict[str, Any]:
        return {"id": number, "address": "192.0.2.1", "time": 22063, "flashver": "FMLE/3.0", "dropped": 0,
                "avsync": -13, "timestamp": 21863, "publishing": publishing, "active": True}  # fmt: skip

    video = {"width": 640, "height": 360, "frame_rate": 25, "codec": "H264", "profile": "Baseline", "level": 3.0}
    audio = {"codec": "AAC", "profile": "LC", "channels": 1, "sample_rate": 44100}
    rows = [
        {"name": f"cam{n:04}", "time": 21881, "bw_in": 892304, "bytes_in": 2218618 + n, "bw_out": 476168,
         "bytes_out": 611056 + n, "bw_audio": 106496, "bw_video": 785800,
         "clients": [client(2 * n, publishing=False), client(2 * n + 1, publishing=True)],
         "meta": {"video": video, "audio": audio}, "nclients": 2, "publishing": True, "active": True}
        for n in range(STREAMS)
    ]  # fmt: skip
    servers = [{"port": 1935, "server_index": 0, "applications": [{"name": "live", "live": {"streams": rows}}]}]
    head = {"nginx_http_flv_version": "1.2.11", "pid": 8, "uptime": 20, "bw_in": 903144}
    return "stat", json.dumps({"http-flv": {**head, "servers": servers}})


def _icecast_values(number: int) -> dict[str, Any]:
    return {
        "audio_info": "ice-bitrate=128;ice-channels=2;ice-samplerate=44100",
        "genre": "various",
        "ice-bitrate": 128,
        "listener_peak": 9,
        "listeners": 4,
        "listenurl": f"http://localhost:8000/mount{number:04}",
        "server_description": "Unspecified description",
        "server_name": "Radio",
        "server_type": "audio/mpeg",
        "stream_start": "Sun, 29 Nov 2026 20:25:58 +0000",
        "stream_start_iso8601": "2026-11-29T20:25:58+0000",
        "title": "A title",
    }


def _icecast_xml() -> tuple[str, str]:
    more = {"max_listeners": "unlimited", "public": 0, "slow_listeners": 0, "source_ip": "192.0.2.1",
            "total_bytes_read": 145_076, "total_bytes_sent": 99_000, "user_agent": "Lavf/59.27.100"}  # fmt: skip
    rows = "".join(
        f'<source mount="/mount{n:04}">'
        + "".join(f"<{name}>{value}</{name}>" for name, value in {**_icecast_values(n), **more}.items())
        + "</source>"
        for n in range(STREAMS)
    )
    head = "<server_id>Icecast 2.4.4</server_id><server_start_iso8601>2026-11-29T20:25:56+0000</server_start_iso8601>"
    return "admin/stats", f'<?xml version="1.0"?>\n<icestats>{head}<sources>{STREAMS}</sources>{rows}</icestats>\n'


def _icecast_json() -> tuple[str, str]:
    sources = [{**_icecast_values(n), "dummy": None} for n in range(STREAMS)]
    head = {"server_id": "Icecast 2.4.4", "server_start_iso8601": "2026-11-29T20:25:56+0000"}
    return "status-json.xsl", json.dumps({"icestats": {**head, "source": sources}})


RESPONSES: dict[str, Callable[[], tuple[str, str]]] = {
    "nginx_rtmp XML": _nginx_xml,
    "nginx_rtmp JSON": _nginx_json,
    "icecast XML": _icecast_xml,
    "icecast JSON": _icecast_json,
}
