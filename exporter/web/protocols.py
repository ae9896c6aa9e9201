"""Interface of the running exporter for the web layer; ``exporter.service.Service`` implements all of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from exporter.alerting.rules.active_rules import ActiveRule
from exporter.config.root import Settings
from exporter.model import UpstreamState
from exporter.polling.maintenance import Window
from exporter.reports.report import Span
from exporter.reports.service import Format
from exporter.runtime.clock import Clock
from exporter.store import Store

if TYPE_CHECKING:
    # the sidecar's code is imported only if it runs
    from exporter.alerting.evaluator import Alert
    from exporter.alerting.payload import AlertFormatter
    from exporter.alerting.sidecar import Evaluation


class Renderer(Protocol):
    """Render ``/metrics`` in a worker thread. ``parts``: values of ``metrics_handler.PARTS``."""

    def prepare(self, state: UpstreamState, /) -> None:
        """Prepare a published state for the next scrape."""

    def pieces(self, parts: frozenset[str], /) -> Sequence[bytes]:
        """Return the text in pieces, because joining many megabytes would copy them."""

    def packed(self, parts: frozenset[str], /) -> Sequence[bytes]:
        """Return the text in pieces, compressed with gzip."""


class Prober(Protocol):
    """Poll an upstream for ``/probe``."""

    async def poll(self, upstream: str, seconds: float | None, /) -> UpstreamState:
        """Return the result of a recent or new poll within ``seconds``. Raises ``UnknownUpstreamError``."""


class AlertSource(Protocol):
    """The sidecar's alerts."""

    @property
    def active(self) -> bool:
        """Whether the sidecar is running."""

    @property
    def formatter(self) -> AlertFormatter:
        """The formatter of the alerts' labels and annotations."""

    @property
    def rules(self) -> Sequence[ActiveRule]:
        """The rules that the sidecar evaluates; a reload replaces the object."""

    @property
    def last_evaluation(self) -> Evaluation | None:
        """Last evaluation of an upstream; None before the first one."""

    @property
    def interval_seconds(self) -> float:
        """Minimum time between two evaluations of an upstream."""

    def alerts(self) -> list[Alert]:
        """Return the pending and firing alerts."""


class ReportSource(Protocol):
    """Reports on groups, upstreams and streams, as JSON or Markdown.

    The methods raise ``UnknownSubjectError`` and ``BusyError``.
    """

    async def render_group(self, name: str, span: Span, format_: Format, /) -> bytes:
        """Return the report on a group."""

    async def render_upstream(self, name: str, span: Span, format_: Format, /) -> bytes:
        """Return the report on the recorded streams of an upstream."""

    async def render_stream(self, upstream: str, stream: str, span: Span, format_: Format, /) -> bytes:
        """Return the report on a stream, given by its label."""


class Maintenance(Protocol):
    """Maintenance windows, as in ``exporter.polling.maintenance_control``."""

    @property
    def is_saved(self) -> bool:
        """Whether manual windows survive a restart, as far as is known."""

    def windows(self) -> list[Window]:
        """Return the current and future windows, configured and manual."""

    async def start(self, upstream: str, stream: str, seconds: float, reason: str, /) -> Window:
        """Start a window now. Raises ``UnknownTargetError``, ``InvalidWindowError`` and ``TooManyWindowsError``."""

    async def end(self, id_: str, /) -> None:
        """End a manual window. Raises ``UnknownWindowError`` and ``ConfiguredWindowError``."""


class ServedState(Protocol):
    """Current settings and states."""

    @property
    def settings(self) -> Settings:
        """Settings in force; a reload replaces the object."""

    @property
    def store(self) -> Store:
        """The state of each upstream."""

    @property
    def clock(self) -> Clock:
        """The exporter's clock."""


class Lifecycle(Protocol):
    """Health, readiness and reloading."""

    @property
    def healthy(self) -> bool:
        """Whether the polling loop is running."""

    @property
    def ready(self) -> bool:
        """Whether every upstream has been polled, or has had enough time for it."""

    async def reload(self) -> None:
        """Read the configuration again. Raises ``ConfigError`` without changing anything if it is invalid."""


class RunningExporter(ServedState, Lifecycle, Protocol):
    """Everything that ``make_app`` needs."""

    @property
    def exposition(self) -> Renderer:
        """The renderer of ``/metrics``."""

    @property
    def probes(self) -> Prober:
        """The polls made for ``/probe``."""

    @property
    def reports(self) -> ReportSource:
        """The reports."""

    @property
    def sidecar(self) -> AlertSource:
        """The alerting sidecar."""

    @property
    def maintenance(self) -> Maintenance:
        """The maintenance windows."""
