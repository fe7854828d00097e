"""Which tokens name which user, and every way in which a token is refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from api.client import jwt_auth
from api.client.jwt_auth import TokenVerifier
from api.http.problems import ProblemError
from panel.settings import Settings, SettingsError, load_settings
from tests.support.keys import random_key

SECRET = random_key()


def settings(**changes: object) -> Settings:
    return load_settings(_env_file=None, **({"jwt_secret": SECRET} | changes))


NOW = 1_800_000_000.0
LEEWAY_S = 10


def now() -> float:
    return NOW


VERIFIER = TokenVerifier(settings(jwt_leeway_s=LEEWAY_S), clock=now)
HEADER = {"alg": "HS256", "typ": "JWT"}


def claims(**changes: object) -> dict[str, Any]:
    """What the main site signs: user id as number, the same as text, a name and 24 hours."""
    whole = {"user_id": 5, "username": "anna", "sub": "5", "iat": int(NOW), "exp": int(NOW) + 86400} | changes
    return {name: value for name, value in whole.items() if value is not None}


def b64(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def signed(header: str | dict[str, Any], payload: str | dict[str, Any], key: str = SECRET) -> str:
    """A token of any header and payload, signed rightly with HS256."""
    first, second = (b64((p if isinstance(p, str) else json.dumps(p)).encode()) for p in (header, payload))
    return signed_text(first, second, key)


def signed_text(header: str, payload: str, key: str = SECRET) -> str:
    """A token of parts as they are, signed rightly with HS256."""
    return f"{header}.{payload}.{b64(hmac.digest(key.encode(), f'{header}.{payload}'.encode(), hashlib.sha256))}"


async def user_of(token: str, verifier: TokenVerifier = VERIFIER) -> int:
    return await verifier.user_of([f"Bearer {token}"])


def respelt(token: str) -> str:
    """Another text that lenient decoders take for the same signature: its last character has two unused bits."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) ^ 1]


RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def pem(key: PrivateKey) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


def with_public_key(key: PrivateKey, algorithms: str = "RS256,ES256,EdDSA") -> TokenVerifier:
    return TokenVerifier(settings(jwt_secret="", jwt_public_key=pem(key), jwt_algorithms=algorithms), clock=now)


PUBLIC = with_public_key(RSA)
VALID = json.dumps(claims())
GOOD, INVALID, EXPIRED = "good", "token_invalid", "token_expired"
OWN_KEY = {"kty": "oct", "k": b64(SECRET.encode())}
DEEP = "[" * 200 + "]" * 200

