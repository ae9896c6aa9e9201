"""What goes wrong with HLS streams, each with the settings of its check, and what the exporter should make of it.

All scenarios run side by side, each as an upstream of its own, on the servers of ``hls_origin.py``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.exposition_text import samples
from tests.real.hls_origin import (
    CACHE_SECONDS,
    FREEZE_SECONDS,
    SLOW_BYTES_PER_SECOND,
    Encoder,
    HlsOrigins,
    LowLatencyOrigin,
    wait_for_playlists,
)
from tests.real.media import Publisher

STREAM: Final = "main"
"""Label of each upstream's stream."""
SOURCE: Final = "rtmp"
"""Name of the upstream that watches nginx-rtmp itself."""
_OUT_OF_STEP_SECONDS = 9.0
"""More than the interval: the newest media of the second origin is older than what the first one had a poll before."""

Values = Mapping[str, float]
"""Values of the series of one stream, by family; with the other labels if there are any: ``family{label="value"}``."""
IDENTITY = frozenset({"platform", "upstream", "stream"})


def values(exposition: str, upstream: str, stream: str = STREAM) -> dict[str, float]:
    """Return the values of the series of one stream."""
    found = {}
    for sample in samples(exposition, buckets=False):
        labels = dict(sample.labels)
        if labels.get("upstream") == upstream and labels.get("stream") == stream:
            more = ",".join(f'{name}="{value}"' for name, value in sample.labels if name not in IDENTITY)
            found[f"{sample.name}{{{more}}}" if more else sample.name] = sample.value
    return found


@dataclass
class Lab:
    """The servers, and the programs that feed them."""

    origins: HlsOrigins
    encoders: dict[str, Encoder] = field(default_factory=dict)
    publishers: dict[str, Publisher] = field(default_factory=dict)
    low_latency: LowLatencyOrigin | None = None

    def start(self) -> None:
        """Start all encoders and publishers, and wait until all playlists exist."""
        origins = self.origins
        self.encoders = {name: origins.encode(name) for name in ("killed", "restarted", "stopped", "first")}
        self.encoders |= {"ladder": origins.encode("ladder", ladder=True), "fmp4": origins.encode("fmp4", kind="fmp4")}
        began = time.monotonic()
        for name in ("deleted", "left", "muted"):
            self.publishers[name] = origins.publish(name)
        self.low_latency = origins.start_low_latency()
        published = (origins.www / "rtmp" / f"{name}.m3u8" for name in self.publishers)
        wait_for_playlists(*(encoder.playlist for encoder in self.encoders.values()), *published)
        time.sleep(max(0.0, began + _OUT_OF_STEP_SECONDS - time.monotonic()))
        # the balancer does not use it yet
        self.encoders["second"] = origins.encode("second")

    def stop_for_a_while(self) -> None:
        """Freeze an encoder, and thaw it after ``FREEZE_SECONDS``."""
        encoder = self.encoders["stopped"]
        encoder.freeze()
        timer = threading.Timer(FREEZE_SECONDS, encoder.thaw)
        timer.daemon = True
        timer.start()

    def mute(self) -> None:
        """Publish the same stream again, without audio."""
        self.publishers["muted"].kill()
        self.publishers["muted"] = self.origins.publish("muted", has_audio=False, suffix="-again")

    def kill_low_latency(self) -> None:
        assert self.low_latency is not None
        self.low_latency.kill_encoder()


@dataclass(frozen=True)
class Scenario:
    """One thing that happens to one stream."""

    name: str
    """The upstream's name."""
    title: str
    url: Callable[[Lab], str]
    """URL of the server."""
    path: str
    fail: Callable[[Lab], None] | None
    """Lets it happen, without waiting; None in the healthy ones. Programs end with the thread that starts them."""
    result: str
    """The state that the exporter then serves, in words."""
    holds: Callable[[Values], bool]
    """Whether it serves that state."""
    is_playable: bool | None
    """What ``stream_playable`` is in that state; None if it changes."""
    alerts: frozenset[str] = frozenset()
    """Alerts of the check, with their severities, that are sent: without those that others inhibit."""
    source: str = ""
    """Name of the published stream that it is paired with."""
    source_alerts: frozenset[str] = frozenset()
    """The same of the source."""
    needs_whole_segments: bool = False
    """Whether the state is judged from whole segments, of which only one a minute is fetched."""

    def upstream(self, lab: Lab, **more: Any) -> dict[str, Any]:
        """Return the settings of the check. ``more``: further settings."""
        return self.settings(self.url(lab), **more)

    def settings(self, url: str, **more: Any) -> dict[str, Any]:
        """Return the settings of the check of a server."""
        stream: dict[str, Any] = {"name": STREAM, "url": self.path, "expected": True}
        if self.source:
            stream["of"] = {"upstream": SOURCE, "stream": f"live/{self.source}"}
        return {"name": self.name, "platform": "hls", "url": url, "streams": [stream], **more}


def source_upstream(url: str, **more: Any) -> dict[str, Any]:
    """Return the settings of the upstream that watches nginx-rtmp itself."""
    names = [scenario.source for scenario in SCENARIOS if scenario.source]
    streams = [{"application": "live", "key": name, "expected": True} for name in names]
    return {"name": SOURCE, "platform": "nginx_rtmp", "url": url, "streams": streams, **more}


def upstreams(lab: Lab, scenarios: Iterable[Scenario], **more: Any) -> list[dict[str, Any]]:
    """Return the settings of all upstreams. ``more``: further settings of the checks."""
    return [source_upstream(lab.origins.nginx.url), *(scenario.upstream(lab, **more) for scenario in scenarios)]


def _is_healthy(found: Values) -> bool:
    return found.get("stream_playable") == 1 and found.get("stream_live") == 1


