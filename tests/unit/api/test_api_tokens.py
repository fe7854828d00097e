"""Which tokens name which user, and every way in which a token is refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from api.jwt_auth import TokenVerifier
from api.problems import ProblemError
from panel.settings import Settings, SettingsError, load_settings
from tests.support.keys import random_key

SECRET = random_key()


def settings(**changes: object) -> Settings:
    return load_settings(_env_file=None, **({"jwt_secret": SECRET} | changes))


VERIFIER = TokenVerifier(settings())
HEADER = {"alg": "HS256", "typ": "JWT"}


def claims(**changes: object) -> dict[str, Any]:
    """What the main site signs: user id as number, the same as text, a name and 24 hours."""
    now = int(time.time())
    whole = {"user_id": 5, "username": "anna", "sub": "5", "iat": now, "exp": now + 86400} | changes
    return {name: value for name, value in whole.items() if value is not None}


def b64(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def signed(header: str | dict[str, Any], payload: str | dict[str, Any], key: str = SECRET) -> str:
    """A token of any header and payload, signed rightly with HS256."""
    parts = [b64((p if isinstance(p, str) else json.dumps(p)).encode()) for p in (header, payload)]
    return f"{parts[0]}.{parts[1]}.{b64(hmac.digest(key.encode(), '.'.join(parts).encode(), hashlib.sha256))}"


async def user_of(token: str, verifier: TokenVerifier = VERIFIER) -> int:
    return await verifier.user_of([f"Bearer {token}"])


ACCEPTED: list[tuple[str, dict[str, Any], Callable[[], dict[str, Any]]]] = [
    ("as the main site signs them", HEADER, claims),
    ("without typ", {"alg": "HS256"}, claims),
    ("an access token by its type", HEADER | {"typ": "at+jwt"}, claims),
    ("only user_id", HEADER, lambda: claims(sub=None)),
    ("only sub", HEADER, lambda: claims(user_id=None)),
    ("an audience nobody configured", HEADER, lambda: claims(aud="somebody")),
    ("expired within the leeway", HEADER, lambda: claims(exp=int(time.time()) - 2)),
    ("a fraction in exp", HEADER, lambda: claims(exp=time.time() + 60.5)),
]


@pytest.mark.parametrize(("header", "payload"), [c[1:] for c in ACCEPTED], ids=[c[0] for c in ACCEPTED])
async def test_accepted(header: dict[str, Any], payload: Callable[[], dict[str, Any]]) -> None:
    assert await user_of(signed(header, payload())) == 5


VALID = json.dumps(claims())
INVALID: list[tuple[str, str]] = [
    ("another secret", signed(HEADER, claims(), random_key())),
    ("no signature", signed(HEADER, claims()).rpartition(".")[0] + "."),
    ("alg none", jwt.encode(claims(), "", "none")),
    ("alg none with a signature", signed({"alg": "none"}, claims())),
    ("an algorithm not configured", signed({"alg": "HS512"}, claims())),
    ("an algorithm that is a list", signed('{"alg": ["HS256"]}', claims())),
    ("no algorithm", signed({"typ": "JWT"}, claims())),
    ("the algorithm twice", signed('{"alg": "none", "alg": "HS256"}', claims())),
    ("a critical extension", signed(HEADER | {"crit": ["exp"]}, claims())),
    ("an unencoded payload", signed(HEADER | {"b64": False, "crit": ["b64"]}, claims())),
    ("a key id that is a number", signed(HEADER | {"kid": 1}, claims())),
    ("another type", signed(HEADER | {"typ": "logout+jwt"}, claims())),
    ("no exp", signed(HEADER, claims(exp=None))),
    ("exp as text", signed(HEADER, claims(exp=str(int(time.time()) + 3600)))),
    ("exp true", signed(HEADER, claims(exp=True))),
    ("exp without end", signed(HEADER, '{"user_id": 5, "exp": 1e999}')),
    ("issued in the future", signed(HEADER, claims(iat=int(time.time()) + 3600))),
    ("not valid yet", signed(HEADER, claims(nbf=int(time.time()) + 3600))),
    ("sub and user_id disagree", signed(HEADER, claims(sub="6"))),
    ("sub spelt otherwise", signed(HEADER, claims(sub="05"))),
    ("sub as number", signed(HEADER, claims(sub=5))),
    ("user_id as text", signed(HEADER, claims(user_id="5"))),
    ("user_id true", signed(HEADER, claims(user_id=True, sub=None))),
    ("user_id with a fraction", signed(HEADER, claims(user_id=5.0, sub=None))),
    ("user_id zero", signed(HEADER, claims(user_id=0, sub="0"))),
    ("user_id beyond the database", signed(HEADER, claims(user_id=2**63, sub=str(2**63)))),
    ("nobody", signed(HEADER, claims(user_id=None, sub=None))),
    ("sub is a name", signed(HEADER, claims(user_id=None, sub="anna"))),
    ("user_id twice", signed(HEADER, VALID[:-1] + ', "user_id": 5}')),
    ("claims are a list", signed(HEADER, "[5]")),
    ("not JSON", signed(HEADER, "anna")),
    ("two parts", "a.b"),
    ("five parts", "a.b.c.d.e"),
    ("padded", signed(HEADER, claims()).replace(".", "=.", 1)),
    ("one word", "token"),
    ("more than 8 KiB", signed(HEADER, claims(username="x" * 8192))),
    ("not ASCII", "ключ.ключ.ключ"),
]


@pytest.mark.parametrize("token", [c[1] for c in INVALID], ids=[c[0] for c in INVALID])
async def test_invalid(token: str) -> None:
    with pytest.raises(ProblemError) as refused:
        await user_of(token)
    assert (refused.value.status_code, refused.value.code) == (401, "token_invalid")
    assert refused.value.message == "The token is not valid", "which check failed is nobody's business"
    assert refused.value.headers["WWW-Authenticate"].startswith('Bearer error="invalid_token"')


async def test_expired_is_told_apart_so_that_a_client_can_renew() -> None:
    with pytest.raises(ProblemError) as refused:
        await user_of(signed(HEADER, claims(exp=int(time.time()) - 60)))
    assert (refused.value.status_code, refused.value.code) == (401, "token_expired")


async def test_expired_is_not_told_of_a_token_that_nobody_signed() -> None:
    with pytest.raises(ProblemError) as refused:
        await user_of(signed(HEADER, claims(exp=1), random_key()))
    assert refused.value.code == "token_invalid"


@pytest.mark.parametrize(
    "headers", [[], [""], ["Bearer"], ["Bearer "], ["Basic YTpi"], ["Bearer a", "Bearer b"]], ids=str
)
async def test_without_a_bearer_token(headers: list[str]) -> None:
    with pytest.raises(ProblemError) as refused:
        await VERIFIER.user_of(headers)
    assert (refused.value.status_code, refused.value.code) == (401, "token_missing")
    assert refused.value.headers == {"WWW-Authenticate": "Bearer"}


@pytest.mark.parametrize(
    ("changes", "accepted"),
    [
        ({"iss": "https://main-site.example", "aud": "panel"}, True),
        ({"iss": "https://main-site.example", "aud": ["other", "panel"]}, True),
        ({"iss": "https://evil.example", "aud": "panel"}, False),
        ({"iss": "https://main-site.example", "aud": "other"}, False),
        ({"aud": "panel"}, False),
        ({"iss": "https://main-site.example"}, False),
    ],
    ids=["both", "one of several audiences", "wrong issuer", "wrong audience", "no issuer", "no audience"],
)
async def test_issuer_and_audience_when_configured(changes: dict[str, Any], *, accepted: bool) -> None:
    verifier = TokenVerifier(settings(jwt_issuer="https://main-site.example", jwt_audience="panel"))
    token = signed(HEADER, claims(**changes))
    if accepted:
        assert await user_of(token, verifier) == 5
    else:
        with pytest.raises(ProblemError):
            await user_of(token, verifier)


WEAK = rsa.generate_private_key(65537, 1024)  # noqa: S505 - to see it refused
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def pem(key: PrivateKey) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


def with_public_key(key: PrivateKey, algorithms: str = "RS256,ES256,EdDSA") -> TokenVerifier:
    return TokenVerifier(settings(jwt_secret="", jwt_public_key=pem(key), jwt_algorithms=algorithms))


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (EC, "ES256"), (ED, "EdDSA")], ids=["RSA", "EC", "Ed"])
async def test_public_keys(key: PrivateKey, algorithm: str) -> None:
    verifier = with_public_key(key)
    assert await user_of(jwt.encode(claims(), key, algorithm), verifier) == 5
    strangers: dict[str, PrivateKey] = {
        "RS256": rsa.generate_private_key(65537, 2048),
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    }
    with pytest.raises(ProblemError):
        await user_of(jwt.encode(claims(), strangers[algorithm], algorithm), verifier)


async def test_a_public_key_is_no_shared_secret() -> None:
    verifier = with_public_key(RSA)
    with pytest.raises(ProblemError):
        await user_of(signed(HEADER, claims(), pem(RSA)), verifier)


WRONG_SETTINGS: list[tuple[str, dict[str, Any], str]] = [
    ("none at all", {"jwt_secret": ""}, "JWT_SECRET is not set"),
    ("no PEM", {"jwt_secret": "", "jwt_public_key": "x", "jwt_algorithms": "RS256"}, "JWT_PUBLIC_KEY is not"),
    (
        "a weak RSA key",
        {"jwt_secret": "", "jwt_public_key": pem(WEAK), "jwt_algorithms": "RS256"},
        "JWT_PUBLIC_KEY must be RSA of at least 2048 bits",
    ),
    (
        "another curve",
        {"jwt_secret": "", "jwt_public_key": pem(ec.generate_private_key(ec.SECP384R1())), "jwt_algorithms": "ES256"},
        "JWT_PUBLIC_KEY must be",
    ),
    (
        "a key for another algorithm",
        {"jwt_secret": "", "jwt_public_key": pem(EC), "jwt_algorithms": "RS256"},
        "JWT_ALGORITHMS must list ES256",
    ),
    ("a secret without HS256", {"jwt_algorithms": "RS256"}, "JWT_ALGORITHMS must list HS256"),
]


@pytest.mark.parametrize(("changes", "sentence"), [c[1:] for c in WRONG_SETTINGS], ids=[c[0] for c in WRONG_SETTINGS])
def test_settings_that_cannot_work_stop_the_start(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        TokenVerifier(settings(**changes))
