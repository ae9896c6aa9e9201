"""One run of the matrix: an exporter process polls every cell; all are healthy, then broken at once, then healed."""

from __future__ import annotations

import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from exporter.model import Reason
from tests.exporter_process import GENEROUS_SECONDS, Exporter
from tests.faults import fake_resolver
from tests.faults.fault_server import Cell, FaultServers, fault_servers
from tests.faults.matrix import (
    ALL_UNKNOWN,
    ENDED,
    EXTRA,
    FAULTS,
    HEALTHY,
    IDLE,
    SCORELESS,
    UNAFFECTED,
    UNKNOWN,
    Outcome,
)

PATIENCE_SECONDS = 3 * GENEROUS_SECONDS
"""Longer than two of the longest pauses between polls of a failing upstream, because the first poll after the healing
may time out on a busy machine.
"""
SCRAPES_APART_SECONDS = 2.0
POLLS_TO_SEE = 3
"""Number of polls of a broken upstream that stays up after which its streams show the result."""
_FAMILIES = (
    "stream_live",
    "stream_health_score_ratio",
    "stream_upstream_up",
    "stream_upstream_polls_total",
    "stream_upstream_poll_failures_total",
    "stream_upstream_stream_failures_total",
)
_SAMPLE = re.compile(rf"^({'|'.join(_FAMILIES)})\{{(.*)\}} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_MEMORY = re.compile(r"^process_resident_memory_bytes (\S+)$", re.MULTILINE)


class Scrape:
    """One scrape of ``/metrics``."""

    def __init__(self, text: str) -> None:
        self.at = time.monotonic()
        self.text = text
        self._values: dict[tuple[str, str], dict[str, float]] = {}
        for family, labels, value in _SAMPLE.findall(text):
            named = dict(_LABEL.findall(labels))
            last = named.get("reason") or named.get("stream", "")
            self._values.setdefault((family, named["upstream"]), {})[last] = float(value)
        self.memory = float(_MEMORY.findall(text)[0])

    def up(self, upstream: str) -> float | None:
        return self._values.get(("stream_upstream_up", upstream), {}).get("")

    def polls(self, upstream: str) -> float:
        return self._values.get(("stream_upstream_polls_total", upstream), {}).get("", 0.0)

    def failures(self, upstream: str) -> Counter[str]:
        """Return the number of failed polls by reason."""
        return Counter(self._values.get(("stream_upstream_poll_failures_total", upstream), {}))

    def stream_failures(self, upstream: str) -> Counter[str]:
        return Counter(self._values.get(("stream_upstream_stream_failures_total", upstream), {}))

    def live(self, upstream: str) -> dict[str, float]:
        """Return ``stream_live`` by the stream's escaped label."""
        return self._values.get(("stream_live", upstream), {})

    def scores(self, upstream: str) -> dict[str, float]:
        """Return ``stream_health_score_ratio`` by the stream's escaped label."""
        return self._values.get(("stream_health_score_ratio", upstream), {})

    def is_healthy(self, cell: Cell) -> bool:
        """Return whether the upstream is up and all of its own streams are live."""
        live = self.live(cell.name)
        return self.up(cell.name) == 1 and all(live.get(label) == 1 for label in cell.api.labels)


@dataclass
class Run:
    """All observations of a run."""

    cells: dict[str, Cell]
    secrets: set[str]
    calm: Scrape
    """Before the faults."""
    broken: Scrape
    """After every fault had shown its result."""
    shown: dict[str, Scrape]
    """By upstream, when its fault had shown its result."""
    healing: Scrape
    """Just after the servers were healed."""
    healed: Scrape
    recovered: dict[str, Scrape]
    """By upstream, when it had recovered."""
    during: list[Scrape] = field(default_factory=list)
    """All scrapes during the faults."""
    probes: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Status and text of ``/probe``, by upstream."""
    output: str = ""
    """The log, pages and API responses."""
    exit_code: int | None = None
    followed_redirects: int = 0

    def outcome(self, cell: Cell) -> Outcome:
        """Return the result of a cell's fault."""
        return _outcome(cell, self.shown.get(cell.name, self.broken), self.calm)

    def polls_lost_after_healing(self, cell: Cell) -> int:
        """Return how many polls still failed because of the fault after the healing; one may have been in flight."""
        down = cell.expected.down
        lost = self.recovered.get(cell.name, self.healed).failures(cell.name) - self.healing.failures(cell.name)
        return int(lost[down]) if down is not None else 0


def _outcome(cell: Cell, seen: Scrape, calm: Scrape) -> Outcome:
    """Return the result of a cell's fault in a scrape; ``calm``: the scrape before the fault."""
    failures = seen.failures(cell.name)
    if seen.up(cell.name) != 1:
        return Outcome(down=_most_common(failures))
    failed = seen.stream_failures(cell.name) - calm.stream_failures(cell.name)
    of_stream = _most_common(failed) if failed else None
    return Outcome(streams=_streams(cell, seen), of_stream=of_stream)


def _without_timeouts(failures: Counter[str]) -> Counter[str]:
    """Leave out timeouts, which any request may have on a busy machine, whatever the fault."""
    return Counter({reason: times for reason, times in failures.items() if reason != Reason.TIMEOUT and times})


def _most_common(failures: Counter[str]) -> Reason:
    return Reason((_without_timeouts(failures) or failures).most_common(1)[0][0])


def _streams(cell: Cell, seen: Scrape) -> str:
    live, own = seen.live(cell.name), cell.api.labels
    victim, *others = own
    if not live:
        return ALL_UNKNOWN
    if any(live.get(label) != 1 for label in others):
        return f"others affected: {live}"
    if victim not in live:
        return UNKNOWN
    if live[victim] == 0:
        is_ended = re.search(rf'stream_status\{{.*"{cell.name}",stream="{victim}",status="ended"', seen.text)
        return ENDED if is_ended else IDLE
    if victim not in seen.scores(cell.name) and seen.scores(cell.name):
        return SCORELESS
    return EXTRA if set(live) - set(own) else UNAFFECTED


def run_matrix(directory: Path) -> Run:
    """Break and heal every cell, all at the same time."""
    with fault_servers(directory) as servers:
        file = directory / "config.yaml"
        file.write_text(yaml.safe_dump(servers.configuration()))
        arguments = ["--web.listen-address", "127.0.0.1:0", "--config.file", str(file), "--log.level", "debug"]
        program = ("-P", fake_resolver.__file__, str(servers.names_file))
        with Exporter(arguments, directory, program) as process:
            run = _break_and_heal(servers, process)
            process.send(signal.SIGTERM)
            run.exit_code = process.ended()
            run.output += process.said
            run.followed_redirects = servers.followed_redirects
            assert not servers.errors, servers.errors[:3]
            return run


def _break_and_heal(servers: FaultServers, process: Exporter) -> Run:
    cells = list(servers.cells.values())
    seen: list[Scrape] = []

    def scrape() -> Scrape:
        seen.append(Scrape(process.ask("/metrics")[1]))
        return seen[-1]

    never_up = {cell.name for cell in cells if cell.broken and cell.expected.down is not None}
    _until_each(scrape, [cell for cell in cells if cell.name not in never_up], lambda s, cell: s.is_healthy(cell))
    calm = scrape()
    servers.break_all()
    seen.clear()
    shown = _until_each(scrape, cells, lambda s, cell: _shows_result(cell, s, calm))
    broken, during = seen[-1], list(seen)
    probes = _probes(process, cells)
    output = "".join(process.ask(path)[1] for path in ("/", "/api/v1/streams", "/config", "/sd"))
    servers.heal_all()
    healing = scrape()
    recovered = _until_each(scrape, cells, lambda s, cell: s.is_healthy(cell))
    healed = scrape()
    output += healed.text + "".join(one.text for one in seen[:: max(1, len(seen) // 5)])
    return Run(
        servers.cells, servers.secrets(), calm, broken, shown, healing, healed, recovered, during, probes, output
    )


def _shows_result(cell: Cell, scrape: Scrape, calm: Scrape) -> bool:
    down = cell.expected.down
    if cell.fault is not None and down is not None:
        is_reported = down is Reason.TIMEOUT or bool(_without_timeouts(scrape.failures(cell.name)))
        return scrape.up(cell.name) == 0 and not scrape.live(cell.name) and is_reported
    # a failing stream is served unchanged until it is stale, which takes longer if polls time out
    is_polled = scrape.up(cell.name) == 1 and scrape.polls(cell.name) >= calm.polls(cell.name) + POLLS_TO_SEE
    return is_polled and _outcome(cell, scrape, calm) == cell.expected


def _until_each(
    scrape: Callable[[], Scrape], cells: Iterable[Cell], holds: Callable[[Scrape, Cell], bool]
) -> dict[str, Scrape]:
    """Return, by upstream, the first scrape for which the condition holds; upstreams without one are left out."""
    missing = {cell.name: cell for cell in cells}
    first: dict[str, Scrape] = {}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        last = scrape()
        first |= {name: last for name, cell in missing.items() if holds(last, cell)}
        missing = {name: cell for name, cell in missing.items() if name not in first}
        if not missing or time.monotonic() > deadline:
            return first
        time.sleep(SCRAPES_APART_SECONDS)


def _probes(process: Exporter, cells: Iterable[Cell]) -> dict[str, tuple[int, str]]:
    """Probe each fault on one platform, alternating between the platforms."""
    by_name = {cell.name: cell for cell in cells}
    platforms = list(dict.fromkeys(cell.platform for cell in by_name.values()))
    names = [f"{platforms[index % len(platforms)]}-{fault.name}" for index, fault in enumerate(FAULTS)]
    names = [name for name in (*names, f"{platforms[0]}-{HEALTHY}") if name in by_name]
    with ThreadPoolExecutor(8) as pool:
        return dict(zip(names, pool.map(lambda name: process.ask(f"/probe?upstream={name}"), names), strict=True))
