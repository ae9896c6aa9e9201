"""PasswordChecker: who gets in, and that checking them is nobody else's business."""

import asyncio
import threading
from collections.abc import Iterator

import bcrypt
import pytest

from exporter.web.toolkit.users import CACHE_SIZE, MAX_WAITING, PasswordChecker, TooManyChecksError, credentials
from tests.web.securing import basic, hashed

ALICE, BOB = hashed("alice's own"), hashed("bob's own", 5)
USERS = {"alice": ALICE, "bob": BOB}


def header(name: str, password: str) -> str:
    return basic(name, password)["Authorization"]


class CountedCheck:
    """bcrypt itself, and what it was asked."""

    def __init__(self) -> None:
        self.hashes: list[str] = []
        self.begun, self.let_go = threading.Event(), threading.Event()
        self.let_go.set()

    def __call__(self, password: bytes, hash_: bytes) -> bool:
        self.hashes.append(hash_.decode())
        self.begun.set()
        assert self.let_go.wait(30)
        return bcrypt.checkpw(password, hash_)


@pytest.fixture
def check() -> CountedCheck:
    return CountedCheck()


@pytest.fixture
def passwords(check: CountedCheck) -> Iterator[PasswordChecker]:
    passwords = PasswordChecker(check)
    yield passwords
    passwords.close()


@pytest.mark.parametrize(
    ("authorization", "known"),
    [
        (header("alice", "alice's own"), True),
        (header("alice", "bob's own"), False),
        (header("alice", ""), False),
        (header("carol", "alice's own"), False),
        (header("Alice", "alice's own"), False),
        (header("alice", "alice's own").replace("Basic ", "bASIC  "), True),
        (header("alice", "alice's own").replace("Basic", "Bearer"), False),
        (header("", ""), False),
        ("", False),
        ("Basic", False),
        ("Basic !", False),
        ("Basic YWxpY2U=", False),
        ("Basic /////w==", False),
    ],
)
async def test_who_gets_in(passwords: PasswordChecker, authorization: str, known: bool) -> None:
    for _ in range(2):
        assert await passwords.is_authorized(authorization, USERS) is known


async def test_a_colon_belongs_to_the_password_and_more_than_72_bytes_are_cut(passwords: PasswordChecker) -> None:
    users = {"colon": hashed("a:b"), "long": hashed("x" * 72), "nul": hashed("a")}
    assert await passwords.is_authorized(header("colon", "a:b"), users)
    assert await passwords.is_authorized(header("long", "x" * 80), users)
    assert not await passwords.is_authorized(header("long", "x" * 71), users)
    assert not await passwords.is_authorized(header("nul", "a\0b"), users)


async def test_a_right_password_is_checked_once_and_a_wrong_one_every_time(
    passwords: PasswordChecker, check: CountedCheck
) -> None:
    for _ in range(3):
        assert await passwords.is_authorized(header("alice", "alice's own"), USERS)
        assert not await passwords.is_authorized(header("bob", "alice's own"), USERS)
    assert check.hashes.count(ALICE) == 1
    assert check.hashes.count(BOB) == 3


async def test_a_new_hash_counts_at_once(passwords: PasswordChecker) -> None:
    authorization = header("alice", "alice's own")
    assert await passwords.is_authorized(authorization, USERS)
    assert not await passwords.is_authorized(authorization, {"alice": hashed("a new one")})
    assert not await passwords.is_authorized(authorization, {"bob": BOB})
    assert await passwords.is_authorized(authorization, USERS)


async def test_unknown_name_is_checked_at_the_highest_known_cost(
    passwords: PasswordChecker, check: CountedCheck
) -> None:
    assert not await passwords.is_authorized(header("carol", "x"), USERS)
    (asked,) = check.hashes
    assert asked not in USERS.values()
    assert asked.startswith("$2b$05$")
    assert not bcrypt.checkpw(b"x", asked.encode())
    assert bcrypt.hashpw(b"x", asked.encode())[:29] == asked[:29].encode()


async def test_requests_that_come_together_pay_once(passwords: PasswordChecker, check: CountedCheck) -> None:
    check.let_go.clear()
    asking = [asyncio.create_task(passwords.is_authorized(header("alice", "alice's own"), USERS)) for _ in range(5)]
    await asyncio.sleep(0)
    check.let_go.set()
    assert await asyncio.gather(*asking) == [True] * 5
    assert check.hashes == [ALICE]


async def test_one_is_checked_at_a_time_and_who_is_known_waits_for_nobody(
    passwords: PasswordChecker, check: CountedCheck
) -> None:
    assert await passwords.is_authorized(header("alice", "alice's own"), USERS)
    check.begun.clear()
    check.let_go.clear()
    guesses = [asyncio.create_task(passwords.is_authorized(header("bob", str(n)), USERS)) for n in range(MAX_WAITING)]
    assert await asyncio.to_thread(check.begun.wait, 30)
    assert await passwords.is_authorized(header("alice", "alice's own"), USERS)
    with pytest.raises(TooManyChecksError):
        await passwords.is_authorized(header("bob", "bob's own"), USERS)
    assert not any(guess.done() for guess in guesses)
    assert len(check.hashes) == 2
    check.let_go.set()
    assert await asyncio.gather(*guesses) == [False] * MAX_WAITING
    assert await passwords.is_authorized(header("bob", "bob's own"), USERS)


async def test_what_is_remembered_is_bounded_and_guessing_pushes_nobody_out(
    passwords: PasswordChecker, check: CountedCheck
) -> None:
    users = {f"user-{number}": ALICE for number in range(CACHE_SIZE + 1)}
    for name in users:
        assert await passwords.is_authorized(header(name, "alice's own"), users)
    for number in range(CACHE_SIZE + 1):
        assert not await passwords.is_authorized(header(f"guess-{number}", "x"), users)
    count = len(check.hashes)
    assert await passwords.is_authorized(header("user-1", "alice's own"), users)
    assert len(check.hashes) == count
    assert await passwords.is_authorized(header("user-0", "alice's own"), users)
    assert len(check.hashes) == count + 1


async def test_a_hash_that_the_library_refuses_lets_nobody_in(passwords: PasswordChecker) -> None:
    assert not await passwords.is_authorized(header("alice", "x"), {"alice": "$2a$04$" + "z" * 53})


def test_credentials() -> None:
    assert credentials(header("ä", "ö:ü")) == ("ä", "ö:ü".encode())
