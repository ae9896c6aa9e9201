"""A wrong document is a failed request, whatever its status, and takes no stream off air."""

from __future__ import annotations

import json
from typing import Any

import pytest

from exporter.platforms.testing import RecordedResponse
from tests.evidence.evidence_harness import (
    LIVEPEER,
    LIVEPEER_KEY,
    MISSING,
    NMS,
    STORM,
    WAVE,
    changed,
    evidence_harness,
    json_of,
    livepeer,
    livepeer_session,
    livepeer_stream,
    nms2,
    nms2_stream,
    nms4,
    nms4_stream,
    storm,
    storm_list,
    storm_stream,
    wave_session,
)

pytestmark = pytest.mark.slow

ERROR_ENVELOPES: list[Any] = [
    {"errors": ["temporarily unavailable"]},
    {"error": "service restarting"},
    {"error": {"status": {"code": 503}}},
    {"error": {"code": "INTERNAL", "message": "try again"}},
    {"message": "temporarily unavailable"},
    {"success": False, "data": None},
    {"data": None},
    {"data": []},
    {"data": {}},
    {},
    [],
    None,
    "ok",
    0,
    True,
]
"""Documents that a faulty server or a proxy sends with status 200."""
VIEWS = {"GET /data/views/now": json_of([])}


def name_of(document: Any) -> str:
    return f"{document!r:.40}"


# -- a document about a single stream ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "document",
    [*ERROR_ENVELOPES, {"data": livepeer_session("single")}, {"session": livepeer_session("single")}, [{}], [None]],
    ids=name_of,
)
async def test_document_that_is_not_a_session_is_a_bad_response(document: Any) -> None:
    good = livepeer_session("single", parent="s1")
    settings: dict[str, Any] = {"sessions": [{"id": "single", "name": "main", "expected": True}], **LIVEPEER_KEY}
    for was_live in (False, True):
        responses = {"GET /session/single": good if was_live else json_of(document), **VIEWS}
        async with evidence_harness(LIVEPEER, responses, **settings) as harness:
            served = await harness.poll()
            harness.responses["GET /session/single"] = json_of(document)
            served = await harness.poll(1 if was_live else 5)
            assert served.status("main") == ("live" if was_live else "unknown")
            assert served.upstream("failing", reason="bad_response") == 1
            served = await harness.poll(6)
            assert served.status("main") == "unknown"
            assert harness.pages() == set()


@pytest.mark.parametrize("document", ERROR_ENVELOPES, ids=name_of)
async def test_bad_session_does_not_affect_a_good_one(document: Any) -> None:
    settings: dict[str, Any] = {
        "sessions": [{"id": "bad", "expected": True}, {"id": "good", "name": "good"}],
        **LIVEPEER_KEY,
    }
    responses = {"GET /session/bad": json_of(document), **VIEWS}
    async with evidence_harness(LIVEPEER, responses, **settings) as harness:
        for _ in range(5):
            session = livepeer_session("good", parent="s2", seen=harness.clock.now())
            harness.responses["GET /session/good"] = session
            served = await harness.poll()
        assert (served.upstream("up"), served.status("bad"), served.status("good")) == (1, "unknown", "live")
        assert served.upstream("stream_failures_total", reason="bad_response") == 5
        assert harness.pages() == set()


SINGLE: dict[str, tuple[str, str, dict[str, Any], dict[str, Any], str]] = {
    "wave": (
        WAVE, "GET /streaming/sessions/s1", wave_session(),
        {"sessions": [{"id": "s1", "expected": True}], "auth": {"bearer_token": "t"}}, "s1",
    ),
    "storm": (
        STORM, "GET /api/streams/a/k", {"data": storm_stream()},
        {"discover": False, "streams": [{"application": "a", "key": "k", "expected": True}]}, "a/k",
    ),
    "livepeer": (
        LIVEPEER, "GET /stream/s1/sessions", {}, {"streams": [{"id": "s1", "expected": True}], **LIVEPEER_KEY}, "s1",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "document"),
    [
        (name, document)
        for name in SINGLE
        for document in [*ERROR_ENVELOPES, [None], ["s1"], [{"session": livepeer_session()}]]
        # an empty list of sessions is valid
        if (name, document) != ("livepeer", [])
    ],
    ids=name_of,
)
async def test_document_that_is_not_a_stream_is_an_unknown_stream(name: str, document: Any) -> None:
    platform, request, good, settings, label = SINGLE[name]
    async with evidence_harness(platform, {request: json_of(document), **VIEWS}, **settings) as harness:
        served = await harness.poll(6)
        assert served.status(label) == "unknown"
        assert served.upstream("failing", reason="bad_response") == 1
        harness.responses[request] = good or json_of([livepeer_session(seen=harness.clock.now())])
        assert (await harness.poll()).status(label) == "live"
        harness.responses[request] = json_of(document)
        served = await harness.poll()
        assert served.status(label) == "live", "a failed request changes nothing at once"
        served = await harness.poll(6)
        assert served.status(label) == "unknown"
        assert harness.pages() == set()


