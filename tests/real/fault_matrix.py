"""Every fault that the simulator can inject, each on another stream or upstream, and the expected alerts.

A row without alerts means that its fault must not cause any. Every notification that is not listed here is a false
alert.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from exporter.config.streams import DAYS
from exporter.service import Service
from exporter.simulator.context import TOKEN
from exporter.simulator.simulated_streams import Platform, Stream
from tests.real.alert_environment import (
    SimulatorClient,
    Told,
    livepeer_upstream,
    storm_upstream,
    wait_until,
    wave_upstream,
)

CRITICAL, WARNING = "critical", "warning"
PULSE_SECONDS = 0.6
"""Every poll sees the other state."""
PAUSE = "pause"
"""A WAVE session is paused with WAVE's own API, not with a fault."""

Alerts = Mapping[str, str]
"""Severity by alert name."""


@dataclass(frozen=True, kw_only=True)
class StreamRow:
    """A stream with a fault, and its expected alerts."""

    fault: str = ""
    """Empty: no fault."""
    alerts: Alerts = field(default_factory=dict)
    by_prometheus: Alerts = field(default_factory=dict)
    """Alerts of rules that only Prometheus evaluates."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings that replace or add to those of the other streams; None removes one."""
    is_pulsing: bool = False
    """Whether the fault is switched on and off."""
    where: Callable[[Stream], bool] = lambda _: True
    """Index of the stream in the fleet."""


@dataclass(frozen=True, kw_only=True)
class UpstreamRow:
    """An upstream, possibly with its own fault, and the expected alerts about it and its streams."""

    name: str
    platform: Platform
    fault: str = ""
    alerts: Alerts = field(default_factory=dict)
    by_prometheus: Alerts = field(default_factory=dict)
    streams: Sequence[StreamRow] = (StreamRow(), StreamRow(), StreamRow())
    settings: Mapping[str, Any] = field(default_factory=dict)


def another_time() -> list[dict[str, Any]]:
    """Return weekly hours that do not include the current time."""
    day = datetime.now(UTC) + timedelta(days=3)
    return [{"days": [DAYS[day.weekday()]], "from": "10:00", "to": "11:00"}]


UNEXPECTED = {"expected": None}
NEVER_LIVE = {"expected": False}
OFFLINE = {"StreamExpectedOffline": CRITICAL}
UNKNOWN = {"StreamExpectedUnknown": CRITICAL}
"""The alert starts as a warning."""
DOWN = {"StreamUpstreamDown": CRITICAL}
EXPECTED_AND_UNKNOWN = StreamRow(alerts=UNKNOWN)
UNEXPECTED_STREAMS = (StreamRow(settings=UNEXPECTED),) * 3
HEALTHY = StreamRow()


def is_fast(stream: Stream) -> bool:
    """Return whether the latency is so far below its target that a fault that triples it causes no alert."""
    return stream.latency_seconds < 0.95 * stream.target_latency_seconds


