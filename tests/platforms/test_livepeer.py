"""Livepeer Studio over real HTTP: which requests are sent, which streams are live, and what is reported of them."""

import copy
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from pydantic import ValidationError

from exporter.http.client import UpstreamClient
from exporter.http.errors import UpstreamError
from exporter.model import Listing, PollResult, Reason, Rendition, Status, StreamReport
from exporter.platforms.livepeer import PLATFORM, Livepeer, LivepeerSettings
from exporter.platforms.livepeer.stream_objects import Report
from exporter.polling.tracker import Tracker
from tests.fake_clock import FakeClock
from tests.platforms.studio_server import KEY, Studio, fixture, running_studio

NOW = 1_726_000_150.0
MAIN = "de7818e7-610a-4057-8f6f-b785dc1e6f88"
SECOND = "0e7ee4d5-7ff1-4d5e-9b2b-3a4c5d6e7f80"
CRASHED = "5c1a2b3d-0000-4000-8000-000000000003"
EVENING = "a1a1a1a1-0000-4000-8000-000000000002"
MORNING = "a1a1a1a1-0000-4000-8000-000000000001"
MS = 0.001


def settings_for(studio: Studio, **own: Any) -> LivepeerSettings:
    return LivepeerSettings.model_validate(
        {"name": "studio", "platform": "livepeer", "url": studio.url, "auth": {"bearer_token": KEY}, **own}
    )


class PolledUpstream:
    """One upstream, polled by the test."""

    def __init__(self, studio: Studio, clock: FakeClock, **own: Any) -> None:
        self.clock = clock
        self.settings = settings_for(studio, **own)
        self.client = UpstreamClient.from_settings(self.settings, clock, lambda *_: None)
        self.platform = Livepeer(self.settings, self.client, clock)

    async def poll(self) -> PollResult:
        """Poll once and return the result without ages and list names, which have their own tests."""
        result = await self.platform.poll(self.client.requests(self.settings.timeout))
        streams = tuple(msgspec.structs.replace(report, last_seen_age_seconds=None) for report in result.streams)
        return msgspec.structs.replace(result, streams=streams, list_names={})

    async def stream(self, stream_id: str = MAIN) -> StreamReport:
        return by_id(await self.poll())[stream_id]


def by_id(result: PollResult) -> dict[str, StreamReport]:
    assert len({report.id for report in result.streams}) == len(result.streams)
    return {report.id: report for report in result.streams}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOW)


@pytest.fixture
async def studio(clock: FakeClock) -> AsyncIterator[Studio]:
    async with running_studio(clock) as running:
        running.streams = fixture("streams-active")
        running.sessions[MAIN] = fixture("sessions-default-filled")
        running.views = fixture("views-now")
        running.health[MAIN] = fixture("health")
        yield running


@pytest.fixture
async def polled(studio: Studio, clock: FakeClock) -> AsyncIterator[Any]:
    made: list[PolledUpstream] = []

    def make(**own: Any) -> PolledUpstream:
        made.append(PolledUpstream(studio, clock, **own))
        return made[-1]

    yield make
    for each in made:
        await each.client.close()


LISTED_MAIN = Report(
    id=MAIN,
    name="main-stage",
    kind="stream",
    playback_id="eaw4nk06ts2d0mzb",
    status=Status.DEGRADED,
    live=True,
    last_seen_timestamp_seconds=1726000123456 * MS,
    healthy=False,
    issues=("Stream is feeling under the weather",),
    ingest_bitrate_bytes_per_second=312500.5,
    transcode_bitrate_bytes_per_second=540210.25,
    ingest_bytes=812345678.0,
    transcoded_bytes=1412345678.0,
    source_segments=1360.0,
    transcoded_segments=5480.0,
    source_media_seconds=2630.532,
    transcoded_media_seconds=10620.128,
    renditions=(Rendition("480p0", 200_000.0), Rendition("720p0", 375_000.0)),
    viewers=42,
    viewer_error_ratio=0.02,
    recording=False,
    publish_allowed=True,
)
LISTED_SECOND = Report(
    id=SECOND,
    name="second-stage",
    kind="stream",
    playback_id="1bde4o2i6xycudoy",
    status=Status.LIVE,
    live=True,
    last_seen_timestamp_seconds=1726000149000 * MS,
    viewers=0,
    recording=True,
    publish_allowed=True,
)
LISTED_CRASHED = Report(
    id=CRASHED,
    name="crashed",
    kind="stream",
    playback_id="crashedplayback1",
    status=Status.UNKNOWN,
    live=None,
    healthy=True,
    issues=(),
    ingest_bitrate_bytes_per_second=500.0,
    transcode_bitrate_bytes_per_second=0.0,
    last_seen_timestamp_seconds=1726000000000 * MS,
    ingest_bytes=1000.0,
    transcoded_bytes=0.0,
    source_segments=10.0,
    transcoded_segments=0.0,
    source_media_seconds=20.0,
    transcoded_media_seconds=0.0,
    renditions=(),
    recording=False,
    publish_allowed=False,
)
EVENING_SESSION = Report(
    id=MAIN,
    name="main-stage-evening",
    kind="session",
    session=EVENING,
    playback_id="eaw4nk06ts2d0mzb",
    status=Status.LIVE,
    live=True,
    start_timestamp_seconds=1725996600000 * MS,
    last_seen_timestamp_seconds=1726000140000 * MS,
    healthy=True,
    issues=(),
    ingest_bitrate_bytes_per_second=375000.0,
    transcode_bitrate_bytes_per_second=617647.0,
    ingest_bytes=1275000000.0,
    transcoded_bytes=2100000000.0,
    source_segments=1700.0,
    transcoded_segments=6800.0,
    source_media_seconds=3400.5,
    transcoded_media_seconds=13602.0,
    renditions=(Rendition("720p0", 375_000.0),),
    viewers=42,
    viewer_error_ratio=0.02,
    recording=True,
    recording_status="waiting",
)


