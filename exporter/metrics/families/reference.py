"""``docs/metrics.md``, made from the catalogue and from what the platforms say that they feed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from exporter.metrics.families.exporter_families import EXPORTER_FAMILIES, SIDECAR_FAMILIES
from exporter.metrics.families.family import STREAM_LABELS, UPSTREAM_LABELS, Family, ModelFamily, Source
from exporter.metrics.families.stream_families import (
    ANALYTICS_FAMILIES,
    INGEST_BITRATE,
    PLATFORM_METRIC,
    SAMPLED_FAMILIES,
    STREAM_FAMILIES,
)
from exporter.metrics.families.upstream_families import PASSTHROUGH_SERIES_DROPPED, POLLING_FAMILIES, UPSTREAM_FAMILIES
from exporter.metrics.text_format import bound
from exporter.model import Reason
from exporter.platforms.registry import platforms as registered

_OF_STREAMS: tuple[ModelFamily[Any], ...] = (*STREAM_FAMILIES, *ANALYTICS_FAMILIES, PLATFORM_METRIC)
_UNITS = (
    ("_timestamp_seconds", "unix seconds"),
    ("_bytes_per_second", "bytes/s"),
    ("_frames_per_second", "frames/s"),
    ("_bytes_total", "bytes"),
    ("_seconds_total", "seconds"),
    ("_seconds", "seconds"),
    ("_ratio", "ratio"),
    ("_pixels", "pixels"),
)
"""Name endings and the units that they stand for; without one of them it is a number, a flag, or always 1."""

_INTRODUCTION = """\
# Metrics

<!-- Made from the catalogue by `make generate`; edit exporter/metrics/families/ instead. -->

What `GET /metrics` says, in text format 0.0.4. `/metrics?collect[]=streams`, `upstreams` or `exporter` narrows it
to those parts; it may be given several times.

- Units are seconds, bytes and ratios; rates are bytes per second (times 8 for bit/s). Points in time are unix
  timestamps: an age is `time() - …_timestamp_seconds`.
- A fact that is not known has no sample: never 0, never NaN. Samples carry no timestamp: what is served was fetched
  by the last poll, at `stream_upstream_last_success_timestamp_seconds`.
- A label value over 256 characters is cut to 240, `#` and 8 hex digits of its SHA-256.
- Names, types and labels are an interface: they change only with a note in `CHANGELOG.md`.
"""
_STREAMS = """\
## Streams

Every family of a stream has the labels `platform`, `upstream` and `stream`; the table names those besides. *Source*
says who knows it: the platform's API, the configuration, or the exporter itself. *Series* is how many one stream
has.
"""
_SAMPLED = """\
## Histograms of sampled gauges

Each is observed in the poll, never in the scrape: once per live stream and successful poll, with the value that the
gauge shows then. Two replicas of Prometheus count nothing twice. An expected stream that is not live counts as
health 0. `protocol` is empty where it is unknown. With `histograms.per_stream: true` each stream has its own, with
the label `stream`; that costs the series below for every stream.

The bounds are where goals and panels need them, since a query for a bound that does not exist finds nothing:

- **bitrate**: the usual ladder of ingest bitrates, from audio alone to 4K, round in bit/s and written in bytes/s;
- **latency**: below a second for WebRTC, 2–12 s for low-latency and ordinary HLS, up to a minute for what has piled
  up;
- **health**: finer towards 1, where goals are; 0.5 is where a stream counts as ill.

A goal for health is worded *above*: the share above 0.8 is `1 - bucket{le="0.8"} / count`. `le` is always written
as a float, the way Go writes it: `1.0`, `312500.0`, and from a million on `1e+06`.
"""
_UPSTREAMS = """\
## Upstreams

Every family of an upstream has the labels `platform` and `upstream`, and its series leave with it. Counters by
`reason` begin at 0, for every reason: {reasons}.

What a platform exports of its own (WAVE does) is passed through beside all this, under a prefix that the configuration
gives: see docs/platforms/wave.md. The names are the platform's.
"""
_EXPORTER = """\
## The exporter itself

Besides these, the `process_*` and `python_*` families of the Prometheus client library.
"""
_SIDECAR = """\
### The alerting sidecar

Only where the sidecar runs (`docs/alerting.md`). `alertmanager` is the configured `name`, otherwise the URL with the
tenant; with `resolve_dns`, each address has its own series. `webhook` is the configured `name`.
"""
_MATRIX = """\
## Which platform feeds what

✓: fed where the platform's API gives it. Families that the exporter or the configuration feed are there on every
platform, and left out here. A family without a mark is reserved: no platform that is shipped feeds it yet.
"""
_SUM = """\
## Series per stream

