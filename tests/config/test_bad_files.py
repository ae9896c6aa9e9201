"""Invalid configurations in ``bad/``, each with the errors that it must cause.

``# expect:`` lines are the errors, with FILE for the file's path, DIR for its folder and PLATFORMS for the names of all
platforms. ``# env:`` lines set environment variables. The folder ``secrets`` next to the file is created here.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from exporter.cli.settings import load_settings
from exporter.config.loading import ConfigError
from exporter.platforms.registry import platforms

BAD = sorted((Path(__file__).parent / "bad").glob("*.yaml"))
CANARIES = ("s3cr3t", "t0ken")


def make_secrets(folder: Path) -> None:
    folder.mkdir()
    (folder / "token").write_text("s3cr3t-t0ken\n")
    (folder / "empty").write_text("\n")
    (folder / "lines").write_text("s3cr3t\nt0ken\n")
    (folder / "binary").write_bytes(b"s3cr3t\xff\xfet0ken")
    (folder / "long").write_text("s3cr3t-t0ken" * 10_000)


def lines_after(file: Path, prefix: str) -> list[str]:
    return [line.removeprefix(prefix) for line in file.read_text().splitlines() if line.startswith(prefix)]


def expected_errors(file: Path) -> list[str]:
    *names, last = platforms()
    return [line.replace("PLATFORMS", f"{', '.join(names)} or {last}") for line in lines_after(file, "# expect: ")]


def errors_of(file: Path, folder: Path) -> list[str]:
    make_secrets(folder / "secrets")
    copy = Path(shutil.copy(file, folder / "config.yaml"))
    environ = dict(line.split("=", 1) for line in lines_after(file, "# env: "))
    with pytest.raises(ConfigError) as caught:
        load_settings(copy, environ)
    assert str(caught.value) == "\n".join(caught.value.errors)
    return [line.replace(str(copy), "FILE").replace(str(folder), "DIR") for line in caught.value.errors]


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_all_errors_in_a_bad_file_are_reported_with_their_location(file: Path, tmp_path: Path) -> None:
    assert errors_of(file, tmp_path) == expected_errors(file)


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_no_error_shows_a_secret(file: Path, tmp_path: Path) -> None:
    shown = "\n".join(errors_of(file, tmp_path))
    assert not [canary for canary in CANARIES if canary in shown]
