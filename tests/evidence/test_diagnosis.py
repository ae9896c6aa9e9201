"""A 404 that is not the platform's own means a wrong URL, not an idle stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import structlog.testing

from exporter.platforms.testing import RecordedResponse
from tests.evidence.evidence_harness import (
    LIVEPEER,
    LIVEPEER_KEY,
    NMS,
    STORM,
    WAVE,
    evidence_harness,
    nms4,
    storm,
    storm_list,
    storm_stream,
)

FOREIGN: dict[str, RecordedResponse] = {
    "page": RecordedResponse(b"<html><body>404 Not Found</body></html>", 404, "text/html"),
    "router": RecordedResponse(b"404 page not found\n", 404, "text/plain"),
    "express": RecordedResponse(b"Cannot GET /x", 404, "text/html"),
    "nothing": RecordedResponse(b"", 404, "text/plain"),
    "empty object": RecordedResponse(b"{}", 404),
    "list": RecordedResponse(b"[]", 404),
    "text": RecordedResponse(b'"not found"', 404),
}
OWN: dict[str, RecordedResponse] = {
    "message": RecordedResponse(b'{"message": "Stream not found"}', 404),
    "error": RecordedResponse(b'{"error": {"code": "NOT_FOUND", "message": "Session not found"}}', 404),
    "errors": RecordedResponse(b'{"errors": ["not found"]}', 404),
}
STREAM: dict[str, Any] = {"streams": [{"application": "a", "key": "k", "expected": True}]}
LOGIN: dict[str, Any] = {"auth": {"username": "u", "password": "correct horse"}}
TOKEN = {"data": {"accessToken": "token", "remainingTime": 900_000}}


class DefaultingResponses(dict[str, Any]):
    """Responses with a default for all default_response requests."""

    def __init__(self, default_response: RecordedResponse, responses: Mapping[str, Any] | None = None) -> None:
        super().__init__(responses or {})
        self.default_response = default_response

    def get(self, request: str, default: Any = None) -> Any:
        return super().get(request, self.default_response)

    def __deepcopy__(self, memo: Any) -> DefaultingResponses:
        return self


@pytest.mark.parametrize("foreign", FOREIGN)
async def test_login_at_a_wrong_base_path_is_not_found(foreign: str) -> None:
    settings: dict[str, Any] = {"base_path": "/wrong", **LOGIN, **STREAM}
    async with evidence_harness(STORM, DefaultingResponses(FOREIGN[foreign]), **settings) as harness:
        with structlog.testing.capture_logs() as logs:
            served = await harness.poll(3)
        assert served.upstream("failing", reason="not_found") == 1
        assert served.upstream("failing", reason="auth") is None
        assert served.status("a/k") == "unknown"
        assert harness.pages() == set()
    assert harness.state is not None
    assert "base_path" in harness.state.last_error
    assert "password" not in harness.state.last_error
    failed = next(entry for entry in logs if entry["event"] == "upstream is failing")
    assert (failed["reason"], "base_path" in failed["error"]) == ("not_found", True)


@pytest.mark.parametrize("status", [401, 403, 400])
async def test_refused_login_is_an_auth_failure(status: int) -> None:
    responses = {"POST /api/auth/login": RecordedResponse(b'{"message": "Invalid credentials"}', status)}
    async with evidence_harness(STORM, responses, **LOGIN, **STREAM) as harness:
        served = await harness.poll()
    assert served.upstream("failing", reason="auth") == 1


@pytest.mark.parametrize("discover", ["auto", True, False])
@pytest.mark.parametrize("foreign", FOREIGN)
@pytest.mark.parametrize("has_login", [True, False])
async def test_doubled_base_path_is_not_found(foreign: str, discover: Any, *, has_login: bool) -> None:
    """The login may succeed at the doubled path, too, if the server accepts any path."""
    responses = DefaultingResponses(FOREIGN[foreign], {"POST /api/api/auth/login": TOKEN})
    settings: dict[str, Any] = {"base_path": "/api/api", "discover": discover, **(LOGIN if has_login else {}), **STREAM}
    async with evidence_harness(STORM, responses, **settings) as harness:
        with structlog.testing.capture_logs() as logs:
            served = await harness.poll(6)
        assert (served.upstream("up"), served.upstream("failing", reason="not_found")) == (0, 1)
        assert served.status("a/k") == "unknown"
        assert harness.pages() == set()
    assert harness.state is not None
    assert "base_path" in harness.state.last_error
    assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == ["upstream is failing"]


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("discover", ["auto", False])
async def test_404_for_every_storm_request_is_an_idle_stream(own: str, discover: Any) -> None:
    responses = DefaultingResponses(OWN[own])
    async with evidence_harness(STORM, responses, discover=discover, **STREAM) as harness:
        served = await harness.poll(2)
        assert (served.upstream("up"), served.status("a/k")) == (1, "idle")
        assert harness.pages() == {"StreamExpectedOffline a/k"}


SINGLE: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "storm": (STORM, {"discover": False, **STREAM}, {}, "a/k"),
    "storm beside its list": (STORM, STREAM, storm(storm_stream("default_response")), "a/k"),
    "livepeer stream": (LIVEPEER, {"streams": [{"id": "s1", "expected": True}], **LIVEPEER_KEY}, {}, "s1"),
    "livepeer session": (LIVEPEER, {"sessions": [{"id": "s1", "expected": True}], **LIVEPEER_KEY}, {}, "s1"),
    "wave": (WAVE, {"sessions": [{"id": "s1", "expected": True}], "auth": {"bearer_token": "t"}}, {}, "s1"),
    "nms4 with a doubtful list": (
        NMS,
        {"streams": [{"application": "live", "key": "n", "expected": True}]},
        {**nms4(), "GET /api/v1/streams": {"data": {"streams": [], "total": 3}}},
        "live/n",
    ),
}


@pytest.mark.parametrize("foreign", FOREIGN)
@pytest.mark.parametrize("name", SINGLE)
async def test_404_of_another_server_is_an_unknown_stream(name: str, foreign: str) -> None:
    platform, settings, responses, label = SINGLE[name]
    async with evidence_harness(platform, DefaultingResponses(FOREIGN[foreign], responses), **settings) as harness:
        served = await harness.poll(3)
        assert served.status(label) == "unknown"
        failures = served.upstream("stream_failures_total", reason="not_found")
        assert served.upstream("failing", reason="not_found") == 1 or failures == 3
        assert harness.pages() == set()


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("name", SINGLE)
async def test_404_of_the_platform_is_an_idle_stream(name: str, own: str) -> None:
    platform, settings, responses, label = SINGLE[name]
    async with evidence_harness(platform, DefaultingResponses(OWN[own], responses), **settings) as harness:
        served = await harness.poll(2)
    assert (served.upstream("up"), served.status(label)) == (1, "idle")


async def test_server_without_lists_and_configured_streams_names_the_base_path() -> None:
    async with evidence_harness(STORM, DefaultingResponses(FOREIGN["page"]), base_path="/wrong") as harness:
        served = await harness.poll()
    assert served.upstream("failing", reason="not_found") == 1
    assert harness.state is not None
    assert "base_path" in harness.state.last_error


async def test_corrected_server_is_detected_without_a_restart() -> None:
    responses = DefaultingResponses(FOREIGN["page"])
    async with evidence_harness(STORM, responses, **STREAM) as harness:
        assert (await harness.poll(3)).status("a/k") == "unknown"
        responses["GET /api/streams"] = storm_list(storm_stream(), storm_stream("found"))
        served = await harness.poll(after=60.0)
    assert served.live_streams() == {"a/k", "a/found"}
