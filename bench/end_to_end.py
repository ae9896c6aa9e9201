"""Part ``end-to-end``: the exporter polls every 15 s, and a real Prometheus scrapes it every 15 s."""

from __future__ import annotations

import gzip
import http.client
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.case_runner import Figures, print_table
from bench.nginx_upstream import (
    GENEROUS_SECONDS,
    find_nginx,
    list_config,
    running_nginx,
    single_config,
    wait_for_streams,
    write_config,
)
from bench.server_process import Server, running_server
from tests.real.prometheus import Prometheus, running_prometheus

SIZES = (1_000, 10_000, 50_000)
SIMULATED = 10_000
"""With more streams, the simulator needs more CPU than the exporter, so lists are static."""
STATIC_UPSTREAMS = 10
SINGLE = 10_000
SINGLE_UPSTREAMS = 20
ROUNDS = 2
INTERVAL_SECONDS = 15
SETTLING_SECONDS = 2


def main(sizes: Sequence[int] = SIZES, rounds: int = ROUNDS, static: bool = False) -> None:
    """Print CPU, memory, lateness and scrape times. ``rounds``: number of intervals to measure.

    ``static``: serve all lists from nginx, so that the exporter's body equals the static file. Changing values take
    Prometheus longer to store.
    """
    print(f"## End to end: polls and scrapes every {INTERVAL_SECONDS} s, {rounds} intervals\n")
    program = find_nginx()
    if program is None:
        print("nginx is missing: make tools\n")
        return
    _report(_rows(program, sizes, rounds, static))


def _rows(program: Path, sizes: Sequence[int], rounds: int, static: bool) -> Iterator[tuple[str, Figures]]:
    for streams in sizes:
        is_static = static or streams > SIMULATED
        with _lists(program, streams, is_static) as file:
            # a few of the simulated streams are always off air
            yield (
                f"{streams:,} from {'static ' if is_static else ''}lists",
                _measure(program, file, int(streams * 0.9), rounds),
            )
    with tempfile.TemporaryDirectory() as directory, running_nginx(program, Path(directory), 1) as (url, _):
        each = SINGLE // SINGLE_UPSTREAMS
        file = write_config(directory, single_config(url, SINGLE_UPSTREAMS, each, interval=f"{INTERVAL_SECONDS}s"))
        yield f"{SINGLE:,} by single GETs", _measure(program, file, SINGLE, rounds)


@contextmanager
def _lists(program: Path, streams: int, static: bool) -> Iterator[str]:
    """Yield the configuration for this number of streams: simulated, on two platforms with lists, or from nginx."""
    if static:
        each = streams // STATIC_UPSTREAMS
        with tempfile.TemporaryDirectory() as directory, running_nginx(program, Path(directory), each) as (url, _):
            yield write_config(directory, list_config(url, STATIC_UPSTREAMS, interval=f"{INTERVAL_SECONDS}s"))
        return
    with (
        tempfile.TemporaryDirectory() as directory,
        running_server("simulator_server", streams=streams * 3 // 2) as simulator,
    ):
        configuration: dict[str, Any] = {
            "defaults": {"max_streams": 1_000_000, "interval": f"{INTERVAL_SECONDS}s"},
            "upstreams": simulator.call("upstreams"),
        }
        yield write_config(directory, configuration)


def _measure(program: Path, file: str, streams: int, rounds: int) -> Figures:
    with (
        tempfile.TemporaryDirectory() as directory,
        running_nginx(program, Path(directory), 1) as (static, _),
        running_prometheus(Path(directory)) as prometheus,
        running_server("instrumented_exporter", file=file) as server,
    ):
        before = server.call("resident")
        wait_for_streams(server, streams)
        body = _body(server)
        Path(directory, "metrics.gz").write_bytes(body)
        interval = f"{INTERVAL_SECONDS}s"
        with (
            prometheus.scraping("exporter", f"127.0.0.1:{server.port}", interval=interval),
            prometheus.scraping("static", static.removeprefix("http://"), interval=interval),
        ):
            # the first scrapes create the series
            for job in ("exporter", "static"):
                prometheus.wait_for(f'up{{job="{job}"}} == 1', GENEROUS_SECONDS)
            time.sleep(SETTLING_SECONDS)
            server.call("forget")
            began, began_cpu = time.monotonic(), server.call("cpu")
            time.sleep(rounds * INTERVAL_SECONDS)
            share = (server.call("cpu") - began_cpu) / (time.monotonic() - began)
            late = server.call("lateness")
            seconds = rounds * INTERVAL_SECONDS
            return {
                "share": share,
                "grown": (server.call("resident") - before) / server.call("streams"),
                **{f"late {q:g}": _quantile(late, q) for q in (0.5, 0.99, 1.0)},
                "late polls": len(late),
                "due polls": rounds * server.call("upstreams"),
                **{f"{job} {q:g}": _scrape(prometheus, job, q, seconds) for job in ("exporter", "static")
                   for q in (0.5, 0.99)},
            }  # fmt: skip


def _body(server: Server) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=300)
    connection.request("GET", "/metrics", headers={"Accept-Encoding": "gzip"})
    body = connection.getresponse().read()
    connection.close()
    assert gzip.decompress(body)
    return body


def _scrape(prometheus: Prometheus, job: str, quantile: float, seconds: float) -> float:
    expression = f'quantile_over_time({quantile:g}, scrape_duration_seconds{{job="{job}"}}[{seconds:.0f}s])'
    return prometheus.value(expression) or float("nan")


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def _report(rows: Iterable[tuple[str, Figures]]) -> None:
    print_table(
        ("streams", "CPU share", "kB per stream", "polls", "late ms: p50", "p99", "max", "scrape s: p50", "p99",
         "static file: p50", "p99", "ratio of p50"),
        (
            (
                name,
                f"{f['share']:.1%}",
                f"{f['grown'] / 1e3:.1f}",
                f"{f['late polls']:.0f} of {f['due polls']:.0f}",
                *(f"{f[f'late {q}'] * 1e3:.0f}" for q in ("0.5", "0.99", "1")),
                *(f"{f[f'{job} {q}']:.3f}" for job in ("exporter", "static") for q in ("0.5", "0.99")),
                f"{f['exporter 0.5'] / f['static 0.5']:.2f}×",
            )
            for name, f in rows
        ),
    )  # fmt: skip
