"""Every example of a configuration in the documents is valid."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from exporter.cli.settings import load_settings
from exporter.config.root import Settings
from tests import yaml_text
from tests.real.prometheus import promtool

ROOT = Path(__file__).parents[2]
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
_EXAMPLE = re.compile(r"^( *)```yaml\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
CONTENTS = {
    "calendar_file": "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//test//EN\r\nEND:VCALENDAR\r\n",
    "sessions_file": "sess_1234_abc123_other\n",
}
"""Contents of files that are not secrets, by the key that names them."""
OTHERS = {
    "recorded_at": "a recording: tests/platforms/test_recordings.py",
    "tls_server_config": "a web configuration: tests/web/test_web_config.py",
    "matchers": "routes of Alertmanager: tests/alerting/test_alertmanager_example.py",
}
"""First keys of examples that are not configurations of the exporter or of Prometheus."""


def all_examples() -> list[Any]:
    """Return the parsed examples, each with the place where it is."""
    found = []
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for match in _EXAMPLE.finditer(text):
            place = f"{document.relative_to(ROOT)}:{text[: match.start()].count(chr(10)) + 1}"
            lines = [line.removeprefix(match[1]) for line in match[2].splitlines()]
            found.append(pytest.param("\n".join(lines) + "\n", id=place))
    return found


def first_key(text: str) -> str:
    data = yaml_text.parse(text)
    return str(next(iter(data[0] if isinstance(data, list) else data)))


EXAMPLES = all_examples()
OF_PROMETHEUS = [each for each in EXAMPLES if first_key(each.values[0]) in ("scrape_configs", "rule_files")]
OF_THE_EXPORTER = [each for each in EXAMPLES if first_key(each.values[0]) in Settings.model_fields]


def test_every_example_is_of_a_known_kind() -> None:
    others = [each for each in EXAMPLES if each not in OF_PROMETHEUS and each not in OF_THE_EXPORTER]
    assert {first_key(each.values[0]) for each in others} == OTHERS.keys()
    assert OF_PROMETHEUS
    assert OF_THE_EXPORTER


def create_files(data: Any, folder: Path) -> None:
    """Create the files that an example refers to."""
    if isinstance(data, list):
        for item in data:
            create_files(item, folder)
    for key, value in data.items() if isinstance(data, dict) else ():
        if key.endswith("_file"):
            content = "https://example.com/path" if key.endswith("url_file") else "a-long-secret"
            file = folder / value
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(CONTENTS.get(key, content))
        create_files(value, folder)


@pytest.mark.parametrize("text", OF_THE_EXPORTER)
def test_example_configuration_is_valid(text: str, tmp_path: Path) -> None:
    data = yaml_text.parse(text)
    create_files(data, tmp_path)
    if "upstreams" not in data:
        # the example shows another section
        upstream = {"name": "wave", "platform": "wave", "auth": {"bearer_token": "a-long-secret"}, "sessions": ["one"]}
        text += yaml_text.render({"upstreams": [upstream | {"url": "http://127.0.0.1:1"}]})
    file = tmp_path / "config.yaml"
    file.write_text(text)
    settings = load_settings(file, {})
    assert [warning for warning in settings.warnings if "readable by every user" not in warning] == []


@pytest.mark.real
@pytest.mark.parametrize("text", OF_PROMETHEUS)
def test_example_configuration_of_prometheus_is_valid(text: str, tmp_path: Path) -> None:
    file = tmp_path / "prometheus.yml"
    file.write_text(text)
    done = promtool("check", "config", "--syntax-only", file)
    assert done.returncode == 0, done.stdout + done.stderr
