"""A platform's own metrics, passed through: what comes out, to the character, and what is left out."""

from __future__ import annotations

import contextlib
import math
import re
import subprocess
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from exporter.metrics.exposition import ExpositionCache
from exporter.metrics.passthrough import DEFAULT_HELP, parse_passthrough
from exporter.model import PassthroughFamily, PassthroughMetrics, PassthroughSample, PassthroughText, UpstreamState
from tests.metrics.generated_views import rendered, stream, view
from tests.real.tools import tool

DROPPED = "stream_upstream_foreign_series_dropped"
UNREADABLE = "not in the text format of Prometheus"
OURS = 'platform="wave",upstream="wave"'


def exported(*families: PassthroughFamily, prefix: str = "wave_", dropped: int = 0) -> PassthroughMetrics:
    return PassthroughMetrics(prefix=prefix, families=families, dropped=dropped, stale_at=math.inf)


def parse(text: str, *, max_series: int = 5000) -> PassthroughMetrics:
    return parse_passthrough(PassthroughText(text=text, prefix="wave_", max_series=max_series, stale_at=math.inf))


def upstream(metrics: PassthroughMetrics | None, name: str = "wave") -> UpstreamState:
    return view(platform="wave", upstream=name, passthrough=metrics)


def passed(*metrics: PassthroughMetrics) -> str:
    """The metrics part of the answer, of one upstream for each of these: wave, wave2, wave3."""
    views = [upstream(item, "wave" if index == 0 else f"wave{index + 1}") for index, item in enumerate(metrics)]
    lines = rendered(*views).text.decode().splitlines(keepends=True)
    return "".join(line for line in lines if not re.match(r"(# (HELP|TYPE) )?stream_", line))


def dropped(*views: UpstreamState) -> dict[str, float]:
    """How many series each upstream says it has left out."""
    return dropped_in(rendered(*views).text.decode())


def dropped_in(text: str) -> dict[str, float]:
    families = text_string_to_metric_families(text)
    return {s.labels["upstream"]: s.value for family in families if family.name == DROPPED for s in family.samples}


def gauge(name: str, *values: float, **labels: str) -> PassthroughFamily:
    samples = tuple(PassthroughSample(name, tuple(labels.items()), value) for value in values)
    return PassthroughFamily(name, "gauge", "Help.", samples)


# -- what comes out ----------------------------------------------------------------------------------------------------


def test_export_gets_prefix_and_labels_and_is_otherwise_unchanged() -> None:
    text = """\
# HELP streaming_viewers Viewers\\nnow, a \\\\ too.
# TYPE streaming_viewers gauge
streaming_viewers{stream_id="str_1",protocol="webrtc"} 142 1700000000000
streaming_viewers{stream_id="st\\"r\\n2",protocol="srt"} 2.5
# TYPE streaming_bytes_total counter
streaming_bytes_total 12345678901234567
# TYPE streaming_errors counter
streaming_errors{code="500"} 3
# HELP streaming_latency_seconds Latency.
# TYPE streaming_latency_seconds histogram
streaming_latency_seconds_sum{stream_id="a"} 7.25
streaming_latency_seconds_bucket{stream_id="a",le="1"} 2
streaming_latency_seconds_bucket{stream_id="a",le="0.25"} 1
streaming_latency_seconds_bucket{stream_id="a",le="+Inf"} 4
streaming_latency_seconds_count{stream_id="a"} 4
# TYPE streaming_wait_seconds summary
streaming_wait_seconds{quantile="0.50"} 0.2
streaming_wait_seconds_sum 9
streaming_wait_seconds_count 3
streaming_untyped{le="x"} 1
"""
    assert (
        passed(parse(text))
        == f"""\
# HELP wave_streaming_viewers Viewers\\nnow, a \\\\ too.
# TYPE wave_streaming_viewers gauge
wave_streaming_viewers{{{OURS},protocol="webrtc",stream_id="str_1"}} 142
wave_streaming_viewers{{{OURS},protocol="srt",stream_id="st\\"r\\n2"}} 2.5
# HELP wave_streaming_bytes_total {DEFAULT_HELP}
# TYPE wave_streaming_bytes_total counter
wave_streaming_bytes_total{{{OURS}}} 12345678901234567
# HELP wave_streaming_errors_total {DEFAULT_HELP}
# TYPE wave_streaming_errors_total counter
wave_streaming_errors_total{{{OURS},code="500"}} 3
# HELP wave_streaming_latency_seconds Latency.
# TYPE wave_streaming_latency_seconds histogram
wave_streaming_latency_seconds_bucket{{{OURS},stream_id="a",le="0.25"}} 1
wave_streaming_latency_seconds_bucket{{{OURS},stream_id="a",le="1.0"}} 2
wave_streaming_latency_seconds_bucket{{{OURS},stream_id="a",le="+Inf"}} 4
wave_streaming_latency_seconds_count{{{OURS},stream_id="a"}} 4
wave_streaming_latency_seconds_sum{{{OURS},stream_id="a"}} 7.25
# HELP wave_streaming_wait_seconds {DEFAULT_HELP}
# TYPE wave_streaming_wait_seconds summary
wave_streaming_wait_seconds{{{OURS},quantile="0.5"}} 0.2
wave_streaming_wait_seconds_sum{{{OURS}}} 9
wave_streaming_wait_seconds_count{{{OURS}}} 3
# HELP wave_streaming_untyped {DEFAULT_HELP}
# TYPE wave_streaming_untyped untyped
wave_streaming_untyped{{{OURS},le="x"}} 1
"""
    )


