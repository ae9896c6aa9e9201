"""WAVE: documented responses, and a scripted server."""

from __future__ import annotations

import math
import os
import re
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from structlog.testing import capture_logs

from exporter.http.errors import UpstreamError
from exporter.model import Listing, PlatformMetric, Reason, Status, StreamReport
from exporter.platforms.parsing import DropCounter, Record
from exporter.platforms.testing import Recording, expose
from exporter.platforms.wave import PLATFORM
from exporter.platforms.wave.metric_aliases import MEASURED, QUALITY
from exporter.platforms.wave.request_budget import RequestPace, SessionRotation
from exporter.platforms.wave.wave_sessions import Report, read_session
from exporter.platforms.wave.wave_settings import WaveSettings
from tests.fake_clock import FakeClock
from tests.file_obstacles import OBSTACLES, put_obstacle
from tests.platforms.platform_harness import Polled, polled
from tests.platforms.scripted_api import RecordedRequest, Reply, ScriptedApi, fixture, scripted_api

ID = "sess_1234_abc123"
SESSION = f"GET /streaming/sessions/{ID}"
CANDIDATES = f"{SESSION}/webrtc/candidates"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=8), inside, max_size=3),
    max_leaves=8,
)


@pytest.fixture
async def api() -> AsyncIterator[ScriptedApi]:
    async with scripted_api() as api:
        yield api


def settings(url: str = "https://wave.example/api/v1", **given_: Any) -> WaveSettings:
    defaults = {"auth": {"bearer_token": "wave_live_key"}, "sessions": [ID], "ice_candidates": False}
    return WaveSettings.model_validate({"name": "wave", "platform": "wave", "url": url, **defaults, **given_})


def wave(api: ScriptedApi, clock: FakeClock | None = None, **given_: Any) -> AbstractAsyncContextManager[Polled]:
    return polled(PLATFORM, settings(api.url, **given_), clock or FakeClock())


def read(session: dict[str, Any], *, numbers: bool = False) -> tuple[StreamReport, dict[str, int]]:
    drops = DropCounter()
    record = Record({"sessionId": ID, "status": "live", **session}, drops)
    return read_session(record, ID, drops, numbers=numbers), drops.counts


def measured(**metrics: Any) -> StreamReport:
    return read({"metrics": metrics})[0]


DOCUMENTED = Report(
    id=ID,
    session=ID,
    kind="session",
    protocol="webrtc",
    status=Status.LIVE,
    live=True,
    start_timestamp_seconds=1772359500.0,
    viewers=142,
    viewers_peak=310,
    target_latency_seconds=0.2,
    max_bitrate_bytes_per_second=1_000_000.0,
    ingest_bitrate_bytes_per_second=541_000.0,
    round_trip_time_seconds=0.048,
    latency_seconds=0.35,
    jitter_seconds=0.004,
    packet_loss_ratio=0.002,
    ingest_bytes=1947600000.0,
    egress_bytes=12000000.0,
    frames_per_second=29.97,
    dropped_frames=12.0,
    frames=107892.0,
    video_codec="H264",
    audio_codec="opus",
    width_pixels=1920,
    height_pixels=1080,
    resolution="1920x1080",
)


# -- one session -----------------------------------------------------------------------------------------------------


async def test_documented_session_fills_the_report(api: ScriptedApi) -> None:
    api.on(SESSION, fixture("wave/session.json"))
    async with wave(api) as upstream:
        result = await upstream.poll()
    assert result.streams == (DOCUMENTED,)
    assert result.listing is Listing.DIRECT
    assert (result.failures, result.dropped_fields, result.postponed) == ({}, {}, frozenset())
    assert result.round_seconds is None
    assert api.requests[0].headers["Authorization"] == "Bearer wave_live_key"


async def test_missing_session_is_idle_and_not_a_failure(api: ScriptedApi) -> None:
    api.on(SESSION, fixture("wave/session-not-found.json"), status=404)
    async with wave(api) as upstream:
        result = await upstream.poll()
    assert result.streams == (Report(id=ID, session=ID, kind="session", status=Status.IDLE, live=False),)
    assert result.failures == {}


def test_minimal_session_leaves_other_fields_empty() -> None:
    drops = DropCounter()
    report = read_session(Record(fixture("wave/session-minimal.json"), drops), "sess_5678", drops, numbers=True)
    assert report == Report(
        id="sess_5678", session="sess_5678", kind="session", protocol="srt", status=Status.IDLE, live=False
    )
    assert drops.counts == {}


WORDS = {
    "idle": "idle",
    "live": "live",
    "LIVE": "live",
    "paused": "paused",
    "ended": "ended",
    "reconnecting": "unknown",
    None: "unknown",
}


def test_status_word_determines_the_exported_status() -> None:
    sessions = {f"s-{word}": {"sessionId": f"s-{word}", "status": word} for word in WORDS}
    responses = {f"GET /streaming/sessions/{id_}": session for id_, session in sessions.items()}
    auth = {"bearer_token": "wave_live_key"}
    text = expose(PLATFORM, Recording(responses, {"auth": auth, "sessions": list(sessions)}))
    found = re.findall(r'^stream_status\{.*stream="s-(\w+)",status="(\w+)"\} 1$', text, re.MULTILINE)
    assert dict(found) == {str(word): status for word, status in WORDS.items()}


