"""Platforms echo their request in every free text field; none of it may leave the process."""

from __future__ import annotations

import base64
import json
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from exporter.platforms.testing import RecordedResponse
from tests.exporter_process import GENEROUS_SECONDS, Exporter
from tests.faults.echoed_responses import EVERYTHING, echoed, text_fields, with_secrets
from tests.platforms.recordings import PlatformRecording, main_recordings

pytestmark = pytest.mark.system

SECRET, TOKEN = "canary-secret-of-a-platform", "canary-token-of-a-login"
_CREDENTIALS = ("Authorization", "X-Api-Key")
_TIMELESS = ("interval", "timeout", "stale_after", "name")


class EchoingPlatforms(ThreadingHTTPServer):
    """All platforms, below ``/PLATFORM/echo`` (usable) and ``/PLATFORM/all``, and alert receivers at ``/am``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.started_at = time.time()
        self._lock = Lock()
        self._received: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def receive(self, body: str) -> None:
        with self._lock:
            self._received.append(body)

    @property
    def received(self) -> str:
        with self._lock:
            return "\n".join(self._received)


class Handler(BaseHTTPRequestHandler):
    server: EchoingPlatforms

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        if self.path.startswith("/am/"):
            self.server.receive(body)
            self._send(RecordedResponse(b"{}"), {})
            return
        _, platform, kind, path = self.path.split("/", 3)
        recording = main_recordings()[platform]
        response = self._respond(recording, f"{self.command} /{path.partition('?')[0]}", kind, f"{self._sent()} {body}")
        now = recording.recording.recorded_at + time.time() - self.server.started_at
        self._send(response, {"Date": formatdate(now, usegmt=True), "X-Echo": self._sent(), "Server": self._sent()})

    def do_POST(self) -> None:
        self.do_GET()

    def _sent(self) -> str:
        return " ".join(self.headers[name] for name in _CREDENTIALS if name in self.headers)

    def _respond(self, recording: PlatformRecording, request: str, kind: str, echo: str) -> RecordedResponse:
        if request not in recording.recording.responses:
            return RecordedResponse(json.dumps({"message": f"not found {echo}"}).encode(), 404)
        response = recording.response(request)
        login = recording.login
        if login is not None and request == login.request:
            return response.with_values({login.token: TOKEN})
        for field in [EVERYTHING] if kind == "all" else free_fields(recording):
            response = replace(response, body=echoed(response, field, echo))
        return response

    def _send(self, response: RecordedResponse, headers: dict[str, str]) -> None:
        self.send_response_only(response.status)
        for name, value in {"Content-Type": response.content_type, **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        self.wfile.write(response.body)

    def log_message(self, *_: object) -> None:
        pass


@cache
def _fields(platform: str) -> tuple[str, ...]:
    recording = main_recordings()[platform]
    proofs = (*recording.proofs.off_air, *recording.proofs.unknown)
    fixed = {*recording.rows.identity, *(path.rpartition("/")[2] for path in proofs)}
    return tuple(field for field in text_fields(recording) if field not in fixed)


def free_fields(recording: PlatformRecording) -> tuple[str, ...]:
    """Return the text fields that neither identify a stream nor tell whether it is live."""
    return _fields(recording.platform.name)


@pytest.fixture
def platforms() -> Iterator[EchoingPlatforms]:
    with EchoingPlatforms() as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def configuration(url: str) -> dict[str, Any]:
    upstreams: list[dict[str, Any]] = []
    for name, recording in main_recordings().items():
        given = recording.recording.settings
        settings = with_secrets({key: value for key, value in given.items() if key not in _TIMELESS}, SECRET)
        upstreams += [
            {"name": f"{name}-{kind}", "platform": name, "url": f"{url}/{name}/{kind}", **settings}
            for kind in ("echo", "all")
        ]
    return {
        "defaults": {"interval": "1s", "health_grace": 0},
        "upstreams": upstreams,
        "alerting": {
            "alertmanagers": [{"url": f"{url}/am"}],
            "webhooks": [{"name": "hook", "url": f"{url}/am/hook"}],
            "state_file": "alerts.json",
            "thresholds": {"StreamUnhealthy": {"for": "0s", "value": 1.0}},
        },
    }


def all_responses(process: Exporter) -> str:
    listed = json.loads(process.ask("/api/v1/streams")[1])
    streams = [
        f"/api/v1/{api}?upstream={stream['upstream']}&stream={quote(stream['stream'], safe='')}"
        for stream in listed["streams"]
        for api in ("stream", "history")
    ]
    probes = [f"/probe?upstream={upstream['upstream']}" for upstream in listed["upstreams"]]
    api = ("streams", "alerts", "rules", "sidecar")
    pages = ("/", "/streams", "/metrics", "/config", "/sd", "/-/ready", *(f"/api/v1/{name}" for name in api))
    return "\n".join(process.ask(page)[1] for page in (*pages, *probes, *streams))


def wait_for_outcomes(process: Exporter, platforms: EchoingPlatforms) -> None:
    """Wait until each upstream was polled, and both receivers got alerts with the platforms' messages."""
    wanted = {f"{name}-{kind}" for name in main_recordings() for kind in ("echo", "all")}
    deadline = time.monotonic() + GENEROUS_SECONDS
    while time.monotonic() < deadline:
        text = process.ask("/metrics?collect[]=upstreams")[1]
        polled = set(re.findall(r'^stream_upstream_up\{.*upstream="([\w-]+)"\}', text, re.MULTILINE))
        received = platforms.received
        if wanted <= polled and "<secret>" in received and '"groupLabels"' in received:
            return
    raise AssertionError(process.said)


def test_echoed_secrets_do_not_leave_the_process(platforms: EchoingPlatforms, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(configuration(platforms.url)))
    flags = ("--config.file", "config.yaml", "--log.level", "debug")
    with Exporter(["--web.listen-address", "127.0.0.1:0", *flags], tmp_path) as process:
        wait_for_outcomes(process, platforms)
        responses = all_responses(process)
        process.send(signal.SIGTERM)
        assert process.ended() == 0
    for platform in main_recordings():
        assert f'stream_upstream_up{{platform="{platform}",upstream="{platform}-echo"}} 1' in responses
        assert re.search(rf'upstream="{platform}-echo".*<secret>', responses), platform
    state = (tmp_path / "alerts.json").read_text()
    assert "<secret>" in state
    everything = "\n".join((responses, platforms.received, state, process.said))
    username_password = base64.b64encode(f"admin:{SECRET}".encode()).decode()
    assert [text for text in (SECRET, TOKEN, username_password) if text in everything] == []
