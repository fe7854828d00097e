"""Where Redis and PostgreSQL are, and how their certificates are checked: decided here, for every client alike.

Libraries differ in what they do where a URL says nothing about TLS: kombu accepts any certificate of ``rediss://``,
redis-py verifies it, libpq speaks without TLS to whoever refuses it. So the settings write the decision into each URL,
and every client is made from such a URL (:mod:`panel.broker`, :mod:`panel.sessions`).
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

import certifi

BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
"""Where Debian, Red Hat and Alpine keep the public authorities."""

REQUIREMENTS = {
    "required": ssl.CERT_REQUIRED,
    "optional": ssl.CERT_OPTIONAL,
    "none": ssl.CERT_NONE,
}
"""What ``ssl_cert_reqs`` may say; kombu's spelling of it (``CERT_NONE``) is understood, too."""


def authorities() -> str:
    """The file of the authorities that this machine trusts, else the one that the package certifi brings along."""
    found = [ssl.get_default_verify_paths().cafile, *BUNDLES]
    return next((file for file in found if file and Path(file).is_file()), certifi.where())


def verified_redis_url(url: str, ca_file: Path | None = None) -> str:
    """The URL with its TLS options written out: ``rediss://`` is verified, unless the URL itself says otherwise.

    ``ca_file``: the authority that vouches for the server; by default the machine's own. Raises ValueError, which
    quotes nothing, for an option that no client would understand.
    """
    parts = urlsplit(url)
    if parts.scheme != "rediss":
        return url
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    asked = options.get("ssl_cert_reqs", "required").lower().removeprefix("cert_")
    if asked not in REQUIREMENTS:
        raise ValueError("has an ssl_cert_reqs that is none of required, optional, none")
    by_name = "false" if asked == "none" else options.get("ssl_check_hostname", "true").lower()
    trusted = str(ca_file) if ca_file is not None else options.get("ssl_ca_certs", authorities())
    return _with_options(url, ssl_cert_reqs=asked, ssl_check_hostname=by_name, ssl_ca_certs=trusted)


def redis_tls(url: str) -> tuple[str, dict[str, Any]]:
    """A verified URL as Celery and Flower want it: without TLS options, and those as keywords (empty: no TLS)."""
    verified = verified_redis_url(url)
    if not verified.startswith("rediss:"):
        return verified, {}
    found = parse_qsl(urlsplit(verified).query, keep_blank_values=True)
    tls: dict[str, Any] = {name: value for name, value in found if name.startswith("ssl_")}
    bare = _with_options(verified, **dict.fromkeys(tls))
    tls["ssl_cert_reqs"] = REQUIREMENTS[tls["ssl_cert_reqs"]]
    tls["ssl_check_hostname"] = tls["ssl_check_hostname"] != "false"
    return bare, tls


def verified_postgres_url(url: str, ca_file: Path | None = None) -> str:
    """The URL with ``sslmode`` and ``sslrootcert`` written out.

    A server elsewhere is verified (``verify-full``), as is any with a ``ca_file``; one on this machine, reached by the
    loopback or a socket, may do without TLS. An ``sslmode`` in the URL is obeyed.
    """
    options = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
    if "sslmode" not in options and (ca_file is not None or is_elsewhere(url)):
        url, options["sslmode"] = _with_options(url, sslmode="verify-full"), "verify-full"
    if options.get("sslmode", "").startswith("verify-"):
        trusted = str(ca_file) if ca_file is not None else options.get("sslrootcert", authorities())
        url = _with_options(url, sslrootcert=trusted)
    return url


def postgres_tls(url: str) -> str:
    """The ``sslmode`` that stands in a URL of PostgreSQL; empty where none does."""
    return dict(parse_qsl(urlsplit(url).query)).get("sslmode", "")


def is_elsewhere(url: str) -> bool:
    """Whether a PostgreSQL URL names, or libpq's environment means, a host that is not this one."""
    parts = urlsplit(url)
    named = [value for name, value in parse_qsl(parts.query) if name == "host"]
    hosts = ",".join(named) or parts.hostname or os.environ.get("PGHOST", "")
    return any(not is_loopback(host) for host in hosts.split(",") if host)


def _with_options(url: str, **options: str | None) -> str:
    """The URL with these options instead of its own of those names (None: without). The rest stays as it is written:
    it may hold a password, whose spelling must be known to be struck out of logs."""
    parts = urlsplit(url)
    kept = [part for part in parts.query.split("&") if part and part.partition("=")[0] not in options]
    added = [f"{name}={quote(value, safe='')}" for name, value in options.items() if value is not None]
    return urlunsplit(parts._replace(query="&".join([*kept, *added])))


def is_loopback(host: str) -> bool:
    """Whether a host's name, or a directory of sockets, is this machine's."""
    if host.startswith(("/", "@")):
        return True
    name = host if host.count(":") > 1 else host.split(":", maxsplit=1)[0]
    return name in {"localhost", "::1"} or name.startswith("127.")
