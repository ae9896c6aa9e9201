"""Who the streams of the fleet are: names, ids and what each sends when nothing is wrong."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass
from enum import StrEnum

from exporter.simulator.prng import Purpose, letters, pick, roll, unit

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"

_PLACES = (
    "main-stage", "court", "paddock-cam", "pit-lane", "studio-a", "newsroom", "press-room", "pitch", "arena", "chapel",
    "keynote", "grid-cam", "finish-line", "backstage", "city-hall", "lecture-hall", "radio-booth", "sky-cam", "harbour",
    "green-room", "velodrome", "gallery", "warm-up-track", "helicopter",
)  # fmt: skip


class Platform(StrEnum):
    """The platforms that the simulator speaks; the fleet is dealt to them in turn."""

    LIVEPEER = "livepeer"
    STORM = "storm"
    WAVE = "wave"


PLATFORMS = tuple(Platform)

_STORM_APPLICATIONS = ("edge", "live", "sport", "event")
_WAVE_PROTOCOLS = ("webrtc", "webrtc", "webrtc", "srt", "srt", "rtmp")
_MEGABITS = (2.5, 3.0, 4.0, 4.0, 5.0, 6.0, 8.0)
_FRAME_RATES = (25.0, 25.0, 30.0, 50.0)
_CYCLES = (1, 1, 2, 2, 3, 6)
_WITHOUT_AUDIENCE = 0.1
_LARGEST_AUDIENCE = 2000.0


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """One stream of the fleet: what does not change while the world turns."""

    index: int
    """Its place in the fleet."""
    root: int
    """The roll of the fleet's seed and the index, with which every roll about this stream begins."""
    platform: Platform
    name: str
    id: str
    """Livepeer: the stream's uuid; Storm: ``application/key``; WAVE: the session's id."""
    application: str
    """Storm's application; empty elsewhere."""
    playback_id: str
    """Livepeer's playback id; WAVE's stream id in analytics; empty on Storm."""
    secret_key: str
    """What an encoder publishes with. Livepeer shows it in every answer: a secret. Empty elsewhere."""
    protocol: str
    bitrate: float
    """What the encoder is set to, in bytes per second."""
    frame_rate: float
    width: int
    height: int
    audience: float
    """Viewers on the average of a day."""
    cycles: int
    """How many periods of the fleet (``life.PERIOD_SECONDS``) one publish lasts."""
    wobble_seconds: float
    """How long one swing of the encoder's bitrate around its setting takes."""
    wobble_angle: float
    day_angle: float
    """Where in the simulated day its audience peaks."""
    target_latency_seconds: float
    """What WAVE aims at; ``latency_seconds`` is less than twice as much."""
    latency_seconds: float
    round_trip_seconds: float
    targets: int
    """Multistream targets (Livepeer)."""

    @property
    def megabits(self) -> float:
        """The encoder's setting in Mbit/s."""
        return self.bitrate * 8 / 1e6


def make_stream(seed: int, index: int) -> Stream:
    """The stream at ``index`` of the fleet of ``seed``."""
    root = roll(seed, index)
    platform = PLATFORMS[index % len(PLATFORMS)]
    name = _name(seed, platform, index // len(PLATFORMS))
    application = pick(_STORM_APPLICATIONS, Purpose.IDENTITY, 1, since=root) if platform is Platform.STORM else ""

    natures = roll(Purpose.NATURE, since=root)

    def nature(number: int) -> float:
        return unit(number, since=natures)

    protocol = pick(_WAVE_PROTOCOLS, 2, since=natures) if platform is Platform.WAVE else "rtmp"
    target_latency = 0.2 if protocol == "webrtc" else 2.0
    tall = pick((720, 1080, 1080), 1, since=natures)
    return Stream(
        index=index,
        root=root,
        platform=platform,
        name=name,
        id=_identity(root, index, platform, f"{application}/{name}"),
        application=application,
        playback_id=_playback_id(root, index, platform),
        secret_key=_secret(root) if platform is Platform.LIVEPEER else "",
        protocol=protocol,
        bitrate=pick(_MEGABITS, 3, since=natures) * 1e6 / 8,
        frame_rate=pick(_FRAME_RATES, 4, since=natures),
        width=tall * 16 // 9,
        height=tall,
        audience=_audience(unit(Purpose.AUDIENCE, 1, since=root)),
        cycles=pick(_CYCLES, 5, since=natures),
        wobble_seconds=40.0 + 60.0 * nature(6),
        wobble_angle=2 * math.pi * nature(7),
        day_angle=0.8 * (unit(Purpose.AUDIENCE, 2, since=root) - 0.5),
        target_latency_seconds=target_latency,
        latency_seconds=target_latency * (0.6 + nature(8) ** 2),
        round_trip_seconds=0.015 + 0.06 * nature(9),
        targets=pick((0, 0, 1, 2), 10, since=natures) if platform is Platform.LIVEPEER else 0,
    )


def _name(seed: int, platform: Platform, ordinal: int) -> str:
    """A place of a broadcaster; from the second round on with its number."""
    first = roll(seed, Purpose.IDENTITY, PLATFORMS.index(platform)) % len(_PLACES)
    again, place = divmod(ordinal, len(_PLACES))
    # 7 shares no divisor with the number of places, so that every place has its turn.
    name = _PLACES[(first + 7 * place) % len(_PLACES)]
    return f"{name}-{again + 1}" if again else name


def _identity(root: int, index: int, platform: Platform, path: str) -> str:
    if platform is Platform.STORM:
        return path
    if platform is Platform.WAVE:
        return f"sess_{1000 + index}_{letters(6, _ALPHABET, Purpose.IDENTITY, 2, since=root)}"
    bits = roll(Purpose.IDENTITY, 3, since=root) << 64 | roll(Purpose.IDENTITY, 4, since=root)
    return str(uuid.UUID(int=bits, version=4))


def _playback_id(root: int, index: int, platform: Platform) -> str:
    if platform is Platform.STORM:
        return ""
    word = letters(16 if platform is Platform.LIVEPEER else 8, _ALPHABET, Purpose.IDENTITY, 5, since=root)
    return word if platform is Platform.LIVEPEER else f"str_{index}{word}"


def _secret(root: int) -> str:
    secrets = roll(Purpose.SECRET, since=root)
    return "-".join(letters(4, _ALPHABET, part, since=secrets) for part in range(4))


def _audience(chance: float) -> float:
    """Few streams have many viewers, most have some, and some have none."""
    if chance < _WITHOUT_AUDIENCE:
        return 0.0
    return float(_LARGEST_AUDIENCE ** ((chance - _WITHOUT_AUDIENCE) / (1 - _WITHOUT_AUDIENCE)))
