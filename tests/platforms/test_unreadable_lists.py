"""A list with unreadable rows is not an empty list: no stream ends."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from functools import partial

import pytest

from exporter.model import Reason, UpstreamState
from exporter.platforms.testing import PolledUpstream
from tests.faults.fuzzed_upstream import fuzzed
from tests.platforms.recordings import STREAMS, PlatformRecording, all_recordings
from tests.platforms.row_documents import Document, Row

LISTS = [recording.three_streams() for recording in all_recordings() if recording.has_list]
BODIES_WITHOUT_LIST = [
    pytest.param(recording, request, body, id=f"{recording} {body.decode()}")
    for recording in LISTS
    for request, path in recording.rows.rows.items()
    for body in recording.document(request).without_list(path)
]


def live(state: UpstreamState) -> set[str]:
    return {stream.identity.stream for stream in state.streams if stream.live}


def dropped(upstream: PolledUpstream) -> float:
    """Return the number of fields dropped so far."""
    counted = re.findall(r"^stream_upstream_fields_dropped_total\{.*\} (\S+)$", upstream.text(), re.MULTILINE)
    return sum(map(float, counted))


def changed_lists(recording: PlatformRecording, change: Callable[[Document, Row], list[Row]]) -> dict[str, bytes]:
    """Return the bodies of the lists with changed rows."""
    bodies = {}
    for request, path in recording.rows.rows.items():
        document = recording.document(request)
        document.change_rows(path, partial(change, document))
        document.count_rows(path, recording.rows.count)
        bodies[request] = document.body()
    return bodies


@pytest.mark.parametrize("recording", LISTS, ids=str)
async def test_list_without_a_readable_row_is_a_bad_response_and_ends_no_stream(recording: PlatformRecording) -> None:
    async with fuzzed(recording) as (upstream, responses):
        before = await upstream.poll()
        responses.spoil(changed_lists(recording, lambda document, row: [document.renamed(row)]))
        after = await upstream.poll(after=1.0)
    assert (after.up, after.last_error_reason) == (False, Reason.BAD_RESPONSE)
    assert len(live(before)) >= STREAMS
    assert live(after) == live(before)


@pytest.mark.parametrize("recording", LISTS, ids=str)
async def test_one_unreadable_row_is_counted_and_its_stream_becomes_unknown(recording: PlatformRecording) -> None:
    unreadable = recording.without_first()
    bodies = {request: unreadable.response(request).body for request in recording.rows.rows}
    async with fuzzed(recording) as (upstream, responses):
        before, dropped_before = await upstream.poll(), dropped(upstream)
        responses.spoil(bodies)
        once = await upstream.poll(after=1.0)
        assert dropped(upstream) == dropped_before + 1
        assert once.list_complete is False
        for _ in range(6):
            later = await upstream.poll(after=upstream.settings.stale_after / 5)
    assert once.up
    assert later.up
    configured = {stream.identity.stream for stream in before.streams if stream.configured} & live(before)
    assert live(once) | configured == live(before), "the missing stream may be the one in the unreadable row"
    missing = live(before) - await asyncio.to_thread(unreadable.live_labels)
    found = [stream for stream in later.streams if stream.identity.stream in missing]
    assert len(found) == len(missing)
    # a configured stream may have been requested individually
    assert all(stream.is_withdrawn for stream in found if not stream.configured)
    assert later.list_complete is True, "a permanently unreadable row does not affect other streams"


@pytest.mark.parametrize("recording", LISTS, ids=str)
async def test_empty_list_ends_all_streams(recording: PlatformRecording) -> None:
    async with fuzzed(recording) as (upstream, responses):
        listed, dropped_before = live(await upstream.poll()), dropped(upstream)
        responses.spoil(changed_lists(recording, lambda document, row: []))
        empty = await upstream.poll(after=1.0)
        assert dropped(upstream) == dropped_before
    assert empty.up
    assert len(listed - live(empty)) >= STREAMS


@pytest.mark.parametrize(("recording", "request_", "body"), BODIES_WITHOUT_LIST)
async def test_response_without_a_list_is_a_bad_response(
    recording: PlatformRecording, request_: str, body: bytes
) -> None:
    async with fuzzed(recording) as (upstream, responses):
        responses.spoil({request_: body})
        state = await upstream.poll()
    assert (state.up, state.last_error_reason) == (False, Reason.BAD_RESPONSE)
