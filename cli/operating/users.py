"""``panel-sync users``: the panel's users, and the main site's user that each of them is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import func, select

from cli.connect import opened_panel
from cli.environment import command_settings
from cli.errors import CommandError
from cli.operating.operator_transaction import act, operator, transaction
from cli.operating.user_maps import list_unmapped, map_by_csv, map_by_email
from cli.output.console import as_json, err, out
from cli.output.listing import Json, Page, PerPage
from cli.output.progress import Working
from panel.operators.actions import users
from panel.records.told import moment
from panel.schema import tables
from panel.terminal import table
from reconcile.users import READING, import_users
from worker.wiring import reconciler

app = typer.Typer(
    help="The panel's users, and the map to the main site's user ids (a wrong map gives machines to strangers).",
    no_args_is_help=True,
)

UserId = Annotated[int, typer.Argument(min=1, help="The panel's user id.")]


@app.command("list")
def list_users(
    unmapped: Annotated[bool, typer.Option("--unmapped", help="Only users without a main site's id.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    json: Json = False,
) -> None:
    """List the panel's users, newest first.

    Example: panel-sync users list --unmapped --json

    Ends with 0, also if there are no users.
    """
    listed, vps = tables.users, tables.vps
    owned = select(func.count()).where(vps.c.user_id == listed.c.id, vps.c.deleted_at.is_(None)).scalar_subquery()
    wanted = select(listed, owned.label("owned")).order_by(listed.c.created_at.desc(), listed.c.id.desc()).limit(limit)
    if unmapped:
        wanted = wanted.where(listed.c.main_site_user_id.is_(None))
    with transaction() as connection:
        page = connection.execute(wanted).all()
    if json:
        as_json([dict(row._mapping) for row in page])
        return
    rows = table("id", "username", "main site's id", "mapped by", "VPS", "since")
    for row in page:
        rows.add_row(
            str(row.id),
            row.username,
            row.main_site_user_id or "-",
            row.map_source or "-",
            str(row.owned),
            moment(row.created_at),
        )
    out.print(rows)


@app.command("add")
def add_user(
    user: UserId,
    username: Annotated[str, typer.Option("--username", help="The name shown; from the main site.")],
    email: Annotated[str | None, typer.Option("--email", help="The import maps by it only if it is verified.")] = None,
    email_verified: Annotated[
        bool, typer.Option("--email-verified", help="You vouch for the e-mail, so the import may map by it.")
    ] = False,
    main_site_id: Annotated[str | None, typer.Option("--main-site-id", help="The main site's id of this user.")] = None,
) -> None:
    """Add a user, so that sync calls for it are accepted.

    Example: panel-sync users add 5 --username ann --email ann@example.com --email-verified

    Ends with 0; with 2 if it was not added.
    """
    if email_verified and email is None:
        raise CommandError("--email-verified needs --email")
    err.print(act(users.add, user, username, email, main_site_id, email_verified=email_verified).message)


@app.command("map")
def map_user(
    user: Annotated[int | None, typer.Argument(min=1, help="The panel's user id.")] = None,
    main_site_id: Annotated[str | None, typer.Argument(help="The main site's id of the same person.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the map that the user has already.")] = False,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Map many: a file with the columns panel_id,main_site_id.")
    ] = None,
    by_email: Annotated[
        bool, typer.Option("--by-email", help="Map all users whose e-mail is verified and unique on both sides.")
    ] = False,
    apply: Annotated[
        bool, typer.Option("--apply/--dry-run", help="For many: write the maps, or only show them.")
    ] = False,
    item_by_item: Annotated[
        bool, typer.Option("--item-by-item", help="For many: write the good ones even if others are refused.")
    ] = False,
) -> None:
    """Say which of the main site's users a panel user is. Their orders become this user's from the next run on.

    --csv and --by-email map many users at once. They are shown first, and written with --apply: all or nothing. Each
    refused line is named with its field. `users unmapped --csv` prints a file to fill in.

    Examples: panel-sync users map 5 77; panel-sync users map --csv maps.csv --apply

    Ends with 0; with 1 if a line was refused; with 2 if a single map was refused or the file cannot be read.
    """
    settings = command_settings("database_url")
    many = csv is not None or by_email
    if many and (user is not None or (csv is not None and by_email)):
        raise CommandError("Give a user and its id, or --csv, or --by-email")
    if csv is not None:
        map_by_csv(settings, csv, apply=apply, item_by_item=item_by_item, replace=replace)
    elif by_email:
        map_by_email(settings, apply=apply, item_by_item=item_by_item)
    elif user is None or main_site_id is None:
        raise CommandError("Give a user and its id (panel-sync users map 5 77), or --csv, or --by-email")
    else:
        err.print(act(users.map_one, user, main_site_id, replace=replace).message)


@app.command("unmapped")
def unmapped(
    page: Page = 1,
    limit: PerPage = 50,
    json: Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="As a CSV file to fill in for `users map --csv`.")] = False,
) -> None:
    """List the main site's users that no panel user is mapped to, those with most orders first.

    The list is read from the main site now. If exactly one panel user has the same e-mail, that user is shown.

    Examples: panel-sync users unmapped; panel-sync users unmapped --csv > maps.csv

    Ends with 0; with 2 if they can't be read.
    """
    list_unmapped(command_settings("database_url"), page=page, limit=limit, json=json, as_csv=csv)


@app.command("verified")
def verified(user: UserId) -> None:
    """Vouch for a panel user's e-mail, so that the import may map by it.

    Example: panel-sync users verified 5

    Ends with 0; with 2 if there is no such user, or no e-mail.
    """
    err.print(act(users.verify_email, user).message)


@app.command("import")
def import_now() -> None:
    """Import the main site's users now; the workers do it before their first run and every USERS_INTERVAL_S.

    Only adds users and fills empty maps.

    Example: panel-sync users import

    Ends with 0; with 2 if the list could not be read completely.
    """
    settings = command_settings("database_url", "main_site_url")
    with opened_panel(settings.session_url) as engine:
        with Working(READING) as progress:
            done = import_users(reconciler(engine, settings, progress))
        with engine.begin() as connection:
            users.note_import(connection, operator())
    out.print(done.summary)
    if done.problem is not None:
        raise CommandError(f"The users could not be read completely: {done.problem}")