@pytest.mark.parametrize(
    "rows",
    [[None], ["s1"], [{"session": livepeer_session()}], [[]], [{}], [{"id": ""}], [{"id": 5}], [None, "s1", 7]],
    ids=name_of,
)
async def test_list_without_a_valid_session_is_an_unknown_stream(rows: list[Any]) -> None:
    settings: dict[str, Any] = {"streams": [{"id": "s1", "expected": True}], **LIVEPEER_KEY}
    responses = {"GET /stream/s1/sessions": json_of(rows), **VIEWS}
    async with evidence_harness(LIVEPEER, responses, **settings) as harness:
        served = await harness.poll(6)
        assert (served.status("s1"), served.upstream("up")) == ("unknown", 0)
        assert harness.pages() == set()


@pytest.mark.parametrize("last_seen", [MISSING, None, "yesterday", {}, True, -5, 10**400])
@pytest.mark.parametrize("kind", ["session of a stream", "single session", "list"])
async def test_row_without_a_readable_heartbeat_is_unknown(kind: str, last_seen: Any) -> None:
    row = changed(livepeer_stream() if kind == "list" else livepeer_session(), {"lastSeen": last_seen})
    responses = {
        "GET /stream": json_of([row]), "GET /stream/s1/sessions": json_of([row]), "GET /session/e1": row, **VIEWS,
    }  # fmt: skip
    ways: dict[str, dict[str, Any]] = {
        "list": {"discover": True, "streams": []},
        "session of a stream": {"streams": [{"id": "s1", "expected": True}]},
        "single session": {"sessions": [{"id": "e1", "name": "s1", "expected": True}]},
    }
    async with evidence_harness(LIVEPEER, responses, **ways[kind], **LIVEPEER_KEY) as harness:
        served = await harness.poll(6)
        assert (served.upstream("up"), served.streams()) == (1, {"s1"})
        assert served.status("s1") == "unknown"
        assert harness.pages() == set()


# -- a list ------------------------------------------------------------------------------------------------------------

LISTS: dict[str, tuple[str, str, dict[str, Any], set[str], dict[str, Any]]] = {
    "storm": (
        STORM, "GET /api/streams", storm(storm_stream("k1"), storm_stream("k2")), {"a/k1", "a/k2"},
        {"streams": [{"application": "a", "key": "k1", "expected": True}]},
    ),
    "storm cluster": (
        STORM, "GET /api/cluster/streams",
        {
            "GET /api/cluster/streams": storm_list(
                *[
                    {"streamKey": key, "sourceList": [{"applicationName": "a", "state": "PUBLISHED", "bitrate": 9}]}
                    for key in ("k1", "k2")
                ]
            )
        },
        {"a/k1", "a/k2"}, {"streams": [{"application": "a", "key": "k1", "expected": True}]},
    ),
    "livepeer": (
        LIVEPEER, "GET /stream", livepeer(livepeer_stream("s1"), livepeer_stream("s2")), {"s1", "s2"}, LIVEPEER_KEY,
    ),
    "nms4": (
        NMS, "GET /api/v1/streams", nms4(nms4_stream("n1"), nms4_stream("n2")), {"live/n1", "live/n2"},
        {"streams": [{"application": "live", "key": "n1", "expected": True}]},
    ),
    "nms2": (
        NMS, "GET /api/streams", nms2({"live": {"n1": nms2_stream(), "n2": nms2_stream()}}), {"live/n1", "live/n2"},
        {"streams": [{"application": "live", "key": "n1", "expected": True}]},
    ),
}  # fmt: skip

