"""Where messages may be sent to, and how long a receiver may ask to be left alone."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sources.outgoing.public_addresses import is_public
from sources.outgoing.receiver import retry_after_s

NOT_PUBLIC = [
    ("127.0.0.1", "this host"),
    ("127.8.8.8", "this host, too"),
    ("0.0.0.0", "this host, to most systems"),  # noqa: S104 - only looked at
    ("10.0.0.1", "a private network"),
    ("172.31.255.255", "the end of one"),
    ("192.168.1.1", "a router at home"),
    ("169.254.169.254", "a cloud's metadata"),
    ("100.64.0.1", "behind a provider's NAT"),
    ("192.0.2.1", "documentation"),
    ("224.0.0.1", "a group of hosts"),
    ("255.255.255.255", "everybody on the link"),
    ("240.0.0.1", "reserved"),
    ("::1", "this host"),
    ("::", "this host, to most systems"),
    ("fe80::1", "a link"),
    ("fe80::1%eth0", "a link, by name"),
    ("fd00::1", "a private network"),
    ("ff02::1", "everybody on the link"),
    ("2001:db8::1", "documentation"),
    ("::ffff:10.0.0.1", "a private IPv4 address in disguise"),
    ("::ffff:169.254.169.254", "a cloud's metadata in disguise"),
    ("64:ff9b::a00:1", "10.0.0.1 behind NAT64"),
    ("64:ff9b::7f00:1", "127.0.0.1 behind NAT64"),
    ("2002:a00:1::1", "10.0.0.1 by 6to4"),
    ("2001:0:4136:e378:8000:63bf:f5ff:fffe", "10.0.0.1 by Teredo"),
    ("::10.0.0.1", "10.0.0.1 as IPv6 once wrote it"),
    ("::ffff:0:a00:1", "10.0.0.1, translated"),
    ("64:ff9b:1::a9fe:a9fe", "a cloud's metadata behind a network's own NAT64"),
    ("fec0::1", "a site"),
    ("3fff::1", "documentation"),
    ("5f00::1", "segment routing"),
    ("192.0.0.192", "protocols, and a cloud's metadata"),
    ("168.63.129.16", "a cloud's inner service"),
]


@pytest.mark.parametrize(("address", "reason"), NOT_PUBLIC, ids=[address for address, _ in NOT_PUBLIC])
def test_an_address_that_is_not_public(address: str, reason: str) -> None:
    assert not is_public(address), reason


@pytest.mark.parametrize("address", ["8.8.8.8", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_an_address_that_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    ("value", "seconds", "reason"),
    [
        (None, None, "nothing asked for"),
        ("120", 120.0, "seconds"),
        (" 7 ", 7.0, "with spaces"),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 100.0, "a date"),
        ("Wed, 31 Dec 1969 23:00:00 GMT", 0.0, "a date that is past"),
        ("soon", None, "nonsense"),
        ("-5", None, "nonsense"),
        ("1e9", None, "nonsense"),
        ("99999999999999999999", None, "too long to be meant"),
        ("Thu, 99 Jan 1970 00:01:40 GMT", None, "no date"),
    ],
)
def test_retry_after(value: str | None, seconds: float | None, reason: str) -> None:
    assert retry_after_s(value, 0.0) == seconds, reason


@given(st.text(max_size=60))
@example("0\x1f")
def test_no_text_breaks_retry_after(value: str) -> None:
    asked = retry_after_s(value, 0.0)
    assert asked is None or asked >= 0
