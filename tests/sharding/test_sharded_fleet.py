"""Shards of the simulated fleet together serve the same as one process, and nothing twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from exporter.cli.demo import exporter_configuration
from exporter.sharding import SINGLE, Shard
from exporter.simulator.context import TOKEN
from exporter.simulator.fleet import Fleet
from exporter.simulator.simulated_streams import Platform
from exporter.simulator.simulator_app import make_app
from tests.exposition_text import Labels
from tests.service.exporter_harness import Exporter, exporting

COUNT = 3
SHARDS = [Shard(ordinal, COUNT) for ordinal in range(COUNT)]
STEADY = ("stream_info", "stream_live", "stream_expected", "stream_analytics_viewers", "stream_platform_metric")
"""Families whose series do not appear and disappear between two polls."""

Series = tuple[str, Labels]


def stream_series(metrics: dict[Series, float]) -> set[Series]:
    return {key for key in metrics if key[0] in STEADY or key[0].startswith("wave_")}


def requests(metrics: dict[Series, float]) -> Counter[str]:
    """Return the number of requests by upstream and request."""
    made: Counter[str] = Counter()
    for (name, labels), value in metrics.items():
        if name == "stream_upstream_requests_total":
            own = dict(labels)
            made[f"{own['upstream']} {own['request']}"] += int(value)
    return made


async def wait_for_polls(exporter: Exporter) -> dict[Series, float]:
    """Return the metrics after every upstream has been polled once; the next poll is a minute later."""

    async def all_polled() -> bool:
        coordinators = [exporter.service.coordinator(upstream.name) for upstream in exporter.service.settings.upstreams]
        return all(coordinator is not None and coordinator.polled.is_set() for coordinator in coordinators)

    await exporter.until(all_polled)
    return await exporter.metrics()


async def start_exporters(
    stack: AsyncExitStack, tmp_path: Path, configuration: dict[str, Any], *shards: Shard
) -> list[tuple[Exporter, dict[Series, float]]]:
    """Start an exporter for each shard; return them with their metrics."""
    exporters = []
    for shard in shards:
        directory = tmp_path / f"{shard.ordinal}-of-{shard.count}"
        directory.mkdir()
        exporters.append(await stack.enter_async_context(exporting(directory, configuration, shard=shard)))
    return [(exporter, await wait_for_polls(exporter)) for exporter in exporters]


@pytest.fixture
async def fleet_configuration() -> AsyncIterator[dict[str, Any]]:
    """Configure a fleet that does not change; one Livepeer stream is also watched by session id."""
    fleet = Fleet(60, speed=0.01)
    async with TestServer(make_app(fleet)) as server, aiohttp.ClientSession() as session:
        url = str(server.make_url("/"))
        configuration = exporter_configuration(fleet, url)
        configuration["defaults"]["interval"] = "60s"
        (studio,) = (upstream for upstream in configuration["upstreams"] if upstream["name"] == "studio")
        named = {stream["id"] for stream in studio["streams"]}
        headers = {"Authorization": f"Bearer {TOKEN}"}
        for stream in fleet.streams(Platform.LIVEPEER):
            async with session.get(f"{studio['url']}/stream/{stream.id}/sessions", headers=headers) as answer:
                sessions = await answer.json()
            if sessions and stream.id not in named:
                studio["sessions"] = [{"id": sessions[0]["id"], "name": "by-session", "expected": True}]
                break
        yield configuration


async def reload_keeps_the_shard(
    exporter: Exporter, before: dict[Series, float], configuration: dict[str, Any]
) -> None:
    studio, *others = configuration["upstreams"]
    exporter.write({**configuration, "upstreams": [studio | {"timeout": "9s"}, *others]})
    await exporter.service.reload()
    assert stream_series(await wait_for_polls(exporter)) == stream_series(before)


async def test_shards_together_serve_the_same_as_one_process(
    fleet_configuration: dict[str, Any], tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        exporters = await start_exporters(stack, tmp_path, fleet_configuration, SINGLE, *SHARDS)
        whole, *parts = [metrics for _, metrics in exporters]
        await reload_keeps_the_shard(exporters[1][0], parts[0], fleet_configuration)
    served = Counter(key for part in parts for key in stream_series(part))
    assert set(served) == stream_series(whole)
    assert [key for key, times in served.items() if times > 1] == []
    assert ("stream_live", (("platform", "livepeer"), ("stream", "by-session"), ("upstream", "studio"))) in served
    assert {name for name, _ in served} >= {*STEADY} | {name for name, _ in whole if name.startswith("wave_")}
    assert any(name.startswith("wave_") for name, _ in served)
    for ordinal, part in enumerate(parts):
        assert part["stream_exporter_shard_ordinal", ()] == ordinal
        assert part["stream_exporter_shards", ()] == COUNT
        assert part["stream_exporter_config_hash", ()] == whole["stream_exporter_config_hash", ()]
        assert 10 < part["stream_exporter_streams", ()] < 50

    # each shard requests the lists; requests for single streams are made only once in all
    once, together = requests(whole), Counter[str]()
    for part in parts:
        together.update(requests(part))
    lists = {"studio GET /stream", "studio GET /data/views/now", "edge GET /streams", "edge POST /auth/login"}
    by_all = {endpoint: together[endpoint] / once[endpoint] for endpoint in once if together[endpoint] > once[endpoint]}
    # which shard owns a session is known only after requesting it
    assert by_all == dict.fromkeys(lists | {"studio GET /session/{id}"}, COUNT)


async def test_upstream_without_owned_streams_is_not_polled(
    fleet_configuration: dict[str, Any], tmp_path: Path
) -> None:
    (edge,) = (upstream for upstream in fleet_configuration["upstreams"] if upstream["name"] == "edge")
    edge |= {"discover": False, "streams": edge["streams"][:1]}
    (wave,) = (upstream for upstream in fleet_configuration["upstreams"] if upstream["name"] == "wave")
    wave |= {"sessions": wave["sessions"][:1], "analytics": None, "prometheus": None}
    configuration = {**fleet_configuration, "upstreams": [edge, wave]}
    async with AsyncExitStack() as stack:
        exporters = await start_exporters(stack, tmp_path, configuration, *SHARDS)
        for upstream in ("edge", "wave"):
            serving = {
                index
                for index, (_, metrics) in enumerate(exporters)
                for _, labels in metrics
                if ("upstream", upstream) in labels
            }
            assert len(serving) == 1
            for index, (exporter, metrics) in enumerate(exporters):
                probed = await exporter.get(f"/probe?upstream={upstream}")
                assert ("stream_upstream_up" in probed) == (index in serving)
                assert bool(probed) == (index in serving)
                assert any(key.startswith(f"{upstream} ") for key in requests(metrics)) == (index in serving)
        for exporter, _ in exporters:
            assert exporter.service.ready
            assert '"edge"' in await exporter.get("/api/v1/streams")
