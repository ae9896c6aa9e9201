"""The order of rows affects neither which record is served, nor labels, nor restarts."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from exporter.platforms.testing import START
from tests.evidence.evidence_harness import (
    LIVEPEER,
    LIVEPEER_KEY,
    NMS,
    START_MS,
    STORM,
    Served,
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
)

Respond = Callable[..., dict[str, Any]]
VIEWS = {"GET /data/views/now": json_of([])}


async def serve_in_every_order(
    platform: str, respond: Respond, rows: Sequence[Any], polls: int = 3, **settings: Any
) -> Served:
    """Return what is served after some polls, and check that it is the same for any and for changing row orders."""
    texts = []
    orders = list(itertools.permutations(rows))
    for order in orders:
        async with evidence_harness(platform, respond(*order), **settings) as harness:
            texts.append(await harness.poll(polls))
    async with evidence_harness(platform, {}, **settings) as harness:
        for order in itertools.islice(itertools.cycle(orders), polls):
            harness.responses.update(respond(*order))
            served = await harness.poll()
        texts.append(served)
    for other in texts[1:]:
        assert other.of_streams() == texts[0].of_streams()
        assert other.upstream("duplicate_records_total") == texts[0].upstream("duplicate_records_total")
    return texts[0]


# -- several records of one stream -------------------------------------------------------------------------------------

STATES = ["PUBLISHED", "AWAITING", "UNPUBLISHED", "ERROR", "GLITCH"]
STATUSES = ["live", "idle", "ended", "error", "unknown"]
"""Their statuses, in the order in which records are preferred."""


def storm_batch(*records: Any) -> dict[str, Any]:
    return {"POST /api/streams/batch": {"data": {"found": list(records), "notFound": ["a-other"]}}}


def storm_cluster(*sources: Any) -> dict[str, Any]:
    return {"GET /api/cluster/streams": storm_list({"streamKey": "k", "sourceList": list(sources)})}


def cluster_source(state: str, bitrate: int = 1000) -> dict[str, Any]:
    return {"applicationName": "a", "state": state, "bitrate": bitrate}


BATCHED: dict[str, Any] = {
    "discover": False,
    "streams": [{"application": "a", "key": "k", "expected": True}, {"application": "a", "key": "other"}],
}


@pytest.mark.parametrize("states", list(itertools.combinations(STATES, 2)), ids=str)
@pytest.mark.parametrize("source", ["list", "batch", "cluster"])
async def test_record_that_receives_media_wins(source: str, states: tuple[str, str]) -> None:
    respond: Respond = {"list": storm, "batch": storm_batch, "cluster": storm_cluster}[source]
    rows = [
        cluster_source(state) if source == "cluster" else storm_stream(state=state, startTime=START_MS - 1000 * index)
        for index, state in enumerate(states)
    ]
    served = await serve_in_every_order(STORM, respond, rows, **(BATCHED if source == "batch" else {}))
    assert served.status("a/k") == STATUSES[min(map(STATES.index, states))]
    assert served.upstream("duplicate_records_total") == 3


@pytest.mark.parametrize("source", ["list", "batch"])
async def test_largest_viewer_count_of_several_records_is_served(source: str) -> None:
    respond: Respond = {"list": storm, "batch": storm_batch}[source]
    rows = [
        storm_stream(state=state, viewerCount=viewers, inTotalBytes=total)
        for state, viewers, total in (
            ("PUBLISHED", 3, 7), ("PUBLISHED", None, 8), ("AWAITING", 70, 9), ("PUBLISHED", "many", 9),
        )
    ]  # fmt: skip
    served = await serve_in_every_order(STORM, respond, rows, **(BATCHED if source == "batch" else {}))
    assert (served.status("a/k"), served.value("stream_viewers", "a/k")) == ("live", 70)
    assert served.upstream("duplicate_records_total") == 9


@pytest.mark.parametrize(
    ("platform", "respond", "rows", "label", "settings"),
    [
        (LIVEPEER, livepeer, [livepeer_stream(isHealthy=True), livepeer_stream(isActive=False)], "s1", LIVEPEER_KEY),
        (NMS, nms4, [nms4_stream(), nms4_stream(status="idle", publisher={"id": "p2"})], "live/n", {}),
        (NMS, nms4, [nms4_stream(), nms4_stream(status="error"), nms4_stream(status="idle")], "live/n", {}),
    ],
    ids=["livepeer", "nms4", "three of nms4"],
)
async def test_live_row_of_a_list_wins(
    platform: str, respond: Respond, rows: list[Any], label: str, settings: Mapping[str, Any]
) -> None:
    served = await serve_in_every_order(platform, respond, rows, **settings)
    assert served.status(label) == "live"
    assert served.upstream("duplicate_records_total") == 3 * (len(rows) - 1)


@pytest.mark.parametrize("views", [(5, 9), (9, 0), (0, 9, 5), (None, 9), ("many", 9), (9, 9)], ids=str)
async def test_largest_viewer_count_of_a_playback_id_is_served(views: tuple[Any, ...]) -> None:
    def respond(*rows: Any) -> dict[str, Any]:
        return {**livepeer(livepeer_stream()), "GET /data/views/now": json_of(rows)}

    rows = [{"playbackId": "play-s1", "viewCount": count, "errorRate": 0.01 * i} for i, count in enumerate(views)]
    served = await serve_in_every_order(LIVEPEER, respond, rows, **LIVEPEER_KEY)
    assert served.value("stream_viewers", "s1") == 9


async def test_alternating_equal_records_are_not_restarts() -> None:
    rows = [storm_stream(startTime=START_MS - 1000 * age, inBandwidth=age) for age in (10, 20, 30)]
    served = await serve_in_every_order(STORM, storm, rows, polls=8)
    assert served.value("stream_restarts_total", "a/k") == 0
    assert served.bitrate("a/k") == 10, "the later start wins"


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("created", ["same", "different"])
async def test_sessions_listed_in_alternating_order_are_not_restarts(created: str, count: int) -> None:
    sessions = [
        livepeer_session(f"e{index}", createdAt=START_MS - (1000 * index if created == "different" else 0), seen=START)
        for index in range(count)
    ]

    def respond(*rows: Any) -> dict[str, Any]:
        return {"GET /stream/s1/sessions": json_of(rows), **VIEWS}

    settings: dict[str, Any] = {"interval": "5s", "streams": [{"id": "s1", "expected": True}], **LIVEPEER_KEY}
    served = await serve_in_every_order(LIVEPEER, respond, sessions, polls=8, **settings)
    assert served.status("s1") == "live"
    assert served.value("stream_restarts_total", "s1") == 0
    assert served.value("stream_info", "s1", session="e0") == 1


async def test_new_session_counts_one_restart() -> None:
    settings: dict[str, Any] = {"streams": [{"id": "s1"}], **LIVEPEER_KEY}
    async with evidence_harness(LIVEPEER, {}, **settings) as harness:
        for poll in range(6):
            now = harness.clock.now()
            old = livepeer_session("e1", seen=now if poll < 3 else START)
            rows = [old] if poll < 3 else [livepeer_session("e2", seen=now, createdAt=START_MS), old]
            harness.responses |= {"GET /stream/s1/sessions": json_of(rows), **VIEWS}
            served = await harness.poll(after=60.0)
    assert served.value("stream_restarts_total", "s1") == 1


# -- identities --------------------------------------------------------------------------------------------------------

SLASHES = [("live/a", "b"), ("live", "a/b"), ("live", "a%2Fb"), ("live/a%2Fb", "c")]


@pytest.mark.parametrize("version", [2, 4])
async def test_applications_and_keys_with_slashes_are_different_streams(version: int) -> None:
    def respond(*pairs: tuple[str, str]) -> dict[str, Any]:
        if version == 4:
            return nms4(*[nms4_stream(key, application) for application, key in pairs])
        streams: dict[str, dict[str, Any]] = {}
        for application, key in pairs:
            streams.setdefault(application, {})[key] = nms2_stream()
        return nms2(streams)

    served = await serve_in_every_order(NMS, respond, SLASHES)
    assert len(served.live_streams()) == len(SLASHES)
    assert served.upstream("duplicate_records_total") in (None, 0.0)


async def test_storm_keys_with_slashes_are_different_streams() -> None:
    rows = [storm_stream(key, application) for application, key in SLASHES]
    served = await serve_in_every_order(STORM, storm, rows)
    assert len(served.live_streams()) == len(SLASHES)


async def test_configured_streams_with_slashes_are_not_confused() -> None:
    streams = [
        {"application": "live", "key": "a/b", "name": "one"},
        {"application": "live/a", "key": "b", "name": "two"},
    ]
    rows = [nms4_stream("a/b", "live"), nms4_stream("b", "live/a", status="idle")]
    served = await serve_in_every_order(NMS, nms4, rows, streams=streams)
    assert (served.status("one"), served.status("two")) == ("live", "idle")


# -- labels ------------------------------------------------------------------------------------------------------------


def shared_label(name: str, id_: str) -> str:
    return f"{name}#{hashlib.sha256(id_.encode()).hexdigest()[:8]}"


TWINS = [livepeer_stream(id_, name="cam", createdAt=START_MS - 1000 * i) for i, id_ in enumerate(("s1", "s2", "s3"))]
TWIN_LABELS = {shared_label("cam", id_) for id_ in ("s1", "s2", "s3")}


async def test_streams_with_the_same_name_have_labels_that_depend_on_their_ids() -> None:
    rows = [*TWINS, livepeer_stream("s4", name="other")]
    served = await serve_in_every_order(LIVEPEER, livepeer, rows, polls=2, **LIVEPEER_KEY)
    assert served.live_streams() == {*TWIN_LABELS, "other"}
    for id_ in ("s1", "s2", "s3"):
        assert served.value("stream_info", shared_label("cam", id_), playback_id=f"play-{id_}") == 1


@pytest.mark.parametrize(
    "settings",
    [{"include": ["s1"]}, {"exclude": ["s2", "s3"]}, {"max_streams": 1}],
    ids=lambda given: next(iter(given)),
)
async def test_label_considers_streams_that_are_filtered_out(settings: dict[str, Any]) -> None:
    async with evidence_harness(LIVEPEER, livepeer(*TWINS), **settings, **LIVEPEER_KEY) as harness:
        served = await harness.poll()
    assert served.streams() <= TWIN_LABELS
    assert len(served.streams()) == 1


async def test_label_does_not_change_after_its_namesake_has_ended() -> None:
    label = shared_label("cam", "s1")
    async with evidence_harness(LIVEPEER, {}, ended_ttl="60s", interval="15s", **LIVEPEER_KEY) as harness:
        for poll in range(20):
            rows = [{**row, "lastSeen": int(harness.clock.now()) * 1000} for row in TWINS[: 2 if poll < 3 else 1]]
            harness.responses.update(livepeer(*rows))
            served = await harness.poll()
            assert label in served.live_streams()
    assert served.streams() == {label}


async def test_configured_name_never_changes() -> None:
    settings: dict[str, Any] = {"discover": True, "streams": [{"id": "s1", "name": "cam"}], **LIVEPEER_KEY}

    def respond(*rows: Any) -> dict[str, Any]:
        return {**livepeer(*rows), "GET /stream/s1/sessions": json_of([livepeer_session()])}

    served = await serve_in_every_order(LIVEPEER, respond, TWINS, polls=2, **settings)
    assert served.live_streams() == {"cam", shared_label("cam", "s2"), shared_label("cam", "s3")}


@pytest.mark.parametrize("expected", [True, False, None])
@pytest.mark.parametrize("polls", list(itertools.product([True, False], repeat=3)), ids=str)
async def test_configured_stream_without_a_name_has_its_id_as_label(
    polls: tuple[bool, ...], expected: bool | None
) -> None:
    settings: dict[str, Any] = {
        "discover": True,
        "interval": "30s",
        "streams": [{"id": "s1", "expected": expected}],
        **LIVEPEER_KEY,
    }
    async with evidence_harness(LIVEPEER, {}, **settings) as harness:
        for is_live in polls:
            now = harness.clock.now()
            harness.responses |= livepeer(*[livepeer_stream(name="main-stage", seen=now)] * is_live)
            sessions = [livepeer_session(name="main-stage session", seen=now)] * is_live
            harness.responses["GET /stream/s1/sessions"] = json_of(sessions)
            served = await harness.poll()
            assert served.streams() == {"s1"}


@pytest.mark.parametrize("is_live", [True, False])
async def test_configured_stream_without_a_name_is_not_relabelled_by_another_stream(*, is_live: bool) -> None:
    settings: dict[str, Any] = {"streams": [{"application": "live", "key": "n", "expected": True}]}
    rows = [nms4_stream("n", status="publishing" if is_live else "idle"), nms4_stream("m")]
    served = await serve_in_every_order(NMS, nms4, rows, **settings)
    assert served.streams() == {"live/n", "live/m"}
