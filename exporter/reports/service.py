"""Connects the reports with the store. One worker thread records every published state and makes the reports."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, Literal

import msgspec
import structlog

from exporter.alerting.rules.active_rules import rules_in_force
from exporter.config.groups import GroupSettings
from exporter.config.root import Settings
from exporter.metrics.text_format import label_value
from exporter.model import UpstreamState
from exporter.reports.recorder import BITRATE_RULE, INTERNAL_ERROR, SUSPENDED, Recorder
from exporter.reports.report import Report, Scope, Span, Subject
from exporter.reports.timeline import Segment, StreamKey, Viewers
from exporter.runtime.clock import Clock, Instant
from exporter.runtime.logging import describe_exception
from exporter.store import Store

log = structlog.get_logger()

SUSPENDED_SECONDS: Final = 60.0
"""Time without a heartbeat after which the exporter must have been suspended, so its states are unknown."""
MAX_WAITING: Final = 8
"""Maximum number of reports in progress or waiting for the worker."""

Format = Literal["json", "markdown"]


class UnknownSubjectError(LookupError):
    """No such group, upstream or stream."""


class BusyError(Exception):
    """Too many reports are being made."""


class Reports:
    """Records the streams and makes reports on them. Must stay in one event loop."""

    def __init__(self, store: Store, clock: Clock, settings: Settings) -> None:
        self._store = store
        self._clock = clock
        self._recorder = Recorder(clock.instant())
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="reports")
        self._closed = False
        self._waiting = 0
        self._failing: set[str] = set()
        """What could not be recorded the last time. Used only in the worker."""
        self._last_beat: float | None = None
        # not in the worker, because no thread may start before the allocator is tuned
        self._recorder.configure(*self._read_settings(settings), clock.instant())
        store.subscribe(self._on_publish)
        store.subscribe_groups(self._on_publish_groups)

    def apply(self, settings: Settings) -> None:
        """Apply new settings; what is recorded stays."""
        configure = partial(self._recorder.configure, *self._read_settings(settings), self._clock.instant())
        self._submit("settings", configure, self._recorder.mark_unknown)

    def _read_settings(self, settings: Settings) -> tuple[list[str], dict[str, list[StreamKey]]]:
        """Store the settings, and return the names of the upstreams and the members of the groups."""
        self._settings = settings
        rules = {active.rule.name: active for active in rules_in_force(settings.alerting)}
        self._threshold = rules[BITRATE_RULE].threshold or 0.0
        groups = {group.name: _member_keys(group) for group in settings.groups}
        return [upstream.name for upstream in settings.upstreams], groups

    def beat(self) -> None:
        """Note that the exporter is running. Call it at least every few seconds."""
        self._note_suspension()
        self._last_beat = self._clock.monotonic()

    def close(self) -> None:
        """Record no more."""
        self._closed = True
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _on_publish(self, state: UpstreamState) -> None:
        self._note_suspension()
        record = partial(self._recorder.record, state, self._threshold, self._clock.instant())
        mark_unknown = partial(self._recorder.mark_upstream_unknown, state.upstream)
        self._submit(f"upstream {state.upstream}", record, mark_unknown)
        if self._store.groups():
            # again, because a suspension ends what was recorded
            self._on_publish_groups()

    def _on_publish_groups(self) -> None:
        self._note_suspension()
        record = partial(self._recorder.record_groups, self._store.groups(), self._clock.instant())
        self._submit("groups", record, self._recorder.mark_groups_unknown)

    def _note_suspension(self) -> None:
        before = self._last_beat
        if before is not None and self._clock.monotonic() > before + SUSPENDED_SECONDS:
            self._last_beat = self._clock.monotonic()
            mark_unknown = self._recorder.mark_unknown
            self._submit("suspension", partial(mark_unknown, before, SUSPENDED), mark_unknown)

    def _submit(self, subject: str, record: Callable[[], None], mark_unknown: Callable[[float, str], None]) -> None:
        """Record something in the worker; ``mark_unknown`` is called if that fails."""
        if not self._closed:
            self._worker.submit(self._record, subject, record, mark_unknown, self._clock.monotonic())

    def _record(
        self, subject: str, record: Callable[[], None], mark_unknown: Callable[[float, str], None], now: float
    ) -> None:
        """Record something, and log its first failure. Runs in the worker thread."""
        try:
            record()
        except Exception as error:
            if subject not in self._failing:
                self._failing.add(subject)
                log.error("states could not be recorded for reports", subject=subject, error=describe_exception(error))
            # otherwise the last state would continue in the reports
            mark_unknown(now, INTERNAL_ERROR)
        else:
            self._failing.discard(subject)

    # -- reports -------------------------------------------------------------------------------------------------------

    async def render_group(self, name: str, span: Span, format_: Format) -> bytes:
        """Return the report on a group. Raises ``UnknownSubjectError`` and ``BusyError``."""
        group = next((group for group in self._settings.groups if group.name == name), None)
        if group is None:
            raise UnknownSubjectError(f"unknown group {name[:64]!a}")
        roles = tuple(member.role or "" for member in group.streams)
        subject = Subject(scope=Scope.GROUP, name=name, needed=group.needed, roles=roles)
        return await self._run(subject, _member_keys(group), span, format_)

    async def render_upstream(self, name: str, span: Span, format_: Format) -> bytes:
        """Return the report on the recorded streams of an upstream. Raises the errors of ``render_group``."""
        if not self._knows_upstream(name):
            raise UnknownSubjectError(f"unknown upstream {name[:64]!a}")
        return await self._run(Subject(scope=Scope.UPSTREAM, name=name), None, span, format_)

    async def render_stream(self, upstream: str, stream: str, span: Span, format_: Format) -> bytes:
        """Return the report on a stream, given by its label. Raises the errors of ``render_group``.

        A stream that is served but not recorded is recorded from then on.
        """
        if not self._knows_upstream(upstream):
            raise UnknownSubjectError(f"unknown upstream {upstream[:64]!a}")
        state = self._store.get(upstream)
        served = [] if state is None else [each.identity.stream for each in state.streams]
        found = next((name for name in served if stream in (name, label_value(name))), stream)
        subject = Subject(scope=Scope.STREAM, name=upstream, stream=label_value(found))
        return await self._run(subject, [StreamKey(upstream, found)], span, format_, is_served=found in served)

    def _knows_upstream(self, name: str) -> bool:
        return any(upstream.name == name for upstream in self._settings.upstreams)

    async def _run(
        self,
        subject: Subject,
        keys: Sequence[StreamKey] | None,
        span: Span,
        format_: Format,
        *,
        is_served: bool = True,
    ) -> bytes:
        if self._waiting >= MAX_WAITING or self._closed:
            raise BusyError
        self._waiting += 1
        loop = asyncio.get_running_loop()
        # the worker has then recorded every state published until now, and none published later
        now = self._clock.instant()
        making = loop.run_in_executor(self._worker, self._render, subject, keys, span, format_, is_served, now)
        # counted until it is done, even if the client disconnects
        making.add_done_callback(self._note_done)
        return await asyncio.shield(making)

    def _note_done(self, making: asyncio.Future[bytes]) -> None:
        self._waiting -= 1
        if not making.cancelled():
            making.exception()

    def _render(
        self,
        subject: Subject,
        keys: Sequence[StreamKey] | None,
        span: Span,
        format_: Format,
        is_served: bool,
        now: Instant,
    ) -> bytes:
        """Make and render the report as of ``now``. Runs in the worker thread."""
        recorder = self._recorder
        if keys is None:
            keys = recorder.recorded_streams(subject.name)
        elif subject.scope is Scope.STREAM and keys[0] not in recorder.recorded_streams(subject.name):
            if not is_served:
                raise UnknownSubjectError("stream not found")
            recorder.watch(keys[0])
        viewers: Sequence[Viewers] = ()
        expectation: Sequence[Segment] = ()
        if subject.scope is Scope.GROUP:
            viewers = recorder.read_group_viewers(subject.name, now)
            expectation = recorder.read_group_expectation(subject.name, now)
        elif subject.scope is Scope.UPSTREAM:
            viewers = recorder.read_upstream_viewers(subject.name, now)
        # imported only for the first report, to save memory
        from exporter.reports.assessment import build_report

        report = build_report(
            subject,
            recorder.read(keys, now),
            span,
            viewers=viewers,
            expectation=expectation,
            generated_at=now.wall,
            started_at=recorder.started_at(now),
        )
        return render(report, format_)


def render(report: Report, format_: Format) -> bytes:
    """Return a report in this format."""
    from exporter.reports.presentation import markdown, report_entry

    if format_ == "markdown":
        return markdown(report).encode(errors="replace")
    return msgspec.json.encode(report_entry(report))


def _member_keys(group: GroupSettings) -> list[StreamKey]:
    return [StreamKey(member.upstream, member.stream) for member in group.streams]
