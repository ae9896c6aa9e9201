"""Estimate the number of series and the size of ``/metrics`` for a configuration.

Streams with every field that their platform can report are generated and rendered. Real platforms rarely report
everything at once, so the result is an upper bound.
"""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from exporter.config.root import Settings
from exporter.config.upstream import UpstreamSettings
from exporter.metrics.exposition import Exposition
from exporter.metrics.self_metrics import ExporterMetrics
from exporter.model import (
    HealthReason,
    Identity,
    PlatformMetric,
    Rendition,
    Status,
    StreamReport,
    StreamState,
    UpstreamState,
)
from exporter.platforms.registry import platforms
from exporter.polling.histograms import PollHistograms
from exporter.polling.self_metrics import PollingMetrics

_MAX_GENERATED = 500
"""Maximum number of generated streams per upstream; the result is scaled up for more."""
_ENTRIES = 4
"""Assumed number of renditions, targets, conditions and issues per stream."""
_ENDPOINTS = 3
_NOW = 1_700_000_000.0
_HINTS = get_type_hints(StreamReport)


@dataclass(frozen=True)
class Estimate:
    """Estimate for an upstream, for the exporter's own metrics, or the total."""

    name: str
    streams: int
    basis: str
    """Where the number of streams comes from: ``configured`` or ``assumed``."""
    series: int
    bytes_: int
    compressed: int


def estimate(settings: Settings, streams: int) -> list[Estimate]:
    """Estimate each upstream, the exporter's own metrics, and the total.

    ``streams`` is the assumed number of streams of an upstream with discovery.
    """
    per_stream = settings.histograms.per_stream
    lines = [_estimate_upstream(upstream, streams, per_stream=per_stream) for upstream in settings.upstreams]
    lines.append(_measure("(the exporter itself)", 0, "", Exposition(tuple, ExporterMetrics())))
    total = [sum(getattr(line, field) for line in lines) for field in ("streams", "series", "bytes_", "compressed")]
    return [*lines, Estimate("total", total[0], "", *total[1:])]


