"""The JSON API, with real requests to the application over states that the test publishes."""

import asyncio
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.cli.settings import load_settings
from exporter.metrics.text_format import label_value
from exporter.model import (
    AlertOverrides,
    HealthReason,
    Maintenance,
    PlatformMetric,
    Reason,
    Rendition,
    Status,
    StreamReport,
    StreamState,
)
from exporter.web.history import POINTS
from exporter.web.json_api import MAX_HISTORIES
from exporter.web.serializers import REMEDIATION, count_streams, stream_entry, stream_facts, upstream_entry
from tests.page.served_app import ServedApp, serve_app
from tests.page.states import outage, stream_state, upstream_state, withdrawn

KEYS = Path(__file__).parent / "keys.txt"
DOCUMENT = Path(__file__).parents[2] / "docs" / "page.md"


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[ServedApp]:
    async with serve_app(tmp_path) as running:
        yield running


FULL = stream_state(
    "live/one",
    report=StreamReport(
        id="a-key-that-is-not-shown",
        name="One",
        protocol="rtmp",
        healthy=False,
        health_grade="Bad",
        health_conditions={"Transcoding": False},
        issues=("a" * 300, "b", "c", "d"),
        ingest_bitrate_bytes_per_second=500_000.0,
        viewers=7,
        frames_per_second=29.97,
        latency_seconds=1.5,
        renditions=(Rendition("720p", 1.0),),
        platform_metrics=(PlatformMetric("a.b", 1.0),),
        multistream_targets={"site": True},
        recording=False,
    ),
    status=Status.DEGRADED,
    live=True,
    expected=True,
    health_score_ratio=0.4,
    health_reasons=(HealthReason.VERDICT, HealthReason.ISSUES),
    expected_ingest_bitrate_bytes_per_second=600_000.0,
    reported_at=1_726_000_000.0,
)


async def test_streams_are_listed_in_order(served: ServedApp) -> None:
    served.service.store.publish(upstream_state([FULL, stream_state("live/two")], last_poll_at=1.0, next_poll_at=16.0))
    data = await served.get("/api/v1/streams")
    assert data["generated_at"] == served.service.clock.now()
    edge, other = data["upstreams"]
    assert edge == {
        "upstream": "edge",
        "platform": "storm",
        "host": "127.0.0.1:9",
        "up": True,
        "streams": 2,
        "streams_live": 1,
        "streams_unknown": 1,
        "poll_interval_seconds": 15.0,
        "last_poll_timestamp_seconds": 1.0,
        "next_poll_timestamp_seconds": 16.0,
    }
    assert other == {"upstream": "other", "platform": "storm", "host": "127.0.0.1:9", "streams": 0}
    one, two = data["streams"]
    assert two == {"upstream": "edge", "stream": "live/two", "status": "unknown"}
    assert one == {
        "upstream": "edge",
        "stream": "live/one",
        "name": "One",
        "protocol": "rtmp",
        "status": "degraded",
        "live": True,
        "expected": True,
        "healthy": False,
        "health_score_ratio": 0.4,
        "health_reasons": ["verdict", "issues"],
        "health_grade": "Bad",
        "issues": ["a" * 200, "b", "c"],
        "issue_count": 4,
        "ingest_bitrate_bytes_per_second": 500_000.0,
        "expected_ingest_bitrate_bytes_per_second": 600_000.0,
        "viewers": 7,
        "frames_per_second": 29.97,
        "latency_seconds": 1.5,
    }


def test_keys_are_listed_and_documented() -> None:
    found = ["generated_at", "thresholds", "upstreams", "streams"]
    found += [f"upstreams[].{field}" for field in get_type_hints(upstream_entry)["return"].__struct_fields__]
    found += [f"streams[].{field}" for field in get_type_hints(stream_entry)["return"].__struct_fields__]
    assert sorted(f"/api/v1/streams {key}" for key in found) == KEYS.read_text().splitlines()
    text = DOCUMENT.read_text()
    assert [key for key in found if f"`{key.rpartition('.')[2]}`" not in text] == []


