"""Alerts from several processes, each of which must be notified only once."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from exporter.alerting.evaluator import Phase
from tests.real.alert_environment import running_exporter, running_webhook, wait_until
from tests.real.alertmanager import Alertmanager
from tests.sidecar.sidecar_harness import sidecar_harness

DOWN = "StreamUpstreamDown"
SCALE = 100.0
ROUTE = """
route: {{receiver: pager, group_by: [alertname], group_wait: 1s, group_interval: 1s}}
receivers: [{{name: pager, webhook_configs: [{{url: "{url}/pager", send_resolved: true}}]}}]
"""


async def test_alert_is_resolved_when_another_shard_polls_its_upstream() -> None:
    async with sidecar_harness() as running:
        await running.pass_time(300, up=False)
        await running.wait_until_sent()
        assert running.is_firing(DOWN)
        await running.publish(up=None, not_owned=True)
        await running.wait_until_sent()
        assert not running.is_firing(DOWN)


@pytest.mark.real
async def test_two_replicas_page_once(alertmanager: Alertmanager, tmp_path: Path) -> None:
    """Two sidecars send alerts with equal labels about the same upstream to a real Alertmanager."""
    async with AsyncExitStack() as stack:
        webhook = await stack.enter_async_context(running_webhook())
        stack.enter_context(alertmanager.configured(ROUTE.format(url=webhook.url)))
        services = []
        for replica in ("a", "b"):
            folder = tmp_path / replica
            folder.mkdir()
            configuration = {
                "defaults": {"interval": "500ms", "timeout": "400ms", "stale_after": "2s"},
                "upstreams": [{"name": "of-two", "platform": "node_media_server", "url": "http://127.0.0.1:9"}],
                "alerting": {
                    "alertmanagers": [{"url": alertmanager.url}],
                    "state_file": str(folder / "alerts.json"),
                },
            }
            service, _ = await stack.enter_async_context(running_exporter(folder, configuration, time_scale=SCALE))
            services.append(service)

        sent_before: dict[int, float] = {}

        def sent_since_firing() -> list[float]:
            """Return how many alerts each replica has sent since the alert started firing."""
            numbers = []
            for index, service in enumerate(services):
                sent = float(_sent(service.metrics.render_exporter().decode()))
                if DOWN in {alert.key.rule for alert in service.sidecar.alerts([Phase.FIRING])}:
                    numbers.append(sent - sent_before.setdefault(index, sent))
                else:
                    numbers.append(0.0)
            return numbers

        await wait_until(lambda: all(number >= 8 for number in sent_since_firing()), "both repeat the alert", str)
        matchers = (f'alertname="{DOWN}"', 'upstream="of-two"')
        assert len(alertmanager.alerts(*matchers)) == 1
        alerts = [alert for _, _, alert in webhook.received if alert["labels"]["alertname"] == DOWN]
        pages = [alert for alert in alerts if alert["status"] == "firing"]
        assert len(pages) == 1, pages


def _sent(text: str) -> str:
    lines = [line for line in text.splitlines() if line.startswith("stream_exporter_notifications_sent_total{")]
    return lines[0].rpartition(" ")[2] if lines else "0"
