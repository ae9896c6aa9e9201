"""Unreadable health facts give no score, unknown words mean unknown, and a bad value affects nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import pytest
import structlog.testing

from exporter.platforms.testing import START, RecordedResponse
from tests.evidence.evidence_harness import (
    LIVE_ONLY,
    LIVEPEER,
    LIVEPEER_KEY,
    MISSING,
    NMS,
    RATES,
    STORM,
    WAVE,
    EvidenceHarness,
    Served,
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
    raw_json,
    storm,
    storm_stream,
    wave_session,
)


class Case(NamedTuple):
    """One live stream of a platform, and the responses that report it."""

    platform: str
    row: dict[str, Any]
    responses: Callable[..., dict[str, Any]]
    label: str
    settings: Mapping[str, Any] = {}
    total: str = ""
    """Path of the ingest total in the row."""


STORM_CASE = Case(
    STORM, storm_stream(), storm, "a/k", {"streams": [{"application": "a", "key": "k", "expected": True}]}
)
LIVEPEER_CASE = Case(LIVEPEER, livepeer_stream(), livepeer, "s1", LIVEPEER_KEY, "sourceBytes")
SESSION_CASE = Case(
    LIVEPEER,
    livepeer_session(),
    lambda session: {"GET /stream/s1/sessions": json_of([session]), "GET /data/views/now": json_of([])},
    "s1",
    {"streams": [{"id": "s1", "expected": True}], **LIVEPEER_KEY},
    "sourceBytes",
)
WAVE_CASE = Case(
    WAVE,
    wave_session(),
    lambda session: {"GET /streaming/sessions/s1": session},
    "s1",
    {"sessions": [{"id": "s1", "expected": True}], "auth": {"bearer_token": "t"}},
    "metrics/network/bytesReceived",
)
NMS_KEY = {"application": "live", "key": "n", "expected": True}
NMS4_CASE = Case(NMS, nms4_stream(), nms4, "live/n", {"streams": [NMS_KEY]}, "publisher/inBytes")
NMS2_CASE = Case(
    NMS, nms2_stream(), lambda row: nms2({"live": {"n": row}}), "live/n", {"streams": [NMS_KEY]}, "publisher/bytes"
)
CASES = {
    "storm": STORM_CASE, "livepeer": LIVEPEER_CASE, "session": SESSION_CASE, "wave": WAVE_CASE, "nms4": NMS4_CASE,
    "nms2": NMS2_CASE,
}  # fmt: skip
WRONG_NUMBERS = ["many", "1 2", "NaN", "", True, [], {}, [1], -1, float("nan"), float("inf"), 10**400]
"""Values that are not numbers >= 0."""


def with_ids(cases: dict[tuple[str, str], list[Any]]) -> list[Any]:
    return [
        pytest.param(name, path, value, id=f"{name} {path} {'missing' if value is MISSING else repr(value):.20}")
        for (name, path), values in cases.items()
        for value in values
    ]


async def poll_row(
    harness: EvidenceHarness, case: Case, changes: Mapping[str, Any], times: int = 1, *, is_moving: bool = False
) -> Served:
    """Poll with values in the row replaced; Livepeer's heartbeats, and totals with ``is_moving``, follow the clock."""

    def serve() -> None:
        now: dict[str, Any] = {"lastSeen": int(harness.clock.now()) * 1000} if case.platform == LIVEPEER else {}
        if is_moving:
            now[case.total] = 1_000_000 + int(harness.clock.now() - START) * 50_000
        harness.responses.update(case.responses(changed(changed(case.row, now), changes)))

    return await harness.poll(times, change=serve)


# -- unreadable health facts ------------------------------------------------------------------------------------------

UNREADABLE_HEALTH: dict[tuple[str, str], list[Any]] = {
    ("storm", "healthScore"): [120, -1, "12.5 %", "Bad", True, [], {}, float("nan"), 10**400, "100.5"],
    ("storm", "inBandwidth"): WRONG_NUMBERS,
    ("livepeer", "isHealthy"): ["maybe", 7, {}, ["true"], ""],
    ("livepeer", "issues"): ["low bitrate", 3, {"a": 1}],
    ("livepeer", "ingestRate"): WRONG_NUMBERS,
    ("livepeer", "sourceBytes"): WRONG_NUMBERS,
    ("session", "isHealthy"): ["maybe", 7, {}],
    ("session", "issues"): ["low bitrate"],
    ("wave", "metrics/network/packetLoss"): [12, "12%", "12 %", -0.5, "high", True, float("nan")],
    ("wave", "metrics/network/bitrate"): ["4 Mbit/s", -1, True, float("inf"), 10**400],
    ("wave", "metrics/video/fps"): ["30/1", -1, 100_000],
    ("wave", "metrics"): ["none", 3, [1]],
    ("nms4", "publisher/inBytes"): WRONG_NUMBERS,
    ("nms4", "inBps"): WRONG_NUMBERS,
    ("nms2", "publisher/bytes"): WRONG_NUMBERS,
}
IS_REPORTED = {"storm inBandwidth"}
"""Values on which the platform's own score does not depend."""


