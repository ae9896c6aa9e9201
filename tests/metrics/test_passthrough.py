"""Pass-through metrics: the exact text, and which series are dropped."""

from __future__ import annotations

import contextlib
import math
import re
import subprocess

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from exporter.metrics.exposition import ExpositionCache
from exporter.metrics.passthrough import DEFAULT_HELP, ExportParser, parse_passthrough
from exporter.model import (
    Labels,
    PassthroughFamily,
    PassthroughMetrics,
    PassthroughSample,
    PassthroughText,
    UpstreamState,
)
from exporter.runtime.redaction import redactor
from tests.metrics.generated_views import rendered, stream, view
from tests.polling.test_coordinator import PolledUpstream
from tests.real.tools import tool

DROPPED = "stream_upstream_foreign_series_dropped"
UNREADABLE = "not in Prometheus text format"
OURS = 'platform="wave",upstream="wave"'


def parse(text: str, *, prefix: str = "wave_", max_series: int = 5000) -> PassthroughMetrics:
    return parse_passthrough(PassthroughText(text=text, prefix=prefix, max_series=max_series, stale_at=math.inf))


def upstream(metrics: PassthroughMetrics | None, name: str = "wave") -> UpstreamState:
    return view(platform="wave", upstream=name, passthrough=metrics)


def passed(*texts: str, prefix: str = "wave_") -> str:
    """Return the pass-through metrics of one upstream per export: wave, wave2, wave3."""
    views = [
        upstream(parse(text, prefix=prefix), "wave" if index == 0 else f"wave{index + 1}")
        for index, text in enumerate(texts)
    ]
    lines = rendered(*views).text.decode().splitlines(keepends=True)
    return "".join(line for line in lines if not re.match(r"(# (HELP|TYPE) )?stream_", line))


def series(*texts: str, prefix: str = "wave_") -> list[str]:
    """Return the sample lines without the labels that all of them have."""
    lines = [line for line in passed(*texts, prefix=prefix).splitlines() if not line.startswith("#")]
    return [line.replace(f"{{{OURS}}}", "").replace(f"{OURS},", "") for line in lines]


def dropped(*views: UpstreamState) -> dict[str, float]:
    """Return the exported number of dropped series by upstream."""
    return dropped_in(rendered(*views).text.decode())


def dropped_in(text: str) -> dict[str, float]:
    families = text_string_to_metric_families(text)
    return {s.labels["upstream"]: s.value for family in families if family.name == DROPPED for s in family.samples}


# -- passed through ----------------------------------------------------------------------------------------------------


def test_export_only_gets_a_prefix_and_labels() -> None:
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
        passed(text)
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
wave_streaming_latency_seconds_sum{{{OURS},stream_id="a"}} 7.25
wave_streaming_latency_seconds_count{{{OURS},stream_id="a"}} 4
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


HTTP = """\
# HELP http_requests_total Requests.
# TYPE http_requests_total counter
http_requests_total{code="200"} 5
# TYPE up gauge
up 1
http_requests_total{code="500"} 3
"""


def test_scattered_series_are_merged_into_their_family() -> None:
    assert passed(HTTP) == (
        "# HELP wave_http_requests_total Requests.\n# TYPE wave_http_requests_total counter\n"
        f'wave_http_requests_total{{{OURS},code="200"}} 5\nwave_http_requests_total{{{OURS},code="500"}} 3\n'
        f"# HELP wave_up {DEFAULT_HELP}\n# TYPE wave_up gauge\nwave_up{{{OURS}}} 1\n"
    )
    assert dropped(upstream(parse(HTTP))) == {"wave": 0}


DECLARED = [
    ("counter", ["x_total 1", 'x_total{a="b"} 2'], "x_total"),
    ("gauge", ["x 1", 'x{a="b"} 2'], "x"),
    ("untyped", ["x 1", 'x{a="b"} 2'], "x"),
    ("summary", ['x{quantile="0.5"} 1', 'x{quantile="0.9"} NaN', "x_sum 3", "x_count 2"], "x"),
    ("histogram", ['x_bucket{le="1.0"} 1', 'x_bucket{le="+Inf"} 2', "x_sum 3", "x_count 2"], "x"),
]


