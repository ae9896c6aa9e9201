"""Groups of streams in Prometheus: replicas that are blind on different members, failed scrapes, shards and clusters.

Rules are the committed ones. Times are seconds since the start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
)
from tests.alerting.test_scrape_scenarios import stream, upstream

pytestmark = pytest.mark.real

ALERTS = {
    "StreamGroupDown",
    "StreamGroupRedundancyLost",
    "StreamExpectedOffline",
    "StreamUnhealthy",
    "StreamUpstreamDown",
}
DOWN, LOST = "StreamGroupDown", "StreamGroupRedundancyLost"
DIES = 600
Live = bool | None


def group(*upstreams: str, need: int = 1, expected: bool = True) -> dict[str, float]:
    labels = [f'group="final",platform="storm",upstream="{name}",stream="main"' for name in upstreams]
    return {
        **{f"stream_group_member_info{{{text}}}": 1.0 for text in labels},
        'stream_group_needed_streams{group="final"}': float(need),
        'stream_group_expected{group="final"}': float(expected),
    }


def exporter(
    lives: Mapping[str, Callable[[int], Live]],
    *,
    need: int = 1,
    expected: bool = True,
    blind: str = "",
    more: Mapping[str, float] | None = None,
) -> Callable[[int], Facts]:
    """Return what an exporter serves of one stream per upstream. ``blind``: an upstream that it never reaches.

    A blind replica keeps serving the stream as it was before, live, and says that the upstream is not answering.
    """

    def facts(at: int) -> Facts:
        found = group(*lives, need=need, expected=expected) | dict(more or {})
        for name, live in lives.items():
            found |= upstream(name, up=name != blind)
            found |= stream(True if name == blind else live(at), on=name)
        return found

    return facts


def alive(_: int) -> Live:
    return True


def dies(at: int) -> Live:
    return at < DIES


def fades(at: int) -> Live:
    return True if at < DIES else None


def run(folder: Path, targets: list[Target], expected: Expectations, scrape: int, duration: int = 1500) -> None:
    check_alerts(folder, targets, expected, scrape_interval=scrape, duration=duration, alerts=ALERTS)


def only(expected: Expectations, *alerts: tuple[str, str], until: int = 1500) -> Expectations:
    """Expect that exactly these alerts of the group have fired, by name and severity."""
    firing = f'last_over_time(ALERTS{{alertstate="firing",scope="group"}}[{until}s])'
    labels = [f'{{alertname="{name}",group="final",severity="{severity}"}}' for name, severity in sorted(alerts)]
    expected.checks.append(
        {
            "expr": f"group by (alertname, group, severity) ({firing})",
            "eval_time": f"{until}s",
            "exp_samples": [{"labels": text, "value": 1} for text in labels],
        }
    )
    return expected


@every_scrape_interval
@pytest.mark.parametrize("failing", ["none", "every second", "every fourth"])
def test_dead_group_pages_although_each_replica_is_blind_on_another_member(
    scrape: int, failing: str, tmp_path: Path
) -> None:
    lives = {"a": dies, "b": dies}
    misses = {"none": every(10**6), "every second": every(2), "every fourth": every(4)}[failing]
    targets = [
        Target(instance="x:1", facts=exporter(lives, blind="a"), misses=misses),
        Target(instance="y:1", facts=exporter(lives, blind="b"), offset=10),
    ]
    slack = 2 * scrape + 2 * EVALUATION
    expected = Expectations().fires(DOWN, after=DIES + 60 - EVALUATION, before=DIES + 60 + slack)
    run(tmp_path, targets, only(expected, (DOWN, "critical")), scrape)


@every_scrape_interval
def test_group_with_a_live_stream_that_only_one_replica_sees_is_up(scrape: int, tmp_path: Path) -> None:
    lives = {"a": dies, "b": alive}
    targets = [
        Target(instance="x:1", facts=exporter(lives, blind="b")),
        Target(instance="y:1", facts=exporter(lives, blind="a"), offset=10),
    ]
    run(tmp_path, targets, only(Expectations(), (LOST, "warning")), scrape)


@every_scrape_interval
@pytest.mark.parametrize("nth", [2, 4])
def test_failed_scrapes_raise_no_alert(nth: int, scrape: int, tmp_path: Path) -> None:
    target = Target(instance="x:1", facts=exporter({"a": alive, "b": alive}, need=2), misses=every(nth))
    run(tmp_path, [target], Expectations().only(set(), until=1500), scrape)


@pytest.mark.parametrize(
    ("lives", "need", "alerts"),
    [
        ((dies, fades), 1, [(DOWN, "warning")]),
        ((dies, fades), 2, [(DOWN, "critical")]),
        ((alive, fades), 1, []),
        ((alive, fades), 2, [(DOWN, "warning")]),
        ((dies, dies), 1, [(DOWN, "critical")]),
        ((alive, dies), 1, [(LOST, "warning")]),
    ],
)
def test_unknown_streams_do_not_count_as_dead(
    lives: tuple[Callable[[int], Live], ...], need: int, alerts: list[tuple[str, str]], tmp_path: Path
) -> None:
    facts = exporter(dict(zip("ab", lives, strict=True)), need=need)
    run(tmp_path, [Target(instance="x:1", facts=facts)], only(Expectations(), *alerts), 15)


@pytest.mark.parametrize(("need", "expected"), [(1, False), (0, True)])
def test_group_that_need_not_be_up_is_silent(need: int, expected: bool, tmp_path: Path) -> None:
    """None of its streams is needed while all of them are in maintenance."""
    facts = exporter({"a": dies, "b": dies}, need=need, expected=expected)
    run(tmp_path, [Target(instance="x:1", facts=facts)], only(Expectations()), 15)


@pytest.mark.parametrize("labels", ['stream="main",', ""])
def test_stream_in_maintenance_loses_no_redundancy(labels: str, tmp_path: Path) -> None:
    work = {f'stream_maintenance{{{labels}platform="storm",upstream="a"}}': 1.0}
    run(
        tmp_path,
        [Target(instance="x:1", facts=exporter({"a": dies, "b": alive}, more=work))],
        only(Expectations()),
        15,
    )


def test_clusters_do_not_help_each_other(tmp_path: Path) -> None:
    """The group is down in c1, and up in c2."""
    targets = [
        Target(instance="x:1", facts=exporter({"a": dies, "b": dies}), labels={"cluster": "c1"}),
        Target(instance="x:1", facts=exporter({"a": alive, "b": alive}), labels={"cluster": "c2"}, offset=10),
    ]
    expected = Expectations()
    for cluster, samples in (("c1", [{"labels": "{}", "value": 1}]), ("c2", [])):
        expected.checks.append(
            {
                "expr": f'group (ALERTS{{alertname="{DOWN}",alertstate="firing",cluster="{cluster}"}})',
                "eval_time": "900s",
                "exp_samples": samples,
            }
        )
    run(tmp_path, targets, expected, 15)


@every_scrape_interval
def test_critical_alert_of_a_stream_takes_over_when_the_group_falls(scrape: int, tmp_path: Path) -> None:
    """The main stream is off air from 600, the backup from 1200. No evaluation is without an alert."""
    facts = exporter({"a": dies, "b": lambda at: at < 2 * DIES})
    offline = 'ALERTS{alertname="StreamExpectedOffline",alertstate="firing",upstream="a"}'
    expected = Expectations()
    for at, severity in ((900, "warning"), (1200, "warning"), (1500, "critical")):
        sample = {"labels": f'{{severity="{severity}"}}', "value": 1}
        expected.checks.append(
            {"expr": f"group by (severity) ({offline})", "eval_time": f"{at}s", "exp_samples": [sample]}
        )
    expected.fires_at("StreamExpectedOffline/a", *range(900, 1800, EVALUATION))
    run(tmp_path, [Target(instance="x:1", facts=facts)], expected, scrape, 1800)
