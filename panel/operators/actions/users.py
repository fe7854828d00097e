"""Add panel users, map them to the main site's users, and vouch for their e-mail. A wrong map gives machines to
strangers."""

from __future__ import annotations

from sqlalchemy import Connection, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from panel.operator_error import OperatorError
from panel.operators.actions.action import Done, action
from panel.operators.audit import Actor
from panel.operators.user_maps import Checked, mark_email_verified, write_maps
from panel.runs.run_requests import request_run
from panel.schema.tables import users

BY_OPERATOR = "operator"
"""``map_source`` of a map that an operator made."""


@action("users add")
def add(
    connection: Connection,
    _actor: Actor,
    user_id: int,
    username: str,
    email: str | None = None,
    main_site_id: str | None = None,
    *,
    email_verified: bool = False,
) -> Done[None]:
    """Add a user, so that sync calls for it are accepted. ``email_verified``: the operator vouches for the e-mail."""
    row = {
        "id": user_id,
        "username": username,
        "email": email,
        "email_verified": email_verified,
        "main_site_user_id": main_site_id,
        "map_source": None if main_site_id is None else BY_OPERATOR,
    }
    try:
        connection.execute(insert(users).values(row))
    except IntegrityError as error:
        raise _taken(error, user_id, main_site_id) from error
    return Done((f"user:{user_id}",), f"User {user_id} added.", None)


@action("users map")
def map_one(connection: Connection, _actor: Actor, user_id: int, main_site_id: str, *, replace: bool) -> Done[None]:
    """Map a panel user to a user of the main site. ``replace``: whether an existing map may change."""
    query = select(users.c.main_site_user_id).where(users.c.id == user_id).with_for_update()
    row = connection.execute(query).one_or_none()
    if row is None:
        raise OperatorError("unknown", f"User {user_id} does not exist in the panel database; add it with: users add")
    if row.main_site_user_id not in (None, main_site_id) and not replace:
        raise OperatorError(
            "conflict",
            f"User {user_id} is mapped to the main site's {row.main_site_user_id} already; "
            "to change that, say --replace",
        )
    now = text("clock_timestamp()")
    values = {"main_site_user_id": main_site_id, "map_source": BY_OPERATOR, "mapped_at": now, "updated_at": now}
    try:
        connection.execute(update(users).where(users.c.id == user_id).values(values))
    except IntegrityError as error:
        raise _taken(error, user_id, main_site_id) from error
    return Done((f"user:{user_id}",), f"User {user_id} is the main site's {main_site_id}.", None)


@action("users map")
def map_many(connection: Connection, _actor: Actor, checked: Checked) -> Done[None]:
    """Write the maps that passed ``check_maps``, in the same transaction. Ask for a run if any map is new."""
    if checked.fresh:
        write_maps(connection, checked)
        request_run(connection)
    subjects = tuple(f"user:{wish.user_id}" for wish in checked.fresh)
    return Done(subjects, "Done: from the next run on these users own the VPSes of their orders.", None)


@action("users verified")
def verify_email(connection: Connection, _actor: Actor, user_id: int) -> Done[None]:
    """Vouch for a panel user's e-mail, so that the import may map by it."""
    if mark_email_verified(connection, user_id) is None:
        raise OperatorError("unknown", f"User {user_id} does not exist in the panel database, or has no e-mail")
    message = f"The e-mail of user {user_id} counts as verified; the next import may map by it."
    return Done((f"user:{user_id}",), message, None)


@action("users import")
def note_import(_connection: Connection, _actor: Actor) -> Done[None]:
    """Note that an operator started an import of the main site's users. :mod:`reconcile.users` does the import."""
    return Done(("users",), "The main site's users were imported.", None)


@action("token")
def note_token(_connection: Connection, _actor: Actor, user_id: int) -> Done[None]:
    """Note that an operator made a client's token. The audit has it because anyone who holds the token can act as that
    client."""
    return Done((f"user:{user_id}",), f"A token of user {user_id} was made.", None)


def _taken(error: IntegrityError, user_id: int, main_site_id: str | None) -> OperatorError:
    constraint = getattr(getattr(error.orig, "diag", None), "constraint_name", None)
    if constraint == "pk_users":
        return OperatorError("conflict", f"User {user_id} exists already")
    if constraint == "uq_users_main_site_user_id":
        return OperatorError(
            "conflict", f"The main site's user {main_site_id} is mapped to another panel user already; see: users list"
        )
    return OperatorError("conflict", f"The database refused the user or the map (constraint {constraint})")
