"""Which public keys may verify tokens, and the one algorithm for each."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

RSA_BITS = 2048


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
