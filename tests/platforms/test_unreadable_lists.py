"""A list whose records can't be told apart is no empty list: nobody's streams have ended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from exporter.config.upstream import UpstreamSettings
from exporter.http.errors import UpstreamError
from exporter.model import Listing, PollResult, Reason
from exporter.platforms.base import Platform
from exporter.platforms.livepeer import PLATFORM as LIVEPEER
from exporter.platforms.livepeer import LivepeerSettings
from exporter.platforms.node_media_server import PLATFORM as NODE_MEDIA_SERVER
from exporter.platforms.node_media_server import NodeMediaServerSettings
from exporter.platforms.storm import PLATFORM as STORM
from exporter.platforms.storm import StormSettings
from tests.fake_clock import FakeClock
from tests.platforms.platform_harness import polled
from tests.platforms.scripted_api import ScriptedApi, fixture, scripted_api


@pytest.fixture
async def api() -> AsyncIterator[ScriptedApi]:
    async with scripted_api() as api:
        yield api


async def poll(kind: type[Platform[Any]], settings: type[UpstreamSettings], api: ScriptedApi) -> PollResult:
    given = {"name": "u", "url": api.url, "auth": {} if kind is NODE_MEDIA_SERVER else {"bearer_token": "t"}}
    async with polled(kind, settings.model_validate(given), FakeClock()) as upstream:
        return await upstream.poll()


async def of_livepeer(api: ScriptedApi, *rows: Any) -> PollResult:
    api.on("GET /stream", list(rows))
    return await poll(LIVEPEER, LivepeerSettings, api)


async def of_storm(api: ScriptedApi, *rows: Any) -> PollResult:
    api.on("GET /api/streams", {"data": {"list": list(rows), "hasNext": False}})
    return await poll(STORM, StormSettings, api)


async def of_storm_cluster(api: ScriptedApi, *rows: Any) -> PollResult:
    api.on("GET /api/cluster/streams", {"data": {"list": list(rows), "hasNext": False}})
    return await poll(STORM, StormSettings, api)


async def of_node_media_server(api: ScriptedApi, *rows: Any) -> PollResult:
    api.on("GET /api/v1/health", fixture("node_media_server/4.4.3-health.json"))
    api.on("GET /api/v1/streams", {"data": {"streams": list(rows)}})
    return await poll(NODE_MEDIA_SERVER, NodeMediaServerSettings, api)


GOOD_LIVEPEER = {"id": "a", "isActive": True}
GOOD_STORM = {"application": "live", "streamKey": "a"}
GOOD_CLUSTER = {"streamKey": "a", "sourceList": [{"applicationName": "live"}]}
GOOD_NODE_MEDIA_SERVER = {"app": "live", "name": "a"}
LISTS = [
    pytest.param(of_livepeer, GOOD_LIVEPEER, "id", id="livepeer"),
    pytest.param(of_storm, GOOD_STORM, "streamKey", id="storm"),
    pytest.param(of_storm_cluster, GOOD_CLUSTER, "streamKey", id="a cluster of storm"),
    pytest.param(of_node_media_server, GOOD_NODE_MEDIA_SERVER, "name", id="node_media_server"),
]


@pytest.mark.parametrize(("ask", "good", "field"), LISTS)
async def test_a_list_of_nothing_but_unknown_records_is_bad(
    api: ScriptedApi, ask: Any, good: dict[str, Any], field: str
) -> None:
    renamed = {f"new_{name}": value for name, value in good.items()}
    with pytest.raises(UpstreamError) as error:
        await ask(api, renamed, renamed)
    assert error.value.reason is Reason.BAD_RESPONSE


@pytest.mark.parametrize(("ask", "good", "field"), LISTS)
async def test_one_unknown_record_is_counted_and_ends_no_stream_at_once(
    api: ScriptedApi, ask: Any, good: dict[str, Any], field: str
) -> None:
    snapshot = await ask(api, good, {"unknown": 1})
    assert len(snapshot.streams) == 1
    assert snapshot.dropped_fields == {field: 1}
    assert snapshot.listing is Listing.PAGED, "absence counts after two polls"


@pytest.mark.parametrize(("ask", "good", "field"), LISTS)
async def test_an_empty_list_says_that_there_is_nothing(
    api: ScriptedApi, ask: Any, good: dict[str, Any], field: str
) -> None:
    snapshot = await ask(api)
    assert (snapshot.streams, snapshot.listing, snapshot.dropped_fields) == ((), Listing.COMPLETE, {})


@pytest.mark.parametrize("answer", [{}, {"data": None}, {"data": {}}, {"data": {"streams": None}}])
async def test_an_answer_without_a_list_is_bad(api: ScriptedApi, answer: Any) -> None:
    api.on("GET /api/v1/health", fixture("node_media_server/4.4.3-health.json"))
    api.on("GET /api/v1/streams", answer)
    with pytest.raises(UpstreamError, match="no list of streams") as error:
        await poll(NODE_MEDIA_SERVER, NodeMediaServerSettings, api)
    assert error.value.reason is Reason.BAD_RESPONSE
