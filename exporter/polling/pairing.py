"""Log playback checks whose source has never been served by its upstream, because its name may be wrong."""

from __future__ import annotations

import structlog

from exporter.model import StreamState, UpstreamState
from exporter.polling.groups import UNMATCHED_SECONDS
from exporter.runtime.clock import Clock
from exporter.store import Store

log = structlog.get_logger()

_Pair = tuple[str, str, str]
"""Label of a check, and upstream and label of its source."""


class PairWatch:
    """Logs each pair that has matched nothing for ``UNMATCHED_SECONDS`` while its source's upstream was answering."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._unmatched_since: dict[str, dict[_Pair, float | None]] = {}
        """By upstream of the checks: since when nothing matches (steady seconds); None for pairs that are settled."""
        store.subscribe(self._read_published)

    def _read_published(self, state: UpstreamState) -> None:
        if not state.source_upstreams:
            return
        before, now = self._unmatched_since.get(state.upstream, {}), self._clock.monotonic()
        found: dict[_Pair, float | None] = {}
        for stream in state.streams:
            if stream.source_upstream:
                pair = (stream.identity.stream, stream.source_upstream, stream.source_stream)
                found[pair] = self._review(stream, before.get(pair, now), now)
        self._unmatched_since[state.upstream] = found

    def _review(self, stream: StreamState, since: float | None, now: float) -> float | None:
        """Return since when the pair matches nothing; None once its source was served or the pair was logged."""
        if since is None or self._store.find_stream(stream.source_upstream, stream.source_stream) is not None:
            return None
        upstream = self._store.get(stream.source_upstream)
        if upstream is None or upstream.answering is not True:
            return now
        if now < since + UNMATCHED_SECONDS:
            return since
        log.warning(
            "source of a playback check is unknown to its upstream; check its name",
            upstream=stream.identity.upstream,
            stream=stream.identity.stream,
            source_upstream=stream.source_upstream,
            source_stream=stream.source_stream,
        )
        return None
