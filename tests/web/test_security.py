"""Middleware: users, limits, headers, and changed configuration files."""

import asyncio
import threading
from pathlib import Path

import aiohttp
import bcrypt
import pytest
import structlog
import trustme
from aiohttp import web

from exporter.cli.settings import load_settings
from exporter.config.loading import ConfigError
from exporter.runtime.clock import Clock
from exporter.service import Service
from exporter.simulator.context import Context
from exporter.simulator.fleet import Fleet
from exporter.simulator.simulator_app import make_simulator
from exporter.web.app import make_app
from exporter.web.options import WebOptions
from exporter.web.security import Security, TokenBucket, WatchedConfig
from exporter.web.toolkit.users import PasswordChecker
from tests.fake_clock import FakeClock
from tests.file_obstacles import OBSTACLES, HungMount, put_obstacle
from tests.web.secure_server import (
    BODY,
    basic_auth,
    bcrypt_hash,
    get_status,
    let_files_be_read,
    serve_app,
    serve_secured,
    write_certificate,
    write_web_config,
)

USERS = {"alice": bcrypt_hash("alice's own")}
ALICE, WRONG = basic_auth("alice", "alice's own"), basic_auth("alice", "wrong")


class BlockingCheck:
    """Checks passwords with bcrypt, and blocks on wrong ones until ``proceed`` is set."""

    def __init__(self) -> None:
        self.started, self.proceed = threading.Event(), threading.Event()

    def __call__(self, password: bytes, hash_: bytes) -> bool:
        right = bcrypt.checkpw(password, hash_)
        if not right:
            self.started.set()
            assert self.proceed.wait(30)
        return right


async def test_without_a_file_everyone_has_access() -> None:
    security = Security()
    assert security.is_open
    assert security.ssl_context() is None
    async with serve_secured(security) as url:
        assert await get_status(url) == 200


async def test_users_have_access_and_others_get_a_challenge(tmp_path: Path) -> None:
    security = Security(write_web_config(tmp_path, {"basic_auth_users": USERS}))
    assert not security.is_open
    async with serve_secured(security) as url, aiohttp.ClientSession(url) as session:
        async with session.get("/", headers=ALICE) as answer:
            assert (answer.status, await answer.text()) == (200, BODY)
        for headers in ({}, WRONG, {"Authorization": "Bearer x"}):
            async with session.get("/", headers=headers) as answer:
                assert (answer.status, await answer.text()) == (401, "unauthorized\n")
                assert answer.headers["WWW-Authenticate"].startswith("Basic realm=")
        for path in ("/nowhere", "/-/healthy"):
            assert await get_status(url + path) == 401
        assert await get_status(f"{url}/nowhere", headers=ALICE) == 404


