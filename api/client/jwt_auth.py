"""Reads who a client is: the panel user id in a signed token.

The settings choose the algorithms, never the token. A token is refused if two parsers could read it differently
(duplicate members, extensions, an unknown type).
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from api.client.jwks import Jwks, KeysAwayError, algorithm_of, fingerprint_of
from api.http.problems import ProblemError
from api.http.strict_json import InvalidJsonError, parse_json
from domain.record_columns import MAX_ID
from panel.clients.client_sessions import fingerprint
from panel.settings import Settings, SettingsError

MAX_TOKEN_BYTES = 8192
MAX_KID_LENGTH = 256
KNOWN = 2_048
"""Verified tokens that a process remembers. A signature costs more than the rest of a read."""

LAST_TIME = 253_402_300_799  # the end of the year 9999: a later time is a mistake or a trick
TYPES = {"jwt", "at+jwt", "application/jwt", "application/at+jwt"}
EXTENSIONS = {"crit", "b64", "zip", "jku", "jwk", "x5u", "x5c"}
"""Header members that change how a token is read, or name or bring a key. Only the settings name keys."""

SUBJECT = re.compile(r"[1-9][0-9]{0,18}")


class _RefusedTokenError(Exception):
    """Why a token is refused. The caller only hears that the token is not valid, so an attacker learns nothing new."""


@dataclass(frozen=True, slots=True)
class _Header:
    algorithm: str
    kid: str | None


@dataclass(frozen=True, slots=True)
class _Times:
    """Seconds since 1970. A token is valid from ``nbf`` and ``iat`` on, until just before ``exp``."""

    exp: float
    nbf: float | None
    iat: float | None

    def check(self, now: float, leeway_s: float) -> None:
        """Raise ExpiredSignatureError, or _RefusedTokenError for a token from the future."""
        if now >= self.exp + leeway_s:
            raise jwt.ExpiredSignatureError
        if any(begins is not None and now < begins - leeway_s for begins in (self.nbf, self.iat)):
            raise _RefusedTokenError("not valid yet")


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """The panel user id in a token, when the token expires (seconds since 1970), and the fingerprint of the key that
    verified it."""

    user_id: int
    expires_at: float
    key: str


@dataclass(frozen=True, slots=True)
class _Known:
    """A token that was verified with ``key``. While that is the key to verify with, only time changes the verdict."""

    header: _Header
    times: _Times
    key: Any
    token: VerifiedToken


def public_key_algorithm(pem: str) -> str:
    """The one algorithm that fits a PEM public key. Raises SettingsError."""
    try:
        key = load_pem_public_key(pem.encode())
    except ValueError:
        raise SettingsError("JWT_PUBLIC_KEY is not a public key in PEM form") from None
    algorithm = algorithm_of(key)
    if algorithm is None:
        raise SettingsError("JWT_PUBLIC_KEY must be RSA of at least 2048 bits, EC P-256 or Ed25519")
    return algorithm


class TokenVerifier:
    """Verifies bearer tokens with the one configured kind of key. ``clock``: seconds since 1970."""

    def __init__(self, settings: Settings, jwks: Jwks | None = None, clock: Callable[[], float] = time.time) -> None:
        settings.require_jwt()
        self._clock = clock
        self._settings = settings
        self._algorithms = settings.jwt_algorithms
        self._jwks = jwks
        self._key: str | bytes | None = None
        self._known: dict[bytes, _Known] = {}
        if settings.jwt_public_key:
            algorithm = public_key_algorithm(settings.jwt_public_key)
            if algorithm not in self._algorithms:
                raise SettingsError(f"JWT_ALGORITHMS must list {algorithm}, which JWT_PUBLIC_KEY is for")
            self._key, self._algorithms = settings.jwt_public_key, (algorithm,)
        elif secret := settings.jwt_secret.get_secret_value():
            if "HS256" not in self._algorithms:
                raise SettingsError("JWT_ALGORITHMS must list HS256, which JWT_SECRET is for")
            self._key, self._algorithms = secret.encode(), ("HS256",)
        self._fingerprint = "" if self._key is None else fingerprint(_bytes_of(self._key))

    async def user_of(self, authorization: list[str]) -> int:
        """The panel user id of the caller. Raises as ``verified``."""
        return (await self.bearer(authorization)).user_id

    async def bearer(self, authorization: list[str]) -> VerifiedToken:
        """The caller's token, of the headers ``Authorization``. Raises as ``verified``."""
        if not authorization:
            raise _unauthorized("token_missing", "A bearer token is needed", challenge="Bearer")
        scheme, _, token = authorization[0].partition(" ")
        token = token.strip(" ")
        if len(authorization) > 1 or scheme.lower() != "bearer" or not token:
            raise _unauthorized("token_missing", "A bearer token is needed", challenge="Bearer")
        return await self.verified(token)

    async def verified(self, token: str) -> VerifiedToken:
        """Whom a token names, and until when. Raises ProblemError: 401, or 503 while there is no key to verify with."""
        try:
            return await self._verified(token)
        except jwt.ExpiredSignatureError:
            raise _unauthorized("token_expired", "The token has expired") from None
        except (_RefusedTokenError, jwt.PyJWTError, InvalidJsonError):
            raise _unauthorized("token_invalid", "The token is not valid") from None
        except KeysAwayError:
            raise _keys_away() from None

    async def in_use(self, key: str) -> bool:
        """Whether tokens are verified with the key of this fingerprint now. Raises ProblemError 503 if nobody knows."""
        if self._key is not None:
            return key == self._fingerprint
        try:
            return self._jwks is not None and await self._jwks.holds(key)
        except KeysAwayError:
            raise _keys_away() from None

    async def _verified(self, text: str) -> VerifiedToken:
        if len(text) > MAX_TOKEN_BYTES or not text.isascii():
            raise _RefusedTokenError("too long or not ASCII")
        # The hash stands for every byte of the token, the signature too, and nobody can use it as a token.
        name = hashlib.sha256(text.encode()).digest()
        known = self._known.get(name)
        if known is not None and known.key is await self._verifying_key(known.header):
            known.times.check(self._clock(), self._settings.jwt_leeway_s)
            return known.token
        header, claims = _read_strictly(text, self._algorithms)
        times = _times(claims)
        key = await self._verifying_key(header)
        claims = self._decoded(text, header, key)
        # After the signature: only the owner of a real token may learn that it has expired.
        times.check(self._clock(), self._settings.jwt_leeway_s)
        token = VerifiedToken(_user_id(claims), times.exp, self._fingerprint or fingerprint_of(key))
        if len(self._known) >= KNOWN:
            del self._known[next(iter(self._known))]
        self._known[name] = _Known(header, times, key, token)
        return token

    def _decoded(self, text: str, header: _Header, key: Any) -> dict[str, Any]:  # noqa: ANN401 - as PyJWT has it
        """The claims, once signature, issuer and audience are right."""
        options: Any = {
            "verify_aud": bool(self._settings.jwt_audience),
            "enforce_minimum_key_length": True,
            **dict.fromkeys(("verify_exp", "verify_nbf", "verify_iat"), False),  # by the caller, by this clock
        }
        claims: dict[str, Any] = jwt.decode(
            text,
            key,
            algorithms=[header.algorithm],
            options=options,
            audience=self._settings.jwt_audience or None,
            issuer=self._settings.jwt_issuer or None,
        )
        return claims

    async def _verifying_key(self, header: _Header) -> Any:  # noqa: ANN401 - as PyJWT has it
        if self._key is not None:
            return self._key
        key = await self._jwks.key_for(header.kid, header.algorithm) if self._jwks else None
        if key is None:
            raise _RefusedTokenError("signed with an unknown key")
        return key


