"""Substitutes for the Dockerfile's two base images, for machines without access to a registry.

They consist of the same Debian packages as the real images: debootstrap creates the build image, and the runtime image
has the files of a few of its packages, without a shell or package manager.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

SUITE = "trixie"
PYTHON = "python3.13"
NONROOT = 65532
BUILD_PACKAGES = (
    *("ca-certificates", "libgomp1", "libstdc++6", "media-types", "netbase"),
    *("python3", "python3-venv", "tzdata"),
)
RUNTIME_PACKAGES = (
    *("base-files", "media-types", "netbase", "tzdata"),
    *("libc6", "libgcc-s1", "libgomp1", "libstdc++6", "gcc-14-base", "zlib1g", "libzstd1", "libssl3t64"),
    *("libbz2-1.0", "libexpat1", "libffi8", "liblzma5", "libncursesw6", "libtinfo6", "libreadline8t64"),
    *("libsqlite3-0", "libuuid1", f"lib{PYTHON}-minimal", f"lib{PYTHON}-stdlib", f"{PYTHON}-minimal"),
)
"""Packages in the distroless Python image."""
_INSTALL_RESULTS = ("etc/ssl/certs/ca-certificates.crt", "etc/ld.so.cache")
_LEFT_OUT = ("usr/share/doc/", "usr/share/man/", "usr/share/lintian/", "usr/share/locale/", "var/lib/dpkg/")
_USERS = f"root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:{NONROOT}:{NONROOT}:nonroot:/home/nonroot:/sbin/nologin\n"
_GROUPS = f"root:x:0:\nnonroot:x:{NONROOT}:\n"


def debian(folder: Path) -> Path:
    """Return the root of a Debian system with Python; creating it takes a minute and 300 MB."""
    root = folder / SUITE
    if not root.exists():
        partial = root.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        include = f"--include={','.join(BUILD_PACKAGES)}"
        command = ["debootstrap", "--variant=minbase", include, SUITE, str(partial)]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        partial.rename(root)
    return root


def build_archive(root: Path, archive: Path) -> None:
    """Write the build image: the whole system."""
    subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True)


def runtime_archive(root: Path, archive: Path) -> None:
    """Write the runtime image."""
    with tarfile.open(archive, "w") as tar:
        for name in sorted(_runtime_files(root)):
            tar.add(root / name, name, recursive=False)
        _add(tar, "etc/passwd", tarfile.REGTYPE, _USERS)
        _add(tar, "etc/group", tarfile.REGTYPE, _GROUPS)
        _add(tar, "usr/bin/python3", tarfile.SYMTYPE, PYTHON)
        _add(tar, "home/nonroot", tarfile.DIRTYPE, mode=0o700, owner=NONROOT)


def _add(tar: tarfile.TarFile, name: str, kind: bytes, content: str = "", *, mode: int = 0o644, owner: int = 0) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.uid, entry.gid = kind, mode, owner, owner
    if kind == tarfile.SYMTYPE:
        entry.linkname = content
    elif kind == tarfile.REGTYPE:
        entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content.encode()))


def _runtime_files(root: Path) -> set[str]:
    command = ["chroot", str(root), "dpkg-query", "--listfiles", *RUNTIME_PACKAGES]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    names = {line.removeprefix("/") for line in listed if line.startswith("/") and line != "/."}
    # /lib and the like are symbolic links, which no package lists.
    names |= {"bin", "lib", "lib64", "sbin", *_INSTALL_RESULTS}
    return {name for name in names if not name.startswith(_LEFT_OUT) and (root / name).exists()}
