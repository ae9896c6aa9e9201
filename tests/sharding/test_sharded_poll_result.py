"""Streams are divided among shards even if the platform reports all of them to each."""

from __future__ import annotations

import asyncio
from typing import Any

from exporter.http.client import Requests, UpstreamClient
from exporter.model import Listing, PollResult, StreamReport, StreamState
from exporter.platforms.base import FetchResult, Platform
from exporter.platforms.lists import ListFacts
from exporter.platforms.livepeer import LivepeerSettings
from exporter.platforms.parsing import DropCounter
from exporter.polling.tracker import Tracker
from exporter.sharding import SINGLE, Shard, ShardFilter
from tests.fake_clock import FakeClock

START = 1_726_000_000.0
COUNT = 2


class Unsharded(Platform[LivepeerSettings]):
    name = "livepeer"
    settings_class = LivepeerSettings

    def __init__(self, result: PollResult, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._result = result

    async def fetch(self, requests: Requests, drops: DropCounter) -> FetchResult:
        return FetchResult(reports=self._result.streams, listed=ListFacts())

    @classmethod
    def requests_per_minute(cls, settings: LivepeerSettings) -> float:
        return 0.0


def served(shard: Shard, result: PollResult, **keys: Any) -> tuple[StreamState, ...]:
    settings = LivepeerSettings.model_validate({"name": "studio", "auth": {"bearer_token": "canary"}} | keys)
    shard_filter = ShardFilter(shard, "studio", by_name=settings.stream_label == "name")
    clock = FakeClock(START)
    client = UpstreamClient.from_settings(settings, clock, lambda endpoint, code, seconds: None)
    platform = Unsharded(result, settings, client, clock, shard_filter)
    tracker = Tracker(settings, clock.instant(), shard_filter=shard_filter)
    list(tracker.apply(asyncio.run(platform.poll(client.requests(10.0))), clock.instant()))
    return tracker.states()


def labels(shard: Shard, result: PollResult, **keys: Any) -> list[str]:
    return [state.identity.stream for state in served(shard, result, **keys)]


def poll_result(*reports: StreamReport) -> PollResult:
    return PollResult(streams=reports, listing=Listing.COMPLETE)


SHARDS = [Shard(ordinal, COUNT) for ordinal in range(COUNT)]


def test_streams_have_one_shard_and_the_same_label_as_without_shards() -> None:
    # four streams of each name: the same shard gets all of them and makes their labels distinct
    result = poll_result(*(StreamReport(id=f"id-{n:08}", name=f"camera-{n % 10}", live=True) for n in range(40)))
    whole = labels(SINGLE, result)
    parts = [labels(shard, result) for shard in SHARDS]
    assert len(set(whole)) == 40
    assert sorted(parts[0] + parts[1]) == sorted(whole)
    assert all(parts)


def test_expected_stream_belongs_to_one_shard() -> None:
    streams: list[dict[str, Any]] = [{"id": f"id-{n}", "name": f"stage-{n}", "expected": True} for n in range(20)]
    parts = [served(shard, poll_result(), streams=streams, discover=True) for shard in SHARDS]
    assert sorted(state.identity.stream for part in parts for state in part) == sorted(s["name"] for s in streams)
    assert all(state.expected for part in parts for state in part)
    assert all(parts)


def test_max_streams_limits_each_shard() -> None:
    result = poll_result(*(StreamReport(id=f"id-{n}", live=True) for n in range(100)))
    assert [len(labels(shard, result, max_streams=10)) for shard in SHARDS] == [10, 10]
