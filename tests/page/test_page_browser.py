"""The page in a real Chromium, with states that the test publishes."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from exporter.alerting.annotations import page_url
from exporter.metrics.text_format import label_value
from exporter.model import AlertOverrides, HealthReason, Maintenance, Reason, Status, StreamReport, StreamState
from exporter.runtime.clock import Clock
from exporter.web.options import WebOptions
from tests.page.browser import (
    DESKTOP,
    PHONE,
    accessibility_violations,
    launch_chromium,
    open_page,
    stream_rows,
    stream_titles,
)
from tests.page.served_app import ServedApp, serve_app
from tests.page.states import outage, stream_state, upstream_state, withdrawn

# Starting a browser takes seconds, so the tests share one.
pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

HOSTILE = (
    "<img src=x onerror=\"document.title='owned'\">",
    "<script>document.title='owned'</script>",
    '"><svg/onload=alert(1)>',
    "javascript:alert(1)",
    "..",
    "a/../../b?c#d%2f&amp;",
    "\u202egnp.exe \u0000 tail",
    "x" * 400,
    "${7*7}{{7*7}}",
)


# Returns the cells that overflow their row, which has a fixed height.
CUT_OFF = """() => {
  const outside = (row) => [...row.children].filter((cell) => {
    const [inner, outer] = [cell.getBoundingClientRect(), row.getBoundingClientRect()];
    return inner.height > 0 && (inner.top < outer.top - 1 || inner.bottom > outer.bottom + 1);
  });
  return [...document.querySelectorAll(".rows .row")].flatMap(outside).map((cell) => cell.outerHTML);
}"""


@pytest_asyncio.fixture(loop_scope="module")
async def served(tmp_path: Path) -> AsyncIterator[ServedApp]:
    async with serve_app(tmp_path, clock=Clock()) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with launch_chromium() as running:
        yield running


def live(label: str, bitrate: float = 500_000.0, score: float | None = 1.0, **facts: Any) -> StreamState:
    report_facts = {
        key: facts.pop(key)
        for key in ("issues", "viewers", "viewers_partial", "name", "healthy", "latency_seconds")
        if key in facts
    }
    report = StreamReport(id=label, ingest_bitrate_bytes_per_second=bitrate, frames_per_second=30.0, **report_facts)
    return stream_state(label, report=report, status=Status.LIVE, live=True, health_score_ratio=score, **facts)


def fleet() -> list[StreamState]:
    low = (HealthReason.VERDICT, HealthReason.BITRATE_LOW)
    return [
        live("live/alpha", 625_000.0, viewers=1200, latency_seconds=0.25),
        live(
            "live/bravo", 125_000.0, 0.3, healthy=False, issues=("Keyframes are late",), health_reasons=low, viewers=3
        ),
        live("live/charlie", 1_250_000.0, 0.9, viewers=45, latency_seconds=2.5),
        stream_state("live/delta", status=Status.IDLE, live=False, expected=True),
        stream_state("live/echo", status=Status.ENDED, live=False),
        live("live/foxtrot", 250_000.0, 0.8, health_reasons=(HealthReason.LOSS,)),
    ]


OFF_AIR = stream_state("other/off", upstream="other", status=Status.IDLE, live=False)


def publish(served: ServedApp, *streams: StreamState, **facts: Any) -> None:
    now = time.time()
    facts = {"poll_interval_seconds": 4.0, **facts}
    times = {"last_success_timestamp_seconds": now - 4, "last_poll_at": now - 4, "next_poll_at": now + 11}
    served.service.store.publish(upstream_state(streams or fleet(), **(times | facts)))


async def names(page: Page) -> list[str]:
    return await stream_titles(page).all_text_contents()


async def test_number_of_viewers_that_is_a_lower_bound_is_marked(served: ServedApp, browser: Browser) -> None:
    publish(served, live("live/shared", viewers=12, viewers_partial=True), live("live/whole", viewers=7))
    async with open_page(browser, served.url) as page:
        await expect(page.get_by_text("≥ 12", exact=True)).to_be_visible()
        await expect(page.get_by_text("7", exact=True)).to_be_visible()


async def test_page_lists_upstreams_and_the_worst_streams_first(served: ServedApp, browser: Browser) -> None:
    publish(served)
    async with open_page(browser, served.url) as page:
        await expect(stream_titles(page)).to_have_count(6)
        assert await names(page) == [f"live/{n}" for n in ("bravo", "delta", "foxtrot", "charlie", "alpha", "echo")]
        states = await page.locator(".rows .badge").all_text_contents()
        assert states == ["▲ Unhealthy", "▲ Missing", "◆ Impaired", "● Live", "● Live", "○ Ended"]
        bravo = stream_rows(page).first
        for text in ("1 Mbit/s", "30 %", "unhealthy verdict, low bitrate", "Keyframes are late", "30 fps", "3"):
            await expect(bravo).to_contain_text(text)
        await expect(stream_rows(page).nth(4)).to_contain_text("250 ms")
        edge = page.locator(".upstreams li").first
        for text in ("Up", "edge", "storm · 127.0.0.1:9", "4 of 6 streams live", "updated ", "next poll in "):
            await expect(edge).to_contain_text(text)
        await expect(page.locator(".upstreams li").nth(1)).to_contain_text("Not polled yet")
        await expect(page).to_have_title("(3) stream-exporter")
        await expect(stream_rows(page).first.locator("path")).to_have_attribute("d", re.compile("M"))


async def test_page_follows_published_states(served: ServedApp, browser: Browser) -> None:
    publish(served)
    async with open_page(browser, served.url) as page:
        await expect(stream_titles(page)).to_have_count(6)
        publish(served, live("live/golf"), up=False, last_error="status 401", last_error_reason=Reason.AUTH)
        await expect(stream_titles(page)).to_have_count(1)
        await expect(page).to_have_title("stream-exporter")
        await expect(page.locator("#summary")).to_have_text("0 streams have problems")
        edge = page.locator(".upstreams li").first
        for text in ("Down", "status 401", "Check the token or password file", "Last successful poll"):
            await expect(edge).to_contain_text(text)


async def test_configured_threshold_changes_the_severity_shown(served: ServedApp, browser: Browser) -> None:
    publish(served, live("live/alpha", score=0.9), live("live/bravo", score=0.6, health_reasons=(HealthReason.LOSS,)))
    async with open_page(browser, served.url) as page:
        badges = page.locator(".rows .badge")
        await expect(badges).to_have_text(["◆ Impaired", "● Live"])
        served.set_thresholds({"StreamUnhealthy": 0.7})
        await expect(badges).to_have_text(["▲ Unhealthy", "● Live"])
        served.set_thresholds({"StreamUnhealthy": 0.2, "StreamDegraded": 0.95})
        await expect(badges).to_have_text(["◆ Impaired", "◆ Impaired"])
        await stream_titles(page).filter(has_text="alpha").click()
        await expect(page.locator(".lead .badge")).to_have_text("◆ Impaired")
        served.set_thresholds({"StreamUnhealthy": 0.95})
        await expect(page.locator(".lead .badge")).to_have_text("▲ Unhealthy")


async def test_stream_is_judged_with_its_own_thresholds(served: ServedApp, browser: Browser) -> None:
    tamed = live("live/alpha", score=0.6, overrides=AlertOverrides({"StreamDegraded": 0.5, "StreamJitterHigh": 1.0}))
    off = live("live/bravo", score=0.1, overrides=AlertOverrides(off=frozenset({"StreamDegraded", "StreamUnhealthy"})))
    publish(served, tamed, off, live("live/delta", score=0.6))
    async with open_page(browser, served.url) as page:
        await expect(page.locator(".rows .badge")).to_have_text(["◆ Impaired", "● Live", "● Live"])
        await stream_titles(page).filter(has_text="alpha").click()
        await expect(page.locator(".lead .badge")).to_have_text("● Live")
        await expect(page.locator(".groups")).to_contain_text("StreamDegraded: 0.5, StreamJitterHigh: 1")


async def test_search_filters_and_order_select_rows(served: ServedApp, browser: Browser) -> None:
    publish(served)
    other = live("other/golf", 2e6)
    served.service.store.publish(
        upstream_state(
            [stream_state("other/golf", upstream="other", report=other.report, status=Status.LIVE, live=True)],
            upstream="other",
        )
    )
    async with open_page(browser, served.url) as page:
        await expect(stream_titles(page)).to_have_count(7)
        search = page.get_by_label("Search")
        await search.fill("KEYFRAMES live")
        await expect(stream_titles(page)).to_have_text(["live/bravo"])
        await search.fill("no such name")
        await expect(page.get_by_text("No streams match the filters.")).to_be_visible()
        await search.fill("")
        await page.get_by_role("button", name="Problems 3").click()
        await expect(stream_titles(page)).to_have_count(3)
        await page.get_by_role("button", name="All 7").click()
        await page.get_by_role("button", name="Bitrate").click()
        await expect(stream_titles(page).first).to_have_text("other/golf")
        assert (await names(page))[1:5] == ["live/charlie", "live/alpha", "live/foxtrot", "live/bravo"]
        await expect(page.get_by_role("columnheader", name="Bitrate")).to_have_attribute("aria-sort", "descending")
        await page.get_by_role("button", name="Bitrate").click()
        await expect(stream_titles(page).first).to_have_text("live/bravo")
        # Missing values come last in both directions.
        assert (await names(page))[-2:] == ["live/delta", "live/echo"]
        await page.get_by_label("Upstream", exact=True).select_option("other")
        await expect(stream_titles(page)).to_have_text(["other/golf"])
        await page.reload()
        await expect(stream_titles(page)).to_have_text(["other/golf"])
        assert page.url.endswith("?only=other&sort=bitrate&reversed=")


async def test_stream_view_opens_and_returns_to_the_list(served: ServedApp, browser: Browser) -> None:
    publish(served)
    async with open_page(browser, served.url) as page:
        await page.get_by_role("link", name="live/bravo").click()
        await expect(page.get_by_role("heading", name="live/bravo")).to_be_focused()
        assert page.url == f"{served.url}/streams/edge/live%2Fbravo"
        for text in ("Keyframes are late", "Platform verdict", "1 Mbit/s"):
            await expect(page.locator(".detail")).to_contain_text(text)
        await expect(page.locator(".selector")).to_have_text('{platform="storm", upstream="edge", stream="live/bravo"}')
        await expect(page.get_by_role("img", name="Ingest bitrate")).to_be_visible()
        await expect(stream_rows(page).first).to_be_hidden()
        publish(served, live("live/bravo", 375_000.0))
        await expect(page.locator(".detail")).to_contain_text("3 Mbit/s")
        await expect(page.locator(".detail")).not_to_contain_text("Keyframes are late")
        await page.get_by_role("link", name="All streams").click()
        await expect(page.get_by_role("link", name="live/bravo")).to_be_focused()
        await page.go_forward()
        await expect(page.get_by_role("heading", name="live/bravo")).to_be_visible()
        await page.get_by_role("link", name="stream-exporter").click()
        await expect(stream_titles(page)).to_have_count(1)


@pytest.mark.parametrize("path", ["live%2Fbravo", "live/bravo"])
async def test_external_link_opens_a_stream(path: str, served: ServedApp, browser: Browser) -> None:
    publish(served)
    async with open_page(browser, f"{served.url}/streams/edge/{path}") as page:
        await expect(page.get_by_role("heading", name="live/bravo")).to_be_visible()
        await expect(page.locator(".detail")).to_contain_text("Keyframes are late")
        await page.get_by_role("link", name="All streams").click()
        await expect(stream_titles(page)).to_have_count(6)
        assert page.url == f"{served.url}/"


async def test_link_of_an_alert_opens_the_stream(served: ServedApp, browser: Browser) -> None:
    labels = [label_value(name) for name in (*HOSTILE, "live/a b+c", "ü?=%2B")]
    publish(served, *(live(label, 0.3, healthy=False) for label in labels))
    async with open_page(browser, served.url) as page:
        for label in labels:
            await page.goto(page_url(f"{served.url}/", "edge", label))
            await expect(page.locator(".detail h2")).to_have_text(label)
            await expect(page.locator(".detail .lead")).to_contain_text("Unhealthy")


async def test_view_of_unknown_stream_fills_when_it_appears(served: ServedApp, browser: Browser) -> None:
    publish(served)
    async with open_page(browser, f"{served.url}/streams/edge/later") as page:
        await expect(page.locator(".detail")).to_contain_text("edge has no stream with this name")
        publish(served, live("later"))
        await expect(page.locator(".detail .badge")).to_have_text("● Live")


async def test_view_of_a_stream_names_its_failed_upstream(served: ServedApp, browser: Browser) -> None:
    lost = stream_state("live/delta", configured=True, expected=True)
    publish(served, lost, up=False, last_error="no answer within 10 s", last_error_reason=Reason.TIMEOUT)
    async with open_page(browser, served.url) as page:
        await expect(stream_rows(page).first).to_contain_text("state unknown; upstream is down")
        await stream_titles(page).first.click()
        await expect(page.locator(".detail")).to_contain_text("Upstream edge is down: no answer within 10 s.")


async def test_outage_shows_the_last_known_states_and_no_stream_as_off_air(served: ServedApp, browser: Browser) -> None:
    since = time.time() - 600
    expected = withdrawn("live/expected", since=since, expected=True)
    served.service.store.publish(outage(since=since, streams=[expected]))
    served.service.store.publish(upstream_state([live("other/live", upstream="other"), OFF_AIR], upstream="other"))
    async with open_page(browser, served.url, size=(1440, 2400)) as page:
        clock = await page.evaluate(
            "time => new Date(time * 1000).toLocaleTimeString('en-GB', {hour: '2-digit', minute: '2-digit'})", since
        )
        edge = page.locator(".upstreams li").first
        await expect(edge).to_contain_text(re.compile(f"state unknown since .*{clock}; 20 of 21 were live then"))
        await expect(edge).not_to_contain_text("streams live")
        await expect(stream_titles(page)).to_have_count(23)
        for button in ("All 23", "Problems 1", "Live 1", "Off air 1", "Unknown 21"):
            await expect(page.get_by_role("button", name=button, exact=True)).to_be_visible()
        await expect(page).to_have_title("(1, 21 unknown) stream-exporter")
        shown = await names(page)
        assert shown[0] == "live/expected"
        assert shown[-2:] == ["other/live", "other/off"], "unknown streams come before live ones"
        row = stream_rows(page).nth(1)
        await expect(row).to_have_class("row unknown greyed")
        await expect(row.locator(".badge")).to_have_text("? Unknown")
        await expect(row).to_contain_text(re.compile(f"was live, state unknown since .*{clock}; upstream is down"))
        await expect(stream_rows(page).filter(has_text="stream-07")).to_contain_text("was not live, state unknown")
        await page.get_by_role("button", name="Unknown 21", exact=True).click()
        await expect(stream_titles(page)).to_have_count(21)
        assert page.url.endswith("?show=unknown")
        await page.reload()
        await expect(page.get_by_role("button", name="Unknown 21")).to_have_attribute("aria-pressed", "true")
        await expect(stream_titles(page)).to_have_count(21)
        await page.get_by_role("button", name="Off air 1").press("Enter")
        await expect(stream_titles(page)).to_have_text(["other/off"])
        await page.get_by_role("button", name="All 23").click()
        await page.get_by_role("button", name="Health").click()
        await expect(stream_titles(page).first).to_have_text("other/live")
        await page.get_by_role("button", name="Health").click()
        await expect(stream_titles(page).first).to_have_text("other/live")
        await page.get_by_role("link", name="live/stream-00").click()
        notice = page.locator(".detail .notice")
        await expect(notice).to_contain_text(re.compile(f"^Was live, state unknown since .*{clock}. It may be live or"))


@pytest.mark.parametrize(
    ("status", "text"), [(503, "No response from the exporter since"), (401, "Authentication required")]
)
async def test_failed_request_for_alerts_is_shown_and_no_change_is_lost(
    status: int, text: str, served: ServedApp, browser: Browser
) -> None:
    publish(served)
    async with open_page(browser, served.url) as page:
        await expect(stream_titles(page)).to_have_count(6)
        await page.route("**/api/v1/sidecar", lambda route: route.fulfill(status=status))
        publish(served, live("live/golf"))
        await expect(page.get_by_role("alert")).to_contain_text(text)
        await expect(page.locator("#connection")).to_have_text("no connection")
        await page.unroute("**/api/v1/sidecar")
        await expect(page.locator("#banner")).to_be_hidden()
        await expect(stream_titles(page)).to_have_text(["live/golf"])


async def test_unexpected_error_is_shown_until_the_page_recovers(served: ServedApp, browser: Browser) -> None:
    publish(served)
    # Not open_page, which fails on errors of the page.
    page = await browser.new_page()
    await page.route("**/api/v1/sidecar", lambda route: route.fulfill(body="{"))
    await page.goto(served.url)
    await expect(page.get_by_role("alert")).to_contain_text("Unexpected error; reload the page")
    await page.unroute("**/api/v1/sidecar")
    await expect(page.locator("#banner")).to_be_hidden()
    await expect(stream_titles(page)).to_have_count(6)
    await page.close()


async def test_outage_is_announced_and_ends(served: ServedApp, browser: Browser) -> None:
    publish(served)
    async with open_page(browser, served.url) as page:
        await expect(stream_titles(page)).to_have_count(6)
        served.service.store.publish(outage(since=time.time()))
        await expect(page.locator("#summary")).to_have_text("0 streams have problems, 20 are unknown")
        await expect(stream_rows(page).first).to_have_class("row unknown greyed")
        publish(served, live("live/stream-00"))
        await expect(stream_rows(page)).to_have_class(["row ok"])
        await expect(page.locator("#summary")).to_have_text("0 streams have problems")
        await expect(page.locator(".upstreams li").first).to_contain_text("1 of 1 stream live")


async def test_unknown_stream_of_an_answering_upstream_is_not_off_air(served: ServedApp, browser: Browser) -> None:
    new_word = stream_state("live/word", report=StreamReport(id="a"), status=Status.UNKNOWN, reported_at=time.time())
    publish(served, live("live/alpha"), new_word, list_complete=False)
    async with open_page(browser, served.url) as page:
        edge = page.locator(".upstreams li").first
        await expect(edge).to_contain_text("1 of 2 streams live, 1 unknown")
        await expect(edge).to_contain_text("list may be incomplete")
        await expect(page.locator(".upstreams li").nth(1)).to_contain_text("no known streams")
        assert await names(page) == ["live/word", "live/alpha"]
        await expect(stream_rows(page).first).to_contain_text("state unknown")
        await expect(page.get_by_role("button", name="Off air 0")).to_be_visible()
        publish(served, new_word, up=False, last_error="status 401", last_error_reason=Reason.AUTH)
        await expect(edge).to_contain_text("state of 1 stream unknown")


async def test_maintenance_is_shown_and_sorted_before_live_streams(served: ServedApp, browser: Browser) -> None:
    def window(reason: str) -> Maintenance:
        # at noon of a day in the past, so that the text does not depend on the time of the test
        return Maintenance(until=1_726_056_000.0, reason=reason, is_manual=True)

    missing: dict[str, Any] = {"status": Status.IDLE, "live": False, "expected": True}
    streams = [
        live("live/alpha"),
        stream_state("live/bravo", maintenance=window("encoder <b>swap</b>"), **missing),
        stream_state("live/charlie", **missing),
        stream_state("live/delta", status=Status.UNKNOWN),
        live("live/echo", maintenance=window("")),
    ]
    publish(served, *streams)
    async with open_page(browser, served.url) as page:
        await expect(stream_titles(page)).to_have_count(5)
        assert await names(page) == ["live/charlie", "live/delta", "live/bravo", "live/echo", "live/alpha"]
        row = stream_rows(page).filter(has_text="live/bravo")
        await expect(row.locator(".badge")).to_have_text("◇ Missing")
        await expect(row.locator(".chip.maintenance")).to_have_text(
            re.compile(r"^maintenance until 11 Sept?,? \d\d:\d\d, encoder <b>swap</b>$")
        )
        assert await page.title() == "(1, 1 unknown) stream-exporter"
        await page.get_by_role("searchbox").fill("maintenance")
        await expect(stream_titles(page)).to_have_count(2)
        await page.get_by_role("searchbox").fill("")
        await page.get_by_role("link", name="live/bravo").click()
        await expect(page.locator(".lead .badge")).to_have_text("◇ Missing")
        await expect(page.locator(".lead .chip.maintenance")).to_contain_text("encoder <b>swap</b>")
        publish(served, *streams)
        await expect(page.locator(".lead .chip.maintenance")).to_have_count(1)


async def test_maintenance_of_an_upstream_applies_to_all_its_streams(served: ServedApp, browser: Browser) -> None:
    window = Maintenance(until=1_726_056_000.0, reason="new disks")
    publish(served, live("live/alpha"), withdrawn("live/bravo", since=1_726_000_000.0), up=False, maintenance=window)
    async with open_page(browser, served.url) as page:
        await expect(stream_rows(page).locator(".chip.maintenance")).to_have_count(2)
        card = page.locator(".card").filter(has_text="edge")
        await expect(card.locator(".badge")).to_have_text("◇ Down")
        await expect(card.locator(".chip.maintenance")).to_contain_text("new disks")
        assert await accessibility_violations(page) == []


async def test_hostile_name_is_never_markup(served: ServedApp, browser: Browser) -> None:
    streams = [live(name, name=name, issues=(name,), healthy=False) for name in HOSTILE]
    publish(served, *streams, last_error=HOSTILE[0], last_error_reason=Reason.BAD_RESPONSE, host=HOSTILE[1])
    async with open_page(browser, served.url) as page:
        await expect(stream_titles(page)).to_have_count(len(HOSTILE))
        await expect(page.locator(".upstreams")).to_contain_text(HOSTILE[0])
        assert set(HOSTILE[:7]) <= set(await names(page))
        elements = "img, iframe, object, style, svg:not(.small-line), body script"
        assert await page.locator(elements).count() == 0
        for index in range(len(HOSTILE)):
            name = (await names(page))[index]
            await stream_titles(page).nth(index).click()
            await expect(page.locator(".detail h2")).to_have_text(name)
            await expect(page.locator(".detail .lead")).to_contain_text("Unhealthy")
            assert await page.locator("img, iframe, object, style, body script").count() == 0
            await page.reload()
            await expect(page.locator(".detail .lead")).to_contain_text("Unhealthy")
            await page.get_by_role("link", name="All streams").click()
            await expect(stream_titles(page)).to_have_count(len(HOSTILE))
        assert "owned" not in await page.title()


async def test_only_visible_rows_are_in_the_document(served: ServedApp, browser: Browser) -> None:
    publish(served, *(live(f"live/stream-{number:04}") for number in range(5000)))
    for size in (DESKTOP, PHONE):
        async with open_page(browser, served.url, size=size) as page:
            await expect(stream_titles(page).first).to_have_text("live/stream-0000")
            assert await stream_rows(page).count() < 60
            await expect(page.get_by_role("table")).to_have_attribute("aria-rowcount", "5001")
            await page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
            await expect(stream_titles(page).last).to_have_text("live/stream-4999")
            await expect(stream_titles(page).last).to_be_in_viewport()
            assert await stream_rows(page).count() < 60
            await expect(stream_rows(page).last).to_have_attribute("aria-rowindex", "5001")
            await expect(stream_rows(page).last.locator("path")).to_have_attribute("d", re.compile("M"))


async def test_keyboard_reaches_every_row_and_stream(served: ServedApp, browser: Browser) -> None:
    publish(served, *(live(f"live/stream-{number:04}") for number in range(500)))
    async with open_page(browser, served.url) as page:
        await expect(stream_titles(page).first).to_have_text("live/stream-0000")
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to the streams")).to_be_focused()
        await stream_titles(page).first.focus()
        for key, name in (
            ("ArrowDown", "live/stream-0001"),
            ("End", "live/stream-0499"),
            ("ArrowDown", "live/stream-0499"),
            ("ArrowUp", "live/stream-0498"),
            ("Home", "live/stream-0000"),
        ):
            await page.keyboard.press(key)
            focused = page.get_by_role("link", name=name)
            await expect(focused).to_be_focused()
            await expect(focused).to_be_in_viewport()
        await page.keyboard.press("PageDown")
        assert await page.evaluate("document.activeElement.textContent") != "live/stream-0000"
        # A row keeps the focus when it moves, is drawn again, or leaves the window.
        await page.keyboard.press("Home")
        publish(served, *(live(f"live/stream-{number:04}", score=1 - number / 1000) for number in range(500)))
        await expect(stream_titles(page).first).to_have_text("live/stream-0499")
        await expect(page.get_by_role("link", name="live/stream-0000")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="live/stream-0000")).to_be_focused()


@pytest.mark.parametrize("size", [DESKTOP, PHONE, (820, 1000)])
@pytest.mark.parametrize("dark", [False, True])
async def test_page_has_no_accessibility_violations(
    size: tuple[int, int], dark: bool, served: ServedApp, browser: Browser, tmp_path: Path
) -> None:
    publish(served, up=False, last_error="status 401", last_error_reason=Reason.AUTH)
    served.service.store.publish(upstream_state([], upstream="other"))
    async with open_page(browser, served.url, size=size, dark=dark) as page:
        await expect(stream_titles(page)).to_have_count(6)
        assert await accessibility_violations(page) == []
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert await page.evaluate(CUT_OFF) == []
        await stream_titles(page).first.click()
        await expect(page.get_by_role("img", name="Ingest bitrate")).to_be_visible()
        assert await accessibility_violations(page) == []
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("size", [DESKTOP, PHONE, (820, 1000)])
@pytest.mark.parametrize("dark", [False, True])
async def test_page_of_an_outage_has_no_accessibility_violations(
    size: tuple[int, int], dark: bool, served: ServedApp, browser: Browser
) -> None:
    since = time.time() - 600
    long = withdrawn("x" * 90, since=since - 90_000, expected=True)
    served.service.store.publish(outage(since=since, streams=[long]))
    served.service.store.publish(
        upstream_state([live("other/live", upstream="other"), OFF_AIR], upstream="other", list_complete=False)
    )
    async with open_page(browser, served.url, size=size, dark=dark) as page:
        await expect(page.get_by_role("button", name="Unknown 21")).to_be_visible()
        assert await accessibility_violations(page) == []
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert await page.evaluate(CUT_OFF) == []
        await stream_titles(page).nth(1).click()
        await expect(page.locator(".detail")).to_contain_text("It may be live or off air now.")
        assert await accessibility_violations(page) == []
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_page_works_with_metrics_at_the_root(tmp_path: Path, browser: Browser) -> None:
    async with serve_app(tmp_path, clock=Clock(), options=WebOptions(telemetry_path="/")) as served:
        publish(served)
        async with open_page(browser, f"{served.url}/streams") as page:
            await stream_titles(page).first.click()
            await expect(page.get_by_role("heading", name="live/bravo")).to_be_visible()
            await page.get_by_role("link", name="All streams").click()
            await expect(stream_titles(page)).to_have_count(6)
            assert page.url == f"{served.url}/streams"


async def test_page_without_scripts_shows_a_table(served: ServedApp, browser: Browser) -> None:
    publish(served, last_error=HOSTILE[0], up=False)
    for path in ("/", f"/streams/edge/{quote('live/bravo', safe='')}"):
        async with open_page(browser, served.url + path, javascript=False) as page:
            await expect(page.get_by_role("row").nth(1)).to_contain_text("edge")
            await expect(page.get_by_role("row").nth(1)).to_contain_text(HOSTILE[0])
            for name in ("Metrics", "Configuration", "Healthy", "Ready"):
                href = await page.get_by_role("link", name=name).evaluate("link => link.href")
                async with served.session.get(href) as answer:
                    assert answer.status in (200, 503)


async def test_figures_are_formatted_with_units(served: ServedApp, browser: Browser) -> None:
    async with open_page(browser, served.url) as page:
        units = await page.evaluate(
            """async () => {
              const units = await import(new URL("static/units.js", location.href));
              const { formatBitrate, formatBytes, formatPercent, formatDelay, formatFrameRate } = units;
              const { formatDuration, formatCount, formatSince } = units;
              return {
                bitrates: [0, 100, 80_000, 124_999, 125_000, 526_250, 1.5625e6, 16e6, 124_999_999].map(formatBitrate),
                bytes: [0, 999, 1000, 2.49e9].map(formatBytes),
                ratios: [0, 0.004, 0.055, 0.5, 0.996, 1].map(formatPercent),
                delays: [0, 0.0004, 0.25, 1, 2.1877, 61.26].map(formatDelay),
                rates: [25, 29.97, 59.9401].map(formatFrameRate),
                durations: [-3, 0, 59, 99, 101, 7200, 400_000].map(formatDuration),
                counts: [0, 1234567].map(formatCount),
                since: [Date.now() / 1000, 1_726_000_123].map(formatSince),
              };
            }"""
        )
        await expect(page.get_by_text("No streams yet.")).to_be_visible()
    today, earlier = units.pop("since")
    assert re.fullmatch(r"\d\d:\d\d", today)
    assert re.fullmatch(r"1\d Sept?, \d\d:\d\d", earlier), "the day is shown unless it is today"
    assert units == {
        "bitrates": [
            "0 bit/s",
            "800 bit/s",
            "640 kbit/s",
            "1 Mbit/s",
            "1 Mbit/s",
            "4.21 Mbit/s",
            "12.5 Mbit/s",
            "128 Mbit/s",
            "1 Gbit/s",
        ],
        "bytes": ["0 B", "999 B", "1 kB", "2.49 GB"],
        "ratios": ["0 %", "0.4 %", "5.5 %", "50 %", "100 %", "100 %"],
        "delays": ["0 ms", "0 ms", "250 ms", "1 s", "2.19 s", "61.3 s"],
        "rates": ["25 fps", "29.97 fps", "59.94 fps"],
        "durations": ["0 s", "0 s", "59 s", "99 s", "2 min", "2 h", "5 d"],
        "counts": ["0", "1,234,567"],
    }
