"""What the exporter makes of HLS streams on real servers when things go wrong: ``make soak PART=playback``.

It takes about 32 minutes. ``SOAK_SECONDS``: how long the stream with the faults of every day runs, by default 30
minutes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.alerting.inhibition import Labels, Notifications
from tests.load.noisy_origin import NoisyOrigin, running_noisy_origin
from tests.real.hls_origin import running_hls_origins
from tests.real.playback_scenarios import SCENARIOS, STREAM, Lab, upstreams
from tests.real.playback_timeline import (
    FAILED_SECONDS,
    HEALTHY_SECONDS,
    Measured,
    StatisticsRecorder,
    Watch,
    alert_name,
    expected_alerts,
    name_of,
    update_page,
    watching,
    write_logs,
    write_measured,
)

ORDINARY_SECONDS = float(os.environ.get("SOAK_SECONDS", "1800"))
SEED = int(os.environ.get("SOAK_SEED", "1"))
NOISY = "noisy"
STEP = 0.5
START_SECONDS = 60.0

pytestmark = [pytest.mark.soak, pytest.mark.real]


class Soak:
    """The running scenarios, and what has been measured so far."""

    def __init__(self, lab: Lab, watch: Watch, noisy: NoisyOrigin) -> None:
        self._lab = lab
        self._watch = watch
        self._noisy = noisy
        self.measured = {scenario.name: Measured(scenario.name) for scenario in SCENARIOS}
        self.failed_at: float | None = None
        """Steady seconds."""
        self.failed_wall = 0.0
        self.ended_wall = 0.0
        self._notifications = {"prometheus": Notifications(), "sidecar": Notifications()}
        self.others: set[tuple[str, str, str]] = set()
        """Upstream, name and severity of alerts that are of no scenario."""

    def look(self) -> None:
        """Look at the states and alerts, and measure what is new."""
        self._watch.look()
        now = time.monotonic()
        alerts = {"prometheus": self._watch.prometheus_alerts(), "sidecar": self._watch.sidecar_alerts()}
        for evaluator, firing in alerts.items():
            for alert in self._notifications[evaluator].observe(firing, now):
                self._note_alert(evaluator, dict(alert), self._notifications[evaluator].since[alert])
        if self.failed_at is None:
            return
        for scenario in SCENARIOS:
            measured = self.measured[scenario.name]
            if scenario.fail and measured.state_seconds is None and scenario.holds(self._watch.values(scenario.name)):
                measured.state_seconds = round(now - self.failed_at, 1)

    def _note_alert(self, evaluator: str, alert: Labels, at: float) -> None:
        print(f"{time.strftime('%T')} {evaluator}: {alert}", flush=True)
        assert self.failed_at is not None or alert.get("upstream") == NOISY, "alert of a healthy stream"
        is_known = False
        for scenario in SCENARIOS:
            name = name_of(alert, scenario)
            if name is not None:
                times: dict[str, float] = getattr(self.measured[scenario.name], evaluator)
                times.setdefault(name, round(at - (self.failed_at or 0.0), 1))
                is_known = True
        if not is_known:
            self.others.add((alert.get("upstream", ""), alert["alertname"], alert["severity"]))

    def watch_for(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.look()
            time.sleep(STEP)

    def wait_until_healthy(self) -> None:
        until = time.monotonic() + START_SECONDS
        names = [*(scenario.name for scenario in SCENARIOS), NOISY]
        while unknown := [name for name in names if self._watch.values(name).get("stream_playable") != 1]:
            assert time.monotonic() < until, unknown
            self.look()
            time.sleep(STEP)

    def fail(self) -> None:
        self.failed_at, self.failed_wall = time.monotonic(), time.time()
        for scenario in SCENARIOS:
            if scenario.fail is not None:
                scenario.fail(self._lab)

    def run(self) -> None:
        """Let everything happen."""
        self.wait_until_healthy()
        began = time.monotonic()
        self.watch_for(HEALTHY_SECONDS)
        self.fail()
        noise = [
            (ORDINARY_SECONDS / 3, self._lab.encoders[NOISY].restart),
            (ORDINARY_SECONDS * 2 / 3, self._noisy.start_advertisement),
            (ORDINARY_SECONDS, lambda: None),
        ]
        for at, happen in noise:
            while time.monotonic() < began + at:
                self.look()
                time.sleep(STEP)
                is_over = time.monotonic() - (self.failed_at or 0.0) > FAILED_SECONDS
                self.ended_wall = self.ended_wall or (time.time() if is_over else 0.0)
            happen()
        assert self.ended_wall, "SOAK_SECONDS is too short"

    def ordinary(self) -> Mapping[str, Any]:
        """Return what happened to the stream with the faults of every day."""
        return {
            "seconds": ORDINARY_SECONDS,
            "requests": self._noisy.requests,
            "unavailable": self._noisy.unavailable,
            "late": self._noisy.late,
            "alerts": ", ".join(sorted(alert_name(name, grade) for upstream, name, grade in self.others)),
        }


def test_streams_that_fail_and_one_with_the_faults_of_every_day(tmp_path: Path) -> None:
    with running_hls_origins(tmp_path) as origins:
        lab = Lab(origins)
        lab.start()
        lab.encoders[NOISY] = origins.encode(NOISY, ladder=True)
        with running_noisy_origin(origins.www / NOISY, origins.www / "first", SEED) as noisy:
            stream = {"name": STREAM, "url": "/master.m3u8", "expected": True}
            every_day = {"name": NOISY, "platform": "hls", "url": noisy.url, "streams": [stream]}
            recorder = StatisticsRecorder(f"{origins.nginx.url}/stat")
            with (
                watching([*upstreams(lab, SCENARIOS), every_day], tmp_path) as (watch, log),
                recorder.recording(),
            ):
                soak = Soak(lab, watch, noisy)
                soak.run()
            write_logs(log, recorder.entries, soak.failed_wall, soak.measured)
    write_measured(soak.measured.values(), soak.ordinary())
    assert_right(soak)
    update_page()


def assert_right(soak: Soak) -> None:
    """Assert that each scenario had the right state and exactly the right alerts, in both evaluators."""
    for scenario in SCENARIOS:
        measured = soak.measured[scenario.name]
        assert scenario.fail is None or measured.state_seconds is not None, scenario.name
        expected = expected_alerts(scenario)
        for times in (measured.prometheus, measured.sidecar):
            assert set(times) == expected, f"{scenario.name}: {times}"
    # one response in thirty with status 503 may be a warning, but nothing that pages
    assert {alert for alert in soak.others if alert[0] != NOISY or alert[2] == "critical"} == set()