@pytest.mark.parametrize(("kind", "lines", "name"), DECLARED, ids=[kind for kind, _, _ in DECLARED])
@given(st.data())
def test_order_of_lines_does_not_matter(kind: str, lines: list[str], name: str, data: st.DataObject) -> None:
    declarations = [f"# HELP {name} Help.", f"# TYPE {name} {kind}"]
    others = ["# TYPE y gauge", "y 1", "# HELP y Help.", 'z{le="1"} 2', "# TYPE z_total counter"]
    text = "\n".join(data.draw(st.permutations(declarations + lines + others)))
    out = passed(text)
    assert f"# HELP wave_{name} Help.\n# TYPE wave_{name} {kind}\nwave_{name}" in out
    assert len(re.findall(r"^# TYPE", out, re.MULTILINE)) == 3
    assert sorted(series(text)) == sorted(f"wave_{line}" for line in (*lines, "y 1", 'z{le="1"} 2'))
    assert dropped(upstream(parse(text))) == {"wave": 0}


def test_parts_of_histograms_and_summaries_are_sorted_by_bound() -> None:
    text = """\
h_count{s="b"} 1
h_bucket{s="a",le="+Inf"} 3
# TYPE h histogram
h_bucket{s="b",le="+Inf"} 1
h_bucket{le="1e1",s="a"} 2
h_bucket{s="a",le="2"} 1
# TYPE s summary
s_sum 1
s{quantile="0.99"} 2
s{quantile="0.5"} 1
"""
    assert series(text) == [
        'wave_h_bucket{s="b",le="+Inf"} 1',
        'wave_h_count{s="b"} 1',
        'wave_h_bucket{s="a",le="2.0"} 1',
        'wave_h_bucket{s="a",le="10.0"} 2',
        'wave_h_bucket{s="a",le="+Inf"} 3',
        'wave_s{quantile="0.5"} 1',
        'wave_s{quantile="0.99"} 2',
        "wave_s_sum 1",
    ]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("NaN", "NaN"), ("nan", "NaN"), ("+Inf", "+Inf"), ("inf", "+Inf"), ("Infinity", "+Inf"), ("-Inf", "-Inf"),
        ("-Inf 1700000000000", "-Inf"), ("-3", "-3"), ("1e-3", "0.001"), (str(2**70), "1.1805916207174113e+21"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["counter", "gauge", "untyped", "summary", "histogram"])
def test_any_float_is_passed_through_in_canonical_spelling(kind: str, value: str, written: str) -> None:
    name = {"summary": "x_sum", "histogram": "x_count", "counter": "x_total"}.get(kind, "x")
    declared = "x_total" if kind == "counter" else "x"
    for labels in ("", '{a="b c"}'):
        text = f"# TYPE {declared} {kind}\n{name}{labels} {value}\n"
        assert series(text) == [f"wave_{name}{labels} {written}"]
        assert dropped(upstream(parse(text))) == {"wave": 0}


HISTOGRAM = ['h_bucket{le="1.0"} 1', 'h_bucket{le="+Inf"} 2', "h_sum 3", "h_count 2"]


@pytest.mark.parametrize(
    "lines",
    [
        [*HISTOGRAM[:3], "h_count 3"],
        HISTOGRAM[1:],
        HISTOGRAM[:1] + HISTOGRAM[2:],
        HISTOGRAM[:2],
        HISTOGRAM[2:],
        ['h_bucket{le="0.5"} 9', *HISTOGRAM],
        ['h_bucket{le="0.5"} -1', *HISTOGRAM],
        ['h_bucket{le="0.5"} NaN', *HISTOGRAM],
        [*HISTOGRAM[:2], "h_sum +Inf", "h_count 2"],
        ['h_bucket{le="-Inf"} 0', *HISTOGRAM],
        [*HISTOGRAM[:2], 'h_bucket{le="NaN"} 2', *HISTOGRAM[2:]],
        [*HISTOGRAM, "h_bucket 1"],
        [*HISTOGRAM, 'h_count{le="1.0"} 1'],
        [*HISTOGRAM, "h 1"],
    ],
)
def test_inconsistent_histogram_is_passed_through(lines: list[str]) -> None:
    text = "# TYPE h histogram\n" + "\n".join(lines)
    assert sorted(series(text)) == sorted(f"wave_{line}" for line in lines)
    assert dropped(upstream(parse(text))) == {"wave": 0}


