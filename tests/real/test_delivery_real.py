"""Delivery to real Alertmanagers: their alerts and notifications. Durations are scaled by 1/60."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from exporter.web.sidecar_api import SidecarApi
from tests.real.alertmanager_cluster import ClusterMember, FaultyProxy, running_cluster
from tests.real.child_process import GENEROUS_SECONDS, request_json
from tests.real.prometheus import Prometheus
from tests.real.sidecar_replica import NAME, ShiftedClock, running_replica

pytestmark = pytest.mark.real

KEPT_SECONDS = 2.0
"""Keep-firing time of the alert, scaled."""
CLOCK_OFFSET = "stream_exporter_notifications_clock_offset_seconds"


class Receiver:
    """Records notifications from Alertmanagers and from the sidecar's own webhooks."""

    def __init__(self) -> None:
        self.url = ""
        self.bodies: dict[str, list[dict[str, Any]]] = {}

    async def receive(self, request: web.Request) -> web.Response:
        body: dict[str, Any] = await request.json()
        if body["commonLabels"].get("alertname") == NAME:
            self.bodies.setdefault(request.path, []).append(body)
        return web.Response()

    def statuses(self, path: str = "/") -> list[str]:
        return [body["status"] for body in self.bodies.get(path, [])]


@asynccontextmanager
async def running_receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application(client_max_size=2**28)
    app.router.add_post("/{path:.*}", receiver.receive)
    async with TestServer(app) as server:
        receiver.url = str(server.make_url("/"))
        yield receiver


def notifying(url: str, **route: str) -> str:
    """Return an Alertmanager configuration that notifies a receiver, by default at once."""
    times = {"group_wait": "100ms", "group_interval": "500ms", "repeat_interval": "4h"} | route
    receiver = {"name": "pager", "webhook_configs": [{"url": url}]}
    return yaml.safe_dump({"route": {"receiver": "pager", "group_by": ["upstream"], **times}, "receivers": [receiver]})


@asynccontextmanager
async def one_alertmanager(
    directory: Path, configuration: str | None = None
) -> AsyncIterator[tuple[ClusterMember, FaultyProxy]]:
    silent = "route: {receiver: none}\nreceivers: [{name: none}]\n"
    async with running_cluster(directory, configuration or silent, members=1) as cluster:
        yield cluster[0]


async def streams_in(member: ClusterMember) -> set[str]:
    return {alert["labels"]["stream"] for alert in await member.alerts(f'alertname="{NAME}"')}


def has(member: ClusterMember, streams: set[str]) -> Callable[[], Awaitable[bool]]:
    """Return a check of whether Alertmanager has exactly these streams' alerts."""

    async def holds() -> bool:
        return await streams_in(member) == streams

    return holds


# -- clocks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [-600.0, 600.0])
async def test_wrong_clock_of_the_exporter_ends_no_alert(tmp_path: Path, seconds: float) -> None:
    async with one_alertmanager(tmp_path) as (member, proxy):
        with structlog.testing.capture_logs() as logs:
            async with running_replica([proxy.url], clock=ShiftedClock(seconds)) as replica:
                replica.unhealthy = {0}
                await replica.poll_until(has(member, {"s0"}))
                for _ in range(20):
                    # longer than the horizon
                    await replica.poll(0.25)
                    assert await streams_in(member) == {"s0"}
                assert replica.value(CLOCK_OFFSET, alertmanager=proxy.url) == pytest.approx(-seconds, abs=1)
                replica.unhealthy.clear()
                await replica.poll_until(has(member, set()))
                assert replica.count("errors", proxy.url) == 0
        warnings = [line for line in logs if line["event"] == "alertmanager's clock differs from the exporter's"]
        assert [line["seconds"] for line in warnings] == [pytest.approx(-seconds, abs=1)]


async def test_date_header_of_a_proxy_is_ignored(tmp_path: Path) -> None:
    async with one_alertmanager(tmp_path) as (member, proxy):
        proxy.response_headers["Date"] = "Sun, 06 Nov 1994 08:49:37 GMT"
        async with running_replica([proxy.url]) as replica:
            replica.unhealthy = {0}
            await replica.poll_until(has(member, {"s0"}))
            await replica.poll(5)
            assert await streams_in(member) == {"s0"}
            assert replica.value(CLOCK_OFFSET, alertmanager=proxy.url) == pytest.approx(0, abs=1)


# -- two sidecars ------------------------------------------------------------------------------------------------------