def _has_reason(reason: str) -> Callable[[Values], bool]:
    series = f'stream_unplayable_reason{{reason="{reason}"}}'
    return lambda found: found.get("stream_playable") == 0 and found.get(series) == 1


def _has_finding(reason: str) -> Callable[[Values], bool]:
    series = f'stream_health_reason{{reason="{reason}"}}'
    return lambda found: found.get(series) == 1


def _origin(lab: Lab) -> str:
    return lab.origins.url


def _low_latency_url(lab: Lab) -> str:
    assert lab.low_latency is not None
    return lab.low_latency.url


SCENARIOS: Final = (
    Scenario(
        name="healthy-ts",
        title="MPEG-TS in two renditions, healthy",
        url=_origin,
        path="/ladder/master.m3u8",
        fail=None,
        result="playable",
        holds=_is_healthy,
        is_playable=True,
    ),
    Scenario(
        name="healthy-fmp4",
        title="fragmented MP4, healthy",
        url=_origin,
        path="/fmp4/index.m3u8",
        fail=None,
        result="playable",
        holds=_is_healthy,
        is_playable=True,
    ),
    Scenario(
        name="kill",
        title="encoder is killed",
        url=_origin,
        path="/killed/index.m3u8",
        fail=lambda lab: lab.encoders["killed"].kill(),
        result="off air, `stale`",
        holds=lambda found: _has_reason("stale")(found) and found.get("stream_live") == 0,
        is_playable=False,
        alerts=frozenset({"StreamUnplayable (critical)"}),
    ),
    Scenario(
        name="restart",
        title="encoder is killed and started again",
        url=_origin,
        path="/restarted/index.m3u8",
        fail=lambda lab: lab.encoders["restarted"].restart(),
        result="playable, one reset",
        holds=lambda found: _is_healthy(found) and found.get("stream_sequence_resets_total") == 1,
        is_playable=True,
    ),
    Scenario(
        name="stop",
        title=f"encoder stops for {FREEZE_SECONDS} s",
        url=_origin,
        path="/stopped/index.m3u8",
        fail=Lab.stop_for_a_while,
        result="playable",
        holds=_is_healthy,
        # the time until the next poll after the next segment comes on top: it may be stale for a moment
        is_playable=None,
    ),
    Scenario(
        name="deleted",
        title="segments are deleted, nginx-rtmp's publisher goes on",
        url=_origin,
        path="/rtmp/deleted.m3u8",
        fail=lambda lab: lab.origins.remove_segments("rtmp", "deleted-*.ts"),
        result="live, `segment_missing`",
        holds=lambda found: _has_reason("segment_missing")(found) and found.get("stream_source_live") == 1,
        is_playable=False,
        alerts=frozenset({"StreamViewersGetNothing (critical)"}),
        source="deleted",
    ),
    Scenario(
        name="cache",
        title=f"cache keeps playlists for {CACHE_SECONDS} s",
        url=lambda lab: lab.origins.cache_url,
        path="/ladder/v1.m3u8",
        fail=lambda lab: lab.origins.start_caching(),
        result="segments missed",
        holds=lambda found: found.get("stream_segments_missed_total", 0) > 0,
        is_playable=None,
        alerts=frozenset({"StreamMediaShortage (critical)"}),
    ),
    Scenario(
        name="slow",
        title=f"server sends {SLOW_BYTES_PER_SECOND // 1000} kB/s",
        url=lambda lab: lab.origins.slow_url,
        path="/fmp4/index.m3u8",
        fail=lambda lab: lab.origins.start_slowing(),
        result="playable, `slow`",
        holds=lambda found: _is_healthy(found) and _has_finding("slow")(found),
        is_playable=True,
        # the one becomes the other
        alerts=frozenset({"StreamDeliverySlow (warning)", "StreamDeliverySlow (critical)"}),
        needs_whole_segments=True,
    ),
    Scenario(
        name="left",
        title="nginx-rtmp's publisher is killed",
        url=_origin,
        path="/rtmp/left.m3u8",
        fail=lambda lab: lab.publishers["left"].kill(),
        result="off air, not playable",
        holds=lambda found: found.get("stream_playable") == 0 and found.get("stream_source_live") == 0,
        is_playable=False,
        source="left",
        source_alerts=frozenset({"StreamExpectedOffline (critical)"}),
    ),
    Scenario(
        name="muted",
        title="nginx-rtmp's publisher reconnects without audio",
        url=_origin,
        path="/rtmp/muted.m3u8",
        fail=Lab.mute,
        result="playable, no audio",
        holds=lambda found: _is_healthy(found) and found.get("stream_audio_present") == 0,
        is_playable=True,
        alerts=frozenset({"StreamAudioMissing (critical)"}),
        needs_whole_segments=True,
        source="muted",
    ),
    Scenario(
        name="origins",
        title="balancer uses two origins out of step",
        url=lambda lab: lab.origins.balancer_url,
        path="/index.m3u8",
        fail=lambda lab: lab.origins.start_balancing(),
        result="live, `sequence`",
        holds=lambda found: found.get("stream_live") == 1 and _has_finding("sequence")(found),
        # the newest segment of one origin does not exist on the other one
        is_playable=None,
        alerts=frozenset({"StreamSequenceUnsteady (warning)"}),
    ),
    Scenario(
        name="ll-hls",
        title="low-latency HLS: encoder is killed",
        url=_low_latency_url,
        path="/index.m3u8",
        fail=Lab.kill_low_latency,
        result="off air, `stale`",
        holds=lambda found: _has_reason("stale")(found) and found.get("stream_live") == 0,
        is_playable=False,
        alerts=frozenset({"StreamUnplayable (critical)"}),
    ),
)
BY_NAME: Final = {scenario.name: scenario for scenario in SCENARIOS}
