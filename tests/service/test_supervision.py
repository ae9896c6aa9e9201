"""Internal errors do not stop the exporter."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import structlog.testing

from exporter.cli.settings import load_settings
from exporter.polling.coordinator import Coordinator
from exporter.runtime.logging import describe_exception
from exporter.service import READY_AFTER_SECONDS, Service
from tests.fake_clock import FakeClock

CONFIGURATION = """
upstreams:
  - {name: u, platform: storm, url: "http://127.0.0.1:9", streams: [{application: live, key: a, expected: true}]}
"""


@pytest.fixture
def service(tmp_path: Path) -> Service:
    file = tmp_path / "config.yaml"
    file.write_text(CONFIGURATION)
    return Service(load_settings(file, {}), load=lambda: load_settings(file, {}), clock=FakeClock())


async def advance_by_seconds(clock: FakeClock, seconds: int) -> None:
    for _ in range(seconds):
        clock.advance(1.0)
        for _ in range(10):
            await asyncio.sleep(0)


async def test_crashed_poller_is_restarted_and_counted(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(service.clock, FakeClock)
    runs = 0

    async def run(_: Coordinator) -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise RuntimeError("canary")
        await asyncio.Event().wait()

    monkeypatch.setattr(Coordinator, "run", run)
    with structlog.testing.capture_logs() as logs:
        await service.start()
        await advance_by_seconds(service.clock, 5)
        text = service.metrics.render_upstreams().decode()
        await service.stop()
    assert runs == 3
    assert 'stream_upstream_poller_restarts_total{platform="storm",upstream="u"} 2.0' in text
    assert [entry["event"] for entry in logs] == ["poller crashed; restarting it"] * 2
    assert "canary" not in repr(logs)


async def test_failing_refresh_is_retried_and_logs_no_exception_text(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(service.clock, FakeClock)
    rounds = 0

    async def refresh(_: Coordinator) -> None:
        nonlocal rounds
        rounds += 1
        raise RuntimeError("canary")

    monkeypatch.setattr(Coordinator, "refresh", refresh)
    with structlog.testing.capture_logs() as logs:
        await service.start()
        await advance_by_seconds(service.clock, 3)
        assert service.healthy
        await service.stop()
    assert rounds >= 2
    assert "canary" not in repr(logs)


async def test_service_is_ready_after_30_seconds_without_a_poll(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(service.clock, FakeClock)

    async def run(_: Coordinator) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Coordinator, "run", run)
    assert not service.healthy
    await service.start()
    assert service.healthy
    assert not service.ready
    service.clock.advance(READY_AFTER_SECONDS)
    assert service.ready
    await service.stop()
    assert not service.healthy


async def test_service_is_ready_after_a_failed_first_poll(service: Service) -> None:
    await service.start()
    coordinator = service.coordinator("u")
    assert coordinator is not None
    assert not service.ready
    await coordinator.poll()
    assert service.ready
    state = service.store.get("u")
    assert state is not None
    assert (state.up, [(s.live, s.expected) for s in state.streams]) == (False, [(None, True)])
    await service.stop()


def test_description_of_an_exception_without_traceback_is_its_name() -> None:
    assert describe_exception(KeyError("canary")) == "KeyError"
