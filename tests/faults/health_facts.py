"""Find which values of a platform's responses affect stream health, by making each of them unreadable."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from xml.etree import ElementTree

from exporter.model import StreamState
from exporter.platforms.testing import FakeClock, PolledUpstream, serve_responses
from tests.faults.fuzzed_upstream import SpoiltResponses
from tests.platforms.recordings import MAIN, PlatformRecording, all_recordings, recording_of

HEALTH_FIELDS = (
    "health_score_ratio",
    "healthy",
    "issues",
    "packet_loss_ratio",
    "frames_per_second",
    "ingest_bitrate_bytes_per_second",
)
"""The fields of ``StreamReport`` that a score is computed from and that a poll provides."""
UNREADABLE: Mapping[str, Any] = {"of another type": {"un": "readable"}, "a word": "limbo", "out of range": -1e9}
"""Replacements for a value."""

Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Value:
    """A value in a platform's response."""

    request: str
    place: Place
    type: str


@dataclass(frozen=True)
class Spoilt:
    """The effect of one unreadable value on a stream."""

    request: str
    place: Place
    how: str
    lost: frozenset[str]
    """The health facts that were lost."""
    before: StreamState
    after: StreamState

    def __str__(self) -> str:
        return f"{self.request} {'/'.join(map(str, self.place))} ({self.how})"


@cache
def spoilt_facts(platform: str, recording: str = MAIN) -> tuple[Spoilt, ...]:
    """Make one value after another unreadable; return those that cost a stream a health fact.

    Values that an earlier recording of the platform has in the same place are left out.
    """
    chosen = recording_of(platform, recording)
    return tuple(asyncio.run(_spoil_all(chosen, _new_values(chosen))))


def health_paths(recording: PlatformRecording) -> tuple[str, ...]:
    """Return the paths, within a row, of the values that a live stream's score depends on, or of a reported score."""
    found = []
    is_reported = recording.platform.health_score == "reported"
    for request, path in recording.rows.rows.items():
        prefix = _first_row(recording, request, path)
        for spoilt in spoilt_facts(recording.platform.name, recording.name):
            inside = spoilt.place[len(prefix) :]
            is_in_row = spoilt.request == request and spoilt.place[: len(prefix)] == prefix and inside
            if is_in_row and (not is_reported or "health_score_ratio" in spoilt.lost):
                found.append("/".join(map(str, inside)))
    return tuple(dict.fromkeys(found))


def _first_row(recording: PlatformRecording, request: str, path: str) -> Place:
    """Return the place of the first row in a response."""
    response = recording.response(request)
    names = () if path == "." else tuple(path.split("/"))
    if response.content_type == "text/xml":
        return names[1:]
    data: Any = json.loads(response.body)
    place: Place = ()
    for name in (*names, None):
        if isinstance(data, list):
            data, place = data[0], (*place, 0)
        if name is not None:
            data, place = data[name], (*place, name)
    return place


def health_fields(recording: PlatformRecording) -> tuple[str, ...]:
    """Return the fields that this platform's score is computed from."""
    rates = recording.platform.rates
    totals = [rate.total for rate in rates if rate.is_derived and rate.rate == "ingest_bitrate_bytes_per_second"]
    return (*HEALTH_FIELDS, *totals)


async def _spoil_all(recording: PlatformRecording, values: Sequence[Value]) -> list[Spoilt]:
    found = []
    responses = SpoiltResponses(recording)
    async with serve_responses(responses, FakeClock(recording.recording.recorded_at)) as url:
        before = await _poll(recording, url)
        for value in values:
            for how, unreadable in UNREADABLE.items():
                responses.spoil({value.request: _spoil(recording, value, unreadable)})
                after = await _poll(recording, url)
                for id_, state in after.items():
                    lost = _lost(recording, before[id_], state) if id_ in before else frozenset()
                    if lost:
                        found.append(Spoilt(value.request, value.place, how, lost, before[id_], state))
    return found


def _new_values(recording: PlatformRecording) -> list[Value]:
    """Return the values that no earlier recording of the platform has for live streams with the same health facts."""
    of_platform = [other for other in all_recordings() if other.platform is recording.platform]
    of_platform.sort(key=lambda other: other.name != MAIN)
    earlier = of_platform[: of_platform.index(recording)]
    done = {(value, facts) for other in earlier for facts in _live_facts(other) for value in _values(other)}
    facts_of_streams = _live_facts(recording)
    return [value for value in _values(recording) if any((value, facts) not in done for facts in facts_of_streams)]


