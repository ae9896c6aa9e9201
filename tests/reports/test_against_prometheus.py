"""A report agrees with a Prometheus that watched the same hour.

The states of an hour, with outages, restarts and low bitrate, go to the recorder, and through the exposition to a real
Prometheus, which scrapes every 15 s. The two may differ by one scrape interval per change.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from exporter.cli.settings import load_settings
from exporter.model import StreamState
from exporter.reports.report import Span
from exporter.service import Service
from tests.dashboards.prometheus_history import make_blocks, serve_blocks, write_scrape
from tests.fake_clock import FakeClock
from tests.real.prometheus import Prometheus
from tests.reports.recording import BEGIN, EXPECTED_BITRATE, stream, upstream
from tests.reports.served_reports import CONFIG, serve_without_polling

pytestmark = pytest.mark.real

HOUR = 3600.0
SCRAPE_SECONDS = 15.0
STREAMS = (("edge", "main"), ("edge", "second"), ("edge", "third"), ("other", "backup"))
GROUP = (("edge", "main"), ("other", "backup"))
ANSWERING = "and on (platform, upstream) stream_upstream_answering == 1"


@dataclass
class Life:
    """A stream whose facts change at random."""

    name: str
    upstream: str
    live: bool | None = True
    expected: bool | None = True
    is_low: bool = False
    restarts: int = 0
    viewers: int = 10
    held_until: dict[str, float] = field(default_factory=dict)

    def lived(self, seconds: float, chance: random.Random) -> StreamState:
        """Change facts that have been held long enough, for longer than a scrape interval, and return the state."""
        before = replace(self)
        if self._is_due("live", seconds, chance, 60, 600):
            self.live = chance.choice([True, True, False, None] if not self.live else [False, False, None])
        if self._is_due("expected", seconds, chance, 300, 1800):
            self.expected = chance.choice([True, False, None]) if self.expected else True
        if self._is_due("bitrate", seconds, chance, 60, 600):
            self.is_low = not self.is_low
        if self._is_due("viewers", seconds, chance, 60, 200):
            self.viewers = chance.randrange(1000)
        returned = self.live is True and before.live is False
        if returned or self._is_due("restarts", seconds, chance, 300, 1200):
            self.restarts += self.live is True
        return self._state()

    def _is_due(self, fact: str, seconds: float, chance: random.Random, shortest: int, longest: int) -> bool:
        is_first = fact not in self.held_until
        is_due = not is_first and seconds >= self.held_until[fact]
        if is_first or is_due:
            self.held_until[fact] = seconds + chance.uniform(shortest, longest)
        return is_due

    def _state(self) -> StreamState:
        return stream(
            self.name,
            upstream=self.upstream,
            live=self.live,
            expected=self.expected,
            viewers=self.viewers if self.live else None,
            bitrate=(0.6 if self.is_low else 0.9) * EXPECTED_BITRATE if self.live else None,
            restarts=self.restarts,
        )


@dataclass(frozen=True)
class Watched:
    """An hour as seen by the exporter and by Prometheus."""

    reports: Mapping[str, dict[str, Any]]
    """By group or ``upstream/stream``."""
    changes: Mapping[str, int]
    """Number of changes of each stream, including those of its upstream, and of the group's members."""
    prometheus: Prometheus

    def points(self, expression: str) -> list[tuple[float, float]]:
        """Return the points of the only series of an expression, one per scrape."""
        found = self.prometheus.get(
            "query_range", query=expression, start=BEGIN, end=BEGIN + HOUR - 1, step=SCRAPE_SECONDS
        )["result"]
        assert len(found) <= 1, expression
        return [(at, float(value)) for at, value in found[0]["values"]] if found else []

    def minutes(self, expression: str) -> float:
        """Return for how long an expression had a value."""
        return len(self.points(expression)) * SCRAPE_SECONDS / 60