The most that one stream can have, for planning; a platform rarely gives all at once. The histograms above come once
per upstream and protocol.
"""


class Feeding(Protocol):
    """What is read of a platform's class."""

    feeds: frozenset[str]
    health_score: str


def reference() -> str:
    """The whole page, as Markdown, with the platforms that are registered."""
    return page(registered())


def page(platforms: Mapping[str, Feeding]) -> str:
    """The whole page, as Markdown; ``platforms``: by their names, in the order of the columns."""
    parts = [
        _INTRODUCTION,
        _STREAMS,
        _table(("family", "type", "labels", "unit", "series", "source", "meaning"), map(_stream_row, _OF_STREAMS)),
        _SAMPLED,
        _table(("family", "labels", "series", "meaning"), map(_sampled_row, SAMPLED_FAMILIES)),
        _table(("family", "bounds (`le`)"), map(_bounds_row, SAMPLED_FAMILIES)),
        f"As bit/s those of `{INGEST_BITRATE.name}` are {_bitrates()}.\n",
        _UPSTREAMS.format(reasons=", ".join(Reason)),
        _family_table((*UPSTREAM_FAMILIES, PASSTHROUGH_SERIES_DROPPED, *POLLING_FAMILIES), UPSTREAM_LABELS),
        _table(("family", "bounds (`le`)"), (_bounds_row(family) for family in POLLING_FAMILIES if family.bounds)),
        _EXPORTER,
        _family_table(EXPORTER_FAMILIES),
        _SIDECAR,
        _family_table(SIDECAR_FAMILIES),
        _MATRIX,
        _table(("family", *platforms), _matrix(platforms)),
        _SUM,
        _table(("platform", "one series each", "and one per"), _sums(platforms)),
    ]
    return "\n".join(parts)


def unit(family: Family) -> str:
    """The unit of a family's values, by the ending of its name; empty: a number, a flag, or always 1."""
    return next((text for ending, text in _UNITS if family.name.endswith(ending)), "")


def is_fed(family: ModelFamily[Any], feeds: Collection[str]) -> bool:
    """Whether a platform that fills these fields feeds the family."""
    return not family.fields.isdisjoint(feeds)


# -- tables ------------------------------------------------------------------------------------------------------------


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _family_table(families: Iterable[Family], common: Collection[str] = ()) -> str:
    rows = ((_code(f.name), f.kind, _labels(f, common), unit(f), _cell(f.help)) for f in families)
    return _table(("family", "type", "labels", "unit", "meaning"), rows)


def _stream_row(family: ModelFamily[Any]) -> tuple[str, ...]:
    series = f"one per {family.each}" if family.each else "1"
    labels = _labels(family, STREAM_LABELS)
    return _code(family.name), family.kind, labels, unit(family), series, _source(family), _cell(family.help)


def _sampled_row(family: Family) -> tuple[str, ...]:
    # the infinite bucket, sum and count stand beside the bounds
    return _code(family.name), _labels(family), str(len(family.bounds) + 3), _cell(family.help)


def _bounds_row(family: Family) -> tuple[str, ...]:
    return _code(family.name), " ".join(map(bound, family.bounds))


def _bitrates() -> str:
    return ", ".join(
        f"{bits / 1e6:g}M" if bits >= 1e6 else f"{bits / 1e3:g}k" for bits in (b * 8 for b in INGEST_BITRATE.bounds)
    )


def _matrix(platforms: Mapping[str, Feeding]) -> Iterator[Sequence[str]]:
    for family in _OF_STREAMS:
        if family.name == "stream_health_score_ratio":
            yield [_code(family.name), *(platform.health_score for platform in platforms.values())]
        elif family.source is Source.PLATFORM:
            marks = ("✓" if is_fed(family, platform.feeds) else "" for platform in platforms.values())
            yield [_code(family.name), *marks]


def _sums(platforms: Mapping[str, Feeding]) -> Iterator[Sequence[str]]:
    for name, platform in platforms.items():
        fed = [f for f in _OF_STREAMS if f.source is not Source.PLATFORM or is_fed(f, platform.feeds)]
        yield name, str(sum(not family.each for family in fed)), ", ".join(family.each for family in fed if family.each)


def _source(family: ModelFamily[Any]) -> str:
    if family.value is None and family.values is None:
        return "reserved"
    return family.source.value


def _labels(family: Family, common: Collection[str] = ()) -> str:
    return ", ".join(_code(label) for label in family.labels if label not in common)


def _code(text: str) -> str:
    return f"`{text}`"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")
