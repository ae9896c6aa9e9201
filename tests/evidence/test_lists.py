"""A list proves absence only if every page was read and its paging fields agree."""

from __future__ import annotations

from typing import Any

import pytest
import structlog.testing

from exporter.platforms.testing import RecordedResponse
from tests.evidence.evidence_harness import (
    LIVEPEER,
    LIVEPEER_KEY,
    MISSING,
    NMS,
    STORM,
    changed,
    evidence_harness,
    json_of,
    livepeer_stream,
    nms4,
    nms4_list,
    nms4_stream,
    storm,
    storm_list,
    storm_stream,
)

STREAMS = "GET /api/streams"
NO_COUNTS = {"hasNext": MISSING, "totalItems": MISSING, "totalPages": MISSING}
MANY = 50


def page(key: str, **fields: Any) -> dict[str, Any]:
    """Return a page with one stream and only these paging fields."""
    paged: dict[str, Any] = changed(
        storm_list(storm_stream(key)), {f"data/{name}": v for name, v in {**NO_COUNTS, **fields}.items()}
    )
    return paged


PAGED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "flags as text": ({"hasNext": "true"}, {"hasNext": "false"}),
    "flags as other words": ({"hasNext": "Yes"}, {"hasNext": "0"}),
    "only page and pageCount and total": (
        {"page": 1, "pageCount": 2, "total": 2}, {"page": 2, "pageCount": 2, "total": 2},
    ),
    "only pageCount": ({"pageCount": 2}, {"pageCount": 2}),
    "only total": ({"total": 2}, {"total": 2}),
    "counts as text": ({"totalPages": "2", "totalItems": "2"}, {"totalPages": "2", "totalItems": "2"}),
    "a flag that is null": ({"hasNext": None, "totalPages": 2}, {"hasNext": None, "totalPages": 2}),
    "an unreadable flag beside counts": ({"hasNext": "maybe", "totalItems": 2}, {"hasNext": "maybe", "totalItems": 2}),
    "an unreadable count beside a flag": ({"hasNext": True, "totalItems": "x"}, {"hasNext": False, "totalPages": -1}),
}  # fmt: skip


@pytest.mark.parametrize("fields", PAGED)
async def test_second_page_is_read_with_any_paging_fields(fields: str) -> None:
    first, second = PAGED[fields]
    responses = {STREAMS: [page("k1", **first), page("k2", **second)] * MANY}
    async with evidence_harness(STORM, responses) as harness:
        served = await harness.poll(5)
        assert served.live_streams() == {"a/k1", "a/k2"}
        assert served.upstream("list_complete") == 1


DOUBTFUL: dict[str, dict[str, Any]] = {
    "no paging field": {},
    "an unreadable flag": {"hasNext": "maybe"},
    "a flag that is a number": {"hasNext": 1},
    "unreadable counts": {"totalItems": "all", "totalPages": -1},
    "no next page, but more pages": {"hasNext": False, "totalPages": 2},
    "no next page, but more rows": {"hasNext": False, "totalItems": 2},
}


@pytest.mark.parametrize("fields", DOUBTFUL)
async def test_doubtful_list_ends_no_stream(fields: str) -> None:
    """A missing stream becomes unknown after ``stale_after``, and ends with the next complete list."""
    both = storm(storm_stream("k1"), storm_stream("k2"))
    async with evidence_harness(STORM, both, interval="15s", stale_after="60s") as harness:
        assert (await harness.poll()).upstream("list_complete") == 1
        harness.responses[STREAMS] = page("k1", **DOUBTFUL[fields])
        with structlog.testing.capture_logs() as logs:
            statuses = []
            for _ in range(8):
                served = await harness.poll()
                statuses.append(served.status("a/k2"))
                assert (served.upstream("up"), served.upstream("list_complete")) == (1, 0)
                assert served.status("a/k1") == "live"
        assert statuses == ["live"] * 3 + ["unknown"] * 5
        (doubt,) = [entry for entry in logs if "may be incomplete" in entry["event"]]
        assert doubt["log_level"] == "warning"
        harness.responses.update(storm(storm_stream("k1")))
        served = await harness.poll()
        assert (served.status("a/k2"), served.upstream("list_complete")) == ("ended", 1)
        assert harness.pages() == set()


