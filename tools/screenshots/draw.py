"""Render pictures of the dashboards with Grafana's components and simulated data: ``make screenshots``.

The page in ``src/`` loads the committed JSON, queries a real Prometheus, and renders the results with the React
components that Grafana publishes; Chromium takes the pictures. There is no Grafana server, so variables and menus are
missing, and the page draws the two panel types whose code is in the server (state timeline and heatmap).
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import aiohttp
import pytest
from aiohttp import web
from playwright.async_api import Page

from exporter.runtime.logging import configure
from tests.dashboards.dashboard_files import DASHBOARDS
from tests.dashboards.prometheus_history import History, history
from tests.page.browser import TIMEOUT_MILLISECONDS, launch_chromium
from tests.real.tools import tool
from tools.provide import Command, MissingError, node_and_npm, npm_project, run

SOURCE: Final = Path(__file__).resolve().parent
CHECKOUT: Final = SOURCE.parents[1]
BUILD_DIR: Final = CHECKOUT / ".cache" / "screenshots"
PICTURES: Final = CHECKOUT / "docs" / "pictures"
HISTORY_SECONDS: Final = 90 * 60.0
WIDTH: Final = 1520
SCRAPES_TOP: Final = 1804
"""Position in pixels of the row Scrapes in the dashboard of upstreams and exporter."""


@dataclass(frozen=True)
class Shot:
    """A picture of a dashboard, from ``top`` to ``bottom`` in pixels, or to its end."""

    picture: str
    dashboard: str
    platform: str = ""
    """Platform of the stream to select, for the stream dashboard."""
    top: int = 0
    bottom: int | None = None
    sidecar: bool = False
    """Whether the sidecar sends the alerts instead of Prometheus."""


SHOTS: Sequence[Shot] = (
    Shot("overview", "stream-exporter-overview"),
    Shot("overview-top", "stream-exporter-overview", bottom=1130),
    Shot("stream-livepeer", "stream-exporter-stream", platform="livepeer"),
    Shot("stream-storm", "stream-exporter-stream", platform="storm"),
    Shot("stream-wave", "stream-exporter-stream", platform="wave"),
    Shot("audience", "stream-exporter-audience"),
    Shot("upstreams", "stream-exporter-upstreams", bottom=SCRAPES_TOP, sidecar=True),
    Shot("exporter", "stream-exporter-upstreams", top=SCRAPES_TOP, sidecar=True),
)


def main() -> int:
    """Take the named pictures, or all of them."""
    parser = argparse.ArgumentParser(description="Render pictures of the dashboards with Grafana's components.")
    parser.add_argument(
        "pictures",
        nargs="*",
        metavar="PICTURE",
        help=f"pictures to render: {', '.join(s.picture for s in SHOTS)} (default: all)",
    )
    chosen = parser.parse_args().pictures
    configure("error", "logfmt")
    try:
        tool("chromium")
        page = build()
    except (MissingError, pytest.fail.Exception) as error:
        sys.exit(str(error))
    PICTURES.mkdir(parents=True, exist_ok=True)
    failed = 0
    for sidecar in (False, True):
        shots = [shot for shot in SHOTS if shot.sidecar is sidecar and (not chosen or shot.picture in chosen)]
        if shots:
            with (
                tempfile.TemporaryDirectory() as directory,
                history(Path(directory), seconds=HISTORY_SECONDS, sidecar=sidecar) as known,
            ):
                failed += asyncio.run(draw(shots, known, page))
    return min(failed, 1)


def build() -> Path:
    """Build the page from the locked packages; return the folder of static files."""
    node, npm = node_and_npm()
    modules = npm_project(SOURCE, BUILD_DIR, npm, node)
    shutil.copytree(SOURCE, BUILD_DIR, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    command: Command = [node, modules / "vite" / "bin" / "vite.js", "build", "--logLevel=error"]
    run(command, "see vite's output above", cwd=BUILD_DIR)
    return BUILD_DIR / "dist"


async def draw(shots: Sequence[Shot], known: History, page: Path) -> int:
    """Take the pictures; return the number of panels that could not be drawn."""
    failed = 0
    async with serving(page, known) as url, launch_chromium() as browser:
        for shot in shots:
            opened = await browser.new_page(viewport={"width": WIDTH, "height": 1000})
            await opened.goto(f"{url}/?{urlencode(parameters(shot, known))}")
            await opened.wait_for_selector("[data-done]", timeout=TIMEOUT_MILLISECONDS)
            # The components draw asynchronously, without an event when they are done.
            await opened.wait_for_timeout(1000)
            file = PICTURES / f"dashboard-{shot.picture}.png"
            end = await opened.evaluate("document.documentElement.scrollHeight")
            height = (shot.bottom or end) - shot.top
            await opened.screenshot(
                path=file, full_page=True, clip={"x": 0, "y": shot.top, "width": WIDTH, "height": height}
            )
            failed += await report_panels(opened, shot)
            await opened.close()
    return failed


def parameters(shot: Shot, known: History) -> dict[str, str]:
    """Return the query parameters of the page."""
    stream = {"platform": shot.platform, "stream": unhealthy_stream(shot.platform, known)} if shot.platform else {}
    return {"dashboard": shot.dashboard, "from": str(known.begin), "to": str(known.end), "width": str(WIDTH), **stream}


def unhealthy_stream(platform: str, known: History) -> str:
    """Return the expected live stream with the most series that was unhealthy for some time."""
    lowest = f"min_over_time(stream_health_score_ratio[{known.end - known.begin:g}s])"
    of_one = f'{lowest} < 0.5 and stream_live{{platform="{platform}"}} == 1 and stream_expected == 1'
    query = f'sort_desc(count by (platform, stream) ({{stream=~".+"}}) and on (platform, stream) ({of_one}))'
    [most, *_] = known.prometheus.get("query", query=query, time=known.end)["result"]
    return str(most["metric"]["stream"])


async def report_panels(page: Page, shot: Shot) -> int:
    """Print empty and broken panels; return the number of broken ones."""
    empty = await page.locator("[data-empty]").evaluate_all("found => found.map(one => one.dataset.empty)")
    errors = await page.locator("[data-error]").all_inner_texts()
    print(f"{shot.picture}: empty: {', '.join(empty) or 'none'}")
    for error in errors:
        print(error, file=sys.stderr)
    return len(errors)


@asynccontextmanager
async def serving(page: Path, known: History) -> AsyncIterator[str]:
    """Serve the page, the dashboards and Prometheus' API on one origin."""
    async with aiohttp.ClientSession() as session:

        async def query(request: web.Request) -> web.Response:
            target = known.prometheus.url + request.path
            async with session.post(target, data=await request.post()) as answer:
                return web.Response(body=await answer.read(), status=answer.status, content_type=answer.content_type)

        async def index(_: web.Request) -> web.FileResponse:
            return web.FileResponse(page / "index.html")

        app = web.Application()
        app.router.add_get("/", index)
        app.router.add_post("/api/v1/{path:.*}", query)
        app.router.add_static("/dashboards", DASHBOARDS)
        app.router.add_static("/", page)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


if __name__ == "__main__":
    sys.exit(main())
