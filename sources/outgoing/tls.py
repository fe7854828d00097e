"""TLS to every server that the panel asks: by authority or by one pinned certificate. Never unverified."""

from __future__ import annotations

import hashlib
import hmac
import re
import ssl
from functools import lru_cache
from pathlib import Path

import certifi
import httpx

from domain.failures import led_to


def trusting_authorities(ca_file: Path | None) -> ssl.SSLContext:
    """A context that trusts ``ca_file`` alone, or the host's and the bundled public authorities."""
    if ca_file is not None:
        try:
            return _authorities_of(ca_file, Path(ca_file).stat().st_mtime_ns)
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"ca_file {ca_file} cannot be read as PEM certificates") from error
    return _public_authorities(_their_age())


@lru_cache(maxsize=256)
def _authorities_of(ca_file: Path, _age: int) -> ssl.SSLContext:
    """Cached until the file changes: every run makes its clients anew, and most clusters share one file."""
    return ssl.create_default_context(cafile=str(ca_file))


@lru_cache(maxsize=1)
def _public_authorities(_age: tuple[int, ...]) -> ssl.SSLContext:
    """Cached until the host's authorities change: reading them takes longer than most requests."""
    context = httpx.create_ssl_context(trust_env=False)
    context.load_default_certs()
    return context


def _their_age() -> tuple[int, ...]:
    """When the authorities' files and directories were last changed, in nanoseconds; 0 for a missing one."""
    places = ssl.get_default_verify_paths()
    ages = []
    for place in (places.cafile, places.capath, certifi.where()):
        try:
            ages.append(Path(place).stat().st_mtime_ns if place else 0)
        except FileNotFoundError:
            ages.append(0)
    return tuple(ages)


@lru_cache(maxsize=1_024)  # a class and a context each take longer to make than a request
def trusting_certificate(fingerprint: str) -> ssl.SSLContext:
    """A context that trusts exactly one certificate, by its SHA-256.

    The comparison is part of the handshake. A socket whose peer shows another certificate never reaches the HTTP layer,
    so no byte of a request, and no token, goes to it. Name and chain are not checked: the fingerprint proves more than
    both, and Proxmox's own certificates are usually self-signed.
    """
    expected = fingerprint_bytes(fingerprint)

    class PinnedSocket(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:
            super().do_handshake(block)
            certificate = self.getpeercert(binary_form=True) or b""
            if not hmac.compare_digest(hashlib.sha256(certificate).digest(), expected):
                raise ssl.SSLCertVerificationError("the certificate's fingerprint is not the pinned one")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # PinnedSocket compares the certificate in the handshake
    context.sslsocket_class = PinnedSocket
    return context


def fingerprint_bytes(fingerprint: str) -> bytes:
    """The 32 bytes of a certificate's SHA-256 written as hex, with or without colons."""
    digits = fingerprint.replace(":", "").strip()
    if not re.fullmatch(r"[0-9A-Fa-f]{64}", digits):
        raise ValueError("fingerprint must be the SHA-256 of the server's certificate: 64 hex digits")
    return bytes.fromhex(digits)


def refusal_of(error: BaseException) -> str | None:
    """Why TLS refused the server, if that caused ``error``."""
    for seen in led_to(error):
        if isinstance(seen, ssl.SSLCertVerificationError):
            return getattr(seen, "verify_message", "") or str(seen.args[-1])
        if isinstance(seen, ssl.SSLError):
            return seen.reason or "TLS handshake failed"
    return None
