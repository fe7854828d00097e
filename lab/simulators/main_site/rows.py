"""The rows of both feeds. Pure.

Every VPS row has a `rootPassword`, as in the real feed. It must never reach the panel's log, tables or journal. Its
value is easy to search for, so a test can prove that it does not.
"""

from datetime import UTC, datetime
from typing import Any

from domain.record_columns import Facts, ValueSource, given_by
from lab.simulators.main_site.model import Order, SiteUser

ROOT_PASSWORD_CANARY = "rootpw-canary-"

Row = dict[str, Any]


def timestamp(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds, as a JavaScript site writes it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def user_row(user: SiteUser) -> Row:
    """A row of `/users`."""
    return {
        "id": user.id,
        "username": user.username,
        "email": user.email,
        "emailVerified": user.email_verified,
        "panelUserId": user.panel_user_id,
    }


def _facts(order: Order, *left_out: Facts) -> Row:
    """The order's facts about its machine, under the feeds' names, without the groups ``left_out``."""
    columns = (column for column in given_by(ValueSource.ORDER) if column.group not in left_out)
    return {column.feed_name: getattr(order, column.name) for column in columns}


def order_row(order: Order, root_password: str) -> Row:
    """A row of `/orders`; `ram` in MB, `disk` in GB."""
    return {
        "id": order.id,
        "userId": order.user_id,
        "panelVpsId": order.panel_vps_id,
        "status": order.status,
        **_facts(order),
        "rootPassword": root_password,
        "createdAt": timestamp(order.created_at),
        "updatedAt": timestamp(order.updated_at),
    }


def flat_server_row(order: Order, name: str, root_password: str) -> Row:
    """A server of the `panel-api` feed in its flat shape; `ram` in MB, `disk` in GB."""
    facts = {field: value for field, value in _facts(order, Facts.LINK).items() if field != "hypervisor"}
    return {
        "id": order.id,
        "userId": order.user_id,
        "status": order.status,
        **facts,
        "name": name,
        "proxmoxId": order.vmid,
        "rootPassword": root_password,
        "createdAt": timestamp(order.created_at),
    }


def nested_server_row(order: Order, name: str, root_password: str) -> Row:
    """A server of the `panel-api` feed in its nested shape: the plan is text, RAM in GB."""
    description = f"{order.cpu} CPU, {order.ram_mb / 1024:g}GB RAM, {order.disk_gb}GB SSD"
    row = flat_server_row(order, name, root_password)
    return {field: value for field, value in row.items() if field not in ("userId", "cpu", "ram", "disk")} | {
        "tariff": {"name": f"VPS-{order.cpu}", "description": description},
        "os": {"name": order.os},
    }