async def test_thresholds_in_force_are_served(served: ServedApp) -> None:
    assert (await served.get("/api/v1/streams"))["thresholds"] == {"StreamUnhealthy": 0.5, "StreamDegraded": 0.8}
    served.set_thresholds({"StreamUnhealthy": 0.7, "StreamBitrateLow": 0.9})
    assert (await served.get("/api/v1/streams"))["thresholds"] == {"StreamUnhealthy": 0.7, "StreamDegraded": 0.8}


async def test_stream_has_the_thresholds_that_differ_from_those_of_the_list(served: ServedApp) -> None:
    overrides = AlertOverrides({"StreamDegraded": 0.6, "StreamJitterHigh": 0.5}, frozenset({"StreamUnhealthy"}))
    other = AlertOverrides({"StreamJitterHigh": 0.5})
    streams = [stream_state("own", overrides=overrides), stream_state("other", overrides=other), stream_state("none")]
    served.service.store.publish(upstream_state(streams))
    own, *rest = (await served.get("/api/v1/streams"))["streams"]
    assert own["thresholds"] == {"StreamDegraded": 0.6, "StreamUnhealthy": "off"}
    assert not any("thresholds" in entry for entry in rest)
    facts = (await served.get("/api/v1/stream?upstream=edge&stream=own"))["stream"]
    assert facts["thresholds"] == own["thresholds"]
    assert facts["alert_overrides"] == {"StreamDegraded": 0.6, "StreamJitterHigh": 0.5, "StreamUnhealthy": "off"}
    assert "alert_overrides" not in stream_facts(streams[2])


async def test_outage_leaves_streams_unknown_and_none_off_air(served: ServedApp) -> None:
    served.service.store.publish(outage(since=1_726_000_000.0))
    data = await served.get("/api/v1/streams")
    edge = data["upstreams"][0]
    assert "streams_live" not in edge
    counts = ("answering", "streams", "streams_unknown", "streams_withdrawn", "streams_were_live")
    assert [edge[key] for key in counts] == [False, 20, 20, 20, 19]
    assert edge["unknown_since_timestamp_seconds"] == 1_726_000_000.0
    assert len(data["streams"]) == 20
    assert data["streams"][7] == {
        "upstream": "edge",
        "stream": "live/stream-07",
        "status": "unknown",
        "status_last_change_timestamp_seconds": 1_726_000_000.0,
        "was_live": False,
    }
    facts = (await served.get("/api/v1/stream?upstream=edge&stream=live/stream-00"))["stream"]
    assert facts == {
        "platform": "storm",
        "upstream": "edge",
        "stream": "live/stream-00",
        "status": "unknown",
        "status_last_change_timestamp_seconds": 1_726_000_000.0,
        "was_live": True,
        "configured": False,
    }


def known(name: str, *, live: bool) -> StreamState:
    return stream_state(name, status=Status.LIVE if live else Status.IDLE, live=live)


def test_known_and_unknown_streams_are_counted_apart() -> None:
    streams = (
        known("a", live=True),
        known("b", live=False),
        stream_state("never-returned", configured=True, expected=True),
        stream_state("new-word", status=Status.UNKNOWN, reported_at=1.0, status_changed_at=1.0),
        withdrawn("c", since=20.0),
        withdrawn("d", since=10.0, was_live=False),
    )
    counts = count_streams(upstream_state(streams))
    assert (counts.live, counts.unknown, counts.withdrawn, counts.were_live) == (1, 4, 2, 1)
    assert counts.unknown_since == 10.0


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"up": True, "list_complete": True}, 0),
        ({"up": True, "list_complete": False}, None),
        ({"up": False, "answering": True}, 0),
        ({"up": False, "answering": False}, None),
        ({"up": None}, None),
    ],
)
def test_number_of_live_streams_is_0_only_if_the_empty_list_is_known(
    facts: dict[str, bool | None], expected: int | None
) -> None:
    assert count_streams(upstream_state((), **facts)).live == expected


@given(st.lists(st.sampled_from([known("a", live=True), known("b", live=False), withdrawn("c", since=1.0)])))
def test_unknown_stream_never_counts_as_live_or_off_air(streams: list[StreamState]) -> None:
    counts = count_streams(upstream_state(streams))
    live, off_air = (sum(stream.live is word for stream in streams) for word in (True, False))
    if live + off_air or not streams:
        assert counts.live == live
    else:
        assert counts.live is None
    assert counts.unknown == len(streams) - live - off_air


