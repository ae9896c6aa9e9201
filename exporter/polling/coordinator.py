"""One coordinator per upstream: it polls on schedule, never over itself, and publishes what came of it.

The coordinator owns deadline, back-off and logging; what the answers mean for streams is the tracker's, what the API
says is the platform's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec
import structlog

from exporter.config.upstream import UpstreamSettings
from exporter.http.client import Requests, UpstreamClient
from exporter.http.errors import UpstreamError
from exporter.metrics.passthrough import parse_passthrough
from exporter.model import (
    DEPARTURE_FIELDS,
    Analytics,
    PassthroughMetrics,
    PollResult,
    Reason,
    UpstreamState,
)
from exporter.platforms.base import Platform
from exporter.polling.histograms import PollHistograms
from exporter.polling.schedule import Schedule
from exporter.polling.self_metrics import PollingMetrics
from exporter.polling.tracker import STREAMS_PER_STEP, Tracker
from exporter.runtime.clock import Clock
from exporter.runtime.logging import describe_exception
from exporter.store import Store

log = structlog.get_logger()

DEADLINE_SLACK_SECONDS = 1.0
"""Requests end at the deadline by themselves; what still runs after it is a fault of ours and is cut off."""
NAMES_IN_A_LOG_LINE = 3


class Coordinator:
    """Polls one upstream for as long as ``run`` runs."""

    def __init__(
        self,
        settings: UpstreamSettings,
        *,
        platform: Platform[Any],
        client: UpstreamClient,
        tracker: Tracker,
        histograms: PollHistograms,
        schedule: Schedule,
        store: Store,
        metrics: PollingMetrics,
        clock: Clock,
    ) -> None:
        self.settings = settings
        self.platform = platform
        platform.passthrough_parser = parse_passthrough
        self.client = client
        self.tracker = tracker
        self._histograms = histograms
        self._schedule = schedule
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._labels = {"platform": settings.platform, "upstream": settings.name}
        self.polled = asyncio.Event()
        """Set once a poll has been completed, well or badly."""
        self._feeds = platform.feeds | DEPARTURE_FIELDS
        self._busy = False
        self._not_owned = False
        self._up: bool | None = None
        self._failing_since: float | None = None
        self._failed_polls = 0
        self._error: UpstreamError | None = None
        self._last_success: float | None = None
        self._last_poll: float | None = None
        self._version = ""
        self._clock_skew: float | None = None
        self._analytics: tuple[Analytics, ...] = ()
        self._passthrough: PassthroughMetrics | None = None
        self._fields_told: set[str] = set()
        self._streams_told: set[str] = set()

    async def run(self) -> None:
        """Poll on schedule until cancelled."""
        self._schedule.start(self._clock.monotonic())
        while True:
            await self._clock.sleep(self._schedule.due - self._clock.monotonic())
            await self.poll()

    async def poll(self, timeout: float | None = None) -> None:
        """One poll, from request to published view; never raises but when cancelled.

        ``timeout``: seconds that its requests may take, instead of those of the settings. Who gives it has a deadline
        of their own for the whole.
        """
        cut_off_after = self.settings.timeout + DEADLINE_SLACK_SECONDS if timeout is None else None
        timeout = self.settings.timeout if timeout is None else timeout
        requests = self.client.requests(timeout)
        began = self._clock.monotonic()
        self._last_poll = self._clock.now()
        self._busy = True
        try:
            result = await self._ask(requests, timeout, cut_off_after)
        except UpstreamError as error:
            self._note_whose(not_owned=False)
            self._metrics.count_poll(**self._labels, seconds=self._clock.monotonic() - began, reason=error.reason)
            await self._failed(error)
        else:
            self._note_whose(result.not_owned)
            self._metrics.count_poll(**self._labels, seconds=self._clock.monotonic() - began, reason=None)
            await self._succeeded(result, requests)
        finally:
            self._busy = False
        self._publish()
        self.polled.set()

    async def tick(self) -> None:
        """Let states age that no poll renews; cheap when nothing is due."""
        if self._busy or not self.polled.is_set() or self._clock.now() < self.tracker.next_change:
            return
        self._busy = True
        try:
            await _in_steps(self.tracker.refresh(self._clock.now()))
            self._publish()
        finally:
            self._busy = False

    async def close(self) -> None:
        """Close the connections; the coordinator is not used afterwards."""
        await self.client.close()

    # -- one poll --------------------------------------------------------------------------------------------------

    async def _ask(self, requests: Requests, timeout: float, cut_off_after: float | None) -> PollResult:
        try:
            if cut_off_after is None:
                result = await self.platform.poll(requests)
            else:
                async with asyncio.timeout(cut_off_after):
                    result = await self.platform.poll(requests)
        except UpstreamError:
            raise
        except TimeoutError:
            message = f"no answer within {timeout:g} s"
            raise UpstreamError(Reason.TIMEOUT, message) from None
        except Exception as error:
            log.error("poll broke on an internal error", **self._labels, error=describe_exception(error))
            raise UpstreamError(Reason.INTERNAL, f"internal error: {type(error).__name__}") from None
        if len(result.streams) > STREAMS_PER_STEP:
            # The last answer has just been read: what becomes of it is another step.
            await asyncio.sleep(0)
        return result

    async def _succeeded(self, result: PollResult, requests: Requests) -> None:
        now = self._clock.now()
        self._schedule.succeeded(self._clock.monotonic(), result.round_seconds, self._pause())
        self.tracker.set_interval(self._schedule.effective_interval)
        self.tracker.configure(self.platform.configured_streams())
        self._clock_skew = requests.clock_skew_seconds
        self._version = result.version or self._version
        self._analytics, self._passthrough = tuple(map(self._labelled, result.analytics)), result.passthrough
        await _in_steps(self.tracker.apply(result, now, self._clock_skew or 0.0))
        await _in_steps(self._histograms.observe_in_steps(self.tracker.fresh()))
        self._histograms.forget_all_but(state.identity.stream for state in self.tracker.states())
        self._count(result)
        self._tell_recovery(now)
        self._up, self._error, self._last_success = (True, None, now) if not result.not_owned else (None, None, None)

    async def _failed(self, error: UpstreamError) -> None:
        now = self._clock.now()
        self._schedule.failed(self._clock.monotonic(), error.retry_after)
        self.tracker.set_interval(self._schedule.effective_interval)
        await _in_steps(self.tracker.refresh(now))
        self._failed_polls += 1
        if self._failing_since is None:
            self._failing_since = now
            log.warning(
                "upstream fails", **self._labels, host=self.settings.host, reason=error.reason.value, error=str(error)
            )
        else:
            log.debug("upstream still fails", **self._labels, reason=error.reason.value, error=str(error))
        self._up, self._error = False, error

    def _note_whose(self, not_owned: bool) -> None:
        """Where other shards poll all of it, the upstream has no series here, not even its counters."""
        if not_owned and not self._not_owned:
            self._metrics.remove_upstream(self.settings.platform, self.settings.name)
        elif self._not_owned and not not_owned:
            self._metrics.add_upstream(self.settings.platform, self.settings.name)
        self._not_owned = not_owned

    def _labelled(self, figures: Analytics) -> Analytics:
        """With the stream's label in place of its id; what is of the whole account has neither."""
        label = self.tracker.labels.label_beside(figures.stream, figures.name) if figures.stream else ""
        return msgspec.structs.replace(figures, stream=label, name="")

    def _pause(self) -> float | None:
        until = self.client.rate_limit.paused_until
        return None if until is None else until - self._clock.now()

    # -- what is counted and told ------------------------------------------------------------------------------------

    def _count(self, result: PollResult) -> None:
        for reason in result.failures.values():
            self._metrics.count_stream_failure(**self._labels, reason=reason)
        for field, times in result.dropped_fields.items():
            self._metrics.count_dropped_field(**self._labels, field=field, times=times)
        new_fields = result.dropped_fields.keys() - self._fields_told
        if new_fields:
            self._fields_told |= new_fields
            log.warning("bad values left out", **self._labels, fields=sorted(new_fields))
        new_streams = result.failures.keys() - self._streams_told
        if new_streams:
            first = sorted(new_streams)[:NAMES_IN_A_LOG_LINE]
            log.warning(
                "streams fail while their upstream answers",
                **self._labels,
                count=len(new_streams),
                streams=[self.tracker.label(id_) for id_ in first],
                reasons=sorted({result.failures[id_].value for id_ in new_streams}),
            )
        self._streams_told = set(result.failures)

    def _tell_recovery(self, now: float) -> None:
        if self._failing_since is None:
            return
        log.info(
            "upstream is back",
            **self._labels,
            down_seconds=round(now - self._failing_since, 3),
            failed_polls=self._failed_polls,
        )
        self._failing_since, self._failed_polls = None, 0

    def _publish(self) -> None:
        until_next = self._schedule.due - self._clock.monotonic()
        now = self._clock.now()
        self._store.publish(
            UpstreamState(
                platform=self.settings.platform,
                upstream=self.settings.name,
                host=self.settings.host,
                health_score=self.platform.health_score,
                feeds=self._feeds,
                version=self._version,
                up=self._up,
                streams=self.tracker.states(),
                streams_dropped=self.tracker.dropped,
                poll_interval_seconds=self._schedule.effective_interval,
                last_success_timestamp_seconds=self._last_success,
                clock_skew_seconds=self._clock_skew,
                rate_limit_remaining=self.client.rate_limit.remaining,
                last_error=str(self._error) if self._error else "",
                last_error_reason=self._error.reason if self._error else None,
                last_poll_at=self._last_poll,
                next_poll_at=now + until_next,
                sampled=self._histograms.snapshot(),
                analytics=tuple(figures for figures in self._analytics if now < figures.stale_at),
                passthrough=self._passthrough
                if self._passthrough is not None and now < self._passthrough.stale_at
                else None,
                not_owned=self._not_owned,
                excluded=self.settings.excluded_families,
            )
        )


async def _in_steps(work: Iterator[None]) -> None:
    """Do a long piece of work without holding the event loop for more than a step of it."""
    for _ in work:
        await asyncio.sleep(0)
