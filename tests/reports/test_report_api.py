"""``/api/v1/report``: what it returns, and which requests it refuses."""

from __future__ import annotations

import asyncio
from pathlib import Path
from unittest import mock

import pytest
from structlog.testing import capture_logs

from exporter.reports import service as service_module
from exporter.reports.recorder import Recorder
from exporter.reports.service import SUSPENDED_SECONDS
from tests.interface.listed import changes, json_keys
from tests.reports.recording import EXPECTED_BITRATE, stream
from tests.reports.served_reports import CONFIG, ServedReports, served_reports

KEYS = Path(__file__).with_name("keys.txt")


def final(served: ServedReports) -> None:
    """An hour of a group whose members both fail."""
    served.minutes(0, stream("backup", upstream="other", expected=None, viewers=10), name="other")
    served.minutes(20, stream(viewers=100, bitrate=EXPECTED_BITRATE))
    served.minutes(0, stream(live=False))
    served.minutes(10, stream("backup", upstream="other", expected=None, live=False), name="other")
    served.minutes(30, stream(viewers=80, bitrate=0.5 * EXPECTED_BITRATE, restarts=1))


async def test_report_on_the_last_hour_of_a_group(tmp_path: Path) -> None:
    async with served_reports(tmp_path) as served:
        final(served)
        entry = await served.get("group=final")
        assert (entry["from"], entry["to"]) == ("2026-12-06T20:00:00Z", "2026-12-06T21:00:00Z")
        assert (entry["live_minutes"], entry["off_air_minutes"], entry["restarts"]) == (50.0, 10.0, 1)
        assert entry["below_bitrate_threshold_minutes"] == 30.0
        assert entry["peak_viewers"]["viewers"] == 110
        assert [row["role"] for row in entry["streams"]] == ["main", "backup"]


async def test_report_keys_do_not_disappear_unnoticed(tmp_path: Path) -> None:
    async with served_reports(tmp_path) as served:
        final(served)
        found = {
            key
            for query in ("group=final", "upstream=edge", "upstream=edge&stream=main")
            for key in json_keys(await served.get(query))
        }
    assert changes(KEYS, found) == ""


async def test_report_on_a_stream_and_on_an_upstream(tmp_path: Path) -> None:
    async with served_reports(tmp_path) as served:
        final(served)
        entry = await served.get("upstream=edge&stream=main&from=1796588400&to=1796590800")
        assert (entry["upstream"], entry["stream"]) == ("edge", "main")
        assert (entry["from"], entry["to"]) == ("2026-12-06T20:20:00Z", "2026-12-06T21:00:00Z")
        assert (entry["off_air_minutes"], entry["live_minutes"]) == (10.0, 30.0)
        entry = await served.get("upstream=other")
        assert [row["stream"] for row in entry["streams"]] == ["backup"]


@pytest.mark.parametrize(
    ("from_", "to"),
    [
        ("2026-12-06T20:20:00Z", "2026-12-06T20:30:00%2B00:00"),
        ("2026-12-06T21:20:00+01:00", "2026-12-06T21:30:00+01:00"),
        ("40m", "30m%20ago"),
        ("1796588400.0", "1796589000"),
    ],
)
async def test_range_can_be_given_in_several_forms(tmp_path: Path, from_: str, to: str) -> None:
    async with served_reports(tmp_path) as served:
        final(served)
        entry = await served.get(f"group=final&from={from_}&to={to}")
        assert (entry["from"], entry["to"]) == ("2026-12-06T20:20:00Z", "2026-12-06T20:30:00Z")
        assert entry["off_air_minutes"] == 10.0


@pytest.mark.parametrize(
    ("query", "status", "error"),
    [
        ("", 400, "expected either group, or upstream with or without stream"),
        ("stream=main", 400, "expected either group, or upstream with or without stream"),
        ("group=final&upstream=edge", 400, "expected either group, or upstream with or without stream"),
        ("group=final&format=xml", 400, "format: expected json or markdown"),
        ("group=final&from=yesterday", 400, "from: expected a time with its UTC offset"),
        ("group=final&to=2026-12-06T20:00:00", 400, "to: expected a time with its UTC offset"),
        ("group=final&from=1e5", 400, "from: expected"),
        ("group=final&from=999999999999", 400, "from: expected"),
        ("group=final&from=99y", 400, "from: expected"),
        ("group=final&from=9999-12-31T23:59:59-23:00", 400, "from: expected"),
        ("group=final&from=0001-01-01T00:00:00%2B01:00", 400, "from: expected"),
        ("group=final&from=1h&to=2h", 400, "from must be before to"),
        ("group=final&from=now&to=now", 400, "from must be before to"),
        ("group=final&from=40d", 400, "a report covers at most 31 days"),
        ("group=finale", 404, "unknown group 'finale'"),
        ("upstream=nowhere", 404, "unknown upstream 'nowhere'"),
        ("upstream=nowhere&stream=main", 404, "unknown upstream 'nowhere'"),
        ("upstream=edge&stream=nothing", 404, "stream not found"),
    ],
)
async def test_unusable_request_is_refused(tmp_path: Path, query: str, status: int, error: str) -> None:
    async with served_reports(tmp_path) as served:
        final(served)
        answer = await served.get(query, status)
        assert answer["error"].startswith(error)


