"""Name servers that do not respond."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.attacks.attack_run import AttackRun
from tests.real.child_process import wait_until

UPSTREAMS = 12
SECONDS = 14.0
"""Longer than addresses are cached, so that the healthy upstream's host is looked up as well."""
WITH_HANGING_LOOKUPS = """
import socket, sys, threading
from exporter.cli import main
system = socket.getaddrinfo
def resolve(host, *arguments, **options):
    if str(host).endswith(".invalid"):
        threading.Event().wait()
    return system(host, *arguments, **options)
socket.getaddrinfo = resolve
sys.exit(main())
"""
"""The exporter, with a resolver that hangs for names below ``.invalid``."""
WITH_RESOLV_CONF = """
import os, sys
mount = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
exporter = [sys.executable, "-m", "exporter", *sys.argv[1:]]
os.execvp("unshare", ["unshare", "--mount", "sh", "-c", mount, "RESOLV_CONF", *exporter])
"""
"""The exporter, with another ``/etc/resolv.conf``."""
NAME_SERVER = "127.53.53.53"


def attack(program: Sequence[str], folder: Path) -> None:
    """Add the upstreams and an Alertmanager; everything else must continue, and the process must stop on SIGTERM."""
    state_file = folder / "alerts.json"
    dead = [
        {"name": f"dead-{number}", "platform": "node_media_server", "url": f"http://dead-{number}.invalid", "auth": {}}
        for number in range(UPSTREAMS)
    ]
    alerting = {
        "alertmanagers": [{"url": "http://alertmanager.invalid:9093", "resolve_dns": True}],
        "state_file": str(state_file),
        "thresholds": {"StreamUpstreamDown": {"for": "1s"}},
    }
    with AttackRun("dns", folder, healthy_host="localhost", program=program) as run:
        with run.under_attack(SECONDS):
            run.upstreams, run.settings = dead, {"alerting": alerting}
            run.write_config()
            run.exporter.send(signal.SIGHUP)
            wait_until(lambda: "dead-0.invalid" in run.exporter.ask("/config")[1], "the configuration is in force")
            wait_until(lambda: state_file.exists() and b"dead-0" in state_file.read_bytes(), "alerts are saved")
            run.write_config(retired=["other"])
            run.exporter.send(signal.SIGHUP)
            wait_until(lambda: "retired" in run.exporter.ask("/config")[1], "the next configuration is in force")
        assert (
            'stream_upstream_up{platform="node_media_server",upstream="healthy"} 1' in run.exporter.ask("/metrics")[1]
        )
        run.exporter.send(signal.SIGTERM)
        assert run.exporter.ended() == 0


def test_hanging_lookups_delay_nothing_else(tmp_path: Path) -> None:
    attack(("-c", WITH_HANGING_LOOKUPS), tmp_path)


@contextmanager
def silent_name_server() -> Iterator[threading.Event]:
    """A name server that reads every question and never responds; the event is set after the first one."""
    is_asked, is_over = threading.Event(), threading.Event()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((NAME_SERVER, 53))
        server.settimeout(0.1)

        def read() -> None:
            while not is_over.is_set():
                try:
                    server.recv(1024)
                except TimeoutError:
                    continue
                is_asked.set()

        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield is_asked
        finally:
            is_over.set()
            reader.join()


def may_mount() -> bool:
    """Return whether this process may mount file systems."""
    unshare = shutil.which("unshare")
    return (
        os.geteuid() == 0
        and unshare is not None
        and subprocess.run([unshare, "--mount", "true"], check=False, capture_output=True).returncode == 0
    )


def test_silent_name_server_delays_nothing_else(tmp_path: Path) -> None:
    if not (sys.platform == "linux" and may_mount()):
        pytest.skip("needs root, for another /etc/resolv.conf and port 53")
    resolv_conf = tmp_path / "resolv.conf"
    resolv_conf.write_text(f"nameserver {NAME_SERVER}\n")
    with silent_name_server() as is_asked:
        attack(("-c", WITH_RESOLV_CONF.replace("RESOLV_CONF", str(resolv_conf))), tmp_path)
        if not is_asked.is_set():
            pytest.skip("host names are not looked up by DNS on this machine")
