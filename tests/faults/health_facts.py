"""Find which values of a platform's responses affect stream health, by making each of them unreadable."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from xml.etree import ElementTree

from exporter.model import StreamState
from exporter.platforms.testing import FakeClock, PolledUpstream, serve_responses
from tests.faults.fuzzed_upstream import SpoiltResponses
from tests.platforms.recordings import MAIN, PlatformRecording, recording_of

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
    """Make one value after another unreadable; return those that cost a stream a health fact."""
    return tuple(asyncio.run(_spoil_all(recording_of(platform, recording))))


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


async def _spoil_all(recording: PlatformRecording) -> list[Spoilt]:
    found = []
    responses = SpoiltResponses(recording)
    async with serve_responses(responses, FakeClock(recording.recording.recorded_at)) as url:
        before = await _poll(recording, url)
        for request, place, how, body in _spoilt_bodies(recording):
            responses.spoil({request: body})
            after = await _poll(recording, url)
            for id_, state in after.items():
                lost = _lost(recording, before[id_], state) if id_ in before else frozenset()
                if lost:
                    found.append(Spoilt(request, place, how, lost, before[id_], state))
    return found


def _lost(recording: PlatformRecording, before: StreamState, after: StreamState) -> frozenset[str]:
    if not before.live or not after.live:
        return frozenset()
    fields = health_fields(recording)
    had = {field for field in fields if getattr(before.report, field) is not None}
    return frozenset(field for field in had if getattr(after.report, field) is None)


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


def _spoilt_bodies(recording: PlatformRecording) -> Iterator[tuple[str, Place, str, bytes]]:
    seen: set[bytes] = set()
    for request in recording.recording.responses:
        response = recording.response(request)
        if response.content_type == "application/json" and response.body:
            bodies = _spoilt_json(json.loads(response.body))
        elif response.content_type == "text/xml":
            bodies = _spoilt_xml(response.body)
        else:
            continue
        # streams with their own responses look alike
        shape = re.sub(rb'"[^"]*Id": "[^"]*"', b"", response.body)
        if shape not in seen:
            seen.add(shape)
            yield from ((request, *spoilt) for spoilt in bodies)


def _spoilt_json(data: Any) -> Iterator[tuple[Place, str, bytes]]:
    for place in _places(data):
        for how, value in UNREADABLE.items():
            changed = copy.deepcopy(data)
            holder = changed
            for name in place[:-1]:
                holder = holder[name]
            if holder[place[-1]] is not None:
                holder[place[-1]] = value
                yield place, how, json.dumps(changed).encode()


def _places(value: Any, *, is_record: bool = True) -> Iterator[Place]:
    """Yield the places of all values; in a list, only those of the first item.

    An object inside an object (``is_record``: not in a list) is skipped, because an API may have a different one there.
    """
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, inner in items:
        if is_record or not isinstance(inner, dict):
            yield (key,)
        yield from ((key, *place) for place in _places(inner, is_record=isinstance(value, list)))


def _spoilt_xml(body: bytes) -> Iterator[tuple[Place, str, bytes]]:
    root = ElementTree.fromstring(body)
    for place in dict.fromkeys(_xml_places(root)):
        for how, value in UNREADABLE.items():
            changed = copy.deepcopy(root)
            element = changed.find("/".join(map(str, place)))
            if element is None or not (element.text or "").strip():
                continue
            if isinstance(value, dict):
                element.text = None
                ElementTree.SubElement(element, "un").text = "readable"
            else:
                element.text = str(value)
            yield place, how, ElementTree.tostring(changed)


def _xml_places(element: ElementTree.Element) -> Iterator[Place]:
    for child in element:
        yield (child.tag,)
        yield from ((child.tag, *place) for place in _xml_places(child))