STORM = UpstreamRow(
    name="edge",
    platform=Platform.STORM,
    streams=(
        StreamRow(fault="unhealthy", alerts={"StreamUnhealthy": CRITICAL}),
        StreamRow(fault="stall", alerts={"StreamIngestStalled": CRITICAL}),
        StreamRow(fault="bitrate_low", alerts={"StreamBitrateCritical": CRITICAL}),
        StreamRow(fault="slow_transcode", alerts={"StreamDegraded": WARNING}),
        StreamRow(fault="end", alerts=OFFLINE),
        StreamRow(fault="end", settings=UNEXPECTED),
        StreamRow(fault="end", settings=NEVER_LIVE),
        StreamRow(fault="end", settings={"expected": another_time()}),
        StreamRow(fault="error", alerts=OFFLINE),
        StreamRow(fault="error", settings=UNEXPECTED, alerts={"StreamError": WARNING}),
        StreamRow(fault="unknown_state", alerts=UNKNOWN),
        StreamRow(fault="unknown_state", settings=UNEXPECTED),
        StreamRow(settings={"expected": another_time()}, alerts={"StreamLiveUnexpectedly": WARNING}),
        # a batch does not need a request per stream
        StreamRow(fault="not_found"),
        HEALTHY,
    ),
)
LIVEPEER = UpstreamRow(
    name="studio",
    platform=Platform.LIVEPEER,
    streams=(
        StreamRow(
            fault="unhealthy",
            where=lambda stream: stream.targets == 1,
            alerts={"StreamUnhealthy": CRITICAL, "StreamMultistreamTargetDown": WARNING},
        ),
        StreamRow(fault="slow_transcode", alerts={"StreamTranscodeBelowRealtime": CRITICAL}),
        StreamRow(fault="end", alerts=OFFLINE),
        StreamRow(fault="end", settings=UNEXPECTED),
        StreamRow(fault="unknown_state", alerts=UNKNOWN),
        StreamRow(fault="malformed", alerts=UNKNOWN),
        HEALTHY,
        HEALTHY,
    ),
    settings={"health_details": "1s"},
)
WAVE = UpstreamRow(
    name="rooms",
    platform=Platform.WAVE,
    streams=(
        StreamRow(
            fault="unhealthy",
            where=is_fast,
            alerts={"StreamUnhealthy": CRITICAL, "StreamPacketLossCritical": CRITICAL},
            by_prometheus={"StreamDroppedFramesHigh": WARNING},
        ),
        StreamRow(
            fault="unhealthy",
            where=lambda stream: stream.latency_seconds > 1.05 * stream.target_latency_seconds,
            alerts={
                "StreamUnhealthy": CRITICAL,
                "StreamPacketLossCritical": CRITICAL,
                "StreamLatencyHigh": WARNING,
            },
        ),
        StreamRow(fault="stall", alerts={"StreamIngestStalled": CRITICAL}),
        StreamRow(fault="bitrate_low", alerts={"StreamBitrateCritical": CRITICAL}),
        StreamRow(fault="slow_transcode", where=is_fast),
        StreamRow(fault="end", alerts=OFFLINE),
        StreamRow(fault="end", settings={"end_ok": True}),
        StreamRow(fault=PAUSE, alerts={"StreamExpectedPaused": WARNING}),
        StreamRow(fault=PAUSE, settings=UNEXPECTED),
        StreamRow(fault="not_found", alerts=UNKNOWN),
        StreamRow(fault="malformed", alerts=UNKNOWN),
        HEALTHY,
    ),
)
PULSING = (
    UpstreamRow(
        name="flapping",
        platform=Platform.STORM,
        streams=(
            StreamRow(fault="end", is_pulsing=True, settings=UNEXPECTED, alerts={"StreamFlapping": WARNING}),
            HEALTHY,
        ),
    ),
    UpstreamRow(
        name="unstable",
        platform=Platform.LIVEPEER,
        streams=(StreamRow(fault="unhealthy", is_pulsing=True, alerts={"StreamVerdictUnstable": WARNING}), HEALTHY),
    ),
)
FAULTY_UPSTREAMS = (
    UpstreamRow(name="down", platform=Platform.WAVE, fault="down", alerts=DOWN),
    UpstreamRow(name="slow", platform=Platform.STORM, fault="slow", alerts=DOWN),
    UpstreamRow(name="html", platform=Platform.STORM, fault="html", alerts=DOWN),
    UpstreamRow(name="cut-off", platform=Platform.LIVEPEER, fault="truncated", alerts=DOWN),
    # not WAVE, whose window of a minute is not scaled
    UpstreamRow(name="limited", platform=Platform.LIVEPEER, fault="rate_limit", alerts=DOWN),
    UpstreamRow(name="not-found", platform=Platform.STORM, fault="not_found", alerts=DOWN),
    UpstreamRow(name="malformed", platform=Platform.LIVEPEER, fault="malformed", alerts=DOWN),
    UpstreamRow(
        name="refused", platform=Platform.LIVEPEER, fault="auth", alerts={"StreamUpstreamAuthFailing": CRITICAL}
    ),
    UpstreamRow(
        name="flaky",
        platform=Platform.STORM,
        fault="flaky",
        by_prometheus={"StreamUpstreamUnstable": WARNING},
        # without a login, which would be an additional request
        settings={"auth": {"bearer_token": TOKEN}},
        streams=(StreamRow(fault="end", alerts=OFFLINE), HEALTHY),
    ),
    UpstreamRow(
        name="upgraded",
        platform=Platform.WAVE,
        fault="unknown_state",
        alerts={"StreamUpstreamStatesUnknown": CRITICAL},
        streams=(EXPECTED_AND_UNKNOWN, *UNEXPECTED_STREAMS),
    ),
    UpstreamRow(
        name="upgraded-idle",
        platform=Platform.STORM,
        fault="unknown_state",
        alerts={"StreamUpstreamStatesUnknown": WARNING},
        streams=UNEXPECTED_STREAMS,
    ),
    UpstreamRow(
        name="frozen",
        platform=Platform.WAVE,
        fault="frozen",
        alerts={"StreamUpstreamStatisticsFrozen": CRITICAL},
    ),
    UpstreamRow(
        name="frozen-idle",
        platform=Platform.STORM,
        fault="frozen",
        alerts={"StreamUpstreamStatisticsFrozen": WARNING},
        streams=UNEXPECTED_STREAMS,
    ),
    UpstreamRow(
        # it requests individual streams that a doubtful list does not contain
        name="doubtful",
        platform=Platform.STORM,
        fault="doubtful_list",
        alerts={"StreamUpstreamListDoubtful": WARNING},
        settings={"discover": True},
        streams=(StreamRow(fault="end", alerts=OFFLINE), HEALTHY, HEALTHY),
    ),
    UpstreamRow(
        name="doubtful-pages",
        platform=Platform.LIVEPEER,
        fault="doubtful_list",
        alerts={"StreamUpstreamListDoubtful": WARNING},
    ),
)
ROWS = (STORM, LIVEPEER, WAVE, *PULSING, *FAULTY_UPSTREAMS)
SIMULATORS = max(sum(row.platform is platform for row in ROWS) for platform in Platform)
"""Each upstream has its own simulated platform, because a fault of an upstream affects the whole platform."""


