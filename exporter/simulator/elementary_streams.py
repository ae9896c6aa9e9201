"""Tiny elementary streams that real decoders accept: grey H.264 pictures and silent AAC frames.

Sources: ITU-T H.264 sections 7.3 (syntax) and 9.1 (Exp-Golomb codes), ISO/IEC 14496-3 sections 1.A.2.2 (ADTS) and
4.4.2 (raw data blocks).
"""

from __future__ import annotations

from functools import cache

VIDEO_CODEC = "avc1.42c01f"
"""Constrained baseline profile, level 3.1."""
AUDIO_CODEC = "mp4a.40.2"
AUDIO_SAMPLE_RATE = 48_000
SAMPLES_PER_AUDIO_FRAME = 1024
MACROBLOCK = 16
_START_CODE = b"\0\0\0\1"
_FRAME_NUMBER_BITS = 5
_DELIMITER = _START_CODE + b"\x09\xf0"
_SLICE, _KEY_SLICE, _SEQUENCE_PARAMETERS, _PICTURE_PARAMETERS, _FILLER = 0x41, 0x65, 0x67, 0x68, 0x0C
"""First bytes of NAL units: reference priority and type."""
_SMALLEST_FILLER_BYTES = len(_START_CODE) + 2


class _Bits:
    """Writes the syntax elements of H.264."""

    def __init__(self) -> None:
        self._text: list[str] = []

    def fixed(self, value: int, bits: int = 1) -> _Bits:
        """Write a number with a fixed number of bits: u(n)."""
        self._text.append(f"{value:0{bits}b}")
        return self

    def golomb(self, *values: int) -> _Bits:
        """Write Exp-Golomb codes: ue(v), and se(v) for 0."""
        for value in values:
            code = f"{value + 1:b}"
            self._text.append("0" * (len(code) - 1) + code)
        return self

    def unit(self, first_byte: int) -> bytes:
        """Return the NAL unit: end bit, alignment, and emulation prevention."""
        text = "".join(self._text) + "1"
        text += "0" * (-len(text) % 8)
        payload, zeros = bytearray(), 0
        for byte in int(text, 2).to_bytes(len(text) // 8, "big"):
            if zeros >= 2 and byte <= 3:
                payload.append(3)
                zeros = 0
            payload.append(byte)
            zeros = zeros + 1 if byte == 0 else 0
        return _START_CODE + bytes([first_byte]) + bytes(payload)


def key_picture(width: int, height: int, size: int) -> bytes:
    """Return a grey key frame with its parameter sets, padded to ``size`` bytes."""
    columns, rows = _macroblocks(width, height)
    # 66, 0xC0, 31: profile, constraints and level of VIDEO_CODEC; type 2: pictures are shown in the order of decoding
    sequence = _Bits().fixed(66, 8).fixed(0xC0, 8).fixed(31, 8).golomb(0, _FRAME_NUMBER_BITS - 4, 2, 1).fixed(0)
    sequence.golomb(columns - 1, rows - 1).fixed(0b1100, 4)
    picture = _Bits().golomb(0, 0).fixed(0, 2).golomb(0, 0, 0).fixed(0, 3).golomb(0, 0, 0).fixed(0, 3)
    # slice type 7: all slices of the picture are intra-coded
    coded = _Bits().golomb(0, 7, 0).fixed(0, _FRAME_NUMBER_BITS).golomb(0).fixed(0, 2).golomb(0)
    for _ in range(columns * rows):
        # macroblock type 3 predicts the average of the neighbours, which is grey without any; no residual
        coded.golomb(3, 0, 0).fixed(1)
    units = sequence.unit(_SEQUENCE_PARAMETERS) + picture.unit(_PICTURE_PARAMETERS) + coded.unit(_KEY_SLICE)
    return _pad(_DELIMITER + units, size)


def repeated_picture(width: int, height: int, number: int, size: int) -> bytes:
    """Return the picture that repeats the previous one, ``number`` pictures after the key frame, padded."""
    columns, rows = _macroblocks(width, height)
    # slice type 5: all slices of the picture are predicted; then a run of skipped macroblocks
    coded = _Bits().golomb(0, 5, 0).fixed(number, _FRAME_NUMBER_BITS).fixed(0, 3).golomb(0, columns * rows)
    return _pad(_DELIMITER + coded.unit(_SLICE), size)


def _macroblocks(width: int, height: int) -> tuple[int, int]:
    if width % MACROBLOCK or height % MACROBLOCK:
        raise ValueError("the size of a picture must be a multiple of 16")
    return width // MACROBLOCK, height // MACROBLOCK


def _pad(picture: bytes, size: int) -> bytes:
    """Append a filler unit."""
    missing = size - len(picture) - _SMALLEST_FILLER_BYTES
    if missing < 0:
        raise ValueError("the picture is too large")
    return picture + _START_CODE + bytes([_FILLER]) + b"\xff" * missing + b"\x80"


@cache
def silent_frame() -> bytes:
    """Return an ADTS frame of silence, mono."""
    # one channel without bands: a gain, no spectrum, and the end of the block (0b111)
    block = bytes([0, 0, 0, 7])
    length = 7 + len(block)
    # MPEG-4 without checksum; profile 1 (LC), rate 3 (48 kHz), one channel, variable bitrate
    header = 0xFFF1 << 40 | 1 << 38 | 3 << 34 | 1 << 30 | length << 13 | 0x7FF << 2
    return header.to_bytes(7, "big") + block
