"""A real Chromium, whose pages fail on errors, policy violations and requests to other hosts."""

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
    """Launch the browser installed by ``make tools``. The test fails if it is missing."""
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
    """Open a page. Fails if it throws, violates its policy, or requests another host."""
    context = await browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if dark else "light",
        java_script_enabled=javascript,
        http_credentials=credentials,
    )
    context.set_default_timeout(TIMEOUT_MILLISECONDS)
    page = await context.new_page()
    problems: list[str] = []
    own = urlsplit(url).netloc

    def on_console(message: ConsoleMessage) -> None:
        # The page handles failed requests. Anything else, such as a policy violation, fails the test.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            problems.append(message.text)

    def on_request(request: Request) -> None:
        if urlsplit(request.url).netloc != own:
            problems.append(f"request to another host: {request.url}")

    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", on_console)
    page.on("request", on_request)
    try:
        await page.goto(url)
        yield page
        assert problems == []
    finally:
        await context.close()


def stream_rows(page: Page) -> Locator:
    """Return the rows in the document."""
    return page.locator(".rows [role=row]")


def stream_titles(page: Page) -> Locator:
    """Return the links with the streams' names in the document."""
    return page.locator(".rows [role=row] [role=rowheader] a")


async def accessibility_violations(page: Page) -> list[str]:
    """Return axe's findings of at least moderate impact as ``impact rule: element``."""
    await page.evaluate((tool("axe-core") / "axe.min.js").read_text(encoding="utf-8"))
    found: dict[str, Any] = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{violation['impact']} {violation['id']}: {node['html'][:200]} {node['failureSummary']}"
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical", "moderate")
        for node in violation["nodes"]
    ]
