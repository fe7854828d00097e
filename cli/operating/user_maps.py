"""``users map --csv``, ``users map --by-email``, ``users unmapped``: many users, looked at before it is done."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cli.connect import opened_panel
from cli.errors import CommandError
from cli.operating.acting import operator
from cli.output.console import as_json, out
from cli.output.listing import FITS
from cli.output.progress import Working
from domain.source_protocols import User
from panel.operators.actions import users
from panel.operators.user_maps import (
    LONGEST_ID,
    Refused,
    Wish,
    check_maps,
    mapped_ids,
    orders_by_owner,
    users_by_email,
)
from panel.settings import Settings
from panel.terminal import table
from reconcile.users import READING
from worker.wiring import feed_of

if TYPE_CHECKING:
    from _csv import Reader

COLUMNS = ("panel_id", "main_site_id")
HEAD = ",".join(COLUMNS)
LARGEST_ID = 2**63 - 1
CHECKING, WRITING = "checking the maps", "writing the maps"


@dataclass(frozen=True, slots=True)
class Unmapped:
    """A user of the main site that no panel user is mapped to. ``panel_id``: who has the same e-mail here, if exactly
    one has; ``sure``: whether the e-mail is verified on both sides."""

    main_site_id: str
    username: str | None
    email: str | None
    orders: int
    panel_id: int | None
    sure: bool


def map_by_csv(settings: Settings, file: Path, *, apply: bool, item_by_item: bool, replace: bool) -> None:
    """Map what a CSV file says; without ``apply`` only show what would be done."""
    wishes, refused = read_csv(file)
    _map(settings, wishes, refused, apply=apply, item_by_item=item_by_item, replace=replace)


def map_by_email(settings: Settings, *, apply: bool, item_by_item: bool) -> None:
    """Map users whose e-mail is verified and unique on both sides."""
    unmapped = _unmapped(settings)
    wishes = [
        Wish(f"main site's {one.main_site_id}", one.panel_id, one.main_site_id)
        for one in unmapped
        if one.panel_id is not None and one.sure
    ]
    unsure = [one for one in unmapped if one.panel_id is not None and not one.sure]
    _map(settings, wishes, [], apply=apply, item_by_item=item_by_item, replace=False)
    for one in unsure[:FITS]:
        out.print(f"not verified on both sides: panel user {one.panel_id}, main site's {one.main_site_id}")
    if unsure:
        out.print(
            f"{len(unsure)} more match by an e-mail that is not verified on both sides: panel-sync users verified ID"
        )


def list_unmapped(settings: Settings, *, page: int, limit: int, json: bool, as_csv: bool) -> None:
    """The main site's users that are nobody here, those with most orders first."""
    found = _unmapped(settings)
    if json:
        as_json([{name: getattr(one, name) for name in Unmapped.__slots__} for one in found])
        return
    if as_csv:
        typer.echo(HEAD)
        for one in found:
            typer.echo(f"{one.panel_id if one.sure else ''},{one.main_site_id}")
        return
    shown = table("main site's id", "username", "e-mail", "orders", "the same e-mail here")
    first = (page - 1) * limit
    for one in found[first : first + limit]:
        here = "" if one.panel_id is None else f"user {one.panel_id}" + ("" if one.sure else " (not verified)")
        shown.add_row(one.main_site_id, one.username or "", one.email or "", str(one.orders), here)
    out.print(shown)
    out.print(f"{len(found)} of the main site's users are unmapped; page {page} of {max(1, -(-len(found) // limit))}")


