"""Password checks: results, caching, and fairness between clients."""

import asyncio
import threading
from collections.abc import Iterator

import bcrypt
import pytest

from exporter.web.options import network_of
from exporter.web.toolkit.users import (
    RIGHT_SIZE,
    WRONG_SECONDS,
    WRONG_SIZE,
    FairQueue,
    PasswordChecker,
    TooManyChecksError,
    credentials,
)
from tests.fake_clock import FakeClock
from tests.web.secure_server import basic_auth, bcrypt_hash

ALICE, BOB = bcrypt_hash("alice's own"), bcrypt_hash("bob's own", 5)
USERS = {"alice": ALICE, "bob": BOB}
ATTACKER, OTHER = "203.0.113.1", "203.0.113.2"


def header(name: str, password: str) -> str:
    return basic_auth(name, password)["Authorization"]


class CountingCheck:
    """Checks passwords with bcrypt, and records them."""

    def __init__(self) -> None:
        self.hashes: list[str] = []
        self.passwords: list[str] = []
        self.started, self.proceed = threading.Event(), threading.Event()
        self.proceed.set()

    def __call__(self, password: bytes, hash_: bytes) -> bool:
        self.hashes.append(hash_.decode())
        self.passwords.append(password.decode(errors="replace"))
        self.started.set()
        assert self.proceed.wait(30)
        return bcrypt.checkpw(password, hash_)


@pytest.fixture
def check() -> CountingCheck:
    return CountingCheck()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def passwords(check: CountingCheck, clock: FakeClock) -> Iterator[PasswordChecker]:
    passwords = PasswordChecker(check, clock, max_waiting=8)
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


async def test_right_password_is_remembered_and_wrong_one_for_a_while(
    passwords: PasswordChecker, check: CountingCheck, clock: FakeClock
) -> None:
    async def ask() -> None:
        for _ in range(3):
            assert await passwords.is_authorized(header("alice", "alice's own"), USERS)
            assert not await passwords.is_authorized(header("bob", "alice's own"), USERS)
            assert not await passwords.is_authorized(header("carol", "alice's own"), USERS)

    await ask()
    clock.advance(WRONG_SECONDS - 1)
    await ask()
    assert len(check.hashes) == 3
    # Repeated requests have not extended the time.
    clock.advance(1)
    await ask()
    assert check.hashes.count(ALICE) == 1
    assert check.hashes.count(BOB) == 2
    assert len(check.hashes) == 5


async def test_wrong_password_is_checked_again_when_the_hash_changes(passwords: PasswordChecker) -> None:
    assert not await passwords.is_authorized(header("alice", "a new one"), USERS)
    assert await passwords.is_authorized(header("alice", "a new one"), {"alice": bcrypt_hash("a new one")})
    assert not await passwords.is_authorized(header("carol", "carol's own"), USERS)
    assert await passwords.is_authorized(header("carol", "carol's own"), USERS | {"carol": bcrypt_hash("carol's own")})


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
    # One password is being checked, and eight are waiting.
    guesses = [asyncio.create_task(passwords.is_authorized(header("bob", str(n)), USERS)) for n in range(9)]
    assert await asyncio.to_thread(check.started.wait, 30)
    assert await passwords.is_authorized(header("alice", "alice's own"), USERS)
    with pytest.raises(TooManyChecksError):
        await passwords.is_authorized(header("bob", "bob's own"), USERS)
    assert not any(guess.done() for guess in guesses)
    assert len(check.hashes) == 2
    check.proceed.set()
    assert await asyncio.gather(*guesses) == [False] * 9
    assert await passwords.is_authorized(header("bob", "bob's own"), USERS)


async def test_guesses_delay_another_address_by_one_check(passwords: PasswordChecker, check: CountingCheck) -> None:
    check.proceed.clear()
    guesses = [
        asyncio.create_task(passwords.is_authorized(header("alice", f"guess {number}"), USERS, ATTACKER))
        for number in range(9)
    ]
    assert await asyncio.to_thread(check.started.wait, 30)
    right = asyncio.create_task(passwords.is_authorized(header("alice", "alice's own"), USERS, OTHER))
    # The queue is full, so a check of the attacker is removed from it.
    done, _ = await asyncio.wait(guesses, return_when=asyncio.FIRST_COMPLETED)
    assert [type(task.exception()) for task in done] == [TooManyChecksError]
    check.proceed.set()
    assert await right
    await asyncio.wait(guesses)
    assert check.passwords.index("alice's own") <= 2


