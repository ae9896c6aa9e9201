"""Fake Slack, PagerDuty and mail server that record everything they receive."""

from __future__ import annotations

import email.policy
import json
import socketserver
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


@dataclass
class Receivers:
    """Everything that Alertmanager sent, in order of arrival."""

    http_url: str = ""
    smtp_address: str = ""
    posts: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Path and decoded JSON."""
    mails: list[EmailMessage] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    """The RCPT commands of the mails."""

    def posted(self, path: str) -> list[dict[str, Any]]:
        return [body for at, body in self.posts if at == path]


@contextmanager
def running_receivers() -> Iterator[Receivers]:
    receivers = Receivers()
    with (
        _serving(ThreadingHTTPServer(("127.0.0.1", 0), _web_handler(receivers))) as web_address,
        _serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), _mail_handler(receivers))) as smtp_address,
    ):
        receivers.http_url = f"http://{web_address}"
        receivers.smtp_address = smtp_address
        yield receivers


@contextmanager
def _serving(server: socketserver.TCPServer) -> Iterator[str]:
    with server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def _web_handler(receivers: Receivers) -> type[BaseHTTPRequestHandler]:
    class WebHandler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            receivers.posts.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *args: object) -> None:
            """Log nothing."""

    return WebHandler


def _mail_handler(receivers: Receivers) -> type[socketserver.StreamRequestHandler]:
    class MailHandler(socketserver.StreamRequestHandler):
        """SMTP without extensions; the standard library has no SMTP server since Python 3.12."""

        def handle(self) -> None:
            self.reply(b"220 ready")
            while command := self.rfile.readline().strip():
                verb = command[:4].upper()
                if verb == b"RCPT":
                    receivers.recipients.append(command.decode())
                if verb == b"DATA":
                    self.reply(b"354 go on")
                    content = self.read_mail()
                    receivers.mails.append(email.message_from_bytes(content, policy=email.policy.default))
                self.reply(b"221 bye" if verb == b"QUIT" else b"250 ok")

        def read_mail(self) -> bytes:
            return b"".join(line.removeprefix(b".") for line in iter(self.rfile.readline, b".\r\n"))

        def reply(self, line: bytes) -> None:
            self.wfile.write(line + b"\r\n")

    return MailHandler
