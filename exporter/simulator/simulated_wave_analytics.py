"""WAVE's analytics, dashboards, tracked events and Prometheus export.

Analytics are recalculated every five minutes. The documentation names none of the metrics in the export, so the names
here are invented.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from aiohttp import web

from exporter.simulator.context import Context
from exporter.simulator.platform_app import json_body, json_response
from exporter.simulator.simulated_streams import Platform, Stream
from exporter.simulator.stream_conditions import LEVELS
from exporter.simulator.totals import DAY_SWING, IngestSession, Totals
from exporter.simulator.wave_conventions import error, format_iso, query_choice

REFRESH_SECONDS = 300
_STREAM_PERIODS = {"1h": 1.0, "24h": 24.0, "7d": 168.0, "30d": 720.0}
_DASHBOARD_PERIODS = {"1d": 24.0, "7d": 168.0, "30d": 720.0, "90d": 2160.0}
_VISITS_PER_HOUR = 1.5
"""Visits per hour for each viewer of the average audience."""


class Analytics:
    """Handlers of the analytics endpoints."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._fleet = context.fleet

    def _refresh_time(self) -> float:
        return self._context.now() // REFRESH_SECONDS * REFRESH_SECONDS

    async def stream(self, request: web.Request) -> web.Response:
        """``GET /analytics/stream/{streamId}``; a session id is accepted too."""
        name = request.match_info["id"]
        stream = self._fleet.by_playback_id(Platform.WAVE, name) or self._fleet.by_id(Platform.WAVE, name)
        if stream is None:
            return error(404, "Stream not found")
        period = query_choice(request, "period", list(_STREAM_PERIODS), "24h")
        if period is None:
            return _invalid_period()
        return json_response({"streamId": name, **self._stream_figures(stream, _STREAM_PERIODS[period])})

    def _stream_figures(self, stream: Stream, hours: float) -> dict[str, Any]:
        moment = self._refresh_time()
        ingest = self._fleet.latest_ingest(stream, moment)
        level = LEVELS[ingest.condition(moment)]
        return {
            "totalViewers": math.ceil(stream.audience * (1 + _VISITS_PER_HOUR * hours)),
            "peakViewers": math.ceil(stream.audience * (1 + DAY_SWING * min(1.0, hours / 24))),
            "avgWatchTime": round(3600 / _VISITS_PER_HOUR * (0.5 + stream.index % 7 / 10), 1),
            "totalDuration": round(hours * 3600 * 0.97),
            "quality": {
                "averageBitrate": round(ingest.bitrate(moment) * 8 / 1000, 1),
                "bufferingRatio": level.loss,
                "score": level.score,
            },
        }

    async def dashboards(self, request: web.Request) -> web.Response:
        """``GET /analytics/dashboards``: all metrics, or one."""
        period = query_choice(request, "period", list(_DASHBOARD_PERIODS), "7d")
        if period is None:
            return _invalid_period()
        metrics = self._dashboard_metrics(_DASHBOARD_PERIODS[period])
        wanted = request.query.get("metric")
        if wanted is not None:
            metrics = {name: value for name, value in metrics.items() if name == wanted}
        return json_response({"period": period, "metrics": metrics})

    def _dashboard_metrics(self, hours: float) -> dict[str, Any]:
        moment = self._refresh_time()
        streams = self._fleet.streams(Platform.WAVE)
        live = self._fleet.live_streams(Platform.WAVE, moment)
        audience = sum(stream.audience for stream in streams)
        rate = sum(ingest.bitrate(moment) for _, ingest in live)
        levels = [LEVELS[ingest.condition(moment)] for _, ingest in live]
        return {
            "totalStreams": len(streams),
            "activeStreams": len(live),
            "currentViewers": sum(ingest.viewers(moment) for _, ingest in live),
            "totalViews": math.ceil(audience * (1 + _VISITS_PER_HOUR * hours)),
            "peakConcurrentViewers": math.ceil(audience * (1 + DAY_SWING)),
            "bandwidth": {"ingestMbps": round(rate * 8 / 1e6, 2)},
            "quality": {"averageScore": round(sum(level.score for level in levels) / max(1, len(levels)), 2)},
        }


def _invalid_period() -> web.Response:
    return error(400, "Validation error", details=[{"field": "period", "issue": "unknown period"}])


LARGEST_BATCH = 100
EVENTS_KEPT = 10_000
_REQUIRED = ("eventType", "eventName", "sessionId")


