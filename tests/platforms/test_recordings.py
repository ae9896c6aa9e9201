"""Every platform has what the suites and the documents need of it; nothing is left of a platform that is gone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from exporter.platforms.base import Platform
from exporter.platforms.registry import shipped
from tests.faults.fuzzed_upstream import fuzzed
from tests.platforms.recordings import MAIN, RESPONSES, PlatformRecording, all_recordings, main_recordings, recording_of

TESTS = Path(__file__).parent
PAGES = TESTS.parents[1] / "docs" / "platforms"
GUIDE = "docs/development/adding-a-platform.md"
NAMES = {platform.name for platform in shipped()}


def page_of(platform: str) -> str:
    return (PAGES / f"{platform}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(NAMES))
def test_platform_has_a_page_a_test_module_and_a_recording(name: str) -> None:
    missing = [
        wanted
        for wanted, found in {
            f"docs/platforms/{name}.md": (PAGES / f"{name}.md").exists(),
            f"tests/platforms/test_{name}.py": (TESTS / f"test_{name}.py").exists(),
            f"tests/platforms/responses/{name}/{MAIN}.yaml": (RESPONSES / name / f"{MAIN}.yaml").exists(),
        }.items()
        if not found
    ]
    assert missing == [], f"{GUIDE} explains what a platform consists of"


def test_every_page_and_folder_is_of_a_platform() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} == NAMES
    assert {folder.name for folder in RESPONSES.iterdir()} == NAMES


@pytest.mark.parametrize("platform", shipped(), ids=lambda platform: platform.name)
def test_page_of_a_platform_shows_how_it_is_configured(platform: type[Platform[Any]]) -> None:
    assert re.search(rf"\bplatform: {platform.name}\b", page_of(platform.name))


@pytest.mark.parametrize("recording", all_recordings(), ids=str)
async def test_recording_is_polled_well_and_every_response_is_requested(recording: PlatformRecording) -> None:
    """A fuzzer that spoils what is never read shows nothing."""
    async with fuzzed(recording) as (upstream, responses):
        await upstream.poll()
        state = await upstream.poll(after=60.0)
    assert state.up, state.last_error
    assert recording.recording.responses.keys() - responses.requested == set()


@pytest.mark.parametrize("recording", all_recordings(), ids=str)
async def test_page_of_a_platform_names_every_endpoint_that_is_requested(recording: PlatformRecording) -> None:
    async with fuzzed(recording) as (upstream, _):
        await upstream.poll()
        await upstream.poll(after=60.0)
        text = upstream.text()
    endpoints = set(re.findall(r'^stream_upstream_requests_total\{.*request="(.*?)"', text, re.MULTILINE))
    page = page_of(recording.platform.name)
    assert endpoints
    assert {endpoint for endpoint in endpoints if f"`{endpoint}" not in page} == set()


@pytest.mark.parametrize("recording", main_recordings().values(), ids=str)
def test_main_recording_has_live_streams_that_can_be_told_apart(recording: PlatformRecording) -> None:
    if recording.streams is None:
        assert recording.live_labels()
        return
    three = recording.three_streams()
    others = three.without_first().live_labels()
    assert len(three.live_labels()) == 3
    assert len(others) == 2


def test_missing_recording_is_told_with_the_place_where_it_belongs() -> None:
    with pytest.raises(LookupError, match=r"write responses/storm/none\.yaml below tests/platforms"):
        recording_of("storm", "none")


def test_recorded_secrets_are_in_the_responses() -> None:
    for recording in all_recordings():
        bodies = b"".join(recording.response(request).body for request in recording.recording.responses)
        assert all(secret.encode() in bodies for secret in recording.secrets)
