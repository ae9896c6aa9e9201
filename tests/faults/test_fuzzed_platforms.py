"""Each platform's code over answers that are nearly good, or nothing like it: from the bytes to the exposition.

Whatever comes: a poll that succeeds, or fails with a reason that is not ``internal``; text that can be read, and is
that of the plain rendering; and the next good answer mends everything.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from exporter.model import Reason, UpstreamState
from tests.faults.fuzz_targets import TARGETS, Fuzzed, Target, exposed, fuzzed
from tests.faults.json_mutations import ANYTHING, EDITS, broken, encoded
from tests.real.prometheus import check_metrics

EXAMPLES, EXAMPLES_OF_THE_LONG_RUN = 40, 1000
LINTED = 3
"""promtool reads the last so many texts of each target: a process for every one would be most of the time."""
QUICK = (Phase.explicit, Phase.reuse, Phase.generate)
"""Without making an example smaller, which may take minutes: that is for the long run."""
LONG_SECONDS = 1000.0
"""After which a login that was refused is tried again, and nothing but good answers is left."""


def live(view: UpstreamState) -> set[str]:
    return {state.identity.stream for state in view.streams if state.live}


def bodies(target: Target) -> st.SearchStrategy[dict[str, bytes]]:
    """What to answer in place of one or several good answers."""
    names = st.sampled_from(sorted(target.answers))

    def spoilt(name: str) -> st.SearchStrategy[bytes]:
        good = target.answers[name]
        if isinstance(good, str):
            cut = st.integers(0, len(good))
            return st.tuples(cut, st.text(max_size=20), cut).map(
                lambda parts: (good[: parts[0]] + parts[1] + good[parts[2] :]).encode()
            )
        whole = encoded(good)
        return st.one_of(
            EDITS.map(lambda edits: encoded(broken(good, edits))),
            EDITS.map(lambda edits: encoded(broken(good, edits))),
            ANYTHING.map(encoded),
            st.integers(0, len(whole)).map(lambda end: whole[:end]),
            st.binary(max_size=30),
        )

    one = names.flatmap(lambda name: st.tuples(st.just(name), spoilt(name)))
    return st.lists(one, min_size=1, max_size=3).map(dict)


async def bad_weather(target: Target, first: dict[str, bytes], second: dict[str, bytes]) -> str:
    """Good, two kinds of bad, and good again; gives what was exposed in between."""
    async with fuzzed(target) as (upstream, answering):
        before = await upstream.poll(after=0.0)
        assert before.up
        assert live(before)
        texts = []
        for instead in (first, second):
            answering.instead = instead
            view = await upstream.poll(after=60.0)
            assert view.last_error_reason is not Reason.INTERNAL, view.last_error
            assert view.up is not (view.last_error_reason is not None)
            texts.append(exposed(view))
        answering.instead = {}
        await upstream.poll(after=LONG_SECONDS)
        after = await upstream.poll(after=60.0)
        assert after.up
        assert live(before) <= live(after)
        _no_internal_failure(upstream)
        return texts[-1]


def _no_internal_failure(upstream: Fuzzed) -> None:
    text = upstream.metrics.render().decode()
    failures = re.findall(r'_failures_total\{.*reason="internal".*\} (\S+)', text)
    assert {float(times) for times in failures} <= {0.0}


def fuzz(target: Target, examples: int, phases: Sequence[Phase] = QUICK) -> None:
    texts: deque[str] = deque(maxlen=LINTED)

    @settings(max_examples=examples, deadline=None, phases=phases)
    @given(first=bodies(target), second=bodies(target))
    def run(first: dict[str, bytes], second: dict[str, bytes]) -> None:
        texts.append(asyncio.run(bad_weather(target, first, second)))

    run()
    for text in texts:
        # names of a platform's own are its own affair
        check_metrics(re.sub(r"^(# \w+ )?wave_.*\n", "", text, flags=re.MULTILINE))


@pytest.mark.real
@pytest.mark.no_cover
@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_no_answer_breaks_a_platform(target: Target) -> None:
    fuzz(target, EXAMPLES)


@pytest.mark.soak
@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_no_answer_breaks_a_platform_in_a_long_run(target: Target) -> None:
    fuzz(target, EXAMPLES_OF_THE_LONG_RUN, tuple(Phase))


@pytest.mark.parametrize("instead", [b"{}", b'{"live": {}}'])
async def test_a_stream_that_left_a_list_has_its_end_whatever_the_platform_can_say(instead: bytes) -> None:
    (target,) = (one for one in TARGETS if one.settings["name"] == "version-2")
    async with fuzzed(target) as (upstream, answering):
        await upstream.poll(after=0.0)
        answering.instead = {"GET /api/streams": instead}
        text = exposed(await upstream.poll(after=60.0))
    assert re.search(r'^stream_end_timestamp_seconds\{.*stream="live/test"\} ', text, re.MULTILINE)


@pytest.mark.parametrize("target", TARGETS, ids=str)
async def test_every_answer_that_is_spoilt_is_asked_for(target: Target) -> None:
    """A fuzzer that spoils what nobody reads shows nothing."""
    async with fuzzed(target) as (upstream, answering):
        view: Any = await upstream.poll(after=0.0)
        view = await upstream.poll(after=60.0)
    assert view.up, view.last_error
    assert target.answers.keys() - answering.asked == set()
