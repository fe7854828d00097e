"""The OpenAPI document is whole: every reference leads somewhere, and limits are those that are enforced."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import SecretStr

from api import openapi, record_models
from api.main import create_app
from api.main_site.sync_call import CHECKS, CREATE_REQUIRED
from domain.record_columns import HYPERVISORS, STATUSES
from panel.journal.calls import PAYLOAD_FIELDS
from panel.settings import load_settings
from tests.support.keys import random_key


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    settings = load_settings(
        _env_file=None,
        database_url="postgresql://127.0.0.1:1/none",
        vps_sync_api_key=SecretStr(random_key()),
        jwt_secret=SecretStr(random_key()),
    )
    return create_app(settings).openapi()


def _references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    found = set(_references(document))
    assert len(found) > 10
    for reference in found:
        node = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


def test_errors_are_problems_everywhere(document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for method in methods.values():
            for code, response in method["responses"].items():
                if code >= "400":
                    assert list(response["content"]) == ["application/problem+json"], (path, code)


def test_both_credentials_are_described(document: dict[str, Any]) -> None:
    paths = document["paths"]
    assert paths["/api/vps/sync"]["post"]["security"] == [{"APIKeyHeader": []}]
    assert paths["/api/vps"]["get"]["security"] == [{"HTTPBearer": []}]
    assert "security" not in paths["/healthz"]["get"]
    schemes = document["components"]["securitySchemes"]
    assert schemes["APIKeyHeader"]["name"] == "X-API-Key"


def test_the_document_and_the_validation_name_the_same_fields() -> None:
    new = record_models.NewVps.model_fields
    assert set(new) == set(PAYLOAD_FIELDS) == set(CHECKS)
    assert {name for name, field in new.items() if field.is_required()} == set(CREATE_REQUIRED)
    for known in (record_models.ChangedVps, record_models.DeletedVps):
        assert set(known.model_fields) == {*PAYLOAD_FIELDS, "id"}, "whatever comes along is checked"
    assert get_args(openapi.Status) == STATUSES
    hypervisor, _none = get_args(new["hypervisor"].annotation)
    assert get_args(hypervisor) == HYPERVISORS


def test_a_reason_that_the_document_allows_says_something(document: dict[str, Any]) -> None:
    """Python strips more than other languages call space."""
    bodies = [schema["properties"] for schema in document["components"]["schemas"].values() if "properties" in schema]
    patterns = {body["reason"]["pattern"] for body in bodies if "pattern" in body.get("reason", ())}
    (reason,) = patterns
    empty = [c for c in map(chr, range(0x3100)) if not c.strip()]
    assert len(empty) > 20
    assert [c for c in empty if re.search(reason, c)] == []
    assert re.search(reason, "\x1d why \x1d")
