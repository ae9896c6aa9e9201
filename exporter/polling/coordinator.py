"""Poll one upstream on schedule, one poll at a time, and publish its state.

The coordinator handles deadlines, back-off and logging, and redacts secrets that a platform echoes. The platform module
reads the API's responses; the tracker applies the reports to the streams.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import structlog

from exporter.config.streams import StreamSettings
from exporter.config.upstream import UpstreamSettings
from exporter.http.client import Requests, UpstreamClient
from exporter.http.errors import UpstreamError
from exporter.http.vantage import Vantage
from exporter.metrics.passthrough import ExportParser
from exporter.model import (
    DEPARTURE_FIELDS,
    Analytics,
    PassthroughMetrics,
    PollResult,
    Reason,
    UpstreamState,
)
from exporter.platforms.base import Platform
from exporter.polling.calendars import Calendars
from exporter.polling.histograms import NoHistograms, PollHistograms
from exporter.polling.maintenance import NO_MAINTENANCE, ActiveMaintenance, UpstreamMaintenance, Window
from exporter.polling.manual_maintenance import ManualMaintenance
from exporter.polling.result_redaction import redact_result
from exporter.polling.schedule import Schedule
from exporter.polling.self_metrics import PollingMetrics
from exporter.polling.stream_labels import label_maker
from exporter.polling.tracker import STREAMS_PER_STEP, Tracker
from exporter.runtime.clock import Clock, Instant
from exporter.runtime.logging import describe_exception
from exporter.runtime.redaction import redactor
from exporter.sharding import SINGLE, HashKey, Shard, ShardFilter
from exporter.store import Store

log = structlog.get_logger()

DEADLINE_SLACK_SECONDS = 1.0
"""Extra time before a poll is cancelled; without a bug, its requests have ended at the deadline."""
NAMES_IN_A_LOG_LINE = 3
ANSWERING_INTERVALS = 2.5
"""Age of the last successful poll, in intervals, at which an upstream stops counting as answering."""
FAILURE_LOG_SECONDS = 600.0
"""Minimum time between two warnings about an upstream, so that one that fails every other poll does not flood the
log."""
CLOCK_TOLERANCE_SECONDS = 30.0
"""Maximum clock difference of a platform that is not logged."""
WORD_CHARACTERS = 40
"""Maximum number of characters of a platform's unknown value in the log."""


