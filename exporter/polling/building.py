"""Building everything that polls one upstream."""

from __future__ import annotations

import random
from typing import Any

from exporter.config.upstream import UpstreamSettings
from exporter.http.client import UpstreamClient
from exporter.platforms.base import Platform
from exporter.polling.coordinator import Coordinator
from exporter.polling.histograms import PollHistograms
from exporter.polling.on_demand import NoHistograms
from exporter.polling.schedule import Schedule
from exporter.polling.self_metrics import PollingMetrics
from exporter.polling.tracker import Tracker
from exporter.runtime.clock import Clock
from exporter.sharding import SINGLE, Shard, ShardFilter
from exporter.store import Store


def build_coordinator(
    settings: UpstreamSettings,
    platform: type[Platform[Any]],
    *,
    store: Store,
    metrics: PollingMetrics,
    clock: Clock,
    started_at: float,
    shard: Shard = SINGLE,
    per_stream: bool = False,
    random_: random.Random | None = None,
    beside: Coordinator | None = None,
) -> Coordinator:
    """Return a coordinator that polls an upstream and publishes to ``store``.

    ``started_at``: unix seconds at which the exporter started. ``per_stream``: whether histograms are kept per stream.
    ``random_``: spreads the first polls. ``beside``: the coordinator that polls the same upstream on schedule, for one
    that polls on demand: they share the account's request limit, its logins and the streams' labels.
    """
    labels = {"platform": settings.platform, "upstream": settings.name}
    client = UpstreamClient.from_settings(settings, clock=clock, observe=metrics.request_observer(**labels))
    if beside is not None:
        client.share(beside.client)
    shard_filter = ShardFilter(shard, settings.name, by_name=settings.stream_label == "name")
    # the platform tells the shard filter which streams are configured, and the tracker reads it
    built = platform(settings, client, clock, shard_filter)
    tracker = Tracker(
        settings,
        started_at,
        hash_key=settings.stream_hash_key.get() if settings.stream_hash_key else None,
        labels_of=beside.tracker.labels if beside else None,
        shard_filter=shard_filter,
    )
    return Coordinator(
        settings,
        platform=built,
        client=client,
        tracker=tracker,
        histograms=(NoHistograms if beside else PollHistograms)(**labels, per_stream=per_stream),
        schedule=Schedule(settings.interval, random_ or random.Random()),  # noqa: S311 - spreads load, guards nothing
        store=store,
        metrics=metrics,
        clock=clock,
    )
