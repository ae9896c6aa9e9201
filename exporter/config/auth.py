"""Settings of authentication and TLS for requests to a server."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidatorFunctionWrapHandler, model_validator
from pydantic_core import PydanticCustomError

from exporter.config.secrets import Secret, SecretError
from exporter.config.section import Section
from exporter.config.types import ConfigPath, Described, Flag, Text
from exporter.config.validation import Place, refuse, refuse_because, validate_with_errors
from exporter.runtime.files import FileError, read_file_within

NONE, BEARER, API_KEY, LOGIN = "none", "bearer", "api_key", "login"
_TOKEN = re.compile(r"[\x21-\x7e]+")
"""Printable ASCII without spaces, the characters of a token in a header."""
MAX_CA_BYTES = 4 * 2**20
"""Maximum size of a file of trusted certificates (the bundle that browsers use has 220 kB)."""


def _check_header_token(secret: Secret | None) -> Secret | None:
    try:
        fits = secret is None or _TOKEN.fullmatch(secret.get()) is not None
    except SecretError:
        fits = False
    if not fits:
        raise refuse("printable ASCII without spaces")
    return secret


class AuthSettings(Section):
    """Credentials of one kind, or none."""

    username: Text | None = Field(default=None, description="User name; requires `password`.")
    password: Secret | None = Field(default=None, description="Password of the user.")
    bearer_token: Annotated[Secret | None, AfterValidator(_check_header_token)] = Field(
        default=None, description="Token, sent as `Authorization: Bearer`."
    )
    api_key: Annotated[Secret | None, AfterValidator(_check_header_token)] = Field(
        default=None, description="Key, sent in a header that the platform defines."
    )

    @property
    def kind(self) -> str:
        """``none``, ``bearer``, ``api_key`` or ``login`` (user name and password)."""
        if self.username is not None:
            return LOGIN
        if self.bearer_token is not None:
            return BEARER
        return NONE if self.api_key is None else API_KEY

    @property
    def secret(self) -> Secret | None:
        """The password, token or key; None for ``none``."""
        return self.password or self.bearer_token or self.api_key

    @model_validator(mode="wrap")
    @classmethod
    def _check_one_kind(cls, data: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        """Check which keys are given; reported together with errors in their values."""
        known = cls.known_keys()
        given = (
            {known.get(key) for key, value in data.items() if value is not None} if isinstance(data, dict) else set()
        )
        errors: dict[Place, PydanticCustomError] = {}
        kinds = [given & {"username", "password"}, given & {"bearer_token"}, given & {"api_key"}]
        if sum(map(bool, kinds)) > 1:
            errors[()] = refuse_because("give only one of username with password, bearer_token and api_key")
        elif len(kinds[0]) == 1:
            (missing,) = {"username", "password"} - given
            errors[missing,] = refuse_because("missing; username and password must be given together")
        return validate_with_errors("auth", lambda: validate(data), errors)


def _check_readable(path: Any) -> Any:
    try:
        read_file_within(path, MAX_CA_BYTES)
    except FileError as error:
        raise refuse_because(f"cannot read {path}: {error.strerror}") from None
    return path


class TlsSettings(Section):
    """How the server's certificate is verified."""

    ca_file: Annotated[ConfigPath, AfterValidator(_check_readable), Described("path")] | None = Field(
        default=None, description="CA certificates (PEM) to trust instead of the system's."
    )
    insecure_skip_verify: Flag = Field(default=False, description="Do not verify the certificate. Only for tests.")
    server_name: Text | None = Field(
        default=None, description="Server name to send (SNI) and to verify, instead of the URL's host."
    )
