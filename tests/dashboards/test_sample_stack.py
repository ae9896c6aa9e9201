"""The sample stack in deploy/: check each part, and that the parts fit each other. Needs no Docker."""

import json
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.dashboards.dashboard_files import DASHBOARDS, read_dashboards
from tests.real.prometheus import promtool
from tests.real.tools import tool

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PROVISIONING = DEPLOY / "grafana" / "provisioning"


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


COMPOSE = read(DEPLOY / "compose.yaml")
SERVICES = COMPOSE["services"]
PROMETHEUS = read(DEPLOY / "prometheus" / "prometheus.yml")
[DATASOURCE] = read(PROVISIONING / "datasources" / "prometheus.yaml")["datasources"]


def mounts(service: str) -> dict[str, Path]:
    """Return the bind mounts: paths in the checkout by path in the container."""
    found = [volume.split(":") for volume in SERVICES[service]["volumes"]]
    return {target: (DEPLOY / source).resolve() for source, target, *_ in found if source.startswith(".")}


def test_compose_file_is_valid() -> None:
    import jsonschema  # takes two seconds, in every worker

    schema = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    jsonschema.validate(COMPOSE, json.loads(schema.read_text(encoding="utf-8")))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(COMPOSE | {"service": {}}, json.loads(schema.read_text(encoding="utf-8")))


@pytest.mark.parametrize("service", ["prometheus", "alertmanager", "grafana"])
def test_mounts_exist_and_are_read_only(service: str) -> None:
    assert mounts(service)
    for path in mounts(service).values():
        assert path.exists()
        assert path.is_relative_to(ROOT)
    named = [volume.split(":")[0] for volume in SERVICES[service]["volumes"] if not volume.startswith(".")]
    assert set(named) <= COMPOSE["volumes"].keys()
    assert all(volume.endswith(":ro") for volume in SERVICES[service]["volumes"] if volume.startswith("."))


def test_ports_are_local_and_images_are_pinned() -> None:
    for name, service in SERVICES.items():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name
        if "image" in service:
            version = service["image"].partition("@")[0].partition(":")[2]
            assert version not in ("", "latest")


def test_addresses_of_the_services_match() -> None:
    [scrape] = PROMETHEUS["scrape_configs"]
    [alertmanagers] = PROMETHEUS["alerting"]["alertmanagers"]
    [alertmanager] = read(PROVISIONING / "datasources" / "alertmanager.yaml")["datasources"]
    addresses = [
        *scrape["static_configs"][0]["targets"],
        *alertmanagers["static_configs"][0]["targets"],
        *(source["url"].removeprefix("http://") for source in (DATASOURCE, alertmanager)),
    ]
    for address in addresses:
        host, _, port = address.partition(":")
        assert [published.split(":")[-1] for published in SERVICES[host]["ports"]] == [port]
    assert SERVICES["exporter"]["command"][2].endswith(":10071")


def test_data_source_interval_equals_the_scrape_interval() -> None:
    assert DATASOURCE["jsonData"]["timeInterval"] == PROMETHEUS["global"]["scrape_interval"]


def test_grafana_gets_the_dashboards() -> None:
    [provider] = read(PROVISIONING / "dashboards" / "stream-exporter.yaml")["providers"]
    assert mounts("grafana")[provider["options"]["path"]] == DASHBOARDS
    home = Path(SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(home.parent) == provider["options"]["path"]
    assert home.name in {file.name for file in DASHBOARDS.iterdir()}
    # A variable of type datasource uses the default data source of its type.
    assert DATASOURCE["isDefault"] is True
    assert all(d["templating"]["list"][0]["query"] == DATASOURCE["type"] for d in read_dashboards())


@pytest.mark.real
def test_prometheus_accepts_its_configuration_with_the_rules(tmp_path: Path) -> None:
    paths = mounts("prometheus")
    shutil.copy(paths["/etc/prometheus/prometheus.yml"], tmp_path)
    shutil.copytree(paths["/etc/prometheus/alerts"], tmp_path / "alerts")
    done = promtool("check", "config", tmp_path / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 rule files found" in done.stdout


@pytest.mark.real
def test_alertmanager_accepts_its_configuration() -> None:
    file = mounts("alertmanager")["/etc/alertmanager/alertmanager.yml"]
    done = subprocess.run([tool("amtool"), "check-config", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


def test_alertmanager_inhibits_as_in_the_example() -> None:
    example = read(ROOT / "alerts" / "alertmanager.example.yaml")
    assert read(DEPLOY / "alertmanager" / "alertmanager.yml")["inhibit_rules"] == example["inhibit_rules"]
