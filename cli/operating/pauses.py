"""``panel-sync pause`` and ``resume``: what is left alone for a while."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.environment import command_settings
from cli.operating.acting import act
from cli.operating.words import Length, Reason
from cli.output.console import out
from panel.operators.actions import pauses

Target = Annotated[str, typer.Argument(metavar="CLUSTER|feed|all|vps:ID|user:ID")]


def pause(
    target: Target,
    reason: Reason,
    length: Length,
) -> None:
    """Leave a cluster, the main site or everything alone: it is not read and its records keep their state.

    A single VPS, or a customer's, are read and reported, and no run writes them. Sync calls are accepted and applied
    as ever. The pause ends by itself.

    Examples: panel-sync pause fra1 --reason "storage upgrade" --for 2h; panel-sync pause vps:17 --reason move --for 30m

    Ends with 0; with 2 if there is nothing of that name.
    """
    out.print(act(pauses.pause, target, command_settings().cluster_names, reason, length).message)


def resume(target: Target) -> None:
    """End a pause before its time.

    Example: panel-sync resume fra1

    Ends with 0; with 2 if it was not paused.
    """
    out.print(act(pauses.resume, target, command_settings().cluster_names).message)
