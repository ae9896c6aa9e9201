"""WAVE's Prometheus export.

The document promises counters, gauges and histograms without naming a single one: the names here are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from aiohttp import web

from exporter.simulator.conditions import LEVELS
from exporter.simulator.context import Context
from exporter.simulator.streams import Platform, Stream
from exporter.simulator.totals import Publish, Totals
from exporter.simulator.wave_answers import error, one_of

PERIODS = ("1min", "5min", "15min", "1hour")
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_LATENCY_BOUNDS = (0.25, 0.5, 1.0, 2.0, 4.0)
_SPREAD = (0.5, 1.0, 2.0)
"""A third each of a stream's viewers has this much of its latency."""

_Row = tuple[Stream, Publish, Totals]


class Export:
    """What a scrape of WAVE's own export brings."""

    def __init__(self, world: Context) -> None:
        self._world = world
        self._fleet = world.fleet

    async def get(self, request: web.Request) -> web.Response:
        """``GET /streaming/analytics/prometheus``, of everything or of one stream."""
        if one_of(request, "period", PERIODS, "5min") is None:
            return error(400, "Validation error", details=[{"field": "period", "issue": "unknown period"}])
        wanted = request.query.get("streamId")
        streams = [s for s in self._fleet.of(Platform.WAVE) if wanted in (None, s.playback_id, s.id)]
        text = "".join(line + "\n" for line in self._lines(streams))
        return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})

    def _lines(self, streams: list[Stream]) -> Iterable[str]:
        now = self._world.now()
        published = [(stream, self._fleet.publish(stream, now)) for stream in streams]
        live: list[_Row] = []
        for stream, publish in published:
            if publish.live(now):
                total = self._fleet.all_time(stream, publish, now)
                live.append((stream, publish, total))
        yield "# HELP streaming_active_streams Streams that are live."
        yield "# TYPE streaming_active_streams gauge"
        yield f"streaming_active_streams {len(live)}"
        gauge, counter = "gauge", "counter"
        yield from _family("streaming_viewers", gauge, "Current viewers.", live, lambda row: row[1].viewers(now))
        yield from _family(
            "streaming_bitrate_bps",
            gauge,
            "Ingest in bits per second.",
            live,
            lambda row: round(row[1].bitrate(now) * 8),
        )
        yield from _family(
            "streaming_quality_score", gauge, "0 to 100.", live, lambda row: LEVELS[row[1].condition(now)].score
        )
        yield from _family(
            "streaming_bandwidth_bytes_total", counter, "Bytes received.", live, lambda row: int(row[2].bytes)
        )
        yield from _family(
            "streaming_errors_total", counter, "Frames dropped.", live, lambda row: int(row[2].dropped_frames)
        )
        yield from _latency(live)


def _labels(stream: Stream) -> str:
    return f'stream_id="{stream.playback_id}",protocol="{stream.protocol}"'


def _family(name: str, kind: str, text: str, rows: list[_Row], value: Callable[[_Row], float]) -> Iterable[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    for row in rows:
        yield f"{name}{{{_labels(row[0])}}} {value(row)}"


def _latency(rows: list[_Row]) -> Iterable[str]:
    """One observation a second of media and third of the viewers: a histogram that only grows."""
    name = "streaming_latency_seconds"
    yield f"# HELP {name} Latency from encoder to player."
    yield f"# TYPE {name} histogram"
    for stream, _, total in rows:
        labels, seconds = _labels(stream), int(total.media_seconds)
        latencies = [stream.latency_seconds * factor for factor in _SPREAD]
        for bound in _LATENCY_BOUNDS:
            within = sum(latency <= bound for latency in latencies) * seconds
            yield f'{name}_bucket{{{labels},le="{bound}"}} {within}'
        yield f'{name}_bucket{{{labels},le="+Inf"}} {len(latencies) * seconds}'
        yield f"{name}_sum{{{labels}}} {sum(latencies) * seconds}"
        yield f"{name}_count{{{labels}}} {len(latencies) * seconds}"
