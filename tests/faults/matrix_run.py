"""One run of the matrix: an exporter process polls every cell; they are good, then all broken at once, then healed."""

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
from tests.faults.matrix import ABSENT, ALL_UNKNOWN, BESIDE, FAULTS, HEALTHY, OFF, SCORELESS, UNHARMED, UNKNOWN, Outcome

PATIENCE_SECONDS = 3 * GENEROUS_SECONDS
"""Longer than two of the longest pauses between polls of an upstream that fails: the machine may be short of time when
the first poll after the healing comes.
"""
SCRAPES_APART_SECONDS = 1.0
POLLS_TO_SEE = 3
"""So many polls of a broken upstream that stays up tell what becomes of its streams."""
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
    """What ``/metrics`` said once."""

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
        """Failed polls by reason."""
        return Counter(self._values.get(("stream_upstream_poll_failures_total", upstream), {}))

    def stream_failures(self, upstream: str) -> Counter[str]:
        return Counter(self._values.get(("stream_upstream_stream_failures_total", upstream), {}))

    def live(self, upstream: str) -> dict[str, float]:
        """``stream_live`` by the stream's label, as it is escaped."""
        return self._values.get(("stream_live", upstream), {})

    def scores(self, upstream: str) -> dict[str, float]:
        """``stream_health_score_ratio`` by the stream's label, as it is escaped."""
        return self._values.get(("stream_health_score_ratio", upstream), {})

    def is_well(self, cell: Cell) -> bool:
        """Whether the upstream is up and all of its own streams are live."""
        live = self.live(cell.name)
        return self.up(cell.name) == 1 and all(live.get(label) == 1 for label in cell.api.labels)


@dataclass
class Run:
    """All that was seen."""

    cells: dict[str, Cell]
    secrets: set[str]
    calm: Scrape
    """Before."""
    broken: Scrape
    """When everything had shown what is wrong with it."""
    shown: dict[str, Scrape]
    """By upstream, when that one had."""
    healing: Scrape
    """Just after the servers had been healed."""
    healed: Scrape
    recovered: dict[str, Scrape]
    """By upstream, when it was well again."""
    during: list[Scrape] = field(default_factory=list)
    """All scrapes while things were broken."""
    probes: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Status and text of ``/probe``, by upstream."""
    said: str = ""
    """Log, pages and APIs."""
    exit_code: int | None = None
    led_elsewhere: int = 0

    def outcome(self, cell: Cell) -> Outcome:
        """What came of a cell's fault."""
        return _outcome(cell, self.shown.get(cell.name, self.broken), self.calm)

    def polls_lost_after_healing(self, cell: Cell) -> int:
        """Polls that failed as the fault lets them, from the healing on; one was perhaps under way then."""
        down = cell.expected.down
        lost = self.recovered.get(cell.name, self.healed).failures(cell.name) - self.healing.failures(cell.name)
        return int(lost[down]) if down is not None else 0


def _outcome(cell: Cell, seen: Scrape, calm: Scrape) -> Outcome:
    """What a scrape shows of a cell's fault; ``calm``: the scrape before it broke."""
    failures = seen.failures(cell.name)
    if seen.up(cell.name) != 1:
        return Outcome(down=_most_common(failures))
    failed = seen.stream_failures(cell.name) - calm.stream_failures(cell.name)
    of_stream = _most_common(failed) if failed else None
    return Outcome(streams=_streams(cell, seen), of_stream=of_stream)


def _but_timeouts(failures: Counter[str]) -> Counter[str]:
    """On a machine that is short of time any request may run out of its own, whatever the fault."""
    return Counter({reason: times for reason, times in failures.items() if reason != Reason.TIMEOUT and times})


def _most_common(failures: Counter[str]) -> Reason:
    return Reason((_but_timeouts(failures) or failures).most_common(1)[0][0])


def _streams(cell: Cell, seen: Scrape) -> str:
    live, own = seen.live(cell.name), cell.api.labels
    victim, *others = own
    if not live:
        return ALL_UNKNOWN
    if any(live.get(label) != 1 for label in others):
        return f"others harmed: {live}"
    if victim not in live:
        return UNKNOWN
    if live[victim] == 0:
        is_ended = re.search(rf'stream_status\{{.*"{cell.name}",stream="{victim}",status="ended"', seen.text)
        return ABSENT if is_ended else OFF
    if victim not in seen.scores(cell.name) and seen.scores(cell.name):
        return SCORELESS
    return BESIDE if set(live) - set(own) else UNHARMED


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
            run.said += process.said
            run.led_elsewhere = servers.led_elsewhere
            assert not servers.errors, servers.errors[:3]
            return run


def _break_and_heal(servers: FaultServers, process: Exporter) -> Run:
    cells = list(servers.cells.values())
    seen: list[Scrape] = []

    def scrape() -> Scrape:
        seen.append(Scrape(process.ask("/metrics")[1]))
        return seen[-1]

    never_up = {cell.name for cell in cells if cell.broken and cell.expected.down is not None}
    _until_each(scrape, [cell for cell in cells if cell.name not in never_up], lambda s, cell: s.is_well(cell))
    calm = scrape()
    servers.break_all()
    seen.clear()
    shown = _until_each(scrape, cells, lambda s, cell: _has_shown(cell, s, calm))
    broken, during = seen[-1], list(seen)
    probes = _probes(process, cells)
    said = "".join(process.ask(path)[1] for path in ("/", "/api/v1/streams", "/config", "/sd"))
    servers.heal_all()
    healing = scrape()
    recovered = _until_each(scrape, cells, lambda s, cell: s.is_well(cell))
    healed = scrape()
    said += healed.text + "".join(one.text for one in seen[:: max(1, len(seen) // 5)])
    return Run(servers.cells, servers.secrets(), calm, broken, shown, healing, healed, recovered, during, probes, said)


def _has_shown(cell: Cell, scrape: Scrape, calm: Scrape) -> bool:
    down = cell.expected.down
    if cell.fault is not None and down is not None:
        is_told = down is Reason.TIMEOUT or bool(_but_timeouts(scrape.failures(cell.name)))
        return scrape.up(cell.name) == 0 and not scrape.live(cell.name) and is_told
    # a stream that fails is served as it was until it is stale, which comes later where polls run out of time
    is_polled = scrape.up(cell.name) == 1 and scrape.polls(cell.name) >= calm.polls(cell.name) + POLLS_TO_SEE
    return is_polled and _outcome(cell, scrape, calm) == cell.expected


def _until_each(
    scrape: Callable[[], Scrape], cells: Iterable[Cell], holds: Callable[[Scrape, Cell], bool]
) -> dict[str, Scrape]:
    """By upstream, the first scrape of which it holds. Those of which it never does are left out."""
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
    """Each fault is probed once, on one platform after the other."""
    by_name = {cell.name: cell for cell in cells}
    platforms = list(dict.fromkeys(cell.platform for cell in by_name.values()))
    names = [f"{platforms[index % len(platforms)]}-{fault.name}" for index, fault in enumerate(FAULTS)]
    names = [name for name in (*names, f"{platforms[0]}-{HEALTHY}") if name in by_name]
    with ThreadPoolExecutor(8) as pool:
        return dict(zip(names, pool.map(lambda name: process.ask(f"/probe?upstream={name}"), names), strict=True))
