"""What the main site is told, noted in the transaction of the change that it tells of.

So no event is lost with a process, and none is sent of what was rolled back. What a call of the main site changed is no
event: the main site knows it. Nothing here names an operator.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from domain.record_columns import COLUMNS
from panel.records.public import BY_OPERATOR, public_record

VpsRow = Mapping[str, Any]

WORDS = {column.name: column.json_name for column in COLUMNS}
UNTOLD = frozenset({"version"})
"""What only the panel's own writes need."""

OF_OPERATORS = frozenset({"approved_by", "adopted_by", "adopted_because"})
"""What the evidence of a repair says of operators: who approved or adopted it, and in which words."""

RECORD_TYPES = (
    "vps.created",
    "vps.status_changed",
    "vps.updated",
    "vps.deleted",
    "vps.merged",
    "vps.restored",
)
POWER_ENDED = "vps.power_action_ended"
TYPES = (*RECORD_TYPES, POWER_ENDED)
"""Every type of event."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a record changed: ``source`` says by whose word, ``reason`` is a sentence, ``evidence`` is the journal's."""

    kind: str
    source: str
    reason: str | None
    evidence: Mapping[str, Any] | None
    operation_id: int
    run_id: int | None = None

    def told(self) -> dict[str, Any]:
        """The cause for the main site."""
        by_operator = self.kind == "operator"
        evidence = {} if by_operator else self.evidence or {}
        return {
            "source": self.source,
            "reason": BY_OPERATOR if by_operator else self.reason,
            "operation_id": self.operation_id,
            "run_id": self.run_id,
            "evidence": {name: told for name, told in evidence.items() if name not in OF_OPERATORS},
        }


@dataclass(frozen=True, slots=True)
class RecordChange:
    """A record before and after a change, and the columns that differ (``old``, ``new``), ready for JSON."""

    before: VpsRow | None
    after: VpsRow
    old: Mapping[str, Any] | None
    new: Mapping[str, Any]
    cause: Cause


def note_changes(connection: Connection, changes: Sequence[RecordChange]) -> None:
    """Note that records changed."""
    if _wanted(connection):
        _note(connection, [_record_event(change) for change in changes])


def _record_event(change: RecordChange) -> dict[str, Any]:
    data = {
        "sequence": change.after["applied_seq"],
        "vps": public_record(change.after),
        "before": None if change.old is None else _in_words(change.old),
        "after": _in_words(change.new),
        "cause": change.cause.told(),
    }
    return _event(change.after["id"], type_of(change.before, change.after), change.after["updated_at"], data)


def note_power_actions(connection: Connection, ended: list[int]) -> None:
    """Note that these power actions of customers are over."""
    if not ended or not _wanted(connection):
        return
    events = []
    for row in connection.execute(ENDED, {"ids": ended}):
        record = dict(row._mapping)
        action = {name.removeprefix("action_"): record.pop(name) for name in row._mapping if name.startswith("action_")}
        evidence, ended_at = action.pop("evidence"), action["ended_at"]
        data = {
            "sequence": record["applied_seq"],
            "vps": public_record(record),
            "action": {name: _plain(value) for name, value in action.items()},
            "cause": {"source": "customer", "reason": action["reason"], "evidence": evidence or {}},
        }
        events.append(_event(record["id"], POWER_ENDED, ended_at, data))
    _note(connection, events)


def type_of(before: VpsRow | None, after: VpsRow) -> str:
    """The type of the event that tells of this change."""
    if before is None:
        return "vps.created"
    if after["deleted_at"] is not None:
        return "vps.deleted" if after["merged_into"] is None else "vps.merged"
    if before["deleted_at"] is not None:
        return "vps.restored"
    return "vps.updated" if before["status"] == after["status"] else "vps.status_changed"


def _in_words(columns: Mapping[str, Any]) -> dict[str, Any]:
    """The columns under the names that calls and answers give them."""
    return {WORDS[name]: value for name, value in columns.items() if name not in UNTOLD}


def _event(vps_id: int, type_: str, at: datetime, data: Mapping[str, Any]) -> dict[str, Any]:
    body = json.dumps({"type": type_, "timestamp": at.isoformat(), "data": data}, separators=(",", ":"))
    return {"vps_id": vps_id, "type": type_, "body": body}


def _note(connection: Connection, events: Sequence[Mapping[str, Any]]) -> None:
    if events:
        connection.execute(NOTE, {name: [event[name] for event in events] for name in ("vps_id", "type", "body")})


def _wanted(connection: Connection) -> bool:
    return connection.scalar(WANTED) is not None


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


WANTED = text("SELECT 1 FROM webhook_endpoint WHERE wanted")
NOTE = text(
    "INSERT INTO webhook_events (message_id, vps_id, type, body)"
    " SELECT 'msg_' || replace(CAST(gen_random_uuid() AS text), '-', ''), e.vps_id, e.type, e.body"
    " FROM unnest(CAST(:vps_id AS bigint[]), CAST(:type AS text[]), CAST(:body AS text[]))"
    " WITH ORDINALITY AS e(vps_id, type, body, n) ORDER BY e.n"
)
ENDED = text(
    "SELECT r.*, p.id AS action_id, p.action AS action_action, p.force AS action_force, p.state AS action_state,"
    " p.code AS action_code, p.reason AS action_reason, p.asked_at AS action_asked_at,"
    " p.ended_at AS action_ended_at, p.evidence AS action_evidence"
    " FROM power_actions p JOIN vps r ON r.id = p.vps_id WHERE p.id = ANY(:ids) ORDER BY p.id"
)