def test_labels_with_our_names_are_renamed() -> None:
    labels = {"platform": "p", "upstream": "u", "exported_upstream": "v", "le": "1", "quantile": "0.5", "empty": ""}
    (line,) = passed(exported(gauge("a", 1, **labels))).splitlines()[2:]
    moved = 'exported_exported_upstream="u",exported_le="1",exported_platform="p",exported_quantile="0.5"'
    assert line == f'wave_a{{{OURS},{moved},exported_upstream="v"}} 1'


def test_family_of_several_upstreams_is_one_block() -> None:
    first = exported(gauge("a", 1), gauge("b", 2))
    second = exported(gauge("b", 3), gauge("a", 4))
    assert passed(first, second) == (
        "# HELP wave_a Help.\n# TYPE wave_a gauge\n"
        'wave_a{platform="wave",upstream="wave"} 1\nwave_a{platform="wave",upstream="wave2"} 4\n'
        "# HELP wave_b Help.\n# TYPE wave_b gauge\n"
        'wave_b{platform="wave",upstream="wave"} 2\nwave_b{platform="wave",upstream="wave2"} 3\n'
    )


def test_prefix_is_per_upstream() -> None:
    assert "\nother_a{" in passed(exported(gauge("a", 1), prefix="other_"))


def test_text_is_rendered_once_while_the_metrics_stay() -> None:
    metrics, cache = exported(gauge("a", 1)), ExpositionCache()
    (first,) = cache.passthrough.merge([upstream(metrics)]).blocks
    (again,) = cache.passthrough.merge([upstream(metrics)]).blocks
    assert again is first
    (other,) = cache.passthrough.merge([upstream(exported(gauge("a", 2)))]).blocks
    assert other.lines == [f"wave_a{{{OURS}}} 2\n"]
    assert cache.passthrough.merge([]).blocks == []


def test_long_texts_are_truncated() -> None:
    family = PassthroughFamily("a", "gauge", "h" * 5000, (PassthroughSample("a", (("l", "v" * 5000),), 1),))
    help_, _, line = passed(exported(family)).splitlines()
    assert len(help_) < 1100
    assert len(line) < 400


# -- what is left out --------------------------------------------------------------------------------------------------


def test_dropped_series_are_counted_per_upstream_with_an_export() -> None:
    views = (
        upstream(exported(gauge("a", 1), dropped=7)),
        upstream(exported(PassthroughFamily("a", "counter", "", (PassthroughSample("a", (), 1),))), "wave2"),
        upstream(None, "wave3"),
    )
    assert dropped(*views) == {"wave": 7, "wave2": 1}
    assert dropped(upstream(None)) == {}


def test_name_with_two_types_keeps_the_first() -> None:
    counter = PassthroughFamily(
        "a", "counter", "", (PassthroughSample("a", (), 5), PassthroughSample("a", (("x", "y"),), 5))
    )
    for metrics in ([exported(gauge("a", 1)), exported(counter)], [exported(gauge("a", 1), counter)]):
        text = passed(*metrics)
        assert text.count("# TYPE") == 1
        assert text.endswith(f"# TYPE wave_a gauge\nwave_a{{{OURS}}} 1\n")


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("ending", ["bucket", "sum", "count"])
def test_family_named_like_samples_of_another_is_dropped(order: int, ending: str) -> None:
    """Readers of the format would take one for the other, or refuse the whole answer."""
    histogram = parse('# TYPE a histogram\na_bucket{le="+Inf"} 1\na_sum 1\na_count 1\n').families[0]
    both = exported(*[histogram, gauge(f"a_{ending}", 1)][::order])
    assert passed(both).count("# TYPE") == 1
    assert dropped(upstream(both)) == {"wave": 1 if order == 1 else 3}


