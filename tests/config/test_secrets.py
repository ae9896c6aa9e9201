from __future__ import annotations

import base64
import copy
import os
from pathlib import Path
from urllib.parse import quote

import pytest
import structlog.testing
from hypothesis import given
from hypothesis import strategies as st

from exporter.config import secrets
from exporter.config.secrets import Secret, SecretError
from exporter.runtime.redaction import HIDDEN, Redactor, redactor
from tests.file_obstacles import OBSTACLES, HungMount, put_obstacle


def test_secret_is_hidden_in_str_and_repr(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("canary-of-a-file\n")
    all_secrets = [Secret.inline("canary-inline"), Secret.from_file(path), Secret.from_env("X", {"X": "canary-of-env"})]
    for secret in all_secrets:
        assert secret.get().startswith("canary")
        assert f"{secret} {secret!r} {[secret]}" == f"{HIDDEN} {HIDDEN} [{HIDDEN}]"
    assert [secret.origin for secret in all_secrets] == ["inline", "file", "environment"]


@pytest.mark.parametrize(
    ("content", "text"),
    [("abcd", "abcd"), ("abcd\n", "abcd"), ("abcd\r\n", "abcd"), (" ab cd ", " ab cd "), ("ä\n", "ä")],
)
def test_one_newline_at_the_end_of_a_file_is_ignored(tmp_path: Path, content: str, text: str) -> None:
    path = tmp_path / "token"
    path.write_bytes(content.encode())
    assert Secret.from_file(path).get() == text


async def test_refresh_reads_the_file_again(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("first-token")
    secret = Secret.from_file(path)
    assert secret.get() == await secret.refresh() == "first-token"
    replacement = tmp_path / "new"
    replacement.write_text("other-token")
    os.utime(replacement, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    replacement.replace(path)
    assert await secret.refresh() == secret.get() == "other-token"
    path.unlink()
    with pytest.raises(SecretError, match="No such file"):
        await secret.refresh()
    path.write_text("first-token")
    assert await secret.refresh() == "first-token"
    assert await Secret.inline("inline-token").refresh() == "inline-token"


@pytest.mark.parametrize("kind", OBSTACLES)
async def test_anything_but_a_regular_file_is_an_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "token"
    path.write_text("first-token")
    secret = Secret.from_file(path)
    secret.get()
    cause = put_obstacle(path, kind)
    for read in (secret.refresh, Secret.from_file(path).refresh):
        with pytest.raises(SecretError, match=f"cannot read secrets file {path}: {cause}"):
            await read()
    with pytest.raises(SecretError, match=cause):
        Secret.from_file(path).get()


async def test_last_content_is_used_while_the_file_system_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "token"
    path.write_text("first-token")
    known, unknown = Secret.from_file(path), Secret.from_file(path)
    known.get()
    monkeypatch.setattr(secrets, "DEADLINE_SECONDS", 0.01)
    monkeypatch.setattr(secrets, "KNOWN_FILE_SECONDS", 0.01)
    mount = HungMount(monkeypatch, path)
    try:
        with structlog.testing.capture_logs() as logs:
            assert [await known.refresh() for _ in range(3)] == ["first-token"] * 3
        assert [entry["event"] for entry in logs] == ["cannot read secrets file; using its last content"]
        with pytest.raises(SecretError, match=r"no answer from the file system within 0\.01 s"):
            await unknown.refresh()
        assert mount.asked == 1
    finally:
        mount.release()
    monkeypatch.setattr(secrets, "KNOWN_FILE_SECONDS", 60.0)
    path.write_text("second-token")
    assert await known.refresh() == "second-token"


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"two-of\nthem", b"two-of\n\n", b"nul-of\0", b"no-utf8\xff", b"x" * 70_000]
)
def test_invalid_content_is_an_error_that_does_not_show_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(SecretError) as caught:
        Secret.from_file(path).get()
    assert str(path) in str(caught.value)
    assert caught.value.__cause__ is None
    assert "of" not in str(caught.value).replace(str(path), "").replace("longer than 65536 bytes", "")


def test_unset_variable_is_an_error() -> None:
    with pytest.raises(SecretError, match="X is not set"):
        Secret.from_env("X", {}).get()


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "token-of-the-process")
    assert Secret.from_env("SOME_TOKEN").get() == "token-of-the-process"


