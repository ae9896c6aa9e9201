"""Brings alerts to every Alertmanager that is configured, at every address where its name has several."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence

import structlog
from yarl import URL

from exporter.alerting.alertmanager import Alertmanager, label
from exporter.alerting.notification_queue import NotificationQueue
from exporter.alerting.payload import AlertPayload
from exporter.alerting.self_metrics import SidecarMetrics
from exporter.config.alerting import AlertmanagerSettings
from exporter.runtime.clock import Clock

log = structlog.get_logger()

Resolve = Callable[[AlertmanagerSettings], Awaitable[Iterable[str]]]
"""The IP addresses of an Alertmanager's host. Raises ``OSError``."""


async def resolve(settings: AlertmanagerSettings) -> set[str]:
    """The addresses that the system knows."""
    url = URL(settings.url)
    found = await asyncio.get_running_loop().getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    return {str(address[0]) for *_, address in found}


class Notifier:
    """All senders. ``everything`` gives the whole state, for one that begins."""

    def __init__(
        self,
        *,
        clock: Clock,
        instruments: SidecarMetrics,
        everything: Callable[[], Sequence[AlertPayload]],
        resend_seconds: float,
        generator_url: str = "",
        resolve: Resolve = resolve,
    ) -> None:
        self._clock = clock
        self._instruments = instruments
        self._everything = everything
        self._resend_seconds = resend_seconds
        self._generator_url = generator_url
        self._resolve = resolve
        self._targets: list[_Target] = []

    async def apply(self, alertmanagers: Sequence[AlertmanagerSettings]) -> None:
        """Send to these from now on; those that are as they were keep their queue."""
        leaving = [target for target in self._targets if target.settings not in alertmanagers]
        self._targets = [target for target in self._targets if target.settings in alertmanagers]
        known = [target.settings for target in self._targets]
        for settings in alertmanagers:
            if settings not in known:
                known.append(settings)
                target = _Target(settings, self._begin, self._resolve, self._clock, self._resend_seconds)
                self._targets.append(target)
                target.start()
        for target in leaving:
            await target.close()

    def offer(self, notices: Sequence[AlertPayload]) -> None:
        """Send these to all."""
        for target in self._targets:
            for sender in target.senders:
                sender.offer(notices)

    async def close(self, flush_seconds: float = 0.0) -> None:
        """Stop, after a last attempt to send what waits, of so many seconds."""
        targets, self._targets = self._targets, []
        for target in targets:
            await target.stop()
        if flush_seconds:
            attempts = [asyncio.create_task(sender.flush()) for target in targets for sender in target.senders]
            if attempts:
                _, late = await asyncio.wait(attempts, timeout=flush_seconds)
                await _cancel(late)
        for target in targets:
            await target.close()

    def _begin(self, settings: AlertmanagerSettings, address: str | None) -> NotificationQueue:
        host_and_port = label(settings.url, address)
        sender = NotificationQueue(
            Alertmanager(
                settings,
                self._clock,
                address=address,
                observe=lambda seconds: self._instruments.request_took(host_and_port, seconds),
            ),
            clock=self._clock,
            instruments=self._instruments,
            generator_url=self._generator_url,
            longest_back_off_seconds=self._resend_seconds,
        )
        sender.offer(self._everything())
        return sender


class _Target:
    """One configured Alertmanager: one sender, or one for each address of its name."""

    def __init__(
        self,
        settings: AlertmanagerSettings,
        begin: Callable[[AlertmanagerSettings, str | None], NotificationQueue],
        resolve: Resolve,
        clock: Clock,
        interval: float,
    ) -> None:
        self.settings = settings
        self._begin = begin
        self._resolve = resolve
        self._clock = clock
        self._interval = interval
        self._running: dict[str | None, tuple[NotificationQueue, asyncio.Task[None]]] = {}
        self._following: asyncio.Task[None] | None = None
        self._is_lost = False

    @property
    def senders(self) -> list[NotificationQueue]:
        """The senders there are now."""
        return [sender for sender, _ in self._running.values()]

    def start(self) -> None:
        """Begin to send."""
        if self.settings.resolve_dns:
            self._following = asyncio.create_task(self._follow(), name=f"addresses of {label(self.settings.url)}")
        else:
            self._add(None)

    async def stop(self) -> None:
        """Cease to send; what waits is kept."""
        following, self._following = self._following, None
        await _cancel([task for _, task in self._running.values()] + ([following] if following else []))

    async def close(self) -> None:
        """Cease to send, and forget what waits."""
        await self.stop()
        for sender in self.senders:
            await sender.close()
        self._running.clear()

    async def _follow(self) -> None:
        """Look again and again which addresses the name has."""
        while True:
            try:
                addresses = set(await self._resolve(self.settings))
            except OSError:
                # the addresses known so far are better than none
                if not self._is_lost:
                    log.warning("alertmanager's name can't be resolved", alertmanager=label(self.settings.url))
                self._is_lost = True
            else:
                self._is_lost = False
                await self._use(addresses)
            await self._clock.sleep(self._interval)

    async def _use(self, addresses: set[str]) -> None:
        for address in addresses - self._running.keys():
            self._add(address)
        for gone in self._running.keys() - addresses:
            sender, task = self._running.pop(gone)
            await _cancel([task])
            await sender.close()

    def _add(self, address: str | None) -> None:
        sender = self._begin(self.settings, address)
        self._running[address] = sender, asyncio.create_task(sender.run(), name=f"alerts to {sender.label}")


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
