"""Any value in a Livepeer field: the poll succeeds, and other fields do not change."""

import copy
import math
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.http.client import Requests, UpstreamClient
from exporter.model import Reason, StreamReport
from exporter.platforms.heartbeats import HeartbeatTracker
from exporter.platforms.livepeer import Livepeer, LivepeerSettings
from exporter.platforms.livepeer.stream_objects import (
    FRESH_SECONDS,
    ParsedObject,
    Reader,
    Report,
    parse_session,
    parse_stream,
)
from exporter.platforms.livepeer.viewers_and_health import parse_health_details
from exporter.platforms.parsing import DropCounter, Record
from tests.fake_clock import FakeClock
from tests.platforms.studio_server import KEY, fixture, running_studio

FEEDS = {
    "id": {"id"},
    "name": {"name"},
    "playbackId": {"playback_id"},
    "parentId": {"id"},
    "isActive": set(),
    "isHealthy": {"healthy", "issues", "health_unreadable"},
    "issues": {"issues", "health_unreadable"},
    "lastSeen": set(),
    "createdAt": {"start_timestamp_seconds"},
    "ingestRate": {"ingest_bitrate_bytes_per_second", "health_unreadable"},
    "outgoingRate": {"transcode_bitrate_bytes_per_second"},
    "sourceBytes": {"ingest_bytes", "health_unreadable"},
    "transcodedBytes": {"transcoded_bytes"},
    "sourceSegments": {"source_segments"},
    "transcodedSegments": {"transcoded_segments"},
    "sourceSegmentsDuration": {"source_media_seconds"},
    "transcodedSegmentsDuration": {"transcoded_media_seconds"},
    "profiles": {"renditions"},
    "recordingSpec": {"renditions"},
    "record": {"recording", "renditions"},
    "recordingStatus": {"recording_status"},
    "suspended": {"publish_allowed"},
}
"""The fields of the report that a field of the platform may change."""
NUMBERS = {name for name in FEEDS if name.endswith(("Bytes", "Rate", "Segments", "Duration"))}

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def reader() -> Reader:
    clock = FakeClock()
    poll = SimpleNamespace(now=clock.now(), server_time=None)
    return Reader(HeartbeatTracker(FRESH_SECONDS), cast("Requests", poll), clock)


def read_stream(record: Record) -> ParsedObject:
    return parse_stream(record, reader())


def read_session(record: Record) -> ParsedObject:
    session = parse_session(record, reader())
    assert session is not None
    return session


def assert_plausible(report: StreamReport) -> None:
    """Check the invariants of every report."""
    for field in StreamReport.__struct_fields__:
        value = getattr(report, field)
        if isinstance(value, float):
            assert math.isfinite(value), field
            assert value >= 0, field
    assert type(report.healthy) in (bool, type(None))
    assert len({rendition.name for rendition in report.renditions or ()}) == len(report.renditions or ())


@given(name=st.sampled_from(sorted(FEEDS.keys() - {"id", "createdAt", "parentId", "recordingStatus"})), value=anything)
def test_any_value_of_a_stream_field_changes_only_what_it_feeds(name: str, value: Any) -> None:
    raw = fixture("streams-active")[0]
    whole = read_stream(Record(raw, DropCounter())).report
    read = read_stream(Record({**raw, name: value}, DropCounter())).report
    assert_plausible(read)
    for field in set(StreamReport.__struct_fields__) - FEEDS[name]:
        assert getattr(read, field) == getattr(whole, field), field


@given(name=st.sampled_from(sorted(FEEDS.keys() - {"isActive", "suspended"})), value=anything)
def test_any_value_of_a_session_field_changes_only_what_it_feeds(name: str, value: Any) -> None:
    raw = fixture("session-documented")
    whole = read_session(Record(raw, DropCounter())).report
    session = parse_session(Record({**raw, name: value}, DropCounter()), reader())
    if session is None:
        assert name == "id"
        return
    read = session.report
    assert_plausible(read)
    feeds = FEEDS[name] | ({"session"} if name == "id" else set())
    for field in set(StreamReport.__struct_fields__) - feeds:
        assert getattr(read, field) == getattr(whole, field), field


