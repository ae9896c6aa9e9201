"""Take pictures of the exporter's web page with 15 minutes of simulated data: ``make screenshots``."""

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
FAULTS: Final = (
    *(fault for fault in SCHEDULED_FAULTS if fault.which is not None),
    ScheduledFault(Platform.WAVE, FaultKind.AUTH, 0.97, 2.0, None),
)
"""Faults of single streams, and at the end a failed login, for which the page shows advice."""


@dataclass(frozen=True)
class Shot:
    """A picture of the list of streams, or of the first stream's details."""

    picture: str
    size: tuple[int, int]
    dark: bool
    details: bool = False


SHOTS: Sequence[Shot] = (
    Shot("page", DESKTOP, dark=False),
    Shot("page-stream", DESKTOP, dark=True, details=True),
    Shot("page-phone", PHONE, dark=False),
    Shot("page-phone-stream", PHONE, dark=True, details=True),
)


def main() -> int:
    """Take the named pictures, or all of them."""
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
    """Take the pictures."""
    async with serving(directory) as url, launch_chromium() as browser:
        for shot in shots:
            await take_shot(shot, url, browser)


async def take_shot(shot: Shot, url: str, browser: Browser) -> None:
    """Take one picture once the sparklines are drawn."""
    async with open_page(browser, f"{url}/", size=shot.size, dark=shot.dark) as page:
        await expect(page.locator(".rows path").first).to_be_visible()
        if shot.details:
            await stream_titles(page).first.click()
            await expect(page.get_by_role("img", name="Ingest bitrate")).to_be_visible()
        await page.screenshot(path=PICTURES / f"{shot.picture}.png")


@asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[str]:
    """Serve the exporter with simulated history, using the clock of the simulation."""
    async with fast_forward_run(directory) as run:

        async def date(_: web.BaseRequest, response: web.StreamResponse) -> None:
            # The page reads the exporter's time from this header.
            response.headers["Date"] = formatdate(run.clock.now(), usegmt=True)

        # The app records its sparklines, so create it before the run.
        app = make_app(run.service, options=WebOptions())
        app.on_response_prepare.append(date)
        async with TestServer(app) as server:
            await run.run_for(SECONDS, faults=FAULTS)
            yield str(server.make_url("")).rstrip("/")


if __name__ == "__main__":
    sys.exit(main())
