from __future__ import annotations

import time
from pathlib import Path

from tests.load.exporter_watch import UPSTREAMS, watched_demo

INTERVAL_SECONDS = 5.0


def test_two_thousand_streams_are_polled_on_time_and_scraped(tmp_path: Path) -> None:
    with watched_demo(2000, tmp_path) as watch:
        before, began = watch.scrape(), time.monotonic()
        for _ in range(8):
            time.sleep(2.5)
            after = watch.scrape()
        passed = time.monotonic() - began
        print(watch.figures())
    polls = {u: after["stream_upstream_polls_total"][u] - before["stream_upstream_polls_total"][u] for u in UPSTREAMS}
    print(f"polls in {passed:.0f} s: {polls}; {passed / INTERVAL_SECONDS:.0f} were due of each")
    failures = after["stream_upstream_poll_failures_total"]
    print(f"failed: {failures}")
    # a busy machine may skip polls, but a poller that cannot keep up loses most of them
    assert all(polls[u] - failures[u] >= passed / INTERVAL_SECONDS / 2 for u in UPSTREAMS)
    assert sum(after["stream_live"].values()) >= 0.9 * 2000
    assert after["stream_exporter_duplicates_dropped"][""] == 0
