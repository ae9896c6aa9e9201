"""The workflow files of GitHub; ``test_dockerfile.py`` checks that actions are pinned."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))


def read(name: str) -> Any:
    return yaml.safe_load((GITHUB / "workflows" / name).read_text())


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-workflows", WORKFLOWS),
        ("custom.github-workflows-require-timeout", WORKFLOWS),
        ("vendor.dependabot", [GITHUB / "dependabot.yml"]),
        ("vendor.github-issue-forms", [GITHUB / "ISSUE_TEMPLATE" / name for name in ("bug.yml", "feature.yml")]),
        ("vendor.github-issue-config", [GITHUB / "ISSUE_TEMPLATE" / "config.yml"]),
    ],
)
def test_file_is_valid(schema: str, files: list[Path]) -> None:
    # takes two seconds, in every worker or process
    from check_jsonschema.cli import main  # type: ignore[import-untyped]

    done = CliRunner().invoke(main, ["--builtin-schema", schema, *map(str, files)])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: str(file.name))
def test_workflow_has_only_the_permissions_that_its_jobs_declare(file: Path) -> None:
    assert read(file.name)["permissions"] == {"contents": "read"}


def test_every_supported_python_is_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    assert read("ci.yml")["jobs"]["test"]["strategy"]["matrix"]["python"] == versions


def test_image_is_released_with_revision_provenance_and_sbom() -> None:
    (step,) = (step for step in read("release.yml")["jobs"]["image"]["steps"] if "build-push-action" in str(step))
    settings = step["with"]
    assert (settings["provenance"], settings["sbom"]) == ("mode=max", True)
    assert "REVISION=${{ github.sha }}" in settings["build-args"]


def test_package_is_published_without_a_stored_token() -> None:
    job = read("release.yml")["jobs"]["pypi"]
    assert job["permissions"] == {"id-token": "write"}
    assert "secrets." not in str(job)


def test_makefile_targets_that_workflows_run_exist() -> None:
    targets = {target for file in WORKFLOWS for target in re.findall(r"run: make ([\w-]+)", file.read_text())}
    makefile = (ROOT / "Makefile").read_text()
    assert targets
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
