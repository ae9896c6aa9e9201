"""Checks of how playback checks are paired with other streams, across the whole configuration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic_core import PydanticCustomError

from exporter.config.validation import Place, refuse_because
from exporter.runtime.suggestions import similar_words

MAX_HOPS = 5
"""Maximum number of streams in a chain, including the first one, which has no source."""

_Stream = tuple[Any, Any]
"""Name of the upstream, and label."""


class _Pair(NamedTuple):
    """A playback check and its source, as written in the configuration."""

    check: _Stream
    source: _Stream
    place: Place
    """Place of the key ``of``."""


def pairing_errors(
    upstreams: Sequence[Mapping[str, Any]], checking: Sequence[bool]
) -> Iterator[tuple[Place, PydanticCustomError]]:
    """Yield errors of pairs: unknown upstreams and checks, cycles, and chains that are too long.

    ``checking``: whether each of the upstreams has playback checks.
    """
    names = [upstream.get("name") for upstream in upstreams]
    pairs: list[_Pair] = []
    checks: dict[Any, list[Any]] = {}
    for index, upstream in enumerate(upstreams):
        if checking[index]:
            found = list(_read_pairs(index, upstream))
            checks.setdefault(names[index], [check[1] for check, _ in found])
            pairs += [pair for _, pair in found if pair is not None]
    for pair in pairs:
        upstream_name, stream = pair.source
        if isinstance(upstream_name, str) and upstream_name not in names:
            yield (*pair.place, "upstream"), refuse_unknown("unknown upstream", upstream_name, names)
        elif isinstance(stream, str) and upstream_name in checks and stream not in checks[upstream_name]:
            message = "this upstream has no stream with this name"
            yield (*pair.place, "stream"), refuse_unknown(message, stream, checks[upstream_name])
    yield from _chain_errors(pairs)


def refuse_unknown(message: str, word: str, known: Iterable[Any]) -> PydanticCustomError:
    """Return an error with this text and the most similar known word, if there is one."""
    near = similar_words(word, [name for name in known if isinstance(name, str)])
    hint = f'; did you mean "{near[0]}"?' if near else ""
    return refuse_because(f"{message}{hint}")


def _read_pairs(index: int, upstream: Mapping[str, Any]) -> Iterator[tuple[_Stream, _Pair | None]]:
    """Yield each check of an upstream, and its pair if it has a source."""
    streams = upstream.get("streams")
    for position, stream in enumerate(streams if isinstance(streams, list) else []):
        if not isinstance(stream, dict):
            continue
        check, of = (upstream.get("name"), stream.get("name")), stream.get("of")
        source = (of.get("upstream"), of.get("stream")) if isinstance(of, dict) else None
        place = ("upstreams", index, "streams", position, "of")
        yield check, None if source is None else _Pair(check, source, place)


def _chain_errors(pairs: Iterable[_Pair]) -> Iterator[tuple[Place, PydanticCustomError]]:
    """Yield an error for each cycle, and for each check with which a chain becomes too long."""
    valid = [pair for pair in pairs if all(isinstance(name, str) for name in (*pair.check, *pair.source))]
    sources = {pair.check: pair.source for pair in reversed(valid)}
    cyclic: set[_Stream] = set()
    for pair in valid:
        chain = list(_walk(pair.check, sources))
        if pair.check == pair.source:
            yield pair.place, refuse_because("a stream cannot be its own source")
        elif sources.get(chain[-1]) == pair.check and pair.check not in cyclic:
            cyclic |= set(chain)
            shown = ", ".join("/".join(stream) for stream in (*chain, pair.check))
            yield pair.place, refuse_because(f"the sources of these streams form a cycle: {shown}")
        elif chain[-1] not in sources and len(chain) == MAX_HOPS + 1:
            yield pair.place, refuse_because(f"this chain of streams has more than {MAX_HOPS} hops")


def _walk(stream: _Stream, sources: Mapping[_Stream, _Stream]) -> Iterator[_Stream]:
    """Yield a stream, its source, and so on to the first hop, or until a stream repeats."""
    seen: set[_Stream] = set()
    found: _Stream | None = stream
    while found is not None and found not in seen:
        seen.add(found)
        yield found
        found = sources.get(found)
