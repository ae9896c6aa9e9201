"""A platform's API as the fault server provides it: recorded responses, for requests with the right secret."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from typing import Any

from exporter.config.auth import AuthSettings
from exporter.platforms.testing import RecordedResponse
from tests.evidence.lifecycle_rows import read_value, with_values
from tests.faults.health_facts import health_paths
from tests.http.raw_server import Request
from tests.platforms.recordings import PlatformRecording, Rows
from tests.platforms.row_documents import Document, Row

TEN_YEARS_SECONDS = 10 * 365.25 * 86_400
BYTES_PER_SECOND = 500_000.0
_YEAR_SECONDS = 365.25 * 86_400
_SECRET_KEYS = ("password", "bearer_token", "api_key")
_UNIX_TIME = re.compile(rb"(?<![\w.-])(\d{10})(\d{3})?(?![\w-])")
"""In seconds or milliseconds."""
_ISO_TIME = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
_NOT_FOUND = RecordedResponse(b"<html>Not found</html>", 404, "text/html")
"""For requests that are not in the recording; not a statement of the platform about a stream."""

RowChange = Callable[["RecordedApi", Document, Row], list[Row]]


class RecordedApi:
    """One platform with three streams; faults of a single stream affect the first one."""

    def __init__(self, recording: PlatformRecording) -> None:
        self.recording = recording.three_streams() if recording.streams else recording
        everything = self.recording.live_labels()
        others = self.recording.without_first().live_labels() if recording.streams else set()
        self.labels = (*sorted(everything - others), *sorted(others))
        """Ids of the live streams, starting with the affected one."""
        self._auth = AuthSettings.model_validate(self.recording.recording.settings.get("auth", {}))
        self._recorded_at = self.recording.recording.recorded_at
        self._started_at = time.monotonic()
        self.health_paths = health_paths(recording) if recording.streams else ()
        """Paths, within a row, of the values that a stream's score is computed from."""

    @property
    def username(self) -> str:
        return self._auth.username or ""

    @property
    def is_xml(self) -> bool:
        return self.recording.content_type == "text/xml"

    def upstream(self, url: str, secret_file: Path) -> dict[str, Any]:
        """Return the upstream's settings without its name; ``url``: where the fault server serves it."""
        given = self.recording.recording.settings
        own = {key: value for key, value in given.items() if key not in ("name", "interval", "timeout", "stale_after")}
        auth = dict(given.get("auth", {}))
        for key in _SECRET_KEYS:
            if auth.pop(key, None) is not None:
                auth[f"{key}_file"] = str(secret_file)
        return {**own, "platform": self.recording.platform.name, "url": url, "auth": auth}

    def respond(self, request: Request, path: str, secret: str, *, ahead: bool = False) -> RecordedResponse:
        """Return the valid response, on the platform's clock; ``path``: below the upstream's URL, with query.

        ``ahead``: whether that clock is ten years ahead.
        """
        name = request_name(request, path)
        known = name in self.recording.recording.responses
        response = self.recording.response(name) if known else _NOT_FOUND
        login = self.recording.login
        if login is not None and name == login.request:
            response = response.with_values({login.token: login_token(secret)})
        response = self._moving(name, response) if known else response
        body = moved_times(response.body, self._recorded_at, TEN_YEARS_SECONDS) if ahead else response.body
        now = self._recorded_at + self._running_seconds + (TEN_YEARS_SECONDS if ahead else 0.0)
        return replace(response, body=body, headers={"Date": formatdate(now, usegmt=True)})

    @property
    def _running_seconds(self) -> float:
        return time.monotonic() - self._started_at

    def _moving(self, name: str, response: RecordedResponse) -> RecordedResponse:
        """Return a response whose totals and heartbeats have continued since the recording."""
        rows, evidence = self.recording.streams, self.recording.evidence
        if rows is None or evidence is None or name not in rows.rows:
            return response
        speeds = {evidence.ingest_total: BYTES_PER_SECOND, evidence.heartbeat: 1000.0}
        passed = self._running_seconds

        def moved(row: Row) -> list[Row]:
            values = {path: read_value(row, path) for path in speeds if path}
            return [
                with_values(
                    row, {path: int(float(v) + speeds[path] * passed) for path, v in values.items() if v is not None}
                )
            ]

        document = self.recording.document(name)
        document.change_rows(rows.rows[name], moved)
        return replace(response, body=document.body())

    def refused(self, request: Request, path: str, secret: str) -> int | None:
        """Return the error status for a request without the current secret; None if it has it."""
        name, login = request_name(request, path), self.recording.login
        if self._auth.secret is None or name in self.recording.public:
            return None
        if login is not None and name == login.request:
            password = json.loads(request.body).get(login.password)
            return None if password == secret else 400 if password is None else 401
        proofs = {
            "api_key": secret,
            "bearer": f"Bearer {secret}",
            "login": f"Basic {basic(self.username, secret)}" if login is None else bearer_of_login(secret),
        }
        return None if proofs[self._auth.kind] in request.headers.values() else 401

    # -- rows ----------------------------------------------------------------------------------------------------------

    def changed_rows(
        self, request: Request, path: str, response: RecordedResponse, change: RowChange, *, only_victim: bool
    ) -> RecordedResponse:
        """Return a response with changed rows; ``only_victim``: only those of the first stream."""
        rows = self.recording.streams
        document = self._document(request, path, response, rows)
        if document is None or rows is None:
            return response
        where = rows.rows[request_name(request, path)]

        def changed(row: Row) -> list[Row]:
            return change(self, document, row) if not only_victim or self._is_victim(document, row) else [row]

        document.change_rows(where, changed)
        return replace(response, body=document.body())

    def without_list(self, request: Request, path: str, response: RecordedResponse) -> RecordedResponse:
        """Return a response with something else instead of the list of streams."""
        rows, name = self.recording.streams, request_name(request, path)
        document = self._document(request, path, response, rows)
        if document is None or rows is None:
            return response
        return replace(response, body=document.without_list(rows.rows[name])[-1])

    def with_next_page(
        self, request: Request, path: str, response: RecordedResponse, page: str, *, other_rows: bool
    ) -> RecordedResponse:
        """Return a response that announces another page; ``other_rows``: its rows are named after this page."""
        pages = self.recording.pages
        if pages is None:
            return response
        document = self._document(request, path, response, pages.rows)
        if document is None:
            return response
        if other_rows:
            # with their own names too: streams that share a name keep their suffixed labels after they are gone
            fields = (pages.rows.identity[-1], *pages.rows.names)
            document.change_rows(
                pages.rows.rows[request_name(request, path)],
                lambda row: [document.with_texts(row, {f: f"{document.read(row, f)}-{page}" for f in fields})],
            )
        response = replace(response, body=document.body()).with_values(pages.set)
        link = {"Link": f'<{pages.link.format(page=page)}>; rel="next"'} if pages.link else {}
        return replace(response, headers={**response.headers, **link})

    def _document(self, request: Request, path: str, response: RecordedResponse, rows: Rows | None) -> Document | None:
        name = request_name(request, path)
        if response.status != 200 or rows is None or name not in rows.rows:
            return None
        # the body may be ten years ahead of the recorded one
        return self.recording.with_bodies({name: response.body}).document(name)

    def is_alone(self, document: Document) -> bool:
        """Return whether a response is the record of a single configured stream."""
        return any(document.is_alone(path) for path in self.recording.rows.rows.values())

    def other_identity(self) -> dict[str, str]:
        """Return the identity of the second stream, if each stream has its own response."""
        request, path = list(self.recording.rows.rows.items())[1]
        document = self.recording.document(request)
        return {field: document.read(document.rows(path)[0], field) for field in self.recording.rows.identity}

    def _is_victim(self, document: Document, row: Row) -> bool:
        request, path = next(iter(self.recording.rows.rows.items()))
        first = self.recording.document(request)
        victim = first.rows(path)[0]
        return all(document.read(row, field) == first.read(victim, field) for field in self.recording.rows.identity)


def request_name(request: Request, path: str) -> str:
    """Return the recording's name for a request."""
    return f"{request.method} {path.partition('?')[0]}"


def login_token(password: str) -> str:
    """Return the token for a login with this password."""
    return f"{password}-logged-in"


def bearer_of_login(password: str) -> str:
    """Return the authorization header after a login."""
    return f"Bearer {login_token(password)}"


def basic(username: str, password: str) -> str:
    """Return the authorization header for HTTP Basic."""
    return base64.b64encode(f"{username}:{password}".encode()).decode()


def moved_times(body: bytes, recorded_at: float, seconds: float) -> bytes:
    """Return a body with all times moved: numbers and texts within a year of the recording."""

    def unix(match: re.Match[bytes]) -> bytes:
        whole = int(match[1])
        is_time = abs(whole - recorded_at) < _YEAR_SECONDS
        return b"%d%s" % (whole + int(seconds), match[2] or b"") if is_time else match[0]

    def iso(match: re.Match[bytes]) -> bytes:
        moment = datetime.fromisoformat(match[0].decode()).replace(tzinfo=UTC).timestamp()
        return datetime.fromtimestamp(moment + int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()

    return _ISO_TIME.sub(iso, _UNIX_TIME.sub(unix, body))
