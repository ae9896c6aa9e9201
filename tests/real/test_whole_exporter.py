"""End to end: ffmpeg, node-media-server, the exporter as a process, and Prometheus, which is queried."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.exporter_process import Exporter, exporter
from tests.real.media import PASSWORD, USERNAME, NodeMediaServer, Publisher, running_nms2
from tests.real.prometheus import Prometheus, check_metrics

pytestmark = pytest.mark.real

TOLERANCE = 0.2


@contextmanager
def exporting(directory: Path, upstreams: dict[str, NodeMediaServer], *expected: str) -> Iterator[Exporter]:
    """Run the exporter, polling these servers every second; ``expected``: keys of application ``live``."""
    (directory / "password").write_text(PASSWORD + "\n")
    common: dict[str, Any] = {
        "platform": "node_media_server",
        "auth": {"username": USERNAME, "password_file": "password"},
        "interval": "1s",
        "timeout": "1s",
        "stale_after": "4s",
        "health_grace": "0s",
        "streams": [{"application": "live", "key": key, "expected": True} for key in expected],
    }
    settings = [common | {"name": name, "url": server.url} for name, server in upstreams.items()]
    configuration = directory / "config.yaml"
    configuration.write_text(json.dumps({"upstreams": settings}))
    with exporter("--config.file", str(configuration), directory=directory) as running:
        yield running


@contextmanager
def observed(prometheus: Prometheus, running: Exporter, job: str) -> Iterator[None]:
    with prometheus.scraping(job, f"127.0.0.1:{running.port}"):
        yield


@pytest.mark.parametrize("version", [2, 4])
def test_stream_is_followed_from_start_to_end(
    version: int, prometheus: Prometheus, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    server: NodeMediaServer = request.getfixturevalue(f"nms{version}")
    job, key = f"life-{version}", f"life-{version}"
    of_it = f'{{job="{job}", upstream="origin", stream="live/{key}"}}'
    with exporting(tmp_path, {"origin": server}, key) as running, observed(prometheus, running, job):
        prometheus.wait_for(f"stream_live{of_it} == 0 and stream_expected{of_it} == 1")

        with server.publish(key) as publisher:
            prometheus.wait_for(f"stream_live{of_it} == 1")
            prometheus.wait_for(f"stream_ingest_bitrate_bytes_per_second{of_it} > 0")
            ((labels, _),) = prometheus.query(f"stream_info{of_it}")
            assert (labels["video_codec"], labels["audio_codec"], labels["protocol"]) == ("h264", "aac", "rtmp")
            assert_bitrate(prometheus, of_it, publisher)
            check_metrics(running.ask("/metrics")[1])

            with server.watch(key):
                prometheus.wait_for(f"stream_viewers{of_it} == 1")
            prometheus.wait_for(f"stream_viewers{of_it} == 0")

            if version == 4:
                # this takes 45 s; version 2 has a separate test for it
                publisher.freeze()
                prometheus.wait_for(f"stream_ingest_bitrate_bytes_per_second{of_it} == 0 and stream_live{of_it} == 1")
                silent = of_it.replace("}", ', reason="silent"}')
                prometheus.wait_for(
                    f"stream_health_reason{silent} == 1 and ignoring(reason) stream_health_score_ratio{of_it} == 0"
                )
            publisher.kill()
            prometheus.wait_for(f"stream_live{of_it} == 0")
        assert prometheus.value(f"stream_restarts_total{of_it}") == 0

        with server.publish(key):
            prometheus.wait_for(f"stream_live{of_it} == 1 and stream_restarts_total{of_it} == 1")
        prometheus.wait_for(f"stream_live{of_it} == 0")
        failures = f'sum(stream_upstream_poll_failures_total{{job="{job}"}})'
        assert prometheus.value(failures) == 0


def assert_bitrate(prometheus: Prometheus, of_it: str, publisher: Publisher) -> None:
    """Assert that gauge and counter rate in Prometheus equal what ffmpeg has sent in the same time."""
    began, sent = time.monotonic(), publisher.bytes_sent
    counter = f"stream_ingest_bytes_total{of_it}"
    prometheus.wait_for(f"count_over_time({counter}[5s]) >= 5 and {counter} > {sent + 250_000}")
    real = (publisher.bytes_sent - sent) / (time.monotonic() - began)
    for seen in (
        f"avg_over_time(stream_ingest_bitrate_bytes_per_second{of_it}[4s])",
        f"rate({counter}[5s])",
    ):
        assert prometheus.value(seen) == pytest.approx(real, rel=TOLERANCE)


def test_stream_of_a_dead_server_is_unknown(prometheus: Prometheus, tmp_path: Path) -> None:
    """Unknown values are absent, never 0; configured values stay."""
    of_it = '{job="dies", stream="live/main"}'
    with (
        running_nms2(tmp_path) as server,
        exporting(tmp_path, {"origin": server}, "main") as running,
        observed(prometheus, running, "dies"),
        server.publish("main"),
    ):
        prometheus.wait_for(f"stream_live{of_it} == 1")
        server.program.kill()
        prometheus.wait_for('stream_upstream_up{job="dies"} == 0')
        prometheus.wait_for(f"stream_expected{of_it} == 1 unless stream_live{of_it}")
        assert prometheus.value('stream_upstream_poll_failures_total{job="dies", reason="connect"}')
        assert prometheus.query(
            f"count_over_time(stream_live{of_it}[1m]) and min_over_time(stream_live{of_it}[1m]) == 1"
        )
