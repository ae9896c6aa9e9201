"""Part ``polling``: the cost of a poll per stream, compared with bare GETs by aiohttp and httpx."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.case_runner import Figures, medians, print_table, ratio, run_case
from bench.nginx_upstream import find_nginx, running_nginx

ROUNDS = 3
STREAMS = 1_000
CONNECTIONS = 50
SINGLE, LISTED, LONG_LISTED = "one GET per stream", "lists of 100", "lists of 1,000"
AIOHTTP, HTTPX = "aiohttp and json", "httpx"


def main(rounds: int = ROUNDS) -> None:
    """Print the CPU per stream of each way to poll."""
    print("## Polling: CPU per stream\n")
    program = find_nginx()
    if program is None:
        print("nginx is missing: make tools\n")
        return
    with (
        tempfile.TemporaryDirectory() as directory,
        tempfile.TemporaryDirectory() as other,
        running_nginx(program, Path(directory), STREAMS) as (url, _),
        running_nginx(program, Path(other), STREAMS, rows_per_page=STREAMS) as (url_of_one_list, _),
    ):
        cases = _cases(url, url_of_one_list)
        found = [{name: run() for name, run in cases.items()} for _ in range(rounds)]
    middle = {name: medians([figures[name] for figures in found]) for name in cases}
    print_table(
        ("", "µs per stream"), ((name, f"{figures['per stream'] * 1e6:.1f}") for name, figures in middle.items())
    )
    lists = (LISTED, LONG_LISTED)
    for figures in found:
        figures |= {f"object, {name}": {"per stream": figures[name]["json.loads of one"]} for name in lists}
    print_table(
        ("", "times the CPU"),
        (
            ("one GET per stream ÷ aiohttp and json", ratio(found, "per stream", AIOHTTP, SINGLE)),
            *([("httpx ÷ one GET per stream", ratio(found, "per stream", SINGLE, HTTPX))] if HTTPX in cases else []),
            *(
                (f"{name} ÷ json.loads of one object", ratio(found, "per stream", f"object, {name}", name))
                for name in lists
            ),
        ),
    )


def _cases(url: str, url_of_one_list: str) -> dict[str, Callable[[], Figures]]:
    """``url_of_one_list``: an upstream that has all streams on one page."""

    def ours(way: str, polls: int, url: str = url) -> Figures:
        return run_case("exporter_polls", url=url, streams=STREAMS, way=way, connections=CONNECTIONS, polls=polls)

    def bare(library: str, requests: int) -> Figures:
        return run_case("bare_gets", url=url, requests=requests, connections=CONNECTIONS, library=library)

    cases: dict[str, Callable[[], Figures]] = {
        SINGLE: lambda: ours("single", 3),
        LISTED: lambda: ours("list", 20),
        LONG_LISTED: lambda: ours("list", 20, url_of_one_list),
        AIOHTTP: lambda: bare("aiohttp", 3 * STREAMS),
    }
    if importlib.util.find_spec("httpx"):
        cases[HTTPX] = lambda: bare("httpx", STREAMS)
    return cases