@pytest.fixture(scope="module", params=[1, 2])
def watched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    directory = tmp_path_factory.mktemp("hour")
    reports, changes = live_for_an_hour(directory, random.Random(request.param))
    with serve_blocks(directory, make_blocks(directory, directory / "history.txt"), SCRAPE_SECONDS / 2) as prometheus:
        yield Watched(reports, changes, prometheus)


def live_for_an_hour(directory: Path, chance: random.Random) -> tuple[dict[str, dict[str, Any]], dict[str, int]]:
    """Publish states about every 15 s, scrape every 15 s, and return the reports on the hour."""
    file = directory / "config.yaml"
    file.write_text(CONFIG)
    clock = FakeClock(now=BEGIN)
    service = Service(load_settings(file, {}), load=lambda: load_settings(file, {}), clock=clock)
    serve_without_polling(service)
    lives = [Life(name, upstream_name) for upstream_name, name in STREAMS]
    outages = {"edge": (1200.0, 1500.0), "other": (2000.0, 2300.0)}
    changes: Counter[str] = Counter()
    seen: dict[str, object] = {}
    with (directory / "history.txt").open("w", encoding="utf-8") as history:
        for round_ in range(int(HOUR / SCRAPE_SECONDS)):
            for index, name in enumerate(outages):
                # before the scrape of this round, each upstream at its own time
                before_scrape = 0.0 if round_ == 0 else chance.uniform(7.6, 14.9) - 7.5 * index
                clock.advance(BEGIN + SCRAPE_SECONDS * round_ - before_scrape - clock.now())
                passed = clock.now() - BEGIN
                answering = not outages[name][0] <= passed < outages[name][1]
                states = [life.lived(passed, chance) for life in lives if life.upstream == name]
                service.store.publish(upstream(*states, name=name, answering=answering))
                for state in states:
                    key = f"{name}/{state.identity.stream}"
                    facts = (answering, state.live, state.expected, state.report.ingest_bitrate_bytes_per_second)
                    changes[key] += seen.get(key) not in (None, facts)
                    seen[key] = facts
            clock.advance(BEGIN + SCRAPE_SECONDS * round_ - clock.now())
            write_scrape(history, service.exposition.render().decode(), clock.now(), scrape_seconds=0.01)
        history.write("# EOF\n")
    clock.advance(SCRAPE_SECONDS)
    changes["final"] = sum(changes["/".join(key)] for key in GROUP)
    return make_reports(service), dict(changes)


def make_reports(service: Service) -> dict[str, dict[str, Any]]:
    import asyncio

    async def make() -> dict[str, dict[str, Any]]:
        span, reports = Span(BEGIN, BEGIN + HOUR), service.reports
        made = {"/".join(key): await reports.render_stream(*key, span, "json") for key in STREAMS}
        made["final"] = await reports.render_group("final", span, "json")
        await service.stop()
        return {name: msgspec.json.decode(body) for name, body in made.items()}

    return asyncio.run(make())


def labels(key: tuple[str, str]) -> str:
    return f'upstream="{key[0]}", stream="{key[1]}"'


@pytest.mark.parametrize("key", STREAMS, ids="/".join)
def test_minutes_of_a_stream_agree(watched: Watched, key: tuple[str, str]) -> None:
    name, chosen = "/".join(key), labels(key)
    entry, tolerance = watched.reports[name], watched.changes[name] * SCRAPE_SECONDS / 60
    live, off_air = (f"stream_live{{{chosen}}} == {value} {ANSWERING}" for value in (1, 0))
    is_low = (
        f"stream_ingest_bitrate_bytes_per_second{{{chosen}}} < on (stream) "
        f"0.75 * stream_expected_ingest_bitrate_bytes_per_second{{{chosen}}} and on (stream) ({live})"
    )
    expected = f"stream_expected{{{chosen}}} == 1"
    seen = {
        "live_minutes": watched.minutes(live),
        "off_air_minutes": watched.minutes(off_air),
        "unknown_minutes": 60 - watched.minutes(live) - watched.minutes(off_air),
        "expected_minutes": watched.minutes(expected),
        "live_while_expected_minutes": watched.minutes(f"{live} and on (stream) {expected}"),
        "off_air_while_expected_minutes": watched.minutes(f"{off_air} and on (stream) {expected}"),
        "below_bitrate_threshold_minutes": watched.minutes(is_low),
    }
    assert {name: entry[name] for name in seen} == pytest.approx(seen, abs=tolerance)
    # on average the errors cancel out, so a systematic difference would show
    assert {name: entry[name] for name in seen} == pytest.approx(seen, abs=2.0)
    assert min(seen["live_minutes"], seen["unknown_minutes"]) > 4.0, "the hour has some of everything"
    assert entry["not_recorded_minutes"] == 0.0