@pytest.mark.parametrize(("name", "path", "value"), with_ids(UNREADABLE_HEALTH))
async def test_unreadable_health_fact_gives_no_score(name: str, path: str, value: Any) -> None:
    case = CASES[name]
    async with evidence_harness(case.platform, case.responses(case.row), **case.settings) as harness:
        before = await poll_row(harness, case, {}, times=6, is_moving=True)
        assert before.score(case.label) == pytest.approx(0.88 if name == "storm" else 1.0), "a stream with a score"
        served = await poll_row(harness, case, {path: value}, times=3, is_moving=True)
        assert served.value("stream_live", case.label) == 1
        if f"{name} {path}" not in IS_REPORTED:
            assert served.score(case.label) is None
        field = path.replace("/", ".")
        dropped = [
            line for line in served.text.splitlines() if line.startswith("stream_upstream_fields_dropped_total{")
        ]
        assert any(field.rpartition(".")[2].lower() in line.lower() for line in dropped), dropped
        assert harness.pages() == set()


@pytest.mark.parametrize("score", [12.5, "12.5", " 12.5 ", "1.25e1", "+12.50"])
async def test_storm_score_given_as_text_is_read(score: Any) -> None:
    row = storm_stream(healthScore=score, healthGrade="Bad")
    async with evidence_harness(STORM, storm(row)) as harness:
        served = await harness.poll(2)
        assert served.score("a/k") == pytest.approx(0.125)
        assert harness.pages() == {"StreamUnhealthy a/k"}


@pytest.mark.parametrize("score", [0, 0.0, "0", "0.0"])
@pytest.mark.parametrize(
    "grade", ["No Data", "NO DATA", "no_data", "no-data", "NoData", " no  data ", "No_Data", None, MISSING, ""]
)
async def test_storm_grade_no_data_gives_no_score(grade: Any, score: Any) -> None:
    case = STORM_CASE
    async with evidence_harness(STORM, case.responses(case.row), **case.settings) as harness:
        served = await poll_row(harness, case, {"healthScore": score, "healthGrade": grade}, times=12)
        assert served.status("a/k") == "live"
        assert served.score("a/k") is None
        assert harness.pages() == set()


@pytest.mark.parametrize("score", [None, MISSING])
async def test_platform_that_reports_scores_gets_no_derived_score(score: Any) -> None:
    case = STORM_CASE
    async with evidence_harness(STORM, case.responses(case.row), **case.settings) as harness:
        served = await poll_row(harness, case, {"healthScore": score}, times=12)
    assert served.status("a/k") == "live"
    assert served.score("a/k") is None


async def test_storm_score_of_0_with_a_grade_is_served() -> None:
    async with evidence_harness(STORM, storm(storm_stream(healthScore=0, healthGrade="Bad"))) as harness:
        assert (await harness.poll()).score("a/k") == 0


# -- values given as text ----------------------------------------------------------------------------------------------

