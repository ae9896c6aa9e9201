"""icecast: responses in, exposition text out; and the repair of its invalid JSON."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model import Reason, UpstreamState
from exporter.platforms.icecast import PLATFORM, IcecastSettings
from exporter.platforms.icecast.icecast_sources import mount_of_url
from exporter.platforms.icecast.json_repair import repair_json
from exporter.platforms.icecast.media_facts import declared
from exporter.platforms.testing import RecordedResponse, Recording, expose, polled_upstream

RESPONSES = Path(__file__).parent / "responses" / "icecast"
AUTH = {"auth": {"username": "admin", "password": "p"}}
ADMIN, MOUNTS, STATUS = "GET /admin/stats", "GET /admin/listmounts", "GET /status-json.xsl"
PUBLIC, PUBLIC_JSON = "GET /admin/publicstats", "GET /admin/publicstats.json"
SERVER = "<server_id>Icecast 2.4.4</server_id>"
STARTED = "<stream_start_iso8601>2026-11-30T20:00:00+0000</stream_start_iso8601><server_type>audio/mpeg</server_type>"
LIVE = f"<listeners>3</listeners><listener_peak>5</listener_peak>{STARTED}"
CONFIGURED = "<listeners>0</listeners><listenurl>http://h:8000/m</listenurl><max_listeners>unlimited</max_listeners>"
"""What the server lists of a mount whose listeners were moved to its fallback."""


def recorded(name: str = "recorded") -> Recording:
    (file,) = RESPONSES.rglob(f"{name}.yaml")
    return Recording.from_file(file)


def xml(*rows: str, server: str = SERVER) -> RecordedResponse:
    body = f'<?xml version="1.0"?><icestats>{server}{"".join(rows)}</icestats>'
    return RecordedResponse(body.encode(), content_type="text/xml")


def source(mount: str = "/live", content: str = LIVE) -> str:
    return f'<source mount="{mount}">{content}</source>'


def admin(*responses: RecordedResponse, mounts: Any = None) -> Recording:
    return Recording({ADMIN: list(responses), MOUNTS: xml() if mounts is None else mounts}, settings=AUTH)


def status(sources: Any, **server: Any) -> Recording:
    body = {"icestats": {"server_id": "Icecast 2.4.4", **server, "source": sources}}
    return Recording({STATUS: RecordedResponse.of(body)})


def a_source(**fields: Any) -> dict[str, Any]:
    common = {"listenurl": "http://h:8000/live", "listeners": 3, "stream_start_iso8601": "2026-11-30T20:00:00+0000"}
    return {**common, "server_type": "audio/mpeg", "dummy": None, **fields}


def value(text: str, family: str, stream: str = "/live", **labels: str) -> str | None:
    """Return the value of a stream's series, as text; None if it is absent."""
    name = re.escape(f'{family}{{platform="icecast",upstream="test",stream="{stream}"')
    further = "".join(f',{label}="{re.escape(content)}"' for label, content in labels.items())
    match = re.search(rf"^{name}{further}[^\n]*\}} (\S+)$", text, re.MULTILINE)
    return match[1] if match else None


def info(text: str, label: str, stream: str = "/live") -> str:
    match = re.search(rf'^stream_info\{{[^\n]*stream="{re.escape(stream)}"[^\n]*\b{label}="(.*?)"', text, re.MULTILINE)
    assert match, text
    return match[1]


def requested(text: str) -> dict[tuple[str, str], float]:
    """Return the number of requests by request and status."""
    found = re.findall(
        r'^stream_upstream_requests_total\{code="(\w+)",.*request="(.*?)".*\} (\S+)$', text, re.MULTILINE
    )
    return {(request, code): float(count) for code, request, count in found}


async def poll(recording: Recording) -> UpstreamState:
    async with polled_upstream(PLATFORM, recording) as upstream:
        return await upstream.poll()


async def poll_without_drops(recording: Recording) -> UpstreamState:
    """Poll once, and check that no field was counted as unreadable."""
    async with polled_upstream(PLATFORM, recording) as upstream:
        state = await upstream.poll()
        assert re.findall(r"^stream_upstream_fields_dropped_total\{.*", upstream.text(), re.MULTILINE) == []
    return state


