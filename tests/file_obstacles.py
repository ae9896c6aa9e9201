"""Obstacles in place of a file that is to be read, and a file system that hangs."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest


def _make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


NOT_A_FILE = "not a regular file"
OBSTACLES: dict[str, tuple[Callable[[Path], None], str]] = {
    "FIFO": (os.mkfifo, NOT_A_FILE),
    "/dev/zero": (lambda path: path.symlink_to("/dev/zero"), NOT_A_FILE),
    "directory": (lambda path: path.mkdir(), "is a directory"),
    "socket": (_make_socket, NOT_A_FILE),
}
"""How to create each obstacle, and the cause that the error must name."""


def put_obstacle(path: Path, kind: str) -> str:
    """Put an obstacle in place of a file; return the cause that the error must name."""
    make, cause = OBSTACLES[kind]
    path.unlink(missing_ok=True)
    make(path)
    return cause


class HungMount:
    """A file system that hangs for these paths until it is released."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *paths: Path) -> None:
        self.asked = 0
        self._answers = threading.Event()
        stat = os.stat

        def hung_stat(given: object, **more: object) -> os.stat_result:
            if given in paths:
                self.asked += 1
                assert self._answers.wait(60)
            return stat(given, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(os, "stat", hung_stat)

    def release(self) -> None:
        """Let it respond again."""
        self._answers.set()
