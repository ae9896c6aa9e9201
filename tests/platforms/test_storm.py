"""Storm: documented responses, and a scripted server."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from exporter.http.errors import UpstreamError
from exporter.model import Listing, Reason, Status, StreamReport
from exporter.platforms.parsing import DropCounter, Record
from exporter.platforms.storm import PLATFORM, StormSettings
from exporter.platforms.storm.storm_streams import Report, read_cluster_stream, read_stream
from exporter.platforms.testing import Recording, expose
from tests.fake_clock import FakeClock
from tests.platforms.platform_harness import Polled, polled
from tests.platforms.scripted_api import RecordedRequest, Reply, ScriptedApi, fixture, scripted_api

F1, F2 = {"application": "edge", "key": "f1"}, {"application": "edge", "key": "f2"}
LIST, CLUSTER, BATCH = "GET /api/streams", "GET /api/cluster/streams", "POST /api/streams/batch"
ONE, TWO = "GET /api/streams/edge/f1", "GET /api/streams/edge/f2"
METADATA = "GET /api/streams/edge/f1/native/metadata"
LOGIN = "POST /api/auth/login"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=8), inside, max_size=3),
    max_leaves=8,
)


@pytest.fixture
async def api() -> AsyncIterator[ScriptedApi]:
    async with scripted_api() as api:
        yield api


def settings(url: str = "http://storm.example", **given_: Any) -> StormSettings:
    defaults = {"auth": {"bearer_token": "a-fixed-token"}}
    return StormSettings.model_validate({"name": "edge", "platform": "storm", "url": url, **defaults, **given_})


def storm(api: ScriptedApi, clock: FakeClock | None = None, **given_: Any) -> AbstractAsyncContextManager[Polled]:
    return polled(PLATFORM, settings(api.url, **given_), clock or FakeClock())


def listed(*records: dict[str, Any], has_next: bool = False) -> dict[str, Any]:
    return {"data": {"hasNext": has_next, "list": list(records)}}


def live(key: str, start: int = 1764683374353, **more: Any) -> dict[str, Any]:
    return {
        "application": "edge", "streamKey": key, "state": "PUBLISHED", "startTime": start,
        "subStreams": [{"streamKey": key, "name": "native"}], **more,
    }  # fmt: skip


DOCUMENTED = Report(
    id="edge/f1",
    application="edge",
    kind="native_stream",
    status=Status.LIVE,
    live=True,
    start_timestamp_seconds=1764683374.353,
    health_score_ratio=0.15379520309919055,
    health_grade="Bad",
    ingest_bitrate_bytes_per_second=463973.0,
    egress_bitrate_bytes_per_second=0.0,
    ingest_bytes=33490425639.0,
    egress_bytes=754730859.0,
    substreams=1,
    viewers=0,
    system_clients=0,
    recording=False,
    publish_allowed=True,
    video_codec="H264",
    audio_codec="AAC",
    resolution="1920x1080",
    width_pixels=1920,
    height_pixels=1080,
    frames_per_second=29.97,
)


# -- one stream ----------------------------------------------------------------------------------------------


async def test_documented_stream_fills_every_field(api: ScriptedApi) -> None:
    api.on(ONE, fixture("storm/stream.json"))
    api.on(METADATA, fixture("storm/substream-metadata.json"))
    async with storm(api, discover=False, streams=[F1]) as upstream:
        result = await upstream.poll()
    assert result.streams == (DOCUMENTED,)
    assert result.listing is Listing.DIRECT
    assert (result.failures, result.dropped_fields, result.postponed) == ({}, {}, frozenset())


async def test_feeds_match_the_fields_of_the_documented_stream() -> None:
    unset = Report(id="")
    filled = {name for name in StreamReport.__struct_fields__ if getattr(DOCUMENTED, name) != getattr(unset, name)}
    assert filled - {"id"} == PLATFORM.feeds


async def test_missing_stream_is_idle_and_not_a_failure(api: ScriptedApi) -> None:
    api.on(ONE, fixture("storm/stream-not-found.json"), status=404)
    async with storm(api, discover=False, streams=[F1]) as upstream:
        result = await upstream.poll()
    assert result.streams == (Report(id="edge/f1", application="edge", status=Status.IDLE, live=False),)
    assert result.failures == {}


STATES = {
    "PUBLISHED": "live",
    "running": "live",
    "AWAITING": "idle",
    "NOT_PUBLISHED": "idle",
    "INITIALIZED": "idle",
    "HIBERNATED": "idle",
    "UNPUBLISHED": "ended",
    "STOPPED": "ended",
    "CLOSING": "ended",
    "CLOSED": "ended",
    "ERROR": "error",
    "REBALANCING": "unknown",
    "": "unknown",
}


def test_state_determines_the_exported_status() -> None:
    rows = [{"application": "a", "streamKey": f"k{state}", "state": state} for state in STATES]
    text = expose(PLATFORM, Recording({LIST: listed(*rows)}))
    found = re.findall(r'^stream_status\{.*stream="a/k(.*?)",status="(\w+)"\} 1$', text, re.MULTILINE)
    assert dict(found) == STATES


async def test_special_characters_in_ids_are_encoded_in_the_path(api: ScriptedApi) -> None:
    stream = {"application": "../admin", "key": "a/b?c"}
    async with storm(api, discover=False, streams=[stream]) as upstream:
        assert (await upstream.poll()).streams[0].id == "../admin/a%2Fb?c"
    assert api.paths() == ["GET /api/streams/..%2Fadmin/a%2Fb%3Fc"]


async def test_response_about_another_stream_is_a_bad_response(api: ScriptedApi) -> None:
    api.on(ONE, {"data": {"application": "edge", "streamKey": "other"}})
    async with storm(api, discover=False, streams=[F1]) as upstream:
        with pytest.raises(UpstreamError) as error:
            await upstream.poll()
    assert error.value.reason is Reason.BAD_RESPONSE


async def test_response_without_application_and_key_is_about_the_requested_stream(api: ScriptedApi) -> None:
    api.on(ONE, {"data": {"state": "PUBLISHED"}})
    async with storm(api, discover=False, streams=[F1]) as upstream:
        assert [report.id for report in (await upstream.poll()).streams] == ["edge/f1"]


@pytest.mark.parametrize("response", [[], {}, {"data": []}, "text", None, 7])
async def test_response_without_envelope_is_a_bad_response(api: ScriptedApi, response: Any) -> None:
    api.on(ONE, response)
    async with storm(api, discover=False, streams=[F1]) as upstream:
        with pytest.raises(UpstreamError) as error:
            await upstream.poll()
    assert error.value.reason is Reason.BAD_RESPONSE


# -- bad values ----------------------------------------------------------------------------------------------

FIELDS = sorted(fixture("storm/stream.json")["data"])


@given(name=st.sampled_from(FIELDS), value=json_values)
def test_bad_field_does_not_affect_other_fields(name: str, value: Any) -> None:
    good = fixture("storm/stream.json")["data"]
    whole = read_stream(Record(good, DropCounter()), application="edge", key="f1")
    changed = read_stream(Record({**good, name: value}, DropCounter()), application="edge", key="f1")
    assert whole is not None
    assert changed is not None
    differing = {
        field
        for field in StreamReport.__struct_fields__
        if getattr(whole.report, field) != getattr(changed.report, field)
    }
    assert differing <= TOUCHED.get(name, set())


TOUCHED = {
    "application": {"id", "application"},
    "streamKey": {"id"},
    "state": {"status", "live"},
    "type": {"kind"},
    "startTime": {"start_timestamp_seconds"},
    "viewerCount": {"viewers"},
    "systemClientCount": {"system_clients"},
    "inBandwidth": {"ingest_bitrate_bytes_per_second", "health_unreadable"},
    "outBandwidth": {"egress_bitrate_bytes_per_second"},
    "inTotalBytes": {"ingest_bytes", "health_unreadable"},
    "outTotalBytes": {"egress_bytes"},
    "healthScore": {"health_score_ratio", "health_unreadable"},
    "healthGrade": {"health_grade", "health_score_ratio"},
    "allowedToPublish": {"publish_allowed"},
    "isRecording": {"recording"},
    "subStreams": {"substreams"},
}


@given(name=st.sampled_from(FIELDS), value=json_values)
def test_bad_record_does_not_affect_other_records(name: str, value: Any) -> None:
    good = fixture("storm/stream.json")["data"]
    page = Record({"list": [{**good, name: value}, value, {**good, "streamKey": "f2"}]}, DropCounter())
    found = [stream for record in page.records("list") if (stream := read_stream(record)) is not None]
    assert found[-1].report.id == "edge/f2"


@given(name=st.sampled_from(["streamKey", "sourceList"]), value=json_values)
def test_any_cluster_row_is_read_without_an_error(name: str, value: Any) -> None:
    item = fixture("storm/cluster-streams.json")["data"]["list"][0]
    list(read_cluster_stream(Record({**item, name: value}, DropCounter())))
    list(
        read_cluster_stream(
            Record({"streamKey": "k", "sourceList": [{**item["sourceList"][0], "state": value}]}, DropCounter())
        )
    )


async def test_bad_values_are_counted_by_field_name(api: ScriptedApi) -> None:
    record = {**fixture("storm/stream.json")["data"], "healthScore": 250, "inTotalBytes": -1, "viewerCount": "3.5"}
    api.on(ONE, {"data": record})
    async with storm(api, discover=False, streams=[F1]) as upstream:
        result = await upstream.poll()
    assert result.dropped_fields == {"healthScore": 1, "inTotalBytes": 1, "viewerCount": 1}
    assert result.streams[0].ingest_bitrate_bytes_per_second == 463973.0


# -- batches -------------------------------------------------------------------------------------------------


async def test_two_streams_are_requested_in_one_batch(api: ScriptedApi) -> None:
    api.on(BATCH, fixture("storm/batch.json"))
    async with storm(api, discover=False, streams=[F1, F2]) as upstream:
        streams = await upstream.streams()
    assert api.paths()[0] == BATCH
    assert api.requests[0].body == {"data": {"streamKeyIds": ["edge-f1", "edge-f2"]}}
    assert api.paths().count(BATCH) == 1
    assert not {ONE, TWO} & set(api.paths())
    assert streams["edge/f1"].health_score_ratio == 0.88
    assert streams["edge/f1"].recording is None
    assert (streams["edge/f2"].status, streams["edge/f2"].live) == (Status.IDLE, False)


@pytest.mark.parametrize("status", [404, 405, 501])
async def test_server_without_batches_is_requested_stream_by_stream(api: ScriptedApi, status: int) -> None:
    api.on(BATCH, {}, status=status)
    api.on(ONE, fixture("storm/stream.json"))
    async with storm(api, discover=False, streams=[F1, F2]) as upstream:
        assert set(await upstream.streams()) == {"edge/f1", "edge/f2"}
        await upstream.poll()
    assert api.paths().count(BATCH) == 1
    assert api.paths().count(ONE) == api.paths().count(TWO) == 2


async def test_stream_missing_from_a_batch_response_is_requested_individually(api: ScriptedApi) -> None:
    api.on(BATCH, {"data": {"found": [], "notFound": ["edge-f2", 7]}})
    api.on(ONE, fixture("storm/stream.json"))
    async with storm(api, discover=False, streams=[F1, F2]) as upstream:
        streams = await upstream.streams()
    assert streams["edge/f1"].live
    assert streams["edge/f2"].live is False
    assert TWO not in api.paths()


async def test_streams_with_the_same_batch_id_are_requested_individually(api: ScriptedApi) -> None:
    twins = [{"application": "a-b", "key": "c"}, {"application": "a", "key": "b-c"}, F1]
    api.on(BATCH, {"data": {"found": [live("f1", subStreams=[])]}})
    async with storm(api, discover=False, streams=twins) as upstream:
        assert set(await upstream.streams()) == {"a-b/c", "a/b-c", "edge/f1"}
    assert api.requests[0].body == {"data": {"streamKeyIds": ["edge-f1"]}}
    assert sorted(api.paths()[1:]) == ["GET /api/streams/a-b/c", "GET /api/streams/a/b-c"]


async def test_failed_batch_does_not_affect_other_batches(api: ScriptedApi) -> None:
    def batch(request: RecordedRequest) -> Reply:
        keys = request.body["data"]["streamKeyIds"]
        if "edge-k000" in keys:
            return Reply({}, 400)
        return Reply({"data": {"found": [], "notFound": keys}})

    api.on(BATCH, batch)
    streams = [{"application": "edge", "key": f"k{number:03}"} for number in range(250)]
    async with storm(api, discover=False, streams=streams) as upstream:
        result = await upstream.poll()
    assert sorted(len(request.body["data"]["streamKeyIds"]) for request in api.requests) == [50, 100, 100]
    assert (len(result.streams), len(result.failures)) == (150, 100)
    assert set(result.failures.values()) == {Reason.BAD_RESPONSE}


async def test_poll_without_any_usable_response_fails(api: ScriptedApi) -> None:
    api.on(BATCH, {}, status=403)
    async with storm(api, discover=False, streams=[F1, F2]) as upstream:
        with pytest.raises(UpstreamError) as error:
            await upstream.poll()
    assert error.value.reason is Reason.FORBIDDEN


# -- lists ---------------------------------------------------------------------------------------------------


async def test_list_is_read_up_to_the_page_without_has_next(api: ScriptedApi) -> None:
    pages = {"1": fixture("storm/streams-page-1.json"), "2": fixture("storm/streams-page-2.json")}
    api.on(LIST, lambda request: Reply(pages[request.query["page"]]))
    async with storm(api) as upstream:
        result = await upstream.poll()
    assert result.listing is Listing.SHIFTING
    assert {report.id: report.status for report in result.streams} == {
        "edge/f1": Status.LIVE,
        "edge/f2": Status.IDLE,
        "transcode/f1": Status.ENDED,
    }
    assert [request.query for request in api.requests[:2]] == [
        {"page": "1", "rowsPerPage": "100"},
        {"page": "2", "rowsPerPage": "100"},
    ]


async def test_list_of_one_page_is_complete(api: ScriptedApi) -> None:
    api.on(LIST, listed())
    async with storm(api) as upstream:
        result = await upstream.poll()
    assert (result.listing, result.streams) == (Listing.COMPLETE, ())


async def test_repeated_page_fails_the_poll(api: ScriptedApi) -> None:
    bandwidths = iter(range(100))
    api.on(LIST, lambda _: Reply(listed(live("f1", inBandwidth=next(bandwidths)), has_next=True)))
    async with storm(api) as upstream:
        with pytest.raises(UpstreamError, match="same page") as error:
            await upstream.poll()
    assert error.value.reason is Reason.BAD_RESPONSE


async def test_list_of_too_many_pages_is_doubtful(api: ScriptedApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.platforms.lists.MAX_PAGES", 20)
    api.on(LIST, lambda request: Reply(listed(live(request.query["page"]), has_next=True)))
    async with storm(api) as upstream:
        result = await upstream.poll()
    assert (result.listing, result.list_doubt) == (Listing.DOUBTFUL, "more than 20 pages")
    assert api.paths().count(LIST) == 20


@pytest.mark.parametrize("page", [{"hasNext": False}, {"list": None}, {"list": 3, "hasNext": True}])
async def test_page_without_a_list_is_a_bad_response(api: ScriptedApi, page: dict[str, Any]) -> None:
    api.on(LIST, {"data": page})
    async with storm(api) as upstream:
        with pytest.raises(UpstreamError) as error:
            await upstream.poll()
    assert error.value.reason is Reason.BAD_RESPONSE


async def test_missing_announced_page_fails_only_this_poll(api: ScriptedApi) -> None:
    api.on(LIST, lambda request: Reply(listed(live("f1"), has_next=True), 200 if request.query["page"] == "1" else 404))
    async with storm(api, streams=[F2]) as upstream:
        with pytest.raises(UpstreamError) as error:
            await upstream.poll()
        assert error.value.reason is Reason.BAD_RESPONSE
        api.on(LIST, listed(live("f1")))
        assert set(await upstream.streams()) == {"edge/f1", "edge/f2"}


async def test_rows_without_application_or_key_are_left_out(api: ScriptedApi) -> None:
    api.on(LIST, listed({"state": "PUBLISHED"}, {"application": "edge"}, live("f1")))
    async with storm(api) as upstream:
        assert set(await upstream.streams()) == {"edge/f1"}


async def test_configured_streams_missing_from_the_list_are_requested(api: ScriptedApi) -> None:
    api.on(LIST, listed(live("f1")))
    async with storm(api, streams=[F1, F2]) as upstream:
        result = await upstream.poll()
    assert TWO in api.paths()
    assert ONE not in api.paths()
    assert result.listing is Listing.COMPLETE
    assert {report.id: report.live for report in result.streams} == {"edge/f1": True, "edge/f2": False}


async def test_failed_configured_stream_does_not_affect_the_list(api: ScriptedApi) -> None:
    api.on(LIST, listed())
    api.on(TWO, {}, status=403)
    async with storm(api, streams=[F2]) as upstream:
        result = await upstream.poll()
    assert result.failures == {"edge/f2": Reason.FORBIDDEN}


@pytest.mark.parametrize("status", [404, 405, 501])
async def test_server_without_its_own_list_uses_the_cluster_list(api: ScriptedApi, status: int) -> None:
    api.on(LIST, {}, status=status)
    api.on(CLUSTER, fixture("storm/cluster-streams.json"))
    async with storm(api) as upstream:
        streams = await upstream.streams()
        api.requests.clear()
        await upstream.poll()
    assert api.paths() == [CLUSTER]
    assert streams["transcode/123"] == Report(
        id="transcode/123",
        application="transcode",
        kind="transcode",
        status=Status.LIVE,
        live=True,
        ingest_bitrate_bytes_per_second=440698.0,
    )
    assert streams["live/123"].ingest_bitrate_bytes_per_second == 463973.0
    assert (streams["live/456"].status, streams["live/456"].live) == (Status.IDLE, False)


async def test_server_without_lists_is_polled_for_the_configured_streams(api: ScriptedApi) -> None:
    async with storm(api, streams=[F1]) as upstream:
        result = await upstream.poll()
        assert result.listing is Listing.DIRECT
        assert api.paths() == [LIST, CLUSTER, ONE]
        api.requests.clear()
        await upstream.poll()
    assert api.paths() == [ONE]


@pytest.mark.parametrize("given_", [{"discover": True, "streams": [F1]}, {}])
async def test_server_without_lists_and_streams_fails_the_poll(api: ScriptedApi, given_: dict[str, Any]) -> None:
    async with storm(api, **given_) as upstream:
        for _ in range(2):
            with pytest.raises(UpstreamError) as error:
                await upstream.poll()
            assert error.value.reason is Reason.NOT_FOUND
    assert api.paths() == [LIST, CLUSTER] * 2


async def test_failed_list_is_requested_again(api: ScriptedApi) -> None:
    api.on(LIST, {}, status=403)
    async with storm(api, streams=[F1]) as upstream:
        with pytest.raises(UpstreamError):
            await upstream.poll()
        api.on(LIST, listed(live("f1")))
        assert set(await upstream.streams()) == {"edge/f1"}


# -- metadata ------------------------------------------------------------------------------------------------


async def test_metadata_is_requested_once_per_publish(api: ScriptedApi) -> None:
    api.on(LIST, listed(live("f1", start=1764683374353)))
    api.on(METADATA, fixture("storm/substream-metadata.json"))
    async with storm(api) as upstream:
        assert (await upstream.streams())["edge/f1"].resolution == "1920x1080"
        assert (await upstream.streams())["edge/f1"].frames_per_second == 29.97
        assert api.paths().count(METADATA) == 1
        api.on(LIST, listed(live("f1", start=1764690000000)))
        await upstream.poll()
        assert api.paths().count(METADATA) == 2


async def test_metadata_is_kept_after_the_end_and_forgotten_when_unlisted(api: ScriptedApi) -> None:
    api.on(LIST, listed(live("f1")))
    api.on(METADATA, fixture("storm/substream-metadata.json"))
    async with storm(api) as upstream:
        await upstream.poll()
        api.on(LIST, listed(live("f1", state="UNPUBLISHED")))
        assert (await upstream.streams())["edge/f1"].video_codec == "H264"
        api.on(LIST, listed())
        await upstream.poll()
        api.on(LIST, listed(live("f1", state="UNPUBLISHED")))
        assert (await upstream.streams())["edge/f1"].video_codec == ""
    assert api.paths().count(METADATA) == 1


async def test_publish_without_a_start_time_ends_when_off_air(api: ScriptedApi) -> None:
    api.on(METADATA, fixture("storm/substream-metadata.json"))
    async with storm(api) as upstream:
        for state, request in (("PUBLISHED", 1), ("PUBLISHED", 1), ("UNPUBLISHED", 1), ("PUBLISHED", 2)):
            api.on(LIST, listed(live("f1", start=0, state=state)))
            report = (await upstream.streams())["edge/f1"]
            assert (report.video_codec, api.paths().count(METADATA)) == ("" if not report.live else "H264", request)


async def test_failed_metadata_request_is_retried_later(api: ScriptedApi) -> None:
    clock = FakeClock()
    api.on(LIST, listed(live("f1")))
    api.on(METADATA, {}, status=403)
    async with storm(api, clock) as upstream:
        result = await upstream.poll()
        assert (result.failures, result.streams[0].video_codec) == ({}, "")
        clock.advance(15)
        await upstream.poll()
        assert api.paths().count(METADATA) == 1
        clock.advance(60)
        api.on(METADATA, fixture("storm/substream-metadata.json"))
        assert (await upstream.streams())["edge/f1"].video_codec == "H264"


async def test_missing_metadata_is_not_requested_again(api: ScriptedApi) -> None:
    clock = FakeClock()
    api.on(LIST, listed(live("f1")))
    async with storm(api, clock) as upstream:
        for _ in range(3):
            await upstream.poll()
            clock.advance(100)
    assert api.paths().count(METADATA) == 1


async def test_metadata_of_many_new_streams_is_requested_over_several_polls(api: ScriptedApi) -> None:
    api.on(LIST, listed(*(live(f"k{number}") for number in range(10))))
    async with storm(api, max_concurrent_requests=2) as upstream:
        await upstream.poll()
        assert len(api.requests) == 1 + 6
        await upstream.poll()
        await upstream.poll()
    assert len(api.requests) == 3 + 10


async def test_metadata_is_requested_for_the_ingest_substream(api: ScriptedApi) -> None:
    api.on(BATCH, fixture("storm/batch.json"))
    api.on(METADATA, fixture("storm/substream-metadata.json"))
    async with storm(api, discover=False, streams=[F1, F2]) as upstream:
        assert (await upstream.streams())["edge/f1"].substreams == 2
    assert METADATA in api.paths()


async def test_metadata_is_requested_only_for_live_streams_with_a_substream(api: ScriptedApi) -> None:
    api.on(LIST, listed(live("f1", subStreams=None), live("f2", state="AWAITING")))
    async with storm(api) as upstream:
        await upstream.poll()
    assert api.paths() == [LIST]


async def test_width_without_height_gives_no_resolution(api: ScriptedApi) -> None:
    api.on(LIST, listed(live("f1")))
    api.on(METADATA, {"data": {"width": 1280, "height": 0, "frameRate": 0, "videoCodec": "H265"}})
    async with storm(api) as upstream:
        report = (await upstream.streams())["edge/f1"]
    assert (report.width_pixels, report.height_pixels, report.resolution) == (1280, None, "")
    assert (report.frames_per_second, report.video_codec) == (None, "H265")


# -- authentication --------------------------------------------------------------------------------------------


@asynccontextmanager
async def logging_in(api: ScriptedApi, clock: FakeClock) -> AsyncIterator[Polled]:
    auth = {"username": "exporter", "password": "correct-horse-7"}
    async with storm(api, clock, auth=auth, discover=False, streams=[F1]) as upstream:
        yield upstream


def token(number: int) -> Reply:
    response = fixture("storm/login.json")
    response["data"]["accessToken"] = f"token-{number}"
    return Reply(response)


async def test_token_is_renewed_at_80_percent_of_its_life(api: ScriptedApi) -> None:
    clock = FakeClock()
    api.in_turn(LOGIN, map(token, range(9)))
    async with logging_in(api, clock) as upstream:
        await upstream.poll()
        assert api.requests[0].body == {"username": "exporter", "password": "correct-horse-7"}
        assert "Authorization" not in api.requests[0].headers
        assert api.requests[1].headers["Authorization"] == "Bearer token-0"
        clock.advance(700)
        await upstream.poll()
        assert api.paths().count(LOGIN) == 1
        clock.advance(25)
        await upstream.poll()
    assert api.paths().count(LOGIN) == 2
    assert api.requests[-1].headers["Authorization"] == "Bearer token-1"


@pytest.mark.parametrize("remaining", [None, -5, "soon", 10**15])
async def test_token_without_a_usable_life_lasts_900_seconds(api: ScriptedApi, remaining: Any) -> None:
    clock = FakeClock()
    response = fixture("storm/login.json")
    response["data"]["remainingTime"] = remaining
    api.on(LOGIN, response)
    async with logging_in(api, clock) as upstream:
        await upstream.poll()
        clock.advance(719)
        await upstream.poll()
        assert api.paths().count(LOGIN) == 1
        clock.advance(2)
        await upstream.poll()
    assert api.paths().count(LOGIN) == 2


async def test_refused_token_is_replaced_once_without_waiting(api: ScriptedApi) -> None:
    clock = FakeClock()
    api.in_turn(LOGIN, map(token, range(9)))
    good = {"token-0"}

    def stream(request: RecordedRequest) -> Reply:
        known = request.headers.get("Authorization", "").removeprefix("Bearer ") in good
        return Reply(fixture("storm/stream.json")) if known else Reply({"message": "Invalid token"}, 401)

    api.on(ONE, stream)
    async with logging_in(api, clock) as upstream:
        await upstream.poll()
        clock.advance(100)
        good.clear()
        good.add("token-1")
        assert (await upstream.streams())["edge/f1"].live
    assert api.paths().count(LOGIN) == 2


async def test_refused_logins_stay_below_the_limit(api: ScriptedApi) -> None:
    clock = FakeClock()
    api.on(LOGIN, {"message": "Username or password is incorrect"}, status=401)
    async with logging_in(api, clock) as upstream:
        for _ in range(60):
            with pytest.raises(UpstreamError) as error:
                await upstream.poll()
            assert error.value.reason is Reason.AUTH
            clock.advance(1)
    assert set(api.paths()) == {LOGIN}
    assert len(api.requests) <= 5


@pytest.mark.parametrize("status", [404, 405, 501])
async def test_missing_login_endpoint_is_not_mistaken_for_a_missing_stream(api: ScriptedApi, status: int) -> None:
    api.on(LOGIN, {}, status=status)
    async with logging_in(api, FakeClock()) as upstream:
        with pytest.raises(UpstreamError, match="login") as error:
            await upstream.poll()
    assert error.value.status is None


@pytest.mark.parametrize("response", [{}, {"data": {}}, {"data": {"accessToken": "two\nlines"}}])
async def test_login_response_without_a_token_fails_the_login(api: ScriptedApi, response: Any) -> None:
    api.on(LOGIN, response)
    async with logging_in(api, FakeClock()) as upstream:
        with pytest.raises(UpstreamError) as error:
            await upstream.poll()
    assert error.value.reason is Reason.BAD_RESPONSE


@pytest.mark.parametrize(
    ("auth", "header", "value"),
    [
        ({"api_key": "a-key-of-storm"}, "X-Api-Key", "a-key-of-storm"),
        ({"bearer_token": "fixed-0001"}, "Authorization", "Bearer fixed-0001"),
        ({}, "Authorization", None),
    ],
)
async def test_each_kind_of_auth_sends_its_header(api: ScriptedApi, auth: Any, header: str, value: str | None) -> None:
    async with storm(api, auth=auth, discover=False, streams=[F1]) as upstream:
        await upstream.poll()
    assert api.requests[0].headers.get(header) == value


# -- settings ------------------------------------------------------------------------------------------------


def test_settings_have_defaults() -> None:
    made = settings()
    assert (made.interval, made.timeout, made.stale_after) == (15.0, 10.0, 45.0)
    assert (made.base_path, made.discover, made.configured_streams()) == ("/api", "auto", ())


@pytest.mark.parametrize(("path", "read"), [("/", ""), ("/api/v1/", "/api/v1"), ("/rest-api", "/rest-api")])
async def test_base_path_precedes_every_path(api: ScriptedApi, path: str, read: str) -> None:
    async with storm(api, base_path=path, discover=False, streams=[F1]) as upstream:
        await upstream.poll()
    assert api.paths() == [f"GET {read}/streams/edge/f1"]


@pytest.mark.parametrize(
    "given_",
    [
        {"base_path": "api"},
        {"base_path": "/a/../b"},
        {"base_path": "/a?b"},
        {"discover": "sometimes"},
        {"discover": 1},
        {"discover": False},
        {"streams": [{"application": "edge"}]},
        {"streams": [{"application": "", "key": "f1"}]},
        {"streams": [F1, F1]},
        {"sessions": []},
    ],
)
def test_invalid_settings_are_refused(given_: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(**given_)


@pytest.mark.parametrize(
    ("given_", "requests"),
    [
        ({}, 4.0),
        ({"discover": False, "streams": [F1]}, 4.0),
        ({"discover": False, "streams": [F1, F2]}, 4.0),
        ({"discover": False, "streams": [{"application": "a", "key": str(n)} for n in range(250)]}, 12.0),
        ({"auth": {"username": "u", "password": "correct-horse-7"}}, 4.0 + 60 / 720),
    ],
)
def test_requests_per_minute_count_list_batches_and_logins(given_: dict[str, Any], requests: float) -> None:
    assert PLATFORM.requests_per_minute(settings(**given_)) == pytest.approx(requests)
