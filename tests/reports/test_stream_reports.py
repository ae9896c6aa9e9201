"""Reports on single streams: what is counted as live, off air, unknown or not recorded."""

from __future__ import annotations

from typing import Any

import pytest

from exporter.model import HealthReason, Reason, Status
from exporter.reports.presentation import markdown
from exporter.reports.recorder import SUSPENDED
from exporter.reports.timeline import StreamKey
from tests.reports.recording import EDGE, EXPECTED_BITRATE, Recording, stream

ON, OFF, UNKNOWN = stream(), stream(live=False), stream(live=None)


def picked(entry: dict[str, Any], *keys: str) -> tuple[Any, ...]:
    return tuple(entry.get(key) for key in keys)


def test_minutes_in_each_state_are_counted() -> None:
    made = Recording()
    made.minutes(30, ON)
    made.minutes(10, OFF)
    made.minutes(5, UNKNOWN)
    made.minutes(15, stream(expected=False))
    entry = made.entry()
    states = picked(entry, "live_minutes", "off_air_minutes", "unknown_minutes", "not_recorded_minutes")
    assert states == (45.0, 10.0, 5.0, 0.0)
    keys = "live_while_expected_minutes", "off_air_while_expected_minutes", "unknown_while_expected_minutes"
    assert picked(entry, "expected_minutes", *keys) == (45.0, 30.0, 10.0, 5.0)
    assert (entry["upstream"], entry["stream"]) == (EDGE, "main")
    assert (entry["from"], entry["to"]) == ("2026-12-06T20:00:00Z", "2026-12-06T21:00:00Z")
    assert entry["recorded_since"] == entry["recording_started_at"] == "2026-12-06T20:00:00Z"


def test_range_is_cut_out_of_what_is_recorded() -> None:
    made = Recording()
    made.minutes(30, ON)
    made.minutes(30, OFF)
    entry = made.entry(start=20, end=35)
    assert picked(entry, "live_minutes", "off_air_minutes", "not_recorded_minutes") == (10.0, 5.0, 0.0)


def test_minutes_before_the_recording_and_in_the_future_are_not_recorded() -> None:
    made = Recording()
    made.minutes(10)
    made.minutes(10, OFF)
    entry = made.entry(start=-10, end=30)
    assert picked(entry, "off_air_minutes", "unknown_minutes", "not_recorded_minutes") == (10.0, 0.0, 30.0)
    assert entry["recorded_since"] == "2026-12-06T20:10:00Z"
    assert entry["recording_started_at"] == "2026-12-06T20:00:00Z"


def test_stream_that_is_not_recorded_has_no_figures() -> None:
    made = Recording()
    made.minutes(60)
    entry = made.entry()
    assert entry["not_recorded_minutes"] == 60.0
    assert entry.keys() == {
        "upstream", "stream", "from", "to", "generated_at", "recording_started_at", "unknown_minutes",
        "not_recorded_minutes", "expectation_unknown_minutes", "bitrate_unknown_minutes",
    }  # fmt: skip


def test_unknown_facts_are_absent() -> None:
    made = Recording()
    made.minutes(60, stream(live=None, expected=None))
    entry = made.entry()
    assert entry["unknown_minutes"] == 60.0
    absent = {
        "expected_minutes", "live_minutes", "off_air_minutes", "playable_minutes", "below_bitrate_threshold_minutes",
        "restarts", "peak_viewers", "incidents", "incident_count",
    }  # fmt: skip
    assert not absent & entry.keys()


def test_state_is_unknown_while_the_upstream_is_not_answering() -> None:
    made = Recording()
    made.minutes(10, ON)
    made.minutes(20, ON, answering=False, reason=Reason.TIMEOUT)
    made.minutes(30, ON)
    entry = made.entry()
    assert picked(entry, "live_minutes", "unknown_minutes", "expected_minutes") == (40.0, 20.0, 60.0)
    (incident,) = entry["incidents"]
    assert picked(incident, "start", "minutes", "off_air_minutes", "unknown_minutes") == (
        "2026-12-06T20:10:00Z",
        20.0,
        0.0,
        20.0,
    )
    assert incident["causes"][0]["cause"] == "upstream is not answering (timeout)"


def test_incident_continues_while_the_state_is_unknown() -> None:
    made = Recording()
    made.minutes(10, stream(reasons=[HealthReason.BITRATE_LOW, HealthReason.SILENT]))
    made.minutes(5, stream(live=False, status=Status.ERROR))
    made.minutes(5, stream(live=None))
    made.minutes(5, OFF)
    made.minutes(5, ON)
    made.minutes(5, OFF)
    first, second = made.entry()["incidents"]
    assert picked(first, "start", "end", "minutes", "off_air_minutes", "unknown_minutes", "ongoing") == (
        "2026-12-06T20:10:00Z",
        "2026-12-06T20:25:00Z",
        15.0,
        10.0,
        5.0,
        False,
    )
    assert [cause["cause"] for cause in first["causes"]] == ["status error; health before: bitrate_low, silent"]
    assert (second["start"], second["ongoing"]) == ("2026-12-06T20:30:00Z", True)
    assert second["causes"][0] == {
        "upstream": EDGE, "stream": "main", "since": "2026-12-06T20:30:00Z", "cause": "status idle",
    }  # fmt: skip