# -- with credentials --------------------------------------------------------------------------------------------------


def test_sources_are_live_with_their_totals_and_listeners() -> None:
    text = expose(PLATFORM, recorded())
    for mount, read, listeners in (("/live.mp3", "145076.0", "1"), ("/007", "64400.0", "0")):
        assert value(text, "stream_status", mount, status="live") == "1"
        assert value(text, "stream_live", mount) == "1"
        assert value(text, "stream_ingest_bytes_total", mount) == read
        assert value(text, "stream_egress_bytes_total", mount) == "0.0"
        assert value(text, "stream_viewers", mount) == listeners
        assert value(text, "stream_viewers_peak", mount) == listeners
        assert value(text, "stream_slow_viewers_total", mount) == "0.0"
        assert (info(text, "protocol", mount), info(text, "audio_codec", mount)) == ("icecast", "mp3")
        # the encoder chooses the server name, which is neither unique nor constant
        assert info(text, "name", mount) == ""
    assert value(text, "stream_start_timestamp_seconds", "/live.mp3") == "1795983958.0"
    assert 'version="2.4.4"' in text


def test_server_without_sources_has_no_streams() -> None:
    text = expose(PLATFORM, recorded("admin-empty"))
    assert 'stream_upstream_up{platform="icecast",upstream="test"} 1\n' in text
    assert "stream_live{" not in text


@pytest.mark.parametrize(("code", "reason"), [(401, Reason.AUTH), (403, Reason.FORBIDDEN), (404, Reason.NOT_FOUND)])
async def test_refused_credentials_fail_the_poll_although_public_statistics_exist(code: int, reason: Reason) -> None:
    recording = recorded("status-two")
    refused = {**recording.responses, ADMIN: RecordedResponse(b"You need to authenticate\r\n", code)}
    state = await poll(dataclasses.replace(recording, responses=refused, settings=AUTH))
    assert (state.up, state.last_error_reason, state.streams) == (False, reason, ())


async def test_mounts_are_requested_every_five_minutes_and_may_fail() -> None:
    async with polled_upstream(PLATFORM, admin(xml(source()), mounts=RecordedResponse(b"", 401))) as upstream:
        for _ in range(41):
            assert (await upstream.poll(after=15.0)).up
        assert requested(upstream.text()) == {(ADMIN, "200"): 41, (MOUNTS, "401"): 3}


def test_bitrate_is_measured_over_30_seconds_from_totals_that_move_every_5_seconds() -> None:
    # the totals are up to 5 s old, so two polls 15 s apart see 10, 15 or 20 s of media
    totals = [0, 160_000, 480_000, 720_000]
    responses = [xml(source(content=f"{LIVE}<total_bytes_read>{total}</total_bytes_read>")) for total in totals]
    bitrates = [
        value(expose(PLATFORM, admin(*responses), polls=count), "stream_ingest_bitrate_bytes_per_second")
        for count in (1, 2, 3, 4)
    ]
    assert bitrates == [None, None, "16000.0", str(560_000 / 30)]


async def test_frozen_source_has_bitrate_0_after_three_polls_without_bytes() -> None:
    totals = (1, 2, 2, 2, 2)
    responses = [xml(source(content=f"{LIVE}<total_bytes_read>{total}</total_bytes_read>")) for total in totals]
    async with polled_upstream(PLATFORM, admin(*responses)) as upstream:
        bitrates = []
        for _ in totals:
            (stream,) = (await upstream.poll(after=15.0)).streams
            bitrates.append(stream.report.ingest_bitrate_bytes_per_second)
            assert stream.live
    assert bitrates == [None, None, None, None, 0.0]


def test_reconnected_source_is_one_restart_and_restarts_its_totals() -> None:
    def start(minute: int, total: int) -> RecordedResponse:
        content = f"<stream_start_iso8601>2026-11-30T20:{minute:02}:00+0000</stream_start_iso8601>"
        return xml(source(content=f"{content}<total_bytes_read>{total}</total_bytes_read>"))

    text = expose(PLATFORM, admin(start(0, 900), start(0, 950), start(5, 10), start(5, 60)), polls=4)
    assert value(text, "stream_restarts_total") == "1"
    assert value(text, "stream_ingest_bytes_total") == "60.0"


