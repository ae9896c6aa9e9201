"""States and views as the tests of this folder make them."""

from __future__ import annotations

from typing import Any

from exporter.metrics.exposition import LabelTexts, render_streams, render_upstreams
from exporter.metrics.families.family import Part
from exporter.metrics.rendering.text_assembly import Rendering
from exporter.model import Identity, Status, StreamReport, StreamState, UpstreamState

ALL = frozenset(part.value for part in Part)


def stream(
    name: str = "main", *, status: Status | None = Status.LIVE, live: bool | None = True, **facts: Any
) -> StreamState:
    """A state of upstream ``studio``; facts that ``StreamState`` has go there, the others into the sample."""
    own = {key: facts.pop(key) for key in list(facts) if key in StreamState.__struct_fields__}
    sample = StreamReport(id=name, live=live, **facts)
    return StreamState(identity=Identity("livepeer", "studio", name), report=sample, status=status, live=live, **own)


def view(*streams: StreamState, **facts: Any) -> UpstreamState:
    facts = {"platform": "livepeer", "upstream": "studio", "host": "livepeer.studio", "health_score": "derived"} | facts
    return UpstreamState(streams=streams, **facts)


def rendered(*views: UpstreamState, upstreams: bool = True, texts: LabelTexts | None = None) -> Rendering:
    """What is rendered from the views alone."""
    texts = texts or LabelTexts()
    rendering = Rendering()
    if upstreams:
        render_upstreams(rendering, views, texts)
    render_streams(rendering, views, texts)
    return rendering


def samples_of(*streams: StreamState) -> list[str]:
    """The sample lines of the streams' families."""
    text = rendered(view(*streams), upstreams=False).text.decode()
    return [line for line in text.splitlines() if not line.startswith("#")]