async def test_doubtful_list_is_reported(served: ServedApp) -> None:
    served.service.store.publish(upstream_state([FULL], answering=True, list_complete=False))
    edge = (await served.get("/api/v1/streams"))["upstreams"][0]
    assert (edge["answering"], edge["list_complete"]) == (True, False)


def test_health_unreadable_is_absent_if_all_facts_are_readable() -> None:
    assert "health_unreadable" not in stream_facts(stream_state("one"))
    assert stream_facts(stream_state("one", report=StreamReport(id="a", health_unreadable=True)))["health_unreadable"]


async def test_upstream_parameter_filters_the_list(served: ServedApp) -> None:
    served.service.store.publish(upstream_state([stream_state("one")]))
    served.service.store.publish(upstream_state([stream_state("two", upstream="other")], upstream="other"))
    data = await served.get("/api/v1/streams?upstream=other")
    assert [upstream["upstream"] for upstream in data["upstreams"]] == ["other"]
    assert [stream["stream"] for stream in data["streams"]] == ["two"]
    both = await served.get("/api/v1/streams?upstream=other&upstream=edge")
    assert [stream["stream"] for stream in both["streams"]] == ["one", "two"]
    assert await served.get("/api/v1/streams?upstream=nobody", status=404) == {"error": "unknown upstream 'nobody'"}


async def test_unchanged_list_is_304(served: ServedApp) -> None:
    served.service.store.publish(upstream_state([stream_state("one")]))
    tag = await served.etag()
    for sent in (tag, tag.removeprefix("W/"), f'"x", {tag}', "*"):
        async with served.session.get("/api/v1/streams", headers={"If-None-Match": sent}) as answer:
            assert (answer.status, await answer.read()) == (304, b"")
            assert answer.headers["ETag"] == tag
            assert answer.headers["Date"]
    assert await served.etag() == tag


async def test_change_of_an_upstream_changes_only_etags_that_include_it(served: ServedApp) -> None:
    edge, other = "/api/v1/streams?upstream=edge", "/api/v1/streams?upstream=other"
    before = [await served.etag(path) for path in ("/api/v1/streams", edge, other)]
    served.service.store.publish(upstream_state([stream_state("one")]))
    after = [await served.etag(path) for path in ("/api/v1/streams", edge, other)]
    assert after[0] != before[0]
    assert after[1] != before[1]
    assert after[2] == before[2]
    served.service.store.withdraw("edge")
    assert await served.etag(edge) not in (before[1], after[1])


async def test_reload_and_restart_change_the_etag(served: ServedApp, tmp_path: Path) -> None:
    tag = await served.etag()
    served.service.settings = load_settings(served.file, {})
    changed = await served.etag()
    assert changed != tag
    (tmp_path / "again").mkdir()
    async with serve_app(tmp_path / "again") as again:
        assert await again.etag() not in (tag, changed)


async def test_list_is_compressed_if_accepted(served: ServedApp) -> None:
    served.service.store.publish(upstream_state([stream_state(f"stream-{number}") for number in range(500)]))
    sizes: dict[str, int] = {}
    for coding in ("gzip", "identity"):
        async with served.session.get("/api/v1/streams", headers={"Accept-Encoding": coding}) as answer:
            assert answer.headers.get("Content-Encoding", "identity") == coding
            assert answer.headers["Vary"] == "Accept-Encoding"
            assert len((await answer.json())["streams"]) == 500
            sizes[coding] = int(answer.headers["Content-Length"])
    assert sizes["gzip"] * 5 < sizes["identity"]


async def test_cached_list_keeps_no_state_in_memory(served: ServedApp) -> None:
    async def tag() -> str:
        async with served.session.get("/api/v1/streams") as answer:
            return answer.headers["ETag"]

    tags = [await tag()]
    for name in ("one", "two"):
        shown = upstream_state([stream_state(name)])
        kept = weakref.ref(shown)
        served.service.store.publish(shown)
        tags += [await tag(), await tag()]
        assert tags[-1] == tags[-2]
        assert tags[-1] not in tags[:-2]
        del shown
        served.service.store.withdraw("edge")
        # A worker may still be preparing it for scrapes.
        async with asyncio.timeout(60):
            while kept() is not None:  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert (await served.get("/api/v1/streams"))["streams"] == []
        tags.append(await tag())
        assert tags[-1] not in tags[:-1]


