"""Scrapes of the same streams through prometheus_client."""

from __future__ import annotations

import gzip
import statistics

from prometheus_client import CollectorRegistry, disable_created_metrics, generate_latest

from bench.fleet import Streams, load_patterns
from bench.measuring import Figures, cpu_of, peak_bytes
from bench.prometheus_client_model import FamiliesCollector, children


def main(streams: int, patterns: str, repetitions: int, way: str) -> Figures:
    """CPU seconds of an update of all values, and of a scrape. ``way``: ``collector`` or ``children``."""
    disable_created_metrics()  # type: ignore[no-untyped-call]
    collector = FamiliesCollector(Streams(streams, load_patterns(patterns)).views())
    registry = CollectorRegistry()
    update = None
    if way == "children":
        update = children(registry, collector)
    else:
        registry.register(collector)
    texts: list[bytes] = []
    updates = [cpu_of(update) if update else 0.0 for _ in range(repetitions)]
    plain = [cpu_of(lambda: texts.append(generate_latest(registry))) for _ in range(repetitions)]
    # the level of its own server
    packing = cpu_of(lambda: texts.append(gzip.compress(texts[0])))
    return {
        "update": 0.0,
        "read": statistics.median(updates),
        "plain": statistics.median(plain),
        "gzip": statistics.median(plain) + packing,
        "bytes": len(texts[0]),
        "gzip bytes": len(texts[-1]),
        "samples": sum(not line.startswith(b"#") for line in texts[0].splitlines()),
        "peak": peak_bytes(),
    }