class Events:
    """The most recent events, oldest first."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._events: deque[dict[str, Any]] = deque(maxlen=EVENTS_KEPT)
        self._received = 0

    async def track(self, request: web.Request) -> web.Response:
        """``POST /analytics/events``."""
        body = await json_body(request)
        missing = _missing_fields(body)
        if body is None or missing:
            details = [{"field": name, "issue": "required"} for name in missing]
            return error(400, "Missing required fields", details=details)
        return json_response({"success": True, "eventId": self._store_event(body)})

    async def track_batch(self, request: web.Request) -> web.Response:
        """``POST /analytics/events/batch``: at most 100 events; a bad event does not reject the others."""
        body = await json_body(request) or {}
        events = body.get("events")
        if not isinstance(events, list) or len(events) > LARGEST_BATCH:
            details = [{"field": "events", "issue": f"an array of at most {LARGEST_BATCH}"}]
            return error(400, "Validation error", details=details)
        good = [event for event in events if isinstance(event, dict) and not _missing_fields(event)]
        for event in good:
            self._store_event(event)
        return json_response({"success": True, "accepted": len(good), "rejected": len(events) - len(good)})

    async def show(self, _: web.Request) -> web.Response:
        """Return the received events: ``{"events": [...]}``. This endpoint is not part of WAVE."""
        return json_response({"events": list(self._events)})

    def _store_event(self, event: dict[str, Any]) -> str:
        self._received += 1
        event_id = f"evt_{self._received}"
        self._events.append({"eventId": event_id, "receivedAt": format_iso(self._context.now()), **event})
        return event_id


def _missing_fields(event: dict[str, Any] | None) -> list[str]:
    """Return the required fields that are missing, empty or not strings."""
    fields = event or {}
    return [name for name in _REQUIRED if not isinstance(fields.get(name), str) or not fields[name]]


PERIODS = ("1min", "5min", "15min", "1hour")
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_LATENCY_BOUNDS = (0.25, 0.5, 1.0, 2.0, 4.0)
_SPREAD = (0.5, 1.0, 2.0)
"""Factors of a stream's latency, each for a third of its viewers."""

_Row = tuple[Stream, IngestSession, Totals]


class Export:
    """WAVE's Prometheus export."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._fleet = context.fleet

    async def get(self, request: web.Request) -> web.Response:
        """``GET /streaming/analytics/prometheus``: all streams, or one."""
        if query_choice(request, "period", PERIODS, "5min") is None:
            return error(400, "Validation error", details=[{"field": "period", "issue": "unknown period"}])
        wanted = request.query.get("streamId")
        streams = [s for s in self._fleet.streams(Platform.WAVE) if wanted in (None, s.playback_id, s.id)]
        text = "".join(line + "\n" for line in self._exposition_lines(streams))
        return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})

    def _exposition_lines(self, streams: list[Stream]) -> Iterable[str]:
        now = self._context.now()
        live: list[_Row] = []
        for stream in streams:
            ingest = self._fleet.latest_ingest(stream, now)
            if ingest.is_live(now):
                live.append((stream, ingest, self._fleet.all_time(stream, ingest, now)))
        yield "# HELP streaming_active_streams Streams that are live."
        yield "# TYPE streaming_active_streams gauge"
        yield f"streaming_active_streams {len(live)}"
        gauge, counter = "gauge", "counter"
        yield from _family_lines("streaming_viewers", gauge, "Current viewers.", live, lambda row: row[1].viewers(now))
        yield from _family_lines(
            "streaming_bitrate_bps",
            gauge,
            "Ingest in bits per second.",
            live,
            lambda row: round(row[1].bitrate(now) * 8),
        )
        yield from _family_lines(
            "streaming_quality_score", gauge, "0 to 100.", live, lambda row: LEVELS[row[1].condition(now)].score
        )
        yield from _family_lines(
            "streaming_bandwidth_bytes_total", counter, "Bytes received.", live, lambda row: int(row[2].bytes)
        )
        yield from _family_lines(
            "streaming_errors_total", counter, "Frames dropped.", live, lambda row: int(row[2].dropped_frames)
        )
        yield from _latency_lines(live)


def _labels(stream: Stream) -> str:
    return f'stream_id="{stream.playback_id}",protocol="{stream.protocol}"'


def _family_lines(name: str, kind: str, text: str, rows: list[_Row], value: Callable[[_Row], float]) -> Iterable[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    for row in rows:
        yield f"{name}{{{_labels(row[0])}}} {value(row)}"


def _latency_lines(rows: list[_Row]) -> Iterable[str]:
    """Yield a histogram that only grows: one observation per second of media and third of the viewers."""
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
