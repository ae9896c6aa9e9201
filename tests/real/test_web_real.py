"""A real Prometheus and a real exporter: every documented scrape configuration, including TLS and passwords."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from tests.exporter_process import Exporter
from tests.real.child_process import wait_until
from tests.real.prometheus import Prometheus, promtool
from tests.web.secure_server import bcrypt_hash, write_certificate, write_web_config

pytestmark = pytest.mark.real

PAGE = (Path(__file__).parents[2] / "docs" / "prometheus.md").read_text()
WEB_PAGE = (Path(__file__).parents[2] / "docs" / "web.md").read_text()
DOCUMENTED = re.findall(r"^```yaml\n(scrape_configs:.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
ALL_STREAMS, PROBES, SECURE_WHOLE, SECURE_PROBES = range(4)
UPSTREAMS = ("edge", "studio", "wave", "viewers")
PASSWORD = "canary-of-the-scrape"


@contextmanager
def demo(directory: Path, *arguments: str) -> Iterator[Exporter]:
    command = ["demo", "--streams", "9", "--web.listen-address", "127.0.0.1:0", "--log.level", "info", *arguments]
    with Exporter(command, directory) as process:
        yield process
        assert "Traceback" not in process.said
        assert PASSWORD not in process.said


@pytest.fixture(scope="module")
def open_exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    with demo(tmp_path_factory.mktemp("open")) as running:
        yield running


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> Path:
    """Create the folder with all files that the documentation refers to."""
    directory = tmp_path_factory.mktemp("secure")
    write_certificate(directory, authority)
    authority.cert_pem.write_to_path(directory / "ca.pem")
    (directory / "password").write_text(PASSWORD)
    write_web_config(
        directory,
        {
            "tls_server_config": {"cert_file": "server.pem", "key_file": "server.key", "min_version": "TLS13"},
            "basic_auth_users": {"prometheus": bcrypt_hash(PASSWORD, 10)},
        },
    )
    return directory


@pytest.fixture(scope="module")
def secure_exporter(secrets: Path) -> Iterator[Exporter]:
    with demo(secrets, "--web.config.file", "web.yml") as running:
        yield running


@contextmanager
def scraping(prometheus: Prometheus, documented: int, port: int, prefix: str, secrets: Path = Path()) -> Iterator[None]:
    """Use a documented configuration, with its jobs renamed."""
    text = DOCUMENTED[documented].replace("localhost:10071", f"localhost:{port}")
    jobs = yaml.safe_load(_with_files_of(text, secrets))["scrape_configs"]
    with ExitStack() as stack:
        for job in jobs:
            name = f"{prefix}-{job.pop('job_name')}"
            stack.enter_context(prometheus.scraping(name, "", **job))
        yield


def _with_files_of(text: str, directory: Path) -> str:
    return re.sub(r"(ca_file|password_file): ([\w.]+)", lambda m: f"{m[1]}: {directory / m[2]}", text)


def targets(prometheus: Prometheus, job: str) -> list[Mapping[str, Any]]:
    active = prometheus.get("targets", state="active")["activeTargets"]
    return [target for target in active if target["labels"]["job"] == job]


def doubled(prometheus: Prometheus, prefix: str) -> list[Any]:
    """Return series of these jobs that differ only in where they were scraped."""
    found = prometheus.get("series", **{"match[]": f'{{job=~"{prefix}-.*", __name__!~"up|scrape_.*"}}'})
    scraped = Counter(
        tuple(sorted((key, value) for key, value in labels.items() if key not in ("job", "instance")))
        for labels in found
    )
    assert scraped
    return [labels for labels, count in scraped.items() if count > 1]


def test_promtool_accepts_the_four_documented_configurations(tmp_path: Path, secrets: Path) -> None:
    assert len(DOCUMENTED) == 4
    for number, text in enumerate(DOCUMENTED):
        file = tmp_path / f"{number}.yml"
        file.write_text(_with_files_of(text, secrets))
        done = promtool("check", "config", file)
        assert done.returncode == 0, done.stdout + done.stderr


def test_one_scrape_contains_every_upstream(prometheus: Prometheus, open_exporter: Exporter) -> None:
    with scraping(prometheus, ALL_STREAMS, open_exporter.port, "whole"):
        for upstream in UPSTREAMS:
            prometheus.wait_for(f'stream_live{{job="whole-stream-exporter", upstream="{upstream}"}} == 1')
        prometheus.wait_for('stream_exporter_build_info{job="whole-stream-exporter"}')
        assert doubled(prometheus, "whole") == []


def test_service_discovery_has_a_target_per_upstream_without_duplicates(
    prometheus: Prometheus, open_exporter: Exporter
) -> None:
    port = open_exporter.port
    with scraping(prometheus, PROBES, port, "probes"):
        for upstream in UPSTREAMS:
            instance = f"localhost:{port}/{upstream}"
            prometheus.wait_for(f'up{{job="probes-stream-probes", instance="{instance}"}} == 1')
            prometheus.wait_for(f'stream_upstream_up{{instance="{instance}", upstream="{upstream}"}} == 1')
            prometheus.wait_for(f'stream_live{{instance="{instance}", upstream="{upstream}"}} == 1')
        prometheus.wait_for('stream_exporter_build_info{job="probes-stream-exporter"}')
        probed = targets(prometheus, "probes-stream-probes")
        times = {(target["scrapeInterval"], target["scrapeTimeout"]) for target in probed}
        assert times == {("5s", "4s500ms"), ("2s", "2s")}
        assert len(prometheus.query('up{job="probes-stream-probes"}')) == len(UPSTREAMS)
        assert not prometheus.query('stream_sampled_health_score_ratio_count{job=~"probes-.*"}')
        assert not prometheus.query('stream_restarts_total{job=~"probes-.*"}')
        assert doubled(prometheus, "probes") == []


@pytest.mark.parametrize("documented", [SECURE_WHOLE, SECURE_PROBES])
def test_scrapes_work_over_tls_with_a_password(
    documented: int, prometheus: Prometheus, secure_exporter: Exporter, secrets: Path
) -> None:
    prefix = f"secure-{documented}"
    job = f"{prefix}-{'stream-exporter' if documented == SECURE_WHOLE else 'stream-probes'}"
    with scraping(prometheus, documented, secure_exporter.port, prefix, secrets):
        for upstream in UPSTREAMS:
            prometheus.wait_for(f'stream_live{{job="{job}", upstream="{upstream}"}} == 1')
        assert all(target["scrapeUrl"].startswith("https://") for target in targets(prometheus, job))


def test_scrapes_without_the_correct_password_fail_and_block_no_other(
    prometheus: Prometheus, secure_exporter: Exporter, secrets: Path
) -> None:
    address = f"localhost:{secure_exporter.port}"
    tls: dict[str, Any] = {"scheme": "https", "tls_config": {"ca_file": str(secrets / "ca.pem")}}
    right = {"basic_auth": {"username": "prometheus", "password": PASSWORD}}
    with ExitStack() as stack:
        for job, settings in {
            "right": tls | right,
            "wrong": tls | {"basic_auth": {"username": "prometheus", "password": "wrong"}},
            "unknown": tls | {"basic_auth": {"username": "nobody", "password": PASSWORD}},
            "without": tls,
            "plain": {},
            "untrusting": {"scheme": "https", **right},
        }.items():
            stack.enter_context(prometheus.scraping(f"door-{job}", address, **settings))
        prometheus.wait_for('count(up{job=~"door-(wrong|unknown|without|plain|untrusting)"} == 0) == 5')
        prometheus.wait_for('sum_over_time(up{job="door-right"}[30s]) >= 5')
        assert prometheus.value('max(max_over_time(up{job=~"door-.*", job!="door-right"}[30s]))') == 0
        for job in ("wrong", "unknown", "without"):
            # a scrape may be too late to see it on a busy machine
            wait_until(lambda: "401" in targets(prometheus, f"door-{job}")[0]["lastError"], f"{job} is told 401")  # noqa: B023


def test_new_certificate_is_used_without_a_restart(
    prometheus: Prometheus, tmp_path: Path, authority: trustme.CA
) -> None:
    write_certificate(tmp_path, trustme.CA())
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    write_web_config(tmp_path, {"tls_server_config": {"cert_file": "server.pem", "key_file": "server.key"}})
    with demo(tmp_path, "--web.config.file", "web.yml") as running:
        tls: dict[str, Any] = {"scheme": "https", "tls_config": {"ca_file": str(tmp_path / "ca.pem")}}
        with prometheus.scraping("renewed", f"localhost:{running.port}", **tls):
            prometheus.wait_for('up{job="renewed"} == 0')
            write_certificate(tmp_path, authority)
            prometheus.wait_for('up{job="renewed"} == 1')


def test_documented_web_configuration_is_valid(tmp_path: Path, authority: trustme.CA) -> None:
    (text,) = re.findall(r"^```yaml\n(tls_server_config:.*?)^```", WEB_PAGE, re.MULTILINE | re.DOTALL)
    write_certificate(tmp_path, authority)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    write_web_config(tmp_path, text)
    (tmp_path / "config.yaml").write_text(
        json.dumps({"upstreams": [{"name": "a", "platform": "node_media_server", "url": "http://127.0.0.1:9"}]})
    )
    with Exporter(["--config.check", "--web.config.file", "web.yml"], tmp_path) as checked:
        assert checked.ended() == 0, checked.said
    (tmp_path / "web.yml").write_text("basic_auth_users: {a: b}")
    with Exporter(["--config.check", "--web.config.file", "web.yml"], tmp_path) as checked:
        assert checked.ended() == 1
        assert "web.yml:1:23: basic_auth_users.a" in checked.said


@pytest.mark.parametrize(("label", "warned"), [("name", True), ("hash", False)])
def test_public_names_that_may_be_stream_keys_cause_a_warning(tmp_path: Path, label: str, warned: bool) -> None:
    upstream = {"name": "origin", "platform": "node_media_server", "url": "http://127.0.0.1:9", "stream_label": label}
    if label == "hash":
        (tmp_path / "hash").write_text("canary-hash-key")
        upstream["stream_hash_key_file"] = "hash"
    (tmp_path / "config.yaml").write_text(json.dumps({"upstreams": [upstream]}))
    with Exporter(["--web.listen-address", "127.0.0.1:0"], tmp_path) as running:
        assert running.port
        assert ("may be publish keys" in running.said) == warned
