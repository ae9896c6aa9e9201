"""Real programs as child processes: started on loopback, waited for by polling, and always ended."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest

T = TypeVar("T")

GENEROUS_SECONDS = 60.0
"""Longer than anything is expected to take; a test that waits this long has failed."""
ATTEMPTS = 3
"""Another process may take a free port before it is used."""


class Program:
    """A child process that ends with its block, and with this process however that ends."""

    def __init__(self, command: Sequence[str | Path], directory: Path, *, name: str = "") -> None:
        self.name = name or Path(command[0]).name
        self.directory = directory
        self.log = directory / f"{self.name}.log"
        setpriv = shutil.which("setpriv")
        guard = [setpriv, "--pdeathsig", "KILL"] if setpriv else []
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*guard, *command],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole process group, including the program's children."""
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        if self.is_running:
            self.signal(signal.SIGKILL)
        self.process.wait(GENEROUS_SECONDS)

    def wait_until(self, condition: Callable[[], T | None], what: str, seconds: float = GENEROUS_SECONDS) -> T:
        """Poll until the condition returns a value, while the program runs."""

        def ask() -> T | None:
            if not self.is_running:
                pytest.fail(f"{self.name} ended while waiting until {what}:\n{self.said}", pytrace=False)
            return condition()

        return wait_until(ask, f"{what} ({self.name} is running)", seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()


@contextmanager
def running_server(start: Callable[[int], Program], is_ready: Callable[[int], bool]) -> Iterator[tuple[Program, int]]:
    """Run a server on a free loopback port; yield once it is ready. ``start`` takes the port."""
    for attempt in range(1, ATTEMPTS + 1):
        port = free_port()
        with start(port) as program:
            deadline = time.monotonic() + GENEROUS_SECONDS
            while program.is_running and time.monotonic() < deadline:
                if is_ready(port):
                    yield program, port
                    return
                time.sleep(0.02)
            if program.is_running or attempt == ATTEMPTS:
                pytest.fail(f"{program.name} did not become ready:\n{program.said}", pytrace=False)


def wait_until(
    condition: Callable[[], T | None],
    what: str,
    seconds: float = GENEROUS_SECONDS,
    *,
    otherwise: Callable[[], str] = str,
) -> T:
    """Poll until the condition returns a value; a real program takes time that no fake clock controls.

    ``otherwise`` describes the state for the error message.
    """
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:g} s until {what}\n{otherwise()}", pytrace=False)
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def responds(url: str, status: int = 200) -> bool:
    """Return whether a GET gets this status."""
    try:
        with urlopen(url, timeout=GENEROUS_SECONDS) as answer:
            return bool(answer.status == status)
    except HTTPError as error:
        with error:
            return error.code == status
    except (URLError, ConnectionError):
        return False


def request_json(
    url: str, *, body: Any = None, method: str | None = None, headers: Mapping[str, str] | None = None
) -> Any:
    """Return the decoded JSON of a response; None for an empty one."""
    data = None if body is None else json.dumps(body).encode()
    every = {"Content-Type": "application/json", **(headers or {})}
    with urlopen(Request(url, data=data, method=method, headers=every), timeout=GENEROUS_SECONDS) as answer:
        text = answer.read()
    return json.loads(text) if text else None
