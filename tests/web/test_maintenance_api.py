"""``/api/v1/maintenance`` and ``stream-exporter maintenance``, with a real service and real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from exporter import cli
from exporter.cli.settings import load_settings
from exporter.runtime.clock import Clock
from exporter.service import Service
from exporter.web.app import make_app
from exporter.web.maintenance_api import MAINTENANCE_PATH, MAX_BODY_BYTES
from exporter.web.options import WebOptions, external_origin
from exporter.web.security import Security
from tests.web.secure_server import bcrypt_hash, write_web_config

ENABLED = WebOptions(enable_lifecycle=True)
VALID = {"upstream": "edge", "for": "2h"}


def configured(**upstream: Any) -> dict[str, Any]:
    streams = [{"application": "live", "key": "one", "name": "Main", "expected": True}]
    edge: dict[str, Any] = {"name": "edge", "platform": "storm", "url": "http://127.0.0.1:9", "streams": streams}
    edge["auth"] = {"username": "exporter", "password": "canary-4243-of-the-upstream"}
    return {"upstreams": [edge | upstream]}


@asynccontextmanager
async def started(
    directory: Path, options: WebOptions = ENABLED, *, security: Security | None = None, **upstream: Any
) -> AsyncIterator[tuple[Service, str]]:
    """Start a service, and return it with its URL."""
    file = directory / "config.yaml"
    file.write_text(yaml.safe_dump(configured(**upstream)))
    environ = {"STATE_DIRECTORY": str(directory / "state")}
    service = Service(load_settings(file, {}), load=lambda: load_settings(file, {}), environ=environ)
    async with TestServer(make_app(service, options=options, security=security)) as server:
        await service.start()
        try:
            yield service, str(server.make_url("")).rstrip("/")
        finally:
            await service.stop()


@asynccontextmanager
async def serving(
    directory: Path, options: WebOptions = ENABLED, **upstream: Any
) -> AsyncIterator[tuple[Service, aiohttp.ClientSession]]:
    """Start a service, and a session whose paths are those of the service."""
    async with (
        started(directory, options, **upstream) as (service, url),
        aiohttp.ClientSession(url) as session,
    ):
        yield service, session


@asynccontextmanager
async def serving_commands(
    directory: Path, options: WebOptions = ENABLED, *, security: Security | None = None, **upstream: Any
) -> AsyncIterator[tuple[list[str], aiohttp.ClientSession]]:
    """Start a service, and return the options with which commands find it."""
    async with (
        started(directory, options, security=security, **upstream) as (_, url),
        aiohttp.ClientSession(url) as session,
    ):
        yield ["--url", url], session


async def send(
    session: aiohttp.ClientSession, method: str, path: str = "", *, body: Any = None, **headers: str
) -> tuple[int, dict[str, Any]]:
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with session.request(method, MAINTENANCE_PATH + path, data=data, headers=sent) as answer:
        assert answer.content_type == "application/json"
        return answer.status, await answer.json()


async def listed(session: aiohttp.ClientSession) -> list[dict[str, Any]]:
    status, answer = await send(session, "GET")
    assert status == 200
    windows: list[dict[str, Any]] = answer["windows"]
    return windows


def planned(hours: float) -> list[dict[str, Any]]:
    start = datetime.now(UTC) + timedelta(hours=hours)
    return [{"from": start.isoformat(), "to": (start + timedelta(hours=1)).isoformat(), "reason": "encoder swap"}]


async def test_window_is_started_listed_and_ended(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, session):
        status, answer = await send(session, "POST", body=VALID | {"stream": "Main", "reason": "cables"})
        window = answer["window"]
        assert (status, answer["saved"]) == (201, True)
        assert window["end_timestamp_seconds"] - window["start_timestamp_seconds"] == pytest.approx(7200, abs=0.01)
        facts = {"upstream": "edge", "stream": "Main", "reason": "cables", "manual": True, "active": True}
        assert {key: window[key] for key in facts} == facts
        assert await listed(session) == [window]
        async with session.get("/metrics") as metrics:
            assert 'stream_maintenance{platform="storm",upstream="edge",stream="Main"} 1' in await metrics.text()
        assert await send(session, "DELETE", f"/{window['id']}") == (200, {"saved": True})
        assert await listed(session) == []
        async with session.get("/metrics") as metrics:
            text = await metrics.text()
        assert "stream_maintenance{" not in text
        assert "stream_exporter_maintenance_saved 1" in text
        assert (await send(session, "DELETE", f"/{window['id']}"))[0] == 404


async def test_configured_windows_are_listed_and_cannot_be_ended(tmp_path: Path) -> None:
    async with serving(tmp_path, maintenance=[*planned(-0.5), *planned(5)]) as (_, session):
        active, future = await listed(session)
        assert (active["active"], active["manual"], active["reason"]) == (True, False, "encoder swap")
        assert future["active"] is False
        for window in (active, future):
            assert await send(session, "DELETE", f"/{window['id']}") == (
                409,
                {"error": "this window is configured; change the configuration and reload"},
            )
        async with session.get("/api/v1/streams") as answer:
            (upstream,) = (await answer.json())["upstreams"]
        assert upstream["maintenance"]["reason"] == "encoder swap"
        assert upstream["maintenance"]["manual"] is False


async def test_restart_keeps_windows_and_removing_the_upstream_drops_them(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, session):
        _, answer = await send(session, "POST", body=VALID)
    async with serving(tmp_path) as (service, session):
        (window,) = await listed(session)
        assert window["id"] == answer["window"]["id"]
        async with session.get("/metrics") as metrics:
            assert 'stream_maintenance{platform="storm",upstream="edge",stream=""} 1' in await metrics.text()
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(configured(interval="30s")))
        await service.reload()
        assert [kept["id"] for kept in await listed(session)] == [window["id"]]
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(configured(name="other")))
        await service.reload()
        assert await listed(session) == []


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"", 400, "expected a JSON object"),
        (b"[]", 400, "expected a JSON object"),
        (b"\xff", 400, "expected a JSON object"),
        (b"[" * 10_000, 400, "expected a JSON object"),
        ({"upstream": "edge"}, 400, "expected a JSON object"),
        ({"upstream": 1, "for": "2h"}, 400, "expected a JSON object"),
        (VALID | {"until": "tomorrow"}, 400, "expected a JSON object"),
        (VALID | {"for": "2 h"}, 400, "for: expected a duration"),
        (VALID | {"for": "-1h"}, 400, "for: expected a duration"),
        (VALID | {"for": "0"}, 400, "for: expected a duration from 1s to 30d"),
        (VALID | {"for": "31d"}, 400, "for: expected a duration from 1s to 30d"),
        (VALID | {"for": "9" * 500 + "d"}, 400, "for: expected a duration"),
        (VALID | {"reason": "a\nb"}, 400, "reason: control characters are not allowed"),
        (VALID | {"reason": "x" * 201}, 400, "reason: expected at most 200 characters"),
        (VALID | {"upstream": "edgy"}, 404, "unknown upstream 'edgy'"),
        (b" " * (MAX_BODY_BYTES + 1), 413, "the body is longer than"),
    ],
)
async def test_invalid_request_is_refused(tmp_path: Path, body: Any, status: int, error: str) -> None:
    async with serving(tmp_path) as (_, session):
        found, answer = await send(session, "POST", body=body)
        assert (found, answer["error"][: len(error)]) == (status, error)
        assert await listed(session) == []


async def test_changes_need_the_lifecycle_flag_and_listing_does_not(tmp_path: Path) -> None:
    async with serving(tmp_path, WebOptions(), maintenance=planned(1)) as (_, session):
        (window,) = await listed(session)
        for method, path in (("POST", ""), ("DELETE", f"/{window['id']}")):
            status, answer = await send(session, method, path, body=VALID)
            assert status == 403
            assert "--web.enable-lifecycle" in answer["error"]
        assert await listed(session) == [window]


async def test_pages_of_other_sites_are_refused(tmp_path: Path) -> None:
    options = WebOptions(enable_lifecycle=True, external=external_origin("https://streams.example"))
    async with serving(tmp_path, options) as (_, session):
        _, answer = await send(session, "POST", body=VALID)
        for method, path in (("POST", ""), ("DELETE", f"/{answer['window']['id']}")):
            for headers in ({"Origin": "https://evil.example"}, {"Sec_Fetch_Site": "cross-site"}):
                assert (await send(session, method, path, body=VALID, **headers))[0] == 403
        assert len(await listed(session)) == 1
        status, _ = await send(session, "POST", body=VALID, Origin="https://streams.example")
        assert status == 201


async def test_wrong_method_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, session):
        for method, path in (("PUT", ""), ("DELETE", ""), ("GET", "/x"), ("POST", "/x")):
            async with session.request(method, MAINTENANCE_PATH + path) as answer:
                assert answer.status == 405


# -- the command -------------------------------------------------------------------------------------------------------


async def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run ``stream-exporter maintenance``; return exit code, output and errors."""
    capsys.readouterr()
    code = await asyncio.to_thread(cli.main, ["maintenance", *arguments])
    out, err = capsys.readouterr()
    lines = [line for line in out.splitlines(keepends=True) if "level=" not in line and not line.startswith("20")]
    return code, "".join(lines), err


