"""Measure how soon the exporter, and Prometheus with the shipped rules, notice what happens on a real server.

``make soak PART=platforms`` runs the timelines. It writes the measurements and the server's responses into
``tests/platforms/timelines``, and the tables into the platforms' pages. ``python -m tests.real.platform_timeline`` only
writes the tables again.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from tests.exporter_process import Exporter
from tests.real.icecast import PASSWORD, USERNAME
from tests.real.prometheus import Prometheus, running_prometheus

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests" / "platforms" / "timelines"
RULES = (ROOT / "alerts" / "stream-recordings.yaml", ROOT / "alerts" / "stream-alerts.yaml")
INTERVAL = 15
"""Seconds between polls, and between scrapes: the defaults."""
LONGEST = 420.0
"""Seconds after which an event that has not been noticed fails the run."""
SHORT_FREEZE, LONG_FREEZE = 30.0, 120.0
RATES = {"nginx_rtmp": 464_000, "icecast": 128_000}
"""Bit/s of what the encoders send, picture and sound together."""
NAME, MOUNT = "cam1", "/live.mp3"
_EXPECTED = {
    platform: {"expected": True, "expected_bitrate": f"{rate // 1000}kbps"} for platform, rate in RATES.items()
}
SETTINGS: dict[str, dict[str, Any]] = {
    "nginx_rtmp": {"streams": [{"application": "live", "key": NAME, **_EXPECTED["nginx_rtmp"]}]},
    "icecast": {
        "auth": {"username": USERNAME, "password": PASSWORD},
        "streams": [{"mount": MOUNT, **_EXPECTED["icecast"]}],
    },
}
"""The upstreams' settings, besides platform and URL."""
_BEGIN, _END = "<!-- timeline: written by make soak PART=platforms -->\n", "<!-- end of the timeline -->\n"


@dataclass
class Measured:
    """What was measured about one event; times in seconds since the event."""

    event: str
    wanted: str
    state_seconds: float | None = None
    """Until the exporter served the right state; None if nothing was to change, and nothing did."""
    alert: str = ""
    alert_seconds: float | None = None
    """Until Prometheus fired the alert."""


@dataclass
class Run:
    """The measurements of one platform."""

    platform: str
    ordinary_seconds: float = 0.0
    bitrate_error: float = 0.0
    """Largest relative error of the served bitrate, except in the first poll."""
    events: list[Measured] = field(default_factory=list)


class Timeline:
    """A running exporter and Prometheus, which watch one stream of a server."""

    def __init__(
        self, platform: str, stream: str, exporter: Exporter, prometheus: Prometheus, recorder: Recorder
    ) -> None:
        self.run = Run(platform)
        self._stream = stream
        self._exporter = exporter
        self._prometheus = prometheus
        self.recorder = recorder

    def value(self, family: str) -> float | None:
        """Return the value of the stream's series of a family; None if it has none."""
        _, text = self._exporter.ask("/metrics")
        found = re.search(rf'^{family}\{{.*stream="{re.escape(self._stream)}".*\}} (\S+)$', text, re.MULTILINE)
        return float(found[1]) if found else None

    @property
    def is_live(self) -> bool:
        return self.value("stream_live") == 1

    @property
    def is_off_air(self) -> bool:
        return self.value("stream_live") == 0

    @property
    def rate(self) -> float:
        """The served ingest bitrate in bytes per second; -1 if there is none."""
        rate = self.value("stream_ingest_bitrate_bytes_per_second")
        return -1.0 if rate is None else rate

    def alerts(self, state: str = "firing") -> set[str]:
        """Return the names of alerts with a severity in this state."""
        found = self._prometheus.query(f'ALERTS{{alertstate="{state}",severity=~"critical|warning"}}')
        return {labels["alertname"] for labels, _ in found}

    def event(self, event: str, wanted: str, holds: Callable[[], bool], *, alert: str = "") -> Measured:
        """Measure from now until the exporter serves the state, and until Prometheus fires the alert."""
        self.recorder.note(event)
        measured = Measured(event, wanted, alert=alert)
        began = time.monotonic()
        while measured.state_seconds is None or (alert and measured.alert_seconds is None):
            seconds = time.monotonic() - began
            assert seconds < LONGEST, f"{event}: not noticed: {measured}, alerts {self.alerts()}"
            if measured.state_seconds is None and holds():
                measured.state_seconds = round(seconds, 1)
            if alert and measured.alert_seconds is None and alert in self.alerts():
                measured.alert_seconds = round(seconds, 1)
            time.sleep(0.5)
        self.run.events.append(measured)
        print(f"{self.run.platform}: {measured}", flush=True)
        return measured

    def unchanged(self, event: str, seconds: float, holds: Callable[[], bool]) -> None:
        """Assert that a condition holds throughout, and that no alert fires."""
        self.recorder.note(event)
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            assert holds(), f"{event}: changed after {time.monotonic() - began:.1f} s"
            assert self.alerts() == set(), event
            time.sleep(1.0)
        self.run.events.append(Measured(event, "no change, no alert"))
        print(f"{self.run.platform}: {event}: unchanged", flush=True)

    def settle(self) -> None:
        """Wait until no alert is firing or pending, and the bitrate is served."""
        began = time.monotonic()
        while self.rate <= 0 or self.alerts() or self.alerts("pending"):
            assert time.monotonic() < began + 2 * LONGEST, f"alerts do not end: {self.alerts()}"
            time.sleep(1.0)

    def ordinary(self, seconds: float, sent: Callable[[], int], visit: Callable[[], Any]) -> None:
        """Let the stream run, compare its bitrate with what the encoder sent, and assert that no alert fires.

        ``visit``: enters and leaves a viewer.
        """
        self.recorder.note("ordinary operation")
        began, samples = time.monotonic(), [(time.monotonic(), sent())]
        while time.monotonic() < began + seconds:
            time.sleep(5.0)
            samples.append((time.monotonic(), sent()))
            # what is served was measured between two polls, at most two intervals ago
            at, total = next(
                sample
                for sample in reversed(samples)
                if samples[-1][0] - sample[0] >= 2 * INTERVAL - 1 or sample is samples[0]
            )
            if samples[-1][0] - began > 3 * INTERVAL:
                true = (samples[-1][1] - total) / (samples[-1][0] - at)
                self.run.bitrate_error = max(self.run.bitrate_error, abs(self.rate / true - 1))
            assert self.alerts() == set()
            assert self.is_live
            if int((time.monotonic() - began) / 60) > int((time.monotonic() - began - 5) / 60):
                visit()
        self.run.ordinary_seconds = round(time.monotonic() - began)
        print(f"{self.run.platform}: {self.run}", flush=True)

    def write(self) -> None:
        """Write the measurements and the responses."""
        FOLDER.mkdir(exist_ok=True)
        content = {**vars(self.run), "events": [vars(measured) for measured in self.run.events]}
        (FOLDER / f"{self.run.platform}.json").write_text(json.dumps(content, indent=1) + "\n")
        self.recorder.write(FOLDER / f"{self.run.platform}.jsonl")
        update_page(self.run.platform)


