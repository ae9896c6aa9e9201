"""URLs in the configuration."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

from exporter.config.secrets import Secret
from exporter.config.types import Described, Text
from exporter.config.validation import refuse, refuse_because


def http_url(text: str) -> str:
    """Return a base URL without trailing slashes. Refuses credentials, a query and a fragment."""
    check_http_url(text)
    if "?" in text or "#" in text:
        raise refuse("a URL without query and fragment")
    return text.rstrip("/")


def check_http_url(text: str) -> None:
    """Refuse anything but an HTTP URL without credentials."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or any(char.isspace() or char == "\\" for char in text):
        raise refuse("an http:// or https:// URL with a host")
    if parts.username is not None or parts.password is not None:
        raise refuse_because("the URL contains credentials; use auth instead")


HttpUrl = Annotated[Text, AfterValidator(http_url), Described("URL (http or https)")]


def check_secret_url(secret: Secret) -> Secret:
    """Refuse a secret that is not an HTTP URL, or that has a user name and password."""
    check_http_url(secret.get())
    return secret