def test_secrets_are_equal_if_their_source_is(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("first-token")
    first = Secret.from_file(path)
    first.get()
    path.write_text("second-token")
    assert first == Secret.from_file(path)
    assert first != Secret.from_file(tmp_path / "other")
    assert Secret.inline("same") == Secret.inline("same") != Secret.inline("other")
    assert Secret.from_env("X", {"X": "1"}) == Secret.from_env("X", {"X": "1"}) != Secret.from_env("X", {"X": "2"})
    assert Secret.inline("same") != "same"
    assert len({Secret.from_file(path), first, copy.copy(first)}) == 1


def test_secret_and_its_encoded_forms_are_scrubbed(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("p@ss/w ord+ü")
    secret = Secret.from_file(path).get()
    forms = [secret, quote(secret), quote(secret, safe=""), base64.b64encode(secret.encode()).decode()]
    assert redactor.scrub(" ".join(forms)) == " ".join([HIDDEN] * len(forms))


def test_short_secret_is_not_scrubbed() -> None:
    own = Redactor()
    own.add("abc")
    assert own.scrub("abcabc") == "abcabc"


def test_forgotten_secret_is_not_scrubbed() -> None:
    redactor = Redactor()
    for text in ("first-token", "second-token"):
        redactor.add(text)
    redactor.forget("first-token")
    redactor.forget("never-added")
    assert redactor.scrub("first-token second-token") == f"first-token {HIDDEN}"
    redactor.forget("second-token")
    assert redactor.scrub("first-token second-token") == "first-token second-token"


def test_longest_secret_is_scrubbed_first() -> None:
    own = Redactor()
    own.add("token")
    own.add("token-of-two")
    own.add("token")
    assert own.scrub("a token-of-two and a token") == f"a {HIDDEN} and a {HIDDEN}"


@pytest.mark.no_cover
@given(st.text(min_size=4), st.text(), st.text())
def test_no_secret_survives_scrubbing(secret: str, before: str, after: str) -> None:
    own = Redactor()
    own.add(secret)
    scrubbed = own.scrub(f"{before}{secret}{after}")
    # the placeholder and the text around it may form the secret again, such as "<" before "secret>"
    assert secret in HIDDEN or secret not in scrubbed.split(HIDDEN) or secret in before + after
    assert HIDDEN in scrubbed


TEXTS = st.text(st.characters(exclude_characters="<>", exclude_categories=["Cs"]))
"""Without the placeholder's < and >: together with the text around it, it might form a secret again."""


@given(st.lists(TEXTS.filter(lambda text: len(text) >= 8), min_size=1, max_size=4), st.lists(TEXTS, max_size=5))
def test_no_secret_of_eight_characters_survives_in_a_platforms_text(secrets: list[str], parts: list[str]) -> None:
    own = Redactor()
    for secret in secrets:
        own.add(secret)
    texts = [*parts, *secrets, *(base64.b64encode(secret.encode()).decode() for secret in secrets)]
    scrubbed = own.scrub_text(" ".join(texts))
    assert [secret for secret in secrets if secret in scrubbed and secret not in HIDDEN] == []
    assert own.scrub_text(scrubbed) == scrubbed


@given(TEXTS.filter(lambda text: 8 <= len(text) < 16), TEXTS, TEXTS)
def test_name_with_a_secret_below_sixteen_characters_changes_only_if_it_is_the_secret(
    secret: str, before: str, after: str
) -> None:
    own = Redactor()
    own.add(secret)
    name = f"{before}{secret}{after}"
    assert own.scrub_name(secret) == HIDDEN
    assert own.scrub_name(name) == (HIDDEN if name == secret else name)


@given(TEXTS.filter(lambda text: len(text) >= 16), TEXTS, TEXTS)
def test_secret_of_sixteen_characters_is_replaced_anywhere_in_a_name(secret: str, before: str, after: str) -> None:
    own = Redactor()
    own.add(secret)
    assert secret not in own.scrub_name(f"{before}{secret}{after}")


@pytest.mark.parametrize("name", ["live/final", "live", "alive", "live-password"])
def test_short_password_does_not_change_texts_of_a_platform(name: str) -> None:
    own = Redactor()
    own.add("live")
    assert own.scrub_name(name) == own.scrub_text(name) == name
    assert own.scrub("the password is live") == f"the password is {HIDDEN}"


def test_escaped_and_lowercase_secret_of_a_platform_is_replaced() -> None:
    own = Redactor()
    own.add('Pass"w\\ördliness')
    forms = ['Pass"w\\ördliness', r"Pass\"w\\ördliness", r"Pass\"w\\\u00f6rdliness", 'pass"w\\ördliness']
    assert own.scrub_text(" ".join(forms)) == " ".join([HIDDEN] * len(forms))


def test_text_without_secrets_is_unchanged() -> None:
    own = Redactor()
    assert not own.occurs_in("anything")
    own.add("some-secret-of-a-platform")
    text = "nothing to hide"
    assert own.scrub_text(text) == own.scrub_name(text) == text
