"""Guessed passwords."""

from __future__ import annotations

import asyncio
import http.client
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.attacks.attack_run import AttackRun
from tests.exporter_process import GENEROUS_SECONDS
from tests.real.child_process import wait_until
from tests.web.secure_server import basic_auth, bcrypt_hash, write_web_config

ATTACKER, OTHER = "127.0.0.2", "127.0.0.1"
CONNECTIONS = 100
COST = 8
"""Lower than usual, so that the test takes seconds on a busy machine; guesses fill the queue at any cost."""
PASSWORD = "the right one"
USERS = [f"user-{number}" for number in range(25)]
PROBES = [f"probe-{number}" for number in range(5)]
GUESSED = [*USERS[:4], "unknown"]
NEIGHBOUR = "neighbour"
"""A user at the attacker's address."""


def test_correct_password_is_accepted_while_others_are_guessed(tmp_path: Path) -> None:
    hash_ = bcrypt_hash(PASSWORD, COST)
    file = write_web_config(
        tmp_path, {"basic_auth_users": dict.fromkeys(["prometheus", *USERS, *PROBES, NEIGHBOUR], hash_)}
    )
    headers = basic_auth("prometheus", PASSWORD)
    with AttackRun("passwords", tmp_path, headers=headers, arguments=[f"--web.config.file={file}"]) as run:
        port = run.exporter.port
        with run.under_attack(), guessing(run.url) as answers:
            wait_until(lambda: answers[401] >= 10, "passwords are guessed")
            assert [get_status(port, "/metrics", name) for name in USERS] == [200] * len(USERS)
            for name in PROBES:
                statuses = list(probe_until_healthy(port, name))
                # a check may take long on a busy machine
                assert set(statuses[:-1]) <= {401}, statuses
            assert get_status(port, "/metrics", NEIGHBOUR, address=ATTACKER) == 200
        assert not answers[200]


def get_status(port: int, path: str, name: str, *, address: str = OTHER) -> int:
    """Return the status for this user with the correct password, over a new connection from this address."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=GENEROUS_SECONDS, source_address=(address, 0))
    try:
        connection.request("GET", path, headers=basic_auth(name, PASSWORD))
        return connection.getresponse().status
    finally:
        connection.close()


def probe_until_healthy(port: int, name: str) -> Iterator[int]:
    """Yield the status of each probe, at most ten, until the first 200."""
    for _ in range(10):
        status = get_status(port, "/-/healthy", name)
        yield status
        if status == 200:
            return
        threading.Event().wait(1.0)
    pytest.fail("the health endpoint never answered 200")


@contextmanager
def guessing(url: str) -> Iterator[Counter[int]]:
    """Guess passwords over many connections during the block; yield the number of responses by status."""
    answers: Counter[int] = Counter()
    is_over = threading.Event()

    async def guess(session: aiohttp.ClientSession, number: int) -> None:
        prng = random.Random(number)
        while not is_over.is_set():
            name, path = prng.choice(GUESSED), prng.choice(["/metrics", "/-/healthy"])
            async with session.get(path, headers=basic_auth(name, str(prng.random()))) as answer:
                answers[answer.status] += 1

    async def guess_all() -> None:
        connector = aiohttp.TCPConnector(limit=CONNECTIONS, local_addr=(ATTACKER, 0))
        async with aiohttp.ClientSession(url, connector=connector) as session:
            guesses = [asyncio.create_task(guess(session, number)) for number in range(CONNECTIONS)]
            await asyncio.to_thread(is_over.wait)
            for task in guesses:
                task.cancel()
            await asyncio.wait(guesses)
            errors = [task.exception() for task in guesses if not task.cancelled() and task.exception()]
            assert not errors, errors

    thread = threading.Thread(target=asyncio.run, args=(guess_all(),))
    thread.start()
    try:
        yield answers
    finally:
        is_over.set()
        thread.join()
