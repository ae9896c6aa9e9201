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
from prometheus_client import CollectorRegistry

from exporter.alerting.notifier import Notifier, resolve
from exporter.alerting.payload import AlertPayload
from exporter.alerting.self_metrics import SidecarMetrics
from exporter.config.alerting import AlertmanagerSettings
from tests.fake_clock import FakeClock
from tests.sidecar.alertmanagers import PATH, StandIn, notice, settings, stand_in, turns

EVERYTHING = [notice("everything")]


class Name:
    """A host's addresses, as the tests change them."""

    def __init__(self, *addresses: str) -> None:
        self.addresses: set[str] | None = set(addresses)

    async def resolve(self, _settings: AlertmanagerSettings) -> Iterable[str]:
        if self.addresses is None:
            raise OSError("no such host")
        return self.addresses


class Dispatching:
    def __init__(self, name: Name) -> None:
        self.clock = FakeClock()
        self.registry = CollectorRegistry()
        self.dispatcher = Notifier(
            clock=self.clock,
            instruments=SidecarMetrics(self.registry),
            everything=lambda: EVERYTHING,
            resend_seconds=60.0,
            resolve=name.resolve,
        )

    def addresses(self) -> set[str]:
        """What has series."""
        families = [f for f in self.registry.collect() if f.name == "stream_exporter_notifications_queue_capacity"]
        return {sample.labels["alertmanager"] for family in families for sample in family.samples}


@asynccontextmanager
async def dispatching(name: Name | None = None) -> AsyncIterator[Dispatching]:
    running = Dispatching(name or Name())
    try:
        yield running
    finally:
        await running.dispatcher.close()


def streams(alertmanager: StandIn) -> list[str]:
    return [alert["labels"]["stream"] for alert in alertmanager.alerts]


async def test_all_of_them_always_and_the_whole_state_first() -> None:
    async with stand_in() as one, stand_in() as two, dispatching() as running:
        await running.dispatcher.apply([settings(one.url), settings(two.url), settings(one.url)])
        running.dispatcher.offer([notice("news")])
        await one.until(lambda: len(streams(one)) == 2)
        await two.until(lambda: len(streams(two)) == 2)
        assert streams(one) == streams(two) == ["everything", "news"]


async def test_a_slow_and_a_dead_one_hold_up_no_other() -> None:
    async with stand_in() as slow, stand_in() as quick, dispatching() as running:
        go_on = asyncio.Event()

        async def slowly(_alerts: list[dict[str, Any]], _request: web.Request) -> web.Response:
            await go_on.wait()
            return web.Response()

        slow.behave = slowly
        await running.dispatcher.apply([settings(slow.url), settings("http://127.0.0.1:9"), settings(quick.url)])
        for n in range(10):
            running.dispatcher.offer([notice(f"s{n}")])
            await quick.until(lambda: f"s{n}" in streams(quick))  # noqa: B023 - called before the next turn
        assert len(slow.batches) == 1
        go_on.set()
        await slow.until(lambda: len(streams(slow)) == 11)


async def test_what_did_not_change_keeps_its_queue() -> None:
    async with stand_in() as one, stand_in() as two, dispatching() as running:
        dead = settings("http://127.0.0.1:9")
        await running.dispatcher.apply([dead, settings(one.url)])
        running.dispatcher.offer([notice("kept")])
        await one.until(lambda: "kept" in streams(one))
        (kept,) = running.dispatcher._targets[0].senders
        await running.dispatcher.apply([settings(two.url), dead])
        assert next(s for target in running.dispatcher._targets for s in target.senders) is kept
        assert kept.waiting == 2
        await two.until(lambda: streams(two) == ["everything"])
        running.dispatcher.offer([notice("later")])
        await two.until(lambda: "later" in streams(two))
        assert "later" not in streams(one)
        assert running.addresses() == {"127.0.0.1:9", two.url.removeprefix("http://")}
        await running.dispatcher.apply([])
        assert running.addresses() == set()


@pytest.fixture
def port() -> int:
    """One that is free on all loopback addresses."""
    with socket.socket() as listener:
        listener.bind(("", 0))
        found: int = listener.getsockname()[1]
        return found


async def test_every_address_of_a_name(port: int) -> None:
    name = Name("127.0.0.1")
    async with (
        stand_in(host="127.0.0.1", port=port) as one,
        stand_in(host="127.0.0.2", port=port) as two,
        dispatching(name) as running,
    ):
        by_name = settings(f"http://alertmanager.example:{port}", resolve_dns=True)
        await running.dispatcher.apply([by_name])
        await one.until(lambda: streams(one) == ["everything"])
        assert one.requests[0].headers["Host"] == f"alertmanager.example:{port}"

        name.addresses = {"127.0.0.1", "127.0.0.2"}
        running.clock.advance(60)
        await two.until(lambda: streams(two) == ["everything"])
        assert running.addresses() == {f"127.0.0.1:{port}", f"127.0.0.2:{port}"}

        name.addresses = None
        with structlog.testing.capture_logs() as logs:
            for _ in range(3):
                running.clock.advance(60)
                await turns()
        assert [line["event"] for line in logs] == ["alertmanager's name can't be resolved"]
        running.dispatcher.offer([notice("still")])
        await two.until(lambda: "still" in streams(two))

        name.addresses = {"127.0.0.2"}
        running.clock.advance(60)
        await turns()
        assert running.addresses() == {f"127.0.0.2:{port}"}
        running.dispatcher.offer([notice("only")])
        await two.until(lambda: "only" in streams(two))
        assert "only" not in streams(one)


async def test_the_systems_own_resolver() -> None:
    assert "127.0.0.1" in await resolve(settings("http://localhost:9093"))


async def test_tls_with_a_certificate_for_the_name(tmp_path: Path, port: int) -> None:
    """The one address is used, and yet the certificate is checked for the name."""
    authority, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("alertmanager.example").configure_cert(context)
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    alertmanager, app = StandIn(), web.Application()
    app.router.add_post(PATH, alertmanager.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
    try:
        async with dispatching(Name("127.0.0.1")) as running:
            more = {"resolve_dns": True, "tls": {"ca_file": str(ca_file)}}
            await running.dispatcher.apply([settings(f"https://alertmanager.example:{port}", **more)])
            await alertmanager.until(lambda: alertmanager.alerts)
        async with dispatching(Name("127.0.0.1")) as running:
            with structlog.testing.capture_logs() as logs:
                await running.dispatcher.apply([settings(f"https://other.example:{port}", **more)])
                async with asyncio.timeout(30):
                    while not logs:  # noqa: ASYNC110 - a handshake fails
                        await asyncio.sleep(0.005)
            assert logs[0]["reason"] == "tls"
    finally:
        await runner.cleanup()
    assert len(alertmanager.batches) == 1


async def test_the_last_word_is_bounded_in_time() -> None:
    async with stand_in() as stuck, stand_in() as quick:

        async def never(_alerts: list[dict[str, Any]], _request: web.Request) -> web.Response:
            await asyncio.sleep(3600)
            return web.Response()

        stuck.behave = never
        async with dispatching() as running:
            await running.dispatcher.apply([settings(stuck.url), settings(quick.url)])
            await stuck.until(lambda: stuck.batches)
            last: list[AlertPayload] = [notice("last")]
            running.dispatcher.offer(last)
            await running.dispatcher.close(flush_seconds=0.2)
            assert "last" in streams(quick)
            running.dispatcher.offer([notice("too late")])
        assert "too late" not in streams(quick)
        stuck.behave = StandIn().behave
