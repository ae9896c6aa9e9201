"""The text of an answer as it grows, family by family."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Final, NamedTuple

from exporter.metrics.families.family import Family
from exporter.metrics.rendering.lines import Lines
from exporter.metrics.text_format import heading


class Counts(NamedTuple):
    """What a rendering holds."""

    series: int = 0
    duplicates: int = 0
    """Objects, or label sets of one object, left out because an earlier one has the same labels."""


NOTHING: Final = Counts()


class Rendering:
    """Takes families one after the other and counts what they hold."""

    def __init__(self, write: Callable[[bytes], object] | None = None, after: Counts = NOTHING) -> None:
        """``write``: where the text goes, without it into ``chunks``; ``after``: what is in the same answer before."""
        self.chunks: list[bytes] = []
        self.series, self.duplicates = after
        self._write = write or self.chunks.append

    @property
    def counts(self) -> Counts:
        """What it holds so far."""
        return Counts(self.series, self.duplicates)

    def add(self, family: Family, lines: Sequence[str]) -> None:
        """A family with its lines; nothing without lines."""
        self.add_block(family.name, family.kind, family.help, lines)

    def add_block(self, name: str, kind: str, help_: str, lines: Sequence[str]) -> None:
        """The same, of a family that the catalogue does not have."""
        if lines:
            self.series += len(lines)
            self._write((heading(name, kind, help_) + "".join(lines)).encode())

    def add_lines(self, family: Family, blocks: Sequence[Lines]) -> None:
        """A family with lines that were joined in bulk; nothing without lines."""
        blocks = [lines for lines in blocks if lines.series]
        if blocks:
            # each line begins with the line feed of the one before
            self._write(_heading(family.name, family.kind, family.help))
            for text, series, duplicates in blocks:
                self.series += series
                self.duplicates += duplicates
                self._write(text)
            self._write(b"\n")

    def add_text(self, text: bytes) -> None:
        """Text that was made elsewhere."""
        self.series += text.count(b"\n") - text.count(b"\n#") - text.startswith(b"#")
        self._write(text)

    @property
    def text(self) -> bytes:
        """All of it, where it was collected."""
        return b"".join(self.chunks)


@cache
def _heading(name: str, kind: str, help_: str) -> bytes:
    """The heading of a family of the catalogue, without its last line feed."""
    return heading(name, kind, help_)[:-1].encode()
