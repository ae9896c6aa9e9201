"""An hour of everyday failures in real programs: ``make soak PART=healthy``.

SOAK_SECONDS, SOAK_STREAMS and SOAK_SEED set its length, fleet and seed. ``tests/alerting/test_healthy_hour.py`` is the
version with a fast-forward clock.
"""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import pytest

from exporter.simulator.fleet import Fleet
from tests.load.healthy_run import (
    PROMETHEUS,
    SIDECAR,
    Receiver,
    ScrapeProxy,
    running_flaky_simulator,
    running_programs,
)
from tests.real.child_process import request_json, wait_until
from tests.real.prometheus import Prometheus
from tests.sidecar.test_healthy_fleet import configuration

SECONDS = float(os.environ.get("SOAK_SECONDS", "3600"))
STREAMS = int(os.environ.get("SOAK_STREAMS", "1000"))
SEED = int(os.environ.get("SOAK_SEED", "0"))
FAILED_REQUESTS = 0.05
LOST_SCRAPES = 0.05
PAGE_SECONDS = 300.0
"""Maximum time until a stream that ended has paged."""
REPORT_INTERVAL_SECONDS = 60.0


@pytest.mark.soak
def test_healthy_fleet_sends_no_page_until_a_stream_ends(tmp_path: Path) -> None:
    """5 % of the requests and scrapes fail, and exporter, Prometheus and Alertmanager restart once."""
    proxy, receiver = ScrapeProxy(LOST_SCRAPES, SEED), Receiver()
    with (
        running_flaky_simulator(tmp_path, STREAMS, FAILED_REQUESTS, SEED) as simulator,
        proxy.running(),
        receiver.running(),
    ):
        fleet = Fleet(STREAMS, seed=SEED, incidents=False)
        settings = configuration(fleet, time.time(), simulator, "", minutes=int(SECONDS / 60) + 15)
        with running_programs(tmp_path, settings, proxy, receiver):
            watch(receiver, proxy, SECONDS / 2)
        print("restarting everything", flush=True)
        with running_programs(tmp_path, settings, proxy, receiver) as (_, prometheus):
            watch(receiver, proxy, SECONDS / 2)
            fired = fired_in_prometheus(prometheus)
            print(f"fired in Prometheus: {fired}, failed requests: {failed_requests(prometheus):.3f}", flush=True)
            assert "critical" not in fired
            assert failed_requests(prometheus) == pytest.approx(FAILED_REQUESTS, rel=0.5)
            assert proxy.lost > 0 or SECONDS < 600
            assert receiver.names(PROMETHEUS, "none") == ["StreamWatchdog"]
            assert receiver.names(SIDECAR, "none") == ["StreamSidecarWatchdog"]

            stream = settings["upstreams"][0]["streams"][0]
            fault = {"platform": "livepeer", "stream": stream["id"], "fault": "end", "for": "1h"}
            request_json(f"{simulator}/faults", body=fault)
            began = time.monotonic()
            for evaluator in (SIDECAR, PROMETHEUS):
                pages = wait_until(partial(receiver.found, evaluator, "critical"), f"{evaluator} pages", PAGE_SECONDS)
                print(f"{evaluator} paged after {time.monotonic() - began:.0f} s", flush=True)
                names = [(page["alertname"], page["stream"]) for page in pages]
                assert names == [("StreamExpectedOffline", stream["name"])]


def watch(receiver: Receiver, proxy: ScrapeProxy, seconds: float) -> None:
    """Wait; no page and no ticket about a stream may be sent."""
    began = reported = time.monotonic()
    while (now := time.monotonic()) < began + seconds:
        time.sleep(5)
        for evaluator in (PROMETHEUS, SIDECAR):
            warnings = receiver.found(evaluator, "warning")
            assert not receiver.found(evaluator, "critical"), f"{evaluator} after {now - began:.0f} s"
            assert not [labels for labels in warnings if labels["scope"] == "stream"], f"after {now - began:.0f} s"
        if now >= reported + REPORT_INTERVAL_SECONDS:
            reported = now
            warned = {evaluator: receiver.names(evaluator, "warning") for evaluator in (PROMETHEUS, SIDECAR)}
            print(f"{now - began:.0f} s: {proxy.passed} scrapes, {proxy.lost} lost, warnings {warned}", flush=True)


def fired_in_prometheus(prometheus: Prometheus) -> dict[str, list[str]]:
    """Return the names of all alerts that fired, by severity, whether or not Alertmanager received them."""
    fired = prometheus.query('count by (severity, alertname) (last_over_time(ALERTS{alertstate="firing"}[1d]))')
    found: dict[str, list[str]] = {}
    for labels, _ in fired:
        found.setdefault(labels["severity"], []).append(labels["alertname"])
    return found


def failed_requests(prometheus: Prometheus) -> float:
    """Return the share of requests that have failed since the exporter started."""
    requests = "stream_upstream_requests_total"
    return prometheus.value(f'sum({requests}{{code!~"2..|404"}}) / sum({requests})') or 0.0
