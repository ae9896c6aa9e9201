"""The commit that the exporter was built from.

A wheel and an image carry it in the file ``exporter/REVISION``, which the build writes (``tools/build_hook.py``,
``Dockerfile``); in a checkout, the ``.git`` folder is read. Nothing runs git, which may not be installed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

UNKNOWN: Final = "unknown"
_PACKAGE: Final = Path(__file__).parents[1]


def revision(package: Path = _PACKAGE) -> str:
    """Return the commit of this package, or "unknown" if it was not built from git."""
    try:
        return (package / "REVISION").read_text(encoding="ascii").strip() or UNKNOWN
    except (OSError, ValueError):
        return checkout_revision(package.parent) or UNKNOWN


def checkout_revision(root: Path) -> str | None:
    """Return the commit that is checked out at ``root``; None if it is not the root of a checkout."""
    try:
        folder = root / ".git"
        if folder.is_file():  # a worktree or a submodule
            folder = root / folder.read_text(encoding="utf-8").removeprefix("gitdir:").strip()
        head = (folder / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref: "):
            return _commit(head)
        name = head.removeprefix("ref: ")
        shared = folder / "commondir"
        folders = [folder, folder / shared.read_text(encoding="utf-8").strip()] if shared.exists() else [folder]
        for place in folders:
            if (place / name).exists():
                return _commit((place / name).read_text(encoding="utf-8"))
        packed = (folders[-1] / "packed-refs").read_text(encoding="utf-8")
        found = re.search(rf"^(\S+) {re.escape(name)}$", packed, re.MULTILINE)
        return _commit(found[1]) if found else None
    except (OSError, ValueError):
        return None


def _commit(text: str) -> str | None:
    found = re.fullmatch(r"[0-9a-f]{40,64}", text.strip())
    return found[0] if found else None
