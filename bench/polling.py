"""Part ``polling``: what a poll costs per stream, beside bare GETs by aiohttp and httpx."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench import nginx
from bench.measuring import Figures, medians, ratio, run_case, table

ROUNDS = 3
STREAMS = 1_000
CONNECTIONS = 50
SINGLE, LISTED, AIOHTTP, HTTPX = "one GET per stream", "lists of 100", "aiohttp and json", "httpx"


def main(rounds: int = ROUNDS) -> None:
    """Print the CPU per stream of each way to ask."""
    print("## Polling: CPU per stream\n")
    program = nginx.find()
    if program is None:
        print("nginx is missing: make tools\n")
        return
    with tempfile.TemporaryDirectory() as directory, nginx.serving(program, Path(directory), STREAMS) as (url, _):
        cases = _cases(url)
        found = [{name: run() for name, run in cases.items()} for _ in range(rounds)]
    middle = {name: medians([figures[name] for figures in found]) for name in cases}
    table(("", "µs per stream"), ((name, f"{figures['per stream'] * 1e6:.1f}") for name, figures in middle.items()))
    for figures in found:
        figures["object"] = {"per stream": figures[LISTED]["json.loads of one"]}
    table(
        ("", "times the CPU"),
        (
            ("one GET per stream ÷ aiohttp and json", ratio(found, "per stream", AIOHTTP, SINGLE)),
            *([("httpx ÷ one GET per stream", ratio(found, "per stream", SINGLE, HTTPX))] if HTTPX in cases else []),
            ("lists of 100 ÷ json.loads of one object", ratio(found, "per stream", "object", LISTED)),
        ),
    )


def _cases(url: str) -> dict[str, Callable[[], Figures]]:
    def ours(way: str, polls: int) -> Figures:
        return run_case("polling_ours", url=url, streams=STREAMS, way=way, connections=CONNECTIONS, polls=polls)

    def bare(library: str, requests: int) -> Figures:
        return run_case("polling_others", url=url, requests=requests, connections=CONNECTIONS, library=library)

    cases: dict[str, Callable[[], Figures]] = {
        SINGLE: lambda: ours("single", 3),
        LISTED: lambda: ours("list", 20),
        AIOHTTP: lambda: bare("aiohttp", 3 * STREAMS),
    }
    if importlib.util.find_spec("httpx"):
        cases[HTTPX] = lambda: bare("httpx", STREAMS)
    return cases