NOT_A_LIST: dict[str, list[Any]] = {
    "storm": [
        storm_list() | {"data": {"list": {"a-k": storm_stream()}}},
        {"data": {"list": ["a-k"]}},
        {"data": {"list": [None]}},
        {"data": {"list": "none"}},
        {"data": {"list": None}},
        {"data": [storm_stream()]},
        {"list": [storm_stream()]},
        {"data": {"hasNext": False}},
        {"data": {"list": [{"stream": storm_stream()}]}},
    ],
    "livepeer": [{"streams": [livepeer_stream()]}, {"data": []}, ["s1"], [None], [[livepeer_stream()]]],
    "nms4": [
        {"data": {"streams": {"n1": nms4_stream()}}},
        {"data": {"streams": ["live/n1"]}},
        {"data": {"streams": None}},
        {"data": {"total": 0}},
        {"data": [nms4_stream()]},
        {"streams": [nms4_stream()]},
    ],
    "nms2": [{"live": ["n1"]}, {"live": {"n1": "publishing"}}, {"live": {"n1": None}}, [nms2_stream()]],
}
NOT_A_LIST["storm cluster"] = [*NOT_A_LIST["storm"][:8], {"data": {"list": [{"sourceList": []}]}}]
EMPTY: dict[str, list[Any]] = {"livepeer": [[]], "nms2": [{}]}
"""Documents that are a valid empty list on that platform."""


@pytest.mark.parametrize(
    ("name", "document"),
    [
        (name, document)
        for name in LISTS
        for document in [*ERROR_ENVELOPES, *NOT_A_LIST[name]]
        if not any(document == empty and type(document) is type(empty) for empty in EMPTY.get(name, ()))
    ],
    ids=name_of,
)
async def test_document_that_is_not_a_list_ends_no_stream(name: str, document: Any) -> None:
    platform, request, responses, labels, settings = LISTS[name]
    async with evidence_harness(platform, responses, **settings) as harness:
        before = await harness.poll()
        assert before.live_streams() == labels
        harness.responses[request] = json_of(document)
        served = await harness.poll(2)
        assert (served.upstream("up"), served.upstream("failing", reason="bad_response")) == (0, 1)
        assert served.of_streams() == before.of_streams(), "a failed poll changes nothing about streams"
        served = await harness.poll(8)
        assert served.streams() == labels
        assert {served.status(label) for label in labels} == {"unknown"}
        assert harness.pages() == set()


@pytest.mark.parametrize("name", LISTS)
async def test_document_that_is_not_a_list_at_the_start_adds_no_stream(name: str) -> None:
    platform, request, responses, _, settings = LISTS[name]
    for document in (*ERROR_ENVELOPES, *NOT_A_LIST[name]):
        if document in EMPTY.get(name, ()):
            continue
        async with evidence_harness(platform, {**responses, request: json_of(document)}, **settings) as harness:
            served = await harness.poll(5)
            expected = {f"{stream['application']}/{stream['key']}" for stream in settings.get("streams", ())}
            assert served.streams() == expected
            assert {served.status(label) for label in expected} <= {"unknown"}
            assert harness.pages() == set()


@pytest.mark.parametrize("name", LISTS)
async def test_empty_list_ends_all_streams(name: str) -> None:
    platform, request, responses, labels, settings = LISTS[name]
    empty = {
        "storm": storm_list(), "storm cluster": storm_list(), "livepeer": [], "nms4": nms4()["GET /api/v1/streams"],
        "nms2": {},
    }[name]  # fmt: skip
    async with evidence_harness(platform, responses, **settings) as harness:
        assert (await harness.poll()).live_streams() == labels
        harness.responses[request] = json_of(empty)
        served = await harness.poll(2)
    assert {served.status(label) for label in labels} <= {"ended", "idle"}


@pytest.mark.parametrize(
    "row", [None, "a-k", 5, [], {}, {"new": 1}, {"streamKey": 5, "name": [], "id": 7}], ids=name_of
)
@pytest.mark.parametrize("name", ["storm", "livepeer", "nms4"])
async def test_row_that_identifies_no_stream_is_dropped_alone(name: str, row: Any) -> None:
    platform, request, responses, labels, settings = LISTS[name]
    path = {"storm": "data/list", "livepeer": "", "nms4": "data/streams"}[name]
    async with evidence_harness(platform, responses, **settings) as harness:
        assert (await harness.poll()).live_streams() == labels
        good = RecordedResponse.of(responses[request])
        rows = _rows(good, path)
        harness.responses[request] = _with_rows(good, path, [row, *rows])
        served = await harness.poll(after=1.0)
        assert served.upstream("up") == 1
        assert served.live_streams() == labels
        # the unreadable row may be the missing stream
        harness.responses[request] = _with_rows(good, path, [rows[0], row])
        served = await harness.poll(3, after=1.0)
        missing = max(labels)
        assert served.status(missing) != "idle"
        assert harness.pages() == set()


def _rows(response: RecordedResponse, path: str) -> list[Any]:
    document = json.loads(response.body)
    for key in filter(None, path.split("/")):
        document = document[key]
    return list(document)


def _with_rows(response: RecordedResponse, path: str, rows: list[Any]) -> RecordedResponse:
    return response.with_values({path: rows}) if path else json_of(rows)
