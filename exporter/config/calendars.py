"""Settings of event calendars, and the check of calendar files when the configuration is loaded."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, model_validator

from exporter.calendars.worker import INSTALL_HINT, MAX_BYTES, CalendarError, expand_now, is_installed
from exporter.config.secrets import Secret
from exporter.config.section import Section
from exporter.config.types import Between, ConfigPath, Described, Duration, Text, format_duration
from exporter.config.urls import check_secret_url
from exporter.config.validation import load_context, refuse, refuse_because
from exporter.runtime.files import FileError, read_file_within


def _check_timezone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (OSError, ValueError, LookupError):
        raise refuse("a time zone of the IANA database, such as Europe/Berlin") from None
    return value


TimeZoneName = Annotated[Text, AfterValidator(_check_timezone), Described("time zone")]
"""Name of a time zone in the IANA database."""


def _check_calendar_file(path: Path) -> Path:
    """Refuse a file that is not a calendar. Settings created in code are not checked."""
    context = load_context()
    if context.schema is not None and is_installed():
        if path not in context.calendar_errors:
            context.calendar_errors[path] = _find_error(path)
        if context.calendar_errors[path]:
            raise refuse_because(context.calendar_errors[path])
    return path


def _find_error(path: Path) -> str:
    """Return why a calendar file cannot be used; empty if it can. Adds its warnings to those of the load."""
    try:
        expansion = expand_now(read_file_within(path, MAX_BYTES).content, time.time(), ["UTC"])
    except FileError as error:
        return f"cannot read the calendar: {error.strerror}"
    except CalendarError as error:
        return f"cannot use the calendar: {error}"
    for warning in expansion.warnings():
        load_context().warnings[f"calendar {path}: {warning}"] = None
    return ""


class CalendarSettings(Section):
    """A calendar whose events are the times when a stream should be live. Needs ``stream-exporter[calendar]``."""

    calendar_file: Annotated[ConfigPath, AfterValidator(_check_calendar_file)] | None = Field(
        default=None, description="Path of an iCalendar file (`.ics`)."
    )
    calendar_url: Annotated[Secret, AfterValidator(check_secret_url)] | None = Field(
        default=None,
        description="URL of an iCalendar file. It may contain a token, so it is treated as a secret; only its host is "
        "shown.",
    )
    summary: Text | None = Field(
        default=None, description="Glob on the summaries of events, ignoring case; other events do not count."
    )
    before: Annotated[Duration, Between(0, 86_400, format_duration)] = Field(
        default=0.0, description="How long before its event the stream should already be live."
    )
    after: Annotated[Duration, Between(0, 86_400, format_duration)] = Field(
        default=0.0, description="How long after its event the stream should still be live."
    )
    timezone: TimeZoneName = Field(
        default="UTC",
        description="Time zone of all-day events and of times without a time zone, as named in the IANA database.",
    )
    refresh: Annotated[Duration, Between(10, 86_400, format_duration)] = Field(
        default=900.0, description="Time between two reads of the calendar."
    )

    @property
    def source(self) -> Path | Secret:
        """The file, or the URL."""
        source = self.calendar_file or self.calendar_url
        assert source is not None
        return source

    @model_validator(mode="after")
    def _check_source(self) -> CalendarSettings:
        if (self.calendar_file is None) == (self.calendar_url is None):
            raise refuse_because(
                "set either calendar_file, or one of calendar_url, calendar_url_file, calendar_url_env"
            )
        if load_context().schema is not None and not is_installed():
            raise refuse_because(f"a calendar {INSTALL_HINT}")
        return self