@pytest.mark.parametrize("key", STREAMS, ids="/".join)
def test_restarts_and_peak_of_a_stream_agree(watched: Watched, key: tuple[str, str]) -> None:
    entry, chosen = watched.reports["/".join(key)], labels(key)
    counts = [value for _, value in watched.points(f"stream_restarts_total{{{chosen}}}")]
    rises = sum(max(0.0, later - earlier) for earlier, later in pairwise(counts))
    assert entry["restarts"] == rises
    viewers = watched.points(f"stream_viewers{{{chosen}}} {ANSWERING}")
    peak = max(value for _, value in viewers)
    assert entry["peak_viewers"]["viewers"] == peak


@pytest.mark.parametrize("key", STREAMS, ids="/".join)
def test_incidents_of_a_stream_agree(watched: Watched, key: tuple[str, str]) -> None:
    entry, chosen = watched.reports["/".join(key)], labels(key)
    missing = f"stream_expected{{{chosen}}} == 1 unless on (stream) (stream_live{{{chosen}}} == 1 {ANSWERING})"
    times = [at for at, _ in watched.points(missing)]
    starts = [at for at in times if at - SCRAPE_SECONDS not in times]
    assert entry["incident_count"] == len(starts) > 0
    assert sum(incident["minutes"] for incident in entry["incidents"]) == pytest.approx(
        len(times) * SCRAPE_SECONDS / 60, abs=2 * len(starts) * SCRAPE_SECONDS / 60
    )


def test_hour_has_restarts(watched: Watched) -> None:
    assert sum(watched.reports["/".join(key)]["restarts"] for key in STREAMS) >= 4


def test_figures_of_a_group_agree(watched: Watched) -> None:
    entry, tolerance = watched.reports["final"], watched.changes["final"] * SCRAPE_SECONDS / 60
    live, off_air = (
        " or ".join(f"(stream_live{{{labels(key)}}} == {value} {ANSWERING})" for key in GROUP) for value in (1, 0)
    )
    expected = 'stream_group_expected{group="final"} == 1'
    seen = {
        "live_minutes": watched.minutes(f"count({live}) >= 1"),
        "off_air_minutes": watched.minutes(f"count({off_air}) >= 2"),
        "expected_minutes": watched.minutes(expected),
        "expectation_unknown_minutes": 60 - watched.minutes('stream_group_expected{group="final"}'),
    }
    seen["unknown_minutes"] = 60 - seen["live_minutes"] - seen["off_air_minutes"]
    assert {name: entry[name] for name in seen} == pytest.approx(seen, abs=min(tolerance, 2.0))
    viewers = " or ".join(f"(stream_viewers{{{labels(key)}}} {ANSWERING})" for key in GROUP)
    together = max(value for _, value in watched.points(f"sum({viewers})"))
    maxima = " or ".join(f"max_over_time(stream_viewers{{{labels(key)}}}[30s])" for key in GROUP)
    at_most = max(value for _, value in watched.points(f"sum({maxima})"))
    assert together <= entry["peak_viewers"]["viewers"] <= at_most
