"""Each process gets the secrets that its work needs, and starts with them."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel, SecretStr

from cli.serving.part_secrets import SECRETS, Needs, withheld
from cli.serving.stack import worker_part
from panel.redaction import secrets_of
from panel.settings import Settings, SettingsError, load_settings

ROOT = Path(__file__).resolve().parents[3]
CLUSTER = {
    "name": "main",
    "urls": ["https://pve.test:8006"],
    "token_id": "panel@pve!sync",
    "token_secret": "canary-proxmox_clusters",
    "proxy": "http://user:canary-proxmox_clusters@proxy.test:3128",
    "fingerprint": ":".join(["ab"] * 32),
}


def canary(name: str) -> str:
    """What is told of a secret's value, wherever it is known."""
    if name.startswith("main_site_webhook_secret"):  # its form is base64
        return "whsec_" + base64.b64encode(f"canary-{name}".encode()).decode()
    return f"canary-{name}"


def key(name: str) -> str:
    return canary(name) if "webhook" in name else canary(name).ljust(40, "x")


GIVEN: dict[str, str] = {
    "DATABASE_URL": "postgresql://panel:canary-database_url@h/d",
    "DATABASE_OWNER_URL": "postgresql://owner:canary-database_owner_url@h/d",
    "DATABASE_SESSION_URL": "postgresql://panel:canary-database_session_url@h/d",
    "REDIS_URL": "redis://:canary-redis_url@h/0",
    "OPS_API_KEYS": json.dumps([{"name": "ann", "role": "read", "key": key("ops_api_keys")}]),
    "MAIN_SITE_URL": "https://site.test",
    "USER_ID_SPACE": "mapped",
    "PROXMOX_CLUSTERS": json.dumps([CLUSTER]),
    "FINDING_WEBHOOK_URL": "https://hook.test/canary-finding_webhook_url",
    **{
        name.upper(): key(name)
        for name in SECRETS
        if name.endswith(("_key", "_previous", "_secret", "flower_password"))
    },
    **{name.upper(): f"http://u:canary-{name}@proxy.test:3128" for name in SECRETS if name.endswith("_proxy")},
}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Everything is set, in the .env of the working directory."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    Path(".env").write_text("".join(f"{name}='{value}'\n" for name, value in GIVEN.items()), encoding="utf-8")
    return load_settings()


def holds_a_secret(annotation: Any) -> bool:
    """Whether a setting of this type holds a SecretStr, at any depth."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return any(holds_a_secret(field.annotation) for field in annotation.model_fields.values())
    return annotation is SecretStr or any(map(holds_a_secret, get_args(annotation)))


def test_every_secret_is_on_the_list(settings: Settings) -> None:
    fields = Settings.model_fields.items()
    secret = {name for name, field in fields if holds_a_secret(field.annotation) or not field.repr}
    assert set(SECRETS) == secret
    for name in {name for name, _ in fields if name.endswith(("_url", "_urls", "_proxy"))} - secret:
        with pytest.raises(SettingsError, match="without credentials"):
            load_settings(**{name: "https://u:password@h.test"})
    assert {name for name in SECRETS if canary(name) in " ".join(secrets_of(settings))} == secret, "all are set here"


@pytest.mark.parametrize("needs", Needs)
def test_a_process_knows_what_it_needs_and_no_more(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, needs: Needs
) -> None:
    for name, value in withheld(needs, settings).items():
        monkeypatch.setenv(name, value)
    seen = load_settings()
    known = " ".join(secrets_of(seen))
    assert {name for name in SECRETS if canary(name) in known} == needs.value
    assert [cluster.name for cluster in seen.proxmox_clusters] == ["main"], "names are no secret"
    assert seen.main_site_url == "https://site.test"


def test_a_worker_of_both_queues_knows_the_sources() -> None:
    assert worker_part("sync", 1).needs is Needs.SERVERS
    assert worker_part("reconcile", 1).needs is worker_part("sync,reconcile", 1).needs is Needs.RECONCILE
    assert worker_part("power", 1).needs is worker_part("statistics", 1).needs is Needs.PROXMOX
    assert worker_part("sync,reconcile,power,statistics", 1).needs is Needs.RECONCILE
    assert worker_part("webhooks", 1).needs is worker_part("sync,webhooks", 1).needs is Needs.WEBHOOKS
    assert worker_part("sync,reconcile,webhooks", 1).needs is Needs.EVERY_QUEUE


def test_nobody_migrates_but_migrate() -> None:
    assert not any("database_owner_url" in needs.value for needs in Needs)


SERVICES = {"api": Needs.API, "worker": Needs.SERVERS, "reconciler": Needs.RECONCILE, "beat": Needs.SERVERS}
SERVICES |= {"flower": Needs.FLOWER, "power": Needs.PROXMOX, "statistics": Needs.PROXMOX, "webhooks": Needs.WEBHOOKS}
WHOLE = set(SECRETS) - {"database_owner_url"}  # an operator looks at every part, and migrates by the service migrate
SERVERS = {"POSTGRES_PASSWORD", "PANEL_DB_PASSWORD", "REDIS_PASSWORD"}
ITS_OWN = {"DATABASE_URL", "REDIS_URL", "DATABASE_SESSION_URL"}  # the servers are containers beside it


@pytest.mark.parametrize("service", [*SERVICES, "operator"])
def test_docker_compose_withholds_the_same(service: str) -> None:
    """Read as text: the project has no YAML parser, and the file's form is its own."""
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    names = set(re.findall(r"^  (\w+): ", text[text.index("x-withheld:") : text.index("x-panel:")], re.MULTILINE))
    assert names == {name.upper() for name in SECRETS} | SERVERS
    assert "DATABASE_SESSION_URL" not in text[text.index("x-panel:") :], "every part uses the server of DATABASE_URL"
    block = re.search(rf"^  {service}:\n((?:    .*\n|\n)+)", text, re.MULTILINE)
    assert block is not None
    environment = dict(re.findall(r"^      (\w+): (.*)", block[1], re.MULTILINE))
    needed = WHOLE if service == "operator" else SERVICES[service].value
    asked = {name.upper() for name in needed} - ITS_OWN - {"PROXMOX_CLUSTERS"}
    assert (set(environment) & names) - ITS_OWN - {"PROXMOX_CLUSTERS"} == asked
    if service == "flower":
        assert environment["DATABASE_URL"] == '""'
