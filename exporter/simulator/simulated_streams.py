"""The streams of the fleet: names, ids and nominal properties."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass
from enum import StrEnum

from exporter.simulator.prng import Purpose, random_bits, random_choice, random_letters, random_unit

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"

_PLACES = (
    "main-stage", "court", "paddock-cam", "pit-lane", "studio-a", "newsroom", "press-room", "pitch", "arena", "chapel",
    "keynote", "grid-cam", "finish-line", "backstage", "city-hall", "lecture-hall", "radio-booth", "sky-cam", "harbour",
    "green-room", "velodrome", "gallery", "warm-up-track", "helicopter",
)  # fmt: skip


class Platform(StrEnum):
    """The simulated platforms."""

    LIVEPEER = "livepeer"
    STORM = "storm"
    WAVE = "wave"
    HLS = "hls"
    """Has no streams of its own: its origin serves those of ``PLAYBACK_PLATFORM`` to viewers."""


PLATFORMS = (Platform.LIVEPEER, Platform.STORM, Platform.WAVE)
"""The platforms to which streams are assigned in turn."""
PLAYBACK_PLATFORM = Platform.STORM

_STORM_APPLICATIONS = ("edge", "live", "sport", "event")
_WAVE_PROTOCOLS = ("webrtc", "webrtc", "webrtc", "srt", "srt", "rtmp")
_MEGABITS = (2.5, 3.0, 4.0, 4.0, 5.0, 6.0, 8.0)
_FRAME_RATES = (25.0, 25.0, 30.0, 50.0)
_CYCLES = (1, 1, 2, 2, 3, 6)
_WITHOUT_AUDIENCE = 0.1
_LARGEST_AUDIENCE = 2000.0


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """A stream of the fleet: properties that do not change over time."""

    index: int
    """Position in the fleet."""
    seed: int
    """Seed for random numbers about this stream, derived from the fleet's seed and the index."""
    platform: Platform
    name: str
    id: str
    """Livepeer: the stream's uuid; Storm: ``application/key``; WAVE: the session's id."""
    application: str
    """Storm's application; empty elsewhere."""
    playback_id: str
    """Livepeer's playback id; WAVE's stream id in analytics; empty on Storm."""
    secret_key: str
    """The stream key. Livepeer shows this secret in every response. Empty elsewhere."""
    protocol: str
    bitrate: float
    """The encoder's setting, in bytes per second."""
    frame_rate: float
    width: int
    height: int
    audience: float
    """Average number of viewers over a day."""
    cycles: int
    """Length of one ingest session in periods (``timeline.PERIOD_SECONDS``)."""
    wobble_seconds: float
    """Period of the encoder's bitrate variation around its setting."""
    wobble_angle: float
    day_angle: float
    """Phase of the audience's daily peak."""
    target_latency_seconds: float
    """WAVE's target; ``latency_seconds`` is less than twice as much."""
    latency_seconds: float
    round_trip_seconds: float
    targets: int
    """Multistream targets (Livepeer)."""

    @property
    def megabits(self) -> float:
        """The encoder's setting in Mbit/s."""
        return self.bitrate * 8 / 1e6


def make_stream(seed: int, index: int) -> Stream:
    """Make the stream at ``index`` of the fleet with this seed."""
    stream_seed = random_bits(seed, index)
    platform = PLATFORMS[index % len(PLATFORMS)]
    name = _stream_name(seed, platform, index // len(PLATFORMS))
    application = (
        random_choice(_STORM_APPLICATIONS, Purpose.IDENTITY, 1, seed=stream_seed) if platform is Platform.STORM else ""
    )

    nature_seed = random_bits(Purpose.NATURE, seed=stream_seed)

    def nature(number: int) -> float:
        return random_unit(number, seed=nature_seed)

    protocol = random_choice(_WAVE_PROTOCOLS, 2, seed=nature_seed) if platform is Platform.WAVE else "rtmp"
    target_latency = 0.2 if protocol == "webrtc" else 2.0
    tall = random_choice((720, 1080, 1080), 1, seed=nature_seed)
    return Stream(
        index=index,
        seed=stream_seed,
        platform=platform,
        name=name,
        id=_stream_id(stream_seed, index, platform, f"{application}/{name}"),
        application=application,
        playback_id=_playback_id(stream_seed, index, platform),
        secret_key=_stream_key(stream_seed) if platform is Platform.LIVEPEER else "",
        protocol=protocol,
        bitrate=random_choice(_MEGABITS, 3, seed=nature_seed) * 1e6 / 8,
        frame_rate=random_choice(_FRAME_RATES, 4, seed=nature_seed),
        width=tall * 16 // 9,
        height=tall,
        audience=_average_audience(random_unit(Purpose.AUDIENCE, 1, seed=stream_seed)),
        cycles=random_choice(_CYCLES, 5, seed=nature_seed),
        wobble_seconds=40.0 + 60.0 * nature(6),
        wobble_angle=2 * math.pi * nature(7),
        day_angle=0.8 * (random_unit(Purpose.AUDIENCE, 2, seed=stream_seed) - 0.5),
        target_latency_seconds=target_latency,
        latency_seconds=target_latency * (0.6 + nature(8) ** 2),
        round_trip_seconds=0.015 + 0.06 * nature(9),
        targets=random_choice((0, 0, 1, 2), 10, seed=nature_seed) if platform is Platform.LIVEPEER else 0,
    )


def _stream_name(seed: int, platform: Platform, ordinal: int) -> str:
    """Return the name of a place at a broadcaster, with a number once the places run out."""
    first = random_bits(seed, Purpose.IDENTITY, PLATFORMS.index(platform)) % len(_PLACES)
    again, place = divmod(ordinal, len(_PLACES))
    # 7 is coprime to the number of places, so every place is used.
    name = _PLACES[(first + 7 * place) % len(_PLACES)]
    return f"{name}-{again + 1}" if again else name


def _stream_id(stream_seed: int, index: int, platform: Platform, path: str) -> str:
    if platform is Platform.STORM:
        return path
    if platform is Platform.WAVE:
        return f"sess_{1000 + index}_{random_letters(6, _ALPHABET, Purpose.IDENTITY, 2, seed=stream_seed)}"
    bits = random_bits(Purpose.IDENTITY, 3, seed=stream_seed) << 64 | random_bits(Purpose.IDENTITY, 4, seed=stream_seed)
    return str(uuid.UUID(int=bits, version=4))


def _playback_id(stream_seed: int, index: int, platform: Platform) -> str:
    if platform is Platform.STORM:
        return ""
    word = random_letters(16 if platform is Platform.LIVEPEER else 8, _ALPHABET, Purpose.IDENTITY, 5, seed=stream_seed)
    return word if platform is Platform.LIVEPEER else f"str_{index}{word}"


def _stream_key(stream_seed: int) -> str:
    key_seed = random_bits(Purpose.SECRET, seed=stream_seed)
    return "-".join(random_letters(4, _ALPHABET, part, seed=key_seed) for part in range(4))


def _average_audience(chance: float) -> float:
    """Few streams have many viewers, most have some, and some have none."""
    if chance < _WITHOUT_AUDIENCE:
        return 0.0
    return float(_LARGEST_AUDIENCE ** ((chance - _WITHOUT_AUDIENCE) / (1 - _WITHOUT_AUDIENCE)))
