"""Reports on groups and upstreams: several streams together."""

from __future__ import annotations

from typing import Any

import pytest

from exporter.model import Reason, Status
from exporter.reports.presentation import markdown
from exporter.reports.recorder import SUSPENDED
from exporter.reports.timeline import StreamKey
from tests.reports.recording import BEGIN, EDGE, EXPECTED_BITRATE, Recording, stream

MAIN, BACKUP = "main", "backup"
KEYS = "live_minutes", "off_air_minutes", "unknown_minutes", "not_recorded_minutes"


def both(main: bool | None, backup: bool | None, **facts: Any) -> tuple[Any, Any]:
    return stream(MAIN, live=main, **facts), stream(BACKUP, live=backup, expected=None)


def picked(entry: dict[str, Any], *keys: str) -> tuple[Any, ...]:
    return tuple(entry.get(key) for key in keys)


def lived(made: Recording) -> None:
    """Go through all combinations of two streams."""
    made.minutes(10, *both(True, True))
    made.minutes(10, *both(False, True))
    made.minutes(10, *both(None, True))
    made.minutes(10, *both(False, False))
    made.minutes(10, *both(False, None))
    made.minutes(10, *both(None, None))


@pytest.mark.parametrize(("needed", "minutes"), [(1, (30.0, 10.0, 20.0, 0.0)), (2, (10.0, 30.0, 20.0, 0.0))])
def test_group_is_live_while_enough_members_are(needed: int, minutes: tuple[float, ...]) -> None:
    made = Recording()
    lived(made)
    assert picked(made.entry(MAIN, BACKUP, group=needed), *KEYS) == minutes


def test_expectation_of_a_group_is_unknown_until_it_is_recorded() -> None:
    made = Recording()
    made.minutes(10, *both(False, False))
    made.publish_group(expected=True)
    made.minutes(20)
    entry = made.entry(MAIN, BACKUP, group=1)
    assert picked(entry, "expected_minutes", "off_air_minutes") == (20.0, 30.0)
    assert [incident["start"] for incident in entry["incidents"]] == ["2026-12-06T20:10:00Z"]
    assert "expected_minutes" not in made.entry(MAIN, BACKUP, group=1, end=10)


def test_expectation_of_a_group_does_not_depend_on_its_members() -> None:
    made = Recording()
    made.publish_group(expected=False)
    made.minutes(10, *both(False, False))
    made.publish_group(expected=True)
    made.minutes(5, *both(False, False, expected=False))
    made.publish_group(expected=None)
    made.minutes(7, *both(False, False))
    entry = made.entry(MAIN, BACKUP, group=1)
    assert (entry["expected_minutes"], entry["off_air_while_expected_minutes"]) == (5.0, 5.0)
    assert [incident["minutes"] for incident in entry["incidents"]] == [5.0]


def test_expectation_of_a_group_is_unknown_while_the_exporter_is_suspended() -> None:
    made = Recording()
    made.publish_group(expected=True)
    made.minutes(10, *both(True, True))
    made.recorder.mark_unknown(made.clock.monotonic() - 240, SUSPENDED)
    assert made.entry(MAIN, BACKUP, group=1)["expected_minutes"] == 6.0


def test_incident_of_a_group_names_the_members_in_order() -> None:
    made = Recording()
    made.publish_group(expected=True)
    made.minutes(10, *both(True, True))
    made.minutes(10, *both(False, True))
    made.publish(stream(MAIN, live=False), stream(BACKUP, live=False, expected=None, status=Status.ERROR))
    made.minutes(5)
    made.minutes(5, *both(True, False))
    entry = made.entry(MAIN, BACKUP, group=1, roles=("main", "backup"))
    (incident,) = entry["incidents"]
    assert picked(incident, "start", "minutes") == ("2026-12-06T20:20:00Z", 5.0)
    assert [picked(cause, "stream", "since", "cause") for cause in incident["causes"]] == [
        (MAIN, "2026-12-06T20:10:00Z", "status idle"),
        (BACKUP, "2026-12-06T20:20:00Z", "status error"),
    ]
    assert [picked(row, "stream", "role", "live_minutes") for row in entry["streams"]] == [
        (MAIN, "main", 15.0),
        (BACKUP, "backup", 20.0),
    ]
    assert (entry["group"], entry["needed_streams"], entry["stream_count"]) == ("final", 1, 2)


def test_member_that_fails_again_in_the_same_incident_is_a_further_cause() -> None:
    made = Recording()
    made.publish_group(expected=True)
    made.minutes(10, *both(False, True))
    made.minutes(10, *both(True, False))
    made.minutes(10, *both(False, False))
    entry = made.entry(MAIN, BACKUP, group=2)
    (incident,) = entry["incidents"]
    assert [picked(cause, "stream", "since") for cause in incident["causes"]] == [
        (MAIN, "2026-12-06T20:00:00Z"),
        (BACKUP, "2026-12-06T20:10:00Z"),
        (MAIN, "2026-12-06T20:20:00Z"),
    ]


def test_member_without_data_can_decide_that_the_group_is_unknown() -> None:
    made = Recording()
    made.minutes(10, stream(MAIN, live=False))
    entry = made.entry(MAIN, "elsewhere/other", group=1, start=-10)
    assert picked(entry, *KEYS) == (None, None, 10.0, 10.0)
    assert picked(made.entry(MAIN, "elsewhere/other", group=2), *KEYS) == (0.0, 10.0, 0.0, 0.0)


def test_members_of_several_upstreams_are_taken_together() -> None:
    made = Recording()
    made.configure("a", "second/b", upstreams=[EDGE, "second"])
    made.publish_group(expected=True)
    made.publish(stream("a", viewers=10))
    made.minutes(10, stream("b", upstream="second", viewers=5), name="second")
    made.publish(stream("a"), answering=False, reason=Reason.CONNECT)
    made.minutes(10, stream("b", upstream="second", live=False), name="second")
    entry = made.entry("a", "second/b", group=1)
    assert picked(entry, *KEYS) == (10.0, 0.0, 10.0, 0.0)
    assert entry["incidents"][0]["causes"][0]["cause"] == "upstream is not answering (connect)"
    assert entry["peak_viewers"]["viewers"] == 15


def test_peak_of_a_group_is_the_highest_sum_at_the_same_time() -> None:
    made = Recording()
    made.configure(MAIN, BACKUP)
    for main, backup in ((100, 1), (50, 50), (10, 95), (10, None)):
        made.minutes(5, stream(MAIN, viewers=main), stream(BACKUP, viewers=backup))
    entry = made.entry(MAIN, BACKUP, group=1)
    assert picked(entry["peak_viewers"], "viewers", "at") == (105, "2026-12-06T20:10:00Z")
    assert [row["peak_viewers"]["viewers"] for row in entry["streams"]] == [100, 95]


@pytest.mark.parametrize("facts", [{"group": 1}, {"of_upstream": True}])
def test_peak_is_the_sum_of_the_streams_whose_number_is_known(facts: dict[str, Any]) -> None:
    made = Recording()
    made.configure(MAIN, BACKUP)
    made.minutes(5, stream(MAIN, viewers=100), stream(BACKUP, viewers=None))
    text = markdown(made.report(MAIN, BACKUP, **facts))
    assert "Peak viewers: 100 at 2026-12-06 20:00, sum of the streams with a known number\n" in text


def test_viewers_of_a_group_are_forgotten_when_its_members_change() -> None:
    made = Recording()
    made.configure(MAIN, BACKUP)
    made.minutes(10, stream(MAIN, viewers=100), stream(BACKUP, viewers=100))
    made.configure(BACKUP, MAIN, "third")
    made.minutes(10, stream(MAIN, viewers=10), stream(BACKUP, viewers=20), stream("third", viewers=5))
    peak = made.entry(MAIN, BACKUP, "third", group=1)["peak_viewers"]
    assert picked(peak, "viewers", "recorded_since") == (35, "2026-12-06T20:10:00Z")
    made.configure(BACKUP, MAIN, "third")
    assert made.entry(MAIN, BACKUP, "third", group=1)["peak_viewers"]["viewers"] == 35, "the same group"


def test_restarts_and_low_bitrate_of_a_group_are_those_of_any_member() -> None:
    made = Recording()
    low = 0.5 * EXPECTED_BITRATE
    made.minutes(10, stream(MAIN, restarts=0, bitrate=EXPECTED_BITRATE), stream(BACKUP, restarts=2, bitrate=low))
    made.minutes(10, stream(MAIN, restarts=1, bitrate=EXPECTED_BITRATE), stream(BACKUP, restarts=4, bitrate=None))
    entry = made.entry(MAIN, BACKUP, group=1)
    assert picked(entry, "restarts", "below_bitrate_threshold_minutes") == (3, 10.0)


def test_figures_of_an_upstream_are_the_sums_of_its_streams_worst_first() -> None:
    made = Recording()
    made.minutes(10, stream("a", viewers=1), stream("b", viewers=2), stream("c", viewers=3))
    made.minutes(10, stream("a"), stream("b", live=False), stream("c", live=None))
    entry = made.entry(of_upstream=True)
    assert picked(entry, *KEYS, "expected_minutes") == (40.0, 10.0, 10.0, 0.0, 60.0)
    assert [row["stream"] for row in entry["streams"]] == ["b", "c", "a"]
    assert [incident["causes"][0]["stream"] for incident in entry["incidents"]] == ["b", "c"]
    assert entry["peak_viewers"]["viewers"] == 6
    assert [row["peak_viewers"]["viewers"] for row in entry["streams"]] == [2, 3, 1]
    assert entry["upstream"] == EDGE
    assert "stream" not in entry


def test_names_cannot_break_the_markdown() -> None:
    made = Recording()
    names = ["a|b", "tick`<img src=x onerror=1>", "line\nbreak", "# heading"]
    made.publish_group(expected=True)
    made.minutes(10, *(stream(name, live=False) for name in names))
    text = markdown(made.report(*(f"{EDGE}/{name}" for name in names), group=1, roles=("| x |\n",)))
    assert "`edge/a\\|b`" in text
    assert "`` edge/tick`<img src=x onerror=1> ``" in text
    assert "`edge/line\N{REPLACEMENT CHARACTER}break`" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    widths = {line.replace("\\|", "").count("|") for line in tables}
    assert widths == {3, 7, 11}, "each line of a table has as many cells as its heading"


def test_group_of_a_moment_before_the_recording_says_so() -> None:
    made = Recording()
    made.minutes(10, *both(True, True))
    text = markdown(made.report(MAIN, BACKUP, group=1, start=-30, end=-20))
    assert "Nothing is recorded in this range. Recording began at 2026-12-06 20:00:00" in text
    now = made.clock.instant()
    assert made.recorder.started_at(now) == BEGIN
    assert next(made.recorder.read([StreamKey("no", "such")], now)).segments == ()
