"""Keys from an address: rotation, outages, and what is never taken for a key."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from api.client.jwks import FRESH_S, KEPT_S, RETRY_S, SIZE_LIMIT, Jwks, KeysAwayError
from api.client.jwt_auth import TokenVerifier
from api.http.problems import ProblemError
from panel.settings import load_settings
from tests.integration.sources.raw_server import RawServer, http

URL = "https://sso.example/jwks.json"
ONE, TWO = (rsa.generate_private_key(65537, 2048) for _ in range(2))
SHORT = rsa.generate_private_key(65537, 1024)  # noqa: S505 - to see it refused
CURVE = ec.generate_private_key(ec.SECP256R1())


def public(key: rsa.RSAPrivateKey, kid: str | None, **more: object) -> dict[str, Any]:
    found: dict[str, Any] = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return found | ({"kid": kid} if kid else {}) | more


class Address:
    """Answers with whatever the test says; counts."""

    def __init__(self) -> None:
        self.body: object = {"keys": [public(ONE, "one")]}
        self.status = 200
        self.headers: dict[str, str] = {}
        self.too_slow = False
        self.urls: list[str] = []
        self.now = 1000.0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.urls.append(str(request.url))
        if self.too_slow:
            raise httpx.ReadTimeout("", request=request)
        if self.status == 0:
            raise httpx.ConnectError("refused", request=request)
        content = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        return httpx.Response(self.status, content=content, headers=self.headers)

    @property
    def asked(self) -> int:
        return len(self.urls)

    def clock(self) -> float:
        return self.now


@pytest.fixture
def address() -> Address:
    return Address()


@pytest.fixture
async def keys(address: Address) -> AsyncIterator[Jwks]:
    made = Jwks(URL, ("RS256",), address.clock, transport=httpx.MockTransport(address))
    yield made
    await made.close()


async def test_one_fetch_serves_all_and_lasts(keys: Jwks, address: Address) -> None:
    found = await asyncio.gather(*(keys.key_for("one", "RS256") for _ in range(20)))
    assert all(found)
    address.now += FRESH_S - 1
    assert await keys.key_for("one", "RS256")
    assert address.asked == 1


async def test_a_new_key_is_found_when_a_token_names_it_but_not_more_often_than_agreed(
    keys: Jwks, address: Address
) -> None:
    assert await keys.key_for("two", "RS256") is None
    assert address.asked == 1, "made-up key ids must not turn into requests"
    address.body = {"keys": [public(ONE, "one"), public(TWO, "two")]}
    address.now += RETRY_S
    assert await keys.key_for("two", "RS256")
    assert await keys.key_for("three", "RS256") is None
    assert address.asked == 2


async def test_a_withdrawn_key_is_refused_once_the_keys_are_read_again(keys: Jwks, address: Address) -> None:
    assert await keys.key_for("one", "RS256")
    address.body = {"keys": [public(TWO, "two")]}
    address.now += FRESH_S
    assert await keys.key_for("one", "RS256") is None


@pytest.mark.parametrize(
    "fault",
    [
        "refused",
        "500",
        "html",
        "too large",
        "empty",
        "no object",
        "deep",
        "twice",
        "moved",
        "compressed twice",
        "too slow",
    ],
)
async def test_an_outage_keeps_the_known_keys_for_hours_not_for_ever(keys: Jwks, address: Address, fault: str) -> None:
    assert await keys.key_for("one", "RS256")
    match fault:
        case "refused":
            address.status = 0
        case "500":
            address.status = 500
        case "html":
            address.body = b"<html>"
        case "too large":
            address.body = b" " * (SIZE_LIMIT + 1) + json.dumps({"keys": [public(ONE, "one")]}).encode()
        case "no object":
            address.body = [public(TWO, "two")]
        case "deep":
            address.body = b"[" * 100_000
        case "twice":
            address.body = b'{"keys": [], "keys": ' + json.dumps([public(TWO, "two")]).encode() + b"}"
        case "moved":
            address.status, address.headers = 302, {"Location": "https://evil.example/jwks.json"}
        case "compressed twice":
            address.headers = {"Content-Encoding": "gzip, gzip"}
            address.body = gzip.compress(gzip.compress(json.dumps({"keys": [public(TWO, "two")]}).encode()))
        case "too slow":
            address.too_slow = True
        case _:
            address.body = {"keys": []}
    address.now += FRESH_S
    assert await keys.key_for("one", "RS256")
    assert address.asked == 2
    assert await keys.key_for("one", "RS256")
    assert address.asked == 2, "an address that is down is not asked for every token"
    with pytest.raises(KeysAwayError):
        await keys.key_for("two", "RS256")  # nobody can say now that there is no such key
    address.now += KEPT_S
    with pytest.raises(KeysAwayError):
        await keys.key_for("one", "RS256")
    assert set(address.urls) == {URL}


async def test_after_an_outage_an_unknown_key_is_unknown_again(keys: Jwks, address: Address) -> None:
    address.status = 0
    with pytest.raises(KeysAwayError):
        await keys.key_for("made-up", "RS256")
    address.status = 200
    address.now += RETRY_S
    assert await keys.key_for("made-up", "RS256") is None


TRICKS = {
    "a path": "../../../../dev/null",
    "an absolute path": "/etc/passwd",
    "SQL": "one' OR '1'='1",
    "an address": "https://evil.example/jwks.json",
    "a NUL in disguise": "one%00",
    "another case": "ONE",
    "a space": "one ",
    "a look-alike": "\u043ene",
    "a line feed": "one\n",
    "a template": "{{one}}",
}


@pytest.mark.parametrize("kid", TRICKS.values(), ids=TRICKS)
async def test_a_key_id_is_only_a_name(keys: Jwks, address: Address, kid: str) -> None:
    verifier = TokenVerifier(load_settings(_env_file=None, jwt_jwks_url=URL, jwt_algorithms="RS256"), keys)
    claims = {"user_id": 5, "exp": int(time.time()) + 60}
    for number in range(20):
        token = jwt.encode(claims, ONE, "RS256", headers={"kid": kid if number % 2 else f"{kid}{number}"})
        with pytest.raises(ProblemError) as refused:
            await verifier.user_of([f"Bearer {token}"])
        assert refused.value.code == "token_invalid"
    assert address.urls == [URL], "one fetch for all of them, and from nowhere else"


NO_KEYS: list[tuple[str, dict[str, Any]]] = [
    ("a shared secret", {"kty": "oct", "kid": "one", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "alg": "HS256"}),
    ("a shared secret that says RS256", {"kty": "oct", "kid": "one", "k": "c2VjcmV0", "alg": "RS256"}),
    ("a key for encryption", public(ONE, "one", use="enc")),
    ("another algorithm", public(ONE, "one", alg="RS512")),
    ("a key for signing only", public(ONE, "one", key_ops=["sign"])),
    ("operations that are no list", public(ONE, "one", key_ops="verify")),
    ("a key that says HS256", public(ONE, "one", alg="HS256")),
    ("a key that says none", public(ONE, "one", alg="none")),
    ("a short key", public(SHORT, "one")),
    ("a published private key", RSAAlgorithm.to_jwk(ONE, as_dict=True) | {"kid": "one"}),
    ("a curve that says RS256", ECAlgorithm.to_jwk(CURVE.public_key(), as_dict=True) | {"kid": "one", "alg": "RS256"}),
    ("numbers for letters", public(ONE, "one", n=5, e=[1])),
    ("half a key", {"kty": "RSA", "kid": "one", "n": "AQAB"}),
    ("no kind", {"kid": "one"}),
]


@pytest.mark.parametrize("entry", [c[1] for c in NO_KEYS], ids=[c[0] for c in NO_KEYS])
async def test_what_is_no_verifying_key_is_left_out(keys: Jwks, address: Address, entry: dict[str, Any]) -> None:
    address.body = {"keys": [entry, "nonsense", public(TWO, "two")]}
    assert await keys.key_for("one", "RS256") is None
    assert await keys.key_for("two", "RS256")


@pytest.mark.parametrize(
    ("key", "algorithm", "fits"),
    [
        (ECAlgorithm.to_jwk(CURVE.public_key(), as_dict=True), "ES256", True),
        (ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key(), as_dict=True), "ES256", False),
        (OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.generate().public_key(), as_dict=True), "EdDSA", True),
        (OKPAlgorithm.to_jwk(ed448.Ed448PrivateKey.generate().public_key(), as_dict=True), "EdDSA", False),
    ],
    ids=["P-256", "P-384", "Ed25519", "Ed448"],
)
async def test_the_curve_fits_the_algorithm(
    address: Address, key: dict[str, Any], algorithm: str, *, fits: bool
) -> None:
    keys = Jwks(URL, (algorithm, "RS256"), address.clock, transport=httpx.MockTransport(address))
    address.body = {"keys": [key | {"kid": "one"}, public(TWO, "two")]}
    try:
        assert (await keys.key_for("one", algorithm) is not None) is fits
        assert await keys.key_for("two", algorithm) is None, "a key of another kind, whatever the token says"
    finally:
        await keys.close()


KEYS = Jwks(URL, ("RS256", "ES256", "EdDSA"), time.monotonic)


@settings(deadline=None, max_examples=60)
@given(
    st.dictionaries(
        st.sampled_from(["kty", "crv", "n", "e", "x", "y", "alg", "use", "key_ops", "kid", "x5c", "oth"]),
        st.sampled_from(["RSA", "EC", "OKP", "P-256", "Ed25519", "AQAB", "RS256", "sig", "", "=", "\ud800", "\0"])
        | st.text(max_size=8)
        | st.none()
        | st.integers()
        | st.lists(st.integers(), max_size=2)
        | st.just({"a": 1}),
    )
)
def test_any_entry_is_a_key_or_none(entry: dict[str, Any]) -> None:
    KEYS._usable(entry)


NONSENSE = [
    b"220 smtp.test ESMTP\r\n",
    http(status="302 Found", extra="Location: javascript:1\r\n"),
    http(b"{}", extra="Content-Encoding: gzip, gzip\r\n"),
    http(b"[" * 100_000),
    http(b'{"keys": [' + b"9" * 5_000 + b"]}"),
    http(b"\xff\xfe"),
]


@pytest.mark.parametrize("wire", NONSENSE, ids=range(len(NONSENSE)))
async def test_nonsense_from_the_address_is_503_past_every_proxy(monkeypatch: pytest.MonkeyPatch, wire: bytes) -> None:
    with RawServer(wire) as server, RawServer(http(json.dumps({"keys": [public(ONE, "one")]}).encode())) as trap:
        for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://{trap.authority}")
        url = f"http://{server.authority}/jwks.json"
        keys = Jwks(url, ("RS256",), time.monotonic)
        verifier = TokenVerifier(load_settings(_env_file=None, jwt_jwks_url=url, jwt_algorithms="RS256"), keys)
        claims = {"user_id": 5, "exp": int(time.time()) + 60}
        with pytest.raises(ProblemError) as refused:
            await verifier.user_of(["Bearer " + jwt.encode(claims, ONE, "RS256", headers={"kid": "one"})])
        await keys.close()
        assert (refused.value.status_code, refused.value.code) == (503, "token_keys_away")
        assert (len(server.heads), trap.connections) == (1, 0)


async def test_a_token_without_key_id_fits_only_a_single_key(keys: Jwks, address: Address) -> None:
    assert await keys.key_for(None, "RS256")
    address.body = {"keys": [public(ONE, "one"), public(TWO, "two")]}
    address.now += FRESH_S
    assert await keys.key_for(None, "RS256") is None


async def test_tokens_are_verified_with_fetched_keys_and_503_tells_an_outage(keys: Jwks, address: Address) -> None:
    verifier = TokenVerifier(load_settings(_env_file=None, jwt_jwks_url=URL, jwt_algorithms="RS256"), keys)
    claims = {"user_id": 5, "exp": int(time.time()) + 60}
    address.status = 0
    with pytest.raises(ProblemError) as refused:
        await verifier.user_of(["Bearer " + jwt.encode(claims, ONE, "RS256", headers={"kid": "one"})])
    assert (refused.value.status_code, refused.value.code) == (503, "token_keys_away")
    address.status = 200
    address.now += RETRY_S
    assert await verifier.user_of(["Bearer " + jwt.encode(claims, ONE, "RS256", headers={"kid": "one"})]) == 5
    with pytest.raises(ProblemError) as refused:
        await verifier.user_of(["Bearer " + jwt.encode(claims, TWO, "RS256", headers={"kid": "one"})])
    assert refused.value.code == "token_invalid"


async def test_a_verified_token_is_refused_once_its_key_is_withdrawn(keys: Jwks, address: Address) -> None:
    verifier = TokenVerifier(load_settings(_env_file=None, jwt_jwks_url=URL, jwt_algorithms="RS256"), keys)
    bearer = [
        "Bearer " + jwt.encode({"user_id": 5, "exp": int(time.time()) + 60}, ONE, "RS256", headers={"kid": "one"})
    ]
    for _ in range(2):
        assert await verifier.user_of(bearer) == 5
    address.now += FRESH_S
    assert await verifier.user_of(bearer) == 5, "the keys were read again, and it is one of them"
    address.body = {"keys": [public(TWO, "one")]}
    address.now += FRESH_S
    with pytest.raises(ProblemError) as refused:
        await verifier.user_of(bearer)
    assert refused.value.code == "token_invalid", "the name of its key is now another key's"


async def test_a_session_is_good_while_its_key_is_in_the_set(keys: Jwks, address: Address) -> None:
    verifier = TokenVerifier(load_settings(_env_file=None, jwt_jwks_url=URL, jwt_algorithms="RS256"), keys)
    claims = {"user_id": 5, "exp": int(time.time()) + 60}
    began = (await verifier.verified(jwt.encode(claims, ONE, "RS256", headers={"kid": "one"}))).key
    address.body = {"keys": [public(ONE, "renamed"), public(TWO, "two")]}
    address.now += FRESH_S
    assert await verifier.in_use(began), "the same key under another name"
    address.body = {"keys": [public(TWO, "one")]}
    address.now += FRESH_S - 1
    assert await verifier.in_use(began), "the set at hand is fresh"
    address.now += 1
    assert not await verifier.in_use(began), "no token is needed to notice it"
    address.status = 0
    address.now += KEPT_S
    with pytest.raises(ProblemError, match="cannot be read"):
        await verifier.in_use(began)