async def test_two_sidecars_that_disagree_cause_one_notification_per_change(tmp_path: Path) -> None:
    """For 195 s, only one sees the recovery. ``tests/load/test_soak_delivery.py`` uses a cluster."""
    async with (
        running_receiver() as receiver,
        one_alertmanager(tmp_path, notifying(receiver.url)) as (_, proxy),
        running_replica([proxy.url], resolve="lapse") as one,
        running_replica([proxy.url], resolve="lapse") as other,
    ):
        one.unhealthy = other.unhealthy = {0}
        await asyncio.gather(*(replica.poll_until(lambda: bool(receiver.statuses())) for replica in (one, other)))
        one.unhealthy = set()
        await asyncio.gather(*(replica.poll(195 / 60 + KEPT_SECONDS) for replica in (one, other)))
        assert (one.firing(), other.firing()) == (set(), {"s0"})
        assert receiver.statuses() == ["firing"]
        other.unhealthy = set()
        await other.poll_until(lambda: receiver.statuses() == ["firing", "resolved"])
        await asyncio.gather(*(replica.poll(3) for replica in (one, other)))
        assert receiver.statuses() == ["firing", "resolved"]


async def test_resolve_of_one_sidecar_is_notified_although_the_other_disagrees(tmp_path: Path) -> None:
    """With the default, ``resolve: send``, the other's repeat is notified again."""
    async with (
        running_receiver() as receiver,
        one_alertmanager(tmp_path, notifying(receiver.url)) as (member, proxy),
        FaultyProxy(member.url).running() as others_proxy,
        running_replica([proxy.url]) as one,
        running_replica([others_proxy.url]) as other,
    ):
        one.unhealthy = other.unhealthy = {0}
        await asyncio.gather(*(replica.poll_until(lambda: bool(receiver.statuses())) for replica in (one, other)))
        # delay the other's next repeat until Alertmanager has notified
        others_proxy.hang()
        one.unhealthy = set()
        await one.poll_until(lambda: receiver.statuses() == ["firing", "resolved"])
        others_proxy.recover()
        await other.poll_until(lambda: receiver.statuses() == ["firing", "resolved", "firing"])


# -- restarts ----------------------------------------------------------------------------------------------------------


async def test_resolve_survives_a_restart_and_is_not_repeated_without_one(tmp_path: Path) -> None:
    """Alertmanager is restarted after it has accepted a resolve and before it notifies of it."""
    async with running_receiver() as receiver:
        configuration = notifying(receiver.url, group_wait="0s", group_interval="8s")
        for name in ("restarted", "other"):
            (tmp_path / name).mkdir()
        async with (
            one_alertmanager(
                tmp_path / "restarted", configuration.replace(receiver.url, f"{receiver.url}restarted")
            ) as (
                restarted,
                first,
            ),
            one_alertmanager(tmp_path / "other", configuration.replace(receiver.url, f"{receiver.url}other")) as (
                other,
                second,
            ),
            running_replica([first.url, second.url]) as replica,
        ):
            replica.unhealthy = {0}
            paths = ("/restarted", "/other")
            await replica.poll_until(lambda: all(receiver.statuses(path) == ["firing"] for path in paths))
            replica.unhealthy = set()
            for member in (restarted, other):
                await replica.poll_until(has(member, set()))
            resolved = 'alertmanager_alerts_received_total{status="resolved"'
            assert [await member.metric(resolved) for member in (restarted, other)] == [1, 1]
            assert [receiver.statuses(path) for path in paths] == [["firing"]] * 2
            await restarted.restart()
            await replica.poll_until(lambda: all(receiver.statuses(path) == ["firing", "resolved"] for path in paths))
            assert [await member.metric(resolved) for member in (restarted, other)] == [1, 1], "counted since its start"


# -- refused requests --------------------------------------------------------------------------------------------------


async def test_all_alerts_pass_a_proxy_with_a_size_limit(tmp_path: Path) -> None:
    async with one_alertmanager(tmp_path) as (member, proxy):
        proxy.largest_body = 20_000
        async with running_replica([proxy.url], streams=100) as replica:
            replica.unhealthy = set(range(100))
            await replica.poll_until(has(member, {f"s{n}" for n in range(100)}))
            assert (replica.count("errors", proxy.url), replica.count("dropped", proxy.url)) == (0, 0)


SIGN_IN = "<!DOCTYPE html><title>Sign in</title>"
REFUSALS: list[tuple[int, str, dict[str, str]]] = [
    *((status, "", {}) for status in (402, 405, 407, 411, 415, 431, 451)),
    (400, "Bad Request", {}),
    (400, '"at least one label pair required"', {"Content-Type": "application/json"}),
    (200, SIGN_IN, {"Content-Type": "text/html"}),
    (302, "", {"Location": "https://sign-in.example.com/"}),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: f"{refusal[0]} {refusal[1][:12]}")
async def test_refused_alerts_arrive_when_the_connection_is_back(
    tmp_path: Path, refusal: tuple[int, str, dict[str, str]]
) -> None:
    async with one_alertmanager(tmp_path) as (member, proxy), running_replica([proxy.url], streams=3) as replica:
        await replica.poll_until(lambda: replica.count("sent", proxy.url) >= 1)
        proxy.refusal = refusal
        accepted = replica.count("sent", proxy.url)
        replica.unhealthy = {0, 1, 2}
        await replica.poll_until(lambda: replica.count("errors", proxy.url) > 9)
        assert replica.count("sent", proxy.url) <= accepted + 1, "a watchdog may have been on its way"
        assert await streams_in(member) == set()
        proxy.recover()
        await replica.poll_until(has(member, {"s0", "s1", "s2"}))
        assert replica.count("dropped", proxy.url) == 0


