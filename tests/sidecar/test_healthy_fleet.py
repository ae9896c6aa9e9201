"""A healthy fleet causes no alerts."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp.test_utils import TestServer

from exporter.cli.settings import load_settings
from exporter.service import Service
from exporter.simulator.context import PASSWORD, TOKEN, USERNAME
from exporter.simulator.fleet import Fleet
from exporter.simulator.simulated_streams import Platform, Stream
from exporter.simulator.simulator_app import make_app as make_simulator
from tests.fake_clock import FakeClock
from tests.sidecar.fake_alertmanager import fake_alertmanager, run_event_loop

HOUR = 3600.0
STEP_SECONDS = 30.0
EVERY = 5
"""One of this many streams is configured as expected."""


def configuration(fleet: Fleet, began: float, url: str, alertmanager: str, *, minutes: int = 62) -> dict[str, Any]:
    """Configure all platforms. Expected streams that end during the run have ``end_ok``.

    ``minutes``: maximum duration of the run.
    """

    def stays(stream: Stream) -> bool:
        return all(fleet.is_live(stream, began + minute * 60.0) for minute in range(-1, minutes))

    def expectation(stream: Stream) -> dict[str, Any]:
        settings: dict[str, Any] = {"expected_bitrate": f"{stream.megabits:g}Mbps"}
        if stream.index % EVERY == 0:
            settings |= {
                "expected": True,
                "end_ok": not stays(stream),
                "start_grace": "1h" if not stays(stream) else "0s",
            }
        return settings

    def chosen(platform: Platform) -> list[Stream]:
        return [stream for stream in fleet.streams(platform) if stream.index % EVERY == 0 and stays(stream)]

    return {
        "upstreams": [
            {
                "name": "studio",
                "platform": "livepeer",
                "url": f"{url}/livepeer/api",
                "auth": {"bearer_token": TOKEN},
                "interval": "30s",
                "discover": True,
                "viewership": False,
                "streams": [{"id": s.id, "name": s.name, **expectation(s)} for s in chosen(Platform.LIVEPEER)[:20]],
            },
            {
                "name": "edge",
                "platform": "storm",
                "url": f"{url}/storm",
                "interval": "30s",
                "auth": {"username": USERNAME, "password": PASSWORD},
                "streams": [
                    {"application": s.application, "key": s.name, **expectation(s)}
                    for s in fleet.streams(Platform.STORM)
                ],
            },
            {
                "name": "wave",
                "platform": "wave",
                "url": f"{url}/wave/api/v1",
                "interval": "120s",
                "auth": {"bearer_token": TOKEN},
                "ice_candidates": False,
                "sessions": [{"id": s.id, "name": s.name, **expectation(s)} for s in fleet.streams(Platform.WAVE)],
            },
        ],
        "alerting": {"alertmanagers": [{"url": alertmanager}]},
    }


@pytest.mark.system
@pytest.mark.no_cover
async def test_healthy_streams_fire_no_alert_for_an_hour(tmp_path: Path) -> None:
    """Neither jitter of encoders and networks nor starts and planned ends cause a page or a ticket.

    ``tests/alerting/test_healthy_hour.py`` does the same with 1,000 streams and failures.
    """
    clock = FakeClock()
    fleet = Fleet(300, seed=7, incidents=False)
    async with TestServer(make_simulator(fleet, clock)) as server, fake_alertmanager() as alertmanager:
        settings = configuration(fleet, clock.now(), str(server.make_url("")).rstrip("/"), alertmanager.url)
        settings["alerting"]["state_file"] = str(tmp_path / "alerts.json")
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump(settings))
        service = Service(load_settings(file, {}), load=lambda: load_settings(file, {}), clock=clock)
        await service.start()
        try:
            changes = await one_hour(service, clock, fleet)
        finally:
            await service.stop()
    names = {alert["labels"]["alertname"] for alert in alertmanager.alerts}
    assert names == {"StreamSidecarWatchdog"}, [a for a in alertmanager.alerts if "Watchdog" not in str(a["labels"])][
        :5
    ]
    assert changes > 20, "streams start and end during the run"


async def one_hour(service: Service, clock: FakeClock, fleet: Fleet) -> int:
    """Let an hour pass; return how many streams started or ended."""
    changes, live = 0, set[str]()
    began = clock.now()
    while clock.now() < began + HOUR:
        clock.advance(STEP_SECONDS)
        async with asyncio.timeout(120):
            while not is_idle(service, clock.now()):  # noqa: ASYNC110 - waits for real responses
                await asyncio.sleep(0.005)
        await run_event_loop(100)
        now_live = {
            f"{state.identity.upstream} {state.identity.stream}"
            for view in service.store.states()
            for state in view.streams
            if state.live
        }
        changes += len(now_live ^ live) if live else 0
        live = now_live
    assert len(live) >= 0.9 * fleet.size
    return changes


def is_idle(service: Service, now: float) -> bool:
    """Return whether every upstream has been polled and none is due."""
    views = service.store.states()
    return len(views) == 3 and all(view.next_poll_at is not None and view.next_poll_at > now for view in views)
