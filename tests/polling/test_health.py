from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model import HealthReason as Why
from exporter.model import StreamReport
from exporter.polling.health import Judgement, judge


def judged(
    *,
    bitrate: float | None = None,
    frame_rate: float | None = None,
    age: float | None = None,
    in_grace: bool = False,
    live: bool | None = True,
    **report: Any,
) -> Judgement:
    return judge(
        StreamReport(id="s", live=live, last_seen_age_seconds=age, **report),
        expected_bitrate=bitrate,
        expected_frame_rate=frame_rate,
        may_derive=not in_grace,
    )


@pytest.mark.parametrize(
    ("report", "expectation", "score", "reasons"),
    [
        pytest.param({"healthy": True}, {}, 1.0, (), id="verdict well"),
        pytest.param({"healthy": False}, {}, 0.4, (Why.VERDICT,), id="verdict ill"),
        pytest.param(
            {"healthy": False, "issues": ("a", "b")}, {}, 0.32, (Why.VERDICT, Why.ISSUES), id="the documented example"
        ),
        pytest.param({"healthy": True, "issues": ("x",) * 9}, {}, 0.5, (Why.ISSUES,), id="issues have a floor"),
        pytest.param({"ingest_bitrate_bytes_per_second": 90.0}, {"bitrate": 100.0}, 1.0, (), id="enough bitrate"),
        pytest.param(
            {"ingest_bitrate_bytes_per_second": 45.0}, {"bitrate": 100.0}, 0.5, (Why.BITRATE_LOW,), id="half of it"
        ),
        pytest.param({"frames_per_second": 13.5}, {"frame_rate": 30.0}, 0.5, (Why.FRAME_RATE_LOW,), id="frame rate"),
        pytest.param({"transcode_realtime_ratio": 0.8}, {}, 0.8, (Why.TRANSCODE_SLOW,), id="transcode below real time"),
        pytest.param({"transcode_realtime_ratio": 3.4}, {}, 1.0, (), id="transcode faster"),
        pytest.param({"packet_loss_ratio": 0.07}, {}, 0.5, (Why.LOSS,), id="loss"),
        pytest.param({"packet_loss_ratio": 0.5}, {}, 0.0, (Why.LOSS,), id="loss without end"),
        pytest.param({"ingest_bitrate_bytes_per_second": 0.0}, {}, 0.0, (Why.SILENT,), id="stalled"),
        pytest.param({}, {"age": 60.0}, 1.0, (), id="heard of"),
        pytest.param({}, {"age": 90.0}, 0.5, (Why.SILENT,), id="silent"),
        pytest.param({}, {"age": -5.0}, 1.0, (), id="a clock ahead"),
        pytest.param({}, {}, None, (), id="nothing to judge by"),
        pytest.param({"health_score_ratio": 0.95}, {}, 0.95, (), id="reported"),
        pytest.param({"health_score_ratio": 0.15}, {}, 0.15, (Why.VERDICT,), id="reported low"),
    ],
)
def test_score_and_reasons_follow_the_facts(
    report: dict[str, Any], expectation: dict[str, Any], score: float | None, reasons: tuple[Why, ...]
) -> None:
    got, why = judged(**report, **expectation)
    assert got == (score if score is None else pytest.approx(score))
    assert why == reasons


def test_reported_score_is_not_changed_by_its_reasons() -> None:
    score, why = judged(health_score_ratio=0.9, ingest_bitrate_bytes_per_second=10.0, bitrate=100.0)
    assert (score, why) == (0.9, (Why.BITRATE_LOW,))


@pytest.mark.parametrize("live", [False, None])
def test_stream_that_is_not_live_has_no_score(live: bool | None) -> None:
    assert judged(live=live, healthy=False, health_score_ratio=0.2) == (None, ())


def test_grace_withholds_only_derived_scores() -> None:
    assert judged(in_grace=True, healthy=False) == (None, (Why.VERDICT,))
    assert judged(in_grace=True, health_score_ratio=0.9) == (0.9, ())


def test_unreadable_fact_withholds_the_derived_score_but_not_the_reasons() -> None:
    assert judged(health_unreadable=True, healthy=True) == (None, ())
    assert judged(health_unreadable=True, healthy=False) == (None, (Why.VERDICT,))
    assert judged(health_unreadable=True, health_score_ratio=0.9) == (0.9, ())


def test_unknown_verdict_gives_no_score() -> None:
    assert judged(healthy=None) == (None, ())


numbers = st.none() | st.floats(min_value=0, max_value=1e12)


@given(
    healthy=st.none() | st.booleans(),
    issues=st.none() | st.lists(st.text(), max_size=20).map(tuple),
    bitrate=numbers,
    expected=numbers,
    transcode=numbers,
    loss=st.none() | st.floats(0, 1),
    age=st.none() | st.floats(-1e9, 1e9),
)
def test_score_is_between_0_and_1_and_a_low_score_has_reasons(
    healthy: bool | None,
    issues: tuple[str, ...] | None,
    bitrate: float | None,
    expected: float | None,
    transcode: float | None,
    loss: float | None,
    age: float | None,
) -> None:
    score, reasons = judged(
        healthy=healthy,
        issues=issues,
        ingest_bitrate_bytes_per_second=bitrate,
        bitrate=expected,
        transcode_realtime_ratio=transcode,
        packet_loss_ratio=loss,
        age=age,
    )
    if score is None:
        assert reasons == ()
    else:
        assert 0 <= score <= 1
        assert bool(reasons) == (score < 1)