async def test_command_starts_lists_and_ends_maintenance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving_commands(tmp_path, maintenance=planned(5)) as (at, session):
        code, out, err = await command(capsys, "start", "edge", "Main", "--for", "2h", "--reason", "cables", *at)
        assert (code, err) == (0, "")
        assert out.startswith("Main on edge is under maintenance until 2")
        id_ = out.splitlines()[1].removeprefix("id: ")
        code, out, _ = await command(capsys, "list", *at)
        rows = [line.split() for line in out.splitlines()]
        assert rows[0] == ["ID", "UPSTREAM", "STREAM", "STATE", "FROM", "UNTIL", "SOURCE", "REASON"]
        assert rows[1][:4] == [id_, "edge", "Main", "active"]
        assert rows[1][-2:] == ["manual", "cables"]
        assert rows[2][1:3] == ["edge", "planned"]
        code, out, _ = await command(capsys, "list", "--format", "json", *at)
        assert json.loads(out[out.index("{") :])["windows"] == await listed(session)
        assert (await command(capsys, "end", id_, *at))[:2] == (
            0,
            f"maintenance of Main on edge has ended (id {id_})\n",
        )
        code, _, err = await command(capsys, "end", id_, *at)
        assert (code, err) == (1, f"{id_}: no maintenance with this id or of this upstream or stream\n")
        code, _, err = await command(capsys, "end", "edge", *at)
        assert (code, err) == (1, "edge: its maintenance is configured; change the configuration and reload\n")


