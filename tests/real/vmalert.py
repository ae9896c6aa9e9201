"""A real VictoriaMetrics, and a real vmalert that evaluates rules against it."""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.real.child_process import GENEROUS_SECONDS, Program, request_json, responds, running_server
from tests.real.tools import tool, tool_version

Sample = tuple[dict[str, str], float]

INTERVAL = "1s"
"""Seconds between scrapes and between evaluations; vmalert's timestamps are in whole seconds."""
_NUMBER = re.compile(r"\d+")


class VictoriaMetrics:
    """A single-node server that scrapes one target."""

    def __init__(self, program: Program, url: str) -> None:
        self.program = program
        self.url = url

    def query(self, expression: str) -> list[Sample]:
        """Run an instant query; return labels and value of each series."""
        answer = request_json(f"{self.url}/api/v1/query?{urlencode({'query': expression})}")
        return [(item["metric"], float(item["value"][1])) for item in answer["data"]["result"]]


class Vmalert:
    """A running vmalert."""

    def __init__(self, program: Program, url: str) -> None:
        self.program = program
        self.url = url

    def alerts(self) -> list[dict[str, Any]]:
        """Return the pending and firing alerts, with labels and annotations."""
        found: list[dict[str, Any]] | None = request_json(f"{self.url}/api/v1/alerts")["data"]["alerts"]
        return found or []

    def rule_errors(self) -> dict[str, str]:
        """Return the last errors by rule name; empty if every rule was evaluated without an error."""
        groups = request_json(f"{self.url}/api/v1/rules")["data"]["groups"]
        return {rule["name"]: rule["lastError"] for group in groups for rule in group["rules"] if rule["lastError"]}


@contextmanager
def running_victoria_metrics(directory: Path, job: str, target: str) -> Iterator[VictoriaMetrics]:
    """Run a server that scrapes ``host:port`` as ``job`` every second."""
    configuration = directory / "scrape.yml"
    scrape = {"job_name": job, "static_configs": [{"targets": [target]}]}
    times = {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL}
    configuration.write_text(json.dumps({"scrape_configs": [scrape | times]}))

    def start(port: int) -> Program:
        options = {
            "storageDataPath": directory / "data",
            "httpListenAddr": f"127.0.0.1:{port}",
            "promscrape.config": configuration,
            "retentionPeriod": "1d",
            # with the default of 30 s, rules that use another rule's result would be half a minute late
            "search.latencyOffset": "0s",
            "memory.allowedBytes": "64MB",
            "loggerLevel": "WARN",
        }
        return Program([tool("victoria-metrics"), *_flags(options)], directory)

    with running_server(start, lambda port: responds(f"http://127.0.0.1:{port}/health")) as (program, port):
        yield VictoriaMetrics(program, f"http://127.0.0.1:{port}")


@contextmanager
def running_vmalert(
    directory: Path, rules: Path, victoria_metrics: VictoriaMetrics, alertmanager_url: str
) -> Iterator[Vmalert]:
    """Run a vmalert that evaluates the files in ``rules`` every second and keeps its state in VictoriaMetrics."""

    def start(port: int) -> Program:
        options = {
            "rule": rules / "*.yaml",
            "datasource.url": victoria_metrics.url,
            "remoteRead.url": victoria_metrics.url,
            "remoteWrite.url": victoria_metrics.url,
            "remoteWrite.flushInterval": "100ms",
            "notifier.url": alertmanager_url,
            "evaluationInterval": INTERVAL,
            "httpListenAddr": f"127.0.0.1:{port}",
            "loggerLevel": "WARN",
        }
        return Program([tool("vmalert"), *_flags(options)], directory)

    with running_server(start, lambda port: responds(f"http://127.0.0.1:{port}/health")) as (program, port):
        yield Vmalert(program, f"http://127.0.0.1:{port}")


def dry_run(rules: Path) -> subprocess.CompletedProcess[str]:
    """Let vmalert check the rule files in a folder, including expressions and templates."""
    return subprocess.run(
        [tool("vmalert"), "-dryRun", f"-rule={rules / '*.yaml'}", "-loggerLevel=WARN"],
        capture_output=True,
        text=True,
        check=False,
        timeout=GENEROUS_SECONDS,
    )


def vmalert_version() -> tuple[int, ...]:
    """Return the version of the tests' vmalert."""
    return tuple(map(int, _NUMBER.findall(tool_version("vmalert"))))


def _flags(options: dict[str, Any]) -> list[str]:
    return [f"-{name}={value}" for name, value in options.items()]