CASES: list[tuple[str, str, str]] = [
    # --- what is signed in practice
    (GOOD, "as the main site signs them", signed(HEADER, claims())),
    (GOOD, "without typ", signed({"alg": "HS256"}, claims())),
    (GOOD, "an access token by its type", signed(HEADER | {"typ": "at+jwt"}, claims())),
    (GOOD, "only user_id", signed(HEADER, claims(sub=None))),
    (GOOD, "only sub", signed(HEADER, claims(user_id=None))),
    (GOOD, "an audience nobody configured", signed(HEADER, claims(aud="somebody"))),
    (GOOD, "a key id though there is one key", signed(HEADER | {"kid": "2026-11"}, claims())),
    (GOOD, "spaces within the JSON", signed('{ "alg" : "HS256" }\n', VALID)),
    # --- the signature
    (INVALID, "another secret", signed(HEADER, claims(), random_key())),
    (INVALID, "no signature", signed(HEADER, claims()).rpartition(".")[0] + "."),
    (INVALID, "claims of another token", signed(HEADER, claims()).replace(b64(VALID.encode()), b64(b"{}"))),
    (INVALID, "a signature spelt otherwise", respelt(signed(HEADER, claims()))),
    (INVALID, "a signature with ignored characters", signed(HEADER, claims()) + "!!"),
    (INVALID, "a signature and a line feed", signed(HEADER, claims()) + "\n"),
    # --- the algorithm
    (INVALID, "alg none", jwt.encode(claims(), "", "none")),
    (INVALID, "alg none with a signature", signed({"alg": "none"}, claims())),
    *((INVALID, f"alg {name}", signed({"alg": name}, claims())) for name in ("None", "NONE", "hs256", "HS256 ", "")),
    (INVALID, "an algorithm not configured", jwt.encode(claims(), SECRET * 2, "HS512")),
    (INVALID, "an algorithm that is a list", signed('{"alg": ["HS256"]}', claims())),
    (INVALID, "an algorithm that is null", signed('{"alg": null}', claims())),
    (INVALID, "no algorithm", signed({"typ": "JWT"}, claims())),
    (INVALID, "the algorithm twice", signed('{"alg": "none", "alg": "HS256"}', claims())),
    (INVALID, "the algorithm twice, once escaped", signed(r'{"alg": "none", "\u0061lg": "HS256"}', claims())),
    (INVALID, "signed by a public key", jwt.encode(claims(), RSA, "RS256")),
    # --- the header
    (INVALID, "a critical extension", signed(HEADER | {"crit": ["exp"]}, claims())),
    (INVALID, "an empty list of critical extensions", signed(HEADER | {"crit": []}, claims())),
    (INVALID, "an unencoded payload", signed(HEADER | {"b64": False, "crit": ["b64"]}, claims())),
    (INVALID, "compressed", signed(HEADER | {"zip": "DEF"}, claims())),
    (INVALID, "where its keys are", signed(HEADER | {"jku": "https://evil.example/jwks.json"}, claims())),
    (INVALID, "where its certificate is", signed(HEADER | {"x5u": "https://evil.example/c.pem"}, claims())),
    (INVALID, "its own key", signed(HEADER | {"jwk": OWN_KEY}, claims())),
    (INVALID, "its own certificate", signed(HEADER | {"x5c": ["MIIB"]}, claims())),
    (INVALID, "a key id that is a number", signed(HEADER | {"kid": 1}, claims())),
    (INVALID, "a key id that is an object", signed(HEADER | {"kid": {"$ne": ""}}, claims())),
    (INVALID, "an empty key id", signed(HEADER | {"kid": ""}, claims())),
    (INVALID, "a very long key id", signed(HEADER | {"kid": "k" * 257}, claims())),
    (INVALID, "another type", signed(HEADER | {"typ": "logout+jwt"}, claims())),
    (INVALID, "a type that is a list", signed(HEADER | {"typ": ["JWT"]}, claims())),
    # --- times, to the second; more below
    (INVALID, "no exp", signed(HEADER, claims(exp=None))),
    (INVALID, "exp null", signed(HEADER, '{"user_id": 5, "exp": null}')),
    (INVALID, "exp as text", signed(HEADER, claims(exp=str(int(NOW) + 3600)))),
    (INVALID, "exp true", signed(HEADER, claims(exp=True))),
    (INVALID, "exp in a list", signed(HEADER, claims(exp=[int(NOW) + 3600]))),
    (INVALID, "exp without end", signed(HEADER, '{"user_id": 5, "exp": 1e999}')),
    (INVALID, "exp NaN", signed(HEADER, '{"user_id": 5, "exp": NaN}')),
    (INVALID, "exp Infinity", signed(HEADER, '{"user_id": 5, "exp": Infinity}')),
    (INVALID, "exp below zero", signed(HEADER, claims(exp=-1))),
    (INVALID, "exp beyond the year 9999", signed(HEADER, claims(exp=253_402_300_800))),
    (INVALID, "exp of 64 bits", signed(HEADER, claims(exp=2**63))),
    (INVALID, "exp of 300 digits", signed(HEADER, claims(exp=10**300))),
    (INVALID, "exp of 5000 digits", signed(HEADER, f'{{"user_id": 5, "exp": 1{"0" * 4999}}}')),
    (INVALID, "exp twice", signed(HEADER, VALID[:-1] + ', "exp": 4000000000}')),
    (INVALID, "nbf as text", signed(HEADER, claims(nbf=str(int(NOW) - 1)))),
    (INVALID, "nbf true", signed(HEADER, claims(nbf=True))),
    (INVALID, "iat as text", signed(HEADER, claims(iat=str(int(NOW))))),
    (INVALID, "iat without end", signed(HEADER, '{"user_id": 5, "iat": -1e999, "exp": 1900000000}')),
    (EXPIRED, "expired in 1970", signed(HEADER, claims(exp=1))),
    (INVALID, "expired, signed by nobody", signed(HEADER, claims(exp=1), random_key())),
    # --- who
    (INVALID, "sub and user_id disagree", signed(HEADER, claims(sub="6"))),
    (INVALID, "sub spelt otherwise", signed(HEADER, claims(sub="05"))),
    (INVALID, "sub in other digits", signed(HEADER, claims(user_id=None, sub="\u0665"))),
    (INVALID, "sub as number", signed(HEADER, claims(sub=5))),
    (INVALID, "user_id as text", signed(HEADER, claims(user_id="5"))),
    (INVALID, "user_id true", signed(HEADER, claims(user_id=True, sub=None))),
    (INVALID, "user_id with a fraction", signed(HEADER, claims(user_id=5.0, sub=None))),
    (INVALID, "user_id zero", signed(HEADER, claims(user_id=0, sub="0"))),
    (INVALID, "user_id below zero", signed(HEADER, claims(user_id=-5, sub=None))),
    (INVALID, "user_id beyond the database", signed(HEADER, claims(user_id=2**63, sub=str(2**63)))),
    (INVALID, "nobody", signed(HEADER, claims(user_id=None, sub=None))),
    (INVALID, "sub is a name", signed(HEADER, claims(user_id=None, sub="anna"))),
    (INVALID, "user_id twice", signed(HEADER, VALID[:-1] + ', "user_id": 5}')),
    (INVALID, "a member twice, deep inside", signed(HEADER, VALID[:-1] + ', "x": {"a": {"b": 1, "b": 1}}}')),
    # --- the form
    (INVALID, "claims are a list", signed(HEADER, "[5]")),
    (INVALID, "the header is a list", signed('["HS256"]', claims())),
    (INVALID, "not JSON", signed(HEADER, "anna")),
    (INVALID, "two JSON values", signed(HEADER, VALID + VALID)),
    (INVALID, "nested too deep", signed(HEADER, VALID[:-1] + f', "x": {DEEP}}}')),
    (INVALID, "a header nested too deep", signed(f'{{"alg": "HS256", "x": {DEEP}}}', claims())),
    (INVALID, "claims not UTF-8", signed_text(b64(b'{"alg":"HS256"}'), b64(b'{"user_id":5,"x":"\xff"}'))),
    (INVALID, "claims with a byte order mark", signed(HEADER, "\ufeff" + VALID)),
    (INVALID, "two parts", "a.b"),
    (INVALID, "five parts", "a.b.c.d.e"),
    (INVALID, "padded", signed_text(b64(b'{"alg":"HS256"}') + "=", b64(VALID.encode()))),
    (INVALID, "the other base64", signed_text("+/" + b64(b'{"alg":"HS256"}'), b64(VALID.encode()))),
    (INVALID, "base64 with a space", signed_text(" " + b64(b'{"alg":"HS256"}'), b64(VALID.encode()))),
    (INVALID, "base64 in wide letters", signed_text("\uff45" + b64(b'{"alg":"HS256"}'), b64(VALID.encode()))),
    (INVALID, "a space that is not ASCII", signed(HEADER, claims()) + "\xa0"),
    (INVALID, "one word", "token"),
    (INVALID, "more than 8 KiB", signed(HEADER, claims(username="x" * 8192))),
    (INVALID, "not ASCII", "ключ.ключ.ключ"),
    # --- times at their edges; the leeway is 10 s
    (GOOD, "the last moment before exp", signed(HEADER, claims(exp=NOW + 0.001))),
    (GOOD, "at exp, within the leeway", signed(HEADER, claims(exp=NOW))),
    (GOOD, "the last moment of the leeway", signed(HEADER, claims(exp=NOW - LEEWAY_S + 0.001))),
    (EXPIRED, "at exp and the leeway", signed(HEADER, claims(exp=NOW - LEEWAY_S))),
    (GOOD, "a fraction in exp", signed(HEADER, claims(exp=NOW + 60.5))),
    (GOOD, "nbf at the leeway", signed(HEADER, claims(nbf=NOW + LEEWAY_S))),
    (INVALID, "nbf beyond the leeway", signed(HEADER, claims(nbf=NOW + LEEWAY_S + 0.001))),
    (GOOD, "iat at the leeway", signed(HEADER, claims(iat=NOW + LEEWAY_S))),
    (INVALID, "iat beyond the leeway", signed(HEADER, claims(iat=NOW + LEEWAY_S + 0.001))),
    (GOOD, "exp at the end of the year 9999", signed(HEADER, claims(exp=253_402_300_799))),
]
CONFUSED: list[tuple[str, str, str]] = [
    (GOOD, "the private key's", jwt.encode(claims(), RSA, "RS256")),
    (INVALID, "the public key as a shared secret", signed(HEADER, claims(), pem(RSA))),
    (INVALID, "the public key without its last line feed", signed(HEADER, claims(), pem(RSA).strip())),
    (INVALID, "another algorithm of the same key", jwt.encode(claims(), RSA, "PS256")),
    (INVALID, "a stronger algorithm of the same key", jwt.encode(claims(), RSA, "RS512")),
    (INVALID, "a key of another kind", jwt.encode(claims(), EC, "ES256")),
    (INVALID, "none", jwt.encode(claims(), "", "none")),
]
"""Tokens for a verifier whose key is RSA."""


