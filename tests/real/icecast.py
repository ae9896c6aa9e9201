"""Icecast 2.4, ffmpeg as its encoder, and listeners."""

from __future__ import annotations

import base64
import os
import re
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode
from urllib.request import Request, urlopen
from xml.sax.saxutils import escape

from tests.real.child_process import GENEROUS_SECONDS, Program, responds, running_server, wait_until
from tests.real.tools import tool

USERNAME = "admin"
PASSWORD = "correct horse battery"
SOURCE_PASSWORD = "source-password-for-tests"
BITS_PER_SECOND = 128_000
_SERVER_USER, _SERVER_GROUP = "nobody", "nogroup"
"""Icecast refuses to run as root, so the tests make it change to these."""
_CONFIGURATION = """\
<icecast>
  <location>test</location>
  <admin>admin@localhost</admin>
  <limits><clients>100</clients><sources>20</sources><source-timeout>{source_timeout}</source-timeout></limits>
  <authentication>
    <source-password>{source_password}</source-password>
    <relay-password>{source_password}</relay-password>
    <admin-user>{username}</admin-user>
    <admin-password>{password}</admin-password>
  </authentication>
  <hostname>localhost</hostname>
  <listen-socket><port>{port}</port><bind-address>127.0.0.1</bind-address></listen-socket>
  {mounts}
  {extra}
  <fileserve>1</fileserve>
  <paths>
    <basedir>{home}</basedir><logdir>{home}</logdir><webroot>{home}/web</webroot><adminroot>{home}/admin</adminroot>
  </paths>
  <logging><accesslog>access.log</accesslog><errorlog>-</errorlog><loglevel>3</loglevel></logging>
  <security><chroot>0</chroot>{owner}</security>
</icecast>
"""
_FORMATS: Mapping[str, list[str]] = {
    "mp3": ["-c:a", "libmp3lame", "-f", "mp3", "-content_type", "audio/mpeg"],
    "aac": ["-c:a", "aac", "-f", "adts", "-content_type", "audio/aac"],
    "opus": ["-c:a", "libopus", "-f", "ogg", "-content_type", "application/ogg"],
    "vorbis": ["-c:a", "libvorbis", "-f", "ogg", "-content_type", "application/ogg"],
}


