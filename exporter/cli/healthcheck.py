"""Container health check (``python -m exporter.healthcheck``): exit code 0 if the exporter is healthy, otherwise 1.

It takes port and TLS from the flags of process 1, the exporter, so it needs no configuration of its own.
"""

from __future__ import annotations

import argparse
import ssl
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Final

from exporter.web.options import DEFAULT_LISTEN_ADDRESS, parse_listen_address

_TIMEOUT_SECONDS: Final = 4.0
_MAX_WEB_CONFIG_BYTES: Final = 2**20
_COMMAND_LINE: Final = Path("/proc/1/cmdline")
_ALIVE: Final = (200, 401)
"""401 means that the web configuration has users; the exporter is alive even so."""


def main(command_line: Path = _COMMAND_LINE) -> int:
    """Request ``/-/healthy``, print the result and return the exit code."""
    try:
        status = health_status(command_line.read_bytes().decode(errors="replace").split("\0"))
    except (OSError, HTTPException, ValueError) as error:
        print(f"unhealthy: {type(error).__name__}")
        return 1
    print("healthy" if status in _ALIVE else f"unhealthy: status {status}")
    return 0 if status in _ALIVE else 1


def health_status(words: Sequence[str]) -> int:
    """Return the HTTP status of ``/-/healthy`` at the exporter with this command line.

    Raises ``OSError``, ``HTTPException`` and ``ValueError``.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--web.listen-address", dest="addresses", action="append")
    parser.add_argument("--web.config.file", dest="web_config_file", type=Path)
    # An init process takes the exporter's command after "--", where argparse would not look for flags.
    flags, _ = parser.parse_known_args([word for word in words if word != "--"])
    host, port = parse_listen_address((flags.addresses or [DEFAULT_LISTEN_ADDRESS])[0])
    if host in ("", "0.0.0.0"):  # noqa: S104 - compared, not listened on
        host = "127.0.0.1"
    connection = _connection(host, port, is_tls=flags.web_config_file is not None and _has_tls(flags.web_config_file))
    try:
        connection.request("GET", "/-/healthy")
        return connection.getresponse().status
    finally:
        connection.close()


def _has_tls(web_config_file: Path) -> bool:
    import yaml

    from exporter.runtime.files import read_file_within

    try:
        web_config = yaml.safe_load(read_file_within(web_config_file, _MAX_WEB_CONFIG_BYTES, _TIMEOUT_SECONDS).content)
    except yaml.YAMLError as error:
        raise ValueError("the web configuration is not YAML") from error
    return isinstance(web_config, dict) and bool(web_config.get("tls_server_config"))


def _connection(host: str, port: int, *, is_tls: bool) -> HTTPConnection:
    if not is_tls:
        return HTTPConnection(host, port, timeout=_TIMEOUT_SECONDS)
    context = ssl.create_default_context()
    # The certificate has the name that clients use, not 127.0.0.1, and no secrets are sent.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return HTTPSConnection(host, port, timeout=_TIMEOUT_SECONDS, context=context)
