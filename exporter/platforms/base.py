"""What a platform module brings: its settings, its name and one coroutine that polls."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import ClassVar, Generic, Protocol, TypeVar

from exporter.config.upstream import StreamSettings, UpstreamSettings
from exporter.http.client import Requests, UpstreamClient
from exporter.http.errors import UpstreamError
from exporter.model import PassthroughMetrics, PassthroughText, PollResult, Reason
from exporter.runtime.clock import Clock
from exporter.sharding import ALL_STREAMS, ShardFilter

SettingsT = TypeVar("SettingsT", bound=UpstreamSettings)


class PassthroughParser(Protocol):
    """Parses pass-through metrics; runs in a thread."""

    def __call__(self, exported: PassthroughText, /) -> PassthroughMetrics:
        """Parse the text. Raises ``ValueError`` with a message that quotes nothing of it."""


class Platform(ABC, Generic[SettingsT]):
    """One upstream of a platform. It may remember between polls (tokens, rates, what is asked for rarely).

    A module in ``exporter.platforms`` with a ``PLATFORM`` (a subclass of this) is found by the registry; so is an
    entry point of the group ``stream_exporter.upstreams`` that names one.
    """

    name: ClassVar[str]
    """The value of ``platform`` in configuration and labels."""
    settings_class: ClassVar[type[UpstreamSettings]]
    health_score: ClassVar[str] = "derived"
    """``reported`` when the platform has a score of its own, else ``derived``."""
    feeds: ClassVar[frozenset[str]] = frozenset()
    """The fields of ``StreamReport`` that this platform can fill, and ``analytics``: for the reference page."""
    ids_are_keys: ClassVar[bool] = False
    """Whether knowing a stream's id is enough to publish it."""
    requests_per_minute_limit: ClassVar[int | None] = None
    """The platform's published limit of its lowest tier, for ``--config.check``."""

    passthrough_parser: PassthroughParser | None = None
    """Set by the coordinator: a platform itself knows nothing about Prometheus."""

    def __init__(
        self, settings: SettingsT, client: UpstreamClient, clock: Clock, shard_filter: ShardFilter = ALL_STREAMS
    ) -> None:
        """``shard_filter``: the streams to poll, where several processes share the upstream's."""
        self.settings = settings
        self.client = client
        self.clock = clock
        self.shard_filter = shard_filter

    def configured_streams(self) -> tuple[StreamSettings, ...]:
        """The streams configured now, of all shards; a platform that reads them from a file may change them."""
        return self.settings.configured_streams()

    async def parse_passthrough(self, endpoint: str, exported: PassthroughText) -> PassthroughMetrics:
        """Parse the metrics that an endpoint exports, while the event loop is free. Raises ``UpstreamError``."""
        assert self.passthrough_parser is not None
        try:
            return await asyncio.to_thread(self.passthrough_parser, exported)
        except ValueError as error:
            raise UpstreamError(Reason.BAD_RESPONSE, f"{endpoint}: {error}") from None

    @abstractmethod
    async def poll(self, requests: Requests) -> PollResult:
        """Ask the platform once, within ``requests.deadline``.

        Raises ``UpstreamError`` when no request was answered usably; a fault of a single stream goes into
        ``PollResult.failures`` instead. What is not of ``shard_filter`` should cost no request; it is never served.
        """

    @classmethod
    @abstractmethod
    def requests_per_minute(cls, settings: SettingsT) -> float:
        """How many requests a minute these settings cost, as far as it is known without asking."""