async def test_guesses_delay_another_name_of_the_same_address_by_one_check(
    passwords: PasswordChecker, check: CountingCheck
) -> None:
    check.proceed.clear()
    guesses = [
        asyncio.create_task(passwords.is_authorized(header("alice", f"guess {number}"), USERS, ATTACKER))
        for number in range(9)
    ]
    assert await asyncio.to_thread(check.started.wait, 30)
    right = asyncio.create_task(passwords.is_authorized(header("bob", "bob's own"), USERS, ATTACKER))
    await asyncio.wait(guesses, return_when=asyncio.FIRST_COMPLETED)
    check.proceed.set()
    assert await right
    await asyncio.wait(guesses)
    assert check.passwords.index("bob's own") <= 2


async def test_check_of_a_disconnected_client_runs_and_is_remembered(
    passwords: PasswordChecker, check: CountingCheck
) -> None:
    check.proceed.clear()
    guess = asyncio.create_task(passwords.is_authorized(header("bob", "guess"), USERS))
    assert await asyncio.to_thread(check.started.wait, 30)
    for waiting in (
        asyncio.create_task(passwords.is_authorized(header("alice", "alice's own"), USERS)) for _ in range(2)
    ):
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait((waiting,))
    check.proceed.set()
    assert not await guess
    assert not await passwords.is_authorized(header("bob", "last guess"), USERS)
    assert await passwords.is_authorized(header("alice", "alice's own"), USERS)
    assert check.passwords == ["guess", "alice's own", "last guess"]


async def test_failed_check_raises_and_the_next_one_works() -> None:
    def fail_once(password: bytes, hash_: bytes) -> bool:
        if password == b"fail":
            raise OSError("no bcrypt")
        return bcrypt.checkpw(password, hash_)

    passwords = PasswordChecker(fail_once)
    with pytest.raises(OSError, match="no bcrypt"):
        await passwords.is_authorized(header("alice", "fail"), USERS)
    abandoned = asyncio.create_task(passwords.is_authorized(header("alice", "fail"), USERS))
    await asyncio.sleep(0)
    abandoned.cancel()
    assert await passwords.is_authorized(header("alice", "alice's own"), USERS)
    passwords.close()


async def test_close_cancels_running_and_waiting_checks(passwords: PasswordChecker, check: CountingCheck) -> None:
    check.proceed.clear()
    asking = [asyncio.create_task(passwords.is_authorized(header("bob", str(number)), USERS)) for number in range(3)]
    assert await asyncio.to_thread(check.started.wait, 30)
    passwords.close()
    await asyncio.wait(asking)
    assert all(task.cancelled() for task in asking)
    check.proceed.set()


# -- health endpoints --------------------------------------------------------------------------------------------------


async def test_health_request_does_not_wait_for_checks_of_other_requests(
    passwords: PasswordChecker, check: CountingCheck
) -> None:
    blocked = threading.Event()

    def block_guesses(password: bytes, hash_: bytes) -> bool:
        if password.startswith(b"guess"):
            check.started.set()
            assert blocked.wait(30)
        return bcrypt.checkpw(password, hash_)

    checker = PasswordChecker(block_guesses, health_wait_seconds=30)
    guesses = [
        asyncio.create_task(checker.is_authorized(header("alice", f"guess {number}"), USERS)) for number in range(20)
    ]
    assert await asyncio.to_thread(check.started.wait, 30)
    assert await checker.is_authorized(header("alice", "alice's own"), USERS, is_health=True)
    assert not await checker.is_authorized(header("alice", "wrong"), USERS, is_health=True)
    assert not await checker.is_authorized("", USERS, is_health=True)
    blocked.set()
    assert await asyncio.gather(*guesses) == [False] * 20
    checker.close()


