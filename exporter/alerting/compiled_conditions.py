"""Rule conditions compiled for fast, repeated evaluation on the model."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from exporter.alerting.recordings import is_setting, needs_evidence
from exporter.alerting.rules.active_rules import ActiveRule, Grade
from exporter.alerting.rules.rule import (
    AnyOf,
    AnyStream,
    Comparison,
    GroupGuard,
    Guard,
    Present,
    Rule,
    Scope,
    Series,
    ShareComparison,
    StreamShare,
    Threshold,
)
from exporter.alerting.series_lookup import ExtraLabels, Samples, Subject, is_fed, series_reader
from exporter.alerting.window_meters import WindowMeter, meter_maker
from exporter.model import NO_OVERRIDES, AlertOverrides

_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "==": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Match(NamedTuple):
    """A subject for which a condition holds."""

    extra: ExtraLabels
    """Values of the rule's ``labels``."""
    value: float
    reference: float | None
    """The value of the series that ``value`` is compared with, or that is shown with it."""
    threshold: float | None = None
    """The rule's threshold for this subject, if it has been overridden."""


class CompiledCondition:
    """The condition of one grade of a rule, compiled for evaluation."""

    def __init__(self, active: ActiveRule, grade: Grade) -> None:
        """Compile the condition. The rule must have one."""
        condition = active.rule.condition
        assert condition is not None
        self.active = active
        self.grade = grade
        measure = condition.measure
        measured = measure.left
        self.share = ShareCounter(measured) if isinstance(measured, StreamShare) else None
        """Counter for a condition on a share of the upstream's streams."""
        self._read_series = self._read_share if isinstance(measured, StreamShare) else series_reader(measured)
        self.needs_evidence = (
            active.rule.scope is Scope.STREAM or isinstance(measured, StreamShare) or needs_evidence(measured)
        )
        """Evaluate only while the upstream is answering."""
        self.is_setting = not self.needs_evidence and isinstance(measured, Series) and is_setting(measured)
        """Evaluate even while it is unknown whether the upstream is answering."""
        self._make_meter = meter_maker(measured, active.time_scale) if isinstance(measured, Series) else None
        self._measured = measured
        self._compare = _OPERATORS[measure.operator]
        self._read_limit = _limit_reader(measure, active, grade)
        reference = active.rule.reference
        self._read_reference = None if reference is None else series_reader(reference)
        self._also = [_compile_guard(guard) for guard in (*condition.also, *grade.also)]
        self._unless = [_compile_guard(guard) for guard in condition.unless]
        self._meters: dict[tuple[str, str], WindowMeter] = {}
        """By upstream and stream; series that are measured over a window have no other labels."""

    @property
    def rule(self) -> Rule:
        """The rule that the condition belongs to."""
        return self.active.rule

    def can_hold(self, feeds: frozenset[str] | None) -> bool:
        """Return whether it can hold for streams whose reports have these fields (None: any)."""
        return not isinstance(self._measured, Series) or is_fed(self._measured, feeds)

    def matches(self, subject: Subject, steady_now: float) -> Sequence[Match]:
        """Return the samples for which the condition holds."""
        samples = self._read_series(subject) if self._make_meter is None else self._measure(subject, steady_now)
        if not samples:
            return ()
        overrides = self._overrides_of(subject)
        override = overrides.thresholds.get(self.rule.name)
        limit = self._read_limit(subject, override)
        if limit is None or self.rule.name in overrides.off:
            return ()
        compare = self._compare
        matching = [sample for sample in samples if compare(sample[1], limit)]
        # most streams are fine, so check the guards only after a match
        if not matching or not self._guards_hold(subject):
            return ()
        references = () if self._read_reference is None else self._read_reference(subject)
        return [Match(extra, value, _reference_of(extra, references), override) for extra, value in matching]

    def streams_in_window(self, upstream: str, steady_now: float) -> set[str]:
        """Return the streams with samples in the window, and drop the samples of the others."""
        streams = set()
        for key in [key for key in self._meters if key[0] == upstream]:
            if self._meters[key].has_samples(steady_now):
                streams.add(key[1])
            else:
                del self._meters[key]
        return streams

    def note_outage(self, upstream: str) -> None:
        """Take note that the upstream is not answering."""
        for meter in [meter for key, meter in self._meters.items() if key[0] == upstream]:
            meter.interrupt()

    def keep_only_upstreams(self, upstreams: frozenset[str]) -> None:
        """Drop the samples of all other upstreams."""
        self._meters = {key: meter for key, meter in self._meters.items() if key[0] in upstreams}

    def _measure(self, subject: Subject, steady_now: float) -> Samples:
        key = (subject.upstream_state.upstream, subject.stream)
        meter = self._meters.get(key)
        if meter is None:
            if not self._read_series(subject):
                return ()
            assert self._make_meter is not None, "only series that are measured over a window have meters"
            meter = self._meters[key] = self._make_meter()
        meter.observe(subject, steady_now)
        if subject.overrides is not None:
            meter.overrides = subject.overrides
        value = meter.value(steady_now)
        return () if value is None else (((), value),)

    def _overrides_of(self, subject: Subject) -> AlertOverrides:
        """Return the overrides in force for a subject, for a departed stream those when it was last served."""
        overrides = subject.overrides
        if overrides is not None:
            return overrides
        meter = self._meters.get((subject.upstream_state.upstream, subject.stream))
        return NO_OVERRIDES if meter is None else meter.overrides

    def _read_share(self, _: Subject) -> Samples:
        assert self.share is not None
        value = self.share.value
        return () if value is None else (((), value),)

    def _guards_hold(self, subject: Subject) -> bool:
        return all(holds(subject) for holds in self._also) and not any(holds(subject) for holds in self._unless)


