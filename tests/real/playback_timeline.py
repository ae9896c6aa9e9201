"""Measure how soon the exporter, its sidecar, and Prometheus with the shipped rules notice what viewers notice.

``make soak PART=playback`` runs the scenarios of ``playback_scenarios.py``. It writes the measurements and the logs of
what the exporter fetched into ``tests/platforms/timelines/hls``, and the table into the page of the platform.
``python -m tests.real.playback_timeline`` only writes the table again.
"""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from difflib import SequenceMatcher
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import chain
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

from tests.alerting.inhibition import Labels
from tests.exporter_process import Exporter
from tests.real.platform_timeline import INTERVAL, RULES
from tests.real.playback_scenarios import SCENARIOS, SOURCE, Scenario, Values, values
from tests.real.prometheus import Prometheus, running_prometheus

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "platforms" / "timelines" / "hls"
MEASURED = FOLDER / "measured.json"
SOURCE_LOG = FOLDER / "source.jsonl"
RECORDER = Path(__file__).with_name("recording_exporter.py")
LOG = "wire.jsonl"
PAGE = ROOT / "docs" / "platforms" / "hls.md"
HEALTHY_SECONDS: Final = 130.0
"""How long all streams are healthy before anything happens."""
FAILED_SECONDS: Final = 420.0
"""How long what happened is observed."""
KEPT_SECONDS: Final = 60.0
"""How much is recorded after the last alert, or the failure if there is none."""
WHOLE_SECONDS: Final = 60.0
"""Time between whole segments, which a replay fetches at other times."""
USUAL: Final = {"status": 200, "seconds": 0.002, "first_byte": 0.001, "is_cut": False}
"""Values that the logs leave out."""
_TYPES = {".m3u8": "application/vnd.apple.mpegurl", ".ts": "video/mp2t", ".m4s": "video/mp4", ".mp4": "video/mp4"}
_CLOCK_SECONDS, _SHORT_SECONDS = 1.5, 0.1
"""A date this close to the own clock, and a duration below this, are usual, too."""
SEVERITIES: Final = ("critical", "warning")
_BEGIN = "<!-- timeline: written by make soak PART=playback -->\n"
_END = "<!-- end of the timeline -->\n"


@dataclass
class Measured:
    """What was measured about one scenario; times in seconds since the failure."""

    scenario: str
    state_seconds: float | None = None
    """Until the exporter served the right state; None if nothing was to change."""
    prometheus: dict[str, float] = field(default_factory=dict)
    """Until Prometheus fired each alert of the check or its source, without those that are inhibited."""
    sidecar: dict[str, float] = field(default_factory=dict)


def alert_name(name: str, severity: str) -> str:
    """Return how an alert is named in the measurements."""
    return f"{name} ({severity})"


class Watch:
    """Looks at what the exporter, its sidecar and Prometheus say about all scenarios."""

    def __init__(self, exporter: Exporter, prometheus: Prometheus) -> None:
        self._exporter = exporter
        self._prometheus = prometheus
        self.text = ""

    def look(self) -> None:
        _, self.text = self._exporter.ask("/metrics")

    def values(self, upstream: str) -> Values:
        return values(self.text, upstream)

    def prometheus_alerts(self) -> list[Labels]:
        """Return the labels of the alerts that fire in Prometheus."""
        severities = "|".join(SEVERITIES)
        found = self._prometheus.query(f'ALERTS{{alertstate="firing",severity=~"{severities}"}}')
        return [labels for labels, _ in found]

    def sidecar_alerts(self) -> list[Labels]:
        """Return the labels of the alerts that fire in the sidecar."""
        alerts = json.loads(self._exporter.ask("/api/v1/alerts")[1])["data"]["alerts"]
        firing = (alert["labels"] for alert in alerts if alert["state"] == "firing")
        return [labels for labels in firing if labels["severity"] in SEVERITIES]


def name_of(alert: Labels, scenario: Scenario) -> str | None:
    """Return how an alert of a scenario's check, or of its source, is named; None for any other alert."""
    name = alert_name(alert["alertname"], alert["severity"])
    if alert.get("upstream") == scenario.name:
        return name
    is_source = alert.get("upstream") == SOURCE and alert.get("stream") == f"live/{scenario.source}"
    return f"source: {name}" if is_source else None


