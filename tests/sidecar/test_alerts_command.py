"""``stream-exporter alerts``."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from exporter.cli import main
from exporter.cli.alerts import table
from exporter.model import Status
from exporter.web.sidecar_api import SidecarApi
from tests.fake_clock import FakeClock
from tests.metrics.generated_views import stream
from tests.sidecar.fake_alertmanager import FakeAlertmanager, fake_alertmanager, respond_with
from tests.sidecar.sidecar_harness import UNHEALTHY, SidecarHarness, sidecar_harness

THRESHOLDS = {"StreamUnhealthy": {"for": "0s"}}


@asynccontextmanager
async def served(running: SidecarHarness, user: tuple[str, str] | None = None) -> AsyncIterator[str]:
    """Serve only the handler, optionally for one user; return its base URL."""

    @web.middleware
    async def guard(request: web.Request, handler: Any) -> web.StreamResponse:
        expected = None if user is None else "Basic " + b64encode(":".join(user).encode()).decode()
        if request.headers.get("Authorization") != expected:
            return web.Response(status=401)
        response: web.StreamResponse = await handler(request)
        return response

    app = web.Application(middlewares=[guard])
    SidecarApi(running.sidecar).add_routes(app)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


async def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = await asyncio.to_thread(main, ["alerts", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


async def test_alerts_command_shows_pending_and_firing_alerts(capsys: pytest.CaptureFixture[str]) -> None:
    async with sidecar_harness(thresholds=THRESHOLDS) as running, served(running) as url:
        capsys.readouterr()
        code, out, _ = await command(capsys, "--url", url)
        assert (code, out) == (0, "No alerts are pending or firing.\n")
        await running.publish(UNHEALTHY)
        await running.wait_until_sent()
        capsys.readouterr()
        code, out, _ = await command(capsys, "--url", url)
        rows = [line.split() for line in out.splitlines()]
        assert code == 0
        assert rows[0] == [
            "STATE",
            "SEVERITY",
            "ALERT",
            "GROUP",
            "UPSTREAM",
            "STREAM",
            "SINCE",
            "VALUE",
            "REASONS",
            "NOTE",
        ]
        assert rows[1] == ["firing", "critical", "StreamUnhealthy", "studio", "main", "2024-09-10", "20:26:40", "35%"]
        assert rows[2][:3] == ["pending", "warning", "StreamDegraded"]

        code, out, _ = await command(capsys, "--url", url, "--format", "json")
        data = json.loads(out)
        assert (code, data["active"]) == (0, True)
        pending, firing = data["alerts"]
        assert firing["labels"]["alertname"] == "StreamUnhealthy"
        assert firing["annotations"]["summary"] == "main on studio (livepeer) is unhealthy."
        assert {key: firing[key] for key in ("state", "value", "activeAt", "firedAt")} == {
            "state": "firing",
            "value": "3.5e-01",
            "activeAt": "2024-09-10T20:26:40Z",
            "firedAt": "2024-09-10T20:26:40Z",
        }
        assert "firedAt" not in pending
        await running.pass_time(15)
        _, out, _ = await command(capsys, "--url", url, "--format", "json")
        (kept,) = json.loads(out[out.index("{") :])["alerts"]
        assert kept["keepFiringSince"] == "2024-09-10T20:26:55Z"
        assert kept["annotations"]["cleared"] == "condition cleared, resolves at 20:28:55 UTC"
        _, out, _ = await command(capsys, "--url", url)
        heading, row = out[out.index("STATE") :].splitlines()
        assert row[heading.index("NOTE") :] == "condition cleared, resolves at 20:28:55 UTC"
        await running.publish(UNHEALTHY)
        _, out, _ = await command(capsys, "--url", url)
        assert "cleared" not in out, "the condition holds again"


async def test_alerts_command_shows_the_severity_that_fires(capsys: pytest.CaptureFixture[str]) -> None:
    unknown = stream("main", live=None, status=Status.UNKNOWN, expected=True)
    async with sidecar_harness() as running, served(running) as url:
        await running.publish(unknown)
        await running.pass_time(300, unknown)
        capsys.readouterr()
        _, out, _ = await command(capsys, "--url", url)
        rows = [line.split()[:3] for line in out.splitlines()[1:]]
        assert rows == [
            ["firing", "warning", "StreamExpectedUnknown"],
            ["pending", "critical", "StreamExpectedUnknown"],
        ]
        await running.pass_time(600, unknown)
        capsys.readouterr()
        _, out, _ = await command(capsys, "--url", url)
        assert [line.split()[:3] for line in out.splitlines()[1:]] == [["firing", "critical", "StreamExpectedUnknown"]]
        await running.pass_time(15, unknown, up=False)
        capsys.readouterr()
        _, out, _ = await command(capsys, "--url", url)
        shown = [line for line in out.splitlines() if "StreamUpstreamDown" not in line]
        assert [line.split()[:3] for line in shown[1:]] == [["firing", "critical", "StreamExpectedUnknown"]]


async def test_alerts_command_reports_that_the_sidecar_is_off(capsys: pytest.CaptureFixture[str]) -> None:
    running = SidecarHarness(FakeClock(), FakeAlertmanager())
    async with served(running) as url:
        code, out, _ = await command(capsys, "--url", url)
    assert (code, out) == (
        0,
        "The alerting sidecar is disabled: alerting.alertmanagers and alerting.webhooks are empty.\n",
    )


@pytest.mark.parametrize("answer", [{}, {"active": True}, {"active": "yes", "alerts": []}])
async def test_response_of_another_program_is_an_error(
    answer: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    async def handle(_request: web.Request) -> web.Response:
        return web.json_response(answer)

    app = web.Application()
    app.router.add_get("/api/v1/sidecar", handle)
    async with TestServer(app) as server:
        url = str(server.make_url("")).rstrip("/")
        code, out, err = await command(capsys, "--url", url)
    assert (code, out) == (1, "")
    assert err == f"cannot get alerts from {url}: GET /api/v1/sidecar: not a response of stream-exporter; check --url\n"


async def test_alerts_command_authenticates_with_a_password(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("hunter2-of-the-page")
    running = SidecarHarness(FakeClock(), FakeAlertmanager())
    async with served(running, ("me", "hunter2-of-the-page")) as url:
        code, out, _ = await command(capsys, "--url", url, "--username", "me", "--password-file", str(password))
        assert code == 0
        code, out, err = await command(capsys, "--url", url)
    assert (code, out) == (1, "")
    assert err == f"cannot get alerts from {url}: GET /api/v1/sidecar: status 401\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--username", "me"],
        ["--password-file", "p"],
        ["--url", "http://me:hunter2@127.0.0.1"],
        ["--test", "StreamOfBefore"],
    ],
)
def test_invalid_flags_are_usage_errors(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["alerts", *arguments])
    assert exit_.value.code == 2
    assert "hunter2" not in capsys.readouterr().err


def test_control_characters_in_names_are_replaced() -> None:
    text = table([{"state": "firing", "labels": {"stream": "a\x1b[2Jb\n"}, "annotations": {}}])
    assert "\x1b" not in text
    assert len(text.splitlines()) == 2


# -- test alerts -------------------------------------------------------------------------------------------------------


def configured(directory: Path, *alertmanagers: dict[str, Any]) -> Path:
    file = directory / "config.yaml"
    upstream = {"name": "edge", "platform": "storm", "url": "http://127.0.0.1:9", "discover": True}
    alerting = {"alertmanagers": list(alertmanagers), "external_labels": {"site": "north"}}
    file.write_text(yaml.safe_dump({"upstreams": [upstream], "alerting": alerting}))
    return file


async def test_test_alert_goes_to_every_alertmanager(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    async with fake_alertmanager() as good, fake_alertmanager() as bad:
        bad.behave = respond_with(403)
        file = configured(tmp_path, {"url": good.url}, {"url": bad.url})
        code, out, _ = await command(capsys, "--test", "StreamUnhealthy", "--config.file", str(file))
        assert code == 1
        assert sorted(out.splitlines()) == sorted(
            [
                f"{good.url}: accepted (status 200)",
                f"{bad.url}: failed (forbidden): POST /api/v2/alerts: status 403",
            ]
        )
        (alert,) = good.alerts
        assert alert["labels"] == {
            "alertname": "StreamUnhealthy",
            "platform": "test",
            "scope": "stream",
            "severity": "critical",
            "site": "north",
            "source": "sidecar",
            "stream": "test",
            "test": "true",
            "upstream": "test",
        }
        file = configured(tmp_path, {"url": good.url})
        code, out, _ = await command(capsys, "--test", "StreamUpstreamDown", "--config.file", str(file))
        assert (code, len(good.alerts)) == (0, 2)


async def test_test_alert_reports_alertmanagers_behind_one_address_separately(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """They differ by path or tenant. If one refuses, the test fails even if the other accepts."""
    async with fake_alertmanager("/{team}/api/v2/alerts") as shared:

        async def refuse_news(_alerts: list[dict[str, Any]], request: web.Request) -> web.Response:
            is_refused = "news" in (request.match_info["team"], request.headers.get("X-Scope-OrgID"))
            return web.Response(status=403 if is_refused else 200)

        shared.behave = refuse_news
        for settings, names in (
            ([{"url": f"{shared.url}/{team}"} for team in ("sports", "news")], ["/sports", "/news"]),
            (
                [{"url": f"{shared.url}/a", "headers": {"X-Scope-OrgID": team}} for team in ("sports", "news")],
                ["/a (tenant sports)", "/a (tenant news)"],
            ),
        ):
            file = configured(tmp_path, *settings)
            code, out, _ = await command(capsys, "--test", "StreamUnhealthy", "--config.file", str(file))
            refusal = "failed (forbidden): POST /api/v2/alerts: status 403"
            assert code == 1
            assert sorted(out.splitlines()) == sorted(
                [f"{shared.url}{names[0]}: accepted (status 200)", f"{shared.url}{names[1]}: {refusal}"]
            )


async def test_test_alert_is_sent_without_times(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    bodies: list[Any] = []
    async with fake_alertmanager() as alertmanager:

        async def keep(alerts: list[dict[str, Any]], _request: web.Request) -> web.Response:
            bodies.extend(alerts)
            return web.Response()

        alertmanager.behave = keep
        file = configured(tmp_path, {"url": alertmanager.url})
        assert (await command(capsys, "--test", "StreamUnhealthy", "--config.file", str(file)))[0] == 0
    assert bodies[0].keys().isdisjoint({"startsAt", "endsAt"})


async def test_test_alert_goes_to_webhooks_too(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    async with fake_alertmanager("/hook") as receiver:
        file = configured(tmp_path)
        configuration = yaml.safe_load(file.read_text())
        hooks = [{"name": "good", "url": f"{receiver.url}/hook"}, {"name": "bad", "url": f"{receiver.url}/other"}]
        configuration["alerting"]["webhooks"] = hooks
        file.write_text(yaml.safe_dump(configuration))
        code, out, _ = await command(capsys, "--test", "StreamUnhealthy", "--config.file", str(file))
        assert code == 1
        assert out.splitlines() == [
            "webhook bad: failed (not_found): POST /: status 404, but not from the expected API: check url",
            "webhook good: accepted (status 200)",
        ]
        (body,) = receiver.all_batches
    assert isinstance(body, dict)
    assert [(alert["status"], alert["labels"]["test"]) for alert in body["alerts"]] == [("firing", "true")]


async def test_test_alert_goes_to_every_address(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    async with fake_alertmanager(host="127.0.0.1") as good:
        port = good.url.rpartition(":")[2]
        names = [f"http://localhost:{port}", "http://nowhere.invalid:9093"]
        file = configured(tmp_path, *({"url": url, "resolve_dns": True} for url in names))
        code, out, _ = await command(capsys, "--test", "StreamUnhealthy", "--config.file", str(file))
    assert code == 1
    assert f"http://localhost:{port} at 127.0.0.1:{port}: accepted (status 200)" in out
    assert "http://nowhere.invalid:9093: failed: the host name cannot be resolved" in out


async def test_test_alert_without_alertmanagers_fails(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = await command(capsys, "--test", "StreamUnhealthy", "--config.file", str(configured(tmp_path)))
    assert (code, err) == (1, "no receivers configured: alerting.alertmanagers and alerting.webhooks are empty\n")
    code, _, err = await command(capsys, "--test", "StreamUnhealthy", "--config.file", str(tmp_path / "none.yaml"))
    assert code == 1
    assert "none.yaml" in err