class Recorder:
    """Records the server's responses at the interval of the polls, with the events in between."""

    def __init__(self, requests: dict[str, Request]) -> None:
        """``requests``: by method and path, as in a recording."""
        self._requests = requests
        self._entries: list[dict[str, Any]] = []
        self._bodies: dict[str, str] = {}
        self._began = time.monotonic()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._record, daemon=True)

    def note(self, event: str) -> None:
        self._entries.append({"at": round(time.monotonic() - self._began, 1), "event": event})

    def _record(self) -> None:
        while not self._is_over.wait(INTERVAL):
            found: dict[str, str | None] = {}
            for name, request in self._requests.items():
                try:
                    with urlopen(request, timeout=5) as answer:
                        found[name] = answer.read().decode()
                except (URLError, OSError):
                    found[name] = None
            at = round(time.monotonic() - self._began, 1)
            self._entries.append({"at": at, "time": round(time.time(), 1), "responses": found})

    @contextmanager
    def recording(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            self._thread.join()

    def write(self, file: Path) -> None:
        file.write_text("".join(json.dumps(entry) + "\n" for entry in self._entries))


@contextmanager
def running_timeline(
    platform: str, upstream: dict[str, Any], stream: str, requests: dict[str, Request], directory: Path
) -> Iterator[Timeline]:
    """Run exporter and Prometheus for one upstream. ``stream``: the label of its stream."""
    configuration = {"upstreams": [{"name": "origin", "platform": platform, **upstream}], "state_dir": str(directory)}
    (directory / "config.yaml").write_text(json.dumps(configuration))
    arguments = ["--config.file", "config.yaml", "--web.listen-address", "127.0.0.1:0"]
    recorder = Recorder(requests)
    with ExitStack() as stack:
        exporter = stack.enter_context(Exporter(arguments, directory, measured=False))
        prometheus = stack.enter_context(running_prometheus(directory))
        stack.enter_context(
            prometheus.scraping("stream-exporter", f"127.0.0.1:{exporter.port}", interval=f"{INTERVAL}s")
        )
        stack.enter_context(prometheus.evaluating(*RULES))
        stack.enter_context(recorder.recording())
        yield Timeline(platform, stream, exporter, prometheus, recorder)


def table(platform: str) -> str:
    """Return the table of a platform's page from its measurements."""
    run = json.loads((FOLDER / f"{platform}.json").read_text())
    rows = []
    for measured in run["events"]:
        seconds = "" if measured["state_seconds"] is None else f"{measured['state_seconds']:.0f} s"
        alert = f"{measured['alert']} {measured['alert_seconds']:.0f} s" if measured["alert"] else ""
        rows.append(f"| {measured['event']} | {measured['wanted']} | {seconds} | {alert} |\n")
    return (
        "| event | result | served after | alert fires after |\n|---|---|---|---|\n" + "".join(rows) + "\n"
        f"In {run['ordinary_seconds'] / 60:.0f} minutes of ordinary operation no alert fired, and the bitrate differed "
        f"from what the encoder sent by at most {100 * run['bitrate_error']:.0f} %.\n"
    )


def with_table(page: str, platform: str) -> str:
    """Return a page with its table replaced."""
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}{table(platform)}{_END}{after}"


def update_page(platform: str) -> None:
    """Write the table into the platform's page."""
    page = ROOT / "docs" / "platforms" / f"{platform}.md"
    page.write_text(with_table(page.read_text(encoding="utf-8"), platform), encoding="utf-8")


if __name__ == "__main__":
    for measurements in sorted(FOLDER.glob("*.json")):
        update_page(measurements.stem)
