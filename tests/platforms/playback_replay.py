"""Replays what a playback check fetched from real servers, on a clock that only the replay advances."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from exporter.alerting.evaluator import AlertKey, Evaluator, Phase
from exporter.alerting.rules import RULES_BY_NAME
from exporter.alerting.rules.active_rules import rules_in_force
from exporter.config.alerting import AlertingSettings
from exporter.http.media import ByteRange, CookieJar, Fetched, FetchError, FetchReason
from exporter.media.facts import Container, MediaFacts, Track, TrackKind
from exporter.media.fmp4 import InitFacts
from exporter.metrics.exposition import Exposition
from exporter.metrics.self_metrics import ExporterMetrics
from exporter.platforms import hls
from exporter.platforms.playback import segment_checks
from exporter.platforms.registry import platforms
from exporter.platforms.testing import RecordedResponse, serve_responses
from exporter.polling.coordinator import Coordinator, build_coordinator
from exporter.polling.self_metrics import PollingMetrics
from exporter.runtime.clock import Clock
from exporter.store import Store
from tests.alerting.inhibition import Notifications
from tests.fake_clock import FakeClock
from tests.real.playback_scenarios import SOURCE, Scenario, Values, source_upstream, values
from tests.real.playback_timeline import SEVERITIES, SOURCE_LOG, name_of, read_log
from tests.sidecar.fake_alertmanager import run_event_loop

URL: Final = "http://origin.example.com"
STEP: Final = 1.0
EVALUATION_SECONDS: Final = 5.0
LONG_SECONDS: Final = 0.2
"""Duration of a segment's fetch from which the replay waits, too."""
ROUNDS: Final = 30


class WireLog:
    """The log of one scenario, in chronological order."""

    def __init__(self, name: str) -> None:
        self.failed_at, entries = read_log(name)
        """Unix seconds."""
        self.polls = [entry["poll"] for entry in entries if "poll" in entry]
        self._fetches: dict[tuple[str, bool | None], list[dict[str, Any]]] = defaultdict(list)
        """By path, and whether all of a segment was requested."""
        self._facts: dict[tuple[str, bool], dict[str, Any]] = {}
        """By path, and whether only the start was read."""
        self.requests = self.unknown = 0
        """Number of requests, and of those that were not recorded."""
        for entry in entries:
            if "facts" in entry:
                self._facts[entry["path"], entry["is_cut"]] = entry["facts"]
            if "what" in entry:
                self._fetches[entry["path"], entry.get("whole")].append(entry)

    def find(self, path: str, now: float, *, whole: bool | None) -> dict[str, Any]:
        """Return what was fetched closest to this time. ``whole``: None for a playlist."""
        self.requests += 1
        found = self._fetches.get((path, whole))
        if found is None:
            # the replay looks at another segment, or at more of it: it gets what segments of that time are like
            self.unknown += 1
            found = [each for (_, kind), fetches in self._fetches.items() if kind == whole for each in fetches]
        return min(found, key=lambda entry: abs(entry["time"] - now))

    def facts(self, path: str, *, is_cut: bool) -> MediaFacts:
        """Return what a segment shows."""
        found = self._facts.get((path, is_cut)) or next(
            facts for (_, other), facts in reversed(self._facts.items()) if other == is_cut
        )
        tracks = tuple(
            Track(
                kind=TrackKind(kind),
                codec=codec,
                number=number,
                declared=True,
                packets=packets,
                encrypted=False,
                width_pixels=width,
                height_pixels=height,
            )
            for number, (kind, codec, packets, width, height) in enumerate(found["tracks"])
        )
        return MediaFacts(
            container=Container(found["container"]), audio=found["audio"], video=found["video"], tracks=tracks
        )


class RecordedFetcher:
    """Stands in for the media fetcher."""

    log: WireLog
    clock: Clock

    def __init__(self, **_: Any) -> None:
        pass

    def cookie_jar(self) -> CookieJar:
        return CookieJar(self.clock)

    async def close(self) -> None:
        pass

    async def fetch_playlist(self, url: str, cookies: CookieJar, **_: Any) -> Fetched:
        return await self._fetch(url, None)

    async def fetch_head(
        self,
        url: str,
        cookies: CookieJar,
        *,
        byte_range: ByteRange | None = None,
        **_: Any,
    ) -> Fetched:
        return await self._fetch(url, whole=False)

    async def fetch_whole(
        self,
        url: str,
        cookies: CookieJar,
        *,
        byte_range: ByteRange | None = None,
        **_: Any,
    ) -> Fetched:
        return await self._fetch(url, whole=True)

    async def _fetch(self, url: str, whole: bool | None) -> Fetched:
        path = urlsplit(url).path
        entry = self.log.find(path, self.clock.now(), whole=whole)
        if whole is not None and entry["seconds"] > LONG_SECONDS:
            # polls wait for playlists, and the clock stands still during polls
            await self.clock.sleep(entry["seconds"])
        if "error" in entry:
            raise FetchError(
                FetchReason(entry["error"]),
                f"{entry['what']}: {entry.get('status')}",
                status=entry.get("status"),
                is_inconclusive=entry.get("is_inconclusive", False),
                seconds=entry["seconds"],
            )
        date = entry.get("date")
        return Fetched(
            url=url,
            status=entry["status"],
            body=entry["body"].encode() if whole is None else bytes(entry["bytes"]),
            is_cut=entry.get("is_cut", False),
            total_bytes=entry.get("total_bytes"),
            content_type=entry["type"],
            date=None if date is None else date - entry["time"] + self.clock.now(),
            age=entry.get("age"),
            redirects=0,
            first_byte_seconds=entry["first_byte"],
            body_seconds=entry["seconds"] - entry["first_byte"],
        )