def _live_facts(recording: PlatformRecording) -> frozenset[frozenset[str]]:
    """Return the health facts of each live stream after the first poll."""
    return _live_facts_by_name(recording.platform.name, recording.name)


@cache
def _live_facts_by_name(platform: str, name: str) -> frozenset[frozenset[str]]:
    recording = recording_of(platform, name)

    async def poll() -> dict[str, StreamState]:
        clock = FakeClock(recording.recording.recorded_at)
        async with serve_responses(SpoiltResponses(recording), clock) as url:
            return await _poll(recording, url)

    streams = asyncio.run(poll()).values()
    return frozenset(_health_facts(recording, stream) for stream in streams if stream.live)


def _health_facts(recording: PlatformRecording, stream: StreamState) -> frozenset[str]:
    return frozenset(name for name in health_fields(recording) if getattr(stream.report, name) is not None)


def _lost(recording: PlatformRecording, before: StreamState, after: StreamState) -> frozenset[str]:
    if not before.live or not after.live:
        return frozenset()
    return _health_facts(recording, before) - _health_facts(recording, after)


async def _poll(recording: PlatformRecording, url: str) -> dict[str, StreamState]:
    """Return the streams, by id, after an exporter's first poll; none if the poll failed."""
    settings = {**recording.recording.settings, "health_grace": 0}
    clock = FakeClock(recording.recording.recorded_at, auto_advance=True)
    polled = dataclasses.replace(recording.recording, settings=settings)
    upstream = PolledUpstream(recording.platform, polled, url, clock, per_stream=False)
    try:
        state = await upstream.poll()
    finally:
        await upstream.close()
    return {stream.report.id: stream for stream in state.streams} if state.up else {}


def _values(recording: PlatformRecording) -> Iterator[Value]:
    """Yield all values of a recording's responses; none twice of responses that look alike."""
    seen: set[bytes] = set()
    for request in recording.recording.responses:
        response = recording.response(request)
        if response.content_type == "application/json" and response.body:
            values = _json_values(request, json.loads(response.body))
        elif response.content_type == "text/xml":
            values = _xml_values(request, ElementTree.fromstring(response.body))
        else:
            continue
        # streams with their own responses look alike
        shape = re.sub(rb'"[^"]*Id": "[^"]*"', b"", response.body)
        if shape not in seen:
            seen.add(shape)
            yield from values


def _json_values(request: str, data: Any) -> Iterator[Value]:
    for place in _places(data):
        value = data
        for name in place:
            value = value[name]
        if value is not None:
            yield Value(request, place, type(value).__name__)


def _places(value: Any, *, is_record: bool = True) -> Iterator[Place]:
    """Yield the places of all values; in a list, only those of the first item.

    An object inside an object (``is_record``: not in a list) is skipped, because an API may have a different one there.
    """
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, inner in items:
        if is_record or not isinstance(inner, dict):
            yield (key,)
        yield from ((key, *place) for place in _places(inner, is_record=isinstance(value, list)))


def _xml_values(request: str, root: ElementTree.Element) -> Iterator[Value]:
    for place in dict.fromkeys(_xml_places(root)):
        element = root.find("/".join(map(str, place)))
        if element is not None and (element.text or "").strip():
            yield Value(request, place, "text")


def _xml_places(element: ElementTree.Element) -> Iterator[Place]:
    for child in element:
        yield (child.tag,)
        yield from ((child.tag, *place) for place in _xml_places(child))


def _spoil(recording: PlatformRecording, value: Value, unreadable: Any) -> bytes:
    """Return the response with the value replaced."""
    response = recording.response(value.request)
    if value.type == "text":
        return _spoil_xml(response.body, value.place, unreadable)
    data = json.loads(response.body)
    holder = data
    for name in value.place[:-1]:
        holder = holder[name]
    holder[value.place[-1]] = unreadable
    return json.dumps(data).encode()


def _spoil_xml(body: bytes, place: Place, unreadable: Any) -> bytes:
    root = ElementTree.fromstring(body)
    element = root.find("/".join(map(str, place)))
    assert element is not None
    if isinstance(unreadable, dict):
        element.text = None
        ElementTree.SubElement(element, "un").text = "readable"
    else:
        element.text = str(unreadable)
    return ElementTree.tostring(root)