async def test_restarted_server_ends_streams_until_their_sources_return() -> None:
    starting = xml(server="<server_start>Mon, 30 Nov 2026 20:09:00 +0000</server_start>")
    again = xml(source(content=LIVE.replace("T20:00:00", "T20:09:30")))
    async with polled_upstream(PLATFORM, admin(xml(source()), starting, again)) as upstream:
        lives, restarts = [], []
        for _ in range(3):
            (stream,) = (await upstream.poll(after=15.0)).streams
            lives.append(stream.live)
            restarts.append(stream.restarts)
    assert lives == [True, False, True]
    assert restarts == [0, 0, 1]


# -- mounts without a source -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["admin-fallback-active", "status-fallback-active"])
def test_listeners_on_the_fallback_are_reported_for_the_mount_they_left(name: str) -> None:
    text = expose(PLATFORM, recorded(name))
    assert value(text, "stream_status", "/live.mp3", status="idle") == "1"
    assert value(text, "stream_live", "/live.mp3") == "0"
    assert value(text, "stream_fallback_active", "/live.mp3") == "1"
    assert value(text, "stream_viewers", "/live.mp3") is None
    assert value(text, "stream_viewers", "/backup.mp3") == "1"
    assert value(text, "stream_fallback_active", "/backup.mp3") is None


def test_live_mount_with_a_fallback_is_known_from_the_list_of_mounts() -> None:
    text = expose(PLATFORM, recorded("admin-fallback-idle"))
    assert value(text, "stream_fallback_active", "/live.mp3") == "0"
    for mount in ("/backup.mp3", "/secret.mp3", "/v.ogg"):
        assert value(text, "stream_fallback_active", mount) is None
    assert value(expose(PLATFORM, recorded("status-fallback-idle")), "stream_fallback_active", "/live.mp3") is None


def test_mount_that_was_on_its_fallback_is_known_to_have_one() -> None:
    on_fallback = {"listenurl": "http://h:8000/live", "listeners": 0, "dummy": None}
    bodies = [{"icestats": {"server_id": "x", "source": row}} for row in (on_fallback, a_source())]
    text = expose(PLATFORM, Recording({STATUS: [RecordedResponse.of(body) for body in bodies]}), polls=2)
    assert value(text, "stream_live") == "1"
    assert value(text, "stream_fallback_active") == "0"


def test_file_that_the_server_plays_as_a_fallback_is_no_stream() -> None:
    text = expose(PLATFORM, recorded("admin-fallback-file"))
    assert value(text, "stream_fallback_active", "/main.mp3") == "1"
    assert "/silence.mp3" not in text


@pytest.mark.parametrize("name", ["admin-relays", "status-relays", "status-upstream-relays"])
def test_relay_is_live_and_one_without_listeners_on_demand_is_idle(name: str) -> None:
    text = expose(PLATFORM, recorded(name))
    assert value(text, "stream_live", "/relay.mp3") == "1"
    assert value(text, "stream_status", "/ondemand.mp3", status="idle") == "1"
    assert value(text, "stream_fallback_active", "/ondemand.mp3") is None


def test_hidden_mount_is_listed_only_with_credentials() -> None:
    assert value(expose(PLATFORM, recorded("admin-fallback-idle")), "stream_live", "/secret.mp3") == "1"
    assert "/secret.mp3" not in expose(PLATFORM, recorded("status-fallback-idle"))


@pytest.mark.parametrize(
    ("content", "word", "live", "fallback"),
    [
        pytest.param("<source_ip>192.0.2.1</source_ip>", "connecting", "0", None, id="logging in"),
        pytest.param(f"{CONFIGURED}<server_type>audio/mpeg</server_type>", "connecting", "0", None, id="logged in"),
        pytest.param(CONFIGURED, "idle", "0", "1", id="on its fallback"),
        pytest.param(f"{CONFIGURED}<on_demand>1</on_demand>", "idle", "0", None, id="relay on demand"),
        pytest.param("<listeners></listeners><stream_start></stream_start>", "unknown", None, None, id="empty"),
        pytest.param("<genre>x</genre>", "unknown", None, None, id="nothing known"),
        pytest.param("<connected>5</connected>", "live", "1", None, id="connected, as in Icecast-KH"),
        pytest.param("<stream_start>garbage</stream_start>", "live", "1", None, id="unreadable start"),
    ],
)
def test_state_follows_from_the_fields_of_the_mount(
    content: str, word: str, live: str | None, fallback: str | None
) -> None:
    text = expose(PLATFORM, admin(xml(source(content=content))))
    assert value(text, "stream_status", status=word) == "1"
    assert value(text, "stream_live") == live
    assert value(text, "stream_fallback_active") == fallback


