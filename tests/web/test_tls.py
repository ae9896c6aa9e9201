"""TLS with real handshakes: replaced certificates, versions, cipher suites, and client certificates."""

import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog
import trustme

from exporter.runtime.clock import Clock
from exporter.web.security import Security
from tests.fake_clock import FakeClock
from tests.web.secure_server import (
    client_context,
    connect_tls,
    get_status,
    let_files_be_read,
    serve_secured,
    write_certificate,
    write_web_config,
)

TLS = {"cert_file": "server.pem", "key_file": "server.key"}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def security(directory: Path, authority: trustme.CA, clock: Clock | None = None, /, **tls: Any) -> Security:
    write_certificate(directory, authority)
    authority.cert_pem.write_to_path(directory / "ca.pem")
    return Security(write_web_config(directory, {"tls_server_config": {**TLS, **tls}}), clock=clock)


async def test_tls_server_refuses_plain_http(tmp_path: Path, authority: trustme.CA) -> None:
    async with serve_secured(security(tmp_path, authority)) as url:
        assert url.startswith("https://")
        assert await get_status(url, context=client_context(authority)) == 200
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await get_status(url)
        with pytest.raises(aiohttp.ClientError):
            await get_status(url.replace("https", "http"))
        assert await get_status(url, context=client_context(authority)) == 200


async def test_replaced_certificate_applies_to_the_next_connection(tmp_path: Path, authority: trustme.CA) -> None:
    context, clock = client_context(authority), FakeClock()
    async with serve_secured(security(tmp_path, authority, clock)) as url:
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(url, connector=connector) as session, session.get("/") as answer:
            await answer.read()
            first = (await connect_tls(url, context))[0]
            with structlog.testing.capture_logs() as logs:
                (tmp_path / "server.pem").write_bytes(b"half of it")
                for _ in range(2):
                    await let_files_be_read(clock)
                    assert (await connect_tls(url, context))[0] == first
                write_certificate(tmp_path, authority)
                await let_files_be_read(clock)
                second = (await connect_tls(url, context))[0]
            assert second != first
            async with session.get("/") as again:
                assert again.status == 200
    assert [entry["event"] for entry in logs] == ["failed to reload web configuration", "web configuration reloaded"]


@pytest.mark.parametrize(
    ("given", "agreed"),
    [
        ({"min_version": "TLS13"}, "TLSv1.3"),
        ({"max_version": "TLS12"}, "TLSv1.2"),
        ({"min_version": "TLS10"}, "TLSv1.3"),
    ],
)
async def test_tls_version_is_negotiated_within_the_configured_range(
    tmp_path: Path, authority: trustme.CA, given: dict[str, str], agreed: str
) -> None:
    async with serve_secured(security(tmp_path, authority, **given)) as url:
        assert (await connect_tls(url, client_context(authority)))[1] == agreed


async def test_client_below_the_minimum_version_is_refused(tmp_path: Path, authority: trustme.CA) -> None:
    old = client_context(authority)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serve_secured(security(tmp_path, authority, min_version="TLS13")) as url:
        assert not await has_access(url, old)


async def test_cipher_suites_and_curves_are_configurable(tmp_path: Path, authority: trustme.CA) -> None:
    suites = ["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"]
    chosen = security(
        tmp_path,
        authority,
        cipher_suites=suites,
        curve_preferences=["CurveP384"],
        max_version="TLS12",
        prefer_server_cipher_suites=False,
    )
    other = client_context(authority)
    other.set_ciphers("ECDHE+AESGCM:!AES256")
    async with serve_secured(chosen) as url:
        assert await get_status(url, context=client_context(authority)) == 200
        assert not await has_access(url, other)
        other = client_context(authority)
        other.set_ecdh_curve("prime256v1")
        assert not await has_access(url, other)


async def test_suites_of_tls_1_3_only_exclude_older_versions(tmp_path: Path, authority: trustme.CA) -> None:
    old = client_context(authority)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    async with serve_secured(security(tmp_path, authority, cipher_suites=["TLS_AES_128_GCM_SHA256"])) as url:
        assert await get_status(url, context=client_context(authority)) == 200
        assert not await has_access(url, old)


@pytest.mark.parametrize(
    ("policy", "without", "foreign", "own"),
    [
        ("RequireAndVerifyClientCert", False, False, True),
        ("VerifyClientCertIfGiven", True, False, True),
        ("RequestClientCert", True, True, True),
    ],
)
async def test_client_certificate_policy_is_enforced(
    tmp_path: Path, authority: trustme.CA, policy: str, without: bool, foreign: bool, own: bool
) -> None:
    guard = security(tmp_path, authority, client_auth_type=policy, client_ca_file="ca.pem")
    assert guard.is_open == (policy != "RequireAndVerifyClientCert")
    foreign_certificate, own_certificate = (
        trustme.CA().issue_cert("client.example"),
        authority.issue_cert("client.example"),
    )
    async with serve_secured(guard) as url:
        for certificate, expected in ((None, without), (foreign_certificate, foreign), (own_certificate, own)):
            assert await has_access(url, client_context(authority, certificate=certificate)) == expected


async def has_access(url: str, context: ssl.SSLContext) -> bool:
    try:
        return await get_status(url, context=context) == 200
    except (aiohttp.ClientError, OSError):
        return False


@pytest.mark.parametrize(
    ("names", "allowed"),
    [
        (("prometheus.example",), True),
        (("other.example",), False),
        (("other.example", "10.0.0.7"), True),
        (("::1",), True),
        (("someone@example.org",), True),
    ],
)
async def test_client_certificate_needs_an_allowed_name(
    tmp_path: Path, authority: trustme.CA, names: tuple[str, ...], allowed: bool
) -> None:
    guard = security(
        tmp_path,
        authority,
        client_auth_type="RequireAndVerifyClientCert",
        client_ca_file="ca.pem",
        client_allowed_sans=["prometheus.example", "10.0.0.7", "::1", "someone@example.org"],
    )
    async with serve_secured(guard) as url:
        context = client_context(authority, certificate=authority.issue_cert(*names))
        assert await has_access(url, context) == allowed


async def test_client_certificate_without_names_is_refused(tmp_path: Path, authority: trustme.CA) -> None:
    guard = security(
        tmp_path,
        authority,
        client_auth_type="RequireAndVerifyClientCert",
        client_ca_file="ca.pem",
        client_allowed_sans=["prometheus.example"],
    )
    async with serve_secured(guard) as url:
        context = client_context(authority, certificate=authority.issue_cert(common_name="prometheus.example"))
        assert not await has_access(url, context)


async def test_stricter_client_policy_applies_to_the_next_connection(tmp_path: Path, authority: trustme.CA) -> None:
    clock = FakeClock()
    async with serve_secured(security(tmp_path, authority, clock)) as url:
        assert await has_access(url, client_context(authority))
        tight = {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "ca.pem"}
        write_web_config(tmp_path, {"tls_server_config": {**TLS, **tight}})
        await let_files_be_read(clock)
        assert not await has_access(url, client_context(authority))
        mine = client_context(authority, certificate=authority.issue_cert("client.example"))
        assert await has_access(url, mine)
