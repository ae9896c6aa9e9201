"""WAVE's analytics and its own Prometheus export on /metrics and /probe of a whole exporter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.alerting.evaluator import Alert, AlertKey, Phase
from exporter.runtime.clock import Clock
from exporter.simulator import Fleet, make_app
from exporter.simulator.context import API_KEY, TOKEN
from exporter.simulator.simulated_streams import Platform
from tests.service.exporter_harness import Exporter, exporting, serving


@pytest.fixture
async def exporter(tmp_path: Path) -> AsyncIterator[Exporter]:
    """Run an exporter with two WAVE upstreams, the second of which has only the export."""
    fleet = Fleet(30, seed=1)
    first, second = fleet.streams(Platform.WAVE)[:2]
    async with serving(make_app(fleet, Clock())) as url:
        base = {"platform": "wave", "url": f"{url}/wave/api/v1", "auth": {"bearer_token": TOKEN}}
        export = {"enabled": True, "api_key": API_KEY}
        wave = {
            "name": "wave",
            "sessions": [{"id": first.id, "name": "hall"}, {"id": second.id, "name": "lobby"}],
            "analytics": {"streams": [{"id": first.playback_id, "name": "hall"}, second.id], "dashboards": True},
            "prometheus": export,
        }
        configuration = {
            "upstreams": [base | wave, base | {"name": "second", "prometheus": export}],
            "alerting": {
                "wave_events": {"upstream": "wave", "enabled": True},
                "state_file": str(tmp_path / "alerts.json"),
            },
        }
        async with exporting(tmp_path, configuration) as running:
            await running.reaches(1, "stream_upstream_up", upstream="wave")
            await running.reaches(1, "stream_upstream_up", upstream="second")
            yield running


async def test_analytics_have_the_labels_of_their_sessions(exporter: Exporter) -> None:
    metrics = await exporter.metrics()
    viewers = {dict(labels)["stream"] for name, labels in metrics if name == "stream_analytics_viewers"}
    assert viewers == {"hall", "lobby"}
    numbers = {
        (dict(labels)["stream"], dict(labels)["metric"]) for name, labels in metrics if name == "stream_platform_metric"
    }
    assert {("hall", "totalDuration"), ("", "bandwidth.ingestMbps")} <= numbers


async def test_exports_of_two_upstreams_share_one_block_per_family(exporter: Exporter) -> None:
    text = await exporter.get("/metrics")
    families = [family for family in text_string_to_metric_families(text) if family.name.startswith("wave_")]
    assert len(families) == len({family.name for family in families}) == 7
    for family in families:
        assert {sample.labels["upstream"] for sample in family.samples} == {"wave", "second"}
    assert await exporter.value("stream_upstream_foreign_series_dropped", upstream="second") == 0


@pytest.mark.parametrize("part", ["streams", "upstreams", "exporter"])
async def test_export_belongs_to_the_part_streams(exporter: Exporter, part: str) -> None:
    text = await exporter.get(f"/metrics?collect[]={part}")
    assert ("\nwave_" in text) is (part == "streams")
    assert ("\nstream_upstream_foreign_series_dropped{" in text) is (part == "upstreams")


async def test_stream_probe_has_only_the_analytics_of_its_stream(exporter: Exporter) -> None:
    whole = await exporter.get("/probe?upstream=wave")
    assert "\nwave_streaming_viewers{" in whole
    assert 'stream="",metric=' in whole
    one = await exporter.get("/probe?upstream=wave&stream=hall")
    assert "\nwave_" not in one
    analysed = [line for line in one.splitlines() if line.startswith(("stream_analytics_", "stream_platform_metric"))]
    assert analysed
    assert all('stream="hall"' in line for line in analysed)


async def test_alert_events_are_sent_to_the_configured_upstream(exporter: Exporter) -> None:
    sidecar = exporter.service.sidecar.created
    assert sidecar is not None
    queue = sidecar._events
    assert queue is not None
    queue.add(Alert(AlertKey("StreamStalled", "wave", "hall"), "wave", Phase.FIRING, active_at=1.0, value=1.0), None)
    await exporter.reaches(1, "stream_exporter_wave_events_total", outcome="accepted")
