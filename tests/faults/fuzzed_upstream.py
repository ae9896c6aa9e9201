"""One upstream of a recording, polled from its settings to the exposition, with responses that a test may replace."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from email.utils import formatdate
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from exporter.model import UpstreamState
from exporter.platforms.testing import PolledUpstream, RecordedResponse, polled_upstream
from tests.metrics.generated_views import rendered
from tests.metrics.reference_renderer import render_reference
from tests.platforms.recordings import PlatformRecording


class SpoiltResponses(dict[str, Any]):
    """The responses of a recording, some replaced by the test; the server's clock does not move."""

    def __init__(self, recording: PlatformRecording) -> None:
        super().__init__()
        date = {"Date": formatdate(recording.recording.recorded_at, usegmt=True)}
        requests = recording.recording.responses
        self._good = {request: replace(recording.response(request), headers=date) for request in requests}
        self.requested: set[str] = set()
        self.spoil({})

    def spoil(self, bodies: Mapping[str, bytes]) -> None:
        """Serve these bodies from now on, and the recorded ones for all other requests."""
        for request, good in self._good.items():
            self[request] = replace(good, body=bodies[request]) if request in bodies else good

    def get(self, request: str, default: RecordedResponse | None = None) -> Any:  # type: ignore[override]
        """Return what to serve, and record the request."""
        self.requested.add(request)
        return super().get(request, default)


@asynccontextmanager
async def fuzzed(recording: PlatformRecording) -> AsyncIterator[tuple[PolledUpstream, SpoiltResponses]]:
    """Yield an upstream that polls the recording, and its responses."""
    responses = SpoiltResponses(recording)
    spoilt = replace(recording.recording, responses=responses)
    async with polled_upstream(recording.platform, spoilt, per_stream=True) as upstream:
        yield upstream, responses


def exposed(*views: UpstreamState) -> str:
    """Return the exposition of upstream states; check that it is valid and equals the plain rendering."""
    rendering = rendered(*views)
    text = rendering.text.decode()
    reference = render_reference(views)
    assert text == reference.text
    assert (rendering.series, rendering.duplicates) == (reference.series, reference.duplicates)
    series, names = set(), set()
    for family in text_string_to_metric_families(text):
        assert family.name not in names
        names.add(family.name)
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in series
            series.add(key)
            assert math.isfinite(sample.value)
            assert sample.timestamp is None
            assert {"platform", "upstream"} <= sample.labels.keys()
    return text