# -- versions ----------------------------------------------------------------------------------------------------------


def test_icecast_2_5_with_credentials() -> None:
    text = expose(PLATFORM, recorded("admin-2.5"))
    assert 'version="2.5.0"' in text
    assert value(text, "stream_ingest_bytes_total", "/radio.mp3") == "2144800.0"
    assert value(text, "stream_slow_viewers_total", "/radio.mp3") == "2.0"
    assert value(text, "stream_fallback_active", "/radio.mp3") == "0"
    assert value(text, "stream_nominal_bitrate_bytes_per_second", "/radio.mp3") == "24000.0"


def test_public_statistics_of_2_5_are_read_if_status_json_does_not_exist() -> None:
    text = expose(PLATFORM, recorded("publicstats"))
    assert value(text, "stream_live", "/radio.mp3") == "1"
    assert value(text, "stream_viewers", "/talk.ogg") == "4"
    assert value(text, "stream_status", "/waiting.mp3", status="idle") == "1"
    # they do not show whether such a mount has a fallback or is a relay on demand
    assert value(text, "stream_fallback_active", "/waiting.mp3") is None
    assert value(text, "stream_start_timestamp_seconds", "/radio.mp3") is None


def test_public_json_of_2_5_does_not_pass_one_source_off_as_another() -> None:
    text = expose(PLATFORM, recorded("publicstats-json"))
    assert value(text, "stream_viewers", "/radio.mp3") == "1"
    assert value(text, "stream_status", "/talk.ogg", status="unknown") == "1"
    assert value(text, "stream_viewers", "/talk.ogg") is None


async def test_request_that_the_server_answers_is_remembered_until_it_fails() -> None:
    found, missing = recorded("publicstats").responses[PUBLIC], RecordedResponse(b"", 404)
    requests = {STATUS: missing, PUBLIC: [found, found, missing, found]}
    async with polled_upstream(PLATFORM, Recording(requests)) as upstream:
        assert [(await upstream.poll(after=15.0)).up for _ in range(4)] == [True, True, False, True]
        assert requested(upstream.text())[STATUS, "404"] == 2


@pytest.mark.parametrize(
    ("codes", "reason", "hint"),
    [
        ((404, 404, 404), Reason.NOT_FOUND, "check url"),
        # Icecast-KH has no public statistics, and requires credentials for everything below /admin
        ((404, 401, 401), Reason.AUTH, "set auth to the admin user"),
        ((403, 404, 400), Reason.FORBIDDEN, "set auth to the admin user"),
    ],
)
async def test_error_without_public_statistics_says_what_to_do(
    codes: tuple[int, int, int], reason: Reason, hint: str
) -> None:
    requests = zip((STATUS, PUBLIC, PUBLIC_JSON), codes, strict=True)
    state = await poll(Recording({request: RecordedResponse(b"", code) for request, code in requests}))
    assert (state.up, state.last_error_reason) == (False, reason)
    assert hint in (state.last_error or "")


async def test_server_error_of_the_first_public_request_is_not_hidden_by_the_next_one() -> None:
    state = await poll(
        Recording({STATUS: RecordedResponse(b"", 500), PUBLIC: recorded("publicstats").responses[PUBLIC]})
    )
    assert (state.up, state.last_error_reason) == (False, Reason.SERVER_ERROR)


