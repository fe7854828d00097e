"""Validates the body of a sync call. Pure. Messages name the field and say how to correct the call."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast, get_args

from api.http.problems import ProblemError
from domain.record_columns import MAX_ID, STATUSES, Kind, RecordColumn, ValueSource, given_by
from panel.journal.calls import PAYLOAD_FIELDS, Action

ACTIONS: tuple[str, ...] = get_args(Action)
CREATE_REQUIRED = ("user_id", "name", "cpu", "ram", "disk", "os")
CREATE_DEFAULTS = {"status": "creating", "hypervisor": "proxmox"}

LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,62}")


@dataclass(frozen=True, slots=True)
class SyncCall:
    """A valid body: ``payload`` holds only what the journal keeps, in the contract's words and units."""

    action: Action
    payload: dict[str, Any]
    vps_id: int | None
    order_id: str | None


@dataclass(frozen=True, slots=True)
class AuditableFields:
    """The parts of a refused body that the audit may store: ids and the action, each only if well formed."""

    action: str | None = None
    user_id: int | None = None
    order_id: str | None = None
    vps_id: int | None = None


def parse_call(body: object) -> SyncCall:
    """Validate a parsed JSON body. Raises ProblemError 400 (something is missing) or 422 (something is wrong).

    null counts as missing, because JavaScript writes NaN as null. Unknown fields are ignored.
    """
    if not isinstance(body, dict):
        raise _wrong("body", "must be a JSON object")
    _require([name for name in ("action", "vps") if body.get(name) is None])
    action, vps = body["action"], body["vps"]
    if not isinstance(action, str) or action not in ACTIONS:
        raise _wrong("action", f"must be one of {', '.join(ACTIONS)}")
    if not isinstance(vps, dict):
        raise _wrong("vps", "must be a JSON object")
    given = {name: value for name, value in vps.items() if value is not None}
    _require([f"vps.{name}" for name in _missing(action, given)])
    payload = {name: CHECKS[name](f"vps.{name}", given[name]) for name in PAYLOAD_FIELDS if name in given}
    if action == "create":
        payload = CREATE_DEFAULTS | payload
    for name, other in (("cluster", "vmid"), ("vmid", "cluster")):
        if name in payload and other not in payload:
            raise _wrong(f"vps.{other}", f"must be sent with vps.{name}: only both together name a guest")
    vps_id = _integer(1, MAX_ID)("vps.id", given["id"]) if action != "create" and "id" in given else None
    return SyncCall(cast("Action", action), payload, vps_id, payload.get("order_id"))


def auditable_fields(body: object) -> AuditableFields:
    """The parts of any body that the audit may store."""
    if not isinstance(body, dict):
        return AuditableFields()
    action, vps = body.get("action"), body.get("vps")
    vps = vps if isinstance(vps, dict) else {}

    def if_well_formed(name: str, check: Callable[[str, object], Any]) -> Any:  # noqa: ANN401
        try:
            return check(name, vps[name])
        except (KeyError, ProblemError):
            return None

    return AuditableFields(
        action=action if isinstance(action, str) and action in ACTIONS else None,
        user_id=if_well_formed("user_id", CHECKS["user_id"]),
        order_id=if_well_formed("order_id", CHECKS["order_id"]),
        vps_id=if_well_formed("id", CHECKS["user_id"]),
    )


def _missing(action: str, given: Mapping[str, Any]) -> list[str]:
    if action == "create":
        return [name for name in CREATE_REQUIRED if name not in given]
    names_vps = "id" in given or "order_id" in given
    missing = [] if names_vps else ["id"]
    if action == "update" and "status" not in given:
        missing.append("status")
    return missing


def _require(missing: list[str]) -> None:
    if missing:
        raise ProblemError(400, "missing_fields", f"Missing required fields: {', '.join(missing)}", missing=missing)


def _wrong(field: str, how: str) -> ProblemError:
    return ProblemError(422, "invalid_field", f"{field} {how}", field=field)


# --- one check for each field: (name in messages, value) -> the value to store

Check = Callable[[str, Any], Any]


def _integer(low: int, high: int) -> Check:
    """Accepts JSON integers (4 and 4.0 are the same number), but neither true nor "4"."""

    def check(name: str, value: object) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise _wrong(name, "must be an integer")
        if not low <= value <= high:
            raise _wrong(name, f"must be between {low} and {high}")
        return value

    return check


def _megabytes(low: int, high: int) -> Check:
    def check(name: str, value: object) -> int:
        mb: int = _integer(-MAX_ID, MAX_ID)(name, value)
        if mb < low:
            hint = f" ({mb} looks like GB)" if mb > 0 else ""
            raise _wrong(name, f"must be in MB, at least {low}{hint}")
        if mb > high:
            raise _wrong(name, f"must be in MB, at most {high}")
        return mb

    return check


def _text(name: str, value: object, *, longest: int = 255) -> str:
    if not isinstance(value, str):
        raise _wrong(name, "must be a text")
    stripped = value.strip()
    if not 1 <= len(stripped) <= longest:
        raise _wrong(name, f"must be 1 to {longest} characters long")
    if not stripped.isprintable() and any(unicodedata.category(c) in {"Cc", "Zl", "Zp"} for c in stripped):
        raise _wrong(name, "must not contain control characters or line breaks")
    return stripped


def _order_id(name: str, value: object) -> str:
    if isinstance(value, str):
        return _text(name, value, longest=64)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(name, "must be a text of 1 to 64 characters or an integer")
    return str(_integer(0, MAX_ID)(name, value))


def _one_of(*values: str) -> Check:
    def check(name: str, value: object) -> str:
        if not isinstance(value, str) or value not in values:
            raise _wrong(name, f"must be one of {', '.join(values)}")
        return value

    return check


def _status(name: str, value: object) -> str:
    if value == "deleted":
        raise _wrong(name, "cannot be set to deleted: use action delete")
    status: str = _one_of(*STATUSES)(name, value)
    return status


def _matching(pattern: re.Pattern[str], how: str) -> Check:
    def check(name: str, value: object) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise _wrong(name, how)
        return value

    return check


def _address(parse: Callable[[str], object], how: str) -> Check:
    def check(name: str, value: object) -> str:
        if not isinstance(value, str) or "%" in value:  # a scope id has a meaning on one host only
            raise _wrong(name, how)
        try:
            return str(parse(value.strip()))
        except ValueError:
            raise _wrong(name, how) from None

    return check


def _check_of(column: RecordColumn) -> Check:
    match column.kind:
        case Kind.WORD:
            return _one_of(*column.words)
        case Kind.ID | Kind.WHOLE if column.limits is not None:
            return (_megabytes if column.unit == "MB" else _integer)(*column.limits)
        case kind:
            return BY_KIND[kind]


BY_KIND: Mapping[Kind, Check] = {
    Kind.TEXT: _text,
    Kind.LABEL: _matching(LABEL, "must be 1 to 63 letters, digits, '_', '.' or '-', the first a letter or digit"),
    Kind.HOST: _matching(NODE, "must be 1 to 63 letters, digits, '.' or '-', the first a letter or digit"),
    Kind.ORDER_ID: _order_id,
    Kind.ADDRESS: _address(ipaddress.ip_address, "must be an IPv4 or IPv6 address"),
    Kind.ADDRESS_6: _address(ipaddress.IPv6Address, "must be an IPv6 address"),
}

CHECKS = {column.json_name: _check_of(column) for column in given_by(ValueSource.CALL)} | {"status": _status}
