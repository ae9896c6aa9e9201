"""Streams asked for by application and key: one by one, or many in one batch.

Source: Storm Streaming Server 3.x, RESTful API, pages Stream and Stream List (Batch).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

from exporter.config.streams import ApplicationStream
from exporter.http.client import Requests
from exporter.http.errors import UpstreamError
from exporter.http.manual_request import ManualRequest
from exporter.model import Reason
from exporter.platforms.capabilities import InvalidCommandError, SessionAction, SessionCommand, SessionCommands
from exporter.platforms.parsing import DropCounter
from exporter.platforms.storm.envelope import NOT_OFFERED, data_of
from exporter.platforms.storm.storm_streams import FoundStream, missing_stream, read_stream

STREAM = "GET /streams/{app}/{key}"
BATCH = "POST /streams/batch"
BATCH_FROM = 2
BATCH_SIZE = 100

Answers = dict[str, FoundStream | UpstreamError]
"""What became of each stream that was asked for, by its id."""


class DirectReader:
    """Asks in batches until the server turns out not to have them; this is remembered for the process."""

    def __init__(self) -> None:
        self._has_batch = True

    async def ask(self, requests: Requests, streams: Sequence[ApplicationStream], drops: DropCounter) -> Answers:
        """Every stream of ``streams``, with what Storm said or why it did not; a 404 is a stream that is idle."""
        answers: Answers = {}
        if self._has_batch and len(streams) >= BATCH_FROM:
            answers = await self._ask_batches(requests, streams, drops)
        left = [stream for stream in streams if stream.id not in answers]

        def one(stream: ApplicationStream) -> Awaitable[FoundStream]:
            return _ask_one(requests, stream, drops)

        answers.update((stream.id, result) for stream, result in await requests.map(one, left))
        return answers

    async def _ask_batches(
        self, requests: Requests, streams: Sequence[ApplicationStream], drops: DropCounter
    ) -> Answers:
        """What the batches said; what they left open is missing."""
        # "a-b"/"c" and "a"/"b-c" have one batch id: such streams are asked for alone
        times = Counter(map(_batch_id, streams))
        fit = [stream for stream in streams if times[_batch_id(stream)] == 1]
        batches = [fit[start : start + BATCH_SIZE] for start in range(0, len(fit), BATCH_SIZE)]

        def batch(streams: list[ApplicationStream]) -> Awaitable[Answers]:
            return _ask_batch(requests, streams, drops)

        answers: Answers = {}
        for asked, result in await requests.map(batch, batches):
            if not isinstance(result, UpstreamError):
                answers.update(result)
            elif result.status in NOT_OFFERED:
                self._has_batch = False
            else:
                answers.update((stream.id, result) for stream in asked)
        return answers


async def _ask_one(requests: Requests, stream: ApplicationStream, drops: DropCounter) -> FoundStream:
    try:
        answer = await requests.get(STREAM, app=stream.application, key=stream.key)
    except UpstreamError as error:
        if error.reason is Reason.NOT_FOUND:
            return missing_stream(stream.application, stream.key)
        raise
    found = read_stream(data_of(answer, STREAM, drops), application=stream.application, key=stream.key)
    if found is None or found.report.id != stream.id:
        raise UpstreamError(Reason.BAD_RESPONSE, f"{STREAM}: the answer is about another stream")
    return found


async def _ask_batch(requests: Requests, streams: Sequence[ApplicationStream], drops: DropCounter) -> Answers:
    body = {"data": {"streamKeyIds": [_batch_id(stream) for stream in streams]}}
    answer = await requests.post(BATCH, body=body, safe=True)
    data = data_of(answer, BATCH, drops)
    asked = {stream.id: stream for stream in streams}
    answers: Answers = {}
    for record in data.records("found"):
        found = read_stream(record)
        if found is not None and found.report.id in asked:
            answers[found.report.id] = found
    not_found = frozenset(data.texts("notFound") or ())
    for stream in streams:
        if stream.id not in answers and _batch_id(stream) in not_found:
            answers[stream.id] = missing_stream(stream.application, stream.key)
    return answers


def _batch_id(stream: ApplicationStream) -> str:
    return f"{stream.application}-{stream.key}"


def _show(stream_id: str, _options: Mapping[str, Any]) -> tuple[ManualRequest, ...]:
    application, _slash, key = stream_id.partition("/")
    if not application or not key:
        raise InvalidCommandError(f"{stream_id!r}: a stream of storm is named as application/key")
    return (ManualRequest(STREAM, {"app": application, "key": key}),)


SESSION_COMMANDS = SessionCommands({SessionAction.SHOW: SessionCommand(_show)}, id_help="application/key")
