"""Part ``playback``: checks of live HLS streams every 5 s, compared with blackbox_exporter requesting the playlists.

The exporters run at the same time, so that they are measured under the same conditions, and request the same streams
from a local origin. Each result is collected every 5 s: by scrapes of the exporter, and by blackbox_exporter's probes.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from bench.case_runner import (
    Figures,
    medians,
    print_table,
    process_cpu_seconds,
    process_peak_bytes,
    process_resident_bytes,
    ratio,
)
from bench.hls_origin import playlist_path
from bench.nginx_upstream import GENEROUS_SECONDS, wait_for_streams, write_config
from bench.server_process import Server, fetch, running_server
from tests.exporter_process import Exporter
from tests.real.child_process import free_port, responds
from tests.real.tools import tool

SIZES = (500,)
ROUNDS = 3
INTERVAL_SECONDS = 5.0
WARM_UP_SECONDS = 15.0
MEASURED_SECONDS = 60.0
SEGMENT_SECONDS = 6.0
PROBE_SECONDS = 0.05
"""Time between requests that measure how soon the exporter responds."""
CASES: Mapping[str, Mapping[str, Any]] = {
    "playlists": {"segments": "none"},
    "playlists and segment heads": {"whole_segment_every": 0},
    "… and a whole segment every minute": {},
}
"""Settings of the exporter's upstream in each case."""
BLACKBOX = "blackbox_exporter, playlists"
_REQUESTS = re.compile(r'^stream_upstream_requests_total\{code="(\w+)".*request="(\w+)".*\} (\S+)$', re.MULTILINE)
_PLAYABLE = re.compile(r"^stream_playable\{.*\} 1(?:\.0)?$", re.MULTILINE)
_BLACKBOX_MODULE = {
    "prober": "http",
    "timeout": "4s",
    "http": {
        "preferred_ip_protocol": "ip4",
        "valid_status_codes": [200],
        "fail_if_body_not_matches_regexp": ["#EXTM3U"],
    },
}


def main(sizes: Sequence[int] = SIZES, rounds: int = ROUNDS) -> None:
    """Print CPU, memory and lateness. ``rounds``: number of minutes to measure."""
    for streams in sizes:
        print(f"## Playback checks: {streams} HLS streams every {INTERVAL_SECONDS:g} s, {rounds} minutes\n")
        with tempfile.TemporaryDirectory() as directory:
            segment = _make_segment(Path(directory))
            with running_server("hls_origin", segment=str(segment), seconds=SEGMENT_SECONDS) as origin:
                _report(_measure(Path(directory), origin, streams, rounds))
                _report_lateness(_measure_lateness(directory, origin, streams))


def _make_segment(directory: Path) -> Path:
    """Make a TS segment like one of the lowest rendition of a stream: 360p and stereo, 300 kB."""
    file = directory / "segment.ts"
    video = "-c:v libx264 -preset veryfast -pix_fmt yuv420p -g 50 -b:v 330k -maxrate 330k -bufsize 330k"
    sources = f"-f lavfi -i testsrc2=size=640x360:rate=25 -f lavfi -i sine=sample_rate=48000 -t {SEGMENT_SECONDS:g}"
    command = f"-nostdin -loglevel error {sources} {video} -c:a aac -b:a 64k -f mpegts".split()
    subprocess.run([tool("ffmpeg"), *command, file], check=True)
    return file


def _config(directory: str, origin: Server, streams: int, settings: Mapping[str, Any]) -> str:
    """Write the exporter's configuration, and return the file."""
    upstream = {
        "name": "origin",
        "platform": "hls",
        "url": f"http://127.0.0.1:{origin.port}",
        "interval": f"{INTERVAL_SECONDS:g}s",
        "streams": [{"name": f"stream-{number:03}", "url": playlist_path(number)} for number in range(streams)],
        **settings,
    }
    return write_config(directory, {"state_dir": directory, "upstreams": [upstream]})


# -- CPU and memory ----------------------------------------------------------------------------------------------------


def _measure(directory: Path, origin: Server, streams: int, rounds: int) -> list[dict[str, Figures]]:
    with ExitStack() as stack:
        exporters: dict[str, Exporter] = {}
        for name, settings in CASES.items():
            place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            file = _config(str(place), origin, streams, settings)
            arguments = ["--web.listen-address", "127.0.0.1:0", "--config.file", file]
            exporters[name] = stack.enter_context(Exporter(arguments, place, measured=False))
        blackbox, probes = stack.enter_context(_running_blackbox(directory, origin, streams))
        pids = {name: exporter.process.pid for name, exporter in exporters.items()} | {BLACKBOX: blackbox}
        for exporter in exporters.values():
            _wait_for_playable(exporter, streams)
        _scrape(exporters, time.monotonic() + WARM_UP_SECONDS)
        found = []
        for _ in range(rounds):
            # a whole number of intervals, whose polls count as many times as they are due
            until = time.monotonic() + MEASURED_SECONDS
            before = {name: _usage(pid) for name, pid in pids.items()}
            counted = _counts(exporters, probes)
            _scrape(exporters, until)
            after = {name: _usage(pid) for name, pid in pids.items()}
            rates = {name: _rates(counted[name], counts) for name, counts in _counts(exporters, probes).items()}
            figures = {name: after[name] | rates[name] | _rates(before[name], after[name], "cpu") for name in pids}
            # a busy machine may skip polls
            found.append({name: f | {"per check": f["cpu"] / f["playlists"]} for name, f in figures.items()})
        return found


