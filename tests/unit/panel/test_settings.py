"""A wrong setting stops the start with one sentence that names it and never shows its value."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from panel.server_urls import sqlalchemy_url
from panel.settings import PLACEHOLDER_SYNC_KEY, Settings, SettingsError, load_settings
from tests.support.keys import random_key

CLUSTER = {"name": "main", "urls": ["https://pve:8006"], "token_id": "a@pve!b", "token_secret": "s3cr3t-value"}
SHORT = "secret-but-short"


def environment(monkeypatch: pytest.MonkeyPatch, directory: Path, **values: str) -> Settings:
    monkeypatch.chdir(directory)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return load_settings()


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        pytest.param("VPS_SYNC_API_KEY", SHORT, "VPS_SYNC_API_KEY: must be at least 32 printable", id="short key"),
        pytest.param(
            "VPS_SYNC_API_KEY", "ключ" * 10, "VPS_SYNC_API_KEY: must be at least 32 printable", id="not ASCII"
        ),
        pytest.param(
            "VPS_SYNC_API_KEY", PLACEHOLDER_SYNC_KEY, "is the example key from the documentation", id="example"
        ),
        pytest.param("JWT_SECRET", SHORT, "JWT_SECRET must be at least 32 bytes", id="short JWT secret"),
        pytest.param("JWT_ALGORITHMS", "none", "JWT_ALGORITHMS must be", id="no algorithm"),
        pytest.param("JWT_ALGORITHMS", "", "JWT_ALGORITHMS must be", id="empty algorithms"),
        pytest.param("JWT_PUBLIC_KEY", "-----BEGIN", "key confusion", id="HS256 with a public key"),
        pytest.param(
            "DATABASE_URL", "mysql://x:s3cr3t-value@h/d", "DATABASE_URL must start with", id="database scheme"
        ),
        pytest.param(
            "DATABASE_URL", "postgresql://u:12/s3cr3t-value@h/d", "is not a URL of the form", id="a raw / in a password"
        ),
        pytest.param("DATABASE_URL", "postgresql://u:a@s3cr3t-value@h/d", "is not a URL", id="a raw @ in a password"),
        pytest.param("REDIS_URL", "redis://:12#s3cr3t-value@h/0", "is not a URL", id="a raw # in a password"),
        pytest.param("DATABASE_URL", "postgresql://u:s3cr3t-value%@h/d", "write % as %25", id="a raw % at the end"),
        pytest.param("DATABASE_URL", "postgresql://u:100%s3cr3t-value@h/d", "write % as %25", id="a raw %"),
        pytest.param("DATABASE_URL", "postgresql://u:%00s3cr3t-value@h/d", "encodes nothing", id="an encoded NUL"),
        pytest.param("DATABASE_OWNER_URL", "postgresql://u:%ffs3cr3t-value@h/d", "encodes nothing", id="no UTF-8"),
        pytest.param("REDIS_URL", "redis://:s3cr3t%value@h/0", "write % as %25", id="a raw % for Redis"),
        pytest.param("REDIS_URL", "http://x", "REDIS_URL must start with", id="redis scheme"),
        pytest.param("MAIN_SITE_URL", "https://u:s3cr3t-value@h", "without credentials", id="credentials in a URL"),
        pytest.param("MAIN_SITE_URL", "https://main", "MAIN_SITE_API_KEY is missing", id="feed without its key"),
        pytest.param("MAIN_SITE_URL", "http://main", "MAIN_SITE_URL must start with https://", id="a key in clear"),
        pytest.param(
            "MAIN_SITE_URL", "http://127.0.0.1.example", "MAIN_SITE_URL must start with https://", id="not this host"
        ),
        pytest.param("MAIN_SITE_WEBHOOK_URL", "http://main/events", "must start with https://", id="events in clear"),
        pytest.param("MAIN_SITE_WEBHOOK_URL", "https://main/events?key=1", "without credentials", id="a key in a URL"),
        pytest.param("MAIN_SITE_WEBHOOK_SECRET", "c2VjcmV0" * 5, "must be whsec_ and 24 to 64", id="no prefix"),
        pytest.param("MAIN_SITE_WEBHOOK_SECRET", "whsec_c2VjcmV0", "must be whsec_ and 24 to 64", id="too short"),
        pytest.param("MAIN_SITE_WEBHOOK_SECRET", "whsec_" + "c2Vj" * 22, "must be whsec_", id="too long"),
        pytest.param("MAIN_SITE_WEBHOOK_SECRET", "whsec_" + "c-_j" * 10, "must be whsec_", id="another alphabet"),
        pytest.param("MAIN_SITE_WEBHOOK_SECRET_PREVIOUS", "old", "echo whsec_$(openssl", id="the old one, too"),
        pytest.param("PORT", "http", "PORT: ", id="port"),
        pytest.param("ABSENCE_PROOF_T_S", "60", "ABSENCE_PROOF_T_S must be at least 360", id="proof too short"),
        pytest.param("ABSENCE_PROOF_N", "1", "ABSENCE_PROOF_N: ", id="proof too thin"),
        pytest.param("PROXMOX_CLUSTERS", "{", "PROXMOX_CLUSTERS is not valid JSON", id="JSON"),
        pytest.param("PROXMOX_CLUSTERS", json.dumps([CLUSTER] * 2), "two clusters of the same name", id="same name"),
        pytest.param(
            "PROXMOX_CLUSTERS",
            json.dumps([CLUSTER | {"verify": False}]),
            "PROXMOX_CLUSTERS.0.verify",
            id="unknown field",
        ),
        pytest.param(
            "PROXMOX_CLUSTERS", json.dumps([CLUSTER | {"ca_file": "/no/where.pem"}]), "does not exist", id="no CA file"
        ),
        pytest.param("PROXMOX_CLUSTERS", json.dumps([CLUSTER | {"token_id": "root"}]), "token_id", id="token id"),
    ],
)
def test_one_wrong_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        environment(monkeypatch, tmp_path, **{name: value})
    sentence = str(caught.value)
    assert says in sentence
    assert "\n" not in sentence
    assert "s3cr3t-value" not in sentence
    assert SHORT not in sentence


def test_power_actions_need_orders_that_are_read_often(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    feed = {"MAIN_SITE_URL": "https://main", "MAIN_SITE_API_KEY": random_key(), "USER_ID_SPACE": "mapped"}
    assert environment(monkeypatch, tmp_path, **feed, FULL_INTERVAL_S="541").full_interval_s == 541
    with pytest.raises(SettingsError, match="FULL_INTERVAL_S must be at most 540 while POWER_ACTIONS"):
        environment(monkeypatch, tmp_path, POWER_ACTIONS="true")
    assert environment(monkeypatch, tmp_path, FULL_INTERVAL_S="540").power_actions


def test_no_secret_has_a_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = environment(monkeypatch, tmp_path)
    empty = ("vps_sync_api_key", "ops_api_key", "jwt_secret", "flower_password", "main_site_api_key")
    assert {getattr(settings, name).get_secret_value() for name in empty} == {""}


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    keys = {name: random_key() for name in ("VPS_SYNC_API_KEY", "OPS_API_KEY", "JWT_SECRET", "FLOWER_PASSWORD")}
    urls = {
        "DATABASE_URL": "postgresql://u:url-passw0rd@h/d",
        "DATABASE_OWNER_URL": "postgresql://o:url-passw0rd@h/d",
        "REDIS_URL": "redis://:url-passw0rd@h/0",
    }
    settings = environment(monkeypatch, tmp_path, **keys, **urls, PROXMOX_CLUSTERS=json.dumps([CLUSTER]))
    shown = f"{settings!r} {settings}"
    assert "user_id_space" in shown
    assert not [value for value in (*keys.values(), "s3cr3t-value", "url-passw0rd") if value in shown]
    dumped = str(settings.model_dump())  # for tests and tools; the URLs are whole in it, keys are not
    assert not [value for value in (*keys.values(), "s3cr3t-value") if value in dumped]


def test_the_example_key_is_for_the_demo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = environment(monkeypatch, tmp_path, VPS_SYNC_API_KEY=PLACEHOLDER_SYNC_KEY, DEMO="true")
    assert settings.vps_sync_api_key.get_secret_value() == PLACEHOLDER_SYNC_KEY


OPERATORS = ({"key": PLACEHOLDER_SYNC_KEY}, {"key": random_key(), "previous": PLACEHOLDER_SYNC_KEY})
PUBLIC = [
    *((f.upper(), PLACEHOLDER_SYNC_KEY) for f, field in Settings.model_fields.items() if "SecretStr" in f"{field}"),
    *(("OPS_API_KEYS", json.dumps([{"name": "ann", "role": "read", **keys}])) for keys in OPERATORS),
]


OF_ANOTHER_FORM = re.compile(r".*_URL|.*_PROXY|MAIN_SITE_WEBHOOK_SECRET.*")


@pytest.mark.parametrize(("name", "value"), [given for given in PUBLIC if not OF_ANOTHER_FORM.fullmatch(given[0])])
def test_the_example_key_opens_no_door_outside_the_demo(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str
) -> None:
    with pytest.raises(SettingsError, match=f"{name}.* is the example key from the documentation"):
        environment(monkeypatch, tmp_path, **{name: value})


@pytest.mark.parametrize(
    ("url", "demo"),
    [("https://main", "false"), ("http://127.0.0.1:5060", "false"), ("http://[::1]:5060", "false"),
     ("http://localhost:5060", "false"), ("http://sim-main-site:5060", "true")],
)  # fmt: skip
def test_the_key_to_the_feed_goes_in_clear_only_on_this_host_and_in_the_demo(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, demo: str
) -> None:
    given = {"MAIN_SITE_API_KEY": random_key(), "USER_ID_SPACE": "mapped", "DEMO": demo}
    assert environment(monkeypatch, tmp_path, MAIN_SITE_URL=url, **given).main_site_url == url


def test_operators_have_names_and_roles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    one, two, three = random_key(), random_key(), random_key()
    named = json.dumps([{"name": "ann", "role": "read", "key": two, "previous": three}])
    settings = environment(monkeypatch, tmp_path, OPS_API_KEY=one, OPS_API_KEYS=named)
    assert [(o.name, o.role, o.key.get_secret_value()) for o in settings.operators()] == [
        ("operator", "operate", one),
        ("ann", "read", two),
    ]
    assert not [key for key in (one, two, three) if key in f"{settings!r}{settings.operators()}"]


KEY, OTHER = random_key(), random_key()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        pytest.param({"OPS_API_KEYS": [{"name": "ann", "role": "root", "key": KEY}]}, "OPS_API_KEYS.0.role", id="role"),
        pytest.param({"OPS_API_KEYS": [{"name": "Ann", "role": "read", "key": KEY}]}, "OPS_API_KEYS.0.name", id="name"),
        pytest.param({"OPS_API_KEYS": [{"name": "ann", "role": "read", "key": KEY[:31]}]}, "32 printable", id="short"),
        pytest.param({"OPS_API_KEYS": [{"name": "ann", "role": "read", "key": ""}]}, "needs a key", id="no key"),
        pytest.param(
            {"OPS_API_KEYS": [{"name": "ann", "role": "read", "key": KEY, "keys": OTHER}]}, "OPS_API_KEYS.0", id="more"
        ),
        pytest.param(
            {"OPS_API_KEYS": [{"name": "ann", "role": "read", "key": k} for k in (KEY, OTHER)]},
            "an operator twice",
            id="one name for two",
        ),
        pytest.param(
            {"OPS_API_KEY": KEY, "OPS_API_KEYS": [{"name": "operator", "role": "read", "key": OTHER}]},
            "an operator twice",
            id="the name of OPS_API_KEY",
        ),
        pytest.param(
            {"OPS_API_KEYS": [{"name": n, "role": "read", "key": KEY} for n in ("ann", "bob")]},
            "no key may appear twice",
            id="one key for two",
        ),
        pytest.param(
            {"OPS_API_KEYS": [{"name": "ann", "role": "read", "key": KEY, "previous": KEY}]},
            "no key may appear twice",
            id="previous is current",
        ),
        pytest.param(
            {"VPS_SYNC_API_KEY_PREVIOUS": KEY, "OPS_API_KEYS": [{"name": "ann", "role": "read", "key": KEY}]},
            "main site",
            id="a key of the main site",
        ),
        pytest.param({"VPS_SYNC_API_KEY": KEY, "OPS_API_KEY": KEY}, "OPS_API_KEY must differ", id="the main site's"),
        pytest.param({"JWT_SECRET": KEY, "SIGN_IN_SECRET": KEY}, "SIGN_IN_SECRET must be no other", id="sign-in, JWT"),
        pytest.param({"OPS_API_KEY": KEY, "SIGN_IN_SECRET": KEY}, "SIGN_IN_SECRET must be no other", id="sign-in, ops"),
        pytest.param({"OPS_API_KEY_PREVIOUS": KEY}, "OPS_API_KEY_PREVIOUS is set without", id="only a previous one"),
    ],
)
def test_a_key_belongs_to_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: dict[str, object], says: str
) -> None:
    plain = {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}
    with pytest.raises(SettingsError, match=says) as caught:
        environment(monkeypatch, tmp_path, **plain)
    assert not [key for key in (KEY, OTHER) if key in str(caught.value)]


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=1111\nFLOWER_PORT=2222\n")
    settings = environment(monkeypatch, tmp_path, PORT="3333")
    assert (settings.port, settings.flower_port) == (3333, 2222)


@pytest.mark.parametrize(
    ("given", "algorithms"),
    [({"JWT_ALGORITHMS": " HS256 "}, ("HS256",)), ({"JWT_ALGORITHMS": "RS256, EdDSA"}, ("RS256", "EdDSA"))],
)
def test_algorithms_are_a_list(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: dict[str, str], algorithms: tuple[str, ...]
) -> None:
    assert environment(monkeypatch, tmp_path, **given).jwt_algorithms == algorithms


def test_require_names_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = environment(monkeypatch, tmp_path, REDIS_URL="redis://h")
    with pytest.raises(SettingsError, match="DATABASE_URL is not set"):
        settings.require("redis_url", "database_url")
    with pytest.raises(SettingsError, match="JWT_SECRET is not set"):
        settings.require_jwt()


@pytest.mark.parametrize("url", ["postgresql://u@h/d", "postgresql+psycopg://u@h/d"])
def test_the_driver_is_named(url: str) -> None:
    assert sqlalchemy_url(url) == "postgresql+psycopg://u@h/d"


def test_the_example_file_is_valid_and_complete(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    example = Path(__file__).parents[3] / ".env.example"
    lines = example.read_text(encoding="utf-8").splitlines()
    named = {
        line.lstrip("# ").split("=", 1)[0].lower()
        for line in lines
        if "=" in line and line.split("=")[0].lstrip("# ").isupper()
    }
    assert set(Settings.model_fields) <= named
    (tmp_path / ".env").write_text(example.read_text(encoding="utf-8"), encoding="utf-8")
    made: Any = environment(monkeypatch, tmp_path)
    assert isinstance(made, Settings)