def table(lines: Sequence[Estimate]) -> str:
    """Format estimates as a table."""
    heads = ("upstream", "streams", "", "series", "per stream", "bytes", "gzip")
    rows = [heads, *(_row(line) for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    left = (0, 2)
    return "".join(
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        + "\n"
        for row in rows
    )


def _row(line: Estimate) -> tuple[str, ...]:
    per_stream = f"{line.series / line.streams:.0f}" if line.streams and line.basis else ""
    streams = str(line.streams) if line.basis or line.name == "total" else ""
    return line.name, streams, line.basis, str(line.series), per_stream, size(line.bytes_), size(line.compressed)


def size(count: float) -> str:
    """Format bytes in a suitable unit: ``812 B``, ``4.9 MB``."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def _estimate_upstream(settings: UpstreamSettings, assumed: int, *, per_stream: bool) -> Estimate:
    names = [stream.name or stream.id for stream in settings.configured_streams()]
    basis = "configured"
    if has_discovery(settings) and assumed > len(names):
        names += [f"application/stream-{number:05}" for number in range(assumed - len(names))]
        basis = "assumed"
    generated = names[:_MAX_GENERATED]
    measured = _measure(
        settings.name, len(names), basis, _exposition(settings, generated, per_stream=per_stream), with_own=False
    )
    if len(names) == len(generated):
        return measured
    base = _measure(settings.name, 0, "", _exposition(settings, (), per_stream=per_stream), with_own=False)
    return _scale_up(base, measured, len(names) / len(generated))


def has_discovery(settings: UpstreamSettings) -> bool:
    """Return whether the upstream may have streams that are not configured."""
    return bool(getattr(settings, "discovers", getattr(settings, "discover", True)))


def _scale_up(base: Estimate, measured: Estimate, factor: float) -> Estimate:
    def scaled(without_streams: int, with_streams: int) -> int:
        return without_streams + int((with_streams - without_streams) * factor)

    return Estimate(
        name=measured.name,
        streams=measured.streams,
        basis=measured.basis,
        series=scaled(base.series, measured.series),
        bytes_=scaled(base.bytes_, measured.bytes_),
        compressed=scaled(base.compressed, measured.compressed),
    )


def _measure(name: str, streams: int, basis: str, exposition: Exposition, *, with_own: bool = True) -> Estimate:
    text = exposition.render() if with_own else exposition.render({"upstreams", "streams"})
    series = sum(1 for line in text.splitlines() if not line.startswith(b"#"))
    return Estimate(name, streams, basis, series, len(text), len(gzip.compress(text, compresslevel=1)))


def _exposition(settings: UpstreamSettings, streams: Sequence[str], *, per_stream: bool) -> Exposition:
    labels = {"platform": settings.platform, "upstream": settings.name}
    metrics = ExporterMetrics()
    polling_metrics = PollingMetrics(metrics.upstreams)
    polling_metrics.add_upstream(**labels, labels=settings.label_pairs)
    for number in range(_ENDPOINTS):
        polling_metrics.request_observer(**labels)(f"GET /api/endpoint/{number}", "200", 0.1)
    states = list(_states(settings, streams))
    histograms = PollHistograms(**labels, per_stream=per_stream)
    histograms.observe(states)
    state = UpstreamState(
        platform=settings.platform,
        upstream=settings.name,
        host=settings.host,
        health_score=platforms()[settings.platform].health_score,
        version="1.2.3",
        up=True,
        streams=tuple(states),
        poll_interval_seconds=settings.interval,
        last_success_timestamp_seconds=_NOW,
        clock_skew_seconds=0.0,
        sampled=histograms.snapshot(),
        excluded=settings.excluded_families,
        labels=settings.label_pairs,
    )
    return Exposition(lambda: (state,), metrics)


def _states(settings: UpstreamSettings, streams: Iterable[str]) -> Iterator[StreamState]:
    feeds = platforms()[settings.platform].feeds
    prng = random.Random(0)  # noqa: S311 - not used for security
    configured = {stream.name or stream.id: stream for stream in settings.configured_streams()}
    for label in streams:
        facts: dict[str, Any] = {field: _generate_value(_HINTS[field], prng) for field in sorted(feeds & _HINTS.keys())}
        facts |= {"status": Status.LIVE, "live": True, "protocol": "rtmp"}
        own = configured.get(label)
        source = own.source if own else None
        yield StreamState(
            identity=Identity(settings.platform, settings.name, label, settings.label_pairs),
            report=StreamReport(id=label, **facts),
            configured=own is not None,
            status=Status.LIVE,
            live=True,
            expected=None if own is None or own.expected is None else True,
            restarts=0,
            health_score_ratio=round(prng.random(), 3),
            health_reasons=(HealthReason.BITRATE_LOW,),
            expected_ingest_bitrate_bytes_per_second=own.expected_bitrate if own else None,
            expected_frames_per_second=own.expected_frame_rate if own else None,
            source_platform=source.platform if source else "",
            source_upstream=source.upstream if source else "",
            source_stream=source.stream if source else "",
            source_live=True if source else None,
            reported_at=_NOW,
        )


def _generate_value(hint: Any, prng: random.Random) -> Any:
    """Return a value of the type, with a text form of realistic length."""
    kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    kind = kinds[0]
    word = f"{prng.getrandbits(32):08x}"
    plain: dict[Any, Any] = {
        bool: prng.random() < 0.5,
        int: prng.randrange(1, 2000),
        float: prng.uniform(1.0, 1_000_000.0),
        str: word,
    }
    if kind in plain:
        return plain[kind]
    if get_origin(kind) is tuple:
        return tuple(_generate_entry(get_args(kind)[0], number, prng) for number in range(_ENTRIES))
    if get_origin(kind) is not None:
        value_type = get_args(kind)[1]
        return {f"name-{number}": _generate_value(value_type, prng) for number in range(_ENTRIES)}
    return Status.LIVE


def _generate_entry(kind: Any, number: int, prng: random.Random) -> Any:
    if kind is Rendition:
        return Rendition(f"{number}80p", prng.uniform(1e5, 1e6))
    if kind is PlatformMetric:
        return PlatformMetric(f"quality.measure_{number}", prng.uniform(0, 100), "24h")
    return _generate_value(kind, prng)