class FaultMatrix:
    """The rows, assigned to the streams of some simulators."""

    def __init__(self, simulators: Sequence[SimulatorClient]) -> None:
        """``simulators``: ``SIMULATORS`` of them."""
        self._simulators = simulators
        self._placed: list[tuple[UpstreamRow, SimulatorClient, list[Stream]]] = []
        free = {platform: list(simulators) for platform in Platform}
        for row in ROWS:
            simulator = free[row.platform].pop(0)
            self._placed.append((row, simulator, list(_choose(row.streams, simulator.steady_streams(row.platform)))))

    def upstreams(self) -> list[dict[str, Any]]:
        """Return the configuration of the upstreams."""
        return [_upstream(row, simulator.url, streams) for row, simulator, streams in self._placed]

    def expected(self, *, is_pulsing: bool | None = None) -> set[Told]:
        """Return the alerts with their final severity; ``is_pulsing``: only those of pulsing or of constant faults."""
        told: set[Told] = set()
        if is_pulsing is not True:
            for upstream, _, _ in self._placed:
                told |= _told(upstream.alerts, upstream)
        for upstream, row, _, stream in self._rows():
            if is_pulsing in (None, row.is_pulsing):
                told |= _told(row.alerts, upstream, stream)
        return told

    def expected_by_prometheus(self) -> set[Told]:
        """Return the additional alerts if Prometheus evaluates the rules that the sidecar cannot."""
        told: set[Told] = set()
        for upstream, _, _ in self._placed:
            told |= _told(upstream.by_prometheus, upstream)
        for upstream, row, _, stream in self._rows():
            told |= _told(row.by_prometheus, upstream, stream)
        return told

    def label(self, upstream: UpstreamRow, fault: str) -> str:
        """Return the label of the first stream of an upstream with this fault."""
        rows = (stream for found, row, _, stream in self._rows() if found is upstream and row.fault == fault)
        return label_of(next(rows))

    async def inject(self) -> None:
        """Start every fault that does not pulse."""
        for _, row, simulator, stream in self._rows():
            if row.fault == PAUSE:
                await simulator.set_wave_status(stream, "paused")
            elif row.fault and not row.is_pulsing:
                await simulator.inject_fault(stream.platform, row.fault, stream.id)
        for upstream, simulator, _ in self._placed:
            if upstream.fault:
                await simulator.inject_fault(upstream.platform, upstream.fault)

    async def pulse(self, service: Service, enough: asyncio.Event) -> None:
        """Switch the pulsing faults on and off until the event is set, slowly enough that every state is polled.

        It waits until the exporter has seen each state, because on a slow machine a fixed time may not be enough.
        """
        rows = [row for row in self._rows() if row[1].is_pulsing]
        await asyncio.gather(*(self._pulse(service, enough, *row) for row in rows))

    async def _pulse(
        self,
        service: Service,
        enough: asyncio.Event,
        upstream: UpstreamRow,
        row: StreamRow,
        simulator: SimulatorClient,
        stream: Stream,
    ) -> None:
        def is_well() -> bool:
            state = service.store.get(upstream.name)
            assert state is not None
            served = next(found for found in state.streams if found.identity.stream == label_of(stream))
            return bool(served.live) and served.report.healthy is not False

        while not enough.is_set():
            await simulator.inject_fault(stream.platform, row.fault, stream.id)
            await wait_until(lambda: not is_well(), f"{row.fault} is seen", str)
            await asyncio.sleep(PULSE_SECONDS)
            await simulator.clear(stream)
            await wait_until(is_well, f"the end of {row.fault} is seen", str)
            await asyncio.sleep(PULSE_SECONDS)

    async def clear(self) -> None:
        """End every fault, and the streams that are live outside their hours."""
        for simulator in self._simulators:
            await simulator.clear()
        for _, row, simulator, stream in self._rows():
            if row.fault == PAUSE:
                await simulator.set_wave_status(stream, "live")
            elif "StreamLiveUnexpectedly" in row.alerts:
                await simulator.inject_fault(stream.platform, "end", stream.id)

    def _rows(self) -> Iterator[tuple[UpstreamRow, StreamRow, SimulatorClient, Stream]]:
        for upstream, simulator, streams in self._placed:
            for row, stream in zip(upstream.streams, streams, strict=True):
                yield upstream, row, simulator, stream


