"""``panel-sync users``: the panel's users and which of the main site's users each of them is."""

from __future__ import annotations

from typing import Annotated

import typer
from sqlalchemy import func, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from cli.acting import note
from cli.connect import opened_panel
from cli.console import err, moment, out
from cli.environment import command_settings
from cli.errors import CommandError
from panel import tables
from panel.settings import Settings
from panel.terminal import table
from reconcile.users import import_users
from worker.wiring import reconciler

app = typer.Typer(
    help="The panel's users, and the map to the main site's user ids (a wrong map gives machines to strangers).",
    no_args_is_help=True,
)

UserId = Annotated[int, typer.Argument(min=1, help="The panel's user id.")]


@app.command("list")
def list_users(
    unmapped: Annotated[bool, typer.Option("--unmapped", help="Only those without a main site's id.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
) -> None:
    """List users, newest first."""
    users, vps = tables.users, tables.vps
    owned = select(func.count()).where(vps.c.user_id == users.c.id, vps.c.deleted_at.is_(None)).scalar_subquery()
    wanted = select(users, owned.label("owned")).order_by(users.c.created_at.desc(), users.c.id.desc()).limit(limit)
    if unmapped:
        wanted = wanted.where(users.c.main_site_user_id.is_(None))
    with opened_panel(_settings().database_url) as engine, engine.connect() as connection:
        found = connection.execute(wanted).all()
    shown = table("id", "username", "main site's id", "mapped by", "VPS", "since")
    for row in found:
        shown.add_row(
            str(row.id),
            row.username,
            row.main_site_user_id or "-",
            row.map_source or "-",
            str(row.owned),
            moment(row.created_at),
        )
    out.print(shown)


@app.command("add")
def add_user(
    user: UserId,
    username: Annotated[str, typer.Option("--username", help="The name shown; from the main site.")],
    email: Annotated[str | None, typer.Option("--email", help="Informative; maps nobody by itself.")] = None,
    main_site_id: Annotated[str | None, typer.Option("--main-site-id", help="The main site's id of this user.")] = None,
) -> None:
    """Add a user, so that sync calls for it are accepted."""
    row = {
        "id": user,
        "username": username,
        "email": email,
        "main_site_user_id": main_site_id,
        "map_source": None if main_site_id is None else "operator",
    }
    with opened_panel(_settings().database_url) as engine:
        try:
            with engine.begin() as connection:
                connection.execute(insert(tables.users).values(row))
                note(connection, "users add", f"user:{user}")
        except IntegrityError as error:
            raise CommandError(_taken(error, user, main_site_id)) from error
    err.print(f"User {user} added.")


@app.command("map")
def map_user(
    user: UserId,
    main_site_id: Annotated[str, typer.Argument(help="The main site's id of the same person.")],
    replace: Annotated[bool, typer.Option("--replace", help="Replace a map that is there already.")] = False,
) -> None:
    """Say which of the main site's users a panel user is. Their orders become this user's from the next run on."""
    users = tables.users
    with opened_panel(_settings().database_url) as engine:
        try:
            with engine.begin() as connection:
                known = connection.execute(
                    select(users.c.main_site_user_id).where(users.c.id == user).with_for_update()
                ).one_or_none()
                if known is None:
                    raise CommandError(f"User {user} does not exist in the panel database; add it with: users add")
                if known.main_site_user_id not in (None, main_site_id) and not replace:
                    raise CommandError(
                        f"User {user} is mapped to the main site's {known.main_site_user_id} already; "
                        "to change that, say --replace"
                    )
                connection.execute(
                    update(users)
                    .where(users.c.id == user)
                    .values(
                        main_site_user_id=main_site_id,
                        map_source="operator",
                        mapped_at=text("clock_timestamp()"),
                        updated_at=text("clock_timestamp()"),
                    )
                )
                note(connection, "users map", f"user:{user}")
        except IntegrityError as error:
            raise CommandError(_taken(error, user, main_site_id)) from error
    err.print(f"User {user} is the main site's {main_site_id}.")


@app.command("import")
def import_now() -> None:
    """Import the main site's users now; the workers do it before their first run and every USERS_INTERVAL_S.

    Only adds users and fills empty maps. Ends with 2 if the list could not be read completely.
    """
    settings = _settings()
    settings.require("main_site_url")
    with opened_panel(settings.database_url) as engine:
        done = import_users(reconciler(engine, settings))
        with engine.begin() as connection:
            note(connection, "users import", "users")
    out.print(done.summary)
    if done.problem is not None:
        raise CommandError(f"The users could not be read completely: {done.problem}")


def _settings() -> Settings:
    settings = command_settings()
    settings.require("database_url")
    return settings


def _taken(error: IntegrityError, user: int, main_site_id: str | None) -> str:
    constraint = getattr(getattr(error.orig, "diag", None), "constraint_name", None)
    if constraint == "pk_users":
        return f"User {user} exists already"
    if constraint == "uq_users_main_site_user_id":
        return f"The main site's user {main_site_id} is mapped to another panel user already; see: users list"
    return f"The database refused it ({constraint})"