def test_ended_session_keeps_totals_and_drops_measurements() -> None:
    drops = DropCounter()
    report = read_session(Record(fixture("wave/session-ended.json"), drops), "sess_9999", drops, numbers=True)
    assert (report.status, report.viewers_peak, report.ingest_bytes) == (Status.ENDED, 17, 900000.0)
    assert report.start_timestamp_seconds is not None
    assert report.end_timestamp_seconds == report.start_timestamp_seconds + 1800
    assert (report.ingest_bitrate_bytes_per_second, report.round_trip_time_seconds) == (None, None)
    assert report.platform_metrics == ()


def test_reported_end_takes_precedence_over_the_duration() -> None:
    times = {"startedAt": "2026-03-01T10:00:00Z", "endedAt": "2026-03-01T11:00:00Z", "duration": 60}
    report, _ = read({"status": "ended", **times})
    assert report.end_timestamp_seconds == 1772359200.0 + 3600


async def test_response_about_another_session_is_a_bad_response(api: ScriptedApi) -> None:
    api.on(SESSION, {"sessionId": "sess_other", "status": "live"})
    async with wave(api) as upstream:
        with pytest.raises(UpstreamError) as error:
            await upstream.poll()
    assert error.value.reason is Reason.BAD_RESPONSE


async def test_failed_session_does_not_affect_other_sessions(api: ScriptedApi) -> None:
    api.on(SESSION, fixture("wave/session.json"))
    api.on("GET /streaming/sessions/broken", [], status=200)
    async with wave(api, sessions=[ID, "broken"]) as upstream:
        result = await upstream.poll()
    assert [report.id for report in result.streams] == [ID]
    assert result.failures == {"broken": Reason.BAD_RESPONSE}


# -- names in any spelling -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["roundTripTimeMs", "round_trip_time_ms", "Round-Trip-Time-MS", "ROUNDTRIPTIMEMS"])
def test_spellings_of_a_name_map_to_the_same_field(name: str) -> None:
    assert measured(**{name: 80}).round_trip_time_seconds == 0.08


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("latency", 250, "latency_seconds", 0.25),
        ("latency_s", 2.5, "latency_seconds", 2.5),
        ("endToEndLatencySeconds", 2.5, "latency_seconds", 2.5),
        ("jitter_us", 1500, "jitter_seconds", 0.0015),
        ("bitrate", 4000, "ingest_bitrate_bytes_per_second", 500_000.0),
        ("ingest_bitrate_kbps", 4000, "ingest_bitrate_bytes_per_second", 500_000.0),
        ("bitrateBps", 4_000_000, "ingest_bitrate_bytes_per_second", 500_000.0),
        ("totalBitrateMbps", 4, "ingest_bitrate_bytes_per_second", 500_000.0),
        ("bitrate_bytes_per_second", 500_000, "ingest_bitrate_bytes_per_second", 500_000.0),
        ("sendBitrate", 8, "egress_bitrate_bytes_per_second", 1000.0),
        ("packetLossRatio", 0.25, "packet_loss_ratio", 0.25),
        ("packet_loss_percent", 25, "packet_loss_ratio", 0.25),
        ("frameRate", 50, "frames_per_second", 50.0),
        ("framesDropped", 3, "dropped_frames", 3.0),
        ("bytes_in", 77, "ingest_bytes", 77.0),
        ("videoCodec", "AV1", "video_codec", "AV1"),
        ("audio_codec", "AAC", "audio_codec", "AAC"),
        ("resolution", "1280 x 720", "resolution", "1280x720"),
        ("resolution", "1280×720", "width_pixels", 1280),
        ("videoWidth", 640, "width_pixels", 640),
    ],
)
def test_name_determines_field_and_unit(name: str, value: Any, field: str, expected: Any) -> None:
    assert getattr(measured(**{name: value}), field) == pytest.approx(expected)


def test_documented_names_are_known() -> None:
    page = (Path(__file__).parents[2] / "docs/platforms/wave.md").read_text()
    table = page[page.index("| names in `metrics`") : page.index("A name may end in its unit")]
    names = {
        name.lower()
        for line in table.splitlines()
        if line.startswith("| `")
        for name in line.split("|")[1].replace("`", "").replace(",", " ").split()
        if name.isalnum()
    }
    prose = {"as", "the", "inside", "or", "1280x720", "video…", "audio…", "video", "audio", "videocodec", "audiocodec"}
    unmapped = {name for name in names - prose if name not in MEASURED and name not in QUALITY}
    assert unmapped == set()
    assert len(names - prose) > 40


def test_stream_value_takes_precedence_over_video_and_audio() -> None:
    everything = {"audio": {"bitrate": 1, "rtt": 1}, "video": {"bitrate": 2, "rtt": 2}, "network": {"bitrate": 3}}
    assert measured(**everything).ingest_bitrate_bytes_per_second == 375.0
    assert measured(**everything).round_trip_time_seconds == 0.002
    without = {name: everything[name] for name in ("audio", "video")}
    assert measured(**without).ingest_bitrate_bytes_per_second == 250.0


