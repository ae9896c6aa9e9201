"""nginx_rtmp: statistics pages in, exposition text out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.platforms.nginx_rtmp import PLATFORM
from exporter.platforms.testing import RecordedResponse, Recording, expose
from tests.platforms.test_golden_texts import golden_file

FOLDER = Path(__file__).parent / "responses" / "nginx_rtmp"
CAM1 = 'platform="nginx_rtmp",upstream="test",stream="live/cam1"'
PUBLISHER = "<client><id>7</id><time>20000</time><timestamp>19800</timestamp><publishing/><active/></client>"
PLAYER = "<client><id>8</id><address>192.0.2.1</address><time>9000</time><flashver>LNX 9,0,124,2</flashver></client>"
RELAY = "<client><id>9</id><address>192.0.2.2</address><time>9000</time><flashver>ngx-local-relay</flashver></client>"


def stream(
    name: str = "cam1", *, clients: str = PUBLISHER, bytes_in: int | str = 1000, more: str = "<publishing/>"
) -> str:
    count = clients.count("<client>")
    return (
        f"<stream><name>{name}</name><time>30000</time><bw_in>99999</bw_in><bytes_in>{bytes_in}</bytes_in>"
        f"<bytes_out>0</bytes_out>{clients}<nclients>{count}</nclients>{more}</stream>"
    )


def page(*streams: str, pid: int = 1, uptime: int = 100, bw_in: int = 0, more: str = "") -> RecordedResponse:
    body = (
        f"<rtmp><nginx_rtmp_version>1.1.4</nginx_rtmp_version><pid>{pid}</pid><uptime>{uptime}</uptime>"
        f"<bw_in>{bw_in}</bw_in><server><application><name>live</name><live>{''.join(streams)}</live></application>"
        f"{more}</server></rtmp>"
    )
    return RecordedResponse(body.encode(), content_type="text/xml")


def text_of(*pages: Any, seconds: float = 15.0, settings: dict[str, Any] | None = None) -> str:
    """Return the text after polling each page once."""
    path = (settings or {}).get("stat_path", "/stat")
    recording = Recording({f"GET {path}": list(pages)}, settings or {})
    return expose(PLATFORM, recording, polls=len(pages), seconds=seconds)


def value(text: str, family: str, labels: str = CAM1) -> float | None:
    found = re.search(rf"^{family}\{{{re.escape(labels)}\}} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else None


def status(text: str, name: str = "cam1") -> str:
    found = re.search(rf'^stream_status\{{.*stream="live/{name}",status="(\w+)"\}} 1$', text, re.MULTILINE)
    assert found, text
    return found[1]


# -- status ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (stream(), "live"),
        (stream(clients="", more="<publishing/>"), "live"),
        (stream(clients=PUBLISHER, more=""), "live"),
        (stream(clients=PLAYER, more=""), "idle"),
        (stream(clients=PLAYER, more="<active/>"), "idle"),
    ],
)
def test_stream_is_live_if_it_or_a_client_publishes(row: str, expected: str) -> None:
    assert status(text_of(page(row))) == expected


@pytest.mark.parametrize("mark", ['"maybe"', "7", "[]"])
def test_stream_with_an_unreadable_mark_is_unknown(mark: str) -> None:
    row = f'{{"name": "cam1", "publishing": {mark}, "clients": [], "nclients": 0}}'
    body = f'{{"http-flv": {{"servers": [{{"applications": [{{"name": "live", "live": {{"streams": [{row}]}}}}]}}]}}}}'
    text = text_of(RecordedResponse(body.encode()))
    assert status(text) == "unknown"
    assert value(text, "stream_live") is None


def test_stream_that_leaves_the_list_has_ended() -> None:
    assert status(text_of(page(stream()), page(uptime=115))) == "ended"


def test_streams_with_the_same_name_in_two_applications_are_two_streams() -> None:
    other = f"<application><name>backup</name><live>{stream()}</live></application>"
    text = text_of(page(stream(), more=other))
    assert value(text, "stream_live") == 1
    assert value(text, "stream_live", CAM1.replace("live/cam1", "backup/cam1")) == 1


def test_publisher_with_a_new_connection_is_a_restart() -> None:
    newer = PUBLISHER.replace("<id>7</id><time>20000", "<id>12</id><time>4000")
    text = text_of(page(stream()), page(stream(clients=newer)))
    assert value(text, "stream_restarts_total") == 1


def test_restart_of_the_server_is_a_restart_even_with_the_same_connection_number() -> None:
    young = PUBLISHER.replace("<time>20000", "<time>4000")
    text = text_of(page(stream(bytes_in=10**9)), page(stream(clients=young), pid=2, uptime=5))
    assert value(text, "stream_restarts_total") == 1
    assert value(text, "stream_upstream_list_complete", 'platform="nginx_rtmp",upstream="test"') == 1


def test_copy_of_an_old_page_is_no_restart() -> None:
    """A cache may serve the same page again; the publisher's age stands still then."""
    assert value(text_of(page(stream()), page(stream())), "stream_restarts_total") == 0


def test_start_does_not_move_with_rounding() -> None:
    later = PUBLISHER.replace("<time>20000", "<time>35900")
    first, second = text_of(page(stream())), text_of(page(stream()), page(stream(clients=later)))
    family = "stream_start_timestamp_seconds"
    assert value(first, family) == value(second, family) is not None


# -- figures -----------------------------------------------------------------------------------------------------------


def test_bitrate_is_measured_from_the_total() -> None:
    pages = [page(stream(bytes_in=total)) for total in (0, 150_000, 300_000)]
    assert value(text_of(*pages), "stream_ingest_bitrate_bytes_per_second") == 10_000
    assert value(text_of(pages[0]), "stream_ingest_bitrate_bytes_per_second") is None


def test_total_that_stands_still_is_a_stall() -> None:
    pages = [page(stream(bytes_in=total)) for total in (0, 150_000, *[300_000] * 5)]
    text = text_of(*pages)
    assert status(text) == "live"
    assert value(text, "stream_ingest_bitrate_bytes_per_second") == 0


@pytest.mark.parametrize(
    ("age", "timestamp", "lag"),
    [
        (20_000, 19_800, 0.2),
        (20_000, 20_300, -0.3),
        (80_000, 20_000, 60.0),
        (20_000, 900_000, None),
        # the media clock wraps after 2**32 ms, and is shown as a signed number
        (2**31 + 5000, -(2**31) + 4000, 1.0),
        (2**32 + 5000, 4000, 1.0),
    ],
)
def test_ingest_lag_compares_media_clock_and_age(age: int, timestamp: int, lag: float | None) -> None:
    client = f"<client><id>7</id><time>{age}</time><timestamp>{timestamp}</timestamp><publishing/></client>"
    found = value(text_of(page(stream(clients=client))), "stream_ingest_lag_seconds")
    assert found == (None if lag is None else pytest.approx(lag))


@pytest.mark.parametrize(
    ("clients", "viewers", "system", "partial"),
    [
        (PUBLISHER + PLAYER + PLAYER, 2, 0, None),
        (PUBLISHER + PLAYER + RELAY, 1, 1, None),
        (PUBLISHER + RELAY.replace("192.0.2.2", "unix:/tmp/nginx-rtmp.1") + PLAYER, 1, 1, 1),
        (PUBLISHER.replace("<time>", "<pageurl>nginx-auto-push</pageurl><time>") + PLAYER, 1, 0, 1),
        (PUBLISHER.replace("<time>", "<flashver>APSH 1,7</flashver><time>") + PLAYER, 1, 0, 1),
        (PUBLISHER + PLAYER.replace("<time>", "<recording/><time>"), 0, 1, None),
    ],
)
def test_viewers_are_players_that_are_no_relays_or_recorders(
    clients: str, viewers: int, system: int, partial: int | None
) -> None:
    text = text_of(page(stream(clients=clients)))
    assert value(text, "stream_viewers") == viewers
    assert value(text, "stream_system_clients") == system
    assert value(text, "stream_viewers_partial") == partial


def test_viewers_are_unknown_if_the_page_lists_no_clients() -> None:
    row = stream(clients="").replace("<nclients>0", "<nclients>3")
    text = text_of(page(row))
    assert value(text, "stream_live") == 1
    assert value(text, "stream_viewers") is None


def test_oldest_publisher_that_sends_media_is_served() -> None:
    relay = RELAY.replace("</client>", "<publishing/><active/></client>")
    waiting = PUBLISHER.replace("<id>7</id><time>20000", "<id>3</id><time>90000").replace("<active/>", "")
    text = text_of(page(stream(clients=relay + waiting + PUBLISHER)))
    assert 'session="7"' in text


@pytest.mark.parametrize("tree", ["further/http-flv-1.2.4-built.yaml", "http-flv-1.2.11-built.yaml"])
def test_all_trees_of_json_yield_the_same_text(tree: str) -> None:
    texts = [golden_file(FOLDER / name).read_text() for name in ("further/http-flv-1.2.3-built.yaml", tree)]
    assert texts[0] == texts[1]


# -- worker processes --------------------------------------------------------------------------------------------------

LIST_COMPLETE = "stream_upstream_list_complete"
UPSTREAM = 'platform="nginx_rtmp",upstream="test"'


