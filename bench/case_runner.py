"""Run a case in its own process, measure CPU and memory, compare medians and print tables.

``python -m bench.case_runner MODULE ARGUMENTS`` runs one case: arguments and result are JSON.
"""

from __future__ import annotations

import gc
import importlib
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

Figures = dict[str, float]


def run_case(module: str, **arguments: Any) -> Figures:
    """Call ``bench.<module>.main(**arguments)`` in a new process and return its figures."""
    command = [sys.executable, "-m", "bench.case_runner", module, json.dumps(arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return {str(name): float(value) for name, value in json.loads(done.stdout).items()}


def measure_cpu(work: Callable[[], object]) -> float:
    """Return the CPU seconds of this process for a piece of work, without collecting earlier garbage."""
    gc.collect()
    began = time.process_time()
    work()
    return time.process_time() - began


def process_cpu_seconds(pid: int) -> float:
    """Return the CPU seconds that a process has used, in steps of the system's clock tick."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def resident_bytes() -> int:
    """Return the current resident memory of this process."""
    return process_resident_bytes(os.getpid())


def process_resident_bytes(pid: int) -> int:
    """Return the current resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def peak_bytes() -> int:
    """Return the peak memory of this process; ``getrusage`` would include its parent's."""
    return process_peak_bytes(os.getpid())


def process_peak_bytes(pid: int) -> int:
    """Return the peak memory of a process, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def medians(rounds: Sequence[Figures]) -> Figures:
    """Return the median of each figure."""
    return {name: statistics.median(figures[name] for figures in rounds) for name in rounds[0]}


def ratio(rounds: Iterable[Mapping[str, Figures]], figure: str, case: str, than: str) -> str:
    """Return how many times less ``case`` uses ``than`` the other: the rounds' median ratio, and the range."""
    ratios = [figures[than][figure] / figures[case][figure] for figures in rounds if than in figures]
    if not ratios:
        return "-"
    return f"{statistics.median(ratios):.1f}× ({min(ratios):.1f}–{max(ratios):.1f})"


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a Markdown table, each row as soon as it is available."""
    for cells in itertools.chain((heads, ["---"] * len(heads)), rows):
        print("| " + " | ".join(cells) + " |", flush=True)
    print(flush=True)


if __name__ == "__main__":
    # standard output is for the figures
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    print(json.dumps(importlib.import_module(f"bench.{sys.argv[1]}").main(**json.loads(sys.argv[2]))))
