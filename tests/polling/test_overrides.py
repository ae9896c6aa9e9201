"""Overrides of alert rules, from the configuration to the exposition."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from exporter.cli.settings import load_settings
from exporter.config.upstream import UpstreamSettings
from exporter.model import NO_OVERRIDES, AlertOverrides, Listing, PollResult, StreamReport, StreamState
from exporter.polling.overrides import UpstreamOverrides
from exporter.polling.tracker import Tracker
from exporter.runtime.clock import Instant
from tests import yaml_text
from tests.metrics.generated_views import rendered, view

DOCUMENT = Path(__file__).parents[2] / "docs" / "alerting.md"


def settings_of(folder: Path, **keys: Any) -> UpstreamSettings:
    """Load an upstream with the configured stream ``live/main`` (with these ``alerts`` of its own)."""
    stream = {"application": "live", "key": "main", "alerts": keys.pop("stream_alerts", {})}
    upstream = {"name": "edge", "platform": "storm", "url": "http://127.0.0.1:9", "streams": [stream], **keys}
    (folder / "config.yaml").write_text(yaml_text.render({"upstreams": [upstream]}))
    return load_settings(folder / "config.yaml", {}).upstreams[0]


class Polled:
    """A tracker that has been polled once, with ``live/main`` and discovered streams."""

    def __init__(self, settings: UpstreamSettings, *names: str) -> None:
        self.tracker = Tracker(settings, Instant(0.0, 0.0))
        reports = tuple(StreamReport(id=f"live/{name}", live=True) for name in ("main", *names))
        self.poll(*reports)

    def poll(self, *reports: StreamReport, at: float = 15.0) -> tuple[StreamState, ...]:
        for _ in self.tracker.apply(PollResult(streams=reports, listing=Listing.COMPLETE), Instant(at, at)):
            pass
        return self.tracker.states()

    @property
    def exported(self) -> list[str]:
        """The lines of the overrides, without the labels of the upstream."""
        states = self.tracker.states()
        thresholds, off = self.tracker.overrides.rows(states)
        text = rendered(view(*states, threshold_rows=thresholds, off_rows=off)).text.decode()
        lines = [line for line in text.splitlines() if line.startswith("stream_alert_")]
        return [line.replace('platform="livepeer",upstream="studio",', "") for line in lines]


def test_examples_of_the_documentation_do_what_it_says(tmp_path: Path) -> None:
    text = DOCUMENT.read_text().partition("## Thresholds per stream")[2].partition("\n## ")[0]
    settings = []
    for number, example in enumerate(re.findall(r"```yaml\n(.+?)```", text, re.DOTALL)):
        (tmp_path / f"{number}.yaml").write_text(example)
        settings.append(load_settings(tmp_path / f"{number}.yaml", {}).upstreams[0])
    camera, final = (UpstreamOverrides(each).of_stream(each.configured_streams()[0]) for each in settings)
    assert camera == AlertOverrides({"StreamBitrateLow": 0.5}, frozenset({"StreamJitterHigh"}))
    assert final == AlertOverrides(off=frozenset({"StreamFrameRateLow"}))
    assert UpstreamOverrides(settings[1]).of_upstream.thresholds == {"StreamUpstreamUnstable": 0.4}
    assert UpstreamOverrides(settings[1]).of_stream(None).thresholds == {"StreamPacketLossHigh": 0.05}


def test_overrides_are_exported_for_every_stream_and_for_the_upstream(tmp_path: Path) -> None:
    alerts = {
        "StreamJitterHigh": "off",
        "StreamBitrateLow": 0.5,
        "StreamUpstreamUnstable": 0.4,
        "StreamUpstreamDown": False,
    }
    assert Polled(settings_of(tmp_path, alerts=alerts), "camera").exported == [
        'stream_alert_threshold{stream="",rule="StreamUpstreamUnstable"} 0.4',
        'stream_alert_threshold{stream="live/main",rule="StreamBitrateLow"} 0.5',
        'stream_alert_threshold{stream="live/camera",rule="StreamBitrateLow"} 0.5',
        'stream_alert_off{stream="",rule="StreamUpstreamDown"} 1.0',
        'stream_alert_off{stream="live/main",rule="StreamJitterHigh"} 1.0',
        'stream_alert_off{stream="live/camera",rule="StreamJitterHigh"} 1.0',
    ]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("on", []),
        ("off", ['stream_alert_off{stream="live/main",rule="StreamJitterHigh"} 1.0']),
        (0.3, ['stream_alert_threshold{stream="live/main",rule="StreamJitterHigh"} 0.3']),
    ],
)
@pytest.mark.parametrize("of_upstream", ["off", 0.2])
def test_entry_of_a_stream_replaces_that_of_its_upstream(
    of_upstream: Any, override: Any, expected: list[str], tmp_path: Path
) -> None:
    settings = settings_of(
        tmp_path, alerts={"StreamJitterHigh": of_upstream}, stream_alerts={"StreamJitterHigh": override}
    )
    assert Polled(settings).exported == expected


def test_nothing_is_exported_without_overrides(tmp_path: Path) -> None:
    polled = Polled(settings_of(tmp_path, alerts={"StreamJitterHigh": "on"}), "camera")
    assert polled.exported == []
    assert {id(state.overrides) for state in polled.tracker.states()} == {id(NO_OVERRIDES)}


def test_discovered_streams_share_one_object(tmp_path: Path) -> None:
    polled = Polled(settings_of(tmp_path, alerts={"StreamJitterHigh": "off"}), "a", "b")
    assert len({id(state.overrides) for state in polled.tracker.states()}) == 1


def test_rows_are_built_again_only_after_a_change(tmp_path: Path) -> None:
    polled = Polled(settings_of(tmp_path, alerts={"StreamJitterHigh": "off"}), "a")
    before = polled.tracker.overrides.rows(polled.tracker.states())
    reports = [StreamReport(id=f"live/{name}", live=True, viewers=3) for name in ("main", "a", "b")]
    assert polled.tracker.overrides.rows(polled.poll(*reports[:2], at=30.0)) is before
    assert len(polled.tracker.overrides.rows(polled.poll(*reports, at=45.0))[1]) == 3


def test_override_changes_with_the_configured_streams(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, stream_alerts={"StreamJitterHigh": "off"})
    polled = Polled(settings)
    assert len(polled.exported) == 1
    (stream,) = settings.configured_streams()
    polled.tracker.configure((stream.model_copy(update={"alerts": {}}),))
    polled.poll(StreamReport(id="live/main", live=True), at=30.0)
    assert polled.exported == []


def test_unknown_stream_keeps_its_overrides(tmp_path: Path) -> None:
    polled = Polled(settings_of(tmp_path, stream_alerts={"StreamExpectedUnknown": "off"}))
    for _ in polled.tracker.refresh(Instant(1000.0, 1000.0)):
        pass
    (state,) = polled.tracker.states()
    assert state.is_withdrawn
    assert state.overrides.off == {"StreamExpectedUnknown"}


def test_streams_with_equal_cut_labels_cause_no_duplicate_series(tmp_path: Path) -> None:
    polled = Polled(settings_of(tmp_path, alerts={"StreamJitterHigh": "off"}))
    (state,) = polled.tracker.states()
    same = msgspec.structs.replace(state, report=StreamReport(id="other"))
    _, off = polled.tracker.overrides.rows((state, same))
    text = rendered(view(off_rows=off)).text.decode()
    assert text.count("stream_alert_off{") == 1
