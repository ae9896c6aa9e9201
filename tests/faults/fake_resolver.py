"""Run the exporter with a fake resolver: host names below ``.invalid`` come from a file.

Usage: ``fake_resolver.py NAMES ARGUMENTS...``. Each line of the file NAMES is a name that resolves to loopback.
"""

import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from exporter.cli import main


def resolver(names: Path) -> Callable[..., Any]:
    """Return a replacement for ``socket.getaddrinfo`` whose ``.invalid`` zone is the file."""
    system = socket.getaddrinfo

    def resolve(host: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(host, str) and host.endswith(".invalid"):
            if host not in names.read_text().split():
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            host = "127.0.0.1"
        return system(host, *arguments, **options)

    return resolve


if __name__ == "__main__":
    socket.getaddrinfo = resolver(Path(sys.argv.pop(1)))
    sys.exit(main())