async def test_doubtful_list_requests_configured_streams_individually() -> None:
    streams = [{"application": "live", "key": key, "expected": True} for key in ("n1", "n2", "n3")]
    responses = {
        **nms4(nms4_stream("n1")),
        "GET /api/v1/streams": nms4_list(nms4_stream("n1"), total=3),
        "GET /api/v1/streams/live/n2": {"data": nms4_stream("n2")},
        "GET /api/v1/streams/live/n3": RecordedResponse(b'{"success": false, "message": "Stream not found"}', 404),
    }
    async with evidence_harness(NMS, responses, streams=streams) as harness:
        served = await harness.poll(2)
    assert {label: served.status(label) for label in served.streams()} == {
        "live/n1": "live", "live/n2": "live", "live/n3": "idle",
    }  # fmt: skip
    assert served.upstream("list_complete") == 0


@pytest.mark.parametrize("total", [5, 0])
async def test_list_whose_total_contradicts_the_rows_is_doubtful(total: int) -> None:
    async with evidence_harness(NMS, nms4(nms4_stream("n1"), nms4_stream("n2"))) as harness:
        await harness.poll()
        harness.responses["GET /api/v1/streams"] = nms4_list(nms4_stream("n1"), total=total)
        served = await harness.poll(2)
    assert served.status("live/n2") == "live"
    assert served.upstream("list_complete") == 0


async def test_list_truncated_at_max_streams_is_doubtful() -> None:
    rows = [storm_stream(key) for key in ("k1", "k2", "k3")]
    async with evidence_harness(STORM, storm(*rows), max_streams=2) as harness:
        served = await harness.poll()
    assert served.upstream("list_complete") == 0
    assert served.upstream("streams_dropped") == 1


async def test_absence_from_a_shifting_list_counts_after_two_polls() -> None:
    def pages(*keys: str) -> list[Any]:
        return [page(keys[0], hasNext=True)] + [page(key, hasNext=key != keys[-1]) for key in keys[1:]]

    sequence = pages("k1", "k2", "k3") + 3 * pages("k1", "k3")
    async with evidence_harness(STORM, {STREAMS: sequence}) as harness:
        statuses = [(await harness.poll()).status("a/k2") for _ in range(4)]
    assert statuses == ["live", "live", "ended", "ended"]


async def test_polls_in_quick_succession_do_not_prove_absence() -> None:
    def pages(*keys: str) -> list[Any]:
        return [page(keys[0], hasNext=True), page(keys[1], hasNext=False)]

    sequence = pages("k1", "k2") + MANY * pages("k1", "k3")
    async with evidence_harness(STORM, {STREAMS: sequence}) as harness:
        await harness.poll()
        for _ in range(5):
            assert (await harness.poll(after=1.0)).status("a/k2") == "live"


@pytest.mark.parametrize("has_link", [True, False])
async def test_livepeer_link_header_is_followed(*, has_link: bool) -> None:
    link = {"Link": '</stream?cursor=two>; rel="next"'} if has_link else {}
    first = RecordedResponse(json_of([livepeer_stream("s1")]).body, headers=link)
    responses = {
        "GET /stream": [first, json_of([livepeer_stream("s2")])] if has_link else first,
        "GET /data/views/now": json_of([]),
    }
    async with evidence_harness(LIVEPEER, responses, **LIVEPEER_KEY) as harness:
        served = await harness.poll()
    assert served.live_streams() == ({"s1", "s2"} if has_link else {"s1"})
    assert served.upstream("list_complete") == 1