def test_icecast_kh_has_its_own_times_rates_and_files() -> None:
    text = expose(PLATFORM, recorded("admin-kh"))
    assert value(text, "stream_start_timestamp_seconds", "/live.aac") == "1796069405.0"
    assert value(text, "stream_ingest_bitrate_bytes_per_second", "/live.aac") == "8039.0"
    assert info(text, "audio_codec", "/live.aac") == "aac"
    assert value(text, "stream_audio_sample_rate_hertz", "/live.aac") == "44100.0"
    assert value(text, "stream_status", "/ondemand.mp3", status="idle") == "1"
    assert value(text, "stream_fallback_active", "/talk.mp3") == "1"
    assert 'version="2.4.0-kh15"' in text
    assert "silence" not in text
    assert "status.xsl" not in text


# -- status-json.xsl ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sources", "mounts"),
    [
        pytest.param(a_source(), ["/live"], id="one source is an object"),
        pytest.param([a_source(), a_source(listenurl="http://h/b")], ["/live", "/b"], id="several are a list"),
        pytest.param([a_source()], ["/live"], id="a list of one"),
        pytest.param([], [], id="an empty list"),
    ],
)
async def test_sources_may_be_an_object_or_a_list(sources: Any, mounts: list[str]) -> None:
    state = await poll_without_drops(status(sources))
    assert state.up
    assert sorted(stream.report.id for stream in state.streams) == sorted(mounts)


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"icestats": {}},
        {"icestats": None},
        {"icestats": {"source": None}},
        {"icestats": {"source": 5, "server_id": "x"}},
        {"icestats": {"source": [None, 1], "server_id": "x"}},
        {"icestats": {"source": {"listeners": 1}, "server_id": "x"}},
        [{"name": "icestats"}],
        [{"name": "icestats", "source": 7}],
    ],
    ids=json.dumps,
)
async def test_document_without_icecasts_statistics_is_a_bad_response(body: Any) -> None:
    state = await poll(Recording({STATUS: RecordedResponse.of(body)}))
    assert (state.up, state.last_error_reason) == (False, Reason.BAD_RESPONSE)


async def test_response_of_a_starting_server_is_a_bad_response() -> None:
    state = await poll(Recording({STATUS: RecordedResponse.from_file(RESPONSES / "2.4.4-status-starting.invalid")}))
    assert (state.up, state.last_error_reason) == (False, Reason.BAD_RESPONSE)


@pytest.mark.parametrize(
    "name", ["5-dot", "dot-5", "exponent", "leading-zero", "control", "1e5", "json", "quote", "dash"]
)
def test_title_does_not_change_what_else_is_known(name: str) -> None:
    text = expose(PLATFORM, recorded(f"status-title-{name}"))
    assert value(text, "stream_live", "/live.mp3") == "1"
    assert value(text, "stream_viewers", "/live.mp3") in ("0", "1")
    assert "stream_upstream_fields_dropped_total{" not in text


@pytest.mark.parametrize("changed", [1e5, 7, True, None, -0.0, ["a", "b"], {"a": 1}])
async def test_texts_that_became_another_type_are_not_needed(changed: Any) -> None:
    texts = dict.fromkeys(("title", "server_name", "genre", "subtype", "audio_info", "bitrate", "frame_size"), changed)
    state = await poll_without_drops(status(a_source(**texts), server_id=changed, host="h"))
    (stream,) = state.streams
    assert (stream.live, stream.report.viewers, stream.report.audio_codec) == (True, 3, "mp3")


@pytest.mark.parametrize(
    ("url", "mount"),
    [
        ("http://localhost:8000/live.mp3", "/live.mp3"),
        ("https://[::1]:8443/a/b.ogg", "/a/b.ogg"),
        ("http://h/with space?x#y", "/with space?x#y"),
        ("http://h/", "/"),
        ("http://h", ""),
        ("/live.mp3", ""),
        ("http:///live", ""),
        ("", ""),
    ],
)
def test_mount_is_the_path_of_the_listen_url(url: str, mount: str) -> None:
    assert mount_of_url(url) == mount


