"""Each platform module with damaged or unrelated responses, from the bytes to the exposition.

A poll succeeds, or fails with a reason other than ``internal``. The exposition is valid and equals the plain rendering.
The next valid response restores everything.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections import deque
from collections.abc import Sequence

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from exporter.model import Reason, UpstreamState
from exporter.platforms.testing import PolledUpstream
from tests.faults.fuzzed_upstream import exposed, fuzzed
from tests.faults.mutations import spoilt_bodies
from tests.platforms.recordings import MAIN, PlatformRecording, all_recordings, recording_of
from tests.real.prometheus import check_metrics

EXAMPLES, FEWEST_EXAMPLES, EXAMPLES_OF_THE_LONG_RUN = settings().max_examples // 2, 5, 1000
LINTED = 3
"""Number of texts of each recording that promtool checks; a process for every one would take most of the time."""
QUICK = (Phase.explicit, Phase.reuse, Phase.generate)
"""Without shrinking, which may take minutes and is left to the long run."""
LONG_SECONDS = 1000.0
"""Long enough that a refused login is tried again, and that only data from valid responses is left."""


def live(view: UpstreamState) -> set[str]:
    return {state.identity.stream for state in view.streams if state.live}


def silent(view: UpstreamState, recording: PlatformRecording, now: float) -> set[str]:
    """Return the streams whose last sign of life, which recordings do not renew, is older than the platform's limit."""
    limit = recording.platform.heartbeat_limit_seconds or math.inf
    ages = {s.identity.stream: now - (s.report.last_seen_timestamp_seconds or now) for s in view.streams}
    return {label for label, age in ages.items() if age > limit}


def bodies(recording: PlatformRecording) -> st.SearchStrategy[dict[str, bytes]]:
    """Return replacements for one or several valid responses."""
    names = st.sampled_from(sorted(recording.recording.responses))
    one = names.flatmap(lambda name: st.tuples(st.just(name), spoilt_bodies(recording.response(name))))
    return st.lists(one, min_size=1, max_size=3).map(dict)


async def poll_damaged_responses(
    recording: PlatformRecording, first: dict[str, bytes], second: dict[str, bytes]
) -> str:
    """Poll valid, two kinds of damaged, and valid responses again; return what was exposed in between."""
    async with fuzzed(recording) as (upstream, responses):
        before = await upstream.poll()
        assert before.up
        # a recording without rows may have no live stream, like that of a server without streams
        assert live(before) or recording.streams is None
        texts = []
        for instead in (first, second):
            responses.spoil(instead)
            view = await upstream.poll(after=60.0)
            assert view.last_error_reason is not Reason.INTERNAL, view.last_error
            assert view.up is not (view.last_error_reason is not None)
            texts.append(exposed(view))
        responses.spoil({})
        await upstream.poll(after=LONG_SECONDS)
        after = await upstream.poll(after=60.0)
        assert after.up
        assert live(before) <= live(after) | silent(after, recording, upstream.clock.now())
        _no_internal_failure(upstream)
        return texts[-1]


def _no_internal_failure(upstream: PolledUpstream) -> None:
    failures = re.findall(r'_failures_total\{.*reason="internal".*\} (\S+)', upstream.text())
    assert {float(times) for times in failures} <= {0.0}


def fuzz(recording: PlatformRecording, examples: int, phases: Sequence[Phase] = QUICK) -> Sequence[str]:
    """Return the last exposed texts."""
    texts: deque[str] = deque(maxlen=LINTED)

    @settings(max_examples=examples, deadline=None, phases=phases)
    @given(first=bodies(recording), second=bodies(recording))
    def run(first: dict[str, bytes], second: dict[str, bytes]) -> None:
        texts.append(asyncio.run(poll_damaged_responses(recording, first, second)))

    run()
    return texts


def lint(texts: Sequence[str]) -> None:
    """Check texts with promtool."""
    for text in texts:
        # pass-through metrics have the platform's own names
        check_metrics(re.sub(r"^(# \w+ )?wave_.*\n", "", text, flags=re.MULTILINE))


def examples_for(recording: PlatformRecording) -> int:
    """Return fewer examples for further recordings of a platform, which look like its main one."""
    further = [each for each in all_recordings() if each.platform is recording.platform and each.name != MAIN]
    return EXAMPLES if recording.name == MAIN else max(FEWEST_EXAMPLES, EXAMPLES // len(further))


@pytest.mark.real
@pytest.mark.parametrize("recording", all_recordings(), ids=str)
def test_damaged_responses_never_cause_an_internal_error(recording: PlatformRecording) -> None:
    lint(fuzz(recording, examples_for(recording)))


@pytest.mark.soak
@pytest.mark.parametrize("recording", all_recordings(), ids=str)
def test_damaged_responses_never_cause_an_internal_error_in_a_long_run(recording: PlatformRecording) -> None:
    lint(fuzz(recording, EXAMPLES_OF_THE_LONG_RUN, tuple(Phase)))


async def test_stream_missing_from_a_complete_list_has_an_end_time() -> None:
    async with fuzzed(recording_of("node_media_server", "version-2")) as (upstream, responses):
        await upstream.poll()
        responses.spoil({"GET /api/streams": b"{}"})
        text = exposed(await upstream.poll(after=60.0))
    assert re.search(r'^stream_end_timestamp_seconds\{.*stream="live/test"\} ', text, re.MULTILINE)
