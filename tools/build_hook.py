"""A hatchling hook that writes the commit into the sdist and the wheel, as ``exporter/REVISION``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class RevisionHook(BuildHookInterface[Any]):
    """Adds the file, unless it is there already (in an unpacked sdist and in the image's build)."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the commit of the checkout to a temporary file, and have it included."""
        root = Path(self.root)
        if version == "editable" or (root / "exporter" / "REVISION").exists():
            return
        sys.path.insert(0, str(root))
        try:
            from exporter.runtime.revision import checkout_revision
        finally:
            sys.path.remove(str(root))
        revision = checkout_revision(root)
        if revision is None:
            return
        self._folder = tempfile.TemporaryDirectory()
        file = Path(self._folder.name) / "REVISION"
        file.write_text(f"{revision}\n", encoding="ascii")
        build_data["force_include"][str(file)] = "exporter/REVISION"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Remove the temporary file."""
        if hasattr(self, "_folder"):
            self._folder.cleanup()
