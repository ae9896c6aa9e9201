"""Settings of one stream: its name, what is expected of it, and when."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    PlainSerializer,
    PrivateAttr,
    Tag,
    WrapValidator,
    field_validator,
)

from exporter.config.calendars import CalendarSettings, TimeZoneName
from exporter.config.control import MaintenanceWindow, Overrides, check_overrides
from exporter.config.section import Section
from exporter.config.types import (
    Between,
    Bitrate,
    Described,
    Duration,
    Flag,
    Name,
    Number,
    Text,
    format_bitrate,
    format_duration,
    read_flag,
)
from exporter.config.validation import refuse
from exporter.runtime.redaction import HIDDEN

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_MIDNIGHT = datetime.time(0)


def _read_days(value: Any) -> frozenset[int]:
    allowed = f"a list of days ({', '.join(DAYS)})"
    if not isinstance(value, list | tuple):
        raise refuse(allowed)
    unknown = [day for day in value if day not in DAYS]
    if unknown or not value:
        raise refuse(allowed, found=f"{unknown[0]!r:.40}" if unknown else "an empty list")
    return frozenset(map(DAYS.index, value))


def _read_time(value: Any) -> datetime.time:
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise refuse('a time from "00:00" to "23:59"')
    return datetime.time(int(match[1]), int(match[2]))


def _read_end(value: Any) -> datetime.time:
    return _MIDNIGHT if value == "24:00" else _read_time(value)


def _format_time(time: datetime.time) -> str:
    return f"{time:%H:%M}"


_Time = Annotated[datetime.time, PlainSerializer(_format_time), Described("time")]


class LiveHours(Section):
    """Hours on certain days. If ``to`` is before ``from``, they end on the next day."""

    days: Annotated[
        frozenset[int],
        BeforeValidator(_read_days),
        PlainSerializer(lambda days: [DAYS[day] for day in sorted(days)]),
        Described("list of days: " + ", ".join(DAYS)),
    ] = Field(description="The days on which the hours start.")
    from_: Annotated[_Time, BeforeValidator(_read_time)] = Field(
        alias="from", description="Start, from `00:00` to `23:59`."
    )
    to: Annotated[_Time, BeforeValidator(_read_end)] = Field(
        description="End; if it is before `from`, on the next day. `24:00` is midnight."
    )
    timezone: TimeZoneName = Field(
        default="UTC", description="Time zone of `from` and `to`, as named in the IANA database."
    )

    @field_validator("to", mode="wrap")
    @classmethod
    def _check_end(cls, value: Any, read: Any, info: Any) -> datetime.time:
        to: datetime.time = read(value)
        if to == info.data.get("from_") and value != "24:00":
            raise refuse("a time other than `from`")
        return to


def _read_always(value: Any) -> bool:
    try:
        return read_flag(value)
    except ValueError:
        raise refuse("true, false, a list of hours, or a calendar") from None


def _require_hours(hours: tuple[LiveHours, ...]) -> tuple[LiveHours, ...]:
    if not hours:
        raise refuse("at least one entry, or false for a stream that should never be live", found="an empty list")
    return hours


def _expectation_tag(value: Any) -> str:
    if isinstance(value, CalendarSettings) or (isinstance(value, dict) and value.keys().isdisjoint(_HOURS_KEYS)):
        return EXPECTED_CALENDAR
    return EXPECTED_HOURS if isinstance(value, list | tuple) else EXPECTED_ALWAYS


_HOURS_KEYS = ("days", "from", "to")
"""Keys of a mapping that should be an item of a list of hours."""
EXPECTED_HOURS, EXPECTED_ALWAYS, EXPECTED_CALENDAR = "\0hours", "\0always", "\0calendar"
Expected = Annotated[
    Annotated[tuple[LiveHours, ...], AfterValidator(_require_hours), Tag(EXPECTED_HOURS)]
    | Annotated[CalendarSettings, Tag(EXPECTED_CALENDAR)]
    | Annotated[bool, BeforeValidator(_read_always), Tag(EXPECTED_ALWAYS)],
    Discriminator(_expectation_tag),
    Described("true or false, a list of hours, or a calendar"),
]


class SourceSettings(Section):
    """The stream that a playback check is paired with."""

    upstream: Name = Field(description="Name of the stream's upstream.")
    stream: Text = Field(description="Value of the stream's label `stream`: its configured name, or its id.")

    _platform: str = PrivateAttr(default="")

    @property
    def platform(self) -> str:
        """Platform of the upstream; empty until the whole configuration is known."""
        return self._platform

    def set_platform(self, platform: str) -> None:
        """Set the platform of the upstream, once the whole configuration is known."""
        self._platform = platform


class StreamSettings(Section):
    """One stream of an upstream. Platforms add the fields that identify it, and ``id``."""

    identity_fields: ClassVar[tuple[str, ...]] = ("id", "key")
    """Fields that may be publish keys: hidden in errors and repr, and everywhere if labels are hashed."""

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, HIDDEN if name in self.identity_fields else value

    if TYPE_CHECKING:

        @property
        def id(self) -> str:
            """Its id on the platform, as in ``StreamReport.id``."""

    @property
    def source(self) -> SourceSettings | None:
        """The stream that a playback check is paired with; None for streams of other platforms."""
        return None

    name: Text | None = Field(default=None, description="Value of the stream's label `stream`.")
    expected: Expected | None = Field(
        default=None,
        description="Whether the stream should be live: `true` (always), `false` (never), a list of hours, or a "
        "calendar. Without it, nothing is expected.",
    )
    expected_bitrate: Annotated[Bitrate, Between(125.0, 1.25e11, format_bitrate)] | None = Field(
        default=None, description="Expected ingest bitrate."
    )
    expected_frame_rate: Annotated[Number, Between(0.1, 1000)] | None = Field(
        default=None, description="Expected frames per second."
    )
    start_grace: Annotated[Duration, Between(0, 86_400, format_duration)] = Field(
        default=0.0,
        description="How long the stream may be missing after its hours start, and after the exporter starts. "
        "`stream_expected` is absent during this time.",
    )
    maintenance: tuple[MaintenanceWindow, ...] = Field(
        default=(), description="Planned work on the stream. While a window is active, its alerts are inhibited."
    )
    alerts: Annotated[Overrides, WrapValidator(partial(check_overrides, scopes=("stream",)))] = Field(
        default_factory=dict,
        description="By rule name: a threshold for this stream, in the base unit of the rule's metric; `off`; or `on`, "
        "which restores the rule's own threshold. Each entry replaces the upstream's entry for the same rule.",
    )
    end_ok: Flag = Field(
        default=False,
        description="Do not alert if the platform reports that the stream has ended during its expected hours.",
    )


class ApplicationStream(StreamSettings):
    """A stream that is identified by the application it is published to and its key."""

    application: Text = Field(description="Application that the stream is published to.")
    key: Text = Field(description="Stream key.")

    @property
    def id(self) -> str:
        """Its id, ``application/key``."""
        return application_stream_id(self.application, self.key)


def application_stream_id(application: str, key: str) -> str:
    """Return the unique id of an application and key: ``application/key``.

    If the key contains ``/``, ``%2F`` or ``%25``, its ``%`` and ``/`` are escaped as ``%25`` and ``%2F``, so that the
    application ends at the last slash.
    """
    if "/" in key or "%2F" in key or "%25" in key:
        key = key.replace("%", "%25").replace("/", "%2F")
    return f"{application}/{key}"
