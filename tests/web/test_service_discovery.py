"""/sd: the scrape targets for Prometheus."""

from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme

from exporter.cli.settings import load_settings
from exporter.service import Service
from exporter.web.app import make_app
from exporter.web.json_api import target_groups
from exporter.web.options import Origin, WebOptions, external_origin
from exporter.web.security import Security
from tests.web.secure_server import client_context, serve_app, write_certificate, write_web_config

CONFIGURATION = """
upstreams:
  - {name: edge, platform: storm, url: "http://127.0.0.1:9", streams: [{application: live, key: a}]}
  - {name: studio, platform: livepeer, url: "http://127.0.0.1:9", timeout: 30s, auth: {bearer_token: canary-token}}
"""


@pytest.fixture
def service(tmp_path: Path) -> Service:
    file = tmp_path / "config.yaml"
    file.write_text(CONFIGURATION)
    return Service(load_settings(file, {}), load=lambda: load_settings(file, {}))


async def discovered(url: str, host: str | None = None, **options: Any) -> Any:
    headers = {"Host": host} if host else {}
    async with aiohttp.ClientSession() as session, session.get(f"{url}/sd", headers=headers, **options) as answer:
        assert answer.status == 200
        assert answer.content_type == "application/json"
        return await answer.json()


async def test_each_upstream_is_a_target_at_the_address_of_the_request(service: Service) -> None:
    security = Security()
    async with serve_app(make_app(service, options=WebOptions(), security=security), security) as url:
        groups = await discovered(url)
        address = url.removeprefix("http://")
        assert groups == [
            {
                "targets": [address],
                "labels": {
                    "__metrics_path__": "/probe",
                    "__param_upstream": "edge",
                    "__scrape_interval__": "15s",
                    "__scrape_timeout__": "10s500ms",
                    "instance": f"{address}/edge",
                },
            },
            {
                "targets": [address],
                "labels": {
                    "__metrics_path__": "/probe",
                    "__param_upstream": "studio",
                    "__scrape_interval__": "30s",
                    "__scrape_timeout__": "30s",
                    "instance": f"{address}/studio",
                },
            },
        ]
        for host in ("exporter.example", "exporter.example:10071", "[::1]:10071"):
            assert {group["targets"][0] for group in await discovered(url, host)} == {host}


@pytest.mark.parametrize("host", ["a b", "user@host", "host/path", "host:port", "<script>"])
async def test_malformed_host_header_is_refused(service: Service, host: str) -> None:
    security = Security()
    async with (
        serve_app(make_app(service, options=WebOptions(), security=security), security) as url,
        aiohttp.ClientSession() as session,
        session.get(f"{url}/sd", headers={"Host": host}) as answer,
    ):
        assert answer.status == 400
        assert host not in await answer.text()


async def test_targets_use_https_if_requested_over_tls(service: Service, tmp_path: Path) -> None:
    authority = trustme.CA()
    write_certificate(tmp_path, authority)
    tls = {"tls_server_config": {"cert_file": "server.pem", "key_file": "server.key"}}
    security = Security(write_web_config(tmp_path, tls))
    async with serve_app(make_app(service, options=WebOptions(), security=security), security) as url:
        groups = await discovered(url, ssl=client_context(authority))
        assert [group["labels"]["__scheme__"] for group in groups] == ["https", "https"]


async def test_external_url_overrides_the_host_header(service: Service) -> None:
    security = Security()
    options = WebOptions(external=external_origin("https://monitor.example/streams/"))
    async with serve_app(make_app(service, options=options, security=security), security) as url:
        first, _ = await discovered(url, "other.example")
    assert first["targets"] == ["monitor.example"]
    assert first["labels"]["__scheme__"] == "https"
    assert first["labels"]["__metrics_path__"] == "/streams/probe"
    assert first["labels"]["instance"] == "monitor.example/edge"


@pytest.mark.parametrize(
    ("external", "telemetry_path", "target", "labels"),
    [
        (None, "/metrics", None, {"__metrics_path__": "/metrics"}),
        (
            external_origin("https://monitor.example/streams/"),
            "/own/path",
            "monitor.example",
            {"__metrics_path__": "/streams/own/path", "__scheme__": "https"},
        ),
    ],
)
async def test_only_target_without_probes_is_the_exporter_itself(
    service: Service, external: Origin | None, telemetry_path: str, target: str | None, labels: dict[str, str]
) -> None:
    security = Security()
    options = WebOptions(telemetry_path=telemetry_path, external=external, disable_probe=True)
    async with serve_app(make_app(service, options=options, security=security), security) as url:
        assert await discovered(url) == [{"targets": [target or url.removeprefix("http://")], "labels": labels}]
        async with aiohttp.ClientSession() as session, session.get(f"{url}/probe?upstream=edge") as answer:
            assert (answer.status, await answer.text()) == (404, "Probes are disabled (--web.disable-probe).\n")


def test_targets_without_upstreams_are_an_empty_list() -> None:
    assert target_groups((), Origin("localhost")) == []
