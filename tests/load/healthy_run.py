"""A healthy fleet with everyday failures, monitored by real programs that can be restarted together."""

from __future__ import annotations

import json
import random
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError
from urllib.request import urlopen

import yaml

from tests.exporter_process import Exporter
from tests.real.alertmanager import running_alertmanager
from tests.real.child_process import Program, responds, running_server, wait_until
from tests.real.prometheus import Prometheus
from tests.real.tools import tool

ALERTS: Final = Path(__file__).parents[2] / "alerts"
SCRAPE_SECONDS: Final = 15
PROMETHEUS: Final = "prometheus"
SIDECAR: Final = "sidecar"


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the base class's name
        """Log nothing."""


@contextmanager
def _serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve on a free port of the loopback and yield ``host:port``."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@dataclass
class ScrapeProxy:
    """A proxy between Prometheus and the exporter, whose port may change; it drops a share of the scrapes."""

    lost_share: float
    seed: int
    address: str = ""
    target: str = ""
    """URL of the exporter."""
    passed: int = 0
    lost: int = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Serve within the block."""
        proxy = self
        chance = random.Random(self.seed)

        class Handler(_Handler):
            def do_GET(self) -> None:
                if chance.random() < proxy.lost_share:
                    proxy.lost += 1
                    self.close_connection = True
                    return
                try:
                    with urlopen(f"{proxy.target}{self.path}", timeout=SCRAPE_SECONDS) as response:
                        body, content_type = response.read(), response.headers["Content-Type"]
                except URLError:
                    self.send_error(502)
                    return
                proxy.passed += 1
                self.send_response(200)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        with _serving(Handler) as self.address:
            yield


@dataclass
class Receiver:
    """An Alertmanager webhook that records every firing alert."""

    address: str = ""
    fired: dict[str, dict[str, str]] = field(default_factory=dict)
    """Labels of the alerts, without duplicates."""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Serve within the block."""
        receiver = self

        class Handler(_Handler):
            def do_POST(self) -> None:
                notification = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                for alert in notification["alerts"]:
                    if alert["status"] == "firing":
                        receiver.fired[json.dumps(alert["labels"], sort_keys=True)] = alert["labels"]
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

        with _serving(Handler) as self.address:
            yield

    def found(self, evaluator: str, severity: str) -> list[Mapping[str, str]]:
        """Return the labels of all alerts so far from this evaluator with this severity."""
        return [
            labels
            for labels in list(self.fired.values())
            if labels["severity"] == severity and labels.get("evaluator", SIDECAR) == evaluator
        ]

    def names(self, evaluator: str, severity: str) -> list[str]:
        return sorted({labels["alertname"] for labels in self.found(evaluator, severity)})

    @property
    def configuration(self) -> str:
        """Return Alertmanager's configuration: everything is sent to the receiver, nothing is inhibited."""
        route = {
            "receiver": "everything",
            "group_by": ["..."],
            "group_wait": "1s",
            "group_interval": "10s",
            "repeat_interval": "4h",
        }
        webhook = {"url": f"http://{self.address}/", "send_resolved": False}
        return yaml.safe_dump({"route": route, "receivers": [{"name": "everything", "webhook_configs": [webhook]}]})


@contextmanager
def running_flaky_simulator(directory: Path, streams: int, failed_share: float, seed: int) -> Iterator[str]:
    """Run a simulator that fails a share of its requests, and yield its URL."""
    options = ["--streams", str(streams), "--share", str(failed_share), "--seed", str(seed)]
    command = [sys.executable, "-m", "tests.request_failures", *options, "--port"]

    def start(port: int) -> Program:
        # the tests are not an installed package, so start from the parent folder
        return Program(["env", f"PYTHONPATH={ALERTS.parent}", *command, str(port)], directory, name="simulator")

    with running_server(start, lambda port: responds(f"http://127.0.0.1:{port}/faults")) as (_, port):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def running_programs(
    directory: Path, configuration: dict[str, Any], proxy: ScrapeProxy, receiver: Receiver
) -> Iterator[tuple[Exporter, Prometheus]]:
    """Run exporter, Prometheus and Alertmanager; a later run in the same directory continues with their data.

    At the end, the exporter gets SIGTERM, the others get SIGKILL.
    """
    folders = [directory / name for name in ("exporter", "prometheus", "alertmanager")]
    for folder in folders:
        folder.mkdir(exist_ok=True)
    with running_alertmanager(folders[2]) as alertmanager, alertmanager.configured(receiver.configuration):
        alerting = {"alertmanagers": [{"url": alertmanager.url}], "state_file": "alerts.json"}
        (folders[0] / "config.yaml").write_text(yaml.safe_dump({**configuration, "alerting": alerting}))
        with Exporter(["--web.listen-address=127.0.0.1:0"], folders[0], measured=False) as exporter:
            proxy.target = f"http://127.0.0.1:{exporter.port}"
            wait_until(lambda: responds(f"{proxy.target}/-/ready"), "all upstreams are polled", 120)
            with _running_prometheus(folders[1], proxy.address, [alertmanager.address]) as prometheus:
                yield exporter, prometheus
            exporter.send(signal.SIGTERM)
            assert exporter.ended() == 0


@contextmanager
def _running_prometheus(directory: Path, target: str, alertmanagers: Sequence[str]) -> Iterator[Prometheus]:
    """Run Prometheus with the committed rules; only its alerts have the label ``evaluator``."""
    seconds = f"{SCRAPE_SECONDS}s"
    configuration = {
        "global": {
            "scrape_interval": seconds,
            "evaluation_interval": seconds,
            "external_labels": {"evaluator": PROMETHEUS},
        },
        "scrape_configs": [{"job_name": "stream-exporter", "static_configs": [{"targets": [target]}]}],
        "rule_files": [str(file) for file in sorted(ALERTS.glob("stream-*.yaml"))],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": list(alertmanagers)}]}]},
    }
    file = directory / "prometheus.yml"
    file.write_text(yaml.safe_dump(configuration))

    def start(port: int) -> Program:
        flags = [
            f"--config.file={file}",
            f"--storage.tsdb.path={directory / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ]
        return Program([tool("prometheus"), *flags], directory, name="prometheus")

    with running_server(start, lambda port: responds(f"http://127.0.0.1:{port}/-/ready")) as (program, port):
        yield Prometheus(program, port, directory)
