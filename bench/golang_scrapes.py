"""Scrapes of the same streams through client_golang, if Debian's Go and its libraries are installed."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.case_runner import Figures
from bench.generated_streams import GeneratedStreams, load_patterns
from bench.prometheus_client_scrapes import FamiliesCollector
from exporter.metrics.families.stream_families import STREAM_FAMILIES

GOPATH = Path("/usr/share/gocode")
SOURCE = Path(__file__).parent / "golang" / "main.go"
"""From ``apt-get install golang-go golang-github-prometheus-client-golang-dev``."""
GOCACHE = Path(__file__).parents[1] / ".cache" / "go-build"
"""Two parts build the program."""


def build(directory: Path) -> Path | None:
    """Build the program; return None if that is not possible."""
    if shutil.which("go") is None or not (GOPATH / "src/github.com/prometheus/client_golang").is_dir():
        return None
    program = directory / "promhttp"
    environment = {**os.environ, "GOPATH": str(GOPATH), "GO111MODULE": "off", "GOCACHE": str(GOCACHE)}
    subprocess.run(["go", "build", "-o", program, SOURCE], env=environment, check=True)
    return program


def save_samples(file: Path, streams: int, patterns: str) -> None:
    """Save the samples of this number of streams for the program."""
    kinds = {family.name: family.kind.value for family in STREAM_FAMILIES}
    with gzip.open(file, "wt", compresslevel=1) as packed:
        for _, name, help_, labels, rows in FamiliesCollector(
            GeneratedStreams(streams, load_patterns(patterns)).upstream_states()
        ).rows:
            family = {
                "name": name,
                "kind": kinds[name],
                "help": help_,
                "labels": labels,
                "rows": [values for values, _ in rows],
                "values": [float(value) for _, value in rows],
            }
            json.dump(family, packed)
            packed.write("\n")


def run(program: Path, file: Path, repetitions: int) -> Figures:
    """Return the program's CPU seconds per scrape, on one CPU, because Python uses only one."""
    environment = {**os.environ, "GOMAXPROCS": "1"}
    done = subprocess.run([program, file, str(repetitions)], stdout=subprocess.PIPE, env=environment, check=True)
    return {str(name): float(value) for name, value in json.loads(done.stdout).items()}


@contextmanager
def running_promhttp(program: Path, samples: Path) -> Iterator[tuple[int, int]]:
    """Run promhttp with these samples; yield its port and process id. It may use all CPUs, as usual."""
    with subprocess.Popen([program, samples, "serve"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline()), process.pid
        finally:
            process.terminate()
