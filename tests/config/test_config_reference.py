"""The reference page and the keys of the example agree with the settings classes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from exporter.cli.settings import config_schema
from exporter.config import introspection
from exporter.config.reference import tables, undescribed
from exporter.config.root import Settings, settings_class
from exporter.config.section import Section
from exporter.config.streams import StreamSettings
from exporter.config.upstream import SharedSettings, UpstreamSettings
from exporter.platforms.registry import platforms
from tools.generate import GENERATED, configuration_page, main

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config.example.yaml"


def test_generated_page_is_up_to_date() -> None:
    assert (ROOT / "docs" / "configuration.md").read_text() == configuration_page(), "run: make generate"


def test_generate_writes_the_committed_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in GENERATED:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    main(tmp_path)
    assert capsys.readouterr().out.splitlines() == list(GENERATED)
    written = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(written) == sorted(GENERATED)
    for file in written:
        assert (tmp_path / file).read_text() == (ROOT / file).read_text(), "run: make generate"


def test_every_key_is_described() -> None:
    models: list[type[BaseModel]] = [Settings, *(platform.settings_class for platform in platforms().values())]
    assert [name for model in models for name in undescribed(model)] == []


def sections(annotation: object) -> Iterator[type[BaseModel]]:
    for member in introspection.union_members(annotation):
        if isinstance(member, type) and issubclass(member, BaseModel):
            yield member
            for info in member.model_fields.values():
                yield from sections(introspection.annotation_of(info))
        else:
            for argument in get_args(member):
                yield from sections(argument)


def test_every_section_is_on_the_page_once() -> None:
    documented = Counter(
        table.model for table in tables({name: platform.settings_class for name, platform in platforms().items()})
    )
    # the classes of a load, which are derived from these
    derived = {"Settings": Settings, "Defaults": SharedSettings}
    reachable = {derived.get(model.__name__, model) for model in sections(settings_class(config_schema()))}
    bases: set[type[BaseModel]] = {UpstreamSettings, StreamSettings}
    assert documented == Counter(reachable | bases)
    headings = re.findall("^##.*", configuration_page(), re.MULTILINE)
    assert [heading for heading, count in Counter(headings).items() if count > 1] == []


def keys(annotation: object) -> set[str]:
    """Return patterns of all keys in all mappings; for a secret, any of its spellings matches."""
    found = set()
    for model in sections(annotation):
        secrets = model.secret_fields if issubclass(model, Section) else frozenset()
        found |= {info.alias or name for name, info in model.model_fields.items() if name not in secrets}
        found |= {rf"{name}(_file|_env)?" for name in secrets}
    return found


def places() -> dict[str, list[Path]]:
    """Return the files that may show each key: the example, and the page of the platform that defines it."""
    found = {key: [EXAMPLE] for key in {"for", *keys(settings_class(config_schema()))}}
    for name, platform in platforms().items():
        for key in keys(platform.settings_class) - keys(UpstreamSettings):
            found[key].append(ROOT / "docs" / "platforms" / f"{name}.md")
    return found


@pytest.mark.parametrize(("key", "files"), sorted(places().items()))
def test_every_key_is_shown_in_an_example(key: str, files: list[Path]) -> None:
    text = "\n".join(file.read_text() for file in files)
    shown = re.search(rf"(^|[\s{{-])({key})(:|\b(?=[ ,;]))", text, re.MULTILINE)
    assert shown or key == "discover"