async def test_health_request_is_refused_if_its_check_takes_long_and_the_next_one_is_not(check: CountingCheck) -> None:
    passwords = PasswordChecker(check, max_waiting=2, health_wait_seconds=0)
    authorization = header("alice", "alice's own")
    check.proceed.clear()
    # Health requests never raise TooManyChecksError.
    for _ in range(5):
        assert not await passwords.is_authorized(authorization, USERS, is_health=True)
    check.proceed.set()
    async with asyncio.timeout(30):
        while True:
            if await passwords.is_authorized(authorization, USERS, is_health=True):
                break
            await asyncio.sleep(0.001)
    assert check.passwords == ["alice's own"]
    passwords.close()


# -- the queue ---------------------------------------------------------------------------------------------------------


def test_addresses_and_their_names_are_served_in_turn() -> None:
    queue: FairQueue[str] = FairQueue(10)
    for address, name, item in [
        ("1", "a", "1a1"),
        ("1", "a", "1a2"),
        ("1", "b", "1b1"),
        ("1", "a", "1a3"),
        ("2", "a", "2a1"),
        ("2", "a", "2a2"),
    ]:
        assert queue.push(address, name, item) is None
    assert [queue.pop() for _ in range(7)] == ["1a1", "2a1", "1b1", "2a2", "1a2", "1a3", None]


def test_full_queue_removes_the_last_item_of_the_busiest_client() -> None:
    queue: FairQueue[str] = FairQueue(4)
    for name in ("x", "x", "y"):
        queue.push("many", name, f"many {name}")
    queue.push("few", "z", "few z")
    assert queue.push("new", "z", "new z") == "many x"
    # Among equals, it is the one served last.
    assert queue.push("new", "z", "second of new z") == "second of new z"
    assert queue.push("other", "z", "other z") == "many y"
    assert queue.push("last", "z", "last z") == "last z"
    assert [queue.pop() for _ in range(5)] == ["many x", "few z", "new z", "other z", None]


def test_queue_is_bounded() -> None:
    queue: FairQueue[int] = FairQueue(5)
    removed = [queue.push(str(number % 7), str(number % 3), number) for number in range(1000)]
    assert sum(item is not None for item in removed) == 995
    assert sum(queue.pop() is not None for _ in range(1000)) == 5


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("", ""),
        (None, ""),
    ],
)
def test_network_is_the_ipv4_address_or_the_ipv6_prefix(address: str | None, network: str) -> None:
    assert network_of(address) == network


# -- remembered results -----------------------------------------------------------------------------------------------


async def test_wrong_passwords_are_remembered_up_to_a_bound(passwords: PasswordChecker, check: CountingCheck) -> None:
    users = {"alice": "$2b$04$" + "." * 53}
    for number in range(WRONG_SIZE + 1):
        assert not await passwords.is_authorized(header("alice", str(number)), users)
    assert not await passwords.is_authorized(header("alice", "1"), users)
    assert len(check.passwords) == WRONG_SIZE + 1
    assert not await passwords.is_authorized(header("alice", "0"), users)
    assert len(check.passwords) == WRONG_SIZE + 2


async def test_cache_is_bounded_and_guesses_evict_nothing(passwords: PasswordChecker, check: CountingCheck) -> None:
    users = {f"user-{number}": ALICE for number in range(RIGHT_SIZE + 1)}
    for name in users:
        assert await passwords.is_authorized(header(name, "alice's own"), users)
    for number in range(RIGHT_SIZE + 1):
        assert not await passwords.is_authorized(header(f"guess-{number}", "x"), users)
    count = len(check.hashes)
    assert await passwords.is_authorized(header("user-1", "alice's own"), users)
    assert len(check.hashes) == count
    assert await passwords.is_authorized(header("user-0", "alice's own"), users)
    assert len(check.hashes) == count + 1


async def test_hash_that_bcrypt_refuses_authorizes_nobody(passwords: PasswordChecker) -> None:
    assert not await passwords.is_authorized(header("alice", "x"), {"alice": "$2a$04$" + "z" * 53})


def test_credentials_are_parsed() -> None:
    assert credentials(header("ä", "ö:ü")) == ("ä", "ö:ü".encode())