def read_csv(file: Path) -> tuple[list[Wish], list[Refused]]:
    """(what the lines ask for, what is wrong with the others). Raises CommandError if it is no such file."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise CommandError(f"{file} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{file} is not UTF-8") from error
    lines = text.splitlines()
    delimiter = ";" if lines and ";" in lines[0] else ","
    rows = csv.reader(lines, delimiter=delimiter)
    try:
        return _wishes(file, rows)
    except csv.Error as error:
        raise CommandError(f"{file}, line {rows.line_num}: {error}") from error


def _wishes(file: Path, rows: Reader) -> tuple[list[Wish], list[Refused]]:
    head = [name.strip().lower() for name in next(rows, [])]
    if not set(COLUMNS) <= set(head):
        raise CommandError(f"{file}: the first line must name the columns {HEAD}")
    wishes: list[Wish] = []
    refused: list[Refused] = []
    for row in rows:
        where = f"line {rows.line_num}"
        if any(cell.strip() for cell in row):
            wish = _wish(where, dict(zip(head, row, strict=False)))
            if isinstance(wish, Wish):
                wishes.append(wish)
            else:
                refused.append(wish)
    return wishes, refused


def _wish(where: str, row: dict[str, str]) -> Wish | Refused:
    said, main = row.get("panel_id", "").strip(), row.get("main_site_id", "").strip()
    if not said:
        return Refused(where, "panel_id", "is empty")
    if not (said.isascii() and said.isdigit() and 1 <= int(said) <= LARGEST_ID):
        return Refused(where, "panel_id", f"{said!a} is not a panel user's id: a whole number from 1")
    if not main:
        return Refused(where, "main_site_id", "is empty")
    if len(main) > LONGEST_ID or not main.isprintable():
        return Refused(where, "main_site_id", f"is not a text of at most {LONGEST_ID} printable characters")
    return Wish(where, int(said), main)


def _map(
    settings: Settings, wishes: list[Wish], bad: list[Refused], *, apply: bool, item_by_item: bool, replace: bool
) -> None:
    with Working(CHECKING) as moving, opened_panel(settings.session_url) as engine, engine.begin() as connection:
        checked = check_maps(connection, wishes, replace=replace)
        refused = [*bad, *checked.refused]
        may = apply and (item_by_item or not refused)
        if may:
            moving(WRITING, 0, None)
            done = users.map_many(connection, operator(), checked)
    verb = "is" if may else "would be"
    for wish in checked.fresh:
        was = checked.replaces.get(wish.user_id)
        out.print(f"user {wish.user_id} {verb} the main site's {wish.main_site_id}" + (f" (was {was})" if was else ""))
    for one in refused:
        out.print(f"refused: {one}")
    out.print(f"{len(checked.fresh)} to map, {len(checked.already)} mapped so already, {len(refused)} refused")
    if may:
        out.print(done.message)
    elif refused and apply:
        out.print("Nothing was done: all or nothing. Mend the refused ones, or say --item-by-item.")
    elif checked.fresh:
        out.print("Nothing was done: --apply does it.")
    if refused:
        raise typer.Exit(1)


def _unmapped(settings: Settings) -> list[Unmapped]:
    with Working(READING) as moving:
        users = list(_users(settings, moving))
    with opened_panel(settings.session_url) as engine, engine.connect() as connection:
        mapped, here, orders = mapped_ids(connection), users_by_email(connection), orders_by_owner(connection)
    emails = Counter(user.email.lower() for user in users if user.email)
    found = []
    for user in users:
        if user.main_site_user_id in mapped:
            continue
        same = here.get(user.email.lower(), []) if user.email and emails[user.email.lower()] == 1 else []
        one = same[0] if len(same) == 1 else None
        sure = one is not None and bool(user.email_verified and one.email_verified)
        found.append(
            Unmapped(
                user.main_site_user_id, user.username, user.email, orders.get(user.main_site_user_id, 0),
                one.id if one is not None else None, sure,
            )
        )  # fmt: skip
    return sorted(found, key=lambda one: (-one.orders, one.main_site_id))


def _users(settings: Settings, moving: Working) -> Iterator[User]:
    settings.require("main_site_url")
    feed = feed_of(settings)
    if feed is None:
        return
    sweep, count = feed.users(), 0
    for page in sweep.pages:
        yield from page.items
        count += len(page.items)
        moving(f"{READING}, {count} so far", 0, None)
    if sweep.problem is not None:
        raise CommandError(f"The main site's users can't be read completely: {sweep.problem}")