class ShareCounter:
    """Counts the streams of one upstream at a time for which all guards hold."""

    def __init__(self, share: StreamShare) -> None:
        self._guards = [_compile_guard(guard) for guard in share.guards]
        self._minimum = share.minimum
        self._matching = self._total = 0

    def start(self) -> None:
        """Start counting for an upstream."""
        self._matching = self._total = 0

    def add(self, subject: Subject) -> None:
        """Count a stream."""
        self._total += 1
        self._matching += all(holds(subject) for holds in self._guards)

    @property
    def value(self) -> float | None:
        """Share of matching streams; None if fewer than the minimum match."""
        return self._matching / self._total if self._matching >= self._minimum else None


def _limit_reader(
    comparison: Comparison | ShareComparison, active: ActiveRule, grade: Grade
) -> Callable[[Subject, float | None], float | None]:
    """Return a function that returns the limit for a subject, given the threshold that overrides the rule's."""
    if not isinstance(comparison.right, Threshold):
        constant = float(comparison.right)
        return lambda _, __: constant
    limit = active.limit_of(grade)
    assert limit is not None, "the rule compares with a threshold, but has none"
    if comparison.right.of is None:
        return lambda _, override: limit if override is None else active.limit_of(grade, override)
    read_series = series_reader(comparison.right.of)

    def read_relative_limit(subject: Subject, override: float | None) -> float | None:
        value = _first_value(read_series(subject))
        factor = limit if override is None else active.limit_of(grade, override)
        return None if value is None or factor is None else factor * value

    return read_relative_limit


def _compile_guard(guard: Guard) -> Callable[[Subject], bool]:
    if isinstance(guard, AnyStream):
        return _compile_any_stream(guard)
    if isinstance(guard, AnyOf):
        guards = [_compile_guard(each) for each in guard.guards]
        return lambda subject: any(holds(subject) for holds in guards)
    if isinstance(guard, GroupGuard):
        return lambda subject: subject.is_covered is guard.holds
    read_series = series_reader(guard.series if isinstance(guard, Present) else guard.left)
    if isinstance(guard, Present):
        return lambda subject: _first_value(read_series(subject)) is not None
    compare, right = _OPERATORS[guard.operator], guard.constant

    def holds(subject: Subject) -> bool:
        left = _first_value(read_series(subject))
        return left is not None and compare(left, right)

    return holds


def _compile_any_stream(any_stream: AnyStream) -> Callable[[Subject], bool]:
    guards = [_compile_guard(guard) for guard in any_stream.guards]

    def some_stream_matches(subject: Subject) -> bool:
        streams = (Subject(subject.upstream_state, state) for state in subject.upstream_state.streams)
        return any(all(holds(stream) for holds in guards) for stream in streams)

    return some_stream_matches


def _reference_of(extra: ExtraLabels, references: Samples) -> float | None:
    """Return the reference of a sample: the one with the same labels, or the only one, which has none."""
    return next((value for labels, value in references if labels in ((), extra)), None)


def _first_value(samples: Samples) -> float | None:
    return samples[0][1] if samples else None
