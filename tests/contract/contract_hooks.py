"""What the document cannot say, said to schemathesis: which user exists, and that keys are used once.

Only what is right already is replaced, so that what is meant to be wrong stays wrong.
"""

from __future__ import annotations

import random
import re
import uuid
from typing import Any

import schemathesis

KNOWN_USER = 5
KEY = re.compile(r"[!-~]{1,255}")


@schemathesis.hook
def before_call(_context: schemathesis.HookContext, case: schemathesis.Case[Any], kwargs: dict[str, Any]) -> None:
    """Come from many addresses, as behind a proxy: after twenty wrong keys one address gets 429."""
    headers = case.headers
    headers["X-Forwarded-For"] = ".".join(str(random.randint(1, 254)) for _ in range(4))
    if KEY.fullmatch(headers.get("Idempotency-Key", "")):
        headers["Idempotency-Key"] = uuid.uuid4().hex
    vps = case.body.get("vps") if isinstance(case.body, dict) else None
    if isinstance(vps, dict):
        given = vps.get("user_id")
        if isinstance(given, int) and not isinstance(given, bool) and 0 < given < 2**63:
            vps["user_id"] = KNOWN_USER
