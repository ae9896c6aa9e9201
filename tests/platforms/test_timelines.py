"""Recorded timelines of real servers, replayed: the same states and alerts as when they were recorded.

``make soak PART=platforms`` records them (``tests/real/platform_timeline.py``).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest

from exporter.alerting.evaluator import Evaluator, Phase
from exporter.alerting.rules.active_rules import rules_in_force
from exporter.config.alerting import AlertingSettings
from exporter.model import StreamState, UpstreamState
from exporter.platforms.registry import platforms
from exporter.platforms.testing import PolledUpstream, RecordedResponse, Recording, polled_upstream
from tests.real.platform_timeline import FOLDER, INTERVAL, LONG_FREEZE, ROOT, SETTINGS, SHORT_FREEZE, with_table

STEP = 5.0
"""Seconds between evaluations of the alert rules."""
SLACK = 2.0 * INTERVAL
"""A replay polls at other times than the recorded run."""
RUNS = sorted(file.stem for file in FOLDER.glob("*.json"))


class CurrentResponses(Mapping[str, Any]):
    """The responses of the present moment."""

    def __init__(self) -> None:
        self.bodies: Mapping[str, str | None] = {}

    def __getitem__(self, name: str) -> RecordedResponse:
        body = self.bodies[name]
        if body is None:
            return RecordedResponse(b"", 502)
        return RecordedResponse(body.encode(), content_type="application/json" if body[:1] == "{" else "text/xml")

    def __iter__(self) -> Iterator[str]:
        return iter(self.bodies)

    def __len__(self) -> int:
        return len(self.bodies)


@dataclass
class Replay:
    """What a replay served; times in seconds since its start."""

    states: list[tuple[float, StreamState | None]] = field(default_factory=list)
    firing: list[tuple[float, frozenset[str]]] = field(default_factory=list)
    events: list[tuple[float, str]] = field(default_factory=list)

    def event(self, name: str) -> tuple[float, float]:
        """Return when an event happened, and when the next one did."""
        index = next(i for i, (_, event) in enumerate(self.events) if event == name)
        following = self.events[index + 1 :]
        return self.events[index][0], following[0][0] if following else float("inf")

    def first(self, holds: Callable[[StreamState], bool], after: float) -> float:
        """Return when a state first held at or after this time."""
        return next((at for at, state in self.states if at >= after and state and holds(state)), float("inf"))


@cache
def replay(platform: str) -> Replay:
    return asyncio.run(_replay(platform))


async def _replay(platform: str) -> Replay:
    lines = [json.loads(line) for line in (FOLDER / f"{platform}.jsonl").read_text().splitlines()]
    polls = [line for line in lines if "responses" in line]
    found = Replay(events=[(line["at"], line["event"]) for line in lines if "event" in line])
    responses = CurrentResponses()
    evaluator = Evaluator(rules_in_force(AlertingSettings()))
    began = polls[0]["time"]
    recording = Recording(responses, SETTINGS[platform], began)
    async with polled_upstream(platforms()[platform], recording) as upstream:
        now = 0.0
        state: UpstreamState | None = None
        for poll in polls:
            at = poll["time"] - began
            while state is not None and at - now > STEP:
                upstream.clock.advance(STEP)
                now += STEP
                _evaluate(evaluator, upstream, state, found, polls[0]["at"] + now)
            responses.bodies = poll["responses"]
            state = await upstream.poll(after=at - now)
            now = at
            streams = list(state.streams)
            found.states.append((poll["at"], streams[0] if streams else None))
            _evaluate(evaluator, upstream, state, found, poll["at"])
    return found


def _evaluate(evaluator: Evaluator, upstream: PolledUpstream, state: UpstreamState, found: Replay, at: float) -> None:
    for _ in evaluator.evaluate(state, upstream.clock.instant()):
        pass
    found.firing.append(
        (at, frozenset(key.rule for key, alert in evaluator.alerts.items() if alert.phase is Phase.FIRING))
    )


def measured(platform: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{platform}.json").read_text())  # type: ignore[no-any-return]


RESULTS: Mapping[str, Callable[[StreamState], bool]] = {
    "live": lambda state: state.live is True,
    "live, one restart more": lambda state: state.live is True,
    "off air": lambda state: state.live is False,
    "live, bitrate 0": lambda state: state.live is True and state.report.ingest_bitrate_bytes_per_second == 0,
    "bitrate above 0": lambda state: (state.report.ingest_bitrate_bytes_per_second or 0) > 0,
    "1 viewer": lambda state: state.report.viewers == 1,
    "0 viewers": lambda state: state.report.viewers == 0,
}


@pytest.mark.parametrize("platform", RUNS)
def test_events_have_the_measured_results(platform: str) -> None:
    found = replay(platform)
    for event in measured(platform)["events"]:
        if event["state_seconds"] is None:
            continue
        at, _ = found.event(event["event"])
        seconds = found.first(RESULTS[event["wanted"]], at) - at
        assert seconds <= event["state_seconds"] + SLACK, event


@pytest.mark.parametrize("platform", RUNS)
def test_measured_alerts_fire(platform: str) -> None:
    found = replay(platform)
    for event in measured(platform)["events"]:
        if event["alert"]:
            at, _ = found.event(event["event"])
            fired = next((when for when, names in found.firing if when >= at and event["alert"] in names), float("inf"))
            assert fired - at <= event["alert_seconds"] + SLACK, event


@pytest.mark.parametrize("platform", RUNS)
def test_nothing_changes_in_ordinary_operation_and_in_a_short_freeze(platform: str) -> None:
    found = replay(platform)
    quiet = ["ordinary operation", "second encoder is refused", f"encoder sends nothing for {SHORT_FREEZE:.0f} s"]
    for name in quiet:
        begin, end = found.event(name)
        end = min(end, begin + (SHORT_FREEZE if "sends nothing" in name else end))
        states = [state for at, state in found.states if begin <= at <= end]
        assert states
        assert all(state is not None and state.live for state in states), name
        assert all(state is not None and state.report.ingest_bitrate_bytes_per_second for state in states), name
        assert {names for at, names in found.firing if begin <= at <= end} == {frozenset()}, name


@pytest.mark.parametrize("platform", RUNS)
def test_table_of_the_page_is_up_to_date(platform: str) -> None:
    page = (ROOT / "docs" / "platforms" / f"{platform}.md").read_text(encoding="utf-8")
    assert with_table(page, platform) == page, "run: python -m tests.real.platform_timeline"


def test_every_timeline_has_a_long_freeze() -> None:
    assert all(f"{LONG_FREEZE:.0f} s or more" in (FOLDER / f"{platform}.jsonl").read_text() for platform in RUNS)
