"""Upstream and stream states for tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from exporter.model import NO_REPORT, Identity, Reason, Status, StreamReport, StreamState, UpstreamState


def stream_state(name: str, *, upstream: str = "edge", report: StreamReport | None = None, **facts: Any) -> StreamState:
    """Return a stream's state; ``report`` is the platform's data."""
    return StreamState(identity=Identity("storm", upstream, name), report=report or StreamReport(id=name), **facts)


def withdrawn(name: str, *, since: float, was_live: bool = True, **facts: Any) -> StreamState:
    """Return the state of a stream whose facts were withdrawn because its upstream stopped answering."""
    return stream_state(
        name, report=NO_REPORT, status=Status.UNKNOWN, status_changed_at=since, was_live=was_live, **facts
    )


def outage(*, since: float, streams: Iterable[StreamState] = (), **facts: Any) -> UpstreamState:
    """Return the state of an upstream whose key has expired; 19 of its 20 streams were live."""
    lost = [withdrawn(f"live/stream-{number:02}", since=since, was_live=number != 7) for number in range(20)]
    defaults: dict[str, Any] = {
        "up": False,
        "answering": False,
        "list_complete": True,
        "last_error": "status 401",
        "last_error_reason": Reason.AUTH,
        "last_success_timestamp_seconds": since - 45,
    }
    return upstream_state([*lost, *streams], **(defaults | facts))


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
