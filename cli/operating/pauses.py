"""``panel-sync pauses``, ``pause`` and ``resume``: leave a source, a VPS or a customer alone for a while."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from cli.environment import command_settings
from cli.operating.operator_transaction import act, transaction
from cli.operating.options import Length, Reason
from cli.output.console import as_json, out
from cli.output.listing import Json
from panel.operators.actions import pauses
from panel.operators.pauses import current_pauses
from panel.records.told import moment
from panel.terminal import table

Target = Annotated[str, typer.Argument(metavar="CLUSTER|feed|all|vps:ID|user:ID")]


def pause(
    target: Target,
    reason: Reason,
    length: Length,
) -> None:
    """Leave a cluster, the main site or everything alone: it is not read and its records keep their state.

    A paused VPS (vps:ID), and all VPSes of a paused customer (user:ID), are still read and reported, but no run writes
    their records. Sync calls are accepted and applied as usual. The pause ends by itself.

    Examples: panel-sync pause fra1 --reason "storage upgrade" --for 2h; panel-sync pause vps:17 --reason move --for 30m

    Ends with 0; with 2 if there is no such target, or if the pause is longer than 30 days.
    """
    out.print(act(pauses.pause, target, command_settings().cluster_names, reason, length).message)


def list_all(json: Json = False) -> None:
    """List the pauses in force: what runs leave alone, by whom, why, and until when.

    Example: panel-sync pauses --json

    Ends with 0, also if nothing is paused.
    """
    with transaction() as connection:
        listed = list(current_pauses(connection).values())
    if json:
        as_json([asdict(one) for one in listed])
        return
    rows = table("target", "by", "since (UTC)", "until (UTC)", "why")
    for one in listed:
        rows.add_row(one.target, one.by, moment(one.since), moment(one.until), one.reason)
    out.print(rows)


def resume(target: Target) -> None:
    """End a pause before its time.

    Example: panel-sync resume fra1

    Ends with 0; with 2 if it was not paused.
    """
    out.print(act(pauses.resume, target, command_settings().cluster_names).message)
