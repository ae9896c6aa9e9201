"""Random lifecycles of streams on every platform: nothing is served that the responses do not prove.

Every registered platform takes part; its recording must have the key ``evidence``.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from exporter.model import Reason, UpstreamState
from exporter.platforms.testing import FakeClock, PolledUpstream, serve_responses
from tests.evidence.lifecycle_model import WITHDRAWN_FAMILIES, Knowledge, Known, Served, shortcomings, violations
from tests.evidence.lifecycle_world import Fault, Flag, Poll, Server
from tests.faults.fuzzed_upstream import exposed
from tests.faults.health_facts import health_paths
from tests.platforms.recordings import PlatformRecording, main_recordings

EXAMPLES_OF_THE_LONG_RUN = 1000
EXAMPLES_PER_SEQUENCE = 6
"""A sequence of events takes as long as several examples of other tests."""
STEPS = 30
INTERVAL, STALE_AFTER = 15.0, 60.0
ENDED_TTL = "30d"
NUMBERS = st.integers(0, 3)
AFFECTED = st.frozensets(NUMBERS, min_size=1)
ORDERS = st.permutations([0, 1, 2, 3])
PAUSES = st.sampled_from([INTERVAL, INTERVAL, INTERVAL, 2.0, 45.0, STALE_AFTER + 1, 200.0])
STEPS_OF_THE_CLOCK = st.sampled_from([-3600.0, -30.0, 30.0, 3600.0, 86_400.0])


class Lifecycle(RuleBasedStateMachine):
    """Lifecycles of a few streams, and an exporter that polls them."""

    recording: PlatformRecording

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self.clock = FakeClock(self.recording.recording.recorded_at, auto_advance=True)
        self.server = Server(self.recording, self.clock, health_paths(self.recording))
        self._url = self._run(self._stack.enter_async_context(serve_responses(self.server, self.clock)))
        self._order = list(range(len(self.server.streams)))
        self._started: list[PolledUpstream] = []
        self._start()

    def teardown(self) -> None:
        if self.state is not None:
            exposed(self.state)
        for upstream in self._started:
            self._run(upstream.close())
        self._run(self._stack.aclose())
        self._runner.close()

    def _run(self, work: Any) -> Any:
        return self._runner.run(work)

    def _make_upstream(self) -> PolledUpstream:
        given = {**self.recording.recording.settings, "interval": "15s", "stale_after": "60s"}
        recording = replace(self.recording.recording, settings={**given, "ended_ttl": ENDED_TTL, "health_grace": 0})
        upstream = PolledUpstream(self.recording.platform, recording, self._url, self.clock, per_stream=False)
        self._started.append(upstream)
        return upstream

    def _start(self) -> None:
        self.upstream = self._make_upstream()
        self.state: UpstreamState | None = None
        self.knowledge = Knowledge(
            INTERVAL,
            self.recording.platform.heartbeat_limit_seconds,
            {stream.number: Known() for stream in self.server.streams},
        )
        self.served: Served | None = None

    # -- events of the streams ----------------------------------------------------------------------------------------

    @initialize(
        live=st.lists(NUMBERS, max_size=4, unique=True), names=st.lists(st.integers(0, 2), min_size=4, max_size=4)
    )
    def begin(self, live: list[int], names: list[int]) -> None:
        for stream in self.server.streams:
            stream.name = names[stream.number]
            stream.heartbeat = self.server.now - 7.0
            if stream.number in live:
                stream.flag, stream.is_listed, stream.is_moving = Flag.LIVE, True, True

    def _stream(self, number: int) -> Any:
        self.server.advance()
        return self.server.streams[number % len(self.server.streams)]

    @rule(number=NUMBERS)
    def publish(self, number: int) -> None:
        stream = self._stream(number)
        stream.flag, stream.is_listed, stream.is_moving = Flag.LIVE, True, True

    @rule(number=NUMBERS)
    def end(self, number: int) -> None:
        stream = self._stream(number)
        stream.flag, stream.is_moving = Flag.OFF_AIR, False

    @rule(number=NUMBERS)
    def leave(self, number: int) -> None:
        stream = self._stream(number)
        stream.is_listed = stream.is_moving = False

    @rule(number=NUMBERS, is_moving=st.booleans())
    def freeze_or_move(self, number: int, *, is_moving: bool) -> None:
        """Stop or start the media, regardless of the flag."""
        self._stream(number).is_moving = is_moving

    @rule()
    def freeze_everything(self) -> None:
        """Freeze the platform's statistics after the totals were seen moving."""
        for stream in self.server.streams:
            self.publish(stream.number)
        self.poll_for_a_while(3)
        for stream in self.server.streams:
            self.freeze_or_move(stream.number, is_moving=False)
        self.poll_for_a_while(6)

    @rule(number=NUMBERS, flag=st.sampled_from(Flag))
    def flag(self, number: int, flag: Flag) -> None:
        """Change the flag, regardless of the media."""
        self._stream(number).flag = flag

    # -- actions of the exporter ---------------------------------------------------------------------------------------

    @rule(pause=PAUSES, order=ORDERS)
    def poll(self, pause: float, order: list[int]) -> None:
        self._poll(Poll(order=self._existing(order)), pause)

    @rule(fault=st.sampled_from(Fault), affected=AFFECTED, variant=st.integers(0, 23), order=ORDERS, pause=PAUSES)
    def poll_with_fault(
        self, fault: Fault, affected: frozenset[int], variant: int, order: list[int], pause: float
    ) -> None:
        if fault in self.server.faults():
            self._poll(Poll(fault, affected, variant, self._existing(order)), pause)

    def _existing(self, order: list[int]) -> list[int]:
        return [number for number in order if number in self._order]

    @rule(times=st.integers(2, 6))
    def poll_for_a_while(self, times: int) -> None:
        for _ in range(times):
            self._poll(Poll(order=self._order), INTERVAL * 3)

    @rule(seconds=st.sampled_from([5.0, STALE_AFTER / 2, STALE_AFTER + 1]))
    def wait(self, seconds: float) -> None:
        """Do not poll: facts are served until they are stale."""
        self.clock.advance(seconds)
        self._refresh()
        if self.state is not None:
            self._check_unchanged(self._read(), set(self.knowledge.streams))

    @rule(seconds=STEPS_OF_THE_CLOCK)
    def set_the_clock(self, seconds: float) -> None:
        if self.state is None:
            return
        self._refresh()
        before = self.upstream.text()
        self.clock.step(seconds)
        self._refresh()
        assert self.upstream.text() == before, "stepping the exporter's wall clock must not change anything"

    @rule(seconds=STEPS_OF_THE_CLOCK)
    def set_the_platforms_clock(self, seconds: float) -> None:
        self.server.advance()
        self.server.ahead = seconds if self.server.ahead == 0 else 0.0

    @rule(order=ORDERS)
    def restart(self, order: list[int]) -> None:
        """Restart the exporter, and compare its labels with a replica that gets the rows in reverse order."""
        order = self._existing(order)
        self._start()
        self._poll(Poll(order=order), 1.0)
        replica = self._make_upstream()
        self.server.begin(Poll(order=order[::-1]))
        state = self._run(replica.poll())
        assert self.state is not None
        assert _labels(state) == _labels(self.state)

    # -- invariants ---------------------------------------------------------------------------------------------------

    def _refresh(self) -> None:
        self._run(self.upstream._coordinator.refresh())
        self.state = next(iter(self.upstream._store.states()), None)

    def _poll(self, poll: Poll, pause: float) -> None:
        self.server.begin(poll)
        self.state = self._run(self.upstream.poll(after=pause))
        assert self.state is not None
        assert self.state.last_error_reason is not Reason.INTERNAL
        reported, now = self.server.reported, self.clock.monotonic()
        assert self.state.up is reported.is_usable, self.state.last_error
        self.knowledge.learn(reported, now, is_calm=poll.fault is Fault.NONE)
        served = self._read()
        unreported = {number for number, known in self.knowledge.streams.items() if known.known_at != now}
        self._check_unchanged(served, unreported)
        self.knowledge.note_names({s.report.id: s.report.name for s in self.state.streams if s.report.id})
        self._check(served, now)
        self.served = served

    def _read(self) -> Served:
        """Read what is served; streams without facts are identified by their previous labels."""
        assert self.state is not None
        before = {} if self.served is None else {label: id_ for id_, label in self.served.labels.items()}
        ids = {}
        for stream in self.state.streams:
            label = stream.identity.stream
            ids[label] = stream.report.id or before.get(label, label)
        assert len(ids) == len(self.state.streams), "two streams have the same label"
        return Served.of(self.upstream.text(), ids)

    def _number(self, id_: str) -> int | None:
        """Return the number of a stream; None if it is only in the recording's settings."""
        if self.server.is_list:
            number = id_.rpartition("-")[2]
            return int(number) if number.isdigit() and int(number) in self._order else None
        requests = list(self.recording.rows.rows)
        return next((number for number in self._order if requests[number].endswith(id_)), None)

    def _check_unchanged(self, served: Served, unreported: set[int]) -> None:
        """Check that series of unreported streams are unchanged, or withdrawn once stale."""
        assert self.state is not None
        interval = self.state.poll_interval_seconds
        stale_after = max(STALE_AFTER, 3 * interval if interval > INTERVAL else 0.0)
        now = self.clock.monotonic()
        for id_ in served.series:
            number = self._number(id_)
            if number is None or number not in unreported or self.knowledge.streams[number].is_unsure:
                continue
            known_at = self.knowledge.streams[number].known_at
            age = 0.0 if known_at is None else now - known_at
            is_withdrawn = served.status(id_) == "unknown" and "stream_live" not in served.families(id_)
            if known_at is not None and age >= stale_after:
                assert served.families(id_) <= WITHDRAWN_FAMILIES, (id_, age, served.families(id_) - WITHDRAWN_FAMILIES)
                assert served.status(id_) == "unknown", (id_, age)
            elif self.served is not None and id_ in self.served.series and not (is_withdrawn and age >= STALE_AFTER):
                assert served.series[id_] == self.served.series[id_], (id_, age)

    def _check(self, served: Served, now: float) -> None:
        for id_ in served.series:
            number = self._number(id_)
            if number is None:
                continue
            known = self.knowledge.streams[number]
            assert not [*violations(self.knowledge, known, served, id_, now)], id_
            assert not [*shortcomings(self.knowledge, known, served, id_, now)], id_
            if id_ in self.knowledge.names and id_ not in self._configured():
                assert served.labels[id_] == self.knowledge.label(id_)

    def _configured(self) -> set[str]:
        return {stream.id for stream in self.upstream.settings.configured_streams()}


def _labels(state: UpstreamState) -> dict[str, str]:
    """Return the labels of the reported streams by id."""
    return {stream.report.id: stream.identity.stream for stream in state.streams if stream.report.id}


def run_lifecycles(platform: str, examples: int) -> None:
    """Run this many random sequences of events."""
    machine = type(f"Lifecycle_{platform}", (Lifecycle,), {"recording": main_recordings()[platform]})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples, stateful_step_count=STEPS, deadline=None)
    )


@pytest.mark.slow
@pytest.mark.parametrize("platform", sorted(main_recordings()))
def test_only_proven_facts_are_served_over_random_lifecycles(platform: str) -> None:
    run_lifecycles(platform, max(2, settings().max_examples // EXAMPLES_PER_SEQUENCE))


@pytest.mark.soak
@pytest.mark.parametrize("platform", sorted(main_recordings()))
def test_only_proven_facts_are_served_over_long_lifecycles(platform: str) -> None:
    run_lifecycles(platform, EXAMPLES_OF_THE_LONG_RUN)
