"""``panel-sync vps show`` and ``vps deleted``: one VPS as all sides say it, and those that can be restored."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import typer

from cli.environment import command_settings
from cli.errors import CommandError
from cli.operating.operator_transaction import transaction
from cli.output.console import as_json, out
from cli.output.listing import Json, OfUser, Page, PerPage
from panel.operators.pages.vps_view import VpsView, vps_view
from panel.operators.reports.as_json import vps_as_json
from panel.operators.reports.deleted import DeletedFilter, list_deleted
from panel.operators.reports.looks import configured
from panel.records.told import moment, pairs, plain
from panel.terminal import table


def show(
    vps: Annotated[int, typer.Argument(metavar="ID", min=1, help="The VPS's id in the panel.")], json: Json = False
) -> None:
    """Show a VPS as its order, the panel and Proxmox say it, where they differ, and what stands in the way.

    Example: panel-sync vps show 17

    Ends with 0; with 2 if there is no such VPS.
    """
    settings = command_settings("database_url")
    of, above = configured(settings), settings.second_approval_above
    with transaction() as connection:
        view = vps_view(connection, vps, proof=of.proof, names=of.names, shared_ids=of.shared_ids, second_above=above)
    if view.record is None and not view.waiting:
        raise CommandError(f"VPS {vps} does not exist in the panel")
    if json:
        as_json(vps_as_json(view))
        return
    rows = table("", "order", "panel", "Proxmox", "")
    for line in view.lines:
        sides = (line.order, line.panel, line.guest)
        if sides != (None, None, None):
            told = ("" if side is None else plain(side) for side in sides)
            rows.add_row(line.name, *told, "differs" if line.differs else "")
    out.print(rows)
    for hindrance in _hindrances(view):
        out.print(hindrance)


def _hindrances(view: VpsView) -> list[str]:
    """What the panel has stored that keeps a run from making the sides agree."""
    told = [f"{view.waiting} accepted calls wait to be applied"] if view.waiting else []
    told += [f"held: {one.hash[:12]} {one.reason}" for one in view.held]
    told += [f"{pause.target} is {pause}" for pause in view.pauses]
    told += [f"{one.subject} is in quarantine until {moment(one.next_try_at)} UTC" for one in view.quarantined]
    told += [
        f"{one.kind} {one.subject} is missing since {moment(one.since)} UTC, in {one.times} reads"
        + (": proven gone" if one.proven else "")
        for one in view.missed
    ]
    told += [f"{one.source} is not believed: {one.reason}; {one.remedy}" for one in view.troubles]
    return told + [f"{one.severity} {one.class_}: {one.reason}" for one in view.findings]


def deleted(
    user: OfUser = None,
    day: Annotated[
        datetime | None, typer.Option("--day", formats=["%Y-%m-%d"], help="Deleted on this day (UTC).")
    ] = None,
    page: Page = 1,
    limit: PerPage = 50,
    json: Json = False,
) -> None:
    """List the VPS that were deleted in the last 7 days and can be restored, with the reason; the latest first.

    Examples: panel-sync vps deleted; panel-sync vps deleted --user 5 --json

    Ends with 0, whether there are any or not. `panel-sync vps restore ID --reason R` brings one back.
    """
    wanted = DeletedFilter(user, None if day is None else day.date())
    with transaction() as connection:
        listed = list_deleted(connection, wanted, limit=limit + 1, offset=(page - 1) * limit)
    more, listed = len(listed) > limit, listed[:limit]
    if json:
        as_json([asdict(one) for one in listed])
        return
    rows = table("vps", "name", "user", "order", "guest", "deleted (UTC)", "by", "why", "until (UTC)", "taken")
    for one in listed:
        evidence = f" ({pairs(one.evidence)})" if one.evidence else ""
        rows.add_row(
            str(one.vps_id),
            one.name,
            str(one.user_id),
            one.order_id or "",
            "" if one.vmid is None else f"{one.cluster}/{one.vmid}",
            moment(one.deleted_at),
            one.deleted_by or "",
            f"{one.reason}{evidence}",
            moment(one.restorable_until),
            one.taken or "",
        )
    out.print(rows)
    if more:
        out.print(f"There are more: --page {page + 1}")
