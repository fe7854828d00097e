"""What the document cannot say, said to schemathesis: which user exists, and that keys are used once.

Only what is right already is replaced, so that what is meant to be wrong stays wrong.
"""

from __future__ import annotations

import random
import re
import uuid
from typing import Any

import schemathesis
from schemathesis.specs.openapi import _auth_retry

from api.record_models import ChangedVps, NewVps

KNOWN_USER = 5
KEY = re.compile(r"[!-~]{1,255}")
DICE = random.SystemRandom()  # Hypothesis seeds the other one alike before each example: all would have one address
DESCRIBED = {"action", "vps", *NewVps.model_fields, *ChangedVps.model_fields}

_wrong_value = _auth_retry._invalid_value_for


def _another_wrong_value(parameter: Any) -> str:
    """A wrong key with a beginning of its own. Each operation is probed with one, and after twenty of one beginning the
    panel answers 429."""
    value = str(_wrong_value(parameter))
    return value if " " in value else uuid.uuid4().hex + value


_auth_retry._invalid_value_for = _another_wrong_value


@schemathesis.hook
def before_call(_context: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: dict[str, Any]) -> None:
    """Come from many addresses, as behind a proxy: after twenty wrong keys one address gets 429."""
    headers = case.headers
    headers["X-Forwarded-For"] = ".".join(str(DICE.randint(1, 254)) for _ in range(4))
    if KEY.fullmatch(headers.get("Idempotency-Key", "")):
        headers["Idempotency-Key"] = uuid.uuid4().hex
    if isinstance(case.body, dict):
        case.body = _without_nul(case.body)
    body: Any = case.body if isinstance(case.body, dict) else {}
    items = body["items"] if isinstance(body.get("items"), list) else [body]
    for vps in [item.get("vps") for item in items if isinstance(item, dict)]:
        if not isinstance(vps, dict):
            continue
        given = vps.get("user_id")
        if isinstance(given, int | float) and not isinstance(given, bool) and 0 < given < 2**63 and given % 1 == 0:
            vps["user_id"] = KNOWN_USER


def _without_nul(given: Any, *, described: bool = False) -> Any:
    """No NUL in what the document leaves open: the API takes none, and no schema can say that of any depth."""
    if isinstance(given, dict):
        return {
            key.replace("\x00", ""): _without_nul(value, described=key in DESCRIBED) for key, value in given.items()
        }
    if isinstance(given, list):
        return [_without_nul(item) for item in given]
    return given.replace("\x00", "") if isinstance(given, str) and not described else given
