"""``python -m bench [PART …]``: run the given parts, or most of them, and print Markdown tables."""

from __future__ import annotations

import argparse
import importlib
import inspect
import time

PARTS = {
    "exposition": "exposition_cpu",
    "http": "http_scrapes",
    "polling": "polling_cpu",
    "lists": "platform_lists",
    "probe": "probe_cpu",
    "control": "control_cost",
    "memory": "memory_per_stream",
    "loop": "event_loop",
    "end-to-end": "end_to_end",
    "alerting": "alert_latency",
    "playback": "playback",
}
"""Name and module of each part. ``cycle``, an update of every stream and one scrape, is a row of ``exposition``."""

IN_TEN_MINUTES = [part for part in PARTS if part not in ("alerting", "control", "playback")]


def main() -> None:
    """Run the given parts; without any, all that fit into ten minutes."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one of {', '.join(PARTS)}")
    parser.add_argument("--streams", type=int, action="append", metavar="N", help="number of streams; repeatable")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of each comparison")
    parser.add_argument("--static", action="store_true", help="run end-to-end with unchanging lists")
    arguments = parser.parse_args()
    unknown = [part for part in arguments.parts if part not in PARTS]
    if unknown:
        parser.error(f"unknown part {unknown[0]}; use one of {', '.join(PARTS)}")
    wanted = {"sizes": arguments.streams, "rounds": arguments.rounds, "static": arguments.static}
    for part in arguments.parts or IN_TEN_MINUTES:
        began = time.monotonic()
        run = importlib.import_module(f"bench.{PARTS[part]}").main
        understood = inspect.signature(run).parameters
        run(**{name: value for name, value in wanted.items() if value and name in understood})
        print(f"({part}: {time.monotonic() - began:.0f} s)\n", flush=True)


if __name__ == "__main__":
    main()
