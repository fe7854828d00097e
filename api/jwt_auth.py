"""Who a client is: the panel user id of a signed token.

The algorithms are configuration, never the token's choice; a token is refused for whatever two parsers could
read differently (duplicate members, extensions, an unknown type).
"""

from __future__ import annotations

import base64
import math
import re
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from api.jwks import Jwks, KeysAwayError
from api.problems import ProblemError
from api.strict_json import InvalidJsonError, parse_json
from panel.settings import Settings, SettingsError

MAX_TOKEN_BYTES = 8192
MAX_USER_ID = 2**63 - 1
TYPES = {"jwt", "at+jwt", "application/jwt", "application/at+jwt"}
SUBJECT = re.compile(r"[1-9][0-9]{0,18}")


class _RefusedTokenError(Exception):
    """Why a token is refused, in words that help its owner and tell an attacker nothing new."""


@dataclass(frozen=True, slots=True)
class _Header:
    algorithm: str
    kid: str | None


def public_key_algorithm(pem: str) -> str:
    """The one algorithm that a PEM public key fits. Raises SettingsError."""
    try:
        key = load_pem_public_key(pem.encode())
    except ValueError:
        raise SettingsError("JWT_PUBLIC_KEY is not a public key in PEM form") from None
    match key:
        case RSAPublicKey() if key.key_size >= 2048:
            return "RS256"
        case EllipticCurvePublicKey() if isinstance(key.curve, SECP256R1):
            return "ES256"
        case Ed25519PublicKey():
            return "EdDSA"
    raise SettingsError("JWT_PUBLIC_KEY must be RSA of at least 2048 bits, EC P-256 or Ed25519")


class TokenVerifier:
    """Verifies bearer tokens with the one configured kind of key."""

    def __init__(self, settings: Settings, jwks: Jwks | None = None) -> None:
        settings.require_jwt()
        self._settings = settings
        self._algorithms = settings.jwt_algorithms
        self._jwks = jwks
        self._key: str | bytes | None = None
        if settings.jwt_public_key:
            fits = public_key_algorithm(settings.jwt_public_key)
            if fits not in self._algorithms:
                raise SettingsError(f"JWT_ALGORITHMS must list {fits}, which JWT_PUBLIC_KEY is for")
            self._key, self._algorithms = settings.jwt_public_key, (fits,)
        elif secret := settings.jwt_secret.get_secret_value():
            if "HS256" not in self._algorithms:
                raise SettingsError("JWT_ALGORITHMS must list HS256, which JWT_SECRET is for")
            self._key, self._algorithms = secret.encode(), ("HS256",)

    async def user_of(self, authorization: list[str]) -> int:
        """The panel user id of the caller. Raises ProblemError: 401, or 503 while no key can be had."""
        if not authorization:
            raise _unauthorized("token_missing", "A bearer token is needed", challenge="Bearer")
        scheme, _, token = authorization[0].partition(" ")
        if len(authorization) > 1 or scheme.lower() != "bearer" or not token.strip():
            raise _unauthorized("token_missing", "A bearer token is needed", challenge="Bearer")
        try:
            return _user_id(await self._claims(token.strip()))
        except jwt.ExpiredSignatureError:
            raise _unauthorized("token_expired", "The token has expired") from None
        except (_RefusedTokenError, jwt.PyJWTError, InvalidJsonError):
            raise _unauthorized("token_invalid", "The token is not valid") from None
        except KeysAwayError:
            message = "The keys that verify tokens cannot be read; try again"
            raise ProblemError(503, "token_keys_away", message, headers={"Retry-After": "30"}) from None

    async def _claims(self, token: str) -> dict[str, Any]:
        if len(token) > MAX_TOKEN_BYTES or not token.isascii():
            raise _RefusedTokenError("too long or not ASCII")
        header, claims = _read_strictly(token, self._algorithms)
        key = self._key
        verifying: Any = key if key is not None else await self._fetched_key(header)
        if isinstance(exp := claims.get("exp"), bool) or not isinstance(exp, int | float) or not math.isfinite(exp):
            raise _RefusedTokenError("exp is missing or no number")
        options: Any = {
            "require": ["exp"],
            "verify_aud": bool(self._settings.jwt_audience),
            "enforce_minimum_key_length": True,
        }
        verified: dict[str, Any] = jwt.decode(
            token,
            verifying,
            algorithms=[header.algorithm],
            options=options,
            audience=self._settings.jwt_audience or None,
            issuer=self._settings.jwt_issuer or None,
            leeway=self._settings.jwt_leeway_s,
        )
        return verified

    async def _fetched_key(self, header: _Header) -> jwt.PyJWK:
        found = await self._jwks.key_for(header.kid, header.algorithm) if self._jwks else None
        if found is None:
            raise _RefusedTokenError("signed with an unknown key")
        return found


def _read_strictly(token: str, algorithms: tuple[str, ...]) -> tuple[_Header, dict[str, Any]]:
    """The header and the claims, before any signature is looked at: only to refuse."""
    parts = token.split(".")
    if len(parts) != 3:
        raise _RefusedTokenError("not three parts")
    header, claims = (parse_json(_base64url(part)) for part in parts[:2])
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise _RefusedTokenError("not JSON objects")
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise _RefusedTokenError("the algorithm is not configured")
    if "crit" in header or "b64" in header or not (kid is None or isinstance(kid, str)):
        raise _RefusedTokenError("uses an extension")
    if "typ" in header and str(header["typ"]).lower() not in TYPES:
        raise _RefusedTokenError("of another type")
    return _Header(algorithm, kid), claims


def _base64url(part: str) -> bytes:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", part) or len(part) % 4 == 1:
        raise _RefusedTokenError("not base64url")
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _user_id(claims: dict[str, Any]) -> int:
    """``user_id`` (an integer) and ``sub`` (the same id as text); one may be absent, they may not disagree."""
    user_id, subject = claims.get("user_id"), claims.get("sub")
    if user_id is None and isinstance(subject, str) and SUBJECT.fullmatch(subject):
        user_id = int(subject)
    if isinstance(user_id, bool) or not isinstance(user_id, int) or not 1 <= user_id <= MAX_USER_ID:
        raise _RefusedTokenError("names no user")
    if subject is not None and subject != str(user_id):
        raise _RefusedTokenError("sub and user_id disagree")
    return user_id


def _unauthorized(code: str, message: str, *, challenge: str | None = None) -> ProblemError:
    given = challenge or f'Bearer error="invalid_token", error_description="{message}"'
    return ProblemError(401, code, message, headers={"WWW-Authenticate": given})
