"""Documented endpoints of Livepeer and Storm, requested from the simulator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestServer

from exporter.model import Status, StreamReport
from exporter.platforms.registry import platforms
from exporter.simulator import Fleet, make_app
from exporter.simulator.context import PASSWORD, TOKEN, USERNAME
from exporter.simulator.simulated_streams import Platform, Stream
from tests.fake_clock import FakeClock
from tests.platforms.platform_harness import polled

PAGES = Path(__file__).parents[2] / "docs/platforms"


@pytest.mark.parametrize(
    "endpoint",
    [
        "PATCH /streaming/sessions/{id}",
        "DELETE /streaming/sessions/{id}",
        "POST /analytics/events",
        "POST /analytics/events/batch",
    ],
)
def test_wave_page_documents_endpoints_that_change_something(endpoint: str) -> None:
    """``test_recordings.py`` covers the endpoints that polls request."""
    assert f"`{endpoint}" in (PAGES / "wave.md").read_text()


async def polled_once(platform: Platform, base: str, **given: Any) -> tuple[list[StreamReport], Stream, set[str]]:
    """Return the reports of a simulated platform, the watched stream, and the requested endpoints.

    ``given``: settings; a function gets the watched stream and returns the value.
    """
    fleet, clock = Fleet(30, seed=1), FakeClock()
    now = clock.now()
    stream = next(s for s in fleet.streams(platform) if fleet.is_live(s, now - 300) and fleet.is_live(s, now + 60))
    settings = {name: value(stream) if callable(value) else value for name, value in given.items()}
    kind = platforms()[platform.value]
    requested: set[str] = set()
    async with TestServer(make_app(fleet, clock)) as server:
        keys = {"name": "u", "platform": platform.value, "url": str(server.make_url(base)), **settings}
        async with polled(kind, kind.settings_class.model_validate(keys), clock) as upstream:
            upstream.client.observe = lambda endpoint, code, seconds: requested.add(f"{endpoint} {code}")
            result = await upstream.poll()
    return list(result.streams), stream, requested


async def test_livepeer_stream_and_single_session_are_polled() -> None:
    keys = {"auth": {"bearer_token": TOKEN}, "viewership": False}
    reports, stream, requested = await polled_once(
        Platform.LIVEPEER, "/livepeer/api", streams=lambda stream: [{"id": stream.id}], **keys
    )
    assert requested == {"GET /stream/{id}/sessions 200"}
    assert [(report.id, report.status) for report in reports] == [(stream.id, Status.LIVE)]
    (session,) = (report.session for report in reports)
    single, _, requested = await polled_once(Platform.LIVEPEER, "/livepeer/api", sessions=[session], **keys)
    assert requested == {"GET /session/{id} 200"}
    assert [(report.id, report.session) for report in single] == [(stream.id, session)]


async def test_storm_stream_is_polled_without_discovery() -> None:
    reports, stream, requested = await polled_once(
        Platform.STORM,
        "/storm",
        base_path="/api",
        auth={"username": USERNAME, "password": PASSWORD},
        discover=False,
        streams=lambda stream: [{"application": stream.application, "key": stream.name}],
    )
    assert "GET /streams/{app}/{key} 200" in requested
    assert [(report.id, report.live) for report in reports] == [(f"{stream.application}/{stream.name}", True)]
