"""Playback checks and the streams that they are paired with, on the page in a real Chromium."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from exporter.model import Status, StreamReport, StreamState
from exporter.runtime.clock import Clock
from tests.page.browser import PHONE, accessibility_violations, launch_chromium, open_page
from tests.page.served_app import ServedApp, serve_app
from tests.page.states import stream_state, upstream_state

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(loop_scope="module")
async def served(tmp_path: Path) -> AsyncIterator[ServedApp]:
    async with serve_app(tmp_path, clock=Clock()) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with launch_chromium() as running:
        yield running


def state_of(label: str, live: bool | None, upstream: str = "edge", source: str = "", **facts: Any) -> StreamState:
    """Return a stream's state; ``source`` is its source as ``upstream/stream``."""
    status = {True: Status.LIVE, False: Status.IDLE, None: Status.UNKNOWN}[live]
    source_upstream, _, source_stream = source.partition("/")
    return stream_state(
        label,
        upstream=upstream,
        report=StreamReport(id=label, **facts),
        live=live,
        status=status,
        source_upstream=source_upstream,
        source_stream=source_stream,
    )


def publish(served: ServedApp, *streams: StreamState) -> None:
    for upstream in ("edge", "other"):
        own = [stream for stream in streams if stream.identity.upstream == upstream]
        sources = frozenset(stream.source_upstream for stream in own if stream.source_upstream)
        facts = {"answering": True, "poll_interval_seconds": 4.0, "source_upstreams": sources}
        served.service.store.publish(upstream_state(own, upstream=upstream, **facts))


def words(page: Page, label: str) -> Any:
    return page.locator(".rows .row", has=page.get_by_role("link", name=label, exact=True)).locator(".words")


def encoder(live: bool = True) -> StreamState:
    return state_of("encoder", live, ingest_bitrate_bytes_per_second=512_500.0 if live else None)


async def test_row_shows_what_viewers_get_beside_the_report_of_the_platform(
    served: ServedApp, browser: Browser
) -> None:
    failure: dict[str, Any] = {"unplayable_reason": "segment_missing", "playback_detail": "segments missing (404)"}
    changed = time.time() - 45 * 60
    broken = state_of(
        "cdn", False, "other", "edge/encoder", playable=False, media_changed_timestamp_seconds=changed, **failure
    )
    publish(served, encoder(), broken)
    async with open_page(browser, served.url) as page:
        await expect(words(page, "encoder")).to_have_text(
            "platform: live, 4.1 Mbit/s · viewers: nothing for 45 min, segments missing (404)"
        )
        await expect(words(page, "cdn")).to_contain_text("segments missing (404) · source edge/encoder: live")
        await expect(page.locator(".row.bad .badge")).to_contain_text("Unplayable")
        assert await accessibility_violations(page) == []
        publish(served, encoder(), state_of("cdn", True, "other", "edge/encoder", playable=True))
        await expect(words(page, "encoder")).to_have_text("platform: live, 4.1 Mbit/s · viewers: playable")
        await expect(words(page, "cdn")).to_have_text("viewers: playable · source edge/encoder: live")


async def test_first_broken_hop_explains_the_hops_behind_it(served: ServedApp, browser: Browser) -> None:
    missing: dict[str, Any] = {"playable": False, "playback_detail": "playlist missing (404)"}
    origin = state_of("origin", None, source="edge/encoder", **missing)
    cdn = state_of("cdn", None, "other", "edge/origin", **missing)
    publish(served, encoder(), origin, cdn)
    async with open_page(browser, served.url, size=PHONE) as page:
        await expect(words(page, "encoder")).to_have_text(
            "platform: live, 4.1 Mbit/s · viewers: nothing, playlist missing (404)"
        )
        await expect(words(page, "cdn")).to_contain_text("broken at edge/origin: nothing, playlist missing (404)")
        await page.get_by_role("link", name="cdn", exact=True).click()
        hops = page.locator(".chain li")
        await expect(hops).to_have_count(3)
        await expect(hops.nth(0)).to_have_text("edge/encoder: live, 4.1 Mbit/s")
        await expect(hops.nth(1)).to_contain_text("first broken hop")
        await expect(hops.nth(2)).not_to_contain_text("first broken hop")
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert await accessibility_violations(page) == []
        publish(served, encoder(live=False), origin, cdn)
        await expect(hops.nth(0)).to_contain_text("first broken hop")
        await hops.nth(0).get_by_role("link").click()
        await expect(page.locator(".detail h2")).to_have_text("encoder")
        await expect(hops).to_have_count(3)


async def test_checks_at_several_places_are_named(served: ServedApp, browser: Browser) -> None:
    one = state_of("one", True, source="edge/encoder", playable=True)
    two = state_of("two", None, "other", "edge/encoder")
    publish(served, encoder(), one, two)
    async with open_page(browser, served.url) as page:
        await expect(words(page, "encoder")).to_have_text(
            "platform: live, 4.1 Mbit/s · viewers at edge: playable · viewers at other: unknown"
        )


async def test_source_that_is_not_served_is_unknown(served: ServedApp, browser: Browser) -> None:
    publish(served, state_of("cdn", True, source="other/gone", playable=True))
    async with open_page(browser, served.url) as page:
        await expect(words(page, "cdn")).to_have_text("viewers: playable · source other/gone: unknown")
        await page.get_by_role("link", name="cdn", exact=True).click()
        await expect(page.locator(".chain li").first).to_have_text("other/gone: unknown")


async def test_stale_playlist_is_described_by_the_age_of_its_media(served: ServedApp, browser: Browser) -> None:
    stale: dict[str, Any] = {"unplayable_reason": "stale", "playback_detail": "no new media for 20 s"}
    changed = time.time() - 7200
    publish(served, state_of("cdn", False, playable=False, media_changed_timestamp_seconds=changed, **stale))
    async with open_page(browser, served.url) as page:
        await expect(words(page, "cdn")).to_have_text("viewers: nothing for 2 h")
