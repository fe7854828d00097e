"""Reads the main site's signed link ``/sign-in?user_id=&username=&email=&time=&signature=``. Pure.

The signature is an HMAC-SHA256, in hex, over the four values joined by line breaks. No value may contain a line break,
so two different links never have the same text.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable

from domain.record_columns import MAX_ID
from panel.clients.sign_in_links import SignInLink

NAMES = ("user_id", "username", "email", "time", "signature")

_TEXT = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,255}")
_FORMS = {
    "user_id": re.compile(r"[1-9][0-9]{0,18}"),
    "username": _TEXT,
    "email": re.compile(
        r"(?=.{0,254}$)(|[^\s\x00-\x1f\x7f-\x9f\ud800-\udfff@]+@[^\s\x00-\x1f\x7f-\x9f\ud800-\udfff@]+)"
    ),
    "time": re.compile(r"[1-9][0-9]{0,10}"),
    "signature": re.compile(r"[0-9A-Fa-f]{64}"),
}


class InvalidLinkError(Exception):
    """The link is not of the form that is agreed on. ``field``: the parameter that is wrong."""

    def __init__(self, field: str) -> None:
        super().__init__(field)
        self.field = field


class WrongSignatureError(Exception):
    """The link was not signed with the secret of the panel."""


def signature_of(secret: bytes, user_id: str, username: str, email: str, time: str) -> str:
    """The signature, in lower-case hex."""
    signed = f"{user_id}\n{username}\n{email}\n{time}".encode()
    return hmac.new(secret, signed, hashlib.sha256).hexdigest()


def read_link(parameters: Iterable[tuple[str, str]], secret: str) -> SignInLink:
    """The link with these query parameters. Other parameters than ``NAMES`` are ignored.

    Raises InvalidLinkError and WrongSignatureError.
    """
    given: dict[str, list[str]] = {name: [] for name in NAMES}
    for name, value in parameters:
        if name in given:
            given[name].append(value)
    for name, values in given.items():
        if len(values) != 1 or not _FORMS[name].fullmatch(values[0]):
            raise InvalidLinkError(name)
    user_id, username, email, time, signature = (given[name][0] for name in NAMES)
    if int(user_id) > MAX_ID:
        raise InvalidLinkError("user_id")
    expected = signature_of(secret.encode(), user_id, username, email, time)
    if not hmac.compare_digest(expected, signature.lower()):
        raise WrongSignatureError
    return SignInLink(int(user_id), username, email or None, int(time), expected)
