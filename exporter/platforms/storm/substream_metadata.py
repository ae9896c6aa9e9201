"""What a publish looks like inside: codecs, picture size, frame rate; asked for once per publish.

Source: Storm Streaming Server 3.x, RESTful API, page Substream Metadata.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import lru_cache

import msgspec

from exporter.http.client import Requests
from exporter.http.errors import UpstreamError
from exporter.model import Reason, StreamReport
from exporter.platforms.parsing import DropCounter
from exporter.platforms.storm.envelope import data_of
from exporter.platforms.storm.storm_streams import FoundStream
from exporter.runtime.clock import Clock

METADATA = "GET /streams/{app}/{key}/{substream}/metadata"
STREAMS_AT_ONCE = 100
"""So many are looked through without a turn for the event loop."""
RETRY_AFTER_SECONDS = 60.0
"""A metadata page that fails is no fault of its stream, and must not cost a request in every poll."""


class SubstreamMetadata(msgspec.Struct, frozen=True, gc=False):
    """The facts of one substream that have a family."""

    video_codec: str = ""
    audio_codec: str = ""
    resolution: str = ""
    width_pixels: int | None = None
    height_pixels: int | None = None
    frames_per_second: float | None = None

    def added_to(self, report: StreamReport) -> StreamReport:
        """The report with these facts."""
        return msgspec.structs.replace(
            report,
            video_codec=self.video_codec,
            audio_codec=self.audio_codec,
            resolution=self.resolution,
            width_pixels=self.width_pixels,
            height_pixels=self.height_pixels,
            frames_per_second=self.frames_per_second,
        )


class _Publish(msgspec.Struct, gc=False):
    """The current publish of one stream, which was asked about."""

    start: float | None
    metadata: SubstreamMetadata | None = None
    retry_at: float = 0.0

    def is_of(self, report: StreamReport) -> bool:
        """Whether the stream is in this publish still, or is what remains of it."""
        is_same = self.start == report.start_timestamp_seconds
        return is_same and (bool(report.live) or self.start is not None)


class MetadataBook:
    """The metadata of the publishes that are running; it forgets the streams that a poll does not bring."""

    def __init__(self, clock: Clock, requests_per_poll: int) -> None:
        """``requests_per_poll`` bounds the burst when a whole fleet begins at once."""
        self._clock = clock
        self._requests_per_poll = requests_per_poll
        self._publishes: dict[str, _Publish] = {}

    async def enrich(
        self, requests: Requests, streams: Iterable[FoundStream], drops: DropCounter
    ) -> list[StreamReport]:
        """The reports with their metadata, as far as it is known; never fails for want of it."""
        streams = list(streams)
        # to look through thousands takes milliseconds: not at once with what came before, nor with what comes after
        are_many = len(streams) > STREAMS_AT_ONCE
        if are_many:
            await asyncio.sleep(0)
        self._follow(streams)
        now = self._clock.monotonic()
        wanted = [stream for stream in streams if self._is_wanted(stream, now)][: self._requests_per_poll]
        if wanted:
            await self._ask(requests, wanted, drops, now)
        if are_many:
            await asyncio.sleep(0)
        return [self._enriched(stream.report) for stream in streams]

    async def _ask(self, requests: Requests, streams: list[FoundStream], drops: DropCounter, now: float) -> None:
        async def ask(stream: FoundStream) -> SubstreamMetadata:
            return await _read(requests, stream, drops)

        for stream, result in await requests.map(ask, streams):
            publish = self._publishes.setdefault(stream.report.id, _Publish(stream.report.start_timestamp_seconds))
            if isinstance(result, UpstreamError):
                publish.retry_at = now + RETRY_AFTER_SECONDS
            else:
                publish.metadata = result

    def _follow(self, streams: list[FoundStream]) -> None:
        """Keep what belongs to the publishes of these streams, drop the rest."""
        known, self._publishes = self._publishes, {}
        for report in [stream.report for stream in streams] if known else ():
            publish = known.get(report.id)
            if publish is not None and publish.is_of(report):
                self._publishes[report.id] = publish

    def _is_wanted(self, stream: FoundStream, now: float) -> bool:
        if not stream.report.live or not stream.substream:
            return False
        publish = self._publishes.get(stream.report.id)
        return publish is None or (publish.metadata is None and now >= publish.retry_at)

    def _enriched(self, report: StreamReport) -> StreamReport:
        publish = self._publishes.get(report.id)
        if publish is None or publish.metadata is None:
            return report
        return publish.metadata.added_to(report)


async def _read(requests: Requests, stream: FoundStream, drops: DropCounter) -> SubstreamMetadata:
    try:
        answer = await requests.get(METADATA, app=stream.report.application, key=stream.key, substream=stream.substream)
    except UpstreamError as error:
        if error.reason is Reason.NOT_FOUND:
            return SubstreamMetadata()
        raise
    record = data_of(answer, METADATA, drops)
    width, height = record.count("width") or None, record.count("height") or None
    metadata = SubstreamMetadata(
        video_codec=record.text("videoCodec"),
        audio_codec=record.text("audioCodec"),
        resolution=f"{width}x{height}" if width and height else "",
        width_pixels=width,
        height_pixels=height,
        # 0 where the encoder does not say
        frames_per_second=record.number("frameRate", low=0.0) or None,
    )
    return _shared(metadata)


@lru_cache(maxsize=1024)
def _shared(metadata: SubstreamMetadata) -> SubstreamMetadata:
    """The same for all publishes that look the same: of thousands most do."""
    return metadata
