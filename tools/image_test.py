"""Builds the container image and runs it, without a Docker engine and without a registry: ``make image-test``.

buildah builds it on stand-ins for its base images (``image_bases.py``), podman runs it as a careful administrator
would: read-only, without capabilities, with little memory. Needs root and a few minutes. What it makes stays in
``.cache/image``; ``make clean`` removes it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from exporter import __version__
from tools.image_bases import NONROOT, build_archive, debian, runtime_archive

CHECKOUT = Path(__file__).resolve().parent.parent
CACHE = CHECKOUT / ".cache" / "image"
PROGRAMS = ("buildah", "podman", "runc", "debootstrap")
IMAGE = "localhost/stream-exporter:test"
BUILD_BASE, RUNTIME_BASE = "docker.io/library/python:3.13-slim-trixie", "gcr.io/distroless/python3-debian13:nonroot"
BASES = {BUILD_BASE: build_archive, RUNTIME_BASE: runtime_archive}
"""The stand-ins, without the digests that the Dockerfile names."""
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
MOST_BYTES = 120_000_000
STORE = ("--root", str(CACHE / "store"), "--runroot", str(CACHE / "run"), "--storage-driver", "vfs")
PODMAN = ("podman", *STORE, "--cgroup-manager", "cgroupfs", "--runtime", "runc")
CAREFUL = (
    *("--network=host", "--read-only", "--read-only-tmpfs=false", "--cap-drop=ALL", "--security-opt=no-new-privileges"),
    *("--memory=256m", "--pids-limit=64", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"),
)
CONFIGURATION = """\
upstreams:
  - {name: origin, platform: node_media_server, url: "http://127.0.0.1:1", interval: 5s}
"""
WAIT_SECONDS = 60.0


def main() -> int:
    """Build and try; 1 when the machine can't, an ``AssertionError`` when the image isn't what it should be."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing or os.geteuid() != 0:
        print(f"image-test needs root and {', '.join(PROGRAMS)}", file=sys.stderr)
        print(
            f"not found: {', '.join(missing) or 'root'} (Debian: apt-get install {' '.join(PROGRAMS)})", file=sys.stderr
        )
        return 1
    CACHE.mkdir(parents=True, exist_ok=True)
    for name, write in BASES.items():
        if not succeeds("image", "exists", name):
            archive = CACHE / "base.tar"
            write(debian(CACHE), archive)
            podman("import", "--quiet", str(archive), name)
            archive.unlink()
    build()
    inspect()
    with tempfile.TemporaryDirectory() as folder:
        configuration = Path(folder) / "config.yaml"
        configuration.write_text(CONFIGURATION)
        Path(folder).chmod(0o755)
        try_exporter(Path(folder))
    try_demo()
    try_without_shell()
    return 0


def build() -> None:
    """As ``docker build`` would; pip trusts the authorities that this machine trusts."""
    bases = (f"--build-arg=BUILD_IMAGE={BUILD_BASE}", f"--build-arg=RUNTIME_IMAGE={RUNTIME_BASE}")
    arguments = (*bases, f"--build-arg=VERSION={__version__}", f"--build-arg=REVISION={revision()}")
    trust = (f"--volume={CERTIFICATES}:{CERTIFICATES}:ro",) if CERTIFICATES.exists() else ()
    options = ("--isolation=chroot", "--pull-never", "--format=docker", "--quiet", *trust, *arguments)
    run("buildah", *STORE, "bud", *options, f"--tag={IMAGE}", str(CHECKOUT))
    # the one of before, which has lost its name
    podman("image", "prune", "--force")


def inspect() -> None:
    """Size, user, labels, health check."""
    image = json.loads(podman("image", "inspect", IMAGE))[0]
    config = image["Config"]
    labels = config["Labels"]
    archive = CACHE / "image.tar"
    archive.unlink(missing_ok=True)
    podman("save", "--quiet", f"--output={archive}", IMAGE)
    unpacked = archive.stat().st_size
    packed = len(subprocess.run(["gzip", "-6", "-c", archive], capture_output=True, check=True).stdout)
    archive.unlink()
    print(f"size: {unpacked / 1e6:.0f} MB, {packed / 1e6:.0f} MB to download")
    assert unpacked < MOST_BYTES, f"more than {MOST_BYTES / 1e6:.0f} MB"
    assert config["User"] == f"{NONROOT}:{NONROOT}", config["User"]
    assert labels["org.opencontainers.image.version"] == __version__, labels
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0", labels
    assert "exporter.healthcheck" in image["Healthcheck"]["Test"], image["Healthcheck"]
    assert list(config["ExposedPorts"]) == ["10071/tcp"], config["ExposedPorts"]
    print("user, labels, port and health check: as they should be")


