"""The unit, against systemd's own tools."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.cli.settings import load_settings

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "systemd" / "stream-exporter.service"
MOST_EXPOSED = 20
"""systemd's figure is 2.0."""

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd on this machine")


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with the command where it is here."""
    command = Path(sys.executable).with_name("stream-exporter")
    text, changed = re.subn(r"^ExecStart=\S+", f"ExecStart={command}", UNIT.read_text(), flags=re.MULTILINE)
    assert changed == 1
    file = tmp_path / UNIT.name
    file.write_text(text)
    return file


@needs_systemd
def test_systemd_has_nothing_to_say_against_it(unit: Path) -> None:
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
def test_it_is_hardened(unit: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSED}", "--no-pager", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_credential_is_a_secrets_file_like_any_other(tmp_path: Path) -> None:
    """As systemd hands them over: in a folder that nobody can write to, each for the service alone."""
    found = re.search(r"^LoadCredential=(\w+):/etc/stream-exporter/secrets$", UNIT.read_text(), re.MULTILINE)
    assert found
    documented = f"/run/credentials/{UNIT.name}/{found[1]}_storm"
    assert documented in (ROOT / "docs" / "deployment.md").read_text()
    handed_over = tmp_path / documented.removeprefix("/")
    handed_over.parent.mkdir(parents=True)
    handed_over.write_text("a password\n")
    handed_over.chmod(0o400)
    handed_over.parent.chmod(0o500)
    configuration = tmp_path / "config.yaml"
    auth = f"{{username: exporter, password_file: {handed_over}}}"
    configuration.write_text(
        f"upstreams: [{{name: a, platform: storm, url: 'http://h', discover: true, auth: {auth}}}]"
    )
    settings = load_settings(configuration, {})
    password = settings.upstreams[0].auth.password
    assert password is not None
    assert password.get() == "a password"
    assert settings.warnings == ()


def test_crash_leaves_no_memory_with_secrets_on_disk() -> None:
    assert re.search(r"^LimitCORE=0$", UNIT.read_text(), re.MULTILINE)
