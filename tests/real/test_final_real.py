"""The story of a final with main and backup, from the calendar to the pager, as told in docs/alerting.md."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from exporter.cli import main
from exporter.service import Service
from exporter.simulator.simulated_streams import Platform, Stream
from tests.real.alert_environment import (
    JOB,
    SimulatorClient,
    Webhook,
    prometheus_evaluating,
    running_exporter,
    running_simulator,
    running_webhook,
    sample_configuration,
    scale_waits,
    storm_upstream,
    wait_until,
)
from tests.real.alertmanager import Alertmanager, running_alertmanager
from tests.real.prometheus import running_prometheus

pytestmark = pytest.mark.real

PAGE = Path(__file__).parents[2] / "docs" / "alerting.md"
HEADING = "### A final, from kick-off to recovery\n"
LEGS = {"main": "edge-a", "backup": "edge-b"}
DEFAULTS = {"interval": "2s", "timeout": "1900ms", "stale_after": "4s", "health_grace": "1s"}
"""Two minutes, scaled."""
GROUP_WAIT = "4s"
"""Both legs fail at once, but their polls are up to 2 s apart; the first one's warning must wait for the page."""
HOLD_SECONDS = 8.0
"""Eight minutes, scaled: longer than every ``for`` of the story, and than ``group_wait`` and a round of polls."""
KICK_OFF_SECONDS = 14.0
"""Longer than the first act, and than the calendar's interval."""

Notification = tuple[str, str, str, str]
"""Receiver (``pager`` or ``tickets``), status, alert name, and the stream or group."""


@dataclass
class Story:
    """The programs, and what the acts need."""

    simulators: dict[str, SimulatorClient]
    """By leg."""
    streams: dict[str, Stream]
    service: Service
    url: str
    calendar: Path
    webhook: Webhook
    kick_off: datetime

    async def go_off_air(self, *legs: str) -> None:
        for leg in legs:
            await self.simulators[leg].inject_fault("storm", "end", self.streams[leg].id)

    async def go_live(self, *legs: str) -> None:
        for leg in legs:
            await self.simulators[leg].clear(self.streams[leg])

    async def maintain(self, *arguments: str) -> None:
        command = ["maintenance", *arguments, "--url", self.url]
        assert await asyncio.to_thread(main, command) == 0

    async def wait_for_expectation(self, expected: bool) -> None:
        await wait_until(lambda: self.expectations() == {expected}, f"the legs' expectation is {expected}", str)

    def expectations(self) -> set[bool | None]:
        return {stream.expected for state in self.service.store.states() for stream in state.streams}

    def schedule_event(self, start: datetime, end: datetime) -> None:
        """Write the calendar, with another event that does not count."""
        now = datetime.now(UTC)
        events = [("Cup final", start, end), ("Team meeting", now - timedelta(hours=1), now + timedelta(hours=5))]
        lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//test//EN"]
        for number, (summary, from_, to) in enumerate(events):
            lines += ["BEGIN:VEVENT", f"UID:{number}@example.com", f"DTSTAMP:{now:%Y%m%dT%H%M%SZ}"]
            lines += [
                f"SUMMARY:{summary}",
                f"DTSTART:{from_:%Y%m%dT%H%M%SZ}",
                f"DTEND:{to:%Y%m%dT%H%M%SZ}",
                "END:VEVENT",
            ]
        self.calendar.write_text("\r\n".join([*lines, "END:VCALENDAR", ""]))


@dataclass(frozen=True)
class Act:
    """One part of the story, and all notifications that it causes."""

    title: str
    play: Callable[[Story], Awaitable[None]]
    told: frozenset[Notification] = frozenset()


async def nothing_happens(_: Story) -> None:
    """Both legs are off air from the start."""


async def event_begins(story: Story) -> None:
    await story.go_live(*LEGS)
    await story.wait_for_expectation(expected=True)


async def backup_is_maintained(story: Story) -> None:
    await story.maintain("start", LEGS["backup"], "backup", "--for", "10m", "--reason", "new encoder")
    await story.go_off_air("backup")


async def maintenance_ends(story: Story) -> None:
    await story.go_live("backup")
    await wait_until(lambda: all_live(story.service), "the backup is live again", str)
    await story.maintain("end", LEGS["backup"], "backup")


async def main_encoder_is_switched_off(story: Story) -> None:
    await story.go_off_air("main")


async def other_encoder_starts(story: Story) -> None:
    await story.go_live("main")


async def both_legs_fail(story: Story) -> None:
    await story.go_off_air(*LEGS)


async def both_legs_return(story: Story) -> None:
    await story.go_live(*LEGS)


async def event_ends(story: Story) -> None:
    story.schedule_event(story.kick_off, datetime.now(UTC) - timedelta(seconds=1))
    await story.wait_for_expectation(expected=False)
    await story.go_off_air(*LEGS)


def all_live(service: Service) -> bool:
    return all(stream.live for state in service.store.states() for stream in state.streams)


def told(receiver: str, status: str, **alerts: str) -> frozenset[Notification]:
    """Return notifications; ``alerts``: subjects, separated by spaces, by alert name."""
    return frozenset(
        (receiver, status, name, subject) for name, subjects in alerts.items() for subject in subjects.split()
    )


