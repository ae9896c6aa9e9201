"""Alerts of playback checks in the sidecar: one page for one fault, and the severity of an API's outage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from exporter.model import HealthReason, Identity, Reason, Status, StreamReport, StreamState, UpstreamState
from tests.sidecar.fake_alertmanager import run_event_loop
from tests.sidecar.sidecar_harness import INTERVAL, SidecarHarness, sidecar_harness

EDGE, CDN = "edge", "cdn"
DETAIL = "segments missing (404)"


def check(playable: bool | None, *, live: bool | None = True, name: str = "main", **facts: Any) -> StreamState:
    """Return a playback check of the platform's stream with the same name; other facts are those of its state."""
    report = StreamReport(
        id=name,
        live=live,
        playable=playable,
        unplayable_reason="segment_missing" if playable is False else "",
        playback_detail=DETAIL if playable is False else "",
        playback_forbidden=facts.pop("forbidden", False),
    )
    status = {True: Status.LIVE, False: Status.IDLE, None: Status.UNKNOWN}[live]
    own: dict[str, Any] = {"expected": True, "source_platform": "storm", "source_upstream": EDGE}
    own |= {"source_stream": "main"} | facts
    return StreamState(identity=Identity("hls", CDN, name), report=report, status=status, live=live, **own)


def platform_stream(live: bool | None = True, *, name: str = "main", expected: bool | None = True) -> StreamState:
    return StreamState(
        identity=Identity("storm", EDGE, name),
        report=StreamReport(id=name, live=live),
        status=Status.LIVE if live else Status.IDLE,
        live=live,
        expected=expected,
    )


class Pair:
    """A sidecar with a platform and playback checks of its streams."""

    def __init__(self, running: SidecarHarness) -> None:
        self.running = running
        self.platform: Sequence[StreamState] = (platform_stream(),)
        self.checks: Sequence[StreamState] = (check(True),)
        self.is_answering = self.are_checks_made = True

    async def start(self) -> None:
        self.running.store.arrange((EDGE, CDN))
        await self.running.apply(EDGE, CDN)
        await self.pass_time(INTERVAL)

    async def pass_time(self, seconds: float) -> None:
        for _ in range(int(seconds / INTERVAL)):
            self.running.clock.advance(INTERVAL)
            await run_event_loop()
            self._publish("storm", EDGE, self.platform, None if self.is_answering else Reason.TIMEOUT)
            self._publish("hls", CDN, self.checks, None if self.are_checks_made else Reason.VANTAGE)
            await run_event_loop()

    def _publish(self, platform: str, upstream: str, streams: Sequence[StreamState], failure: Reason | None) -> None:
        self.running.store.publish(
            UpstreamState(
                platform=platform,
                upstream=upstream,
                host="h",
                health_score="derived",
                up=failure is None,
                answering=failure is None,
                last_error_reason=failure,
                poll_interval_seconds=INTERVAL,
                streams=tuple(streams),
                source_upstreams=frozenset({EDGE} if upstream == CDN else ()),
            )
        )

    def firing(self) -> set[str]:
        return {
            f"{a.key.rule} {a.key.upstream} {a.key.severity}"
            for a in self.running.sidecar.alerts()
            if a.phase.value == "firing"
        }


@pytest.mark.parametrize(
    ("live", "score"), [(False, None), (True, 0.0), (None, None)], ids=["stale", "segments missing", "playlist fails"]
)
async def test_unplayable_check_is_one_page(live: bool | None, score: float | None) -> None:
    async with sidecar_harness() as running:
        pair = Pair(running)
        await pair.start()
        pair.checks = [
            check(
                False,
                live=live,
                health_score_ratio=score,
                health_reasons=(HealthReason.SEGMENT_MISSING,) if live else (),
            )
        ]
        await pair.pass_time(90)
        assert pair.firing() == {"StreamViewersGetNothing cdn critical"}
        (alert,) = pair.running.sidecar.alerts()
        description = pair.running.sidecar.formatter.annotations(alert)["description"]
        assert description == f"Viewers of main on cdn (hls) get nothing, although its source is live: {DETAIL}."


async def test_api_outage_hands_over_to_the_expectation() -> None:
    async with sidecar_harness() as running:
        pair = Pair(running)
        await pair.start()
        pair.is_answering, pair.checks = False, [check(False)]
        await pair.pass_time(120)
        assert pair.firing() == {"StreamUpstreamDown edge critical", "StreamUnplayable cdn critical"}


async def test_source_off_air_pages_once() -> None:
    async with sidecar_harness() as running:
        pair = Pair(running)
        await pair.start()
        pair.platform, pair.checks = [platform_stream(False)], [check(False, live=False)]
        await pair.pass_time(1200)
        assert pair.firing() == {"StreamExpectedOffline edge critical"}


async def test_refused_check_never_pages() -> None:
    async with sidecar_harness() as running:
        pair = Pair(running)
        await pair.start()
        pair.checks = [check(None, live=None, forbidden=True)]
        await pair.pass_time(1800)
        assert pair.firing() == {"StreamPlaybackForbidden cdn warning"}


async def test_checks_that_cannot_be_made_do_not_page() -> None:
    async with sidecar_harness() as running:
        pair = Pair(running)
        await pair.start()
        pair.are_checks_made = False
        await pair.pass_time(1800)
        assert pair.firing() == {"StreamPlaybackVantageDown cdn warning"}


async def test_api_outage_is_a_warning_while_all_expected_streams_play() -> None:
    async with sidecar_harness() as running:
        pair = Pair(running)
        await pair.start()
        pair.platform = [platform_stream(), platform_stream(name="test", expected=None)]
        await pair.pass_time(INTERVAL)
        pair.is_answering = False
        await pair.pass_time(60)
        assert pair.firing() == {"StreamUpstreamDown edge warning"}


async def test_api_outage_pages_when_a_stream_stops_playing() -> None:
    """The state of the platform does not change; that of the check does."""
    async with sidecar_harness() as running:
        pair = Pair(running)
        await pair.start()
        pair.is_answering = False
        await pair.pass_time(60)
        assert pair.firing() == {"StreamUpstreamDown edge warning"}
        pair.checks = [check(False, expected=None)]
        pair._publish("hls", CDN, pair.checks, None)
        await run_event_loop()
        running.clock.advance(15.1)
        await run_event_loop()
        assert "StreamUpstreamDown edge critical" in pair.firing()


@pytest.mark.parametrize("case", ["unexpected", "not paired", "one of two", "not known"])
async def test_api_outage_pages_unless_checks_prove_that_viewers_are_served(case: str) -> None:
    async with sidecar_harness() as running:
        pair = Pair(running)
        await pair.start()
        match case:
            case "unexpected":
                pair.platform = [platform_stream(expected=None)]
            case "not paired":
                pair.checks = [check(True, source_upstream="", source_stream="")]
            case "one of two":
                pair.platform = [platform_stream(), platform_stream(name="other")]
            case _:
                pair.are_checks_made = False
        await pair.pass_time(INTERVAL)
        pair.is_answering = False
        await pair.pass_time(60)
        assert "StreamUpstreamDown edge critical" in pair.firing()
