"""Import libraries without the modules that the exporter never uses; see docs/adr/0003-memory-at-start.md."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

_ENTITIES = "html.entities"


@contextmanager
def without_modules(*names: str) -> Iterator[None]:
    """Make imports of optional modules fail, as where they are not installed, unless they are already loaded."""
    absent = [name for name in names if name not in sys.modules]
    # documented: None makes an import of the module fail
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


class _Html5Entities:
    """The names of HTML entities for ``html.unescape``, loaded when it is first called."""

    def __contains__(self, name: str) -> bool:
        return name in importlib.import_module(_ENTITIES).html5

    def __getitem__(self, name: str) -> str:
        return str(importlib.import_module(_ENTITIES).html5[name])


def import_html() -> None:
    """Import ``html`` without its 2,231 entities, because only ``html.escape`` is used."""
    if "html" in sys.modules or _ENTITIES in sys.modules:
        return
    stand_in = ModuleType(_ENTITIES)
    stand_in.html5 = _Html5Entities()  # type: ignore[attr-defined]
    sys.modules[_ENTITIES] = stand_in
    import html  # noqa: F401 - reads the stand-in

    del sys.modules[_ENTITIES]