@pytest.mark.parametrize(
    ("outcome", "verifier", "token"),
    [(outcome, VERIFIER, token) for outcome, _, token in CASES]
    + [(outcome, PUBLIC, token) for outcome, _, token in CONFUSED],
    ids=[name for _, name, _ in CASES] + [f"RSA: {name}" for _, name, _ in CONFUSED],
)
async def test_a_token(outcome: str, verifier: TokenVerifier, token: str) -> None:
    if outcome == GOOD:
        assert await user_of(token, verifier) == 5
        return
    with pytest.raises(ProblemError) as refused:
        await user_of(token, verifier)
    assert (refused.value.status_code, refused.value.code) == (401, outcome)
    message = {INVALID: "The token is not valid", EXPIRED: "The token has expired"}[outcome]
    assert refused.value.message == message, "which check failed is nobody's business"
    assert refused.value.headers["WWW-Authenticate"].startswith('Bearer error="invalid_token"')


async def test_a_token_that_was_verified_before_still_expires() -> None:
    clock = [NOW]
    verifier = TokenVerifier(settings(jwt_leeway_s=0), clock=lambda: clock[0])
    token = jwt.encode(claims(exp=int(NOW) + 60, nbf=int(NOW)), SECRET, "HS256")
    for at, outcome in ((0, None), (59, None), (60, EXPIRED), (-60, INVALID), (30, None)):
        clock[0] = NOW + at
        if outcome is None:
            assert await user_of(token, verifier) == 5
            continue
        with pytest.raises(ProblemError) as refused:
            await user_of(token, verifier)
        assert refused.value.code == outcome


