"""What the README says works."""

import re
import textwrap
from pathlib import Path

import pytest

from exporter.cli import main
from exporter.platforms.registry import shipped

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
LINKS = re.findall(r"\]\(([^)#]+)[^)]*\)", README)
CONFIGURATIONS = [
    textwrap.dedent(text)
    for text in re.findall(r"^ *```yaml\n( *upstreams:.*?)^ *```", README, re.MULTILINE | re.DOTALL)
]


@pytest.mark.parametrize("link", LINKS)
def test_link_leads_to_a_file(link: str) -> None:
    assert link.startswith("https://") or (ROOT / link).exists()


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_configuration_is_valid_without_warnings(
    configuration: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(configuration)
    for secret in re.findall(r"_file: ([\w-]+)", configuration):
        Path(secret).write_text("not-a-real-secret\n")
        Path(secret).chmod(0o600)
    assert main(["--config.check"]) == 0
    assert "warning" not in capsys.readouterr().out


def test_first_configuration_has_two_upstreams() -> None:
    assert CONFIGURATIONS
    assert CONFIGURATIONS[0].count("- name:") == 2


def test_platform_table_has_every_shipped_platform_and_how_it_was_verified() -> None:
    rows = re.findall(r"^\| \[.+?\]\(docs/platforms/(\w+)\.md\) \| `(\w+)` \| .+ \| (.+) \|$", README, re.MULTILINE)
    names = {platform.name for platform in shipped()}
    assert {page for page, _, _ in rows} == {name for _, name, _ in rows} == names
    assert all(re.search(r"real servers|recorded|documents", verified) for _, _, verified in rows)
