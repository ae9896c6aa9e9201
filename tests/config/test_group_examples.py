"""The examples of groups in the documents are valid, and do what the documents say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from exporter.cli.settings import load_settings
from exporter.config.root import Settings
from exporter.metrics.text_format import label_value

ROOT = Path(__file__).parents[2]


def section(heading: str) -> str:
    text = (ROOT / "docs" / "alerting.md").read_text()
    return re.split(r"^## ", text.partition(f"\n## {heading}\n")[2], flags=re.MULTILINE)[0]


EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", section("Groups"), re.MULTILINE | re.DOTALL)


def load(text: str, folder: Path) -> Settings:
    file = folder / "config.yaml"
    file.write_text(text)
    return load_settings(file, {})


@pytest.mark.parametrize(("index", "name", "needed", "streams"), [(0, "final", 1, 2), (1, "news", 2, 3)])
def test_example_is_valid_and_names_configured_streams(
    index: int, name: str, needed: int, streams: int, tmp_path: Path
) -> None:
    settings = load(EXAMPLES[index], tmp_path)
    (group,) = settings.groups
    assert (group.name, group.needed, len(group.streams)) == (name, needed, streams)
    configured = {
        (upstream.name, label_value(stream.name or stream.id))
        for upstream in settings.upstreams
        for stream in upstream.configured_streams()
    }
    assert {(member.upstream, label_value(member.stream)) for member in group.streams} == configured
    assert settings.warnings == ()


def test_all_examples_are_tested() -> None:
    assert len(EXAMPLES) == 2
