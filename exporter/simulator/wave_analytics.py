"""WAVE's analytics of a stream and its dashboards. They are made again every five minutes."""

from __future__ import annotations

import math
from typing import Any

from aiohttp import web

from exporter.simulator.conditions import LEVELS
from exporter.simulator.context import Context
from exporter.simulator.serving import json_answer
from exporter.simulator.streams import Platform, Stream
from exporter.simulator.totals import DAY_SWING
from exporter.simulator.wave_answers import error, one_of

REFRESH_SECONDS = 300
_STREAM_PERIODS = {"1h": 1.0, "24h": 24.0, "7d": 168.0, "30d": 720.0}
_DASHBOARD_PERIODS = {"1d": 24.0, "7d": 168.0, "30d": 720.0, "90d": 2160.0}
_VISITS_PER_HOUR = 1.5
"""How often a seat of the average audience is taken anew."""


class Analytics:
    """Figures over a period."""

    def __init__(self, world: Context) -> None:
        self._world = world
        self._fleet = world.fleet

    def _moment(self) -> float:
        return self._world.now() // REFRESH_SECONDS * REFRESH_SECONDS

    async def stream(self, request: web.Request) -> web.Response:
        """``GET /analytics/stream/{streamId}``; a session's id is taken for its stream's."""
        name = request.match_info["id"]
        stream = self._fleet.by_playback_id(Platform.WAVE, name) or self._fleet.by_id(Platform.WAVE, name)
        if stream is None:
            return error(404, "Stream not found")
        period = one_of(request, "period", list(_STREAM_PERIODS), "24h")
        if period is None:
            return _bad_period()
        return json_answer({"streamId": name, **self._figures(stream, _STREAM_PERIODS[period])})

    def _figures(self, stream: Stream, hours: float) -> dict[str, Any]:
        moment = self._moment()
        publish = self._fleet.publish(stream, moment)
        level = LEVELS[publish.condition(moment)]
        return {
            "totalViewers": math.ceil(stream.audience * (1 + _VISITS_PER_HOUR * hours)),
            "peakViewers": math.ceil(stream.audience * (1 + DAY_SWING * min(1.0, hours / 24))),
            "avgWatchTime": round(3600 / _VISITS_PER_HOUR * (0.5 + stream.index % 7 / 10), 1),
            "totalDuration": round(hours * 3600 * 0.97),
            "quality": {
                "averageBitrate": round(publish.bitrate(moment) * 8 / 1000, 1),
                "bufferingRatio": level.loss,
                "score": level.score,
            },
        }

    async def dashboards(self, request: web.Request) -> web.Response:
        """``GET /analytics/dashboards``, of everything or of one metric."""
        period = one_of(request, "period", list(_DASHBOARD_PERIODS), "7d")
        if period is None:
            return _bad_period()
        metrics = self._dashboard(_DASHBOARD_PERIODS[period])
        wanted = request.query.get("metric")
        if wanted is not None:
            metrics = {name: value for name, value in metrics.items() if name == wanted}
        return json_answer({"period": period, "metrics": metrics})

    def _dashboard(self, hours: float) -> dict[str, Any]:
        moment = self._moment()
        streams = self._fleet.of(Platform.WAVE)
        live = self._fleet.live_streams(Platform.WAVE, moment)
        audience = sum(stream.audience for stream in streams)
        rate = sum(publish.bitrate(moment) for _, publish in live)
        levels = [LEVELS[publish.condition(moment)] for _, publish in live]
        return {
            "totalStreams": len(streams),
            "activeStreams": len(live),
            "currentViewers": sum(publish.viewers(moment) for _, publish in live),
            "totalViews": math.ceil(audience * (1 + _VISITS_PER_HOUR * hours)),
            "peakConcurrentViewers": math.ceil(audience * (1 + DAY_SWING)),
            "bandwidth": {"ingestMbps": round(rate * 8 / 1e6, 2)},
            "quality": {"averageScore": round(sum(level.score for level in levels) / max(1, len(levels)), 2)},
        }


def _bad_period() -> web.Response:
    return error(400, "Validation error", details=[{"field": "period", "issue": "unknown period"}])
