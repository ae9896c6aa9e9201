"""The histograms of sampled gauges: what they observe, and the bounds that goals and panels can use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

from exporter.metrics.families.family import UPSTREAM_LABELS, Family, Kind, Part, Source
from exporter.model import StreamState

_BITRATE_BOUNDS_BITS = (100e3, 250e3, 500e3, 1e6, 1.5e6, 2.5e6, 4e6, 6e6, 8e6, 12e6, 20e6, 50e6)


@dataclass(frozen=True, kw_only=True)
class SampledFamily(Family):
    """A histogram with one observation per live stream and successful poll, of the value that a gauge shows."""

    observed: Callable[[StreamState], float | None]
    """The value to observe for a live stream; None: nothing to observe."""


INGEST_BITRATE = SampledFamily(
    name="stream_sampled_ingest_bitrate_bytes_per_second",
    kind=Kind.HISTOGRAM,
    help="Ingest bitrate of live streams, observed once per successful poll, in bytes per second.",
    part=Part.STREAMS,
    labels=(*UPSTREAM_LABELS, "protocol"),
    source=Source.PLATFORM,
    bounds=tuple(bits / 8 for bits in _BITRATE_BOUNDS_BITS),
    observed=attrgetter("report.ingest_bitrate_bytes_per_second"),
)
LATENCY = SampledFamily(
    name="stream_sampled_latency_seconds",
    kind=Kind.HISTOGRAM,
    help="Latency of live streams, observed once per successful poll, in seconds.",
    part=Part.STREAMS,
    labels=(*UPSTREAM_LABELS, "protocol"),
    source=Source.PLATFORM,
    bounds=(0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 30.0, 60.0),
    observed=attrgetter("report.latency_seconds"),
)
HEALTH_SCORE = SampledFamily(
    name="stream_sampled_health_score_ratio",
    kind=Kind.HISTOGRAM,
    help="Health score of live streams (0-1), observed once per successful poll; "
    "an expected stream that is not live counts as 0.",
    part=Part.STREAMS,
    labels=(*UPSTREAM_LABELS, "protocol"),
    bounds=(0.1, 0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0),
    observed=attrgetter("health_score_ratio"),
)

SAMPLED_FAMILIES: tuple[SampledFamily, ...] = (INGEST_BITRATE, LATENCY, HEALTH_SCORE)