class Coordinator:
    """Polls one upstream: on schedule while ``run`` runs, or whenever ``poll`` is called."""

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
        calendars: Calendars,
        maintenance: UpstreamMaintenance,
        is_on_demand: bool = False,
        group_keys: Mapping[str, HashKey] | None = None,
    ) -> None:
        """``group_keys``: the keys by which its streams in groups and pairs were assigned to shards."""
        self.settings = settings
        self.group_keys = group_keys or {}
        self.platform = platform
        platform.passthrough_parser = ExportParser(settings.platform, settings.name, settings.label_pairs)
        self.client = client
        self.tracker = tracker
        self._histograms = histograms
        self._schedule = schedule
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self.calendars = calendars
        self._is_on_demand = is_on_demand
        self._calendars_version = calendars.version
        """Version of the calendars in the published state."""
        self._maintenance = maintenance
        self._published_maintenance = NO_MAINTENANCE
        self._labels = {"platform": settings.platform, "upstream": settings.name}
        self.polled = asyncio.Event()
        """Set once a poll has completed, whether it succeeded or failed."""
        self._feeds = platform.feeds | DEPARTURE_FIELDS
        sources = (stream.source for stream in settings.configured_streams())
        self._source_upstreams = frozenset(source.upstream for source in sources if source is not None)
        self._busy = False
        self._not_owned = False
        self._up: bool | None = None
        self._failing_since: float | None = None
        """Steady seconds of the first failed poll since the last successful one."""
        self._failed_polls = 0
        self._failure_logged_at = -math.inf
        self._is_failure_logged = False
        self._quiet_failures = 0
        """Number of failures since the last warning that were not logged as warnings."""
        self._answered_at: float | None = None
        """Steady seconds of the last successful poll."""
        self._answers_until = math.inf
        """Steady seconds at which the upstream stops answering, unless another poll succeeds."""
        self._recovery: dict[str, float] | None = None
        """Fields of the recovery's log line, which is written after a second successful poll."""
        self._has_logged_start = False
        self._was_answering: bool | None = None
        self._error: UpstreamError | None = None
        self._last_success: float | None = None
        self._last_poll: float | None = None
        self._are_statistics_frozen: bool | None = None
        self._version = ""
        self._clock_skew: float | None = None
        self._analytics: tuple[Analytics, ...] = ()
        self._passthrough: PassthroughMetrics | None = None
        self._logged_fields: set[str] = set()
        self._logged_words: set[str] = set()
        self._logged_doubt = ""
        self._is_clock_logged = False
        self._logged_stream_failures: set[str] = set()

    async def run(self) -> None:
        """Poll on schedule until cancelled."""
        self._use_calendars()
        self._schedule.start(self._clock.monotonic())
        while True:
            await self._clock.sleep(self._schedule.due - self._clock.monotonic())
            await self.poll()

    async def poll(self) -> None:
        """Poll once and publish the state. Raises nothing except ``CancelledError``."""
        requests = self.client.requests(self.settings.timeout)
        started_at = self._clock.monotonic()
        self._last_poll = self._clock.now()
        self._busy = True
        try:
            result, streams = await self._request_result(requests)
        except UpstreamError as error:
            self._set_not_owned(not_owned=False)
            self._metrics.count_poll(**self._labels, seconds=self._clock.monotonic() - started_at, reason=error.reason)
            await self._apply_failure(error, started_at)
        else:
            self._set_not_owned(result.not_owned)
            self._metrics.count_poll(**self._labels, seconds=self._clock.monotonic() - started_at, reason=None)
            await self._apply_result(result, streams, requests)
        finally:
            self._busy = False
        self._publish_state()
        self.polled.set()

    async def refresh(self) -> None:
        """Update and publish states that change with time between polls; cheap if nothing is due."""
        if self._busy or not self.polled.is_set() or self._clock.monotonic() < self._next_change():
            return
        self._busy = True
        try:
            await _run_in_steps(self.tracker.refresh(self._clock.instant()))
            self._publish_state()
        finally:
            self._busy = False

    def refresh_maintenance(self) -> None:
        """Publish maintenance that has started or ended, even during a poll or before the first one."""
        if self._not_owned or self._find_maintenance() == self._published_maintenance:
            return
        state = self._store.get(self.settings.name)
        if state is None:
            self._publish_state()
        else:
            self._publish_with_maintenance(state)

    def may_serve(self, stream: str) -> bool:
        """Return whether a stream has this label, or may have, because no poll has succeeded yet."""
        return self._last_success is None or self.tracker.knows_label(stream)

    def maintenance_windows(self) -> list[Window]:
        """Return the current and future maintenance windows of the upstream and its streams."""
        return self._maintenance.windows(self.tracker.maintenance_windows, self._clock.instant())

    async def close(self) -> None:
        """Close the connections; the coordinator must not be used afterwards."""
        await self.platform.close()
        await self.client.close()

    # -- one poll --------------------------------------------------------------------------------------------------

    async def _request_result(self, requests: Requests) -> tuple[PollResult, tuple[StreamSettings, ...]]:
        """Poll the platform; return the result and the configured streams, without secrets that the platform echoed."""
        timeout = self.settings.timeout
        try:
            async with asyncio.timeout(timeout + DEADLINE_SLACK_SECONDS):
                result = await self.platform.poll(requests)
            redacted = await redact_result(
                result, self.platform.configured_streams(), self.settings.configured_streams()
            )
        except UpstreamError:
            raise
        except TimeoutError:
            raise UpstreamError(Reason.TIMEOUT, f"timed out after {timeout:g} s") from None
        except Exception as error:
            log.error("internal error in poll", **self._labels, error=describe_exception(error))
            raise UpstreamError(Reason.INTERNAL, f"internal error: {type(error).__name__}") from None
        if len(result.streams) > STREAMS_PER_STEP:
            # yield between reading the last response and processing the result
            await asyncio.sleep(0)
        return redacted

    async def _apply_result(self, result: PollResult, streams: tuple[StreamSettings, ...], requests: Requests) -> None:
        now = self._clock.instant()
        self._schedule.record_success(now.steady, result.round_seconds, self._rate_limit_pause())
        self.tracker.set_interval(self._schedule.effective_interval)
        self.tracker.configure(streams)
        self._use_calendars()
        self._clock_skew = requests.clock_skew_seconds
        self._version = result.version or self._version
        self._are_statistics_frozen = result.are_statistics_frozen
        self._analytics, self._passthrough = tuple(map(self._label_analytics, result.analytics)), result.passthrough
        await _run_in_steps(self.tracker.apply(result, now, self._clock_skew or 0.0))
        if result.is_evidence:
            await _run_in_steps(
                self._histograms.observe_in_steps(self.tracker.updated_states(), self._find_maintenance())
            )
        self._histograms.forget_all_but(state.identity.stream for state in self.tracker.states())
        self._count_and_log_faults(result)
        self._log_wrong_clock()
        self._up, self._error, self._last_success = True, None, now.wall
        self._answered_at = now.steady
        self._answers_until = now.steady + ANSWERING_INTERVALS * self._schedule.effective_interval
        if result.not_owned:
            self._up = self._last_success = self._answered_at = None
            self._answers_until = math.inf
        else:
            self._log_success(now.steady)

    async def _apply_failure(self, error: UpstreamError, started_at: float) -> None:
        now = self._clock.instant()
        self._schedule.record_failure(now.steady, error.retry_after)
        self.tracker.set_interval(self._schedule.effective_interval)
        self._limit_answering(started_at)
        await _run_in_steps(self.tracker.refresh(now))
        self._failed_polls += 1
        if self._failing_since is None:
            self._failing_since = now.steady
            self._log_failure(error, now.steady)
        else:
            log.debug("upstream is still failing", **self._labels, reason=error.reason.value, error=str(error))
        self._up, self._error = False, error

    def _limit_answering(self, started_at: float) -> None:
        """Set when the upstream stops answering, after a failed poll. ``started_at``: its start, in steady seconds."""
        interval = self._schedule.effective_interval
        until = started_at + ANSWERING_INTERVALS * interval
        if self._answered_at is not None:
            # after a pause for the rate limit, a single failed poll does not end it
            until = max(self._answered_at + ANSWERING_INTERVALS * interval, until - interval)
        self._answers_until = min(self._answers_until, until)

    def _is_answering(self, now: float) -> bool | None:
        """Return whether the last successful poll is recent; None while the first one is not overdue."""
        is_in_time = now < self._answers_until
        if self._answered_at is None and (self._up is None or is_in_time):
            return None
        return is_in_time

    def _next_change(self) -> float:
        """Return when a state, or whether the upstream is answering, changes without a poll, in steady seconds."""
        if self._calendars_version != self.calendars.version:
            return -math.inf
        until = math.inf if self._was_answering is False else self._answers_until
        return min(self.tracker.next_change, until)

    def _use_calendars(self) -> None:
        """Have the calendars of the configured streams read; polls on demand use those of the scheduled polls."""
        if not self._is_on_demand:
            self.calendars.use(self.settings.name, self.tracker.used_calendars)

    def _set_not_owned(self, not_owned: bool) -> None:
        """Remove all series of the upstream, including counters, while only other shards poll it."""
        if not_owned and not self._not_owned:
            self._metrics.remove_upstream(**self._labels)
        elif self._not_owned and not not_owned:
            self._metrics.add_upstream(**self._labels, labels=self.settings.label_pairs)
        self._not_owned = not_owned

    def _label_analytics(self, analytics: Analytics) -> Analytics:
        """Replace the stream's id with its label; analytics of the whole account have neither."""
        label = self.tracker.labels.analytics_label(analytics.stream, analytics.name) if analytics.stream else ""
        return msgspec.structs.replace(analytics, stream=label, name="")

    def _rate_limit_pause(self) -> float | None:
        until = self.client.rate_limit.paused_until
        return None if until is None else until - self._clock.monotonic()

    # -- metrics, logs and the published state -----------------------------------------------------------------------

    def _count_and_log_faults(self, result: PollResult) -> None:
        for reason in result.failures.values():
            self._metrics.count_stream_failure(**self._labels, reason=reason)
        for field, times in result.dropped_fields.items():
            self._metrics.count_dropped_field(**self._labels, field=field, times=times)
        for (kind, reason_word), times in result.fetch_failures.items():
            self._metrics.count_fetch_failures(**self._labels, kind=kind, reason=reason_word, times=times)
        if result.duplicate_records:
            self._metrics.count_duplicate_records(**self._labels, times=result.duplicate_records)
        new_words = result.unknown_words.keys() - self._logged_words
        if new_words:
            self._logged_words |= new_words
            words = {field: result.unknown_words[field][:WORD_CHARACTERS] for field in sorted(new_words)}
            log.warning("platform reports unknown values", **self._labels, words=words)
        if result.list_doubt != self._logged_doubt:
            self._logged_doubt = result.list_doubt
            if result.list_doubt:
                log.warning("stream list may be incomplete", **self._labels, why=result.list_doubt)
        new_fields = result.dropped_fields.keys() - self._logged_fields
        if new_fields:
            self._logged_fields |= new_fields
            log.warning("invalid values dropped", **self._labels, fields=sorted(new_fields))
        new_streams = result.failures.keys() - self._logged_stream_failures
        if new_streams:
            first = sorted(new_streams)[:NAMES_IN_A_LOG_LINE]
            log.warning(
                "poll succeeded, but some streams failed",
                **self._labels,
                count=len(new_streams),
                streams=[self.tracker.label(id_) for id_ in first],
                reasons=sorted({result.failures[id_].value for id_ in new_streams}),
            )
        self._logged_stream_failures = set(result.failures)

    def _log_wrong_clock(self) -> None:
        """Log once that the clocks differ; no stream's state depends on it."""
        is_wrong = self._clock_skew is not None and abs(self._clock_skew) > CLOCK_TOLERANCE_SECONDS
        if is_wrong and not self._is_clock_logged:
            log.warning(
                "platform clock differs from the exporter's",
                **self._labels,
                ahead_seconds=round(self._clock_skew or 0.0),
            )
        self._is_clock_logged = is_wrong

    def _log_failure(self, error: UpstreamError, now: float) -> None:
        """Log a failure, at most once in ten minutes as a warning."""
        if now - self._failure_logged_at < FAILURE_LOG_SECONDS:
            self._quiet_failures += 1
            log.debug("upstream is failing again", **self._labels, reason=error.reason.value, error=str(error))
            return
        before = {"failed_before": self._quiet_failures} if self._quiet_failures else {}
        self._failure_logged_at, self._quiet_failures, self._is_failure_logged = now, 0, True
        log.warning(
            "upstream is failing",
            **self._labels,
            host=self.settings.host,
            reason=error.reason.value,
            error=str(error),
            **before,
        )

    def _log_success(self, now: float) -> None:
        """Log the first successful poll, and the recovery from a logged failure after two successful polls in a row."""
        if self._failing_since is not None:
            down_seconds = round(now - self._failing_since, 3)
            self._recovery = {"down_seconds": down_seconds, "failed_polls": self._failed_polls}
            self._failing_since, self._failed_polls = None, 0
        elif self._recovery is not None:
            if self._is_failure_logged and self._has_logged_start:
                log.info("upstream is back", **self._labels, **self._recovery)
            self._recovery, self._is_failure_logged = None, False
        if not self._has_logged_start:
            self._has_logged_start = True
            states = self.tracker.states()
            live = sum(bool(state.live) for state in states)
            log.info("upstream is up", **self._labels, streams=len(states), live=live)
            self._is_failure_logged = False

    def _publish_state(self) -> None:
        now = self._clock.instant()
        until_next = self._schedule.due - now.steady
        self._was_answering = self._is_answering(now.steady)
        streams = self.tracker.states()
        threshold_rows, off_rows = self.tracker.overrides.rows(streams)
        self._calendars_version = self.calendars.version
        self._publish_with_maintenance(
            UpstreamState(
                platform=self.settings.platform,
                upstream=self.settings.name,
                host=self.settings.host,
                health_score=self.platform.health_score,
                feeds=self._feeds,
                version=self._version,
                up=self._up,
                answering=self._was_answering,
                list_complete=self.tracker.list_complete if self._up is not None else None,
                are_statistics_frozen=self._are_statistics_frozen if self._was_answering else None,
                streams=streams,
                former_labels=self.tracker.former_labels(now),
                streams_dropped=self.tracker.dropped,
                poll_interval_seconds=self._schedule.effective_interval,
                last_success_timestamp_seconds=self._last_success,
                clock_skew_seconds=self._clock_skew,
                rate_limit_remaining=self.client.rate_limit.remaining,
                last_error=redactor.scrub_text(str(self._error)) if self._error else "",
                last_error_reason=self._error.reason if self._error else None,
                last_poll_at=self._last_poll,
                next_poll_at=now.wall + until_next,
                sampled=self._histograms.snapshot(),
                analytics=tuple(analytics for analytics in self._analytics if now.steady < analytics.stale_at),
                passthrough=self._passthrough
                if self._passthrough is not None and now.steady < self._passthrough.stale_at
                else None,
                not_owned=self._not_owned,
                excluded=self.settings.excluded_families,
                labels=self.settings.label_pairs,
                overrides=self.tracker.overrides.of_upstream,
                threshold_rows=threshold_rows,
                off_rows=off_rows,
                calendars=self.calendars.states(self.settings.name),
                source_upstreams=self._source_upstreams,
            )
        )

    def _publish_with_maintenance(self, state: UpstreamState) -> None:
        maintenance = NO_MAINTENANCE if self._not_owned else self._find_maintenance()
        if maintenance != self._published_maintenance:
            if not self._is_on_demand:
                log.info("maintenance has changed", **self._labels, **maintenance.summary())
            self._published_maintenance = maintenance
        self._store.publish(maintenance.apply_to(state))

    def _find_maintenance(self) -> ActiveMaintenance:
        return self._maintenance.active(self.tracker.maintenance_windows, self._clock.instant())


