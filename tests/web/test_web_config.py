"""The web configuration file: valid and invalid files, compared with promtool."""

from pathlib import Path

import pytest
import trustme

from exporter.web.toolkit.web_config import read_web_config
from tests.real.prometheus import promtool
from tests.web.secure_server import bcrypt_hash, write_certificate

HASH = bcrypt_hash("canary-password")
TLS = "tls_server_config: {cert_file: server.pem, key_file: server.key"
GOOD = {
    "empty": "",
    "an empty mapping": "{}",
    "a certificate": f"{TLS}}}",
    "versions": f"{TLS}, min_version: TLS12, max_version: TLS13}}",
    "an old version": f"{TLS}, min_version: TLS10}}",
    "unset by blanks": f'{TLS}, client_auth_type: "", client_ca_file: ""}}',
    "versions without a certificate": "tls_server_config: {min_version: TLS13}",
    "suites": f"{TLS}, cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]}}",
    "suites of TLS 1.3": f"{TLS}, cipher_suites: [TLS_AES_128_GCM_SHA256]}}",
    "curves": f"{TLS}, curve_preferences: [CurveP256, X25519], prefer_server_cipher_suites: false}}",
    "client certificates": f"{TLS}, client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem}}",
    "client certificates if given": f"{TLS}, client_auth_type: VerifyClientCertIfGiven, client_ca_file: ca.pem}}",
    "client certificates of the machine": f"{TLS}, client_auth_type: RequireAndVerifyClientCert}}",
    "client certificates asked for": f"{TLS}, client_auth_type: RequestClientCert}}",
    "no client certificates": f"{TLS}, client_auth_type: NoClientCert}}",
    "users": f"basic_auth_users: {{alice: {HASH}, bob: {HASH.replace('$2b$', '$2y$')}}}",
    "no users": "basic_auth_users: {}",
    "headers": "http_server_config: {http2: false, headers: {X-Frame-Options: deny, X-XSS-Protection: 1; mode=block, "
    "X-Content-Type-Options: nosniff, Strict-Transport-Security: max-age=1, Content-Security-Policy: frame-src a}}",
}
BAD = {
    "no YAML": ("a: [", ":2:1: invalid YAML"),
    "a list": ("[a]", ":1:1: expected a mapping"),
    "an unknown section": ("tls_config: {}", ":1:1: tls_config: unknown key"),
    "an unknown key": (f"{TLS}, ciphers: []}}", "tls_server_config.ciphers: unknown key"),
    "a repeated key": ("basic_auth_users: {}\nbasic_auth_users: {}", ":2:1: basic_auth_users: duplicate key"),
    "no key": ("tls_server_config: {cert_file: server.pem}", "key_file: missing; expected key_file or key"),
    "no certificate": ("tls_server_config: {key_file: server.key}", "cert_file: missing"),
    "only client authentication": ("tls_server_config: {client_auth_type: NoClientCert}", "cert_file: missing"),
    "a missing certificate": (
        "tls_server_config: {cert_file: none.pem, key_file: server.key}",
        "got a file that cannot be read (No such file or directory)",
    ),
    "a missing key": ("tls_server_config: {cert_file: server.pem, key_file: none.key}", "key_file: expected "),
    "a key of another certificate": (
        "tls_server_config: {cert_file: server.pem, key_file: other.key}",
        ":1:32: tls_server_config.cert_file: expected a PEM certificate",
    ),
    "a key in place of the certificate": (
        "tls_server_config: {cert_file: server.key, key_file: server.key}",
        "cert_file: expected a PEM certificate",
    ),
    "an unknown version": (f"{TLS}, min_version: TLS14}}", "min_version: expected one of TLS10"),
    "an unknown suite": (f"{TLS}, cipher_suites: [RC4]}}", "cipher_suites[0]: expected one of "),
    "an unknown curve": (f"{TLS}, curve_preferences: [P1]}}", "curve_preferences[0]: expected one of "),
    "an unknown policy": (f"{TLS}, client_auth_type: Any}}", "client_auth_type: expected one of NoClientC"),
    "a CA without client authentication": (f"{TLS}, client_ca_file: ca.pem}}", "client_auth_type: expected "),
    "a missing CA": (
        f"{TLS}, client_auth_type: RequireAndVerifyClientCert, client_ca_file: none.pem}}",
        "client_ca_file: expected ",
    ),
    "a password": ("basic_auth_users: {alice: canary-password}", "basic_auth_users.alice: expected "),
    "another header": ("http_server_config: {headers: {Server: me}}", "headers.Server: expected "),
    "another value": ("http_server_config: {headers: {X-Frame-Options: DENY}}", "expected deny or sameorigin"),
    "an invalid boolean": ("http_server_config: {http2: perhaps}", 'http2: expected true or false, got "perhaps"'),
}
NEWER_GOOD = {
    "names of clients": f"{TLS}, client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem, "
    "client_allowed_sans: [a.example]}",
    "a rate limit": "rate_limit: {interval: 1m0.5s, burst: 20}",
    "no rate limit": "rate_limit: {interval: 0, burst: 0}",
}
"""Keys that are newer than the promtool of the tests."""
STRICTER = {
    "names without certificates": (
        f"{TLS}, client_allowed_sans: [a]}}",
        "client_allowed_sans: expected ",
    ),
    "an unverified certificate": (f"{TLS}, client_auth_type: RequireAnyClientCert}}", "does not authenticate"),
    "a CA file without certificates": (
        f"{TLS}, client_auth_type: RequireAndVerifyClientCert, client_ca_file: server.key}}",
        "client_ca_file: expected PEM certificates",
    ),
    "a maximum version of 1.1": (f"{TLS}, max_version: TLS11}}", "max_version: expected TLS12 or TLS13, got TLS11"),
    "a maximum below the minimum version": (
        f"{TLS}, min_version: TLS13, max_version: TLS12}}",
        "max_version: expected at least min_version (TLS13), got TLS12",
    ),
    "suites of TLS 1.3 with TLS 1.2": (
        f"{TLS}, max_version: TLS12, cipher_suites: [TLS_AES_128_GCM_SHA256]}}",
        "got only suites of TLS 1.3",
    ),
    "a rate limit of 0": ("rate_limit: {interval: 1s}", "rate_limit.burst: missing; expected at least 1"),
    "an invalid duration": ("rate_limit: {interval: 1d, burst: 1}", "rate_limit.interval: expected a duration"),
    "a number without a unit": ("rate_limit: {interval: 10, burst: 1}", "rate_limit.interval: expected a duration"),
    "headers as a list": ("http_server_config: {headers: [a]}", "headers: expected a mapping"),
    "a header with a line break": (
        'http_server_config: {headers: {X-XSS-Protection: "a\\r\\nb"}}',
        "headers.X-XSS-Protection: expected ",
    ),
    "an expensive hash": (
        f"basic_auth_users: {{alice: {HASH.replace('$04$', '$19$')}}}",
        ":1:27: basic_auth_users.alice: expected a cost of at most 18, got a hash of cost 19",
    ),
    "a number as the key": ("tls_server_config: {cert_file: server.pem, key: 17}", "a value of another type"),
}
"""Values that exporter-toolkit accepts and the exporter refuses, because they protect less than they promise."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("web-config")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(directory / "ca.pem")
    write_certificate(directory, authority)
    write_certificate(directory, authority, stem="other")
    return directory


def read(folder: Path, text: str) -> list[str]:
    (folder / "web.yml").write_text(text)
    reading = read_web_config(folder / "web.yml")
    assert (reading.config is None) == bool(reading.errors)
    assert not any("canary" in error or HASH in error for error in reading.errors)
    assert all(error.startswith(f"{folder / 'web.yml'}:") for error in reading.errors)
    return list(reading.errors)


@pytest.mark.parametrize("name", [*GOOD, *NEWER_GOOD])
def test_valid_file_is_read(name: str, folder: Path) -> None:
    assert read(folder, (GOOD | NEWER_GOOD)[name]) == []


@pytest.mark.parametrize("name", [*BAD, *STRICTER])
def test_bad_file_is_refused_with_line_and_column(name: str, folder: Path) -> None:
    text, expected = (BAD | STRICTER)[name]
    errors = read(folder, text)
    assert any(expected in error for error in errors), errors


@pytest.mark.parametrize(("cost", "count"), [("14", 0), ("15", 1), ("18", 1)])
def test_costly_hash_causes_a_warning(cost: str, count: int, folder: Path) -> None:
    assert read(folder, f"basic_auth_users: {{alice: {HASH.replace('$04$', f'${cost}$')}}}") == []
    warnings = read_web_config(folder / "web.yml").warnings
    assert len(warnings) == count
    assert all(f"a hash of cost {cost}" in warning and HASH[7:] not in warning for warning in warnings)


def test_all_errors_are_reported_at_once(folder: Path) -> None:
    assert len(read(folder, "basic_auth_users: {a: b, c: d}\nrate_limit: {interval: x, burst: y}")) == 4


def test_certificate_and_key_may_be_inline(folder: Path) -> None:
    parts = {"cert": "server.pem", "key": "server.key", "client_ca": "ca.pem"}
    lines = ["tls_server_config:", "  client_auth_type: RequireAndVerifyClientCert"]
    for key, file in parts.items():
        lines += [f"  {key}: |", *("    " + line for line in (folder / file).read_text().splitlines())]
    assert read(folder, "\n".join(lines)) == []


def test_bad_inline_content_is_not_shown(folder: Path) -> None:
    text = "tls_server_config: {cert: canary-cert, key: canary-key}"
    (error,) = read(folder, text)
    assert "web.yml:1:27: tls_server_config.cert: expected a PEM certificate" in error


def test_key_with_a_passphrase_is_refused_without_a_prompt(folder: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key((folder / "server.key").read_bytes(), None)
    (folder / "locked.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"canary"),
        )
    )
    (error,) = read(folder, "tls_server_config: {cert_file: server.pem, key_file: locked.key}")
    assert "without a passphrase" in error


def test_unreadable_file_is_an_error(folder: Path) -> None:
    reading = read_web_config(folder / "none.yml")
    assert reading.errors == (f"{folder}/none.yml: cannot read the file: No such file or directory",)
    (folder / "latin.yml").write_bytes(b"a: \xe4")
    assert "not UTF-8" in read_web_config(folder / "latin.yml").errors[0]


@pytest.mark.real
def test_promtool_agrees(folder: Path) -> None:
    files = {
        folder / f"{number}.yml": text for number, text in enumerate([*GOOD.values(), *(t for t, _ in BAD.values())])
    }
    for file, text in files.items():
        file.write_text(text)
    verdicts = {text: promtool("check", "web-config", file).returncode == 0 for file, text in files.items()}
    ours = {text: read_web_config(file).config is not None for file, text in files.items()}
    assert verdicts == ours
    assert sum(ours.values()) == len(GOOD)
