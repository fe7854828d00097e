"""``panel-sync operations`` and ``vps history``: the journal, which answers "why did this change?"; and dead calls."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer
from sqlalchemy import Row, select

from cli.operating.acting import act, transaction
from cli.operating.words import Reason
from cli.output.console import as_json, moment, out, span
from cli.output.listing import Json
from panel.operators.actions import journal
from panel.records.history import History, vps_history
from panel.schema import tables
from panel.terminal import styled, table

HIDDEN = {"version"}
"""Columns of a change that say nothing to a reader."""


Operation = Annotated[int, typer.Argument(metavar="OPERATION", min=1, help="As `operations --state dead` shows it.")]


class State(StrEnum):
    """What became of an operation."""

    QUEUED = "queued"
    APPLIED = "applied"
    SUPERSEDED = "superseded"
    REJECTED = "rejected"
    DEAD = "dead"


def operations(
    state: Annotated[State | None, typer.Option("--state", help="Only those in this state.")] = None,
    vps: Annotated[int | None, typer.Option("--vps", min=1, help="Only those of this VPS.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, newest first.")] = 50,
    json: Json = False,
) -> None:
    """List the journal: every accepted call and every repair. `--state dead` shows what needs a human.

    Examples: panel-sync operations --state dead; panel-sync operations --vps 17 --json

    Ends with 0, whether there are any or not.
    """
    listed = tables.operations
    wanted = select(listed).order_by(listed.c.id.desc()).limit(limit)
    if state is not None:
        wanted = wanted.where(listed.c.state == state.value)
    if vps is not None:
        wanted = wanted.where(listed.c.vps_id == vps)
    with transaction() as connection:
        found = connection.execute(wanted).all()
    if json:
        as_json([dict(row._mapping) for row in found])
        return
    shown = table("op", "vps", "kind", "action", "state", "accepted (UTC)", "failures", "what became of it")
    for row in found:
        shown.add_row(
            str(row.id),
            str(row.vps_id),
            f"{row.kind} ({row.source})" if row.source != row.kind else row.kind,
            row.action,
            row.state,
            moment(row.accepted_at),
            str(row.attempts),
            outcome(row),
        )
    out.print(shown)


def requeue(operation: Operation) -> None:
    """Try a dead call once more, as if it had come now; refused where that would undo what came after it.

    Example: panel-sync requeue 8123

    Ends with 0; with 2 and nothing done if there is no such call, or it is refused.
    """
    out.print(act(journal.requeue, operation).message)


def discard(operation: Operation, reason: Reason) -> None:
    """Leave a dead call undone: the record stays as it is.

    Example: panel-sync discard 8123 --reason "sent again by hand"

    Ends with 0; with 2 and nothing done if there is no such call, or it is not dead.
    """
    out.print(act(journal.discard, operation, reason).message)


def history(
    vps: Annotated[int, typer.Argument(metavar="ID", min=1, help="The VPS's id in the panel.")], json: Json = False
) -> None:
    """Tell a VPS's story: every change in order, with its reason and the evidence for it.

    A call of the main site names its request id and which key it came with.

    Example: panel-sync vps history 17

    Ends with 0; with 2 if there is no such VPS.
    """
    with transaction() as connection:
        told = vps_history(connection, vps)
    if json:
        as_json([dict(row._mapping) for row in told.operations])
        return
    out.print(_standing(vps, told.record))
    if (identity := _identity(told)) is not None:
        out.print(identity)
    if told.removed:
        out.print(f"{told.removed} older changes of power, plan or name are not kept any more (JOURNAL_DAYS)")
    for row in told.operations:
        out.print()
        at = styled("bold", moment(row.applied_at or row.accepted_at))
        out.print(at, f" {row.action} by {row.source}  (op {row.id})")
        for line in story(row):
            out.print(f"  {line}")


def outcome(row: Row[Any]) -> str:
    """What became of an operation, in one line: the result, else the reason, else the error."""
    return str(row.result or row.reason or row.error or "")


def story(row: Row[Any]) -> list[str]:
    """One operation for a reader: outcome, reason, evidence, each column that changed."""
    lines = [f"{row.state}: {row.result or row.error}" if row.result or row.error else row.state]
    if row.reason:
        lines.append(f"because {row.reason}")
    if row.evidence:
        lines.append(f"evidence: {_pairs(row.evidence)}")
    if row.run_id is not None:
        lines.append(f"run {row.run_id}")
    if row.request_id is not None:
        key = f", with the key {row.api_key_label}" if row.api_key_label is not None else ""
        lines.append(f"request {row.request_id}{key}")
    if row.before is not None:
        lines.extend(
            f"{column}: {_plain(row.before.get(column))} -> {_plain(value)}"
            for column, value in (row.after or {}).items()
            if column not in HIDDEN
        )
    return lines


def _standing(vps_id: int, row: Row[Any] | None) -> str:
    if row is None:
        return f"VPS {vps_id}: accepted, not applied yet"
    parts = [f"VPS {vps_id} of user {row.user_id}: {row.status}"]
    if row.order_id is not None:
        parts.append(f"order {row.order_id} ({row.order_state})")
    if row.vmid is not None:
        parts.append(f"guest {row.cluster}/{row.vmid} on {row.node or '?'} ({row.power_state}, link {row.link_state})")
    if row.merged_into is not None:
        parts.append(f"merged into VPS {row.merged_into}")
    elif row.deleted_at is not None:
        parts.append(f"deleted {moment(row.deleted_at)}")
    return ", ".join(parts)


def _identity(told: History) -> str | None:
    """Which machine it is, when that was read, and what puts it in doubt."""
    known, row = told.identity, told.record
    if known is None:
        if row is None or row.claimed_vmid is None:
            return None
        named = f"a call named guest {row.claimed_cluster}/{row.claimed_vmid}, which another record had"
        return f"{named}: it has no guest (`panel-sync findings --class link-conflict`)"
    if known.state is None:
        return f"guest {known.guest} was never listed"
    if known.read_at is None or known.age_s is None:
        return f"who guest {known.guest} is was never read: nothing of it is taken"
    at = f"{moment(known.read_at)} UTC"
    if known.unlisted_since is not None:
        gone = f"guest {known.guest} has not been listed since {moment(known.unlisted_since)} UTC"
        return f"{gone}; it was {known.fingerprint or 'without an identity'}, read {at}"
    if known.state == "forbidden":
        return f"who guest {known.guest} is may not be read (403; last asked {at}, {span(known.age_s)} ago)"
    if known.in_doubt:
        since = f" since {moment(known.doubted_at)} UTC" if known.doubted_at is not None else ""
        why = known.why or "its list tells something new"
        doubted = f"who guest {known.guest} is has been in doubt{since}: {why}"
        return f"{doubted}; nothing of it is taken before it is read again (last read {at}, {span(known.age_s)} ago)"
    said = f"guest {known.guest} is {known.fingerprint or 'without an identity'}, read {at} ({span(known.age_s)} ago)"
    if known.believed in (None, known.fingerprint):
        return said
    return f"{said}: not this VPS's machine, which is {known.believed}"


def _pairs(evidence: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_plain(value)}" for name, value in evidence.items())


def _plain(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "(" + _pairs(value) + ")"
    if isinstance(value, list):
        return "[" + ", ".join(_plain(item) for item in value) + "]"
    return str(value)
