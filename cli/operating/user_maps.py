"""``users map --csv``, ``users map --by-email``, ``users unmapped``: many users, shown before anything is written."""

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
from cli.operating.operator_transaction import operator
from cli.output.console import as_json, out
from cli.output.listing import FITS
from cli.output.progress import Working
from domain.record_columns import MAX_ID
from domain.source_protocols import User
from panel.operators.actions import users
from panel.operators.user_maps import (
    LONGEST_ID,
    Refused,
    WantedMap,
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
CHECKING, WRITING = "checking the maps", "writing the maps"


@dataclass(frozen=True, slots=True)
class Unmapped:
    """A user of the main site that no panel user is mapped to. ``panel_id``: the panel user with the same e-mail, if
    there is exactly one. ``sure``: whether the e-mail is verified on both sides."""

    main_site_id: str
    username: str | None
    email: str | None
    orders: int
    panel_id: int | None
    sure: bool


def map_by_csv(settings: Settings, file: Path, *, apply: bool, item_by_item: bool, replace: bool) -> None:
    """Map users by the lines of a CSV file. Without ``apply`` only show what would be done."""
    wanted_maps, refused = read_csv(file)
    _map(settings, wanted_maps, refused, apply=apply, item_by_item=item_by_item, replace=replace)


def map_by_email(settings: Settings, *, apply: bool, item_by_item: bool) -> None:
    """Map users whose e-mail is verified and unique on both sides."""
    unmapped = _unmapped(settings)
    wanted_maps = [
        WantedMap(f"main site's {user.main_site_id}", user.panel_id, user.main_site_id)
        for user in unmapped
        if user.panel_id is not None and user.sure
    ]
    unsure = [user for user in unmapped if user.panel_id is not None and not user.sure]
    _map(settings, wanted_maps, [], apply=apply, item_by_item=item_by_item, replace=False)
    for user in unsure[:FITS]:
        out.print(f"not verified on both sides: panel user {user.panel_id}, main site's {user.main_site_id}")
    if unsure:
        out.print(
            f"{len(unsure)} more match by an e-mail that is not verified on both sides: panel-sync users verified ID"
        )


def list_unmapped(settings: Settings, *, page: int, limit: int, json: bool, as_csv: bool) -> None:
    """Print the main site's users that no panel user is mapped to, those with most orders first."""
    unmapped = _unmapped(settings)
    if json:
        as_json([{name: getattr(user, name) for name in Unmapped.__slots__} for user in unmapped])
        return
    if as_csv:
        typer.echo(HEAD)
        for user in unmapped:
            typer.echo(f"{user.panel_id if user.sure else ''},{user.main_site_id}")
        return
    rows = table("main site's id", "username", "e-mail", "orders", "the same e-mail here")
    first = (page - 1) * limit
    for user in unmapped[first : first + limit]:
        here = "" if user.panel_id is None else f"user {user.panel_id}" + ("" if user.sure else " (not verified)")
        rows.add_row(user.main_site_id, user.username or "", user.email or "", str(user.orders), here)
    out.print(rows)
    pages = max(1, -(-len(unmapped) // limit))
    out.print(f"{len(unmapped)} of the main site's users are unmapped; page {page} of {pages}")


def read_csv(file: Path) -> tuple[list[WantedMap], list[Refused]]:
    """(the maps that good lines ask for, the bad lines). Raises CommandError if the file cannot be read as CSV."""
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
        return _wanted_maps(file, rows)
    except csv.Error as error:
        raise CommandError(f"{file}, line {rows.line_num}: {error}") from error


def _wanted_maps(file: Path, rows: Reader) -> tuple[list[WantedMap], list[Refused]]:
    head = [name.strip().lower() for name in next(rows, [])]
    if not set(COLUMNS) <= set(head):
        raise CommandError(f"{file}: the first line must name the columns {HEAD}")
    wanted_maps: list[WantedMap] = []
    refused: list[Refused] = []
    for row in rows:
        where = f"line {rows.line_num}"
        if any(cell.strip() for cell in row):
            wanted = _wanted_map(where, dict(zip(head, row, strict=False)))
            if isinstance(wanted, WantedMap):
                wanted_maps.append(wanted)
            else:
                refused.append(wanted)
    return wanted_maps, refused


def _wanted_map(where: str, row: dict[str, str]) -> WantedMap | Refused:
    panel_id, main_site_id = row.get("panel_id", "").strip(), row.get("main_site_id", "").strip()
    if not panel_id:
        return Refused(where, "panel_id", "is empty")
    if not (panel_id.isascii() and panel_id.isdigit() and 1 <= int(panel_id) <= MAX_ID):
        return Refused(where, "panel_id", f"{panel_id!a} is not a panel user's id: a whole number from 1")
    if not main_site_id:
        return Refused(where, "main_site_id", "is empty")
    if len(main_site_id) > LONGEST_ID or not main_site_id.isprintable():
        return Refused(where, "main_site_id", f"is not a text of at most {LONGEST_ID} printable characters")
    return WantedMap(where, int(panel_id), main_site_id)


def _map(
    settings: Settings,
    wanted_maps: list[WantedMap],
    bad: list[Refused],
    *,
    apply: bool,
    item_by_item: bool,
    replace: bool,
) -> None:
    with Working(CHECKING) as progress, opened_panel(settings.session_url) as engine, engine.begin() as connection:
        checked = check_maps(connection, wanted_maps, replace=replace)
        refused = [*bad, *checked.refused]
        writes = apply and (item_by_item or not refused)
        if writes:
            progress(WRITING, 0, None)
            done = users.map_many(connection, operator(), checked)
    verb = "is" if writes else "would be"
    for wanted in checked.fresh:
        was = checked.replaces.get(wanted.user_id)
        out.print(
            f"user {wanted.user_id} {verb} the main site's {wanted.main_site_id}" + (f" (was {was})" if was else "")
        )
    for refusal in refused:
        out.print(f"refused: {refusal}")
    out.print(f"{len(checked.fresh)} to map, {len(checked.already)} mapped already, {len(refused)} refused")
    if writes:
        out.print(done.message)
    elif refused and apply:
        out.print("Nothing was written: it is all or nothing. Correct the refused ones, or add --item-by-item.")
    elif checked.fresh:
        out.print("Nothing was written. To write it, add --apply.")
    if refused:
        raise typer.Exit(1)


def _unmapped(settings: Settings) -> list[Unmapped]:
    with Working(READING) as progress:
        users = list(_users(settings, progress))
    with opened_panel(settings.session_url) as engine, engine.connect() as connection:
        mapped, here, orders = mapped_ids(connection), users_by_email(connection), orders_by_owner(connection)
    emails = Counter(user.email.lower() for user in users if user.email)
    unmapped = []
    for user in users:
        if user.main_site_user_id in mapped:
            continue
        candidates = here.get(user.email.lower(), []) if user.email and emails[user.email.lower()] == 1 else []
        match = candidates[0] if len(candidates) == 1 else None
        sure = match is not None and bool(user.email_verified and match.email_verified)
        unmapped.append(
            Unmapped(
                user.main_site_user_id, user.username, user.email, orders.get(user.main_site_user_id, 0),
                match.id if match is not None else None, sure,
            )
        )  # fmt: skip
    return sorted(unmapped, key=lambda user: (-user.orders, user.main_site_id))


def _users(settings: Settings, progress: Working) -> Iterator[User]:
    settings.require("main_site_url")
    feed = feed_of(settings)
    if feed is None:
        return
    sweep, count = feed.users(), 0
    for page in sweep.pages:
        yield from page.items
        count += len(page.items)
        progress(f"{READING}, {count} so far", 0, None)
    if sweep.problem is not None:
        raise CommandError(f"The main site's users can't be read completely: {sweep.problem}")
