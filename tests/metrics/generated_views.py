"""Builders of stream and upstream states, and functions that render them."""

from __future__ import annotations

from typing import Any

import msgspec

from exporter.metrics.exposition import ExpositionCache, render_streams, render_upstreams
from exporter.metrics.families.family import Part
from exporter.metrics.rendering.tables import Rendering
from exporter.model import Identity, Labels, Status, StreamReport, StreamState, UpstreamState

ALL = frozenset(part.value for part in Part)


def stream(name: str = "main", *, status: Status = Status.LIVE, live: bool | None = True, **facts: Any) -> StreamState:
    """Return a stream of upstream ``studio``; fields that ``StreamState`` lacks go into its report."""
    own = {key: facts.pop(key) for key in list(facts) if key in StreamState.__struct_fields__}
    own.setdefault("reported_at", None if status is Status.UNKNOWN else 1_726_000_000.0)
    report = StreamReport(id=name, live=live, **facts)
    return StreamState(identity=Identity("livepeer", "studio", name), report=report, status=status, live=live, **own)


def view(*streams: StreamState, **facts: Any) -> UpstreamState:
    facts = {"platform": "livepeer", "upstream": "studio", "host": "livepeer.studio", "health_score": "derived"} | facts
    return UpstreamState(streams=streams, **facts)


def labelled(view: UpstreamState, labels: Labels) -> UpstreamState:
    """Return an upstream with these labels, like a coordinator with such settings."""
    streams = [
        msgspec.structs.replace(state, identity=msgspec.structs.replace(state.identity, labels=labels))
        for state in view.streams
    ]
    return msgspec.structs.replace(view, labels=labels, streams=tuple(streams))


def rendered(*views: UpstreamState, upstreams: bool = True, cache: ExpositionCache | None = None) -> Rendering:
    """Render the metrics of upstreams and streams."""
    cache = cache or ExpositionCache()
    rendering = Rendering()
    if upstreams:
        render_upstreams(rendering, views, cache)
    render_streams(rendering, views, cache)
    return rendering


def samples_of(*streams: StreamState) -> list[str]:
    """Return the sample lines of streams."""
    text = rendered(view(*streams), upstreams=False).text.decode()
    return [line for line in text.splitlines() if not line.startswith("#")]
