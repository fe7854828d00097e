"""``panel-sync audit``: what operators decided, how each credential was used, and which sync calls were refused."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from cli.operating.operator_transaction import transaction
from cli.output.console import as_json, out
from cli.output.listing import Json
from panel.operators.audit import list_access, list_actions, list_refused_calls
from panel.records.told import moment
from panel.terminal import table


def audit(
    refused: Annotated[
        bool, typer.Option("--refused", help="Of the uses of credentials, only the refused ones.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many rows of each list, newest first.")] = 20,
    json: Json = False,
) -> None:
    """Show who did what: operators' decisions, uses of credentials by the hour, refused sync calls.

    Examples: panel-sync audit --limit 50; panel-sync audit --refused --json

    Ends with 0, also if there is nothing to show.
    """
    with transaction() as connection:
        actions = list_actions(connection, limit)
        uses = list_access(connection, limit, refused=refused)
        calls = list_refused_calls(connection, limit)
    if json:
        as_json(
            {
                "actions": [asdict(action) for action in actions],
                "access": [asdict(use) for use in uses],
                "refused_calls": [asdict(call) for call in calls],
            }
        )
        return
    decisions = table("at (UTC)", "by", "decided", "about", "from", "request")
    for action in actions:
        decisions.add_row(
            moment(action.at), action.by, action.action, action.subject, action.network or "", action.request_id or ""
        )
    used = table("hour (UTC)", "who", "from", "route", "answered", "times", "last (UTC)", "last request")
    for use in uses:
        hour, answered = f"{use.hour:%Y-%m-%d %H}h", f"{use.status_code} {use.code}".strip()
        last = (str(use.count), moment(use.last_at), use.last_request_id)
        used.add_row(hour, use.who, use.network, use.route, answered, *last)
    refusals = table("refused (UTC)", "call", "answered", "why", "key", "from", "request")
    for call in calls:
        ids = {"vps": call.vps_id, "order": call.order_id, "user": call.user_id}
        subject = " ".join(f"{kind}={value}" for kind, value in ids.items() if value is not None)
        refusals.add_row(
            moment(call.at),
            f"{call.action or '?'} {subject}".strip(),
            f"{call.status_code} {call.code}",
            call.message,
            call.api_key_label or "",
            call.address or "",
            call.request_id or "",
        )
    for rows in (decisions, used, refusals):
        if rows.row_count:
            out.print(rows)
    if not (actions or uses or calls):
        out.print("nothing was done yet")
