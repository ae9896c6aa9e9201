"""A real Prometheus with minutes or hours of data of the demo fleet.

The exporter runs on a fast-forward clock; promtool converts its recorded scrapes to Prometheus blocks.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from exporter.alerting.evaluator import Phase
from exporter.alerting.rules import RULES_BY_NAME
from exporter.service import Service
from tests.dashboards.fast_forward import BEGIN, STEP_SECONDS, fast_forward_run
from tests.real.child_process import Program, responds, running_server
from tests.real.prometheus import Prometheus, promtool
from tests.real.tools import tool

JOB, INSTANCE = "stream-exporter", "exporter:10071"
_ADDED = f'job="{JOB}",instance="{INSTANCE}"'
_SIDECAR_LINES = re.compile(r"^stream_exporter_(?:notifications|webhook|alerts).*$", re.MULTILINE)


@dataclass(frozen=True)
class History:
    """A Prometheus server and the time range of its data."""

    prometheus: Prometheus
    begin: float
    end: float

    @property
    def best_known_streams(self) -> dict[str, str]:
        """Return, by platform, the label of the expected stream with the most series."""
        counted = (
            'count by (platform, stream) ({stream=~".+"}) and on (platform, stream) stream_live == 1 '
            "and on (platform, stream) stream_expected == 1"
        )
        found = self.prometheus.get("query", query=f"sort_desc({counted})", time=self.end)["result"]
        return {series["metric"]["platform"]: series["metric"]["stream"] for series in reversed(found)}


@contextmanager
def history(directory: Path, *, seconds: float, streams: int = 60, sidecar: bool = False) -> Iterator[History]:
    """Run a Prometheus with ``seconds`` of recorded data of the demo fleet.

    Alerts are recorded as if Prometheus had evaluated them; with ``sidecar``, the sidecar's metrics are included.
    """
    file = directory / "history.txt"
    with file.open("w", encoding="utf-8") as out:
        asyncio.run(_record(out, directory, seconds, streams, sidecar=sidecar))
        out.write("# EOF\n")
    blocks = make_blocks(directory, file)
    with serve_blocks(directory, blocks) as prometheus:
        yield History(prometheus, BEGIN, BEGIN + seconds)


def make_blocks(directory: Path, file: Path) -> Path:
    """Convert scrapes written by ``write_scrape``, with a last line ``# EOF``, to blocks; return their folder."""
    blocks = directory / "blocks"
    made = promtool("tsdb", "create-blocks-from", "openmetrics", "--quiet", file, blocks)
    assert made.returncode == 0, made.stderr
    return blocks


@contextmanager
def serve_blocks(directory: Path, blocks: Path, lookback_seconds: float = 1.5 * STEP_SECONDS) -> Iterator[Prometheus]:
    """Run a Prometheus on these blocks, which have no staleness markers, so queries look back only that far."""
    configuration = directory / "reading.yml"
    configuration.write_text("{}")

    def start(port: int) -> Program:
        options = {
            "config.file": configuration,
            "storage.tsdb.path": blocks,
            "storage.tsdb.retention.time": "100y",
            "query.lookback-delta": f"{1000 * lookback_seconds:g}ms",
            "web.listen-address": f"127.0.0.1:{port}",
            "log.level": "warn",
        }
        return Program([tool("prometheus"), *(f"--{name}={value}" for name, value in options.items())], directory)

    with running_server(start, lambda port: responds(f"http://127.0.0.1:{port}/-/ready")) as (program, port):
        yield Prometheus(program, port, directory)


async def _record(out: TextIO, directory: Path, seconds: float, streams: int, *, sidecar: bool) -> None:
    """Record scrapes and alerts, with ``alertmanager:9093`` as the Alertmanager's address."""
    async with fast_forward_run(directory, streams) as run:

        def scrape() -> None:
            began = time.perf_counter()
            text = run.service.exposition.render().decode()
            if not sidecar:
                text = _SIDECAR_LINES.sub("", text)
            scraped_at = run.clock.now()
            text = text.replace(f'"{run.alertmanager.url}"', '"http://alertmanager:9093"')
            write_scrape(out, text, scraped_at, scrape_seconds=time.perf_counter() - began)
            # Prometheus cannot evaluate rules over imported data, so record the sidecar's alerts instead.
            _write_alerts(out, run.service, scraped_at)

        await run.run_for(seconds, each=scrape)


def write_scrape(out: TextIO, exposition: str, at: float, *, scrape_seconds: float) -> None:
    """Write a scrape as Prometheus would store it."""
    samples = 0
    for line in exposition.splitlines():
        if not line or line.startswith("#"):
            continue
        samples += 1
        series, _, value = line.rpartition(" ")
        name, brace, labels = series.partition("{")
        if name == "process_start_time_seconds":
            value = str(BEGIN - 3600)
        out.write(f"{name}{{{_ADDED}{',' + labels if brace else '}'} {value} {at:.3f}\n")
    own = {"up": 1, "scrape_duration_seconds": scrape_seconds, "scrape_samples_scraped": samples}
    out.writelines(f"{name}{{{_ADDED}}} {number} {at:.3f}\n" for name, number in own.items())


def _write_alerts(out: TextIO, service: Service, at: float) -> None:
    """Write the alerts as Prometheus stores the alerts that it evaluates."""
    for alert in service.sidecar.alerts((Phase.PENDING, Phase.FIRING)):
        rule = RULES_BY_NAME[alert.key.rule]
        labels: dict[str, Any] = {
            "alertname": rule.name,
            "job": JOB,
            "platform": alert.platform,
            "scope": rule.scope,
            "severity": alert.key.severity,
            "upstream": alert.key.upstream,
        }
        labels |= {"stream": alert.key.stream} if alert.key.stream else {}
        labels |= dict(zip(rule.labels, alert.key.extra, strict=False)) if rule.labels else {}
        written = ",".join(f"{name}={json.dumps(str(value))}" for name, value in labels.items())
        out.write(f'ALERTS{{alertstate="{alert.phase.value}",{written}}} 1 {at:.3f}\n')
        out.write(f"ALERTS_FOR_STATE{{{written}}} {alert.active_at} {at:.3f}\n")
