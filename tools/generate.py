"""Write the files that are generated from code: ``python -m tools.generate`` (part of ``make generate``)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from exporter.alerting.runbook.page import render_runbook
from exporter.config import reference as configuration_reference
from exporter.metrics.families.reference import reference as metrics_reference
from exporter.platforms.registry import platforms
from tests.faults import reliability
from tools import platform_tables, runbook_html
from tools.prometheus_rule import manifest

ROOT = Path(__file__).parents[1]


def configuration_page() -> str:
    """Return ``docs/configuration.md`` for the registered platforms."""
    return configuration_reference.page({name: platform.settings_class for name, platform in platforms().items()})


GENERATED: dict[str, Callable[[], str]] = {
    "docs/configuration.md": configuration_page,
    "docs/metrics.md": metrics_reference,
    "docs/reliability.md": reliability.page,
    **platform_tables.PAGES,
    "docs/runbook.md": render_runbook,
    "exporter/web/ui/static/runbook.html": runbook_html.page,
    "deploy/kubernetes/prometheusrule.yaml": manifest,
}
"""Generated files, relative to the root of the repository, and the functions that return their text."""


def main(root: Path = ROOT) -> None:
    """Replace each file, and print its path."""
    texts = {file: generate() for file, generate in GENERATED.items()}
    for file, text in texts.items():
        # Rename a complete file, so that an interrupted run leaves no truncated page.
        temporary = root / f"{file}.new"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(root / file)
        print(file)


if __name__ == "__main__":
    main()
