"""Checking passwords: results, caching, and what concurrent checks cost."""

import asyncio
import threading
from collections.abc import Iterator

import bcrypt
import pytest

from exporter.web.toolkit.users import CACHE_SIZE, MAX_WAITING, PasswordChecker, TooManyChecksError, credentials
from tests.web.secure_server import basic_auth, bcrypt_hash

ALICE, BOB = bcrypt_hash("alice's own"), bcrypt_hash("bob's own", 5)
USERS = {"alice": ALICE, "bob": BOB}


def header(name: str, password: str) -> str:
    return basic_auth(name, password)["Authorization"]


class CountingCheck:
    """bcrypt, recording the hashes it checks."""

    def __init__(self) -> None:
        self.hashes: list[str] = []
        self.started, self.proceed = threading.Event(), threading.Event()
        self.proceed.set()

    def __call__(self, password: bytes, hash_: bytes) -> bool:
        self.hashes.append(hash_.decode())
        self.started.set()
        assert self.proceed.wait(30)
        return bcrypt.checkpw(password, hash_)


@pytest.fixture
def check() -> CountingCheck:
    return CountingCheck()


@pytest.fixture
def passwords(check: CountingCheck) -> Iterator[PasswordChecker]:
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
async def test_authorization_header_is_checked(passwords: PasswordChecker, authorization: str, known: bool) -> None:
    for _ in range(2):
        assert await passwords.is_authorized(authorization, USERS) is known


async def test_password_may_contain_a_colon_and_is_truncated_at_72_bytes(passwords: PasswordChecker) -> None:
    users = {"colon": bcrypt_hash("a:b"), "long": bcrypt_hash("x" * 72), "nul": bcrypt_hash("a")}
    assert await passwords.is_authorized(header("colon", "a:b"), users)
    assert await passwords.is_authorized(header("long", "x" * 80), users)
    assert not await passwords.is_authorized(header("long", "x" * 71), users)
    assert not await passwords.is_authorized(header("nul", "a\0b"), users)


async def test_right_password_is_cached_and_wrong_one_is_not(passwords: PasswordChecker, check: CountingCheck) -> None:
    for _ in range(3):
        assert await passwords.is_authorized(header("alice", "alice's own"), USERS)
        assert not await passwords.is_authorized(header("bob", "alice's own"), USERS)
    assert check.hashes.count(ALICE) == 1
    assert check.hashes.count(BOB) == 3


async def test_changed_hash_applies_at_once(passwords: PasswordChecker) -> None:
    authorization = header("alice", "alice's own")
    assert await passwords.is_authorized(authorization, USERS)
    assert not await passwords.is_authorized(authorization, {"alice": bcrypt_hash("a new one")})
    assert not await passwords.is_authorized(authorization, {"bob": BOB})
    assert await passwords.is_authorized(authorization, USERS)


async def test_unknown_name_is_checked_at_the_highest_known_cost(
    passwords: PasswordChecker, check: CountingCheck
) -> None:
    assert not await passwords.is_authorized(header("carol", "x"), USERS)
    (asked,) = check.hashes
    assert asked not in USERS.values()
    assert asked.startswith("$2b$05$")
    assert not bcrypt.checkpw(b"x", asked.encode())
    assert bcrypt.hashpw(b"x", asked.encode())[:29] == asked[:29].encode()


async def test_concurrent_requests_with_one_password_are_checked_once(
    passwords: PasswordChecker, check: CountingCheck
) -> None:
    check.proceed.clear()
    asking = [asyncio.create_task(passwords.is_authorized(header("alice", "alice's own"), USERS)) for _ in range(5)]
    await asyncio.sleep(0)
    check.proceed.set()
    assert await asyncio.gather(*asking) == [True] * 5
    assert check.hashes == [ALICE]


async def test_checks_run_one_at_a_time_and_cached_users_do_not_wait(
    passwords: PasswordChecker, check: CountingCheck
) -> None:
    assert await passwords.is_authorized(header("alice", "alice's own"), USERS)
    check.started.clear()
    check.proceed.clear()
    guesses = [asyncio.create_task(passwords.is_authorized(header("bob", str(n)), USERS)) for n in range(MAX_WAITING)]
    assert await asyncio.to_thread(check.started.wait, 30)
    assert await passwords.is_authorized(header("alice", "alice's own"), USERS)
    with pytest.raises(TooManyChecksError):
        await passwords.is_authorized(header("bob", "bob's own"), USERS)
    assert not any(guess.done() for guess in guesses)
    assert len(check.hashes) == 2
    check.proceed.set()
    assert await asyncio.gather(*guesses) == [False] * MAX_WAITING
    assert await passwords.is_authorized(header("bob", "bob's own"), USERS)


async def test_cache_is_bounded_and_guesses_evict_nothing(passwords: PasswordChecker, check: CountingCheck) -> None:
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


async def test_hash_refused_by_the_library_authorizes_nobody(passwords: PasswordChecker) -> None:
    assert not await passwords.is_authorized(header("alice", "x"), {"alice": "$2a$04$" + "z" * 53})


def test_credentials_are_parsed() -> None:
    assert credentials(header("ä", "ö:ü")) == ("ä", "ö:ü".encode())
