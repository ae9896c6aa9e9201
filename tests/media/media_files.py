"""Committed playlists and segments, and small tools to change segments."""

from collections.abc import Iterator
from pathlib import Path

from exporter.media.fmp4 import InitFacts, inspect_init
from exporter.media.hls_playlist import MasterPlaylist, MediaPlaylist, parse_playlist

DOCUMENTS = Path(__file__).parent / "documents"
SEGMENTS = Path(__file__).parent / "segments"
PACKET = 188


def document(name: str) -> bytes:
    return (DOCUMENTS / f"{name}.m3u8").read_bytes()


def segment(name: str) -> bytes:
    return (SEGMENTS / name).read_bytes()


def init(name: str) -> InitFacts:
    facts = inspect_init(segment(f"{name}-init.mp4"))
    assert facts is not None
    return facts


def media(data: bytes | str) -> MediaPlaylist:
    playlist = parse_playlist(data.encode() if isinstance(data, str) else data)
    assert isinstance(playlist, MediaPlaylist)
    return playlist


def master(data: bytes | str) -> MasterPlaylist:
    playlist = parse_playlist(data.encode() if isinstance(data, str) else data)
    assert isinstance(playlist, MasterPlaylist)
    return playlist


def live_list(*lines: str, target: int = 6, sequence: int = 1) -> str:
    head = ["#EXTM3U", f"#EXT-X-TARGETDURATION:{target}", f"#EXT-X-MEDIA-SEQUENCE:{sequence}"]
    return "\n".join([*head, *lines]) + "\n"


def packets(data: bytes) -> list[bytes]:
    return [data[start : start + PACKET] for start in range(0, len(data), PACKET)]


def pid(packet: bytes) -> int:
    return (packet[1] & 0x1F) << 8 | packet[2]


def without_pid(data: bytes, number: int) -> bytes:
    return b"".join(packet for packet in packets(data) if pid(packet) != number)


def box(kind: bytes, *body: bytes) -> bytes:
    content = b"".join(body)
    return (8 + len(content)).to_bytes(4, "big") + kind + content


def box_offsets(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Iterate over the kind, start and end of the outermost boxes."""
    position = 0
    while position < len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        yield data[position + 4 : position + 8], position, position + size
        position += size
