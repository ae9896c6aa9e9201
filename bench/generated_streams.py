"""Streams like the demo's: responses of its simulated platforms, read by the platform modules, and multiplied."""

from __future__ import annotations

import asyncio
import copy
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml
from aiohttp.test_utils import TestServer

from exporter.cli.settings import load_settings
from exporter.config.root import Settings
from exporter.model import Identity, Listing, PollResult, StreamReport, StreamState, UpstreamState
from exporter.platforms.livepeer import stream_objects as livepeer
from exporter.platforms.storm import storm_streams as storm
from exporter.platforms.wave import wave_sessions as wave
from exporter.polling.tracker import Tracker
from exporter.runtime.clock import Instant
from exporter.service import Service
from exporter.simulator.exporter_config import upstreams_config
from exporter.simulator.fleet import Fleet
from exporter.simulator.simulator_app import make_app

PATTERNS = 240
"""Number of different streams from the simulator; the others are copies with other names and values."""
_NUMBERS = tuple(
    name
    for name, kind in StreamReport.__annotations__.items()
    if kind in ("float | None", "int | None") and not name.endswith(("pixels", "timestamp_seconds"))
)
_REPORTS: Mapping[str, type[StreamReport]] = {"livepeer": livepeer.Report, "storm": storm.Report, "wave": wave.Report}
"""The report class of each platform."""
_NOTHING: Mapping[str, str] = {}
_MAPPINGS = ("health_conditions", "multistream_targets", "ice_candidates")


def save_patterns(file: Path) -> None:
    """Poll the demo's platforms once and save the resulting states for the cases' processes."""
    file.write_bytes(msgspec.msgpack.encode(asyncio.run(_poll(Fleet(PATTERNS)))))


def load_patterns(file: str) -> tuple[UpstreamState, ...]:
    """Load the states saved by ``save_patterns``."""
    return msgspec.msgpack.decode(Path(file).read_bytes(), type=tuple[UpstreamState, ...])


def make_trackers(
    views: Sequence[UpstreamState], labels: Mapping[str, str] = _NOTHING, overridden: Sequence[str] = ()
) -> list[Tracker]:
    """Return a tracker for each upstream, as its coordinator has.

    ``labels`` are added to every upstream; ``overridden``: streams of the first one with a threshold of their own.
    """
    configuration = upstreams_config(Fleet(PATTERNS), "http://127.0.0.1:1")
    settings = settings_of(configuration, max_streams=1_000_000, labels=dict(labels))
    by_name = {upstream.name: upstream for upstream in settings.upstreams}
    trackers = [Tracker(by_name[view.upstream], Instant(0.0, 0.0)) for view in views]
    if overridden:
        kind = type(by_name[views[0].upstream].configured_streams()[0])
        alerts = {"StreamUnhealthy": 0.3}
        trackers[0].configure(tuple(kind.model_validate({"id": id_, "alerts": alerts}) for id_ in overridden))
    return trackers


def settings_of(configuration: dict[str, Any], **defaults: Any) -> Settings:
    """Return settings as from a file with this content."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "config.yaml")
        file.write_text(yaml.safe_dump({**configuration, "defaults": defaults}))
        return load_settings(file, {})


async def _poll(fleet: Fleet) -> tuple[UpstreamState, ...]:
    server = TestServer(make_app(fleet))
    await server.start_server()
    settings = settings_of(upstreams_config(fleet, str(server.make_url(""))), max_concurrent_requests=20)
    service = Service(settings, load=lambda: settings)
    await service.start()
    try:
        async with asyncio.timeout(120):
            while not all(view.up for view in service.store.states()) or len(service.store.states()) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        return service.store.states()
    finally:
        await service.stop()
        await server.close()


class GeneratedStreams:
    """A number of streams whose values change with every call."""

    def __init__(self, count: int, patterns: Sequence[UpstreamState]) -> None:
        self.patterns = patterns
        self._random = random.Random(count)
        shares = [count // len(patterns)] * len(patterns)
        shares[0] += count - sum(shares)
        self._states = [list(self._generate(view, share)) for view, share in zip(patterns, shares, strict=True)]

    def _generate(self, view: UpstreamState, count: int) -> Iterator[StreamState]:
        known = [state for state in view.streams if state.status is not None]
        for index in range(count):
            state = known[index % len(known)]
            name = f"{state.identity.stream}-{index:06}"
            kind = _REPORTS[view.platform]
            own = {"id": f"{state.report.id}-{index:06}", "name": name}
            sample = kind(**{field: own.get(field, getattr(state.report, field)) for field in kind.__struct_fields__})
            identity = Identity(state.identity.platform, state.identity.upstream, name)
            yield msgspec.structs.replace(state, identity=identity, report=sample)

    def ids(self, count: int) -> list[str]:
        """Return the ids of the first streams of the first upstream."""
        return [state.report.id for state in self._states[0][:count]]

    def poll_results(self) -> Iterator[PollResult]:
        """Return one poll result per upstream, generated on demand."""
        for states in self._states:
            streams = tuple(self._with_new_values(state.report) for state in states)
            yield PollResult(streams=streams, listing=Listing.COMPLETE)

    def upstream_states(self) -> tuple[UpstreamState, ...]:
        """Return the states after such a poll, without what the tracker adds."""
        return tuple(
            msgspec.structs.replace(
                view,
                streams=tuple(msgspec.structs.replace(s, report=self._with_new_values(s.report)) for s in states),
            )
            for view, states in zip(self.patterns, self._states, strict=True)
        )

    def _with_new_values(self, sample: StreamReport) -> StreamReport:
        numbers: dict[str, Any] = {}
        for name in _NUMBERS:
            value = getattr(sample, name)
            if type(value) is float:
                numbers[name] = value * self._random.uniform(0.5, 1.0)
            elif type(value) is int:
                numbers[name] = value + self._random.randrange(1000)
        # unchanged parts are new objects in every response, too
        anew: dict[str, Any] = {name: dict(getattr(sample, name)) for name in _MAPPINGS if getattr(sample, name)}
        if sample.renditions:
            anew["renditions"] = tuple(map(copy.copy, sample.renditions))
        return msgspec.structs.replace(sample, **numbers, **anew)