async def test_concurrent_requests_get_the_same_list(served: ServedApp) -> None:
    served.service.store.publish(upstream_state([stream_state("one")]))
    for _ in range(3):
        queries = ["", "?upstream=edge", "?upstream=other", "?upstream=edge&upstream=other"] * 3
        codings = ["gzip", "identity"]
        asked = [
            served.get(f"/api/v1/streams{query}", headers={"Accept-Encoding": coding})
            for query in queries
            for coding in codings
        ]
        counts = [len(data["streams"]) for data in await asyncio.gather(*asked)]
        assert counts == [1, 1, 1, 1, 0, 0, 1, 1] * 3


async def test_disconnected_client_does_not_cancel_the_rendering(served: ServedApp) -> None:
    served.service.store.publish(upstream_state([stream_state(f"stream-{number}") for number in range(3000)]))
    leaving = asyncio.create_task(served.get("/api/v1/streams"))
    staying = asyncio.create_task(served.get("/api/v1/streams"))
    await asyncio.sleep(0)
    leaving.cancel()
    assert len((await staying)["streams"]) == 3000


async def test_stream_has_all_known_facts(served: ServedApp) -> None:
    served.service.store.publish(upstream_state([FULL]))
    data = await served.get("/api/v1/stream?upstream=edge&stream=live%2Fone")
    facts = data["stream"]
    assert facts["issues"][0] == "a" * 300
    assert facts["health_conditions"] == {"Transcoding": False}
    assert facts["renditions"] == [{"name": "720p", "target_bitrate_bytes_per_second": 1.0}]
    assert facts["recording"] is False
    assert facts["sampled_timestamp_seconds"] == 1_726_000_000.0
    assert (facts["platform"], facts["upstream"], facts["stream"]) == ("storm", "edge", "live/one")
    assert "a-key-that-is-not-shown" not in str(data)
    assert "viewers_peak" not in facts
    assert data["history"]["ingest_bitrate_bytes_per_second"][-1] == 500_000.0
    assert len(data["history"]["health_score_ratio"]) == POINTS
    assert data["history"]["step_seconds"] == 15.0


def test_every_fact_of_the_model_is_serialized() -> None:
    everything: dict[str, Any] = dict.fromkeys(StreamReport.__struct_fields__, "a")
    known: dict[str, Any] = dict.fromkeys(set(StreamState.__struct_fields__) - {"identity", "report"}, 1)
    known["overrides"] = AlertOverrides({"StreamUnhealthy": 0.4})
    known["maintenance"] = Maintenance(until=1.0)
    shown = stream_facts(stream_state("one", report=StreamReport(**everything), **known))
    fields = {*StreamReport.__struct_fields__, *known, "platform", "upstream", "stream"}
    renamed = {"sampled_timestamp_seconds", "status_last_change_timestamp_seconds"}
    of_alerts = {"last_ingest_bitrate_bytes_per_second", "last_viewers"}
    left_out = {"id", "reported_at", "status_changed_at", "overrides"} | of_alerts
    assert shown.keys() == fields - left_out | renamed | {"thresholds", "alert_overrides"}


async def test_upstreams_and_streams_show_their_labels(served: ServedApp) -> None:
    labels = (("note", 'a "b" \ud800'), ("team", "x" * 300))
    state = stream_state("live/one")
    labelled = msgspec.structs.replace(state, identity=msgspec.structs.replace(state.identity, labels=labels))
    served.service.store.publish(upstream_state([labelled], labels=labels))
    edge, other = (await served.get("/api/v1/streams"))["upstreams"]
    assert edge["labels"] == {"note": 'a "b" \ufffd', "team": label_value("x" * 300)}
    assert "labels" not in other
    data = await served.get("/api/v1/stream?upstream=edge&stream=live%2Fone")
    assert data["stream"]["labels"] == edge["labels"]