def test_incident_is_ongoing_only_if_it_lasts_until_now() -> None:
    made = Recording()
    made.minutes(10, ON)
    made.minutes(10, OFF)
    made.minutes(10, ON)
    made.minutes(10, OFF)

    def last(**facts: float) -> tuple[Any, ...]:
        incident = made.entry(**facts)["incidents"][-1]
        return picked(incident, "start", "end", "ongoing", "continues_after_range")

    assert last() == ("2026-12-06T20:30:00Z", "2026-12-06T20:40:00Z", True, False)
    assert last(end=60) == ("2026-12-06T20:30:00Z", "2026-12-06T20:40:00Z", True, False), "the future is unknown"
    assert last(end=35) == ("2026-12-06T20:30:00Z", "2026-12-06T20:35:00Z", False, True)
    assert last(end=15) == ("2026-12-06T20:10:00Z", "2026-12-06T20:15:00Z", False, True)
    assert last(end=20) == ("2026-12-06T20:10:00Z", "2026-12-06T20:20:00Z", False, False)
    assert last(end=25) == ("2026-12-06T20:10:00Z", "2026-12-06T20:20:00Z", False, False)
    assert "| 2026-12-06 20:15:00 (continues after the range) | 5.00 |" in markdown(made.report(end=15))
    made.publish(stream("other"))
    made.minutes(10)
    assert last() == ("2026-12-06T20:30:00Z", "2026-12-06T20:40:00Z", False, False), "no longer served"


def test_restart_at_the_end_of_a_range_counts_in_the_next_one() -> None:
    made = Recording()
    made.minutes(10, stream(restarts=1))
    made.minutes(10, stream(restarts=2))
    assert (made.entry(end=10)["restarts"], made.entry(start=10)["restarts"]) == (0, 1)


def test_off_air_stream_that_is_not_expected_is_no_incident() -> None:
    made = Recording()
    made.minutes(10, stream(live=False, expected=False))
    made.minutes(10, OFF)
    made.minutes(10, stream(live=False, expected=None))
    entry = made.entry()
    (incident,) = entry["incidents"]
    assert picked(incident, "start", "end", "minutes") == ("2026-12-06T20:10:00Z", "2026-12-06T20:20:00Z", 10.0)
    assert incident["causes"][0]["since"] == "2026-12-06T20:00:00Z", "off air for longer than expected"
    assert picked(entry, "expected_minutes", "off_air_minutes", "incident_count") == (10.0, 30.0, 1)


def test_restarts_in_the_range_are_counted() -> None:
    made = Recording()
    made.minutes(10, stream(restarts=3))
    made.minutes(10, stream(restarts=4))
    made.minutes(10, stream(restarts=6))
    assert made.entry()["restarts"] == 3, "restarts before the first state are not counted"
    assert made.entry(start=15)["restarts"] == 2
    assert made.entry(start=10, end=20)["restarts"] == 1
    assert made.entry(start=21)["restarts"] == 0
    made.minutes(10, stream(live=None))
    made.minutes(10, stream(restarts=7))
    assert made.entry()["restarts"] == 4, "counted when seen, though it happened while the state was unknown"
    made.minutes(10, stream(restarts=0))
    made.minutes(10, stream(restarts=1))
    assert made.entry()["restarts"] == 5, "the counter starts again after a reload"


def test_report_says_for_how_long_the_expectation_and_the_bitrate_are_unknown() -> None:
    made = Recording()
    made.minutes(10, stream(expected=True, bitrate=EXPECTED_BITRATE))
    made.minutes(20, stream(expected=None, bitrate=EXPECTED_BITRATE))
    made.minutes(5, stream(expected=None))
    made.minutes(25, stream(expected=False, live=False))
    entry = made.entry()
    assert picked(entry, "expectation_unknown_minutes", "bitrate_unknown_minutes") == (25.0, 5.0)
    text = markdown(made.report())
    assert "| Expectation unknown | 25.00 |\n" in text
    assert "| Live with unknown bitrate | 5.00 |\n" in text
    assert "## Incidents\n\nNone in the 35.00 minutes for which the expectation is known.\n" in text
    assert "None in the 10.00 minutes for which" in markdown(made.report(start=-10, end=10)), "10 of 20 are recorded"
    assert "## Incidents\n\nNone.\n" in markdown(made.report(end=10))
    nothing = markdown(made.report(start=10, end=35))
    assert "## Incidents\n\nUnknown: no data says when this should have been live.\n" in nothing


