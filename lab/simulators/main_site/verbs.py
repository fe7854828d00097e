"""What tests, demo and chaos can do to the main site. `MainSite` does it."""

from typing import Literal

from pydantic import TypeAdapter

from lab.simulators.main_site.calls import CallRecord
from lab.simulators.main_site.faults import Action, CallFaultKind, FeedFault, FeedFaultKind
from lab.simulators.main_site.model import Order, SiteUser
from lab.simulators.verbs import NOTHING, Verbs

Shape = Literal["flat", "nested"]

_USER = TypeAdapter(SiteUser)
_ORDER = TypeAdapter(Order)
_ORDERS = TypeAdapter(list[Order])
_CALL = TypeAdapter(CallRecord)
_CALLS = TypeAdapter(list[CallRecord])
_FEED_FAULTS = TypeAdapter(list[FeedFault])
_NUMBER = TypeAdapter(int)
_YES_NO = TypeAdapter(bool)


class MainSiteVerbs(Verbs):
    """The main site's verbs. User ids are the site's own, unless a name says `panel`."""

    def add_user(
        self, *, username: str, email: str, panel_user_id: int | None = None, email_verified: bool = True
    ) -> SiteUser:
        """Add a customer. The site chooses the id."""
        return self._do(
            "add_user",
            _USER,
            username=username,
            email=email,
            panel_user_id=panel_user_id,
            email_verified=email_verified,
        )

    def link_user(self, user_id: int, panel_user_id: int | None) -> SiteUser:
        """Set (or remove) the panel's id of a user."""
        return self._do("link_user", _USER, user_id=user_id, panel_user_id=panel_user_id)

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
        """Place a paid order: create the guest (stopped), then send the panel a `create` with the status creating.

        `texts`: more fields of the order, such as `ip_address`.
        """
        return self._do(
            "place_order",
            _ORDER,
            user_id=user_id,
            name=name,
            cpu=cpu,
            ram_mb=ram_mb,
            disk_gb=disk_gb,
            os=os,
            hypervisor=hypervisor,
            cluster=cluster,
            guest_type=guest_type,
            create_guest=create_guest,
            notify=notify,
            **texts,
        )

    def set_status(self, order_id: int, status: str, *, notify: bool = True) -> Order:
        """Change the order's status, switch its guest to match, and send an `update`."""
        return self._do("set_status", _ORDER, order_id=order_id, status=status, notify=notify)

    def cancel_order(self, order_id: int, *, remove_guest: bool = True, notify: bool = True) -> Order:
        """Cancel the order: its row stays as cancelled, the guest may be removed, and a `delete` is sent."""
        return self._do("cancel_order", _ORDER, order_id=order_id, remove_guest=remove_guest, notify=notify)

    def send_call(self, order_id: int, action: Action) -> CallRecord:
        """Make a call again from the order's present row, as a retry without a key does."""
        return self._do("send_call", _CALL, order_id=order_id, action=action)

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
        """Change the row without a call to the panel. None leaves a field as it is. `texts`: as in `place_order`."""
        return self._do(
            "change_order",
            _ORDER,
            order_id=order_id,
            user_id=user_id,
            name=name,
            cpu=cpu,
            ram_mb=ram_mb,
            disk_gb=disk_gb,
            cluster=cluster,
            node=node,
            vmid=vmid,
            panel_vps_id=panel_vps_id,
            **texts,
        )

    def remove_order(self, order_id: int) -> None:
        """Remove the row for good, without a call to the panel."""
        self._do("remove_order", NOTHING, order_id=order_id)

    def hide_order(self, order_id: int, *, hidden: bool = True) -> None:
        """Hide the row in both feeds (404 when asked for), or show it again."""
        self._do("hide_order", NOTHING, order_id=order_id, hidden=hidden)

    def fill(self, count: int, *, user_id: int, cluster: str | None = None, first_vmid: int = 100) -> int:
        """Add `count` running orders at once, without guests or calls. Returns how many orders there are now."""
        return self._do("fill", _NUMBER, count=count, user_id=user_id, cluster=cluster, first_vmid=first_vmid)

    def get_order(self, order_id: int) -> Order:
        """The order's present row."""
        return self._do("get_order", _ORDER, order_id=order_id)

    def list_orders(self) -> list[Order]:
        """All orders in order of id, also hidden ones."""
        return self._do("list_orders", _ORDERS)

    def list_calls(self, *, order_id: int | None = None) -> list[CallRecord]:
        """Calls to the panel, oldest first: all, or one order's."""
        return self._do("list_calls", _CALLS, order_id=order_id)

    def drain(self, timeout_s: float = 60.0) -> bool:
        """Send calls that reordering holds back, wait for delayed ones. Returns whether all were sent in time."""
        return self._do("drain", _YES_NO, timeout_s=timeout_s)

    def fault_feed(
        self,
        kind: FeedFaultKind,
        *,
        page: int | None = None,
        times: int | None = None,
        value: float | None = None,
        path: str = "",
    ) -> None:
        """Spoil feed answers; see `FeedFault`."""
        self._do("fault_feed", NOTHING, kind=kind, page=page, times=times, value=value, path=path)

    def fault_calls(
        self,
        kind: CallFaultKind,
        *,
        action: Action | None = None,
        times: int | None = 1,
        delay_s: float = 0.0,
    ) -> None:
        """Spoil the next calls to the panel; see `CallFault`."""
        self._do("fault_calls", NOTHING, kind=kind, action=action, times=times, delay_s=delay_s)

    def list_feed_faults(self) -> list[FeedFault]:
        """The feed faults in force."""
        return self._do("list_feed_faults", _FEED_FAULTS)

    def clear_faults(self) -> None:
        """Remove all faults, hidden rows, a frozen feed and clock skew."""
        self._do("clear_faults", NOTHING)

    def freeze_feed(self, *, frozen: bool = True) -> None:
        """Let both feeds keep showing this moment, with its as_of, or show the present again."""
        self._do("freeze_feed", NOTHING, frozen=frozen)

    def skew_clock(self, seconds: float) -> None:
        """Set the site's clock (Date, as_of and the rows' times) ahead by so many seconds; negative: behind."""
        self._do("skew_clock", NOTHING, seconds=seconds)

    def set_shape(self, shape: Shape, *, invented_names: bool = True) -> None:
        """Set the shape of the `panel-api` lists, and whether their names are invented ("server-123")."""
        self._do("set_shape", NOTHING, shape=shape, invented_names=invented_names)

    def set_extended(self, *, extended: bool) -> None:
        """Let calls name the optional order and guest fields, or only the documented fields."""
        self._do("set_extended", NOTHING, extended=extended)
