"""Whether playback checks show that the streams of an upstream play, while the upstream itself does not answer."""

from __future__ import annotations

from collections.abc import Iterable

from exporter.model import UpstreamState


def is_seen_playing(upstream_state: UpstreamState, states: Iterable[UpstreamState]) -> bool:
    """Return whether each expected stream of an upstream has a check that is playable, and there is such a stream.

    ``states``: of all upstreams, including those with playback checks.
    """
    expected = {state.identity.stream for state in upstream_state.streams if state.expected}
    return bool(expected) and expected <= _streams_seen_playing(upstream_state.upstream, states)


def _streams_seen_playing(upstream: str, states: Iterable[UpstreamState]) -> set[str]:
    """Return the labels of the streams that playback checks see playing."""
    return {
        check.source_stream
        for state in states
        if upstream in state.source_upstreams and state.answering is True
        for check in state.streams
        if check.source_upstream == upstream and check.report.playable is True
    }
