"""Prometheus set-ups in which rules like these have missed alerts or paged falsely, at three scrape intervals.

Rules and thresholds are the committed ones. Times are seconds since the start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from exporter.alerting.promql import ConfiguredUpstream, Dialect
from exporter.alerting.rule_files import alerts_file, recordings_file
from exporter.alerting.rules import RULES
from exporter.alerting.rules.active_rules import rules_in_force
from exporter.alerting.rules.rule import Owner
from exporter.alerting.rules.slo_rules import SLO_RULES
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

pytestmark = pytest.mark.real

SCRAPES = (15, 30, 60)
PRESENCE = {
    "StreamExporterDown",
    "StreamScrapesFailing",
    "StreamShardMissing",
    "StreamShardsDisagree",
    "StreamUpstreamUnwatched",
    "StreamUpstreamDown",
    "StreamUpstreamUnstable",
    "StreamUpstreamDataStale",
    "StreamUpstreamStatesUnknown",
    "StreamExpectedOffline",
    "StreamExpectedUnknown",
    "StreamError",
    "StreamVanished",
}
QUALITY = {"StreamBitrateLow", "StreamBitrateCritical", "StreamIngestStalled", "StreamUnhealthy", "StreamFlapping"}
BUDGET = {rule.name for rule in SLO_RULES}
EDGE = ConfiguredUpstream("storm", "edge")
OFFLINE = "StreamExpectedOffline/edge/main"

Bool = Callable[[int], bool]


def upstream(name: str = "edge", *, up: bool = True, answering: bool | None = None) -> dict[str, float]:
    labels = f'platform="storm",upstream="{name}"'
    return {
        f"stream_upstream_poll_interval_seconds{{{labels}}}": 15.0,
        f"stream_upstream_up{{{labels}}}": float(up),
        f"stream_upstream_answering{{{labels}}}": float(up if answering is None else answering),
    }


def stream(
    live: bool | None,
    name: str = "main",
    *,
    on: str = "edge",
    expected: bool | None = True,
    figures: Mapping[str, float] = MappingProxyType({}),
) -> dict[str, float]:
    labels = f'platform="storm",upstream="{on}",stream="{name}"'
    facts: dict[str, float] = {}
    if live is not None:
        facts[f"stream_live{{{labels}}}"] = float(live)
    else:
        facts[f'stream_status{{{labels},status="unknown"}}'] = 1.0
    if expected is not None:
        facts[f"stream_expected{{{labels}}}"] = float(expected)
    return facts | {f"stream_{family}{{{labels}}}": value for family, value in figures.items()}


def healthy(_: int) -> Facts:
    return upstream() | stream(True)


def dead_from(begins: int, ends: int = 10**9) -> Callable[[int], Facts]:
    return lambda at: upstream() | stream(not begins <= at < ends)


# -- targets -----------------------------------------------------------------------------------------------------------


@every_scrape_interval
@pytest.mark.parametrize("how", ["down", "gone"])
def test_upstreams_of_a_dead_exporter_are_unwatched(scrape: int, how: str, tmp_path: Path) -> None:
    """One of two exporters of a job is down, or leaves service discovery, from 900."""

    def two_upstreams(_: int) -> Facts:
        return upstream("b1") | upstream("b2") | stream(True, on="b1")

    lost = Target(
        instance="b:1",
        facts=two_upstreams,
        offset=10,
        is_down=lambda at: how == "down" and at >= 900,
        is_discovered=lambda at: how == "down" or at < 900,
    )
    fires = {f"StreamUpstreamUnwatched/{name}" for name in ("b1", "b2")}
    expected = Expectations().only(fires | ({"StreamScrapesFailing"} if how == "down" else set()), until=1800)
    for alert in fires:
        # the last successful scrape was at most one interval earlier
        expected.fires(alert, after=900 + 150 - scrape + 60 - EVALUATION, before=900 + 150 + 60 + EVALUATION)
    run(tmp_path, [Target(instance="a:1", facts=healthy), lost], expected, scrape, 1800)


@every_scrape_interval
def test_unwatched_upstream_resolves_when_it_is_served_again(scrape: int, tmp_path: Path) -> None:
    lost = Target(instance="b:1", facts=lambda _: upstream("b1"), is_down=lambda at: 900 <= at < 1800)
    expected = Expectations().fires_at("StreamUpstreamUnwatched/b1", 1200, 1790)
    expected.is_silent_at("StreamUpstreamUnwatched/b1", 1800 + scrape + 10 + EVALUATION)
    run(tmp_path, [Target(instance="a:1", facts=healthy), lost], expected, scrape, 2100)


def test_unwatched_upstream_keeps_firing_after_the_look_back(tmp_path: Path) -> None:
    lost = Target(instance="b:1", facts=lambda _: upstream("b1"), is_discovered=lambda at: at < 900)
    hours = 3600
    expected = Expectations().fires_at("StreamUpstreamUnwatched/b1", hours, 6 * hours, 7 * hours, 9 * hours)
    check_alerts(
        tmp_path,
        [Target(instance="a:1", facts=healthy), lost],
        expected,
        scrape_interval=60,
        evaluation=60,
        duration=9 * hours,
        alerts={"StreamUpstreamUnwatched"},
    )


@every_scrape_interval
@pytest.mark.parametrize("case", ["reload", "reload, then the pod moves", "takeover", "retired", "all restart"])
def test_removed_or_taken_over_upstream_raises_no_alert(case: str, scrape: int, tmp_path: Path) -> None:
    def keeps_one(at: int) -> Facts:
        return upstream("b1") | (upstream("b2") if at < 900 else {})

    def both(_: int) -> Facts:
        return upstream("b1") | upstream("b2")

    def retiring(_: int) -> Facts:
        return upstream() | {
            'stream_upstream_retired{upstream="b1"}': 1.0,
            'stream_upstream_retired{upstream="b2"}': 1.0,
        }

    first = Target(instance="a:1", facts=healthy)
    match case:
        case "reload":
            targets = [first, Target(instance="b:1", facts=keeps_one)]
        case "reload, then the pod moves":
            before = Target(instance="b:1", facts=keeps_one, is_discovered=lambda at: at < 1200)
            targets = [first, before, Target(instance="b:2", facts=keeps_one, is_discovered=lambda at: at >= 1200)]
        case "takeover":
            before = Target(instance="b:1", facts=both, is_discovered=lambda at: at < 900)
            targets = [first, before, Target(instance="c:1", facts=both, is_discovered=lambda at: at >= 940)]
        case "retired":
            before = Target(instance="b:1", facts=both, is_discovered=lambda at: at < 900)
            targets = [Target(instance="a:1", facts=retiring), before]
        case _:
            targets = [
                Target(instance=f"{name}:1", facts=both, offset=offset, is_down=lambda at: 900 <= at < 990)
                for name, offset in (("a", 5), ("b", 10))
            ]
    failing = {"StreamScrapesFailing"} if case == "all restart" else set()
    run(tmp_path, targets, Expectations().only(failing, until=2400), scrape, 2400)


@every_scrape_interval
def test_missing_shard_pages(scrape: int, tmp_path: Path) -> None:
    """All shards poll the same list, so the other shards still serve its upstream."""

    def shard(ordinal: int) -> Callable[[int], Facts]:
        shards = {"stream_exporter_shards{}": 3.0, "stream_exporter_shard_ordinal{}": float(ordinal)}
        return lambda _: upstream() | stream(True, f"s{ordinal}") | shards | {"stream_exporter_config_hash{}": 7.0}

    targets = [Target(instance=f"pod-{ordinal}:1", facts=shard(ordinal)) for ordinal in range(2)]
    targets.append(Target(instance="pod-2:1", facts=shard(2), is_down=lambda at: at >= 900))
    expected = Expectations().only({"StreamShardMissing", "StreamScrapesFailing"}, until=1800)
    expected.fires(
        "StreamShardMissing", after=900 + 150 - scrape + 300 - EVALUATION, before=900 + 150 + 300 + EVALUATION
    )
    run(tmp_path, targets, expected, scrape, 1800)


def test_exporters_without_shards_may_have_different_settings(tmp_path: Path) -> None:
    def single(number: float) -> Callable[[int], Facts]:
        return lambda _: {"stream_exporter_shards{}": 1.0, "stream_exporter_config_hash{}": number}

    targets = [Target(instance=f"{number}:1", facts=single(number)) for number in (1.0, 2.0)]
    run(tmp_path, targets, Expectations().only(set(), until=1200), 15, 1200)


@every_scrape_interval
def test_renamed_stream_has_not_vanished(scrape: int, tmp_path: Path) -> None:
    """Renamed at 600; the exporter serves the former label for 20 minutes. Another stream vanishes at 600."""

    def facts(at: int) -> Facts:
        found = upstream() | stream(True, "after" if at >= 600 else "before", expected=None)
        if 600 <= at < 1800:
            found['stream_former_label{platform="storm",upstream="edge",stream="before"}'] = 1.0
        return found | ({} if at >= 600 else stream(True, "gone", expected=None))

    expected = Expectations().only({"StreamVanished/edge/gone"}, until=2400)
    run(tmp_path, [Target(instance="a:1", facts=facts)], expected, scrape, 2400)


# -- failed scrapes ----------------------------------------------------------------------------------------------------


@every_scrape_interval
@pytest.mark.parametrize("nth", [2, 4])
def test_dead_stream_pages_despite_failed_scrapes(nth: int, scrape: int, tmp_path: Path) -> None:
    """Dead from 1200 to 1800."""
    target = Target(instance="a:1", facts=dead_from(1200, 1800), misses=every(nth))
    expected = Expectations().only({OFFLINE, "StreamScrapesFailing"}, until=2700)
    expected.fires(OFFLINE, after=1200 + 60 - EVALUATION, before=1200 + 60 + 2 * scrape + EVALUATION)
    expected.fires_at("StreamScrapesFailing", 1200)
    expected.is_silent_at(OFFLINE, 1800 + 180 + 2 * scrape + 2 * EVALUATION)
    run(tmp_path, [target], expected, scrape, 2700)


@every_scrape_interval
@pytest.mark.parametrize("nth", [2, 4])
def test_healthy_stream_does_not_page_despite_failed_scrapes(nth: int, scrape: int, tmp_path: Path) -> None:
    target = Target(instance="a:1", facts=healthy, misses=every(nth))
    run(
        tmp_path,
        [target],
        Expectations().only({"StreamScrapesFailing"}, until=2700),
        scrape,
        2700,
        PRESENCE | QUALITY,
    )


@every_scrape_interval
@pytest.mark.parametrize("nth", [0, 2, 4])
def test_short_problem_does_not_page(nth: int, scrape: int, tmp_path: Path) -> None:
    """An error, a low bitrate and a low score last three polls (45 s)."""

    def facts(at: int) -> Facts:
        is_bad = 900 <= at < 945
        bad = {"ingest_bitrate_bytes_per_second": 0.0, "health_score_ratio": 0.1} if is_bad else {}
        found = upstream() | stream(True, figures={"expected_ingest_bitrate_bytes_per_second": 500e3, **bad})
        found |= stream(not is_bad, "other", expected=None)
        if is_bad:
            found['stream_status{platform="storm",upstream="edge",stream="other",status="error"}'] = 1.0
        return found

    target = Target(instance="a:1", facts=facts, misses=every(nth) if nth else never)
    failing = {"StreamScrapesFailing"} if nth else set()
    # with 30 s, no evaluation might see a successful scrape and notice that a fact was withdrawn
    run(tmp_path, [target], Expectations().only(failing, until=1800), scrape, 1800, PRESENCE | QUALITY, evaluation=15)


def test_withdrawn_fact_does_not_come_back_while_scrapes_fail(tmp_path: Path) -> None:
    """A low score and an error end at 945; from 960 on, scrapes fail for two minutes."""

    def facts(at: int) -> Facts:
        is_bad = 900 <= at < 945
        found = upstream() | stream(True, figures={"health_score_ratio": 0.1} if is_bad else {})
        if is_bad:
            found['stream_status{platform="storm",upstream="edge",stream="other",status="error"}'] = 1.0
        return found

    target = Target(instance="a:1", facts=facts, is_down=lambda at: 960 <= at < 1080)
    run(tmp_path, [target], Expectations().only({"StreamScrapesFailing"}, until=1800), 15, 1800, PRESENCE | QUALITY)


@every_scrape_interval
@pytest.mark.parametrize("nth", [0, 2])
def test_maintenance_fires_at_once_and_ends_at_once_despite_failed_scrapes(
    nth: int, scrape: int, tmp_path: Path
) -> None:
    """Of a stream from 900 to 1800, and of an upstream that is down from 1200 to 1500.

    If every evaluation sees a failed scrape, the last value counts for the whole window of 150 s.
    """

    def facts(at: int) -> Facts:
        found = upstream() | upstream("other", up=False) | stream(True)
        if 900 <= at < 1800:
            found |= {'stream_maintenance{platform="storm",upstream="edge",stream="main"}': 1.0}
        if 1200 <= at < 1500:
            found |= {'stream_maintenance{platform="storm",upstream="other"}': 1.0}
        return found

    of_stream, of_upstream = "StreamMaintenance/edge/main", "StreamMaintenance/other"
    late = (2 if nth else 1) * scrape + EVALUATION
    expected = Expectations().fires(of_stream, after=899, before=900 + late)
    expected.fires(of_upstream, after=1199, before=1200 + late)
    steady = range(1200 + late, 1500, EVALUATION)
    expected.fires_at(of_stream, *steady).fires_at(of_upstream, *steady)
    later = late + (150 if nth else 0)
    kept = 360 + EVALUATION
    expected.fires_at(of_upstream, 1830).is_silent_at(of_upstream, 1500 + later + kept)
    expected.fires_at(of_stream, 2130).is_silent_at(of_stream, 1800 + later + kept)
    target = Target(instance="a:1", facts=facts, misses=every(nth) if nth else never)
    run(tmp_path, [target], expected, scrape, 2700, {"StreamMaintenance"})


# -- failing upstreams -------------------------------------------------------------------------------------------------


@every_scrape_interval
@pytest.mark.parametrize("offset", [5, 20])
def test_dead_stream_pages_despite_failed_polls(offset: int, scrape: int, tmp_path: Path) -> None:
    """Every second poll fails, so the upstream is still answering; the stream is dead from 1200.

    At longer scrape intervals, the scrapes see only successful polls, or only failed ones.
    """

    def facts(at: int) -> Facts:
        poll = at // 15
        counters = {
            'stream_upstream_polls_total{platform="storm",upstream="edge"}': float(poll),
            'stream_upstream_poll_failures_total{platform="storm",upstream="edge",reason="timeout"}': float(poll // 2),
        }
        return upstream(up=poll % 2 == 0, answering=True) | stream(at < 1200) | counters

    expected = Expectations().fires(OFFLINE, after=1200, before=1200 + 2 * (60 + 15 + scrape))
    expected.only({OFFLINE, "StreamUpstreamUnstable/edge"}, until=2100)
    run(tmp_path, [Target(instance="a:1", facts=facts, offset=offset)], expected, scrape, 2100)


@every_scrape_interval
@pytest.mark.parametrize("nth", [0, 2])
def test_blind_replica_does_not_hide_a_dead_stream(nth: int, scrape: int, tmp_path: Path) -> None:
    """The second replica loses its network at 500 and serves its last facts. The stream is dead from 600."""

    def blind(at: int) -> Facts:
        return upstream(up=at < 500, answering=at < 540) | stream(True)

    misses = every(nth) if nth else never
    targets = [
        Target(instance="a:1", facts=dead_from(600), misses=misses),
        Target(instance="b:1", facts=blind, offset=10, misses=misses),
    ]
    expected = Expectations().fires(OFFLINE, after=600, before=600 + 60 + 2 * scrape + EVALUATION)
    run(tmp_path, targets, expected, scrape, 1200)


@every_scrape_interval
def test_stream_that_dies_during_an_outage_pages_when_the_upstream_is_back(scrape: int, tmp_path: Path) -> None:
    """The API fails from 600 to 900. The stream is dead from 700, which no poll can show before 900."""

    def facts(at: int) -> Facts:
        fails = 600 <= at < 900
        live = None if 645 <= at < 900 else at < 700
        return upstream(up=not fails, answering=not 637 <= at < 900) | stream(live)

    down = "StreamUpstreamDown/edge"
    expected = Expectations().fires(down, after=637, before=637 + 45 + scrape + 2 * EVALUATION)
    expected.is_silent_at(down, 900 + scrape + EVALUATION)
    expected.fires(OFFLINE, after=900, before=900 + 60 + scrape + EVALUATION)
    run(tmp_path, [Target(instance="a:1", facts=facts)], expected.only({down, OFFLINE}, until=1500), scrape, 1500)


@every_scrape_interval
def test_pending_alert_restarts_after_an_outage(scrape: int, tmp_path: Path) -> None:
    """Off air from 580; the API fails from 600 to 900, when stream alerts do not advance."""

    def facts(at: int) -> Facts:
        fails = 600 <= at < 900
        return upstream(up=not fails, answering=not 637 <= at < 900) | stream(at < 580)

    expected = Expectations().fires(OFFLINE, after=900 + 60 - EVALUATION, before=900 + 60 + scrape + EVALUATION)
    expected.only({"StreamUpstreamDown/edge", OFFLINE}, until=1500)
    run(tmp_path, [Target(instance="a:1", facts=facts)], expected, scrape, 1500)


@every_scrape_interval
def test_unknown_states_after_a_platform_upgrade_fire(scrape: int, tmp_path: Path) -> None:
    """From 600, 30 % of the states are unknown; none of these streams is expected."""

    def facts(at: int) -> Facts:
        found = upstream()
        for index in range(10):
            found |= stream(None if at >= 600 and index < 3 else True, f"s{index}", expected=None)
        return found

    unknown = "StreamUpstreamStatesUnknown/edge"
    expected = Expectations().fires(unknown, after=600 + 300 - EVALUATION, before=600 + 300 + scrape + EVALUATION)
    run(tmp_path, [Target(instance="a:1", facts=facts)], expected.only({unknown}, until=1200), scrape, 1200)


# -- labels ------------------------------------------------------------------------------------------------------------

SERVICE_MONITOR = {"namespace": "video", "service": "exporter", "container": "exporter", "endpoint": "metrics"}


@every_scrape_interval
@pytest.mark.parametrize(
    "labels",
    [SERVICE_MONITOR, {"cluster": "c1", "shard": "0", "team": "sports"}],
    ids=["service monitor", "target labels"],
)
def test_target_labels_do_not_affect_alerts(labels: dict[str, str], scrape: int, tmp_path: Path) -> None:
    """Two pods see one stream die at 600 and another with a low bitrate; one family has an extra label."""

    def facts(at: int) -> Facts:
        found = dict(upstream())
        for name, live in (("main", at < 600), ("low", True)):
            bitrates = {"ingest_bitrate_bytes_per_second": 150e3, "expected_ingest_bitrate_bytes_per_second": 500e3}
            for series, value in stream(live, name, figures=bitrates if name == "low" else {}).items():
                # metric_relabel_configs may add labels to some families
                more = ',team="x"}' if series.startswith("stream_live") and "team" not in labels else "}"
                found[series.replace("}", more)] = value
        return found

    targets = [
        Target(
            instance=f"10.0.0.{index}:1", facts=facts, offset=5 * index, labels=labels | {"pod": f"exporter-{index}"}
        )
        for index in (1, 2)
    ]
    expected = Expectations().fires(OFFLINE, after=600, before=600 + 60 + scrape + EVALUATION)
    critical, low = ("StreamBitrateCritical/edge/low", "StreamBitrateLow/edge/low")
    expected.fires_at(critical, 300).fires_at(low, 450).only({OFFLINE, critical, low}, until=1200)
    run(tmp_path, targets, expected, scrape, 1200, PRESENCE | QUALITY)


@every_scrape_interval
def test_clusters_with_equal_names_are_separate(scrape: int, tmp_path: Path) -> None:
    """The stream is not expected in the second cluster; in the first, every other scrape fails."""
    targets = [
        Target(instance="a:1", facts=dead_from(600), misses=every(2), labels={"cluster": "c1"}),
        Target(instance="a:1", facts=lambda _: upstream() | stream(False, expected=False), labels={"cluster": "c2"}),
    ]
    expected = Expectations().fires(OFFLINE, after=600, before=600 + 60 + 2 * scrape + EVALUATION)
    expected.checks.append(
        {
            "expr": 'group by (alertname) (last_over_time(ALERTS{alertstate="firing",cluster="c2"}[1h]))',
            "eval_time": "1200s",
            "exp_samples": [],
        }
    )
    run(tmp_path, targets, expected, scrape, 1200)


def test_sites_with_different_target_labels_are_separate(tmp_path: Path) -> None:
    """Two sites have the same job, upstream and stream, which is live at one site and not expected at the other."""
    targets = [
        Target(instance="a:1", facts=lambda _: upstream() | stream(True), labels={"site": "north"}),
        Target(instance="b:1", facts=lambda _: upstream() | stream(False, expected=False), labels={"site": "south"}),
    ]
    rules = alerts_file(rules_in_force(), Dialect(target_labels=("site",)))
    expected = Expectations().only(set(), until=900)
    check_alerts(tmp_path, targets, expected, scrape_interval=15, duration=900, alerts=PRESENCE | QUALITY, rules=rules)


def test_configured_upstream_that_was_never_served_fires(tmp_path: Path) -> None:
    rules = alerts_file(rules_in_force(), Dialect(upstreams=(EDGE, ConfiguredUpstream("storm", "forgotten"))))
    unwatched = "StreamUpstreamUnwatched/forgotten"
    for scrape in SCRAPES:
        expected = Expectations().fires(unwatched, after=150, before=150 + 60 + scrape + 2 * EVALUATION)
        check_alerts(
            tmp_path,
            [Target(instance="a:1", facts=healthy, offset=scrape)],
            expected.only({unwatched}, until=900),
            scrape_interval=scrape,
            duration=900,
            alerts=PRESENCE,
            rules=rules,
        )


# -- configured labels -------------------------------------------------------------------------------------------------


def with_team(facts: Facts, team: str) -> Facts:
    """Return the series of upstreams with the configured label ``team``."""
    return {series.replace(',upstream="edge"', f',upstream="edge",team="{team}"'): v for series, v in facts.items()}


def ailing(at: int) -> Facts:
    """Return the series of an upstream with problems of all kinds, which start at 300."""
    polls = at // 15
    bad = max(0, polls - 20)
    name = 'platform="storm",upstream="edge"'
    facts = upstream() | {
        f"stream_upstream_polls_total{{{name}}}": polls,
        f'stream_upstream_poll_failures_total{{{name},reason="timeout"}}': bad // 3,
        f'stream_upstream_requests_total{{{name},request="GET /a",code="200"}}': 5 * polls,
        f'stream_upstream_requests_total{{{name},request="GET /a",code="500"}}': bad,
        f'stream_sampled_health_score_ratio_count{{{name},protocol="rtmp"}}': 10 * polls,
        f'stream_sampled_health_score_ratio_bucket{{{name},protocol="rtmp",le="0.8"}}': 5 * bad,
    }
    for rule, more in (("StreamBitrateCritical", ',stream="s9"'), ("StreamUnhealthy", ',stream="s9"')):
        facts[f'stream_alert_threshold{{{name}{more},rule="{rule}"}}'] = 0.4
    facts[f'stream_alert_threshold{{{name},rule="StreamUpstreamUnstable"}}'] = 0.15
    facts[f'stream_alert_threshold{{{name},rule="StreamUpstreamErrorRatioHigh"}}'] = 0.04
    facts[f'stream_alert_threshold{{{name},rule="StreamUpstreamStatesUnknown"}}'] = 0.15
    facts[f'stream_alert_threshold{{{name},rule="StreamHealthBudgetBurnFast"}}'] = 10.0
    facts[f'stream_alert_off{{{name},stream="s8",rule="StreamUnhealthy"}}'] = 1.0
    is_bad = at >= 300
    figures = {
        "viewers": 100.0,
        "ingest_bitrate_bytes_per_second": 150e3 if is_bad else 500e3,
        "expected_ingest_bitrate_bytes_per_second": 500e3,
        "health_score_ratio": 0.3 if is_bad else 1.0,
    }
    facts |= stream(not is_bad)
    for index in range(10):
        facts |= stream(None if is_bad and index < 4 else True, f"s{index}", expected=None, figures=figures)
    return facts


AILING = (
    OFFLINE,
    "StreamBitrateCritical/edge/s9",
    "StreamUnhealthy/edge/s9",
    "StreamUpstreamUnstable/edge",
    "StreamUpstreamErrorRatioHigh/edge",
    "StreamUpstreamStatesUnknown/edge",
    "StreamHealthBudgetBurnFast/edge",
)


@pytest.mark.parametrize(
    ("case", "scrape"),
    [("reload", 15), ("rollout", 30), ("replicas differ", 30), ("reload and failed scrapes", 60)],
)
def test_changed_label_breaks_no_rule(case: str, scrape: int, tmp_path: Path) -> None:
    """The label changes at 2700. An expression that matched both of its values would fail the test."""

    def reloaded(at: int) -> Facts:
        return with_team(ailing(at), "a" if at < 2700 else "b")

    def old(at: int) -> Facts:
        return with_team(ailing(at), "a")

    def new(at: int) -> Facts:
        return with_team(ailing(at), "b")

    match case:
        case "reload":
            targets = [Target(instance="a:1", facts=reloaded)]
        case "reload and failed scrapes":
            targets = [Target(instance="a:1", facts=reloaded, misses=every(2))]
        case "rollout":
            targets = [
                Target(instance="a:1", facts=old, is_discovered=lambda at: at < 2730),
                Target(instance="b:1", facts=new, is_discovered=lambda at: at >= 2700),
            ]
        case _:
            targets = [
                Target(instance="a:1", facts=old),
                Target(instance="b:1", facts=lambda at: old(at) if at < 2700 else new(at)),
            ]
    expected = Expectations()
    for alert in AILING:
        expected.fires_at(f"{alert}", 2690)
        labels = dict(zip(("alertname", "upstream", "stream"), alert.split("/", 2), strict=False))
        matchers = "".join(f',{name}="{value}"' for name, value in labels.items())
        for at, teams in ((2690, "a"), (4500, "ab" if case == "replicas differ" else "b")):
            expected.checks.append(
                {
                    "expr": f'group by (team) (ALERTS{{alertstate="firing"{matchers}}})',
                    "eval_time": f"{at // EVALUATION * EVALUATION}s",
                    "exp_samples": [{"labels": f'{{team="{team}"}}', "value": 1} for team in teams],
                }
            )
    # every rule, because none may fail
    rules = {rule.name for rule in RULES if rule.owner is not Owner.SIDECAR}
    run(tmp_path, targets, expected, scrape, 4500, rules)


def test_unwatched_upstream_has_its_labels(tmp_path: Path) -> None:
    """The label changes at 600; the only target that serves the upstream is gone from 900."""

    def facts(at: int) -> Facts:
        return with_team(healthy(at), "a" if at < 600 else "b")

    def team(at: int, *teams: str) -> dict[str, object]:
        return {
            "expr": 'group by (job, platform, upstream, team) (ALERTS{alertname="StreamUpstreamUnwatched"})',
            "eval_time": f"{at}s",
            "exp_samples": [
                {"labels": f'{{job="stream-exporter",platform="storm",upstream="edge",team="{team}"}}', "value": 1}
                for team in teams
            ],
        }

    hour = 3600
    targets = [
        Target(instance="a:1", facts=facts, offset=0, is_discovered=lambda at: at < 900),
        Target(instance="b:1", facts=lambda _: upstream("other"), offset=0),
    ]
    forgotten = ConfiguredUpstream("storm", "edge", (("team", "b"),))
    for dialect in (Dialect(), Dialect(upstreams=(forgotten,))):
        expected = Expectations([team(1200, "b"), team(5 * hour, "b"), team(8 * hour, "b")])
        check_alerts(
            tmp_path,
            targets,
            expected,
            scrape_interval=60,
            evaluation=60,
            duration=8 * hour,
            alerts={"StreamUpstreamUnwatched"},
            rules=alerts_file(rules_in_force(), dialect),
            grid=60,
        )


def test_upstream_that_was_never_served_has_its_labels(tmp_path: Path) -> None:
    odd = 'a "b" \\ $1'
    edge = ConfiguredUpstream("storm", "edge", (("site", "north"), ("team", odd)))
    expected = Expectations().fires_at("StreamUpstreamUnwatched/edge", 600)
    expected.checks.append(
        {
            "expr": 'group by (job, platform, upstream, team, site) (ALERTS{alertname="StreamUpstreamUnwatched"})',
            "eval_time": "600s",
            "exp_samples": [
                {
                    "labels": '{job="stream-exporter",platform="storm",upstream="edge",site="north",'
                    'team="a \\"b\\" \\\\ $1"}',
                    "value": 1,
                }
            ],
        }
    )
    check_alerts(
        tmp_path,
        [Target(instance="b:1", facts=lambda _: upstream("other"))],
        expected,
        scrape_interval=15,
        duration=600,
        alerts={"StreamUpstreamUnwatched"},
        rules=alerts_file(rules_in_force(), Dialect(upstreams=(edge,))),
    )


def test_changed_label_does_not_restart_the_window_of_a_budget(tmp_path: Path) -> None:
    """Two of twenty streams are bad; the label changes an hour before the window of six hours is covered."""
    hour = 3600
    facts = fleet(20, 2)
    target = Target(instance="a:1", facts=lambda at: with_team(facts(at), "a" if at < 2 * hour else "b"))
    steady = "StreamHealthBudgetBurnSteady/edge"
    expected = Expectations().fires(steady, after=3 * hour - 600, before=3 * hour + 900)
    budget(tmp_path, [target], expected.only({steady}, until=4 * hour), 4 * hour, ANY_JOB)


# -- the health budget -------------------------------------------------------------------------------------------------


def fleet(streams: int, bad: int, *, is_live: Bool = lambda _: True) -> Callable[[int], Facts]:
    """Return the series of a fleet with some bad streams. Every live stream is observed every 15 s."""
    polls_until = [0]
    """Number of polls with live streams, up to each minute."""

    def facts(at: int) -> Facts:
        while len(polls_until) <= at // 60:
            polls_until.append(polls_until[-1] + 4 * is_live(60 * len(polls_until)))
        polls = polls_until[at // 60]
        labels = 'platform="storm",upstream="edge",protocol="rtmp"'
        found = dict(upstream())
        found[f"stream_sampled_health_score_ratio_count{{{labels}}}"] = float(polls * streams)
        found[f'stream_sampled_health_score_ratio_bucket{{{labels},le="0.8"}}'] = float(polls * bad)
        for index in range(streams):
            live = is_live(at)
            score = {"health_score_ratio": 0.3 if index < bad else 1.0} if live else {}
            found |= stream(live, f"s{index}", expected=None, figures=score)
        return found

    return facts


ANY_JOB = Dialect(selector='job=~"stream.*"')


def budget(
    folder: Path, targets: list[Target], expected: Expectations, duration: int, dialect: Dialect | None = None
) -> None:
    dialect = dialect or Dialect()
    check_alerts(
        folder,
        [replace(target, offset=0) for target in targets],
        expected,
        scrape_interval=60,
        evaluation=300,
        duration=duration,
        alerts=BUDGET,
        grid=60,
        rules=alerts_file(rules_in_force(), dialect),
        recordings=recordings_file(dialect),
    )


@pytest.mark.parametrize("case", ["prometheus started", "new instance", "renamed job", "new upstream"])
def test_budget_rules_wait_until_their_window_is_covered(case: str, tmp_path: Path) -> None:
    """Two of twenty streams are bad from the start, which is ten times the budget."""
    hour = 3600
    facts = fleet(20, 2)
    begins = 0
    if case == "prometheus started":
        targets = [Target(instance="a:1", facts=facts)]
    elif case == "new upstream":
        begins = 3 * hour
        targets = [Target(instance="a:1", facts=lambda at: facts(at) if at >= begins else upstream("other"))]
    else:
        # a new instance continues the window; with another job, it is a new upstream
        later = {"job": "streams"} if case == "renamed job" else {}
        begins = 2 * hour if later else 0
        targets = [
            Target(instance="a:1", facts=facts, is_discovered=lambda at: at < 2 * hour),
            Target(instance="b:1", facts=facts, is_discovered=lambda at: at >= 2 * hour, labels=later),
        ]
    steady, slow = "StreamHealthBudgetBurnSteady/edge", "StreamHealthBudgetBurnSlow/edge"
    expected = Expectations().fires(steady, after=begins + 3 * hour - 600, before=begins + 3 * hour + 900)
    expected.fires(slow, after=begins + 12 * hour - 600, before=begins + 12 * hour + 900)
    duration = begins + 13 * hour
    budget(tmp_path, targets, expected.only({steady, slow}, until=duration), duration, ANY_JOB)


def test_upstream_live_three_hours_a_day_fires_only_with_covered_windows(tmp_path: Path) -> None:
    """Its streams are always bad, but nothing fires in the first hour."""
    hour, day = 3600, 86400

    def is_live(at: int) -> bool:
        return 18 * hour <= at % day < 21 * hour

    names = {name: f"StreamHealthBudgetBurn{name}/edge" for name in ("Fast", "Steady", "Slow", "Creeping")}
    expected = Expectations().is_silent_at(names["Slow"], 18 * hour + 900, 18 * hour + 5400)
    expected.is_silent_at(names["Creeping"], day, day + 18 * hour + 900)
    expected.fires_at(names["Slow"], day + 19 * hour).fires_at(names["Creeping"], 2 * day + 20 * hour)
    budget(tmp_path, [Target(instance="a:1", facts=fleet(4, 4, is_live=is_live))], expected, 3 * day)


ENOUGH_FOR_THREE_DAYS = 38 * 3600
"""A bit more than half of the window."""


def test_single_bad_stream_opens_no_budget_ticket(tmp_path: Path) -> None:
    """One of 30 is less than 5 %, and less than three streams."""
    expected = Expectations().only(set(), until=ENOUGH_FOR_THREE_DAYS)
    budget(tmp_path, [Target(instance="a:1", facts=fleet(30, 1))], expected, ENOUGH_FOR_THREE_DAYS)


def test_three_bad_streams_open_a_budget_ticket(tmp_path: Path) -> None:
    """Three of 62 are less than 5 %."""
    expected = Expectations().fires_at("StreamHealthBudgetBurnCreeping/edge", ENOUGH_FOR_THREE_DAYS)
    budget(tmp_path, [Target(instance="a:1", facts=fleet(62, 3))], expected, ENOUGH_FOR_THREE_DAYS)


def run(
    folder: Path,
    targets: list[Target],
    expected: Expectations,
    scrape: int,
    duration: int,
    alerts: set[str] = PRESENCE,
    evaluation: int = EVALUATION,
) -> None:
    assert alerts <= {rule.name for rule in RULES}
    check_alerts(
        folder,
        targets,
        expected,
        scrape_interval=scrape,
        duration=duration,
        alerts=alerts,
        evaluation=evaluation,
    )