async def test_every_endpoint_needs_a_password(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("upstreams: [{name: a, platform: node_media_server, url: 'http://127.0.0.1:9'}]")
    service = Service(load_settings(file, {}), load=lambda: load_settings(file, {}))
    security = Security(write_web_config(tmp_path, {"basic_auth_users": USERS}))
    app = make_app(service, options=WebOptions(enable_lifecycle=True), security=security)
    app.add_subapp("/simulator", make_simulator(Context(Fleet(3), Clock())))
    routes = {(route.method, route.resource.canonical) for route in app.router.routes() if route.resource}
    assert {("GET", "/metrics"), ("GET", "/probe"), ("GET", "/sd"), ("POST", "/-/reload")} <= routes
    assert ("GET", "/simulator/faults") in routes
    async with serve_app(app, security) as url, aiohttp.ClientSession(url) as session:
        for method, path in routes:
            async with session.request(method, path.format_map(Everything())) as answer:
                assert answer.status == 401, path
                assert "stream-exporter" in answer.headers["WWW-Authenticate"], path
            async with session.request(method, path.format_map(Everything()), headers=ALICE) as answer:
                # The simulated platforms have their own 401.
                assert "WWW-Authenticate" not in answer.headers, path


class Everything(dict[str, str]):
    """Values for all placeholders of a route."""

    def __missing__(self, key: str) -> str:
        return "x"


async def test_wrong_password_delays_no_known_user(tmp_path: Path) -> None:
    check = BlockingCheck()
    security = Security(write_web_config(tmp_path, {"basic_auth_users": USERS}), passwords=PasswordChecker(check))
    async with serve_secured(security) as url:
        assert await get_status(url, headers=ALICE) == 200
        guess = asyncio.create_task(get_status(url, headers=WRONG))
        assert await asyncio.to_thread(check.started.wait, 30)
        for _ in range(3):
            assert await get_status(url, headers=ALICE) == 200
        assert not guess.done()
        check.proceed.set()
        assert await guess == 401


async def test_excess_password_checks_are_refused(tmp_path: Path) -> None:
    check = BlockingCheck()
    passwords = PasswordChecker(check, max_waiting=8)
    security = Security(write_web_config(tmp_path, {"basic_auth_users": USERS}), passwords=passwords)
    async with serve_secured(security) as url:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(url, connector=connector) as session:

            async def guess() -> int:
                async with session.get("/", headers=WRONG) as answer:
                    return answer.status

            # One password is being checked, and eight are waiting.
            guesses = [asyncio.create_task(guess()) for _ in range(10)]
            done, waiting = await asyncio.wait(guesses, return_when=asyncio.FIRST_COMPLETED)
            assert [task.result() for task in done] == [503]
            check.proceed.set()
            assert await asyncio.gather(*waiting) == [401] * 9


async def test_health_endpoints_are_answered_while_passwords_are_guessed(tmp_path: Path) -> None:
    check = BlockingCheck()
    passwords = PasswordChecker(check, max_waiting=8, health_wait_seconds=30)
    security = Security(write_web_config(tmp_path, {"basic_auth_users": USERS}), passwords=passwords)
    async with serve_secured(security) as url:
        guesses = [asyncio.create_task(get_status(url, headers=WRONG)) for _ in range(10)]
        await asyncio.wait(guesses, return_when=asyncio.FIRST_COMPLETED)
        assert await get_status(f"{url}/-/healthy", headers=ALICE) == 200
        assert await get_status(f"{url}/-/healthy") == 401
        check.proceed.set()
        await asyncio.wait(guesses)
        assert await get_status(f"{url}/-/healthy", headers=WRONG) == 401


async def test_health_endpoints_need_no_password_with_the_option(tmp_path: Path) -> None:
    security = Security(write_web_config(tmp_path, {"basic_auth_users": USERS}), health_without_auth=True)
    assert not security.is_open
    async with serve_secured(security) as url:
        assert await get_status(f"{url}/-/healthy") == 200
        assert await get_status(f"{url}/-/healthy", headers=WRONG) == 200
        assert await get_status(f"{url}/-/ready", headers=ALICE) == 404
        for path in ("/", "/-/reload", "/-/healthy/", "/-/healthy%2f..%2f", "//-/healthy"):
            assert await get_status(url + path) == 401, path


async def test_concurrent_requests_are_limited_except_health() -> None:
    entered, proceed = asyncio.Semaphore(0), asyncio.Event()

    async def slow(_request: web.Request) -> web.Response:
        entered.release()
        await proceed.wait()
        return web.Response()

    async def fast(_request: web.Request) -> web.Response:
        return web.Response()

    security = Security(max_requests=2)
    app = web.Application()
    mounted = web.Application()
    security.protect(app)
    app.router.add_get("/slow", slow)
    app.router.add_get("/-/ready", fast)
    mounted.router.add_get("/fast", fast)
    app.add_subapp("/simulator", mounted)
    async with serve_app(app, security) as url, aiohttp.ClientSession(url) as session:
        running = [asyncio.create_task(get_status(f"{url}/slow")) for _ in range(2)]
        await entered.acquire()
        await entered.acquire()
        async with session.get("/slow") as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert await get_status(f"{url}/-/ready") == 200
        assert await get_status(f"{url}/simulator/fast") == 200
        proceed.set()
        assert await asyncio.gather(*running) == [200, 200]
        assert await get_status(f"{url}/slow") == 200


async def test_limit_of_0_allows_any_number_of_concurrent_requests() -> None:
    async with serve_secured(Security(max_requests=0)) as url:
        assert await asyncio.gather(*(get_status(url) for _ in range(50))) == [200] * 50


async def test_rate_limit_refuses_excess_requests(tmp_path: Path) -> None:
    clock = FakeClock()
    file = write_web_config(tmp_path, {"rate_limit": {"interval": "10s", "burst": 2}})
    async with serve_secured(Security(file, clock=clock)) as url, aiohttp.ClientSession(url) as session:
        assert [await get_status(url) for _ in range(3)] == [200, 200, 429]
        assert await get_status(f"{url}/-/healthy") == 200
        clock.advance(7.5)
        async with session.get("/") as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (429, "3")
        clock.advance(2.5)
        assert [await get_status(url) for _ in range(2)] == [200, 429]
        write_web_config(tmp_path, {"rate_limit": {"interval": "10s", "burst": 1}})
        await let_files_be_read(clock)
        assert [await get_status(url) for _ in range(2)] == [200, 429]
        write_web_config(tmp_path, {})
        await let_files_be_read(clock)
        assert [await get_status(url) for _ in range(5)] == [200] * 5


def test_token_bucket_holds_at_most_its_burst() -> None:
    clock = FakeClock()
    bucket = TokenBucket(1.0, 3, clock)
    clock.advance(100)
    assert [bucket.take() for _ in range(4)] == [0.0, 0.0, 0.0, 1.0]


async def test_configured_headers_override_the_defaults(tmp_path: Path) -> None:
    headers = {"X-Frame-Options": "sameorigin", "Strict-Transport-Security": "max-age=60", "X-XSS-Protection": ""}
    file = write_web_config(tmp_path, {"http_server_config": {"headers": headers}, "basic_auth_users": USERS})
    async with serve_secured(Security(file)) as url, aiohttp.ClientSession(url) as session:
        for given in (ALICE, {}):
            async with session.get("/", headers=given) as answer:
                assert answer.headers["X-Frame-Options"] == "sameorigin"
                assert answer.headers["Strict-Transport-Security"] == "max-age=60"
                assert "X-XSS-Protection" not in answer.headers


async def test_refresh_without_a_file_changes_nothing() -> None:
    watched = WatchedConfig()
    before = watched.current()
    await watched.refresh()
    assert watched.current() is before


def test_bad_file_prevents_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as failure:
        Security(write_web_config(tmp_path, {"basic_auth_users": {"alice": "plain"}}))
    assert "basic_auth_users.alice" in failure.value.errors[0]
    with pytest.raises(ConfigError):
        Security(tmp_path / "none.yml")


async def test_changed_file_applies_within_a_second_unless_it_is_bad(tmp_path: Path) -> None:
    clock = FakeClock()
    file = write_web_config(tmp_path, {"basic_auth_users": USERS})
    async with serve_secured(Security(file, clock=clock)) as url:
        assert await get_status(url, headers=ALICE) == 200
        write_web_config(tmp_path, {"basic_auth_users": {"bob": bcrypt_hash("bob's own")}})
        await let_files_be_read(clock)
        assert await get_status(url, headers=ALICE) == 401
        assert await get_status(url, headers=basic_auth("bob", "bob's own")) == 200
        with structlog.testing.capture_logs() as logs:
            write_web_config(tmp_path, "basic_auth_users: {bob: canary-password}")
            for _ in range(3):
                await let_files_be_read(clock)
                assert await get_status(url, headers=basic_auth("bob", "bob's own")) == 200
            assert await get_status(url) == 401
            file.unlink()
            await let_files_be_read(clock)
            assert await get_status(url) == 401
            write_web_config(tmp_path, {"basic_auth_users": USERS})
            await let_files_be_read(clock)
            assert await get_status(url, headers=ALICE) == 200
    assert [entry["event"] for entry in logs] == [
        "failed to reload web configuration",
        "failed to reload web configuration",
        "web configuration reloaded",
    ]
    assert "canary" not in str(logs)


async def test_costly_hash_is_logged_after_every_change_of_the_file(tmp_path: Path) -> None:
    costly = "$2b$15$" + "." * 53
    file = write_web_config(tmp_path, f"basic_auth_users: {{alice: {costly}}}")
    watched = WatchedConfig(file)
    (warning,) = watched.warnings
    assert f"{file}:1:27: basic_auth_users.alice: checking a hash of cost 15 takes seconds" in warning
    with structlog.testing.capture_logs() as logs:
        watched.log_warnings()
        write_web_config(tmp_path, f"basic_auth_users: {{alice: {costly}, bob: {costly}}}")
        await watched.refresh()
        write_web_config(tmp_path, {"basic_auth_users": USERS})
        await watched.refresh()
    assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == [
        "warning about web configuration"
    ] * 3
    assert not watched.warnings
    assert costly not in str(logs)


@pytest.mark.parametrize("kind", OBSTACLES)
async def test_unreadable_file_changes_nothing_and_is_logged_once(tmp_path: Path, kind: str) -> None:
    watched = WatchedConfig(write_web_config(tmp_path, {"basic_auth_users": USERS}))
    cause = put_obstacle(tmp_path / "web.yml", kind)
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            await watched.refresh()
    assert watched.current().basic_auth_users == USERS
    (entry,) = logs
    assert entry["errors"] == [f"{tmp_path}/web.yml: cannot read the file: {cause}"]
    with pytest.raises(ConfigError, match=cause):
        WatchedConfig(tmp_path / "web.yml")


@pytest.mark.parametrize("hung", ["web.yml", "server.key"])
async def test_configuration_stays_in_force_while_the_file_system_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hung: str
) -> None:
    authority = trustme.CA()
    write_certificate(tmp_path, authority)
    tls = {"tls_server_config": {"cert_file": "server.pem", "key_file": "server.key"}}
    file = write_web_config(tmp_path, tls)
    watched = WatchedConfig(file)
    first = watched.current()
    mount = HungMount(monkeypatch, tmp_path / hung)
    monkeypatch.setattr("exporter.web.security.DEADLINE_SECONDS", 0.01)
    try:
        with structlog.testing.capture_logs() as logs:
            for _ in range(3):
                await watched.refresh()
        assert [entry["errors"] for entry in logs] == [
            [f"{file} or a file it refers to: no answer from the file system within 0.01 s"]
        ]
        assert watched.current() is first
        with pytest.raises(ConfigError, match="no answer from the file system"):
            WatchedConfig(file)
        assert mount.asked == 1
    finally:
        mount.release()
    monkeypatch.setattr("exporter.web.security.DEADLINE_SECONDS", 60.0)
    write_certificate(tmp_path, authority)
    await watched.refresh()
    assert watched.current() is not first


