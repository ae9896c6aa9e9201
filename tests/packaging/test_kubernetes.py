"""The manifests: against the schemas of Kubernetes, the exporter's own configuration, and each other."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter import __version__
from exporter.alerting import DEFAULT_SELECTOR
from exporter.cli import main
from exporter.sharding import Shard, parse_shard
from exporter.web.options import DEFAULT_LISTEN_ADDRESS
from tests.alerting.promtool import ALERTS
from tools import prometheus_rule
from tools.image_bases import NONROOT

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
OF_THE_OPERATOR = {"servicemonitor.yaml", "prometheusrule.yaml"}
FILES = {file.name: file for file in FOLDER.glob("*.yaml") if file.name != "kustomization.yaml"}


def read(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text())


@pytest.fixture(scope="module")
def pod() -> dict[str, Any]:
    spec: dict[str, Any] = read("statefulset.yaml")["spec"]["template"]["spec"]
    return spec


@pytest.fixture(scope="module")
def container(pod: dict[str, Any]) -> dict[str, Any]:
    (only,) = pod["containers"]
    assert isinstance(only, dict)
    return only


def test_all_files_are_applied() -> None:
    assert set(read("kustomization.yaml")["resources"]) == set(FILES)


def test_kubernetes_knows_every_key() -> None:
    validate = Path(sys.executable).with_name("kubernetes-validate")
    files = [file for name, file in FILES.items() if name not in OF_THE_OPERATOR]
    done = subprocess.run([validate, "--strict", *files], capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert said.count("passed for resource") == len(files) >= 4, said


def test_the_rules_are_those_of_the_rule_files() -> None:
    assert FILES["prometheusrule.yaml"].read_text() == prometheus_rule.manifest(), "run: make generate"
    files = ("stream-recordings.yaml", "stream-alerts.yaml")
    groups = [group for file in files for group in yaml.safe_load((ALERTS / file).read_text())["groups"]]
    assert read("prometheusrule.yaml")["spec"] == {"groups": groups}


def test_the_scrape_finds_the_service_and_the_rules_find_the_scrape() -> None:
    monitor, service = read("servicemonitor.yaml"), read("service.yaml")
    assert (monitor["apiVersion"], monitor["kind"]) == ("monitoring.coreos.com/v1", "ServiceMonitor")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert [endpoint["port"] for endpoint in monitor["spec"]["endpoints"]] == [
        p["name"] for p in service["spec"]["ports"]
    ]
    assert f'job="{service["metadata"]["name"]}"' == DEFAULT_SELECTOR


def test_selectors_find_the_pods(container: dict[str, Any]) -> None:
    stateful = read("statefulset.yaml")["spec"]
    labels = stateful["template"]["metadata"]["labels"]
    service = read("service.yaml")
    assert stateful["serviceName"] == service["metadata"]["name"]
    assert stateful["selector"]["matchLabels"] == service["spec"]["selector"] == labels
    assert read("networkpolicy.yaml")["spec"]["podSelector"]["matchLabels"] == labels
    (port,) = container["ports"]
    assert port["name"] == service["spec"]["ports"][0]["targetPort"]
    assert f":{port['containerPort']}" == DEFAULT_LISTEN_ADDRESS


def test_it_may_do_no_more_than_it_must(pod: dict[str, Any], container: dict[str, Any]) -> None:
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] == context["runAsGroup"] == context["fsGroup"] == NONROOT
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    assert set(container["resources"]["limits"]) == {"cpu", "memory"}
    assert container["livenessProbe"]["httpGet"]["path"] == "/-/healthy"
    assert container["readinessProbe"]["httpGet"]["path"] == "/-/ready"
    # read by the group, and by nobody else: the exporter would warn
    assert [volume["secret"]["defaultMode"] for volume in pod["volumes"] if "secret" in volume] == [0o440]


def test_it_is_the_image_of_this_version(container: dict[str, Any]) -> None:
    assert container["image"] == f"stream-exporter:{__version__}"


def test_there_is_a_pod_for_each_shard(container: dict[str, Any]) -> None:
    stateful = read("statefulset.yaml")
    replicas, name = stateful["spec"]["replicas"], stateful["metadata"]["name"]
    (flag,) = (argument for argument in container["args"] if argument.startswith("--shard="))
    shards = [parse_shard(flag.removeprefix("--shard="), f"{name}-{ordinal}") for ordinal in range(replicas)]
    assert shards == [Shard(ordinal, replicas) for ordinal in range(replicas)]


def test_the_configuration_is_valid(
    container: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (file,) = read("configmap.yaml")["data"].items()
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert container["args"][0] == f"--config.file={mounts['configuration']}/{file[0]}"
    for secret in re.findall(rf"{mounts['secrets']}/([\w-]+)", file[1]):
        (tmp_path / secret).write_text("not-a-real-secret\n")
        (tmp_path / secret).chmod(0o440)
    (tmp_path / "config.yaml").write_text(file[1].replace(mounts["secrets"], str(tmp_path)))
    others = container["args"][1:]
    monkeypatch.setattr(socket, "gethostname", lambda: f"{read('statefulset.yaml')['metadata']['name']}-0")
    assert main(["--config.file", str(tmp_path / "config.yaml"), *others, "--config.check"]) == 0
    assert "warning" not in capsys.readouterr().out
