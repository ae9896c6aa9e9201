"""Every endpoint of the application, with a real service and real sockets."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from exporter import __version__
from exporter.cli.settings import load_settings
from exporter.config.root import Settings
from exporter.service import Service
from exporter.web.app import make_app
from exporter.web.options import WebOptions, external_origin

CANARY = "canary-4242-of-the-web"
CONFIG = f"""
upstreams:
  - name: edge
    platform: storm
    url: http://127.0.0.1:9
    auth: {{username: exporter, password: {CANARY}}}
    streams: [{{application: live, key: one, expected: true}}]
"""
DEFAULTS = WebOptions()
PAGES = ("/", "/metrics", "/config", "/runbook", "/-/healthy", "/-/ready", "/static/page.css")


@asynccontextmanager
async def serving(
    directory: Path, options: WebOptions = DEFAULTS, *, started: bool = True
) -> AsyncIterator[tuple[Service, aiohttp.ClientSession]]:
    file = directory / "config.yaml"
    if not file.exists():
        file.write_text(CONFIG)
    service = Service(load_settings(file, {}), load=lambda: load_settings(file, {}))
    runner = web.AppRunner(make_app(service, options=options), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    if started:
        await service.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as session:
            yield service, session
    finally:
        await runner.cleanup()
        await service.stop()


async def polled(session: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(60):
        while True:
            async with session.get("/-/ready") as answer:
                if answer.status == 200:
                    return
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_every_page_supports_get_and_head(tmp_path: Path, method: str) -> None:
    async with serving(tmp_path) as (_, session):
        await polled(session)
        for path in PAGES:
            async with session.request(method, path) as answer:
                assert answer.status == 200, path
                assert (await answer.read() == b"") == (method == "HEAD")


@pytest.mark.parametrize("path", [*PAGES, "/nowhere", "/metrics?collect[]=nothing"])
async def test_every_response_has_the_security_headers(tmp_path: Path, path: str) -> None:
    async with serving(tmp_path) as (_, session), session.get(path) as answer:
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Server"] == "stream-exporter"
        assert CANARY not in await answer.text()


async def test_unknown_path_is_404_and_wrong_method_is_405(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, session):
        async with session.get("/nowhere") as answer:
            assert (answer.status, answer.content_type) == (404, "text/plain")
        for path in PAGES:
            async with session.post(path) as answer:
                assert (answer.status, answer.content_type) == (405, "text/plain")
                assert answer.headers["Allow"] == "GET,HEAD"
        async with session.get("/-/reload") as answer:
            assert answer.status == 405
            assert answer.headers["Allow"] == "POST,PUT"


async def test_metrics_of_the_service_are_served(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, session):
        await polled(session)
        async with session.get("/metrics") as answer:
            text = await answer.text()
        assert 'stream_upstream_up{platform="storm",upstream="edge"} 0' in text
        assert "stream_exporter_build_info{" in text
        async with session.get("/metrics?collect[]=upstreams") as answer:
            text = await answer.text()
        assert "stream_upstream_up{" in text
        assert "stream_exporter_build_info{" not in text


async def test_ready_needs_a_first_poll_and_healthy_a_polling_loop(tmp_path: Path) -> None:
    async with serving(tmp_path, started=False) as (service, session):
        async with session.get("/-/ready") as answer:
            assert answer.status == 503
        async with session.get("/-/healthy") as answer:
            assert answer.status == 503
        await service.start()
        async with session.get("/-/healthy") as answer:
            assert (answer.status, await answer.text()) == (200, "healthy\n")
        await polled(session)


async def test_config_page_has_no_secrets(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, session), session.get("/config") as answer:
        assert answer.content_type == "text/plain"
        text = await answer.text()
        assert "name: edge" in text
        assert "<secret>" in text
        assert CANARY not in text


async def test_page_lists_upstreams_and_links_to_other_pages(tmp_path: Path) -> None:
    async with serving(tmp_path, WebOptions(telemetry_path="/own/path")) as (_, session):
        async with session.get("/") as answer:
            before = await answer.text()
        assert answer.content_type == "text/html"
        assert __version__ in before
        assert "not polled yet" in before or "down" in before
        for path in ("/own/path", "/config", "/runbook", "/-/healthy", "/-/ready"):
            assert f'href=".{path}"' in before
            async with session.get(path) as linked:
                assert linked.status in (200, 503)
        await polled(session)
        async with session.get("/") as answer:
            after = await answer.text()
        assert '<span class="down">down</span>' in after
        assert "<td>edge</td><td>storm</td><td>127.0.0.1:9</td>" in after
        assert "<td>never</td>" in after


async def test_metrics_at_the_root_replace_the_page(tmp_path: Path) -> None:
    async with serving(tmp_path, WebOptions(telemetry_path="/")) as (_, session), session.get("/") as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")


async def test_reload_over_http_is_refused_by_default(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, session), session.post("/-/reload") as answer:
        assert answer.status == 403
        assert "--web.enable-lifecycle" in await answer.text()


async def test_reload_over_http_applies_the_configuration_or_returns_its_errors(tmp_path: Path) -> None:
    async with serving(tmp_path, WebOptions(enable_lifecycle=True)) as (service, session):
        (tmp_path / "config.yaml").write_text(CONFIG.replace("name: edge", "name: renamed"))
        async with session.put("/-/reload") as answer:
            assert (answer.status, await answer.text()) == (200, "reloaded\n")
        assert [upstream.name for upstream in service.settings.upstreams] == ["renamed"]
        (tmp_path / "config.yaml").write_text(CONFIG.replace("platform: storm", "platform: nonsense"))
        async with session.post("/-/reload") as answer:
            text = await answer.text()
            assert answer.status == 500
        assert "config.yaml:4:" in text
        assert CANARY not in text
        assert [upstream.name for upstream in service.settings.upstreams] == ["renamed"]


async def test_reload_changes_the_thresholds_served_to_the_page(tmp_path: Path) -> None:
    async with serving(tmp_path, WebOptions(enable_lifecycle=True)) as (_, session):
        async with session.get("/api/v1/streams") as answer:
            assert (await answer.json())["thresholds"]["StreamUnhealthy"] == 0.5
            etag = answer.headers["ETag"]
        (tmp_path / "config.yaml").write_text(f"{CONFIG}alerting: {{thresholds: {{StreamUnhealthy: 0.6}}}}\n")
        async with session.post("/-/reload") as answer:
            assert answer.status == 200
        async with session.get("/api/v1/streams", headers={"If-None-Match": etag}) as answer:
            assert (await answer.json())["thresholds"]["StreamUnhealthy"] == 0.6


OWN = "http://{host}"
EXTERNAL = "https://exporter.example.com"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": OWN}, 200),
        ({"Origin": OWN, "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Origin": EXTERNAL, "Sec-Fetch-Site": "cross-site"}, 200),
        ({"Origin": "http://attacker.example.com"}, 403),
        ({"Origin": "https://{host}"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": OWN, "Host": "attacker.example.com"}, 403),
        ({"Origin": "http://attacker.example.com", "Host": "attacker.example.com"}, 403),
        (
            {"Origin": "http://attacker.example.com", "Host": "attacker.example.com", "Sec-Fetch-Site": "same-origin"},
            403,
        ),
        ({"Origin": "http://{name}:1", "Host": "{name}:1", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "http://localhost:1", "Host": "localhost:1"}, 200),
        ({"Sec-Fetch-Site": "none", "Host": "exporter.example.com"}, 200),
        ({"Sec-Fetch-Site": "none", "Host": "["}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": OWN, "Sec-Fetch-Site": "Cross-Site"}, 403),
    ],
)
async def test_reload_is_refused_to_pages_of_other_sites(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    options = WebOptions(enable_lifecycle=True, external=external_origin(f"{EXTERNAL}/prefix"))
    async with serving(tmp_path, options) as (_, session):
        host = str(session._base_url).split("/")[2]
        sent = {name: value.format(host=host, name=socket.gethostname()) for name, value in headers.items()}
        for method in ("POST", "PUT"):
            async with session.request(method, "/-/reload", headers=sent) as answer:
                assert answer.status == status


async def test_configuration_is_rendered_once_for_all_requests_and_again_after_a_reload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered: list[Settings] = []
    render = Settings.redacted_yaml

    def counting(self: Settings) -> str:
        rendered.append(self)
        return render(self)

    monkeypatch.setattr(Settings, "redacted_yaml", counting)

    async with serving(tmp_path, WebOptions(enable_lifecycle=True)) as (_, session):

        async def get() -> str:
            async with session.get("/config") as answer:
                return await answer.text()

        texts = set(await asyncio.gather(*(get() for _ in range(38))))
        assert (len(texts), len(rendered)) == (1, 1)
        (tmp_path / "config.yaml").write_text(CONFIG.replace("name: edge", "name: renamed"))
        async with session.post("/-/reload") as answer:
            assert answer.status == 200
        assert "name: renamed" in await get()
        assert len(rendered) == 2