@pytest.mark.parametrize("line", ["s 1", 's{quantile="2.0"} 1', 's{quantile="NaN"} 1', 's_sum{quantile="0.5"} 1'])
def test_inconsistent_summary_is_passed_through(line: str) -> None:
    text = f"# TYPE s summary\n{line}\n"
    assert series(text) == [f"wave_{line}"]
    assert dropped(upstream(parse(text))) == {"wave": 0}


@pytest.mark.parametrize("kind", ["info", "stateset", "gaugehistogram", "unknown", "other", "gauge x"])
def test_family_of_an_unknown_type_is_untyped(kind: str) -> None:
    assert passed(f"# TYPE x {kind}\nx 1\n").endswith(f"# TYPE wave_x untyped\nwave_x{{{OURS}}} 1\n")


def test_first_type_and_help_of_a_name_are_used() -> None:
    text = '# HELP x First.\n# TYPE x gauge\nx 1\n# HELP x Second.\n# TYPE x counter\nx{a="b"} 2\n'
    assert passed(text) == (
        f'# HELP wave_x First.\n# TYPE wave_x gauge\nwave_x{{{OURS}}} 1\nwave_x{{{OURS},a="b"}} 2\n'
    )


@pytest.mark.parametrize("ending", ["bucket", "sum", "count"])
@pytest.mark.parametrize("kind", ["gauge", "histogram", "summary"])
@pytest.mark.parametrize("order", [1, -1])
def test_family_named_like_samples_of_another_is_merged_into_it(order: int, kind: str, ending: str) -> None:
    """Parsers reject a second TYPE line."""
    declarations = ["# TYPE h histogram", f"# TYPE h_{ending} {kind}"][::order]
    text = "\n".join([*declarations, *HISTOGRAM, f'h_{ending}{{a="b"}} 1'])
    assert passed(text).count("# TYPE") == 1
    assert sorted(series(text)) == sorted(f"wave_{line}" for line in (*HISTOGRAM, f'h_{ending}{{a="b"}} 1'))


def test_counter_gets_the_suffix_total_unless_that_name_is_taken() -> None:
    assert series('# TYPE x counter\nx 1\ny 1\nx{a="b"} 2\n') == ["wave_x_total 1", 'wave_x_total{a="b"} 2', "wave_y 1"]
    assert series("# TYPE x counter\nx 1\nx_total 2\n") == ["wave_x 1", "wave_x_total 2"]
    assert series("# TYPE x_total gauge\nx_total 2\nx 1\n# TYPE x counter\n") == ["wave_x_total 2", "wave_x 1"]


def test_reserved_labels_are_renamed() -> None:
    labels = 'platform="p",upstream="u",exported_upstream="v",le="1",quantile="0.5",empty=""'
    moved = 'exported_exported_upstream="u",exported_le="1",exported_platform="p",exported_quantile="0.5"'
    assert series(f"# TYPE a gauge\na{{{labels}}} 1\n") == [f'wave_a{{{moved},exported_upstream="v"}} 1']


@pytest.mark.parametrize(
    "label", ["job", "instance", "namespace", "pod", "container", "service", "endpoint", "node", "platform", "upstream"]
)
@pytest.mark.parametrize("kind", ["counter", "untyped", "histogram", "summary"])
def test_target_labels_are_renamed(kind: str, label: str) -> None:
    assert series(f'# TYPE x_total {kind}\nx_total{{{label}="a"}} 1\n') == [f'wave_x_total{{exported_{label}="a"}} 1']


CONFIGURED: Labels = (("site", 'no "r"'), ("team", "sports"))


@pytest.mark.parametrize("kind", ["counter", "untyped", "histogram", "summary"])
def test_configured_labels_are_added_and_conflicting_ones_renamed(kind: str) -> None:
    text = f'# TYPE x_total {kind}\nx_total{{team="a",exported_team="b"}} 1\nx_total 2\n'
    exported = PassthroughText(text=text, prefix="wave_", max_series=9, stale_at=math.inf)
    state = view(platform="wave", upstream="wave", labels=CONFIGURED)
    for labels, ours in ((CONFIGURED, r',site="no \"r\"",team="sports"'), ((), "")):
        metrics = ExportParser("wave", "wave", labels)(exported)
        text = rendered(msgspec.structs.replace(state, labels=labels, passthrough=metrics)).text.decode()
        theirs = 'exported_exported_team="a",exported_team="b"' if labels else 'exported_team="b",team="a"'
        assert f"wave_x_total{{{OURS}{ours},{theirs}}} 1\n" in text
        assert f"wave_x_total{{{OURS}{ours}}} 2\n" in text
        assert f"{DROPPED}{{{OURS}{ours}}} 0\n" in text


