"""``panel-sync adopt``: guests that nobody ordered, the orders that may be theirs, and what operators decide."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from cli.environment import command_settings
from cli.errors import CommandError
from cli.operating.operator_transaction import act, transaction
from cli.operating.options import Reason
from cli.output.console import as_json, out
from cli.output.listing import Json, OfCluster, Page
from domain.guests import GuestKey, GuestType
from panel.adoptions.decisions import list_adoptions
from panel.adoptions.inbox import CandidateView, InboxGuest, guestless_orders, unmanaged_guests
from panel.adoptions.known import Reading
from panel.operators.actions import adoptions
from panel.operators.actions.adoptions import SeenGuest
from panel.records.told import moment
from panel.terminal import styled, table

app = typer.Typer(invoke_without_command=True)

PerPage = Annotated[int, typer.Option("--limit", min=1, max=200, help="Entries a page.")]


def reading() -> Reading:
    """How the panel reads the main site."""
    return Reading.of(command_settings())


@app.callback()
def list_guests(
    context: typer.Context,
    cluster: OfCluster = None,
    everything: Annotated[bool, typer.Option("--all", help="Also the ignored and the snoozed ones.")] = False,
    limit: PerPage = 50,
    page: Page = 1,
    json: Json = False,
) -> None:
    """List the guests that no order names, each with up to three orders that may be its own.

    The likeliest order comes first, with what speaks for it and against it.

    Examples: panel-sync adopt; panel-sync adopt --cluster fra1 --page 2; panel-sync adopt --json

    Ends with 0, whether there are any or not.
    """
    if context.invoked_subcommand is not None:
        return
    how = reading()
    with transaction() as connection:
        listed = unmanaged_guests(
            connection, how, cluster=cluster, everything=everything, limit=limit + 1, offset=(page - 1) * limit
        )
    more, listed = len(listed) > limit, listed[:limit]
    if json:
        as_json([asdict(guest) for guest in listed])
        return
    for guest in listed:
        _print_guest(guest)
    if more:
        out.print(f"There are more: --page {page + 1}")


@app.command("orders")
def orders(limit: PerPage = 50, page: Page = 1, json: Json = False) -> None:
    """List the orders that go on, name no guest, and whose VPS has none.

    Example: panel-sync adopt orders

    Ends with 0, whether there are any or not.
    """
    how = reading()
    with transaction() as connection:
        listed = guestless_orders(connection, how, limit=limit + 1, offset=(page - 1) * limit)
    more, listed = len(listed) > limit, listed[:limit]
    if json:
        as_json([asdict(order) for order in listed])
        return
    rows = table("order", "status", "vps", "user", "name", "size", "known since (UTC)")
    for order in listed:
        rows.add_row(
            order.order_id,
            order.order_status,
            "" if order.vps_id is None else str(order.vps_id),
            "" if order.user_id is None else str(order.user_id),
            order.name or "",
            _size(order.cpu, order.ram_mb, order.disk_gb),
            moment(order.first_seen_at),
        )
    out.print(rows)
    if more:
        out.print(f"There are more: --page {page + 1}")


@app.command("decisions")
def decisions(
    ended: Annotated[
        bool, typer.Option("--ended", help="Those that ended in the last 90 days, instead of those that wait.")
    ] = False,
    limit: PerPage = 50,
    page: Page = 1,
    json: Json = False,
) -> None:
    """List the guests that operators adopted: those that wait for a run, or those that ended.

    Examples: panel-sync adopt decisions; panel-sync adopt decisions --ended --json

    Ends with 0, whether there are any or not.
    """
    with transaction() as connection:
        listed = list_adoptions(connection, ended=ended, limit=limit + 1, offset=(page - 1) * limit)
    more, listed = len(listed) > limit, listed[:limit]
    if json:
        as_json([asdict(adoption) for adoption in listed])
        return
    rows = table("id", "guest", "order", "by", "adopted (UTC)", "state", "vps", "why")
    for one in listed:
        rows.add_row(
            str(one.id),
            str(one.key),
            one.order_id,
            one.adopted_by,
            moment(one.adopted_at),
            one.outcome or "waits",
            "" if one.vps_id is None else str(one.vps_id),
            one.why or "",
        )
    out.print(rows)
    if more:
        out.print(f"There are more: --page {page + 1}")


@app.command("guest")
def guest(
    guest: Annotated[str, typer.Argument(metavar="CLUSTER/VMID", help="As `panel-sync adopt` names it.")],
    fingerprint: Annotated[
        str, typer.Option("--fingerprint", help="The machine that you saw, as `panel-sync adopt` shows it.")
    ],
    reason: Reason,
    order: Annotated[str | None, typer.Option("--order", help="The order's id.")] = None,
    vps: Annotated[int | None, typer.Option("--vps", min=1, help="Instead of the order: its VPS's id.")] = None,
) -> None:
    """Adopt a guest into an order. The next run reads the guest again, and links it if it is still that machine.

    Example: panel-sync adopt guest fra1/101 --order 7041 --fingerprint smbios:5e0f... --reason "the old fleet"

    Ends with 0; with 2, and why, if the guest may not be this order's or is another machine by now.
    """
    # The identity of a container is a MAC address, that of a VM an SMBIOS uuid.
    type_ = GuestType.LXC if fingerprint.startswith("mac:") else GuestType.QEMU
    seen = SeenGuest(_key(guest), type_, fingerprint)
    out.print(act(adoptions.adopt, seen, reason, reading(), order_id=order, vps_id=vps).message)


@app.command("withdraw")
def withdraw(
    adoption: Annotated[int, typer.Argument(metavar="ID", min=1, help="As `panel-sync adopt decisions` names it.")],
    reason: Reason,
) -> None:
    """Take an adoption back that no run has followed yet.

    Example: panel-sync adopt withdraw 3 --reason "the wrong order"

    Ends with 0; with 2 if there is no such adoption, or if it ended already.
    """
    out.print(act(adoptions.withdraw, adoption, reason).message)


def _key(text: str) -> GuestKey:
    cluster, _, vmid = text.rpartition("/")
    if not cluster or not vmid.isascii() or not vmid.isdecimal() or len(vmid) > 9:
        raise CommandError(f"{text} is no guest: write its cluster and its VMID, as in fra1/101")
    return GuestKey(cluster, int(vmid))


def _print_guest(guest: InboxGuest) -> None:
    what = f"{guest.guest_type}, {guest.power}, node {guest.node}, {_size(guest.cores, guest.memory_mb, guest.disk_gb)}"
    out.print(
        styled("bold", str(guest.key)),
        f"{guest.name or '(no name)'} ({what}), first seen {moment(guest.first_seen_at)} UTC",
    )
    out.print(f"  identity: {guest.fingerprint or 'not known'}")
    if guest.ignored_by is not None:
        out.print(f"  ignored by {guest.ignored_by}: {guest.ignored_reason}")
    if guest.adoption is not None and guest.adoption.outcome != "linked":
        one = guest.adoption
        state = "; ".join(part for part in (one.outcome or "waits for a run", one.why) if part)
        out.print(f"  adoption {one.id} into order {one.order_id} by {one.adopted_by}: {state}")
    if guest.waits:
        return
    if guest.obstacle is not None:
        out.print(f"  {guest.obstacle}")
    for candidate in guest.candidates:
        _print_candidate(candidate)
    if not guest.candidates:
        out.print("  no order is likely")


def _print_candidate(one: CandidateView) -> None:
    record = "no VPS" if one.vps_id is None else f"VPS {one.vps_id}"
    whose = f"user {one.user_id}" if one.user_id is not None else "customer not known"
    out.print(f"  order {one.order_id} {one.name or '(no name)'} ({record}, {whose})")
    for sentence in one.evidence:
        out.print(f"    for: {sentence}")
    for sentence in one.against:
        out.print(f"    against: {sentence}")
    if one.obstacle is not None:
        out.print(f"    {one.obstacle}")


def _size(cores: float | None, memory_mb: int | None, disk_gb: int | None) -> str:
    parts = [f"{cores:g} vCPU" if cores is not None else "", f"{memory_mb} MiB" if memory_mb is not None else ""]
    return ", ".join(part for part in (*parts, f"{disk_gb} GiB" if disk_gb is not None else "") if part)
