"""Views as coordinators publish them, made by hand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from exporter.model import Identity, StreamReport, StreamState, UpstreamState


def stream_state(name: str, *, upstream: str = "edge", report: StreamReport | None = None, **facts: Any) -> StreamState:
    """A stream's state; ``report`` holds what the platform says."""
    return StreamState(identity=Identity("storm", upstream, name), report=report or StreamReport(id=name), **facts)


def upstream_state(streams: Iterable[StreamState] = (), **facts: Any) -> UpstreamState:
    """The view of ``edge``, polled every 15 seconds."""
    known: dict[str, Any] = {
        "platform": "storm",
        "upstream": "edge",
        "host": "127.0.0.1:9",
        "health_score": "reported",
        "up": True,
        "poll_interval_seconds": 15.0,
    }
    return UpstreamState(streams=tuple(streams), **(known | facts))
