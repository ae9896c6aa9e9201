"""Hooks of MkDocs: patterns in the navigation, and links to files outside ``docs/``."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

log = logging.getLogger("mkdocs.plugins.hooks")

_OUTSIDE_LINK = re.compile(r"(\]\()((?:\.\./)+[^)#\s]*)((?:#[^)\s]*)?\))")


def on_config(config: Any) -> Any:
    """Replace patterns in the navigation, such as ``platforms/*.md``, by the matching pages in order of their names."""
    docs = Path(config["docs_dir"])

    def expand(entries: list[Any]) -> Iterator[Any]:
        for entry in entries:
            if isinstance(entry, str) and "*" in entry:
                yield from sorted(page.relative_to(docs).as_posix() for page in docs.glob(entry))
            elif isinstance(entry, dict):
                ((title, value),) = entry.items()
                is_section = isinstance(value, list) or "*" in value
                yield {title: list(expand(value if isinstance(value, list) else [value])) if is_section else value}
            else:
                yield entry

    config["nav"] = list(expand(config["nav"]))
    return config


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Make links that leave ``docs/`` absolute: relative ones work in the repository only.

    A link to a file that does not exist is a warning, which ``mkdocs build --strict`` turns into an error.
    """
    docs = Path(config["docs_dir"])

    def replace(link: re.Match[str]) -> str:
        target = Path(os.path.normpath(docs / Path(page.file.src_uri).parent / link[2]))
        if target.is_relative_to(docs):
            return link[0]
        if not target.exists():
            log.warning("%s links to %s, which does not exist", page.file.src_uri, link[2])
        kind = "tree" if target.is_dir() else "blob"
        path = target.relative_to(docs.parent).as_posix()
        return f"{link[1]}{config['extra']['repository']}/{kind}/main/{path}{link[3]}"

    return _OUTSIDE_LINK.sub(replace, markdown)