READ_FROM_TEXT: dict[tuple[str, str], dict[Any, tuple[str, float]]] = {
    ("storm", "viewerCount"): {"12": ("stream_viewers", 12.0), " 12 ": ("stream_viewers", 12.0)},
    ("storm", "inTotalBytes"): {"1300000": ("stream_ingest_bytes_total", 1_300_000.0)},
    ("storm", "inBandwidth"): {"250000.5": ("stream_ingest_bitrate_bytes_per_second", 250_000.5)},
    ("storm", "isRecording"): {"true": ("stream_recording", 1.0), "False": ("stream_recording", 0.0)},
    ("livepeer", "isHealthy"): {
        "false": ("stream_healthy", 0.0), "FALSE": ("stream_healthy", 0.0), "true": ("stream_healthy", 1.0),
    },
    ("livepeer", "isActive"): {
        "true": ("stream_live", 1.0), "True": ("stream_live", 1.0), "false": ("stream_live", 0.0),
    },
    ("livepeer", "sourceBytes"): {"1300000": ("stream_ingest_bytes_total", 1_300_000.0)},
    ("session", "isHealthy"): {"false": ("stream_healthy", 0.0)},
    ("wave", "viewers"): {"12": ("stream_viewers", 12.0)},
    ("wave", "metrics/network/packetLoss"): {"0.03": ("stream_packet_loss_ratio", 0.03)},
    ("wave", "metrics/network/bytesReceived"): {"1300000": ("stream_ingest_bytes_total", 1_300_000.0)},
    ("nms4", "publisher/inBytes"): {"1300000": ("stream_ingest_bytes_total", 1_300_000.0)},
    ("nms4", "recording"): {"true": ("stream_recording", 1.0)},
    ("nms2", "publisher/bytes"): {"1300000": ("stream_ingest_bytes_total", 1_300_000.0)},
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "path", "text", "expected"),
    [(name, path, text, found) for (name, path), texts in READ_FROM_TEXT.items() for text, found in texts.items()],
)
async def test_value_given_as_text_is_read(name: str, path: str, text: str, expected: tuple[str, float]) -> None:
    case = CASES[name]
    async with evidence_harness(case.platform, case.responses(case.row), **case.settings) as harness:
        served = await poll_row(harness, case, {path: text})
    assert served.value(expected[0], case.label) == expected[1]
    assert "stream_upstream_fields_dropped_total{" not in served.text


# -- unknown words -----------------------------------------------------------------------------------------------------

UNKNOWN_WORDS: dict[tuple[str, str], list[Any]] = {
    ("storm", "state"): ["GLITCH", "live?", 1, None, MISSING, True, [], {}],
    ("livepeer", "isActive"): ["maybe", 2, None, MISSING, {}],
    ("wave", "status"): ["broken", "error", 1, None, MISSING, {}],
    ("nms4", "status"): ["error", "ended", 1, True, {}],
    ("nms2", "publisher"): [dict.fromkeys(nms2_stream()["publisher"]), {"clientId": None, "bytes": None}, 1, "x", []],
}


@pytest.mark.parametrize(("name", "path", "value"), with_ids(UNKNOWN_WORDS))
async def test_stream_with_an_unreadable_state_is_unknown(name: str, path: str, value: Any) -> None:
    case = CASES[name]
    async with evidence_harness(case.platform, case.responses(case.row), **case.settings) as harness:
        assert (await poll_row(harness, case, {})).status(case.label) == "live"
        served = await poll_row(harness, case, {path: value}, times=8)
        assert served.status(case.label) == "unknown"
        assert served.score(case.label) is None
        assert served.upstream("up") == 1
        assert harness.pages() == set()


@pytest.mark.parametrize(
    ("name", "field", "word"),
    [("storm", "state", "GLITCH"), ("wave", "status", "broken"), ("nms4", "status", "error")],
)
async def test_unknown_word_is_logged_once(name: str, field: str, word: str) -> None:
    case = CASES[name]
    async with evidence_harness(case.platform, case.responses(case.row), **case.settings) as harness:
        with structlog.testing.capture_logs() as logs:
            await poll_row(harness, case, {field: word}, times=4)
    (entry,) = [entry for entry in logs if entry["event"] == "platform reports unknown values"]
    assert word in str(entry["words"])


@pytest.mark.parametrize(
    ("name", "field", "total"),
    [
        ("storm", "state", "inTotalBytes"),
        ("wave", "status", "metrics/network/bytesReceived"),
        ("nms4", "status", "publisher/inBytes"),
    ],
)
async def test_stream_with_an_unknown_word_is_live_if_its_total_moves(name: str, field: str, total: str) -> None:
    case = CASES[name]
    async with evidence_harness(case.platform, case.responses(case.row), **case.settings) as harness:
        first = await poll_row(harness, case, {field: "GLITCH", total: 1_000_000})
        assert first.status(case.label) == "unknown"
        for index in range(1, 4):
            served = await poll_row(harness, case, {field: "GLITCH", total: 1_000_000 + 50_000 * index})
            assert served.status(case.label) == "live"