ON_TICKETS = {"StreamExpectedOffline": "main", "StreamGroupRedundancyLost": "final"}
ON_PAGER = {"StreamGroupDown": "final", "StreamExpectedOffline": "main backup"}
ACTS = (
    Act("Before the event, both legs are off air", nothing_happens),
    Act("The event of the calendar begins, both legs are live", event_begins),
    Act("Maintenance of the backup starts, and the backup goes off air", backup_is_maintained),
    Act("The backup is back, and the maintenance ends", maintenance_ends),
    Act(
        "The main encoder is switched off in mid-event",
        main_encoder_is_switched_off,
        told("tickets", "firing", **ON_TICKETS),
    ),
    Act("The other main encoder starts", other_encoder_starts, told("tickets", "resolved", **ON_TICKETS)),
    Act("Both legs fail", both_legs_fail, told("pager", "firing", **ON_PAGER)),
    Act("Both legs are back", both_legs_return, told("pager", "resolved", **ON_PAGER)),
    Act("The event ends, and both legs go off air", event_ends),
)


def table() -> str:
    """Return the story as the table of the documents."""
    lines = ["| what happens | notifications |", "|---|---|"]
    for act in ACTS:
        groups: dict[tuple[str, str], list[str]] = {}
        for receiver, status, name, subject in sorted(act.told):
            groups.setdefault((receiver, status), []).append(f"{name} ({subject})")
        cells = [f"{receiver}: {', '.join(names)} {status}" for (receiver, status), names in groups.items()]
        lines.append(f"| {act.title} | {'; '.join(cells) or 'none'} |")
    return "\n".join(lines) + "\n"


def test_documents_tell_the_same_story() -> None:
    section = PAGE.read_text(encoding="utf-8").partition(HEADING)[2].partition("\n### ")[0]
    assert table() in section


@pytest.mark.parametrize("who", ["prometheus", "sidecar"])
async def test_final_causes_exactly_the_expected_notifications(
    who: str, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scale_waits(monkeypatch)
    async with AsyncExitStack() as stack:
        alertmanager = stack.enter_context(running_alertmanager(tmp_path_factory.mktemp("alertmanager")))
        webhook = await stack.enter_async_context(running_webhook())
        stack.enter_context(alertmanager.configured(sample_configuration(webhook, group_wait=GROUP_WAIT)))
        simulators = {
            leg: await stack.enter_async_context(running_simulator(seed=seed)) for seed, leg in enumerate(LEGS)
        }
        streams = {leg: simulator.steady_streams(Platform.STORM, 1)[0] for leg, simulator in simulators.items()}
        later = datetime.now(UTC) + timedelta(hours=2)
        story = Story(simulators, streams, None, "", tmp_path / "matches.ics", webhook, later)  # type: ignore[arg-type]
        story.schedule_event(story.kick_off, story.kick_off + timedelta(hours=2))
        await story.go_off_air(*LEGS)
        settings = configuration(story, alertmanager if who == "sidecar" else None, tmp_path)
        story.service, address = await stack.enter_async_context(
            running_exporter(tmp_path, settings, enable_lifecycle=True)
        )
        story.url = f"http://{address}"
        await wait_until(lambda: story.service.ready, "everything is polled", str)
        if who == "prometheus":
            prometheus = stack.enter_context(running_prometheus(tmp_path_factory.mktemp("prometheus")))
            await stack.enter_async_context(prometheus_evaluating(prometheus, alertmanager, tmp_path, address, "all"))
        # the programs took their time to start, so the event is moved
        story.kick_off = datetime.now(UTC) + timedelta(seconds=KICK_OFF_SECONDS)
        story.schedule_event(story.kick_off, story.kick_off + timedelta(hours=2))
        for act in ACTS:
            await perform(act, story)


async def perform(act: Act, story: Story) -> None:
    """Perform an act, and check that it causes exactly its notifications."""
    webhook = story.webhook
    known = len(webhook.received)
    began = time.monotonic()

    def received() -> set[Notification]:
        return {
            (receiver, alert["status"], alert["labels"]["alertname"], subject_of(alert["labels"]))
            for _, receiver, alert in webhook.received[known:]
            if receiver in ("pager", "tickets")
        }

    await act.play(story)
    await wait_until(lambda: received() >= act.told, f"all is told of: {act.title}", webhook.history)
    await asyncio.sleep(max(0.0, began + HOLD_SECONDS - time.monotonic()))
    # a group's notification repeats the alerts that still fire
    assert received() == act.told, f"{act.title}\n{webhook.history()}"


def subject_of(labels: dict[str, str]) -> str:
    return labels.get("group") or labels.get("stream") or labels.get("upstream", "")


def configuration(story: Story, alertmanager: Alertmanager | None, directory: Path) -> dict[str, Any]:
    expected = {"calendar_file": str(story.calendar), "summary": "*final*", "refresh": "10s"}
    upstreams = []
    for leg, upstream in LEGS.items():
        settings = storm_upstream(upstream, story.simulators[leg].url, [story.streams[leg]])
        (stream,) = settings["streams"]
        stream |= {"name": leg, "expected": expected}
        upstreams.append(settings)
    members = [{"upstream": upstream, "stream": leg, "role": leg} for leg, upstream in LEGS.items()]
    alerting = {"health_slo": {"objective": 0.5}, "external_labels": {"job": JOB}}
    if alertmanager is not None:
        alerting["alertmanagers"] = [{"url": alertmanager.url}]
    return {
        "state_dir": str(directory / "state"),
        "defaults": DEFAULTS,
        "upstreams": upstreams,
        "groups": [{"name": "final", "need": 1, "streams": members, "expected": expected}],
        "alerting": alerting,
    }
