"""Configuration keys, flags and JSON keys that users rely on do not disappear; see the lists in this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from aiohttp.test_utils import make_mocked_request

from exporter.model import AlertOverrides, Maintenance, StreamReport, StreamState
from exporter.polling.maintenance import Window
from exporter.web.maintenance_api import window_entry
from exporter.web.serializers import stream_facts
from exporter.web.sidecar_api import SidecarApi
from tests.interface.listed import ANSWERS, CONFIGURATION, FLAGS, changes, configuration_keys, flags, json_keys
from tests.metrics.generated_views import labelled
from tests.page.served_app import serve_app
from tests.page.states import stream_state, upstream_state
from tests.sidecar.sidecar_harness import UNHEALTHY, sidecar_harness


def test_no_configuration_key_disappears_unnoticed() -> None:
    assert changes(CONFIGURATION, configuration_keys()) == ""


def test_no_command_or_flag_disappears_unnoticed() -> None:
    assert changes(FLAGS, flags()) == ""


async def test_no_response_key_disappears_unnoticed(tmp_path: Path) -> None:
    """The keys of /api/v1/streams are in tests/page/keys.txt."""
    found = {key async for key in sidecar_keys()}
    async with serve_app(tmp_path) as served:
        served.service.store.publish(upstream_state([stream_state("one", live=True)]))
        for path in ("/api/v1/stream?upstream=edge&stream=one", f"/api/v1/history?stream={quote('edge/one')}"):
            keys = json_keys(await served.get(path))
            found |= {f"{path.partition('?')[0]} {key}" for key in keys if not key.startswith("stream.")}
    found |= {f"/api/v1/stream stream.{key}" for key in facts()}
    found |= {f"/api/v1/maintenance {key}" for key in json_keys(maintenance())}
    assert changes(ANSWERS, found) == ""


def facts() -> Iterable[str]:
    """Return the keys of a stream with all fields set."""
    everything: dict[str, Any] = dict.fromkeys(StreamReport.__struct_fields__, "a")
    known: dict[str, Any] = dict.fromkeys(set(StreamState.__struct_fields__) - {"identity", "report"}, 1)
    known["overrides"] = AlertOverrides({"StreamUnhealthy": 0.4})
    known["maintenance"] = Maintenance(until=1.0)
    state = stream_state("one", report=StreamReport(**everything), **known)
    return stream_facts(labelled(upstream_state([state]), (("team", "sports"),)).streams[0])


def maintenance() -> dict[str, Any]:
    """Return the keys of the responses about maintenance."""
    entry = window_entry(Window("1", "edge", "one", 0.0, 1.0, "reason"), 0.0)
    return {"windows": [entry], "window": entry, "saved": True}


async def sidecar_keys() -> AsyncIterator[str]:
    """Yield the keys of alerts in all phases, except labels and annotations, which other tests check."""
    async with sidecar_harness(thresholds={"StreamUnhealthy": {"for": "0s"}}) as running:
        await running.publish(UNHEALTHY)
        await running.wait_until_sent()
        await running.pass_time(15)
        api = SidecarApi(running.sidecar)
        for path, handler in (("alerts", api.alerts), ("rules", api.rules), ("sidecar", api.sidecar)):
            answer = await handler(make_mocked_request("GET", f"/api/v1/{path}"))
            assert isinstance(answer.body, bytes)
            for key in json_keys(msgspec.json.decode(answer.body)):
                if ".labels." not in key and ".annotations." not in key:
                    yield f"/api/v1/{path} {key}"
