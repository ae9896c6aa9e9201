"""Boxes of ISO base media files. Source: ISO/IEC 14496-12 section 4.2."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

MAX_BOXES: Final = 10_000
"""Maximum number of boxes that are read in one document."""


class Box(msgspec.Struct, frozen=True, gc=False):
    """One box whose body may be cut off at the end of the data."""

    kind: bytes
    start: int
    """Offset of the body."""
    end: int
    """Offset after the body."""
    cut: bool
    """Whether the box is longer than what contains it."""


class BoxReader:
    """Reads boxes, up to a maximum number in total."""

    __slots__ = ("_budget", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._budget = MAX_BOXES

    def iterate(self, start: int, end: int) -> Iterator[Box]:
        """Iterate over the boxes between two offsets, up to the first that makes no sense."""
        while end - start >= 8 and self._budget > 0:
            self._budget -= 1
            size = self.integer(start, 4)
            body = start + 8
            if size == 1:
                size = self.integer(body, 8)
                body += 8
            elif size == 0:  # to the end
                size = end - start
            if start + size < body or body > end:
                return
            yield Box(self.data[start + 4 : start + 8], body, min(start + size, end), start + size > end)
            start += size

    def find(self, box: Box, *path: bytes) -> Box | None:
        """Return the first box at a path below a box; None if there is none or if it is cut off."""
        found: Box | None = box
        for kind in path:
            if found is None:
                return None
            found = next((child for child in self.iterate(found.start, found.end) if child.kind == kind), None)
        return None if found is None or found.cut else found

    def integer(self, start: int, length: int) -> int:
        """Return an unsigned integer; without meaning, but not an error, at the end of the data."""
        return int.from_bytes(self.data[start : start + length], "big")
