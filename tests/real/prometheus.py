"""A real Prometheus and its promtool."""

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.real.child_process import GENEROUS_SECONDS, Program, request_json, responds, running_server, wait_until
from tests.real.tools import tool

Sample = tuple[dict[str, str], float]


class Prometheus:
    """One server per test session; tests distinguish their series by their own job."""

    def __init__(self, program: Program, port: int, directory: Path) -> None:
        self.program = program
        self.url = f"http://127.0.0.1:{port}"
        self._directory = directory
        self._jobs: dict[str, Mapping[str, Any]] = {}
        self._rule_files: tuple[Path, ...] = ()
        self._alertmanagers: tuple[str, ...] = ()

    @contextmanager
    def scraping(self, job: str, target: str, *, interval: str = "1s", **settings: Any) -> Iterator[None]:
        """Scrape ``host:port`` as a job, which takes about 5 s to start; ``settings``: those of a scrape_config."""
        static = (
            {} if any(key.endswith("_sd_configs") for key in settings) else {"static_configs": [{"targets": [target]}]}
        )
        times = {"scrape_interval": interval, "scrape_timeout": interval}
        self._jobs[job] = {"job_name": job, **times, **static, **settings}
        self.reload()
        try:
            yield
        finally:
            del self._jobs[job]
            self.reload()

    @contextmanager
    def evaluating(self, *rule_files: Path, alertmanagers: Sequence[str] = ()) -> Iterator[None]:
        """Evaluate the rules of these files every second; ``alertmanagers``: ``host:port``."""
        self._rule_files, self._alertmanagers = rule_files, tuple(alertmanagers)
        self.reload()
        try:
            yield
        finally:
            self._rule_files, self._alertmanagers = (), ()
            self.reload()

    def reload(self) -> None:
        write_configuration(self._directory, list(self._jobs.values()), self._rule_files, self._alertmanagers)
        request_json(f"{self.url}/-/reload", method="POST")

    def query(self, expression: str) -> list[Sample]:
        """Run an instant query; return labels and value of each series."""
        data = self.get("query", query=expression)
        return [(item["metric"], float(item["value"][1])) for item in data["result"]]

    def value(self, expression: str) -> float | None:
        """Return the value of the only series of an expression; None if it has none."""
        samples = self.query(expression)
        assert len(samples) < 2, f"{expression} has several series: {[labels for labels, _ in samples]}"
        return samples[0][1] if samples else None

    def get(self, path: str, **params: Any) -> Any:
        """Return the ``data`` of a response below ``/api/v1``."""
        return request_json(f"{self.url}/api/v1/{path}?{urlencode(params, doseq=True)}")["data"]

    def wait_for(self, expression: str, seconds: float = GENEROUS_SECONDS) -> list[Sample]:
        """Wait until an expression has a result, and return it."""
        return wait_until(
            lambda: self.query(expression) or None,
            f"{expression} has a result",
            seconds,
            otherwise=self.state_of_targets,
        )

    def state_of_targets(self) -> str:
        """Return the state of the targets for the message of a test that timed out."""
        targets = self.get("targets", state="active")["activeTargets"]
        lines = [f"{t['labels']['job']} {t['scrapeUrl']} {t['health']} {t['lastError']}" for t in targets]
        return "\n".join(lines + self.program.said.splitlines()[-20:])


@contextmanager
def running_prometheus(directory: Path) -> Iterator[Prometheus]:
    configuration = write_configuration(directory, [])

    def start(port: int) -> Program:
        options = {
            "config.file": configuration,
            "storage.tsdb.path": directory / "tsdb",
            "web.listen-address": f"127.0.0.1:{port}",
            "web.external-url": f"http://127.0.0.1:{port}",
            "rules.alert.resend-delay": "1s",
            "log.level": "warn",
        }
        flags = [f"--{name}={value}" for name, value in options.items()]
        return Program([tool("prometheus"), *flags, "--web.enable-lifecycle"], directory, name="prometheus")

    with running_server(start, lambda port: responds(f"http://127.0.0.1:{port}/-/ready")) as (program, port):
        yield Prometheus(program, port, directory)


def write_configuration(
    directory: Path,
    jobs: list[Mapping[str, Any]],
    rule_files: Sequence[Path] = (),
    alertmanagers: Sequence[str] = (),
) -> Path:
    """Write the configuration as JSON, which is also YAML."""
    path = directory / "prometheus.yml"
    configuration = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "scrape_configs": jobs,
        "rule_files": [str(file) for file in rule_files],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": list(alertmanagers)}]}]},
    }
    path.write_text(json.dumps(configuration))
    return path


def promtool(*arguments: str | Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run promtool; ``text`` is its standard input."""
    return subprocess.run(
        [tool("promtool"), *arguments],
        input=text or "",
        capture_output=True,
        text=True,
        check=False,
        timeout=GENEROUS_SECONDS,
    )


def check_metrics(exposition: str) -> None:
    """Assert that promtool's linter reports nothing."""
    done = promtool("check", "metrics", text=exposition)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
