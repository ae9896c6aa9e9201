"""What the documents of Livepeer and Storm name is requested from the simulator; what no poll requests is on a page."""

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
def test_page_of_wave_names_endpoints_that_change_something(endpoint: str) -> None:
    """``test_recordings.py`` covers what polls request."""
    assert f"`{endpoint}" in (PAGES / "wave.md").read_text()


async def polled_once(platform: Platform, base: str, **given: Any) -> tuple[list[StreamReport], Stream, set[str]]:
    """The samples of the simulated platform, the stream that was watched, and the endpoints that were asked.

    In ``given`` a stream's place is taken by functions of it.
    """
    fleet, clock = Fleet(30, seed=1), FakeClock()
    now = clock.now()
    stream = next(s for s in fleet.streams(platform) if fleet.is_live(s, now - 300) and fleet.is_live(s, now + 60))
    made = {name: value(stream) if callable(value) else value for name, value in given.items()}
    kind = platforms()[platform.value]
    asked: set[str] = set()
    async with TestServer(make_app(fleet, clock)) as server:
        keys = {"name": "u", "platform": platform.value, "url": str(server.make_url(base)), **made}
        async with polled(kind, kind.settings_class.model_validate(keys), clock) as upstream:
            upstream.client.observe = lambda endpoint, code, seconds: asked.add(f"{endpoint} {code}")
            snapshot = await upstream.poll()
    return list(snapshot.streams), stream, asked


async def test_the_sessions_of_a_stream_of_livepeer_and_one_of_them() -> None:
    keys = {"auth": {"bearer_token": TOKEN}, "viewership": False}
    samples, stream, asked = await polled_once(
        Platform.LIVEPEER, "/livepeer/api", streams=lambda stream: [{"id": stream.id}], **keys
    )
    assert asked == {"GET /stream/{id}/sessions 200"}
    assert [(sample.id, sample.status) for sample in samples] == [(stream.id, Status.LIVE)]
    (session,) = (sample.session for sample in samples)
    single, _, asked = await polled_once(Platform.LIVEPEER, "/livepeer/api", sessions=[session], **keys)
    assert asked == {"GET /session/{id} 200"}
    assert [(sample.id, sample.session) for sample in single] == [(stream.id, session)]


async def test_one_stream_of_storm() -> None:
    samples, stream, asked = await polled_once(
        Platform.STORM,
        "/storm",
        base_path="/api",
        auth={"username": USERNAME, "password": PASSWORD},
        discover=False,
        streams=lambda stream: [{"application": stream.application, "key": stream.name}],
    )
    assert "GET /streams/{app}/{key} 200" in asked
    assert [(sample.id, sample.live) for sample in samples] == [(f"{stream.application}/{stream.name}", True)]
