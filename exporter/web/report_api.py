"""Reports on groups, upstreams and streams (``/api/v1/report``), as JSON or Markdown."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Final, cast, get_args

from aiohttp import hdrs, web

from exporter.reports.moments import MomentError, parse_span
from exporter.reports.report import Span
from exporter.reports.service import BusyError, Format, UnknownSubjectError
from exporter.runtime.clock import Clock
from exporter.web.json_api import error_response
from exporter.web.protocols import ReportSource

REPORT_PATH: Final = "/api/v1/report"
_FORMATS: Final = get_args(Format)
_CONTENT_TYPES: Final = {"json": "application/json", "markdown": "text/markdown"}
_ONE_OF: Final = "expected either group, or upstream with or without stream"
_RETRY_SECONDS: Final = "5"


class ReportApi:
    """Handler of the reports."""

    def __init__(self, reports: ReportSource, clock: Clock) -> None:
        self._reports = reports
        self._clock = clock

    def add_routes(self, app: web.Application) -> None:
        """Add the route."""
        app.router.add_get(REPORT_PATH, self.report)

    async def report(self, request: web.Request) -> web.Response:
        """Return the report on ``group``, or ``upstream`` and ``stream``, between ``from`` and ``to``."""
        query = request.query
        format_ = _wanted_format(request)
        if format_ is None:
            return error_response(400, f"format: expected {' or '.join(_FORMATS)}")
        try:
            span = parse_span(query.get("from"), query.get("to"), self._clock.now())
        except MomentError as error:
            return error_response(400, str(error))
        making = self._make_report(query.get("group"), query.get("upstream"), query.get("stream"), span, format_)
        if making is None:
            return error_response(400, _ONE_OF)
        try:
            body = await making
        except UnknownSubjectError as error:
            return error_response(404, str(error))
        except BusyError:
            response = error_response(503, "too many reports are being made; try again later")
            response.headers[hdrs.RETRY_AFTER] = _RETRY_SECONDS
            return response
        headers = {hdrs.VARY: hdrs.ACCEPT}
        return web.Response(body=body, content_type=_CONTENT_TYPES[format_], charset="utf-8", headers=headers)

    def _make_report(
        self, group: str | None, upstream: str | None, stream: str | None, span: Span, format_: Format
    ) -> Coroutine[Any, Any, bytes] | None:
        """Return the report's coroutine; None if the parameters do not select a group, upstream or stream."""
        if group is not None and upstream is None and stream is None:
            return self._reports.render_group(group, span, format_)
        if group is not None or upstream is None:
            return None
        if stream is None:
            return self._reports.render_upstream(upstream, span, format_)
        return self._reports.render_stream(upstream, stream, span, format_)


def _wanted_format(request: web.Request) -> Format | None:
    """Return the format of ``format``, otherwise that of ``Accept``; None if it is unknown."""
    accepted = "markdown" if "text/markdown" in request.headers.get(hdrs.ACCEPT, "").lower() else "json"
    wanted = request.query.get("format", accepted)
    return cast("Format", wanted) if wanted in _FORMATS else None
