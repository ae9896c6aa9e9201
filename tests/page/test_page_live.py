"""The page with exporters that poll: faults, restarts, authentication, proxies, and many streams."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import expect
from yarl import URL

from exporter.runtime.clock import Clock
from exporter.simulator import Fleet
from exporter.simulator import make_app as make_simulator
from exporter.simulator.exporter_config import upstreams_config
from exporter.simulator.simulated_streams import PLATFORMS
from exporter.web.security import Security
from tests.exporter_process import GENEROUS_SECONDS, Exporter, exporter
from tests.page.browser import PHONE, launch_chromium, open_page, stream_rows, stream_titles
from tests.page.served_app import serve_app
from tests.page.states import upstream_state
from tests.page.test_page_browser import fleet as six_streams
from tests.real.child_process import free_port
from tests.service.exporter_harness import exporting
from tests.web.secure_server import bcrypt_hash, write_web_config

pytestmark = pytest.mark.real

FROZEN_SPEED = 0.001
"""Speed of the simulation: so slow that no stream changes during a test."""
INTERVAL_SECONDS = 10.0
MANY = 5000


async def test_unhealthy_stream_and_its_alert_appear_on_the_open_page(tmp_path: Path) -> None:
    fleet = Fleet(9, seed=7, speed=FROZEN_SPEED)
    async with TestServer(make_simulator(fleet)) as simulator, aiohttp.ClientSession() as session:
        url = str(simulator.make_url("")).rstrip("/")
        configuration: dict[str, Any] = {
            **upstreams_config(fleet, url),
            "defaults": {"interval": "1s", "max_concurrent_requests": 50},
            "alerting": {
                "alertmanagers": [{"url": "http://127.0.0.1:9"}],
                "thresholds": {"StreamUnhealthy": {"for": "0s"}},
                "state_file": str(tmp_path / "state"),
            },
        }
        async with (
            exporting(tmp_path, configuration) as running,
            launch_chromium() as browser,
            open_page(browser, running.url) as page,
        ):
            await expect(stream_titles(page)).to_have_count(9)
            name = (
                await stream_rows(page).filter(has_text="Live").filter(has_text="edge").first.locator("a").inner_text()
            )
            row = stream_rows(page).filter(has=page.get_by_role("link", name=name, exact=True)).filter(has_text="edge")
            await expect(row.locator(".badge")).to_have_text("● Live")
            order = {"platform": "storm", "stream": name, "fault": "unhealthy", "for": "10m"}
            async with session.post(f"{url}/faults", json=order) as answer:
                assert answer.status == 201
            await expect(row.locator(".badge")).to_have_text("▲ Unhealthy")
            await expect(row).to_contain_text("unhealthy verdict")
            await expect(row.locator(".chip").first).to_have_text("StreamUnhealthy")
            assert name in (await stream_titles(page).all_text_contents())[:3]
            await page.get_by_role("button", name="Alerts").click()
            await row.get_by_role("link").click()
            await expect(page.locator(".alerts")).to_contain_text("StreamUnhealthy")
            await expect(page.locator(".alerts")).to_contain_text(f"{name} on edge (storm) is unhealthy.")
            runbook = page.get_by_role("link", name="Runbook for StreamUnhealthy")
            assert "runbook" in (await runbook.get_attribute("href") or "")
            async with session.delete(f"{url}/faults") as answer:
                assert answer.status == 200
            await expect(page.locator(".lead .badge")).to_have_text("● Live")


async def test_page_survives_a_restart_of_the_exporter(tmp_path: Path) -> None:
    port = free_port()
    arguments = ["demo", "--streams", "6", "--speed", str(FROZEN_SPEED), "--web.listen-address", f"127.0.0.1:{port}"]
    async with launch_chromium() as browser:
        with Exporter(arguments, tmp_path) as process:
            process.wait_for("Press Ctrl-C to stop")
            async with open_page(browser, f"http://127.0.0.1:{port}/") as page:
                await expect(stream_titles(page).first).to_be_visible()
                seen = await stream_titles(page).all_text_contents()
                await expect(page.locator("#banner")).to_be_hidden()
                process.send(signal.SIGKILL)
                await expect(page.get_by_role("alert")).to_contain_text("No response from the exporter since")
                await expect(page.locator("#connection")).to_have_text("no connection")
                assert await stream_titles(page).all_text_contents() == seen
                await asyncio.to_thread(process.ended)
                with Exporter(arguments, tmp_path) as again:
                    again.wait_for("Press Ctrl-C to stop")
                    await expect(page.locator("#banner")).to_be_hidden()
                    await expect(page.locator("#connection")).to_contain_text("connected, updated")
                    await expect(stream_titles(page).first).to_be_visible()


async def test_page_works_with_basic_authentication(tmp_path: Path) -> None:
    security = Security(write_web_config(tmp_path, {"basic_auth_users": {"alice": bcrypt_hash("her own")}}))
    async with serve_app(tmp_path, clock=Clock(), security=security) as served, launch_chromium() as browser:
        served.service.store.publish(upstream_state(six_streams()))
        async with open_page(browser, served.url, credentials={"username": "alice", "password": "her own"}) as page:
            await expect(stream_titles(page)).to_have_count(6)
            await stream_titles(page).first.click()
            await expect(page.get_by_role("heading", name="live/bravo")).to_be_visible()


@asynccontextmanager
async def proxying(url: str, prefix: str) -> AsyncIterator[str]:
    """Run a reverse proxy that strips a prefix from the path, like nginx with ``proxy_pass http://…/``."""

    async def forward(request: web.Request) -> web.Response:
        path = request.raw_path.removeprefix(prefix)
        async with aiohttp.ClientSession() as session, session.get(URL(url + path, encoded=True)) as answer:
            kept = {name: answer.headers[name] for name in ("Content-Type", "Content-Security-Policy")}
            return web.Response(status=answer.status, body=await answer.read(), headers=kept)

    app = web.Application()
    app.router.add_get(prefix + "{path:.*}", forward)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/") + prefix


