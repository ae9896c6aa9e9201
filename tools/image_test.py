"""Build and run the container image without a Docker engine or registry: ``make image-test``.

buildah builds it on substitutes for the base images (``image_bases.py``); podman runs it hardened: read-only, without
capabilities, and with little memory. This needs root and takes a few minutes. Images are cached in ``.cache/image``;
``make clean`` removes them.
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
"""The substituted base images, without the digests in the Dockerfile."""
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
MAX_BYTES = 120_000_000
STORE = ("--root", str(CACHE / "store"), "--runroot", str(CACHE / "run"), "--storage-driver", "vfs")
PODMAN = ("podman", *STORE, "--cgroup-manager", "cgroupfs", "--runtime", "runc")
HARDENED = (
    *("--network=host", "--read-only", "--read-only-tmpfs=false", "--cap-drop=ALL", "--security-opt=no-new-privileges"),
    *("--memory=256m", "--pids-limit=64", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"),
)
CONFIGURATION = """\
upstreams:
  - {name: origin, platform: node_media_server, url: "http://127.0.0.1:1", interval: 5s}
"""
WAIT_SECONDS = 60.0


def main() -> int:
    """Build and test the image; return 1 if requirements are missing. Raises ``AssertionError`` if a test fails."""
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
    """Build the image; pip trusts this machine's certificate authorities."""
    bases = (f"--build-arg=BUILD_IMAGE={BUILD_BASE}", f"--build-arg=RUNTIME_IMAGE={RUNTIME_BASE}")
    arguments = (*bases, f"--build-arg=VERSION={__version__}", f"--build-arg=REVISION={revision()}")
    trust = (f"--volume={CERTIFICATES}:{CERTIFICATES}:ro",) if CERTIFICATES.exists() else ()
    options = ("--isolation=chroot", "--pull-never", "--format=docker", "--quiet", *trust, *arguments)
    run("buildah", *STORE, "bud", *options, f"--tag={IMAGE}", str(CHECKOUT))
    # Remove the previous image, which is now untagged.
    podman("image", "prune", "--force")


def inspect() -> None:
    """Check the image's size, user, labels, port and health check."""
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
    assert unpacked < MAX_BYTES, f"image is larger than {MAX_BYTES / 1e6:.0f} MB"
    assert config["User"] == f"{NONROOT}:{NONROOT}", config["User"]
    assert labels["org.opencontainers.image.version"] == __version__, labels
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0", labels
    assert "exporter.healthcheck" in image["Healthcheck"]["Test"], image["Healthcheck"]
    assert list(config["ExposedPorts"]) == ["10071/tcp"], config["ExposedPorts"]
    print("user, labels, port and health check: ok")


def try_exporter(folder: Path) -> None:
    """Run with a configuration: test scrape, health check, privileges, reload and stop."""
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
        print(f"scrape, health check and privileges: ok; {int(status['VmRSS'].split()[0]) / 1e3:.0f} MB of RAM")
        os.kill(int(process), signal.SIGHUP)
        wait_until(lambda: "configuration reloaded" in logs(name), "reload was not logged")
        began = time.monotonic()
        podman("stop", "--time=10", name)
        code = podman("inspect", "--format={{.State.ExitCode}}", name).strip()
        assert code == "0", f"exit code {code}:\n{logs(name)}"
        print(f"reload on SIGHUP, stop on SIGTERM: ok, exit code 0 after {time.monotonic() - began:.1f} s")


def try_demo() -> None:
    """Run the demo, which needs a writable directory."""
    port = free_port()
    arguments = ("demo", f"--web.listen-address=127.0.0.1:{port}", "--output-dir=/tmp/demo", "--log.level=info")
    with running(*arguments, options=("--tmpfs=/tmp",)) as name:
        wait_until(lambda: "stream_live{" in fetch(port, "/metrics"), "no live stream in the demo")
        assert "<title>" in fetch(port, "/")
        podman("healthcheck", "run", name)
    print("demo and its page: ok")


def try_without_shell() -> None:
    """Check that the image has no shell and no package managers."""
    for program in ("/bin/sh", "/usr/bin/apt-get", "/usr/bin/pip"):
        assert not succeeds("run", "--rm", *HARDENED, f"--entrypoint={program}", IMAGE), f"{program} is in the image"
    version = podman("run", "--rm", *HARDENED, IMAGE, "--version")
    assert version.startswith(f"stream-exporter {__version__} (revision {revision()}, Python 3.13."), version
    print("no shell, no package manager: ok")


@contextmanager
def running(*arguments: str, options: tuple[str, ...]) -> Iterator[str]:
    """Run a container; yield its name once the exporter is listening."""
    name = f"stream-exporter-test-{os.getpid()}"
    podman("run", "--detach", f"--name={name}", *HARDENED, *options, IMAGE, *arguments)
    try:
        wait_until(lambda: "listening" in logs(name) or not is_running(name), "exporter is not listening")
        assert is_running(name), f"container has stopped:\n{logs(name)}"
        yield name
    finally:
        podman("rm", "--force", name)


def wait_until(condition: Callable[[], bool], failure: str) -> None:
    """Wait until a condition is true. Raises ``AssertionError`` after a timeout."""
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < end, failure
        time.sleep(0.2)


def fetch(port: int, path: str) -> str:
    """Return the response body, and retry until there is a response."""
    for _ in range(int(WAIT_SECONDS)):
        try:
            with urlopen(f"http://127.0.0.1:{port}{path}", timeout=WAIT_SECONDS) as answer:
                return str(answer.read().decode())
        except URLError:
            time.sleep(0.2)
    raise AssertionError(f"no response from {path}")


def free_port() -> int:
    """Return an unused port of the loopback interface."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def revision() -> str:
    """Return the commit of the checkout."""
    return run("git", "-C", str(CHECKOUT), "rev-parse", "HEAD").strip()


def is_running(name: str) -> bool:
    """Return whether the container is running."""
    return podman("inspect", "--format={{.State.Running}}", name).strip() == "true"


def logs(name: str) -> str:
    """Return the container's logs."""
    done = subprocess.run([*PODMAN, "logs", name], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def podman(*arguments: str) -> str:
    """Run podman and return its output."""
    return run(*PODMAN, *arguments)


def succeeds(*arguments: str) -> bool:
    """Return whether a podman command succeeds."""
    return subprocess.run([*PODMAN, *arguments], capture_output=True, check=False).returncode == 0


def run(*command: str) -> str:
    """Run a command and return its output. Show stderr only on failure, because podman warns without systemd."""
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
