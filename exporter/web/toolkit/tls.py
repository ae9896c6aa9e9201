"""TLS of the exporter's own server, in exporter-toolkit's words, on Python's ``ssl``."""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

VERSIONS = {
    "TLS10": ssl.TLSVersion.TLSv1_2,
    "TLS11": ssl.TLSVersion.TLSv1_2,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
"""As the least version: what is below 1.2 is not spoken (RFC 8996), so that a lower one allows no more than 1.2."""
_TOO_OLD = ("TLS10", "TLS11")
CLIENT_AUTH = {
    "NoClientCert": ssl.CERT_NONE,
    "RequestClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
"""To ask for a certificate and look at it no further lets in whom no question lets in."""
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
"""Go's names and OpenSSL's; those of TLS 1.3 have none here, since neither Go nor Python lets one choose among them."""
CURVES = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}
_WITH_REQUIRED_CERTIFICATE = "client_auth_type: RequireAndVerifyClientCert beside it"


class TlsError(ValueError):
    """Settings that make no server. The texts hold nothing of keys and certificates."""

    def __init__(self, key: str, found: str, allowed: str) -> None:
        super().__init__(f"{key}: found {found}, allowed {allowed}")
        self.key = key
        self.found = found
        self.allowed = allowed


class TlsParts(NamedTuple):
    """What a server's context is made of; a ``Path`` is a file with the PEM text that stands for."""

    cert: Path | str | None
    key: Path | str | None
    client_ca: Path | str | None = None
    client_auth: str = "NoClientCert"
    client_allowed_sans: tuple[str, ...] | None = None
    min_version: str = "TLS12"
    max_version: str = "TLS13"
    ciphers: tuple[str, ...] = ()
    curves: tuple[str, ...] = ()
    """Python can hold a server to one curve: the first."""
    prefers_own_ciphers: bool = True


def server_context(parts: TlsParts) -> ssl.SSLContext:
    """The context for new connections. Raises ``TlsError``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _set_versions(context, parts)
    _set_ciphers(context, parts)
    _load_own_certificate(context, parts)
    _set_client_auth(context, parts)
    return context


class CurrentContext(ssl.SSLContext):
    """Given to the event loop once: wraps each new connection with the context that is in force then.

    So a new certificate, and every other setting, counts from the next connection on; those that are open stay.
    """

    _current: Callable[[], ssl.SSLContext]

    @classmethod
    def of(cls, current: Callable[[], ssl.SSLContext]) -> CurrentContext:
        """``current`` is asked at every connection: it must be quick."""
        context = cls(ssl.PROTOCOL_TLS_SERVER)
        context._current = current
        return context

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """Called by the event loop's TLS for each connection."""
        return self._current().wrap_bio(*args, **kwargs)


def _set_versions(context: ssl.SSLContext, parts: TlsParts) -> None:
    if parts.max_version in _TOO_OLD:
        raise TlsError("max_version", parts.max_version, "TLS12 or TLS13")
    least, most = VERSIONS[parts.min_version], VERSIONS[parts.max_version]
    if least > most:
        raise TlsError("max_version", parts.max_version, f"no less than min_version, {parts.min_version}")
    context.minimum_version, context.maximum_version = least, most


def _set_ciphers(context: ssl.SSLContext, parts: TlsParts) -> None:
    if not parts.prefers_own_ciphers:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    if parts.curves:
        context.set_ecdh_curve(CURVES[parts.curves[0]])
    names = [CIPHERS[cipher] for cipher in parts.ciphers if CIPHERS[cipher]]
    if names:
        context.set_ciphers(":".join(names))
    elif parts.ciphers:
        # Only suites of TLS 1.3 are named: nothing is left to agree on below it.
        if parts.max_version != "TLS13":
            raise TlsError("cipher_suites", "suites of TLS 1.3 alone", "some of TLS 1.2 too, or max_version: TLS13")
        context.minimum_version = ssl.TLSVersion.TLSv1_3


def _load_own_certificate(context: ssl.SSLContext, parts: TlsParts) -> None:
    if parts.cert is None:
        raise TlsError("cert_file", "nothing", "cert_file or cert, wherever TLS is configured")
    if parts.key is None:
        raise TlsError("key_file", "nothing", "key_file or key, wherever TLS is configured")
    cert, key = _pem(parts.cert, "cert"), _pem(parts.key, "key")
    try:
        with _as_file(cert) as cert_file, _as_file(key) as key_file:
            context.load_cert_chain(cert_file, key_file, password=_no_password)
    except (ssl.SSLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None)
        found = "a certificate of another key" if reason == "KEY_VALUES_MISMATCH" else "what OpenSSL can't use"
        place = "cert_file" if isinstance(parts.cert, Path) else "cert"
        raise TlsError(place, found, "a certificate in PEM and its key, without a passphrase") from None


def _no_password() -> str:
    # Without this OpenSSL would ask for it on the terminal.
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
        context.sslobject_class = _only_named(frozenset(parts.client_allowed_sans))


def _load_client_ca(context: ssl.SSLContext, given: Path | str) -> None:
    pem = _pem(given, "client_ca")
    try:
        context.load_verify_locations(cadata=pem.decode("ascii", "replace"))
    except (ssl.SSLError, ValueError):
        place = "client_ca_file" if isinstance(given, Path) else "client_ca"
        raise TlsError(place, "no certificate", "certificates in PEM") from None


def _only_named(allowed: frozenset[str]) -> type[ssl.SSLObject]:
    """A connection whose handshake fails when the client's certificate has none of these names."""

    class NamedClients(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            if allowed.isdisjoint(_subject_names(self.getpeercert() or {})):
                raise ssl.SSLCertVerificationError("the client's certificate has no allowed name")

    return NamedClients


def _subject_names(certificate: Any) -> Iterator[str]:
    for kind, name in certificate.get("subjectAltName", ()):
        yield str(ipaddress.ip_address(name.strip())) if kind == "IP Address" else name


def _pem(given: Path | str, key: str) -> bytes:
    if isinstance(given, str):
        return given.encode()
    try:
        return given.read_bytes()
    except OSError as error:
        raise TlsError(f"{key}_file", f"a file that can't be read ({error.strerror})", "a file in PEM") from None


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A path for what only reads paths; the content, which may be a key, stays in memory."""
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