def _told(alerts: Alerts, upstream: UpstreamRow, stream: Stream | None = None) -> set[Told]:
    label = "" if stream is None else label_of(stream)
    return {(alert, upstream.name, label, severity) for alert, severity in alerts.items()}


def label_of(stream: Stream) -> str:
    """Return the stream's label in metrics and alerts."""
    return stream.id if stream.platform is Platform.STORM else stream.name


def _choose(rows: Iterable[StreamRow], streams: list[Stream]) -> Iterable[Stream]:
    for row in rows:
        chosen = next(stream for stream in streams if row.where(stream))
        streams.remove(chosen)
        yield chosen


def _upstream(row: UpstreamRow, url: str, streams: Sequence[Stream]) -> dict[str, Any]:
    match row.platform:
        case Platform.STORM:
            upstream, key = storm_upstream(row.name, url, streams), "streams"
        case Platform.LIVEPEER:
            # a new publish has no session for a minute, so use the list
            upstream, key = livepeer_upstream(row.name, url, streams) | {"discover": True}, "streams"
        case Platform.WAVE:
            upstream, key = wave_upstream(row.name, url, streams), "sessions"
    entries = [
        {name: value for name, value in {**entry, **settings.settings}.items() if value is not None}
        for entry, settings in zip(upstream[key], row.streams, strict=True)
    ]
    # other streams of the fleet may change on their own
    include = [stream.name for stream in streams]
    return {**upstream, key: entries, "include": include, **row.settings}
