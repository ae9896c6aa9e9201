"""``stream-exporter report``."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from exporter.cli import main
from exporter.web.security import Security
from tests.reports.recording import stream
from tests.reports.served_reports import served_reports
from tests.web.secure_server import bcrypt_hash, write_web_config


async def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    try:
        code = await asyncio.to_thread(main, ["report", *arguments])
    except SystemExit as stop:
        code = int(str(stop.code))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


async def test_report_command_prints_markdown_or_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with served_reports(tmp_path) as served:
        served.minutes(30, stream())
        served.minutes(30, stream(live=False))
        code, out, _ = await command(capsys, "--url", served.url, "--group", "final", "--from", "40m", "--to", "now")
        assert code == 0
        assert out.startswith("# Report on the group `final`\n")
        assert "| Live while expected | 10.00 |\n" in out
        times = "--from", "2026-12-06T20:10:00+00:00", "--to", "2026-12-06T21:45:00+01:00"
        code, out, _ = await command(
            capsys, "--url", served.url, "--upstream", "edge", "--stream", "main", *times, "--format", "json"
        )
        data = json.loads(out)
        assert (code, data["live_minutes"], data["off_air_minutes"]) == (0, 20.0, 15.0)
        code, out, _ = await command(capsys, "--url", served.url, "--upstream", "edge", "--format", "json")
        assert json.loads(out)["from"] == "2026-12-06T20:00:00Z", "the last hour"


async def test_report_command_shows_the_exporters_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with served_reports(tmp_path) as served:
        code, out, err = await command(capsys, "--url", served.url, "--group", "finale")
        assert (code, out, err) == (1, "", f"cannot get the report from {served.url}: unknown group 'finale'\n")
    code, _, err = await command(capsys, "--url", "http://127.0.0.1:9", "--group", "final")
    assert code == 1
    assert "connection refused" in err


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], "either --group or --upstream is required"),
        (["--group", "a", "--upstream", "b"], "either --group or --upstream is required"),
        (["--group", "a", "--stream", "b"], "--stream needs --upstream"),
        (["--group", "a", "--from", "tomorrow"], "expected a time with its UTC offset"),
        (["--group", "a", "--to", "2026-12-06T20:00"], "expected a time with its UTC offset"),
        (["--group", "a", "--username", "x"], "--username and --password-file must be given together"),
        (["--group", "a", "--url", "http://user:secret@host"], "URL without credentials"),
    ],
)
async def test_report_command_refuses_contradictory_arguments(
    capsys: pytest.CaptureFixture[str], arguments: list[str], error: str
) -> None:
    code, _, err = await command(capsys, *arguments)
    assert code == 2
    assert error in err
    assert "secret" not in err


async def test_report_command_authenticates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    security = Security(write_web_config(tmp_path, {"basic_auth_users": {"alice": bcrypt_hash("open sesame")}}))
    password = tmp_path / "password"
    password.write_text("open sesame\n")
    password.chmod(0o600)
    async with served_reports(tmp_path, security=security) as served:
        served.minutes(10, stream())
        code, out, err = await command(capsys, "--url", served.url, "--group", "final")
        assert (code, out) == (1, "")
        assert "status 401" in err
        user = "--username", "alice", "--password-file", str(password)
        code, out, _ = await command(capsys, "--url", served.url, "--group", "final", *user)
        assert (code, out[:10]) == (0, "# Report o")


@pytest.mark.parametrize("format_", ["json", "markdown"])
@pytest.mark.parametrize("body", ["<html>", "{}", '"group"', '{"error": {"x": 1}}'])
async def test_report_command_recognizes_another_server(
    capsys: pytest.CaptureFixture[str], format_: str, body: str
) -> None:
    async def respond(_request: web.Request) -> web.Response:
        return web.Response(text=body)

    app = web.Application()
    app.router.add_get("/api/v1/report", respond)
    async with TestServer(app) as server:
        url = str(server.make_url("")).rstrip("/")
        code, out, err = await command(capsys, "--url", url, "--group", "final", "--format", format_)
    assert (code, out) == (1, "")
    assert "not a response of stream-exporter; check --url" in err
