"""``/api/v1/rules`` and ``/api/v1/alerts`` in Prometheus' format; ``tests/real`` compares them with Prometheus."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from exporter.alerting.rules import RULES, Owner
from exporter.web.serializers import format_value
from exporter.web.sidecar_api import SidecarApi
from tests.fake_clock import FakeClock
from tests.sidecar.fake_alertmanager import FakeAlertmanager
from tests.sidecar.sidecar_harness import HEALTHY, UNHEALTHY, SidecarHarness, sidecar_harness


@asynccontextmanager
async def served(running: SidecarHarness) -> AsyncIterator[Any]:
    app = web.Application()
    SidecarApi(running.sidecar).add_routes(app)
    async with TestServer(app) as server, aiohttp.ClientSession(server.make_url("")) as session:

        async def get(path: str, query: Any = (), status: int = 200) -> Any:
            async with session.get(f"{path}?{urlencode(query)}") as answer:
                assert answer.status == status
                return await answer.json()

        yield get


def rules_of(answer: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    (group,) = answer["data"]["groups"]
    return {(rule["name"], rule["labels"]["severity"]): rule for rule in group["rules"]}


async def test_rules_have_the_format_of_prometheus() -> None:
    async with sidecar_harness(thresholds={"StreamUnhealthy": {"for": "0s"}}) as running, served(running) as get:
        await running.publish(UNHEALTHY)
        answer = await get("/api/v1/rules")
        (group,) = answer["data"]["groups"]
        assert answer["status"] == "success"
        assert {key: group[key] for key in group if key != "rules"} == {
            "name": "stream-exporter",
            "file": "sidecar",
            "interval": 15.0,
            "limit": 0,
            "evaluationTime": 0.0,
            "lastEvaluation": "2024-09-10T20:26:40Z",
        }
        rules = rules_of(answer)
        assert {name for name, _ in rules} == {rule.name for rule in RULES if rule.owner is Owner.BOTH}
        firing, pending, other = (
            rules[key]
            for key in (
                ("StreamUnhealthy", "critical"),
                ("StreamDegraded", "warning"),
                ("StreamExpectedUnknown", "warning"),
            )
        )
        assert [rule["state"] for rule in (firing, pending, other)] == ["firing", "pending", "inactive"]
        assert (firing["duration"], firing["keepFiringFor"], pending["duration"]) == (0, 120, 600)
        assert "stream:" in firing["query"]
        assert firing["annotations"]["summary"].startswith("{{ $labels.stream }}")
        (alert,) = firing["alerts"]
        assert alert["labels"]["stream"] == "main"
        assert (alert["state"], alert["value"]) == ("firing", "3.5e-01")
        assert set(alert) == {"labels", "annotations", "state", "activeAt", "value"}
        assert other["alerts"] == []


async def test_rules_not_evaluated_yet_have_unknown_health() -> None:
    async with sidecar_harness() as running, served(running) as get:
        answer = await get("/api/v1/rules")
        assert {rule["health"] for rule in rules_of(answer).values()} == {"unknown"}
        assert answer["data"]["groups"][0]["lastEvaluation"] == "0001-01-01T00:00:00Z"
        await running.publish(HEALTHY)
        assert {rule["health"] for rule in rules_of(await get("/api/v1/rules")).values()} == {"ok"}


async def test_query_parameters_filter_the_rules() -> None:
    async with sidecar_harness() as running, served(running) as get:
        rules = rules_of(await get("/api/v1/rules", [("rule_name[]", "StreamUnhealthy"), ("type", "alert")]))
        assert [name for name, _ in rules] == ["StreamUnhealthy", "StreamUnhealthy"]
        named = [("rule_group[]", "stream-exporter"), ("file[]", "sidecar"), ("exclude_alerts", "true")]
        assert all("alerts" not in rule for rule in rules_of(await get("/api/v1/rules", named)).values())
        for query in ("type", "record"), ("rule_group[]", "other"), ("file[]", "other"), ("rule_name[]", "Other"):
            assert (await get("/api/v1/rules", [query]))["data"] == {"groups": []}
        wrong = await get("/api/v1/rules", [("type", "all")], status=400)
        assert wrong == {"status": "error", "errorType": "bad_data", "error": "invalid type: 'all'"}


async def test_reload_changes_the_rules() -> None:
    async with sidecar_harness() as running, served(running) as get:
        before = rules_of(await get("/api/v1/rules"))["StreamUnhealthy", "critical"]
        await running.apply(thresholds={"StreamUnhealthy": {"value": 0.25, "for": "7m"}})
        after = rules_of(await get("/api/v1/rules"))["StreamUnhealthy", "critical"]
        assert after["duration"] == 420
        assert after["query"] != before["query"]
        assert "0.25" in after["query"]


async def test_alerts_have_the_format_of_prometheus() -> None:
    async with sidecar_harness(thresholds={"StreamUnhealthy": {"for": "0s"}}) as running, served(running) as get:
        await running.publish(UNHEALTHY)
        await running.pass_time(15, HEALTHY)
        (alert,) = (await get("/api/v1/alerts"))["data"]["alerts"]
        assert alert["keepFiringSince"] == "2024-09-10T20:26:55Z"
        assert "firedAt" not in alert
        assert (await get("/api/v1/sidecar"))["alerts"] == [alert | {"firedAt": "2024-09-10T20:26:40Z"}]


async def test_without_a_sidecar_there_are_no_rules() -> None:
    async with served(SidecarHarness(FakeClock(), FakeAlertmanager())) as get:
        assert await get("/api/v1/rules") == {"status": "success", "data": {"groups": []}}
        assert await get("/api/v1/alerts") == {"status": "success", "data": {"alerts": []}}
        assert await get("/api/v1/sidecar") == {"active": False, "alerts": []}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1e+00"),
        (0.0, "0e+00"),
        (0.35, "3.5e-01"),
        (1 / 3, "3.333333333333333e-01"),
        (-1234567.875, "-1.234567875e+06"),
        (5e-324, "5e-324"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (math.nan, "NaN"),
    ],
)
def test_value_is_formatted_as_in_prometheus(value: float, text: str) -> None:
    assert format_value(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_value_keeps_its_full_precision(value: float) -> None:
    assert float(format_value(value)) == value
