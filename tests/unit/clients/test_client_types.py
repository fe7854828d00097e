"""The clients' types name every field that the panel takes and answers, and no other; and both say the same."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest

from api import openapi, record_models
from api.main_site import batch_models, call_batch
from api.main_site.sync_call import CREATE_REQUIRED
from clients.python import panel_sync_client as client
from domain.record_columns import HYPERVISORS, STATUSES

CLIENTS = Path(__file__).resolve().parents[3] / "clients"
TYPESCRIPT = (CLIENTS / "typescript" / "panel-sync-client.ts").read_text(encoding="utf-8")

FIELDS: list[tuple[type, set[str]]] = [
    (client.NewVps, set(record_models.NewVps.model_fields)),
    (client.ChangedVps, set(record_models.ChangedVps.model_fields)),
    (client.Vps, set(record_models.Record.model_fields)),
    (client.OperationRef, set(openapi.OperationRef.model_fields)),
    (client.Operation, set(openapi.OperationView.model_fields)),
    (client.Answer, set(openapi.SyncAnswer.model_fields)),
]


def interfaces() -> dict[str, set[str]]:
    """The fields of each interface, with those that it extends."""
    found: dict[str, set[str]] = {}
    head = r"(?ms)^(?:export )?interface (\w+)(?: extends ([^{]+))? \{\n(.*?)^\}"
    for name, parents, body in re.findall(head, TYPESCRIPT):
        found[name] = set(re.findall(r"(?m)^  (\w+)\??:", body))
        for parent in re.findall(r"(?:Partial<)?(\w+)>?", parents):
            found[name] |= found.get(parent, set())
    return found


@pytest.mark.parametrize(("kind", "fields"), FIELDS, ids=[kind.__name__ for kind, _ in FIELDS])
def test_every_field_has_a_type(kind: type, fields: set[str]) -> None:
    assert set(kind.__annotations__) == fields == interfaces()[kind.__name__]


def test_a_create_needs_what_the_panel_needs() -> None:
    assert set(client._Plan.__annotations__) == interfaces()["Plan"] == set(CREATE_REQUIRED)


def test_the_result_of_an_item_has_the_fields_of_both_outcomes() -> None:
    accepted, refused = set(batch_models.AcceptedItem.model_fields), set(batch_models.RefusedItem.model_fields)
    rfc = {"type", "title", "status", "detail", "instance"}  # said better by http_status, code and message
    key = {"idempotency_key"}  # from the client
    assert set(client.ItemResult.__annotations__) == (accepted | refused) - rfc | key
    assert interfaces()["AcceptedItem"] == accepted | key
    assert interfaces()["RefusedItem"] == refused - rfc | key | {"status"}


def test_the_words_are_those_of_the_panel() -> None:
    for name, words in (("Status", STATUSES), ("Hypervisor", HYPERVISORS)):
        told = re.findall(rf"export type {name} = (.+);", TYPESCRIPT)
        assert get_args(getattr(client, name)) == tuple(words) == tuple(re.findall(r"'(\w+)'", told[0]))


def test_the_limits_are_those_of_the_panel() -> None:
    assert (client.MAX_ITEMS, client.MAX_BYTES) == (call_batch.MAX_ITEMS, call_batch.MAX_BYTES)
    assert f"const MAX_ITEMS = {call_batch.MAX_ITEMS};" in TYPESCRIPT
    assert call_batch.MAX_BYTES == 1024 * 1024
    assert "const MAX_BYTES = 1024 * 1024;" in TYPESCRIPT


def test_each_client_has_one_version() -> None:
    project = tomllib.loads((CLIENTS / "python" / "pyproject.toml").read_text(encoding="utf-8"))
    package = json.loads((CLIENTS / "typescript" / "package.json").read_text(encoding="utf-8"))
    assert project["project"]["version"] == client.__version__
    assert f"export const VERSION = '{package['version']}';" in TYPESCRIPT


def test_typescript_needs_nothing_but_node() -> None:
    imported = re.findall(r"(?m)^import .* from '([^']+)';", TYPESCRIPT)
    assert imported == ["node:crypto"]
