"""A certificate authority for one simulator, and the server certificate that it signs.

The authority's key is used once and never stored. Every start makes a new authority.
"""

import hashlib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import trustme

LIFETIME = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files for both sides, and the server certificate's SHA-256 fingerprint ("AA:BB:...")."""

    ca_file: Path
    cert_file: Path
    key_file: Path
    fingerprint: str


def make_certificates(directory: Path, name: str, hosts: Sequence[str], now: datetime) -> Certificates:
    """Write ca.pem, server.pem and server.key (0600) into the directory. `hosts`: names and addresses."""
    directory.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA(organization_name=f"{name} simulator CA")
    server = authority.issue_cert(
        *dict.fromkeys(hosts), common_name=name, not_before=now - timedelta(days=1), not_after=now + LIFETIME
    )
    certificate = server.cert_chain_pems[0].bytes()
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.decode("ascii"))).hexdigest().upper()
    files = Certificates(
        directory / "ca.pem",
        directory / "server.pem",
        directory / "server.key",
        ":".join(digest[n : n + 2] for n in range(0, len(digest), 2)),
    )
    authority.cert_pem.write_to_path(files.ca_file)
    files.cert_file.write_bytes(certificate)
    files.key_file.touch(mode=0o600)
    files.key_file.chmod(0o600)
    server.private_key_pem.write_to_path(files.key_file)
    return files
