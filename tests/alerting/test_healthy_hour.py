"""Random failures for an hour do not page, but a dead stream does, both with the sidecar and with Prometheus.

``make soak PART=healthy`` does the same with the real programs in real time.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from exporter.alerting.rules import RULES, Owner, Scope, Severity
from exporter.simulator.fault_injection import FaultKind
from exporter.simulator.simulated_streams import Platform
from tests.alerting.recorded_run import FAILED_REQUESTS, assert_firing, recorded_run
from tests.request_failures import Failure

pytestmark = pytest.mark.real

HALF_AN_HOUR = 1800.0
RULES_OF_PROMETHEUS = {
    rule.name
    for rule in RULES
    if rule.owner is not Owner.SIDECAR and (Severity.CRITICAL in rule.severities or rule.scope is not Scope.STREAM)
}
"""All rules that can page, and all about upstreams and the exporter.

The other stream rules are evaluated by the sidecar only, because they would double promtool's time.
"""
UNSTABLE = {"StreamUpstreamErrorRatioHigh", "StreamUpstreamUnstable", "StreamScrapesFailing"}
"""Warnings about failures themselves, which are at their thresholds with 5 % of failed requests and scrapes."""


@pytest.mark.no_cover
async def test_random_failures_and_a_restart_do_not_page(tmp_path: Path) -> None:
    """1,000 healthy streams for an hour: 5 % of requests and scrapes fail, and everything restarts once.

    Prometheus' rules are evaluated on all series of exporter and upstreams, and on those of a quarter of the streams.
    """
    async with recorded_run(tmp_path, 1000, RULES_OF_PROMETHEUS, seed=1) as run:
        await run.pass_time(HALF_AN_HOUR)
        await run.restart()
        await run.pass_time(HALF_AN_HOUR)
        assert run.live_streams >= 0.9 * run.fleet.size
    assert run.failures.requests > 10_000
    assert set(run.failures.failed) == set(Failure)
    assert run.failures.failed.total() == pytest.approx(FAILED_REQUESTS * run.failures.requests, rel=0.2)
    assert run.scrapes.count == 122
    assert 3 <= run.scrapes.failed <= 12
    by_sidecar = {alert for alert in run.sent_alerts() if alert[0] not in UNSTABLE}
    assert by_sidecar == {("StreamSidecarWatchdog", "none", "")}
    expected: dict[str, list[str]] = {
        'severity="critical"': [],
        f'severity="warning",alertname!~"{"|".join(sorted(UNSTABLE))}"': [],
        'severity="none"': ['{alertname="StreamWatchdog"}'],
    }
    await asyncio.to_thread(assert_firing, run.scrapes, RULES_OF_PROMETHEUS, expected, tmp_path, one_of=4)


@pytest.mark.no_cover
async def test_dead_stream_pages_despite_random_failures(tmp_path: Path) -> None:
    async with recorded_run(tmp_path, 60, RULES_OF_PROMETHEUS, seed=1) as run:
        await run.pass_time(300.0)
        stream = run.fleet.streams(Platform.LIVEPEER)[0]
        run.fleet.faults.inject(Platform.LIVEPEER, stream.index, FaultKind.END, run.clock.now())
        await run.pass_time(300.0)
    assert run.failures.failed.total() > 0
    pages = {alert for alert in run.sent_alerts() if alert[1] == "critical"}
    assert pages == {("StreamExpectedOffline", "critical", stream.name)}
    labels = f'alertname="StreamExpectedOffline",platform="livepeer",upstream="studio",stream="{stream.name}"'
    expected = {'severity="critical"': [f"{{{labels}}}"]}
    await asyncio.to_thread(assert_firing, run.scrapes, RULES_OF_PROMETHEUS, expected, tmp_path)
