from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
import trustme
from aiohttp import web

from exporter.alerting.notifier import Notifier, resolve_addresses
from exporter.alerting.self_metrics import SidecarMetrics
from exporter.config.alerting import AlertmanagerSettings
from exporter.metrics.self_metrics import FamilyRegistry
from tests.fake_clock import FakeClock
from tests.sidecar.fake_alertmanager import (
    PATH,
    FakeAlertmanager,
    FakeOutbox,
    accept_all,
    fake_alertmanager,
    firing_alert,
    run_event_loop,
    settings_for,
)


class FakeResolver:
    """A resolver whose addresses tests can change."""

    def __init__(self, *addresses: str) -> None:
        self.addresses: set[str] | None = set(addresses)

    async def resolve(self, _settings: AlertmanagerSettings) -> Iterable[str]:
        if self.addresses is None:
            raise OSError("no such host")
        return self.addresses


class NotifierHarness:
    def __init__(self, name: FakeResolver) -> None:
        self.clock = FakeClock()
        self.registry = FamilyRegistry()
        self.notifier = Notifier(
            clock=self.clock,
            metrics=SidecarMetrics(self.registry),
            outbox=FakeOutbox(self.clock, firing_alert("everything")),
            resend_seconds=60.0,
            resolve=name.resolve,
        )

    def identities(self) -> set[str]:
        """Return the Alertmanagers that have series."""
        families = [f for f in self.registry.collect() if f.name == "stream_exporter_notifications_queue_length"]
        return {sample.labels["alertmanager"] for family in families for sample in family.samples}

    def count(self, name: str, alertmanager: str) -> float | None:
        full = f"stream_exporter_notifications_{name}"
        return self.registry.get_sample_value(full, {"alertmanager": alertmanager})


@asynccontextmanager
async def running_notifier(name: FakeResolver | None = None) -> AsyncIterator[NotifierHarness]:
    running = NotifierHarness(name or FakeResolver())
    try:
        yield running
    finally:
        await running.notifier.close()


def received_streams(alertmanager: FakeAlertmanager) -> list[str]:
    return [alert["labels"]["stream"] for alert in alertmanager.alerts if "stream" in alert["labels"]]


async def test_every_alertmanager_gets_all_alerts() -> None:
    async with fake_alertmanager() as one, fake_alertmanager() as two, running_notifier() as running:
        await running.notifier.apply([settings_for(one.url), settings_for(two.url), settings_for(one.url)])
        running.notifier.enqueue([firing_alert("news")])
        for alertmanager in (one, two):
            await alertmanager.until(lambda: len(received_streams(alertmanager)) == 2)  # noqa: B023 - called at once
            assert set(received_streams(alertmanager)) == {"everything", "news"}


async def test_slow_or_dead_alertmanager_does_not_delay_others() -> None:
    async with fake_alertmanager() as slow, fake_alertmanager() as quick, running_notifier() as running:
        may_respond = asyncio.Event()

        async def respond_slowly(_alerts: list[dict[str, Any]], _request: web.Request) -> web.Response:
            await may_respond.wait()
            return web.Response()

        slow.behave = respond_slowly
        alertmanagers = [slow.url, "http://127.0.0.1:9", quick.url]
        await running.notifier.apply([settings_for(url) for url in alertmanagers])
        for n in range(10):
            running.notifier.enqueue([firing_alert(f"s{n}")])
            await quick.until(lambda: f"s{n}" in received_streams(quick))  # noqa: B023 - called before the next turn
        assert len(slow.all_batches) == 1
        may_respond.set()
        await slow.until(lambda: len(received_streams(slow)) == 11)


async def test_unchanged_alertmanager_keeps_its_queue() -> None:
    async with fake_alertmanager() as one, fake_alertmanager() as two, running_notifier() as running:
        dead = settings_for("http://127.0.0.1:9")
        await running.notifier.apply([dead, settings_for(one.url)])
        running.notifier.enqueue([firing_alert("kept")])
        await one.until(lambda: "kept" in received_streams(one))
        kept = running.notifier.queues[0]
        await running.notifier.apply([settings_for(two.url), dead])
        assert running.notifier.queues[0] is kept
        assert kept.waiting == 2, "including the watchdog"
        await two.until(lambda: received_streams(two) == ["everything"])
        running.notifier.enqueue([firing_alert("later")])
        await two.until(lambda: "later" in received_streams(two))
        assert "later" not in received_streams(one)
        assert running.identities() == {"http://127.0.0.1:9", two.url}
        await running.notifier.apply([])
        assert running.identities() == set()


