"""The exporter as a process, with a resolver of its own: names below ``.invalid`` stand in a file, or nowhere.

A program, run by its path: ``fake_resolver.py NAMES ARGUMENTS...``; each line of the file NAMES is such a name, and
means loopback.
"""

import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from exporter.cli import main


def resolver(names: Path) -> Callable[..., Any]:
    """``socket.getaddrinfo``, as of a resolver whose zone ``.invalid`` is the file."""
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
