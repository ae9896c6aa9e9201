"""Random lives of streams: a report accounts for every second of its range, exactly once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple
from unittest import mock

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from exporter.reports import recorder as recorder_module
from exporter.reports.presentation import markdown, report_entry
from exporter.reports.recorder import KEPT_SECONDS, SUSPENDED, TRIM_SECONDS
from exporter.reports.report import Report
from tests.reports.recording import BEGIN, EXPECTED_BITRATE, Recording, stream

NAMES = ("a", "b", "c")
FACT = st.sampled_from([None, False, True])


class Moment(NamedTuple):
    """What one stream reports."""

    live: bool | None
    expected: bool | None
    viewers: int | None
    is_low: bool
    restarts: int


class Step(NamedTuple):
    """What happens next: a publish of some streams, a step of the clock, a suspension, and then time passes."""

    streams: dict[str, Moment]
    group_expected: bool | None
    is_answering: bool
    clock_step: float
    is_suspended: bool
    seconds: float


MOMENTS = st.builds(
    Moment, FACT, FACT, st.none() | st.integers(0, 1000), st.booleans(), st.integers(min_value=0, max_value=3)
)
STEPS = st.builds(
    Step,
    st.dictionaries(st.sampled_from(NAMES), MOMENTS),
    FACT,
    st.sampled_from([True, True, True, False]),
    st.sampled_from([0.0, 0.0, 0.0, -3600.0, -0.5, 7.25, 86_400.0]),
    st.sampled_from([False, False, False, True]),
    st.floats(0.0, 3000.0) | st.integers(0, 30_000).map(float),
)
EDGES = st.floats(-100_000.0, 100_000.0).map(lambda seconds: BEGIN + round(seconds, 3))


def live_through(steps: Sequence[Step], between: Callable[[Recording], None] = lambda _: None) -> Recording:
    made = Recording()
    made.configure(*NAMES)
    restarts = dict.fromkeys(NAMES, 0)
    for step in steps:
        states = []
        for name, moment in step.streams.items():
            restarts[name] += moment.restarts
            bitrate = EXPECTED_BITRATE * (0.5 if moment.is_low else 1.0)
            facts = {"live": moment.live, "expected": moment.expected, "viewers": moment.viewers, "bitrate": bitrate}
            states.append(stream(name, restarts=restarts[name], **facts))  # type: ignore[arg-type]
        made.clock.step(step.clock_step)
        made.publish(*states, answering=step.is_answering)
        made.publish_group(expected=step.group_expected)
        before = made.clock.monotonic()
        made.clock.advance(step.seconds)
        if step.is_suspended:
            made.recorder.mark_unknown(before, SUSPENDED)
        between(made)
    return made


def check(report: Report, streams: int) -> None:
    """Check what must hold for every report."""
    seconds = report.figures.seconds
    length = report.span.end - report.span.start
    recorded = seconds.live + seconds.off_air + seconds.unknown
    assert math.isclose(recorded + seconds.not_recorded, streams * length, abs_tol=1e-3), "every second counts once"
    expectations = seconds.expected + seconds.not_expected + seconds.expectation_unknown
    assert math.isclose(expectations, recorded, abs_tol=1e-3)
    assert all(getattr(seconds, each.name) >= 0 for each in msgspec.structs.fields(seconds))
    while_expected = seconds.live_while_expected + seconds.off_air_while_expected + seconds.unknown_while_expected
    assert math.isclose(while_expected, seconds.expected, abs_tol=1e-3)
    assert seconds.below_bitrate + seconds.not_below_bitrate + seconds.bitrate_unknown <= streams * length + 1e-3
    for incident in report.incidents:
        assert report.span.start <= incident.start < incident.end <= report.span.end
        assert math.isclose(incident.off_air + incident.unknown, incident.seconds, abs_tol=1e-3)
        assert incident.causes
        assert all(cause.text and cause.since <= incident.end for cause in incident.causes)
    in_incidents = sum(incident.seconds for incident in report.incidents)
    not_live = seconds.off_air_while_expected + seconds.unknown_while_expected
    assert math.isclose(in_incidents, not_live, abs_tol=1e-3), "incidents are all time expected and not live"
    if report.figures.peak is not None:
        assert report.span.start <= report.figures.peak.at < report.span.end
    assert markdown(report)
    entry = report_entry(report)
    known = [entry.get(f"{state}_minutes", 0.0) for state in ("live", "off_air", "unknown", "not_recorded")]
    assert math.isclose(sum(known), streams * length / 60, abs_tol=0.01)


@given(st.lists(STEPS, max_size=12), EDGES, EDGES)
def test_minutes_add_up_and_incidents_lie_within_the_range(steps: list[Step], one: float, other: float) -> None:
    made = live_through(steps)
    if one == other:
        return
    start, end = ((edge - BEGIN) / 60 for edge in sorted((one, other)))
    for name in NAMES:
        report = made.report(name, start=start, end=end)
        check(report, 1)
        ends = [incident.end for incident in report.incidents]
        starts = [incident.start for incident in report.incidents]
        assert all(earlier < later for earlier, later in zip(ends, starts[1:], strict=False)), "they do not overlap"
    for needed in range(1, len(NAMES) + 1):
        check(made.report(*NAMES, start=start, end=end, group=needed), 1)
    check(made.report(start=start, end=end, of_upstream=True), len(made.recorder.recorded_streams("edge")))


@given(st.lists(STEPS, max_size=12), st.integers(0, 600), st.integers(1, 600))
def test_peak_is_the_highest_number_at_any_time_in_the_range(steps: list[Step], start: int, minutes: int) -> None:
    steps = [step._replace(clock_step=0.0) for step in steps]
    made = live_through(steps)
    end = start + minutes
    for name in NAMES:
        # (from, until, viewers) in seconds
        held: list[tuple[float, float, int | None]] = []
        at = 0.0
        for step in steps:
            moment = step.streams.get(name)
            viewers = moment.viewers if moment and moment.live and step.is_answering else None
            held.append((at, at if step.is_suspended else at + step.seconds, viewers))
            at += step.seconds
        seen = [viewers for a, b, viewers in held if viewers is not None and a < 60 * end and b >= 60 * start]
        # the minute in which a value ended still counts it
        peak = made.report(name, start=start, end=end).figures.peak
        assert (peak.viewers if peak else None) == max(seen, default=None)
    sums: list[int] = []
    at = 0.0
    for step in steps:
        known = [m.viewers for m in step.streams.values() if m.live and step.is_answering and m.viewers is not None]
        lasts = at if step.is_suspended else at + step.seconds
        if known and at < 60 * end and lasts >= 60 * start:
            sums.append(sum(known))
        at += step.seconds
    for report in (
        made.report(start=start, end=end, of_upstream=True),
        made.report(*NAMES, start=start, end=end, group=1),
    ):
        peak = report.figures.peak
        assert (peak.viewers if peak else None) == max(sums, default=None), "the highest sum at the same time"


@given(st.lists(STEPS, max_size=12))
def test_reports_on_adjacent_ranges_add_up(steps: list[Step]) -> None:
    made = live_through(steps)
    edges = [-200.0, 13.7, 500.5, 2000.0]
    for name in NAMES:
        whole = made.report(name, start=edges[0], end=edges[-1]).figures
        parts = [made.report(name, start=a, end=b).figures for a, b in pairwise(edges)]
        for each in msgspec.structs.fields(whole.seconds):
            total = sum(getattr(part.seconds, each.name) for part in parts)
            assert math.isclose(getattr(whole.seconds, each.name), total, abs_tol=1e-3)
        assert (whole.restarts or 0) == sum(part.restarts or 0 for part in parts)
        peaks = [part.peak.viewers for part in parts if part.peak is not None]
        # a minute in which a range ends belongs to both ranges
        assert (whole.peak.viewers if whole.peak else None) == max(peaks, default=None)


@given(st.lists(STEPS, min_size=1, max_size=12))
def test_clock_steps_change_no_figure(steps: list[Step]) -> None:
    """The same life, with and without steps of the wall clock."""
    stepped = live_through(steps)
    steady = live_through([step._replace(clock_step=0.0) for step in steps])
    offset = (stepped.clock.now() - steady.clock.now()) / 60
    for name in NAMES:
        one = steady.report(name, start=0.0, end=500.0)
        other = stepped.report(name, start=offset, end=500.0 + offset)
        for each in msgspec.structs.fields(one.figures.seconds):
            expected = getattr(one.figures.seconds, each.name)
            assert math.isclose(getattr(other.figures.seconds, each.name), expected, abs_tol=1e-3)
        assert len(one.incidents) == len(other.incidents)
        assert one.figures.restarts == other.figures.restarts


@given(st.lists(STEPS, min_size=20, max_size=40))
def test_limits_hold_and_dropped_data_is_not_recorded(steps: list[Step]) -> None:
    # every publish is then due to trim
    steps = [step._replace(is_suspended=False, seconds=step.seconds + TRIM_SECONDS) for step in steps]

    def check_size(made: Recording) -> None:
        tracks = made.recorder._tracks.get("edge", {})
        assert all(len(track.segments) <= 4 * 12 and len(track.viewers or ()) <= 3 for track in tracks.values())

    with (
        mock.patch.object(recorder_module, "MAX_STREAM_SEGMENTS", 4),
        mock.patch.object(recorder_module, "MAX_STREAM_VIEWER_COUNTS", 3),
    ):
        made = live_through(steps, check_size)
    now = (made.clock.now() - BEGIN) / 60
    for name in NAMES:
        report = made.report(name, start=now - 3000, end=now)
        check(report, 1)
        assert report.figures.seconds.not_recorded >= 3000 * 60 - KEPT_SECONDS - 1e-3
