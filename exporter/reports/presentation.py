"""How a report is shown: as JSON, and as Markdown. Unknown values have no key in JSON, and the word in Markdown."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from exporter.reports.report import Cause, Figures, Incident, Peak, Report, Row, Scope

_MINUTE: Final = 60.0
_SHOWN_CAUSES: Final = 3
"""Maximum number of causes of an incident in Markdown."""
_UNKNOWN: Final = "unknown"
_MEMORY_NOTE: Final = (
    "The exporter keeps this data in memory, for at most 24 hours; a restart loses it. Minutes without data are not "
    "recorded, and never counted as off air."
)


# -- JSON --------------------------------------------------------------------------------------------------------------


def report_entry(report: Report) -> dict[str, Any]:
    """Return the report as data for JSON."""
    subject = report.subject
    kind = "group" if subject.scope is Scope.GROUP else "upstream"
    return _known(
        {
            kind: subject.name,
            "stream": subject.stream or None,
            "needed_streams": subject.needed if subject.scope is Scope.GROUP else None,
            "from": format_time(report.span.start),
            "to": format_time(report.span.end),
            "generated_at": format_time(report.generated_at),
            "recording_started_at": format_time(report.recording_started_at),
            **_figures_entry(report.figures),
            "incident_count": report.incident_count if report.figures.seconds.is_expected_known else None,
            "incidents": [_incident_entry(incident) for incident in report.incidents]
            if report.figures.seconds.is_expected_known
            else None,
            "streams": [_row_entry(row) for row in report.rows] if subject.scope is not Scope.STREAM else None,
            "stream_count": report.row_count if subject.scope is not Scope.STREAM else None,
        }
    )


def _figures_entry(figures: Figures) -> dict[str, Any]:
    seconds, peak = figures.seconds, figures.peak
    return {
        "recorded_since": None if figures.recorded_since is None else format_time(figures.recorded_since),
        **{f"{name}_minutes": _minutes(value) for name, value in _times(figures).items() if value is not None},
        "unknown_minutes": _minutes(seconds.unknown),
        "expectation_unknown_minutes": _minutes(seconds.expectation_unknown),
        "bitrate_unknown_minutes": _minutes(seconds.bitrate_unknown),
        "not_recorded_minutes": _minutes(seconds.not_recorded),
        "restarts": figures.restarts,
        "peak_viewers": None if peak is None else _peak_entry(peak),
    }


def _times(figures: Figures) -> dict[str, float | None]:
    """Return the times that can be unknown, in seconds; None if unknown."""
    seconds = figures.seconds
    is_expected_known, is_live_known = seconds.is_expected_known, seconds.is_live_known
    return {
        "expected": seconds.expected if is_expected_known else None,
        "live": seconds.live if is_live_known else None,
        "live_while_expected": seconds.live_while_expected if is_live_known and is_expected_known else None,
        "off_air": seconds.off_air if is_live_known else None,
        "off_air_while_expected": seconds.off_air_while_expected if is_live_known and is_expected_known else None,
        "unknown_while_expected": seconds.unknown_while_expected if is_expected_known else None,
        "playable": seconds.playable if seconds.is_playable_known else None,
        "below_bitrate_threshold": seconds.below_bitrate if seconds.is_bitrate_known else None,
    }


def _peak_entry(peak: Peak) -> dict[str, Any]:
    return {"viewers": peak.viewers, "at": format_time(peak.at), "recorded_since": format_time(peak.recorded_since)}


def _incident_entry(incident: Incident) -> dict[str, Any]:
    return {
        "start": format_time(incident.start),
        "end": format_time(incident.end),
        "ongoing": incident.is_ongoing,
        "continues_after_range": incident.continues,
        "minutes": _minutes(incident.seconds),
        "off_air_minutes": _minutes(incident.off_air),
        "unknown_minutes": _minutes(incident.unknown),
        "causes": [_cause_entry(cause) for cause in incident.causes],
    }


def _cause_entry(cause: Cause) -> dict[str, Any]:
    return {
        "upstream": cause.key.upstream,
        "stream": cause.key.stream,
        "since": format_time(cause.since),
        "cause": cause.text,
    }


def _row_entry(row: Row) -> dict[str, Any]:
    figures = _figures_entry(row.figures)
    return _known({"upstream": row.key.upstream, "stream": row.key.stream, "role": row.role or None, **figures})


def _known(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if value is not None}


def _minutes(seconds: float) -> float:
    return round(seconds / _MINUTE, 3)


def format_time(at: float) -> str:
    """Return a time in RFC 3339, in UTC, to the second."""
    return f"{_utc(at).isoformat(timespec='seconds')}Z"


def _utc(at: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(round(at), datetime.UTC).replace(tzinfo=None)


# -- Markdown ----------------------------------------------------------------------------------------------------------


def markdown(report: Report) -> str:
    """Return the report as Markdown."""
    span = report.span
    parts = [
        f"# Report on {_title(report)}\n",
        f"{_time_text(span.start)} to {_time_text(span.end)} UTC ({_minutes_text(span.end - span.start)} min)\n",
        _table(("", "minutes"), _summary_rows(report)),
        "".join(f"- {fact}\n" for fact in _facts(report)),
        f"## Incidents\n\n{_incidents(report)}",
    ]
    if report.rows:
        parts.append(f"## Streams\n\n{_streams(report)}")
    parts.append("".join(f"{note}\n" for note in _notes(report)))
    return "\n".join(parts)


def _title(report: Report) -> str:
    subject = report.subject
    if subject.scope is Scope.GROUP:
        return f"the group {_code(subject.name)}"
    if subject.scope is Scope.UPSTREAM:
        return f"the upstream {_code(subject.name)}"
    return f"the stream {_code(subject.stream)} of {_code(subject.name)}"


def _summary_rows(report: Report) -> list[tuple[str, str]]:
    seconds, times = report.figures.seconds, _times(report.figures)
    named = (
        ("Expected", times["expected"]),
        ("Expectation unknown", seconds.expectation_unknown),
        ("Live", times["live"]),
        ("Live while expected", times["live_while_expected"]),
        ("Off air", times["off_air"]),
        ("Off air while expected", times["off_air_while_expected"]),
        ("Unknown", seconds.unknown),
        ("Unknown while expected", times["unknown_while_expected"]),
        ("Not recorded", seconds.not_recorded),
        ("Playable", times["playable"]),
        ("Below the bitrate threshold", times["below_bitrate_threshold"]),
        ("Live with unknown bitrate", seconds.bitrate_unknown),
    )
    return [(name, _minutes_text(value)) for name, value in named]


def _facts(report: Report) -> list[str]:
    figures, scope = report.figures, report.subject.scope
    facts = [f"Restarts: {_UNKNOWN if figures.restarts is None else figures.restarts}"]
    peak = figures.peak
    total = "" if scope is Scope.STREAM else ", sum of the streams with a known number"
    if peak is None:
        facts.append(f"Peak viewers: {_UNKNOWN}")
    else:
        since = f", recorded since {_time_text(peak.recorded_since)}" if peak.recorded_since > report.span.start else ""
        facts.append(f"Peak viewers: {peak.viewers:,} at {_time_text(peak.at)[:-3]}{total}{since}")
    if scope is Scope.GROUP:
        facts.append(f"Streams needed: {report.subject.needed} of {report.row_count}")
    if scope is Scope.UPSTREAM:
        facts.append(f"Minutes are the sum over {_count(report.row_count, 'recorded stream')}")
    return facts


def _incidents(report: Report) -> str:
    seconds = report.figures.seconds
    if not seconds.is_expected_known:
        return "Unknown: no data says when this should have been live.\n"
    if not report.incidents:
        known = _minutes_text(seconds.expected + seconds.not_expected)
        is_partly_unknown = _minutes(seconds.expectation_unknown + seconds.not_recorded) > 0
        return f"None in the {known} minutes for which the expectation is known.\n" if is_partly_unknown else "None.\n"
    heading = ("start", "end", "minutes", "off air", "unknown", "first cause")
    table = _table(heading, (_incident_row(incident, report) for incident in report.incidents))
    left_out = report.incident_count - len(report.incidents)
    return table + (f"\n{_count(left_out, 'shorter incident')} not listed.\n" if left_out else "")


def _incident_row(incident: Incident, report: Report) -> Sequence[str]:
    several = report.subject.scope is not Scope.STREAM
    shown = [_cause_text(cause, incident, with_stream=several) for cause in incident.causes[:_SHOWN_CAUSES]]
    if len(incident.causes) > _SHOWN_CAUSES:
        shown.append("others")
    return (
        _time_text(incident.start),
        _end_text(incident),
        _minutes_text(incident.seconds),
        _minutes_text(incident.off_air),
        _minutes_text(incident.unknown),
        "; then ".join(shown),
    )


def _end_text(incident: Incident) -> str:
    if incident.is_ongoing:
        return "ongoing"
    return _time_text(incident.end) + (" (continues after the range)" if incident.continues else "")


def _cause_text(cause: Cause, incident: Incident, *, with_stream: bool) -> str:
    stream = f"{_code('/'.join(cause.key))}: " if with_stream else ""
    since = f" (since {_time_text(cause.since)})" if round(cause.since) != round(incident.start) else ""
    return f"{stream}{cause.text}{since}"


def _streams(report: Report) -> str:
    has_roles = any(row.role for row in report.rows)
    heading = ["stream", "role", "expected", "live", "off air", "unknown", "not recorded", "below bitrate", "restarts"]
    heading.append("peak viewers")
    rows = [_stream_row(row) for row in report.rows]
    if not has_roles:
        heading.remove("role")
        rows = [[cell for index, cell in enumerate(row) if index != 1] for row in rows]
    left_out = report.row_count - len(report.rows)
    return _table(heading, rows) + (f"\n{_count(left_out, 'more stream')} not listed.\n" if left_out else "")


def _stream_row(row: Row) -> list[str]:
    figures, times = row.figures, _times(row.figures)
    return [
        _code("/".join(row.key)),
        _plain(row.role),
        _minutes_text(times["expected"]),
        _minutes_text(times["live"]),
        _minutes_text(times["off_air"]),
        _minutes_text(figures.seconds.unknown),
        _minutes_text(figures.seconds.not_recorded),
        _minutes_text(times["below_bitrate_threshold"]),
        _UNKNOWN if figures.restarts is None else str(figures.restarts),
        _UNKNOWN if figures.peak is None else f"{figures.peak.viewers:,}",
    ]


def _notes(report: Report) -> list[str]:
    since = report.figures.recorded_since
    if since is None:
        recorded = "Nothing is recorded in this range. "
    elif since > report.span.start:
        recorded = f"Recorded since {_time_text(since)}. "
    else:
        recorded = ""
    started = f"Recording began at {_time_text(report.recording_started_at)}, when the exporter started. "
    return [f"{recorded}{started}{_MEMORY_NOTE}"]


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "".join(f"| {' | '.join(line)} |\n".replace("|  |", "| |") for line in lines)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _minutes_text(seconds: float | None) -> str:
    return _UNKNOWN if seconds is None else f"{seconds / _MINUTE:.2f}"


def _time_text(at: float) -> str:
    return _utc(at).isoformat(sep=" ", timespec="seconds")


def _code(text: str) -> str:
    """Return text from a configuration or platform as a code span that also fits in a table."""
    shown = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    shown = shown.replace("|", "\\|")
    if "`" not in shown:
        return f"`{shown}`"
    longest = max(len(run) for run in "".join(c if c == "`" else " " for c in shown).split())
    fence = "`" * (longest + 1)
    return f"{fence} {shown} {fence}"


def _plain(text: str) -> str:
    return _code(text) if text else ""