class StatisticsPages(Mapping[str, Any]):
    """The recorded statistics pages of nginx-rtmp; the one of the present moment is served."""

    def __init__(self) -> None:
        self.entries = [json.loads(line) for line in SOURCE_LOG.read_text().splitlines()]
        self.body = ""

    def __getitem__(self, name: str) -> RecordedResponse:
        if name != "GET /stat":
            raise KeyError(name)
        return RecordedResponse(self.body.encode(), content_type="text/xml")

    def __iter__(self) -> Iterator[str]:
        return iter(["GET /stat"])

    def __len__(self) -> int:
        return 1


@dataclass
class Replay:
    """What a replay served. Times are in seconds since the failure."""

    states: list[tuple[float, Values]] = field(default_factory=list)
    alerts: dict[str, float] = field(default_factory=dict)
    """When each alert of the sidecar that is not inhibited began to fire, named as in the measurements."""
    unknown_share: float = 0.0
    """Share of the requests that were not recorded."""


class _Run:
    """A replay in progress."""

    def __init__(
        self, scenario: Scenario, log: WireLog, clock: FakeClock, source_url: str, pages: StatisticsPages
    ) -> None:
        self._scenario = scenario
        self._log = log
        self._pages = pages
        self.clock = clock
        self._store = Store()
        self._store.arrange([SOURCE, scenario.name])
        self._exposition = Exposition(self._store.states, ExporterMetrics())
        self._evaluator = Evaluator(rules_in_force(AlertingSettings()))
        self._notifications = Notifications()
        self.found = Replay()
        RecordedFetcher.log, RecordedFetcher.clock = log, self.clock
        self.check = self._build(scenario.settings(URL))
        self.source = self._build(source_upstream(source_url)) if scenario.source else None

    def _build(self, settings: dict[str, Any]) -> Coordinator:
        platform = platforms()[settings["platform"]]
        metrics = PollingMetrics(ExporterMetrics().upstreams)
        metrics.add_upstream(platform.name, settings["name"], ())
        return build_coordinator(
            platform.settings_class.model_validate(settings),
            platform,
            store=self._store,
            metrics=metrics,
            clock=self.clock,
            started_at=self.clock.instant(),
        )

    def moments(self) -> list[tuple[float, int, str]]:
        """Return the polls of the check and of its source, and evaluations and scrapes, in order of time."""
        begin, end = self._log.polls[0], self._log.polls[-1]
        found = [(at, 1, "poll") for at in self._log.polls]
        if self.source is not None:
            found += [(max(entry["time"], begin), 0, entry["body"]) for entry in self._pages.entries]
        steps = range(int((end - begin) / EVALUATION_SECONDS))
        found += [(begin + step * EVALUATION_SECONDS, 2, "evaluate") for step in steps]
        return sorted(moment for moment in found if moment[0] <= end)

    async def go_to(self, at: float) -> None:
        while (left := at - self.clock.now()) > 0:
            self.clock.advance(min(left, STEP))
            await run_event_loop(ROUNDS)

    async def run(self) -> Replay:
        for at, kind, what in self.moments():
            await self.go_to(at)
            if kind == 0:
                assert self.source is not None
                self._pages.body = what
                await self.source.poll()
            elif kind == 1:
                await self.check.poll()
                await run_event_loop(ROUNDS)
                text = self._exposition.render({"upstreams", "streams"})
                self.found.states.append((self._seconds, values(text.decode(), self._scenario.name)))
            self._evaluate()
        self.found.unknown_share = self._log.unknown / self._log.requests
        return self.found

    @property
    def _seconds(self) -> float:
        return self.clock.now() - self._log.failed_at

    def _evaluate(self) -> None:
        for state in self._store.states():
            for _ in self._evaluator.evaluate(state, self.clock.instant()):
                pass
        firing = [_labels(key) for key, alert in self._evaluator.alerts.items() if alert.phase is Phase.FIRING]
        for sent in self._notifications.observe(firing, self._seconds):
            alert = dict(sent)
            name = name_of(alert, self._scenario)
            if name is not None and alert["severity"] in SEVERITIES:
                self.found.alerts[name] = self._notifications.since[sent]


def _labels(key: AlertKey) -> dict[str, str]:
    scope = RULES_BY_NAME[key.rule].scope.value
    labels = {"alertname": key.rule, "severity": key.severity, "scope": scope, "upstream": key.upstream}
    return labels | ({"stream": key.stream} if key.stream else {})


async def _inspect(
    self: segment_checks.SegmentChecker,
    fetched: Fetched,
    init: InitFacts | None,
    *,
    is_opaque: bool,
) -> MediaFacts:
    return RecordedFetcher.log.facts(urlsplit(fetched.url).path, is_cut=fetched.is_cut)


async def replay(scenario: Scenario) -> Replay:
    """Replay the log of a scenario."""
    log, pages = WireLog(scenario.name), StatisticsPages()
    clock = FakeClock(log.polls[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hls, "MediaFetcher", RecordedFetcher)
        patch.setattr(segment_checks.SegmentChecker, "_inspect", _inspect)
        async with serve_responses(pages, clock) as url:
            run = _Run(scenario, log, clock, url, pages)
            try:
                return await run.run()
            finally:
                await run.check.close()
                if run.source is not None:
                    await run.source.close()