async def test_maintenance_of_streams_and_upstreams_is_served(served: ServedApp) -> None:
    window = Maintenance(until=1_726_003_600.0, reason="encoder swap", is_manual=True)
    configured = Maintenance(until=1_726_007_200.0)
    one = stream_state("one", maintenance=window)
    served.service.store.publish(upstream_state([one, stream_state("two")], maintenance=configured))
    data = await served.get("/api/v1/streams")
    shown = {"end_timestamp_seconds": 1_726_003_600.0, "reason": "encoder swap", "manual": True}
    assert [stream.get("maintenance") for stream in data["streams"]] == [shown, None]
    assert data["upstreams"][0]["maintenance"] == {"end_timestamp_seconds": 1_726_007_200.0, "manual": False}
    facts = (await served.get("/api/v1/stream?upstream=edge&stream=one"))["stream"]
    assert facts["maintenance"] == shown
    assert "maintenance" not in (await served.get("/api/v1/stream?upstream=edge&stream=two"))["stream"]


async def test_unknown_stream_is_404(served: ServedApp) -> None:
    served.service.store.publish(upstream_state([FULL]))
    assert "error" in await served.get("/api/v1/stream?upstream=edge&stream=two", status=404)
    assert "error" in await served.get("/api/v1/stream?upstream=other&stream=live%2Fone", status=404)
    assert "error" in await served.get("/api/v1/stream?upstream=edge", status=400)


async def test_history_of_requested_streams_is_returned(served: ServedApp) -> None:
    served.service.store.publish(upstream_state([FULL, stream_state("live/two")]))
    path = "/api/v1/history?stream=edge/live%2Fone&stream=edge/live/two&stream=edge/three&stream=nonsense"
    data = await served.get(path)
    assert data["step_seconds"] == 15.0
    assert [(found["upstream"], found["stream"]) for found in data["streams"]] == [
        ("edge", "live/one"),
        ("edge", "live/two"),
    ]
    assert data["streams"][0]["health_score_ratio"][-1] == 0.4
    assert data["streams"][1]["ingest_bitrate_bytes_per_second"] == [None] * POINTS
    assert (await served.get("/api/v1/history"))["streams"] == []
    many = "&".join(["stream=a/b"] * (MAX_HISTORIES + 1))
    assert "error" in await served.get(f"/api/v1/history?{many}", status=400)


async def test_lone_surrogates_and_long_names_are_replaced(served: ServedApp) -> None:
    broken = "broken \ud800 \U0001f600"
    report = StreamReport(id="x", name=broken, issues=(broken,), health_conditions={broken: True}, renditions=())
    served.service.store.publish(
        upstream_state([stream_state("n" * 500, report=report), stream_state(broken)], last_error=broken)
    )
    data = await served.get("/api/v1/streams")
    long, other = data["streams"]
    assert long["name"] == long["issues"][0] == other["stream"] == "broken \ufffd \U0001f600"
    assert len(long["stream"]) < 257
    facts = (await served.get(f"/api/v1/stream?upstream=edge&stream={long['stream'].replace('#', '%23')}"))["stream"]
    assert facts["stream"] == long["stream"]
    assert facts["health_conditions"] == {"broken \ufffd \U0001f600": True}
    history = await served.get(f"/api/v1/history?stream=edge/{long['stream'].replace('#', '%23')}")
    assert len(history["streams"]) == 1


async def test_failing_upstream_has_advice(served: ServedApp) -> None:
    served.service.store.publish(upstream_state(up=False, last_error="status 401", last_error_reason=Reason.AUTH))
    upstream = (await served.get("/api/v1/streams"))["upstreams"][0]
    assert (upstream["last_error"], upstream["last_error_reason"]) == ("status 401", "auth")
    assert "token or password file" in upstream["advice"]


def test_every_reason_has_advice() -> None:
    assert REMEDIATION.keys() == set(Reason)
    assert all(advice.count("`") % 2 == 0 and advice[-1] in ".?" for advice in REMEDIATION.values())


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (Reason.NOT_FOUND, ("`url`", "`base_path`")),
        (Reason.TLS, ("plain HTTP on this port", "`http://`")),
        (Reason.CONNECT, ("is running", "port", "DNS", "firewall")),
    ],
)
def test_advice_names_what_to_check(reason: Reason, words: tuple[str, ...]) -> None:
    assert all(word in REMEDIATION[reason] for word in words)
