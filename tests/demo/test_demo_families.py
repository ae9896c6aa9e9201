"""The demo exports every metric family that its platforms can provide."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.metrics.families.family import Family
from exporter.metrics.families.stream_families import (
    ANALYTICS_FAMILIES,
    PLATFORM_METRIC,
    SAMPLED_FAMILIES,
    STREAM_FAMILIES,
)
from exporter.metrics.families.upstream_families import PASSTHROUGH_SERIES_DROPPED, UPSTREAM_FAMILIES
from tests.exporter_process import GENEROUS_SECONDS, Exporter

ABSENT = {
    # not in a healthy minute
    "stream_former_label": "no stream is renamed",
    "stream_end_timestamp_seconds": "no stream has ended yet",
    "stream_health_reason": "all streams may be healthy",
    "stream_status_last_change_timestamp_seconds": "no status may have changed",
    "stream_upstream_failing": "no upstream fails",
    # not configured
    "stream_alert_threshold": "no rule has another threshold for a stream",
    "stream_alert_off": "no rule is switched off",
    "stream_maintenance": "there is no planned work",
    "stream_upstream_calendar_readable": "no stream has an event calendar",
    "stream_upstream_calendar_last_success_timestamp_seconds": "as above",
    # not from these platforms
    "stream_system_clients": "Storm reports it only for single streams, and the demo uses the list",
    "stream_ingest_lag_seconds": "only nginx_rtmp, which is not simulated",
    "stream_viewers_partial": "as above",
    "stream_nominal_bitrate_bytes_per_second": "only icecast, which is not simulated",
    "stream_slow_viewers_total": "as above",
    "stream_fallback_active": "as above",
    "stream_audio_sample_rate_hertz": "only nginx_rtmp and icecast",
    "stream_audio_channels": "as above",
}


def families(url: str) -> set[str]:
    with urlopen(f"{url}/metrics", timeout=GENEROUS_SECONDS) as answer:
        return {family.name for family in text_string_to_metric_families(answer.read().decode())}


@pytest.mark.no_cover
def test_demo_exports_every_family_that_its_platforms_can_feed(tmp_path: Path) -> None:
    analytics: tuple[Family, ...] = (*ANALYTICS_FAMILIES, PLATFORM_METRIC, PASSTHROUGH_SERIES_DROPPED)
    families_: tuple[Family, ...] = (*STREAM_FAMILIES, *analytics, *SAMPLED_FAMILIES, *UPSTREAM_FAMILIES)
    named = {family.name for family in families_}
    named |= {"wave_streaming_viewers", "wave_streaming_bandwidth_bytes_total", "wave_streaming_latency_seconds"}
    # the parser removes the suffix of counters
    wanted = {name.removesuffix("_total") for name in named - ABSENT.keys()}
    with Exporter(["demo", "--web.listen-address", "127.0.0.1:0"], tmp_path) as process:
        url = process.wait_for(r"^  (http://\S+:[1-9][0-9]*)/$")[1]
        # for families that exist only while playback of a stream fails
        command = process.wait_for(r"curl -X POST (http://\S+) -d '(.*\"hls\".*)'$")
        with urlopen(Request(command[1], data=command[2].encode(), method="POST"), timeout=GENEROUS_SECONDS) as answer:
            assert answer.status < 300
        missing = wanted
        deadline = time.monotonic() + GENEROUS_SECONDS
        while missing and time.monotonic() < deadline:
            time.sleep(1)
            missing = wanted - families(url)
    assert sorted(missing) == []
