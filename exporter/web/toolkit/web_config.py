"""The web configuration file (``--web.config.file``): TLS, users, headers, rate limit.

Its format is specified by docs/web-configuration.md of exporter-toolkit, which the Prometheus project's exporters use.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PrivateAttr, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from exporter.config.environment import EnvironmentLayer
from exporter.config.errors import Reporter, show_path
from exporter.config.section import Section
from exporter.config.types import ConfigPath, Count, Described, Flag
from exporter.config.validation import LoadContext, Place, refuse, refuse_all, using_load_context
from exporter.config.yaml_document import Document, DocumentError, read
from exporter.runtime.files import file_version, read_file
from exporter.web.toolkit.tls import CIPHERS, CLIENT_AUTH, CURVES, VERSIONS, TlsError, TlsParts, server_context
from exporter.web.toolkit.users import hash_cost

_MAX_BYTES = 2**20
_NANOSECOND = 1e-9
_GO_UNITS = {"ns": _NANOSECOND, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_GO_DURATION_PART = re.compile(r"([0-9]{1,12}(?:\.[0-9]{0,9})?)(ns|us|µs|ms|s|m|h)")
_MAX_COST = 18
"""Maximum cost of a hash. At this cost a check takes about 20 s of CPU time; each step doubles it."""
_WARNING_COST = 14
"""Maximum cost without a warning. At this cost a check takes about a second."""
_HASH = re.compile(r"\$2[abxy]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")
_HEADERS: dict[str, tuple[str, ...]] = {
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
    "Content-Security-Policy": (),
}
"""Configurable headers and their allowed values; () allows any value."""
_FILES = ("cert_file", "key_file", "client_ca_file")


def _check_text(value: Any) -> str:
    if not isinstance(value, str):
        raise refuse("text", found="a value of another type")
    return value


def _parse_go_duration(value: Any) -> float:
    """Parse a duration in Go's notation to seconds: ``500ms``, ``1.5s``, ``1h30m``, ``0``."""
    text = str(value) if type(value) is int and value == 0 else value
    if text == "0":
        return 0.0
    parts = list(_GO_DURATION_PART.finditer(text)) if isinstance(text, str) else []
    if not parts or "".join(part[0] for part in parts) != text:
        raise refuse("a duration such as 100ms, 1s or 1m30s")
    return sum(float(part[1]) * _GO_UNITS[part[2]] for part in parts)


def _check_hash(value: Any) -> str:
    if not isinstance(value, str) or not _HASH.fullmatch(value):
        raise refuse("a bcrypt hash, such as htpasswd -nBC 10 prints", found="another value")
    cost = hash_cost(value)
    if cost > _MAX_COST:
        raise refuse(f"a cost of at most {_MAX_COST}", found=f"a hash of cost {cost}")
    return value