# -- media -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"audio_info": "ice-bitrate=128;ice-channels=2;ice-samplerate=44100"}, (16_000, 44_100, 2)),
        ({"audio_info": "channels=2;samplerate=44100;bitrate=128"}, (16_000, 44_100, 2)),
        ({"audio_info": "samplerate=48000;quality=4.0;channels=1"}, (None, 48_000, 1)),
        ({"audio_info": "ice-quality=5;ice-bitrate=Quality 5"}, (None, None, None)),
        ({"audio_info": ";;=;x;bitrate=;BITRATE=96;"}, (12_000, None, None)),
        ({"bitrate": 128, "channels": 2, "samplerate": 44100}, (16_000, 44_100, 2)),
        ({"ice-bitrate": 128, "ice-channels": 2, "ice-samplerate": 44100}, (16_000, 44_100, 2)),
        ({"bitrate": "Quality 4", "ice-bitrate": "Quality -1"}, (None, None, None)),
        ({"bitrate": "0", "channels": 0, "samplerate": -1}, (None, None, None)),
        ({"audio_bitrate": 80_000, "bitrate": 128}, (10_000, None, None)),
        ({"audio_bitrate": 64_000, "video_bitrate": 400_000}, (58_000, None, None)),
        ({"audio_channels": 1, "audio_samplerate": 22_050, "audio_info": "channels=2"}, (None, 22_050, 1)),
        ({"mpeg_channels": 2, "mpeg_samplerate": 32_000, "audio_info": "samplerate=1"}, (None, 32_000, 2)),
    ],
)
async def test_declared_rates_have_many_spellings(fields: dict[str, Any], expected: tuple[Any, ...]) -> None:
    state = await poll_without_drops(status(a_source(**fields)))
    report = state.streams[0].report
    found = report.nominal_bitrate_bytes_per_second, report.audio_sample_rate_hertz, report.audio_channels
    assert found == expected


@pytest.mark.parametrize(
    ("fields", "video", "audio"),
    [
        ({"server_type": "audio/mpeg"}, "", "mp3"),
        ({"server_type": "AUDIO/AAC; charset=x"}, "", "aac"),
        ({"server_type": "audio/aacp"}, "", "aac"),
        ({"server_type": "application/ogg", "subtype": "Vorbis"}, "", "vorbis"),
        ({"server_type": "application/ogg", "subtype": "Opus"}, "", "opus"),
        ({"server_type": "audio/ogg", "subtype": "FLAC"}, "", "flac"),
        ({"server_type": "video/ogg", "subtype": "Theora/Vorbis"}, "theora", "vorbis"),
        ({"server_type": "application/ogg", "subtype": "Skeleton/Kate"}, "", ""),
        ({"server_type": "application/ogg", "FLAC_version": "1.0"}, "", "flac"),
        ({"server_type": "video/webm"}, "", ""),
        ({"server_type": "video/webm", "subtype": "VP8 Vorbis"}, "vp8", "vorbis"),
        ({"server_type": None, "content-type": "audio/mpeg"}, "", "mp3"),
        ({"server_type": "audio/mpeg", "audio_codecid": 10}, "", "aac"),
        ({"server_type": "audio/mpeg", "audio_codecid": 99}, "", "mp3"),
    ],
)
async def test_codecs_follow_from_type_and_subtype(fields: dict[str, Any], video: str, audio: str) -> None:
    (stream,) = (await poll(status(a_source(**fields)))).streams
    assert (stream.report.video_codec, stream.report.audio_codec) == (video, audio)


async def test_video_mount_has_the_size_and_frame_rate_of_its_stream() -> None:
    state = await poll(status(a_source(frame_size="640 x 360", frame_rate=25.0, server_type="application/ogg")))
    report = state.streams[0].report
    assert (report.width_pixels, report.height_pixels, report.resolution) == (640, 360, "640x360")
    assert report.frames_per_second == 25.0


@pytest.mark.parametrize("value_", [None, True, "x", "1e5", float("nan"), float("inf"), 10**400, "", " ", [], -1, 0])
def test_declared_value_that_is_no_positive_number_is_not_known(value_: Any) -> None:
    assert declared({"a": value_, "b": "7"}, "a") is None
    assert declared({"a": value_, "b": "7"}, "a", "b") == 7.0


# -- repair ------------------------------------------------------------------------------------------------------------

TEXTS = st.text() | st.sampled_from(
    ['","listeners":99,"title":"', "5.", ",,", ",]", '"', "\\", '\\"', "\x01", "-", "\\u0000"]
)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)
XPATH_NUMBERS = st.from_regex(r"-?([0-9]+(\.[0-9]*)?|\.[0-9]+|-?)([eE][-+]?[0-9]*)?", fullmatch=True)
"""Texts that libxslt takes for a number, more or less."""


