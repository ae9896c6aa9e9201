"""Checks of the image that need no build; ``make image-test`` builds and runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import yaml

from tools.image_bases import PYTHON
from tools.image_test import BASES

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_build_context_is_what_is_copied() -> None:
    lines = re.findall(r"^COPY (?!--from)(.+)", DOCKERFILE, re.MULTILINE)
    copied = {name for line in lines for name in line.split()[:-1]}
    allowed = set(re.findall(r"^!(.+)", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)


def test_the_bases_are_those_that_the_image_test_has_stand_ins_for() -> None:
    build, runtime = re.findall(r"^ARG \w+_IMAGE=(.+)", DOCKERFILE, re.MULTILINE)
    tags = [image.partition("@")[0] for image in (build, runtime)]
    assert {f"docker.io/library/{tags[0]}", tags[1]} == set(BASES)
    assert f":{PYTHON.removeprefix('python')}-" in build


def test_every_foreign_image_and_action_is_pinned_by_its_digest() -> None:
    images = re.findall(r"^ARG \w+_IMAGE=(.+)", DOCKERFILE, re.MULTILINE)
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    images += [service["image"] for service in compose["services"].values() if "image" in service]
    assert len(images) == 5
    assert [image for image in images if not re.fullmatch(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}", image)] == []
    workflows = [file.read_text() for file in (ROOT / ".github").rglob("*.y*ml")]
    actions = [action for text in workflows for action in re.findall(r"uses:\s*(\S+)", text)]
    assert [action for action in actions if not re.fullmatch(r"\S+@[0-9a-f]{40}", action)] == []