class TestDiscovery:
    async def test_active_streams_are_listed_with_their_viewers(self, polled: Any, studio: Studio) -> None:
        result = await polled().poll()
        assert result == PollResult(streams=(LISTED_MAIN, LISTED_SECOND, LISTED_CRASHED), listing=Listing.COMPLETE)
        assert sorted(studio.paths()) == ["/data/views/now", "/stream"]
        assert studio.query("/stream") == [("streamsonly", "1"), ("active", "1"), ("limit", "1000")]
        assert studio.query("/data/views/now") == [("breakdownBy[]", "playbackId")]

    async def test_empty_list_is_complete(self, polled: Any, studio: Studio) -> None:
        studio.streams = []
        assert await polled().poll() == PollResult(listing=Listing.COMPLETE)

    async def test_stream_secrets_are_not_kept(self, polled: Any) -> None:
        assert "secret" not in repr(await polled().poll())

    async def test_all_pages_are_read_up_to_an_empty_last_one(self, polled: Any, studio: Studio) -> None:
        studio.streams = [{**row, "id": f"{row['id']}-{copy_}"} for copy_ in range(2) for row in studio.streams]
        studio.page_size = 3
        result = await polled().poll()
        assert list(by_id(result)) == [row["id"] for row in studio.streams]
        assert result.listing is Listing.SHIFTING
        cursors = [dict(query).get("cursor") for path, query in studio.requested if path == "/stream"]
        assert cursors == [None, "skip3", "skip6"]
        assert all(dict(query)["active"] == "1" for path, query in studio.requested if path == "/stream")

    async def test_stream_on_two_pages_counts_once(self, polled: Any, studio: Studio) -> None:
        first, second, third = studio.streams
        for row in ({**second, "sourceBytes": 7}, {**second, "sourceBytes": 5}):
            other = {**second, "sourceBytes": 12 - row["sourceBytes"]}
            studio.streams = [first, row, other, third]
            studio.page_size = 2
            result = await polled().poll()
            assert list(by_id(result)) == [MAIN, SECOND, CRASHED]
            assert by_id(result)[SECOND].ingest_bytes == 7, "whatever the order"
            assert result.duplicate_records == 1

    async def test_repeated_page_fails_the_poll(self, polled: Any, studio: Studio) -> None:
        studio.next_link = "/api/stream?streamsonly=1&active=1&limit=1000&cursor=skip0"
        with pytest.raises(UpstreamError, match="same page") as error:
            await polled().poll()
        assert error.value.reason is Reason.BAD_RESPONSE
        result = await polled(discover=True, streams=[{"id": MAIN}]).poll()
        assert (result.listing, result.list_doubt) == (
            Listing.DOUBTFUL,
            "GET /stream: the same page was returned twice",
        )

    async def test_empty_page_that_announces_another_makes_the_list_doubtful(self, polled: Any, studio: Studio) -> None:
        studio.streams = []
        studio.next_link = "/api/stream?cursor=skip20"
        assert (await polled().poll()).listing is Listing.DOUBTFUL

    async def test_endless_list_is_doubtful_from_the_page_limit_on(
        self, polled: Any, studio: Studio, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("exporter.platforms.lists.MAX_PAGES", 3)
        studio.streams = [{"id": str(number)} for number in range(10)]
        studio.page_size = 1
        result = await polled().poll()
        assert (result.listing, result.list_doubt) == (Listing.DOUBTFUL, "more than 3 pages")
        assert studio.paths().count("/stream") == 3

    async def test_rows_without_an_id_are_counted_and_left_out(self, polled: Any, studio: Studio) -> None:
        studio.streams = [None, {"name": "unnamed"}, {"id": 7}, {"id": "x" * 2000}, studio.streams[1]]
        result = await polled().poll()
        assert result.streams == (LISTED_SECOND,)
        assert result.dropped_fields == {"id": 5}, "including one that is too long"
        assert (result.listing, result.unreadable_rows) == (Listing.COMPLETE, 4)

    @pytest.mark.parametrize("body", [{"streams": []}, None, 7])
    async def test_response_that_is_not_a_list_fails_the_poll(self, polled: Any, studio: Studio, body: Any) -> None:
        studio.streams = body
        with pytest.raises(UpstreamError) as error:
            await polled().poll()
        assert error.value.reason is Reason.BAD_RESPONSE

    @pytest.mark.parametrize(
        ("changes", "live", "status"),
        [
            ({"lastSeen": int((NOW - 89) * 1000)}, True, Status.LIVE),
            ({"lastSeen": int((NOW - 92) * 1000)}, None, Status.UNKNOWN),
            ({"lastSeen": 0}, False, Status.IDLE),
            ({"lastSeen": None}, None, Status.UNKNOWN),
            ({"lastSeen": str(int(NOW * 1000))}, True, Status.LIVE),
            ({"lastSeen": "yesterday"}, None, Status.UNKNOWN),
            ({"lastSeen": False}, None, Status.UNKNOWN),
            ({"isActive": False}, False, Status.IDLE),
            ({"isActive": None}, None, Status.UNKNOWN),
            ({"isActive": "true"}, True, Status.LIVE),
            ({"isActive": "maybe"}, None, Status.UNKNOWN),
            ({"isActive": "maybe", "lastSeen": 0}, False, Status.IDLE),
            ({"isHealthy": False}, True, Status.DEGRADED),
        ],
    )
    async def test_stream_is_live_if_active_and_seen_recently(
        self, polled: Any, studio: Studio, changes: dict[str, Any], live: bool | None, status: Status
    ) -> None:
        studio.streams = [{**studio.streams[1], **changes}]
        report = await polled().stream(SECOND)
        assert (report.live, report.status) == (live, status)

    async def test_first_heartbeat_is_compared_with_the_platforms_clock(self, polled: Any, studio: Studio) -> None:
        studio.ahead = 3600
        assert {report.live for report in (await polled().poll()).streams} == {None}

    async def test_advancing_heartbeat_is_live_whatever_the_platforms_clock(
        self, polled: Any, studio: Studio, clock: FakeClock
    ) -> None:
        studio.ahead = 300
        upstream = polled()
        await upstream.poll()
        clock.advance(30)
        for row in studio.streams:
            row["lastSeen"] += 30_000
        assert {report.live for report in (await upstream.poll()).streams} == {True}

    async def test_stopped_heartbeat_is_off_air_after_90_s_on_the_exporters_clock(
        self, polled: Any, studio: Studio, clock: FakeClock
    ) -> None:
        studio.streams[1]["lastSeen"] = int((NOW + 3600) * 1000)
        upstream = polled()
        assert (await upstream.stream(SECOND)).live is True
        clock.advance(90)
        assert (await upstream.stream(SECOND)).live is True
        clock.advance(1)
        assert (await upstream.stream(SECOND)).live is False

    @pytest.mark.parametrize(
        ("healthy", "issues", "expected"),
        [
            (None, None, (None, None)),
            (True, None, (True, ())),
            (False, [], (False, ())),
            (None, ["no audio"], (None, ("no audio",))),
            (True, "no list", (True, None)),
        ],
    )
    async def test_missing_health_stays_unknown(
        self, polled: Any, studio: Studio, healthy: Any, issues: Any, expected: Any
    ) -> None:
        studio.streams = [{**studio.streams[1], "isHealthy": healthy, "issues": issues}]
        report = await polled().stream(SECOND)
        assert (report.healthy, report.issues) == expected


class TestSessions:
    async def test_configured_stream_reports_its_newest_live_session(self, polled: Any, studio: Studio) -> None:
        result = await polled(streams=[{"id": MAIN}]).poll()
        assert result == PollResult(streams=(EVENING_SESSION,), listing=Listing.DIRECT)
        assert studio.query(f"/stream/{MAIN}/sessions") == [("limit", "10")]
        assert "/stream" not in studio.paths(), "nothing is discovered if streams are configured"

    async def test_newest_session_is_chosen_in_any_order(self, polled: Any, studio: Studio) -> None:
        older = {**studio.sessions[MAIN][0], "id": "older", "createdAt": 1725990000000, "lastSeen": 1726000149000}
        studio.sessions[MAIN] = [older, *reversed(studio.sessions[MAIN])]
        assert (await polled(streams=[{"id": MAIN}]).stream()).session == EVENING

    async def test_documented_sessions_are_read(self, polled: Any, studio: Studio, clock: FakeClock) -> None:
        studio.sessions[MAIN] = fixture("sessions-documented")
        upstream = polled(streams=[{"id": MAIN}], viewership=False)
        assert (await upstream.stream()).status is Status.UNKNOWN, "its heartbeat may be on another clock"
        clock.advance(91)
        assert await upstream.stream() == Report(
            id=MAIN,
            name="test_session",
            kind="session",
            session=MAIN,
            playback_id="eaw4nk06ts2d0mzb",
            status=Status.ENDED,
            live=False,
            start_timestamp_seconds=1587667174725 * MS,
            end_timestamp_seconds=1587667174725 * MS,
            last_seen_timestamp_seconds=1587667174725 * MS,
            ingest_bytes=1.0,
            transcoded_bytes=2.0,
            source_segments=1.0,
            transcoded_segments=2.0,
            source_media_seconds=1.0,
            transcoded_media_seconds=2.0,
            renditions=(Rendition("720p", 375_000.0),),
            recording=False,
            recording_status="waiting",
        )

    async def test_stream_without_sessions_is_idle(self, polled: Any, studio: Studio) -> None:
        studio.sessions[SECOND] = []
        assert await polled(streams=[{"id": SECOND}]).poll() == PollResult(
            streams=(Report(id=SECOND, kind="stream", status=Status.IDLE, live=False),)
        )

    async def test_missing_stream_is_idle_and_not_a_failure(self, polled: Any) -> None:
        result = await polled(streams=[{"id": "gone"}]).poll()
        assert result.streams == (Report(id="gone", kind="stream", status=Status.IDLE, live=False),)
        assert result.failures == {}

    @pytest.mark.parametrize(("record", "query"), [(True, "1"), (False, "0")])
    async def test_record_setting_is_sent_as_a_parameter(
        self, polled: Any, studio: Studio, record: bool, query: str
    ) -> None:
        await polled(streams=[{"id": MAIN}], record=record).poll()
        assert ("record", query) in studio.query(f"/stream/{MAIN}/sessions")

    async def test_default_filled_flags_are_ignored(self, polled: Any, studio: Studio) -> None:
        session = studio.sessions[MAIN][0]
        assert (session["isActive"], session["suspended"]) == (False, False)
        report = await polled(streams=[{"id": MAIN}]).stream()
        assert (report.live, report.publish_allowed) == (True, None)

    async def test_session_is_live_until_90_s_after_its_last_heartbeat(
        self, polled: Any, studio: Studio, clock: FakeClock
    ) -> None:
        upstream = polled(streams=[{"id": MAIN}])
        assert (await upstream.stream()).live is True
        clock.advance(79)
        assert (await upstream.stream()).live is True
        clock.advance(3)
        assert (await upstream.stream()).live is None, "90 s on the platform's clock, not yet on the exporter's"
        clock.advance(9)
        report = await upstream.stream()
        assert (report.live, report.status) == (False, Status.ENDED)
        assert report.end_timestamp_seconds == 1726000140000 * MS
        assert (report.healthy, report.issues, report.recording) == (None, None, False)
        assert (report.ingest_bitrate_bytes_per_second, report.transcode_bitrate_bytes_per_second) == (None, None)
        assert report.recording_status == "waiting", "the recording is finished after the broadcast"
        assert report.ingest_bytes == 1275000000

    async def test_failed_request_fails_only_its_stream(self, polled: Any, studio: Studio) -> None:
        studio.broken[f"/stream/{SECOND}/sessions"] = (403, {"errors": ["no"]})
        result = await polled(streams=[{"id": MAIN}, {"id": SECOND}]).poll()
        assert result.streams == (EVENING_SESSION,)
        assert result.failures == {SECOND: Reason.FORBIDDEN}

    async def test_response_without_a_list_fails_only_its_stream(self, polled: Any, studio: Studio) -> None:
        studio.sessions[SECOND] = {"sessions": []}
        result = await polled(streams=[{"id": MAIN}, {"id": SECOND}]).poll()
        assert result.failures == {SECOND: Reason.BAD_RESPONSE}

    async def test_session_that_is_not_an_object_is_dropped(self, polled: Any, studio: Studio) -> None:
        studio.sessions[MAIN].insert(0, "not a session")
        result = await polled(streams=[{"id": MAIN}]).poll()
        assert result.streams == (EVENING_SESSION,)
        assert result.dropped_fields == {"sessions": 1}

    async def test_poll_fails_when_only_viewers_were_read(self, polled: Any, studio: Studio) -> None:
        studio.broken[f"/stream/{MAIN}/sessions"] = (403, {"errors": ["no"]})
        with pytest.raises(UpstreamError) as error:
            await polled(streams=[{"id": MAIN}]).poll()
        assert error.value.reason is Reason.FORBIDDEN

    async def test_id_is_escaped_in_the_path(self, polled: Any, studio: Studio) -> None:
        await polled(streams=[{"id": "../../data/views/now"}], viewership=False).poll()
        assert "/data/views/now" not in studio.paths()


class TestStreamsThatAreBothListedAndConfigured:
    async def test_session_totals_are_combined_with_the_streams_description(self, polled: Any) -> None:
        streams = by_id(await polled(discover=True, streams=[{"id": MAIN}]).poll())
        assert streams[MAIN] == msgspec.structs.replace(EVENING_SESSION, name="main-stage", publish_allowed=True)
        assert streams[SECOND] == LISTED_SECOND

    async def test_session_of_an_unlisted_stream_is_not_live(self, polled: Any, studio: Studio) -> None:
        studio.streams = studio.streams[1:]
        report = await polled(discover=True, streams=[{"id": MAIN}]).stream()
        assert (report.live, report.status) == (False, Status.ENDED)

    async def test_absence_from_a_list_of_several_pages_is_not_off_air(self, polled: Any, studio: Studio) -> None:
        studio.streams = studio.streams[1:]
        studio.page_size = 1
        assert (await polled(discover=True, streams=[{"id": MAIN}]).stream()).live is True

    async def test_listed_stream_with_a_hidden_session_is_live_without_totals(
        self, polled: Any, studio: Studio
    ) -> None:
        studio.sessions[MAIN] = studio.sessions[MAIN][1:]
        report = await polled(discover=True, streams=[{"id": MAIN}]).stream()
        assert (report.live, report.session) == (True, "")
        assert (report.ingest_bytes, report.source_segments) == (None, None), (
            "totals of all sessions are other counters"
        )
        assert report.ingest_bitrate_bytes_per_second == 312500.5

    async def test_stale_listed_stream_is_not_live(self, polled: Any, studio: Studio, clock: FakeClock) -> None:
        studio.sessions[CRASHED] = [{**studio.sessions[MAIN][0], "lastSeen": 1726000000000}]
        upstream = polled(discover=True, streams=[{"id": CRASHED}])
        await upstream.poll()
        clock.advance(91)
        report = await upstream.stream(CRASHED)
        assert (report.live, report.status) == (False, Status.ENDED)
        assert (report.name, report.publish_allowed) == ("crashed", False)

    async def test_listed_stream_that_was_never_seen_is_idle(self, polled: Any, studio: Studio) -> None:
        studio.streams = [{**studio.streams[1], "lastSeen": 0}]
        studio.sessions[SECOND] = []
        report = await polled(discover=True, streams=[{"id": SECOND}]).stream(SECOND)
        assert (report.live, report.status, report.name) == (False, Status.IDLE, "second-stage")

    async def test_listed_last_seen_is_used_if_the_sessions_is_unreadable(self, polled: Any, studio: Studio) -> None:
        studio.sessions[MAIN] = [{**studio.sessions[MAIN][0], "lastSeen": []}]
        report = await polled(discover=True, streams=[{"id": MAIN}]).stream()
        assert (report.live, report.session) == (True, EVENING)
        assert report.last_seen_timestamp_seconds == 1726000123456 * MS

    async def test_failed_session_request_is_not_replaced_by_the_list(self, polled: Any, studio: Studio) -> None:
        studio.broken[f"/stream/{MAIN}/sessions"] = (403, {})
        result = await polled(discover=True, streams=[{"id": MAIN}]).poll()
        assert MAIN not in by_id(result), "the list's totals must not take the session's place"
        assert result.failures == {MAIN: Reason.FORBIDDEN}

    async def test_failed_list_fails_the_streams_it_had_listed(self, polled: Any, studio: Studio) -> None:
        upstream = polled(discover=True, streams=[{"id": MAIN}])
        await upstream.poll()
        studio.broken["/stream"] = (403, {})
        result = await upstream.poll()
        assert list(by_id(result)) == [MAIN]
        assert result.failures == {SECOND: Reason.FORBIDDEN, CRASHED: Reason.FORBIDDEN}
        assert result.listing is Listing.DOUBTFUL


class TestSingleSessions:
    async def test_single_session_is_reported_under_its_stream(self, polled: Any, studio: Studio) -> None:
        studio.session[EVENING] = studio.sessions[MAIN][0]
        upstream = polled(sessions=[EVENING])
        assert await upstream.poll() == PollResult(streams=(EVENING_SESSION,))
        assert studio.paths().count(f"/session/{EVENING}") == 1

    async def test_documented_session_is_read(self, polled: Any, studio: Studio, clock: FakeClock) -> None:
        studio.session[MAIN] = fixture("session-documented")
        upstream = polled(sessions=[{"id": MAIN}])
        await upstream.poll()
        clock.advance(91)
        report = await upstream.stream()
        assert (report.status, report.session, report.kind) == (Status.ENDED, MAIN, "session")
        assert report.renditions == (
            Rendition("240p0", 31_250.0),
            Rendition("360p0", 100_000.0),
            Rendition("480p0", 200_000.0),
            Rendition("720p0", 375_000.0),
        )

    async def test_recording_renditions_are_reported_while_recording(self, polled: Any, studio: Studio) -> None:
        studio.session[MAIN] = {**fixture("session-documented"), "record": True}
        report = await polled(sessions=[{"id": MAIN}]).stream()
        assert report.renditions[-1] == Rendition("recording/720p", 375_000.0)

    async def test_session_settings_apply_to_its_stream_once_known(self, polled: Any, studio: Studio) -> None:
        studio.session[EVENING] = studio.sessions[MAIN][0]
        upstream = polled(sessions=[{"id": EVENING, "name": "keynote", "expected": True}])
        assert [stream.id for stream in upstream.platform.configured_streams()] == [EVENING]
        await upstream.poll()
        (stream,) = upstream.platform.configured_streams()
        assert (stream.id, stream.name, stream.expected) == (MAIN, "keynote", True)

    @pytest.mark.parametrize("discover", [False, True])
    async def test_expectation_of_a_session_applies_to_its_stream(
        self, polled: Any, studio: Studio, clock: FakeClock, discover: bool
    ) -> None:
        studio.streams, studio.session[EVENING] = studio.streams[:1], studio.sessions[MAIN][0]
        upstream = polled(discover=discover, sessions=[{"id": EVENING, "name": "keynote", "expected": True}])
        tracker = Tracker(upstream.settings, clock.instant())
        list(tracker.refresh(clock.instant()))
        assert [(state.identity.stream, state.expected, state.live) for state in tracker.states()] == [
            ("keynote", True, None)
        ]
        result = await upstream.poll()
        tracker.configure(upstream.platform.configured_streams())
        list(tracker.apply(result, clock.instant()))
        assert [(state.identity.stream, state.expected, state.live) for state in tracker.states()] == [
            ("keynote", True, True)
        ]

    async def test_stream_settings_take_precedence_over_its_sessions(self, polled: Any, studio: Studio) -> None:
        studio.session[EVENING] = studio.sessions[MAIN][0]
        upstream = polled(streams=[{"id": MAIN, "name": "main"}], sessions=[{"id": EVENING, "name": "keynote"}])
        assert (await upstream.poll()).streams == (EVENING_SESSION,)
        assert [stream.name for stream in upstream.platform.configured_streams()] == ["main"]

    async def test_two_sessions_of_one_stream_report_the_newest(self, polled: Any, studio: Studio) -> None:
        studio.session = {EVENING: studio.sessions[MAIN][0], MORNING: studio.sessions[MAIN][1]}
        assert (await polled(sessions=[MORNING, EVENING]).poll()).streams == (EVENING_SESSION,)

    async def test_missing_session_is_idle_and_not_a_failure(self, polled: Any) -> None:
        result = await polled(sessions=["gone"]).poll()
        assert result.streams == (Report(id="gone", kind="stream", status=Status.IDLE, live=False),)
        assert result.failures == {}

    async def test_session_that_was_never_seen_is_idle(self, polled: Any, studio: Studio) -> None:
        studio.session[EVENING] = {**studio.sessions[MAIN][0], "lastSeen": 0}
        report = await polled(sessions=[EVENING]).stream()
        assert (report.live, report.status, report.end_timestamp_seconds) == (False, Status.IDLE, None)

    async def test_failed_session_is_a_failure_of_its_stream(self, polled: Any, studio: Studio) -> None:
        studio.session = {
            EVENING: studio.sessions[MAIN][0],
            "other": {**studio.sessions[MAIN][1], "id": "other", "parentId": "parent"},
        }
        upstream = polled(sessions=[EVENING, "other"])
        await upstream.poll()
        studio.session["other"] = []
        result = await upstream.poll()
        assert result.failures == {"parent": Reason.BAD_RESPONSE}
        assert list(by_id(result)) == [MAIN]

    async def test_known_parent_is_kept_when_its_field_is_bad(self, polled: Any, studio: Studio) -> None:
        studio.session[EVENING] = copy.deepcopy(studio.sessions[MAIN][0])
        upstream = polled(sessions=[EVENING])
        await upstream.poll()
        studio.session[EVENING] |= {"parentId": 7}
        assert (await upstream.poll()).streams == (EVENING_SESSION,)

    async def test_session_without_parent_is_its_own_stream(self, polled: Any, studio: Studio) -> None:
        studio.session[EVENING] = {**studio.sessions[MAIN][0], "parentId": None}
        assert (await polled(sessions=[EVENING]).stream(EVENING)).session == EVENING


class TestViewers:
    async def test_viewership_off_sends_no_request(self, polled: Any, studio: Studio) -> None:
        report = await polled(viewership=False).stream()
        assert report.viewers is None
        assert studio.paths() == ["/stream"]

    @pytest.mark.parametrize("response", [(403, {"errors": ["restricted"]}), (200, {"views": []})])
    async def test_failed_viewers_request_loses_only_the_viewers(
        self, polled: Any, studio: Studio, response: tuple[int, Any]
    ) -> None:
        upstream = polled()
        studio.broken["/data/views/now"] = response
        result = await upstream.poll()
        assert by_id(result)[MAIN] == msgspec.structs.replace(LISTED_MAIN, viewers=None, viewer_error_ratio=None)
        assert result.failures == {}
        del studio.broken["/data/views/now"]
        assert (await upstream.stream()).viewers == 42

    async def test_missing_row_is_zero_viewers_for_live_streams_only(self, polled: Any, studio: Studio) -> None:
        studio.views = []
        streams = by_id(await polled().poll())
        assert [streams[id_].viewers for id_ in (MAIN, SECOND, CRASHED)] == [0, 0, None]

    async def test_missing_row_in_a_full_response_is_unknown(self, polled: Any, studio: Studio) -> None:
        studio.views = [{"playbackId": f"p{number}", "viewCount": 1, "errorRate": 0} for number in range(999)]
        assert (await polled().stream()).viewers == 0
        studio.views.append({"playbackId": "p999", "viewCount": 1, "errorRate": 0})
        assert (await polled().stream()).viewers is None

    @pytest.mark.parametrize("row", ["a row", {"playbackId": 3, "viewCount": 5}, {"viewCount": 5}])
    async def test_row_without_playback_id_makes_missing_rows_unknown(
        self, polled: Any, studio: Studio, row: Any
    ) -> None:
        studio.views.append(row)
        streams = by_id(await polled().poll())
        assert (streams[MAIN].viewers, streams[SECOND].viewers) == (42, None)

    async def test_bad_viewer_count_does_not_affect_the_error_ratio(self, polled: Any, studio: Studio) -> None:
        studio.views = [{"playbackId": "eaw4nk06ts2d0mzb", "viewCount": -1, "errorRate": 0.5}]
        result = await polled().poll()
        report = by_id(result)[MAIN]
        assert (report.viewers, report.viewer_error_ratio) == (None, 0.5)
        assert result.dropped_fields == {"viewCount": 1}


class TestDetails:
    async def test_details_report_conditions_targets_and_realtime_ratio(self, polled: Any, studio: Studio) -> None:
        report = await polled(health_details="60s").stream()
        assert report.health_conditions == {
            "Healthy": True,
            "Active": True,
            "Transcoding": True,
            "TranscodeRealTime": False,
            "TranscodeNoErrors": True,
        }
        assert report.multistream_targets == {"video-site": True, "social-site": False}
        assert report.transcode_realtime_ratio == 3.4
        health = [path for path in studio.paths() if path.endswith("/health")]
        assert sorted(health) == sorted([f"/data/stream/{MAIN}/health", f"/data/stream/{SECOND}/health"])

    async def test_details_are_off_by_default(self, polled: Any, studio: Studio) -> None:
        await polled().poll()
        assert not [path for path in studio.paths() if path.endswith("/health")]

    async def test_details_are_requested_at_their_own_interval(
        self, polled: Any, studio: Studio, clock: FakeClock
    ) -> None:
        upstream = polled(streams=[{"id": MAIN}], health_details="60s", viewership=False)
        requested = []
        for _ in range(5):
            studio.requested.clear()
            studio.sessions[MAIN][0]["lastSeen"] = int(clock.now() * 1000)
            assert (await upstream.stream()).transcode_realtime_ratio == 3.4
            requested.append(f"/data/stream/{MAIN}/health" in studio.paths())
            clock.advance(30)
        assert requested == [True, False, True, False, True]

    @pytest.mark.parametrize("status", [404, 501])
    async def test_missing_details_are_not_a_failure(self, polled: Any, studio: Studio, status: int) -> None:
        studio.broken[f"/data/stream/{MAIN}/health"] = (status, {"errors": ["no"]})
        result = await polled(streams=[{"id": MAIN}], health_details="60s").poll()
        assert result.streams == (EVENING_SESSION,)
        assert result.failures == {}

    async def test_details_expire_after_failed_requests(self, polled: Any, studio: Studio, clock: FakeClock) -> None:
        upstream = polled(streams=[{"id": MAIN}], health_details="60s", viewership=False)
        ratios = []
        for _ in range(5):
            studio.sessions[MAIN][0]["lastSeen"] = int(clock.now() * 1000)
            ratios.append((await upstream.stream()).transcode_realtime_ratio)
            studio.broken[f"/data/stream/{MAIN}/health"] = (403, {})
            clock.advance(60)
        assert ratios == [3.4, 3.4, 3.4, None, None]

    async def test_details_past_the_deadline_are_requested_by_the_next_poll(
        self, polled: Any, studio: Studio, clock: FakeClock
    ) -> None:
        upstream = polled(health_details="60s")
        requests = upstream.client.requests(10.0)
        clock.advance(10.0)
        details = upstream.platform._details
        await details.add_details(requests, [LISTED_MAIN], None)
        assert not [path for path in studio.paths() if path.endswith("/health")]
        assert (await upstream.stream()).transcode_realtime_ratio == 3.4, "it was not postponed by an interval"

    async def test_targets_with_the_same_name_get_distinct_labels(self, polled: Any, studio: Studio) -> None:
        def target(id_: str, name: str, connected: Any) -> dict[str, Any]:
            return {"target": {"id": id_, "name": name, "profile": "x"}, "connected": {"status": connected}}

        studio.health[MAIN] = {
            "multistream": [
                target("11111111-1", "site", True),
                target("22222222-2", "site", False),
                target("33333333-3", "twice", True),
                target("33333333-3", "twice", False),
                target("44444444-4", "", True),
                {"target": {"id": "5", "name": "no condition"}},
                {"connected": {"status": True}},
            ]
        }
        report = await polled(health_details="60s").stream()
        assert report.multistream_targets == {
            "site#11111111": True,
            "site#22222222": False,
            "twice": False,
            "44444444-4": True,
        }
        assert (report.health_conditions, report.transcode_realtime_ratio) == ({}, None)

    @pytest.mark.parametrize(
        "last", [None, [], [1726000120000], "x", [0, 2.0], [1726000120000, -1], [1726000120000, None]]
    )
    async def test_unreadable_realtime_ratio_is_missing(self, polled: Any, studio: Studio, last: Any) -> None:
        studio.health[MAIN]["metrics"]["TranscodeRealtimeRatio"] = [{"last": last}]
        assert (await polled(health_details="60s").stream()).transcode_realtime_ratio is None


class TestFailures:
    async def test_wrong_key_is_not_shown_in_the_error(self, polled: Any, studio: Studio) -> None:
        wrong = "a-key-that-is-wrong"
        upstream = polled(auth={"bearer_token": wrong})
        with pytest.raises(UpstreamError) as error:
            await upstream.poll()
        assert error.value.reason is Reason.AUTH
        assert wrong not in str(error.value)

    async def test_failed_first_list_fails_no_stream(self, polled: Any, studio: Studio) -> None:
        studio.broken["/stream"] = (403, {})
        result = await polled(discover=True, streams=[{"id": MAIN}]).poll()
        assert result.failures == {}

    def test_platform_declares_known_feeds(self) -> None:
        assert PLATFORM is Livepeer
        assert PLATFORM.feeds <= set(StreamReport.__struct_fields__)
        assert PLATFORM.health_score == "derived"


class TestSettings:
    def test_settings_have_defaults(self) -> None:
        own = LivepeerSettings.model_validate({"name": "studio", "auth": {"bearer_token": KEY}})
        assert (own.url, own.interval, own.platform) == ("https://livepeer.studio/api", 30.0, "livepeer")
        assert (own.discovers, own.viewership, own.health_details, own.record) == (True, True, None, None)

    @pytest.mark.parametrize(
        ("own", "discovers"),
        [
            ({"streams": [{"id": "a"}]}, False),
            ({"sessions": ["a"]}, False),
            ({"streams": [{"id": "a"}], "discover": True}, True),
            ({"discover": True}, True),
        ],
    )
    def test_discovery_is_on_if_nothing_is_configured(self, own: dict[str, Any], discovers: bool) -> None:
        assert LivepeerSettings.model_validate({"name": "studio", **own}).discovers is discovers

    @pytest.mark.parametrize(
        "own",
        [
            {"discover": False},
            {"streams": ["bare"]},
            {"streams": [{"id": ""}]},
            {"sessions": [7]},
            {"health_details": True},
            {"health_details": "0s"},
            {"record": 3},
            {"auth": {"username": "exporter", "password": "of some length"}},
        ],
    )
    def test_invalid_settings_are_refused(self, own: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            LivepeerSettings.model_validate({"name": "studio", **own})

    @pytest.mark.parametrize(
        ("own", "per_minute"),
        [
            ({}, 4.0),
            ({"viewership": False, "interval": "60s"}, 1.0),
            ({"streams": [{"id": "a"}, {"id": "b"}], "sessions": ["c"]}, 8.0),
            ({"streams": [{"id": "a"}], "health_details": "2m", "discover": True}, 6.5),
        ],
    )
    def test_requests_per_minute_count_list_viewers_and_details(self, own: dict[str, Any], per_minute: float) -> None:
        assert Livepeer.requests_per_minute(LivepeerSettings.model_validate({"name": "studio", **own})) == per_minute


async def test_list_of_many_streams_is_read_completely(polled: Any, studio: Studio) -> None:
    studio.streams = [{**studio.streams[0], "id": str(number)} for number in range(250)]
    assert len((await polled().poll()).streams) == 250
