"""Part ``probe``: ``/probe`` for one stream, compared with a handler that uses a new CollectorRegistry per request.

16 concurrent connections each probe their own upstream, because simultaneous probes of one upstream would share a poll.
So every probe makes a request to nginx in all cases. All have fifteen metrics. Some of ours are about the upstream, the
others about the stream. One alternative has the same names, labels and help texts, another has shorter ones.
"""

from __future__ import annotations

import tempfile
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from bench.case_runner import Figures, medians, print_table, ratio, run_case
from bench.nginx_upstream import APPLICATION, find_nginx, running_nginx, single_config, wait_for_streams, write_config
from bench.registry_probe_server import FIFTEEN, Metric
from bench.server_process import Server, running_server

ROUNDS = 10
"""Short rounds, because on a shared machine only work within the same second is comparable."""
CONNECTIONS = 16
PROBES = 25
"""Per connection and round."""
OURS, SAME, FRESH, BARE = (
    "stream-exporter",
    "aiohttp, new registry with the same metrics",
    "… with shorter metrics",
    "aiohttp, no metrics",
)
LEFT_OUT = [
    "stream_start_timestamp_seconds",
    "stream_egress_*",
    "stream_system_clients",
    "stream_recording",
    "stream_publish_allowed",
]
"""Selects 15 of 21 metrics."""


def main(rounds: int = ROUNDS) -> None:
    """Print the CPU of a probe."""
    print("## /probe for one stream: request, upstream response, metrics\n")
    program = find_nginx()
    if program is None:
        print("nginx is missing: make tools\n")
        return
    with tempfile.TemporaryDirectory() as directory, running_nginx(program, Path(directory), 1) as (url, _):
        file = write_config(directory, single_config(url, CONNECTIONS, 1, interval="90s", exclude_families=LEFT_OUT))
        stream = f"{APPLICATION}/stream-000000"
        ours = [f"/probe?upstream=single-{number}&stream={stream}" for number in range(CONNECTIONS)]
        theirs = ["/probe"] * CONNECTIONS
        with ExitStack() as stack:
            exporter = stack.enter_context(running_server("instrumented_exporter", file=file))
            wait_for_streams(exporter, CONNECTIONS)
            cases = {OURS: (exporter, ours)}
            same = _metrics(_text(exporter, ours[0]))
            for name, metrics in ((SAME, same), (FRESH, FIFTEEN), (BARE, [])):
                server = stack.enter_context(running_server("registry_probe_server", url=url, metrics=metrics))
                cases[name] = (server, theirs)
            for server, paths in cases.values():
                _probed(server, paths)
            found = [{name: _probed(*case) for name, case in cases.items()} for _ in range(rounds)]
            samples = {name: len(_metrics(_text(server, paths[0]))) for name, (server, paths) in cases.items()}
    middle = {name: medians([figures[name] for figures in found]) for name in cases}
    print_table(
        ("", "µs per probe", "bytes", "samples"),
        ((name, f"{f['cpu'] * 1e6:.0f}", f"{f['bytes']:.0f}", f"{samples[name]}") for name, f in middle.items()),
    )
    print_table(
        ("CPU ratio to", SAME, FRESH),
        [(name, ratio(found, "cpu", name, SAME), ratio(found, "cpu", name, FRESH)) for name in (OURS, BARE)],
    )


def _probed(server: Server, paths: list[str]) -> Figures:
    began = server.call("cpu")
    asked = run_case("probe_clients", port=server.port, paths=paths, times=PROBES)
    return {"cpu": (server.call("cpu") - began) / (PROBES * len(paths)), **asked}


def _metrics(text: str) -> list[Metric]:
    """Return the metrics in a text, each family with its single sample."""
    return [
        Metric(sample.name, family.documentation, list(sample.labels), list(sample.labels.values()))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]


def _text(server: Server, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=60) as answer:
        return str(answer.read(), "utf-8")