def try_exporter(folder: Path) -> None:
    """With a configuration, on another port than its own: scrape, health, privileges, reload, end."""
    port = free_port()
    mounts = (f"--volume={folder}:/etc/stream-exporter:ro",)
    with running(f"--web.listen-address=127.0.0.1:{port}", options=mounts) as name:
        assert fetch(port, "/-/healthy") == "healthy\n"
        metrics = fetch(port, "/metrics")
        (build_info,) = (line for line in metrics.splitlines() if line.startswith("stream_exporter_build_info{"))
        assert f'version="{__version__}",' in build_info, build_info
        assert f'revision="{revision()}"' in build_info, build_info
        assert "process_resident_memory_bytes" in metrics
        podman("healthcheck", "run", name)
        process = podman("inspect", "--format={{.State.Pid}}", name).strip()
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
        assert status["Uid"].split() == [str(NONROOT)] * 4, status["Uid"]
        assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0, status
        assert status["NoNewPrivs"].strip() == "1", status
        print(
            f"scrape, health, no privileges: as they should be; {int(status['VmRSS'].split()[0]) / 1e3:.0f} MB of RAM"
        )
        os.kill(int(process), signal.SIGHUP)
        wait_until(lambda: "configuration reloaded" in logs(name), "no word of the reload")
        began = time.monotonic()
        podman("stop", "--time=10", name)
        code = podman("inspect", "--format={{.State.ExitCode}}", name).strip()
        assert code == "0", f"exit code {code}:\n{logs(name)}"
        print(f"SIGHUP reloads, SIGTERM ends: exit code 0 after {time.monotonic() - began:.1f} s")


def try_demo() -> None:
    """The demo needs one place to write to."""
    port = free_port()
    arguments = ("demo", f"--web.listen-address=127.0.0.1:{port}", "--output-dir=/tmp/demo", "--log.level=info")
    with running(*arguments, options=("--tmpfs=/tmp",)) as name:
        wait_until(lambda: "stream_live{" in fetch(port, "/metrics"), "no stream in the demo")
        assert "<title>" in fetch(port, "/")
        podman("healthcheck", "run", name)
    print("the demo runs, its page too")


def try_without_shell() -> None:
    """Nothing in it to run but Python."""
    for program in ("/bin/sh", "/usr/bin/apt-get", "/usr/bin/pip"):
        assert not succeeds("run", "--rm", *CAREFUL, f"--entrypoint={program}", IMAGE), f"{program} is in the image"
    version = podman("run", "--rm", *CAREFUL, IMAGE, "--version")
    assert version.startswith(f"stream-exporter {__version__} (revision {revision()}, Python 3.13."), version
    print("no shell, no package manager")


@contextmanager
def running(*arguments: str, options: tuple[str, ...]) -> Iterator[str]:
    """The name of a container that listens."""
    name = f"stream-exporter-test-{os.getpid()}"
    podman("run", "--detach", f"--name={name}", *CAREFUL, *options, IMAGE, *arguments)
    try:
        wait_until(lambda: "listening" in logs(name) or not is_running(name), "it does not listen")
        assert is_running(name), f"it has ended:\n{logs(name)}"
        yield name
    finally:
        podman("rm", "--force", name)


def wait_until(holds: Callable[[], bool], complaint: str) -> None:
    """Until it does, or an ``AssertionError``."""
    end = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < end, complaint
        time.sleep(0.2)


def fetch(port: int, path: str) -> str:
    """The answer, once there is one."""
    for _ in range(int(WAIT_SECONDS)):
        try:
            with urlopen(f"http://127.0.0.1:{port}{path}", timeout=WAIT_SECONDS) as answer:
                return str(answer.read().decode())
        except URLError:
            time.sleep(0.2)
    raise AssertionError(f"no answer from {path}")


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def revision() -> str:
    """The commit that is built."""
    return run("git", "-C", str(CHECKOUT), "rev-parse", "HEAD").strip()


def is_running(name: str) -> bool:
    """Whether the container is."""
    return podman("inspect", "--format={{.State.Running}}", name).strip() == "true"


def logs(name: str) -> str:
    """What the container has said."""
    done = subprocess.run([*PODMAN, "logs", name], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def podman(*arguments: str) -> str:
    """What the command prints."""
    return run(*PODMAN, *arguments)


def succeeds(*arguments: str) -> bool:
    """Whether podman says so."""
    return subprocess.run([*PODMAN, *arguments], capture_output=True, check=False).returncode == 0


def run(*command: str) -> str:
    """What the command prints. What it complains about is told when it fails: without systemd podman always does."""
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
