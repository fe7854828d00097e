"""The main site's keys, and the limit on wrong ones."""

from __future__ import annotations

import hmac

import pytest
from pydantic import SecretStr

from api.main_site import api_keys
from api.main_site.api_keys import (
    BAD_KEYS_ALLOWED,
    PREFIX_BYTES,
    WINDOW_S,
    ApiKeys,
    BadKeyLimiter,
    KeyPrefixes,
)
from api.operators.operator_keys import CallingOperator, OperatorKeys
from panel.settings import OperatorKey
from tests.support.keys import random_key

CURRENT, PREVIOUS = random_key(), random_key()
KEYS = ApiKeys({"current": SecretStr(CURRENT), "previous": SecretStr(PREVIOUS)})


@pytest.mark.parametrize(
    ("given", "label"),
    [
        ([CURRENT.encode()], "current"),
        ([PREVIOUS.encode()], "previous"),
        ([], None),
        ([b""], None),
        ([CURRENT.encode()[:-1]], None),
        ([CURRENT.encode() + b"x"], None),
        (["ключ".encode()], None),
        ([b"\xff\xfe"], None),
        ([CURRENT.encode(), CURRENT.encode()], None),
        ([CURRENT.swapcase().encode()], None),
    ],
    ids=["current", "previous", "none", "empty", "shorter", "longer", "UTF-8", "not text", "two headers", "other case"],
)
def test_which_key_is_it(given: list[bytes], label: str | None) -> None:
    headers = [(b"host", b"panel"), *((b"x-api-key", value) for value in given)]
    assert KEYS.label_of(headers) == label


def test_an_unset_previous_key_matches_nothing() -> None:
    keys = ApiKeys({"current": SecretStr(CURRENT), "previous": SecretStr("")})
    assert keys.label_of([(b"x-api-key", b"")]) is None
    assert keys.label_of([(b"x-api-key", CURRENT.encode())]) == "current"


def test_both_keys_are_always_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    real = hmac.compare_digest

    def noting(given: bytes, key: bytes) -> bool:
        compared.append((given, key))
        return real(given, key)

    monkeypatch.setattr(hmac, "compare_digest", noting)
    assert KEYS.label_of([(b"x-api-key", CURRENT.encode())]) == "current"
    assert len(compared) == 2


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_too_many_wrong_keys_are_told_to_wait_and_then_may_try_again() -> None:
    clock = Clock()
    limiter = BadKeyLimiter(clock)
    first = [limiter.refusal("192.0.2.1", None) for _ in range(BAD_KEYS_ALLOWED)]
    assert {(e.status_code, e.message) for e in first} == {(401, "Invalid or missing API key")}
    clock.now += 20
    limited = limiter.refusal("192.0.2.1", None)
    assert (limited.status_code, limited.code) == (429, "too_many_bad_keys")
    assert limited.headers == {"Retry-After": "40"}
    assert limiter.refusal("192.0.2.2", None).status_code == 401, "another address is not to blame"
    clock.now += WINDOW_S
    assert limiter.refusal("192.0.2.1", None).status_code == 401


def test_one_ipv6_host_cannot_use_its_many_addresses() -> None:
    limiter = BadKeyLimiter(Clock())
    codes = [limiter.refusal(f"2001:db8::{n:x}", None).status_code for n in range(BAD_KEYS_ALLOWED + 1)]
    assert codes == [401] * BAD_KEYS_ALLOWED + [429]


def test_a_spray_of_one_beginning_from_many_addresses_is_limited() -> None:
    clock = Clock()
    limiter = BadKeyLimiter(clock)
    codes = [limiter.refusal(f"192.0.2.{n}", "0a1b2c3d4e5f").status_code for n in range(BAD_KEYS_ALLOWED + 1)]
    assert codes == [401] * BAD_KEYS_ALLOWED + [429]
    clock.now += 15
    limited = limiter.refusal("192.0.2.250", "0a1b2c3d4e5f")
    assert limited.headers == {"Retry-After": "45"}
    assert limiter.refusal("192.0.2.251", "f5e4d3c2b1a0").status_code == 401, "another beginning"
    assert limiter.refusal("192.0.2.251", None).status_code == 401, "no key at all"


def test_whoever_exceeds_both_limits_waits_for_the_later_one() -> None:
    clock = Clock()
    limiter = BadKeyLimiter(clock)
    for _ in range(BAD_KEYS_ALLOWED):
        limiter.refusal("192.0.2.1", None)
    clock.now += 10
    for n in range(BAD_KEYS_ALLOWED):
        limiter.refusal(f"192.0.2.{n + 2}", "0a1b2c3d4e5f")
    assert limiter.refusal("192.0.2.1", "0a1b2c3d4e5f").headers == {"Retry-After": "60"}


def test_a_prefix_is_named_by_a_hash_that_needs_the_secret() -> None:
    ours, theirs = KeyPrefixes(SecretStr(CURRENT)), KeyPrefixes(SecretStr(PREVIOUS))

    def header(key: bytes) -> list[tuple[bytes, bytes]]:
        return [(b"x-api-key", key)]

    beginning = b"b" * PREFIX_BYTES
    name = ours.name_of(header(beginning + b"one"))
    assert (
        name
        == ours.name_of(header(beginning + b"another"))
        == KeyPrefixes(SecretStr(CURRENT)).name_of(header(beginning))
    )
    assert name is not None
    assert len(name) == 12
    assert name != ours.name_of(header(b"a" + beginning[1:]))
    assert name != theirs.name_of(header(beginning))
    assert ours.name_of([(b"host", b"panel")]) is None
    assert ours.name_of(header(b"\xff")), "not text is a key too, a wrong one"


OPERATORS = OperatorKeys(
    [
        OperatorKey(name="ann", role="operate", key=SecretStr(CURRENT), previous=SecretStr(PREVIOUS)),
        OperatorKey(name="eyes", role="read", key=SecretStr("e" * 32)),
    ]
)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (CURRENT, CallingOperator("ann", "ann", "operate")),
        (PREVIOUS, CallingOperator("ann/previous", "ann", "operate")),
        ("e" * 32, CallingOperator("eyes", "eyes", "read")),
        ("", None),
        (CURRENT[:-1], None),
    ],
    ids=["current", "previous", "another", "empty", "shorter"],
)
def test_which_operator_is_it(given: str, found: CallingOperator | None) -> None:
    assert OPERATORS.operator_of([(b"x-api-key", given.encode())]) == found


def test_without_operators_nobody_is_one() -> None:
    assert OperatorKeys([]).operator_of([(b"x-api-key", b"")]) is None


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_keys, "WINDOWS_KEPT", 3)
    limiter = BadKeyLimiter(Clock())
    for n in range(50):
        limiter.refusal(f"192.0.2.{n}", f"prefix {n}")
    assert (len(limiter._addresses), len(limiter._prefixes)) == (3, 3)
    assert limiter.refusal(None, None).status_code == 401
