"""What a platform module brings: its settings, its name and one coroutine that polls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Generic, TypeVar

from exporter.config.upstream import StreamSettings, UpstreamSettings
from exporter.http.client import Requests, UpstreamClient
from exporter.model import PollResult
from exporter.platforms.capabilities import AlertSink, SessionCommands
from exporter.runtime.clock import Clock
from exporter.sharding import ALL_STREAMS, ShardFilter

SettingsT = TypeVar("SettingsT", bound=UpstreamSettings)


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

    def alert_sink(self) -> AlertSink | None:
        """Return where to send alert changes, for a platform that keeps events of its own."""
        return None

    @classmethod
    def session_commands(cls) -> SessionCommands | None:
        """Return what ``stream-exporter session`` can do on this platform."""
        return None