async def _run_in_steps(work: Iterator[None]) -> None:
    """Run a generator and yield to the event loop after every step."""
    for _ in work:
        await asyncio.sleep(0)


def build_coordinator(
    settings: UpstreamSettings,
    platform: type[Platform[Any]],
    *,
    store: Store,
    metrics: PollingMetrics,
    clock: Clock,
    started_at: Instant,
    shard: Shard = SINGLE,
    group_keys: Mapping[str, HashKey] | None = None,
    per_stream: bool = False,
    random_: random.Random | None = None,
    scheduled: Coordinator | None = None,
    calendars: Calendars | None = None,
    maintenance: ManualMaintenance | None = None,
    vantage: Vantage | None = None,
) -> Coordinator:
    """Build the coordinator of one upstream, which publishes to ``store``.

    ``started_at``: when the exporter started. ``group_keys``: hash keys of streams in groups and pairs, by label.
    ``per_stream``: whether to keep histograms per stream. ``random_``: spreads the first polls. ``scheduled``: for
    polls on demand, the coordinator of the scheduled polls; both share the account's rate limit, its logins and the
    streams' labels. ``calendars``: those in use. ``maintenance``: started by hand. ``vantage``: which hosts the
    exporter reaches.
    """
    labels = {"platform": settings.platform, "upstream": settings.name}
    calendars = calendars or Calendars(clock)
    client = UpstreamClient.from_settings(settings, clock, metrics.request_observer(**labels), vantage)
    if scheduled is not None:
        client.share(scheduled.client)
    shard_filter = ShardFilter(
        shard,
        settings.name,
        by_name=settings.stream_label == "name",
        group_keys=group_keys,
        label_of=label_maker(settings),
    )
    # build the platform first: it sets the shard filter's configured streams, which the tracker reads
    built_platform = platform(settings, client, clock, shard_filter)
    return Coordinator(
        settings,
        platform=built_platform,
        client=client,
        tracker=Tracker(
            settings,
            started_at,
            derives_scores=platform.health_score == "derived",
            start_is_of_session=platform.start_is_of_session,
            preferred_labels=scheduled.tracker.labels if scheduled else None,
            shard_filter=shard_filter,
            calendars=calendars,
        ),
        histograms=(NoHistograms if scheduled else PollHistograms)(**labels, per_stream=per_stream),
        schedule=Schedule(settings.interval, random_ or random.Random()),  # noqa: S311 - spreads load, guards nothing
        store=store,
        metrics=metrics,
        clock=clock,
        calendars=calendars,
        is_on_demand=scheduled is not None,
        maintenance=UpstreamMaintenance(settings, maintenance or ManualMaintenance(clock)),
        group_keys=group_keys,
    )
