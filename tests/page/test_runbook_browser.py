"""The runbook in a real Chromium."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from exporter.alerting.rules import RULES
from tests.page.browser import DESKTOP, PHONE, accessibility_violations, launch_chromium, open_page
from tests.page.served_app import ServedApp, serve_app

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(loop_scope="module")
async def served(tmp_path: Path) -> AsyncIterator[ServedApp]:
    async with serve_app(tmp_path) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with launch_chromium() as running:
        yield running


async def test_runbook_is_linked_and_its_index_links_to_every_rule(served: ServedApp, browser: Browser) -> None:
    async with open_page(browser, f"{served.url}/streams/edge/live%2Fone", size=PHONE) as page:
        await page.get_by_role("link", name="Runbook", exact=True).click()
        await expect(page).to_have_title("Runbook - stream-exporter")
        index = page.locator("table").first
        await expect(index.get_by_role("link")).to_have_count(len(RULES))
        await index.get_by_role("link", name="StreamFlapping", exact=True).click()
        assert page.url == f"{served.url}/runbook#streamflapping"
        heading = page.get_by_role("heading", name="StreamFlapping", exact=True)
        await expect(heading).to_be_in_viewport()
        header = await page.locator("header").bounding_box()
        box = await heading.bounding_box()
        assert header is not None
        assert box is not None
        assert box["y"] >= header["y"] + header["height"], "the header covers the heading"
        await page.get_by_role("link", name="stream-exporter").click()
        assert page.url == f"{served.url}/streams"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_runbook_is_accessible_and_fits_the_screen(
    size: tuple[int, int], dark: bool, served: ServedApp, browser: Browser
) -> None:
    async with open_page(browser, f"{served.url}/runbook", size=size, dark=dark) as page:
        assert await accessibility_violations(page) == []
        assert await page.evaluate("document.documentElement.scrollWidth") <= size[0]


async def test_runbook_works_without_javascript(served: ServedApp, browser: Browser) -> None:
    async with open_page(browser, f"{served.url}/runbook#streamupstreamdown", javascript=False) as page:
        await expect(page.get_by_role("heading", name="StreamUpstreamDown", exact=True)).to_be_in_viewport()
