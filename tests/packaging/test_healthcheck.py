"""The check that a container's health comes from, against a running exporter."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest
import trustme

from exporter.cli import healthcheck
from tests.exporter_process import exporter
from tests.web.secure_server import bcrypt_hash, write_certificate

CONFIGURATION = "upstreams: [{name: origin, platform: node_media_server, url: 'http://127.0.0.1:1'}]\n"
USERS = f"basic_auth_users: {{prometheus: '{bcrypt_hash('a-password')}'}}\n"
TLS = "tls_server_config: {cert_file: server.pem, key_file: server.key}\n"


def check(folder: Path, *arguments: str) -> int:
    """The exit code where process 1 was started so, by an init as ``docker run --init`` has one."""
    command_line = folder / "cmdline"
    words = ("/sbin/docker-init", "--", "/usr/bin/python3", "-m", "exporter", *arguments)
    command_line.write_bytes(b"".join(word.encode() + b"\0" for word in words))
    return healthcheck.main(command_line)


@pytest.mark.parametrize("web_config", [None, USERS, TLS], ids=["plain", "users", "TLS"])
def test_a_running_exporter_is_healthy_wherever_it_listens(web_config: str | None, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(CONFIGURATION)
    write_certificate(tmp_path, trustme.CA(), "the-name-for-others.example")
    flags: tuple[str, ...] = ()
    if web_config is not None:
        (tmp_path / "web.yml").write_text(web_config)
        flags = ("--web.config.file", str(tmp_path / "web.yml"))
    with exporter(*flags, directory=tmp_path) as running:
        for address in (f"127.0.0.1:{running.port}", f"0.0.0.0:{running.port}"):
            assert check(tmp_path, "--log.level=warn", "--web.listen-address", address, *flags) == 0
        assert check(tmp_path, f"--web.listen-address=:{running.port}", "--web.listen-address=:1", *flags) == 0


def test_nobody_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert check(tmp_path, f"--web.listen-address=:{port}") == 1
    assert capsys.readouterr().out == "unhealthy: ConnectionRefusedError\n"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "unhealthy: status 503\n"),
        (b"", "unhealthy: RemoteDisconnected\n"),
        (b"SSH-2.0-OpenSSH\r\n", "unhealthy: BadStatusLine\n"),
    ],
)
def test_an_answer_that_is_none(answer: bytes, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(answer)

        thread = Thread(target=serve)
        thread.start()
        assert check(tmp_path, f"--web.listen-address=127.0.0.1:{server.getsockname()[1]}") == 1
        thread.join()
    assert capsys.readouterr().out == said


def test_a_web_configuration_that_can_t_be_read(tmp_path: Path) -> None:
    assert check(tmp_path, f"--web.config.file={tmp_path / 'missing.yml'}") == 1
    (tmp_path / "web.yml").write_text("a: [")
    assert check(tmp_path, f"--web.config.file={tmp_path / 'web.yml'}") == 1


def test_it_runs_as_a_module() -> None:
    """Here process 1 is no exporter: it is looked for at the usual port, and may even be there."""
    done = subprocess.run([sys.executable, "-m", "exporter.healthcheck"], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.startswith("healthy\n" if done.returncode == 0 else "unhealthy: ")