@pytest.mark.parametrize(
    "family",
    [
        gauge("a", math.nan),
        gauge("a", math.inf, x="y"),
        gauge("a b", 1),
        gauge("é", 1),
        gauge("a" * 300, 1),
        gauge("a", 1, **{"a-b": "c"}),
        gauge("a", 1, __name__="b"),
        gauge("a", 1, __reserved="b"),
        PassthroughFamily("a", "counter", "", (PassthroughSample("a", (), -1),)),
        PassthroughFamily("a", "stateset", "", (PassthroughSample("a", (), 1),)),
        PassthroughFamily("a", "gauge", "", (PassthroughSample("a_sum", (), 1),)),
        PassthroughFamily("a", "gauge", "", (PassthroughSample("b", (), 1),)),
        PassthroughFamily("a", "summary", "", (PassthroughSample("a", (), 1),)),
        PassthroughFamily("a", "summary", "", (PassthroughSample("a", (("quantile", "2"),), 1),)),
        PassthroughFamily("a", "summary", "", (PassthroughSample("a", (("quantile", "high"),), 1),)),
        PassthroughFamily("a", "summary", "", (PassthroughSample("a_count", (), -1),)),
        PassthroughFamily("a", "summary", "", (PassthroughSample("a_sum", (("quantile", "0.5"),), 1),)),
    ],
)
def test_unreadable_series_are_dropped(family: PassthroughFamily) -> None:
    metrics = exported(family, gauge("good", 1))
    assert passed(metrics).count("\n") == 3
    assert dropped(upstream(metrics)) == {"wave": 1}


@pytest.mark.parametrize(
    ("prefix", "name"), [("s", "tream_live"), ("p", "rocess_x"), ("python", "_info"), ("stream", "_x")]
)
def test_name_that_becomes_one_of_ours_is_dropped(prefix: str, name: str) -> None:
    metrics = exported(gauge(name, 1), prefix=prefix)
    assert passed(metrics) == ""
    assert dropped(upstream(metrics)) == {"wave": 1}


def test_duplicate_series_keep_the_first() -> None:
    samples = (
        PassthroughSample("a", (("x", "1"), ("y", "2")), 1),
        PassthroughSample("a", (("y", "2"), ("x", "1")), 2),
        PassthroughSample("a", (("y", "2"), ("x", "1"), ("z", "")), 3),
    )
    metrics = exported(PassthroughFamily("a", "gauge", "", samples))
    assert passed(metrics).splitlines()[2:] == [f'wave_a{{{OURS},x="1",y="2"}} 1']
    assert dropped(upstream(metrics)) == {"wave": 2}


GOOD = [("_bucket", "1", 1.0), ("_bucket", "+Inf", 2.0), ("_sum", "", 3.0), ("_count", "", 2.0)]


def histogram(parts: Iterable[tuple[str, str, float]], **labels: str) -> tuple[PassthroughSample, ...]:
    return tuple(
        PassthroughSample(f"h{ending}", (*labels.items(), *([("le", le)] if le else [])), value)
        for ending, le, value in parts
    )


@pytest.mark.parametrize(
    "parts",
    [
        [part for part in GOOD if part[1] != "+Inf"],
        [part for part in GOOD if part[0] != "_sum"],
        [part for part in GOOD if part[0] != "_count"],
        [part for part in GOOD if part[0] != "_bucket"],
        [("_bucket", "0.5", 9.0), *GOOD],
        [("_bucket", "0.5", -1.0), *GOOD],
        [("_bucket", "0.5", math.nan), *GOOD],
        [("_bucket", "low", 1.0), *GOOD],
        [("_bucket", "", 1.0), *GOOD],
        [("_count", "1", 1.0), *GOOD],
        [("", "", 1.0), *GOOD],
        [*GOOD[:2], ("_sum", "", math.inf), ("_count", "", 2.0)],
        [*GOOD[:3], ("_count", "", 3.0)],
    ],
)
def test_incomplete_histogram_is_dropped(parts: list[tuple[str, str, float]]) -> None:
    samples = histogram(parts, stream="bad") + histogram(GOOD, stream="good")
    metrics = exported(PassthroughFamily("h", "histogram", "", samples))
    lines = passed(metrics).splitlines()[2:]
    assert len(lines) == len(GOOD)
    assert all('stream="good"' in line for line in lines)
    assert dropped(upstream(metrics)) == {"wave": len(parts)}


