"""TLS of the exporter's server: exporter-toolkit's settings, implemented with Python's ``ssl``."""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from exporter.runtime.files import FileError, read_file

VERSIONS = {
    "TLS10": ssl.TLSVersion.TLSv1_2,
    "TLS11": ssl.TLSVersion.TLSv1_2,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
"""Values of ``min_version``. TLS 1.0 and 1.1 are not supported (RFC 8996) and mean 1.2."""
_TOO_OLD = ("TLS10", "TLS11")
CLIENT_AUTH = {
    "NoClientCert": ssl.CERT_NONE,
    "RequestClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
"""Values of ``client_auth_type``. A certificate is only requested if it is verified."""
CIPHERS = {
    "TLS_AES_128_GCM_SHA256": "",
    "TLS_AES_256_GCM_SHA384": "",
    "TLS_CHACHA20_POLY1305_SHA256": "",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
}
"""Go's name → OpenSSL's name. TLS 1.3 suites have none, because neither Go nor Python can select them."""
CURVES = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}
_MAX_PEM_BYTES = 4 * 2**20
_WITH_REQUIRED_CERTIFICATE = "it together with client_auth_type: RequireAndVerifyClientCert"


class TlsError(ValueError):
    """Invalid settings. The message contains nothing from keys and certificates."""

    def __init__(self, key: str, found: str, allowed: str) -> None:
        super().__init__(f"{key}: found {found}, allowed {allowed}")
        self.key = key
        self.found = found
        self.allowed = allowed


class TlsParts(NamedTuple):
    """Settings of a server's context. Certificates and keys are PEM text or the ``Path`` of a PEM file."""

    cert: Path | str | None
    key: Path | str | None
    client_ca: Path | str | None = None
    client_auth: str = "NoClientCert"
    client_allowed_sans: tuple[str, ...] | None = None
    min_version: str = "TLS12"
    max_version: str = "TLS13"
    ciphers: tuple[str, ...] = ()
    curves: tuple[str, ...] = ()
    """Only the first is used, because Python can set only one curve."""
    prefers_own_ciphers: bool = True


def server_context(parts: TlsParts) -> ssl.SSLContext:
    """Return a context for new connections. Raises ``TlsError``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _set_versions(context, parts)
    _set_ciphers(context, parts)
    _load_own_certificate(context, parts)
    _set_client_auth(context, parts)
    return context


class CurrentContext(ssl.SSLContext):
    """Wraps each new connection with the context in force.

    A new certificate or other setting applies to new connections; open connections stay open.
    """

    _current: Callable[[], ssl.SSLContext]

    @classmethod
    def create(cls, current: Callable[[], ssl.SSLContext]) -> CurrentContext:
        """``current`` returns the context in force. It is called for every connection, so it must be fast."""
        context = cls(ssl.PROTOCOL_TLS_SERVER)
        context._current = current
        return context

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """Wrap a connection; called by the event loop."""
        return self._current().wrap_bio(*args, **kwargs)


def _set_versions(context: ssl.SSLContext, parts: TlsParts) -> None:
    if parts.max_version in _TOO_OLD:
        raise TlsError("max_version", parts.max_version, "TLS12 or TLS13")
    lowest, highest = VERSIONS[parts.min_version], VERSIONS[parts.max_version]
    if lowest > highest:
        raise TlsError("max_version", parts.max_version, f"at least min_version ({parts.min_version})")
    context.minimum_version, context.maximum_version = lowest, highest


def _set_ciphers(context: ssl.SSLContext, parts: TlsParts) -> None:
    if not parts.prefers_own_ciphers:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    if parts.curves:
        context.set_ecdh_curve(CURVES[parts.curves[0]])
    names = [CIPHERS[cipher] for cipher in parts.ciphers if CIPHERS[cipher]]
    if names:
        context.set_ciphers(":".join(names))
    elif parts.ciphers:
        # If only suites of TLS 1.3 are listed, no lower version can be negotiated.
        if parts.max_version != "TLS13":
            raise TlsError("cipher_suites", "only suites of TLS 1.3", "suites of TLS 1.2 too, or max_version: TLS13")
        context.minimum_version = ssl.TLSVersion.TLSv1_3


def _load_own_certificate(context: ssl.SSLContext, parts: TlsParts) -> None:
    if parts.cert is None:
        raise TlsError("cert_file", "nothing", "cert_file or cert, which TLS requires")
    if parts.key is None:
        raise TlsError("key_file", "nothing", "key_file or key, which TLS requires")
    cert, key = _read_pem(parts.cert, "cert"), _read_pem(parts.key, "key")
    try:
        with _memory_file(cert) as cert_file, _memory_file(key) as key_file:
            context.load_cert_chain(cert_file, key_file, password=_refuse_passphrase)
    except (ssl.SSLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None)
        found = "a certificate of another key" if reason == "KEY_VALUES_MISMATCH" else "what OpenSSL cannot use"
        place = "cert_file" if isinstance(parts.cert, Path) else "cert"
        raise TlsError(place, found, "a PEM certificate with its key, without a passphrase") from None


def _refuse_passphrase() -> str:
    # Without this callback, OpenSSL would ask for the passphrase on the terminal.
    raise ValueError("a key with a passphrase")


def _set_client_auth(context: ssl.SSLContext, parts: TlsParts) -> None:
    context.verify_mode = CLIENT_AUTH[parts.client_auth]
    if parts.client_ca is not None:
        if parts.client_auth == "NoClientCert":
            raise TlsError("client_auth_type", "NoClientCert", "a policy that uses client_ca_file")
        _load_client_ca(context, parts.client_ca)
    elif context.verify_mode is not ssl.CERT_NONE:
        context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
    if parts.client_allowed_sans is not None:
        if parts.client_auth != "RequireAndVerifyClientCert":
            raise TlsError("client_allowed_sans", f"client_auth_type: {parts.client_auth}", _WITH_REQUIRED_CERTIFICATE)
        context.sslobject_class = _connection_class(frozenset(parts.client_allowed_sans))


def _load_client_ca(context: ssl.SSLContext, given: Path | str) -> None:
    pem = _read_pem(given, "client_ca")
    try:
        context.load_verify_locations(cadata=pem.decode("ascii", "replace"))
    except (ssl.SSLError, ValueError):
        place = "client_ca_file" if isinstance(given, Path) else "client_ca"
        raise TlsError(place, "no certificate", "PEM certificates") from None


def _connection_class(allowed: frozenset[str]) -> type[ssl.SSLObject]:
    """Return a connection class that accepts only client certificates with one of these names."""

    class NamedClients(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            if allowed.isdisjoint(_subject_names(self.getpeercert() or {})):
                raise ssl.SSLCertVerificationError("the client's certificate has no allowed name")

    return NamedClients


def _subject_names(certificate: Any) -> Iterator[str]:
    for kind, name in certificate.get("subjectAltName", ()):
        yield str(ipaddress.ip_address(name.strip())) if kind == "IP Address" else name


def _read_pem(given: Path | str, key: str) -> bytes:
    if isinstance(given, str):
        return given.encode()
    try:
        return read_file(given, _MAX_PEM_BYTES).content
    except FileError as error:
        raise TlsError(f"{key}_file", f"a file that cannot be read ({error.strerror})", "a PEM file") from None


@contextmanager
def _memory_file(content: bytes) -> Iterator[str]:
    """Return a path to the content, for APIs that only take paths. Keys are thus never written to a disk."""
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
