"""``/api/v1/alerts``: the sidecar's alerts, in the shape of Prometheus' own endpoint of this name.

https://prometheus.io/docs/prometheus/latest/querying/api/#alerts
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from aiohttp import web

from exporter.alerting.evaluator import Alert
from exporter.alerting.payload import AlertFormatter, rfc3339
from exporter.alerting.sidecar import Sidecar

PATH: Final = "/api/v1/alerts"


class AlertsApi:
    """Answers what is pending and firing."""

    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar

    async def handle(self, _request: web.Request) -> web.Response:
        """The alerts; ``data.sidecar`` says whether the sidecar is on at all."""
        sidecar = self._sidecar
        alerts = [entry(alert, sidecar.formatter) for alert in sidecar.alerts()]
        body = {"status": "success", "data": {"sidecar": sidecar.active, "alerts": alerts}}
        return web.Response(body=msgspec.json.encode(body), content_type="application/json")


def entry(alert: Alert, formatter: AlertFormatter) -> dict[str, Any]:
    """One alert. Besides the keys of Prometheus: ``firedAt``, and ``keepFiringSince`` once its condition ceased."""
    shown: dict[str, Any] = {
        "labels": formatter.labels(alert),
        "annotations": formatter.annotations(alert),
        "state": alert.phase.value,
        "activeAt": rfc3339(alert.active_at),
        "value": f"{alert.value:e}",
    }
    if alert.fired_at is not None:
        shown["firedAt"] = rfc3339(alert.fired_at)
    if alert.keep_since is not None:
        shown["keepFiringSince"] = rfc3339(alert.keep_since)
    return shown