def test_equal_bounds_keep_the_first() -> None:
    metrics = exported(PassthroughFamily("h", "histogram", "", histogram([("_bucket", "1.0", 5.0), *GOOD])))
    assert passed(metrics) == ""
    metrics = exported(PassthroughFamily("h", "histogram", "", histogram([*GOOD, ("_bucket", "1.00", 5.0)])))
    assert 'le="1.0"} 1.0' in passed(metrics)
    assert dropped(upstream(metrics)) == {"wave": 1}


# -- whatever comes ----------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "a_total", "a_bucket", "a_sum", "a_count", "b", "é", "tream_live"]) | st.text(max_size=4)
LABELS = st.dictionaries(
    st.sampled_from(["platform", "upstream", "exported_platform", "le", "quantile", "x", "__x"]) | st.text(max_size=3),
    st.sampled_from(["", "1", "1.0", "+Inf", "0.5", 'a"\\\n']) | st.text(max_size=4),
    max_size=3,
).map(lambda labels: tuple(labels.items()))
VALUES = st.integers(0, 3) | st.floats() | st.integers(-(2**70), 2**70)
ENDINGS = st.sampled_from(["", "_bucket", "_sum", "_count", "_total"])


def families() -> st.SearchStrategy[PassthroughFamily]:
    return NAMES.flatmap(
        lambda name: st.builds(
            PassthroughFamily,
            st.just(name),
            st.sampled_from(["gauge", "counter", "histogram", "summary", "untyped", "info"]),
            st.text(max_size=5),
            st.lists(st.builds(PassthroughSample, ENDINGS.map(lambda e: name + e), LABELS, VALUES), max_size=6).map(
                tuple
            ),
        )
    )


METRICS = st.builds(
    PassthroughMetrics,
    prefix=st.sampled_from(["wave_", "s", ":"]),
    families=st.lists(families(), max_size=4).map(tuple),
    dropped=st.integers(0, 3),
    stale_at=st.just(math.inf),
)


def check(text: str) -> None:
    """It can be read; no series stands twice, no family, and no value that is none."""
    assert list(text_string_to_metric_families(text))
    names = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
    assert len(names) == len(set(names))
    # of a counter the parser takes the name with _total and without it for the same, which they are not in 0.0.4
    untyped = "\n".join(line for line in text.split("\n") if not line.startswith("#")) + "\n"
    series = set()
    for family in text_string_to_metric_families(untyped):
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in series
            series.add(key)
            assert math.isfinite(sample.value)
            assert sample.timestamp is None
            assert {"platform", "upstream"} <= sample.labels.keys()


@settings(deadline=None, max_examples=150)
@given(st.lists(METRICS, min_size=1, max_size=2))
def test_any_metrics_render_to_readable_text(metrics: list[PassthroughMetrics]) -> None:
    views = [upstream(item, f"wave{index}") for index, item in enumerate(metrics)]
    text = rendered(*views).text.decode()
    check(text)
    given_series = sum(len(family.samples) for item in metrics for family in item.families)
    lines = [line for line in text.split("\n") if line and not line.startswith(("#", "stream_"))]
    left_out = sum(dropped_in(text).values()) - sum(item.dropped for item in metrics)
    assert len(lines) + left_out == given_series


def exports() -> st.SearchStrategy[str]:
    """Texts that are nearly exports."""
    name = st.sampled_from(["a", "a_total", "a_bucket", "a_sum", "a_count", "b", "{}"])
    kind = st.sampled_from(["gauge", "counter", "histogram", "summary", "untyped", "info", "x"])
    labels = st.sampled_from(
        ["", '{x="1"}', '{le="1"}', '{le="+Inf"}', '{platform="p",x="2"}', '{quantile="0.5"}', "{"]
    )
    value = st.sampled_from(["1", "2", "NaN", "+Inf", "-3", "0x", "1e400", "9" * 400])
    line = st.one_of(
        st.tuples(name, labels, value).map(lambda parts: f"{parts[0]}{parts[1]} {parts[2]}"),
        st.tuples(name, kind).map(lambda parts: f"# TYPE {parts[0]} {parts[1]}"),
        st.tuples(name, st.text(max_size=4)).map(lambda parts: f"# HELP {parts[0]} {parts[1]}"),
        st.text(max_size=6),
    )
    return st.lists(line, max_size=12).map("\n".join)