def test_number_of_restarts_is_known_as_soon_as_the_counter_is() -> None:
    made = Recording()
    made.minutes(10, stream(restarts=None))
    assert "restarts" not in made.entry()
    made.minutes(10, stream(restarts=3))
    assert made.entry()["restarts"] == 0
    assert "restarts" not in made.entry(end=10)
    made.minutes(10, stream(restarts=None))
    made.minutes(10, stream(restarts=5))
    assert made.entry()["restarts"] == 2


@pytest.mark.parametrize(("override", "minutes"), [(None, 20.0), (0.5, 10.0), (1.0, 30.0)])
def test_minutes_below_the_bitrate_threshold_use_the_threshold_in_force(override: float | None, minutes: float) -> None:
    made = Recording()
    for share in (0.9, 0.7, 0.4, 1.1):
        made.minutes(10, stream(bitrate=share * EXPECTED_BITRATE, threshold=override))
    made.minutes(10, OFF)
    assert made.entry()["below_bitrate_threshold_minutes"] == minutes


def test_threshold_changes_with_the_configuration() -> None:
    made = Recording()
    low = stream(bitrate=0.7 * EXPECTED_BITRATE)
    made.minutes(10, low, threshold=0.75)
    made.minutes(10, low, threshold=0.5)
    assert made.entry()["below_bitrate_threshold_minutes"] == 10.0


@pytest.mark.parametrize("facts", [{"bitrate": None}, {"bitrate": 1.0, "expected_bitrate": None}])
def test_bitrate_minutes_are_absent_without_a_bitrate_or_an_expectation(facts: dict[str, Any]) -> None:
    made = Recording()
    made.minutes(10, stream(**facts))
    made.minutes(10, OFF)
    assert "below_bitrate_threshold_minutes" not in made.entry()


def test_peak_is_the_highest_number_of_viewers_in_the_range() -> None:
    made = Recording()
    made.minutes(10.5, stream(viewers=5))
    made.minutes(0.25, stream(viewers=900))
    made.minutes(9.25, stream(viewers=40))
    made.minutes(10, stream(viewers=70))
    made.minutes(10, OFF)
    peak = made.entry()["peak_viewers"]
    assert picked(peak, "viewers", "at") == (900, "2026-12-06T20:10:00Z")
    assert made.entry(end=10)["peak_viewers"]["viewers"] == 5
    assert made.entry(start=11, end=20)["peak_viewers"]["viewers"] == 40
    assert made.entry(start=15)["peak_viewers"] == {
        "viewers": 70,
        "at": "2026-12-06T20:20:00Z",
        "recorded_since": "2026-12-06T20:15:00Z",
    }
    assert "peak_viewers" not in made.entry(start=31), "an off-air stream has no viewers"


def test_stream_that_is_no_longer_served_is_not_recorded() -> None:
    made = Recording()
    made.minutes(10, ON, stream("other"))
    made.minutes(10, stream("other"))
    made.minutes(10, ON)
    entry = made.entry()
    assert picked(entry, "live_minutes", "not_recorded_minutes") == (20.0, 10.0)


def test_removed_upstream_keeps_its_history() -> None:
    made = Recording()
    made.minutes(10, ON)
    made.configure(upstreams=["other"])
    made.minutes(10)
    assert picked(made.entry(), "live_minutes", "not_recorded_minutes") == (10.0, 10.0)


def test_time_while_the_exporter_was_suspended_is_unknown() -> None:
    made = Recording()
    made.minutes(10, stream(viewers=7))
    suspended_at = made.clock.monotonic()
    made.minutes(30)
    made.recorder.mark_unknown(suspended_at, SUSPENDED)
    made.minutes(20, stream(viewers=7))
    entry = made.entry()
    assert picked(entry, "live_minutes", "unknown_minutes", "expected_minutes") == (30.0, 30.0, 30.0)
    assert "peak_viewers" not in made.entry(start=15, end=35)


@pytest.mark.parametrize("step", [-7200.0, -90.0, 90.0, 7200.0])
def test_clock_step_changes_no_duration(step: float) -> None:
    made = Recording()
    made.minutes(30, ON)
    made.minutes(10, OFF)
    made.clock.step(step)
    made.minutes(20, ON)
    entry = made.entry(start=step / 60)
    assert picked(entry, "live_minutes", "off_air_minutes", "not_recorded_minutes") == (50.0, 10.0, 0.0)
    (incident,) = entry["incidents"]
    assert incident["minutes"] == 10.0


def test_only_configured_expected_and_grouped_streams_are_recorded() -> None:
    made = Recording()
    found = stream("found", configured=False, expected=None)
    made.minutes(10, ON, found)
    assert [key.stream for key in made.recorder.recorded_streams(EDGE)] == ["main"]
    made.recorder.watch(StreamKey(EDGE, "found"))
    made.minutes(10, ON, found)
    assert picked(made.entry("found"), "live_minutes", "not_recorded_minutes") == (10.0, 10.0)
    made.configure("member")
    made.minutes(10, ON, stream("member", configured=False, expected=None))
    assert made.entry("member")["live_minutes"] == 10.0
