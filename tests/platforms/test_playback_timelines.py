"""Recorded HLS streams on real servers, replayed: the same states and alerts as when they were recorded.

``make soak PART=playback`` records them (``tests/real/playback_timeline.py``).
"""

from __future__ import annotations

import pytest

from tests.platforms.playback_replay import replay
from tests.real.playback_scenarios import SCENARIOS, Scenario
from tests.real.playback_timeline import PAGE, WHOLE_SECONDS, expected_alerts, read_measured, with_table

SLACK = 20.0
"""A replay polls and evaluates at other times than the recorded run."""
UNKNOWN_SHARE = 0.25
"""Largest share of requests for what was not recorded: the replay may look at other segments, or at all of one."""
FIRST_POLLS = 3

by_name = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)


@by_name
async def test_replay_has_the_measured_states_and_exactly_the_expected_alerts(scenario: Scenario) -> None:
    measured, expected = read_measured()[scenario.name], expected_alerts(scenario)
    slack = SLACK + WHOLE_SECONDS * scenario.needs_whole_segments

    found = await replay(scenario)

    before = [state.get("stream_playable") for at, state in found.states if at < 0]
    after = [(at, state) for at, state in found.states if at >= 0]
    assert found.unknown_share <= UNKNOWN_SHARE
    assert set(before[FIRST_POLLS:]) == {1.0}
    if scenario.is_playable:
        assert {state.get("stream_playable") for _, state in after} == {1.0}
    assert scenario.holds(after[-1][1])
    if measured.state_seconds is not None:
        reached = next(at for at, state in after if scenario.holds(state))
        assert reached <= measured.state_seconds + slack
    assert set(found.alerts) == expected
    assert min(found.alerts.values(), default=1.0) > 0
    assert {name: at for name, at in found.alerts.items() if at > measured.sidecar[name] + slack} == {}


@by_name
def test_measured_alerts_are_the_expected_ones(scenario: Scenario) -> None:
    measured = read_measured()[scenario.name]
    assert set(measured.prometheus) == set(measured.sidecar) == expected_alerts(scenario)


def test_table_of_the_page_is_up_to_date() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert with_table(page) == page, "run: python -m tests.real.playback_timeline"
