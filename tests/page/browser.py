"""A real Chromium, and pages in it that complain about everything that a page must not do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import (
    Browser,
    ConsoleMessage,
    HttpCredentials,
    Locator,
    Page,
    Request,
    async_playwright,
    expect,
)

from tests.real.tools import tool

TIMEOUT_MILLISECONDS = 60_000
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESKTOP, PHONE = (1440, 900), (390, 844)

expect.set_options(timeout=TIMEOUT_MILLISECONDS)


@asynccontextmanager
async def launch_chromium() -> AsyncIterator[Browser]:
    """The browser that ``make tools`` provides; a test that needs it fails where it is missing."""
    program = tool("chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def open_page(
    browser: Browser,
    url: str,
    *,
    size: tuple[int, int] = DESKTOP,
    dark: bool = False,
    javascript: bool = True,
    credentials: HttpCredentials | None = None,
) -> AsyncIterator[Page]:
    """A page at this address; it has failed when it throws, breaks its policy, or asks another host."""
    context = await browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if dark else "light",
        java_script_enabled=javascript,
        http_credentials=credentials,
    )
    context.set_default_timeout(TIMEOUT_MILLISECONDS)
    page = await context.new_page()
    complaints: list[str] = []
    own = urlsplit(url).netloc

    def hear(message: ConsoleMessage) -> None:
        # an answer that is an error, or none, is the page's business; a policy that was broken is ours
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            complaints.append(message.text)

    def watch(request: Request) -> None:
        if urlsplit(request.url).netloc != own:
            complaints.append(f"asked for {request.url}")

    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", hear)
    page.on("request", watch)
    try:
        await page.goto(url)
        yield page
        assert complaints == []
    finally:
        await context.close()


def stream_rows(page: Page) -> Locator:
    """The rows of streams that are in the document."""
    return page.locator(".rows [role=row]")


def stream_titles(page: Page) -> Locator:
    """Their names."""
    return page.locator(".rows [role=row] [role=rowheader] a")


async def accessibility_violations(page: Page) -> list[str]:
    """What axe finds of weight: ``impact rule: element``."""
    await page.evaluate((tool("axe-core") / "axe.min.js").read_text(encoding="utf-8"))
    found: dict[str, Any] = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{violation['impact']} {violation['id']}: {node['html'][:200]} {node['failureSummary']}"
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical", "moderate")
        for node in violation["nodes"]
    ]
