"""The public authorities are read once, and again when the host's change."""

from __future__ import annotations

import ssl

import pytest

from sources.outgoing import tls


def test_they_are_read_once_until_they_change(monkeypatch: pytest.MonkeyPatch) -> None:
    first = tls.trusting_authorities(None)
    assert tls.trusting_authorities(None) is first
    assert (first.verify_mode, first.check_hostname) == (ssl.CERT_REQUIRED, True)
    monkeypatch.setattr(tls, "_their_age", lambda: (1, 2, 3))
    again = tls.trusting_authorities(None)
    assert again is not first
    assert (again.verify_mode, again.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_a_host_without_authorities_of_its_own_has_an_age_too(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = ssl.get_default_verify_paths()._replace(cafile="", capath="/no/such/directory")
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: nowhere)
    assert tls._their_age()[:2] == (0, 0)
