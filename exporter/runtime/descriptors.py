"""The process's limit on open file descriptors."""

from __future__ import annotations

import resource
import sys

import structlog

log = structlog.get_logger()


def raise_descriptor_limit() -> None:
    """Raise the soft limit to the hard limit. The usual 1,024 exists only for programs that use ``select``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:
        # macOS refuses an unlimited number
        log.warning("file descriptor limit cannot be raised", limit=soft, error=str(error))


def descriptor_limit() -> int:
    """Return the maximum number of open file descriptors."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft
