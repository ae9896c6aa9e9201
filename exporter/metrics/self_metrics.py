"""The exporter's own metrics: registries to which each layer adds its metrics, and process metrics."""

from __future__ import annotations

import platform as python_platform
import re
from collections.abc import Iterable, Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Metric,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from exporter import __version__
from exporter.metrics.families.exporter_families import (
    BUILD_INFO,
    CONFIG_HASH,
    RELOAD_SUCCESS_TIMESTAMP,
    RELOAD_SUCCESSFUL,
    SHARD_ORDINAL,
    SHARDS,
    UPSTREAM_RETIRED,
)
from exporter.metrics.families.family import Family
from exporter.metrics.text_format import label_text
from exporter.model import Labels
from exporter.runtime.revision import revision
from exporter.sharding import SINGLE, Shard

_UPSTREAM = re.compile(rb'[{,]upstream="([^"]*)"')
"""The label ``upstream`` in a sample line. Quotes in the values of other labels are escaped."""


class FamilyRegistry(CollectorRegistry):
    """A registry that creates metrics from ``Family`` objects, and renders those that have samples."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        super().__init__()
        self._labels: dict[bytes, bytes] = {}
        """Text to insert after the label ``upstream``, by its value."""

    def label_upstream(self, upstream: str, labels: Labels) -> None:
        """Add these labels to every series of this upstream, replacing labels that were set before."""
        if labels:
            self._labels[upstream.encode()] = f",{label_text(*zip(*labels, strict=True))}".encode()
        else:
            self._labels.pop(upstream.encode(), None)

    def counter(self, family: Family) -> Counter:
        """Create and register a counter."""
        return Counter(family.name, family.help, family.labels, registry=self)

    def gauge(self, family: Family) -> Gauge:
        """Create and register a gauge."""
        return Gauge(family.name, family.help, family.labels, registry=self)

    def histogram(self, family: Family) -> Histogram:
        """Create and register a histogram."""
        return Histogram(family.name, family.help, family.labels, registry=self, buckets=family.bounds)

    def collect(self) -> Iterator[Metric]:
        """Return only the families that have samples, so that no HELP and TYPE lines appear without samples."""
        return (family for family in super().collect() if family.samples)

    def render(self) -> bytes:
        """Render the families in the order in which they were registered."""
        text = generate_latest(self)
        # inserted into the text: changing the labels of each sample would take half as long again as rendering
        return _UPSTREAM.sub(self._insert_labels, text) if self._labels else text

    def _insert_labels(self, upstream: re.Match[bytes]) -> bytes:
        return upstream[0] + self._labels.get(upstream[1], b"")


class ExporterMetrics:
    """The metrics of one process. Each layer registers its metrics in ``exporter`` or ``upstreams``."""

    def __init__(self) -> None:
        self.exporter = FamilyRegistry()
        """Metrics of the exporter as a whole (``collect[]=exporter``)."""
        self.upstreams = FamilyRegistry()
        """Counters and histograms per upstream (``collect[]=upstreams``)."""
        self._process = FamilyRegistry()
        self._reload_successful = self.exporter.gauge(RELOAD_SUCCESSFUL)
        self._reload_success_timestamp = self.exporter.gauge(RELOAD_SUCCESS_TIMESTAMP)
        self._config_hash: Gauge | None = None
        """Created on first use, because a gauge without labels would export 0 at once."""
        self._retired = self.exporter.gauge(UPSTREAM_RETIRED)
        self._retired_upstreams: frozenset[str] = frozenset()
        self._shard_ordinal = self.exporter.gauge(SHARD_ORDINAL)
        self._shards = self.exporter.gauge(SHARDS)
        self.set_shard(SINGLE)
        build_info = self.exporter.gauge(BUILD_INFO)
        python_version = python_platform.python_version()
        build_info.labels(version=__version__, revision=revision(), pythonversion=python_version).set(1)
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._process)

    def render_exporter(self) -> bytes:
        """Render the metrics of the exporter as a whole, then those of the process."""
        return self.exporter.render() + self._process.render()

    def render_upstreams(self) -> bytes:
        """Render the counters and histograms per upstream."""
        return self.upstreams.render()

    def set_shard(self, shard: Shard) -> None:
        """Export this process's shard."""
        self._shard_ordinal.set(shard.ordinal)
        self._shards.set(shard.count)

    def set_config_hash(self, fingerprint: int) -> None:
        """Export the fingerprint of the effective configuration."""
        if self._config_hash is None:
            self._config_hash = self.exporter.gauge(CONFIG_HASH)
        self._config_hash.set(fingerprint)

    def set_retired_upstreams(self, upstreams: Iterable[str]) -> None:
        """Export the names of upstreams that were removed on purpose."""
        previous, self._retired_upstreams = self._retired_upstreams, frozenset(upstreams)
        for upstream in previous - self._retired_upstreams:
            self._retired.remove(upstream)
        for upstream in sorted(self._retired_upstreams):
            self._retired.labels(upstream).set(1)

    def set_reload_result(self, *, success: bool, at: float) -> None:
        """Export the result of the last (re)load of the configuration; ``at`` is in Unix seconds."""
        self._reload_successful.set(1 if success else 0)
        if success:
            self._reload_success_timestamp.set(at)
