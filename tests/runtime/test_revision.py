"""The commit that the exporter was built from: of a package, of a checkout, and of neither."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from exporter.runtime.revision import checkout_revision, revision

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = ("-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false")

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *NAME, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    root.mkdir()
    git(root, "init", "--quiet", "--initial-branch=main")
    git(root, "commit", "--quiet", "--allow-empty", "--message=first")
    return root


def test_revision_of_a_built_package_is_in_its_file(tmp_path: Path) -> None:
    package = tmp_path / "exporter"
    package.mkdir()
    (package / "REVISION").write_text(f"{COMMIT}\n")
    assert revision(package) == COMMIT


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff"])
def test_revision_without_file_and_checkout_is_unknown(content: bytes | None, tmp_path: Path) -> None:
    package = tmp_path / "exporter"
    package.mkdir()
    if content is not None:
        (package / "REVISION").write_bytes(content)
    assert revision(package) == "unknown"


@needs_git
def test_revision_of_a_branch_a_packed_branch_and_a_detached_head(checkout: Path) -> None:
    head = git(checkout, "rev-parse", "HEAD")
    assert revision(checkout / "exporter") == checkout_revision(checkout) == head
    git(checkout, "pack-refs", "--all")
    assert checkout_revision(checkout) == head
    git(checkout, "checkout", "--quiet", "--detach")
    assert checkout_revision(checkout) == head


@needs_git
def test_revision_of_a_worktree_is_its_own(checkout: Path, tmp_path: Path) -> None:
    worktree = tmp_path / "worktree"
    git(checkout, "worktree", "add", "--quiet", "-b", "topic", str(worktree))
    git(worktree, "commit", "--quiet", "--allow-empty", "--message=second")
    assert checkout_revision(worktree) == git(worktree, "rev-parse", "HEAD") != git(checkout, "rev-parse", "HEAD")
    git(checkout, "pack-refs", "--all")
    assert checkout_revision(worktree) == git(worktree, "rev-parse", "HEAD")


@pytest.mark.parametrize("head", ["", "ref: refs/heads/none", "ref: ../../secret", "not a commit"])
def test_damaged_checkout_has_no_revision(head: str, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text(head)
    (tmp_path / "secret").write_text("a secret")
    assert checkout_revision(tmp_path) is None
