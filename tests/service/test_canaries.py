"""Canary values in every place that can hold a secret must not appear in any output of the process."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from tests.exporter_process import GENEROUS_SECONDS, Exporter, exporter

pytestmark = pytest.mark.system

TOKEN, PASSWORD, API_KEY, HASH_KEY = "canary-token-1", "canary-password-2", "canary-apikey-3", "canary-hashkey-4"
STREAM_KEY, USERINFO = "canary-streamkey-5", "canary-userinfo-6"
ALERT_TOKEN, ALERT_HEADER, HOOK_TOKEN = "canary-alerttoken-7", "canary-alertheader-8", "canary-hooktoken-9"
CANARIES = (TOKEN, PASSWORD, API_KEY, HASH_KEY, STREAM_KEY, USERINFO, ALERT_TOKEN, ALERT_HEADER, HOOK_TOKEN)


class Echo(BaseHTTPRequestHandler):
    """All platforms in one server, which quotes everything it is sent and its streams' keys."""

    def do_GET(self) -> None:
        if self.path.startswith("/storm/api/streams?"):
            stream = {
                "id": STREAM_KEY,
                "state": "PUBLISHED",
                "application": "live",
                "streamKey": STREAM_KEY,
                "inBandwidth": f"not a number but {STREAM_KEY}",
                "healthGrade": f"Bad {STREAM_KEY}",
            }
            page = {"list": [stream], "hasNext": False, "totalItems": 1, "currentPage": 1, "totalPages": 1}
            self._answer(200, {"data": page, "meta": {"generatedAt": 0}})
        elif self.path.startswith("/storm/"):
            self._answer(500, {"message": f"{self.path} {STREAM_KEY}"})
        else:
            sent = " ".join(self.headers.values())
            self._answer(401, {"errors": [f"no token {sent} found at {self.path}"]})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        sent = " ".join(self.headers.values())
        self._answer(401, {"message": f"wrong: {body} {sent}"})

    def _answer(self, status: int, data: Any) -> None:
        body = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def echo() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def configuration_of(echo: str) -> dict[str, Any]:
    hashed = {"stream_label": "hash", "stream_hash_key": HASH_KEY}
    return {
        "defaults": {"interval": "1s"},
        "alerting": {
            "alertmanagers": [
                {"url": f"{echo}/am", "auth": {"bearer_token": ALERT_TOKEN}, "headers": {"X-Key": ALERT_HEADER}}
            ],
            "webhooks": [{"name": "hook", "url": f"{echo}/hook/{HOOK_TOKEN}?key={HOOK_TOKEN}"}],
            "state_file": "alerts.json",
            "thresholds": {"StreamUpstreamDown": {"for": "0s"}},
        },
        "upstreams": [
            {"name": "bearer", "platform": "livepeer", "url": f"{echo}/lp", "auth": {"bearer_token": TOKEN}},
            {
                "name": "login",
                "platform": "storm",
                "url": f"{echo}/login",
                "auth": {"username": "u", "password": PASSWORD},
            },
            {"name": "header", "platform": "storm", "url": f"{echo}/header", "auth": {"api_key": API_KEY}},
            {
                "name": "basic",
                "platform": "node_media_server",
                "url": f"{echo}/nms",
                "auth": {"username": "u", "password": PASSWORD},
            },
            {"name": "hashed", "platform": "storm", "url": f"{echo}/storm", "auth": {"api_key": API_KEY}, **hashed},
            {
                "name": "configured",
                "platform": "storm",
                "url": f"{echo}/storm/off",
                "streams": [{"application": "live", "key": STREAM_KEY, "expected": True}],
                **hashed,
            },
        ],
    }


