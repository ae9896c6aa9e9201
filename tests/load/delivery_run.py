"""Alerts that fire and resolve while the Alertmanagers restart, hang, refuse and lag, and the checks afterwards.

The sidecars, the Alertmanagers and the clocks are real; the stream states are generated.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.exporter_process import GENEROUS_SECONDS
from tests.real.alertmanager_cluster import (
    PEER_TIMEOUT_SECONDS,
    SETTLE_TIMEOUT_SECONDS,
    ClusterMember,
    FaultyProxy,
    running_cluster,
)
from tests.real.sidecar_replica import NAME, POLL_SECONDS, Replica

CHAOS_SECONDS, QUIET_SECONDS, HORIZON_SECONDS = 90.0, 60.0, 240.0
LONGEST_FAULT_SECONDS = 60.0
GROUP_INTERVAL_SECONDS = 60.0
CALM_SECONDS = 20.0
"""Time at the end of the chaos in which no new fault starts; all have ended by its end."""
GRACE_SECONDS = 5.0
"""Time for notifications in flight before the alerts are compared."""
RACE_SECONDS = 2 * PEER_TIMEOUT_SECONDS + SETTLE_TIMEOUT_SECONDS + 1.0


class Notification(NamedTuple):
    """A notification about one alert."""

    at: float
    """Seconds on the monotonic clock."""
    status: str
    sender: str
    """The URL of the Alertmanager."""


@dataclass
class Receiver:
    """Records notifications, by stream, in the order of their arrival."""

    url: str = ""
    told: dict[str, list[Notification]] = field(default_factory=lambda: defaultdict(list))

    async def receive(self, request: web.Request) -> web.Response:
        body = await request.json()
        for alert in body["alerts"]:
            if alert["labels"]["alertname"] == NAME:
                notification = Notification(time.monotonic(), alert["status"], body["externalURL"])
                self.told[alert["labels"]["stream"]].append(notification)
        return web.Response()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Receiver]:
        app = web.Application(client_max_size=2**28)
        app.router.add_post("/", self.receive)
        async with TestServer(app) as server:
            self.url = str(server.make_url("/"))
            yield self


def without_races(told: Sequence[Notification]) -> list[str]:
    """Return the statuses without those caused by races between Alertmanagers, which no client can prevent.

    A cluster member reads its alerts, waits for the members before it (``--cluster.peer-timeout`` for each, and after a
    restart ``--cluster.settle-timeout``), and notifies unless it has learned that they notified about the same state.
    So two members notify about one change if they do it at the same time. If an alert resolves while a member waits,
    this member notifies that it fires after another one has notified that it is resolved, and then that it is resolved.
    """
    statuses: list[str] = []
    previous: Notification | None = None
    is_race = False
    for notification in told:
        is_at_once = previous is not None and notification.at - previous.at <= RACE_SECONDS
        if previous is not None and is_at_once and notification.sender != previous.sender:
            is_race = True
        elif not (is_race and notification.status == statuses[-1]):
            is_race = False
            statuses.append(notification.status)
        previous = notification
    return statuses


def is_resolved(notifications: Sequence[Notification]) -> bool:
    """Return whether the last notification, ignoring races, is about the resolved alert."""
    return without_races(notifications)[-1] == "resolved"


@dataclass
class DeliveryRun:
    """``time_scale`` divides all times."""

    cluster: Sequence[tuple[ClusterMember, FaultyProxy]]
    receiver: Receiver
    replicas: Sequence[Replica]
    streams: int
    time_scale: float
    random: random.Random
    episodes: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """How often each alert started firing in at least one replica."""
    changes: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """When each alert started, and the earliest time when its end was due in the Alertmanagers."""
    faults: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    history: list[str] = field(default_factory=list)
    _known: set[str] = field(default_factory=set)
    _looked_at: float = field(default_factory=time.monotonic)
    """When the firing alerts last changed to those that are known."""
    _shown: dict[int, tuple[bool, float]] = field(default_factory=dict)
    """Changes that the second replica will see: the new state and the time."""

    @property
    def longest_delay(self) -> float:
        """Return the maximum time until the last cluster member has received a change and notified about it.

        A member that is unreachable when an alert fires again considers it resolved, and notifies about that.
        """
        return (LONGEST_FAULT_SECONDS + GROUP_INTERVAL_SECONDS + 5 * POLL_SECONDS) / self.time_scale + RACE_SECONDS

    async def cycle(self) -> None:
        """Run a period of faults and changes, then a quiet minute."""
        end = time.monotonic() + CHAOS_SECONDS / self.time_scale
        async with asyncio.TaskGroup() as group:
            for member, proxy in self.cluster:
                group.create_task(self._disturb(member, proxy, end))
            while time.monotonic() < end:
                self._change_streams()
                await self._poll()
        await self.pass_time(QUIET_SECONDS)

    async def pass_time(self, seconds: float) -> None:
        """Continue polling without changes."""
        end = time.monotonic() + seconds / self.time_scale
        while time.monotonic() < end:
            await self._poll()

    async def end(self) -> None:
        """Let all streams recover and all alerts resolve everywhere."""
        self._shown.clear()
        for replica in self.replicas:
            replica.unhealthy.clear()
        await self.pass_time(2 * QUIET_SECONDS + HORIZON_SECONDS + QUIET_SECONDS)
        # may take longer on a busy machine
        deadline = time.monotonic() + GENEROUS_SECONDS
        while time.monotonic() < deadline and not all(map(is_resolved, self.receiver.told.values())):
            await self._poll()

    async def assert_views_are_equal(self) -> None:
        """Assert that every Alertmanager has exactly the alerts that fire in the sidecar."""
        deadline = time.monotonic() + GRACE_SECONDS
        while True:
            expected = self.replicas[0].firing()
            views = [
                {alert["labels"]["stream"] for alert in await member.alerts(f'alertname="{NAME}"')}
                for member, _ in self.cluster
            ]
            differences = [(len(expected - seen), len(seen - expected)) for seen in views]
            if differences == [(0, 0)] * len(views):
                return
            assert time.monotonic() < deadline, f"missing and surplus alerts: {differences}, {dict(self.faults)}"
            await asyncio.sleep(0.2)

    def assert_notifications_are_of_real_changes(self) -> None:
        races = 0
        for name, notifications in self.receiver.told.items():
            told = without_races(notifications)
            races += len(notifications) - len(told)
            facts = [f"{name}: changes at {self.changes[name]}", *map(str, notifications), *self.history]
            history = "\n".join(facts)
            assert is_resolved(notifications), history
            for notification in notifications:
                delays = [notification.at - at for at in self.changes[name]]
                assert any(0 <= delay <= self.longest_delay for delay in delays), f"{notification}\n{history}"
        print(f"{sum(map(len, self.receiver.told.values()))} notifications, {races} of them due to races", flush=True)
        untold = [name for name in self.episodes if name not in self.receiver.told]
        assert untold == [], "every alert fires for long enough to be told"

    def _change_streams(self) -> None:
        """Let some streams fail or recover; the second replica may see it later, or not at all."""
        now = time.monotonic()
        for n in self.random.sample(range(self.streams), max(1, self.streams // 20)):
            is_unhealthy = n not in self.replicas[0].unhealthy
            set_member(self.replicas[0].unhealthy, n, is_unhealthy)
            self._shown[n] = is_unhealthy, now + self.random.uniform(0, 3 * POLL_SECONDS) / self.time_scale
        for replica in self.replicas[1:]:
            for n, (is_unhealthy, at) in list(self._shown.items()):
                if at <= now:
                    set_member(replica.unhealthy, n, is_unhealthy)
                    del self._shown[n]

    async def _poll(self) -> None:
        for replica in self.replicas:
            await replica.publish()
        await asyncio.sleep(POLL_SECONDS / self.time_scale)
        firing = set[str]().union(*(replica.firing() for replica in self.replicas))
        # since the last check, which may be longer ago than the pause on a busy machine
        for name in firing - self._known:
            self.episodes[name] += 1
            self.changes[name].append(self._looked_at)
        for name in self._known - firing:
            self.changes[name].append(self._looked_at + HORIZON_SECONDS / self.time_scale)
        self._known, self._looked_at = firing, time.monotonic()

    async def _disturb(self, member: ClusterMember, proxy: FaultyProxy, end: float) -> None:
        """Let one Alertmanager fail once or twice, each time for a part of the chaos period."""
        last = end - CALM_SECONDS / self.time_scale
        await asyncio.sleep(self.random.uniform(0, CHAOS_SECONDS / 3) / self.time_scale)
        while (left := last - time.monotonic()) > 1.0 / self.time_scale:
            seconds = min(left, self.random.uniform(5, LONGEST_FAULT_SECONDS) / self.time_scale)
            kind = self.random.choice(["restart", "hang", "refuse", "sign-in page", "lag"])
            self.faults[kind] += 1
            self.history.append(f"{time.monotonic():.1f}: {kind} of {member.url} for {seconds:.1f} s")
            if kind == "restart":
                await member.restart(min(seconds, 10.0 / self.time_scale))
            else:
                self._begin(kind, proxy)
                await asyncio.sleep(seconds)
                proxy.recover()
            await asyncio.sleep(self.random.uniform(10, 60) / self.time_scale)

    def _begin(self, kind: str, proxy: FaultyProxy) -> None:
        if kind == "hang":
            proxy.hang()
        elif kind == "refuse":
            proxy.refusal = (self.random.choice([400, 402, 405, 429, 500, 503]), "", {})
        elif kind == "sign-in page":
            proxy.refusal = (200, "<html><title>Sign in</title></html>", {"Content-Type": "text/html"})
        else:
            proxy.lag_seconds = self.random.uniform(0.1, 2.0) / self.time_scale


def set_member(members: set[int], n: int, is_member: bool) -> None:
    (members.add if is_member else members.discard)(n)


@asynccontextmanager
async def delivery_run(
    directory: Path, *, streams: int, time_scale: float, seed: int, resolve: str, replicas: int
) -> AsyncIterator[DeliveryRun]:
    receiver = Receiver()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(receiver.running())
        configuration = {
            "route": {
                "receiver": "pager",
                "group_by": ["..."],
                "group_wait": f"{10_000 / time_scale:.0f}ms",
                "group_interval": f"{1000 * GROUP_INTERVAL_SECONDS / time_scale:.0f}ms",
                "repeat_interval": "24h",
            },
            "receivers": [{"name": "pager", "webhook_configs": [{"url": receiver.url}]}],
        }
        cluster = await stack.enter_async_context(running_cluster(directory, yaml.safe_dump(configuration)))
        running = [Replica(time_scale, streams) for _ in range(replicas)]
        for replica in running:
            await replica.apply([proxy.url for _, proxy in cluster], resolve)
            stack.push_async_callback(replica.sidecar.stop)
        yield DeliveryRun(cluster, receiver, running, streams, time_scale, random.Random(seed))
