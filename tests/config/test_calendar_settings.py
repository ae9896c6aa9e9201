"""Calendars in the configuration: files are checked when it is loaded, and the libraries must be installed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from exporter.calendars import worker
from exporter.calendars.worker import MAX_BYTES
from exporter.cli.settings import load_settings
from exporter.config import calendars
from exporter.config.calendars import CalendarSettings
from exporter.config.loading import ConfigError
from exporter.config.root import Settings
from tests.file_obstacles import OBSTACLES, put_obstacle

GOOD = b"BEGIN:VCALENDAR\nEND:VCALENDAR\n"
URL = "https://calendar.example/ical/private-0123456789abcdef/basic.ics"


def load(folder: Path, *expected: object, groups: list[object] | None = None) -> Settings:
    """Load a configuration with a stream for each expectation."""
    streams = [{"application": "live", "key": str(index), "expected": each} for index, each in enumerate(expected)]
    upstream = {"name": "edge", "platform": "storm", "url": "http://127.0.0.1:1", "streams": streams}
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump({"upstreams": [upstream], "groups": groups or []}, width=10_000))
    return load_settings(file, {})


def error_of(load_it: Callable[[], object]) -> str:
    """Return the only error, without its place."""
    with pytest.raises(ConfigError) as caught:
        load_it()
    assert len(caught.value.errors) == 1
    return caught.value.errors[0].split(": ", 1)[1]


def test_calendar_file_is_relative_to_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "matches.ics").write_bytes(GOOD)
    settings = load(tmp_path, {"calendar_file": "matches.ics", "summary": "*Final*"})
    expected = settings.upstreams[0].configured_streams()[0].expected
    assert isinstance(expected, CalendarSettings)
    assert expected.source == tmp_path / "matches.ics"
    assert settings.warnings == ()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (None, "cannot read the calendar: No such file or directory"),
        (b"<html>", "cannot use the calendar: not an iCalendar file: it does not begin with BEGIN:VCALENDAR"),
        (GOOD[:16], "cannot use the calendar: the file is incomplete: END:VCALENDAR is missing"),
        (b"x" * (MAX_BYTES + 1), f"cannot read the calendar: longer than {MAX_BYTES} bytes"),
    ],
)
def test_unusable_calendar_file_is_an_error(tmp_path: Path, content: bytes | None, error: str) -> None:
    if content is not None:
        (tmp_path / "bad.ics").write_bytes(content)
    place = "upstreams[0].streams[0].expected.calendar_file"
    assert error_of(lambda: load(tmp_path, {"calendar_file": "bad.ics"})) == f"{place}: {error}"


@pytest.mark.parametrize("kind", OBSTACLES)
def test_anything_but_a_regular_file_is_an_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "bad.ics"
    put_obstacle(path, kind)
    assert "cannot read the calendar: " in error_of(lambda: load(tmp_path, {"calendar_file": str(path)}))


def test_file_of_many_streams_and_a_group_is_checked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "matches.ics").write_bytes(GOOD)
    checked = []

    def expand(content: bytes, *_: object) -> worker.Expansion:
        checked.append(content)
        return worker.Expansion(0, 1, {}, {"invalid RRULE": 2}, [], ["Mars/Olympus"])

    monkeypatch.setattr(calendars, "expand_now", expand)
    calendar = {"calendar_file": "matches.ics"}
    group = {"name": "final", "streams": [{"upstream": "edge", "stream": "live/0"}], "expected": calendar}
    settings = load(tmp_path, *[{**calendar, "before": f"{minutes}m"} for minutes in range(5)], groups=[group])
    assert checked == [GOOD]
    assert settings.warnings == (
        f"calendar {tmp_path / 'matches.ics'}: 2 events ignored: invalid RRULE",
        f"calendar {tmp_path / 'matches.ics'}: unknown time zone 'Mars/Olympus'; using the configured one",
    )


def test_url_is_a_secret_and_is_not_requested_when_the_configuration_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "url").write_text(URL)
    settings = load(tmp_path, {"calendar_url": URL}, {"calendar_url_file": "url"})
    assert "private-" not in settings.redacted_yaml() + repr(settings)
    expectations = [stream.expected for stream in settings.upstreams[0].configured_streams()]
    assert [isinstance(expected, CalendarSettings) and expected.source for expected in expectations] != [None, None]


@pytest.mark.parametrize("calendar", [{"calendar_file": "matches.ics"}, {"calendar_url": URL}])
def test_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calendar: dict[str, str]) -> None:
    (tmp_path / "matches.ics").write_bytes(GOOD)
    monkeypatch.setattr(worker, "_LIBRARIES", ("icalendar", "no_such_library_is_installed"))
    error = error_of(lambda: load(tmp_path, calendar))
    assert error.endswith('expected: a calendar needs the extra calendar: pip install "stream-exporter[calendar]"')
    load(tmp_path, True, [{"days": ["mon"], "from": "10:00", "to": "11:00"}])


@pytest.mark.parametrize("calendar", [{}, {"calendar_file": "matches.ics", "calendar_url": URL}, {"summary": "x"}])
def test_calendar_needs_exactly_one_source(tmp_path: Path, calendar: dict[str, str]) -> None:
    (tmp_path / "matches.ics").write_bytes(GOOD)
    assert "set either calendar_file, or one of calendar_url" in error_of(lambda: load(tmp_path, calendar))


def test_url_with_another_scheme_is_refused_without_showing_it(tmp_path: Path) -> None:
    error = error_of(lambda: load(tmp_path, {"calendar_url": URL.replace("https", "webcal")}))
    assert error.endswith("expected an http:// or https:// URL with a host (the value is not shown)")


@pytest.mark.parametrize("expected", ["true", "{calendar_file: matches.ics}"])
def test_the_exporter_itself_never_imports_the_libraries(tmp_path: Path, expected: str) -> None:
    (tmp_path / "matches.ics").write_bytes(GOOD)
    (tmp_path / "config.yaml").write_text(
        "upstreams:\n  - name: edge\n    platform: storm\n    url: http://127.0.0.1:1\n"
        f"    streams: [{{application: live, key: main, expected: {expected}}}]\n"
    )
    program = (
        "import sys, exporter.service; from exporter.cli import main; code = main(sys.argv[1:]);"
        "print(sorted({'icalendar', 'recurring_ical_events', 'dateutil'} & set(sys.modules)), code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--config.check", f"--config.file={tmp_path / 'config.yaml'}"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[] 0"
