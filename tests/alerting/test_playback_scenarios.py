"""Playback checks in Prometheus: one page for one fault, and none for what is no fault of the stream.

Rules and thresholds are the committed ones. Times are seconds since the start.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from exporter.alerting.rules.playback_rules import PLAYBACK_RULES
from tests.alerting.scrape_simulator import Expectations, Facts, Target, check_alerts, every, every_scrape_interval

pytestmark = pytest.mark.real

RULES = {rule.name for rule in PLAYBACK_RULES} | {
    "StreamExpectedOffline",
    "StreamExpectedUnknown",
    "StreamPlaybackVantageDown",
    "StreamUnhealthy",
    "StreamUpstreamDown",
    "StreamUpstreamDataStale",
    "StreamVanished",
}
PLATFORM = 'platform="storm",upstream="edge"'
CHECKS = 'platform="hls",upstream="cdn"'
FAULT, END = 900, 2100
SEGMENT = 6
CACHED, LEFT, STALE = 28, 10, 14
"""Seconds between the playlists of a cache, seconds of new media in each, and after which it counts as stale."""


def upstream(labels: str, *, failing: str = "", answering: bool = True, failures: int = 0) -> dict[str, float]:
    facts = {
        f"stream_upstream_poll_interval_seconds{{{labels}}}": 5.0,
        f"stream_upstream_up{{{labels}}}": float(not failing),
        f"stream_upstream_answering{{{labels}}}": float(answering),
        f'stream_upstream_poll_failures_total{{{labels},reason="vantage"}}': float(failures),
    }
    return facts | ({f'stream_upstream_failing{{{labels},reason="{failing}"}}': 1.0} if failing else {})


def stream(labels: str, live: bool | None, *, name: str = "main", expected: bool = False) -> dict[str, float]:
    own = f'{labels},stream="{name}"'
    live_or_unknown = f'stream_status{{{own},status="unknown"}}' if live is None else f"stream_live{{{own}}}"
    facts = {live_or_unknown: 1.0 if live is None else float(live)}
    return facts | ({f"stream_expected{{{own}}}": 1.0} if expected else {})


def check(
    media: float,
    *,
    live: bool | None = True,
    playable: bool | None = True,
    reason: str = "stale",
    forbidden: bool = False,
    source_live: bool | None = None,
    expected: bool = False,
    name: str = "main",
) -> dict[str, float]:
    """Return the series of a check; ``media``: seconds seen so far."""
    own = f'{CHECKS},stream="{name}"'
    facts = stream(CHECKS, live, name=name, expected=expected) | {
        f"stream_media_seconds_total{{{own}}}": media,
        f"stream_segment_target_seconds{{{own}}}": float(SEGMENT),
        f"stream_playback_forbidden{{{own}}}": float(forbidden),
        f"stream_health_score_ratio{{{own}}}": 0.0 if playable is False else 0.4,
        f'stream_source_info{{{own},source_platform="storm",source_upstream="edge",source_stream="main"}}': 1.0,
    }
    if playable is not None:
        facts[f"stream_playable{{{own}}}"] = float(playable)
    if playable is False:
        facts[f'stream_unplayable_reason{{{own},reason="{reason}"}}'] = 1.0
    if source_live is not None:
        facts[f"stream_source_live{{{own}}}"] = float(source_live)
    return facts


def arrived(seconds: float) -> float:
    """Return the media that a healthy stream delivers within a time: whole segments, each third one late."""
    number = int(seconds // SEGMENT)
    is_late = number % 3 == 0 and seconds % SEGMENT < 0.4 * SEGMENT
    return max(0.0, float((number - is_late) * SEGMENT))


def run(
    folder: Path,
    facts: Callable[[int], Facts],
    expected: set[str],
    *,
    scrape: int,
    severities: dict[str, str] | None = None,
    second: Callable[[int], Facts] | None = None,
    misses: Callable[[int], bool] = lambda _: False,
) -> None:
    """Assert that exactly these alerts have fired, and optionally their severities."""
    expectations = Expectations().only(expected, until=END)
    for alert, severity in (severities or {}).items():
        expectations.checks.append(
            {
                "expr": f'group by (severity) (last_over_time(ALERTS{{alertname="{alert}",alertstate="firing"}}[1h]))',
                "eval_time": f"{END}s",
                "exp_samples": [{"labels": f'{{severity="{severity}"}}', "value": 1}],
            }
        )
    targets = [Target(instance="a:1", facts=facts, misses=misses)]
    targets += [Target(instance="b:1", facts=second, offset=10)] if second else []
    check_alerts(folder, targets, expectations, scrape_interval=scrape, duration=END, alerts=RULES)


# -- faults ------------------------------------------------------------------------------------------------------------


@every_scrape_interval
@pytest.mark.parametrize("source", ["none", "unknown", "live"])
def test_dead_playlist_is_one_page(scrape: int, source: str, tmp_path: Path) -> None:
    """The check is expected and off air, and its score is 0."""

    def facts(at: int) -> Facts:
        is_dead = at >= FAULT
        source_live = True if source == "live" else None
        found = check(
            arrived(min(at, FAULT)), live=not is_dead, playable=not is_dead, expected=True, source_live=source_live
        )
        api = upstream(PLATFORM, failing="timeout", answering=False) | stream(PLATFORM, live=True)
        return found | upstream(CHECKS) | (api if source == "unknown" else {})

    alert = "StreamViewersGetNothing" if source == "live" else "StreamUnplayable"
    expected = {f"{alert}/cdn/main"} | ({"StreamUpstreamDown/edge"} if source == "unknown" else set())
    run(tmp_path, facts, expected, scrape=scrape, severities={alert: "critical"})


@every_scrape_interval
def test_failing_playlist_of_an_expected_stream_is_one_page(scrape: int, tmp_path: Path) -> None:
    """Without a response, it is unknown whether the stream is live."""

    def facts(at: int) -> Facts:
        is_dead = at >= FAULT
        live, playable = (None, False) if is_dead else (True, True)
        found = check(arrived(min(at, FAULT)), live=live, playable=playable, reason="playlist_failed", expected=True)
        return found | upstream(CHECKS)

    run(tmp_path, facts, {"StreamUnplayable/cdn/main"}, scrape=scrape)


@every_scrape_interval
def test_source_off_air_pages_only_for_the_source(scrape: int, tmp_path: Path) -> None:
    """The check is expected, too. Its playlist outlives the source for a while, without sound."""

    def facts(at: int) -> Facts:
        is_dead, is_playlist_dead = at >= FAULT, at >= FAULT + 200
        found = check(
            arrived(min(at, FAULT + 200)),
            live=not is_playlist_dead,
            playable=not is_playlist_dead,
            expected=True,
            source_live=not is_dead,
        )
        if is_dead and not is_playlist_dead:
            found[f'stream_audio_present{{{CHECKS},stream="main"}}'] = 0.0
        return found | upstream(CHECKS) | upstream(PLATFORM) | stream(PLATFORM, not is_dead, expected=True)

    run(tmp_path, facts, {"StreamExpectedOffline/edge/main"}, scrape=scrape)


@every_scrape_interval
def test_cache_that_keeps_playlists_is_a_shortage(scrape: int, tmp_path: Path) -> None:
    """Each playlist is older than players tolerate for half of the time, and evaluations may see only these times."""

    def facts(at: int) -> Facts:
        playlists, age = divmod(max(0, at - FAULT), CACHED)
        is_live = at < FAULT or age < STALE
        media = arrived(min(at, FAULT)) + playlists * LEFT
        return check(media, live=is_live, playable=is_live, source_live=True, expected=True) | upstream(CHECKS)

    expected = {"StreamMediaShortage/cdn/main", "StreamViewersGetNothing/cdn/main"}
    run(tmp_path, facts, expected, scrape=scrape, severities={"StreamMediaShortage": "critical"})


# -- what is no fault of the stream ------------------------------------------------------------------------------------


@every_scrape_interval
@pytest.mark.parametrize("case", ["healthy", "every 2nd scrape missing", "every 3rd scrape missing"])
def test_healthy_stream_raises_no_alert(scrape: int, case: str, tmp_path: Path) -> None:
    def facts(at: int) -> Facts:
        return check(arrived(at), source_live=True, expected=True) | upstream(CHECKS)

    run(tmp_path, facts, set(), scrape=scrape, misses=every(int(case[6])) if case != "healthy" else lambda _: False)


@every_scrape_interval
@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("started", [-40, 0, 700, 790])
def test_restart_of_the_exporter_is_no_shortage(scrape: int, second: bool, started: int, tmp_path: Path) -> None:
    """It starts at different times before a restart, so that the counter may be higher or lower afterwards."""

    def facts(at: int) -> Facts:
        began = FAULT if at >= FAULT else started
        known = True if at - began >= 10 else None
        found = check(arrived(at - began), live=known, playable=known, source_live=True, expected=True)
        return found | upstream(CHECKS) if at >= began else {}

    def other(at: int) -> Facts:
        return check(1000 + arrived(at), source_live=True, expected=True) | upstream(CHECKS)

    run(tmp_path, facts, set(), scrape=scrape, second=other if second else None)


@every_scrape_interval
def test_start_of_a_stream_is_no_shortage(scrape: int, tmp_path: Path) -> None:
    """It goes live in the grace of its check, which was idle before."""

    def facts(at: int) -> Facts:
        is_live = at >= FAULT
        playable = None if FAULT - 30 <= at < FAULT else is_live
        found = check(arrived(max(0, at - FAULT)), live=is_live, playable=playable, source_live=at >= FAULT - 30)
        return found | upstream(CHECKS)

    run(tmp_path, facts, set(), scrape=scrape)


@every_scrape_interval
@pytest.mark.parametrize("lasts", [40, 600])
def test_network_of_the_exporter_down_is_no_page(scrape: int, lasts: int, tmp_path: Path) -> None:
    """Facts stay as they were, and media that arrived meanwhile was never seen."""

    def facts(at: int) -> Facts:
        is_down = FAULT <= at < FAULT + lasts
        seen = arrived(min(at, FAULT)) + arrived(max(0, at - FAULT - lasts))
        found = check(seen, live=True if at < FAULT + 60 or not is_down else None, source_live=None, expected=True)
        failing = "vantage" if is_down else ""
        failures = max(0, min(at - FAULT, lasts)) // 5
        answering = not (is_down and at >= FAULT + 15)
        return found | upstream(CHECKS, failing=failing, answering=answering, failures=failures)

    expected = {"StreamPlaybackVantageDown/cdn"} if lasts > 40 else set()
    run(tmp_path, facts, expected, scrape=scrape)


@every_scrape_interval
@pytest.mark.parametrize("lasts", [60, 10_000])
def test_refused_requests_are_no_page(scrape: int, lasts: int, tmp_path: Path) -> None:
    def facts(at: int) -> Facts:
        is_refused = FAULT <= at < FAULT + lasts
        seen = arrived(min(at, FAULT)) + arrived(max(0, at - FAULT - lasts))
        live, playable = (None, None) if is_refused else (True, True)
        found = check(seen, live=live, playable=playable, forbidden=is_refused, source_live=True, expected=True)
        return found | upstream(CHECKS)

    expected = {"StreamPlaybackForbidden/cdn/main"} if lasts > 60 else set()
    run(tmp_path, facts, expected, scrape=scrape)


# -- the platform's API is down ----------------------------------------------------------------------------------------


@every_scrape_interval
@pytest.mark.parametrize("case", ["plays", "does not play", "has another stream", "check cannot be made"])
def test_outage_of_an_api_pages_unless_viewers_are_seen_to_be_served(scrape: int, case: str, tmp_path: Path) -> None:
    """The first stream has two checks, one of which plays."""

    def facts(at: int) -> Facts:
        is_down = at >= FAULT
        is_blind = is_down and case == "check cannot be made"
        api = upstream(PLATFORM, failing="timeout" if is_down else "", answering=not is_down)
        api |= stream(PLATFORM, live=True, expected=True)
        if case == "has another stream":
            api |= stream(PLATFORM, live=True, name="other", expected=True)
        is_broken = is_down and case == "does not play"
        found = check(arrived(at), playable=not is_broken) | check(arrived(at), playable=False, name="backup")
        checks = upstream(CHECKS, failing="vantage" if is_blind else "", answering=not is_blind)
        return found | checks | api

    expected = {"StreamUpstreamDown/edge", "StreamUnplayable/cdn/backup"}
    if case == "does not play":
        expected.add("StreamUnplayable/cdn/main")
    if case == "check cannot be made":
        expected.add("StreamPlaybackVantageDown/cdn")
    severity = "warning" if case == "plays" else "critical"
    run(tmp_path, facts, expected, scrape=scrape, severities={"StreamUpstreamDown": severity})
