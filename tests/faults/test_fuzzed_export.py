"""WAVE's export passed through, with damaged texts: two upstreams with two of them, merged.

``tests/metrics/test_passthrough.py`` generates texts line by line; here, a valid one is cut, spliced and overwritten.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections import deque
from collections.abc import Sequence

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from exporter.metrics.passthrough import parse_passthrough
from exporter.model import PassthroughMetrics, PassthroughText
from tests.faults.test_fuzzed_platforms import QUICK
from tests.metrics.generated_views import rendered, view
from tests.metrics.reference_renderer import render_reference
from tests.metrics.test_passthrough import check
from tests.platforms.recordings import RESPONSES
from tests.real.prometheus import promtool

EXPORT = (RESPONSES / "wave" / "export.txt").read_text()
EXAMPLES, EXAMPLES_OF_THE_LONG_RUN = 150, 20_000
READ_BY_PROMTOOL = 5
FURTHER_LINES = (
    "", "# EOF", "# TYPE streaming_bytes_total gauge", 'streaming_active_streams{platform="x",job="y"} 3',
    "streaming_latency_seconds 1", "# TYPE streaming_latency_seconds_sum summary", "streaming_active_streams NaN",
    "# HELP streaming_latency_seconds Latency.", 'streaming_latency_seconds_bucket{le="0.25",stream_id="str_1"} 9',
)  # fmt: skip
PIECES = st.sampled_from([*'{}"\\,=# \t\r\0é', "_total", "_bucket", "le=", "NaN", "+Inf", "1e999"]) | st.text(
    max_size=5
)
TEXTS = st.tuples(
    st.lists(st.sampled_from((*EXPORT.splitlines(), *FURTHER_LINES)), max_size=15).map("\n".join) | st.just(EXPORT),
    st.lists(st.tuples(st.integers(0, 2000), PIECES, st.integers(0, 20)), max_size=5),
)
"""A text, and the edits: position, replacement, and number of replaced characters."""


def spoilt(text: str, edits: list[tuple[int, str, int]]) -> str:
    for place, piece, length in edits:
        start = place % (len(text) + 1)
        text = text[:start] + piece + text[start + length :]
    return text


def parse(text: str, series: int) -> PassthroughMetrics | None:
    """Return the metrics kept from an export; None if it is refused."""
    with contextlib.suppress(ValueError):
        return parse_passthrough(PassthroughText(text=text, prefix="wave_", max_series=series, stale_at=math.inf))
    return None


def fuzz(examples: int, phases: Sequence[Phase]) -> None:
    texts: deque[str] = deque(maxlen=READ_BY_PROMTOOL)

    @settings(max_examples=examples, deadline=None, phases=phases)
    @given(TEXTS, TEXTS, st.integers(1, 20))
    def run(
        first: tuple[str, list[tuple[int, str, int]]], second: tuple[str, list[tuple[int, str, int]]], series: int
    ) -> None:
        parsed = [metrics for text in (first, second) if (metrics := parse(spoilt(*text), series)) is not None]
        views = [view(platform="wave", upstream=f"wave{index}", passthrough=one) for index, one in enumerate(parsed)]
        assert all(sum(len(family.samples) for family in one.families) <= series for one in parsed)
        if views:
            text = rendered(*views).text.decode()
            assert text == render_reference(views).text
            check(text)
            texts.append(text)

    run()
    assert texts
    for text in texts:
        done = promtool("check", "metrics", text=text)
        # it must be valid; the names are the platform's own
        said = [line for line in (done.stdout + done.stderr).splitlines() if not re.match(r"\S*wave_", line)]
        assert (done.returncode in (0, 3), said) == (True, [])


@pytest.mark.real
def test_damaged_exports_keep_the_exposition_valid() -> None:
    fuzz(EXAMPLES, QUICK)


@pytest.mark.soak
def test_damaged_exports_keep_the_exposition_valid_in_a_long_run() -> None:
    fuzz(EXAMPLES_OF_THE_LONG_RUN, tuple(Phase))
