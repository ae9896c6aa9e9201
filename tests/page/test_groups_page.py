"""Groups of streams in the JSON API, and on the page in a real Chromium."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from exporter.model import Maintenance, Status, UpstreamState
from exporter.runtime.clock import Clock
from tests.page.browser import PHONE, accessibility_violations, launch_chromium, open_page
from tests.page.served_app import ServedApp, serve_app
from tests.page.states import stream_state, upstream_state

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

MAIN, BACKUP = "live/final", '<img src=x onerror="document.title=1">'
FINAL = {
    "name": "final",
    "need": 1,
    "streams": [
        {"upstream": "edge", "stream": MAIN, "role": "main"},
        {"upstream": "other", "stream": BACKUP, "role": "backup"},
    ],
}
ALL = {"name": "all", "streams": [{"upstream": "edge", "stream": MAIN}, {"upstream": "other", "stream": BACKUP}]}


@pytest_asyncio.fixture(loop_scope="module")
async def served(tmp_path: Path) -> AsyncIterator[ServedApp]:
    async with serve_app(tmp_path, clock=Clock()) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with launch_chromium() as running:
        yield running


def state_of(
    upstream: str,
    label: str,
    live: bool | None,
    *,
    in_maintenance: bool = False,
    answering: bool = True,
    expected: bool = True,
) -> UpstreamState:
    status = {True: Status.LIVE, False: Status.IDLE, None: Status.UNKNOWN}[live]
    work = Maintenance(until=2e9) if in_maintenance else None
    stream = stream_state(label, upstream=upstream, status=status, live=live, expected=expected, maintenance=work)
    return upstream_state(
        [stream],
        upstream=upstream,
        answering=answering,
        poll_interval_seconds=4.0,
        maintained_streams={} if work is None else {label: work},
    )


def publish(served: ServedApp, main: UpstreamState, backup: UpstreamState) -> None:
    served.service.store.publish(main)
    served.service.store.publish(backup)


async def test_groups_are_listed_with_their_streams(served: ServedApp) -> None:
    served.set_groups([FINAL])
    publish(served, state_of("edge", MAIN, True), state_of("other", BACKUP, None, in_maintenance=True))
    data = await served.get("/api/v1/groups")
    assert data == {
        "generated_at": data["generated_at"],
        "groups": [
            {
                "group": "final",
                "status": "up",
                "expected": True,
                "needed": 1,
                "live": 1,
                "unknown": 1,
                "streams": 2,
                "members": [
                    {
                        "platform": "storm",
                        "upstream": "edge",
                        "stream": MAIN,
                        "role": "main",
                        "status": "live",
                        "live": True,
                    },
                    {
                        "platform": "storm",
                        "upstream": "other",
                        "stream": BACKUP,
                        "role": "backup",
                        "status": "unknown",
                        "in_maintenance": True,
                    },
                ],
            }
        ],
    }


async def test_keys_are_documented(served: ServedApp) -> None:
    served.set_groups([FINAL])
    publish(served, state_of("edge", MAIN, True), state_of("other", BACKUP, None, in_maintenance=True))
    (group,) = (await served.get("/api/v1/groups"))["groups"]
    section = (Path(__file__).parents[2] / "docs" / "page.md").read_text().partition("### `GET /api/v1/groups`")[2]
    keys = {*group, *group["members"][1], "live"}
    assert [key for key in sorted(keys) if f"`{key}`" not in section] == []


async def test_page_shows_a_line_for_each_group(served: ServedApp, browser: Browser) -> None:
    served.set_groups([FINAL, ALL])
    publish(served, state_of("edge", MAIN, True), state_of("other", BACKUP, False))
    async with open_page(browser, served.url) as page:
        lines = page.locator(".group")
        await expect(lines).to_have_count(2)
        await expect(lines.first.locator("h3")).to_have_text("all")
        await expect(lines.first).to_contain_text("Down")
        await expect(lines.first).to_contain_text("1 of 2 live (needed: 2)")
        final = lines.nth(1)
        for text in ("Redundancy lost", "1 of 2 live (needed: 1)", "main · live", "backup · idle", BACKUP):
            await expect(final).to_contain_text(text)
        assert await accessibility_violations(page) == []
        publish(served, state_of("edge", MAIN, False), state_of("other", BACKUP, None))
        await expect(final).to_contain_text("Unknown")
        await expect(final).to_contain_text("0 of 2 live, 1 unknown (needed: 1)")
        await final.get_by_role("link", name=MAIN).click()
        await expect(page.locator(".detail h2")).to_contain_text(MAIN)
        assert "stream-exporter" in await page.title()


@pytest.mark.parametrize(
    ("main", "backup", "in_maintenance", "word"),
    [
        (True, True, False, "Up"),
        (False, False, False, "Down"),
        (False, True, False, "Redundancy lost"),
        (False, None, False, "Unknown"),
        (False, False, True, "Maintenance"),
    ],
)
async def test_state_of_a_group_is_one_word(
    main: bool, backup: bool | None, in_maintenance: bool, word: str, served: ServedApp, browser: Browser
) -> None:
    served.set_groups([FINAL])
    publish(
        served,
        state_of("edge", MAIN, main, in_maintenance=in_maintenance),
        state_of("other", BACKUP, backup, in_maintenance=in_maintenance),
    )
    async with open_page(browser, served.url, size=PHONE) as page:
        await expect(page.locator(".group > .badge")).to_contain_text(word)
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_streams_that_need_not_be_live_are_grey(served: ServedApp, browser: Browser) -> None:
    served.set_groups([FINAL])
    publish(
        served,
        state_of("edge", MAIN, False, expected=False),
        state_of("other", BACKUP, False, expected=False),
    )
    async with open_page(browser, served.url) as page:
        await expect(page.locator(".group > .badge")).to_contain_text("Not expected")
        await expect(page.locator(".group .members .badge.off")).to_have_count(2)


async def test_page_without_groups_has_no_section_for_them(served: ServedApp, browser: Browser) -> None:
    publish(served, state_of("edge", MAIN, True), state_of("other", BACKUP, True))
    async with open_page(browser, served.url) as page:
        await expect(page.locator(".rows .row")).to_have_count(2)
        await expect(page.get_by_role("heading", name="Groups")).to_be_hidden()
