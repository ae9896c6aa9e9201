"""Groups of a whole exporter: reload and shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from exporter.sharding import Shard
from tests.service.exporter_harness import exporting

UPSTREAMS = [
    {"name": name, "platform": "storm", "url": "http://127.0.0.1:9", "discover": True} for name in ("edge-a", "edge-b")
]
STREAMS = [{"upstream": name, "stream": "live/final"} for name in ("edge-a", "edge-b")]


def configuration(*groups: dict[str, Any]) -> dict[str, Any]:
    return {"upstreams": UPSTREAMS, "groups": list(groups)}


def group(name: str = "final", need: int = 1, streams: Any = STREAMS) -> dict[str, Any]:
    return {"name": name, "need": need, "streams": streams}


async def test_series_follow_the_configuration(tmp_path: Path) -> None:
    async with exporting(tmp_path, configuration(group())) as exporter:
        assert await exporter.value("stream_group_needed_streams", group="final") == 1
        exporter.write(configuration(group(need=2), group("other", streams=STREAMS[:1])))
        await exporter.service.reload()
        assert await exporter.value("stream_group_needed_streams", group="final") == 2
        assert await exporter.value("stream_group_streams", group="other") == 1
        exporter.write(configuration(group("other", streams=STREAMS[:1])))
        await exporter.service.reload()
        assert await exporter.value("stream_group_streams", group="final") is None
        exporter.write(configuration())
        await exporter.service.reload()
        assert not [name for name, _ in await exporter.metrics() if name.startswith("stream_group_")]


async def test_groups_do_not_restart_the_polls_of_an_exporter_without_shards(tmp_path: Path) -> None:
    async with exporting(tmp_path, configuration()) as exporter:
        before = exporter.service.coordinator("edge-a")
        exporter.write(configuration(group()))
        await exporter.service.reload()
        assert exporter.service.coordinator("edge-a") is before


@pytest.mark.parametrize("count", [2, 3])
async def test_each_group_is_exported_by_one_shard(count: int, tmp_path: Path) -> None:
    groups = [
        group(f"group-{number}", streams=[{"upstream": "edge-a", "stream": f"live/{number}"}]) for number in range(9)
    ]
    found: list[str] = []
    for ordinal in range(count):
        folder = tmp_path / str(ordinal)
        folder.mkdir()
        async with exporting(folder, configuration(*groups), shard=Shard(ordinal, count)) as exporter:
            own = [dict(labels)["group"] for name, labels in await exporter.metrics() if name == "stream_group_streams"]
            assert 0 < len(own) < len(groups)
            found += own
    assert sorted(found) == sorted(each["name"] for each in groups)