@given(DOCUMENTS, st.sampled_from([None, 1]), st.booleans())
def test_valid_document_is_never_changed(document: Any, indent: int | None, is_ascii: bool) -> None:
    body = json.dumps(document, indent=indent, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass")
    assert repair_json(body) == body


@given(XPATH_NUMBERS, TEXTS)
def test_bare_value_is_quoted_only_if_it_is_no_json(written: str, title: str) -> None:
    body = f'{{"a":{written or "-"},"title":{json.dumps(title)}}}'.encode()
    decoded = json.loads(repair_json(body))
    assert decoded["title"] == title
    try:
        assert decoded == json.loads(body)
    except json.JSONDecodeError:
        assert decoded["a"] == (written or "-")


@given(st.lists(st.tuples(st.dictionaries(TEXTS, st.integers() | TEXTS, min_size=1), st.booleans()), max_size=4))
def test_objects_of_relays_are_closed(sources: list[tuple[dict[str, Any], bool]]) -> None:
    """The stylesheet of upstream's 2.4 ends a relay with a comma instead of its last field and the brace."""
    written = [f"{json.dumps(fields)[:-1]}," if is_open else json.dumps(fields) for fields, is_open in sources]
    body = f'{{"icestats":{{"host":"h","source":[{",".join(written)}]}}}}'.encode()
    assert json.loads(repair_json(body)) == {"icestats": {"host": "h", "source": [fields for fields, _ in sources]}}


def test_single_relay_is_closed() -> None:
    assert repair_json(b'{"icestats":{"source":{"a":1,}}') == b'{"icestats":{"source":{"a":1}}}'


@given(st.binary(max_size=200) | st.text('{}[]",:\\ 0.e-', max_size=60).map(str.encode))
def test_repair_of_any_bytes_adds_at_most_two_quotes_per_byte(body: bytes) -> None:
    assert len(repair_json(body)) <= 3 * len(body)


@pytest.mark.parametrize(
    "part", [b'"', b'"\\', b",", b", ", b"5.", b"{", b'"a":5.,', b'"\\"', b"-", b",\n", b'","', b"\\", b"\x00"]
)
def test_repair_takes_linear_time(part: bytes) -> None:
    def seconds(size: int) -> float:
        body = part * (size // len(part))
        started = time.process_time()
        repair_json(body)
        return time.process_time() - started

    seconds(1000)
    # quadratic time would take minutes
    assert seconds(1_000_000) < 5.0


@given(st.dictionaries(st.sampled_from(sorted(a_source())), DOCUMENTS))
def test_any_values_of_a_source_are_read_without_an_internal_error(fields: dict[str, Any]) -> None:
    text = expose(PLATFORM, status([a_source(**fields), a_source(listenurl="http://h/other")]))
    assert value(text, "stream_live", "/other") == "1"


# -- settings ----------------------------------------------------------------------------------------------------------


def test_settings_name_mounts() -> None:
    settings = IcecastSettings.model_validate(
        {"name": "radio", "url": "http://127.0.0.1:8000", "streams": [{"mount": "/live.mp3"}]}
    )
    assert [stream.id for stream in settings.configured_streams()] == ["/live.mp3"]
    assert PLATFORM.requests_per_minute(settings) == 4


def test_list_of_mounts_counts_as_a_request() -> None:
    settings = IcecastSettings.model_validate({"name": "radio", "url": "http://127.0.0.1:8000", **AUTH})
    assert PLATFORM.requests_per_minute(settings) == pytest.approx(4.2)


def test_mount_starts_with_a_slash() -> None:
    with pytest.raises(ValueError, match=r"a mount, such as /live\.mp3"):
        IcecastSettings.model_validate(
            {"name": "radio", "url": "http://127.0.0.1:8000", "streams": [{"mount": "live.mp3"}]}
        )


@pytest.mark.parametrize("auth", [{"bearer_token": "t"}, {"api_key": "k"}])
def test_bearer_tokens_and_api_keys_are_refused(auth: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="username with password"):
        IcecastSettings.model_validate({"name": "radio", "url": "http://127.0.0.1:8000", "auth": auth})