def test_audio_bitrate_does_not_count_for_the_stream() -> None:
    report = measured(audio={"bitrate": 128, "fps": 40, "packetLoss": 0.5, "codec": "opus"}, audioBitrate=128)
    assert (report.ingest_bitrate_bytes_per_second, report.frames_per_second) == (None, None)
    assert (report.packet_loss_ratio, report.audio_codec) == (0.5, "opus")


def test_metrics_and_less_nested_values_take_precedence() -> None:
    assert read({"connection": {"rtt": 1}, "metrics": {"a": {"rtt": 2}}})[0].round_trip_time_seconds == 0.002
    assert measured(a={"b": {"rtt": 1}}, c={"rtt": 2}).round_trip_time_seconds == 0.002
    assert read({"connection": {"transport": {"rtt": 1}}})[0].round_trip_time_seconds == 0.001


@pytest.mark.parametrize("name", ["target", "limits", "max", "outbound", "Settings", "video_target"])
def test_values_that_are_not_current_measurements_are_ignored(name: str) -> None:
    assert measured(**{name: {"bitrate": 9000}}).ingest_bitrate_bytes_per_second is None


def test_codec_of_neither_video_nor_audio_is_ignored() -> None:
    report = measured(codec="H264")
    assert (report.video_codec, report.audio_codec) == ("", "")


def test_lists_and_deeply_nested_values_are_ignored() -> None:
    assert measured(a={"b": {"c": {"rtt": 5}}}).round_trip_time_seconds == 0.005
    assert measured(a={"b": {"c": {"d": {"rtt": 5}}}}).round_trip_time_seconds is None
    assert measured(layers=[{"rtt": 5}]).round_trip_time_seconds is None


def test_null_falls_back_to_the_next_value() -> None:
    assert measured(network={"rtt": None}, video={"rtt": 7}).round_trip_time_seconds == 0.007


def test_quality_sets_only_settings() -> None:
    report, _ = read({"quality": {"max_bitrate_mbps": 8, "targetLatencySeconds": 2, "bitrate": 9, "fps": 9}})
    assert (report.max_bitrate_bytes_per_second, report.target_latency_seconds) == (1_000_000.0, 2.0)
    assert (report.ingest_bitrate_bytes_per_second, report.frames_per_second) == (None, None)


# -- bad values ------------------------------------------------------------------------------------------------------


def test_impossible_values_are_counted_by_known_name() -> None:
    metrics = {"Packet_Loss": 2, "bitrate": -1, "rtt": "fast", "fps": 5000, "jitter": 3, "deep": {"droppedFrames": -3}}
    report, dropped = read({"metrics": metrics, "viewers": 2.5, "connection": 7, "startedAt": "yesterday"})
    assert dropped == {
        "metrics.packetloss": 1,
        "metrics.bitrate": 1,
        "metrics.rtt": 1,
        "metrics.fps": 1,
        "metrics.droppedframes": 1,
        "viewers": 1,
        "connection": 1,
        "startedAt": 1,
    }
    assert report.jitter_seconds == 0.003
    assert (report.packet_loss_ratio, report.ingest_bitrate_bytes_per_second, report.viewers) == (None, None, None)


@pytest.mark.parametrize("resolution", ["1080p", "0x0x0", "axb", "1280x"])
def test_resolution_that_is_not_a_size_is_ignored(resolution: str) -> None:
    report = measured(resolution=resolution)
    assert (report.resolution, report.width_pixels) == ("", None)


@pytest.mark.no_cover
@given(name=st.sampled_from(sorted(fixture("wave/session.json"))), value=json_values)
def test_any_bad_field_of_a_session_leaves_the_others_readable(name: str, value: Any) -> None:
    drops = DropCounter()
    session = {**fixture("wave/session.json"), name: value}
    if name == "sessionId" and isinstance(value, str) and value not in ("", ID):
        with pytest.raises(UpstreamError):
            read_session(Record(session, drops), ID, drops, numbers=False)
        return
    report = read_session(Record(session, drops), ID, drops, numbers=False)
    names = StreamReport.__struct_fields__
    differing = {field for field in names if getattr(report, field) != getattr(DOCUMENTED, field)}
    assert differing <= TOUCHED.get(name, set())


TOUCHED = {
    "viewers": {"viewers"},
    "peakViewers": {"viewers_peak"},
    "startedAt": {"start_timestamp_seconds"},
    "protocol": {"protocol"},
    "quality": {"target_latency_seconds", "max_bitrate_bytes_per_second"},
    "metrics": PLATFORM.feeds | {"health_unreadable"},
    "status": PLATFORM.feeds,
    "connection": {"health_unreadable"},
}


@given(
    inside=st.recursive(
        json_values,
        lambda deeper: st.dictionaries(st.sampled_from(sorted(MEASURED)) | st.text(max_size=5), deeper, max_size=4),
        max_leaves=20,
    )
)
def test_any_contents_of_metrics_are_read_without_an_error(inside: Any) -> None:
    report, _ = read({"metrics": inside, "quality": inside, "connection": inside}, numbers=True)
    for field in StreamReport.__struct_fields__:
        value = getattr(report, field)
        assert not isinstance(value, float) or math.isfinite(value)
    assert len(report.platform_metrics) <= 50
    assert all(math.isfinite(metric.value) for metric in report.platform_metrics)


