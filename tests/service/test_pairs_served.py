"""Playback checks and their sources in a whole exporter: reload and shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from exporter.sharding import Shard
from tests.service.exporter_harness import Exporter, exporting

COUNT = 3
NAMES = [f"live/{number}" for number in range(9)]


def configuration(*groups: dict[str, Any], is_paired: bool = True) -> dict[str, Any]:
    """Return a platform whose streams are checked at an origin, and from there at a network."""
    edge = [{"application": "live", "key": name[5:], "expected": True} for name in NAMES]
    origin, cdn = (
        [
            {"name": f"{name} ({at})", "url": f"/{name}.m3u8", "expected": True}
            | ({"of": {"upstream": upstream, "stream": source.format(name)}} if is_paired else {})
            for name in NAMES
        ]
        for at, upstream, source in (("origin", "edge", "{}"), ("cdn", "origin", "{} (origin)"))
    )
    url = "http://127.0.0.1:9"
    return {
        "upstreams": [
            {"name": "edge", "platform": "storm", "url": url, "streams": edge},
            {"name": "origin", "platform": "hls", "url": url, "streams": origin},
            {"name": "cdn", "platform": "hls", "url": url, "streams": cdn},
        ],
        "groups": list(groups),
    }


async def served_streams(exporter: Exporter) -> set[str]:
    """Return the streams of all upstreams, once each upstream has been polled."""

    async def is_ready() -> bool:
        return exporter.service.ready

    await exporter.until(is_ready)
    return {dict(labels)["stream"] for name, labels in await exporter.metrics() if name == "stream_expected"}


async def streams_by_shard(folder: Path, settings: dict[str, Any]) -> list[set[str]]:
    found = []
    for ordinal in range(COUNT):
        folder_of_shard = folder / str(ordinal)
        folder_of_shard.mkdir()
        async with exporting(folder_of_shard, settings, shard=Shard(ordinal, COUNT)) as exporter:
            found.append(await served_streams(exporter))
    return found


async def test_checks_are_polled_by_the_shard_of_their_source(tmp_path: Path) -> None:
    by_shard = await streams_by_shard(tmp_path, configuration())
    assert sum(map(len, by_shard)) == 3 * len(NAMES)
    for own in by_shard:
        assert own == {f"{name}{at}" for name in NAMES if name in own for at in ("", " (origin)", " (cdn)")}
        assert own


async def test_checks_follow_their_source_into_the_shard_of_its_group(tmp_path: Path) -> None:
    group = {"name": "final", "streams": [{"upstream": "edge", "stream": name} for name in NAMES]}
    by_shard = await streams_by_shard(tmp_path, configuration(group))
    assert sorted(map(len, by_shard)) == [0, 0, 3 * len(NAMES)]


async def test_source_is_exported_and_follows_the_configuration(tmp_path: Path) -> None:
    async with exporting(tmp_path, configuration()) as exporter:
        source = {"source_platform": "hls", "source_upstream": "origin", "source_stream": "live/1 (origin)"}
        await exporter.reaches(1, "stream_source_info", stream="live/1 (cdn)", **source)
        before = exporter.service.coordinator("edge")
        exporter.write(configuration(is_paired=False))
        await exporter.service.reload()
        await served_streams(exporter)
        assert not [name for name, _ in await exporter.metrics() if name.startswith("stream_source_")]
        assert exporter.service.coordinator("edge") is before