async def test_alertmanagers_behind_one_address_have_separate_identities() -> None:
    """If one refuses, its failures are not counted for the other."""
    async with fake_alertmanager("/{team}/api/v2/alerts") as shared, running_notifier() as running:

        async def refuse_news(_alerts: list[dict[str, Any]], request: web.Request) -> web.Response:
            is_refused = "news" in (request.match_info["team"], request.headers.get("X-Scope-OrgID"))
            return web.Response(status=403 if is_refused else 200)

        shared.behave = refuse_news
        by_path = [settings_for(f"{shared.url}/{team}") for team in ("sports", "news")]
        by_tenant = [settings_for(f"{shared.url}/all", headers={"X-Scope-OrgID": team}) for team in ("sports", "news")]
        await running.notifier.apply([*by_path, *by_tenant])
        identities = [
            f"{shared.url}/sports",
            f"{shared.url}/news",
            f"{shared.url}/all (tenant sports)",
            f"{shared.url}/all (tenant news)",
        ]
        async with asyncio.timeout(30):
            for name in identities:
                count, expected = ("sent_total", 2) if "sports" in name else ("errors_total", 1)
                while running.count(count, name) != expected:  # noqa: ASYNC110 - real requests
                    await asyncio.sleep(0.005)
        assert [running.count("errors_total", name) for name in identities[::2]] == [0, 0]
        assert [running.count("sent_total", name) for name in identities[1::2]] == [0, 0]


@pytest.fixture
def port() -> int:
    """Return a port that is free on all loopback addresses."""
    with socket.socket() as listener:
        listener.bind(("", 0))
        found: int = listener.getsockname()[1]
        return found


async def test_every_address_of_a_name_gets_the_alerts(port: int) -> None:
    name = FakeResolver("127.0.0.1")
    async with (
        fake_alertmanager(host="127.0.0.1", port=port) as one,
        fake_alertmanager(host="127.0.0.2", port=port) as two,
        running_notifier(name) as running,
    ):
        by_name = settings_for(f"http://alertmanager.example:{port}", resolve_dns=True)
        await running.notifier.apply([by_name])
        await one.until(lambda: received_streams(one) == ["everything"])
        assert one.requests[0].headers["Host"] == f"alertmanager.example:{port}"

        name.addresses = {"127.0.0.1", "127.0.0.2"}
        running.clock.advance(60)
        await two.until(lambda: received_streams(two) == ["everything"])
        name_and_port = f"http://alertmanager.example:{port}"
        assert running.identities() == {f"{name_and_port} at 127.0.0.{n}:{port}" for n in (1, 2)}

        name.addresses = None
        with structlog.testing.capture_logs() as logs:
            for _ in range(3):
                running.clock.advance(60)
                await run_event_loop()
        assert [line["event"] for line in logs] == ["alertmanager's host name cannot be resolved"]
        running.notifier.enqueue([firing_alert("still")])
        await two.until(lambda: "still" in received_streams(two))

        name.addresses = {"127.0.0.2"}
        running.clock.advance(60)
        await run_event_loop()
        assert running.identities() == {f"{name_and_port} at 127.0.0.2:{port}"}
        running.notifier.enqueue([firing_alert("only")])
        await two.until(lambda: "only" in received_streams(two))
        assert "only" not in received_streams(one)


async def test_system_resolver_finds_localhost() -> None:
    assert "127.0.0.1" in await resolve_addresses(settings_for("http://localhost:9093"))


async def test_tls_certificate_of_an_address_is_checked_for_the_host_name(tmp_path: Path, port: int) -> None:
    authority, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("alertmanager.example").configure_cert(context)
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    alertmanager, app = FakeAlertmanager(), web.Application()
    app.router.add_post(PATH, alertmanager.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
    try:
        async with running_notifier(FakeResolver("127.0.0.1")) as running:
            more = {"resolve_dns": True, "tls": {"ca_file": str(ca_file)}}
            await running.notifier.apply([settings_for(f"https://alertmanager.example:{port}", **more)])
            await alertmanager.until(lambda: alertmanager.alerts)
        async with running_notifier(FakeResolver("127.0.0.1")) as running:
            with structlog.testing.capture_logs() as logs:
                await running.notifier.apply([settings_for(f"https://other.example:{port}", **more)])
                async with asyncio.timeout(30):
                    while not logs:  # noqa: ASYNC110 - a handshake fails
                        await asyncio.sleep(0.005)
            assert logs[0]["reason"] == "tls"
    finally:
        await runner.cleanup()
    assert len(alertmanager.all_batches) == 1


async def test_flush_is_bounded_in_time() -> None:
    async with fake_alertmanager() as stuck, fake_alertmanager() as quick:

        async def never_respond(_alerts: list[dict[str, Any]], _request: web.Request) -> web.Response:
            await asyncio.sleep(3600)
            return web.Response()

        stuck.behave = never_respond
        async with running_notifier() as running:
            await running.notifier.apply([settings_for(stuck.url), settings_for(quick.url)])
            await stuck.until(lambda: stuck.all_batches)
            running.notifier.enqueue([firing_alert("last")])
            await running.notifier.close(flush_seconds=0.2)
            assert "last" in received_streams(quick)
            running.notifier.enqueue([firing_alert("too late")])
        assert "too late" not in received_streams(quick)
        stuck.behave = accept_all
