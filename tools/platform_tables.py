"""Tables of the platforms in the README and the documents, from the facts at the top of each platform's page.

A page in ``docs/platforms/`` starts with its title, and has a table without a header row whose rows are ``FACTS``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- platforms: written by make generate -->\n", "<!-- end of the platforms -->\n"
FACTS = ("Platform name", "Versions", "Authentication", "Discovery of streams", "Verified against")


class PlatformPage(NamedTuple):
    """The facts of one platform."""

    file: str
    title: str
    facts: dict[str, str]

    def cell(self, fact: str) -> str:
        """Return a fact, as written on the page."""
        return self.facts[fact]


def platform_pages(root: Path = ROOT) -> list[PlatformPage]:
    """Read all pages, in the order of their titles; raise SystemExit for a page without its facts."""
    pages = []
    for path in sorted((root / "docs" / "platforms").glob("*.md")):
        text = path.read_text(encoding="utf-8")
        facts = dict(re.findall(rf"^\| ({'|'.join(FACTS)}) \| (.+) \|$", text, re.MULTILINE))
        if not text.startswith("# ") or len(facts) < len(FACTS):
            raise SystemExit(f"{path}: expected a title and a table with {', '.join(FACTS)}")
        pages.append(PlatformPage(path.name, text.splitlines()[0].removeprefix("# "), facts))
    return sorted(pages, key=lambda page: page.title.casefold())


def _readme_row(page: PlatformPage) -> str:
    facts = " | ".join(page.cell(fact) for fact in FACTS)
    return f"| [{page.title}](docs/platforms/{page.file}) | {facts} |"


def _compatibility_row(page: PlatformPage) -> str:
    return f"| [{page.title}](platforms/{page.file}) | {page.cell('Versions')} | {page.cell('Verified against')} |"


def _index_row(page: PlatformPage) -> str:
    return f"- [{page.title}](platforms/{page.file})"


def _with_table(file: str, header: str, row: Callable[[PlatformPage], str]) -> Callable[[], str]:
    def page() -> str:
        before, begin, rest = (ROOT / file).read_text(encoding="utf-8").partition(BEGIN)
        _, end, after = rest.partition(END)
        if not begin or not end:
            raise SystemExit(f"{file}: the markers of the platforms are missing")
        rows = "".join(f"{row(page)}\n" for page in platform_pages())
        return f"{before}{begin}{header}{rows}{end}{after}"

    return page


PAGES: dict[str, Callable[[], str]] = {
    "README.md": _with_table(
        "README.md",
        "| platform | `platform:` | versions | authentication | discovery of streams | verified against |\n"
        "|---|---|---|---|---|---|\n",
        _readme_row,
    ),
    "docs/compatibility.md": _with_table(
        "docs/compatibility.md",
        "| platform | supported versions | verified against |\n|---|---|---|\n",
        _compatibility_row,
    ),
    "docs/index.md": _with_table("docs/index.md", "\n", _index_row),
}
"""Files that contain a table of the platforms, and the functions that return their text."""