def all_responses(process: Exporter) -> str:
    streams = json.loads(process.ask("/api/v1/streams")[1])["streams"]
    one = [f"/api/v1/stream?upstream={s['upstream']}&stream={quote(s['stream'], safe='')}" for s in streams]
    api = ("/streams", "/api/v1/streams", "/api/v1/alerts", "/api/v1/rules", "/api/v1/sidecar", *one)
    pages = (*api, "/", "/metrics", "/config", "/-/ready", "/-/healthy", "/-/reload", f"/{quote(STREAM_KEY)[:3]}")
    return "\n".join(process.ask(page)[1] for page in pages) + process.ask("/-/reload", "POST")[1]


def assert_no_canary(text: str) -> None:
    assert [canary for canary in CANARIES if canary in text] == []


@pytest.mark.parametrize("log_format", ["logfmt", "json"])
def test_no_secret_reaches_responses_or_logs(echo: str, tmp_path: Path, log_format: str) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(configuration_of(echo)))
    flags = ("--log.level", "debug", "--log.format", log_format, "--web.enable-lifecycle")
    with Exporter(["--web.listen-address", "127.0.0.1:0", "--config.file", "config.yaml", *flags], tmp_path) as process:
        _wait_for_polls(process)
        text = all_responses(process)
        process.send(signal.SIGTERM)
        assert process.ended() == 0
    # a notification about the upstreams that are down was attempted before the end
    assert "cannot send to webhook" in process.said
    assert 'stream_upstream_up{platform="livepeer",upstream="bearer"} 0' in text
    assert 'stream_upstream_up{platform="storm",upstream="hashed"} 1' in text
    assert 'stream_live{platform="storm",upstream="hashed",stream="' in text
    assert_no_canary(text)
    assert_no_canary(process.said)


def _wait_for_polls(process: Exporter) -> None:
    missing = {upstream["name"] for upstream in configuration_of("http://x")["upstreams"]}
    deadline = time.monotonic() + GENEROUS_SECONDS
    while missing and time.monotonic() < deadline:
        text = process.ask("/metrics?collect[]=upstreams")[1]
        missing -= set(re.findall(r'^stream_upstream_up\{.*upstream="(\w+)"\}', text, re.MULTILINE))
    assert not missing
    # Alertmanager has refused the sidecar's alerts too, and an alert is firing
    signs = (r"notifications_errors_total\{.*\} [1-9]", r"alerts\{.*state=\"firing\"\} [1-9]")
    while time.monotonic() < deadline:
        text = process.ask("/metrics?collect[]=exporter")[1]
        if all(re.search(f"^stream_exporter_{sign}", text, re.MULTILINE) for sign in signs):
            return
    raise AssertionError(process.said)


DYING = f"""
import sys
from exporter import cli
from exporter.service import Service
async def start(self):
    raise RuntimeError("{TOKEN}")
Service.start = start
sys.exit(cli.main())
"""


def test_crash_shows_no_secret(echo: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(configuration_of(echo)))
    with Exporter(["--web.listen-address", "127.0.0.1:0"], tmp_path, ("-c", DYING)) as process:
        assert process.ended() == 1
        assert "Traceback" in process.said
        assert_no_canary(process.said)


@pytest.mark.parametrize(
    "upstream",
    [
        {"url": f"http://user:{USERINFO}@host/", "auth": {"bearer_token": TOKEN}},
        {"url": "http://h", "auth": {"bearer_token": TOKEN, "api_key": API_KEY}},
        {"url": "http://h", "auth": {"bearer_token": [TOKEN]}},
        {"url": "http://h", "auth": TOKEN},
        {"url": "http://h", "auth": {"bearer_token": TOKEN}, "stream_hash_key": {"x": HASH_KEY}},
        {"url": [f"http://user:{USERINFO}@host/"], "auth": {"bearer_token": TOKEN}},
    ],
)
def test_configuration_errors_show_no_secret(upstream: dict[str, Any], tmp_path: Path) -> None:
    bad = {"upstreams": [{"name": "u", "platform": "livepeer", **upstream}]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(bad))
    with exporter("--config.file", "config.yaml", "--config.check", directory=tmp_path) as process:
        assert process.ended() == 1
        assert "config.yaml:" in process.said
        assert_no_canary(process.said)
