"""Public keys from a JWKS address, stored and refreshed. While the address is down, known keys keep clients signed
in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jwt
import structlog
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from api.http.strict_json import parse_json
from panel.clients.client_sessions import fingerprint
from panel.deadlines import DEFAULT
from sources.outgoing.client import Client, Transport
from sources.outgoing.faults import Malformed, SourceFault
from sources.outgoing.sockets import Limits
from sources.outgoing.tls import trusting_authorities

log = structlog.get_logger(__name__)

FRESH_S = 300.0  # while the address answers, a withdrawn key is refused after at most this
KEPT_S = 6 * 3600.0  # while it does not answer, after at most this
RETRY_S = 30.0  # between fetches after a failure or for an unknown key id, however many tokens ask
SIZE_LIMIT = 256 * 1024
KINDS = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}
RSA_BITS = 2048


class KeysAwayError(Exception):
    """There is no key to verify with: none is stored, or none of that name while the address does not answer."""


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """One usable public key."""

    kid: str | None
    algorithm: str
    key: jwt.PyJWK


def fingerprint_of(key: jwt.PyJWK) -> str:
    """The fingerprint of a public key, the same however the set writes it."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return fingerprint(key.key.public_bytes(serialization.Encoding.DER, form))


class Jwks:
    """The keys of one address. Concurrent callers share one fetch."""

    def __init__(
        self,
        url: str,
        algorithms: tuple[str, ...],
        clock: Callable[[], float],
        *,
        ca_file: Path | None = None,
        proxy: str | None = None,
        transport: Transport | None = None,
        fetch_s: float = DEFAULT.keys_s,
    ) -> None:
        """Raises ``ValueError`` for a ``ca_file`` or a ``proxy`` that cannot be used."""
        self._algorithms = algorithms
        self._clock = clock
        self._client = Client(
            url,
            tls=trusting_authorities(ca_file),
            limits=Limits(connect_s=fetch_s, read_s=fetch_s, answer_s=fetch_s, body_bytes=SIZE_LIMIT),
            headers={"Accept": "application/json"},
            proxy=proxy,
            transport=transport,
        )
        self._lock = asyncio.Lock()
        self._keys: tuple[VerifyingKey, ...] = ()
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._failed = False

    async def close(self) -> None:
        """Close the connections."""
        await asyncio.to_thread(self._client.close)

    async def key_for(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        """The key that a token's header names; None if there is none. Raises KeysAwayError.

        An unknown name while the address is down may be a new key's. So the client should try again, not sign in again.
        """
        if self._age() >= FRESH_S:
            await self._refresh()
        if self._age() >= KEPT_S:
            raise KeysAwayError
        key = self._find(kid, algorithm)
        if key is None and kid is not None:  # the issuer of the tokens may just have begun to use a new key
            await self._refresh()
            key = self._find(kid, algorithm)
            if key is None and self._failed:
                raise KeysAwayError
        return key

    async def holds(self, key: str) -> bool:
        """Whether the set holds the key with this fingerprint, as fresh as for a token. Raises KeysAwayError."""
        if self._age() >= FRESH_S:
            await self._refresh()
        if self._age() >= KEPT_S:
            raise KeysAwayError
        return any(fingerprint_of(one.key) == key for one in self._keys)

    def _age(self) -> float:
        return float("inf") if self._fetched_at is None else self._clock() - self._fetched_at

    def _find(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        matching = [k for k in self._keys if k.algorithm == algorithm and (kid is None or k.kid == kid)]
        return matching[0].key if len(matching) == 1 else None

    async def _refresh(self) -> None:
        async with self._lock:
            if self._tried_at is not None and self._clock() - self._tried_at < RETRY_S:
                return  # the last try was a short while ago, perhaps by another caller
            self._tried_at = self._clock()
            try:
                # The client's own deadline ends it, so nothing needs to be cancelled.
                self._keys = self._parse(await asyncio.to_thread(self._fetch))
            except (SourceFault, ValueError) as error:
                self._failed = True
                log.warning("jwks_not_fetched", error=str(error), keys_kept=len(self._keys))
            else:
                self._failed = False
                self._fetched_at = self._clock()

    def _fetch(self) -> bytes:
        answer = self._client.exchange("GET")
        if answer.status != 200:
            raise Malformed(f"answered {answer.status}")
        return answer.body

    def _parse(self, body: bytes) -> tuple[VerifyingKey, ...]:
        """Public keys for signatures with a configured algorithm. Shared secrets (``oct``) never count."""
        document = parse_json(body)
        if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
            raise ValueError("not a key set")
        usable = [key for entry in document["keys"] if (key := self._usable(entry)) is not None]
        if not usable:
            raise ValueError("the key set holds no usable key")
        return tuple(usable)

    def _usable(self, entry: object) -> VerifyingKey | None:
        """The key; None unless it is public, for signatures, of a configured algorithm, and of that algorithm's kind
        and size."""
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig" or entry.get("kty") == "oct":
            return None
        operations = entry.get("key_ops", ["verify"])
        if not isinstance(operations, list) or "verify" not in operations:
            return None
        if "d" in entry:
            log.warning("jwks_key_unusable", error="its private half is published")
            return None
        algorithm = KINDS.get(str(entry.get("kty")))
        if algorithm not in self._algorithms or entry.get("alg", algorithm) != algorithm:
            return None
        try:
            key = jwt.PyJWK(entry, algorithm)
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            log.warning("jwks_key_unusable", error=type(error).__name__)
            return None
        if algorithm_of(key.key) != algorithm:
            log.warning("jwks_key_unusable", error="its size or curve does not fit")
            return None
        kid = entry.get("kid")
        return VerifyingKey(kid if isinstance(kid, str) else None, algorithm, key)


def algorithm_of(key: object) -> str | None:
    """RS256 for RSA of at least 2048 bits, ES256 for EC P-256, EdDSA for Ed25519; None for anything else."""
    match key:
        case RSAPublicKey() if key.key_size >= RSA_BITS:
            return "RS256"
        case EllipticCurvePublicKey() if isinstance(key.curve, SECP256R1):
            return "ES256"
        case Ed25519PublicKey():
            return "EdDSA"
    return None
