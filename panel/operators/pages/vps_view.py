"""One VPS for an operator: what order, panel and Proxmox say of it, and what stands in the way of making them agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select, text

from panel.journal.restore import RestoreHindrance, restore_hindrances
from panel.journal.rows import database_now
from panel.observations.proof import Proof
from panel.operators.findings import FindingView, findings_about
from panel.operators.holds import HeldSet, held_about
from panel.operators.pages.comparison import Line, compare, place_of
from panel.operators.pauses import PauseView, pauses_in_force
from panel.operators.quarantine import QuarantinedView, quarantined_among
from panel.runs.source_states import SourceView, list_sources
from panel.schema import tables


@dataclass(frozen=True, slots=True)
class Missed:
    """A known order or guest that complete reads did not list. ``kind``: "order" or "guest". ``times``: how many reads
    in a row. ``proven``: they prove that it is gone."""

    kind: str
    subject: str
    since: datetime
    times: int
    proven: bool


@dataclass(frozen=True, slots=True)
class VpsView:
    """``record``: None while its create is not applied. ``order``, ``guest``: empty if there is none. ``waiting``: how
    many calls are accepted and not applied yet. ``troubles``: sources of this VPS that are not believed.
    ``restore_hindrance``: why the record cannot be restored, also that it is not deleted; None if it can."""

    vps_id: int
    record: Mapping[str, Any] | None
    username: str | None
    order: Mapping[str, Any]
    guest: Mapping[str, Any]
    lines: Sequence[Line]
    waiting: int
    pauses: Sequence[PauseView]
    quarantined: Sequence[QuarantinedView]
    held: Sequence[HeldSet]
    missed: Sequence[Missed]
    troubles: Sequence[SourceView]
    findings: Sequence[FindingView]
    restore_hindrance: RestoreHindrance | None
    protected: bool

    @property
    def differing(self) -> list[Line]:
        """The lines in which order, panel and Proxmox differ."""
        return [line for line in self.lines if line.differs]


def vps_view(
    connection: Connection,
    vps_id: int,
    *,
    proof: Proof,
    names: bool,
    shared_ids: bool,
    second_above: int | None,
) -> VpsView:
    """The VPS as it is now. ``proof``: what proves that something is gone. ``names``: whether the feed's names count.
    ``shared_ids``: the main site's user ids are also the panel's. ``second_above``: SECOND_APPROVAL_ABOVE."""
    record = _record(connection, vps_id)
    order = _order(connection, vps_id, record)
    key = place_of(record or {}) or place_of(order)
    guest, config = _guest(connection, key)
    lines: list[Line] = []
    if record is not None:
        owner = _owner(connection, order.get("owner"), shared_ids=shared_ids)
        lines = compare(record, order, guest, config, owner, names=names)
    order_id = order.get("order_id") or (record or {}).get("order_id")
    subjects = {f"vps:{vps_id}"}
    subjects |= {f"order:{order_id}"} if order_id is not None else set()
    subjects |= {f"guest:{key}"} if key is not None else set()
    cluster = key.partition("/")[0] if key is not None else None
    pauses, now = pauses_in_force(connection), database_now(connection)
    about = {"all", "feed", f"vps:{vps_id}", f"proxmox:{cluster}", f"user:{(record or {}).get('user_id')}"}
    protected = (record or {}).get("protected_until")
    return VpsView(
        vps_id=vps_id,
        record=record,
        username=(record or {}).get("username"),
        order=order,
        guest=guest,
        lines=lines,
        waiting=connection.scalar(WAITING, {"id": vps_id}) or 0,
        pauses=[pause for target, pause in pauses.items() if target in about],
        quarantined=quarantined_among(connection, subjects),
        held=held_about(connection, subjects, second_above),
        missed=_missed(connection, order_id, key, proof),
        troubles=[one for one in list_sources(connection) if one.cause and one.source in sources_of(cluster)],
        findings=findings_about(connection, vps_id, subjects),
        restore_hindrance=restore_hindrances(connection, [vps_id]).get(vps_id),
        protected=protected is not None and protected > now,
    )


def sources_of(cluster: str | None) -> set[str]:
    """The sources that say something of a VPS: the feed, by either of its names, the users, and its cluster."""
    return {"orders", "panel-api", "users"} | ({f"proxmox:{cluster}"} if cluster is not None else set())


def _record(connection: Connection, vps_id: int) -> dict[str, Any] | None:
    vps, users = tables.vps, tables.users
    wanted = select(vps, users.c.username).join(users, users.c.id == vps.c.user_id).where(vps.c.id == vps_id)
    row = connection.execute(wanted).one_or_none()
    return None if row is None else dict(row._mapping)


def _order(connection: Connection, vps_id: int, record: Mapping[str, Any] | None) -> dict[str, Any]:
    """The order that the record has, or else one that names the record."""
    values = {"id": vps_id, "order": (record or {}).get("order_id")}
    row = connection.execute(ORDER, values).one_or_none()
    return {} if row is None else dict(row._mapping)


def _guest(connection: Connection, key: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The guest at this address, and its sizes if they are this very machine's."""
    if key is None:
        return {}, {}
    cluster, _, vmid = key.rpartition("/")
    guests, configs = tables.guests, text("SELECT * FROM guest_configs WHERE cluster = :cluster AND vmid = :vmid")
    row = connection.execute(
        select(guests).where(guests.c.cluster == cluster, guests.c.vmid == int(vmid))
    ).one_or_none()
    if row is None:
        return {}, {}
    config = connection.execute(configs, {"cluster": cluster, "vmid": int(vmid)}).one_or_none()
    same = config is not None and config.fingerprint == row.fingerprint
    return dict(row._mapping), dict(config._mapping) if config is not None and same else {}


def _owner(connection: Connection, owner: str | None, *, shared_ids: bool) -> int | None:
    if owner is None:
        return None
    user_id: int | None = connection.scalar(SHARED_OWNER if shared_ids else MAPPED_OWNER, {"owner": owner})
    return user_id


def _missed(connection: Connection, order_id: str | None, key: str | None, proof: Proof) -> list[Missed]:
    rows = connection.execute(MISSED, {"order": order_id, "guest": key})
    return [
        Missed(
            row.kind,
            row.subject,
            row.absent_since,
            row.consecutive,
            row.consecutive >= proof.times and row.last_absent_at - row.absent_since >= proof.period,
        )
        for row in rows
    ]


WAITING = text("SELECT last_seq - applied_seq FROM vps_queues WHERE vps_id = :id")
ORDER = text(
    "SELECT * FROM orders_seen o WHERE o.order_id = CAST(:order AS text) OR o.panel_vps_id = :id"
    " ORDER BY o.order_id IS NOT DISTINCT FROM CAST(:order AS text) DESC, o.state = 'ended', o.changed_at DESC LIMIT 1"
)
MAPPED_OWNER = text("SELECT id FROM users WHERE main_site_user_id = :owner")
SHARED_OWNER = text("SELECT id FROM users WHERE CAST(id AS text) = :owner")
MISSED = text(
    "SELECT * FROM absences WHERE (kind = 'order' AND subject = CAST(:order AS text))"
    " OR (kind = 'guest' AND subject = CAST(:guest AS text))"
    " ORDER BY kind"
)
