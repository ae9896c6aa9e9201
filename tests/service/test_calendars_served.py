"""A whole exporter with event calendars."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from exporter.config.loading import ConfigError
from tests.service.exporter_harness import exporting, serving

ALWAYS = (
    "BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART:20000101\nDTEND:20990101\nSUMMARY:Open end\nEND:VEVENT\nEND:VCALENDAR\n"
)


def configuration(calendar: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """Return a configuration with one stream of a platform that does not answer."""
    streams = [{"application": "live", "key": "main", "expected": calendar}]
    upstream = {"name": "edge", "platform": "storm", "url": "http://127.0.0.1:1", "timeout": "1s", "streams": streams}
    return {"upstreams": [{**upstream, **keys}]}


async def test_stream_is_expected_from_a_calendar_file_and_a_broken_file_refuses_a_reload(tmp_path: Path) -> None:
    path = tmp_path / "always.ics"
    path.write_text(ALWAYS)
    calendar = {"calendar_file": "always.ics", "summary": "open*"}
    async with exporting(tmp_path, configuration(calendar)) as exporter:
        await exporter.reaches(1, "stream_expected", stream="live/main")
        assert await exporter.value("stream_upstream_calendar_readable", calendar="always.ics") == 1
        path.write_text("half a calendar")
        with pytest.raises(ConfigError, match="cannot use the calendar"):
            await exporter.service.reload()
        assert await exporter.value("stream_expected", stream="live/main") == 1
        exporter.write(configuration({"calendar_file": str(tmp_path / "other.ics")}))
        (tmp_path / "other.ics").write_text(ALWAYS)
        await exporter.service.reload()
        await exporter.reaches(1, "stream_upstream_calendar_readable", calendar="other.ics")
        await exporter.reaches(1, "stream_expected", stream="live/main")
        exporter.write(configuration({"calendar_file": "other.ics", "summary": "something else"}))
        await exporter.service.reload()
        await exporter.reaches(0, "stream_expected", stream="live/main")


async def test_calendar_that_was_never_read_leaves_the_expectation_unknown(tmp_path: Path) -> None:
    requests = 0

    async def refuse(_: web.Request) -> web.Response:
        nonlocal requests
        requests += 1
        return web.Response(status=404)

    app = web.Application()
    app.router.add_get("/private-token/basic.ics", refuse)
    async with serving(app) as url:
        calendar = {"calendar_url": f"{url}/private-token/basic.ics"}
        async with exporting(tmp_path, configuration(calendar)) as exporter:
            await exporter.reaches(0, "stream_upstream_calendar_readable", calendar="127.0.0.1")
            assert await exporter.value("stream_expected") is None
            assert await exporter.value("stream_upstream_calendar_last_success_timestamp_seconds") is None
            # the reader survives a reload with another setting of the upstream
            exporter.write(configuration(calendar, interval="20s"))
            await exporter.service.reload()
            await exporter.reaches(0, "stream_upstream_calendar_readable", calendar="127.0.0.1")
            assert requests == 1
            assert "private-token" not in await exporter.get("/api/v1/streams") + await exporter.get("/metrics")
