"""How much a configuration makes: series, bytes of one answer, bytes of it compressed.

Not by a formula: streams are made up that say all that their platform can, and are rendered as real ones are. A
platform rarely gives everything at once, so that the figures lie above what there will be.
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

_RENDERED_AT_MOST = 500
"""Streams that are made up for one upstream; what more there are counts as many times over."""
_ENTRIES = 4
"""Renditions, targets, conditions, issues that a stream is taken to have."""
_ENDPOINTS = 3
_NOW = 1_700_000_000.0
_HINTS = get_type_hints(StreamReport)


@dataclass(frozen=True)
class Estimate:
    """What one upstream comes to, or all of them with the exporter itself."""

    name: str
    streams: int
    basis: str
    """Where the number of streams comes from."""
    series: int
    bytes_: int
    compressed: int


def estimate(settings: Settings, streams: int) -> list[Estimate]:
    """One line for each upstream, one for the exporter's own families, one for the sum.

    ``streams``: how many an upstream is taken to find by itself.
    """
    per_stream = settings.histograms.per_stream
    lines = [_of_upstream(upstream, streams, per_stream=per_stream) for upstream in settings.upstreams]
    lines.append(_measured("(the exporter itself)", 0, "", Exposition(tuple, ExporterMetrics())))
    total = [sum(getattr(line, field) for line in lines) for field in ("streams", "series", "bytes_", "compressed")]
    return [*lines, Estimate("total", total[0], "", *total[1:])]


def table(lines: Sequence[Estimate]) -> str:
    """The lines as text in columns."""
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
    """Bytes in the unit that suits: ``812 B``, ``4.9 MB``."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def _of_upstream(settings: UpstreamSettings, assumed: int, *, per_stream: bool) -> Estimate:
    names = [stream.name or stream.id for stream in settings.configured_streams()]
    basis = "configured"
    if finds_streams(settings) and assumed > len(names):
        names += [f"application/stream-{number:05}" for number in range(assumed - len(names))]
        basis = "assumed"
    made_up = names[:_RENDERED_AT_MOST]
    measured = _measured(
        settings.name, len(names), basis, _exposition(settings, made_up, per_stream=per_stream), with_own=False
    )
    if len(names) == len(made_up):
        return measured
    none = _measured(settings.name, 0, "", _exposition(settings, (), per_stream=per_stream), with_own=False)
    return _stretched(none, measured, len(names) / len(made_up))


def finds_streams(settings: UpstreamSettings) -> bool:
    """Whether there may be streams that the configuration does not name; where a platform has ``discover``, it says."""
    return bool(getattr(settings, "discovers", getattr(settings, "discover", True)))


def _stretched(none: Estimate, measured: Estimate, factor: float) -> Estimate:
    def more(base: int, all_: int) -> int:
        return base + int((all_ - base) * factor)

    return Estimate(
        name=measured.name,
        streams=measured.streams,
        basis=measured.basis,
        series=more(none.series, measured.series),
        bytes_=more(none.bytes_, measured.bytes_),
        compressed=more(none.compressed, measured.compressed),
    )


def _measured(name: str, streams: int, basis: str, exposition: Exposition, *, with_own: bool = True) -> Estimate:
    text = exposition.render() if with_own else exposition.render({"upstreams", "streams"})
    series = sum(1 for line in text.splitlines() if not line.startswith(b"#"))
    return Estimate(name, streams, basis, series, len(text), len(gzip.compress(text, compresslevel=1)))


def _exposition(settings: UpstreamSettings, streams: Sequence[str], *, per_stream: bool) -> Exposition:
    labels = {"platform": settings.platform, "upstream": settings.name}
    metrics = ExporterMetrics()
    polling_metrics = PollingMetrics(metrics.upstreams)
    polling_metrics.add_upstream(**labels)
    for number in range(_ENDPOINTS):
        polling_metrics.request_observer(**labels)(f"GET /api/endpoint/{number}", "200", 0.1)
    states = list(_states(settings, streams))
    histograms = PollHistograms(**labels, per_stream=per_stream)
    histograms.observe(states)
    view = UpstreamState(
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
    )
    return Exposition(lambda: (view,), metrics)


def _states(settings: UpstreamSettings, streams: Iterable[str]) -> Iterator[StreamState]:
    feeds = platforms()[settings.platform].feeds
    dice = random.Random(0)  # noqa: S311 - makes figures up, guards nothing
    configured = {stream.name or stream.id: stream for stream in settings.configured_streams()}
    for label in streams:
        facts: dict[str, Any] = {field: _made_up(_HINTS[field], dice) for field in sorted(feeds & _HINTS.keys())}
        facts |= {"status": Status.LIVE, "live": True, "protocol": "rtmp"}
        own = configured.get(label)
        yield StreamState(
            identity=Identity(platform=settings.platform, upstream=settings.name, stream=label),
            report=StreamReport(id=label, **facts),
            configured=own is not None,
            status=Status.LIVE,
            live=True,
            expected=None if own is None or own.expected is None else True,
            restarts=0,
            health_score_ratio=round(dice.random(), 3),
            health_reasons=(HealthReason.BITRATE_LOW,),
            expected_ingest_bitrate_bytes_per_second=own.expected_bitrate if own else None,
            expected_frames_per_second=own.expected_frame_rate if own else None,
            reported_at=_NOW,
        )


def _made_up(hint: Any, dice: random.Random) -> Any:
    """A value of the type, as long in text as real ones are."""
    kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    kind = kinds[0]
    word = f"{dice.getrandbits(32):08x}"
    plain: dict[Any, Any] = {
        bool: dice.random() < 0.5,
        int: dice.randrange(1, 2000),
        float: dice.uniform(1.0, 1_000_000.0),
        str: word,
    }
    if kind in plain:
        return plain[kind]
    if get_origin(kind) is tuple:
        return tuple(_entry(get_args(kind)[0], number, dice) for number in range(_ENTRIES))
    if get_origin(kind) is not None:
        of = get_args(kind)[1]
        return {f"name-{number}": _made_up(of, dice) for number in range(_ENTRIES)}
    return Status.LIVE


def _entry(kind: Any, number: int, dice: random.Random) -> Any:
    if kind is Rendition:
        return Rendition(f"{number}80p", dice.uniform(1e5, 1e6))
    if kind is PlatformMetric:
        return PlatformMetric(f"quality.measure_{number}", dice.uniform(0, 100), "24h")
    return _made_up(kind, dice)
