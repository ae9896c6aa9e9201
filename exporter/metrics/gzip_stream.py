"""gzip in parts: compress once what stays the same between two answers, and append what changes.

Level 1 of ISA-L compresses as well as zlib's, in a fifth of its time.
"""

from __future__ import annotations

import struct
from typing import Final

from isal import isal_zlib

LEVEL: Final = 1
_HEADER: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"
"""RFC 1952: deflate, no name, no time (the same content gives the same bytes), fastest level, unknown system."""
_RAW_DEFLATE: Final = -15


class GzipPrefix:
    """The beginning of a gzip stream, which any number of streams can continue. It never changes."""

    __slots__ = ("checksum", "pieces", "size")

    def __init__(self, pieces: tuple[bytes, ...], checksum: int, size: int) -> None:
        self.pieces = pieces
        self.checksum = checksum
        """CRC-32 of the text so far."""
        self.size = size
        """Bytes of the text so far."""


_EMPTY: Final = GzipPrefix((_HEADER,), 0, 0)


class GzipStream:
    """Compresses text as it is written, after a prefix."""

    def __init__(self, prefix: GzipPrefix = _EMPTY) -> None:
        self._pieces = list(prefix.pieces)
        self._checksum = prefix.checksum
        self._size = prefix.size
        self._deflate = isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, _RAW_DEFLATE)

    def write(self, text: bytes) -> None:
        """Compress more text."""
        self._checksum = isal_zlib.crc32(text, self._checksum)
        self._size += len(text)
        self._pieces.append(self._deflate.compress(text))

    def end_prefix(self) -> GzipPrefix:
        """Return everything up to here as a prefix; nothing more may be written to this stream."""
        self._pieces.append(self._deflate.flush(isal_zlib.Z_FULL_FLUSH))
        return GzipPrefix((b"".join(self._pieces),), self._checksum, self._size)

    def finish(self) -> list[bytes]:
        """Return the whole stream, in pieces."""
        trailer = struct.pack("<LL", self._checksum, self._size & 0xFFFFFFFF)
        return [*self._pieces, self._deflate.flush(), trailer]