async def test_what_is_like_a_verified_token_is_none() -> None:
    verifier = TokenVerifier(settings(), clock=now)
    token = jwt.encode(claims(), SECRET, "HS256")
    assert await user_of(token, verifier) == 5
    header, payload, signature = token.split(".")
    other = b64(json.dumps(claims(user_id=6, sub="6")).encode())
    for forged in (f"{header}.{other}.{signature}", f"{header}.{payload}.{signature[::-1]}", token + "=", token[:-1]):
        with pytest.raises(ProblemError) as refused:
            await user_of(forged, verifier)
        assert refused.value.code == INVALID


async def test_only_so_many_tokens_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwt_auth, "KNOWN", 2)
    verifier = TokenVerifier(settings(), clock=now)
    for user_id in (5, 6, 7, 5):
        token = jwt.encode(claims(user_id=user_id, sub=str(user_id)), SECRET, "HS256")
        assert await user_of(token, verifier) == user_id
        assert await user_of(token, verifier) == user_id
    with pytest.raises(ProblemError):
        await user_of("x.y.z", verifier)
    assert len(verifier._known) == 2, "a refused token takes no place"


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
    verifier = TokenVerifier(settings(jwt_issuer="https://main-site.example", jwt_audience="panel"), clock=now)
    token = signed(HEADER, claims(**changes))
    if accepted:
        assert await user_of(token, verifier) == 5
    else:
        with pytest.raises(ProblemError):
            await user_of(token, verifier)


WEAK = rsa.generate_private_key(65537, 1024)  # noqa: S505 - to see it refused


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
    (
        "HS256 and a public key",
        {"jwt_secret": "", "jwt_public_key": pem(RSA), "jwt_algorithms": "HS256,RS256"},
        "confusion",
    ),
    ("a secret and a public key", {"jwt_public_key": pem(RSA), "jwt_algorithms": "RS256"}, "exclude each other"),
    (
        "a public key and an address",
        {
            "jwt_secret": "",
            "jwt_public_key": pem(RSA),
            "jwt_jwks_url": "https://sso.example",
            "jwt_algorithms": "RS256",
        },
        "exclude each other",
    ),
    (
        "an address without TLS",
        {"jwt_secret": "", "jwt_jwks_url": "http://sso.example/k", "jwt_algorithms": "RS256"},
        "must start with https",
    ),
    ("a short secret", {"jwt_secret": "s" * 31}, "at least 32 bytes"),
    ("an algorithm nobody knows", {"jwt_algorithms": "HS256,none"}, "JWT_ALGORITHMS must be"),
    ("a secret without HS256", {"jwt_algorithms": "RS256"}, "JWT_ALGORITHMS must list HS256"),
]


@pytest.mark.parametrize(("changes", "sentence"), [c[1:] for c in WRONG_SETTINGS], ids=[c[0] for c in WRONG_SETTINGS])
def test_settings_that_cannot_work_stop_the_start(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        TokenVerifier(settings(**changes))
