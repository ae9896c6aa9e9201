from __future__ import annotations

from itertools import accumulate

import pytest

from exporter.metrics.families.stream_families import HEALTH_SCORE, INGEST_BITRATE, LATENCY
from exporter.model import SampledHistogram, Status
from exporter.polling.histograms import PollHistograms
from tests.metrics.generated_views import rendered, stream, view


def poll_histograms(*, per_stream: bool = False) -> PollHistograms:
    return PollHistograms(platform="livepeer", upstream="studio", per_stream=per_stream)


def snapshot_of(histograms: PollHistograms, family: str) -> list[SampledHistogram]:
    return [h for h in histograms.snapshot() if h.family == family]


def test_live_stream_is_observed_once_in_each_histogram() -> None:
    histograms = poll_histograms()
    facts = {"ingest_bitrate_bytes_per_second": 312500.0, "latency_seconds": 2.5, "health_score_ratio": 0.96}
    histograms.observe([stream(protocol="srt", **facts)])  # type: ignore[arg-type]
    (bitrate,) = snapshot_of(histograms, INGEST_BITRATE.name)
    (latency,) = snapshot_of(histograms, LATENCY.name)
    (health,) = snapshot_of(histograms, HEALTH_SCORE.name)
    assert [h.sum for h in (bitrate, latency, health)] == [312500.0, 2.5, 0.96]
    assert [h.counts.index(1) for h in (bitrate, latency, health)] == [5, 5, 8]
    assert {h.protocol for h in (bitrate, latency, health)} == {"srt"}


@pytest.mark.parametrize("upper", HEALTH_SCORE.bounds)
def test_value_equal_to_a_bound_counts_in_its_bucket(upper: float) -> None:
    histograms = poll_histograms()
    histograms.observe([stream(health_score_ratio=upper)])
    (health,) = histograms.snapshot()
    assert list(accumulate(health.counts))[HEALTH_SCORE.bounds.index(upper)] == 1


def test_value_above_all_bounds_counts_in_the_infinite_bucket() -> None:
    histograms = poll_histograms()
    histograms.observe([stream(latency_seconds=61.0)])
    (latency,) = histograms.snapshot()
    assert latency.counts == (0,) * 12 + (1,)


def test_unknown_values_are_not_observed() -> None:
    histograms = poll_histograms()
    histograms.observe([stream()])
    histograms.observe([stream(live=None, expected=True)])
    assert histograms.snapshot() == ()


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_negative_and_infinite_values_are_not_observed(value: float) -> None:
    histograms = poll_histograms()
    histograms.observe([stream(latency_seconds=value)])
    assert histograms.snapshot() == ()


def test_expected_stream_that_is_not_live_is_observed_with_health_0() -> None:
    histograms = poll_histograms()
    facts = {"live": False, "status": Status.IDLE, "ingest_bitrate_bytes_per_second": 0.0}
    histograms.observe([stream(expected=True, **facts)])  # type: ignore[arg-type]
    histograms.observe([stream(expected=False, **facts)])  # type: ignore[arg-type]
    histograms.observe([stream(**facts)])  # type: ignore[arg-type]
    (health,) = histograms.snapshot()
    assert health.family == HEALTH_SCORE.name
    assert health.counts == (1,) + (0,) * 10
    assert health.sum == 0.0


def test_streams_of_one_protocol_share_a_histogram() -> None:
    histograms = poll_histograms()
    for name, protocol in (("a", "srt"), ("b", "srt"), ("c", "")):
        histograms.observe([stream(name, protocol=protocol, health_score_ratio=1.0)])
    assert {(h.protocol, h.stream, sum(h.counts)) for h in histograms.snapshot()} == {("srt", None, 2), ("", None, 1)}


def test_snapshot_is_not_changed_by_later_observations() -> None:
    histograms = poll_histograms()
    histograms.observe([stream(health_score_ratio=1.0)])
    (before,) = histograms.snapshot()
    histograms.observe([stream(health_score_ratio=1.0)])
    assert sum(before.counts) == 1
    assert sum(histograms.snapshot()[0].counts) == 2


def test_per_stream_histograms_are_dropped_with_their_streams() -> None:
    histograms = poll_histograms(per_stream=True)
    for name in ("a", "b"):
        histograms.observe([stream(name, health_score_ratio=1.0)])
    histograms.forget_all_but(["b"])
    assert [h.stream for h in histograms.snapshot()] == ["b"]


def test_shared_histograms_stay_when_streams_depart() -> None:
    histograms = poll_histograms()
    histograms.observe([stream("a", health_score_ratio=1.0)])
    histograms.forget_all_but([])
    assert sum(histograms.snapshot()[0].counts) == 1


@pytest.mark.parametrize("per_stream", [False, True])
def test_histogram_is_rendered_to_this_exact_text(per_stream: bool) -> None:
    histograms = poll_histograms(per_stream=per_stream)
    histograms.observe([stream(protocol="srt", health_score_ratio=0.32)])
    histograms.observe([stream(protocol="srt", health_score_ratio=1.0)])
    text = rendered(view(sampled=histograms.snapshot())).text.decode()
    name = "stream_sampled_health_score_ratio"
    own = 'stream="main",' if per_stream else ""
    labels = f'platform="livepeer",upstream="studio",{own}protocol="srt"'
    counts = [("0.1", 0), ("0.25", 0), ("0.5", 1), ("0.6", 1), ("0.7", 1), ("0.8", 1), ("0.9", 1), ("0.95", 1)]
    counts += [("0.99", 1), ("1.0", 2), ("+Inf", 2)]
    assert [line for line in text.splitlines() if line.startswith(name)] == [
        *(f'{name}_bucket{{{labels},le="{le}"}} {count}' for le, count in counts),
        f"{name}_count{{{labels}}} 2",
        f"{name}_sum{{{labels}}} 1.32",
    ]
