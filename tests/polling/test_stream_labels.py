from __future__ import annotations

import hashlib
import hmac

from hypothesis import given
from hypothesis import strategies as st

from exporter.polling.stream_labels import LabelBook


def test_rule_name_uses_the_platforms_name_or_else_the_id() -> None:
    book = LabelBook("u", "name")
    assert book.label("1234567890", "main") == "main"
    assert book.label("abcdefghij", "") == "abcdefghij"


def test_rule_id_uses_the_id() -> None:
    assert LabelBook("u", "id").label("1234567890", "main") == "1234567890"


def test_taken_name_is_extended_by_eight_characters_of_the_id() -> None:
    book = LabelBook("u", "name")
    assert book.label("aaaaaaaaaaaa", "main") == "main"
    assert book.label("bbbbbbbbbbbb", "main") == "main#bbbbbbbb"


def test_ids_with_a_common_prefix_get_different_labels() -> None:
    book = LabelBook("u", "name")
    labels = {book.label(f"session-{n}", "main") for n in range(5)}
    assert len(labels) == 5


def test_label_stays_with_its_id_until_forgotten() -> None:
    book = LabelBook("u", "name")
    assert book.label("a" * 12, "main") == "main"
    assert book.label("a" * 12, "renamed") == "main"
    book.forget("a" * 12)
    assert book.label("b" * 12, "main") == "main"


def test_configured_name_takes_precedence_and_is_reserved() -> None:
    book = LabelBook("u", "hash", "key")
    book.configure({"id-1": "stage"})
    assert book.label("id-1", "whatever") == "stage"
    book.forget("id-1")
    named = LabelBook("u", "name")
    named.configure({"id-1": "stage"})
    assert named.label("id-2222222222", "stage") == "stage#id-22222"


def test_changed_configured_name_changes_the_label() -> None:
    book = LabelBook("u", "name")
    book.configure({"id-1": "stage"})
    assert book.label("id-1", "") == "stage"
    book.configure({"id-1": "arena"})
    assert book.label("id-1", "") == "arena"
    book.configure({})
    assert book.label("id-1", "own") == "own"


def test_label_never_equals_another_streams_id_or_label() -> None:
    book = LabelBook("u", "name")
    assert book.label("cam", "") == "cam"
    assert book.label("id-1", "cam") == "cam#id-1"
    assert book.label("id-2", "stage") == "stage"
    assert book.label("stage", "") == "stage#stage"
    book.configure({"id-3": "cam"})
    book.forget("cam")
    assert book.label("id-4", "cam") == "cam#id-4"
    book.forget("id-2")
    assert book.label("id-5", "stage") == "stage"


def test_rule_hash_uses_the_documented_hmac() -> None:
    expected = hmac.new(b"key", b"edge\0live/secret-key", hashlib.sha256).hexdigest()[:16]
    assert LabelBook("edge", "hash", "key").label("live/secret-key", "live/secret-key") == expected


@given(
    st.lists(
        st.tuples(st.text("ab", min_size=1, max_size=3), st.text("ab", max_size=3)), unique_by=lambda pair: pair[0]
    ),
    st.sampled_from(["name", "id", "hash"]),
)
def test_labels_are_unique_and_stable(streams: list[tuple[str, str]], rule: str) -> None:
    book = LabelBook("u", rule, "key")
    labels = [book.label(id_, name) for id_, name in streams]
    assert len(set(labels)) == len(labels)
    assert [book.label(id_, "") for id_, _ in streams] == labels
