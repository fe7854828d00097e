"""``panel-sync pause`` and ``resume``: leave a source, a VPS or a customer alone for a while."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.environment import command_settings
from cli.operating.operator_transaction import act
from cli.operating.options import Length, Reason
from cli.output.console import out
from panel.operators.actions import pauses

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


def resume(target: Target) -> None:
    """End a pause before its time.

    Example: panel-sync resume fra1

    Ends with 0; with 2 if it was not paused.
    """
    out.print(act(pauses.resume, target, command_settings().cluster_names).message)
