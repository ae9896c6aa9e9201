"""A report: what happened to a stream, an upstream or a group in a range of time, in figures.

At any moment a stream or a group is live, off air, unknown, or not recorded; the time in these four states adds up to
the range.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from exporter.reports.timeline import StreamKey


class Scope(StrEnum):
    """What a report is about."""

    STREAM = "stream"
    UPSTREAM = "upstream"
    GROUP = "group"


class Span(msgspec.Struct, frozen=True):
    """The range of a report, in Unix seconds."""

    start: float
    end: float


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """The stream, upstream or group of a report."""

    scope: Scope
    name: str
    """The group's or upstream's name."""
    stream: str = ""
    """The stream's label, in a report on one stream."""
    needed: int = 1
    """Number of streams that must be live, in a report on a group."""
    roles: tuple[str, ...] = ()
    """Roles of a group's members."""


class Seconds(msgspec.Struct, kw_only=True):
    """Time in each state, in seconds. Of an upstream: the sum over its streams."""

    live: float = 0.0
    off_air: float = 0.0
    unknown: float = 0.0
    not_recorded: float = 0.0
    live_while_expected: float = 0.0
    off_air_while_expected: float = 0.0
    unknown_while_expected: float = 0.0
    expected: float = 0.0
    not_expected: float = 0.0
    expectation_unknown: float = 0.0
    """Recorded, but it is unknown whether the stream was expected."""
    playable: float = 0.0
    not_playable: float = 0.0
    below_bitrate: float = 0.0
    not_below_bitrate: float = 0.0
    bitrate_unknown: float = 0.0
    """Live, but the bitrate could not be compared with its threshold."""

    def add(self, other: Seconds) -> None:
        """Add another sum to this one."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def is_live_known(self) -> bool:
        """Whether the stream was known to be live or off air at any time."""
        return self.live + self.off_air > 0.0

    @property
    def is_expected_known(self) -> bool:
        """Whether it was known at any time whether the stream is expected."""
        return self.expected + self.not_expected > 0.0

    @property
    def is_playable_known(self) -> bool:
        """Whether it was known at any time whether the stream can be played."""
        return self.playable + self.not_playable > 0.0

    @property
    def is_bitrate_known(self) -> bool:
        """Whether the bitrate could be compared with its threshold at any time."""
        return self.below_bitrate + self.not_below_bitrate > 0.0


class Peak(msgspec.Struct, frozen=True):
    """The highest number of viewers, and the start of the minute."""

    viewers: int
    at: float
    recorded_since: float
    """Start of the first minute in the range with a known number of viewers."""


class Cause(msgspec.Struct, frozen=True):
    """Why a stream is not known to be live."""

    key: StreamKey
    since: float
    """Since when it has not been known to be live; may be before the range."""
    text: str


class Incident(msgspec.Struct):
    """A period in which the stream or group was expected and not known to be live."""

    start: float
    end: float
    causes: list[Cause] = msgspec.field(default_factory=list)
    """In the order in which the streams stopped being live."""
    off_air: float = 0.0
    """Seconds for which it was known not to be live."""
    unknown: float = 0.0
    """Seconds for which its state was unknown."""
    is_ongoing: bool = False
    """Whether it lasts until now."""
    continues: bool = False
    """Whether it continues after a range that ends in the past."""

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.end - self.start


class Figures(msgspec.Struct, kw_only=True):
    """What a report says about one stream, or about all of them together."""

    seconds: Seconds = msgspec.field(default_factory=Seconds)
    recorded_since: float | None = None
    """Start of the recorded data in the range; None if there is none."""
    restarts: int | None = None
    peak: Peak | None = None


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one stream."""

    key: StreamKey
    role: str
    figures: Figures


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A report."""

    subject: Subject
    span: Span
    generated_at: float
    recording_started_at: float
    figures: Figures
    incidents: Sequence[Incident]
    """In order of their start."""
    incident_count: int
    rows: Sequence[Row]
    """The streams of a group or upstream."""
    row_count: int
