from __future__ import annotations

import contextlib
import math
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from exporter.config import yaml_document as document
from exporter.config.yaml_document import DocumentError, read


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 14:00", "14:00"),
        ("a: no", "no"),
        ("a: on", "on"),
        ("a: 2024-01-01", "2024-01-01"),
        ("a: true", True),
        ("a: False", False),
        ("a: ~", None),
        ("a:", None),
        ("a: null", None),
        ("a: 012", 12),
        ("a: -5", -5),
        ("a: 1.5e3", 1500.0),
        ("a: .inf", math.inf),
        ("a: -.inf", -math.inf),
        ("a: '5'", "5"),
        ("a: !!str 5", "5"),
        ("a: ! 5", "5"),
        ("a: |\n  x\n  y\n", "x\ny\n"),
        ("a: [1, {b: c}]", [1, {"b": "c"}]),
        ("a: 123456789012345678901234567890", 1.2345678901234568e29),
    ],
)
def test_scalars_follow_the_yaml_1_2_core_schema(text: str, value: Any) -> None:
    assert read(text).data == {"a": value}


def test_nan_is_a_number() -> None:
    assert math.isnan(read("a: .nan").data["a"])


def test_keys_are_always_text() -> None:
    assert read("{1: a, true: b, null: c, on: d}").data == {"1": "a", "true": "b", "null": "c", "on": "d"}


def test_keys_and_values_have_positions() -> None:
    found = read("upstreams:\n  - name: studio\n    auth: {token: x}\n")
    assert found.keys[("upstreams", 0, "auth", "token")] == (3, 12)
    assert found.values[("upstreams", 0, "auth", "token")] == (3, 19)
    assert found.values[("upstreams", 0)] == (2, 5)
    assert found.values[()] == (1, 1)


def test_aliases_and_merges_are_expanded() -> None:
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {<<: [{z: 1}, {z: 2, w: 3}]}\nd: *a\ne: {<<: {<<: *a, v: 1}}"
    assert read(text).data == {
        "a": {"x": 1, "y": 2},
        "b": {"y": 3, "x": 1},
        "c": {"z": 1, "w": 3},
        "d": {"x": 1, "y": 2},
        "e": {"v": 1, "x": 1, "y": 2},
    }


def test_quoted_merge_key_is_an_ordinary_key() -> None:
    assert read("{'<<': {a: 1}}").data == {"<<": {"a": 1}}


def test_all_duplicate_keys_are_found_and_the_first_value_is_used() -> None:
    found = read("a: 1\nb: {c: 1, c: 2}\na: 3\n<<: {x: 1}\n<<: {y: 1}\n")
    assert found.data == {"a": 1, "b": {"c": 1}, "x": 1}
    assert sorted(found.repeated) == [(("<<",), (5, 1)), (("a",), (3, 1)), (("b", "c"), (2, 11))]


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? ", "a:\n"])
def test_deep_nesting_is_refused_before_it_overflows_the_stack(opening: str) -> None:
    text = "".join(" " * depth + opening for depth in range(2_000)) if "\n" in opening else opening * 5_000
    with pytest.raises(DocumentError, match=r"more than 32 levels|nesting depth"):
        read(text)


def test_anchor_can_be_redefined() -> None:
    assert read("a: &x 1\nb: *x\nc: &x 2\nd: *x\n").data == {"a": 1, "b": 1, "c": 2, "d": 2}


@pytest.mark.parametrize("text", ["a: &a [*a]", "a: &a {b: *a}", "a: &a {<<: *a}", "&a [[[*a, *a]]]"])
def test_recursive_alias_is_refused(text: str) -> None:
    with pytest.raises(DocumentError):
        read(text)


def test_empty_document_is_none() -> None:
    assert read("").data is None
    assert read("# only words").data is None


def test_too_long_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "MAX_CHARACTERS", 10)
    with pytest.raises(DocumentError, match="11 characters"):
        read("a" * 11)


def test_parser_without_libyaml_gives_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "_LOADER", document._core_loader(yaml.SafeLoader))
    assert read("a: [1, 'x', 14:00]").data == {"a": [1, "x", "14:00"]}
    with pytest.raises(DocumentError) as caught:
        read("a: b: c")
    assert caught.value.place == (1, 5)
    with pytest.raises(DocumentError) as caught:
        read("a: b\nc: \x01")
    assert caught.value.place == (2, 4)


def test_parser_error_does_not_quote_the_text() -> None:
    with pytest.raises(DocumentError) as caught:
        read("a: {%canary-directive: [}")
    assert "canary" not in str(caught.value)


@given(st.text(alphabet=st.sampled_from("ab01:-[]{},&*!<> \n\t\"'#|%?\\x~.")))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(DocumentError):
        read(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=20,
    )
)
def test_dumped_value_is_read_back(value: Any) -> None:
    assert read(yaml.safe_dump(value)).data == value