async def test_files_are_watched_after_an_unexpected_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    file = write_web_config(tmp_path, {"basic_auth_users": USERS})
    async with serve_secured(Security(file, clock=clock)) as url:
        with monkeypatch.context() as patched, structlog.testing.capture_logs() as logs:
            patched.setattr("exporter.web.security.file_states", lambda _: 1 / 0)
            await let_files_be_read(clock)
        assert {entry["event"] for entry in logs} == {"failed to check web configuration for changes"}
        write_web_config(tmp_path, {})
        await let_files_be_read(clock)
        assert await get_status(url) == 200


async def test_reload_cannot_enable_or_disable_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    write_certificate(tmp_path, authority)
    tls = {"tls_server_config": {"cert_file": "server.pem", "key_file": "server.key"}}
    watched = WatchedConfig(write_web_config(tmp_path, tls))
    with structlog.testing.capture_logs() as logs:
        write_web_config(tmp_path, {})
        await watched.refresh()
        assert watched.current().tls_server_config.context is not None
        write_web_config(tmp_path, tls)
        await watched.refresh()
        assert watched.current().tls_server_config.context is not None
    assert "requires a restart" in logs[0]["errors"][0]
    assert logs[1]["event"] == "web configuration reloaded"


async def test_change_of_a_certificate_repairs_an_invalid_configuration(tmp_path: Path) -> None:
    # Certificate and key are rarely replaced at the same moment.
    authority = trustme.CA()
    write_certificate(tmp_path, authority)
    tls = {"cert_file": "server.pem", "key_file": "server.key"}
    watched = WatchedConfig(write_web_config(tmp_path, {"tls_server_config": tls}))
    first = watched.current().tls_server_config.context
    write_web_config(tmp_path, {"tls_server_config": {"cert_file": "new.pem", "key_file": "new.key"}})
    await watched.refresh()
    assert watched.current().tls_server_config.context is first
    write_certificate(tmp_path, authority, stem="new")
    await watched.refresh()
    assert watched.current().tls_server_config.context is not first
