"""sdist and wheel work in an environment without anything else."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest

from exporter import __version__
from exporter.runtime.revision import checkout_revision
from exporter.web.ui.page import static_files
from tests.exporter_process import Exporter
from tools.distribution import (
    CHECKOUT,
    LOCK,
    Distribution,
    bill_of_materials,
    build,
    disallowed_licenses,
    install,
    licenses,
    run,
)

LOCKED = dict(re.findall(r"^([\w.-]+)==(\S+)", LOCK.read_text(), re.MULTILINE))


@pytest.fixture(scope="session")
def distribution(tmp_path_factory: pytest.TempPathFactory) -> Distribution:
    """Built and installed once, where several workers ask for it."""
    shared = tmp_path_factory.getbasetemp()
    folder = (shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared) / "distribution"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "ready").exists():
            install(build(folder))
            (folder / "ready").touch()
    return Distribution(folder)


def names(listed: list[str]) -> set[str]:
    """As package indexes compare them."""
    return {re.sub(r"[-_.]+", "-", name).lower() for name in listed}


def test_version_and_reference(distribution: Distribution) -> None:
    version = run(distribution.command, "--version")
    assert version.startswith(f"stream-exporter {__version__} (revision {checkout_revision(CHECKOUT) or 'unknown'}, ")
    assert run(distribution.command, "metrics") == (CHECKOUT / "docs" / "metrics.md").read_text()


@pytest.mark.parametrize(("command", "folder"), [("rules", "alerts"), ("dashboards", "dashboards")])
def test_rules_and_dashboards(command: str, folder: str, distribution: Distribution, tmp_path: Path) -> None:
    run(distribution.command, command, "--output-dir", tmp_path)
    written = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert len(written) >= 2
    assert written == {name: (CHECKOUT / folder / name).read_text() for name in written}


def test_the_demo_with_its_page(distribution: Distribution, tmp_path: Path) -> None:
    arguments = ["demo", "--streams", "3", "--log.level", "info", "--web.listen-address", "127.0.0.1:0"]
    with Exporter(arguments, tmp_path, python=distribution.python) as demo:
        status, metrics = demo.ask("/metrics")
        assert status == 200
        assert f'version="{__version__}"' in metrics
        assert demo.ask("/")[0] == 200
        for name, (_, content) in static_files().items():
            assert demo.ask(f"/static/{name}") == (200, zlib.decompress(content).decode()), name


def test_the_sdist_has_what_it_takes_to_test_and_build_it(distribution: Distribution) -> None:
    with tarfile.open(distribution.sdist) as archive:
        packed = {Path(*Path(name).parts[1:]).as_posix() for name in archive.getnames()}
    tracked = subprocess.run(["git", "-C", CHECKOUT, "ls-files"], capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("this is no checkout")
    assert {name for name in tracked.stdout.splitlines() if not name.startswith(".ci/")} <= packed


def test_description_on_pypi_has_no_relative_links(distribution: Distribution) -> None:
    with zipfile.ZipFile(distribution.wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode()
    links = re.findall(r"\]\(([^)]+)\)", metadata)
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", metadata)
    assert len(links) > 20
    assert [link for link in links if not link.startswith("https://")] == []
    assert {link.rpartition("/main/")[0] for link in pictures} == {
        "https://raw.githubusercontent.com/stream-exporter/stream-exporter"
    }
    files = [link.rpartition("/main/")[2].partition("#")[0] for link in links if "/main/" in link]
    assert [file for file in files if not (CHECKOUT / file).exists()] == []
    assert {"Documentation", "Source", "Changelog", "Issues"} == set(
        re.findall(r"^Project-URL: (\w+)", metadata, re.MULTILINE)
    )


def test_the_environment_is_the_lock(distribution: Distribution) -> None:
    installed = {package["name"]: package["version"] for package in licenses(distribution)}
    assert names(list(installed)) == names([*LOCKED, "stream-exporter"])


def test_every_licence_is_one_of_those_allowed(distribution: Distribution) -> None:
    assert disallowed_licenses(distribution) == []


def test_the_bill_of_materials(distribution: Distribution) -> None:
    # `make release-check` validates it against the schema too
    bill = json.loads(bill_of_materials(distribution, validate=False))
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "stream-exporter")
    assert names([component["name"] for component in bill["components"]]) >= names(list(LOCKED))
