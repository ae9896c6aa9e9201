"""What to do about an upstream that fails: one piece of advice per reason, for the person on call."""

from __future__ import annotations

from typing import Final

from exporter.model import Reason

ADVICE: Final[dict[Reason, str]] = {
    Reason.TIMEOUT: "The platform did not answer in time. Is its host overloaded, or the way to it slow? "
    "If it is only slow, raise `timeout` of this upstream.",
    Reason.CONNECT: "No connection came about. Check that the server runs, that name and port in `url` are right, "
    "and that no firewall stands between it and the exporter.",
    Reason.TLS: "The connection could not be secured. Has the certificate run out, or is it for another name? "
    "For a certificate authority of your own, set `tls.ca_file`.",
    Reason.AUTH: "The platform refused the credentials. Check the token or password file of this upstream: has the key "
    "run out or been replaced? A changed file is read at the next poll, without a restart.",
    Reason.FORBIDDEN: "The credentials are known, but may not read this. Give the key's account the right to read "
    "streams on the platform.",
    Reason.NOT_FOUND: "The platform answers, but there is nothing at this address. Check `url` (and `base_path`), and "
    "the ids that are configured.",
    Reason.RATE_LIMITED: "The platform asks for fewer requests, and the exporter waits as long as it says. "
    "Raise `interval`, and see whether something else uses the same key.",
    Reason.SERVER_ERROR: "The platform itself is in trouble (an answer of class 500). Look at its status page or its "
    "log; the exporter goes on trying.",
    Reason.BAD_RESPONSE: "The answer was not what the platform's API gives. Does a proxy or a maintenance page answer "
    "in its place? Has the server been updated?",
    Reason.TOO_LARGE: "The answer was larger than allowed. Raise `max_body_bytes`, or watch fewer streams "
    "(`include`, `exclude`).",
    Reason.INTERNAL: "The exporter stumbled over itself. Its log names the place; please report it.",
}
"""In the words of the configuration file, whose keys stand in backquotes."""
