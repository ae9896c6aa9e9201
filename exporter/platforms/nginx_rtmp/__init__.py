"""nginx with an RTMP module: nginx-rtmp-module, its forks, and nginx-http-flv-module, over its statistics page."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Annotated, ClassVar, Literal

import msgspec

from exporter.platforms.api import (
    ALL_STREAMS,
    LOGIN,
    NONE,
    ApplicationStream,
    Clock,
    Field,
    ListPlatform,
    Matching,
    Rate,
    Record,
    ResponseFormat,
    ServerFacts,
    ShardFilter,
    StreamReport,
    Text,
    UpstreamClient,
    UpstreamSettings,
)
from exporter.platforms.nginx_rtmp.rtmp_streams import FEEDS, count_file_players, read_stream, root_of, stream_rows
from exporter.platforms.nginx_rtmp.worker_processes import WorkerProcesses

STALL_SECONDS = 45.0
"""Totals move with every packet, so an earlier pause of the encoder does not make a later one harder to see."""


class NginxRtmpSettings(UpstreamSettings):
    """One nginx with an RTMP module."""

    platform: Literal["nginx_rtmp"] = Field(default="nginx_rtmp", description="The platform's name.")
    default_interval: ClassVar[float] = 15.0
    auth_kinds: ClassVar[frozenset[str]] = frozenset({NONE, LOGIN})

    stat_path: Annotated[Text, Matching("(/[A-Za-z0-9._~%-]+)+/?", "a path such as /stat")] = Field(
        default="/stat", description="Path of the statistics page (`rtmp_stat all`)."
    )
    streams: tuple[ApplicationStream, ...] = Field(
        default=(), description="Expectations for streams; every stream that the server lists is watched anyway."
    )

    def configured_streams(self) -> tuple[ApplicationStream, ...]:
        """Return the streams that the configuration names."""
        return self.streams


class NginxRtmp(ListPlatform[NginxRtmpSettings]):
    """Polls the statistics page of one server."""

    name: ClassVar[str] = "nginx_rtmp"
    settings_class = NginxRtmpSettings
    ids_are_keys: ClassVar[bool] = True
    feeds: ClassVar[frozenset[str]] = FEEDS
    rates: ClassVar[tuple[Rate, ...]] = tuple(
        Rate(total, rate, is_derived=True, stall_seconds=STALL_SECONDS)
        for total, rate in (
            ("ingest_bytes", "ingest_bitrate_bytes_per_second"),
            ("egress_bytes", "egress_bitrate_bytes_per_second"),
        )
    )
    response_format: ClassVar[ResponseFormat] = ResponseFormat.XML_OR_JSON

    def __init__(
        self,
        settings: NginxRtmpSettings,
        client: UpstreamClient,
        clock: Clock,
        shard_filter: ShardFilter = ALL_STREAMS,
    ) -> None:
        super().__init__(settings, client, clock, shard_filter)
        self._workers = WorkerProcesses()

    def list_endpoint(self) -> str:
        """Return the request for the statistics page."""
        return f"GET {self.settings.stat_path}"

    def read(self, document: Record) -> Iterator[StreamReport | None]:
        """Yield the streams of all live applications.

        With several worker processes, a stream without a publisher may have one in another process, so it is left out.
        """
        root = root_of(document)
        rows = stream_rows(root)
        first = list(islice(rows, 1))
        has_streams = bool(first) or count_file_players(root) > 0
        if self._workers.observe(root, has_streams=has_streams, now=self.clock.monotonic()):
            self.forget_totals()
        for row in chain(first, rows):
            report = None if row is None else read_stream(row, self.start_time)
            if report is None or not self._workers.are_several:
                yield report
            elif report.live:
                yield msgspec.structs.replace(report, viewers_partial=None if report.viewers is None else True)

    def server(self, document: Record) -> ServerFacts:
        """Return the module's version, and whether another worker process may have more streams."""
        root = root_of(document)
        version = root.text("nginx_http_flv_version") or root.text("nginx_rtmp_version")
        return ServerFacts(version=version, doubt=self._workers.doubt)


PLATFORM = NginxRtmp