@pytest.mark.parametrize("name", sorted(NUMBERS))
@pytest.mark.parametrize("value", [-1, "x", True, [], {}, math.inf, -0.5, 10**400])
def test_bad_number_is_dropped_and_counted(name: str, value: Any) -> None:
    drops = DropCounter()
    read_session(Record({**fixture("session-documented"), name: value}, drops))
    assert drops.counts == {name: 1}


def test_session_without_an_id_is_not_read() -> None:
    drops = DropCounter()
    assert parse_session(Record({"name": "bare"}, drops), reader()) is None
    assert read_session(Record({"id": "s"}, drops)).report == Report(id="s", session="s", kind="session")
    assert drops.counts == {}


@pytest.mark.parametrize(
    ("changes", "dropped"),
    [
        ({"profiles": {"name": "720p"}}, {"profiles": 1}),
        ({"profiles": ["720p", {"name": "a", "bitrate": -1}, {"bitrate": 8}]}, {"profiles": 1, "profiles.bitrate": 1}),
        ({"recordingSpec": {"profiles": 1}, "record": True}, {"recordingSpec.profiles": 1}),
        ({"issues": ["one", 2]}, {"issues": 1}),
    ],
)
def test_bad_nested_field_is_counted_by_its_path(changes: dict[str, Any], dropped: dict[str, int]) -> None:
    drops = DropCounter()
    read_session(Record({**fixture("session-documented"), **changes}, drops))
    assert drops.counts == dropped


def test_repeated_rendition_counts_once() -> None:
    profiles = [{"name": "720p", "bitrate": 8}, {"name": "720p", "bitrate": 16}]
    report = read_stream(Record({"profiles": profiles}, DropCounter())).report
    assert [rendition.name for rendition in report.renditions or ()] == ["720p"]


def places(value: Any) -> list[tuple[str | int, ...]]:
    """Return every place inside a JSON value."""
    found: list[tuple[str | int, ...]] = []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += [(key,), *((key, *place) for place in places(inner))]
    return found


def put(value: Any, place: tuple[str | int, ...], new: Any) -> Any:
    changed = copy.deepcopy(value)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = new
    return changed


@given(st.sampled_from(places(fixture("health"))), anything)
def test_any_value_in_the_details_is_read(place: tuple[str | int, ...], value: Any) -> None:
    details = parse_health_details(Record(put(fixture("health"), place, value), DropCounter()))
    assert all(type(status) is bool for status in (*details.conditions.values(), *details.targets.values()))
    ratio = details.transcode_realtime_ratio
    assert ratio is None or (math.isfinite(ratio) and ratio >= 0)


NAMES = ("streams-active", "sessions-default-filled", "session-documented", "views-now", "health")


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([(name, place) for name in NAMES for place in places(fixture(name))]), anything)
async def test_any_value_in_any_response_fails_at_most_one_stream(
    where: tuple[str, tuple[str | int, ...]], value: Any
) -> None:
    name, place = where
    responses = {each: fixture(each) for each in NAMES} | {name: put(fixture(name), place, value)}
    clock = FakeClock(1_726_000_150.0)
    second = fixture("streams-active")[1]["id"]
    async with running_studio(clock) as studio:
        studio.streams, studio.views = responses["streams-active"], responses["views-now"]
        studio.sessions[second] = responses["sessions-default-filled"]
        studio.session["single"] = {**responses["session-documented"], "parentId": "parent"}
        studio.health = dict.fromkeys(("parent", second), responses["health"])
        upstream = LivepeerSettings.model_validate(
            {
                "name": "studio", "url": studio.url, "auth": {"bearer_token": KEY}, "health_details": "60s",
                "discover": True, "streams": [{"id": second}], "sessions": ["single"],
            }
        )  # fmt: skip
        client = UpstreamClient.from_settings(upstream, clock, lambda *_: None)
        result = await Livepeer(upstream, client, clock).poll(client.requests(10.0))
        await client.close()
    ids = [report.id for report in result.streams]
    assert len(ids) == len(set(ids))
    unread = {second, "parent", "single"} - set(ids)
    assert unread == {"single"} if not result.failures else unread > result.failures.keys()
    assert len(result.failures) <= 1
    assert set(result.failures.values()) <= {Reason.BAD_RESPONSE}
    for report in result.streams:
        assert_plausible(report)
        msgspec.json.encode(report)
