"""A real Alertmanager."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.real.child_process import Program, request_json, responds, running_server
from tests.real.tools import tool

SILENT = """
route: {receiver: nobody, group_wait: 0s, group_interval: 1s}
receivers: [{name: nobody}]
"""


class Alertmanager:
    """A server shared by the tests, which set their own configuration and distinguish their alerts by labels."""

    def __init__(self, program: Program, port: int, configuration: Path) -> None:
        self.program = program
        self.address = f"127.0.0.1:{port}"
        self.url = f"http://{self.address}"
        self._configuration = configuration

    @contextmanager
    def configured(self, text: str) -> Iterator[None]:
        """Use another configuration (YAML) within the block."""
        self._load(text)
        try:
            yield
        finally:
            self._load(SILENT)

    def alerts(self, *matchers: str) -> list[dict[str, Any]]:
        """Return its alerts by matchers such as ``alertname="X"``, including silenced and inhibited ones."""
        found: list[dict[str, Any]] = request_json(
            f"{self.url}/api/v2/alerts?{urlencode({'filter': matchers}, doseq=True)}"
        )
        return found

    def _load(self, text: str) -> None:
        self._configuration.write_text(text)
        request_json(f"{self.url}/-/reload", method="POST")


@contextmanager
def running_alertmanager(directory: Path) -> Iterator[Alertmanager]:
    configuration = directory / "alertmanager.yml"
    configuration.write_text(SILENT)

    def start(port: int) -> Program:
        options = {
            "config.file": configuration,
            "storage.path": directory / "data",
            "web.listen-address": f"127.0.0.1:{port}",
            "web.external-url": f"http://127.0.0.1:{port}",
            "cluster.listen-address": "",
            "log.level": "warn",
        }
        return Program([tool("alertmanager"), *(f"--{name}={value}" for name, value in options.items())], directory)

    with running_server(start, lambda port: responds(f"http://127.0.0.1:{port}/-/ready")) as (program, port):
        yield Alertmanager(program, port, configuration)