@contextmanager
def _running_blackbox(directory: Path, origin: Server, streams: int) -> Iterator[tuple[int, Server]]:
    """Run blackbox_exporter and its probes; yield its process and the prober."""
    file = directory / "blackbox.yml"
    file.write_text(json.dumps({"modules": {"http_2xx": _BLACKBOX_MODULE}}))
    port = free_port()
    flags = [f"--config.file={file}", f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    with subprocess.Popen([tool("blackbox-exporter"), *flags]) as process:
        try:
            while not responds(f"http://127.0.0.1:{port}/-/healthy"):
                time.sleep(0.05)
            targets = (f"http://127.0.0.1:{origin.port}{playlist_path(number)}" for number in range(streams))
            queries = (urlencode({"module": "http_2xx", "target": target}) for target in targets)
            urls = [f"http://127.0.0.1:{port}/probe?{query}" for query in queries]
            with running_server("blackbox_probes", urls=urls, interval=INTERVAL_SECONDS) as probes:
                yield process.pid, probes
        finally:
            process.terminate()


def _wait_for_playable(exporter: Exporter, streams: int) -> None:
    until = time.monotonic() + GENEROUS_SECONDS
    while (playable := len(_PLAYABLE.findall(exporter.ask("/metrics")[1]))) < streams:
        if time.monotonic() > until:
            raise TimeoutError(f"{playable} of {streams} streams are playable\n{exporter.said}")
        time.sleep(1.0)


def _scrape(exporters: Mapping[str, Exporter], until: float) -> None:
    """Scrape the exporters at their interval until a time."""
    while (left := until - time.monotonic()) > 0:
        for exporter in exporters.values():
            fetch(exporter.port)
        time.sleep(max(0.0, min(INTERVAL_SECONDS, left, until - time.monotonic())))


def _usage(pid: int) -> Figures:
    """Return the CPU and the memory of a process."""
    cpu, resident, peak = process_cpu_seconds(pid), process_resident_bytes(pid), process_peak_bytes(pid)
    return {"cpu": cpu, "resident": resident, "peak": peak}


def _counts(exporters: Mapping[str, Exporter], probes: Server) -> dict[str, Figures]:
    """Return how many objects each exporter has requested so far, and how many playlists of them successfully."""
    succeeded, failed = probes.call("outcomes")
    counts: dict[str, Figures] = {BLACKBOX: {"playlists": succeeded + failed, "segments": 0.0, "good": succeeded}}
    for name, exporter in exporters.items():
        counts[name] = dict.fromkeys(("playlists", "segments", "good"), 0.0)
        for code, what, value in _REQUESTS.findall(exporter.ask("/metrics")[1]):
            counts[name][f"{what}s"] += float(value)
            counts[name]["good"] += float(value) if (what, code) == ("playlist", "200") else 0.0
    return counts


def _rates(before: Figures, after: Figures, *names: str) -> Figures:
    """Return figures per second; all of them by default."""
    return {name: (after[name] - before[name]) / MEASURED_SECONDS for name in names or before}


def _report(found: Sequence[Mapping[str, Figures]]) -> None:
    """Print the results of all rounds."""
    middle = {name: medians([figures[name] for figures in found]) for name in found[0]}
    print_table(
        ("", "share of a core", "µs per check", "playlists/s", "successful", "segments/s", "MB resident", "peak"),
        (
            (
                name,
                _range([figures[name]["cpu"] for figures in found], "{:.1%}"),
                _range([figures[name]["per check"] * 1e6 for figures in found], "{:.0f}"),
                f"{f['playlists']:.1f}",
                f"{f['good'] / f['playlists']:.1%}",
                f"{f['segments']:.1f}",
                _range([figures[name]["resident"] / 1e6 for figures in found], "{:.0f}"),
                f"{f['peak'] / 1e6:.0f}",
            )
            for name, f in middle.items()
        ),
    )
    print_table(("CPU ratio to", BLACKBOX), [(name, ratio(found, "per check", name, BLACKBOX)) for name in CASES])


def _range(values: Sequence[float], form: str) -> str:
    low, high = form.format(min(values)), form.format(max(values))
    return low if low == high else f"{low} to {high}"


# -- event loop --------------------------------------------------------------------------------------------------------


def _measure_lateness(directory: str, origin: Server, streams: int) -> Figures:
    """Return the longest callback, and how late polls and the responses to other requests are."""
    file = _config(directory, origin, streams, {})
    with running_server("instrumented_exporter", file=file, watch=True) as server:
        wait_for_streams(server, streams)
        time.sleep(WARM_UP_SECONDS)
        server.call("forget")
        delays = []
        until = time.monotonic() + MEASURED_SECONDS
        while time.monotonic() < until:
            began = time.monotonic()
            fetch(server.port, "/-/healthy")
            delays.append(time.monotonic() - began)
            time.sleep(PROBE_SECONDS)
        late, stalls = server.call("lateness"), server.call("stalls")
    return {
        "polls": len(late),
        "late": max(late),
        "response": statistics.median(delays),
        "p99": statistics.quantiles(delays, n=100)[98],
        "callback": stalls["cpu"],
        "callback clock": stalls["clock"],
    }


def _report_lateness(f: Figures) -> None:
    due = MEASURED_SECONDS / INTERVAL_SECONDS
    print_table(
        ("polls", "latest poll, ms", "response of /-/healthy, ms: p50", "p99", "longest callback, ms of CPU", "ms"),
        [(f"{f['polls']:.0f} of {due:.0f}", *(f"{f[name] * 1e3:.1f}" for name in
          ("late", "response", "p99", "callback", "callback clock")))],
    )  # fmt: skip