@pytest.mark.parametrize(
    ("name", "field", "words", "status"),
    [
        ("storm", "state", ["NOT_PUBLISHED", "not published", "Not-Published", "notpublished"], "idle"),
        ("storm", "state", ["Published", " PUBLISHED "], "live"),
        ("wave", "status", ["LIVE", "Live", " live"], "live"),
        ("nms4", "status", ["Publishing", "PUBLISHING"], "live"),
    ],
)
async def test_words_are_compared_ignoring_case_and_separators(
    name: str, field: str, words: list[str], status: str
) -> None:
    case = CASES[name]
    async with evidence_harness(case.platform, case.responses(case.row), **case.settings) as harness:
        for word in words:
            assert (await poll_row(harness, case, {field: word})).status(case.label) == status


# -- off air with rates ------------------------------------------------------------------------------------------------

OFF_AIR: dict[tuple[str, str], dict[Any, str]] = {
    ("storm", "state"): {
        "CLOSED": "ended", "UNPUBLISHED": "ended", "STOPPED": "ended", "CLOSING": "ended", "NOT_PUBLISHED": "idle",
        "AWAITING": "idle", "HIBERNATED": "idle", "ERROR": "error",
    },
    ("livepeer", "isActive"): {False: "idle"},
    ("livepeer", "lastSeen"): {0: "idle"},
    ("session", "lastSeen"): {0: "idle"},
    ("wave", "status"): {"ended": "ended", "idle": "idle", "paused": "paused"},
    ("nms4", "status"): {"idle": "idle", "reconnecting": "connecting"},
}  # fmt: skip


@pytest.mark.parametrize("was_live", [False, True])
@pytest.mark.parametrize(
    ("name", "path", "value", "status"),
    [(name, path, value, status) for (name, path), of in OFF_AIR.items() for value, status in of.items()],
)
async def test_off_air_stream_has_no_rates_and_no_viewers(
    name: str, path: str, value: Any, status: str, *, was_live: bool
) -> None:
    case = CASES[name]
    watched = {
        "GET /data/views/now": json_of([{"playbackId": case.row.get("playbackId"), "viewCount": 3, "errorRate": 0.1}])
    }
    async with evidence_harness(case.platform, case.responses(case.row), **case.settings) as harness:
        if was_live:
            assert (await poll_row(harness, case, {}, times=3, is_moving=True)).bitrate(case.label)
        responses = case.responses
        case = case._replace(responses=lambda row: {**responses(row), **(watched if name == "livepeer" else {})})
        served = await poll_row(harness, case, {path: value})
    assert served.status(case.label) == status
    assert [family for family in LIVE_ONLY if served.value(family, case.label) is not None] == []
    assert served.value("stream_ingest_bytes_total", case.label), "totals are kept"


# -- one bad value -----------------------------------------------------------------------------------------------------

LISTS: dict[str, tuple[Case, Callable[[str], dict[str, Any]], str]] = {
    "storm": (STORM_CASE, storm_stream, "GET /api/streams"),
    "livepeer": (LIVEPEER_CASE, livepeer_stream, "GET /stream"),
    "nms4": (NMS4_CASE, nms4_stream, "GET /api/v1/streams"),
}


def leaves(row: Any, path: str = "") -> Iterator[str]:
    for name, value in row.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{path}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{path}{name}"


BAD_NUMBERS = [
    pytest.param(name, path, text, id=f"{name} {path} {text.decode():.10}")
    for name, (case, _, _) in LISTS.items()
    for path in leaves(case.row)
    for text in (b"NaN", b"-Infinity", b"1e999", b"1" + b"0" * 400)
]


@pytest.mark.parametrize(("name", "path", "text"), BAD_NUMBERS)
async def test_invalid_number_drops_only_its_field(name: str, path: str, text: bytes) -> None:
    case, make, request = LISTS[name]
    rows = [make(stream) for stream in ("one", "two", "three")]
    async with evidence_harness(case.platform, case.responses(*rows), **LIVEPEER_KEY_OF[name]) as harness:
        good = await harness.poll()
        damaged = case.responses(changed(rows[0], {path: "DAMAGED"}), *rows[1:])[request]
        harness.responses[request] = raw_json(damaged, **{'"DAMAGED"': text})
        served = await harness.poll(after=1.0)
    damaged_label, *others = sorted(good.streams(), key=lambda label: "one" not in label)
    assert served.upstream("up") == 1
    assert served.streams() == good.streams()
    for label in others:
        assert served.of_stream(label).keys() == good.of_stream(label).keys()
        assert served.status(label) == "live"
    assert served.status(damaged_label) == ("unknown" if path == "lastSeen" else "live")
    if path != "lastSeen":
        lost = {family for family, _ in good.of_stream(damaged_label).keys() - served.of_stream(damaged_label).keys()}
        lost -= {"stream_health_score_ratio", *(RATES if path == NMS4_CASE.total else ())}
        assert len(lost) <= 1, lost


