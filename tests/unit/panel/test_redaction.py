"""Every secret of the settings is known to the redactor, and struck out in any spelling."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from panel.redaction import REDACTED, Redactor, secrets_of
from panel.settings import Settings
from tests.support.keys import random_key, random_webhook_secret

CLUSTER = {"name": "main", "urls": ["https://pve:8006"], "token_id": "panel@pve!sync", "token_secret": "cluster-token"}


def test_every_secret_field_is_known() -> None:
    """One that is added to the settings is redacted without anybody thinking of it."""
    plain = {name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}
    assert len(plain) >= 7
    values: dict[str, Any] = {name: random_key() for name in plain}
    values["finding_webhook_url"] = f"https://hook/{random_key()}"
    values |= {name: random_webhook_secret() for name in plain if name.startswith("main_site_webhook_secret")}
    words = {name: random_key() for name in plain if name.endswith("_proxy")}
    values |= {name: f"http://user:{word}@proxy:3128" for name, word in words.items()}
    settings = Settings(
        _env_file=None,
        **values,
        ops_api_keys=[{"name": "ann", "role": "read", "key": (ann := random_key()), "previous": (was := random_key())}],
        proxmox_clusters=[CLUSTER],
        database_url="postgresql://panel:p%40ss-word@h/d",
        database_owner_url="postgresql://owner:owner-word@h/d",
        redis_url="redis://:redis-word@h/0?db=1&password=query%2Bword",
    )
    expected = {
        *values.values(),
        *words.values(),
        ann,
        was,
        "cluster-token",
        "p%40ss-word",
        "p@ss-word",
        "owner-word",
        "redis-word",
    }
    expected |= {"query%2Bword", "query+word"}
    assert secrets_of(settings) == expected
    assert secrets_of(Settings(_env_file=None)) == frozenset()


@pytest.mark.parametrize(
    ("url", "known", "words"),
    [
        ("postgresql://panel@h/d?sslmode=verify-full&password=first-word", {"first-word"}, {"verify-full"}),
        ("postgresql://panel@h/d?PassWord=first+word%21", {"first+word%21", "first+word!", "first word!"}, set()),
        ("postgresql://h/d?sslkey=/etc/keys/panel&sslpassword=a=b&=", {"a=b"}, {"/etc/keys/panel"}),
    ],
)
def test_passwords_behind_the_question_mark(url: str, known: set[str], words: set[str]) -> None:
    found = secrets_of(Settings(_env_file=None, database_url=url))
    assert found >= known
    assert not found & words


def test_settings_hold_secrets_as_such() -> None:
    """A field that is named like a secret has the type that no repr shows."""
    named = {n for n in Settings.model_fields if n.endswith(("_key", "_secret", "_password", "_token"))}
    public = {"jwt_public_key"}
    assert [n for n in named - public if "SecretStr" not in str(Settings.model_fields[n].annotation)] == []
    assert isinstance(Settings(_env_file=None).jwt_secret, SecretStr)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=8, max_size=40))
def test_struck_out_in_every_spelling(secret: str) -> None:
    redact = Redactor([secret])
    for spelt in (
        secret,
        json.dumps({"event": secret}),
        repr(secret),
        quote(secret, safe=""),
        json.dumps(repr(secret)),
    ):
        assert REDACTED in redact(f"before {spelt} behind")


def test_the_longer_secret_is_struck_out_whole() -> None:
    assert Redactor(["secret-one", "secret-one-more"])("x secret-one-more y secret-one z") == (
        f"x {REDACTED} y {REDACTED} z"
    )


@pytest.mark.parametrize("secrets", [(), ("short",), ("",)])
def test_words_are_left_alone(secrets: tuple[str, ...]) -> None:
    assert Redactor(secrets)("a short line") == "a short line"


HEADER, CLAIMS, SIGNATURE = "eyJhbGciOiJIUzI1NiJ9", "eyJ1c2VyX2lkIjo1fQ", "c2lnbmF0dXJl-_c2ln"


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        (f"/api/vps/{HEADER}.{CLAIMS}.{SIGNATURE}", f"/api/vps/{REDACTED}"),
        (f"Bearer {HEADER}.{CLAIMS}.{SIGNATURE}, more", f"Bearer {REDACTED}, more"),
        (f'{{"t": "{HEADER}.{CLAIMS}."}}', f'{{"t": "{REDACTED}"}}'),
        (f"x={HEADER}.{CLAIMS}.k.c.{SIGNATURE}", f"x={REDACTED}"),
        ("eyJhbGciOiJIUzI1NiJ9", "eyJhbGciOiJIUzI1NiJ9"),
        ("node eyewitness.example.com, v1.22.333", "node eyewitness.example.com, v1.22.333"),
        ("api.client.client_routes.get_vps", "api.client.client_routes.get_vps"),
    ],
)
def test_tokens_are_struck_out_by_their_shape(text: str, redacted: str) -> None:
    assert Redactor(())(text) == redacted


@pytest.mark.parametrize("text", ["eyJ" * 100_000, "eyJaaaaaa." * 50_000, "eyJaaaaaa.aaaa" * 50_000, "ey-" * 100_000])
def test_a_long_text_takes_no_longer_than_it_is(text: str) -> None:
    began = time.process_time()
    Redactor(())(text)
    assert time.process_time() - began < 2.0
