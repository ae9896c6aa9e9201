"""Every platform has a page, a test module and usable recordings; there are no leftovers of other platforms."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from exporter.platforms.base import Platform
from exporter.platforms.registry import shipped
from tests.faults.fuzzed_upstream import fuzzed
from tests.platforms.recordings import (
    MAIN,
    RESPONSES,
    PlatformRecording,
    all_recordings,
    main_recordings,
    recorded_platforms,
    recording_of,
)

TESTS = Path(__file__).parent
PAGES = TESTS.parents[1] / "docs" / "platforms"
GUIDE = "docs/development/adding-a-platform.md"
NAMES = {platform.name for platform in shipped()}
RECORDED = {platform.name for platform in recorded_platforms()}


def page_of(platform: str) -> str:
    return (PAGES / f"{platform}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(NAMES))
def test_platform_has_a_page_a_test_module_and_a_recording(name: str) -> None:
    missing = [
        wanted
        for wanted, found in {
            f"docs/platforms/{name}.md": (PAGES / f"{name}.md").exists(),
            f"tests/platforms/test_{name}.py, or a folder {name}": (
                (TESTS / f"test_{name}.py").exists() or (TESTS / name).is_dir()
            ),
            f"tests/platforms/responses/{name}/{MAIN}.yaml": (
                name not in RECORDED or (RESPONSES / name / f"{MAIN}.yaml").exists()
            ),
        }.items()
        if not found
    ]
    assert missing == [], f"{GUIDE} explains what a platform consists of"


def test_pages_and_response_folders_match_the_platforms() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} == NAMES
    assert {folder.name for folder in RESPONSES.iterdir()} == RECORDED


@pytest.mark.parametrize("platform", shipped(), ids=lambda platform: platform.name)
def test_page_shows_the_platforms_configuration(platform: type[Platform[Any]]) -> None:
    assert re.search(rf"\bplatform: {platform.name}\b", page_of(platform.name))


@pytest.mark.parametrize("recording", all_recordings(), ids=str)
async def test_poll_of_recording_succeeds_and_requests_every_response(recording: PlatformRecording) -> None:
    """Fuzzing a response that is never requested would test nothing."""
    async with fuzzed(recording) as (upstream, responses):
        await upstream.poll()
        state = await upstream.poll(after=60.0)
    assert state.up, state.last_error
    assert recording.recording.responses.keys() - responses.requested == set()


@pytest.mark.parametrize("recording", all_recordings(), ids=str)
async def test_page_names_every_requested_endpoint(recording: PlatformRecording) -> None:
    async with fuzzed(recording) as (upstream, _):
        await upstream.poll()
        await upstream.poll(after=60.0)
        text = upstream.text()
    endpoints = set(re.findall(r'^stream_upstream_requests_total\{.*request="(.*?)"', text, re.MULTILINE))
    page = page_of(recording.platform.name)
    assert endpoints
    assert {endpoint for endpoint in endpoints if f"`{endpoint}" not in page} == set()


@pytest.mark.parametrize("recording", main_recordings().values(), ids=str)
def test_streams_of_main_recording_are_live_and_distinguishable(recording: PlatformRecording) -> None:
    if recording.streams is None:
        assert recording.live_labels()
        return
    three = recording.three_streams()
    others = three.without_first().live_labels()
    assert len(three.live_labels()) == 3
    assert len(others) == 2


def test_missing_recording_error_names_the_file_to_write() -> None:
    with pytest.raises(LookupError, match=r"write responses/storm/none\.yaml below tests/platforms"):
        recording_of("storm", "none")


def test_declared_secrets_occur_in_the_responses() -> None:
    for recording in all_recordings():
        bodies = b"".join(recording.response(request).body for request in recording.recording.responses)
        assert all(secret.encode() in bodies for secret in recording.secrets)