class Encoder(Program):
    """ffmpeg, sending a tone with a constant bitrate to a mount."""

    def __init__(self, url: str, directory: Path, *, name: str, options: list[str], bits_per_second: int) -> None:
        self._progress = directory / f"{name}.progress"
        quiet = ["-hide_banner", "-loglevel", "error", "-nostdin", "-progress", str(self._progress)]
        tone = ["-stats_period", "0.2", "-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"]
        sound = ["-ac", "2", "-b:a", str(bits_per_second), "-t", "86400"]
        super().__init__([tool("ffmpeg"), *quiet, *tone, *sound, *options, url], directory, name=f"ffmpeg-{name}")

    @property
    def bytes_sent(self) -> int:
        """Return the bytes that ffmpeg has sent, at most a quarter of a second old."""
        sizes = re.findall(r"total_size=(\d+)", self._progress.read_text()) if self._progress.exists() else []
        return int(sizes[-1]) if sizes else 0

    def freeze(self) -> None:
        """Stay connected but send no data, like an encoder that hangs."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)


class Listener:
    """A player that discards what it reads."""

    def __init__(self, port: int, mount: str) -> None:
        self.received = 0
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=GENEROUS_SECONDS)
        self._socket.sendall(f"GET {mount} HTTP/1.0\r\nUser-Agent: test\r\n\r\n".encode())
        status = self._socket.makefile("rb", buffering=0).readline().split()
        assert status[1:2] == [b"200"], status
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with suppress(OSError):
            while part := self._socket.recv(65536):
                self.received += len(part)

    @property
    def is_connected(self) -> bool:
        """Whether the server has not ended the connection."""
        return self._reader.is_alive()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join(GENEROUS_SECONDS)
        self._socket.close()


class Icecast:
    """A server, its admin requests (with USERNAME and PASSWORD), and where to publish and to listen."""

    def __init__(self, program: Program, home: Path, directory: Path, port: int) -> None:
        self.program = program
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._home = home
        self._directory = directory
        self._encoders = 0

    def publish(
        self,
        mount: str,
        *,
        bits_per_second: int = BITS_PER_SECOND,
        form: str = "mp3",
        password: str = SOURCE_PASSWORD,
        name: str = "Test Radio",
    ) -> Encoder:
        """Send a tone to a mount (``/live.mp3``) until the end of the block. ``form``: a key of ``_FORMATS``."""
        self._encoders += 1
        options = [*_FORMATS[form], "-ice_name", name, "-ice_genre", "test", "-legacy_icecast", "0"]
        return Encoder(
            f"icecast://source:{password}@127.0.0.1:{self.port}{mount}",
            self._directory,
            name=f"{mount.strip('/').replace('/', '-')}-{self._encoders}",
            options=options,
            bits_per_second=bits_per_second,
        )

    def listen(self, mount: str) -> Listener:
        """Listen to a mount until the end of the block."""
        return Listener(self.port, mount)

    def set_title(self, mount: str, title: str) -> None:
        """Set the title of a source, as an encoder does with every song."""
        self.admin("metadata", mount=mount, mode="updinfo", song=title, charset="UTF-8")

    def admin(self, command: str, **parameters: str) -> str:
        """Return the response to an admin request, such as ``stats``."""
        request = Request(f"{self.url}/admin/{command}?{urlencode(parameters)}")
        credentials = base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
        request.add_header("Authorization", f"Basic {credentials}")
        with urlopen(request, timeout=GENEROUS_SECONDS) as answer:
            return str(answer.read().decode())

    def status_json(self) -> str:
        """Return the public statistics, which may be invalid JSON."""
        with urlopen(f"{self.url}/status-json.xsl", timeout=GENEROUS_SECONDS) as answer:
            return str(answer.read().decode())

    def stop(self) -> None:
        """Kill the server."""
        self.program.kill()

    def start(self) -> None:
        """Start the server again on the same port."""
        self.program = _start(self._home, self._directory)
        wait_until(lambda: responds(f"{self.url}/status-json.xsl"), "Icecast is ready again")

    def restart(self) -> None:
        """Kill the server, and start it again on the same port."""
        self.stop()
        self.start()


@contextmanager
def running_icecast(
    directory: Path,
    *,
    source_timeout: int = 10,
    fallback: Mapping[str, str] | None = None,
    hidden: Collection[str] = (),
    extra: str = "",
    files: Mapping[str, bytes] | None = None,
) -> Iterator[Icecast]:
    """Run a server.

    ``source_timeout``: seconds without data after which it disconnects a source. ``fallback``: fallback mount by mount;
    listeners return when the mount's source does. ``hidden``: mounts that the public statistics leave out. ``extra``:
    further XML of the configuration. ``files``: contents of files to add to the folder of the web pages, by name.
    """
    is_root = os.geteuid() == 0
    with tempfile.TemporaryDirectory(prefix="icecast-") as folder:
        # not below pytest's folders, which only root may enter
        home = Path(folder)
        _copy_pages(home)
        for name, content in (files or {}).items():
            (home / "web" / name).write_bytes(content)
        if is_root:
            home.chmod(0o755)
            for path in (home, *home.rglob("*")):
                shutil.chown(path, _SERVER_USER, _SERVER_GROUP)

        def start(port: int) -> Program:
            values: dict[str, Any] = {
                "source_timeout": source_timeout,
                "source_password": SOURCE_PASSWORD,
                "username": USERNAME,
                "password": PASSWORD,
                "port": port,
                "mounts": _mounts(fallback or {}, hidden),
                "extra": extra,
                "home": home,
                "owner": _owner() if is_root else "",
            }
            (home / "icecast.xml").write_text(_CONFIGURATION.format(**values))
            return _start(home, directory)

        with running_server(start, lambda port: responds(f"http://127.0.0.1:{port}/status-json.xsl")) as (
            program,
            port,
        ):
            server = Icecast(program, home, directory, port)
            try:
                yield server
            finally:
                server.stop()


def _start(home: Path, directory: Path) -> Program:
    return Program([tool("icecast"), "-c", home / "icecast.xml"], directory, name="icecast")


def _owner() -> str:
    return f"<changeowner><user>{_SERVER_USER}</user><group>{_SERVER_GROUP}</group></changeowner>"


def _mounts(fallback: Mapping[str, str], hidden: Collection[str]) -> str:
    mounts = []
    for mount in sorted({*fallback, *hidden}):
        parts = [f"<mount-name>{escape(mount)}</mount-name>"]
        if mount in fallback:
            parts.append(f"<fallback-mount>{escape(fallback[mount])}</fallback-mount>")
            parts.append("<fallback-override>1</fallback-override>")
        if mount in hidden:
            parts.append("<hidden>1</hidden>")
        mounts.append(f'<mount type="normal">{"".join(parts)}</mount>')
    return "".join(mounts)


def _copy_pages(home: Path) -> None:
    """Copy the files of the web pages, whose links into /etc are broken while the package is only unpacked."""
    package = tool("icecast-files")
    unpacked = package.parents[2] / "etc" / "icecast2"
    for folder in ("web", "admin"):
        (home / folder).mkdir()
        for file in (package / folder).iterdir():
            source = file if file.exists() else unpacked / folder / file.name
            shutil.copyfile(source, home / folder / file.name)
