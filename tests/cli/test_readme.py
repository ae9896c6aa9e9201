"""Links and configurations in the README work."""

import re
from pathlib import Path

import pytest

from exporter.cli import main

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
LINKS = re.findall(r"\]\(([^)#]+)\)", README)
CONFIGURATIONS = re.findall(r"^```yaml\n(upstreams:.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("link", LINKS)
def test_every_link_in_the_readme_works(link: str) -> None:
    assert link.startswith("https://") or (ROOT / link).exists()


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_every_configuration_in_the_readme_is_valid(
    configuration: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(configuration)
    for secret in re.findall(r"_file: ([\w-]+)", configuration):
        Path(secret).write_text("not-a-real-secret\n")
        Path(secret).chmod(0o600)
    assert main(["--config.check"]) == 0
    assert "warning" not in capsys.readouterr().out


def test_readme_has_configurations_and_links() -> None:
    assert len(CONFIGURATIONS) >= 2
    assert len(LINKS) >= 5
