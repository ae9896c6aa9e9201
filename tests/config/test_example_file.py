"""``config.example.yaml`` is valid, and so is every block in it that is commented out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import pytest

from exporter.cli.settings import load_settings
from exporter.config.root import Settings
from tests import yaml_text
from tests.config.test_document_examples import create_files

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"
LINES = EXAMPLE.read_text(encoding="utf-8").splitlines()
_COMMENTED = re.compile(r"( *)# ( *(?:- )?(?:\{|[a-z_]+:(?: |$)).*)")
"""A line of YAML in a comment; other comments are sentences."""


def find_blocks() -> list[list[int]]:
    """Return the indices of adjacent lines that are commented out."""
    runs = groupby(range(len(LINES)), lambda index: _COMMENTED.fullmatch(LINES[index]) is not None)
    return [list(indices) for is_commented, indices in runs if is_commented]


BLOCKS = find_blocks()
KEYS = [_COMMENTED.sub(r"\2", LINES[block[0]]).partition(":")[0] for block in BLOCKS]
"""The first key of each block."""


def load(folder: Path, uncommented: Sequence[int] = ()) -> Settings:
    """Load the example with these lines uncommented, in a folder with all files that it names."""
    lines = [_COMMENTED.sub(r"\1\2", line) if index in uncommented else line for index, line in enumerate(LINES)]
    text = "\n".join(lines) + "\n"
    create_files(yaml_text.parse(text), folder)
    for secret in (folder / "secrets").iterdir():
        secret.chmod(0o600)
    file = folder / EXAMPLE.name
    file.write_text(text)
    return load_settings(file, {})


def test_example_is_valid(tmp_path: Path) -> None:
    settings = load(tmp_path)
    platforms = ["livepeer", "storm", "wave", "node_media_server", "nginx_rtmp", "icecast", "hls"]
    assert [upstream.platform for upstream in settings.upstreams] == platforms
    assert settings.warnings == ()


@pytest.mark.parametrize("block", BLOCKS, ids=KEYS)
def test_block_that_is_commented_out_is_valid_and_has_an_effect(tmp_path: Path, block: list[int]) -> None:
    settings = load(tmp_path, block)
    assert settings.warnings == ()
    assert settings != load(tmp_path)


def test_all_blocks_are_valid_together(tmp_path: Path) -> None:
    assert load(tmp_path, [index for block in BLOCKS for index in block]).warnings == ()


def test_every_kind_of_block_is_found() -> None:
    assert {"groups", "webhooks", "maintenance", "labels", "state_dir", "- application", "ca_file"} <= set(KEYS)
