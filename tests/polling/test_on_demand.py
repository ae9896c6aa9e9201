"""Polls on demand: when a result is served again, and their share of a request limit."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from exporter.metrics.self_metrics import FamilyRegistry
from exporter.model import Reason, UpstreamState
from exporter.polling import on_demand
from exporter.polling.coordinator import Coordinator, build_coordinator
from exporter.polling.on_demand import OnDemandPolls
from exporter.polling.self_metrics import PollingMetrics
from exporter.store import Store
from tests.polling.test_coordinator import DOWN, PolledUpstream, ScriptedPlatform, live_streams

INTERVAL = 60.0
MOMENT = 0.001


class ProbedUpstream(PolledUpstream):
    """An upstream with a polling interval of a minute, and its polls on demand."""

    def __init__(self, *outcomes: Any, **keys: Any) -> None:
        super().__init__(interval=f"{INTERVAL:g}s", timeout="10s", **keys)
        self.outcomes = list(outcomes)
        self.built: list[ScriptedPlatform] = []
        self.scheduled: Coordinator = self.coordinator
        self.probes = OnDemandPolls(lambda _: self.scheduled, self._build, self.clock)

    @property
    def polls(self) -> int:
        """Number of polls on demand so far."""
        return sum(platform.polls for platform in self.built)

    async def probe(self, seconds: float | None = None) -> UpstreamState:
        return await self.probes.poll("u", seconds)

    def _build(self, scheduled: Coordinator, store: Store) -> Coordinator:
        coordinator = build_coordinator(
            scheduled.settings,
            ScriptedPlatform,
            store=store,
            metrics=PollingMetrics(FamilyRegistry()),
            clock=self.clock,
            started_at=self.clock.instant(),
            scheduled=scheduled,
        )
        assert isinstance(coordinator.platform, ScriptedPlatform)
        coordinator.platform.outcomes = self.outcomes
        self.built.append(coordinator.platform)
        return coordinator


@pytest.mark.parametrize(("outcome", "up"), [(live_streams("a"), True), (DOWN, False)])
async def test_result_is_served_again_for_half_an_interval(outcome: Any, up: bool) -> None:
    upstream = ProbedUpstream(outcome)
    first = await upstream.probe()
    for _ in range(2):
        upstream.clock.advance(INTERVAL / 4 - 0.01)
        assert await upstream.probe() is first
    assert (first.up, upstream.polls) == (up, 1)
    upstream.clock.advance(0.02)
    assert (await upstream.probe()).last_poll_at == upstream.clock.now()
    assert upstream.polls == 2


async def test_result_is_reused_from_the_start_of_its_poll() -> None:
    answer = asyncio.Event()
    upstream = ProbedUpstream(answer, live_streams("a"))
    probe = asyncio.create_task(upstream.probe())
    await asyncio.sleep(0)
    upstream.clock.advance(INTERVAL / 2)
    answer.set()
    await probe
    assert (await upstream.probe()).up
    assert upstream.polls == 2


async def test_timeout_of_one_caller_does_not_affect_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_demand, "EXTRA_WAIT_SECONDS", 0.0)
    answer = asyncio.Event()
    upstream = ProbedUpstream(answer)
    for _ in range(3):
        state = await upstream.probe(MOMENT)
        assert (state.up, state.last_error_reason) == (False, Reason.TIMEOUT)
    answer.set()
    assert (await upstream.probe()).up
    assert (await upstream.probe(MOMENT)).up
    assert upstream.polls == 1


async def test_facts_become_stale_while_a_result_is_served_again() -> None:
    # a scheduled poll every minute, but reports become stale after 70 s
    upstream = ProbedUpstream(live_streams("a"), DOWN, stale_after="70s")
    assert [state.live for state in (await upstream.probe()).streams] == [True]
    upstream.clock.advance(INTERVAL / 2 + 20)
    assert [state.live for state in (await upstream.probe()).streams] == [True]
    upstream.clock.advance(21)
    state = await upstream.probe()
    assert upstream.polls == 2
    assert [stream.live for stream in state.streams] == [None]


async def test_internal_error_is_logged_once_and_served_again(monkeypatch: pytest.MonkeyPatch) -> None:
    upstream = ProbedUpstream(live_streams("a"))

    async def fail(_: Coordinator) -> None:
        raise KeyError("canary")

    monkeypatch.setattr(Coordinator, "poll", fail)
    with capture_logs() as logs:
        states = [await upstream.probe() for _ in range(3)]
    assert {(state.up, state.last_error_reason) for state in states} == {(False, Reason.INTERNAL)}
    assert [line["event"] for line in logs] == ["internal error in probe"]


async def test_result_with_old_settings_is_not_served_again() -> None:
    upstream = ProbedUpstream(live_streams("a"))
    assert (await upstream.probe()).up
    upstream.scheduled = PolledUpstream().coordinator
    assert (await upstream.probe()).up
    assert [platform.polls for platform in upstream.built] == [1, 1]
    await upstream.probes.close()


async def test_result_is_joined_with_the_states_of_other_upstreams() -> None:
    upstream = ProbedUpstream(live_streams("a"))
    probes = OnDemandPolls(
        lambda _: upstream.scheduled,
        upstream._build,
        upstream.clock,
        lambda state: msgspec.structs.replace(state, version=f"joined {len(state.streams)}"),
    )
    assert (await probes.poll("u")).version == "joined 1"
    await probes.close()
