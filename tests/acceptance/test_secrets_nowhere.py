"""Every secret and some personal data are planted in a whole panel, everything is made to fail, and then every place
that somebody may read is searched: logs, Flower, commands, command lines, Redis, the database, the operators' API."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from lab.simulators.main_site.rows import ROOT_PASSWORD_CANARY
from panel.redaction import secrets_of
from panel.settings import Settings
from runtime.processes.free_ports import free_port
from tests.support.databases import Databases
from tests.support.keys import random_key, random_webhook_secret
from tests.support.live_panel import QUICK, live_panel, outside
from tests.support.stand_ins.echo_server import echo_server
from tests.support.trouble.all_troubles import CLIENT, NAME, PERSONAL, Troubles
from tests.support.trouble.evidence import Evidence, found_in

pytestmark = [pytest.mark.acceptance]

PUBLIC_TABLES = ("runs", "snapshots", "source_states", "quarantine", "holds", "task_requests", "findings",
                 "refused_calls", "operator_actions", "access_counts", "pauses", "scopes")  # fmt: skip
"""Read in operation, so without personal data; the others are the records and the journal of customers' machines."""


@pytest.fixture(scope="module")
def evidence(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evidence]:
    """One panel, with every secret there is, through every trouble."""
    database = databases.clone()
    with outside() as world, echo_server() as echo:
        planted = {
            "VPS_SYNC_API_KEY_PREVIOUS": random_key(),
            "SIGN_IN_SECRET": random_key(),
            "OPS_API_KEY": random_key(),
            "OPS_API_KEY_PREVIOUS": random_key(),
            "OPS_API_KEYS": json.dumps(
                [{"name": "ann", "role": "read", "key": random_key(), "previous": random_key()}]
            ),
            "DATABASE_OWNER_URL": database.owner_url,
            "FINDING_WEBHOOK_URL": f"https://127.0.0.1:{free_port()}/hook/{random_key()}",
            "FINDING_WEBHOOK_PROXY": f"http://user:{random_key()}@127.0.0.1:{free_port()}",
            "MAIN_SITE_WEBHOOK_URL": f"http://127.0.0.1:{free_port()}/events",
            "MAIN_SITE_WEBHOOK_SECRET": random_webhook_secret(),
            "MAIN_SITE_WEBHOOK_SECRET_PREVIOUS": random_webhook_secret(),
            "JWT_JWKS_PROXY": f"http://user:{random_key()}@127.0.0.1:{free_port()}",
        }
        directory = tmp_path_factory.mktemp("secrets")
        with live_panel(database, directory, environment=QUICK | world.environment() | planted, flower=True) as panel:
            secrets = set(secrets_of(panel.settings))
            needless = {"jwt_public_key", "main_site_proxy"}  # behind that proxy nothing would be read
            unset = [n for n in Settings.model_fields if n not in needless and _secret_and_empty(panel.settings, n)]
            assert unset == []
            seen = Evidence(secrets | {ROOT_PASSWORD_CANARY, panel.token(CLIENT)})
            Troubles(panel, world, echo, databases, seen).all()
            for process in panel.supervisor.processes:
                if process.running:
                    process.kill()  # everything is seen; their grace times would be waited for in vain
            yield seen
    databases.drop(database)


def _secret_and_empty(settings: Settings, name: str) -> bool:
    value = getattr(settings, name)
    return hasattr(value, "get_secret_value") and not value.get_secret_value()


@pytest.mark.parametrize(
    ("kind", "sure_sign"),
    [
        ("log api", "http_request"),
        ("log worker-", "no_such_user"),
        ("log beat", "beat_started"),
        ("log flower", ""),
        ("flower", "reconcile.fast"),
        ("command", "password is refused"),
        ("operators' API", "was answered 500"),
        ("redis", "sync.apply"),
    ],
)
def test_neither_secrets_nor_personal_data(evidence: Evidence, kind: str, sure_sign: str) -> None:
    places = evidence.of(kind)
    assert sure_sign in "".join(places.values())  # the right thing was searched
    assert found_in(places, evidence.secrets) == {}
    assert found_in(places, PERSONAL) == {}


@pytest.mark.parametrize(
    ("kind", "sure_sign"), [("table", NAME), ("server log", "no_such_user"), ("command lines", "celery")]
)
def test_no_secrets(evidence: Evidence, kind: str, sure_sign: str) -> None:
    places = evidence.of(kind)
    assert sure_sign in "".join(places.values())
    assert found_in(places, evidence.secrets) == {}


def test_personal_data_stays_in_the_tables_that_are_for_it(evidence: Evidence) -> None:
    tables = {place.removeprefix("table "): text for place, text in evidence.of("table").items()}
    assert set(PUBLIC_TABLES) <= set(tables)
    assert found_in({name: tables[name] for name in PUBLIC_TABLES}, PERSONAL) == {}


def test_the_search_finds_what_is_there(evidence: Evidence) -> None:
    """The planted words are what the panel really works with."""
    tables = evidence.of("table")
    assert {place.removeprefix("table ") for place in found_in(tables, PERSONAL)} >= {"vps", "users", "operations"}
    assert len(evidence.secrets) > 12
    assert all(len(secret) >= 8 for secret in evidence.secrets)
