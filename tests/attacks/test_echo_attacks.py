"""Platforms that echo, in every text, the credentials that they receive."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

import pytest

from tests.attacks.attack_run import AttackRun
from tests.exporter_process import Exporter

TOKEN, API_KEY, EXPORT_KEY = "hostile-bearer-token-1", "hostile-api-key-2", "hostile-export-key-3"
STREAMS = 300


class Handler(BaseHTTPRequestHandler):
    """Livepeer at ``/livepeer``, Storm at ``/storm`` and WAVE at ``/wave``."""

    def do_GET(self) -> None:
        sent = " ".join(value for name, value in self.headers.items() if name.lower() in ("authorization", "x-api-key"))
        kind, body, status = "application/json", json.dumps({"message": f"not found {sent}"}), 404
        path = self.path.partition("?")[0]
        if path == "/livepeer/stream":
            status, body = 200, json.dumps([livepeer_stream(sent, number) for number in range(STREAMS)])
        elif path == "/storm/api/streams":
            rows = [storm_stream(sent, number) for number in range(STREAMS)]
            page = {"list": rows, "hasNext": False, "totalItems": STREAMS, "currentPage": 1, "totalPages": 1}
            status, body = 200, json.dumps({"data": page, "meta": {"generatedAt": 0}})
        elif path.startswith("/wave/streaming/sessions/"):
            metrics = {"network": {"bytesReceived": 1}, f"more {sent}": 1}
            session = {"sessionId": "watched", "status": "live", "protocol": sent, "metrics": metrics}
            status, body = 200, json.dumps(session)
        elif path == "/wave/streaming/analytics/prometheus":
            kind, status = "text/plain", 200
            body = f'# HELP echo Sent: {sent}\n# TYPE echo gauge\necho{{sent="{sent}"}} 1\n'
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("X-Sent", sent)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        pass


def livepeer_stream(sent: str, number: int) -> dict[str, Any]:
    return {
        "id": f"{number} {sent}",
        "name": sent if number % 2 else f"{sent}-{number}",
        "playbackId": sent,
        "isActive": True,
        "isHealthy": False,
        "issues": [f"the credentials are {sent}", sent],
        "profiles": [{"name": f"720p {sent}", "bitrate": 1}],
        "multistream": {"targets": [{"id": "1", "profile": sent}]},
    }


def storm_stream(sent: str, number: int) -> dict[str, Any]:
    return {
        "id": f"{sent}{number}",
        "state": "PUBLISHED",
        "type": sent,
        "application": sent,
        "streamKey": f"{sent}{number}",
        "healthScore": 1,
        "healthGrade": f"Bad {sent}",
    }


@pytest.fixture
def platform() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def responses(exporter: Exporter) -> str:
    """Return everything that the exporter serves, including the details of some streams."""
    listed = json.loads(exporter.ask("/api/v1/streams")[1])
    some = [stream for stream in listed["streams"] if stream["upstream"] != "healthy"][:: STREAMS // 3]
    addresses = [f"upstream={stream['upstream']}&stream={quote(stream['stream'], safe='')}" for stream in some]
    details = [f"/api/v1/{api}?{address}" for api in ("stream", "history") for address in addresses]
    probes = [f"/probe?upstream={upstream['upstream']}" for upstream in listed["upstreams"]]
    pages = ("/metrics", "/config", "/sd", "/", *(f"/api/v1/{api}" for api in ("streams", "alerts", "rules")))
    return "\n".join(exporter.ask(page)[1] for page in (*pages, *probes, *details))


def test_echoed_credentials_are_in_no_response_and_no_log_line(platform: str, tmp_path: Path) -> None:
    passthrough = {"enabled": True, "api_key": EXPORT_KEY, "interval": "10s"}
    upstreams: list[dict[str, Any]] = [
        {"name": "bearer", "platform": "livepeer", "url": f"{platform}/livepeer", "auth": {"bearer_token": TOKEN}},
        {"name": "key", "platform": "storm", "url": f"{platform}/storm", "auth": {"api_key": API_KEY}},
        {
            "name": "export",
            "platform": "wave",
            "url": f"{platform}/wave",
            "auth": {"bearer_token": TOKEN},
            "interval": "10s",
            "sessions": ["watched"],
            "session_numbers": True,
            "prometheus": passthrough,
        },
    ]
    with AttackRun("echo", tmp_path, upstreams, arguments=("--log.level=debug",)) as run:
        for upstream in upstreams:
            run.exporter.wait_for(rf'msg="upstream is up".* upstream={upstream["name"]} ')
        with run.under_attack(6.0):
            shown = responses(run.exporter)
        said = run.exporter.said
    labels = re.findall(r'^stream_status\{.*upstream="(bearer|key|export)",stream="(.*)",status=', shown, re.MULTILINE)
    # streams with the same name stay separate
    assert len(set(labels)) == 2 * STREAMS + 1
    assert re.search(r'^wave_echo\{.*sent=".*<secret>.*"\} 1$', shown, re.MULTILINE)
    assert [secret for secret in (TOKEN, API_KEY, EXPORT_KEY) if secret in f"{shown}\n{said}"] == []
