"""What a span may say. Everything else is dropped before it is sent, whatever the code or a library noted. Pure.

Traces go to another system, and are read by people who may not read the panel's database. So a span says what was done,
how it ended and how long it took; never to whom, with which values, or in which words something failed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

Value = str | int

ATTRIBUTES: Mapping[str, re.Pattern[str] | None] = {
    "error.type": re.compile(r"[A-Za-z0-9_]{1,60}"),  # an exception's class, a status or an SQLSTATE
    "http.request.method": re.compile(r"[A-Z_]{1,10}"),
    "http.response.status_code": None,
    "http.route": re.compile(r"[A-Za-z0-9_{}/.:-]{1,120}"),  # the template of the path
    "db.system.name": re.compile(r"postgresql"),
    "db.operation.name": re.compile(r"[A-Z]{1,20}"),
    "db.collection.name": re.compile(r"[a-z_][a-z0-9_]{0,62}"),
    "panel.task": re.compile(r"[a-z._]{1,40}"),
    "panel.operation_id": None,
    "panel.action_id": None,
    "panel.run_id": None,
    "panel.retries": None,
    "panel.calls": None,
    "panel.repairs": None,
    "panel.result": re.compile(r"[a-z_]{1,30}"),
    "panel.source": re.compile(r"[A-Za-z0-9_. -]{1,80}"),  # the feed's or cluster's name
}
"""Every attribute that is exported, and the form of its text; None: a whole number. docs/monitoring.md says what each
means."""

NAME = re.compile(r"[A-Za-z0-9_{}/.: -]{1,160}")
NAMELESS = "span"


def allowed_attributes(given: Mapping[str, object] | None) -> dict[str, Value]:
    """Those of the attributes that may leave the panel."""
    return {key: value for key, value in (given or {}).items() if isinstance(value, str | int) and _fits(key, value)}


def _fits(key: str, value: Value) -> bool:
    if key not in ATTRIBUTES or isinstance(value, bool):
        return False
    form = ATTRIBUTES[key]
    if form is None:
        return isinstance(value, int) and -(2**63) <= value < 2**63
    return isinstance(value, str) and form.fullmatch(value) is not None


def allowed_name(name: str) -> str:
    """The span's name. The panel's own names all fit; another is replaced."""
    return name if NAME.fullmatch(name) else NAMELESS
