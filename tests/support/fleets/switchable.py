"""A VPS of which nothing is in doubt: its customer may switch it. Each case spoils one thing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Engine, insert, text

from panel.observations.proof import Proof
from panel.power.facts import PowerRules
from panel.schema import tables

FINGERPRINT = "smbios:8d3f1e64-0c5b-4e0c-9a77-3f4f5d2b1a00"
RULES = PowerRules(
    clusters=frozenset({"main"}),
    feed="orders",
    shared_ids=False,
    proof=Proof(3, timedelta(minutes=10)),
    an_hour=30,
)


@dataclass(frozen=True, slots=True)
class Place:
    """Whose VPS it is, and which machine."""

    vps_id: int = 1
    user_id: int = 5
    vmid: int = 100
    guest_type: str = "qemu"
    fingerprint: str = FINGERPRINT
    power: str = "running"


PLACE = Place()


def make_switchable(engine: Engine, place: Place = PLACE) -> Place:
    """Its customer, order, record and guest, all read just now and of one mind."""
    with engine.begin() as connection:
        now: Any = connection.scalar(text("SELECT clock_timestamp()"))
        names = ("order_changed_at", "order_as_of", "link_changed_at", "power_changed_at", "power_as_of",
                 "owner_changed_at", "plan_changed_at", "created_at", "updated_at")  # fmt: skip
        connection.execute(
            text(
                "INSERT INTO users (id, username, main_site_user_id, map_source)"
                " VALUES (:id, 'u' || :id, 'm' || :id, 'operator') ON CONFLICT (id) DO UPDATE"
                " SET main_site_user_id = excluded.main_site_user_id, map_source = excluded.map_source"
            ),
            {"id": place.user_id},
        )
        connection.execute(
            text("INSERT INTO source_states (source, delta_since) VALUES ('orders', :now) ON CONFLICT DO NOTHING"),
            {"now": now},
        )
        queue = {"vps_id": place.vps_id, "last_seq": 1, "applied_seq": 1, "queue_state": "live"}
        connection.execute(insert(tables.vps_queues).values(**queue, order_id=str(place.vps_id)))
        guest = {"cluster": "main", "vmid": place.vmid, "node": "pve1", "guest_type": place.guest_type}
        machine = guest | {"fingerprint": place.fingerprint}
        connection.execute(
            insert(tables.vps).values(
                id=place.vps_id, user_id=place.user_id, name="web", status=place.power, cpu=2, ram_mb=2048, disk_gb=10,
                os="debian-12", hypervisor="proxmox", order_id=str(place.vps_id), order_state="active",
                order_source="orders", link_state="verified", link_source="proxmox", power_state=place.power,
                power_source="proxmox", applied_seq=1, version=1, **machine, **dict.fromkeys(names, now),
            )
        )  # fmt: skip
        connection.execute(
            insert(tables.orders_seen).values(
                order_id=str(place.vps_id), state="active", status="running", state_since=now,
                owner=f"m{place.user_id}", owner_since=now, panel_vps_id=place.vps_id, panel_vps_id_given=True,
                first_seen_at=now, changed_at=now, effective_at=now, **guest,
            )
        )  # fmt: skip
        connection.execute(
            insert(tables.guests).values(
                status=place.power, power=place.power, power_since=now, name="web", template=False, signature="s",
                fingerprint_state="read", fingerprint_read_at=now, fingerprint_seen=2, first_seen_at=now,
                changed_at=now, read_at=now, **machine,
            )
        )  # fmt: skip
    return place


def spoil(engine: Engine, statement: str, **values: Any) -> None:
    """Change one thing, as the tables' owner where the application may not."""
    with engine.begin() as connection:
        connection.execute(text(statement), values)
