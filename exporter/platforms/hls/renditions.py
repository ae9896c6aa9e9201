"""The renditions of a stream: from its master playlist, or the media playlist itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from exporter.http.media import join_url
from exporter.media.hls_playlist import MasterPlaylist, Variant

MAX_VARIANTS: Final = 20
MAX_AUDIO: Final = 10
_AUDIO_CODECS = ("mp4a", "ac-3", "ec-3", "opus", "fl", "alac", "mp3")
ONLY_RENDITION: Final = "media"
"""Name of the only rendition of a stream without master playlist."""


class RenditionAddress(NamedTuple):
    """A rendition to check."""

    name: str
    """Unique within the stream."""
    url: str
    bandwidth: float | None
    """Declared bytes per second."""
    is_audio: bool
    is_audio_only: bool = False
    """Whether it is a variant that declares no video."""


def addresses(master: MasterPlaylist, base_url: str) -> list[RenditionAddress]:
    """Return the variants with different playlists, in the order of the master playlist, and the audio renditions."""
    found: dict[str, RenditionAddress] = {}
    names: set[str] = set()
    for variant in master.variants:
        url = join_url(base_url, variant.uri)
        if url not in found and len(found) < MAX_VARIANTS:
            found[url] = RenditionAddress(
                _unique(_variant_name(variant), names),
                url,
                variant.bandwidth_bytes_per_second,
                is_audio=False,
                is_audio_only=_is_audio_only(variant),
            )
    variants = len(found)
    for rendition in master.audio_renditions:
        url = join_url(base_url, rendition.uri or "")
        if url not in found and len(found) - variants < MAX_AUDIO:
            name = _unique(" ".join(filter(None, ("audio", rendition.language or rendition.name))), names)
            found[url] = RenditionAddress(name, url, None, is_audio=True)
    return list(found.values())


def needs_audio(master: MasterPlaylist) -> bool:
    """Whether every variant takes its audio from a separate rendition."""
    groups = {rendition.group for rendition in master.audio_renditions}
    muxed = {rendition.group for rendition in master.renditions if rendition.kind == "AUDIO" and rendition.uri is None}
    return bool(master.variants) and all(
        variant.audio_group in groups and variant.audio_group not in muxed for variant in master.variants
    )


def notes(master: MasterPlaylist | None) -> Iterator[str]:
    """Yield findings about the master playlist that affect no viewer now."""
    if master is None:
        return
    if master.dropped:
        yield "the master playlist has unreadable tags"
    if any(variant.bandwidth_bytes_per_second is None for variant in master.variants):
        yield "a variant has no BANDWIDTH"


def _variant_name(variant: Variant) -> str:
    if variant.height_pixels:
        return f"{variant.height_pixels}p"
    if variant.bandwidth_bytes_per_second:
        return f"{variant.bandwidth_bytes_per_second * 8 / 1000:.0f}k"
    return "variant"


def _unique(name: str, names: set[str]) -> str:
    """Return the name, with a number if it is taken, and note it."""
    unique, number = name, 1
    while unique in names:
        number += 1
        unique = f"{name} {number}"
    names.add(unique)
    return unique


def lowest_with_video(listed: Iterable[RenditionAddress]) -> str:
    """Return the name of the variant with the lowest bandwidth, without variants that declare only audio."""
    variants = [rendition for rendition in listed if not rendition.is_audio]
    if not variants:
        return ""
    with_video = [rendition for rendition in variants if not rendition.is_audio_only]
    return min(with_video or variants, key=lambda rendition: rendition.bandwidth or float("inf")).name


def _is_audio_only(variant: Variant) -> bool:
    return (
        variant.width_pixels is None
        and bool(variant.codecs)
        and all(codec.lower().startswith(_AUDIO_CODECS) for codec in variant.codecs)
    )
