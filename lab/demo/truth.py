"""What a client should see of an order, and how the client's view differs. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from lab.demo.panel_client import Record
from lab.simulators.main_site.model import CANCELLED, Order
from lab.simulators.proxmox.guests import Guest


def difference(order: Order, guest: Guest | None, shown: Sequence[Record]) -> str | None:
    """A sentence about the difference between the truth and what the client sees; None if there is none.

    `shown`: the client's records that have the order's name. No other order of that client has this name.
    """
    ids = " and ".join(f"VPS {record['id']}" for record in shown)
    if order.status == CANCELLED:
        return f"order {order.id} is cancelled, the client still sees {ids}" if shown else None
    if guest is None:
        return f"order {order.id} has no guest"
    place = f"{order.cluster}/{guest.vmid}"
    if not shown:
        return f"order {order.id} and guest {place} ({guest.status}) exist, the client does not see them"
    if len(shown) > 1:
        return f"order {order.id} is one machine, the client sees {ids}"
    seen, expected = shown[0]["status"], "suspended" if order.status == "suspended" else guest.status
    if seen == expected:
        return None
    truth = f"order {order.id} is suspended" if order.status == "suspended" else f"guest {place} is {guest.status}"
    return f"{truth}, the client sees {seen}"
