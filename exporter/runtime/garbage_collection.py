"""What Python's garbage collector need not look at."""

from __future__ import annotations

import gc


def freeze_startup_objects() -> None:
    """Leave what is there out of all further collections.

    Modules and classes, several hundred thousand objects, stay until the end; a full collection that goes through them
    holds the event loop for 50 ms.
    """
    gc.collect()
    gc.freeze()
