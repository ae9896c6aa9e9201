"""Platforms that echo what they were sent in every text of every recorded response; no secret must be stored."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from exporter.platforms.testing import PolledUpstream
from exporter.runtime.redaction import HIDDEN
from tests.faults.echoed_responses import EVERYTHING, NAMES, echoed, text_fields, with_secrets
from tests.faults.fuzzed_upstream import fuzzed
from tests.platforms.recordings import PlatformRecording, all_recordings

SECRET = "canary/Secret+of-a-platform"
ENCODED = base64.b64encode(SECRET.encode()).decode()
ECHO = f"{SECRET} {ENCODED}"


def recording_with(recording: PlatformRecording, secret: str) -> PlatformRecording:
    settings = with_secrets(recording.recording.settings, secret)
    return replace(recording, recording=replace(recording.recording, settings=settings))


async def echo_everywhere(recording: PlatformRecording, echo: str) -> list[str]:
    """Return everything stored and served about the upstream while one field after another echoes."""
    shown: list[str] = []
    async with fuzzed(recording) as (upstream, responses):
        assert (await upstream.poll()).up
        for field in (*text_fields(recording), NAMES, EVERYTHING):
            requests = recording.recording.responses
            responses.spoil({request: echoed(recording.response(request), field, echo) for request in requests})
            shown.append(await everything(upstream))
    return shown


async def everything(upstream: PolledUpstream) -> str:
    """Return the state (as its repr) and the exposition after one more poll."""
    state = await upstream.poll(after=60.0)
    return f"{state!r}\n{upstream.text()}"


RECORDINGS = [
    found for found in all_recordings() if with_secrets(found.recording.settings, SECRET) != found.recording.settings
]
"""The recordings of platforms that use a secret."""


@pytest.mark.parametrize("recording", RECORDINGS, ids=str)
async def test_echoed_secret_is_in_no_state_and_no_metric(recording: PlatformRecording) -> None:
    shown = await echo_everywhere(recording_with(recording, SECRET), ECHO)
    leaks = [text for text in shown if SECRET.lower() in text.lower() or ENCODED.lower() in text.lower()]
    assert leaks == []
    assert any(HIDDEN in text for text in shown)


@pytest.mark.parametrize("recording", [found for found in all_recordings() if found.login], ids=str)
async def test_echoed_login_token_is_in_no_state_and_no_metric(recording: PlatformRecording) -> None:
    assert recording.login is not None
    token = "canary-token-of-a-login"
    response = recording.response(recording.login.request).with_values({recording.login.token: token})
    logged_in = recording.with_bodies({recording.login.request: response.body})
    shown = await echo_everywhere(recording_with(logged_in, SECRET), token)
    assert [text for text in shown if token in text] == []
    assert any(HIDDEN in text for text in shown)