async def test_command_ends_all_manual_windows_of_a_target(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving_commands(tmp_path) as (at, session):
        for target in (["edge"], ["edge"], ["edge", "Main"]):
            assert (await command(capsys, "start", *target, "--for", "1h", *at))[0] == 0
        code, out, _ = await command(capsys, "end", "edge", *at)
        assert (code, out.count("maintenance of edge has ended")) == (0, 2)
        assert [window["stream"] for window in await listed(session)] == ["Main"]
        assert (await command(capsys, "end", "edge", "Main", *at))[0] == 0
        assert (await command(capsys, "list", *at))[1] == "No maintenance is active or planned.\n"


async def test_command_reports_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving_commands(tmp_path, WebOptions()) as (at, _):
        code, out, err = await command(capsys, "start", "edge", "--for", "2h", *at)
    assert (code, out) == (1, "")
    assert err.startswith(f"cannot start maintenance at {at[1]}: Lifecycle API is not enabled.")


async def test_command_warns_if_maintenance_is_not_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(tmp_path) as (_, session):
        await send(session, "POST", body=VALID)
        (tmp_path / "second").mkdir()
        (tmp_path / "second" / "state").symlink_to(tmp_path / "state")
        async with serving_commands(tmp_path / "second") as (at, second):
            code, _, err = await command(capsys, "start", "edge", "--for", "2h", *at)
            async with second.get("/metrics") as metrics:
                assert "stream_exporter_maintenance_saved 0" in await metrics.text()
            ended = await command(capsys, "end", "edge", *at)
    assert (code, ended[0]) == (0, 0)
    for errors in (err, ended[2]):
        assert errors.startswith("warning: not saved")


async def test_command_authenticates_and_never_prints_the_password(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    password = tmp_path / "password"
    password.write_text("hunter2-of-maintenance\n")
    file = write_web_config(tmp_path, {"basic_auth_users": {"me": bcrypt_hash("hunter2-of-maintenance")}})
    async with serving_commands(tmp_path, security=Security(file, clock=Clock())) as (at, _):
        known = [*at, "--username", "me", "--password-file", str(password)]
        assert (await command(capsys, "start", "edge", "--for", "2h", *known))[0] == 0
        assert (await command(capsys, "list", *known))[0] == 0
        password.write_text("hunter3-of-maintenance\n")
        for options in (known, at):
            code, out, err = await command(capsys, "list", *options)
            assert (code, "status 401" in err) == (1, True)
            assert "hunter" not in out + err


@pytest.mark.parametrize("answer", ["{}", "[]", "<html>", '{"windows":[1]}', '{"windows":{}}'])
async def test_response_of_another_program_is_an_error(answer: str, capsys: pytest.CaptureFixture[str]) -> None:
    async def handle(_request: web.Request) -> web.Response:
        return web.Response(text=answer)

    app = web.Application()
    app.router.add_get(MAINTENANCE_PATH, handle)
    async with TestServer(app) as server:
        code, out, err = await command(capsys, "list", "--url", str(server.make_url("")).rstrip("/"))
    assert (code, out) == (1, "")
    assert err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["start", "edge"],
        ["start", "edge", "--for", "two hours"],
        ["start", "--for", "2h"],
        ["list", "--url", "http://me:hunter2@127.0.0.1"],
        ["list", "--username", "me"],
        ["end"],
    ],
)
def test_usage_errors(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["maintenance", *arguments])
    assert ended.value.code == 2
    assert "hunter2" not in capsys.readouterr().err


def test_unreachable_exporter_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["maintenance", "list", "--url", "http://127.0.0.1:9"]) == 1
    assert capsys.readouterr().err.startswith(
        "cannot get maintenance from http://127.0.0.1:9: GET /api/v1/maintenance: "
    )
