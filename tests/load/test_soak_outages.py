"""The demo while each of its platforms fails in turn: ``make soak PART=outages``.

Each fails for SOAK_OUTAGE_SECONDS. ``tests/sidecar/test_platform_outages.py`` is the version with a fast-forward clock.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from tests.real.child_process import Program, request_json, responds, running_server
from tests.real.prometheus import Prometheus, running_prometheus

OUTAGE_SECONDS = float(os.environ.get("SOAK_OUTAGE_SECONDS", "300"))
RECOVERY_SECONDS = OUTAGE_SECONDS + 180.0
"""Maximum time to recover: after many refused logins, the next one is minutes away."""
SAMPLE_SECONDS = 5.0
ALERTS = Path(__file__).parents[2] / "alerts"
OUTAGES = [("livepeer", "down"), ("storm", "auth"), ("wave", "html")]


class Demo:
    """A demo on a free port, and the Prometheus that scrapes it."""

    def __init__(self, url: str, prometheus: Prometheus) -> None:
        self.url = url
        self._prometheus = prometheus

    def fail(self, platform: str, fault: str) -> None:
        body = json.dumps({"platform": platform, "fault": fault, "for": OUTAGE_SECONDS}).encode()
        request = Request(f"{self.url}/simulator/faults", body, {"Content-Type": "application/json"})
        with urlopen(request, timeout=10):
            pass

    def upstreams(self) -> dict[str, dict[str, Any]]:
        """Return the upstreams of the page's API, by platform."""
        return {upstream["platform"]: upstream for upstream in request_json(f"{self.url}/api/v1/streams")["upstreams"]}

    def stream_alerts(self, platform: str, since: float) -> list[str]:
        """Return the firing alerts about a platform's streams that became active during its outage.

        Alerts that become active later belong to the demo's own incidents.
        """
        return [
            f"{alert['labels']['alertname']} {alert['labels']['stream']}"
            for alert in self._prometheus.get("alerts")["alerts"]
            if alert["labels"].get("platform") == platform
            and alert["labels"].get("scope") == "stream"
            and alert["labels"].get("severity") != "info"
            and alert["state"] == "firing"
            and since < datetime.fromisoformat(alert["activeAt"]).timestamp() < since + OUTAGE_SECONDS
        ]

    def upstream_alerts(self) -> set[str]:
        return {
            alert["labels"]["alertname"]
            for alert in self._prometheus.get("alerts")["alerts"]
            if alert["labels"].get("scope") == "upstream" and alert["state"] == "firing"
        }


@pytest.mark.soak
def test_no_stream_alert_fires_while_a_platform_fails(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    directory.mkdir()

    def start(port: int) -> Program:
        command = [sys.executable, "-m", "exporter", "demo", "--web.listen-address", f"127.0.0.1:{port}"]
        return Program([*command, "--output-dir", directory], tmp_path, name="demo")

    with (
        running_server(start, lambda port: responds(f"http://127.0.0.1:{port}/-/ready")) as (_, port),
        running_prometheus(tmp_path) as prometheus,
        prometheus.scraping("stream-exporter", f"127.0.0.1:{port}", interval="5s"),
        prometheus.evaluating(*ALERTS.glob("stream-*.yaml")),
    ):
        demo = Demo(f"http://127.0.0.1:{port}", prometheus)
        print(f"demo at {demo.url}", flush=True)
        time.sleep(60)
        for platform, fault in OUTAGES:
            live_before = demo.upstreams()[platform]["streams_live"]
            began = time.time()
            demo.fail(platform, fault)
            print(f"{platform}: {fault}, {live_before} streams were live", flush=True)
            shown: dict[str, Any] = {}
            paged: set[str] = set()
            is_back = False
            while (passed := time.time() - began) < OUTAGE_SECONDS + RECOVERY_SECONDS and not is_back:
                time.sleep(SAMPLE_SECONDS)
                assert not demo.stream_alerts(platform, began), f"after {passed:.0f} s"
                paged |= demo.upstream_alerts()
                now_shown = demo.upstreams()[platform]
                if passed < OUTAGE_SECONDS - SAMPLE_SECONDS:
                    shown = now_shown
                is_back = passed > OUTAGE_SECONDS and now_shown["up"]
            print(f"{platform}: shown as {shown}, alerts of upstreams {sorted(paged)}", flush=True)
            assert "streams_live" not in shown
            assert abs(shown["streams_were_live"] - live_before) <= 2
            assert "StreamUpstreamDown" in paged
            assert demo.upstreams()[platform]["streams_live"] >= live_before - 2
            # an alert that was delayed by the outage would show up now
            time.sleep(60)
            assert not demo.stream_alerts(platform, began)