@settings(deadline=None, max_examples=300)
@given(exports() | st.text())
def test_any_export_renders_to_readable_text(text: str) -> None:
    try:
        metrics = parse(text, max_series=8)
    except ValueError:
        return
    check(rendered(upstream(metrics)).text.decode())


@pytest.mark.real
def test_promtool_reads_the_rendered_text() -> None:
    text = """\
# TYPE wait histogram
wait_bucket{le="1"} 1
wait_bucket{le="+Inf"} 2
wait_sum 3
wait_count 2
# TYPE items gauge
items{le="1",quantile="2",platform="x"} 1
items NaN
# TYPE delay summary
delay{quantile="0.9"} 1
delay{quantile="0.99"} NaN
delay_sum 1
delay_count 1
# TYPE errors counter
errors 1
untyped_one{le="9"} 1
"""
    views = (upstream(parse(text)), upstream(parse(text), "wave2"), view(stream(viewers=3)))
    done = subprocess.run(
        [tool("promtool"), "check", "metrics"], input=rendered(*views).text, capture_output=True, check=False
    )
    assert (done.returncode, (done.stdout + done.stderr).decode()) == (0, "")


# -- parsing -----------------------------------------------------------------------------------------------------------


def test_families_are_parsed_with_their_type_and_without_timestamps() -> None:
    text = """\
# HELP viewers Viewers\\nnow.
# TYPE viewers gauge
viewers{stream_id="a\\"b"} 3 1700000000000
viewers 2.5
# TYPE bytes_total counter
bytes_total 7
# TYPE errors counter
errors{code="5"} 1
no_type{x="1"} 1
# TYPE h histogram
h_bucket{le="1"} 1
h_bucket{le="+Inf"} 2
h_sum 3
h_count 2
no_type{x="2"} 2
# TYPE empty gauge
"""
    assert parse(text).families == (
        PassthroughFamily(
            "viewers",
            "gauge",
            "Viewers\nnow.",
            (PassthroughSample("viewers", (("stream_id", 'a"b'),), 3), PassthroughSample("viewers", (), 2.5)),
        ),
        PassthroughFamily("bytes_total", "counter", "", (PassthroughSample("bytes_total", (), 7),)),
        PassthroughFamily("errors_total", "counter", "", (PassthroughSample("errors_total", (("code", "5"),), 1),)),
        PassthroughFamily(
            "no_type",
            "untyped",
            "",
            (PassthroughSample("no_type", (("x", "1"),), 1), PassthroughSample("no_type", (("x", "2"),), 2)),
        ),
        PassthroughFamily(
            "h",
            "histogram",
            "",
            (
                PassthroughSample("h_bucket", (("le", "1"),), 1),
                PassthroughSample("h_bucket", (("le", "+Inf"),), 2),
                PassthroughSample("h_sum", (), 3),
                PassthroughSample("h_count", (), 2),
            ),
        ),
    )


def test_series_are_counted_before_they_are_parsed() -> None:
    text = "# TYPE a gauge\n" + "".join(f'a{{n="{n}"}} {n}\n\n' for n in range(10)) + "# a comment\nnot { readable\n"
    metrics = parse(text, max_series=4)
    assert [sample.value for sample in metrics.families[0].samples] == [0, 1, 2, 3]
    assert metrics.dropped == 7
    with pytest.raises(ValueError, match=UNREADABLE):
        parse(text, max_series=11)
    assert parse("").families == ()


@pytest.mark.parametrize("text", ["<!DOCTYPE html>\n<html></html>", '{"error": "x"}', "a{", "a b", "# TYPE a\n"])
def test_error_for_unreadable_text_quotes_none_of_it(text: str) -> None:
    with pytest.raises(ValueError) as error:
        parse(text)
    assert str(error.value) == UNREADABLE
    assert error.value.__cause__ is None


@given(st.text() | st.text('# TYPEHL{}="\\\n,x1 _le+Inf', max_size=200))
@settings(max_examples=300)
def test_any_text_is_parsed_or_is_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        parse(text)
