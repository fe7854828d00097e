"""The main site: it takes orders, calls the panel and answers the feeds.

Thread-safe. Calls to the panel and work on guests happen outside the lock.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from threading import RLock
from typing import Any

from domain.record_columns import ValueSource, given_by
from lab.simulators.main_site.answers import Answer
from lab.simulators.main_site.calls import CallRecord, PanelCaller
from lab.simulators.main_site.faults import Action, CallFault, CallFaultKind, FeedFault, FeedFaultKind
from lab.simulators.main_site.feeds import Feeds
from lab.simulators.main_site.guests import GuestHost
from lab.simulators.main_site.model import CANCELLED, Ledger, Order, SiteUser, changed_order
from lab.simulators.main_site.verbs import Shape

POWER_OF = {"running": "running", "stopped": "stopped", "suspended": "stopped"}


def system_clock() -> datetime:
    """The time now, in UTC."""
    return datetime.now(UTC)


class MainSite:
    """Implements `MainSiteVerbs` and answers the feeds.

    Without `panel_url` and `sync_key` it calls no panel. Without `guests` it creates no guests.
    """

    def __init__(
        self,
        *,
        panel_url: str | None = None,
        sync_key: str | None = None,
        guests: GuestHost | None = None,
        clock: Callable[[], datetime] = system_clock,
        extended: bool = False,
        shape: Shape = "flat",
        first_order_id: int = 1,
    ) -> None:
        self._lock = RLock()
        self._ledger = Ledger(first_order_id=first_order_id)
        self._guests = guests
        self._clock = clock
        self._extended = extended
        self._skew = timedelta()
        self._feeds = Feeds(self._ledger, self.now, shape)
        self._caller = PanelCaller(panel_url, sync_key, self._note_panel_id) if panel_url and sync_key else None

    # The clock -------------------------------------------------------------------------------------------

    def now(self) -> datetime:
        """The site's own time, skew included."""
        return self._clock() + self._skew

    # Users and orders ------------------------------------------------------------------------------------

    def add_user(
        self, *, username: str, email: str, panel_user_id: int | None = None, email_verified: bool = True
    ) -> SiteUser:
        with self._lock:
            return self._ledger.add_user(
                SiteUser(
                    id=self._ledger.next_user_id,
                    username=username,
                    email=email,
                    email_verified=email_verified,
                    panel_user_id=panel_user_id,
                )
            )

    def list_users(self) -> list[SiteUser]:
        """All customers, by id."""
        with self._lock:
            return self._ledger.users()

    def link_user(self, user_id: int, panel_user_id: int | None) -> SiteUser:
        with self._lock:
            return self._ledger.link_user(user_id, panel_user_id)

    def place_order(
        self,
        *,
        user_id: int,
        name: str,
        cpu: int = 2,
        ram_mb: int = 4096,
        disk_gb: int = 50,
        os: str = "Ubuntu 22.04",
        hypervisor: str = "proxmox",
        cluster: str | None = None,
        guest_type: str = "qemu",
        create_guest: bool = True,
        notify: bool = True,
        **texts: str | None,
    ) -> Order:
        with self._lock:
            now = self.now()
            order = Order(
                id=self._ledger.next_order_id,
                user_id=user_id,
                name=name,
                status="creating",
                cpu=cpu,
                ram_mb=ram_mb,
                disk_gb=disk_gb,
                os=os,
                hypervisor=hypervisor,
                cluster=cluster,
                guest_type=guest_type,
                created_at=now,
                updated_at=now,
            )
            order = changed_order(order, texts)
            self._ledger.add_orders([order])
        if create_guest and self._guests is not None:
            place = self._guests.create(order)
            order = self._change(order.id, {"cluster": place.cluster, "node": place.node, "vmid": place.vmid})
        if notify:
            self._call(order, "create")
        return self.get_order(order.id)

    def set_status(self, order_id: int, status: str, *, notify: bool = True) -> Order:
        order = self._change(order_id, {"status": status})
        power = POWER_OF.get(status)
        if power is not None and order.vmid is not None and self._guests is not None:
            self._guests.set_power(order, power)
        if notify:
            self._call(order, "update")
        return self.get_order(order_id)

    def cancel_order(self, order_id: int, *, remove_guest: bool = True, notify: bool = True) -> Order:
        order = self._change(order_id, {"status": CANCELLED})
        if remove_guest and order.vmid is not None and self._guests is not None:
            self._guests.remove(order)
        if notify:
            self._call(order, "delete")
        return self.get_order(order_id)

    def send_call(self, order_id: int, action: Action) -> CallRecord:
        record = self._call(self.get_order(order_id), action)
        if record is None:
            raise ValueError("This site has no panel to call")
        return record

    def change_order(
        self,
        order_id: int,
        *,
        user_id: int | None = None,
        name: str | None = None,
        cpu: int | None = None,
        ram_mb: int | None = None,
        disk_gb: int | None = None,
        cluster: str | None = None,
        node: str | None = None,
        vmid: int | None = None,
        panel_vps_id: int | None = None,
        **texts: str | None,
    ) -> Order:
        changes = {
            "name": name,
            "cpu": cpu,
            "ram_mb": ram_mb,
            "disk_gb": disk_gb,
            "cluster": cluster,
            "node": node,
            "vmid": vmid,
            "panel_vps_id": panel_vps_id,
            **texts,
        }
        with self._lock:
            if user_id is not None:
                self._ledger.give_order(order_id, user_id)
            return self._change(order_id, {field: value for field, value in changes.items() if value is not None})

    def remove_order(self, order_id: int) -> None:
        with self._lock:
            self._ledger.remove_order(order_id)

    def hide_order(self, order_id: int, *, hidden: bool = True) -> None:
        with self._lock:
            self._feeds.hide(order_id, hidden=hidden)

    def fill(self, count: int, *, user_id: int, cluster: str | None = None, first_vmid: int = 100) -> int:
        with self._lock:
            now, first_id = self.now(), self._ledger.next_order_id
            self._ledger.add_orders(
                Order(
                    id=first_id + n,
                    user_id=user_id,
                    name=f"vps-{first_id + n}",
                    status="running",
                    cpu=2,
                    ram_mb=4096,
                    disk_gb=50,
                    os="Ubuntu 22.04",
                    hypervisor="proxmox",
                    cluster=cluster,
                    guest_type="qemu",
                    vmid=first_vmid + n,
                    created_at=now,
                    updated_at=now,
                )
                for n in range(count)
            )
            return len(self._ledger.orders())

    def get_order(self, order_id: int) -> Order:
        with self._lock:
            return self._ledger.order(order_id)

    def list_orders(self) -> list[Order]:
        with self._lock:
            return self._ledger.orders()

    # Calls -----------------------------------------------------------------------------------------------

    def list_calls(self, *, order_id: int | None = None) -> list[CallRecord]:
        records = self._caller.records() if self._caller else []
        return [record for record in records if order_id in (None, record.order_id)]

    def drain(self, timeout_s: float = 60.0) -> bool:
        return self._caller is None or self._caller.drain(timeout_s)

    def close(self) -> None:
        """Drop the calls that were not sent yet."""
        if self._caller:
            self._caller.close()

    # Faults and switches ---------------------------------------------------------------------------------

    def fault_feed(
        self,
        kind: FeedFaultKind,
        *,
        page: int | None = None,
        times: int | None = None,
        value: float | None = None,
        path: str = "",
    ) -> None:
        with self._lock:
            self._feeds.faults.add(FeedFault(kind=kind, page=page, times=times, value=value, path=path))

    def fault_calls(
        self,
        kind: CallFaultKind,
        *,
        action: Action | None = None,
        times: int | None = 1,
        delay_s: float = 0.0,
    ) -> None:
        if self._caller is None:
            raise ValueError("This site has no panel to call")
        self._caller.set_fault(CallFault(kind=kind, action=action, times=times, delay_s=delay_s))

    def list_feed_faults(self) -> list[FeedFault]:
        with self._lock:
            return self._feeds.faults.in_force()

    def clear_faults(self) -> None:
        with self._lock:
            self._feeds.clear()
            self._skew = timedelta()
        if self._caller:
            self._caller.clear_faults()

    def freeze_feed(self, *, frozen: bool = True) -> None:
        with self._lock:
            self._feeds.freeze(frozen=frozen)

    def skew_clock(self, seconds: float) -> None:
        with self._lock:
            self._skew = timedelta(seconds=seconds)

    def set_shape(self, shape: Shape, *, invented_names: bool = True) -> None:
        with self._lock:
            self._feeds.set_shape(shape, invented_names=invented_names)

    def set_extended(self, *, extended: bool) -> None:
        with self._lock:
            self._extended = extended

    # Feeds -----------------------------------------------------------------------------------------------

    def feed(self, ask: Callable[[Feeds], Answer]) -> Answer:
        """One answer of the feeds, read under the lock."""
        with self._lock:
            return ask(self._feeds)

    # Within -------------------------------------------------------------------------------------------

    def _change(self, order_id: int, changes: Mapping[str, Any]) -> Order:
        with self._lock:
            return self._ledger.change_order(order_id, self.now(), changes)

    def _note_panel_id(self, action: Action, order_id: int, vps_id: int) -> None:
        if action == "create":
            with self._lock:
                # The answer may come late, when the order is removed already.
                if self._ledger.has_order(order_id):
                    self._change(order_id, {"panel_vps_id": vps_id})

    def _call(self, order: Order, action: Action) -> CallRecord | None:
        if self._caller is None:
            return None
        if action == "create":
            panel_user_id = self._ledger.user(order.user_id).panel_user_id
            if panel_user_id is None:
                return self._caller.impossible(action, order.id, "The panel's id of the user is not known")
            return self._caller.send(action, order.id, self._create_body(order, panel_user_id))
        body: dict[str, Any] = {}
        if order.panel_vps_id is not None:
            body["id"] = order.panel_vps_id
        if self._extended:
            body["order_id"] = order.id
        if not body:
            return self._caller.impossible(action, order.id, "The panel's id of the VPS is not known")
        if action == "update":
            body["status"] = order.status
        return self._caller.send(action, order.id, body)

    def _create_body(self, order: Order, panel_user_id: int) -> dict[str, Any]:
        facts = {column.json_name: getattr(order, column.name) for column in given_by(ValueSource.ORDER)}
        documented = ("name", "cpu", "ram", "disk", "os", "hypervisor")
        body: dict[str, Any] = {
            "user_id": panel_user_id,
            # The documented client sends every create with this status, also a retried one.
            "status": "creating",
            **{field: facts.pop(field) for field in documented},
        }
        if self._extended:
            body["order_id"] = order.id
            body |= {field: value for field, value in facts.items() if value is not None}
        return body
