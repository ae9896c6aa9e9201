"""YAML through libyaml: PyYAML's own parser takes seconds for the larger files of the tests."""

from __future__ import annotations

from typing import Any

import msgspec
import yaml


def parse(text: str) -> Any:
    """Return the content of a YAML document."""
    return yaml.load(text, Loader=yaml.CSafeLoader)


def render(document: Any, *, sort_keys: bool = True) -> str:
    """Return a document as YAML, without line breaks in long texts."""
    return str(yaml.dump(document, Dumper=yaml.CSafeDumper, sort_keys=sort_keys, width=10**6, allow_unicode=True))


def render_quickly(document: Any) -> str:
    """Return a document as JSON, which is YAML too; writing large documents as JSON takes a tenth of the time."""
    return msgspec.json.encode(document).decode()
