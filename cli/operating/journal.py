"""``panel-sync operations`` and ``vps history`` show the journal: why a record changed. ``requeue`` and ``discard``
decide about dead calls."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer
from sqlalchemy import Row

from cli.operating.operator_transaction import act, transaction
from cli.operating.options import Reason
from cli.output.console import as_json, out
from cli.output.listing import Json
from cli.output.power_view import power_headline, power_lines
from panel.operators.actions import journal
from panel.records.history import POWER_SHOWN, Entry, vps_history
from panel.records.operations import list_operations
from panel.records.told import changed, identity_told, moment, pairs
from panel.terminal import styled, table

Operation = Annotated[int, typer.Argument(metavar="OPERATION", min=1, help="As `operations --state dead` shows it.")]


class State(StrEnum):
    """The state of an operation."""

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
    """List the journal: every accepted call and every repair. `--state dead` shows the calls that need you.

    Examples: panel-sync operations --state dead; panel-sync operations --vps 17 --json

    Ends with 0, whether there are any or not.
    """
    with transaction() as connection:
        wanted = None if state is None else state.value
        latest = list_operations(connection, state=wanted, vps_id=vps, limit=limit)
    if json:
        as_json([dict(row._mapping) for row in latest])
        return
    rows = table("op", "vps", "kind", "action", "state", "accepted (UTC)", "failures", "what became of it")
    for row in latest:
        rows.add_row(
            str(row.id),
            str(row.vps_id),
            f"{row.kind} ({row.source})" if row.source != row.kind else row.kind,
            row.action,
            row.state,
            moment(row.accepted_at),
            str(row.attempts),
            outcome(row),
        )
    out.print(rows)


def requeue(operation: Operation) -> None:
    """Queue a dead call again, as if it had come now. Refused if that would undo a later change.

    Example: panel-sync requeue 8123

    Ends with 0; with 2, and nothing done, if there is no such call or it is refused.
    """
    out.print(act(journal.requeue, operation).message)


def discard(operation: Operation, reason: Reason) -> None:
    """Leave a dead call undone: the record stays as it is.

    Example: panel-sync discard 8123 --reason "sent again by hand"

    Ends with 0; with 2, and nothing done, if there is no such call or it is not dead.
    """
    out.print(act(journal.discard, operation, reason).message)


def history(
    vps: Annotated[int, typer.Argument(metavar="ID", min=1, help="The VPS's id in the panel.")], json: Json = False
) -> None:
    """Show every change of a VPS with its reason and its evidence, and what its customers switched, in one order.

    A call of the main site also shows its request id and the label of its key. With `--json` a power action is of the
    kind `power`.

    Example: panel-sync vps history 17

    Ends with 0; with 2 if there is no such VPS.
    """
    with transaction() as connection:
        journaled = vps_history(connection, vps)
    if json:
        as_json([_as_entry(entry) for entry in journaled.in_order])
        return
    out.print(_headline(vps, journaled.record))
    if (identity := identity_told(journaled)) is not None:
        out.print(identity)
    if journaled.removed:
        out.print(f"{journaled.removed} older changes of power, plan or name are not kept any more (JOURNAL_DAYS)")
    if len(journaled.power) == POWER_SHOWN:
        out.print(f"only the latest {POWER_SHOWN} power actions are shown: panel-sync power --all --vps {vps}")
    for kind, row in journaled.in_order:
        out.print()
        if kind == "power":
            out.print(styled("bold", moment(row.asked_at)), f" {power_headline(row)}")
            for line in power_lines(row):
                out.print(f"  {line}")
            continue
        at = styled("bold", moment(row.applied_at or row.accepted_at))
        out.print(at, f" {row.action} by {row.source}  (op {row.id})")
        for line in operation_lines(row):
            out.print(f"  {line}")


def _as_entry(entry: Entry) -> dict[str, Any]:
    fields = dict(entry.row._mapping)
    return fields | {"kind": "power"} if entry.kind == "power" else fields


def outcome(row: Row[Any]) -> str:
    """How an operation ended, in one line: its result, or its reason, or its error."""
    return str(row.result or row.reason or row.error or "")


def operation_lines(row: Row[Any]) -> list[str]:
    """One operation for a reader: outcome, reason, evidence, each column that changed."""
    lines = [f"{row.state}: {row.result or row.error}" if row.result or row.error else row.state]
    if row.reason:
        lines.append(f"because {row.reason}")
    if row.evidence:
        lines.append(f"evidence: {pairs(row.evidence)}")
    if row.run_id is not None:
        lines.append(f"run {row.run_id}")
    if row.request_id is not None:
        key = f", with the key {row.api_key_label}" if row.api_key_label is not None else ""
        lines.append(f"request {row.request_id}{key}")
    return lines + [f"{column}: {old} -> {new}" for column, old, new in changed(row.before, row.after)]


def _headline(vps_id: int, row: Row[Any] | None) -> str:
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
