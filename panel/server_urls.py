"""How the certificates of Redis and PostgreSQL are checked: decided once, for every client, and written into the URLs.

Libraries differ when a URL says nothing about TLS: for ``rediss://`` kombu accepts any certificate and redis-py
verifies it, and libpq falls back to plain text. So the settings write the decision into each URL, and every client is
made from such a URL (:mod:`panel.broker`, :mod:`panel.sessions`).
"""

from __future__ import annotations

import os
import re
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

import certifi

BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
"""The files in which Debian, Red Hat and Alpine keep the public authorities."""

REQUIREMENTS = {
    "required": ssl.CERT_REQUIRED,
    "optional": ssl.CERT_OPTIONAL,
    "none": ssl.CERT_NONE,
}
"""The values of ``ssl_cert_reqs``; kombu's spelling (``CERT_NONE``) works, too."""


def authorities() -> str:
    """The file of the authorities that this machine trusts. If it has none, the file in the package certifi."""
    files = [ssl.get_default_verify_paths().cafile, *BUNDLES]
    return next((file for file in files if file and Path(file).is_file()), certifi.where())


def verified_redis_url(url: str, ca_file: Path | None = None) -> str:
    """The URL with its TLS options written out. ``rediss://`` is verified unless the URL itself says otherwise.

    ``ca_file``: the authority that signed the server's certificate; by default the machine's own authorities. Raises
    ValueError for an option that no client understands. Its text does not quote the URL.
    """
    parts = urlsplit(url)
    if parts.scheme != "rediss":
        return url
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    requirement = options.get("ssl_cert_reqs", "required").lower().removeprefix("cert_")
    if requirement not in REQUIREMENTS:
        raise ValueError("has an ssl_cert_reqs that is none of required, optional, none")
    by_name = "false" if requirement == "none" else options.get("ssl_check_hostname", "true").lower()
    trusted = str(ca_file) if ca_file is not None else options.get("ssl_ca_certs", authorities())
    return _with_options(url, ssl_cert_reqs=requirement, ssl_check_hostname=by_name, ssl_ca_certs=trusted)


def redis_tls(url: str) -> tuple[str, dict[str, Any]]:
    """A verified URL for Celery and Flower: the URL without its TLS options, and these as keywords (empty: no TLS)."""
    verified = verified_redis_url(url)
    if not verified.startswith("rediss:"):
        return verified, {}
    options = parse_qsl(urlsplit(verified).query, keep_blank_values=True)
    tls: dict[str, Any] = {name: value for name, value in options if name.startswith("ssl_")}
    bare = _with_options(verified, **dict.fromkeys(tls))
    tls["ssl_cert_reqs"] = REQUIREMENTS[tls["ssl_cert_reqs"]]
    tls["ssl_check_hostname"] = tls["ssl_check_hostname"] != "false"
    return bare, tls


def verified_postgres_url(url: str, ca_file: Path | None = None) -> str:
    """The URL with ``sslmode`` and ``sslrootcert`` written out.

    A server on another machine, or any with a ``ca_file``, is verified (``verify-full``). A server on this machine, by
    loopback or socket, may go without TLS. An ``sslmode`` in the URL is obeyed.
    """
    options = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
    if "sslmode" not in options and (ca_file is not None or is_elsewhere(url)):
        url, options["sslmode"] = _with_options(url, sslmode="verify-full"), "verify-full"
    if options.get("sslmode", "").startswith("verify-"):
        trusted = str(ca_file) if ca_file is not None else options.get("sslrootcert", authorities())
        url = _with_options(url, sslrootcert=trusted)
    return url


def postgres_tls(url: str) -> str:
    """The ``sslmode`` in a URL of PostgreSQL; empty if there is none."""
    return dict(parse_qsl(urlsplit(url).query)).get("sslmode", "")


def is_elsewhere(url: str) -> bool:
    """Whether a PostgreSQL URL, or libpq's environment, may lead to a host other than this one.

    libpq connects to ``hostaddr`` whatever the host is called. A service names its host in a file, not read here.
    """
    parts = urlsplit(url)

    def named(option: str) -> str:
        return ",".join(value for name, value in parse_qsl(parts.query) if name == option)

    if named("service") or os.environ.get("PGSERVICE"):
        return True
    host = named("host") or parts.hostname or os.environ.get("PGHOST", "")
    address = named("hostaddr") or os.environ.get("PGHOSTADDR", "")
    return any(not is_loopback(name) for name in (*host.split(","), *address.split(",")) if name)


def _with_options(url: str, **options: str | None) -> str:
    """The URL with these options in place of its own of the same names (None: removed).

    The rest of the URL keeps its spelling, because a password in it can be redacted from logs only in known spellings.
    """
    parts = urlsplit(url)
    kept = [part for part in parts.query.split("&") if part and part.partition("=")[0] not in options]
    added = [f"{name}={quote(value, safe='')}" for name, value in options.items() if value is not None]
    return urlunsplit(parts._replace(query="&".join([*kept, *added])))


def is_loopback(host: str) -> bool:
    """Whether a host name, or a directory of sockets, is on this machine."""
    if host.startswith(("/", "@")):
        return True
    name = host if host.count(":") > 1 else host.split(":", maxsplit=1)[0]
    return name in {"localhost", "::1"} or name.startswith("127.")


def sqlalchemy_url(url: str) -> str:
    """The same URL with the name of the driver psycopg 3, which SQLAlchemy needs."""
    return re.sub(r"^postgresql(\+psycopg)?://", "postgresql+psycopg://", url)
