"""``python -m exporter.cli.healthcheck``: 0 while the exporter beside it is healthy, 1 otherwise; for containers.

It finds the exporter as process 1 does: by the flags of that process. So neither another port nor TLS needs a word.
"""

from __future__ import annotations

import argparse
import ssl
import sys
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Final

import yaml

from exporter.web.options import DEFAULT_LISTEN_ADDRESS, parse_listen_address

TIMEOUT_SECONDS: Final = 4.0
_COMMAND_LINE: Final = Path("/proc/1/cmdline")
_ALIVE: Final = (200, 401)
"""With users in the web configuration it asks who we are: whoever asks is alive."""


def main(command_line: Path = _COMMAND_LINE) -> int:
    """Ask ``/-/healthy``, print one line, return the exit code."""
    try:
        said = ask(command_line.read_bytes().decode(errors="replace").split("\0"))
    except (OSError, HTTPException, ValueError, yaml.YAMLError) as error:
        print(f"not healthy: {type(error).__name__}")
        return 1
    print("healthy" if said in _ALIVE else f"not healthy: {said}")
    return 0 if said in _ALIVE else 1


def ask(words: Sequence[str]) -> int:
    """The status that the exporter with this command line answers. Raises ``OSError`` and ``HTTPException``."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--web.listen-address", dest="addresses", action="append")
    parser.add_argument("--web.config.file", dest="web_config_file", type=Path)
    # An init between gives what it starts after "--", behind which argparse looks for no flags.
    flags, _ = parser.parse_known_args([word for word in words if word != "--"])
    host, port = parse_listen_address((flags.addresses or [DEFAULT_LISTEN_ADDRESS])[0])
    where = "127.0.0.1" if host in ("", "0.0.0.0") else host  # noqa: S104 - compared, not listened on
    connection = _connection(where, port, flags.web_config_file)
    try:
        connection.request("GET", "/-/healthy")
        return connection.getresponse().status
    finally:
        connection.close()


def _connection(host: str, port: int, web_config_file: Path | None) -> HTTPConnection:
    written = yaml.safe_load(web_config_file.read_bytes()) if web_config_file else None
    if not isinstance(written, dict) or not written.get("tls_server_config"):
        return HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
    context = ssl.create_default_context()
    # The certificate is for the name that others use; nothing is told to whoever answers.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return HTTPSConnection(host, port, timeout=TIMEOUT_SECONDS, context=context)


if __name__ == "__main__":
    sys.exit(main())
