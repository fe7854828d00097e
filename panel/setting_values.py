"""The types of the settings' values, each with the check of one value by itself."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretStr, model_validator


def readable(url: str) -> bool:
    """Whether host and port of a URL can be told apart. Raises nothing, because the error would quote a password."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    # An @ elsewhere comes from a password that was not percent-encoded. A part of that password would be taken for the
    # host or the path, which messages show.
    encoded = parts.netloc.count("@") <= 1 and "@" not in f"{parts.path}{parts.query}{parts.fragment}"
    return encoded and (port is not None or not parts.netloc.endswith(":"))


def percent_encoded(url: str) -> bool:
    """Whether every % begins an encoded character of a UTF-8 text without NUL.

    Each library reads any other text in its own way, and some quote it in an error, with the password.
    """
    try:
        text = unquote(url, errors="strict")
    except UnicodeDecodeError:
        return False
    return re.search("%(?![0-9A-Fa-f]{2})", url) is None and "\0" not in text


def _printable_key(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if text and (len(text) < 32 or not re.fullmatch(r"[\x21-\x7e]+", text)):
        raise ValueError("must be at least 32 printable ASCII characters without spaces")
    return value


ApiKey = Annotated[SecretStr, AfterValidator(_printable_key)]


OptionalCount = Annotated[
    Annotated[int, Field(ge=0)] | None, BeforeValidator(lambda value: None if value == "" else value)
]


def _webhook_secret(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text:
        return value
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except ValueError:
        key = b""
    if not text.startswith("whsec_") or not 24 <= len(key) <= 64:
        raise ValueError(
            "must be whsec_ and 24 to 64 random bytes in base64; make one: echo whsec_$(openssl rand -base64 32)"
        )
    return value


WebhookSecret = Annotated[SecretStr, AfterValidator(_webhook_secret)]
"""A secret of the Standard Webhooks specification, or empty."""


OptionalPath = Annotated[Path | None, BeforeValidator(lambda value: value or None)]
"""A file, or None. An empty variable counts as none."""


def _http_url(value: str) -> str:
    if value and not re.fullmatch(r"https?://[^\s/?#@]+(:\d+)?(/[^\s?#]*)?", value):
        raise ValueError("must be an http(s) URL without credentials, query or fragment")
    return value.rstrip("/")


def _root_path(value: str) -> str:
    path = value.rstrip("/")
    if path and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", path):
        raise ValueError("must be empty or a path such as /panel")
    return path


RootPath = Annotated[str, AfterValidator(_root_path)]


def _proxy_url(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if text and not (re.fullmatch(r"http://([^\s/?#@:]+:[^\s/?#@:]*@)?[^\s/?#@]+:\d+/?", text) and readable(text)):
        raise ValueError("must be http://host:port or http://user:password@host:port (percent-encode the password)")
    return value


ProxyUrl = Annotated[SecretStr, AfterValidator(_proxy_url)]
"""The HTTP proxy to one kind of server, or empty. It is secret, because it may hold a password."""

HttpUrlText = Annotated[str, AfterValidator(_http_url)]


class ProxmoxCluster(BaseModel, extra="forbid"):
    """One cluster of ``PROXMOX_CLUSTERS``. TLS is always verified: against ``ca_file``, a pinned
    ``fingerprint`` (SHA-256 of the server's certificate) or the system's authorities."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
    urls: Annotated[list[HttpUrlText], Field(min_length=1)]
    token_id: Annotated[str, Field(pattern=r"^[^\s!@]+@[^\s!@]+![^\s!@]+$")]
    token_secret: SecretStr
    ca_file: Path | None = None
    fingerprint: Annotated[str, Field(pattern=r"^([0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}$")] | None = None
    proxy: ProxyUrl = SecretStr("")
    pools: list[str] = []

    @model_validator(mode="after")
    def _one_trust(self) -> ProxmoxCluster:
        if self.ca_file and self.fingerprint:
            raise ValueError("give ca_file or fingerprint, not both")
        return self


class OperatorKey(BaseModel, extra="forbid"):
    """One operator of ``OPS_API_KEYS``. The role ``read`` may only look, ``operate`` may also decide. The name is kept
    with each decision. ``previous`` stays valid while the operator changes over to ``key``."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
    role: Literal["read", "operate"]
    key: ApiKey
    previous: ApiKey = SecretStr("")

    @model_validator(mode="after")
    def _has_a_key(self) -> OperatorKey:
        if not self.key.get_secret_value():
            raise ValueError("an operator needs a key")
        return self


DriftClass = Literal[
    "missed-status",
    "plan",
    "ownership",
    "duplicate",
    "replaced-guest",
    "sold-on",
    "missed-create",
    "missed-delete",
    "orphan",
]
