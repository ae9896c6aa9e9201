"""Run the exporter as a process, like its users do."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from urllib.error import HTTPError
from urllib.request import Request, urlopen

GENEROUS_SECONDS = 60.0
"""Longer than anything is expected to take; a test that waits this long has failed."""


class Exporter:
    """A running ``python -m exporter`` (or another program around it), with all of its output."""

    def __init__(
        self,
        arguments: Sequence[str],
        directory: Path,
        program: Sequence[str] = ("-m", "exporter"),
        python: Path | str = sys.executable,
        *,
        measured: bool = True,
    ) -> None:
        """``measured``: whether to measure coverage of the process, which makes it three times as slow."""
        hidden = "STREAM_EXPORTER_" if measured else ("STREAM_EXPORTER_", "COVERAGE_")
        environ = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        self.process = subprocess.Popen(
            [python, *program, *arguments],
            cwd=directory,
            env=environ | {"PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines: list[str] = []
        self._said_more = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._said_more:
                self._lines.append(line)
                self._said_more.notify_all()
        with self._said_more:
            self._lines.append("")
            self._said_more.notify_all()

    @property
    def said(self) -> str:
        with self._said_more:
            return "".join(self._lines)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait for a line that matches, and return the first match."""
        found: list[re.Match[str]] = []

        def matches() -> bool:
            found.extend(match for line in self._lines if (match := re.search(pattern, line)))
            return bool(found) or self._lines[-1:] == [""]

        with self._said_more:
            self._said_more.wait_for(matches, GENEROUS_SECONDS)
            assert found, f"no line matches {pattern}:\n{''.join(self._lines)}"
            return found[0]

    @property
    def port(self) -> int:
        return int(self.wait_for(r"listening\W+address\W+\S+?:(\d+)\b")[1])

    def ask(self, path: str, method: str = "GET", headers: dict[str, str] | None = None) -> tuple[int, str]:
        """Return status and text of one request."""
        request = Request(f"http://127.0.0.1:{self.port}{path}", method=method, headers=headers or {})
        try:
            with urlopen(request, timeout=GENEROUS_SECONDS) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        """Wait for the end of the process and return its exit code."""
        code = self.process.wait(GENEROUS_SECONDS)
        self._reader.join(GENEROUS_SECONDS)
        return code

    def __enter__(self) -> "Exporter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join(GENEROUS_SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def exporter(*arguments: str, directory: Path) -> Iterator[Exporter]:
    """Run an exporter on a free loopback port until the end of the block."""
    with Exporter(["--web.listen-address", "127.0.0.1:0", *arguments], directory) as running:
        yield running