def test_changed_labels_replace_cached_text() -> None:
    cache = ExpositionCache()
    state = upstream(parse("# TYPE a gauge\na 1\n"))
    for labels in (CONFIGURED, (), CONFIGURED[:1]):
        changed = msgspec.structs.replace(state, labels=labels)
        assert rendered(changed, cache=cache).text == rendered(changed).text


def test_family_of_several_upstreams_has_one_heading() -> None:
    first = "# HELP a Help.\n# TYPE a gauge\na 1\n# HELP b Help.\n# TYPE b gauge\nb 2\n"
    second = "# HELP b Help.\n# TYPE b gauge\nb 3\n# HELP a Help.\n# TYPE a gauge\na 4\n"
    assert passed(first, second) == (
        "# HELP wave_a Help.\n# TYPE wave_a gauge\n"
        'wave_a{platform="wave",upstream="wave"} 1\nwave_a{platform="wave",upstream="wave2"} 4\n'
        "# HELP wave_b Help.\n# TYPE wave_b gauge\n"
        'wave_b{platform="wave",upstream="wave"} 2\nwave_b{platform="wave",upstream="wave2"} 3\n'
    )


@pytest.mark.parametrize("second", ["# TYPE a counter\n# TYPE a_total gauge\na 2\n", "a 2\n", "# TYPE a gauge\na 2\n"])
def test_compatible_family_has_the_type_of_the_first_upstream(second: str) -> None:
    assert passed("# TYPE a gauge\na 1\n", second).endswith(
        '# TYPE wave_a gauge\nwave_a{platform="wave",upstream="wave"} 1\nwave_a{platform="wave",upstream="wave2"} 2\n'
    )
    views = upstream(parse("# TYPE a gauge\na 1\n")), upstream(parse(second), "wave2")
    assert dropped(*views) == {"wave": 0, "wave2": 0}


def test_prefix_is_configurable() -> None:
    assert "\nother_a{" in passed("a 1\n", prefix="other_")


def test_long_texts_are_truncated() -> None:
    help_, _, line = passed(f'# HELP a {"h" * 5000}\na{{l="{"v" * 5000}"}} 1\n').splitlines()
    assert len(help_) < 1100
    assert len(line) < 400


# -- dropped -----------------------------------------------------------------------------------------------------------


def test_dropped_series_are_counted_per_upstream() -> None:
    views = (
        upstream(parse('h_bucket{le="1"} 1\n' + "a 1\n" * 8)),
        upstream(parse("# TYPE h histogram\nh_sum 1\nh_bucket 1\n"), "wave2"),
        upstream(None, "wave3"),
    )
    assert dropped(*views) == {"wave": 7, "wave2": 2}
    assert dropped(upstream(None)) == {}


INVALID_SERIES = {
    "name": ('{"a b"} 1', "invalid metric name"),
    "name that is not ASCII": ('{"é"} 1', "invalid metric name"),
    "long name": ("a" * 300 + " 1", "invalid metric name"),
    "label": ('x{"a-b"="secret"} 1', "invalid label name"),
    "le": ('# TYPE x histogram\nx_bucket{le="secret"} 1', "le or quantile is not a number"),
    "le as in Python": ('# TYPE x histogram\nx_bucket{le="1_0"} 1', "le or quantile is not a number"),
    "le too large": ('# TYPE x histogram\nx_bucket{le="1e999"} 1', "le or quantile is not a number"),
    "quantile": ('# TYPE x summary\nx{quantile="secret"} 1', "le or quantile is not a number"),
    "value": ('x{a="secret inf"} 1e999', "value is too large for a float"),
    "integer": ('x{a="secret"} ' + "9" * 400, "value is too large for a float"),
    "duplicate": ('good{x=""} 2', "duplicate series"),
}


