"""Build upstream and stream states as the coordinators publish them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from exporter.model import Identity, StreamReport, StreamState, UpstreamState


def stream_state(name: str, *, upstream: str = "edge", report: StreamReport | None = None, **facts: Any) -> StreamState:
    """Return a stream's state; ``report`` is the platform's data."""
    return StreamState(identity=Identity("storm", upstream, name), report=report or StreamReport(id=name), **facts)


def upstream_state(streams: Iterable[StreamState] = (), **facts: Any) -> UpstreamState:
    """Return the state of ``edge``, polled every 15 seconds."""
    defaults: dict[str, Any] = {
        "platform": "storm",
        "upstream": "edge",
        "host": "127.0.0.1:9",
        "health_score": "reported",
        "up": True,
        "poll_interval_seconds": 15.0,
    }
    return UpstreamState(streams=tuple(streams), **(defaults | facts))
