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
from exporter.alerting.payload import AlertPayload
from exporter.alerting.self_metrics import SidecarMetrics
from exporter.config.alerting import AlertmanagerSettings
from exporter.metrics.self_metrics import FamilyRegistry
from tests.fake_clock import FakeClock
from tests.sidecar.fake_alertmanager import (
    PATH,
    FakeAlertmanager,
    alert_payload,
    fake_alertmanager,
    run_event_loop,
    settings_for,
)

CURRENT_PAYLOADS = [alert_payload("everything")]


class FakeResolver:
    """A host's addresses, as the tests change them."""

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
            current_payloads=lambda: CURRENT_PAYLOADS,
            resend_seconds=60.0,
            resolve=name.resolve,
        )

    def addresses(self) -> set[str]:
        """What has series."""
        families = [f for f in self.registry.collect() if f.name == "stream_exporter_notifications_queue_capacity"]
        return {sample.labels["alertmanager"] for family in families for sample in family.samples}


@asynccontextmanager
async def running_notifier(name: FakeResolver | None = None) -> AsyncIterator[NotifierHarness]:
    running = NotifierHarness(name or FakeResolver())
    try:
        yield running
    finally:
        await running.notifier.close()


def received_streams(alertmanager: FakeAlertmanager) -> list[str]:
    return [alert["labels"]["stream"] for alert in alertmanager.alerts]


async def test_every_alertmanager_gets_the_whole_state_first() -> None:
    async with fake_alertmanager() as one, fake_alertmanager() as two, running_notifier() as running:
        await running.notifier.apply([settings_for(one.url), settings_for(two.url), settings_for(one.url)])
        running.notifier.enqueue([alert_payload("news")])
        await one.until(lambda: len(received_streams(one)) == 2)
        await two.until(lambda: len(received_streams(two)) == 2)
        assert received_streams(one) == received_streams(two) == ["everything", "news"]


async def test_slow_or_dead_alertmanager_does_not_delay_others() -> None:
    async with fake_alertmanager() as slow, fake_alertmanager() as quick, running_notifier() as running:
        may_respond = asyncio.Event()

        async def respond_slowly(_alerts: list[dict[str, Any]], _request: web.Request) -> web.Response:
            await may_respond.wait()
            return web.Response()

        slow.behave = respond_slowly
        await running.notifier.apply(
            [
                settings_for(slow.url),
                settings_for("http://127.0.0.1:9"),
                settings_for(quick.url),
            ]
        )
        for n in range(10):
            running.notifier.enqueue([alert_payload(f"s{n}")])
            await quick.until(lambda: f"s{n}" in received_streams(quick))  # noqa: B023 - called before the next turn
        assert len(slow.batches) == 1
        may_respond.set()
        await slow.until(lambda: len(received_streams(slow)) == 11)


async def test_unchanged_alertmanager_keeps_its_queue() -> None:
    async with fake_alertmanager() as one, fake_alertmanager() as two, running_notifier() as running:
        dead = settings_for("http://127.0.0.1:9")
        await running.notifier.apply([dead, settings_for(one.url)])
        running.notifier.enqueue([alert_payload("kept")])
        await one.until(lambda: "kept" in received_streams(one))
        kept = running.notifier.queues[0]
        await running.notifier.apply([settings_for(two.url), dead])
        assert running.notifier.queues[0] is kept
        assert kept.waiting == 2
        await two.until(lambda: received_streams(two) == ["everything"])
        running.notifier.enqueue([alert_payload("later")])
        await two.until(lambda: "later" in received_streams(two))
        assert "later" not in received_streams(one)
        assert running.addresses() == {"127.0.0.1:9", two.url.removeprefix("http://")}
        await running.notifier.apply([])
        assert running.addresses() == set()


@pytest.fixture
def port() -> int:
    """One that is free on all loopback addresses."""
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
        assert running.addresses() == {f"127.0.0.1:{port}", f"127.0.0.2:{port}"}

        name.addresses = None
        with structlog.testing.capture_logs() as logs:
            for _ in range(3):
                running.clock.advance(60)
                await run_event_loop()
        assert [line["event"] for line in logs] == ["alertmanager's name can't be resolved"]
        running.notifier.enqueue([alert_payload("still")])
        await two.until(lambda: "still" in received_streams(two))

        name.addresses = {"127.0.0.2"}
        running.clock.advance(60)
        await run_event_loop()
        assert running.addresses() == {f"127.0.0.2:{port}"}
        running.notifier.enqueue([alert_payload("only")])
        await two.until(lambda: "only" in received_streams(two))
        assert "only" not in received_streams(one)


async def test_system_resolver_finds_localhost() -> None:
    assert "127.0.0.1" in await resolve_addresses(settings_for("http://localhost:9093"))


async def test_tls_certificate_is_checked_for_the_name(tmp_path: Path, port: int) -> None:
    """The one address is used, and yet the certificate is checked for the name."""
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
    assert len(alertmanager.batches) == 1


async def test_flush_is_bounded_in_time() -> None:
    async with fake_alertmanager() as stuck, fake_alertmanager() as quick:

        async def never_respond(_alerts: list[dict[str, Any]], _request: web.Request) -> web.Response:
            await asyncio.sleep(3600)
            return web.Response()

        stuck.behave = never_respond
        async with running_notifier() as running:
            await running.notifier.apply([settings_for(stuck.url), settings_for(quick.url)])
            await stuck.until(lambda: stuck.batches)
            last: list[AlertPayload] = [alert_payload("last")]
            running.notifier.enqueue(last)
            await running.notifier.close(flush_seconds=0.2)
            assert "last" in received_streams(quick)
            running.notifier.enqueue([alert_payload("too late")])
        assert "too late" not in received_streams(quick)
        stuck.behave = FakeAlertmanager().behave
