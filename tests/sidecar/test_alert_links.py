"""Links in alerts to the page of the stream and to the runbook."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from exporter.alerting import DEFAULT_RUNBOOK_URL
from exporter.alerting.evaluator import Alert, AlertKey, Phase
from exporter.alerting.payload import AlertFormatter
from exporter.alerting.rules.active_rules import rules_in_force
from exporter.metrics.text_format import label_value
from tests.exporter_process import exporter
from tests.page.served_app import serve_app
from tests.page.states import stream_state, upstream_state
from tests.sidecar.fake_alertmanager import fake_alertmanager

PAGE = "https://exporter.example.com/prefix/"
FORMATTER = AlertFormatter(rules_in_force(), {}, page=PAGE, runbook=f"{PAGE}runbook")


def alert(rule: str, upstream: str, stream: str, severity: str) -> Alert:
    key = AlertKey(rule, upstream, stream, severity=severity)
    return Alert(key, "storm", Phase.FIRING, active_at=1.0, fired_at=2.0, value=0.4)


@given(st.text(st.characters(codec=None), min_size=1, max_size=300), st.text(st.characters(codec=None), min_size=1))
@example("live/a b+c", "studio & co")
@example("..", ".")
@example('"><svg/onload=alert(1)>', "\ud800")
@example("x" * 300, "ü%2f#?=")
def test_link_escapes_any_stream_name(stream: str, upstream: str) -> None:
    unhealthy = alert("StreamUnhealthy", upstream, stream, "critical")
    payload = FORMATTER.payload(unhealthy, 240.0)
    url = payload.generator_url
    assert url.startswith(f"{PAGE}streams?")
    assert url.isascii()
    assert not set(url) & set("\"'<> \\^`{|}")
    names = {"upstream": label_value(upstream), "stream": label_value(stream)}
    assert dict(parse_qsl(urlsplit(url).query, strict_parsing=True)) == names
    assert {name: payload.labels[name] for name in names} == names, "the labels have the same names"
    assert (urlsplit(url).fragment, payload.annotations["page_url"]) == ("", url)
    assert payload.annotations["runbook_url"] == f"{PAGE}runbook#streamunhealthy"


def test_alert_about_an_upstream_links_to_the_whole_page() -> None:
    payload = FORMATTER.payload(alert("StreamUpstreamDown", "studio & co", "", "critical"), 240.0)
    assert payload.generator_url == payload.annotations["page_url"] == PAGE
    assert FORMATTER.watchdog_payload(0.0, 0.0, 240.0).generator_url == PAGE


def test_alert_has_no_page_link_without_a_page_url() -> None:
    payload = AlertFormatter(rules_in_force(), {}).payload(alert("StreamUnhealthy", "studio", "main", "critical"), 9.0)
    assert payload.annotations.keys().isdisjoint({"page_url"})
    assert "generatorURL" not in payload.to_json(0.0)
    assert payload.annotations["runbook_url"] == f"{DEFAULT_RUNBOOK_URL}#streamunhealthy"


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text(st.characters(codec=None), min_size=1, max_size=300))
@example("live/a b+c")
@example("..")
async def test_link_leads_to_its_stream(tmp_path: Path, stream: str) -> None:
    """The page requests the stream in its URL from the API; ``tests/page`` follows a link in a browser."""
    async with serve_app(tmp_path) as served:
        served.service.store.publish(upstream_state([stream_state(stream)]))
        formatter = AlertFormatter(rules_in_force(), {}, page=f"{served.url}/")
        url = formatter.payload(alert("StreamUnhealthy", "edge", stream, "critical"), 240.0).generator_url
        async with served.session.get(url) as answer:
            assert (answer.status, answer.content_type) == (200, "text/html")
        found = await served.get(f"/api/v1/stream?{urlsplit(url).query}")
        assert found["stream"]["stream"] == label_value(stream)


@pytest.mark.system
@pytest.mark.parametrize(
    ("flags", "page", "runbook"),
    [
        ((f"--web.external-url={PAGE}",), PAGE, f"{PAGE}runbook"),
        ((), "http://127.0.0.1:{port}/", DEFAULT_RUNBOOK_URL),
    ],
    ids=["external URL", "none"],
)
async def test_links_lead_to_the_external_url(flags: Sequence[str], page: str, runbook: str, tmp_path: Path) -> None:
    """Without one, the published runbook is used, because the exporter's own address may be unreachable for others."""
    async with fake_alertmanager() as alertmanager:
        configuration: dict[str, Any] = {
            "upstreams": [{"name": "edge", "platform": "storm", "url": "http://127.0.0.1:9", "discover": True}],
            "defaults": {"interval": "1s", "timeout": "500ms"},
            "alerting": {
                "alertmanagers": [{"url": alertmanager.url}],
                "state_file": str(tmp_path / "alerts.json"),
                "thresholds": {"StreamUpstreamDown": {"for": "0s"}},
            },
        }
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(configuration))
        with exporter(*flags, directory=tmp_path) as running:
            await alertmanager.until(lambda: alertmanager.received("StreamUpstreamDown"))
            page = page.format(port=running.port)
    for name in ("StreamSidecarWatchdog", "StreamUpstreamDown"):
        (received, *_) = alertmanager.received(name)
        assert received["generatorURL"] == page
        assert received["annotations"]["runbook_url"] == f"{runbook}#{name.lower()}"
