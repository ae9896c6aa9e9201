"""Text format 0.0.4: numbers, labels and headings."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.utils import floatToGoString

from exporter.metrics.text_format import bound, heading, label_text, label_value, number

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=400)
"""Including lone surrogates and control characters."""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (-3, "-3"),
        (True, "1"),
        (False, "0"),
        (1.0, "1.0"),
        (0.1, "0.1"),
        (2**53 + 1, "9007199254740993"),
        (2**64 - 1, "18446744073709551615"),
        (float("nan"), None),
        (float("inf"), None),
        (float("-inf"), None),
        (10**400, None),
    ],
)
def test_number_is_the_shortest_text(value: float, text: str | None) -> None:
    assert number(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53))
@example(1e300)
@example(5e-324)
@example(2**70)
def test_number_parses_to_the_same_value(value: float) -> None:
    text = number(value)
    assert text is not None
    assert float(text) == value


@pytest.mark.parametrize("value", [0.1, 1.0, 312500.0, 1e6, 1.5e6, 6.25e6, float("inf")])
def test_bound_equals_that_of_prometheus_client(value: float) -> None:
    assert bound(value) == floatToGoString(value)  # type: ignore[no-untyped-call]


def test_bounds_are_floats() -> None:
    assert [bound(v) for v in (1.0, 312500.0, 1e6, float("inf"))] == ["1.0", "312500.0", "1e+06", "+Inf"]


def test_label_values_are_escaped() -> None:
    assert label_text(("a", "b"), ('say "hi"\\', "two\nlines")) == r'a="say \"hi\"\\",b="two\nlines"'


def test_labels_and_values_of_different_length_are_an_error() -> None:
    with pytest.raises(ValueError):
        label_text(("a", "b"), ("only one",))


def test_long_label_values_are_cut_but_stay_different() -> None:
    first, second = "x" * 300 + "1", "x" * 300 + "2"
    digest = hashlib.sha256(first.encode()).hexdigest()[:8]
    assert label_value(first) == "x" * 240 + "#" + digest
    assert label_value(first) != label_value(second)
    assert label_value("é" * 256) == "é" * 256
    assert len(label_value("é" * 257)) == 249


def test_lone_surrogates_are_replaced_and_pairs_joined() -> None:
    assert label_value("a\ud800b") == "a\ufffdb"
    assert label_value("\ud83d\ude00") == "😀"


@given(ANY_TEXT)
def test_any_label_value_becomes_valid_unicode_of_limited_length(text: str) -> None:
    value = label_value(text)
    value.encode()
    assert len(value) <= 256


@given(ANY_TEXT)
def test_any_label_value_can_be_parsed(text: str) -> None:
    line = f"{heading('m', 'gauge', 'h')}m{{{label_text(('a',), (text,))}}} 1\n"
    (family,) = text_string_to_metric_families(line)
    assert family.samples[0].labels == {"a": label_value(text)}


def test_heading_escapes_help() -> None:
    assert heading("m", "gauge", 'one\\\n"two"') == '# HELP m one\\\\\\n"two"\n# TYPE m gauge\n'