@pytest.mark.parametrize(
    ("query", "accept", "content_type"),
    [
        ("", "text/markdown", "text/markdown; charset=utf-8"),
        ("&format=markdown", "*/*", "text/markdown; charset=utf-8"),
        ("&format=json", "text/markdown", "application/json; charset=utf-8"),
        ("", "*/*", "application/json; charset=utf-8"),
    ],
)
async def test_format_is_that_of_the_parameter_or_of_accept(
    tmp_path: Path, query: str, accept: str, content_type: str
) -> None:
    async with served_reports(tmp_path) as served:
        final(served)
        kind, text = await served.text(f"group=final{query}", {"Accept": accept})
        assert kind == content_type
        assert text.startswith("# Report on the group `final`" if "markdown" in kind else '{"group":"final"')


async def test_stream_that_is_not_recorded_is_recorded_from_the_request_on(tmp_path: Path) -> None:
    found = stream("found", configured=False, expected=None)
    async with served_reports(tmp_path) as served:
        served.minutes(10, found)
        entry = await served.get("upstream=edge&stream=found")
        assert entry["not_recorded_minutes"] == 60.0
        served.minutes(10, found)
        entry = await served.get("upstream=edge&stream=found")
        assert (entry["live_minutes"], entry["not_recorded_minutes"]) == (10.0, 50.0)


async def test_reload_keeps_what_is_recorded_and_applies_the_threshold(tmp_path: Path) -> None:
    low = stream(bitrate=0.7 * EXPECTED_BITRATE)
    async with served_reports(tmp_path) as served:
        served.minutes(10, low)
        served.file.write_text(f"{CONFIG}alerting: {{thresholds: {{StreamBitrateLow: 0.5}}}}\n")
        await served.service.reload()
        served.minutes(10, low)
        entry = await served.get("upstream=edge&stream=main&from=20m")
        assert (entry["live_minutes"], entry["below_bitrate_threshold_minutes"]) == (20.0, 10.0)
        served.file.write_text(CONFIG.partition("groups:")[0])
        await served.service.reload()
        await served.get("group=final", 404)
        entry = await served.get("upstream=edge&stream=main&from=20m")
        assert entry["live_minutes"] == 20.0


async def test_time_without_heartbeats_is_unknown(tmp_path: Path) -> None:
    async with served_reports(tmp_path) as served:
        served.service.reports.beat()
        served.minutes(0, stream())
        served.clock.advance(SUSPENDED_SECONDS)
        served.service.reports.beat()
        served.minutes(30)
        served.minutes(9, stream())
        entry = await served.get("upstream=edge&stream=main&from=40m")
        assert (entry["live_minutes"], entry["unknown_minutes"]) == (10.0, 30.0)


async def test_states_that_could_not_be_recorded_are_unknown(tmp_path: Path) -> None:
    async with served_reports(tmp_path) as served:
        with capture_logs() as logs:
            for _ in range(2):
                served.minutes(0, stream("backup", upstream="other"), name="other")
                served.minutes(5, stream())
                with mock.patch.object(Recorder, "record", side_effect=RuntimeError("defect")):
                    served.minutes(10, stream())
                    served.minutes(10, stream())
                served.minutes(5, stream())
            entry = await served.get("upstream=edge&stream=main")
        assert (entry["live_minutes"], entry["unknown_minutes"]) == (20.0, 40.0)
        assert (await served.get("upstream=other&stream=backup"))["live_minutes"] == 60.0, "it was recorded"
        errors = [(each["subject"], each["error"]) for each in logs if each["log_level"] == "error"]
        assert [subject for subject, _ in errors] == ["upstream edge"] * 2, "once for each series of failures"
        assert errors[0][1].startswith("RuntimeError")


async def test_number_of_concurrent_reports_is_limited(tmp_path: Path) -> None:
    async with served_reports(tmp_path) as served:
        final(served)
        with mock.patch.object(service_module, "MAX_WAITING", 0):
            async with served.session.get("/api/v1/report?group=final") as answer:
                assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        entries = await asyncio.gather(*(served.get("group=final") for _ in range(8)))
        assert {entry["live_minutes"] for entry in entries} == {50.0}
        await served.get("group=final")
