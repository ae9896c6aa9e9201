"""Reloads and the configuration page under attack."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.attacks.attack_run import AttackRun
from tests.real.child_process import wait_until

SIGNALS = 1883
CONFIG_READERS = 38
CONFIGURED_STREAMS = 5000
UNKNOWN_KEYS = 100_000


def configured_upstream(streams: int) -> dict[str, Any]:
    """Return an upstream without a server, so that its streams cost only their configuration."""
    keys = [{"application": "live", "key": f"key-{number}"} for number in range(streams)]
    url = "http://127.0.0.1:9"
    return {"name": "configured", "platform": "node_media_server", "url": url, "auth": {}, "streams": keys}


def test_thousands_of_signals_cause_one_running_and_one_pending_reload(tmp_path: Path) -> None:
    with AttackRun("sighup", tmp_path, [configured_upstream(1000)]) as run:
        with run.under_attack(10.0):
            began = time.monotonic()
            for number in range(SIGNALS):
                run.exporter.send(signal.SIGHUP)
                time.sleep(max(0.0, began + number * 10.0 / SIGNALS - time.monotonic()))
        run.write_config(retired=["last"])
        run.exporter.send(signal.SIGHUP)
        wait_until(lambda: "retired" in run.exporter.ask("/config")[1], "the last configuration is in force")
        time.sleep(3.0)
        # a queue of all signals would take minutes; one reload may have been pending
        reloads = run.exporter.said.count("configuration reloaded")
        time.sleep(3.0)
        assert run.exporter.said.count("configuration reloaded") - reloads <= 1


def test_configuration_page_with_thousands_of_streams_delays_nothing(tmp_path: Path) -> None:
    with AttackRun("config_page", tmp_path, [configured_upstream(CONFIGURED_STREAMS)]) as run:
        is_over = threading.Event()

        def read_repeatedly() -> set[int]:
            statuses = set()
            while not is_over.is_set():
                status, text = run.exporter.ask("/config")
                assert f"key-{CONFIGURED_STREAMS - 1}" in text or status == 503
                statuses.add(status)
            return statuses

        with ThreadPoolExecutor(CONFIG_READERS) as pool:
            with run.under_attack():
                readers = [pool.submit(read_repeatedly) for _ in range(CONFIG_READERS)]
                time.sleep(8.0)
                is_over.set()
            assert set().union(*(reader.result() for reader in readers)) == {200}


def test_page_of_another_site_cannot_reload(tmp_path: Path) -> None:
    with AttackRun("cross_site", tmp_path, arguments=["--web.enable-lifecycle"]) as run:
        with run.under_attack():
            for headers in (
                {"Origin": "http://attacker.example"},
                {"Origin": "null"},
                {"Sec-Fetch-Site": "cross-site"},
                {"Origin": "http://attacker.example", "Host": "attacker.example", "Sec-Fetch-Site": "same-site"},
                {"Origin": f"http://127.0.0.1:{run.exporter.port}", "Host": "attacker.example"},
            ):
                assert run.exporter.ask("/-/reload", "POST", headers)[0] == 403
            assert "configuration reloaded" not in run.exporter.said
        assert run.exporter.ask("/-/reload", "POST")[0] == 200


def test_reload_with_many_unknown_keys_logs_the_first_ones_and_their_number(tmp_path: Path) -> None:
    with AttackRun("unknown_keys", tmp_path) as run:
        with run.under_attack(12.0):
            with (tmp_path / "config.yaml").open("a") as file:
                file.writelines(f"unknown_{number}: 1\n" for number in range(UNKNOWN_KEYS))
            run.exporter.send(signal.SIGHUP)
            line = run.exporter.wait_for("configuration not reloaded.*").group()
        assert line.count("unknown key;") == 50
        assert f"{UNKNOWN_KEYS - 50} more errors" in line
