"""Each recorded response of some platforms yields exactly the committed text.

The texts are next to the recordings and the broken responses. ``python -m tests.platforms.test_golden_texts`` writes
them again; review what changed. Recordings in the folder ``further`` take part only here, because the suites for faults
and fuzzing would learn nothing new from them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from exporter.platforms.registry import platforms
from exporter.platforms.testing import RecordedResponse, Recording, expose
from tests.platforms.recordings import MAIN, RESPONSES

BROKEN, FURTHER = "broken", "further"
"""Folders with responses that no recording can have, because their poll fails, and with further recordings."""
PLATFORMS = sorted(folder.parent.name for folder in RESPONSES.glob(f"*/{FURTHER}"))
_LEFT_OUT = re.compile(
    r"# |stream_upstream_(info|request|poll|stream_failures|duplicate|last_success|streams_dropped|clock_skew)"
)
"""Lines without meaning for a single poll, or with the port of the test's server."""
_FAILURE = re.compile(r"stream_upstream_poll_failures_total\{.* 1\.0$")


def cases() -> Iterator[tuple[str, Path]]:
    """Yield the platforms' recordings and broken responses."""
    for platform in PLATFORMS:
        folder = RESPONSES / platform
        yield from ((platform, file) for file in sorted(folder.rglob("*.yaml")))
        yield from ((platform, file) for file in sorted((folder / BROKEN).glob("*")) if file.suffix != ".txt")


def golden_file(file: Path) -> Path:
    return file.with_name(f"{file.name if file.parent.name == BROKEN else file.stem}.txt")


def exposed(platform: str, file: Path) -> str:
    """Return the sample lines of a poll."""
    if file.parent.name == BROKEN:
        main = yaml.safe_load((file.parents[1] / f"{MAIN}.yaml").read_text())
        recording = Recording({request: RecordedResponse.from_file(file) for request in main["responses"]})
    else:
        recording = Recording.from_file(file)
    lines = expose(platforms()[platform], recording).splitlines()
    kept = [line for line in lines if _FAILURE.match(line) or not _LEFT_OUT.match(line)]
    return "\n".join(kept) + "\n"


@pytest.mark.parametrize(("platform", "file"), list(cases()), ids=lambda value: getattr(value, "name", value))
def test_recorded_response_yields_the_committed_text(platform: str, file: Path) -> None:
    assert exposed(platform, file) == golden_file(file).read_text(encoding="utf-8")


def test_every_text_belongs_to_a_response() -> None:
    texts = {text for platform in PLATFORMS for text in (RESPONSES / platform).rglob("*.txt")}
    assert texts - {golden_file(file) for _, file in cases()} == set()


if __name__ == "__main__":
    for platform, file in cases():
        golden_file(file).write_text(exposed(platform, file), encoding="utf-8")