def expected_alerts(scenario: Scenario) -> frozenset[str]:
    """Return the names of the alerts that a scenario should have."""
    return scenario.alerts | {f"source: {name}" for name in scenario.source_alerts}


@contextmanager
def running_alert_sink() -> Iterator[str]:
    """Run what accepts the sidecar's alerts like an Alertmanager, and yield its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def watching(upstreams: list[dict[str, Any]], directory: Path) -> Iterator[tuple[Watch, Path]]:
    """Run the exporter with its sidecar, and Prometheus; yield the log of what the exporter fetches, too."""
    arguments = ["--config.file", "config.yaml", "--web.listen-address", "127.0.0.1:0"]
    with ExitStack() as stack:
        sink = stack.enter_context(running_alert_sink())
        alerting = {"alertmanagers": [{"url": sink}]}
        configuration = {"upstreams": upstreams, "state_dir": str(directory), "alerting": alerting}
        (directory / "config.yaml").write_text(json.dumps(configuration))
        exporter = stack.enter_context(Exporter(arguments, directory, program=[str(RECORDER)], measured=False))
        prometheus = stack.enter_context(running_prometheus(directory))
        target = f"127.0.0.1:{exporter.port}"
        stack.enter_context(prometheus.scraping("stream-exporter", target, interval=f"{INTERVAL}s"))
        stack.enter_context(prometheus.evaluating(*RULES))
        yield Watch(exporter, prometheus), directory / LOG


class StatisticsRecorder:
    """Records the statistics page of nginx-rtmp at the interval of its polls."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.entries: list[dict[str, Any]] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._record, daemon=True)

    def _record(self) -> None:
        while True:
            at, body = time.time(), request_text(self._url)
            self.entries.append({"time": round(at, 2), "body": body})
            if self._is_over.wait(INTERVAL):
                return

    @contextmanager
    def recording(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            self._thread.join()


def request_text(url: str) -> str:
    """Return the body of a response."""
    with urlopen(url, timeout=INTERVAL) as answer:
        return str(answer.read().decode())


# -- files -------------------------------------------------------------------------------------------------------------


def write_logs(log: Path, source: list[dict[str, Any]], failed_at: float, measured: Mapping[str, Measured]) -> None:
    """Write what was fetched for each scenario, and the statistics pages, in a compact form."""
    FOLDER.mkdir(exist_ok=True)
    entries: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in log.read_text().splitlines():
        entry = json.loads(line)
        entries[entry.pop("upstream")].append(entry)
    last = failed_at
    for scenario in SCENARIOS:
        times = measured[scenario.name]
        kept = KEPT_SECONDS + WHOLE_SECONDS * scenario.needs_whole_segments
        end = failed_at + kept + max([0.0, *times.prometheus.values(), *times.sidecar.values()])
        last = max(last, end)
        found = [entry for entry in entries[scenario.name] if entry.get("poll", entry.get("time", 0.0)) <= end]
        lines = [{"failed_at": round(failed_at, 2)}, *_shorten(found)]
        _write_lines(FOLDER / f"{scenario.name}.jsonl", lines)
    pages = (entry for entry in source if entry["time"] <= last)
    _write_lines(SOURCE_LOG, ({"time": round(page["time"], 2), "body": page["body"]} for page in pages))


def _shorten(entries: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Leave out what is unknown, usual, or as in the line before; ``read_log`` adds it again."""
    bodies: dict[str, str] = {}
    facts: dict[bool, Any] = {}
    for entry in _with_facts(entries):
        usual = {**USUAL, "type": _TYPES.get(Path(entry.get("path", "")).suffix)}
        short = {key: value for key, value in entry.items() if value is not None and usual.get(key) != value}
        short.pop("sha256", None)
        for key in ("time", "poll"):
            if key in short:
                short[key] = round(short[key], 2)
        if abs(short.get("date", 0.0) - entry.get("time", 0.0)) < _CLOCK_SECONDS:
            short.pop("date", None)
        if short.get("seconds", 1.0) < _SHORT_SECONDS:
            short.pop("seconds")
            short.pop("first_byte", None)
        if "body" in short:
            path = short["path"]
            short["body"], bodies[path] = _difference(bodies.get(path, ""), short["body"]), short["body"]
        if "facts" in short:
            # the numbers of packets differ, but only whether there are any counts
            tracks = [[*track[:2], min(track[2], 1), *track[3:]] for track in short["facts"]["tracks"]]
            known, whole = {**short["facts"], "tracks": tracks}, short["whole"]
            if facts.get(whole) == known:
                del short["facts"]
            else:
                short["facts"] = facts[whole] = known
        yield short


def _with_facts(entries: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Add what segments show to their fetches."""
    fetches: dict[str, dict[str, Any]] = {}
    kept = []
    for entry in entries:
        if "facts" in entry:
            fetches[entry["path"]]["facts"] = entry["facts"]
            continue
        if entry.get("what") == "segment" and "error" not in entry:
            fetches[entry["path"]] = entry
        kept.append(entry)
    yield from kept


def _difference(before: str, after: str) -> list[Any]:
    """Return the lines of a text: those that are in the one before as ranges of its lines."""
    old, new = before.split("\n"), after.split("\n")
    found: list[Any] = []
    for kind, begin, end, first, last in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            found.append([begin, end])
        else:
            found += new[first:last]
    return found


def _add_difference(before: str, difference: list[Any]) -> str:
    """Return the text of which this is the difference to the one before."""
    old = before.split("\n")
    parts = (old[part[0] : part[1]] if isinstance(part, list) else [part] for part in difference)
    return "\n".join(chain.from_iterable(parts))


def read_log(scenario: str) -> tuple[float, list[dict[str, Any]]]:
    """Return the time of the failure, and the polls and fetches of a scenario."""
    first, *lines = (json.loads(line) for line in (FOLDER / f"{scenario}.jsonl").read_text().splitlines())
    bodies: dict[str, str] = {}
    facts: dict[bool, Any] = {}
    entries = []
    for line in lines:
        entry = {**USUAL, "type": _TYPES.get(Path(line.get("path", "")).suffix, ""), **line} if "what" in line else line
        if "body" in entry:
            path = entry["path"]
            entry["body"] = bodies[path] = _add_difference(bodies.get(path, ""), entry["body"])
        if entry.get("what") == "segment" and "error" not in entry:
            entry["facts"] = facts[entry["whole"]] = entry.get("facts", facts.get(entry["whole"]))
        entries.append(entry)
    return first["failed_at"], entries


def _write_lines(file: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    file.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))


def write_measured(measured: Iterable[Measured], ordinary: Mapping[str, Any]) -> None:
    """Write the measurements."""
    FOLDER.mkdir(exist_ok=True)
    content = {"scenarios": [asdict(one) for one in measured], "ordinary": ordinary}
    MEASURED.write_text(json.dumps(content, indent=1) + "\n")


def read_measured() -> dict[str, Measured]:
    """Return the measurements by scenario."""
    return {one["scenario"]: Measured(**one) for one in json.loads(MEASURED.read_text())["scenarios"]}


def table() -> str:
    """Return the table of the platform's page from the measurements."""
    found = read_measured()
    rows = []
    for scenario in SCENARIOS:
        one = found[scenario.name]
        served = "" if one.state_seconds is None else f"{one.state_seconds:.0f} s"
        fired = sorted(one.prometheus.items(), key=lambda alert: alert[1])
        alerts = "<br>".join(_alert_cell(name, seconds) for name, seconds in fired) or "none"
        sidecar = "<br>".join(f"{one.sidecar[name]:.0f} s" for name, _ in fired if name in one.sidecar)
        rows.append(f"| {scenario.title} | {scenario.result} | {served} | {alerts} | {sidecar} |\n")
    ordinary = json.loads(MEASURED.read_text())["ordinary"]
    return (
        "| what happens | state | served after | alerts (Prometheus) | sidecar |\n|---|---|---|---|---|\n"
        + "".join(rows)
        + "\n"
        + f"{ordinary['seconds'] / 60:.0f} minutes with {ordinary['unavailable']} responses of {ordinary['requests']} "
        f"with status 503, {ordinary['late']} late segments (up to 1.4 target durations), a restart of the encoder and "
        f"an ad break: {ordinary['alerts'] or 'no alert'}.\n"
    )


def _alert_cell(name: str, seconds: float) -> str:
    is_of_source = name.startswith("source: ")
    alert, _, severity = name.removeprefix("source: ").removesuffix(")").partition(" (")
    return f"{alert}{' of the source' if is_of_source else ''} ({severity}) {seconds:.0f} s"


def with_table(page: str) -> str:
    """Return the page with its table replaced."""
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}{table()}{_END}{after}"


def update_page() -> None:
    """Write the table into the platform's page."""
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    update_page()
