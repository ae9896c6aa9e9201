"""Livepeer's detailed health: probed conditions, metrics, and multistream targets."""

from __future__ import annotations

from typing import Any

from exporter.simulator.conditions import LEVELS
from exporter.simulator.livepeer_records import Broadcast, target_id
from exporter.simulator.totals import Publish

PROBE_SECONDS = 10
"""How often a condition is looked at."""
EVENTS_KEPT_SECONDS = 60.0
"""So long after the end there is still something to tell."""
_SHARE_WINDOW = {"1m": 60, "10m": 600}


def health_record(broadcast: Broadcast) -> dict[str, Any] | None:
    """The health of a stream; None without recent events."""
    publish, now = broadcast.publish, broadcast.now
    if not broadcast.active and now >= publish.end + EVENTS_KEPT_SECONDS:
        return None
    # Without media nothing is probed: silence shows only as an old probe.
    probed = broadcast.last_media(PROBE_SECONDS)
    known = probed > publish.start
    level = LEVELS[publish.condition(probed)]
    connected = broadcast.live and level.healthy
    real_time = level.pace >= 1

    def condition(status: bool | None) -> dict[str, Any]:
        return _condition(publish, probed, status if known else None)

    targets = [
        {
            "target": {"id": target_id(broadcast, n), "name": f"target-{n + 1}", "profile": "source"},
            "connected": condition(connected),
        }
        for n in range(broadcast.stream.targets)
    ]
    multistreaming = connected if targets else None
    active = {
        **_condition(publish, publish.start, broadcast.active),
        "extraData": {"nodeId": "prod-1", "region": "fra"},
    }
    return {
        "id": broadcast.stream.id,
        "healthy": condition(real_time and multistreaming is not False),
        "conditions": [
            {"type": "Active", **active},
            {"type": "Transcoding", **condition(True)},
            {"type": "TranscodeRealTime", **condition(real_time)},
            {"type": "TranscodeNoErrors", **condition(True)},
            {"type": "Multistreaming", **condition(multistreaming)},
        ],
        "metrics": {
            "TranscodeRealtimeRatio": [
                {
                    "name": "TranscodeRealtimeRatio",
                    "dimensions": {"nodeId": "prod-1"},
                    "last": [int(probed * 1000), level.pace],
                }
            ]
        }
        if known
        else {},
        "multistream": targets,
    }


def _condition(publish: Publish, probed: float, status: bool | None) -> dict[str, Any]:
    """One condition; null before its first probe."""
    if status is None:
        return {"status": None, "lastProbeTime": None, "lastTransitionTime": None}
    span = publish.span(probed)
    transition = max(publish.start, publish.course.natural_start + span.start)
    standing = probed - transition
    frequency = {
        name: round(min(1.0, standing / window) if status else max(0.0, 1 - standing / window), 2)
        for name, window in _SHARE_WINDOW.items()
    }
    return {
        "status": status,
        "frequency": frequency,
        "lastProbeTime": int(probed * 1000),
        "lastTransitionTime": int(transition * 1000),
    }
