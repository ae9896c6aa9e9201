"""Measures series over a window, from sample to sample, as the functions of Prometheus do. Times are steady seconds."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import NamedTuple

from exporter.alerting.rules.rule import MINIMUM_STEPS, RESET_SECONDS, Series
from exporter.alerting.series_lookup import SeriesReader, Subject, series_reader
from exporter.model import NO_OVERRIDES


class ChangeCounter:
    """Counts changes of a series within a window, from sample to sample like ``changes()``."""

    __slots__ = ("_changes", "_last_at", "_last_value", "_only_rises")

    def __init__(self, *, only_rises: bool = False) -> None:
        """``only_rises``: count like ``changes() - resets()``."""
        self._only_rises = only_rises
        self._last_at = -math.inf
        self._last_value: float | None = None
        self._changes: deque[float] = deque()
        """Time of the sample before each change. A change counts while that sample is within the window."""

    def add(self, at: float, value: float) -> None:
        """Add a sample."""
        last = self._last_value
        if last is not None and (value > last or (value < last and not self._only_rises)):
            self._changes.append(self._last_at)
        self._last_at, self._last_value = at, value

    def count(self, since: float) -> int | None:
        """Return the number of changes since a time; None if there are no samples since then."""
        while self._changes and self._changes[0] < since:
            self._changes.popleft()
        return len(self._changes) if self._last_at >= since else None


class WindowMeter(ABC):
    """Measures the series of one stream over a window."""

    def __init__(self, window: float) -> None:
        self._window = window
        self.overrides = NO_OVERRIDES
        """The stream's overrides when it was last served."""

    @abstractmethod
    def observe(self, subject: Subject, now: float) -> None:
        """Take the current samples, of which a stream that is no longer served has none."""

    @abstractmethod
    def value(self, now: float) -> float | None:
        """Return the value; None if it is unknown."""

    @abstractmethod
    def has_samples(self, now: float) -> bool:
        """Return whether there are samples in the window."""

    @abstractmethod
    def interrupt(self) -> None:
        """Take note that the upstream is not answering."""


class ChangeMeter(WindowMeter):
    """Counts the changes or rises of one or several series."""

    def __init__(self, window: float, readers: Iterable[SeriesReader], *, only_rises: bool) -> None:
        super().__init__(window)
        self._counters = [(read_series, ChangeCounter(only_rises=only_rises)) for read_series in readers]

    def observe(self, subject: Subject, now: float) -> None:
        """Take the current samples."""
        for read_series, counter in self._counters:
            for _, value in read_series(subject):
                counter.add(now, value)

    def value(self, now: float) -> float | None:
        """Return the number of changes; None if a series has no sample in the window."""
        counts = [counter.count(now - self._window) for _, counter in self._counters]
        known = [count for count in counts if count is not None]
        return float(sum(known)) if len(known) == len(counts) else None

    def has_samples(self, now: float) -> bool:
        """Return whether a series has samples in the window."""
        return any(counter.count(now - self._window) is not None for _, counter in self._counters)

    def interrupt(self) -> None:
        """Do nothing: an outage is no change."""


class _Sample(NamedTuple):
    at: float
    value: float | None
    per: float
    """Value of the counter that the growth is divided by; the time, if it is divided by that."""
    is_live: bool


class GrowthMeter(WindowMeter):
    """Measures the growth of a counter per second, or per growth of another one; see ``Series.growth_within``."""

    def __init__(
        self, window: float, read_counter: SeriesReader, read_per: SeriesReader | None, reset_seconds: float
    ) -> None:
        super().__init__(window)
        self._read_counter = read_counter
        self._read_per = read_per
        self._memory = window + reset_seconds
        self._samples: deque[_Sample] = deque()
        """Those in the window, and the last one before it."""
        self._last: _Sample | None = None
        """Last sample with a value."""
        self._reset_at = -math.inf
        """Time of the last sample before a reset."""

    def observe(self, subject: Subject, now: float) -> None:
        """Take the current samples."""
        sample = self._read(subject, now)
        last = self._last
        if sample.value is not None:
            if last is not None and last.value is not None and (sample.value < last.value or sample.per < last.per):
                self._reset_at = last.at
            self._last = sample
        state = subject.stream_state
        if state is not None and state.report.playback_forbidden:
            self._samples.clear()
            return
        self._samples.append(sample)
        while len(self._samples) > 1 and self._samples[1].at <= now - self._window:
            self._samples.popleft()

    def _read(self, subject: Subject, now: float) -> _Sample:
        counter = self._read_counter(subject)
        per: float | None = now
        if self._read_per is not None:
            others = self._read_per(subject)
            per = others[0][1] if others else None
        is_live = subject.stream_state is not None and subject.stream_state.live is True
        if not counter or per is None:
            return _Sample(now, None, 0.0, is_live)
        return _Sample(now, counter[0][1], per, is_live)

    def value(self, now: float) -> float | None:
        """Return the growth; None if it is unknown."""
        if not self._samples or self._reset_at >= now - self._memory:
            return None
        first, last = self._samples[0], self._samples[-1]
        if first.at > now - self._window or not first.is_live or first.value is None or last.value is None:
            return None
        if self._read_per is not None and self._steps(now) < MINIMUM_STEPS:
            return None
        growth = last.per - first.per
        return (last.value - first.value) / growth if growth > 0 else None

    def _steps(self, now: float) -> int:
        """Return the number of changes of the divisor in the window."""
        values = [s.per for s in self._samples if s.value is not None and s.at >= now - self._window]
        return sum(before != after for before, after in pairwise(values))

    def has_samples(self, now: float) -> bool:
        """Return whether there are samples in the window."""
        return self._last is not None and self._last.at >= now - self._window

    def interrupt(self) -> None:
        """Forget all samples, because the growth during an outage is unknown."""
        self._samples.clear()


def meter_maker(series: Series, time_scale: float) -> Callable[[], WindowMeter] | None:
    """Return a function that makes meters of a series; None if its value itself is compared."""
    if series.window_seconds is None:
        return None
    window = series.window_seconds / time_scale
    if series.growth_within is not None:
        read_counter = _reader(series.family)
        read_per = _reader(series.growth_per) if series.growth_per else None
        return lambda: GrowthMeter(window, read_counter, read_per, RESET_SECONDS / time_scale)
    readers = [series_reader(series), *map(_reader, series.and_rises_of)]
    only_rises = series.rises_within is not None
    return lambda: ChangeMeter(window, readers, only_rises=only_rises)


def _reader(family: str) -> SeriesReader:
    return series_reader(Series(family))
