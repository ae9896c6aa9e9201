"""Optional capabilities of a platform: receiving alert changes, and commands for a single session or stream."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple

import msgspec

from exporter.http.client import Requests, UpstreamClient
from exporter.http.endpoint import endpoint_of
from exporter.http.response import Response


class ManualRequest(msgspec.Struct, frozen=True):
    """A request with any method; ``path`` fills the placeholders in ``endpoint``."""

    endpoint: str
    path: Mapping[str, Any]
    body: Mapping[str, Any] | None = None
    notice: str = ""
    """Warning for the user, shown before the request is sent."""
    refusal_meaning: str = "the platform refused the request"
    """Explanation of a 4xx response whose status has no more specific meaning."""

    @property
    def method(self) -> str:
        """Return the HTTP method."""
        return endpoint_of(self.endpoint).method

    @property
    def changes_something(self) -> bool:
        """Whether the request does more than read."""
        return self.method != "GET"

    def url(self, client: UpstreamClient) -> str:
        """Return the full URL. Raises ``UpstreamError`` (``not_found``) if a value cannot be part of a path."""
        return str(client.url_of(endpoint_of(self.endpoint).path(self.path), None))

    async def send(self, requests: Requests) -> Response:
        """Send the request. Raises ``UpstreamError`` with the platform's message as its ``refusal``."""
        return await requests.request(
            self.endpoint, body=self.body, safe=not self.changes_something, keep_refusal=True, **self.path
        )


class AlertChange(msgspec.Struct, frozen=True):
    """A stream's alert that started firing or was resolved; the stream may belong to any platform."""

    alert: str
    """Name of the alert."""
    is_firing: bool
    platform: str
    upstream: str
    stream: str
    session: str
    """The stream's session id when the alert started firing; empty if the platform reports none."""
    value: float


class DeliveryCounts(NamedTuple):
    """How many changes of a batch the platform accepted and rejected."""

    accepted: int
    rejected: int


class AlertSink(ABC):
    """Sends alert changes to a platform that records events of its own."""

    batch_size: ClassVar[int]
    """Maximum number of changes in one call of ``send``."""

    @abstractmethod
    async def send(self, changes: Sequence[AlertChange]) -> DeliveryCounts:
        """Send a batch in one request. Raises ``UpstreamError``; the caller retries."""


# -- sessions ----------------------------------------------------------------------------------------------------------


class SessionAction(StrEnum):
    """The subcommands of ``stream-exporter session``, in the order of its help."""

    SHOW = "show"
    UPDATE = "update"
    END = "end"
    DELETE = "delete"


class InvalidCommandError(ValueError):
    """The id or options of a command are invalid; the message is shown to the user."""


class CommandOption(NamedTuple):
    """An option of a command: one of ``choices``, or, without choices, ``KEY=VALUE`` entries that become a mapping.

    Platforms that use the same flag for the same action must declare it identically.
    """

    flag: str
    help: str
    choices: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return the key of the option's value."""
        return self.flag.lstrip("-").replace("-", "_")


class SessionCommand(msgspec.Struct, frozen=True):
    """How a platform performs an action."""

    requests: Callable[[str, Mapping[str, Any]], Sequence[ManualRequest]]
    """Returns the requests for an id and the options' values (by name; ``None`` or empty if not given).

    The requests are sent in turn until one gets a response other than "not found". Raises ``InvalidCommandError``.
    """
    options: tuple[CommandOption, ...] = ()
    help: str = ""
    """Help of the command; empty for the general help."""


class SessionCommands(msgspec.Struct, frozen=True):
    """The commands of a platform."""

    commands: Mapping[SessionAction, SessionCommand]
    id_help: str = ""
    """Description of the id, such as ``application/key``."""
