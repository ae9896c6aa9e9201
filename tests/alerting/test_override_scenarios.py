"""Overrides of rules in Prometheus: failed scrapes, replicas, and streams and exporters that disappear.

Rules are the committed ones. Times are seconds since the start.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.alerting.scrape_simulator import (
    EVALUATION,
    Expectations,
    Facts,
    Target,
    check_alerts,
    every,
    every_scrape_interval,
    never,
)
from tests.alerting.test_scrape_scenarios import PRESENCE, QUALITY, run, stream, upstream

pytestmark = pytest.mark.real

HOUR = 3600
missed_scrapes = pytest.mark.parametrize("nth", [2, 4])


def off(rule: str, name: str = "main", *, on: str = "edge") -> dict[str, float]:
    """Return the series of a rule that is switched off for a stream, or for the upstream (empty name)."""
    return {f'stream_alert_off{{platform="storm",upstream="{on}",stream="{name}",rule="{rule}"}}': 1.0}


def threshold(rule: str, value: float, name: str = "main", *, on: str = "edge") -> dict[str, float]:
    return {f'stream_alert_threshold{{platform="storm",upstream="{on}",stream="{name}",rule="{rule}"}}': value}


def restless(at: int, name: str = "main") -> dict[str, float]:
    """Return a live stream that restarts every minute: StreamFlapping, which has no ``for``, is due all the time."""
    return stream(True, name, figures={"restarts_total": at // 60, "health_score_ratio": 0.3})


def failing(nth: int) -> set[str]:
    return {"StreamScrapesFailing"} if nth else set()


def check(
    folder: Path, facts: Callable[[int], Facts], expected: Expectations, scrape: int, nth: int = 0, until: int = 2400
) -> None:
    target = Target(instance="a:1", facts=facts, misses=every(nth) if nth else never)
    run(folder, [target], expected, scrape, until, PRESENCE | QUALITY)


@every_scrape_interval
@missed_scrapes
def test_failed_scrapes_lose_no_override(nth: int, scrape: int, tmp_path: Path) -> None:
    overrides = {
        "off": off("StreamFlapping") | off("StreamUnhealthy") | off("StreamExpectedOffline", "dead"),
        "threshold": threshold("StreamFlapping", 100) | threshold("StreamUnhealthy", 0.2),
    }

    def facts(at: int) -> Facts:
        found = upstream() | stream(False, "dead") | overrides["off"]
        for name in overrides["threshold"]:
            found[name.replace('"main"', '"camera"')] = overrides["threshold"][name]
        return found | restless(at) | restless(at, "camera")

    check(tmp_path, facts, Expectations().only(failing(nth), until=2400), scrape, nth)


@every_scrape_interval
@missed_scrapes
def test_stricter_threshold_fires_despite_failed_scrapes(nth: int, scrape: int, tmp_path: Path) -> None:
    """The score is above the default of StreamUnhealthy, 0.5. One stream restarts three times in 15 minutes."""
    unhealthy, flapping = "StreamUnhealthy/edge/main", "StreamFlapping/edge/main"

    def facts(at: int) -> Facts:
        figures = {"health_score_ratio": 0.8, "restarts_total": at // 290}
        found = upstream() | stream(True, figures=figures) | stream(True, "other", figures=figures)
        return found | threshold("StreamUnhealthy", 0.9) | threshold("StreamFlapping", 2)

    expected = Expectations().fires_at(unhealthy, 120 + 3 * scrape + EVALUATION, 2390).fires_at(flapping, 1200, 2390)
    check(tmp_path, facts, expected.only({unhealthy, flapping} | failing(nth), until=2400), scrape, nth)


@every_scrape_interval
def test_override_of_a_served_stream_ends_at_once(scrape: int, tmp_path: Path) -> None:
    """Switched off until 900; a threshold of another stream holds until 900. Both fire StreamFlapping then."""

    def facts(at: int) -> Facts:
        found = upstream() | restless(at) | restless(at, "camera")
        return found | (off("StreamFlapping") | threshold("StreamFlapping", 100, "camera") if at < 900 else {})

    expected = Expectations().is_silent_at("StreamFlapping", 600, 870)
    for name in ("main", "camera"):
        expected.fires(f"StreamFlapping/edge/{name}", after=900 - EVALUATION, before=900 + scrape + EVALUATION)
    check(tmp_path, facts, expected, scrape)


@every_scrape_interval
@missed_scrapes
def test_vanished_stream_keeps_its_overrides(nth: int, scrape: int, tmp_path: Path) -> None:
    """All streams vanish at 1200. Rules look back for 15 minutes."""
    overridden = {
        "off": {**off("StreamVanished", "off"), **off("StreamFlapping", "off")},
        "tolerant": {**off("StreamVanished", "tolerant"), **threshold("StreamFlapping", 100, "tolerant")},
    }

    def facts(at: int) -> Facts:
        found = upstream() | stream(True, "other")
        if at < 1200:
            found |= stream(True, "plain", expected=None)
        for name, overrides in overridden.items() if at < 1200 else ():
            labels = f'{{platform="storm",upstream="edge",stream="{name}"}}'
            found |= {**overrides, **stream(True, name, expected=None), f"stream_restarts_total{labels}": at // 60}
        return found

    expected = Expectations().only({"StreamVanished/edge/plain"} | failing(nth), until=3000)
    check(tmp_path, facts, expected, scrape, nth, until=3000)


@every_scrape_interval
def test_override_removed_before_the_stream_vanishes_stays_removed(scrape: int, tmp_path: Path) -> None:
    """Switched off until 600, served until 900."""

    def facts(at: int) -> Facts:
        found = upstream() | (stream(True, expected=None) if at < 900 else {})
        return found | (off("StreamVanished") if at < 600 else {})

    vanished = "StreamVanished/edge/main"
    expected = Expectations().fires(vanished, after=900 + 60, before=900 + 120 + 2 * scrape + 2 * EVALUATION)
    check(tmp_path, facts, expected.only({vanished}, until=2400), scrape)


@every_scrape_interval
@missed_scrapes
def test_replicas_and_restarts_lose_no_override(nth: int, scrape: int, tmp_path: Path) -> None:
    """The first replica is replaced at 900 by one with another name; the second is down from 1200 to 1320."""

    def facts(at: int) -> Facts:
        return upstream() | restless(at) | off("StreamFlapping") | threshold("StreamUnhealthy", 0.2)

    misses = every(nth) if nth else never
    targets = [
        Target(instance="a:1", facts=facts, misses=misses, is_discovered=lambda at: at < 900),
        Target(instance="a:2", facts=facts, misses=misses, is_discovered=lambda at: at >= 930),
        Target(instance="b:1", facts=facts, misses=misses, offset=10, is_down=lambda at: 1200 <= at < 1320),
    ]
    expected = Expectations().only({"StreamScrapesFailing"}, until=2400)
    run(tmp_path, targets, expected, scrape, 2400, PRESENCE | QUALITY)


def test_override_in_one_cluster_does_not_affect_another(tmp_path: Path) -> None:
    def plain(at: int) -> dict[str, float]:
        return upstream() | restless(at)

    def overridden(at: int) -> Facts:
        return plain(at) | off("StreamFlapping") | off("StreamUnhealthy")

    targets = [
        Target(instance="a:1", facts=overridden, labels={"cluster": "c1"}),
        Target(instance="a:1", facts=plain, labels={"cluster": "c2"}),
    ]
    expected = Expectations()
    for cluster, count in (("c1", 0), ("c2", 1)):
        expected.checks.append(
            {
                "expr": f'count by (alertname) (last_over_time(ALERTS{{alertstate="firing",cluster="{cluster}"}}[1h]))',
                "eval_time": "2400s",
                "exp_samples": [
                    {"labels": f'{{alertname="{alert}"}}', "value": 1}
                    for alert in ("StreamFlapping", "StreamUnhealthy")
                ]
                * count,
            }
        )
    run(tmp_path, targets, expected, 30, 2400, PRESENCE | QUALITY)


# -- upstreams ---------------------------------------------------------------------------------------------------------


def polls(at: int, share: float, on: str = "edge") -> dict[str, float]:
    """Return the counters of polls every 15 s, of which a share has failed."""
    labels = f'platform="storm",upstream="{on}"'
    return {
        f"stream_upstream_polls_total{{{labels}}}": at // 15,
        f'stream_upstream_poll_failures_total{{{labels},reason="timeout"}}': int(at // 15 * share),
    }


@every_scrape_interval
@missed_scrapes
def test_failed_scrapes_lose_no_override_of_an_upstream(nth: int, scrape: int, tmp_path: Path) -> None:
    """One upstream fails; of another, 60 % of the polls do. Both have the rules off; a third tolerates 70 %."""

    def facts(at: int) -> Facts:
        found = upstream("down", up=False) | upstream("flaky") | upstream("tolerant") | stream(False, on="down")
        found |= polls(at, 0.6, "flaky") | polls(at, 0.6, "tolerant")
        found |= off("StreamUpstreamDown", "", on="down") | off("StreamUpstreamUnstable", "", on="flaky")
        return found | threshold("StreamUpstreamUnstable", 0.7, "", on="tolerant")

    check(tmp_path, facts, Expectations().only(failing(nth), until=2400), scrape, nth)


@every_scrape_interval
def test_critical_grade_keeps_its_own_threshold(scrape: int, tmp_path: Path) -> None:
    """40 % and 60 % of the polls fail; the warning fires above 10 %, and the critical alert above 50 % as before."""

    def facts(at: int) -> Facts:
        found = upstream("some") | upstream("most") | polls(at, 0.4, "some") | polls(at, 0.6, "most")
        for name in ("some", "most"):
            found |= threshold("StreamUpstreamUnstable", 0.1, "", on=name)
        return found

    expected = Expectations()
    for severity, upstreams in (("warning", ["most", "some"]), ("critical", ["most"])):
        selected = f'alertname="StreamUpstreamUnstable",alertstate="firing",severity="{severity}"'
        expected.checks.append(
            {
                "expr": f"group by (upstream) (last_over_time(ALERTS{{{selected}}}[1h]))",
                "eval_time": "2400s",
                "exp_samples": [{"labels": f'{{upstream="{name}"}}', "value": 1} for name in upstreams],
            }
        )
    check(tmp_path, facts, expected, scrape)


@every_scrape_interval
def test_dead_exporter_keeps_the_overrides_of_its_upstreams(scrape: int, tmp_path: Path) -> None:
    """Its target is down from 1200, when 60 % of the polls fail; StreamUpstreamUnstable looks back for 10 minutes."""

    def both(at: int) -> Facts:
        found = upstream("quiet") | upstream("paging") | polls(at, 0.6, "quiet")
        return found | off("StreamUpstreamUnwatched", "", on="quiet") | off("StreamUpstreamUnstable", "", on="quiet")

    targets = [
        Target(instance="a:1", facts=lambda _: upstream()),
        Target(instance="b:1", facts=both, is_down=lambda at: at >= 1200),
    ]
    expected = Expectations().only({"StreamUpstreamUnwatched/paging", "StreamScrapesFailing"}, until=3600)
    run(tmp_path, targets, expected, scrape, 3600)


def test_unwatched_upstream_stays_off_for_as_long_as_the_rule_looks_back(tmp_path: Path) -> None:
    """One of two upstreams is switched off when their exporter disappears at 900, the other no longer is."""

    def both(at: int) -> Facts:
        found = upstream("quiet") | upstream("paging") | off("StreamUpstreamUnwatched", "", on="quiet")
        return found | (off("StreamUpstreamUnwatched", "", on="paging") if at < 600 else {})

    lost = Target(instance="b:1", facts=both, is_discovered=lambda at: at < 900)
    check_alerts(
        tmp_path,
        [Target(instance="a:1", facts=lambda _: upstream()), lost],
        Expectations().only({"StreamUpstreamUnwatched/paging"}, until=9 * HOUR),
        scrape_interval=60,
        evaluation=60,
        duration=9 * HOUR,
        alerts={"StreamUpstreamUnwatched"},
    )