@pytest.mark.parametrize(("line", "reason"), INVALID_SERIES.values(), ids=list(INVALID_SERIES))
def test_invalid_series_are_dropped_and_logged_once_per_reason(line: str, reason: str) -> None:
    text = PassthroughText(text=f"good 1\n{line}\n", prefix="wave_", max_series=9, stale_at=math.inf)
    parser = ExportParser("wave", "main")
    with capture_logs() as logs:
        first, second = parser(text), parser(text)
    assert rendered(upstream(second)).text.decode().count("\nwave_") == 1
    assert dropped(upstream(first)) == {"wave": 1}
    (entry,) = logs
    assert (entry["platform"], entry["upstream"], entry["reason"], entry["count"]) == ("wave", "main", reason, 1)
    assert len(entry["families"]) == 1
    assert "secret" not in str(entry)
    assert len(str(entry)) < 500


def test_log_of_dropped_series_lists_three_families() -> None:
    many = "".join(f'm{index}{{id="secret"}} 1\n' * 2 for index in range(9))
    parser = ExportParser("wave", "main")
    with capture_logs() as logs:
        parser(PassthroughText(text=many, prefix="wave_", max_series=10, stale_at=math.inf))
        parser(PassthroughText(text="x 1\nx 1\n", prefix="wave_", max_series=10, stale_at=math.inf))
    assert [(entry["reason"], entry["count"], entry["families"]) for entry in logs] == [
        ("more series than max_series", 8, ["m5", "m6", "m7"]),
        ("duplicate series", 5, ["m0", "m1", "m2"]),
    ]


async def test_log_of_dropped_series_names_the_upstream() -> None:
    coordinator = PolledUpstream().coordinator
    exported = PassthroughText(text="a 1\na 2\n", prefix="wave_", max_series=9, stale_at=math.inf)
    with capture_logs() as logs:
        metrics = await coordinator.platform.parse_passthrough("GET /metrics", exported)
    await coordinator.close()
    assert metrics.dropped == 1
    assert [(entry["platform"], entry["upstream"], entry["families"]) for entry in logs] == [("scripted", "u", ["a"])]


def test_valid_export_logs_nothing() -> None:
    with capture_logs() as logs:
        metrics = ExportParser("wave", "main")(
            PassthroughText(text=HTTP, prefix="wave_", max_series=10, stale_at=math.inf)
        )
        rendered(upstream(metrics))
    assert logs == []


INCOMPATIBLE = [
    ("# TYPE a gauge\na 1\n", "# TYPE a histogram\na_sum 1\na_count 1\n", 2),
    ("# TYPE a histogram\na_sum 1\n", "a 1\n", 1),
    ("# TYPE a histogram\na_sum 1\n", "# TYPE a summary\na_sum 1\n", 1),
    ("# TYPE a histogram\na_sum 1\n", "# TYPE a_bucket gauge\na_bucket 1\n", 1),
    ("a_sum 1\n", "# TYPE a summary\na_sum 1\n", 1),
]


@pytest.mark.parametrize(("first", "second", "count"), INCOMPATIBLE)
def test_family_with_a_conflicting_type_is_dropped_and_logged_once(first: str, second: str, count: int) -> None:
    views, cache = (upstream(parse(first)), upstream(parse(second), "wave2")), ExpositionCache()
    assert passed(first, second) == passed(first)
    assert dropped(*views) == {"wave": 0, "wave2": count}
    with capture_logs() as logs:
        rendered(*views, cache=cache)
        rendered(*views, cache=cache)
    assert [(entry["upstream"], entry["count"]) for entry in logs] == [("wave2", count)]
    assert logs[0]["reason"].startswith("type differs")


@pytest.mark.parametrize(
    ("prefix", "name"), [("s", "tream_live"), ("p", "rocess_x"), ("python", "_info"), ("stream", "_x")]
)
def test_name_reserved_for_the_exporter_is_dropped(prefix: str, name: str) -> None:
    text = f"{name} 1\n"
    assert passed(text, prefix=prefix) == ""
    assert dropped(upstream(parse(text, prefix=prefix))) == {"wave": 1}


def test_duplicate_series_keep_the_first() -> None:
    text = 'a{x="1",y="2"} 1\na{y="2",x="1"} 2\nb 1\na{y="2",x="1",z=""} 3\n'
    assert series(text) == ['wave_a{x="1",y="2"} 1', "wave_b 1"]
    assert dropped(upstream(parse(text))) == {"wave": 2}