# -- many alerts -------------------------------------------------------------------------------------------------------


async def test_fourteen_thousand_alerts_stay_firing_in_a_slow_alertmanager(tmp_path: Path) -> None:
    """At 20 ms per request, a round takes longer than the interval between rounds."""
    async with one_alertmanager(tmp_path) as (member, proxy):
        proxy.lag_seconds = 0.02
        async with running_replica([proxy.url], streams=14_000, time_scale=12) as replica:
            replica.unhealthy = set(range(14_000))
            await replica.publish()
            async with asyncio.timeout(4 * GENEROUS_SECONDS):
                # reading all alerts takes as much CPU time as sending them
                while len(await streams_in(member)) < 14_000:  # noqa: ASYNC110 - a real Alertmanager
                    await asyncio.sleep(4)
            for _ in range(3):
                # longer in total than the horizon
                await asyncio.sleep(8)
                assert len(await streams_in(member)) == 14_000
            assert (replica.count("errors", proxy.url), replica.count("dropped", proxy.url)) == (0, 0)


# -- formats -----------------------------------------------------------------------------------------------------------


async def test_webhook_notification_equals_alertmanagers(tmp_path: Path) -> None:
    """Compare notifications about the same alert from Alertmanager and from the sidecar."""
    async with running_receiver() as receiver:
        configuration = notifying(f"{receiver.url}alertmanager")
        webhook = {"name": "pager", "url": f"{receiver.url}sidecar"}
        async with (
            one_alertmanager(tmp_path, configuration) as (_, proxy),
            running_replica([proxy.url], webhooks=[webhook]) as replica,
        ):

            def are_notified(expected: list[str]) -> bool:
                return receiver.statuses("/alertmanager") == receiver.statuses("/sidecar") == expected

            for expected, replica.unhealthy in ((["firing"], {0}), (["firing", "resolved"], set())):
                await replica.poll_until(partial(are_notified, expected))
    for theirs, ours in zip(receiver.bodies["/alertmanager"], receiver.bodies["/sidecar"], strict=True):
        assert list(ours) == list(theirs)
        assert list(ours["alerts"][0]) == list(theirs["alerts"][0])
        theirs["externalURL"] = "http://exporter:10071"
        # Alertmanager's copy of the alert is slightly older
        for alert in (theirs["alerts"][0], ours["alerts"][0], theirs["commonAnnotations"], ours["commonAnnotations"]):
            alert.get("annotations", alert).pop("cleared", None)
        # an end is moved by what the sidecar knows about Alertmanager's clock
        ends = [datetime.fromisoformat(body["alerts"][0].pop("endsAt")) for body in (theirs, ours)]
        assert abs(ends[0] - ends[1]) < timedelta(seconds=1)
        assert ours == theirs


async def test_rules_and_alerts_have_the_format_of_prometheus(tmp_path: Path, prometheus: Prometheus) -> None:
    rule = {
        "alert": "Firing",
        "expr": "vector(0.3333333333333333)",
        "keep_firing_for": "1m",
        "labels": {"severity": "critical"},
        "annotations": {"summary": "It fires."},
    }
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "api", "rules": [rule]}]}))
    async with running_replica([], webhooks=[{"name": "pager", "url": "http://127.0.0.1:9"}]) as replica:
        replica.unhealthy = {0}
        await replica.poll_until(lambda: bool(replica.firing()))
        app = web.Application()
        SidecarApi(replica.sidecar).add_routes(app)
        async with TestServer(app) as server:
            ours = {
                path: await asyncio.to_thread(request_json, str(server.make_url(f"/api/v1/{path}")))
                for path in ("rules", "alerts")
            }
    with prometheus.evaluating(file):
        await asyncio.to_thread(prometheus.wait_for, 'ALERTS{alertname="Firing",alertstate="firing"}')
        theirs = {path: request_json(f"{prometheus.url}/api/v1/{path}") for path in ("rules", "alerts")}
    assert shape(ours["alerts"]) == shape(theirs["alerts"])
    firing = [rule for rule in ours["rules"]["data"]["groups"][0]["rules"] if rule["state"] == "firing"]
    ours["rules"]["data"]["groups"][0]["rules"] = firing
    assert shape(ours["rules"]) == shape(theirs["rules"])


def shape(data: Any) -> Any:
    """Return the keys and types of a JSON document, ignoring the names of labels and annotations."""
    if isinstance(data, dict):
        return {
            key: {type(text) for text in value.values()} if key in ("labels", "annotations") else shape(value)
            for key, value in sorted(data.items())
        }
    if isinstance(data, list):
        return [shape(item) for item in data[:1]]
    return "number" if isinstance(data, int | float) else type(data).__name__