# -- other numbers ---------------------------------------------------------------------------------------------------


def test_unmapped_numbers_are_reported_by_path_if_configured() -> None:
    session = fixture("wave/session.json")
    report, _ = read(session, numbers=True)
    assert report.platform_metrics == (
        PlatformMetric("metrics.audio.bitrate", 128.0),
        PlatformMetric("metrics.audio.jitter", 3.0),
        PlatformMetric("metrics.network.availableOutgoing", 9000.0),
        PlatformMetric("metrics.video.bitrate", 4200.0),
    )
    assert read(session)[0].platform_metrics == ()


def test_unmapped_numbers_are_limited_in_a_fixed_order() -> None:
    metrics = {f"n{number:03}": number for number in range(100)}
    backwards = dict(reversed(metrics.items()))
    report, _ = read({"metrics": backwards}, numbers=True)
    assert [metric.metric for metric in report.platform_metrics] == [f"metrics.n{number:03}" for number in range(50)]


# -- candidates ------------------------------------------------------------------------------------------------------


def candidates(*types: str, has_more: bool = False, complete: Any = True, start: int = 0) -> dict[str, Any]:
    found = [{"id": start + number, "type": type_} for number, type_ in enumerate(types)]
    return {"sessionId": ID, "candidates": found, "isComplete": complete, "hasMore": has_more}


def counts(host: int = 0, srflx: int = 0, prflx: int = 0, relay: int = 0) -> dict[str, int]:
    return {"host": host, "srflx": srflx, "prflx": prflx, "relay": relay}


async def test_candidates_are_counted_by_type_over_all_pages(api: ScriptedApi) -> None:
    api.on(SESSION, fixture("wave/session.json"))
    pages = [fixture("wave/candidates-page-1.json"), fixture("wave/candidates-page-2.json")]
    api.in_turn(CANDIDATES, map(Reply, pages))
    async with wave(api, ice_candidates="60s") as upstream:
        result = await upstream.poll()
    (report,) = result.streams
    assert report.ice_candidates == counts(host=2, srflx=1, relay=1)
    assert report.ice_gathering_complete is True
    assert result.dropped_fields == {"candidates.type": 1}
    assert [request.query for request in api.requests[1:]] == [
        {"limit": "100"},
        {"limit": "100", "since": "2026-03-01T10:05:00.400Z"},
    ]


async def test_candidates_without_times_are_requested_with_a_higher_limit(api: ScriptedApi) -> None:
    api.on(SESSION, fixture("wave/session.json"))

    def page(request: RecordedRequest) -> Reply:
        limit = int(request.query["limit"])
        return Reply(candidates(*["host"] * min(limit, 250), has_more=limit < 250))

    api.on(CANDIDATES, page)
    async with wave(api, ice_candidates="60s") as upstream:
        assert (await upstream.poll()).streams[0].ice_candidates == counts(host=250)
    assert [request.query["limit"] for request in api.requests[1:]] == ["100", "200", "400"]


@pytest.mark.parametrize(
    "page",
    [
        lambda _: Reply(candidates("host", has_more=True)),
        lambda _: Reply(candidates(has_more=True)),
        lambda request: Reply(candidates("host", start=int(request.query["limit"]), has_more=True)),
        lambda _: Reply({"isComplete": True}),
        lambda _: Reply([]),
        lambda _: Reply(candidates("host"), 403),
    ],
)
async def test_unreadable_candidates_do_not_affect_the_session(
    api: ScriptedApi, page: Callable[[RecordedRequest], Reply]
) -> None:
    api.on(SESSION, fixture("wave/session.json"))
    api.on(CANDIDATES, page)
    async with wave(api, ice_candidates="60s") as upstream:
        result = await upstream.poll()
    assert result.streams == (DOCUMENTED,)
    assert set(result.failures) == {ID}
    assert len(api.requests) < 12


