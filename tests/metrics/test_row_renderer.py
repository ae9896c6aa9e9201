"""The row renderer gives the same text as the column renderer and the reference."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.metrics.families import EXCLUDABLE
from exporter.metrics.families.stream_families import PLATFORM_METRIC, STREAM_FAMILIES
from exporter.metrics.rendering.row_renderer import render_rows
from exporter.model import Analytics, HealthReason, PlatformMetric, Reason, Rendition, UpstreamState
from tests.metrics.generated_views import labelled, rendered, stream, view
from tests.metrics.reference_renderer import render_reference
from tests.metrics.test_exposition_reading import VIEWS, WITH_LABELS

FULL = view(
    stream(
        "main",
        viewers=12,
        ingest_bitrate_bytes_per_second=312500.5,
        ingest_bytes=2**70,
        egress_bytes=float("nan"),
        healthy=True,
        restarts=2,
        health_reasons=tuple(HealthReason),
        health_grade='So "so"',
        health_conditions={"ingest": True, "Transcoding": False},
        renditions=(Rendition("720p", 1.0), Rendition("720p", 2.0), Rendition("480p", float("inf"))),
        platform_metrics=(PlatformMetric("a.b", 1.0), PlatformMetric("a.b", 2.0), PlatformMetric("c", 3.0, "day")),
    ),
    stream("other", live=False, issues=("a", "b")),
    analytics=(
        Analytics(stream="other", period="day", viewers=3, stale_at=math.inf),
        Analytics(stream="main", period="day", platform_metrics=(PlatformMetric("c", 4.0, "day"),), stale_at=math.inf),
        Analytics(stream="main", period="week", viewers=3, stale_at=math.inf),
    ),
    up=False,
    last_error_reason=Reason.TIMEOUT,
    version="1.2",
    poll_interval_seconds=15.0,
)


def without_histograms(view: UpstreamState, **changes: Any) -> UpstreamState:
    """Return the upstream without histograms, which the row renderer does not render."""
    return msgspec.structs.replace(view, sampled=(), **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"streams": FULL.streams[:1]},
        {"streams": ()},
        {"streams": (*FULL.streams, *FULL.streams)},
        {"feeds": frozenset({"viewers", "renditions"})},
        {"excluded": frozenset({"stream_viewers", "stream_health_condition"})},
        {"excluded": frozenset({PLATFORM_METRIC.name})},
        {"excluded": frozenset(family.name for family in STREAM_FAMILIES)},
        {"up": None},
        {"analytics": ()},
    ],
)
def test_rows_equal_columns(changes: dict[str, Any]) -> None:
    shown = without_histograms(FULL, **changes)
    check_rows_equal_columns(shown)
    check_rows_equal_columns(labelled(shown, (("site", 'a"\\b'), ("team", "sports"))))


def check_rows_equal_columns(shown: UpstreamState) -> None:
    expected = rendered(shown).text
    assert render_rows(shown, shown.streams, shown.analytics) == expected
    assert render_rows(shown, shown.streams, shown.analytics) == expected, "differs with a cached frame"


@pytest.mark.parametrize("streams", [1, 2], ids=["cached", "not cached"])
def test_numbers_and_words_may_change_between_calls(streams: int) -> None:
    first, *others = FULL.streams[:streams]
    for facts in (
        {"viewers": 13, "ingest_bitrate_bytes_per_second": 7.5},
        {"viewers": 0, "ingest_bitrate_bytes_per_second": None},
        {"viewers": math.inf, "health_conditions": {"ingest": False, "Transcoding": False}},
        {"health_conditions": {"Transcoding": True}, "health_grade": "ill"},
        {"platform_metrics": (PlatformMetric("c", 5.0, "day"), PlatformMetric("a.b", math.nan))},
        {},
    ):
        state = msgspec.structs.replace(first, report=msgspec.structs.replace(first.report, **facts))
        shown = without_histograms(FULL, streams=(state, *others), analytics=FULL.analytics if others else ())
        assert render_rows(shown, shown.streams, shown.analytics) == rendered(shown).text


def test_only_the_given_streams_are_rendered() -> None:
    text = render_rows(FULL, FULL.streams[1:], ()).decode()
    assert 'stream="other"' in text
    assert 'stream="main"' not in text
    assert (
        'stream_upstream_streams{platform="livepeer",upstream="studio"}'
        in render_rows(without_histograms(FULL, up=True), (), ()).decode()
    )


@pytest.mark.no_cover
@given(VIEWS | WITH_LABELS, st.frozensets(st.sampled_from(EXCLUDABLE), max_size=30))
def test_rows_equal_the_reference(views: tuple[UpstreamState, ...], excluded: frozenset[str]) -> None:
    for one in views:
        shown = without_histograms(one, excluded=excluded)
        assert render_rows(shown, shown.streams, shown.analytics).decode() == render_reference([shown]).text