def test_equal_bounds_keep_the_first() -> None:
    text = "\n".join(["# TYPE h histogram", 'h_bucket{le="1.00"} 5', *HISTOGRAM])
    assert series(text)[0] == 'wave_h_bucket{le="1.0"} 5'
    assert dropped(upstream(parse(text))) == {"wave": 1}


# -- generated exports -------------------------------------------------------------------------------------------------


def check(text: str) -> None:
    """Check that the text can be parsed and contains no series or family twice."""
    assert list(text_string_to_metric_families(text))
    names = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
    assert len(names) == len(set(names))
    # Without TYPE lines: the parser treats a counter's name with and without _total as equal, unlike format 0.0.4.
    untyped = "\n".join(line for line in text.split("\n") if not line.startswith("#")) + "\n"
    found = set()
    for family in text_string_to_metric_families(untyped):
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found
            found.add(key)
            assert math.isfinite(sample.value) or sample.name.startswith("wave_")
            assert sample.timestamp is None
            assert {"platform", "upstream"} <= sample.labels.keys()


def exports() -> st.SearchStrategy[str]:
    """Generate texts that resemble exports."""
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


@given(st.lists(exports() | st.text(), min_size=1, max_size=2))
def test_any_export_becomes_a_valid_exposition(texts: list[str]) -> None:
    parsed, lines = [], 0
    for text in texts:
        with contextlib.suppress(ValueError):
            parsed.append(parse(text, max_series=8))
            lines += sum(bool(line.strip()) and not line.strip().startswith("#") for line in text.split("\n"))
    if parsed:
        out = rendered(*(upstream(metrics, f"wave{index}") for index, metrics in enumerate(parsed))).text.decode()
        check(out)
        assert len(re.findall("^wave_", out, re.MULTILINE)) + sum(dropped_in(out).values()) == lines


def test_secret_in_an_export_is_redacted_before_it_is_parsed() -> None:
    redactor.add('canary"of-an-export')
    metrics = parse('# HELP a canary"of-an-export\na{sent="canary\\"of-an-export",more="b"} 1\n')
    (family,) = metrics.families
    assert family.help == "<secret>"
    assert family.samples[0].labels == (("more", "b"), ("sent", "<secret>"))


@pytest.mark.real
def test_promtool_accepts_the_rendered_text() -> None:
    text = """\
# TYPE wait histogram
wait_bucket{le="1"} 1
wait_bucket{le="+Inf"} 2
wait_sum -Inf
wait_count 3
wait_bucket{le="0.5"} 7
wait 1
wait_sum{le="1"} 1
# TYPE wait_count gauge
# TYPE items gauge
items{le="1",quantile="2",platform="x"} 1
items NaN
items{a="b"} +Inf
# TYPE delay summary
delay{quantile="0.9"} 1
delay{quantile="0.99"} NaN
delay_sum 1
delay_count 1
# TYPE errors counter
errors 1
untyped_one{le="9"} 1
errors{code="500"} -1
late_sum 1
# TYPE late summary
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
                PassthroughSample("h_bucket", (("le", "1.0"),), 1),
                PassthroughSample("h_bucket", (("le", "+Inf"),), 2),
                PassthroughSample("h_sum", (), 3),
                PassthroughSample("h_count", (), 2),
            ),
        ),
    )


def test_series_above_the_limit_are_not_parsed() -> None:
    text = "# TYPE a gauge\n" + "".join(f'a{{n="{n}"}} {n}\n\n' for n in range(10)) + "# a comment\nnot { readable\n"
    metrics = parse(text, max_series=4)
    assert [sample.value for sample in metrics.families[0].samples] == [0, 1, 2, 3]
    assert metrics.dropped == 7
    with pytest.raises(ValueError, match=UNREADABLE):
        parse(text, max_series=11)
    assert parse("").families == ()


@pytest.mark.parametrize("text", ["<!DOCTYPE html>\n<html></html>", '{"error": "x"}', "a{", "a b", "# TYPE a\n"])
def test_parse_error_does_not_quote_the_text(text: str) -> None:
    with pytest.raises(ValueError) as error:
        parse(text)
    assert str(error.value) == UNREADABLE
    assert error.value.__cause__ is None


@given(st.text() | st.text('# TYPEHL{}="\\\n,x1 _le+Inf', max_size=200))
def test_any_text_is_parsed_or_raises_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        parse(text)