async def test_candidates_with_too_many_pages_are_a_failure(api: ScriptedApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.platforms.wave.ice_candidates.MAX_PAGES", 5)
    times = iter(f"2026-03-01T10:05:{second:02}Z" for second in range(60))
    api.on(SESSION, fixture("wave/session.json"))
    api.on(
        CANDIDATES,
        lambda _: Reply({"candidates": [{"type": "host", "createdAt": next(times)}], "hasMore": True}),
    )
    async with wave(api, ice_candidates="60s") as upstream:
        assert (await upstream.poll()).failures == {ID: Reason.BAD_RESPONSE}
    assert len(api.requests) == 6


async def test_missing_candidates_are_not_a_failure(api: ScriptedApi) -> None:
    api.on(SESSION, fixture("wave/session.json"))
    async with wave(api, ice_candidates="60s") as upstream:
        result = await upstream.poll()
    assert (result.failures, result.streams) == ({}, (DOCUMENTED,))
    assert api.paths() == [SESSION, CANDIDATES]


async def test_candidates_are_requested_at_their_interval_until_complete(api: ScriptedApi) -> None:
    clock = FakeClock()
    api.on(SESSION, fixture("wave/session.json"))
    api.on(CANDIDATES, candidates("host", complete=False))
    async with wave(api, clock, ice_candidates="60s") as upstream:

        async def is_requested_after(seconds: float) -> bool:
            clock.advance(seconds)
            api.requests.clear()
            await upstream.poll()
            return CANDIDATES in api.paths()

        assert await is_requested_after(0)
        assert not await is_requested_after(30)
        assert await is_requested_after(30)
        api.on(CANDIDATES, candidates("host", "relay", complete=True))
        assert await is_requested_after(60)
        assert not await is_requested_after(3600)
        report = (await upstream.poll()).streams[0]
        assert (report.ice_candidates, report.ice_gathering_complete) == (counts(host=1, relay=1), True)


async def test_candidates_become_stale_after_three_intervals(api: ScriptedApi) -> None:
    clock = FakeClock()
    api.on(SESSION, fixture("wave/session.json"))
    api.on(CANDIDATES, candidates("host", complete=False))
    async with wave(api, clock, ice_candidates="60s") as upstream:
        assert (await upstream.poll()).streams[0].ice_gathering_complete is False
        api.on(CANDIDATES, {}, status=403)
        clock.advance(179)
        assert (await upstream.poll()).streams[0].ice_candidates == counts(host=1)
        clock.advance(1)
        assert (await upstream.poll()).streams[0].ice_candidates == {}


async def test_new_publish_requests_candidates_again(api: ScriptedApi) -> None:
    session = fixture("wave/session.json")
    api.on(SESSION, session)
    api.on(CANDIDATES, candidates("host"))
    async with wave(api, ice_candidates="60s") as upstream:
        await upstream.poll()
        api.on(SESSION, {**session, "startedAt": "2026-03-02T10:05:00Z"})
        api.on(CANDIDATES, candidates("relay"))
        assert (await upstream.poll()).streams[0].ice_candidates == counts(relay=1)
        api.on(SESSION, {**session, "status": "paused"})
        assert (await upstream.poll()).streams[0].ice_candidates == {}


@pytest.mark.parametrize("change", [{"protocol": "srt"}, {"status": "idle"}, {"status": "ended"}])
async def test_candidates_are_requested_only_for_live_webrtc_sessions(api: ScriptedApi, change: dict[str, str]) -> None:
    api.on(SESSION, {**fixture("wave/session.json"), **change})
    async with wave(api, ice_candidates="60s") as upstream:
        await upstream.poll()
    assert api.paths() == [SESSION]


@given(candidate=json_values, name=st.sampled_from(["type", "candidate", "candidateType", "timestamp"]))
async def test_any_candidate_is_read_without_an_error(candidate: Any, name: str) -> None:
    page = {"candidates": [candidate, {"type": "host", name: candidate}, {"type": "relay"}], "hasMore": candidate}
    async with scripted_api() as api:
        api.on(SESSION, fixture("wave/session.json"))
        api.on(CANDIDATES, page)
        async with wave(api, ice_candidates="60s") as upstream:
            result = await upstream.poll()
    assert result.streams[0].viewers == 142
    if ID not in result.failures:
        assert result.streams[0].ice_candidates["relay"] >= 1


# -- the request limit -----------------------------------------------------------------------------------------------


class LimitedApi:
    """Serves sessions within a request limit per sliding or fixed window, on the fake clock."""

    def __init__(self, api: ScriptedApi, clock: FakeClock, sessions: int, limit: int, *, sliding: bool) -> None:
        self.ids = [f"s{number:03}" for number in range(sessions)]
        self.refused = 0
        self._clock = clock
        self._limit = limit
        self._sliding = sliding
        self._accepted_at: deque[float] = deque()
        for id_ in self.ids:
            api.on(f"GET /streaming/sessions/{id_}", self.respond)

    def respond(self, request: RecordedRequest) -> Reply:
        now = self._clock.now()
        while self._accepted_at and self._is_over(self._accepted_at[0], now):
            self._accepted_at.popleft()
        is_refused = len(self._accepted_at) >= self._limit
        if is_refused:
            self.refused += 1
        else:
            self._accepted_at.append(now)
        reset = self._accepted_at[0] + 60 if self._sliding else (now // 60 + 1) * 60
        headers = {
            "Date": formatdate(now, usegmt=True),
            "X-RateLimit-Limit": str(self._limit),
            "X-RateLimit-Remaining": str(self._limit - len(self._accepted_at)),
            "X-RateLimit-Reset": str(math.ceil(reset)),
            "X-RateLimit-Window": "60",
        }
        id_ = request.path.rpartition("/")[2]
        return Reply({"sessionId": id_, "status": "live"}, 429 if is_refused else 200, headers)

    def _is_over(self, at: float, now: float) -> bool:
        return at <= now - 60 if self._sliding else at // 60 < now // 60


@pytest.mark.slow
@pytest.mark.parametrize("sliding", [True, False])
@pytest.mark.parametrize(("sessions", "interval"), [(20, 30), (50, 30), (200, 30), (90, 300), (5, 1)])
async def test_request_limit_is_never_reached_and_every_session_is_polled(
    api: ScriptedApi, sliding: bool, sessions: int, interval: int
) -> None:
    clock = FakeClock()
    limited = LimitedApi(api, clock, sessions, 60, sliding=sliding)
    fresh: Counter[str] = Counter()
    polls = math.ceil(1800 / interval)
    async with wave(api, clock, sessions=limited.ids, interval=f"{interval}s") as upstream:
        for _ in range(polls):
            result = await upstream.poll()
            reported = {report.id for report in result.streams}
            fresh.update(reported)
            assert result.failures == {}
            assert reported | result.postponed == set(limited.ids)
            assert not reported & result.postponed
            clock.advance(interval)
    assert limited.refused == 0
    assert set(fresh) == set(limited.ids)
    assert max(fresh.values()) - min(fresh.values()) <= max(1, polls // 10)


async def test_round_of_several_polls_reports_its_length(api: ScriptedApi) -> None:
    clock = FakeClock()
    limited = LimitedApi(api, clock, 200, 60, sliding=True)
    async with wave(api, clock, sessions=limited.ids) as upstream:
        first = await upstream.poll()
        clock.advance(30)
        second = await upstream.poll()
    assert first.round_seconds == second.round_seconds == 8 * 30
    assert len(first.streams) == len(second.streams) == 28
    assert not {report.id for report in first.streams} & {report.id for report in second.streams}


async def test_every_session_is_requested_in_every_poll_without_a_limit(api: ScriptedApi) -> None:
    sessions = [f"s{number}" for number in range(150)]
    async with wave(api, sessions=sessions) as upstream:
        result = await upstream.poll()
    assert len(result.streams) == 150
    assert (result.postponed, result.round_seconds) == (frozenset(), None)


async def test_limit_used_up_by_other_clients_fails_the_poll_after_two_windows(api: ScriptedApi) -> None:
    clock = FakeClock()

    def used_up(_: RecordedRequest) -> Reply:
        headers = {"X-RateLimit-Limit": "60", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "99999999999"}
        return Reply({"status": "live"}, 200, {**headers, "Date": formatdate(clock.now(), usegmt=True)})

    api.on(SESSION, used_up)
    async with wave(api, clock) as upstream:
        assert (await upstream.poll()).streams
        clock.advance(30)
        result = await upstream.poll()
        assert not result.streams
        assert result.postponed == {ID}
        upstream.client.rate_limit.reset_at = clock.now() + 3600
        clock.advance(120)
        with pytest.raises(UpstreamError) as error:
            await upstream.poll()
    assert error.value.reason is Reason.RATE_LIMITED
    assert len(api.requests) == 1


async def test_no_request_is_sent_during_a_retry_after_pause(api: ScriptedApi) -> None:
    clock = FakeClock()
    api.on(SESSION, {}, status=429, headers={"Retry-After": "600"})
    async with wave(api, clock) as upstream:
        for _ in range(3):
            with pytest.raises(UpstreamError) as error:
                await upstream.poll()
            assert error.value.reason is Reason.RATE_LIMITED
            clock.advance(30)
        assert len(api.requests) == 1
        clock.advance(600)
        api.on(SESSION, fixture("wave/session.json"))
        assert (await upstream.poll()).streams == (DOCUMENTED,)


async def test_sessions_held_back_by_a_pause_are_postponed(api: ScriptedApi) -> None:
    clock = FakeClock()
    ids = [f"s{number}" for number in range(4)]
    for id_ in ids:
        api.on(f"GET /streaming/sessions/{id_}", {"status": "live"})
    api.on("GET /streaming/sessions/s1", {}, status=429, headers={"Retry-After": "600"})
    async with wave(api, clock, sessions=ids, max_concurrent_requests=1) as upstream:
        result = await upstream.poll()
    assert [report.id for report in result.streams] == ["s0"]
    assert result.failures == {"s1": Reason.RATE_LIMITED}
    assert result.postponed == {"s2", "s3"}


async def test_candidates_use_only_the_budget_that_sessions_leave(api: ScriptedApi) -> None:
    clock = FakeClock()
    limit = {"X-RateLimit-Limit": "60", "Date": formatdate(clock.now(), usegmt=True)}
    left = iter((5, 4, 4, 3))
    ids = ["s0", "s1", "s2"]

    def session(_: RecordedRequest) -> Reply:
        return Reply({"status": "live", "protocol": "webrtc"}, 200, {**limit, "X-RateLimit-Remaining": str(next(left))})

    for id_ in ids:
        api.on(f"GET /streaming/sessions/{id_}", session)
    async with wave(api, clock, sessions=ids, ice_candidates="60s") as upstream:
        result = await upstream.poll()
    assert result.failures == {}
    assert not any("candidates" in path for path in api.paths())


@pytest.mark.parametrize(
    ("usable", "interval", "sessions", "per_poll", "seconds"),
    [
        (57, 30, 28, 28, None),
        (57, 30, 29, 28, 60),
        (57, 60, 57, 57, None),
        (57, 300, 100, 57, 600),
        (57, 1, 5, 1, 57 / 57 * 5.263157894736842),
        (0, 30, 5, 1, 300),
    ],
)
def test_pace_determines_sessions_per_poll_and_round_length(
    usable: int, interval: float, sessions: int, per_poll: int, seconds: float | None
) -> None:
    pace = RequestPace(usable, 60.0, interval)
    assert pace.per_poll == per_poll
    assert pace.round_seconds(sessions) == (None if seconds is None else pytest.approx(seconds))


@given(
    sessions=st.lists(st.integers(0, 30), unique=True),
    budgets=st.lists(st.integers(0, 35) | st.none(), max_size=20),
)
def test_rotation_stays_within_budget_and_starves_no_session(sessions: list[int], budgets: list[int | None]) -> None:
    rotation = SessionRotation()
    ids = [f"s{number}" for number in sessions]
    waited = dict.fromkeys(ids, 0)
    for budget in budgets:
        chosen = rotation.select(ids, budget)
        assert len(chosen) == len(set(chosen)) == (len(ids) if budget is None else min(budget, len(ids)))
        left_waiting = [waited[id_] for id_ in ids if id_ not in chosen]
        assert all(waited[id_] >= max(left_waiting, default=0) for id_ in chosen)
        waited = {id_: 0 if id_ in chosen else waited[id_] + 1 for id_ in ids}


# -- the sessions file -----------------------------------------------------------------------------------------------


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    # make two writes within one tick of the file system's clock differ
    os.utime(path, ns=(0, path.stat().st_mtime_ns + hash(text) % 10**9))
    return path


async def test_sessions_follow_changes_of_their_file(api: ScriptedApi, tmp_path: Path) -> None:
    path = write(tmp_path / "sessions", f"# tonight\n\n  {ID}  \n{{id: sess_2, name: keynote, expected: true}}\n")
    async with wave(api, sessions=[], sessions_file=str(path)) as upstream:
        assert {report.id for report in (await upstream.poll()).streams} == {ID, "sess_2"}
        (_, keynote) = upstream.platform.configured_streams()
        assert (keynote.name, keynote.expected) == ("keynote", True)
        write(path, "sess_3\n")
        assert {report.id for report in (await upstream.poll()).streams} == {"sess_3"}


async def test_configured_sessions_take_precedence_over_the_file(api: ScriptedApi, tmp_path: Path) -> None:
    path = write(tmp_path / "sessions", f"{ID}\nsess_2\n{{id: sess_3, name: main}}\n")
    async with wave(api, sessions=[{"id": ID, "name": "main"}], sessions_file=str(path)) as upstream:
        assert [session.id for session in upstream.platform.configured_streams()] == [ID, "sess_2"]


@pytest.mark.parametrize("text", ["{id: ", "sess 1\n", "sess_1\nsess_1\n", "{id: a, nme: b}"])
async def test_invalid_file_keeps_the_last_sessions_and_is_logged_once(
    api: ScriptedApi, tmp_path: Path, text: str
) -> None:
    path = write(tmp_path / "sessions", "sess_1\n")
    async with wave(api, sessions=[], sessions_file=str(path)) as upstream:
        await upstream.poll()
        write(path, text)
        with capture_logs() as logs:
            for _ in range(3):
                assert [report.id for report in (await upstream.poll()).streams] == ["sess_1"]
        assert [entry["event"] for entry in logs] == ["sessions file not read"]
        path.unlink()
        with capture_logs() as logs:
            for _ in range(3):
                assert [report.id for report in (await upstream.poll()).streams] == ["sess_1"]
        assert len(logs) == 1


@pytest.mark.parametrize("kind", OBSTACLES)
async def test_file_that_becomes_unreadable_keeps_the_last_sessions(
    api: ScriptedApi, tmp_path: Path, kind: str
) -> None:
    path = write(tmp_path / "sessions", "sess_1\n")
    async with wave(api, sessions=[], sessions_file=str(path)) as upstream:
        await upstream.poll()
        cause = put_obstacle(path, kind)
        with capture_logs() as logs:
            for _ in range(3):
                assert [report.id for report in (await upstream.poll()).streams] == ["sess_1"]
        assert [entry["error"] for entry in logs] == [f"{path}: {cause}"]
    with pytest.raises(ValidationError) as error:
        settings(sessions_file=str(path))
    assert error.value.errors()[0]["msg"] == f"{path}: {cause}"


async def test_poll_fails_until_the_file_is_read(api: ScriptedApi, tmp_path: Path) -> None:
    path = write(tmp_path / "sessions", "sess_1\n")
    async with wave(api, sessions=[], sessions_file=str(path)) as upstream:
        cause = put_obstacle(path, "FIFO")
        with capture_logs(), pytest.raises(UpstreamError) as caught:
            await upstream.poll()
        assert str(caught.value) == f"sessions_file: {path}: {cause}"
        path.unlink()
        write(path, "sess_1\n")
        assert [report.id for report in (await upstream.poll()).streams] == ["sess_1"]


async def test_empty_file_requests_nothing_and_is_valid(api: ScriptedApi, tmp_path: Path) -> None:
    path = write(tmp_path / "sessions", "# nothing\n")
    async with wave(api, sessions=[], sessions_file=str(path)) as upstream:
        assert (await upstream.poll()).streams == ()
    assert api.requests == []


def test_bad_lines_of_a_file_are_listed_in_the_error(tmp_path: Path) -> None:
    path = write(tmp_path / "sessions", "good\n{id: 7}\n{id: a, nme: b}\ngood\n{id: \n" + "two words\n" * 9)
    with pytest.raises(ValidationError) as error:
        settings(sessions_file=str(path))
    (found,) = error.value.errors()
    assert found["loc"][0] == "sessions_file"
    lines = found["msg"].split("; ")
    assert [line.partition(": ")[0] for line in lines[:5]] == [f"{path}:{number}" for number in (2, 3, 4, 5, 6)]
    assert lines[5] == "and 8 more lines"
    assert "nme" in lines[1]


def test_missing_or_too_large_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        settings(sessions_file=str(tmp_path / "missing"))
    with pytest.raises(ValidationError):
        settings(sessions_file=str(write(tmp_path / "long", "x" * (4 * 2**20 + 1))))


# -- settings --------------------------------------------------------------------------------------------------------


def test_settings_have_defaults() -> None:
    made = WaveSettings.model_validate(
        {"name": "w", "platform": "wave", "url": "https://w.example", "auth": {"bearer_token": "k"}, "sessions": [ID]}
    )
    assert (made.interval, made.timeout, made.stale_after) == (30.0, 10.0, 90.0)
    assert (made.ice_candidates, made.session_numbers, made.sessions_file) == (60.0, False, None)
    assert (made.analytics, made.prometheus) == (None, None)
    assert [session.id for session in made.configured_streams()] == [ID]


def test_all_settings_are_accepted(tmp_path: Path) -> None:
    made = settings(
        sessions=[ID, {"id": "sess_5678", "name": "keynote", "expected": True}],
        sessions_file=str(write(tmp_path / "sessions", "more\n")),
        session_numbers=True,
        ice_candidates="2m",
        analytics={"streams": ["str_xyz789"], "period": "1h", "dashboards": True, "dashboards_period": "90d"},
        prometheus={
            "enabled": True,
            "api_key": "k",
            "stream_id": "s",
            "period": "15min",
            "prefix": "w_",
            "max_series": 9,
        },
    )
    assert made.ice_candidates == 120.0
    assert made.analytics is not None
    assert ([stream.id for stream in made.analytics.streams], made.analytics.interval) == (["str_xyz789"], 300.0)
    assert made.prometheus is not None
    assert (made.prometheus.max_series, made.prometheus.interval) == (9, 30.0)


@pytest.mark.parametrize(
    ("given_", "place"),
    [
        ({"discover": True}, "discover"),
        ({"discover": "auto"}, "discover"),
        ({"sessions": []}, "sessions"),
        ({"sessions": ["two words"]}, "sessions"),
        ({"sessions": [7]}, "sessions"),
        ({"sessions": [ID, {"id": ID}]}, "sessions"),
        ({"streams": []}, "streams"),
        ({"ice_candidates": True}, "ice_candidates"),
        ({"ice_candidates": "10ms"}, "ice_candidates"),
        ({"auth": {}}, "auth"),
        ({"auth": {"api_key": "k"}}, "auth"),
        ({"auth": {"username": "u", "password": "correct-horse-7"}}, "auth"),
        ({"analytics": {"period": "2h"}}, "analytics"),
        ({"analytics": {"dashboards_period": "24h"}}, "analytics"),
        ({"prometheus": {"enabled": True}}, "prometheus"),
        ({"prometheus": {"prefix": ""}}, "prometheus"),
        ({"prometheus": {"prefix": "stream_"}}, "prometheus"),
        ({"prometheus": {"prefix": "process_x"}}, "prometheus"),
        ({"prometheus": {"prefix": "9wave"}}, "prometheus"),
        ({"prometheus": {"max_series": 0}}, "prometheus"),
    ],
)
def test_invalid_settings_are_refused(given_: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError) as error:
        settings(**given_)
    assert {found["loc"][0] for found in error.value.errors()} == {place}


def test_discover_error_names_the_alternative() -> None:
    with pytest.raises(ValidationError, match="sessions_file"):
        settings(discover=True)


def test_export_or_analytics_without_sessions_are_accepted() -> None:
    settings(sessions=[], prometheus={"enabled": True, "api_key": "k"})
    settings(sessions=[], analytics={"dashboards": True})


@pytest.mark.parametrize(("ice", "requests"), [(False, 4.0), ("60s", 6.0)])
def test_requests_per_minute_count_sessions_and_candidates(ice: Any, requests: float) -> None:
    made = settings(sessions=["a", "b"], ice_candidates=ice)
    assert PLATFORM.requests_per_minute(made) == pytest.approx(requests)


def test_feeds_contain_every_filled_field() -> None:
    unset = StreamReport(id="")
    filled = {name for name in StreamReport.__struct_fields__ if getattr(DOCUMENTED, name) != getattr(unset, name)}
    others = {"end_timestamp_seconds", "egress_bitrate_bytes_per_second", "ice_candidates", "ice_gathering_complete"}
    assert filled - {"id"} | others | {"platform_metrics", "analytics"} == PLATFORM.feeds
