from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.polling.stream_labels import LabelBook


def test_rule_name_uses_the_platforms_name_or_else_the_id() -> None:
    book = LabelBook("u", "name")
    assert book.label("1234567890", "main") == "main"
    assert book.label("abcdefghij", "") == "abcdefghij"


def test_rule_id_uses_the_id() -> None:
    assert LabelBook("u", "id").label("1234567890", "main") == "1234567890"


def labels_of(book: LabelBook, streams: Mapping[str, str]) -> dict[str, str]:
    """Return the labels of the streams in a list (names by id) after the book has seen the list."""
    book.update(streams)
    return {stream_id: book.label(stream_id, name) for stream_id, name in streams.items()}


def suffix(stream_id: str) -> str:
    return "#" + hashlib.sha256(stream_id.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def test_all_streams_of_the_same_name_get_a_hash_of_their_id() -> None:
    streams = {"a": "main", "b": "main", "c": "other"}
    expected = {"a": "main" + suffix("a"), "b": "main" + suffix("b"), "c": "other"}
    assert labels_of(LabelBook("u", "name"), streams) == expected
    assert labels_of(LabelBook("u", "name"), dict(reversed(streams.items()))) == expected


def test_shared_label_stays_until_the_stream_is_forgotten() -> None:
    book = LabelBook("u", "name")
    assert labels_of(book, {"a": "main"}) == {"a": "main"}
    assert labels_of(book, {"a": "main", "b": "main"})["a"] == "main" + suffix("a")
    assert labels_of(book, {"a": "main"}) == {"a": "main" + suffix("a")}
    book.forget("b")
    assert labels_of(book, {"a": "main"}) == {"a": "main" + suffix("a")}
    book.forget("a")
    assert labels_of(book, {"a": "main"}) == {"a": "main"}


def test_known_stream_that_left_the_list_still_shares_its_name() -> None:
    book = LabelBook("u", "name")
    labels_of(book, {"a": "main"})
    assert labels_of(book, {"b": "main"}) == {"b": "main" + suffix("b")}


def test_renamed_stream_gets_the_label_of_its_new_name() -> None:
    book = LabelBook("u", "name")
    assert labels_of(book, {"a": "main"}) == {"a": "main"}
    assert labels_of(book, {"a": "renamed"}) == {"a": "renamed"}


def test_configured_name_takes_precedence_and_never_changes() -> None:
    hashed = LabelBook("u", "hash", "key")
    hashed.configure({"id-1": "stage"})
    assert hashed.label("id-1", "whatever") == "stage"
    named = LabelBook("u", "name")
    named.configure({"id-1": "stage"})
    assert labels_of(named, {"id-1": "x", "id-2": "stage"}) == {"id-1": "stage", "id-2": "stage" + suffix("id-2")}


def test_configured_stream_without_a_name_is_labelled_with_its_id() -> None:
    book = LabelBook("u", "name")
    book.configure({"id-1": None})
    assert labels_of(book, {"id-1": "main", "id-2": "id-1"}) == {"id-1": "id-1", "id-2": "id-1" + suffix("id-2")}


@pytest.mark.parametrize("code", [0xD801, 0xDCFF, 0xFFFD])
def test_names_with_equal_label_values_are_distinguished(code: int) -> None:
    other = chr(code)
    labels = labels_of(LabelBook("u", "name"), {"a": "cam\ud800", "b": f"cam{other}"})
    assert labels == {"a": "cam\ufffd" + suffix("a"), "b": "cam\ufffd" + suffix("b")}
    assert len(set(labels_of(LabelBook("u", "id"), {"cam\ud800": "", f"cam{other}": ""}).values())) == 2


def test_changed_configured_name_changes_the_label() -> None:
    book = LabelBook("u", "name")
    book.configure({"id-1": "stage"})
    assert book.label("id-1", "") == "stage"
    book.configure({"id-1": "arena"})
    assert book.label("id-1", "") == "arena"
    book.configure({})
    assert book.label("id-1", "own") == "own"


def test_name_that_equals_another_streams_id_counts_as_shared() -> None:
    labels = labels_of(LabelBook("u", "name"), {"cam": "", "id-1": "cam"})
    assert labels == {"cam": "cam" + suffix("cam"), "id-1": "cam" + suffix("id-1")}


def test_rule_hash_uses_the_documented_hmac() -> None:
    expected = hmac.new(b"key", b"edge\0live/secret-key", hashlib.sha256).hexdigest()[:16]
    assert LabelBook("edge", "hash", "key").label("live/secret-key", "live/secret-key") == expected


@given(
    st.lists(
        st.tuples(st.text("ab", min_size=1, max_size=3), st.text("ab", max_size=3)), unique_by=lambda pair: pair[0]
    ),
    st.sampled_from(["name", "id", "hash"]),
)
def test_labels_are_unique_and_do_not_depend_on_the_order(streams: list[tuple[str, str]], rule: str) -> None:
    labels = labels_of(LabelBook("u", rule, "key"), dict(streams))
    assert len(set(labels.values())) == len(labels)
    assert labels_of(LabelBook("u", rule, "key"), dict(reversed(streams))) == labels
