"""hls against real ffmpeg, nginx and nginx-rtmp: what is served before, while and after things go wrong."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.exporter_process import Exporter
from tests.real.child_process import GENEROUS_SECONDS
from tests.real.hls_origin import running_hls_origins
from tests.real.playback_scenarios import SCENARIOS, SOURCE, Lab, Scenario, Values, upstreams, values

pytestmark = pytest.mark.real

SETTINGS = {"interval": "2s", "whole_segment_every": "5s"}
STEP = 0.5
"""Seconds between looks at what the exporter serves."""
ONCE_MORE = 5.0
"""Time for which states are observed after the last expected one."""

COUNTERS = [
    "stream_media_segments_total",
    "stream_media_seconds_total",
    "stream_segments_missed_total",
    "stream_sequence_resets_total",
    "stream_sequence_regressions_total",
    "stream_sequence_conflicts_total",
    "stream_discontinuities_total",
    "stream_gap_segments_total",
    "stream_segment_fetch_failures_total",
]
FAULTS = [name for name in COUNTERS if "media" not in name and "discontinuities" not in name]
"""Counters that do not rise while a stream is healthy."""
HEALTHY = ["healthy-ts", "healthy-fmp4"]
MISSED_AFTER_STOP = 2
"""Segments that a stopped encoder makes at once when it goes on, and that are more than its window."""


class Watch:
    """What the exporter serves about each scenario."""

    def __init__(self, exporter: Exporter) -> None:
        self._exporter = exporter
        self.seen: dict[str, list[Values]] = {scenario.name: [] for scenario in SCENARIOS}

    def look(self) -> None:
        _, text = self._exporter.ask("/metrics")
        for name, seen in self.seen.items():
            seen.append(values(text, name))
        self.source = text

    def last(self, name: str) -> Values:
        return self.seen[name][-1]

    def until(self, holds: Callable[[Scenario], bool], scenarios: Iterable[Scenario]) -> None:
        """Look until a condition has held for each scenario."""
        deadline = time.monotonic() + GENEROUS_SECONDS
        left = list(scenarios)
        while left:
            self.look()
            left = [scenario for scenario in left if not holds(scenario)]
            states = {scenario.name: self.last(scenario.name) for scenario in left}
            assert time.monotonic() < deadline, f"{scenario_names(left)}: {states}"
            time.sleep(STEP)


def scenario_names(scenarios: Iterable[Scenario]) -> str:
    return ", ".join(scenario.name for scenario in scenarios)


@contextmanager
def watching(directory: Path) -> Iterator[tuple[Lab, Watch]]:
    """Run servers, encoders and the exporter."""
    with running_hls_origins(directory) as origins:
        lab = Lab(origins)
        lab.start()
        source, *checks = upstreams(lab, SCENARIOS, **SETTINGS)
        source["interval"] = SETTINGS["interval"]
        configuration = {"upstreams": [source, *checks], "state_dir": str(directory)}
        (directory / "config.yaml").write_text(json.dumps(configuration))
        arguments = ["--config.file", "config.yaml", "--web.listen-address", "127.0.0.1:0"]
        with Exporter(arguments, directory, measured=False) as exporter:
            yield lab, Watch(exporter)


def is_watched(found: Values) -> bool:
    """Return whether a healthy stream has been seen long enough for all of its facts."""
    is_playable = found.get("stream_playable") == 1 and found.get("stream_media_segments_total", 0) >= 6
    return is_playable and found.get("stream_segment_media_seconds_total", 0) > 0


def test_states_of_all_scenarios(tmp_path: Path) -> None:
    with watching(tmp_path) as (lab, watch):
        watch.until(lambda scenario: is_watched(watch.last(scenario.name)), SCENARIOS)
        assert_healthy(watch)
        before = {scenario.name: len(watch.seen[scenario.name]) for scenario in SCENARIOS}
        for scenario in SCENARIOS:
            if scenario.fail is not None:
                scenario.fail(lab)

        watch.until(lambda scenario: scenario.holds(watch.last(scenario.name)), SCENARIOS)

        began = time.monotonic()
        while time.monotonic() < began + ONCE_MORE:
            watch.look()
            time.sleep(STEP)
    during = {name: watch.seen[name][since:] for name, since in before.items()}
    assert_right_after_failures(during)


def assert_healthy(watch: Watch) -> None:
    for scenario in SCENARIOS:
        found = watch.last(scenario.name)
        assert {name for name in COUNTERS if name not in found} == set(), scenario.name
        assert {name: found[name] for name in FAULTS if found[name]} == {}, scenario.name
        assert not [series for series in found if series.startswith("stream_unplayable_reason")], scenario.name
        wanted = {
            "stream_live": 1.0,
            "stream_audio_present": 1.0,
            "stream_video_present": 1.0,
            "stream_playback_forbidden": 0.0,
            "stream_segment_target_seconds": 2.0,
            "stream_renditions_playable": 2.0 if scenario.name == "healthy-ts" else 1.0,
        }
        assert {name: found.get(name) for name in wanted} == wanted, scenario.name
        assert found.get("stream_source_live") == (1.0 if scenario.source else None), scenario.name
        # nginx-rtmp writes no dates
        is_dated = not scenario.source
        assert ("stream_latency_seconds" in found) is is_dated, scenario.name
        if is_dated:
            assert 0 <= found["stream_latency_seconds"] < 10, scenario.name
    is_low_latency = {
        scenario.name: any('protocol="ll-hls"' in series for series in watch.last(scenario.name))
        for scenario in SCENARIOS
    }
    assert is_low_latency == {scenario.name: scenario.name == "ll-hls" for scenario in SCENARIOS}
    low_latency = watch.last("ll-hls")
    assert low_latency["stream_target_latency_seconds"] == 1.5
    assert low_latency["stream_latency_seconds"] < 2.5
    ladder = watch.last("healthy-ts")
    rates = {rendition: ladder.get(f'stream_media_bitrate_bytes_per_second{{rendition="{rendition}"}}', 0.0)
             for rendition in ("180p", "90p")}  # fmt: skip
    assert rates["180p"] > 1.5 * rates["90p"] > 0


def assert_right_after_failures(during: dict[str, list[Values]]) -> None:
    for scenario in SCENARIOS:
        seen = during[scenario.name]
        assert {found.get("stream_playable") for found in seen} - {0.0, 1.0} == set(), scenario.name
        if scenario.is_playable:
            assert {found.get("stream_playable") for found in seen} == {1.0}, scenario.name
        assert scenario.holds(seen[-1]), scenario.name
        # a failed fetch is a finding about the stream, not about the upstream
        assert all("stream_live" in found for found in seen), scenario.name
    for name in (*HEALTHY, "stop"):
        found = {fault: during[name][-1][fault] for fault in FAULTS if during[name][-1][fault]}
        if name == "stop":
            assert found.pop("stream_segments_missed_total", 0) <= MISSED_AFTER_STOP
        assert found == {}, name
        seconds = [found["stream_media_seconds_total"] for found in during[name]]
        assert seconds == sorted(seconds), name
        assert seconds[-1] > seconds[0], name
    cache = during["cache"]
    assert any('stream_health_reason{reason="sequence"}' in found for found in cache)
    origins = during["origins"][-1]
    assert origins["stream_sequence_regressions_total"] > 0
    assert origins["stream_sequence_resets_total"] == 0
    assert during["muted"][-1]["stream_video_present"] == 1
    assert during["muted"][-1]["stream_discontinuities_total"] >= 1
    assert during["deleted"][-1]["stream_live"] == 1
    assert during["deleted"][-1]["stream_segment_fetch_failures_total"] >= 2
    slow = during["slow"][-1]
    assert slow["stream_segment_download_seconds_total"] > slow["stream_segment_media_seconds_total"]
    assert SOURCE not in during