LIVEPEER_KEY_OF: dict[str, dict[str, Any]] = {"storm": {}, "livepeer": LIVEPEER_KEY, "nms4": {}}
BAD_TEXTS = {
    "invalid UTF-8": (b"caf\xe9", "caf�"),
    "two invalid bytes": (b"\xff\xfe!", "��!"),
    "overlong": (b"a\xc0\x80b", "a��b"),
    "lone surrogate": (b"cam\\ud800", "cam�"),
    "raw control character": (b"cam\x01\x1f", "cam\x01\x1f"),
    "raw tab": (b"cam\t1", "cam\t1"),
    "escaped control character": (b"cam\\u0007", "cam\x07"),
}


@pytest.mark.parametrize("text", BAD_TEXTS)
@pytest.mark.parametrize("name", LISTS)
async def test_damaged_name_affects_only_itself(name: str, text: str) -> None:
    body, shown = BAD_TEXTS[text]
    case, make, request = LISTS[name]
    rows = [make(stream) for stream in ("DAMAGED", "two", "three")]
    async with evidence_harness(case.platform, case.responses(*rows), **LIVEPEER_KEY_OF[name]) as harness:
        good = await harness.poll()
        harness.responses[request] = raw_json(harness.responses[request], DAMAGED=body)
        served = await harness.poll(after=1.0)
    assert served.upstream("up") == 1
    wanted = {label.replace("DAMAGED", shown) for label in good.streams()}
    assert wanted <= served.live_streams()


@pytest.mark.parametrize("text", BAD_TEXTS)
async def test_damaged_text_of_a_session_affects_only_itself(text: str) -> None:
    body, shown = BAD_TEXTS[text]
    row = wave_session(protocol="DAMAGED")
    async with evidence_harness(WAVE, {}, **WAVE_CASE.settings) as harness:
        harness.responses["GET /streaming/sessions/s1"] = raw_json(row, DAMAGED=body)
        served = await harness.poll()
    assert served.status("s1") == "live"
    assert served.value("stream_info", "s1", protocol=shown) == 1


@pytest.mark.parametrize("text", BAD_TEXTS)
async def test_damaged_key_of_an_object_affects_only_itself(text: str) -> None:
    body, shown = BAD_TEXTS[text]
    responses = nms2({"live": {"DAMAGED": nms2_stream(), "two": nms2_stream()}})
    responses["GET /api/streams"] = raw_json(responses["GET /api/streams"], DAMAGED=body)
    async with evidence_harness(NMS, responses) as harness:
        served = await harness.poll()
    assert served.live_streams() == {f"live/{shown}", "live/two"}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (b"cam\\ud800", b"cam\\ud801"),
        (b"cam\\ud800", b"cam\\udfff"),
        (b"cam\xe8", b"cam\xe9"),
        (b"cam\\udce9", b"cam\\ud800"),
        (b"cam\\ud800", b"cam\xef\xbf\xbd"),
    ],
)
@pytest.mark.parametrize("name", LISTS)
async def test_names_that_differ_in_invalid_bytes_are_two_streams(name: str, first: bytes, second: bytes) -> None:
    case, make, request = LISTS[name]
    texts = []
    for one, other in itertools.permutations((first, second)):
        document = case.responses(make("FIRST"), make("SECOND"), make("third"))
        document[request] = raw_json(document[request], FIRST=one, SECOND=other)
        async with evidence_harness(case.platform, document, **LIVEPEER_KEY_OF[name]) as harness:
            served = await harness.poll(2)
        assert len(served.live_streams()) == 3
        assert served.upstream("duplicate_records_total") in (None, 0.0)
        texts.append(sorted(served.of_streams()))
    assert texts[0] == texts[1]


async def test_unparsable_document_fails_the_poll() -> None:
    async with evidence_harness(STORM, storm(storm_stream())) as harness:
        await harness.poll()
        for body in (b'{"data": {"list": [', b"\xe9\xe9", b'{"data": }', b"<html>"):
            harness.responses["GET /api/streams"] = RecordedResponse(body)
            served = await harness.poll(after=1.0)
            assert (served.upstream("up"), served.upstream("failing", reason="bad_response")) == (0, 1)
            assert served.status("a/k") == "live"
