"""Requests to a running exporter: the flags that say where it is, and how to authenticate."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from exporter.cli.command import CommandError

if TYPE_CHECKING:
    from exporter.config.auth import AuthSettings, TlsSettings

DEFAULT_URL: Final = "http://127.0.0.1:10071"
_TIMEOUT_SECONDS: Final = 10.0
_MAX_BODY_BYTES = 64 * 2**20
_MAX_ERROR_CHARACTERS: Final = 500


def add_running_exporter(parser: argparse.ArgumentParser) -> None:
    """Add the flags for a running exporter."""
    running = parser.add_argument_group("running exporter")
    running.add_argument(
        "--url",
        type=_exporter_url,
        default=DEFAULT_URL,
        metavar="URL",
        help=f"base URL of the exporter (default: {DEFAULT_URL})",
    )
    running.add_argument("--username", metavar="NAME", help="user name, if its --web.config.file has users")
    running.add_argument("--password-file", type=Path, metavar="FILE", help="file with the user's password")
    running.add_argument(
        "--ca-file", type=Path, metavar="FILE", help="CA certificates to trust instead of the system's"
    )


def check_running_exporter(options: argparse.Namespace) -> None:
    """Exit with a usage error if the flags contradict each other."""
    if (options.username is None) != (options.password_file is None):
        options.parser.error("--username and --password-file must be given together")


def request_exporter(
    options: argparse.Namespace,
    endpoint: str,
    *,
    what: str,
    params: Mapping[str, str] | None = None,
    body: Mapping[str, str] | None = None,
    json: bool = True,
    timeout: float = _TIMEOUT_SECONDS,
    id_: str = "",
) -> Any:
    """Return the response of an endpoint: decoded JSON, or text. ``what`` completes "cannot …".

    ``id_``: value of the placeholder ``{id}`` in the endpoint. Only GET requests are repeated.

    Raises ``CommandError``.
    """
    import asyncio

    from exporter.config.auth import AuthSettings, TlsSettings
    from exporter.config.secrets import Secret
    from exporter.http.errors import UpstreamError

    auth = AuthSettings()
    if options.username is not None:
        auth = AuthSettings(username=options.username, password=Secret.from_file(options.password_file))
    tls = TlsSettings(ca_file=options.ca_file)
    try:
        request = _Request(endpoint, params or {}, body, id_, json)
        return asyncio.run(_send(options.url, auth, tls, request, timeout))
    except UpstreamError as error:
        refusal = _explain_refusal(error.refusal)
        raise CommandError(f"cannot {what} {options.url}: {refusal or error}") from error


class _Request(NamedTuple):
    endpoint: str
    params: Mapping[str, str]
    body: Mapping[str, str] | None
    id: str
    json: bool


async def _send(url: str, auth: AuthSettings, tls: TlsSettings, request: _Request, timeout: float) -> Any:
    """Send the request. Raises ``UpstreamError``."""
    from exporter.http.auth import auth_from_settings
    from exporter.http.client import UpstreamClient
    from exporter.http.retry import ResponseLimits
    from exporter.runtime.clock import Clock

    client = UpstreamClient(
        upstream="",
        platform="",
        url=url,
        auth=auth_from_settings(auth),
        tls=tls,
        max_concurrent_requests=1,
        limits=ResponseLimits(_MAX_BODY_BYTES),
        clock=Clock(),
        observe=lambda *_: None,
    )
    try:
        answer = await client.requests(timeout).request(
            request.endpoint,
            params=request.params,
            body=request.body,
            json=request.json,
            safe=request.endpoint.startswith("GET "),
            keep_refusal=True,
            id=request.id,
        )
    finally:
        await client.close()
    return answer.data if request.json else answer.text


def _explain_refusal(body: bytes) -> str:
    """Return the exporter's own error message; empty if the response has none."""
    import msgspec

    try:
        error = msgspec.json.decode(body)["error"]
    except (msgspec.DecodeError, KeyError, TypeError, UnicodeDecodeError):
        return ""
    return printable(error[:_MAX_ERROR_CHARACTERS]) if isinstance(error, str) else ""


def printable(text: str) -> str:
    """Replace control characters, which a stream's name may contain."""
    return "".join(character if character.isprintable() else "�" for character in text)


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Format rows, of which the first has the headings, in aligned columns."""
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in shown)
    return "".join(f"{line}\n" for line in lines)


def _exporter_url(text: str) -> str:
    from exporter.config.urls import http_url

    try:
        return http_url(text)
    except ValueError:
        # The text is not shown because it may contain credentials.
        raise argparse.ArgumentTypeError("expected an http:// or https:// URL without credentials") from None