def test_answer_of_another_worker_ends_no_stream() -> None:
    text = text_of(page(stream()), page(pid=2, uptime=115))
    assert value(text, LIST_COMPLETE, UPSTREAM) == 0
    assert status(text) == "live"


def test_player_that_waits_in_another_worker_does_not_take_the_stream_off_air() -> None:
    text = text_of(page(stream()), page(stream(clients=PLAYER, more=""), pid=2, uptime=115))
    assert status(text) == "live"


def test_stream_is_unknown_after_a_while_if_only_another_worker_answers() -> None:
    text = text_of(page(stream()), *[page(pid=2, uptime=115 + 15 * i) for i in range(4)])
    assert status(text) == "unknown"


def test_totals_of_different_workers_yield_no_bitrate() -> None:
    pages = [page(stream(bytes_in=10**8 * (i % 2) + i), pid=1 + i % 2, uptime=100 + 15 * i) for i in range(6)]
    text = text_of(*pages)
    assert value(text, "stream_ingest_bitrate_bytes_per_second") is None
    assert value(text, "stream_viewers_partial") == 1


def test_worker_that_keeps_answering_yields_a_bitrate_again() -> None:
    pages = [page(stream(bytes_in=150_000 * i), pid=2 if i else 1, uptime=100 + 15 * i) for i in range(5)]
    assert value(text_of(*pages), "stream_ingest_bitrate_bytes_per_second") == 10_000


def test_list_is_complete_again_after_a_restart() -> None:
    text = text_of(page(stream()), page(pid=2, uptime=115), page(pid=3, uptime=5))
    assert value(text, LIST_COMPLETE, UPSTREAM) == 1
    assert status(text) == "ended"


def test_traffic_without_any_stream_makes_the_list_doubtful() -> None:
    assert value(text_of(page(bw_in=900_000)), LIST_COMPLETE, UPSTREAM) == 0
    assert value(text_of(page()), LIST_COMPLETE, UPSTREAM) == 1


def test_rate_that_outlives_a_stream_proves_nothing() -> None:
    """``bw_in`` shows a stream's traffic for 22 s after its end."""
    text = text_of(page(stream(), bw_in=900_000), page(bw_in=900_000, uptime=115))
    assert value(text, LIST_COMPLETE, UPSTREAM) == 1
    assert status(text) == "ended"


def test_players_of_files_explain_traffic() -> None:
    files = "<application><name>vod</name><play><nclients>2</nclients></play></application>"
    assert value(text_of(page(bw_in=500, more=files)), LIST_COMPLETE, UPSTREAM) == 1


# -- documents ---------------------------------------------------------------------------------------------------------


def test_path_of_the_page_is_configurable() -> None:
    text = text_of(page(stream()), settings={"stat_path": "/rtmp/statistics"})
    assert value(text, "stream_live") == 1
    assert 'request="GET /rtmp/statistics"' in text


@pytest.mark.parametrize(
    "body",
    [
        b"<html><body>Welcome to nginx!</body></html>",
        b"<rtmp></rtmp>",
        b"<rtmp><server>",
        b'{"rtmp": {}}',
        b'{"rtmp": {"servers": 5}}',
        b"[]",
        b"",
    ],
)
def test_other_documents_are_a_failed_poll(body: bytes) -> None:
    text = text_of(RecordedResponse(body, content_type="text/html"))
    assert value(text, "stream_upstream_up", UPSTREAM) == 0
    assert 'reason="bad_response"' in text


@pytest.mark.parametrize("live", ["5", '"x"', "[]", "{}", '{"streams": null}', '{"streams": 5}', '{"streams": [5]}'])
def test_unreadable_list_of_one_application_ends_no_stream(live: str) -> None:
    rows = '{"name": "b", "live": {"streams": [{"name": "cam1", "publishing": true}]}}'
    good = '{"name": "live", "live": {"streams": [{"name": "cam1", "publishing": true}]}}'
    before, after = (
        RecordedResponse(f'{{"rtmp": {{"servers": [[{rows}, {app}]]}}}}'.encode())
        for app in (good, f'{{"name": "live", "live": {live}}}')
    )
    assert status(text_of(before, after)) == "live"


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_names_with_any_characters_keep_streams_apart(first: str, second: str) -> None:
    rows = [{"name": name, "publishing": True} for name in (first, second)]
    tree = {"rtmp": {"servers": [[{"name": "live", "live": {"streams": rows}}]]}}
    text = text_of(RecordedResponse.of(tree))
    assert len(re.findall(r"^stream_live\{", text, re.MULTILINE)) == (1 if first == second else 2)
