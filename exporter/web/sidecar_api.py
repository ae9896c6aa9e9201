"""JSON API of the sidecar's rules and alerts.

``/api/v1/rules`` and ``/api/v1/alerts`` are compatible with Prometheus, so that Grafana can list them:
https://prometheus.io/docs/prometheus/latest/querying/api/#rules. ``/api/v1/sidecar`` is for the page.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from exporter.alerting.rules import Owner
from exporter.alerting.rules.active_rules import ActiveRule, Grade
from exporter.web.json_api import json_response
from exporter.web.protocols import AlertSource
from exporter.web.serializers import alert_entry, prometheus_alert

if TYPE_CHECKING:
    # the sidecar's code is imported only if it runs
    from exporter.alerting.evaluator import Alert

ALERTS_PATH: Final = "/api/v1/alerts"
RULES_PATH: Final = "/api/v1/rules"
SIDECAR_PATH: Final = "/api/v1/sidecar"
GROUP, FILE = "stream-exporter", "sidecar"


class SidecarApi:
    """Handlers of the sidecar's rules and alerts."""

    def __init__(self, sidecar: AlertSource) -> None:
        self._sidecar = sidecar
        self._rules: Sequence[ActiveRule] = ()
        self._definitions: list[dict[str, Any]] = []

    def add_routes(self, app: web.Application) -> None:
        """Add the handlers to an application."""
        app.router.add_get(ALERTS_PATH, self.alerts)
        app.router.add_get(RULES_PATH, self.rules)
        app.router.add_get(SIDECAR_PATH, self.sidecar)

    async def sidecar(self, _request: web.Request) -> web.Response:
        """Return whether the sidecar runs, and its pending and firing alerts."""
        sidecar = self._sidecar
        alerts = [alert_entry(alert, sidecar.formatter) for alert in sidecar.alerts()]
        return json_response({"active": sidecar.active, "alerts": alerts})

    async def alerts(self, _request: web.Request) -> web.Response:
        """Return the pending and firing alerts in Prometheus' format."""
        sidecar = self._sidecar
        alerts = [prometheus_alert(alert, sidecar.formatter) for alert in sidecar.alerts()]
        return _success({"alerts": alerts})

    async def rules(self, request: web.Request) -> web.Response:
        """Return the rules in one group in Prometheus' format, filtered by Prometheus' query parameters."""
        query = request.query
        kind = query.get("type", "alert")
        if kind not in ("alert", "record"):
            error = f"invalid type: {kind[:64]!a}"
            return json_response({"status": "error", "errorType": "bad_data", "error": error}, 400)
        names, groups, files = (query.getall(f"{key}[]", []) for key in ("rule_name", "rule_group", "file"))
        is_wanted = kind == "alert" and (not groups or GROUP in groups) and (not files or FILE in files)
        rules = self._rule_entries(with_alerts=query.get("exclude_alerts") != "true") if is_wanted else []
        rules = [rule for rule in rules if not names or rule["name"] in names]
        if not rules:
            return _success({"groups": []})
        group = {"name": GROUP, "file": FILE, "rules": rules, "interval": self._sidecar.interval_seconds, "limit": 0}
        return _success({"groups": [group | self._evaluation()]})

    def _rule_entries(self, *, with_alerts: bool) -> list[dict[str, Any]]:
        from exporter.alerting.evaluator import Phase

        sidecar = self._sidecar
        if sidecar.rules is not self._rules:
            # Cached, because rendering the expressions takes some milliseconds.
            self._rules = sidecar.rules
            # The watchdog has no condition, because it always fires.
            evaluated = [active for active in sidecar.rules if active.rule.owner is Owner.BOTH]
            self._definitions = [_definition(active, grade) for active in evaluated for grade in active.grades]
        by_rule: dict[tuple[str, str], list[Alert]] = defaultdict(list)
        for alert in sidecar.alerts():
            by_rule[alert.key.rule, alert.key.severity].append(alert)
        evaluation = self._evaluation()
        health = "unknown" if sidecar.last_evaluation is None else "ok"
        entries = []
        for definition in self._definitions:
            alerts = by_rule[definition["name"], definition["labels"]["severity"]]
            phases = {alert.phase for alert in alerts}
            state = next((phase.value for phase in (Phase.FIRING, Phase.PENDING) if phase in phases), "inactive")
            entry = {"state": state, **definition, "health": health, "type": "alerting", **evaluation}
            if with_alerts:
                entry["alerts"] = [prometheus_alert(alert, sidecar.formatter) for alert in alerts]
            entries.append(entry)
        return entries

    def _evaluation(self) -> dict[str, Any]:
        """Return time and duration of the last evaluation; before the first one, the same values as Prometheus."""
        from exporter.alerting.payload import NO_TIME, rfc3339

        last = self._sidecar.last_evaluation
        if last is None:
            return {"evaluationTime": 0.0, "lastEvaluation": NO_TIME}
        return {"evaluationTime": last.seconds, "lastEvaluation": rfc3339(last.at)}


def _definition(active: ActiveRule, grade: Grade) -> dict[str, Any]:
    """Return the constant part of a rule's entry. The query is the one that Prometheus would evaluate."""
    from exporter.alerting.annotations import AnnotationTemplates
    from exporter.alerting.promql import Dialect, PromQL

    dialect = Dialect()
    return {
        "name": active.rule.name,
        "query": PromQL(dialect).expression(active, grade),
        "duration": grade.for_seconds,
        "keepFiringFor": active.keep_firing_seconds,
        "labels": active.rule.static_labels | {"severity": grade.severity.value},
        "annotations": AnnotationTemplates(active, grade, dialect).render(),
    }


def _success(data: dict[str, Any]) -> web.Response:
    return json_response({"status": "success", "data": data})