def _read_strictly(token: str, algorithms: tuple[str, ...]) -> tuple[_Header, dict[str, Any]]:
    """The header and claims before the signature is checked. They may only lead to a refusal."""
    parts = token.split(".")
    if len(parts) != 3:
        raise _RefusedTokenError("not three parts")
    decoded = [_base64url(part) for part in parts]
    header, claims = parse_json(decoded[0]), parse_json(decoded[1])
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise _RefusedTokenError("not JSON objects")
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise _RefusedTokenError("the algorithm is not configured")
    if EXTENSIONS & header.keys():
        raise _RefusedTokenError("uses an extension")
    if kid is not None and not (isinstance(kid, str) and 1 <= len(kid) <= MAX_KID_LENGTH):
        raise _RefusedTokenError("kid is no name")
    if "typ" in header and str(header["typ"]).lower() not in TYPES:
        raise _RefusedTokenError("of another type")
    return _Header(algorithm, kid), claims


def _times(claims: dict[str, Any]) -> _Times:
    exp = _time(claims, "exp")
    if exp is None:
        raise _RefusedTokenError("it never expires")
    return _Times(exp, _time(claims, "nbf"), _time(claims, "iat"))


def _time(claims: dict[str, Any], name: str) -> float | None:
    if name not in claims:
        return None
    time_s = claims[name]
    if isinstance(time_s, bool) or not isinstance(time_s, int | float) or not 0 <= time_s <= LAST_TIME:
        raise _RefusedTokenError(f"{name} is no time")
    return time_s


def _base64url(part: str) -> bytes:
    """Decode base64url. Several texts decode to the same bytes; only the one that encoders write is accepted."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", part) or len(part) % 4 == 1:
        raise _RefusedTokenError("not base64url")
    decoded = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != part.encode():
        raise _RefusedTokenError("not the one way to write it")
    return decoded


def _user_id(claims: dict[str, Any]) -> int:
    """The panel user id in ``user_id`` (an integer) or ``sub`` (the same id as text). One of them may be absent. Both
    together must agree."""
    user_id, subject = claims.get("user_id"), claims.get("sub")
    if user_id is None and isinstance(subject, str) and SUBJECT.fullmatch(subject):
        user_id = int(subject)
    if isinstance(user_id, bool) or not isinstance(user_id, int) or not 1 <= user_id <= MAX_ID:
        raise _RefusedTokenError("names no user")
    if subject is not None and subject != str(user_id):
        raise _RefusedTokenError("sub and user_id disagree")
    return user_id


def _bytes_of(key: str | bytes) -> bytes:
    return key if isinstance(key, bytes) else key.encode()


def _keys_away() -> ProblemError:
    message = "The keys that verify tokens cannot be read; try again"
    return ProblemError(503, "token_keys_away", message, headers={"Retry-After": "30"})


def _unauthorized(code: str, message: str, *, challenge: str | None = None) -> ProblemError:
    header = challenge or f'Bearer error="invalid_token", error_description="{message}"'
    return ProblemError(401, code, message, headers={"WWW-Authenticate": header})