async def test_page_works_below_a_proxy_prefix(tmp_path: Path) -> None:
    async with serve_app(tmp_path, clock=Clock()) as served, proxying(served.url, "/ops/streams-exporter") as url:
        served.service.store.publish(upstream_state(six_streams()))
        async with launch_chromium() as browser, open_page(browser, f"{url}/") as page:
            await expect(stream_titles(page)).to_have_count(6)
            await stream_titles(page).first.click()
            await expect(page.get_by_role("heading", name="live/bravo")).to_be_visible()
            assert page.url == f"{url}/streams/edge/live%2Fbravo"
            await page.reload()
            await expect(page.locator(".detail")).to_contain_text("Keyframes are late")
            metrics = await page.get_by_role("link", name="Metrics").evaluate("link => link.href")
            assert metrics == f"{url}/metrics"


# Scrolls through the list, and returns the duration of the longest frame in milliseconds.
SCROLL = """async () => {
  let longest = 0, last = performance.now();
  const height = document.documentElement.scrollHeight;
  for (let step = 1; step <= 60; step += 1) {
    scrollTo(0, (height * step) / 60);
    await new Promise(requestAnimationFrame);
    longest = Math.max(longest, performance.now() - last);
    last = performance.now();
  }
  return longest;
}"""


@contextmanager
def exporting_thousands(directory: Path) -> Iterator[str]:
    """Run an exporter of MANY streams and the simulator that it polls, and yield the exporter's URL."""
    # A tenth more, because lists contain only streams that are on air.
    fleet = Fleet(MANY * 11 // 10 * len(PLATFORMS) // 2)
    port = free_port()
    simulator = ["--streams", str(fleet.size), "--port", str(port)]
    # WAVE needs a request per session, which would dominate the measurement.
    upstreams = [u for u in upstreams_config(fleet, f"http://127.0.0.1:{port}")["upstreams"] if u["platform"] != "wave"]
    configuration = {"defaults": {"interval": f"{INTERVAL_SECONDS:g}s"}, "upstreams": upstreams}
    (directory / "config.yaml").write_text(yaml.safe_dump(configuration), encoding="utf-8")
    with Exporter(simulator, directory, program=("-m", "exporter.simulator")) as platforms:
        platforms.wait_for("Running on")
        with exporter("--config.file", "config.yaml", directory=directory) as process:
            yield f"http://127.0.0.1:{process.port}"


async def polls(session: aiohttp.ClientSession) -> dict[str, float]:
    """Return the number of completed polls of each upstream."""
    async with session.get("/metrics?collect[]=upstreams") as answer:
        text = await answer.text()
    found = re.findall(r'^stream_upstream_polls_total\{.*upstream="(\w+)"\} (\S+)$', text, re.MULTILINE)
    return {upstream: float(value) for upstream, value in found}


async def known_streams(session: aiohttp.ClientSession) -> int:
    async with session.get("/api/v1/streams") as answer:
        return len((await answer.json())["streams"])


async def test_page_shows_5000_simulated_streams_polled_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Coverage makes the processes several times slower, and this test measures time.
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    with exporting_thousands(tmp_path) as url:
        async with aiohttp.ClientSession(url) as session, launch_chromium() as browser:
            async with asyncio.timeout(2 * GENEROUS_SECONDS):
                while await known_streams(session) < MANY:  # noqa: ASYNC110
                    await asyncio.sleep(0.2)
            before, began = await polls(session), time.monotonic()
            async with open_page(browser, f"{url}/", size=PHONE) as page:
                await expect(stream_titles(page).first).to_be_visible()
                usable = await page.evaluate("performance.now()") / 1000
                known = int(await page.get_by_role("table").get_attribute("aria-rowcount") or 0) - 1
                assert known >= MANY
                frames = [await page.evaluate(SCROLL) for _ in range(3)]
                assert int(await stream_rows(page).last.get_attribute("aria-rowindex") or 0) > 0.95 * MANY
                assert await stream_rows(page).count() < 60
                await page.evaluate("scrollTo(0, 0)")
                await page.get_by_label("Search").fill("studio")
                await expect(page.get_by_role("heading", name="Streams (")).to_contain_text(" of ")
                await page.get_by_label("Sort by").select_option("bitrate")
                await asyncio.sleep(max(0.0, 2 * INTERVAL_SECONDS - (time.monotonic() - began)))
                after, passed = await polls(session), time.monotonic() - began
    made = {upstream: after[upstream] - before[upstream] for upstream in after}
    print(
        f"{known} streams: usable after {usable:.2f} s; longest frames of a scroll {[round(f) for f in frames]} ms; "
        f"polls in {passed:.0f} s: {made}, due {passed / INTERVAL_SECONDS:.1f}"
    )
    # A busy machine may skip a poll; a blocked poller would skip most of them.
    assert all(count >= passed // INTERVAL_SECONDS / 2 for count in made.values()), made
