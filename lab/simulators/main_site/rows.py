"""The rows of both feeds. Pure.

Every VPS row carries `rootPassword`, as the real feed does, with a value that a search finds: it must never
reach the panel's log, tables or journal.
"""

from datetime import UTC, datetime
from typing import Any

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


def order_row(order: Order, root_password: str) -> Row:
    """A row of `/orders`; `ram` in MB, `disk` in GB."""
    return {
        "id": order.id,
        "userId": order.user_id,
        "panelVpsId": order.panel_vps_id,
        "proxmoxId": order.vmid,
        "cluster": order.cluster,
        "node": order.node,
        "guestType": order.guest_type,
        "name": order.name,
        "status": order.status,
        "cpu": order.cpu,
        "ram": order.ram_mb,
        "disk": order.disk_gb,
        "os": order.os,
        "ipAddress": order.ip_address,
        "hypervisor": order.hypervisor,
        "rootPassword": root_password,
        "createdAt": timestamp(order.created_at),
        "updatedAt": timestamp(order.updated_at),
    }


def flat_server_row(order: Order, name: str, root_password: str) -> Row:
    """A server of the `panel-api` feed in its flat shape; `ram` in MB, `disk` in GB."""
    return {
        "id": order.id,
        "userId": order.user_id,
        "name": name,
        "status": order.status,
        "cpu": order.cpu,
        "ram": order.ram_mb,
        "disk": order.disk_gb,
        "os": order.os,
        "ipAddress": order.ip_address,
        "proxmoxId": order.vmid,
        "rootPassword": root_password,
        "createdAt": timestamp(order.created_at),
    }


def nested_server_row(order: Order, name: str, root_password: str) -> Row:
    """A server of the `panel-api` feed in its nested shape: the plan is text, RAM in GB."""
    description = f"{order.cpu} CPU, {order.ram_mb / 1024:g}GB RAM, {order.disk_gb}GB SSD"
    return {
        "id": order.id,
        "name": name,
        "status": order.status,
        "ipAddress": order.ip_address,
        "proxmoxId": order.vmid,
        "rootPassword": root_password,
        "tariff": {"name": f"VPS-{order.cpu}", "description": description},
        "os": {"name": order.os},
        "createdAt": timestamp(order.created_at),
    }
