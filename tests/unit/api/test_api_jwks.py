"""Keys from an address: rotation, outages, and what is never taken for a key."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from api.jwks import FRESH_S, KEPT_S, RETRY_S, SIZE_LIMIT, Jwks, KeysAwayError
from api.jwt_auth import TokenVerifier
from api.problems import ProblemError
from panel.settings import load_settings

URL = "https://sso.example/jwks.json"
ONE, TWO = (rsa.generate_private_key(65537, 2048) for _ in range(2))


def public(key: rsa.RSAPrivateKey, kid: str | None, **more: object) -> dict[str, Any]:
    found: dict[str, Any] = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return found | ({"kid": kid} if kid else {}) | more


class Address:
    """Answers with whatever the test says; counts."""

    def __init__(self) -> None:
        self.body: object = {"keys": [public(ONE, "one")]}
        self.status = 200
        self.asked = 0
        self.now = 1000.0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        await asyncio.sleep(0)
        if self.status == 0:
            raise httpx.ConnectError("refused", request=request)
        content = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        return httpx.Response(self.status, content=content)

    def clock(self) -> float:
        return self.now


@pytest.fixture
def address() -> Address:
    return Address()


@pytest.fixture
async def keys(address: Address) -> AsyncIterator[Jwks]:
    made = Jwks(URL, ("RS256",), address.clock, httpx.MockTransport(address))
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


@pytest.mark.parametrize("fault", ["refused", "500", "html", "too large", "empty"])
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
        case _:
            address.body = {"keys": []}
    address.now += FRESH_S
    assert await keys.key_for("one", "RS256")
    assert address.asked == 2
    assert await keys.key_for("one", "RS256")
    assert address.asked == 2, "an address that is down is not asked for every token"
    address.now += KEPT_S
    with pytest.raises(KeysAwayError):
        await keys.key_for("one", "RS256")


NO_KEYS: list[tuple[str, dict[str, Any]]] = [
    ("a shared secret", {"kty": "oct", "kid": "one", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "alg": "HS256"}),
    ("a shared secret that says RS256", {"kty": "oct", "kid": "one", "k": "c2VjcmV0", "alg": "RS256"}),
    ("a key for encryption", public(ONE, "one", use="enc")),
    ("another algorithm", public(ONE, "one", alg="RS512")),
    ("half a key", {"kty": "RSA", "kid": "one", "n": "AQAB"}),
    ("no kind", {"kid": "one"}),
]


@pytest.mark.parametrize("entry", [c[1] for c in NO_KEYS], ids=[c[0] for c in NO_KEYS])
async def test_what_is_no_verifying_key_is_left_out(keys: Jwks, address: Address, entry: dict[str, Any]) -> None:
    address.body = {"keys": [entry, "nonsense", public(TWO, "two")]}
    assert await keys.key_for("one", "RS256") is None
    assert await keys.key_for("two", "RS256")


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