def _check_headers(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise refuse("a mapping of header to value")
    errors: dict[Place, PydanticCustomError] = {}
    for name, content in value.items():
        error = _header_error(name, content)
        if error is not None:
            errors[name,] = error
    if errors:
        raise refuse_all("headers", errors)
    return value


def _header_error(name: str, content: Any) -> PydanticCustomError | None:
    if name not in _HEADERS:
        return refuse(f"one of {', '.join(sorted(_HEADERS))}", found="another header")
    if not isinstance(content, str) or not content.isprintable() or not content.isascii():
        return refuse("printable ASCII text", found="another value")
    if _HEADERS[name] and content not in _HEADERS[name]:
        return refuse(" or ".join(_HEADERS[name]), found="another value")
    return None


def _one_of(known: Any) -> BeforeValidator:
    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in known:
            raise refuse(f"one of {', '.join(known)}")
        return value

    return BeforeValidator(check)


def _check_client_auth(value: Any) -> str:
    if value not in CLIENT_AUTH:
        raise refuse(f"one of {', '.join(CLIENT_AUTH)} (an unverified certificate does not authenticate a client)")
    return str(value)


Content = Annotated[str, BeforeValidator(_check_text), Described("text")]
"""Text that may contain a key, so it is never shown."""


class TlsServer(Section):
    """`tls_server_config`."""

    cert: Content | None = None
    key: Content | None = None
    client_ca: Content | None = None
    cert_file: ConfigPath | None = None
    key_file: ConfigPath | None = None
    client_ca_file: ConfigPath | None = None
    client_auth_type: Annotated[str, BeforeValidator(_check_client_auth)] | None = None
    client_allowed_sans: tuple[Content, ...] | None = None
    min_version: Annotated[str, _one_of(VERSIONS)] = "TLS12"
    max_version: Annotated[str, _one_of(VERSIONS)] = "TLS13"
    cipher_suites: tuple[Annotated[str, _one_of(CIPHERS)], ...] = ()
    curve_preferences: tuple[Annotated[str, _one_of(CURVES)], ...] = ()
    prefer_server_cipher_suites: Flag = True

    _context: ssl.SSLContext | None = PrivateAttr(default=None)

    @property
    def context(self) -> ssl.SSLContext | None:
        """Context for new connections; None without TLS."""
        return self._context

    @property
    def verifies_clients(self) -> bool:
        """Whether clients must present a valid certificate."""
        return self._context is not None and self._context.verify_mode is ssl.CERT_REQUIRED

    @model_validator(mode="before")
    @classmethod
    def _drop_empty_values(cls, data: Any) -> Any:
        return {key: value for key, value in data.items() if value != ""} if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _build_context(self) -> TlsServer:
        if self._is_enabled:
            try:
                self._context = server_context(self._tls_parts())
            except TlsError as error:
                raise refuse_all("tls", {(error.key,): refuse(error.allowed, found=error.found)}) from None
        return self

    @property
    def _is_enabled(self) -> bool:
        given = (self.cert, self.key, self.client_ca, self.cert_file, self.key_file, self.client_ca_file)
        return any(given) or self.client_auth_type is not None

    def _tls_parts(self) -> TlsParts:
        return TlsParts(
            cert=self.cert_file or self.cert,
            key=self.key_file or self.key,
            client_ca=self.client_ca_file or self.client_ca,
            client_auth=self.client_auth_type or "NoClientCert",
            client_allowed_sans=self.client_allowed_sans,
            min_version=self.min_version,
            max_version=self.max_version,
            ciphers=self.cipher_suites,
            curves=self.curve_preferences,
            prefers_own_ciphers=self.prefer_server_cipher_suites,
        )


class HttpServer(Section):
    """`http_server_config`. HTTP/2 is not supported; `http2` is ignored."""

    http2: Flag = True
    headers: Annotated[dict[str, str], BeforeValidator(_check_headers)] = Field(default_factory=dict)


class RateLimitSettings(Section):
    """`rate_limit`: one request per `interval` on average, `burst` requests at once."""

    interval: Annotated[float, BeforeValidator(_parse_go_duration), Described("duration")] = 0.0
    burst: Count = 0

    @model_validator(mode="after")
    def _check_burst(self) -> RateLimitSettings:
        if self.interval > 0 and self.burst < 1:
            raise refuse_all("rate_limit", {("burst",): refuse("at least 1 if interval is set")})
        return self


class WebConfig(Section):
    """The web configuration file."""

    tls_server_config: TlsServer = Field(default_factory=TlsServer)
    http_server_config: HttpServer = Field(default_factory=HttpServer)
    basic_auth_users: dict[str, Annotated[str, BeforeValidator(_check_hash)]] = Field(default_factory=dict)
    rate_limit: RateLimitSettings = Field(default_factory=RateLimitSettings)


FileStates = Mapping[Path, tuple[int, ...] | None]
"""Version of each file, to detect changes; None if the file does not exist."""


@dataclass(frozen=True)
class ReadResult:
    """Result of reading the web configuration file."""

    config: WebConfig | None
    """None if there are errors."""
    errors: tuple[str, ...]
    """Each as ``FILE:LINE:COL: path.to.key: message``, without secrets."""
    warnings: tuple[str, ...]
    """Each as ``FILE:LINE:COL: path.to.key: text``, without secrets; () if there are errors."""
    files: FileStates
    """Versions of the file and the files it refers to, taken before reading; a change of any requires reading again."""


def read_web_config(path: Path) -> ReadResult:
    """Read the file and the files it refers to. Never raises; blocks while a file system does not respond."""
    files = file_states((path,))
    try:
        document = read(read_file(path, _MAX_BYTES).content.decode())
    except (OSError, ValueError) as error:
        cause = error.strerror if isinstance(error, OSError) else "not UTF-8"
        return ReadResult(None, (f"{path}: cannot read the file: {cause}",), (), files)
    except DocumentError as error:
        line, column = error.place
        return ReadResult(None, (f"{path}:{line}:{column}: {error}",), (), files)
    if document.data is None:
        document.data = {}
    if not isinstance(document.data, dict):
        return ReadResult(None, (f"{path}:1:1: expected a mapping",), (), files)
    files = {**files, **file_states(_named_files(document.data, path.parent))}
    reporter = Reporter(str(path), document, EnvironmentLayer(), WebConfig)
    config, found = None, list[ErrorDetails]()
    try:
        with using_load_context(LoadContext(path.parent)):
            config = WebConfig.model_validate(document.data)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
    errors = tuple(reporter.lines(found))
    if errors or config is None:
        return ReadResult(None, errors, (), files)
    return ReadResult(config, (), tuple(_warnings(path, document, config)), files)


def _warnings(path: Path, document: Document, config: WebConfig) -> Iterator[str]:
    for name, hash_ in config.basic_auth_users.items():
        cost = hash_cost(hash_)
        if cost > _WARNING_COST:
            key = ("basic_auth_users", name)
            line, column = document.values.get(key, (1, 1))
            yield (
                f"{path}:{line}:{column}: {show_path(key)}: checking a hash of cost {cost} takes seconds; use a "
                f"cost of 10 to 12 (the maximum is {_MAX_COST})"
            )


def file_states(files: Iterable[Path]) -> FileStates:
    """Return the current versions of these files. Blocks while a file system does not respond."""
    return {file: _file_state(file) for file in files}


def _file_state(file: Path) -> tuple[int, ...] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return file_version(status)


def _named_files(data: dict[str, Any], folder: Path) -> Iterator[Path]:
    tls = data.get("tls_server_config")
    for key in _FILES:
        name = tls.get(key) if isinstance(tls, dict) else None
        if isinstance(name, str) and name and name.isprintable():
            yield folder / name
