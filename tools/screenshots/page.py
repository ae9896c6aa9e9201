"""Takes pictures of the exporter's own page, over a quarter of an hour of the demo's fleet: ``make screenshots``."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Final

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import Browser, expect

from exporter.runtime.logging import configure
from exporter.simulator.fault_injection import FaultKind
from exporter.simulator.simulated_streams import Platform
from exporter.web.app import make_app
from exporter.web.history import POINTS, STEP_SECONDS
from exporter.web.options import WebOptions
from tests.dashboards.fast_forward import SCHEDULED_FAULTS, ScheduledFault, fast_forward_run
from tests.page.browser import DESKTOP, PHONE, launch_chromium, open_page, stream_titles
from tests.real.tools import tool
from tools.screenshots.draw import PICTURES

SECONDS: Final = (POINTS + 8) * STEP_SECONDS
TROUBLE: Final = (
    *(fault for fault in SCHEDULED_FAULTS if fault.which is not None),
    ScheduledFault(Platform.WAVE, FaultKind.AUTH, 0.97, 2.0, None),
)
"""Of single streams, and in the end of an upstream, which says what to do."""


@dataclass(frozen=True)
class Shot:
    """One picture: of all streams, or of the one that stands first among them."""

    picture: str
    size: tuple[int, int]
    dark: bool
    of_one: bool = False


SHOTS: Sequence[Shot] = (
    Shot("page", DESKTOP, dark=False),
    Shot("page-stream", DESKTOP, dark=True, of_one=True),
    Shot("page-phone", PHONE, dark=False),
    Shot("page-phone-stream", PHONE, dark=True, of_one=True),
)


def main() -> int:
    """Take the pictures that are named, or all."""
    chosen = sys.argv[1:]
    configure("error", "logfmt")
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        try:
            tool("chromium")
            asyncio.run(take([shot for shot in SHOTS if not chosen or shot.picture in chosen], Path(directory)))
        except pytest.fail.Exception as error:
            sys.exit(str(error))
    return 0


async def take(shots: Sequence[Shot], directory: Path) -> None:
    """The pictures, into the folder of all pictures."""
    async with serving(directory) as url, launch_chromium() as browser:
        for shot in shots:
            await one(shot, url, browser)


async def one(shot: Shot, url: str, browser: Browser) -> None:
    """What is in the window, once its lines are drawn."""
    async with open_page(browser, f"{url}/", size=shot.size, dark=shot.dark) as page:
        await expect(page.locator(".rows path").first).to_be_visible()
        if shot.of_one:
            await stream_titles(page).first.click()
            await expect(page.get_by_role("img", name="Ingest bitrate")).to_be_visible()
        await page.screenshot(path=PICTURES / f"{shot.picture}.png")


@asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[str]:
    """The exporter's answers, on the clock that its history was made with."""
    async with fast_forward_run(directory) as run:

        async def date(_: web.BaseRequest, response: web.StreamResponse) -> None:
            # the page tells the exporter's time by it
            response.headers["Date"] = formatdate(run.clock.now(), usegmt=True)

        # it remembers the lines of what it lives through itself
        app = make_app(run.service, options=WebOptions())
        app.on_response_prepare.append(date)
        async with TestServer(app) as server:
            await run.run_for(SECONDS, faults=TROUBLE)
            yield str(server.make_url("")).rstrip("/")


if __name__ == "__main__":
    sys.exit(main())
